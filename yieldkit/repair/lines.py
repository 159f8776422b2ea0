"""Faults as clauses over lines: what must be covered, which lines have no choice, and what falls apart.

A fault is a clause, a set of lines of which one has to be bypassed. A bad site is (row, column); a dead link down is
(row, row below, column), one along the row is (row, column, column to the east).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.rules import Region

__all__ = ["Forced", "Lines", "Part", "build", "must_repair", "parts_of", "whole"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lines:
    """Clauses in physical lines.

    Attributes:
        sites: int64[n, 2], bad sites.
        down: int64[n, 2], (row, column) of the upper end of dead links between rows.
        along: int64[n, 2], (row, column) of the west end of dead links along rows.
        full_rows: int64[n], rows with more absent sites at the wafer's edge than columns can ever cover; these sites
            are not in `sites`.
    """

    sites: Int64
    down: Int64
    along: Int64
    full_rows: Int64

    def without(self, rows: Int64, cols: Int64) -> Lines:
        """The clauses that these lines do not satisfy."""
        sites, down, along = self.sites, self.down, self.along
        sites = sites[~np.isin(sites[:, 0], rows) & ~np.isin(sites[:, 1], cols)]
        below = np.isin(down[:, 0], rows) | np.isin(down[:, 0] + 1, rows)
        down = down[~below & ~np.isin(down[:, 1], cols)]
        east = np.isin(along[:, 1], cols) | np.isin(along[:, 1] + 1, cols)
        along = along[~east & ~np.isin(along[:, 0], rows)]
        return Lines(sites, down, along, np.setdiff1d(self.full_rows, rows))


def build(faults: FaultMap, region: Region, *, budget_cols: int, avoid: npt.NDArray[np.int32] | None = None) -> Lines:
    """The clauses of the block; `avoid` are further sites not to be used. Costs by the fault, never by the core."""
    span = faults.spans[region.first_row : region.first_row + region.rows].astype(np.int64)
    last = region.first_col + region.cols
    west = np.clip(span[:, 0] - region.first_col, 0, region.cols)
    east = np.clip(last - span[:, 1], 0, region.cols - west)
    full = np.flatnonzero(west + east > budget_cols)
    west[full] = east[full] = 0
    kinds = [faults.dead_cores, faults.dead_routers, faults.absent]
    if avoid is not None:
        kinds.append(avoid)
    sites = np.concatenate([np.asarray(k, np.int64).reshape(-1, 2) for k in kinds])
    keep = (sites[:, 0] >= region.first_row) & (sites[:, 0] < region.first_row + region.rows)
    keep &= (sites[:, 1] >= region.first_col) & (sites[:, 1] < last)
    rows = region.first_row + np.arange(region.rows)
    clipped = [
        np.stack([np.repeat(rows, west), region.first_col + _counting(west)], axis=1),
        np.stack([np.repeat(rows, east), last - 1 - _counting(east)], axis=1),
    ]
    full_rows = rows[full]
    sites = np.unique(np.concatenate([sites[keep], *clipped]), axis=0)
    links = np.asarray(faults.dead_links, np.int64).reshape(-1, 4)
    links = links[np.abs(links[:, 2:]).sum(axis=1) == 1]
    end = links[:, :2] + links[:, 2:]
    keep = (links[:, 0] >= region.first_row) & (end[:, 0] < region.first_row + region.rows)
    keep &= (links[:, 1] >= region.first_col) & (end[:, 1] < last)
    links, end = links[keep], end[keep]
    # A link with a bad end needs no clause of its own: what covers the end covers the link.
    key = sites[:, 0] * 2_000_003 + sites[:, 1]
    implied = np.isin(links[:, 0] * 2_000_003 + links[:, 1], key) | np.isin(end[:, 0] * 2_000_003 + end[:, 1], key)
    links = links[~implied]
    is_down = links[:, 2] == 1
    return Lines(sites, links[is_down, :2], links[~is_down, :2], full_rows)


def _counting(counts: Int64) -> Int64:
    """0, 1, ..., n - 1 for each n in `counts`, one after the other."""
    total = int(counts.sum())
    return np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)


@dataclass(frozen=True, eq=False)
class Forced:
    """Lines without a choice, the clauses and spares that are left, and the steps that led there."""

    rows: Int64
    cols: Int64
    left: Lines
    spare_rows: int
    spare_cols: int
    steps: tuple[dict[str, Any], ...]

    @property
    def fails(self) -> bool:
        """More lines have no choice than there are spares."""
        return min(self.spare_rows, self.spare_cols) < 0


def must_repair(lines: Lines, spare_rows: int, spare_cols: int) -> Forced:
    """A row with more bad sites than there are spare columns must go; so must such a column; until nothing changes."""
    spares = [spare_rows, spare_cols]
    gone: list[list[int]] = [[], []]
    steps: list[dict[str, Any]] = []

    def force(axis: int, index: int, n: int | None) -> None:
        facts: dict[str, Any] = {"line": ("row", "col")[axis], "index": index, "across": spares[1 - axis]}
        steps.append(facts if n is None else {**facts, "faults": n})
        gone[axis].append(index)
        spares[axis] -= 1

    for row in lines.full_rows.tolist():
        force(0, row, None)
    left = lines.without(lines.full_rows, np.empty(0, np.int64))
    changed = True
    while changed and min(spares) >= 0:
        changed = False
        for axis in (0, 1):
            index, count = np.unique(left.sites[:, axis], return_counts=True)
            over = count > spares[1 - axis]
            for line, n in zip(index[over].tolist(), count[over].tolist(), strict=True):
                force(axis, line, n)
            if over.any():
                nothing = np.empty(0, np.int64)
                left = left.without(*((index[over], nothing) if axis == 0 else (nothing, index[over])))
                changed = True
            if min(spares) < 0:
                break
    rows, cols = (np.array(sorted(x), np.int64) for x in gone)
    return Forced(rows, cols, left, spares[0], spares[1], tuple(steps))


@dataclass(frozen=True, eq=False)
class Part:
    """One connected part of the clauses, on lines of its own numbered from 0.

    Attributes:
        rows, cols: int64, physical index of each line of the part.
        pairs: int64[n, 2], (row, column) of the bad sites.
        down: int64[n, 3], (row, row, column); `along`: int64[n, 3], (row, column, column).
    """

    rows: Int64
    cols: Int64
    pairs: Int64
    down: Int64
    along: Int64

    @property
    def plain(self) -> bool:
        """Whether there are bad sites only, no dead links."""
        return not len(self.down) and not len(self.along)


def whole(lines: Lines) -> Part:
    """All clauses as one part."""
    rows = np.unique(np.concatenate([lines.sites[:, 0], lines.down[:, 0], lines.down[:, 0] + 1, lines.along[:, 0]]))
    cols = np.unique(np.concatenate([lines.sites[:, 1], lines.down[:, 1], lines.along[:, 1], lines.along[:, 1] + 1]))
    site, down, along = lines.sites, lines.down, lines.along
    return Part(
        rows,
        cols,
        np.stack([_at(rows, site[:, 0]), _at(cols, site[:, 1])], axis=1),
        np.stack([_at(rows, down[:, 0]), _at(rows, down[:, 0] + 1), _at(cols, down[:, 1])], axis=1),
        np.stack([_at(rows, along[:, 0]), _at(cols, along[:, 1]), _at(cols, along[:, 1] + 1)], axis=1),
    )


def _at(lines: Int64, wanted: Int64) -> Int64:
    return np.searchsorted(lines, wanted).astype(np.int64)


def parts_of(lines: Lines) -> list[Part]:
    """Connected parts, those with the least row (then column) first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    every = whole(lines)
    a, b = len(every.rows), len(every.cols)
    if a + b == 0:
        return []
    ends = [
        every.pairs + np.array([0, a]),
        every.down[:, :2],
        every.down[:, 1:] + np.array([0, a]),
        every.along[:, :2] + np.array([0, a]),
        every.along[:, 1:] + a,
    ]
    edge = np.concatenate(ends)
    graph = coo_array((np.ones(len(edge), np.int8), (edge[:, 0], edge[:, 1])), shape=(a + b, a + b))
    n, label = connected_components(graph, directed=False)
    # Renumber by first row, so that the order does not hang on how the components were found; then cut by label.
    row_lists, row_local = _grouped(label[:a], n)
    col_lists, col_local = _grouped(label[a:], n)
    pairs = _split(
        np.stack([row_local[every.pairs[:, 0]], col_local[every.pairs[:, 1]]], 1), label[every.pairs[:, 0]], n
    )
    down = _split(
        np.stack([row_local[every.down[:, 0]], row_local[every.down[:, 1]], col_local[every.down[:, 2]]], 1),
        label[every.down[:, 0]],
        n,
    )
    along = _split(
        np.stack([row_local[every.along[:, 0]], col_local[every.along[:, 1]], col_local[every.along[:, 2]]], 1),
        label[every.along[:, 0]],
        n,
    )
    order = sorted(range(n), key=lambda k: (int(row_lists[k][0]), k))
    return [Part(every.rows[row_lists[k]], every.cols[col_lists[k]], pairs[k], down[k], along[k]) for k in order]


def _grouped(label: npt.NDArray[Any], n: int) -> tuple[list[Int64], Int64]:
    """Indices of each label, and the place of each index within its own."""
    order = np.argsort(label, kind="stable")
    counts = np.bincount(label, minlength=n)
    local = np.empty(len(label), np.int64)
    local[order] = _counting(counts)
    return np.split(order, np.cumsum(counts)[:-1]), local


def _split(entries: Int64, label: npt.NDArray[Any], n: int) -> list[Int64]:
    order = np.argsort(label, kind="stable")
    return np.split(entries[order], np.cumsum(np.bincount(label, minlength=n))[:-1])
