"""OR-tools models of the cover by lines: weighted minimum cuts, and CP-SAT where both budgets bind at once.

With one price for rows and one for columns the cheapest cover is a minimum cut (a bipartite vertex cover). With both
numbers limited it is NP-hard. CP-SAT then needs its linear program: with few workers the default has no worker with an
LP, and even 64 x 64 lines with 200 faults stay unproven; so it is one worker with linearization_level=2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.repair.lines import Part

__all__ = ["Box", "Limit", "cheapest_cover", "covers_between", "fewest_cols", "in_box", "select_lines"]

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_INFINITE = 1 << 40


class Limit:
    """Deterministic time that is left to a chain of CP-SAT solves, and the most that each may take."""

    def __init__(self, total: float) -> None:
        self.left = total
        self.each = total

    def solver(self) -> Any:
        """A solver that stops at what is left."""
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.linearization_level = 2
        solver.parameters.random_seed = 1
        solver.parameters.max_deterministic_time = max(min(self.left, self.each), 0.0)
        return solver

    def spend(self, solver: Any) -> None:
        """Take off what a solve needed."""
        self.left -= float(solver.deterministic_time)


@dataclass(frozen=True, eq=False)
class Cut:
    """A cheapest cover at a price: lines taken, its cost, and the flow on each pair, which proves that cost."""

    rows: Bools
    cols: Bools
    cost: int
    flow: Int64

    @property
    def point(self) -> tuple[int, int]:
        """(number of rows, number of columns)."""
        return int(self.rows.sum()), int(self.cols.sum())


def cheapest_cover(pairs: Int64, n_rows: int, n_cols: int, row_price: int, col_price: int) -> Cut:
    """Cheapest cover of the pairs; of several the source-side cut, which has the most rows."""
    from ortools.graph.python import max_flow

    flow = max_flow.SimpleMaxFlow()
    source, sink = n_rows + n_cols, n_rows + n_cols + 1
    tails = np.concatenate([pairs[:, 0], np.full(n_rows, source), n_rows + np.arange(n_cols)])
    heads = np.concatenate([n_rows + pairs[:, 1], np.arange(n_rows), np.full(n_cols, sink)])
    caps = np.concatenate([np.full(len(pairs), _INFINITE), np.full(n_rows, row_price), np.full(n_cols, col_price)])
    arcs = flow.add_arcs_with_capacity(tails.astype(np.int32), heads.astype(np.int32), caps)
    if flow.solve(source, sink) != flow.OPTIMAL:
        raise ArithmeticError("a minimum cut always exists")
    inside = np.zeros(n_rows + n_cols + 2, np.bool_)
    inside[np.asarray(flow.get_source_side_min_cut(), np.int64)] = True
    amounts = np.asarray(flow.flows(arcs), np.int64)
    return Cut(~inside[:n_rows], inside[n_rows : n_rows + n_cols], int(flow.optimal_flow()), amounts[: len(pairs)])


def covers_between(pairs: Int64, cut: Cut, row_price: int, col_price: int) -> list[tuple[int, int]]:
    """(rows, columns) of a chain of covers that all cost what `cut` costs, from the most rows to the fewest.

    The cheapest covers are the closed sets of the residual graph; its strong components, taken in an order in which
    each comes after what it leads to, give one chain of them.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    n_rows, n_cols = len(cut.rows), len(cut.cols)
    n = n_rows + n_cols
    row, col = pairs[:, 0], n_rows + pairs[:, 1]
    back = cut.flow > 0
    tail, head = np.concatenate([row, col[back]]), np.concatenate([col, row[back]])
    # Nodes that lead to the sink are in no closed set: columns that are not saturated, and all that leads to them.
    used = np.bincount(pairs[:, 1], weights=cut.flow, minlength=n_cols)
    open_cols = n_rows + np.flatnonzero(used < col_price)
    reverse = coo_array(
        (
            np.ones(len(tail) + len(open_cols), np.int8),
            (np.concatenate([head, np.full(len(open_cols), n)]), np.concatenate([tail, open_cols])),
        ),
        shape=(n + 1, n + 1),
    ).tocsr()
    free = np.ones(n + 1, np.bool_)
    free[breadth_first_order(reverse, n, return_predecessors=False)] = False
    free = free[:n]
    free[:n_rows] &= cut.rows
    free[n_rows:] &= ~cut.cols
    keep = free[tail] & free[head]
    tail, head = tail[keep], head[keep]
    _, label = connected_components(
        coo_array((np.ones(len(tail), np.int8), (tail, head)), shape=(n, n)), directed=True, connection="strong"
    )
    members: dict[int, list[int]] = {}
    for node in np.flatnonzero(free).tolist():
        members.setdefault(int(label[node]), []).append(node)
    leads_to: dict[int, set[int]] = {k: set() for k in members}
    comes_from: dict[int, set[int]] = {k: set() for k in members}
    for a, b in zip(label[tail].tolist(), label[head].tolist(), strict=True):
        if a != b:
            leads_to[a].add(b)
            comes_from[b].add(a)
    waiting = {k: len(v) for k, v in leads_to.items()}
    ready: list[tuple[int, int, int]] = []
    for k, nodes in members.items():
        if waiting[k] == 0:
            heappush(ready, (len(nodes), nodes[0], k))
    rows, cols = cut.point
    points = [(rows, cols)]
    while ready:
        _, _, k = heappop(ready)
        fewer = sum(node < n_rows for node in members[k])
        rows, cols = rows - fewer, cols + len(members[k]) - fewer
        points.append((rows, cols))
        for before in comes_from[k]:
            waiting[before] -= 1
            if waiting[before] == 0:
                heappush(ready, (len(members[before]), members[before][0], before))
    return points


