"""A struck program again from where it was struck, as far as what came out differs from the clean run.

Every value that a clean run makes has memory of its own: a *version* of a tensor, one for each phase that writes it.
`work` starts out as a copy of the clean run's versions. A trial changes a word, runs the phases that read what has
changed, on the lines that can have changed, compares what they write with the clean run, and goes on with what
differs.

A version lies [rows][cols][lines][words]. Three boxes are kept of each, rows and lines from first to last + 1: what
differs from the clean run (`box`), what the trial has written (`wrote`), and where trials before have left other words
than the clean run's (`stale`). Stale lines are put right when somebody reads them, and most are written anew by the
next trial before anybody does.
"""

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.line_product import line_product
from yieldkit.emulator.kernels.register_block import copy_floats
from yieldkit.emulator.kernels.table import WIDTH, run_table

# Columns of `versions`.
V_OFFSET, V_ROWS, V_COLS, V_LINES, V_WORDS, V_LAST, V_OUT = 0, 1, 2, 3, 4, 5, 6
# Columns of `steps`.
S_LINED, S_FIRST, S_COUNT, S_PRODUCT, S_LINES, S_ROWS = 0, 1, 2, 3, 4, 5
S_READS, S_READS_END, S_WRITES, S_WRITES_END = 6, 7, 8, 9
# Columns of `reads`: version, and whether a changed line changes the same line only.
# Columns of `writes`: version, version that it goes on from (-1: none), whether anything reads it later.
# Columns of `products`.
P_X, P_KC, P_TILES, P_PACKED, P_COLUMNS, P_Y, P_NC, P_SUMS, P_FMT, P_ADDS, P_LINES = range(11)
# Columns of `events`: what is struck, before which step, which version or product, element, bits kept, bits XORed.
E_KIND, E_STEP, E_WHAT, E_ELEMENT, E_KEEP, E_MASK = range(6)
WORD, WEIGHT, BLOCK = 0, 1, 2
"""A block is changed by the caller before the trial: rows E_KEEP to E_MASK - 1 of a version."""
# Columns of `outcomes`.
O_LAST, O_RUN, O_CHANGED, O_NONFINITE, O_WORDS = range(5)
"""Last step that ran (-1: none), steps run, outputs that differ, their non-finite words, their words that differ."""


@njit(error_model="numpy", inline="always")
def _mark(v, r0, r1, lo, hi, box):
    if box[v, 0] >= box[v, 1]:
        box[v, 0], box[v, 1], box[v, 2], box[v, 3] = r0, r1, lo, hi
    else:
        box[v, 0], box[v, 1] = min(box[v, 0], r0), max(box[v, 1], r1)
        box[v, 2], box[v, 3] = min(box[v, 2], lo), max(box[v, 3], hi)


@njit(cache=True, error_model="numpy", nogil=True)
def _line_differs(a, b, start, stride, blocks, words):
    for block in range(blocks):
        at = start + block * stride
        different = np.uint32(0)
        for i in range(words):
            different |= a[at + i] ^ b[at + i]
        if different:
            return True
    return False


@njit(cache=True, error_model="numpy", nogil=True)
def _shrink(work, golden, version, r0, r1, lo, hi, found):
    """The box of lines that differ inside a box."""
    cols, lines, words = version[V_COLS], version[V_LINES], version[V_WORDS]
    block = lines * words
    found[0], found[1], found[2], found[3] = r1, r0, hi, lo
    for r in range(r0, r1):
        base = version[V_OFFSET] + r * cols * block
        first = lo
        while first < hi and not _line_differs(work, golden, base + first * words, block, cols, words):
            first += 1
        if first == hi:
            continue
        last = hi
        while last > first + 1 and not _line_differs(work, golden, base + (last - 1) * words, block, cols, words):
            last -= 1
        found[0], found[1] = min(found[0], r), r + 1
        found[2], found[3] = min(found[2], first), max(found[3], last)


@njit(cache=True, error_model="numpy", nogil=True)
def _copy_box(to, start, to_version, from_version, r0, r1, lo, hi):
    if hi <= lo:
        return
    cols, lines, words = to_version[V_COLS], to_version[V_LINES], to_version[V_WORDS]
    to_at, start_at = np.int64(to.ctypes.data), np.int64(start.ctypes.data)
    for r in range(r0, r1):
        for c in range(cols):
            at = ((r * cols + c) * lines + lo) * words
            d, s = to_version[V_OFFSET] + at, from_version[V_OFFSET] + at
            copy_floats(to_at + 4 * d, start_at + 4 * s, (hi - lo) * words)


