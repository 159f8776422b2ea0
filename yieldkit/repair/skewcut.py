"""Minimum total skew as a minimum cut (OR-tools max flow) over b[r, c, s] = [d[r, c] >= s].

Because d does not fall along a row, level s of row r is one number, x[r, s]: the first logical column with d >= s.
A row of `x` may be restricted to an interval, so that the graph holds a band around a known field, not every core;
and runs of rows without faults are one row of the graph with the weight of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP
from yieldkit.repair.problem import Int32, Problem, Unit

__all__ = ["Groups", "band_around", "field_of", "full_range", "group_rows", "levels_of", "min_cut", "split_for_reach"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """Runs of rows that share one row of the graph: `start` and `size`, int64[n] each."""

    start: Int64
    size: Int64

    def of_row(self, row: int) -> int:
        """Group that holds the row."""
        return int(np.searchsorted(self.start, row, side="right")) - 1


def group_rows(problem: Problem, *, single: npt.NDArray[np.bool_] | None = None, margin: bool = False) -> Groups:
    """Rows with marks (and those below them, and `single` ones) alone, runs of like rows between them together.

    With `margin` a run of three or more keeps its first and last row apart, so that shifts can be spread over them.
    """
    special = problem.mark_row >= 0
    special[1:] |= problem.mark_row[:-1] >= 0
    if single is not None:
        special = special | single
    cut = special.copy()
    cut[1:] |= special[:-1]
    cut[0] = True
    cut[1:] |= (np.diff(problem.low) != 0) | (np.diff(problem.high) != 0)
    start = np.flatnonzero(cut).astype(np.int64)
    size = np.diff(np.append(start, problem.height))
    if margin:
        wide = size >= 3
        start = np.unique(np.concatenate([start, start[wide] + 1, start[wide] + size[wide] - 1]))
        size = np.diff(np.append(start, problem.height))
    return Groups(start, size)


def split_for_reach(problem: Problem, groups: Groups, x: Int64) -> npt.NDArray[np.bool_] | None:
    """Rows to take out of their runs where the field steps by more than v between two groups; None if nowhere."""
    d = _group_field(problem, x)
    step = np.abs(np.diff(d, axis=0)).max(axis=1, initial=0)
    wrong = np.flatnonzero(step > problem.v)
    if not len(wrong):
        return None
    single = np.zeros(problem.height, np.bool_)
    for g in wrong.tolist():
        need = -(-int(step[g]) // max(problem.v, 1)) + 1
        edge = int(groups.start[g + 1])
        single[max(0, edge - need) : edge + need] = True
    return single


def levels_of(problem: Problem, groups: Groups, d: Int32) -> Int64:
    """x[group, s - 1] of a field, read at the first row of each group."""
    rows = d[groups.start]
    x = np.empty((len(rows), problem.spares), np.int64)
    for i, row in enumerate(rows):
        x[i] = np.searchsorted(row, np.arange(1, problem.spares + 1))
    return x


def _group_field(problem: Problem, x: Int64) -> Int32:
    count = np.zeros((len(x), problem.width + 1), np.int32)
    rows = np.repeat(np.arange(len(x)), x.shape[1])
    np.add.at(count, (rows, x.ravel()), 1)
    return np.asarray(np.cumsum(count[:, :-1], axis=1, dtype=np.int32))


def field_of(problem: Problem, groups: Groups, x: Int64) -> Int32:
    """int32[H, W] field of the levels of the groups."""
    return np.repeat(_group_field(problem, x), groups.size, axis=0)


def full_range(problem: Problem, groups: Groups, units: tuple[Unit, ...] = ()) -> tuple[Int64, Int64]:
    """Intervals of x that hold every field within the rows' bounds and the units."""
    shape = (len(groups.start), problem.spares)
    return _bounded(problem, groups, np.zeros(shape, np.int64), np.full(shape, problem.width, np.int64), units)


