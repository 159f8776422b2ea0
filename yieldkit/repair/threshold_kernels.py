"""Compiled decision by thresholds; see `repair.thresholds`."""

import numba
import numpy as np

from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP

__all__ = ["BROKEN_CLAUSE", "NOT_REPAIRABLE", "REPAIRABLE", "decide_thresholds"]

REPAIRABLE, NOT_REPAIRABLE, BROKEN_CLAUSE = 1, 0, 2
"""The least field breaks a clause: branching has to decide."""


@numba.njit(cache=True)
def _lower(t, r, s, column, width, touched, count):
    """Lower T[r, s] and what must not lie behind it; returns how many rows are touched."""
    if column >= width:
        return count
    if touched[r] == 0:
        touched[r] = 1
        touched[touched.shape[0] // 2 + count] = r
        count += 1
    while s > 0 and t[r, s] > column:
        t[r, s] = column
        s -= 1
    return count


@numba.njit(cache=True)
def _settle_row(t, r, high, marks, width, h, v, touched, count):
    """Bring one row to its fixpoint, together with what its faults ask of the row below.

    `marks` int32[k, 2] are (position, bits) of the row's faults. Returns (rows touched, changed, failed).
    """
    levels = t.shape[1] - 1
    height = t.shape[0]
    changed = False
    moved = True
    while moved:
        moved = False
        for n in (r - 1, r + 1):
            if 0 <= n < height:
                for s in range(1, levels + 1 - v):
                    if t[n, s + v] < t[r, s]:
                        count = _lower(t, r, s, t[n, s + v], width, touched, count)
                        moved = True
        if h == 1:
            for s in range(1, levels + 1):
                if 0 < t[r, s] < width:
                    count = _lower(t, r, s, 0, width, touched, count)
                    moved = True
        else:
            for s in range(levels - (h - 1), 0, -1):
                before = t[r, s + h - 1] - 1
                if t[r, s + h - 1] < width and 0 <= before < t[r, s]:
                    count = _lower(t, r, s, before, width, touched, count)
                    moved = True
        for k in range(marks.shape[0]):
            position, bits = marks[k, 0], marks[k, 1]
            for s in range(min(levels, position + 1)):
                c = position - s
                if c >= width or t[r, s] > c:
                    continue
                if bits & BAD and t[r, s + 1] > c:
                    count = _lower(t, r, s + 1, c, width, touched, count)
                    moved = True
                if bits & DIRECT and c + 1 < width and t[r, s + 1] > c + 1:
                    count = _lower(t, r, s + 1, c + 1, width, touched, count)
                    moved = True
                skips = bits & SKIP and c + 1 < width and s + h - 1 <= levels
                if skips and t[r, s + h - 1] <= c + 1 and t[r, s + 1] > c:
                    count = _lower(t, r, s + 1, c, width, touched, count)
                    moved = True
                if r + 1 == height:
                    continue
                leans = bits & LEAN_RIGHT and s + v <= levels
                if leans and t[r + 1, s + v] <= c and t[r, s + 1] > c:
                    count = _lower(t, r, s + 1, c, width, touched, count)
                    moved = True
                if bits & LEAN_LEFT and s >= v and t[r + 1, s - v + 1] > c:
                    count = _lower(t, r + 1, s - v + 1, c, width, touched, count)
                    moved = True
        changed = changed or moved
        if high[r] + 1 <= levels and t[r, high[r] + 1] < width:
            return count, changed, True
    return count, changed, False


@numba.njit(cache=True)
def _displacement(t, r, c):
    s = 0
    while s + 1 < t.shape[1] and t[r, s + 1] <= c:
        s += 1
    return s


@numba.njit(cache=True)
def _column_at(t, r, position, width):
    """Logical column on a position of a row, or -1."""
    for s in range(min(t.shape[1], position + 1)):
        c = position - s
        if c < width and _displacement(t, r, c) == s:
            return c
    return -1


@numba.njit(cache=True)
def decide_thresholds(t, base, high, first, marks, clauses, units, rows, width, h, v, touched, queue):
    """Decide one map on thresholds that are the wafer's own before and afterwards.

    `marks` int32[n, 2] by row, those of row r from first[r] to first[r + 1]; `rows` have faults of the map; `units`
    int32[k, 3] are (row, column, least displacement there) on top. Returns (answer, number of the broken clause, its
    two logical columns).
    """
    height = t.shape[0]
    count = 0
    queued = touched[height:]
    head = size = 0
    answer = REPAIRABLE
    broken, first_column, second_column = -1, -1, -1
    waiting = np.zeros(height, np.bool_)
    for k in range(units.shape[0]):
        r = np.int64(units[k, 0])
        count = _lower(t, r, units[k, 2], units[k, 1], width, touched, count)
        if not waiting[r]:
            waiting[r] = True
            queue[size] = r
            size += 1
        # A neighbour is looked at when the row changes while it settles; what was lowered here is a change too.
        for n in (r - 1, r + 1):
            if 0 <= n < height and not waiting[n]:
                waiting[n] = True
                queue[size] = n
                size += 1
    for i in range(rows.shape[0]):
        for below in range(2):
            r = np.int64(rows[i]) + below
            if r < height and not waiting[r]:
                waiting[r] = True
                queue[size] = r
                size += 1
    while size > 0:
        r = queue[head]
        head = (head + 1) % height
        size -= 1
        waiting[r] = False
        count, changed, failed = _settle_row(t, r, high, marks[first[r] : first[r + 1]], width, h, v, touched, count)
        if failed:
            answer = NOT_REPAIRABLE
            break
        if changed:
            for n in (r - 1, r + 1):
                if 0 <= n < height and not waiting[n]:
                    waiting[n] = True
                    queue[(head + size) % height] = n
                    size += 1
    if answer == REPAIRABLE:
        for k in range(clauses.shape[0]):
            a = _column_at(t, clauses[k, 0], clauses[k, 1], width)
            b = _column_at(t, clauses[k, 2], clauses[k, 3], width)
            meet = a == b if clauses[k, 0] != clauses[k, 2] else b == a + 1
            if a >= 0 and b >= 0 and meet:
                answer, broken, first_column, second_column = BROKEN_CLAUSE, k, a, b
                break
    for k in range(count):
        r = queued[k]
        t[r] = base[r]
        touched[r] = 0
    return answer, broken, first_column, second_column
