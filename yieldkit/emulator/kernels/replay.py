"""A struck program again from where it was struck, as far as what came out differs from the clean run.

Every value that a clean run makes has memory of its own: a *version* of a tensor, one for each phase that writes it.
`work` starts out as a copy of the clean run's versions. A trial changes a word, runs the phases that read what has
changed, on the lines that can have changed, compares what they write with the clean run, and goes on with what
differs; in the end it puts clean lines back in place of those that differed.

A version lies [rows][cols][lines][words]. What differs is kept as one box a version: rows and lines, from first to
last + 1.
"""

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.line_product import line_product
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
def _mark(v, r0, r1, lo, hi, box, touched, count):
    if box[v, 0] >= box[v, 1]:
        box[v, 0], box[v, 1], box[v, 2], box[v, 3] = r0, r1, lo, hi
        touched[count] = v
        return count + 1
    box[v, 0], box[v, 1] = min(box[v, 0], r0), max(box[v, 1], r1)
    box[v, 2], box[v, 3] = min(box[v, 2], lo), max(box[v, 3], hi)
    return count


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
    cols, lines, words = to_version[V_COLS], to_version[V_LINES], to_version[V_WORDS]
    for r in range(r0, r1):
        for c in range(cols):
            at = ((r * cols + c) * lines + lo) * words
            d, s = to_version[V_OFFSET] + at, from_version[V_OFFSET] + at
            for i in range((hi - lo) * words):
                to[d + i] = start[s + i]


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
              products, box, touched, scratch, room, panel_columns, outcome):  # fmt: skip
    """One trial, left as it ended; returns how many versions differ or have differed (see `put_back`)."""
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
        new = np.uint32((work_words[at] & keep) ^ mask)
        if new == work_words[at]:
            return count
        work_words[at] = new
        block = version[V_LINES] * version[V_WORDS]
        line = event[E_ELEMENT] % block // version[V_WORDS]
        row = event[E_ELEMENT] // (block * version[V_COLS])
        count = _mark(v, row, row + 1, line, line + 1, box, touched, count)
        horizon = version[V_LAST]
    elif event[E_KIND] == BLOCK:
        version = versions[event[E_WHAT]]
        count = _mark(event[E_WHAT], event[E_KEEP], event[E_MASK], np.int64(0), version[V_LINES], box, touched, count)
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
        for k in range(step[S_WRITES], step[S_WRITES_END]):
            if writes[k, 1] >= 0:
                before, after = versions[writes[k, 1]], versions[writes[k, 0]]
                if step[S_LINED]:
                    _copy_box(work, work, after, before, r0, r1, lo, hi)
                else:
                    _copy_box(work, work, after, before, 0, after[V_ROWS], 0, after[V_LINES])
        if step[S_LINED]:
            _run_lines(number, steps, base, by_count, by_line, by_row, addresses, scratch, products, versions, work_at,
                       packed_at, r0, r1, lo, hi, panel_from, panel_to, room)  # fmt: skip
        else:
            run_table(base[step[S_FIRST] : step[S_FIRST] + step[S_COUNT]], addresses[number], 0, 1)
        for k in range(step[S_WRITES], step[S_WRITES_END]):
            v = writes[k, 0]
            if not writes[k, 2]:
                continue
            version = versions[v]
            if version[V_ROWS] == rows and version[V_LINES] == lines:
                _shrink(work_words, golden_words, version, r0, r1, lo, hi, found)
            else:
                _shrink(work_words, golden_words, version, 0, version[V_ROWS], 0, version[V_LINES], found)
            if found[0] < found[1]:
                count = _mark(v, found[0], found[1], found[2], found[3], box, touched, count)
                horizon = max(horizon, version[V_LAST])
    infinite = np.uint32(0x7F800000)
    for i in range(count):
        v = touched[i]
        version = versions[v]
        if version[V_OUT]:
            outcome[O_CHANGED] += 1
            for r in range(box[v, 0], box[v, 1]):
                for c in range(version[V_COLS]):
                    at = (
                        version[V_OFFSET]
                        + ((r * version[V_COLS] + c) * version[V_LINES] + box[v, 2]) * version[V_WORDS]
                    )
                    for j in range(at, at + (box[v, 3] - box[v, 2]) * version[V_WORDS]):
                        outcome[O_WORDS] += work_words[j] != golden_words[j]
                        outcome[O_NONFINITE] += (work_words[j] & infinite) == infinite
    return count


@njit(cache=True, error_model="numpy", nogil=True)
def put_back(event, count, golden, work, packed, packed_golden, versions, products, box, touched):
    """Make `work` and `packed` the clean run's again after a trial in which `count` versions differed."""
    for i in range(count):
        v = touched[i]
        _copy_box(work, golden, versions[v], versions[v], box[v, 0], box[v, 1], box[v, 2], box[v, 3])
        box[v, 0], box[v, 1] = 0, 0
    if event[E_KIND] == WEIGHT:
        at = products[event[E_WHAT], P_PACKED] + event[E_ELEMENT]
        packed[at] = packed_golden[at]


@njit(cache=True, error_model="numpy", nogil=True)
def run_events(events, golden, work, packed, packed_golden, steps, reads, writes, versions, base, by_count, by_line,
               by_row, addresses, products, box, touched, scratch, room, panel_columns, outcomes):  # fmt: skip
    """Trials one after the other, each from the clean run."""
    for i in range(events.shape[0]):
        count = run_event(events[i], golden, work, packed, steps, reads, writes, versions, base, by_count, by_line,
                          by_row, addresses, products, box, touched, scratch, room, panel_columns,
                          outcomes[i])  # fmt: skip
        put_back(events[i], count, golden, work, packed, packed_golden, versions, products, box, touched)
