"""Compiled propagation: the least displacement field that satisfies every lattice constraint."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["BAD", "DIRECT", "LEAN_LEFT", "LEAN_RIGHT", "SKIP", "raise_to_fixpoint"]

BAD = 1
"""The site cannot be used."""
DIRECT = 2
"""The link to the next site east is dead."""
SKIP = 4
"""The longest link east, `skip_reach` sites, is dead."""
LEAN_RIGHT = 8
"""The link to the next row, `vertical_reach` columns east, is dead."""
LEAN_LEFT = 16
"""The link to the next row, `vertical_reach` columns west, is dead."""


@numba.njit(cache=True)
def raise_to_fixpoint(d, high, mark_row, marks, h, v, dirty):
    """Raise `d` in place to the least field above it that satisfies all constraints.

    All constraints are of the form "if d[x] >= s then d[y] >= t", so the set of solutions is closed under min, and
    raising only what must rise ends in its least element or above `high`, where there is none.

    Args:
        d: int32[H, W], displacements to start from.
        high: int32[H], largest displacement of each row.
        mark_row: int32[H], index into `marks` of each row, -1 for rows without any.
        marks: uint8[n, W + S], bits by position (column less the first column of the region).
        h: largest step of a link along the row.
        v: largest shift between adjacent rows.
        dirty: bool[H], rows that may be unsatisfied.

    Returns:
        (row, column) where the least displacement passes `high`, or (-1, -1) when a solution is in `d`.
    """
    H, W = d.shape
    queue = np.empty(H, np.int64)
    queued = np.zeros(H, np.bool_)
    head = 0
    size = 0
    for r in range(H):
        if dirty[r]:
            queue[size] = r
            queued[r] = True
            size += 1
    while size > 0:
        r = queue[head]
        head = (head + 1) % H
        size -= 1
        queued[r] = False
        changed = False
        m = mark_row[r]
        top = high[r]
        raised_up = False
        raised_down = False
        for side in (-1, 1):
            n = r + side
            if 0 <= n < H:
                for c in range(W):
                    if d[r, c] < d[n, c] - v:
                        d[r, c] = d[n, c] - v
                        changed = True
        moved = True
        while moved:
            moved = False
            for c in range(W):
                x = d[r, c]
                if c > 0 and d[r, c - 1] > x:
                    x = d[r, c - 1]
                if m >= 0 and x <= top:
                    if c > 0 and x == d[r, c - 1] and marks[m, c - 1 + x] & DIRECT:
                        x += 1
                    while x <= top and marks[m, c + x] & BAD:
                        x += 1
                if x > top:
                    return r, c
                if x != d[r, c]:
                    d[r, c] = x
                    moved = True
                    changed = True
            for c in range(W - 2, -1, -1):
                least = d[r, c + 1] - (h - 1)
                if d[r, c] < least:
                    d[r, c] = least
                    moved = True
                    changed = True
                if m >= 0 and d[r, c] == least and marks[m, c + d[r, c]] & SKIP:
                    d[r, c] += 1
                    moved = True
                    changed = True
                    if d[r, c] > top:
                        return r, c
            if m >= 0 and r + 1 < H:
                for c in range(W):
                    flags = marks[m, c + d[r, c]]
                    if flags & LEAN_RIGHT and d[r + 1, c] - d[r, c] == v:
                        d[r, c] += 1
                        moved = True
                        changed = True
                        if d[r, c] > top:
                            return r, c
                    elif flags & LEAN_LEFT and d[r, c] - d[r + 1, c] == v:
                        d[r + 1, c] += 1
                        raised_down = True
                        if d[r + 1, c] > high[r + 1]:
                            return r + 1, c
            if r > 0 and mark_row[r - 1] >= 0:
                k = mark_row[r - 1]
                for c in range(W):
                    flags = marks[k, c + d[r - 1, c]]
                    if flags & LEAN_RIGHT and d[r, c] - d[r - 1, c] == v:
                        d[r - 1, c] += 1
                        raised_up = True
                        if d[r - 1, c] > high[r - 1]:
                            return r - 1, c
                    elif flags & LEAN_LEFT and d[r - 1, c] - d[r, c] == v:
                        d[r, c] += 1
                        moved = True
                        changed = True
                        if d[r, c] > top:
                            return r, c
        for side in (-1, 1):
            n = r + side
            if 0 <= n < H and not queued[n] and (changed or (raised_up if side < 0 else raised_down)):
                queue[(head + size) % H] = n
                queued[n] = True
                size += 1
        # A neighbour's rise may bind this row again.
        if (raised_up or raised_down) and not queued[r]:
            queue[(head + size) % H] = r
            queued[r] = True
            size += 1
    return -1, -1