@njit(cache=True, error_model="numpy", nogil=True)
def _copy_columns(work, to_version, from_version, first, end, nc):
    """Columns first to end - 1 of a product's result, nc to a block, of all rows and lines."""
    rows, cols, lines, words = to_version[V_ROWS], to_version[V_COLS], to_version[V_LINES], to_version[V_WORDS]
    per_row = cols * words // nc
    for r in range(rows):
        for n in range(first, end):
            at = ((r * per_row + n // nc) * lines) * nc + n % nc
            d, s = to_version[V_OFFSET] + at, from_version[V_OFFSET] + at
            for i in range(lines):
                work[d + i * nc] = work[s + i * nc]


@njit(cache=True, error_model="numpy", nogil=True)
def _renew(work, golden, version, r0, r1, lo, hi, stale, wrote):
    """Put the clean run's words into the stale lines of a box that the trial has not written."""
    if stale[0] >= stale[1]:
        return
    s0, s1, first, end = max(r0, stale[0]), min(r1, stale[1]), max(lo, stale[2]), min(hi, stale[3])
    if s0 < s1 and first < end:
        if wrote[0] >= wrote[1]:
            _copy_box(work, golden, version, version, s0, s1, first, end)
        else:
            above, below = min(max(s0, wrote[0]), s1), max(min(s1, wrote[1]), s0)
            _copy_box(work, golden, version, version, s0, above, first, end)
            if above < below:
                _copy_box(work, golden, version, version, above, below, first, min(end, wrote[2]))
                _copy_box(work, golden, version, version, above, below, max(first, wrote[3]), end)
                _copy_box(work, golden, version, version, below, s1, first, end)
            else:
                _copy_box(work, golden, version, version, above, s1, first, end)
    if r0 <= stale[0] and stale[1] <= r1:
        if lo <= stale[2]:
            stale[2] = max(stale[2], min(hi, stale[3]))
        elif hi >= stale[3]:
            stale[3] = min(stale[3], max(lo, stale[2]))
        if stale[2] >= stale[3]:
            stale[0], stale[1] = 0, 0


@njit(cache=True, error_model="numpy", nogil=True)
def _count(work, golden, first, end):
    """Words that differ, and words that are not finite."""
    infinite = np.uint32(0x7F800000)
    differ, odd = np.uint32(0), np.uint32(0)
    for j in range(first, end):
        differ += np.uint32(work[j] != golden[j])
        odd += np.uint32((work[j] & infinite) == infinite)
    return np.int64(differ), np.int64(odd)


@njit(cache=True, error_model="numpy", nogil=True)
def _run_lines(number, steps, base, by_count, by_line, by_row, addresses, scratch, products, versions, work_at,
               packed_at, r0, r1, lo, hi, panel_from, panel_to, room):  # fmt: skip
    step = steps[number]
    first, count = step[S_FIRST], step[S_COUNT]
    n = hi - lo
    for r in range(r0, r1):
        if step[S_PRODUCT] >= 0:
            p = products[step[S_PRODUCT]]
            kc, nc, lines = p[P_KC], p[P_NC], p[P_LINES]
            blocks = p[P_COLUMNS] // nc
            x = versions[p[P_X], V_OFFSET] + (r * p[P_TILES] * lines + lo) * kc
            if versions[p[P_X], V_ROWS] == 1:
                x = versions[p[P_X], V_OFFSET] + lo * kc
            place = (r * blocks * lines + lo) * nc
            y = versions[p[P_Y], V_OFFSET] + place
            sums = np.int64(0)
            if p[P_SUMS] >= 0:
                sums = work_at + 4 * (versions[p[P_SUMS], V_OFFSET] + place)
            line_product(work_at + 4 * x, kc, lines * kc, p[P_TILES], packed_at + 4 * p[P_PACKED], panel_from, panel_to,
                         p[P_COLUMNS], work_at + 4 * y, nc, lines * nc, sums, p[P_FMT], p[P_ADDS] != 0, n,
                         room)  # fmt: skip
        if count:
            for i in range(count):
                for j in range(WIDTH):
                    k = first + i
                    scratch[i, j] = base[k, j] + n * by_count[k, j] + lo * by_line[k, j] + r * by_row[k, j]
            run_table(scratch[:count], addresses[number], 0, 1)


@njit(cache=True, error_model="numpy", nogil=True)
def run_event(event, golden, work, packed, steps, reads, writes, versions, base, by_count, by_line, by_row, addresses,
              products, box, wrote, stale, touched, scratch, room, panel_columns, outcome):  # fmt: skip
    """One trial, left as it ended; returns how many versions it has written (see `settle`)."""
    outcome[O_LAST], outcome[O_RUN], outcome[O_CHANGED], outcome[O_NONFINITE], outcome[O_WORDS] = -1, 0, 0, 0, 0
    work_at, packed_at = np.int64(work.ctypes.data), np.int64(packed.ctypes.data)
    golden_words, work_words = golden.view(np.uint32), work.view(np.uint32)
    found = np.empty(4, np.int64)
    count, horizon = np.int64(0), np.int64(-1)
    begin = event[E_STEP]
    keep, mask = np.uint32(event[E_KEEP]), np.uint32(event[E_MASK])
    struck_product = np.int64(-1)
    if event[E_KIND] == WORD:
        v = event[E_WHAT]
        version = versions[v]
        at = version[V_OFFSET] + event[E_ELEMENT]
        new = np.uint32((golden_words[at] & keep) ^ mask)
        if new == golden_words[at]:
            return count
        block = version[V_LINES] * version[V_WORDS]
        line = event[E_ELEMENT] % block // version[V_WORDS]
        row = event[E_ELEMENT] // (block * version[V_COLS])
        _renew(work, golden, version, row, row + 1, line, line + 1, stale[v], wrote[v])
        work_words[at] = new
        _mark(v, row, row + 1, line, line + 1, box)
        _mark(v, row, row + 1, line, line + 1, wrote)
        touched[count] = v
        count += 1
        horizon = version[V_LAST]
    elif event[E_KIND] == BLOCK:
        v = event[E_WHAT]
        version = versions[v]
        _mark(v, event[E_KEEP], event[E_MASK], np.int64(0), version[V_LINES], box)
        _mark(v, event[E_KEEP], event[E_MASK], np.int64(0), version[V_LINES], wrote)
        touched[count] = v
        count += 1
        horizon = version[V_LAST]
    else:
        struck_product = event[E_WHAT]
        at = products[struck_product, P_PACKED] + event[E_ELEMENT]
        weights = packed.view(np.uint32)
        new = np.uint32((weights[at] & keep) ^ mask)
        if new == weights[at]:
            return count
        weights[at] = new
        horizon = begin
    for number in range(begin, steps.shape[0]):
        if number > horizon:
            break
        step = steps[number]
        lines, rows = step[S_LINES], step[S_ROWS]
        r0, r1, lo, hi = rows, np.int64(0), lines, np.int64(0)
        panel_from, panel_to = np.int64(0), np.int64(0)
        if step[S_PRODUCT] >= 0:
            panel_to = (products[step[S_PRODUCT], P_COLUMNS] + panel_columns - 1) // panel_columns
        struck = number == begin and struck_product >= 0
        if struck:
            r0, r1, lo, hi = np.int64(0), rows, np.int64(0), lines
            depth = products[struck_product, P_KC] * products[struck_product, P_TILES] * panel_columns
            panel_from = event[E_ELEMENT] // depth
            panel_to = panel_from + 1
        else:
            for k in range(step[S_READS], step[S_READS_END]):
                v = reads[k, 0]
                if box[v, 0] < box[v, 1]:
                    if versions[v, V_ROWS] == rows:
                        r0, r1 = min(r0, box[v, 0]), max(r1, box[v, 1])
                    else:
                        r0, r1 = np.int64(0), rows
                    if reads[k, 1]:
                        lo, hi = min(lo, box[v, 2]), max(hi, box[v, 3])
                    else:
                        lo, hi = np.int64(0), lines
            if r0 >= r1:
                continue
        outcome[O_LAST] = number
        outcome[O_RUN] += 1
        lined = step[S_LINED] != 0
        for k in range(step[S_READS], step[S_READS_END]):
            v = reads[k, 0]
            if stale[v, 0] < stale[v, 1]:
                version = versions[v]
                first, end, low, high = np.int64(0), version[V_ROWS], np.int64(0), version[V_LINES]
                if lined and version[V_ROWS] == rows:
                    first, end = r0, r1
                if lined and reads[k, 1]:
                    low, high = lo, hi
                _renew(work, golden, version, first, end, low, high, stale[v], wrote[v])
        for k in range(step[S_WRITES], step[S_WRITES_END]):
            after = versions[writes[k, 0]]
            if struck:
                # Only a panel of columns is written.
                v = writes[k, 0]
                _renew(work, golden, after, 0, after[V_ROWS], 0, after[V_LINES], stale[v], wrote[v])
                if writes[k, 1] >= 0:
                    p = products[struck_product]
                    last = min(panel_to * panel_columns, p[P_COLUMNS])
                    _copy_columns(work, after, versions[writes[k, 1]], panel_from * panel_columns, last, p[P_NC])
            elif writes[k, 1] >= 0:
                before = versions[writes[k, 1]]
                if lined:
                    _copy_box(work, work, after, before, r0, r1, lo, hi)
                else:
                    _copy_box(work, work, after, before, 0, after[V_ROWS], 0, after[V_LINES])
        if lined:
            _run_lines(number, steps, base, by_count, by_line, by_row, addresses, scratch, products, versions, work_at,
                       packed_at, r0, r1, lo, hi, panel_from, panel_to, room)  # fmt: skip
        else:
            run_table(base[step[S_FIRST] : step[S_FIRST] + step[S_COUNT]], addresses[number], 0, 1)
        for k in range(step[S_WRITES], step[S_WRITES_END]):
            v = writes[k, 0]
            if not writes[k, 2]:
                continue
            version = versions[v]
            alike = version[V_ROWS] == rows and version[V_LINES] == lines
            if lined and alike:
                _mark(v, r0, r1, lo, hi, wrote)
            else:
                _mark(v, np.int64(0), version[V_ROWS], np.int64(0), version[V_LINES], wrote)
            touched[count] = v
            count += 1
            if alike:
                _shrink(work_words, golden_words, version, r0, r1, lo, hi, found)
            else:
                _shrink(work_words, golden_words, version, 0, version[V_ROWS], 0, version[V_LINES], found)
            if found[0] < found[1]:
                _mark(v, found[0], found[1], found[2], found[3], box)
                horizon = max(horizon, version[V_LAST])
    for i in range(count):
        v = touched[i]
        version = versions[v]
        if version[V_OUT] and box[v, 0] < box[v, 1]:
            outcome[O_CHANGED] += 1
            words = version[V_WORDS]
            for r in range(box[v, 0], box[v, 1]):
                for c in range(version[V_COLS]):
                    at = version[V_OFFSET] + ((r * version[V_COLS] + c) * version[V_LINES] + box[v, 2]) * words
                    end = at + (box[v, 3] - box[v, 2]) * words
                    differ, odd = _count(work_words, golden_words, at, end)
                    outcome[O_WORDS] += differ
                    outcome[O_NONFINITE] += odd
    return count


@njit(cache=True, error_model="numpy", nogil=True)
def settle(event, count, golden, work, packed, packed_golden, versions, products, box, wrote, stale, touched):
    """Be ready for the next trial after one that has written `count` versions: what was struck is the clean run's
    again, and what was written is stale.
    """
    if event[E_KIND] == WEIGHT:
        at = products[event[E_WHAT], P_PACKED] + event[E_ELEMENT]
        packed[at] = packed_golden[at]
    for i in range(count):
        v = touched[i]
        if i == 0 and event[E_KIND] != WEIGHT:
            # A trial that writes this version later may leave the struck word out.
            _copy_box(work, golden, versions[v], versions[v], wrote[v, 0], wrote[v, 1], wrote[v, 2], wrote[v, 3])
        else:
            _mark(v, wrote[v, 0], wrote[v, 1], wrote[v, 2], wrote[v, 3], stale)
        wrote[v, 0], wrote[v, 1], box[v, 0], box[v, 1] = 0, 0, 0, 0


@njit(cache=True, error_model="numpy", nogil=True)
def run_events(events, golden, work, packed, packed_golden, steps, reads, writes, versions, base, by_count, by_line,
               by_row, addresses, products, box, wrote, stale, touched, scratch, room, panel_columns,
               outcomes):  # fmt: skip
    """Trials one after the other, each from the clean run."""
    for i in range(events.shape[0]):
        count = run_event(events[i], golden, work, packed, steps, reads, writes, versions, base, by_count, by_line,
                          by_row, addresses, products, box, wrote, stale, touched, scratch, room, panel_columns,
                          outcomes[i])  # fmt: skip
        settle(events[i], count, golden, work, packed, packed_golden, versions, products, box, wrote, stale,
               touched)  # fmt: skip
