"""Among the fields with the fewest moved cores, the one with the least skew: a minimum cut over cores that may move.

A field with the fewest moved cores leaves every core alone that no minimum cut of `incremental_moves` moves. Those are
constants here; the others are a graph over b[x, s] = [d[x] >= s], in which a moved core costs more than all skew
together. With k the old displacement, 1[d != k] = b[x, k + 1] + (1 - b[x, k]).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yieldkit.repair.incremental_kernels import tighten
from yieldkit.repair.incremental_moves import Closure, Int64, Moves
from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP
from yieldkit.repair.problem import Int32, Problem, Unit

__all__ = ["Region", "straightest"]

_INFINITE = 1 << 50
LARGEST_GRAPH = 400_000
"""Nodes above which the cut over single cores is not made."""


@dataclass(frozen=True, eq=False)
class Region:
    """Rows that may change and those next to them, with the ranges of their displacements.

    Attributes:
        rows: int64[n], rising.
        joined: bool[n - 1], rows that are neighbours on the wafer.
        low, high: int32[n, W]; equal where a core stays.
    """

    rows: Int64
    joined: npt.NDArray[np.bool_]
    low: Int32
    high: Int32

    @classmethod
    def of(cls, problem: Problem, old: Int32, moves: Moves, units: tuple[Unit, ...]) -> Region | None:
        """Ranges that hold every field with the fewest moved cores; None when nothing may move."""
        width = problem.width
        closures = [*moves.may_up, *moves.may_down]
        if not closures:
            return None
        own = np.unique(np.concatenate([x.cells for x in closures]) // width)
        rows = np.unique(np.concatenate([own, own - 1, own + 1]))
        rows = rows[(rows >= 0) & (rows < problem.height)]
        low, high = old[rows].copy(), old[rows].copy()

        def place(closure: Closure) -> tuple[Int64, Int64]:
            return np.searchsorted(rows, closure.cells // width), closure.cells % width

        for x in moves.may_up:
            r, c = place(x)
            high[r, c] = problem.high[rows[r]]
        for x in moves.may_down:
            r, c = place(x)
            low[r, c] = problem.low[rows[r]]
        for x in moves.must_up:
            r, c = place(x)
            low[r, c] = np.maximum(low[r, c], x.values)
        for x in moves.must_down:
            r, c = place(x)
            high[r, c] = np.minimum(high[r, c], x.values)
        for row, col, value, at_least in units:
            i = int(np.searchsorted(rows, row))
            if i < len(rows) and rows[i] == row:
                if at_least:
                    low[i, col] = max(int(low[i, col]), value)
                else:
                    high[i, col] = min(int(high[i, col]), value)
        return cls(rows, np.diff(rows) == 1, low, high)

    def reaches(self, old: Int32) -> tuple[int, int]:
        """(vertical, skip) reach that the links between cores which stay need."""
        down = np.abs(np.diff(old, axis=0))
        along = np.diff(old, axis=1)
        free = self.low != self.high
        free |= self.low != old[self.rows]
        for i, r in enumerate(self.rows.tolist()):
            loose = np.flatnonzero(free[i])
            if r > 0:
                down[r - 1, loose] = 0
            if r < len(old) - 1:
                down[r, loose] = 0
            along[r, loose[loose > 0] - 1] = 0
            along[r, loose[loose < old.shape[1] - 1]] = 0
        return int(down.max(initial=0)), int(along.max(initial=0)) + 1


def straightest(problem: Problem, old: Int32, region: Region, moved: int) -> Int32 | None:
    """The field with `moved` moved cores and the least skew at the problem's reaches; None where there is none.

    Raises:
        MemoryError: the graph would be larger than `LARGEST_GRAPH`.
    """
    low, high = region.low.copy(), region.high.copy()
    if tighten(low, high, region.joined, problem.h, problem.v):
        return None
    levels = (high - low).astype(np.int64)
    n_free = int(levels.sum())
    if n_free > LARGEST_GRAPH:
        raise MemoryError(f"a graph of {n_free} nodes")
    found = low.copy()
    if n_free:
        cut = _cut(problem, old, region, low, high)
        if cut is None:
            return None
        found = cut
    d = old.copy()
    d[region.rows] = found
    if int(np.count_nonzero(d[region.rows] != old[region.rows])) != moved or not _holds(problem, d, region):
        return None
    return d


def _holds(problem: Problem, d: Int32, region: Region) -> bool:
    """Whether the changed rows satisfy every lattice constraint; the graph leaves out pairs without any choice."""
    rows = np.unique(np.concatenate([region.rows, region.rows - 1]))
    rows = rows[rows >= 0]
    here = d[rows]
    if (here < problem.low[rows][:, None]).any() or (here > problem.high[rows][:, None]).any():
        return False
    step = np.diff(here, axis=1)
    if (step < 0).any() or (step > problem.h - 1).any():
        return False
    inner = rows[rows < problem.height - 1]
    down = d[inner + 1] - d[inner]
    if (np.abs(down) > problem.v).any():
        return False
    marked = problem.mark_row[rows] >= 0
    flags = problem.marks[problem.mark_row[rows[marked]][:, None], here[marked] + np.arange(problem.width)]
    step = step[marked]
    wrong = ((flags[:, :-1] & DIRECT) > 0) & (step == 0) | ((flags[:, :-1] & SKIP) > 0) & (step == problem.h - 1)
    if (flags & BAD).any() or wrong.any():
        return False
    upper = inner[problem.mark_row[inner] >= 0]
    flags = problem.marks[problem.mark_row[upper][:, None], d[upper] + np.arange(problem.width)]
    down = d[upper + 1] - d[upper]
    lean = ((flags & LEAN_RIGHT) > 0) & (down == problem.v) | ((flags & LEAN_LEFT) > 0) & (down == -problem.v)
    return not lean.any()


def _cut(problem: Problem, old: Int32, region: Region, low: Int32, high: Int32) -> Int32 | None:
    from ortools.graph.python import max_flow

    n_rows, width = low.shape
    levels = (high - low).astype(np.int64).ravel()
    n_free = int(levels.sum())
    source, sink = n_free, n_free + 1
    offset = (np.cumsum(levels) - levels).reshape(low.shape)
    own = np.repeat(np.arange(low.size), levels)
    own_r, own_c = own // width, own % width
    own_s = np.arange(n_free) - offset.ravel()[own] + low.ravel()[own] + 1
    tails: list[Int64] = []
    heads: list[Int64] = []
    caps: list[Int64] = []

    def node(r: Int64, c: Int64, s: Int64) -> Int64:
        bottom, top = low[r, c], high[r, c]
        return np.where(s <= bottom, source, np.where(s > top, sink, offset[r, c] + s - bottom - 1))

    def arcs(tail: Int64, head: Int64, capacity: int) -> None:
        keep = (tail != head) & (tail != sink) & (head != source)
        tails.append(tail[keep])
        heads.append(head[keep])
        caps.append(np.full(int(keep.sum()), capacity, np.int64))

    near = np.append(region.joined, False)

    def family(dr: int, dc: int, ds: int, capacity: int) -> None:
        """Arcs (r, c, s) -> (r + dr, c + dc, s + ds): all free tails, and constant tails with free heads."""
        for sign in (1, -1):
            r, c = own_r + sign * dr, own_c + sign * dc
            ok = (r >= 0) & (r < n_rows) & (c >= 0) & (c < width)
            if dr:
                ok &= near[np.minimum(own_r, np.clip(r, 0, n_rows - 1))]
            far = node(r[ok], c[ok], own_s[ok] + sign * ds)
            here = np.flatnonzero(ok)
            if sign > 0:
                arcs(here, far, capacity)
            else:
                arcs(far[far == source], here[far == source], capacity)

    h, v = problem.h, problem.v
    family(0, 0, -1, _INFINITE)
    family(0, 1, 0, _INFINITE)
    family(0, -1, -(h - 1), _INFINITE)
    for side in (1, -1):
        family(side, 0, 0, 1)
        family(side, 0, -v, _INFINITE)
    every = np.arange(n_free)
    last, first = every[own_c == width - 1], every[own_c == 0]
    arcs(last, np.full(len(last), sink), 1)
    arcs(np.full(len(first), source), first, 1)
    _mark_arcs(problem, region, node, arcs)
    # Skew can change by no more than all its arcs together.
    heavy = 1 + sum(int(x.sum()) for x in caps if len(x) and x[0] == 1)
    before = old[region.rows].ravel()[own]
    above, below = every[own_s == before + 1], every[own_s == before]
    arcs(above, np.full(len(above), sink), heavy)
    arcs(np.full(len(below), source), below, heavy)
    tail, head, capacity = np.concatenate(tails), np.concatenate(heads), np.concatenate(caps)
    if ((tail == source) & (head == sink) & (capacity == _INFINITE)).any():
        return None
    flow = max_flow.SimpleMaxFlow()
    flow.add_arcs_with_capacity(
        np.append(tail, source).astype(np.int32), np.append(head, sink).astype(np.int32), np.append(capacity, 0)
    )
    if flow.solve(source, sink) != flow.OPTIMAL or flow.optimal_flow() >= _INFINITE:
        return None
    one = np.zeros(n_free + 2, np.int64)
    one[np.asarray(flow.get_source_side_min_cut(), np.int64)] = 1
    raised = np.bincount(own, weights=one[:n_free], minlength=low.size).astype(np.int32)
    return np.asarray(low + raised.reshape(low.shape), np.int32)


def _mark_arcs(problem: Problem, region: Region, node, arcs) -> None:  # type: ignore[no-untyped-def]
    """Implications of bad sites and dead links, as in `skewcut`."""
    marked = np.flatnonzero(problem.mark_row[region.rows] >= 0)
    if not len(marked):
        return
    flags = problem.marks[problem.mark_row[region.rows[marked]]]
    shift = np.arange(problem.spares + 1, dtype=np.int64)
    h, v = problem.h, problem.v
    near = np.append(region.joined, False)
    for bit, down, right in ((BAD, 0, 0), (DIRECT, 0, 1), (SKIP, 0, 1), (LEAN_RIGHT, 1, 0), (LEAN_LEFT, 1, 0)):
        at, pos = np.nonzero(flags & bit)
        r = np.repeat(marked[at], len(shift)).astype(np.int64)
        s = np.tile(shift, len(at))
        c = np.repeat(pos.astype(np.int64), len(shift)) - s
        keep = (c >= 0) & (c + right < problem.width)
        if down:
            keep &= near[r]
        r, s, c = r[keep], s[keep], c[keep]
        if bit == BAD:
            arcs(node(r, c, s), node(r, c, s + 1), _INFINITE)
        elif bit == DIRECT:
            arcs(node(r, c, s), node(r, c + 1, s + 1), _INFINITE)
        elif bit == SKIP:
            arcs(node(r, c + 1, s + h - 1), node(r, c, s + 1), _INFINITE)
        elif bit == LEAN_RIGHT:
            arcs(node(r + 1, c, s + v), node(r, c, s + 1), _INFINITE)
        else:
            arcs(node(r, c, s), node(r + 1, c, s - v + 1), _INFINITE)
