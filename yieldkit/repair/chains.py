"""Path cover of the faults by an assignment (OR-tools): a lower bound of the total skew, and where its curves run.

Between two displacements runs a curve: the sites that the rows skip. A curve costs 1 in each row where it is inside
the fabric and 1 for each column that it moves from one row to the next; it may end at the fabric's left or right side.
Every bad site inside is on a curve. Dropping reach, order and crossing of the curves leaves chains of bad sites, rows
rising, whose cheapest cover is an assignment of each site to the next one on its curve, or to an end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yieldkit.repair.kernels import BAD, DIRECT
from yieldkit.repair.problem import Problem
from yieldkit.repair.skewcut import Groups

__all__ = ["Cover", "bad_sites", "cover", "draw"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cover:
    """Chains of indices into `sites` (int64[n, 2], row and position) and their cost.

    `start` and `end` say where a chain enters and leaves: "top"/"bottom" straight on, "left" or "right".
    """

    sites: Int64
    chains: tuple[tuple[int, ...], ...]
    start: tuple[str, ...]
    end: tuple[str, ...]
    cost: int


def bad_sites(problem: Problem, first: int, last: int, *, links: bool = False) -> Int64:
    """int64[n, 2] in (row, position), sorted: bad sites at positions first..last - 1.

    With `links` also the west end of each dead direct link, where a curve has to run too.
    """
    kinds = BAD | DIRECT if links else BAD
    rows = np.flatnonzero(problem.mark_row >= 0)
    at, pos = np.nonzero(problem.marks[problem.mark_row[rows], first:last] & kinds)
    return np.stack([rows[at], pos + first], axis=1).astype(np.int64)


def cover(problem: Problem, sites: Int64, *, left_shift: int, right_shift: int, toll: int = 0) -> Cover:
    """Cheapest cover when a chain that leaves left is charged for level `left_shift` + 1, right for `right_shift` + 1.

    With left_shift = spares - 1 and right_shift = 0 and the sites that no displacement can leave outside, the cost is a
    lower bound of the total skew at any reach. A `toll` on each chain makes fewer and longer ones (then the cost, which
    leaves the tolls out, is no bound).
    """
    from ortools.graph.python import linear_sum_assignment

    n = len(sites)
    if n == 0:
        return Cover(sites, (), (), (), 0)
    row, pos = sites[:, 0], sites[:, 1]
    left = np.maximum(pos - left_shift, 0)
    right = np.maximum(problem.width - pos + right_shift, 0)
    top, bottom = row, problem.height - 1 - row
    enter, leave = np.minimum(np.minimum(left, right), top), np.minimum(np.minimum(left, right), bottom)
    up = top == enter
    i, j = np.nonzero(row[:, None] < row[None, :])
    link = row[j] - row[i] - 1 + np.abs(pos[j] - pos[i])
    keep = link < leave[i] + enter[j] + toll
    i, j, link = i[keep], j[keep], link[keep]
    every = np.arange(n)
    solver = linear_sum_assignment.SimpleLinearSumAssignment()
    # Left nodes: site i's way out, then n + j the start of a chain at j; right nodes: j's way in, n + i the end at i.
    tails = np.concatenate([i, every, n + every, n + j])
    heads = np.concatenate([j, n + every, every, n + i])
    costs = np.concatenate([link, leave, enter + toll, np.zeros(len(i), np.int64)])
    solver.add_arcs_with_cost(tails.astype(np.int32), heads.astype(np.int32), costs)
    if solver.solve() != solver.OPTIMAL:
        raise ArithmeticError("the assignment of a path cover always has a solution")
    follower = np.array([solver.right_mate(k) for k in range(n)])
    heads_of = np.flatnonzero(~np.isin(every, follower[follower < n]))
    chains, starts, ends = [], [], []
    for first in heads_of.tolist():
        chain = [first]
        while follower[chain[-1]] < n:
            chain.append(int(follower[chain[-1]]))
        a, z = chain[0], chain[-1]
        chains.append(tuple(chain))
        starts.append("top" if up[a] else "left" if left[a] == enter[a] else "right")
        ends.append("bottom" if bottom[z] == leave[z] else "left" if left[z] == leave[z] else "right")
    return Cover(sites, tuple(chains), tuple(starts), tuple(ends), int(solver.optimal_cost()) + n - toll * len(chains))


def draw(problem: Problem, groups: Groups, plan: Cover, base: int | None) -> Int64 | None:
    """Levels x[group, s - 1] of the curves drawn as staircases; `base` is the least displacement (None: the largest).

    None when they need more displacements than there are. Crossing curves change places at the crossing, which costs
    nothing. The result need not satisfy reach and neighbouring curves; it is where a band is laid.
    """
    rows = groups.start
    n_rows = len(rows)
    parked_left = np.zeros(n_rows, np.int64)
    active = np.full((n_rows, max(len(plan.chains), 1)), np.iinfo(np.int64).max)
    for k, chain in enumerate(plan.chains):
        stops = plan.sites[list(chain)]
        seat = np.searchsorted(stops[:, 0], rows, side="right") - 1
        position = stops[np.maximum(seat, 0), 1]
        before, after = rows < stops[0, 0], rows > stops[-1, 0]
        inside = np.ones(n_rows, np.bool_)
        if plan.start[k] != "top":
            inside &= ~before
            parked_left += before & (plan.start[k] == "left")
        if plan.end[k] != "bottom":
            inside &= ~after
            parked_left += after & (plan.end[k] == "left")
        active[inside, k] = position[inside]
    active.sort(axis=1)
    n_active = (active < np.iinfo(np.int64).max).sum(axis=1)
    parked_left -= parked_left.min()
    needed = int((parked_left + n_active).max())
    if needed > problem.spares:
        return None
    first = problem.spares - needed if base is None else min(base, problem.spares - needed)
    x = np.full((n_rows, problem.spares), problem.width, np.int64)
    for r in range(n_rows):
        done = first + int(parked_left[r])
        x[r, :done] = 0
        level = done + 1 + np.arange(n_active[r])
        x[r, level - 1] = np.clip(active[r, : n_active[r]] - level + 1, 0, problem.width)
    return np.maximum.accumulate(x, axis=1)
