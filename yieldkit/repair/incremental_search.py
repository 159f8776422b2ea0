"""Fewest moves, then the usual levels: exact for lattice constraints, branched on where dead links are none."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass

import numpy as np

from yieldkit.repair.incremental_clauses import choose_bounds
from yieldkit.repair.incremental_cut import Region, straightest
from yieldkit.repair.incremental_moves import Workspace, fewest_moves
from yieldkit.repair.problem import Int32, Problem, Unit
from yieldkit.repair.propagate import decide

__all__ = ["Found", "search"]

Key = tuple[int, int, int, int]
"""(moved cores, vertical reach, skip reach, skew), compared in this order."""

NODE_LIMIT = 150
_DIVE_LIMIT = 300
_LEAST: Key = (0, 0, 1, 0)


@dataclass(frozen=True, eq=False)
class Found:
    """The answer: `feasible` is None where a limit was reached with nothing in hand.

    `bound` is a lower bound of `value` in the lexicographic order; `move_seconds` is the time of the first decision.
    """

    feasible: bool | None
    field: Int32 | None
    value: Key
    bound: Key
    method: str
    move_seconds: float


@dataclass(frozen=True, eq=False)
class _Node:
    bound: Key
    value: Key
    field: Int32
    method: str


class _Search:
    def __init__(self, problem: Problem, old: Int32, whole: Problem | None = None) -> None:
        """`whole` is the problem that `problem` is collapsed from."""
        self.problem = problem
        self.whole = whole
        self.work = Workspace(old)
        self.move_seconds = 0.0
        self.skew = problem.cost(old)

    def key_of(self, d: Int32) -> Key:
        """What a field has, counted."""
        vertical = int(np.abs(np.diff(d, axis=0)).max(initial=0))
        skip = int(np.diff(d, axis=1).max(initial=0)) + 1
        return int(np.count_nonzero(d != self.work.old)), vertical, skip, self.problem.cost(d)

    def relax(self, units: tuple[Unit, ...]) -> _Node | None:
        """Best field under the lattice constraints and units, level by level; None when there is none."""
        begin = time.perf_counter()
        problem, old = self.problem, self.work.old
        moves = fewest_moves(problem, self.work, units)
        if not self.move_seconds:
            self.move_seconds = time.perf_counter() - begin
        if moves is None:
            return None
        region = Region.of(problem, old, moves, units)
        if region is None:
            key = self.key_of(old)
            return _Node(key, key, old, "the plan in use holds")
        least_v, least_h = region.reaches(old)
        try:
            d, tight = self._lowest(problem, region, moves.moved, "v", least_v)
            d, tight = self._lowest(tight, region, moves.moved, "h", least_h, d)
        except MemoryError:
            d = moves.apply(old)
            return _Node((moves.moved, least_v, least_h, 0), self.key_of(d), d, "minimum cut over the new faults")
        key = (moves.moved, tight.v, tight.h, self.skew + self._change(d, region))
        return _Node(key, key, d, "minimum cut over the cores that may move")

    def _at(self, h: int, v: int) -> Problem:
        return self.problem.at_reach(h, v) if self.whole is None else self.whole.at_reach(h, v).collapsed()

    def _lowest(
        self, problem: Problem, region: Region, moved: int, which: str, least: int, known: Int32 | None = None
    ) -> tuple[Int32, Problem]:
        """The smallest vertical ("v") or skip ("h") reach with as few moves, and the straightest field at it."""
        most = problem.v if which == "v" else problem.h
        for reach in range(least, most):
            tighter = self._at(problem.h, reach) if which == "v" else self._at(reach, problem.v)
            d = straightest(tighter, self.work.old, region, moved)
            if d is not None:
                return d, tighter
        d = known if known is not None else straightest(problem, self.work.old, region, moved)
        if d is None:
            raise ArithmeticError("the closures of a minimum cut are a field of its region")
        return d, problem

    def _change(self, d: Int32, region: Region) -> int:
        """Skew of a field less that of the old one; only rows of the region differ."""
        old, rows = self.work.old, region.rows
        total = int(((d[rows, -1] - d[rows, 0]) - (old[rows, -1] - old[rows, 0])).sum())
        upper = np.unique(np.concatenate([rows, rows - 1]))
        upper = upper[(upper >= 0) & (upper < len(old) - 1)]
        return total + int((np.abs(d[upper + 1] - d[upper]) - np.abs(old[upper + 1] - old[upper])).sum())

    def children(self, node: _Node, units: tuple[Unit, ...]) -> list[tuple[_Node, tuple[Unit, ...]]]:
        """Four branches at a broken clause: a field that keeps it differs from this one at one of the link's ends."""
        (ra, _, rb, _), ca, cb = self.problem.broken_clauses(node.field)[0]
        a, b = int(node.field[ra, ca]), int(node.field[rb, cb])
        found = []
        for unit in ((ra, ca, a + 1, True), (rb, cb, b + 1, True), (ra, ca, a - 1, False), (rb, cb, b - 1, False)):
            child = self.relax((*units, unit))
            if child is not None:
                found.append((child, (*units, unit)))
        return found

    def run(self, node_limit: int) -> Found:
        root = self.relax(())
        if root is None:
            return self._found(False, None, _LEAST)
        heap: list[tuple[Key, int, tuple[Unit, ...], _Node]] = [(root.bound, 0, (), root)]
        count = 1
        while heap:
            bound, _, units, node = heapq.heappop(heap)
            if not self.problem.broken_clauses(node.field):
                return self._found(True, node, bound)
            if count >= node_limit:
                return self._chosen(node, units, bound)
            for child, more in self.children(node, units):
                # A child's relaxation holds its parent's constraints too.
                heapq.heappush(heap, (max(bound, child.bound), count, more, child))
                count += 1
        return self._found(False, None, _LEAST)

    def _chosen(self, node: _Node, units: tuple[Unit, ...], bound: Key) -> Found:
        """The fewest moves by CP-SAT over bounds; the levels after them only within the cores that it moves."""
        answer = choose_bounds(self.problem, self.work)
        if answer.impossible:
            return self._found(False, None, _LEAST)
        if answer.moves is None:
            return self._dive(node, units, max(bound, (answer.bound, 0, 1, 0)))
        d = answer.moves.apply(self.work.old)
        region = Region.of(self.problem, self.work.old, answer.moves, ())
        if region is not None:
            try:
                straight = straightest(self.problem, self.work.old, region, answer.moves.moved)
            except MemoryError:
                straight = None
            if straight is not None and not self.problem.broken_clauses(straight):
                d = straight
        value = self.key_of(d)
        method = "CP-SAT over bounds at dead links"
        return Found(True, d, value, min(value, self._counted(value[0])), method, self.move_seconds)

    def _counted(self, moved: int) -> Key:
        """Lower bounds from links between cores that stay: a moved core has at most two links of each direction."""
        along, down = np.diff(self.work.old, axis=1).ravel(), np.abs(np.diff(self.work.old, axis=0)).ravel()
        reaches, total = [], 0
        for links in (down, along):
            bent = np.sort(links[links > 0])[::-1]
            left = bent[2 * moved :]
            reaches.append(int(left[0]) if len(left) else 0)
            total += int(left.sum())
        return moved, reaches[0], reaches[1] + 1, total

    def _dive(self, node: _Node, units: tuple[Unit, ...], bound: Key) -> Found:
        """Some field that holds, when the proof takes too long: the best branch each time, else any field at all."""
        for _ in range(_DIVE_LIMIT):
            if not self.problem.broken_clauses(node.field):
                return self._found(True, node, min(bound, node.value))
            choices = self.children(node, units)
            if not choices:
                break
            node, units = min(choices, key=lambda one: one[0].bound)
        answer = decide(self.problem)
        if answer.field is None:
            return self._found(answer.feasible, None, _LEAST)
        value = self.key_of(answer.field)
        return self._found(True, _Node(value, value, answer.field, "propagation"), min(bound, value))

    def _found(self, feasible: bool | None, node: _Node | None, bound: Key) -> Found:
        if node is None:
            return Found(feasible, None, _LEAST, _LEAST, "minimum cut over the new faults", self.move_seconds)
        return Found(True, node.field, node.value, bound, node.method, self.move_seconds)


def search(problem: Problem, old: Int32, *, node_limit: int = NODE_LIMIT) -> Found:
    """The best field by moved cores, vertical reach, skip reach and skew, in this order.

    `old` is the field in use: ranges and reaches hold, faults and dead links may be broken. At v = 0 all its rows are
    one, and so are those of the answer.
    """
    if problem.v == 0 and problem.height > 1:
        row = _Search(problem.collapsed(), old[:1], problem).run(node_limit)

        def times(key: Key) -> Key:
            return key[0] * problem.height, key[1], key[2], key[3] * problem.height

        field = None if row.field is None else np.repeat(row.field, problem.height, axis=0)
        return Found(row.feasible, field, times(row.value), times(row.bound), row.method, row.move_seconds)
    return _Search(problem, old).run(node_limit)
