"""Tables of vector and matrix operations on whole blocks, run in one call.

A table is int64[n, WIDTH]. Rows come in groups: a row GROUP says how often (CHUNKS) its COUNT following rows run, and
each of them steps its operands on from chunk to chunk, so that a chain of operations stays in the cache. Operands are
an index into a list of addresses, an offset, and a stride for every loop, all in elements of float32.
"""

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.blocked import _blocked_product
from yieldkit.emulator.kernels.elementwise import _apply
from yieldkit.emulator.kernels.matmul import _product, scan_is_exact
from yieldkit.emulator.kernels.register_block import load_at, store_at
from yieldkit.emulator.kernels.scalar import canon
from yieldkit.emulator.kernels.spans import ADJACENT, APART, LANES, MAC, SEQUENTIAL, chains, span

WIDTH = 64
GROUP, SPAN, CHUNKED, SERIAL, CHAIN, PRODUCT, FILL = 1, 2, 3, 4, 5, 6, 7
"""Kinds of rows: SPAN and CHUNKED element by element, SERIAL each stored before the next is read; CHAIN reductions in
fp32; PRODUCT; FILL with +0.
"""

KIND, OP, FMT, MODE = 0, 1, 2, 3
CHUNKS, COUNT = 1, 2
OPERAND, OFFSET, STEP = 4, 8, 12  # each of d, a, b and the start of a reduction
SHAPE, STRIDES = 16, 20  # 4 loops; element-wise strides of d, a, b
REDUCED, KEPT_STRIDES, REDUCED_STRIDES = 20, 24, 40  # kept: d, a, b, start; reduced: d, a, b
PRODUCT_AXES, K_TILE, MAY_FUSE, SCANS = (
    16,
    52,
    53,
    54,
)  # axes: shape and byte strides of a, b, out; scans: start, length
READS_D, READS_B = 60, 61
BLOCK = 62  # of a product: steps of k to a block of bf16 accumulation, 0 for fp32 throughout


@njit(error_model="numpy", inline="always")
def _strided(row, d, a, b):
    """Element-wise operation on any strides: all at once, or (SERIAL) each element on its own."""
    shape = row[SHAPE : SHAPE + 4].copy()
    strides = row[STRIDES : STRIDES + 12].copy().reshape((3, 4))
    times, steps = np.ones(4, np.int64), np.zeros((3, 4), np.int64)
    if row[KIND] == SERIAL:
        times, shape = shape, times
        steps, strides = strides, steps
    for i in range(times[0]):
        for j in range(times[1]):
            for k in range(times[2]):
                for m in range(times[3]):
                    d_at = d + 4 * (i * steps[0, 0] + j * steps[0, 1] + k * steps[0, 2] + m * steps[0, 3])
                    a_at = a + 4 * (i * steps[1, 0] + j * steps[1, 1] + k * steps[1, 2] + m * steps[1, 3])
                    b_at = b + 4 * (i * steps[2, 0] + j * steps[2, 1] + k * steps[2, 2] + m * steps[2, 3])
                    _apply(row[OP], d_at, a_at, b_at, shape, strides, row[READS_D] != 0, row[READS_B] != 0, row[FMT])


@njit(error_model="numpy", inline="always")
def _chain(row, d, a, b, start):
    """Sequences side by side, LANES at a time; a last, incomplete lot repeats its last sequence."""
    n0, n1, n2, n3 = row[SHAPE], row[SHAPE + 1], row[SHAPE + 2], row[SHAPE + 3]
    r0, r1, r2, r3 = row[REDUCED], row[REDUCED + 1], row[REDUCED + 2], row[REDUCED + 3]
    kept, reduced = row[KEPT_STRIDES:], row[REDUCED_STRIDES:]
    op, outputs = row[OP], n0 * n1 * n2 * n3
    d_at, a_at, b_at = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    a_now, b_now = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    values = np.empty(LANES, np.float32)
    values_at, a_now_at, b_now_at = (
        np.int64(values.ctypes.data),
        np.int64(a_now.ctypes.data),
        np.int64(b_now.ctypes.data),
    )
    sequential = reduced[7] == 1 and (op != MAC or reduced[11] == 1)
    i0 = i1 = i2 = i3 = np.int64(0)
    done = np.int64(0)
    while done < outputs:
        along = SEQUENTIAL if sequential else APART
        if i3 + LANES <= n3:
            d_row = d + 4 * (i0 * kept[0] + i1 * kept[1] + i2 * kept[2] + i3 * kept[3])
            a_row = a + 4 * (i0 * kept[4] + i1 * kept[5] + i2 * kept[6] + i3 * kept[7])
            b_row = b + 4 * (i0 * kept[8] + i1 * kept[9] + i2 * kept[10] + i3 * kept[11])
            start_row = i0 * kept[12] + i1 * kept[13] + i2 * kept[14] + i3 * kept[15]
            for lane in range(LANES):
                d_at[lane] = d_row + 4 * lane * kept[3]
                a_at[lane] = a_row + 4 * lane * kept[7]
                b_at[lane] = b_row + 4 * lane * kept[11]
                values[lane] = load_at(start, start_row + lane * kept[15])
            if kept[7] == 1 and (op != MAC or kept[11] == 1):
                along = ADJACENT
            done += LANES
            i3 += LANES
            if i3 == n3:
                i3, i2 = np.int64(0), i2 + 1
                if i2 == n2:
                    i2, i1 = np.int64(0), i1 + 1
                    if i1 == n1:
                        i1, i0 = np.int64(0), i0 + 1
        else:
            adjacent = True
            for lane in range(LANES):
                if done < outputs:
                    d_at[lane] = d + 4 * (i0 * kept[0] + i1 * kept[1] + i2 * kept[2] + i3 * kept[3])
                    a_at[lane] = a + 4 * (i0 * kept[4] + i1 * kept[5] + i2 * kept[6] + i3 * kept[7])
                    b_at[lane] = b + 4 * (i0 * kept[8] + i1 * kept[9] + i2 * kept[10] + i3 * kept[11])
                    values[lane] = load_at(start, i0 * kept[12] + i1 * kept[13] + i2 * kept[14] + i3 * kept[15])
                    done += 1
                    i3 += 1
                    if i3 == n3:
                        i3 = 0
                        i2 += 1
                        if i2 == n2:
                            i2 = 0
                            i1 += 1
                            if i1 == n1:
                                i1 = 0
                                i0 += 1
                else:
                    d_at[lane], a_at[lane], b_at[lane] = d_at[lane - 1], a_at[lane - 1], b_at[lane - 1]
                    values[lane] = values[lane - 1]
                if lane > 0 and (a_at[lane] != a_at[lane - 1] + 4 or (op == MAC and b_at[lane] != b_at[lane - 1] + 4)):
                    adjacent = False
            if adjacent:
                along = ADJACENT
        for x0 in range(r0):
            for x1 in range(r1):
                for x2 in range(r2):
                    a_offset = 4 * (x0 * reduced[4] + x1 * reduced[5] + x2 * reduced[6])
                    b_offset = 4 * (x0 * reduced[8] + x1 * reduced[9] + x2 * reduced[10])
                    for lane in range(LANES):
                        a_now[lane] = a_at[lane] + a_offset
                        b_now[lane] = b_at[lane] + b_offset
                    chains(op * 4 + along, values_at, a_now_at, b_now_at, r3, reduced[7], reduced[11])
        for lane in range(LANES):
            store_at(d_at[lane], 0, canon(values[lane]))


