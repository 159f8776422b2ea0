"""Least total skew at given reaches: exact on graphs that are small enough, a band with a proven bound beyond."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yieldkit.repair.chains import bad_sites, cover, draw
from yieldkit.repair.exact import solve_exactly
from yieldkit.repair.kernels import raise_to_fixpoint
from yieldkit.repair.problem import Int32, Problem, Unit
from yieldkit.repair.propagate import least_field
from yieldkit.repair.skewcut import (
    Groups,
    Int64,
    band_around,
    field_of,
    full_range,
    group_rows,
    levels_of,
    min_cut,
    split_for_reach,
)

__all__ = ["FULL_GRAPH_NODES", "Skew", "least_skew"]

FULL_GRAPH_NODES = 40_000
"""Largest graph that is solved whole; the time of the maximum flow grows faster than its nodes."""
_BAND_REACH = 6
_WIDE_BAND_REACH = 16
_BAND_ROUNDS = 12
_NODE_BUDGET = 150_000
_TOLLS = (0, 50, 200, 800, 3200)
_BRANCH_NODES = 40
_CP_SAT_CELLS = 20_000


@dataclass(frozen=True, eq=False)
class Skew:
    """A field int32[H, W], its total skew, a proven lower bound and how both were found."""

    field: Int32
    value: int
    bound: int
    method: str


@dataclass(frozen=True, eq=False)
class _Relaxed:
    """Best field without the clauses; `exact` when its value is a bound of its own."""

    field: Int32
    value: int
    bound: int
    exact: bool
    method: str


def least_skew(problem: Problem, known: Int32, *, full_graph_nodes: int = FULL_GRAPH_NODES) -> Skew:
    """Minimise the total skew; `known` is a field that satisfies everything, clauses included.

    Lattice constraints are solved by minimum cuts; dead links that are none (see `Problem.clauses`) by best-first
    branching over cuts, and by CP-SAT where the branching is cut off and the fabric is small.
    """
    if problem.v == 0 and problem.height > 1:
        row = least_skew(problem.collapsed(), known[:1], full_graph_nodes=max(full_graph_nodes, 200_000))
        field = np.repeat(row.field, problem.height, axis=0)
        return Skew(field, row.value * problem.height, row.bound * problem.height, row.method)
    low, high = int(problem.low.min()), int(problem.high.max())
    if low > 0 or high < problem.spares:
        inner = least_skew(problem.restricted(low, high), known - low, full_graph_nodes=full_graph_nodes)
        return Skew(inner.field + low, inner.value, inner.bound, inner.method)
    best = Skew(known, problem.cost(known), 0, "propagation")
    if problem.clauses and not _is_small(problem, full_graph_nodes):
        root = _bypassed(problem)
    else:
        root = _relax(problem, (), full_graph_nodes)
    if root is None:
        return Skew(best.field, best.value, _chain_bound(problem), best.method)
    heap: list[tuple[int, int, tuple[Unit, ...], _Relaxed]] = [(root.bound, 0, (), root)]
    exact = root.exact
    count = 1
    while heap:
        bound, _, units, relaxed = heap[0]
        broken = problem.broken_clauses(relaxed.field)
        if not broken:
            # At the same value the cut's field is the one that ships, not the propagation's.
            if relaxed.value <= best.value:
                best = Skew(relaxed.field, relaxed.value, bound, relaxed.method)
            if not exact or not problem.clauses or relaxed.value == bound:
                return Skew(best.field, best.value, bound, best.method)
        if bound >= best.value:
            return Skew(best.field, best.value, best.value if exact else root.bound, best.method)
        if count >= _BRANCH_NODES:
            break
        heapq.heappop(heap)
        if not broken:
            continue
        (ra, _, rb, _), ca, cb = broken[0]
        a, b = int(relaxed.field[ra, ca]), int(relaxed.field[rb, cb])
        # Four branches: a solution differs from this field at one of the link's two ends.
        for unit in ((ra, ca, a + 1, True), (rb, cb, b + 1, True), (ra, ca, a - 1, False), (rb, cb, b - 1, False)):
            child = _relax(problem, (*units, unit), full_graph_nodes) if 0 <= unit[2] <= problem.spares else None
            if child is not None:
                exact = exact and child.exact
                heapq.heappush(heap, (max(bound, child.bound), count, (*units, unit), child))
                count += 1
    if exact and not heap:
        return Skew(best.field, best.value, best.value, best.method)
    bound = min([root.bound, best.value]) if not exact else min(best.value, heap[0][0])
    if problem.clauses and problem.height * problem.width * problem.spares <= _CP_SAT_CELLS:
        found, proven, _ = solve_exactly(problem, hint=best.field)
        if found is not None and problem.cost(found) <= best.value:
            return Skew(found, problem.cost(found), max(bound, proven), "CP-SAT")
        bound = max(bound, proven)
    return Skew(best.field, best.value, bound, best.method)


def _bypassed(problem: Problem) -> _Relaxed | None:
    """Dead links that are not lattice constraints, on a large fabric: bypass a core at one of their ends.

    That always satisfies them, though not always at the least skew; the bound stays that of the problem without them.
    """
    for end in (0, 1):
        easier = problem.bypassing([clause[2 * end : 2 * end + 2] for clause in problem.clauses])
        if least_field(easier)[0] is None:
            continue
        found = _band(easier, (), np.zeros(problem.height, np.bool_))
        if found is not None:
            return _Relaxed(found.field, found.value, _chain_bound(problem), False, found.method)
    return None


def _relax(problem: Problem, units: tuple[Unit, ...], full_graph_nodes: int) -> _Relaxed | None:
    """Least skew under lattice constraints and units; None when there is no such field (proven only if small)."""
    single = _clause_rows(problem)
    if _is_small(problem, full_graph_nodes):
        return _whole(problem, units, group_rows(problem, single=single), single)
    return _band(problem, units, single)


def _clause_rows(problem: Problem) -> npt.NDArray[np.bool_]:
    rows = np.zeros(problem.height, np.bool_)
    for ra, _, rb, _ in problem.clauses:
        rows[[ra, rb]] = True
    return rows


def _is_small(problem: Problem, full_graph_nodes: int) -> bool:
    groups = group_rows(problem, single=_clause_rows(problem))
    return len(groups.start) * problem.width * problem.spares <= full_graph_nodes


def _whole(problem: Problem, units: tuple[Unit, ...], groups: Groups, single: npt.NDArray[np.bool_]) -> _Relaxed | None:
    """Exact: runs of rows are taken apart until the relaxed reach between them is met by the solution itself."""
    while True:
        x, _ = min_cut(problem, groups, *full_range(problem, groups, units), relaxed=True)
        if x is None:
            return None
        more = split_for_reach(problem, groups, x)
        field = field_of(problem, groups, x)
        if more is None:
            if not problem.holds(field):
                # Only cores that the units leave no choice can break a constraint here, so there is no field.
                return None
            value = problem.cost(field)
            return _Relaxed(field, value, value, True, "minimum cut")
        single = single | more
        finer = group_rows(problem, single=single)
        if len(finer.start) == len(groups.start):
            return None
        groups = finer


def _band(problem: Problem, units: tuple[Unit, ...], single: npt.NDArray[np.bool_]) -> _Relaxed | None:
    groups = group_rows(problem, single=single, margin=True)
    bound = _chain_bound(problem)
    best: Int32 | None = None
    if not units:
        best = _from_chains(problem, groups)
    if best is None:
        least, _ = least_field(problem, units)
        if least is None:
            return None
        field, _ = _descend(problem, units, groups, levels_of(problem, groups, least), _BAND_REACH)
        best = least if field is None else field
    return _Relaxed(best, problem.cost(best), bound, False, "minimum cut in a band, bound by assignment")


def _from_chains(problem: Problem, groups: Groups) -> Int32 | None:
    """Best field from path covers: several least displacements and rising tolls; lifted if nothing holds.

    A cover may need more displacements than there are, or its curves may be too close; with a toll on each chain there
    are fewer of them. The search ends when the cuts' nodes have used up a budget, which is the same on every machine.
    """
    best: Int32 | None = None
    spent = 0
    for lift, reach in ((False, _BAND_REACH), (True, _BAND_REACH), (True, _WIDE_BAND_REACH)):
        for toll, base in itertools.product(_TOLLS, _bases(problem)):
            if spent > _NODE_BUDGET:
                break
            first = 0 if base is None else base
            last = problem.width + (problem.spares if base is None else base)
            shift = problem.spares - 1 if base is None else base
            sites = bad_sites(problem, first, last, links=True)
            plan = cover(problem, sites, left_shift=shift, right_shift=shift, toll=toll)
            x = draw(problem, groups, plan, base)
            if x is None:
                continue
            field, nodes = _descend(problem, (), groups, _lifted(problem, groups, x) if lift else x, reach)
            spent += nodes
            if field is not None and (best is None or problem.cost(field) < problem.cost(best)):
                best = field
        if best is not None:
            return best
        spent = 0
    return None


def _lifted(problem: Problem, groups: Groups, x: Int64) -> Int64:
    """The least levels above drawn ones that satisfy every lattice constraint; the drawn ones where there are none.

    Drawn curves may come too close or miss a dead link; a band around a field that holds is never empty.
    """
    start = groups.start
    d = field_of(problem, Groups(np.arange(len(start)), np.ones(len(start), np.int64)), x)
    d = np.maximum(d, problem.low[start][:, None])
    dirty = np.ones(len(start), np.bool_)
    high, rows = problem.high[start], problem.mark_row[start]
    failed, _ = raise_to_fixpoint(d, high, rows, problem.marks, problem.h, problem.v, dirty)
    if failed >= 0:
        return x
    return levels_of(problem, Groups(np.arange(len(start)), groups.size), d)


def _bases(problem: Problem) -> tuple[int | None, ...]:
    """Least displacements to start from: the smallest that all rows allow, and the largest (None)."""
    low = int(problem.low.max())
    if low >= problem.spares:
        return (low,)
    middle = (low + problem.spares) // 2
    return (low, None) if middle == low else (low, None, middle)


def _descend(
    problem: Problem, units: tuple[Unit, ...], groups: Groups, x: Int64, reach: int
) -> tuple[Int32 | None, int]:
    """Cuts in bands around the best field so far, until the skew no longer falls; None when no band holds a field;
    and the nodes of all the cuts.
    """
    best: Int32 | None = None
    value = spent = 0
    for _ in range(_BAND_ROUNDS):
        found, nodes = min_cut(problem, groups, *band_around(problem, groups, x, reach, units))
        spent += nodes
        if found is None:
            return best, spent
        field = field_of(problem, groups, found)
        if not problem.holds(field):
            return best, spent
        cost = problem.cost(field)
        if best is not None and cost >= value:
            return best, spent
        best, value, x = field, cost, found
    return best, spent


def _chain_bound(problem: Problem) -> int:
    """Lower bound from a path cover of the sites that lie inside at every displacement."""
    sites = bad_sites(problem, problem.spares, problem.width)
    return cover(problem, sites, left_shift=problem.spares - 1, right_shift=0).cost
