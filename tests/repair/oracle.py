"""Plain truth for tiny fabrics: all displacement fields by enumeration, and the same problem for HiGHS."""

from __future__ import annotations

import itertools

import numpy as np

from yieldkit.faultmap import FaultMap
from yieldkit.repair import RowShift


def unusable(faults, avoid=()):
    sites = {tuple(x) for x in np.concatenate([faults.dead_cores, faults.dead_routers, faults.absent]).tolist()}
    return sites | {tuple(x) for x in avoid}


def fields(faults, rules, avoid=()):
    """Every valid field as a tuple of physical-column rows, row by row, by brute force."""
    height, width = rules.logical_shape
    base = (faults.shape[1] - width - rules.spares) // 2
    bad = unusable(faults, avoid)
    dead = {tuple(x) for x in faults.dead_links.tolist()}
    rows = []
    for r in range(height):
        physical = r + rules.first_row
        start, stop = faults.spans[physical].tolist()
        good = [c for c in range(max(start, base), min(stop, base + width + rules.spares)) if (physical, c) not in bad]
        rows.append(
            [
                p
                for p in itertools.combinations(good, width)
                if all(
                    b - a <= rules.skip_reach and (physical, a, 0, b - a) not in dead for a, b in itertools.pairwise(p)
                )
            ]
        )

    def fits(r, upper, lower):
        return all(
            abs(b - a) <= rules.vertical_reach and (r + rules.first_row, a, 1, b - a) not in dead
            for a, b in zip(upper, lower, strict=True)
        )

    return rows, fits


def row_cost(p):
    return p[-1] - p[0] - len(p) + 1


def best_skew(faults, rules, avoid=()):
    """(least skew) over all valid fields by dynamic programming over whole rows; None when there is no field."""
    rows, fits = fields(faults, rules, avoid)
    cost = {p: row_cost(p) for p in rows[0]}
    for r in range(1, len(rows)):
        below = {}
        for q in rows[r]:
            options = [cost[p] + sum(abs(a - b) for a, b in zip(p, q, strict=True)) for p in cost if fits(r - 1, p, q)]
            if options:
                below[q] = min(options) + row_cost(q)
        cost = below
    return min(cost.values(), default=None)


def lexicographic(faults, rules, avoid=()):
    """(vertical reach, skip reach, skew) of the best plan, or None, by asking `best_skew` at each pair of reaches."""
    for v in range(rules.vertical_reach + 1):
        for h in range(1, rules.skip_reach + 1):
            tight = RowShift(rules.spares, h, v, rules.logical_shape, rules.first_row)
            value = best_skew(faults, tight, avoid)
            if value is not None:
                return v, h, value
    return None


def random_case(rng, *, links=True, spans=True, max_rows=4, max_cols=5):
    """A tiny fault map and rules; every kind of fault turns up."""
    height, width = int(rng.integers(1, max_rows + 1)), int(rng.integers(2, max_cols + 1))
    spares = int(rng.integers(0, 4))
    h, v = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    extra_rows = int(rng.integers(0, 2))
    rows, cols = height + extra_rows, width + spares + int(rng.integers(0, 2))
    span = np.tile([0, cols], (rows, 1))
    if spans and rng.random() < 0.4:
        span[0] += [int(rng.integers(0, 2)), -int(rng.integers(0, 2))]
    inside = [(r, c) for r in range(rows) for c in range(*span[r].tolist())]
    order = rng.permutation(len(inside))
    n_dead, n_router, n_absent = (int(rng.integers(0, n)) for n in (5, 2, 2))
    picked = [inside[i] for i in order]
    absent, picked = picked[:n_absent], picked[n_absent:]
    dead, routers = picked[:n_dead], picked[n_dead : n_dead + n_router]
    present = set(inside) - set(absent)
    dead_links = set()
    for _ in range(int(rng.integers(0, 5)) if links and picked else 0):
        r, c = picked[int(rng.integers(len(picked)))]
        dr, dc = (0, int(rng.integers(1, 4))) if rng.random() < 0.5 else (1, int(rng.integers(-2, 3)))
        if (r + dr, c + dc) in present:
            dead_links.add((r, c, dr, dc))
    faults = FaultMap(
        (rows, cols),
        dead_cores=dead,
        dead_routers=routers,
        absent=absent,
        dead_links=sorted(dead_links),
        spans=span,
    )
    return faults, RowShift(spares, h, v, (height, width), int(rng.integers(0, extra_rows + 1)))


