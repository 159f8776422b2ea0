"""Matrix products in the order of the wafer: K in tiles, one partial sum per tile, partials chained.

For each output element: the partial of a tile starts at +0.0 and adds the products with k ascending, each product
rounded to fp32 first; the total is the first tile's partial, to which the others are added in ascending order. This
order depends on the tile size only, never on threads, vectors or memory layout.

A fused multiply-add gives the same bits where every product is exact in fp32. That is decided by a scan of the
operands: the significant bits of both together are at most 24, the smallest product is a normal number and the
largest one finite. Otherwise products and sums are separate operations.
"""

import numpy as np
from numba import carray, njit

from yieldkit.emulator.kernels.register_block import (
    COLUMNS,
    FUSED_ROWS,
    HOST_HAS_FMA,
    PLAIN_ROWS,
    copy_floats,
    floats_at,
    fused_block,
    fused_whole,
    load_at,
    plain_block,
    plain_whole,
    store_at,
    store_lanes,
)
from yieldkit.emulator.kernels.scalar import bits_f32, canon, f32_bits

# Elements of K per pass: a panel of B (16 columns) then fits half a 32 KB first-level cache.
_K_BLOCK = 256
# Elements of A per pass: a quarter of a 1 MB second-level cache.
_A_BLOCK = 65536


@njit(error_model="numpy", inline="always")
def _scan(x):
    """Smallest non-zero magnitude - 1, largest magnitude, union of the significand bits of a flat array."""
    low = np.uint32(0xFFFFFFFF)
    high = np.uint32(0)
    union = np.uint32(0)
    for i in range(x.size):
        u = np.uint32(f32_bits(x[i]) & np.uint32(0x7FFFFFFF))
        low = min(low, np.uint32(u - np.uint32(1)))
        high = max(high, u)
        union = np.uint32(union | u)
    return low, high, union


@njit(error_model="numpy", inline="always")
def _significant(union):
    """Significant bits of the widest of the values whose significand fields are in `union`."""
    bits = 24
    while bits > 1 and (union >> np.uint32(24 - bits)) & np.uint32(1) == 0:
        bits -= 1
    return bits


@njit(error_model="numpy", inline="always")
def _exact(a, b):
    """Whether every product of elements of two flat arrays is exact in fp32."""
    infinite = np.uint32(0x7F800000)
    a_low, a_high, a_union = _scan(a)
    b_low, b_high, b_union = _scan(b)
    if a_high >= infinite or b_high >= infinite:
        return False
    if a_high == 0 or b_high == 0:
        return True
    a_bits, b_bits = _significant(a_union), _significant(b_union)
    if a_bits + b_bits > 24 and min(a_bits, b_bits) > 1:
        return False
    low = np.float64(bits_f32(np.uint32(a_low + np.uint32(1)))) * np.float64(bits_f32(np.uint32(b_low + np.uint32(1))))
    return low >= 2.0**-126 and np.float64(bits_f32(a_high)) * np.float64(bits_f32(b_high)) < 2.0**128


@njit(cache=True, error_model="numpy", nogil=True)
def scan_is_exact(a, a_size, b, b_size):
    """Whether all products of two runs of float32, given by address and length, are exact."""
    return _exact(carray(floats_at(a), a_size), carray(floats_at(b), b_size))


@njit(cache=True, error_model="numpy", nogil=True)
def _offsets(outer, inner, outer_stride, inner_stride):
    table = np.empty(outer * inner, np.int64)
    for i in range(outer):
        for j in range(inner):
            table[i * inner + j] = (i * outer_stride + j * inner_stride) // 4
    return table


@njit(cache=True, error_model="numpy", nogil=True)
def _adjacent(table, first, count):
    """Whether `count` entries from `first` on exist and step by one."""
    if first + count > table.size:
        return False
    adjacent = True
    for i in range(1, count):
        adjacent = adjacent and table[first + i] == table[first] + i
    return adjacent