def _add_part(model: Any, part: Part) -> tuple[list[Any], list[Any]]:
    """Variables of a part's rows and columns, with its clauses."""
    rows = [model.new_bool_var("") for _ in range(len(part.rows))]
    cols = [model.new_bool_var("") for _ in range(len(part.cols))]
    for r, c in part.pairs.tolist():
        model.add_bool_or(rows[r], cols[c])
    for r, below, c in part.down.tolist():
        model.add_bool_or(rows[r], rows[below], cols[c])
    for r, c, east in part.along.tolist():
        model.add_bool_or(rows[r], cols[c], cols[east])
    return rows, cols


def fewest_cols(part: Part, most_rows: int, low: int, high: int, limit: Limit) -> tuple[int, int]:
    """(proven lower bound, value) of the fewest columns with at most `most_rows` rows; both lie in low..high.

    `high` is known to be possible. Asked for `low` columns, then for one more, and so on: a tight cap on both sides is
    refuted in a fraction of a second where the bare minimum, bounded on one side only, is not proven in a minute.
    """
    from ortools.sat.python import cp_model

    def ask(most_cols: int) -> tuple[Any, int]:
        model = cp_model.CpModel()
        rows, cols = _add_part(model, part)
        model.add(sum(rows) <= most_rows)
        model.add_linear_constraint(sum(cols), low, most_cols)
        model.minimize(sum(cols))
        solver = limit.solver()
        status = solver.solve(model)
        limit.spend(solver)
        found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
        return status, round(solver.objective_value) if found else high

    while low < high:
        status, value = ask(low)
        if status == cp_model.INFEASIBLE:
            low += 1
        elif value < high:
            return low, value
        else:
            # Undecided: whatever can be had between the bound and what is known.
            return low, ask(high - 1)[1]
    return high, high


def _bound(solver: Any) -> int:
    """Proven lower bound; what a solver that was stopped at once gives may be minus infinity."""
    bound = float(solver.best_objective_bound)
    return int(np.ceil(bound - 1e-6)) if np.isfinite(bound) else 0


