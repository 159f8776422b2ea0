"""Compiled decision by thresholds; see `repair.thresholds`."""

import numba
import numpy as np

from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP

__all__ = ["BROKEN_CLAUSE", "NOT_REPAIRABLE", "REPAIRABLE", "decide_thresholds", "look_at_thresholds"]

REPAIRABLE, NOT_REPAIRABLE, BROKEN_CLAUSE = 1, 0, 2
"""The least field breaks a clause, and raising one end of each in turn came to no end: branching has to decide."""


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
def _wait(r, height, queue, waiting, head, size):
    """Put a row into the queue if it is one and is not there; returns the queue's size."""
    if 0 <= r < height and not waiting[r]:
        waiting[r] = True
        queue[(head + size) % height] = r
        size += 1
    return size


@numba.njit(cache=True)
def _settle(t, high, first, marks, width, h, v, touched, count, queue, waiting, head, size):
    """Bring all waiting rows to their fixpoint; returns (rows touched, head of the queue, failed)."""
    height = t.shape[0]
    while size > 0:
        r = queue[head]
        head = (head + 1) % height
        size -= 1
        waiting[r] = False
        count, changed, failed = _settle_row(t, r, high, marks[first[r] : first[r + 1]], width, h, v, touched, count)
        if failed:
            return count, head, True
        if changed:
            size = _wait(r - 1, height, queue, waiting, head, size)
            size = _wait(r + 1, height, queue, waiting, head, size)
    return count, head, False


@numba.njit(cache=True)
def _put_back(t, base, touched, count):
    height = t.shape[0]
    for k in range(count):
        r = touched[height + k]
        t[r] = base[r]
        touched[r] = 0


@numba.njit(cache=True)
def _broken(t, clause, width):
    """The two logical columns of a link that the field breaks, or (-1, -1)."""
    a = _column_at(t, clause[0], clause[1], width)
    b = _column_at(t, clause[2], clause[3], width)
    meet = a == b if clause[0] != clause[2] else b == a + 1
    return (a, b) if a >= 0 and b >= 0 and meet else (-1, -1)


@numba.njit(cache=True)
def decide_thresholds(t, base, high, first, marks, clauses, rows, width, h, v, touched, queue):
    """Decide one map on thresholds that are the wafer's own before and afterwards.

    A clause that the least field breaks is met by raising one of its ends; a field found in this way is one.

    `marks` int32[n, 2] by row, those of row r from first[r] to first[r + 1]; `rows` have faults of the map.
    """
    height = t.shape[0]
    count = 0
    head = size = 0
    waiting = np.zeros(height, np.bool_)
    for i in range(rows.shape[0]):
        for below in range(2):
            size = _wait(np.int64(rows[i]) + below, height, queue, waiting, head, size)
    answer = REPAIRABLE
    lifted = False
    while answer == REPAIRABLE:
        count, head, failed = _settle(t, high, first, marks, width, h, v, touched, count, queue, waiting, head, size)
        size = 0
        if failed:
            answer = BROKEN_CLAUSE if lifted else NOT_REPAIRABLE
            break
        broken = False
        for k in range(clauses.shape[0]):
            a, b = _broken(t, clauses[k], width)
            if a < 0:
                continue
            # Above this field one of the two ends has to rise: the one whose row then moves on fewer columns.
            broken = lifted = True
            ra, rb = np.int64(clauses[k, 0]), np.int64(clauses[k, 2])
            sa, sb = clauses[k, 1] - a + 1, clauses[k, 3] - b + 1
            far_a = t[ra, sa] - a if sa <= high[ra] else width + 1
            far_b = t[rb, sb] - b if sb <= high[rb] else width + 1
            if min(far_a, far_b) > width:
                answer = BROKEN_CLAUSE
                break
            r, s, c = (ra, sa, a) if far_a <= far_b else (rb, sb, b)
            count = _lower(t, r, s, c, width, touched, count)
            for n in (r - 1, r, r + 1):
                size = _wait(n, height, queue, waiting, head, size)
        if not broken:
            break
    _put_back(t, base, touched, count)
    return answer


@numba.njit(cache=True)
def look_at_thresholds(t, base, high, first, marks, clauses, units, rows, width, h, v, touched, queue):
    """One node of the branching over broken links, on thresholds as in `decide_thresholds`.

    `units` int32[k, 3] are (row, column, least displacement there) on top. Returns (answer, number of the broken
    clause, its two logical columns).
    """
    height = t.shape[0]
    count = 0
    head = size = 0
    waiting = np.zeros(height, np.bool_)
    for k in range(units.shape[0]):
        r = np.int64(units[k, 0])
        count = _lower(t, r, units[k, 2], units[k, 1], width, touched, count)
        # A neighbour is looked at when the row changes while it settles; what was lowered here is a change too.
        for n in (r, r - 1, r + 1):
            size = _wait(n, height, queue, waiting, head, size)
    for i in range(rows.shape[0]):
        for below in range(2):
            size = _wait(np.int64(rows[i]) + below, height, queue, waiting, head, size)
    answer, broken, first_column, second_column = REPAIRABLE, -1, -1, -1
    count, head, failed = _settle(t, high, first, marks, width, h, v, touched, count, queue, waiting, head, size)
    if failed:
        answer = NOT_REPAIRABLE
    else:
        for k in range(clauses.shape[0]):
            a, b = _broken(t, clauses[k], width)
            if a >= 0:
                answer, broken, first_column, second_column = BROKEN_CLAUSE, k, a, b
                break
    _put_back(t, base, touched, count)
    return answer, broken, first_column, second_column
