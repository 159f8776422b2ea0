"""Fewest columns for every number of rows: exact on each part of the clauses, then added up over the parts.

A `Curve` at r is the fewest columns that, with at most r rows, cover everything. Parts with few lines on one side are
enumerated, trees are solved by dynamic programming; for the rest the convex hull comes from minimum cuts (it is also
what the linear program gives), chains of cheapest covers fill it in, and CP-SAT settles what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import numpy as np
import numpy.typing as npt

from yieldkit.repair.linecover import Limit, cheapest_cover, covers_between, fewest_cols
from yieldkit.repair.lines import Part

__all__ = ["Curve", "add_curves", "curve_of", "easy_curve", "hull_bound", "hull_of", "split_point"]

Int64 = npt.NDArray[np.int64]

_ENUMERATED = 10
"""Lines on the shorter side of a part whose every subset is tried."""


@dataclass(frozen=True, eq=False)
class Curve:
    """int64[k + 1] each: `high[r]` columns are enough with r rows, `low[r]` are needed; equal where proven.

    From r = k on more rows are of no more use; both never rise.
    """

    low: Int64
    high: Int64

    @classmethod
    def exact(cls, values: Int64) -> Curve:
        """A proven one."""
        return cls(values, values)

    @property
    def proven(self) -> bool:
        """Whether every point is."""
        return bool((self.low == self.high).all())

    def cut(self, most_rows: int | None) -> Curve:
        """Without the points beyond `most_rows`."""
        if most_rows is None or most_rows + 1 >= len(self.low):
            return self
        return Curve(self.low[: most_rows + 1], self.high[: most_rows + 1])


def easy_curve(part: Part) -> Curve | None:
    """The curve of a part that is small or a tree; None for the others."""
    a, b = len(part.rows), len(part.cols)
    if part.plain and a == 1:
        return Curve.exact(np.array([b, 0], np.int64))
    if part.plain and b == 1:
        return Curve.exact(np.repeat([1, 0], [a, 1]).astype(np.int64))
    if a <= _ENUMERATED and not len(part.along):
        return Curve.exact(_enumerated(a, b, part.pairs, part.down))
    if b <= _ENUMERATED and not len(part.down):
        by_col = _enumerated(b, a, part.pairs[:, ::-1], part.along[:, [1, 2, 0]])
        return Curve.exact(_turned(by_col, a))
    if part.plain and len(part.pairs) == a + b - 1:
        return Curve.exact(_tree(part))
    return None


def _enumerated(a: int, b: int, pairs: Int64, triples: Int64) -> Int64:
    """Fewest of the b lines for every number of the a lines; triples are (one of a, another of a, one of b)."""
    every = np.arange(1 << a, dtype=np.int64)
    needed = np.zeros((b, 1), np.int64)
    np.bitwise_or.at(needed[:, 0], pairs[:, 1], np.int64(1) << pairs[:, 0])
    count = np.zeros(1 << a, np.int64)
    special: dict[int, list[int]] = {}
    for x, y, z in triples.tolist():
        special.setdefault(z, []).append((1 << x) | (1 << y))
    for line in range(b):
        mask = int(needed[line, 0])
        missing = (every & mask) != mask
        for either in special.get(line, ()):
            missing |= (every & either) == 0
        count += missing
    size = np.zeros(1 << a, np.int64)
    for bit in range(a):
        size += (every >> bit) & 1
    best = np.full(a + 1, b, np.int64)
    np.minimum.at(best, size, count)
    return np.asarray(np.minimum.accumulate(best))


def _turned(by_col: Int64, most_rows: int) -> Int64:
    """The curve by rows of one by columns: the least c with by_col[c] <= r."""
    # by_col falls, so its reverse rises.
    place = np.searchsorted(by_col[::-1], np.arange(most_rows + 1), side="right")
    values = np.asarray(len(by_col) - place, np.int64)
    return values[: int(np.argmin(values)) + 1]


def _tree(part: Part) -> Int64:
    """Dynamic programming from the leaves: a line is taken, or all its neighbours are."""
    a, n = len(part.rows), len(part.rows) + len(part.cols)
    near: list[list[int]] = [[] for _ in range(n)]
    for r, c in part.pairs.tolist():
        near[r].append(a + c)
        near[a + c].append(r)
    parent = [-1] * n
    order = [0]
    for node in order:
        for other in near[node]:
            if other != parent[node]:
                parent[other] = node
                order.append(other)
    taken: list[Int64] = [np.array([n, 0], np.int64) if x < a else np.array([1], np.int64) for x in range(n)]
    spared: list[Int64] = [np.zeros(1, np.int64) for _ in range(n)]
    for node in reversed(order[1:]):
        above = parent[node]
        taken[above] = _plus(taken[above], _lower(taken[node], spared[node]))
        spared[above] = _plus(spared[above], taken[node])
    values = _lower(taken[0], spared[0])
    return np.asarray(np.minimum.accumulate(values)[: int(np.argmin(values)) + 1])


def _lower(x: Int64, y: Int64) -> Int64:
    """Pointwise minimum of two curves; a shorter one goes on at its last value."""
    n = max(len(x), len(y))
    return np.minimum(np.pad(x, (0, n - len(x)), "edge"), np.pad(y, (0, n - len(y)), "edge"))


def _plus(x: Int64, y: Int64, most_rows: int | None = None) -> Int64:
    """Minkowski sum: the least x[i] + y[r - i] for every r."""
    if len(x) < len(y):
        x, y = y, x
    n = len(x) + len(y) - 1
    if most_rows is not None:
        n = min(n, most_rows + 1)
    out = np.full(n, np.iinfo(np.int64).max, np.int64)
    for i, value in enumerate(y.tolist()):
        k = min(len(x), n - i)
        if k > 0:
            np.minimum(out[i : i + k], x[:k] + value, out=out[i : i + k])
    return out


def add_curves(curves: Sequence[Curve], most_rows: int | None = None) -> tuple[Curve, list[Int64]]:
    """The curve of all parts together, and the partial sums of `high` that `split_point` walks back through."""
    low = high = np.zeros(1, np.int64)
    partial = [high]
    for curve in curves:
        exact = curve.low is curve.high
        same = low is high and exact
        high = _plus(high, curve.high, most_rows)
        low = high if same else _plus(low, curve.low, most_rows)
        partial.append(high)
    return Curve(low, high), partial


def split_point(curves: Sequence[Curve], partial: Sequence[Int64], rows: int) -> list[tuple[int, int]]:
    """(rows, columns) of each part that add up to the sum's value at `rows`; the last parts get the fewest rows."""
    out: list[tuple[int, int]] = []
    left = min(rows, len(partial[-1]) - 1)
    for k in range(len(curves) - 1, -1, -1):
        values, before = curves[k].high, partial[k]
        for own in range(min(left, len(values) - 1) + 1):
            rest = left - own
            if rest < len(before) and before[rest] + values[own] == partial[k + 1][left]:
                out.append((own, int(values[own])))
                left = rest
                break
        else:
            raise ArithmeticError("a partial sum is not the sum of its parts")
    return out[::-1]