def best_moves(faults, rules, old):
    """(moved cores, vertical reach, skip reach, skew) of the best field after `old`, physical columns; or None."""
    best = None
    for v in range(rules.vertical_reach + 1):
        for h in range(1, rules.skip_reach + 1):
            tight = RowShift(rules.spares, h, v, rules.logical_shape, rules.first_row)
            rows, fits = fields(faults, tight)

            def own(r, p):
                return sum(a != b for a, b in zip(p, old[r], strict=True)), row_cost(p)

            cost = {p: own(0, p) for p in rows[0]}
            for r in range(1, len(rows)):
                below = {}
                for q in rows[r]:
                    options = [
                        (moved, skew + sum(abs(a - b) for a, b in zip(p, q, strict=True)))
                        for p, (moved, skew) in cost.items()
                        if fits(r - 1, p, q)
                    ]
                    if options:
                        (moved, skew), (more, bent) = min(options), own(r, q)
                        below[q] = (moved + more, skew + bent)
                cost = below
            if cost:
                moved, skew = min(cost.values())
                best = min(best or (moved, v, h, skew), (moved, v, h, skew))
    return best


def highs_skew(faults, rules, *, old=None):
    """Least skew by HiGHS (scipy.optimize.milp), a binary for each core and displacement; None if infeasible.

    With `old`, displacements int[H, W], the fewest moved cores in place of the skew.
    """
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import lil_array

    height, width = rules.logical_shape
    base = (faults.shape[1] - width - rules.spares) // 2
    bad = unusable(faults)
    n_d = rules.spares + 1
    n_x = height * width * n_d
    n = n_x + height * width

    def x(r, c, d):
        return (r * width + c) * n_d + d

    rows, low, high = [], [], []

    def add(terms, lo, hi):
        rows.append(terms)
        low.append(lo)
        high.append(hi)

    cost = np.zeros(n)
    upper = np.ones(n)
    upper[n_x:] = rules.spares
    cost[n_x:] = 1
    dead = {tuple(k) for k in faults.dead_links.tolist()}
    for r in range(height):
        start, stop = faults.spans[r + rules.first_row].tolist()
        for c in range(width):
            add([(x(r, c, d), 1) for d in range(n_d)], 1, 1)
            for d in range(n_d):
                site = (r + rules.first_row, base + c + d)
                if not start <= site[1] < stop or site in bad:
                    upper[x(r, c, d)] = 0
            value = [(x(r, c, d), d) for d in range(n_d)]
            if c + 1 < width:
                diff = [(x(r, c + 1, d), d) for d in range(n_d)] + [(i, -a) for i, a in value]
                add(diff, 0, rules.skip_reach - 1)
                for i, a in diff:
                    cost[i] += a
                for d in range(n_d):
                    for e in range(d, n_d):
                        if (r + rules.first_row, base + c + d, 0, 1 + e - d) in dead:
                            add([(x(r, c, d), 1), (x(r, c + 1, e), 1)], 0, 1)
            if r + 1 < height:
                diff = [(x(r + 1, c, d), d) for d in range(n_d)] + [(i, -a) for i, a in value]
                add(diff, -rules.vertical_reach, rules.vertical_reach)
                moved = n_x + r * width + c
                add([*diff, (moved, -1)], -np.inf, 0)
                add([*diff, (moved, 1)], 0, np.inf)
                for d in range(n_d):
                    for e in range(n_d):
                        if (r + rules.first_row, base + c + d, 1, e - d) in dead:
                            add([(x(r, c, d), 1), (x(r + 1, c, e), 1)], 0, 1)
    if old is not None:
        cost[:] = 0
        cost[[x(r, c, int(old[r, c])) for r in range(height) for c in range(width)]] = -1
    matrix = lil_array((len(rows), n))
    for i, terms in enumerate(rows):
        for j, a in terms:
            matrix[i, j] += a
    from scipy.optimize import Bounds

    answer = milp(
        cost,
        constraints=LinearConstraint(matrix.tocsr(), low, high),
        bounds=Bounds(0, upper),
        integrality=np.ones(n),
    )
    if not answer.success:
        return None
    return round(answer.fun) + (0 if old is None else height * width)
