"""Checked, sorted, read-only arrays of sites and links: the one gate for places that come from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput

__all__ = ["Int32", "SiteProblem", "as_rows", "canonical_links", "check_links", "check_sites", "contains", "frozen"]

Int32 = npt.NDArray[np.int32]


class SiteProblem(BadInput):
    """A place that cannot be; `name` and `index` say which entry of which list, for readers of files."""

    def __init__(self, name: str, index: int, what: str, value: object) -> None:
        self.name = name
        self.index = index
        self.reason = what
        super().__init__(f"{name}[{index}] {what}", value=value)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, made read-only."""
    array.setflags(write=False)
    return array


def as_rows(name: str, values: object, width: int) -> Int32:
    """int32[n, width] from any sequence of n equal-length integer sequences, in the given order.

    Raises:
        SiteProblem: an entry has another length or is not made of integers.
        BadInput: `values` is not a sequence at all.
    """
    if isinstance(values, np.ndarray):
        if values.size == 0:
            return np.empty((0, width), np.int32)
        if values.ndim == 2 and values.shape[1] == width and values.dtype.kind in "iu":
            if int(np.abs(values.astype(np.int64)).max()) < 1 << 30:
                return values.astype(np.int32)
            raise BadInput(f"{name} holds numbers that are too large", value=values)
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise BadInput(f"{name} must be a list of {width} integers each", value=values)
    out = np.empty((len(values), width), np.int32)
    for i, item in enumerate(values):
        try:
            parts = list(item)
        except TypeError:
            raise SiteProblem(name, i, f"must be {width} integers", item) from None
        whole = all(
            isinstance(p, int | np.integer) and not isinstance(p, bool) and abs(int(p)) < 1 << 30 for p in parts
        )
        if len(parts) != width or not whole:
            raise SiteProblem(name, i, f"must be {width} integers", item)
        out[i] = parts
    return out


def check_sites(name: str, sites: Int32, spans: Int32, absent: Int32) -> npt.NDArray[np.intp]:
    """Check that sites are on the wafer and differ; returns the order that sorts them by (row, col)."""
    rows = len(spans)
    off = (sites[:, 0] < 0) | (sites[:, 0] >= rows)
    row = np.where(off, 0, sites[:, 0])
    off |= (sites[:, 1] < spans[row, 0]) | (sites[:, 1] >= spans[row, 1])
    if off.any():
        i = int(np.argmax(off))
        raise SiteProblem(name, i, "lies outside the wafer", tuple(sites[i].tolist()))
    gone = contains(absent, sites)
    if gone.any():
        i = int(np.argmax(gone))
        raise SiteProblem(name, i, "is an absent site (in a hole)", tuple(sites[i].tolist()))
    return _unique_order(name, sites)


def canonical_links(links: Int32) -> Int32:
    """One key per undirected link: the end with the smaller (row, col) first."""
    backwards = (links[:, 2] < 0) | ((links[:, 2] == 0) & (links[:, 3] < 0))
    out = links.copy()
    out[backwards, :2] += links[backwards, 2:]
    out[backwards, 2:] *= -1
    return out


def check_links(name: str, links: Int32, spans: Int32, absent: Int32) -> npt.NDArray[np.intp]:
    """Check canonical links: two different ends, both on the wafer, no link twice; returns the sorting order."""
    nowhere = (links[:, 2] == 0) & (links[:, 3] == 0)
    if nowhere.any():
        i = int(np.argmax(nowhere))
        raise SiteProblem(name, i, "joins a core to itself", tuple(links[i].tolist()))
    for ends in (links[:, :2], links[:, :2] + links[:, 2:]):
        off = (ends[:, 0] < 0) | (ends[:, 0] >= len(spans))
        row = np.where(off, 0, ends[:, 0])
        off |= (ends[:, 1] < spans[row, 0]) | (ends[:, 1] >= spans[row, 1])
        off |= contains(absent, ends)
        if off.any():
            i = int(np.argmax(off))
            raise SiteProblem(name, i, "has an end outside the wafer or in a hole", tuple(links[i].tolist()))
    return _unique_order(name, links)


def contains(table: Int32, sites: Int32) -> npt.NDArray[np.bool_]:
    """bool[n]: which of the sites are among the rows of `table`."""
    if not len(table) or not len(sites):
        return np.zeros(len(sites), bool)
    keys = np.sort(_key(table))
    asked = _key(sites)
    return np.asarray(keys[np.searchsorted(keys, asked) % len(keys)] == asked)


def _key(sites: Int32) -> npt.NDArray[np.int64]:
    return (sites[:, 0].astype(np.int64) << 32) + sites[:, 1]


def _unique_order(name: str, rows: Int32) -> npt.NDArray[np.intp]:
    order = np.lexsort(rows.T[::-1])
    ranked = rows[order]
    same = (ranked[1:] == ranked[:-1]).all(axis=1)
    if same.any():
        at = int(np.argmax(same))
        i = int(max(order[at], order[at + 1]))
        raise SiteProblem(name, i, "appears twice", tuple(rows[i].tolist()))
    return order
