"""Plain truth for line spares: every subset of rows and columns of tiny blocks, and the same problem for HiGHS."""

from __future__ import annotations

import itertools

import numpy as np

from yieldkit.faultmap import FaultMap


def region(faults, rules):
    """(rows, columns) of the block as two ranges, written down a second time."""
    out = []
    for logical, spares, sites, first in zip(
        rules.logical_shape, (rules.rows, rules.cols), faults.shape, (rules.first_row, rules.first_col), strict=True
    ):
        start = max((sites - logical - spares) // 2, 0) if first is None else first
        out.append(range(start, min(start + logical + spares, sites)))
    return out


def clauses(faults, rows, cols, avoid=()):
    """Sets of lines, ("r", i) or ("c", j), one of each of which has to be bypassed."""
    sites = [*faults.dead_cores.tolist(), *faults.dead_routers.tolist(), *faults.absent.tolist(), *map(list, avoid)]
    for r in rows:
        start, stop = faults.spans[r].tolist()
        sites += [[r, c] for c in cols if not start <= c < stop]
    found = {frozenset({("r", r), ("c", c)}) for r, c in sites if r in rows and c in cols}
    for r, c, dr, dc in faults.dead_links.tolist():
        if abs(dr) + abs(dc) == 1 and r in rows and r + dr in rows and c in cols and c + dc in cols:
            found.add(frozenset({("r", r), ("r", r + dr), ("c", c), ("c", c + dc)}))
    return found


def curve(faults, rows, cols, avoid=()):
    """Fewest columns for every number of rows, by trying every set of rows and every set of columns."""
    need = clauses(faults, rows, cols, avoid)
    best = [len(cols)] * (len(rows) + 1)
    for n in range(len(rows) + 1):
        for taken in itertools.combinations(rows, n):
            gone = {("r", r) for r in taken}
            left = [clause for clause in need if not clause & gone]
            for m in range(best[n]):
                if any(
                    all(clause & {("c", c) for c in across} for clause in left)
                    for across in itertools.combinations(cols, m)
                ):
                    best[n] = m
                    break
    return list(itertools.accumulate(best, min))


def pareto(values):
    """Minimal pairs of a curve."""
    return [(r, c) for r, c in enumerate(values) if r == 0 or c < values[r - 1]]


def random_lines(rng, *, most=6, links=True, spans=True):
    """A tiny fault map with every kind of fault."""
    rows, cols = int(rng.integers(1, most + 1)), int(rng.integers(1, most + 1))
    span = np.tile([0, cols], (rows, 1))
    if spans and cols > 2 and rng.random() < 0.3:
        span[int(rng.integers(rows))] += [int(rng.integers(0, 2)), -int(rng.integers(0, 2))]
    inside = [(r, c) for r in range(rows) for c in range(*span[r].tolist())]
    picked = [inside[i] for i in rng.permutation(len(inside))]
    absent = picked[: int(rng.integers(0, 2))]
    picked = picked[len(absent) :]
    n_dead = min(int(rng.integers(0, 9)), len(picked))
    n_router = int(rng.integers(0, 2))
    present = set(picked)
    dead_links = set()
    for _ in range(int(rng.integers(0, 4)) if links and picked else 0):
        r, c = picked[int(rng.integers(len(picked)))]
        dr, dc = [(0, 1), (1, 0), (0, 2), (1, 1)][int(rng.choice(4, p=[0.45, 0.45, 0.05, 0.05]))]
        if (r + dr, c + dc) in present:
            dead_links.add((r, c, dr, dc))
    return FaultMap(
        (rows, cols),
        dead_cores=picked[:n_dead],
        dead_routers=picked[n_dead : n_dead + n_router],
        dead_links=sorted(dead_links),
        absent=absent,
        spans=span,
    )


def highs_fewest(faults, spare_rows, spare_cols):
    """Fewest lines within both budgets on the whole grid by HiGHS (scipy.optimize.milp); None if there is no cover."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    rows, cols = faults.shape
    need = [sorted(c) for c in clauses(faults, range(rows), range(cols))]
    names = sorted({line for clause in need for line in clause})
    if not names:
        return 0
    place = {line: i for i, line in enumerate(names)}
    entries = [(i, place[line]) for i, clause in enumerate(need) for line in clause]
    is_row = np.array([kind == "r" for kind, _ in names], float)
    i, j = np.array(entries).T
    cover = coo_array((np.ones(len(i)), (i, j)), shape=(len(need), len(names))).tocsr()
    answer = milp(
        np.ones(len(names)),
        constraints=[
            LinearConstraint(cover, 1, np.inf),
            LinearConstraint(is_row[None, :], 0, spare_rows),
            LinearConstraint(1 - is_row[None, :], 0, spare_cols),
        ],
        bounds=Bounds(0, 1),
        integrality=np.ones(len(names)),
    )
    return round(answer.fun) if answer.success else None


def cp_sat_fewest(faults, spare_rows, spare_cols):
    """The same by one plain CP-SAT model with an LP: (fewest lines or None, status name)."""
    from ortools.sat.python import cp_model

    rows, cols = faults.shape
    need = clauses(faults, range(rows), range(cols))
    model = cp_model.CpModel()
    take = {line: model.new_bool_var("") for line in sorted({line for clause in need for line in clause})}
    for clause in sorted(map(sorted, need)):
        model.add_bool_or([take[line] for line in clause])
    model.add(sum(x for (kind, _), x in take.items() if kind == "r") <= spare_rows)
    model.add(sum(x for (kind, _), x in take.items() if kind == "c") <= spare_cols)
    model.minimize(sum(take.values()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = 120
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return (round(solver.objective_value) if found else None), solver.status_name(status)