@njit(cache=True, error_model="numpy", nogil=True)
def _six(row, at):
    return row[at], row[at + 1], row[at + 2], row[at + 3], row[at + 4], row[at + 5]


@njit(cache=True, error_model="numpy", nogil=True)
def run_table(table, addresses, share, shares):
    """Run all rows; of the rows of a matrix, the part `share` out of `shares` (whole blocks of 24)."""
    group = 0
    while group < table.shape[0]:
        count = table[group, COUNT]
        for chunk in range(table[group, CHUNKS]):
            for number in range(group + 1, group + 1 + count):
                row = table[number]
                d = addresses[row[OPERAND]] + 4 * (row[OFFSET] + chunk * row[STEP])
                a = addresses[row[OPERAND + 1]] + 4 * (row[OFFSET + 1] + chunk * row[STEP + 1])
                b = addresses[row[OPERAND + 2]] + 4 * (row[OFFSET + 2] + chunk * row[STEP + 2])
                kind = row[KIND]
                if kind == SPAN:
                    s = row[STRIDES:]
                    for i in range(row[SHAPE]):
                        for j in range(row[SHAPE + 1]):
                            span(
                                row[MODE],
                                d + 4 * (i * s[0] + j * s[1]),
                                a + 4 * (i * s[4] + j * s[5]),
                                b + 4 * (i * s[8] + j * s[9]),
                                row[SHAPE + 2],
                                row[SHAPE + 3],
                                s[2],
                                s[6],
                                s[10],
                            )
                elif kind in (CHUNKED, SERIAL):
                    _strided(row, d, a, b)
                elif kind == CHAIN:
                    start = addresses[row[OPERAND + 3]] + 4 * (row[OFFSET + 3] + chunk * row[STEP + 3])
                    _chain(row, d, a, b, start)
                elif kind == FILL:
                    for i in range(row[SHAPE]):
                        store_at(d, i, np.float32(0.0))
                else:
                    at = PRODUCT_AXES
                    a_shape, o_shape = _six(row, at), _six(row, at + 24)
                    fused = row[MAY_FUSE] != 0 and scan_is_exact(
                        a + 4 * row[SCANS], row[SCANS + 1], b + 4 * row[SCANS + 2], row[SCANS + 3]
                    )
                    size = a_shape[2] * a_shape[3]
                    part = (size + 24 * shares - 1) // (24 * shares) * 24
                    first, last = min(share * part, size), min(share * part + part, size)
                    if first < last and row[BLOCK]:
                        _blocked_product(
                            a,
                            a_shape,
                            _six(row, at + 6),
                            b,
                            _six(row, at + 12),
                            _six(row, at + 18),
                            d,
                            o_shape,
                            _six(row, at + 30),
                            row[K_TILE],
                            row[BLOCK],
                            fused,
                            0,
                            a_shape[0] * a_shape[1],
                            first,
                            last,
                        )
                    elif first < last:
                        _product(
                            a,
                            a_shape,
                            _six(row, at + 6),
                            b,
                            _six(row, at + 12),
                            _six(row, at + 18),
                            d,
                            o_shape,
                            _six(row, at + 30),
                            row[K_TILE],
                            fused,
                            0,
                            a_shape[0] * a_shape[1],
                            first,
                            last,
                        )
        group += 1 + count


__all__ = ["run_table"]
