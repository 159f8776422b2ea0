"""Compiled closures of a map-out: what a single move forces to move along, and which moves exclude each other."""

import numba
import numpy as np

from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP

__all__ = ["close_down", "close_up", "excludes", "tighten"]


@numba.njit(cache=True)
def _set(d, old, r, c, value, beyond, queue, queued, touched, state):
    """Give a cell a new value and put it into the queue; `state` is (head, size, cells touched, limit passed)."""
    if beyond:
        state[3] = 1
    if d[r, c] == old[r, c]:
        touched[state[2]] = r * d.shape[1] + c
        state[2] += 1
    d[r, c] = value
    if not queued[r, c]:
        queued[r, c] = True
        queue[(state[0] + state[1]) % queue.shape[0]] = r * d.shape[1] + c
        state[1] += 1


@numba.njit(cache=True)
def _finish(d, old, queue, queued, touched, state):
    """Cells and values of a closure; puts the work arrays back as they were."""
    width = d.shape[1]
    while state[1] > 0:
        cell = queue[state[0]]
        state[0] = (state[0] + 1) % queue.shape[0]
        state[1] -= 1
        queued[cell // width, cell % width] = False
    cells = touched[: state[2]].copy()
    values = np.empty(len(cells), np.int32)
    for k in range(len(cells)):
        r, c = cells[k] // width, cells[k] % width
        values[k] = d[r, c]
        d[r, c] = old[r, c]
    return cells, values


@numba.njit(cache=True)
def close_up(d, old, r, c, value, high, mark_row, marks, h, v, queue, queued, touched):
    """The least field above `old` with d[r, c] >= value, changed cells only.

    Only cells that rise are looked at, so a constraint that `old` itself breaks forces nothing by itself. `d` equals
    `old`, `queued` is False; both are put back. Returns (flat cells, values, whether a limit is passed).
    """
    height, width = d.shape
    state = np.zeros(4, np.int64)
    _set(d, old, r, c, value, value > high[r], queue, queued, touched, state)
    while state[1] > 0 and state[3] == 0:
        cell = queue[state[0]]
        state[0] = (state[0] + 1) % queue.shape[0]
        state[1] -= 1
        r, c = cell // width, cell % width
        queued[r, c] = False
        top = high[r]
        m = mark_row[r]
        above = mark_row[r - 1] if r > 0 else -1
        x = d[r, c]
        again = True
        while again and x <= top:
            again = False
            if m >= 0:
                flags = marks[m, c + x]
                again = (
                    flags & BAD > 0
                    or (flags & SKIP > 0 and c + 1 < width and d[r, c + 1] - x == h - 1)
                    or (flags & LEAN_RIGHT > 0 and r + 1 < height and d[r + 1, c] - x == v)
                    or (c > 0 and d[r, c - 1] == x and marks[m, c - 1 + x] & DIRECT > 0)
                )
            if above >= 0 and d[r - 1, c] - x == v and marks[above, c + d[r - 1, c]] & LEAN_LEFT > 0:
                again = True
            if again:
                x += 1
        d[r, c] = x
        if x > top:
            state[3] = 1
            break
        if c + 1 < width:
            y = max(d[r, c + 1], x)
            if y == x and m >= 0 and marks[m, c + x] & DIRECT > 0:
                y += 1
            if y > d[r, c + 1]:
                _set(d, old, r, c + 1, y, y > high[r], queue, queued, touched, state)
        if c > 0:
            y = max(d[r, c - 1], x - (h - 1))
            if m >= 0 and x - y == h - 1 and marks[m, c - 1 + y] & SKIP > 0:
                y += 1
            if y > d[r, c - 1]:
                _set(d, old, r, c - 1, y, y > high[r], queue, queued, touched, state)
        if r + 1 < height:
            y = max(d[r + 1, c], x - v)
            if m >= 0 and x - y == v and marks[m, c + x] & LEAN_LEFT > 0:
                y += 1
            if y > d[r + 1, c]:
                _set(d, old, r + 1, c, y, y > high[r + 1], queue, queued, touched, state)
        if r > 0:
            y = max(d[r - 1, c], x - v)
            if above >= 0 and x - y == v and marks[above, c + y] & LEAN_RIGHT > 0:
                y += 1
            if y > d[r - 1, c]:
                _set(d, old, r - 1, c, y, y > high[r - 1], queue, queued, touched, state)
    cells, values = _finish(d, old, queue, queued, touched, state)
    return cells, values, state[3] == 1


@numba.njit(cache=True)
def close_down(d, old, r, c, value, low, mark_row, marks, h, v, queue, queued, touched):
    """The greatest field below `old` with d[r, c] <= value; the mirror image of `close_up`."""
    height, width = d.shape
    state = np.zeros(4, np.int64)
    _set(d, old, r, c, value, value < low[r], queue, queued, touched, state)
    while state[1] > 0 and state[3] == 0:
        cell = queue[state[0]]
        state[0] = (state[0] + 1) % queue.shape[0]
        state[1] -= 1
        r, c = cell // width, cell % width
        queued[r, c] = False
        bottom = low[r]
        m = mark_row[r]
        above = mark_row[r - 1] if r > 0 else -1
        x = d[r, c]
        again = True
        while again and x >= bottom:
            again = False
            if m >= 0:
                flags = marks[m, c + x]
                again = (
                    flags & BAD > 0
                    or (flags & DIRECT > 0 and c + 1 < width and d[r, c + 1] == x)
                    or (flags & LEAN_LEFT > 0 and r + 1 < height and x - d[r + 1, c] == v)
                    or (c > 0 and x - d[r, c - 1] == h - 1 and marks[m, c - 1 + d[r, c - 1]] & SKIP > 0)
                )
            if above >= 0 and x - d[r - 1, c] == v and marks[above, c + d[r - 1, c]] & LEAN_RIGHT > 0:
                again = True
            if again:
                x -= 1
        d[r, c] = x
        if x < bottom:
            state[3] = 1
            break
        if c > 0:
            y = min(d[r, c - 1], x)
            if y == x and m >= 0 and marks[m, c - 1 + y] & DIRECT > 0:
                y -= 1
            if y < d[r, c - 1]:
                _set(d, old, r, c - 1, y, y < low[r], queue, queued, touched, state)
        if c + 1 < width:
            y = min(d[r, c + 1], x + h - 1)
            if m >= 0 and y - x == h - 1 and marks[m, c + x] & SKIP > 0:
                y -= 1
            if y < d[r, c + 1]:
                _set(d, old, r, c + 1, y, y < low[r], queue, queued, touched, state)
        if r + 1 < height:
            y = min(d[r + 1, c], x + v)
            if m >= 0 and y - x == v and marks[m, c + x] & LEAN_RIGHT > 0:
                y -= 1
            if y < d[r + 1, c]:
                _set(d, old, r + 1, c, y, y < low[r + 1], queue, queued, touched, state)
        if r > 0:
            y = min(d[r - 1, c], x + v)
            if above >= 0 and y - x == v and marks[above, c + y] & LEAN_LEFT > 0:
                y -= 1
            if y < d[r - 1, c]:
                _set(d, old, r - 1, c, y, y < low[r - 1], queue, queued, touched, state)
    cells, values = _finish(d, old, queue, queued, touched, state)
    return cells, values, state[3] == 1


@numba.njit(cache=True)
def excludes(lowered, old, cells, values, mark_row, marks, h, v):
    """Whether raised `cells` break a constraint together with the cells where `lowered` is below `old`."""
    height, width = old.shape
    for k in range(len(cells)):
        r, c, x = cells[k] // width, cells[k] % width, values[k]
        m = mark_row[r]
        if lowered[r, c] < old[r, c]:
            return True
        if c + 1 < width and lowered[r, c + 1] < old[r, c + 1]:
            y = lowered[r, c + 1]
            if x > y or (x == y and m >= 0 and marks[m, c + x] & DIRECT > 0):
                return True
        if c > 0 and lowered[r, c - 1] < old[r, c - 1]:
            y = lowered[r, c - 1]
            if x - y > h - 1 or (x - y == h - 1 and m >= 0 and marks[m, c - 1 + y] & SKIP > 0):
                return True
        if r + 1 < height and lowered[r + 1, c] < old[r + 1, c]:
            y = lowered[r + 1, c]
            if x - y > v or (x - y == v and m >= 0 and marks[m, c + x] & LEAN_LEFT > 0):
                return True
        if r > 0 and lowered[r - 1, c] < old[r - 1, c]:
            y = lowered[r - 1, c]
            n = mark_row[r - 1]
            if x - y > v or (x - y == v and n >= 0 and marks[n, c + y] & LEAN_RIGHT > 0):
                return True
    return False


@numba.njit(cache=True)
def tighten(low, high, joined, h, v):
    """Narrow ranges int32[n, W] in place by the reach constraints; row i + 1 lies below row i where joined[i].

    Returns whether some range is empty.
    """
    n, width = low.shape
    moved = True
    while moved:
        moved = False
        for step in (1, -1):
            for i in range(n):
                r = i if step > 0 else n - 1 - i
                for j in range(width):
                    c = j if step > 0 else width - 1 - j
                    top, bottom = high[r, c], low[r, c]
                    if c + 1 < width:
                        top = min(top, high[r, c + 1])
                        bottom = max(bottom, low[r, c + 1] - (h - 1))
                    if c > 0:
                        top = min(top, high[r, c - 1] + h - 1)
                        bottom = max(bottom, low[r, c - 1])
                    if r + 1 < n and joined[r]:
                        top = min(top, high[r + 1, c] + v)
                        bottom = max(bottom, low[r + 1, c] - v)
                    if r > 0 and joined[r - 1]:
                        top = min(top, high[r - 1, c] + v)
                        bottom = max(bottom, low[r - 1, c] - v)
                    if bottom > top:
                        return True
                    if top != high[r, c] or bottom != low[r, c]:
                        high[r, c] = top
                        low[r, c] = bottom
                        moved = True
    return False