def hull_of(pairs: Int64, n_rows: int, n_cols: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Corners of the lower convex hull of all (rows, columns) that cover the pairs, and further covers on its edges."""
    start, end = (0, n_cols), (n_rows, 0)
    corners, between = [start, end], []
    edges = [(start, end)]
    while edges:
        p, q = edges.pop()
        if p[0] >= q[0] or p[1] <= q[1]:
            continue
        shared = gcd(p[1] - q[1], q[0] - p[0])
        row_price, col_price = (p[1] - q[1]) // shared, (q[0] - p[0]) // shared
        cut = cheapest_cover(pairs, n_rows, n_cols, row_price, col_price)
        chain = covers_between(pairs, cut, row_price, col_price)
        between += chain
        if cut.cost < row_price * p[0] + col_price * p[1]:
            # The chain runs from the most rows to the fewest: both of its ends may be corners.
            right, left = chain[0], chain[-1]
            corners += [left, right]
            edges += [(p, left), (right, q)]
    return sorted(set(corners)), between


def hull_bound(corners: Sequence[tuple[int, int]]) -> Int64:
    """Fewest columns by the linear program for r = 0, 1, ..., rounded up: exact integers, no floating point."""
    out = np.zeros(corners[-1][0] + 1, np.int64)
    out[corners[0][0]] = corners[0][1]
    for (r0, c0), (r1, c1) in pairwise(corners):
        r = np.arange(r0, r1 + 1)
        if r1 > r0:
            out[r0 : r1 + 1] = -((-(c0 * (r1 - r) + c1 * (r - r0))) // (r1 - r0))
    return out


def curve_of(part: Part, *, most_rows: int | None, most_cols: int | None, limit: Limit) -> Curve:
    """The curve of any part up to `most_rows`; points that need more than `most_cols` columns may stay unproven."""
    easy = easy_curve(part)
    if easy is not None:
        return easy.cut(most_rows)
    a, b = len(part.rows), len(part.cols)
    low, high = np.zeros(a + 1, np.int64), np.full(a + 1, b, np.int64)
    high[a] = 0
    if len(part.pairs):
        # Some lines may meet dead links only.
        some_rows, some_cols = np.unique(part.pairs[:, 0]), np.unique(part.pairs[:, 1])
        pairs = np.stack(
            [np.searchsorted(some_rows, part.pairs[:, 0]), np.searchsorted(some_cols, part.pairs[:, 1])], axis=1
        )
        corners, between = hull_of(pairs, len(some_rows), len(some_cols))
        bound = hull_bound(corners)
        low[: len(bound)] = bound
        if part.plain:
            for r, c in [*corners, *between]:
                high[r] = min(high[r], c)
    high = np.minimum.accumulate(high)
    last = a if most_rows is None else min(a, most_rows)
    for r in range(last + 1):
        is_open = low < high
        if most_cols is not None:
            is_open &= low <= most_cols
        if is_open[r] and limit.left > 0:
            # A hard point gets its share of what is left, so that every point ends with a cover and a bound.
            limit.each = limit.left / int(is_open[r : last + 1].sum())
            found, value = fewest_cols(part, r, int(low[r]), int(high[r]), limit)
            low[: r + 1] = np.maximum(low[: r + 1], found)
            high[r:] = np.minimum(high[r:], value)
    return Curve(low, high).cut(most_rows)
