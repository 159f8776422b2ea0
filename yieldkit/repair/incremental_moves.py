"""The fewest cores that move after a map-out: an exact minimum cut over the new faults, not over the cores.

Let `old` be the field in use. It breaks some constraints of the new map, each of the form "d[x] >= s implies
d[y] >= t". Any field that holds has d[y] >= t (up) or d[x] < s (down) for each of them. All other constraints hold for
`old`, and a constraint with one premise is closed under maximum and minimum. Therefore:

- Going up at a set A of broken constraints forces exactly the union of what each of them forces alone, the closure of
  d[y] >= t above `old`: taking the maximum of a field with `old` loses nothing, and closures of single premises unite.
  The same holds below for the others, B.
- A field for (A, B) exists if and only if no closure of A and closure of B break a constraint together, which is a
  condition on pairs; then "closures of A, closures of B, `old` elsewhere" is one, and every field for (A, B) moves at
  least those cores.

What is left is to choose up or down: cores moved by the same closures are one node with their number as capacity, and
the exclusions are arcs of infinite capacity. Its minimum cut (OR-tools max flow) is the least number of moved cores,
and its value is the proof. Every field with that number moves only cores of closures on the sides that some minimum
cut takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from yieldkit.repair.incremental_kernels import close_down, close_up, excludes
from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP
from yieldkit.repair.problem import Int32, Problem, Unit

__all__ = ["Closure", "Moves", "Workspace", "broken_constraints", "classes", "fewest_moves"]

Int64 = npt.NDArray[np.int64]
Site = tuple[int, int, int]
"""(row, column, displacement)."""

_INFINITE = 1 << 40


@dataclass(frozen=True, eq=False)
class Closure:
    """Cores (flat int64[n]) that move together and the displacements int32[n] they get at least (or at most)."""

    cells: Int64
    values: Int32


class Workspace:
    """Arrays of the closures, made once for a field: work copies and queues."""

    def __init__(self, old: Int32) -> None:
        self.old = np.ascontiguousarray(old, np.int32)
        self.d = self.old.copy()
        self.queue = np.empty(old.size, np.int64)
        self.queued = np.zeros(old.shape, np.bool_)
        self.touched = np.empty(old.size, np.int64)

    def close(self, problem: Problem, site: Site, *, up: bool, units: tuple[Unit, ...]) -> Closure | None:
        """Closure of one move, or None where it passes a limit."""
        arguments = (problem.mark_row, problem.marks, problem.h, problem.v, self.queue, self.queued, self.touched)
        if up:
            cells, values, failed = close_up(self.d, self.old, *site, problem.high, *arguments)
        else:
            cells, values, failed = close_down(self.d, self.old, *site, problem.low, *arguments)
        if failed:
            return None
        for row, col, value, at_least in units:
            at = np.flatnonzero(cells == row * self.old.shape[1] + col)
            if len(at) and at_least != up and (values[at[0]] > value if up else values[at[0]] < value):
                return None
        return Closure(cells, values)


@dataclass(frozen=True, eq=False)
class Moves:
    """The choice with the fewest moved cores.

    Attributes:
        moved: their number, proven least for the lattice constraints.
        chosen: one choice: closures that go up and that go down.
        must_up, must_down: closures that every minimum cut takes.
        may_up, may_down: closures that some minimum cut takes (the ones above among them).
    """

    moved: int
    chosen: tuple[list[Closure], list[Closure]]
    must_up: list[Closure] = field(default_factory=list)
    must_down: list[Closure] = field(default_factory=list)
    may_up: list[Closure] = field(default_factory=list)
    may_down: list[Closure] = field(default_factory=list)

    def apply(self, old: Int32) -> Int32:
        """The field of the choice."""
        d = old.copy()
        flat = d.reshape(-1)
        for closure in self.chosen[0]:
            flat[closure.cells] = np.maximum(flat[closure.cells], closure.values)
        for closure in self.chosen[1]:
            flat[closure.cells] = np.minimum(flat[closure.cells], closure.values)
        return d


def broken_constraints(
    problem: Problem, old: Int32, units: tuple[Unit, ...] = ()
) -> list[tuple[Site | None, Site | None]]:
    """What `old` breaks, as pairs (move up, move down), one of which every field takes; None where it cannot be."""
    pairs: list[tuple[Site | None, Site | None]] = []
    width, height = problem.width, problem.height
    rows = np.flatnonzero(problem.mark_row >= 0)
    if len(rows):
        d = old[rows]
        flags = problem.marks[problem.mark_row[rows][:, None], d + np.arange(width)]
        for i, c in np.argwhere(flags).tolist():
            r, x, bits = int(rows[i]), int(d[i, c]), int(flags[i, c])
            if bits & BAD:
                pairs.append(((r, c, x + 1), (r, c, x - 1)))
            if c + 1 < width:
                right = int(d[i, c + 1])
                if bits & DIRECT and right == x:
                    pairs.append(((r, c + 1, x + 1), (r, c, x - 1)))
                if bits & SKIP and right - x == problem.h - 1:
                    pairs.append(((r, c, x + 1), (r, c + 1, right - 1)))
            if r + 1 < height:
                below = int(old[r + 1, c])
                if bits & LEAN_RIGHT and below - x == problem.v:
                    pairs.append(((r, c, x + 1), (r + 1, c, below - 1)))
                if bits & LEAN_LEFT and x - below == problem.v:
                    pairs.append(((r + 1, c, below + 1), (r, c, x - 1)))
    for row, col, value, at_least in units:
        if at_least and old[row, col] < value:
            pairs.append(((row, col, value), None))
        elif not at_least and old[row, col] > value:
            pairs.append((None, (row, col, value)))
    return pairs


def fewest_moves(problem: Problem, work: Workspace, units: tuple[Unit, ...] = ()) -> Moves | None:
    """The least number of moved cores under the lattice constraints and `units`; None when no field holds.

    `work.old` must satisfy ranges and reaches; see the module's text for the proof.
    """
    ups: list[Closure | None] = []
    downs: list[Closure | None] = []
    for up, down in broken_constraints(problem, work.old, units):
        a = None if up is None else work.close(problem, up, up=True, units=units)
        b = None if down is None else work.close(problem, down, up=False, units=units)
        if a is None and b is None:
            return None
        ups.append(a)
        downs.append(b)
    if not ups:
        return Moves(0, ([], []))
    arcs = [(i, j, _INFINITE) for i, j in _exclusions(problem, work, ups, downs)]
    n = len(ups)
    source, sink, node = n, n + 1, n + 2
    for i in range(n):
        if ups[i] is None:
            arcs.append((i, sink, _INFINITE))
        if downs[i] is None:
            arcs.append((source, i, _INFINITE))
    for closures, is_up in ((ups, True), (downs, False)):
        for members, size in classes(closures, work.old.size):
            arcs.append((node, sink, size) if is_up else (source, node, size))
            arcs.extend((i, node, _INFINITE) if is_up else (node, i, _INFINITE) for i in members)
            node += 1
    from ortools.graph.python import max_flow

    flow = max_flow.SimpleMaxFlow()
    table = np.array([*arcs, (source, sink, 0)], np.int64)
    flow.add_arcs_with_capacity(table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2])
    if flow.solve(source, sink) != flow.OPTIMAL or flow.optimal_flow() >= _INFINITE:
        return None
    # Nodes that reach the sink in the residual graph are on the sink side of every minimum cut, and so on.
    least = set(flow.get_source_side_min_cut())
    down_always = set(flow.get_sink_side_min_cut())

    def pick(closures: list[Closure | None], wanted: list[bool]) -> list[Closure]:
        return [x for x, take in zip(closures, wanted, strict=True) if take and x is not None]

    sure_up, sure_down = [i in least for i in range(n)], [i in down_always for i in range(n)]
    not_up, not_down = [not x for x in sure_up], [not x for x in sure_down]
    return Moves(
        moved=int(flow.optimal_flow()),
        chosen=(pick(ups, sure_up), pick(downs, not_up)),
        must_up=pick(ups, sure_up),
        must_down=pick(downs, sure_down),
        may_up=pick(ups, not_down),
        may_down=pick(downs, not_up),
    )


def _exclusions(
    problem: Problem, work: Workspace, ups: list[Closure | None], downs: list[Closure | None]
) -> list[tuple[int, int]]:
    """Pairs (i, j): broken constraint i cannot go up while j goes down."""
    width = problem.width
    spans = [None if u is None else (u.cells.min() // width, u.cells.max() // width) for u in ups]
    flat = work.d.reshape(-1)
    out: list[tuple[int, int]] = []
    for j, down in enumerate(downs):
        if down is None:
            continue
        first, last = down.cells.min() // width - 1, down.cells.max() // width + 1
        flat[down.cells] = down.values
        for i, up in enumerate(ups):
            span = spans[i]
            if i == j or up is None or span is None or span[0] > last or span[1] < first:
                continue
            if excludes(work.d, work.old, up.cells, up.values, problem.mark_row, problem.marks, problem.h, problem.v):
                out.append((i, j))
        flat[down.cells] = work.old.reshape(-1)[down.cells]
    return out


def classes(closures: list[Closure | None], n_cells: int) -> list[tuple[list[int], int]]:
    """Cores that the same closures move, as (indices of the closures, number of cores)."""
    label = np.zeros(n_cells, np.int32)
    members: list[list[int]] = [[]]
    every: list[Int64] = []
    for i, closure in enumerate(closures):
        if closure is None:
            continue
        before, inverse = np.unique(label[closure.cells], return_inverse=True)
        label[closure.cells] = (len(members) + inverse).astype(np.int32)
        members.extend([*members[int(k)], i] for k in before)
        every.append(closure.cells)
    if not every:
        return []
    sizes = np.bincount(label[np.unique(np.concatenate(every))], minlength=len(members))
    return [(members[k], int(sizes[k])) for k in np.flatnonzero(sizes).tolist()]
