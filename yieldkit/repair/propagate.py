"""The exact decision: least-fixpoint propagation, branching only where dead links are not lattice constraints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from yieldkit.repair.kernels import BAD, raise_to_fixpoint
from yieldkit.repair.problem import Int32, Problem, Unit

__all__ = ["NODE_LIMIT", "Decision", "branches", "decide", "least_field"]

NODE_LIMIT = 2000


@dataclass(frozen=True, eq=False)
class Decision:
    """`feasible` is None when the branching limit was reached.

    `field` is int32[H, W] when feasible, `failed_at` the failing place when not; `units` are the branches taken.
    """

    feasible: bool | None
    field: Int32 | None = None
    failed_at: tuple[int, int] = (-1, -1)
    units: tuple[Unit, ...] = ()
    nodes: int = 1


def least_field(problem: Problem, units: tuple[Unit, ...] = ()) -> tuple[Int32 | None, tuple[int, int]]:
    """The least displacement field that satisfies the lattice constraints and `units`, or the place where it fails."""
    empty = np.flatnonzero(problem.low > problem.high)
    if len(empty):
        return None, (int(empty[0]), 0)
    d = np.repeat(problem.low[:, None], problem.width, axis=1)
    dirty = problem.mark_row >= 0
    uneven = np.abs(np.diff(problem.low)) > problem.v
    dirty[:-1] |= uneven
    dirty[1:] |= uneven
    # A lean mark binds the row below its own.
    dirty[1:] |= problem.mark_row[:-1] >= 0
    for row, col, value, at_least in units:
        if at_least and d[row, col] < value:
            if value > problem.high[row]:
                return None, (row, col)
            d[row, col] = value
            dirty[row] = True
    row, col = raise_to_fixpoint(d, problem.high, problem.mark_row, problem.marks, problem.h, problem.v, dirty)
    if row >= 0:
        return None, (int(row), int(col))
    for row, col, value, at_least in units:
        if not at_least and d[row, col] > value:
            return None, (row, col)
    return d, (-1, -1)


def branches(problem: Problem, d: Int32) -> list[Unit] | None:
    """Four units, one of which every solution satisfies and none of which `d` does; None when `d` breaks no clause."""
    broken = problem.broken_clauses(d)
    if not broken:
        return None
    (ra, _, rb, _), ca, cb = broken[0]
    a, b = int(d[ra, ca]), int(d[rb, cb])
    return [(ra, ca, a + 1, True), (rb, cb, b + 1, True), (ra, ca, a - 1, False), (rb, cb, b - 1, False)]


def decide(problem: Problem, *, node_limit: int = NODE_LIMIT) -> Decision:
    """Whether there is a field; exact unless the branching limit is reached.

    Rows are independent of each other but for the vertical reach; at v = 0 they are all one.
    """
    if problem.v == 0 and problem.height > 1:
        small = decide(problem.collapsed(), node_limit=node_limit)
        if small.field is None:
            return small
        field = np.repeat(small.field, problem.height, axis=0)
        return Decision(True, field, nodes=small.nodes)
    stack: list[tuple[Unit, ...]] = [()]
    first_failure = (-1, -1)
    nodes = 0
    while stack:
        units = stack.pop()
        nodes += 1
        if nodes > node_limit:
            return Decision(None, nodes=nodes)
        found, failed = least_field(problem, units)
        if found is None:
            if first_failure == (-1, -1):
                first_failure = failed
            continue
        choice = branches(problem, found)
        if choice is None:
            return Decision(True, found, units=units, nodes=nodes)
        # The least field can only be cut off below by raising, so lowering units fail at once; they are kept out.
        stack.extend((*units, unit) for unit in reversed(choice) if unit[3])
    return Decision(False, failed_at=first_failure, nodes=nodes)


def explain(problem: Problem, failed: tuple[int, int], *, first_row: int, first_col: int) -> dict[str, Any]:
    """Why there is no plan, with the row that a person should look at.

    First the reasons that show in one row: too few present and good sites, a run of bad sites longer than the reach;
    else the row where the least displacement passes its limit.
    """
    width = problem.width
    for r in range(problem.height):
        sites = int(problem.high[r] - problem.low[r]) + width
        m = int(problem.mark_row[r])
        if m < 0 and sites >= width:
            continue
        line = problem.marks[max(m, 0), problem.low[r] : problem.high[r] + width] if m >= 0 else np.zeros(0, np.uint8)
        bad = np.flatnonzero(line & BAD)
        physical = r + first_row
        if sites - len(bad) < width:
            text = f"physical row {physical} has {max(sites - len(bad), 0)} good sites for {width} logical cores"
            return {"kind": "row_spares", "row": physical, "good_sites": max(sites - len(bad), 0), "text": text}
        if len(bad) >= problem.h:
            cuts = np.flatnonzero(np.diff(bad) > 1)
            begins = np.concatenate([[0], cuts + 1])
            ends = np.concatenate([cuts, [len(bad) - 1]])
            lengths = ends - begins + 1
            # A run within the outermost spare sites can be left outside; inside, every row has to pass over it.
            spare = sites - width
            inner = (bad[begins] > spare) & (bad[ends] < len(line) - spare - 1)
            long = np.flatnonzero(inner & (lengths >= problem.h))
            if len(long):
                column = int(bad[begins[long[0]]] + problem.low[r] + first_col)
                text = (
                    f"physical row {physical} has {int(lengths[long[0]])} unusable sites in a run from column "
                    f"{column}; links reach {problem.h} sites"
                )
                run = int(lengths[long[0]])
                return {"kind": "cluster", "row": physical, "col": column, "run": run, "text": text}
    row, col = failed
    text = (
        f"raising displacements only where a fault or a neighbour demands it, logical column {col} of physical row "
        f"{row + first_row} is pushed beyond its limit of {int(problem.high[row])}"
    )
    facts = {"row": row + first_row, "logical_col": col, "limit": int(problem.high[row])}
    return {"kind": "propagation", **facts, "text": text}
