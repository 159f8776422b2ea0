"""Fewest moves when dead links that are no lattice constraints are in the way, without branching on each of them.

A field that satisfies such a link differs from a given one at one of the link's two ends, upwards or downwards: one of
four bounds holds. Each bound forces its closure (see `incremental_moves`), or, where the field in use meets it, forbids
the closures that would break it. CP-SAT chooses bounds at the least number of moved cores; the union of their closures
satisfies every lattice constraint, and dead links that it still breaks add their four bounds. Every field that holds
satisfies all of these, so each optimum on the way is a lower bound, and the first that breaks nothing is the minimum.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from yieldkit.repair.incremental_kernels import excludes
from yieldkit.repair.incremental_moves import Closure, Moves, Workspace, broken_constraints, classes
from yieldkit.repair.problem import Int32, Problem, Unit

__all__ = ["Chosen", "choose_bounds"]

_ROUNDS = 60
_DETERMINISTIC_LIMIT = 2.0


@dataclass(frozen=True, eq=False)
class Chosen:
    """`moves` of the minimum, or None: then there is no field if `impossible`, else only `bound` is known."""

    moves: Moves | None
    bound: int
    impossible: bool = False


@dataclass(eq=False)
class _Bounds:
    """Bounds seen so far, what each forces and which pairs of them cannot both hold."""

    problem: Problem
    work: Workspace
    index: dict[Unit, int] = field(default_factory=dict)
    closures: list[Closure | None] = field(default_factory=list)
    barred: list[int] = field(default_factory=list)
    clashes: list[tuple[int, int]] = field(default_factory=list)
    choices: list[list[int]] = field(default_factory=list)

    def add_choice(self, units: list[Unit]) -> None:
        """One of these bounds holds."""
        self.choices.append([self.number(unit) for unit in units])

    def number(self, unit: Unit) -> int:
        if unit in self.index:
            return self.index[unit]
        k = self.index[unit] = len(self.index)
        row, col, value, up = unit
        old = int(self.work.old[row, col])
        if not 0 <= value <= self.problem.spares:
            self.closures.append(None)
            self.barred.append(k)
        elif old >= value if up else old <= value:
            self.closures.append(None)
        else:
            closure = self.work.close(self.problem, (row, col, value), up=up, units=())
            self.closures.append(closure)
            if closure is None:
                self.barred.append(k)
        if k not in self.barred[-1:]:
            self.clashes.extend((other, k) for other in self._against(unit, k))
        return k

    def _against(self, unit: Unit, k: int) -> list[int]:
        """Earlier bounds of the other direction that cannot hold together with this one."""
        found = []
        for other, j in self.index.items():
            if j == k or other[3] == unit[3] or j in self.barred:
                continue
            a, b = self.closures[k], self.closures[j]
            if a is None and b is None:
                clash = False
            elif a is None or b is None:
                fixed, moving = (unit, b) if a is None else (other, a)
                clash = moving is not None and self._breaks(moving, fixed)
            else:
                clash = self._exclude(a, b) if unit[3] else self._exclude(b, a)
            if clash:
                found.append(j)
        return found

    def _breaks(self, closure: Closure, fixed: Unit) -> bool:
        row, col, value, at_least = fixed
        at = np.flatnonzero(closure.cells == row * self.problem.width + col)
        return bool(len(at)) and bool(closure.values[at[0]] < value if at_least else closure.values[at[0]] > value)

    def _exclude(self, up: Closure, down: Closure) -> bool:
        width = self.problem.width
        if up.cells.min() // width > down.cells.max() // width + 1:
            return False
        if down.cells.min() // width > up.cells.max() // width + 1:
            return False
        work, problem = self.work, self.problem
        flat = work.d.reshape(-1)
        flat[down.cells] = down.values
        answer = excludes(work.d, work.old, up.cells, up.values, problem.mark_row, problem.marks, problem.h, problem.v)
        flat[down.cells] = work.old.reshape(-1)[down.cells]
        return bool(answer)


def choose_bounds(problem: Problem, work: Workspace, *, rounds: int = _ROUNDS) -> Chosen:
    """The fewest moved cores with the clauses; `work.old` must satisfy ranges and reaches."""
    bounds = _Bounds(problem, work)
    for up, down in broken_constraints(problem, work.old):
        bounds.add_choice([(*site, way) for site, way in ((up, True), (down, False)) if site is not None])
    least = 0
    field_now: Int32 = work.old
    moves = Moves(0, ([], []))
    for round_ in range(rounds):
        broken = problem.broken_clauses(field_now)
        if not broken and round_:
            return Chosen(moves, moves.moved)
        for (ra, _, rb, _), ca, cb in broken:
            a, b = int(field_now[ra, ca]), int(field_now[rb, cb])
            bounds.add_choice(
                [(ra, ca, a + 1, True), (rb, cb, b + 1, True), (ra, ca, a - 1, False), (rb, cb, b - 1, False)]
            )
        status, chosen, value = _solve(bounds)
        if status == "INFEASIBLE":
            return Chosen(None, least, impossible=True)
        if status != "OPTIMAL":
            return Chosen(None, max(least, value))
        least = max(least, value)
        ways = {k: unit[3] for unit, k in bounds.index.items()}
        ups = [x for k, x in enumerate(bounds.closures) if k in chosen and ways[k] and x is not None]
        downs = [x for k, x in enumerate(bounds.closures) if k in chosen and not ways[k] and x is not None]
        moves = Moves(value, (ups, downs), ups, downs, ups, downs)
        field_now = moves.apply(work.old)
    return Chosen(None, least)


def _solve(bounds: _Bounds) -> tuple[str, set[int], int]:
    """(status, bounds that hold, moved cores or a lower bound of them)."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    holds = [model.new_bool_var("") for _ in bounds.index]
    for k in bounds.barred:
        model.add(holds[k] == 0)
    for choice in bounds.choices:
        model.add_bool_or([holds[k] for k in choice])
    for a, b in bounds.clashes:
        model.add_bool_or([holds[a].negated(), holds[b].negated()])
    cost = []
    n_cells = bounds.work.old.size
    for way in (True, False):
        own = [x if unit[3] == way else None for unit, x in zip(bounds.index, bounds.closures, strict=True)]
        for members, size in classes(own, n_cells):
            paid = model.new_bool_var("")
            for k in members:
                model.add_implication(holds[k], paid)
            cost.append(size * paid)
    model.minimize(sum(cost))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = _DETERMINISTIC_LIMIT
    status = solver.solve(model)
    name = solver.status_name(status)
    if status != cp_model.OPTIMAL:
        bound = 0 if name == "INFEASIBLE" else max(0, int(np.ceil(solver.best_objective_bound - 1e-6)))
        return name, set(), bound
    chosen = {k for k, x in enumerate(holds) if solver.value(x)}
    return name, chosen, round(solver.objective_value)
