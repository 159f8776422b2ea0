"""The decision of row shift in thresholds: its cost follows the faults, not the cores.

A row's displacements rise along it, so a row is told by its thresholds: T[s] is the first logical column whose
displacement is at least s. All constraints of `kernels.raise_to_fixpoint` become "T[y] is at most T[x] plus a
constant", and the least displacement field is the largest thresholds. A fault lowers thresholds of its row, and a row
touches another one only where its displacement exceeds that one's by more than the vertical reach; rows without faults
nearby are never looked at. What the wafer itself asks for (spans, holes) is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP
from yieldkit.repair.problem import Int32, Problem
from yieldkit.repair.propagate import NODE_LIMIT, decide, least_field
from yieldkit.repair.threshold_kernels import BROKEN_CLAUSE, REPAIRABLE, decide_thresholds, look_at_thresholds

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.rules import RowShift

__all__ = ["Decider"]

Unit = tuple[int, int, int]
"""(row, column, least displacement there)."""

Units = tuple[Unit, ...]
Node = Callable[[Units, Int32], tuple[int, list[Unit]]]

_NODES_BEFORE_A_LOOK = 12


@dataclass(frozen=True, eq=False)
class _Ground:
    """What spans, holes and rules ask for without a fault."""

    base: Int32
    high: Int32
    marks: Int32


class Decider:
    """Decides maps of one kind of wafer under one set of rules, exactly: the answers of `propagate.decide`.

    Args:
        rules: with their logical shape filled in (`RowShift.placed`).
        faults: any map of the kind: shape, spans and holes are read, its faults are not.
    """

    def __init__(self, rules: RowShift, faults: FaultMap) -> None:
        from yieldkit.faultmap import FaultMap

        self.rules = rules
        self.place = rules.placement(faults.shape)
        self._shape, self._spans, self._absent = faults.shape, faults.spans, faults.absent
        bare = FaultMap(faults.shape, spans=faults.spans, absent=faults.absent)
        problem = Problem.build(bare, rules, self.place)
        self.height, self.width = problem.height, problem.width
        self.possible = True
        field = None
        if rules.vertical_reach == 0:
            # All rows have one displacement: the usual way collapses them.
            self.possible = decide(problem).feasible is True
        else:
            field, _ = least_field(problem)
            self.possible = field is not None
        self._ground = None if field is None else _ground(problem, field)
        self._thresholds = np.empty((0, 0), np.int32) if self._ground is None else self._ground.base.copy()
        height = self.height
        self._touched = np.zeros(2 * height, np.int64)
        self._queue = np.zeros(height, np.int64)

    def decide(self, faults: FaultMap, *, branch: bool = True) -> bool | None:
        """Whether a map can be repaired; None where the branching limit is reached.

        Without `branch` None comes at once where dead links that are no lattice constraints would be branched on. The
        map's shape, spans and holes must be those of the kind; a map of another kind is decided the long way.
        """
        if faults.wafer_killed or not self.possible:
            return False
        if self._ground is None or not self._is_alike(faults):
            return self._the_long_way(faults)
        rows, positions, bits, clauses = self._marks(faults)
        if not len(rows) and not len(clauses):
            return True
        ground = self._ground
        all_rows = np.concatenate([ground.marks[:, 0], rows])
        order = np.argsort(all_rows, kind="stable")
        marks = np.empty((len(all_rows), 2), np.int32)
        marks[:, 0] = np.concatenate([ground.marks[:, 1], positions])[order]
        marks[:, 1] = np.concatenate([ground.marks[:, 2], bits])[order]
        first = np.searchsorted(all_rows[order], np.arange(self.height + 1)).astype(np.int64)
        struck = np.unique(rows)
        state = (self.width, self.rules.skip_reach, self.rules.vertical_reach, self._touched, self._queue)
        fixed = (self._thresholds, ground.base, ground.high, first, marks)
        quick = decide_thresholds(*fixed, clauses, struck, *state)
        if quick != BROKEN_CLAUSE:
            return bool(quick == REPAIRABLE)
        if not branch:
            return None

        def node(units: Units, clauses: Int32) -> tuple[int, list[Unit]]:
            """The answer under some units, and the two ends of the first broken link: one of them has to be raised."""
            above = np.array(units, np.int32).reshape(-1, 3)
            answer, broken, a, b = look_at_thresholds(*fixed, clauses, above, struck, *state)
            if answer != BROKEN_CLAUSE:
                return answer, []
            row, position, other, end = clauses[broken].tolist()
            return answer, [(row, a, position - a + 1), (other, b, end - b + 1)]

        return _branched(node, clauses)

    def _is_alike(self, faults: FaultMap) -> bool:
        if faults.shape != self._shape:
            return False
        same = faults.spans is self._spans or np.array_equal(faults.spans, self._spans)
        return same and (faults.absent is self._absent or np.array_equal(faults.absent, self._absent))

    def _the_long_way(self, faults: FaultMap) -> bool | None:
        return decide(Problem.build(faults, self.rules, self.place)).feasible

    def _marks(self, faults: FaultMap) -> tuple[Int32, Int32, Int32, Int32]:
        """(rows, positions, bits) of the faults that are lattice constraints, and clauses int32[k, 4]."""
        h, v, place = self.rules.skip_reach, self.rules.vertical_reach, self.place
        end = self.width + self.rules.spares
        sites = faults.dead_cores
        if len(faults.dead_routers):
            sites = np.concatenate([sites, faults.dead_routers])
        row, position = sites[:, 0] - place.first_row, sites[:, 1] - place.first_col
        inside = (row >= 0) & (row < self.height) & (position >= 0) & (position < end)
        row, position = row[inside], position[inside]
        bits = np.full(len(row), BAD, np.int32)
        clauses = np.empty((0, 4), np.int32)
        if len(faults.dead_links):
            links = faults.dead_links - np.array([place.first_row, place.first_col, 0, 0], np.int32)
            a, p, down, right = links.T
            inside = (a >= 0) & (a + down < self.height) & (p >= 0) & (p < end) & (p + right >= 0) & (p + right < end)
            along, across = inside & (down == 0) & (right <= h), inside & (down == 1) & (np.abs(right) <= v)
            flags = np.zeros(len(links), np.int32)
            flags[along & (right == 1)] |= DIRECT
            flags[along & (right == h)] |= SKIP
            flags[across & (right == v)] |= LEAN_RIGHT
            flags[across & (right == -v) & (v > 0)] |= LEAN_LEFT
            lattice, other = flags > 0, (along | across) & (flags == 0)
            row, position = np.concatenate([row, a[lattice]]), np.concatenate([position, p[lattice]])
            bits = np.concatenate([bits, flags[lattice]])
            clauses = np.column_stack([a, p, a + down, p + right])[other].astype(np.int32)
        return row, position, bits, clauses


def _branched(node: Node, clauses: Int32) -> bool | None:
    """The branching of `propagate.decide`, in its order.

    Where it takes long, broken links are looked at one by one first: a link of which neither end can be raised, all
    others left aside, settles it, and a link of which one end can not forces the other. Without this a hopeless link
    would be found out anew for every choice at the others.
    """
    forced: Units = ()
    stack: list[Units] = [()]
    nodes = 0
    while stack:
        units = stack.pop()
        nodes += 1
        if nodes == _NODES_BEFORE_A_LOOK:
            none = clauses[:0]
            for k in range(len(clauses)):
                _, ends = node(forced, clauses[k : k + 1])
                able = [end for end in ends if node((*forced, end), none)[0] == REPAIRABLE]
                if ends and not able:
                    return False
                if len(able) == 1:
                    forced = (*forced, able[0])
            units, stack = forced, []
        if nodes > NODE_LIMIT:
            return None
        answer, ends = node(units, clauses)
        if answer == REPAIRABLE:
            return True
        stack.extend((*units, end) for end in reversed(ends))
    return False


def _ground(problem: Problem, field: Int32) -> _Ground:
    """Thresholds of the least field without a fault, and the marks of the holes."""
    height, width = field.shape
    levels = int(problem.high.max(initial=0)) + 1
    base = np.full((height, levels + 1), width, np.int32)
    base[:, 0] = 0
    for s in range(1, levels + 1):
        reached = field >= s
        some = reached.any(axis=1)
        base[some, s] = reached[some].argmax(axis=1)
    marks: list[npt.NDArray[np.int32]] = []
    for r in np.flatnonzero(problem.mark_row >= 0).tolist():
        line = problem.marks[problem.mark_row[r]]
        at = np.flatnonzero(line)
        marks.append(np.column_stack([np.full(len(at), r), at, line[at]]).astype(np.int32))
    found = np.concatenate(marks) if marks else np.empty((0, 3), np.int32)
    return _Ground(base, problem.high, found)
