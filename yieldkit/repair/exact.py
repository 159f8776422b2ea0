"""The whole problem as one CP-SAT model, every dead link as it is: for small fabrics and as a peer."""

from __future__ import annotations

import numpy as np

from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP
from yieldkit.repair.problem import Int32, Problem

__all__ = ["solve_exactly"]


def solve_exactly(
    problem: Problem, *, hint: Int32 | None = None, deterministic_limit: float = 20.0
) -> tuple[Int32 | None, int, str]:
    """Least total skew by CP-SAT: (field int32[H, W] or None, proven lower bound, status name).

    One worker with linearization_level=2, a fixed seed and a limit in deterministic time: the same on every machine.
    (With few workers and the default level there is no LP worker, and the bound hardly moves.)
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    H, W, S = problem.height, problem.width, problem.spares
    true = model.new_constant(1)
    false = model.new_constant(0)
    b = [[[model.new_bool_var("") for _ in range(S)] for _ in range(W)] for _ in range(H)]

    def at_least(r: int, c: int, s: int):  # type: ignore[no-untyped-def]
        """Literal of d[r, c] >= s."""
        return true if s <= 0 else false if s > S else b[r][c][s - 1]

    def imply(x, y) -> None:  # type: ignore[no-untyped-def]
        if x is not false and y is not true:
            model.add_implication(x, y)

    def forbid_pair(ra: int, ca: int, sa: int, rb: int, cb: int, sb: int) -> None:
        """Not both d[ra, ca] == sa and d[rb, cb] == sb."""
        if 0 <= ca < W and 0 <= cb < W and 0 <= sa <= S and 0 <= sb <= S:
            model.add_bool_or(
                at_least(ra, ca, sa).negated(),
                at_least(ra, ca, sa + 1),
                at_least(rb, cb, sb).negated(),
                at_least(rb, cb, sb + 1),
            )

    cost = []
    for r in range(H):
        for c in range(W):
            imply(true, at_least(r, c, int(problem.low[r])))
            imply(at_least(r, c, int(problem.high[r]) + 1), false)
            for s in range(1, S + 1):
                imply(at_least(r, c, s + 1), at_least(r, c, s))
                if c + 1 < W:
                    imply(at_least(r, c, s), at_least(r, c + 1, s))
                    imply(at_least(r, c + 1, s + problem.h - 1), at_least(r, c, s))
                if r + 1 < H:
                    imply(at_least(r, c, s + problem.v), at_least(r + 1, c, s))
                    imply(at_least(r + 1, c, s + problem.v), at_least(r, c, s))
                    moved = model.new_bool_var("")
                    model.add(moved >= b[r][c][s - 1] - b[r + 1][c][s - 1])
                    model.add(moved >= b[r + 1][c][s - 1] - b[r][c][s - 1])
                    cost.append(moved)
            if c + 1 == W:
                cost.extend(b[r][c])
            if c == 0:
                cost.extend(-x for x in b[r][c])
        m = int(problem.mark_row[r])
        for p in range(W + S) if m >= 0 else ():
            flags = int(problem.marks[m, p])
            for s in range(S + 1):
                c = p - s
                if not 0 <= c < W:
                    continue
                if flags & BAD:
                    imply(at_least(r, c, s), at_least(r, c, s + 1))
                if flags & DIRECT:
                    forbid_pair(r, c, s, r, c + 1, s)
                if flags & SKIP:
                    forbid_pair(r, c, s, r, c + 1, s + problem.h - 1)
                if flags & LEAN_RIGHT and r + 1 < H:
                    forbid_pair(r, c, s, r + 1, c, s + problem.v)
                if flags & LEAN_LEFT and r + 1 < H:
                    forbid_pair(r, c, s, r + 1, c, s - problem.v)
    for ra, pa, rb, pb in problem.clauses:
        for s in range(S + 1):
            c = pa - s
            other = c if ra != rb else c + 1
            forbid_pair(ra, c, s, rb, other, pb - other)
    model.minimize(sum(cost))
    if hint is not None:
        for r in range(H):
            for c in range(W):
                for s in range(1, S + 1):
                    model.add_hint(b[r][c][s - 1], bool(hint[r, c] >= s))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = deterministic_limit
    status = solver.solve(model)
    name = solver.status_name(status)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, 0, name
    field = np.array([[sum(solver.value(x) for x in b[r][c]) for c in range(W)] for r in range(H)], np.int32)
    return field, int(np.ceil(solver.best_objective_bound - 1e-6)), name