def band_around(
    problem: Problem, groups: Groups, x: Int64, reach: int, units: tuple[Unit, ...] = ()
) -> tuple[Int64, Int64]:
    """Intervals of x within `reach` columns of the levels of this row or of its neighbours."""
    low, high = x.copy(), x.copy()
    for a, b in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
        np.minimum(low[a], x[b], out=low[a])
        np.maximum(high[a], x[b], out=high[a])
    low = np.maximum(low - reach, 0)
    high = np.minimum(high + reach, problem.width)
    return _bounded(problem, groups, low, high, units)


def _bounded(problem: Problem, groups: Groups, low: Int64, high: Int64, units: tuple[Unit, ...]) -> tuple[Int64, Int64]:
    level = np.arange(1, problem.spares + 1)
    forced = level[None, :] <= problem.low[groups.start][:, None]
    barred = level[None, :] > problem.high[groups.start][:, None]
    low[forced] = high[forced] = 0
    low[barred] = high[barred] = problem.width
    for row, col, value, at_least in units:
        g = groups.of_row(row)
        if at_least:
            high[g, :value] = np.minimum(high[g, :value], col)
        else:
            low[g, value:] = np.maximum(low[g, value:], col + 1)
    return low, high


def min_cut(
    problem: Problem, groups: Groups, low: Int64, high: Int64, *, relaxed: bool = False
) -> tuple[Int64 | None, int]:
    """Least total skew over the fields whose x lie in [low, high]; the source-side cut, so the least such field.

    With `relaxed` the reach between two groups is that of all their rows together: then the value is a lower bound of
    the problem's, whatever the field, because within a run of like rows one row can be copied over the others.

    Returns:
        (x, number of nodes of the graph); x is None when no field lies in the intervals. Constraints between two cores
        that the intervals leave no choice are not looked at: the caller checks the field with `Problem.holds`.
    """
    from ortools.graph.python import max_flow

    n_groups, top = low.shape
    free = high - low
    if (free < 0).any():
        return None, 0
    n_free = int(free.sum())
    source, sink = n_free, n_free + 1
    offset = np.concatenate([[0], np.cumsum(free.ravel())])[:-1].reshape(free.shape)
    pair = np.repeat(np.arange(n_groups * top), free.ravel())
    own_g, own_s = pair // top, pair % top + 1
    own_c = np.arange(n_free) - offset.ravel()[pair] + low.ravel()[pair]

    def node(g: Int64, c: Int64, s: Int64) -> Int64:
        inside = np.clip(s, 1, max(top, 1)) - 1
        at, first, last = offset[g, inside], low[g, inside], high[g, inside]
        out = np.where(c < first, sink, np.where(c >= last, source, at + c - first))
        return np.where(s < 1, source, np.where(s > top, sink, out))

    tails: list[Int64] = []
    heads: list[Int64] = []
    caps: list[Int64] = []
    infinite = 1 << 40

    def arcs(tail: Int64, head: Int64, capacity: Int64 | int) -> None:
        keep = (tail != head) & (tail != sink) & (head != source)
        tails.append(tail[keep])
        heads.append(head[keep])
        caps.append(np.broadcast_to(np.asarray(capacity, np.int64), tail.shape)[keep])

    def family(dg: int, dc: int, ds: int, capacity: Int64 | int, reach: Int64 | None = None) -> None:
        """Arcs (g, c, s) -> (g + dg, c + dc, s + ds) for all free tails, and for constant tails with free heads."""
        for forward in (True, False):
            sign = 1 if forward else -1
            other_g, other_c = own_g + sign * dg, own_c + sign * dc
            ok = (other_g >= 0) & (other_g < n_groups) & (other_c >= 0) & (other_c < problem.width)
            g, s, og, oc = own_g[ok], own_s[ok], other_g[ok], other_c[ok]
            shift = ds if reach is None else reach[np.minimum(g, og)] * (1 if ds > 0 else -1)
            far = node(og, oc, s + sign * shift)
            near = np.flatnonzero(ok)
            tail, head = (near, far) if forward else (far, near)
            cap = capacity if isinstance(capacity, int) else capacity[g if forward else og]
            if forward:
                arcs(tail, head, cap)
            else:
                constant = tail == source
                arcs(tail[constant], head[constant], cap if isinstance(cap, int) else cap[constant])

    h, v = problem.h, problem.v
    if top == 0:
        return np.empty((n_groups, 0), np.int64), 0
    family(0, 0, -1, infinite)
    family(0, 1, 0, infinite)
    family(0, -1, 0, groups.size)
    family(0, -1, -(h - 1), infinite)
    if n_groups > 1:
        family(1, 0, 0, 1)
        family(-1, 0, 0, 1)
        reach = np.full(n_groups - 1, v, np.int64)
        if relaxed:
            reach = v * (groups.size[:-1] + groups.size[1:] - 1)
        family(1, 0, -1, infinite, reach)
        family(-1, 0, -1, infinite, reach)
    _mark_arcs(problem, groups, node, arcs, infinite)
    tail, head, capacity = np.concatenate(tails), np.concatenate(heads), np.concatenate(caps)
    if ((tail == source) & (head == sink) & (capacity == infinite)).any():
        return None, n_free
    if n_free == 0:
        return low.copy(), 0
    flow = max_flow.SimpleMaxFlow()
    # Dummy arc so that both terminals exist.
    flow.add_arcs_with_capacity(
        np.append(tail, source).astype(np.int32), np.append(head, sink).astype(np.int32), np.append(capacity, 0)
    )
    if flow.solve(source, sink) != flow.OPTIMAL or flow.optimal_flow() >= infinite:
        return None, n_free
    one = np.zeros(n_free + 2, np.bool_)
    one[np.asarray(flow.get_source_side_min_cut(), np.int64)] = True
    zeros = np.bincount(pair[~one[:n_free]], minlength=n_groups * top).reshape(free.shape)
    return low + zeros, n_free