def _no_lines() -> Int64:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Box:
    """Fewest lines within both budgets. `feasible` is None where the limit came first; the others are then 0."""

    feasible: bool | None
    total: int = 0
    total_bound: int = 0
    rows: int = 0
    rows_bound: int = 0
    table_rows: int = 0
    row_lines: Int64 = field(default_factory=_no_lines)
    col_lines: Int64 = field(default_factory=_no_lines)


def in_box(parts: Sequence[Part], table: Int64, spare_rows: int, spare_cols: int, limit: Limit, *, least: int) -> Box:
    """Fewest lines, `least` or more, then fewest rows, with at most so many rows and columns.

    `parts` are modelled by the line; everything else is `table[r]`, the fewest columns it needs with r rows.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    lines = [_add_part(model, part) for part in parts]
    pick = [model.new_bool_var("") for _ in range(len(table))]
    model.add_exactly_one(pick)
    every_row = [x for rows, _ in lines for x in rows]
    every_col = [x for _, cols in lines for x in cols]
    n_rows = sum(every_row) + sum(r * x for r, x in enumerate(pick))
    n_cols = sum(every_col) + sum(int(c) * x for c, x in zip(table.tolist(), pick, strict=True))
    model.add(n_rows <= spare_rows)
    model.add(n_cols <= spare_cols)
    model.add(n_rows + n_cols >= least)
    model.minimize(n_rows + n_cols)
    solver = limit.solver()
    status = solver.solve(model)
    limit.spend(solver)
    if status == cp_model.INFEASIBLE:
        return Box(False)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Box(None)
    total, bound = round(solver.objective_value), _bound(solver)
    variables = [*every_row, *every_col, *pick]
    values = [solver.boolean_value(x) for x in variables]
    model.add(n_rows + n_cols <= total)
    model.minimize(n_rows)
    for x, value in zip(variables, values, strict=True):
        model.add_hint(x, value)
    second = limit.solver()
    status = second.solve(model)
    limit.spend(second)
    rows_bound = 0
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        values = [second.boolean_value(x) for x in variables]
        rows_bound = _bound(second)
    taken = np.array(values, np.bool_)
    a, b = len(every_row), len(every_row) + len(every_col)
    table_rows = int(np.flatnonzero(taken[b:])[0])
    rows = int(taken[:a].sum()) + table_rows
    total = rows + int(taken[a:b].sum()) + int(table[table_rows])
    physical_rows = np.concatenate([_no_lines(), *(part.rows for part in parts)])
    physical_cols = np.concatenate([_no_lines(), *(part.cols for part in parts)])
    return Box(
        True,
        total,
        min(bound, total),
        rows,
        min(rows_bound, rows),
        table_rows,
        physical_rows[taken[:a]],
        physical_cols[taken[a:b]],
    )


def select_lines(parts: Sequence[Part], points: Sequence[tuple[int, int]], limit: Limit) -> tuple[Int64, Int64] | None:
    """Physical (rows, columns) that cover each part with at most so many of each; None if the limit comes first."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    rows: list[Any] = []
    cols: list[Any] = []
    for part, (most_rows, most_cols) in zip(parts, points, strict=True):
        own_rows, own_cols = _add_part(model, part)
        model.add(sum(own_rows) <= most_rows)
        model.add(sum(own_cols) <= most_cols)
        rows += own_rows
        cols += own_cols
    model.minimize(sum(rows) + sum(cols))
    solver = limit.solver()
    status = solver.solve(model)
    limit.spend(solver)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    physical_rows = np.concatenate([_no_lines(), *(part.rows for part in parts)])
    physical_cols = np.concatenate([_no_lines(), *(part.cols for part in parts)])
    took_rows = np.array([solver.boolean_value(x) for x in rows], np.bool_)
    took_cols = np.array([solver.boolean_value(x) for x in cols], np.bool_)
    return np.sort(physical_rows[took_rows]), np.sort(physical_cols[took_cols])