@njit(cache=True, error_model="numpy", nogil=True)
def _product(
    a,
    a_shape,
    a_strides,
    b,
    b_shape,
    b_strides,
    out,
    out_shape,
    out_strides,
    k_tile,
    fused,
    batch_from,
    batch_to,
    row_from,
    row_to,
):
    """`out` = a b for the given batches and rows.

    a[batch, batch, rows, rows, K, K], b[batch, batch, K, K, columns, columns] and out[batch, batch, rows, rows,
    columns, columns] have each matrix axis split in outer and inner, as they please.
    """
    a_m = _offsets(a_shape[2], a_shape[3], a_strides[2], a_strides[3])
    a_k = _offsets(a_shape[4], a_shape[5], a_strides[4], a_strides[5])
    b_k = _offsets(b_shape[2], b_shape[3], b_strides[2], b_strides[3])
    b_n = _offsets(b_shape[4], b_shape[5], b_strides[4], b_strides[5])
    o_m = _offsets(out_shape[2], out_shape[3], out_strides[2], out_strides[3])
    o_n = _offsets(out_shape[4], out_shape[5], out_strides[4], out_strides[5])
    size_k, size_n = a_k.size, b_n.size
    tiles = size_k // k_tile
    rows = FUSED_ROWS if fused else PLAIN_ROWS

    a_step = a_k[1] - a_k[0] if k_tile > 1 else np.int64(1)
    a_tile = a_k[k_tile] - a_k[0] if tiles > 1 else np.int64(0)
    even = True
    for k in range(size_k):
        if a_k[k] != a_k[0] + (k // k_tile) * a_tile + (k % k_tile) * a_step:
            even = False
    # A block of rows is read in place where it is evenly spaced, and adjacent along rows or K; else it is copied.
    blocks = (row_to - row_from + rows - 1) // rows
    in_place = np.empty(blocks, np.bool_)
    # Results of a block over all of K are stored by it where their rows are evenly spaced, and 16 columns adjacent.
    spaced = np.empty(blocks, np.bool_)
    for block in range(blocks):
        m = row_from + block * rows
        ok = even and m + rows <= row_to
        if ok:
            for i in range(rows):
                if a_m[m + i] != a_m[m] + i * (a_m[m + 1] - a_m[m]):
                    ok = False
            if a_step != 1 and a_m[m + 1] - a_m[m] != 1:
                ok = False
        in_place[block] = ok
        spaced[block] = m + rows <= row_to
        for i in range(2, rows):
            if spaced[block] and o_m[m + i] != o_m[m] + i * (o_m[m + 1] - o_m[m]):
                spaced[block] = False

    panels = (size_n + COLUMNS - 1) // COLUMNS
    adjacent = np.empty(panels, np.bool_)
    stores_adjacent = np.empty(2 * panels, np.bool_)
    stored_whole = np.empty(panels, np.bool_)
    for panel in range(panels):
        adjacent[panel] = _adjacent(b_n, panel * COLUMNS, COLUMNS)
        for half in range(2):
            stores_adjacent[2 * panel + half] = _adjacent(o_n, panel * COLUMNS + half * 8, 8)
        stored_whole[panel] = _adjacent(o_n, panel * COLUMNS, COLUMNS)

    k_block = max(_K_BLOCK // k_tile, 1) * k_tile
    blocks_per_pass = max(_A_BLOCK // min(k_block, size_k) // rows, 1)
    copied = np.zeros(min(blocks_per_pass, blocks) * rows * min(k_block, size_k), np.float32)
    packed = np.zeros(panels * size_k * COLUMNS, np.float32)
    totals = np.empty(rows * COLUMNS, np.float32)
    copied_at, packed_at = np.int64(copied.ctypes.data), np.int64(packed.ctypes.data)
    totals_at = np.int64(totals.ctypes.data)
    inner_batches = a_shape[1]
    b_before = np.int64(-1)
    for batch in range(batch_from, batch_to):
        p, q = batch // inner_batches, batch % inner_batches
        a_base = (p * a_strides[0] + q * a_strides[1]) // 4
        b_base = (p * b_strides[0] + q * b_strides[1]) // 4
        o_base = (p * out_strides[0] + q * out_strides[1]) // 4
        if batch == batch_from or b_base != b_before:
            b_before = b_base
            for panel in range(panels):
                n = panel * COLUMNS
                for k in range(size_k):
                    to = (panel * size_k + k) * COLUMNS
                    if adjacent[panel]:
                        start = b_base + b_k[k] + b_n[n]
                        copy_floats(packed_at + 4 * to, b + 4 * start, COLUMNS)
                    else:
                        for j in range(min(COLUMNS, size_n - n)):
                            packed[to + j] = load_at(b, b_base + b_k[k] + b_n[n + j])
        for k_from in range(0, size_k, k_block):
            k_to = min(k_from + k_block, size_k)
            k_count = k_to - k_from
            last = k_to == size_k
            for first_block in range(0, blocks, blocks_per_pass):
                last_block = min(first_block + blocks_per_pass, blocks)
                for block in range(first_block, last_block):
                    if not in_place[block]:
                        m = row_from + block * rows
                        base = (block - first_block) * rows * k_count
                        for i in range(rows):
                            for k in range(k_count):
                                value = np.float32(0.0)
                                if m + i < row_to:
                                    value = load_at(a, a_base + a_m[m + i] + a_k[k_from + k])
                                copied[base + k * rows + i] = value
                for panel in range(panels):
                    n = panel * COLUMNS
                    for block in range(first_block, last_block):
                        m = row_from + block * rows
                        count = min(rows, row_to - m)
                        at_once = k_from == 0 and last and spaced[block] and stored_whole[panel]
                        if at_once:
                            pass
                        elif k_from == 0:
                            totals[:] = np.float32(0.0)
                        else:
                            for i in range(count):
                                for j in range(min(COLUMNS, size_n - n)):
                                    totals[i * COLUMNS + j] = load_at(out, o_base + o_m[m + i] + o_n[n + j])
                        if in_place[block]:
                            at = a + 4 * (a_base + a_m[m] + a_k[k_from])
                            row, step, tile = a_m[m + 1] - a_m[m], a_step, a_tile
                        else:
                            at = copied_at + 4 * (block - first_block) * rows * k_count
                            row, step, tile = np.int64(1), np.int64(rows), np.int64(rows * k_tile)
                        b_at = packed_at + 4 * (panel * size_k + k_from) * COLUMNS
                        if at_once:
                            to = out + 4 * (o_base + o_m[m] + o_n[n])
                            o_row = o_m[m + 1] - o_m[m]
                            if fused:
                                fused_whole(at, row, step, tile, b_at, to, k_count // k_tile, k_tile, o_row)
                            else:
                                plain_whole(at, row, step, tile, b_at, to, k_count // k_tile, k_tile, o_row)
                            continue
                        if fused:
                            fused_block(at, row, step, tile, b_at, totals_at, k_count // k_tile, k_tile)
                        else:
                            plain_block(at, row, step, tile, b_at, totals_at, k_count // k_tile, k_tile)
                        for i in range(count):
                            for half in range(2):
                                j = half * 8
                                if stores_adjacent[2 * panel + half]:
                                    to = o_base + o_m[m + i] + o_n[n + j]
                                    store_lanes(out + 4 * to, totals_at + 4 * (i * COLUMNS + j), last)
                                else:
                                    for lane in range(j, min(j + 8, size_n - n)):
                                        value = totals[i * COLUMNS + lane]
                                        to = o_base + o_m[m + i] + o_n[n + lane]
                                        store_at(out, to, canon(value) if last else value)


__all__ = ["HOST_HAS_FMA", "scan_is_exact"]