def _mark_arcs(problem: Problem, groups: Groups, node, arcs, infinite: int) -> None:  # type: ignore[no-untyped-def]
    """Implications of bad sites and dead links: at column p - s for each displacement s that meets position p."""
    rows = np.flatnonzero(problem.mark_row >= 0)
    if not len(rows):
        return
    flags = problem.marks[problem.mark_row[rows]]
    shift = np.arange(problem.spares + 1, dtype=np.int64)
    h, v = problem.h, problem.v
    for bit, dg, dc in ((BAD, 0, 0), (DIRECT, 0, 1), (SKIP, 0, 1), (LEAN_RIGHT, 1, 0), (LEAN_LEFT, 1, 0)):
        at, pos = np.nonzero(flags & bit)
        row = np.repeat(rows[at], len(shift)).astype(np.int64)
        s = np.tile(shift, len(at))
        c = np.repeat(pos.astype(np.int64), len(shift)) - s
        keep = (c >= 0) & (c + dc < problem.width) & (row + dg < problem.height)
        row, s, c = row[keep], s[keep], c[keep]
        g = np.searchsorted(groups.start, row, side="right") - 1
        if bit == BAD:
            arcs(node(g, c, s), node(g, c, s + 1), infinite)
        elif bit == DIRECT:
            arcs(node(g, c, s), node(g, c + 1, s + 1), infinite)
        elif bit == SKIP:
            arcs(node(g, c + 1, s + h - 1), node(g, c, s + 1), infinite)
        else:
            below = np.searchsorted(groups.start, row + 1, side="right") - 1
            if bit == LEAN_RIGHT:
                arcs(node(below, c, s + v), node(g, c, s + 1), infinite)
            else:
                arcs(node(g, c, s), node(below, c, s - v + 1), infinite)
