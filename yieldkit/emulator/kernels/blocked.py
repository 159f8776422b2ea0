"""Matrix products with blocked accumulation: fp32 inside a block of k, bfloat16 from block to block and core to core.

For each output element: the sum of a block starts at +0.0 and adds the products with k ascending, each product rounded
to fp32 first. A core's partial is the sum of its first block, rounded to bfloat16, to which the sums of its other
blocks are added in ascending order with one rounding to bfloat16 each. The total is the first core's partial, to which
the others are added in ascending order, rounded each time.
"""

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.matmul import _offsets
from yieldkit.emulator.kernels.register_block import (
    COLUMNS,
    FUSED_ROWS,
    PLAIN_ROWS,
    fused_block,
    load_at,
    plain_block,
    store_at,
)
from yieldkit.emulator.kernels.scalar import round_bf16


@njit(cache=True, error_model="numpy", nogil=True)
def _blocked_product(
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
    k_block,
    fused,
    batch_from,
    batch_to,
    row_from,
    row_to,
):
    """`out` = a b for the given batches and rows, with axes as those of `_product`, `k_block` steps to a block."""
    a_m = _offsets(a_shape[2], a_shape[3], a_strides[2], a_strides[3])
    a_k = _offsets(a_shape[4], a_shape[5], a_strides[4], a_strides[5])
    b_k = _offsets(b_shape[2], b_shape[3], b_strides[2], b_strides[3])
    b_n = _offsets(b_shape[4], b_shape[5], b_strides[4], b_strides[5])
    o_m = _offsets(out_shape[2], out_shape[3], out_strides[2], out_strides[3])
    o_n = _offsets(out_shape[4], out_shape[5], out_strides[4], out_strides[5])
    size_k, size_n = a_k.size, b_n.size
    rows = FUSED_ROWS if fused else PLAIN_ROWS
    panels = (size_n + COLUMNS - 1) // COLUMNS
    packed = np.zeros(panels * size_k * COLUMNS, np.float32)
    lines = np.zeros(size_k * rows, np.float32)
    sums = np.empty(rows * COLUMNS, np.float32)
    partial = np.empty(rows * COLUMNS, np.float32)
    total = np.empty(rows * COLUMNS, np.float32)
    packed_at, lines_at, sums_at = np.int64(packed.ctypes.data), np.int64(lines.ctypes.data), np.int64(sums.ctypes.data)
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
                    for j in range(min(COLUMNS, size_n - n)):
                        packed[to + j] = load_at(b, b_base + b_k[k] + b_n[n + j])
        for m in range(row_from, row_to, rows):
            count = min(rows, row_to - m)
            # [k][rows]: adjacent across rows, as the inner loop wants it; lines beyond the last stay finite.
            for k in range(size_k):
                for i in range(rows):
                    lines[k * rows + i] = load_at(a, a_base + a_m[m + i] + a_k[k]) if i < count else np.float32(0.0)
            for panel in range(panels):
                n = panel * COLUMNS
                for tile in range(0, size_k, k_tile):
                    for k in range(tile, tile + k_tile, k_block):
                        steps = min(k_block, tile + k_tile - k)
                        sums[:] = np.float32(0.0)
                        a_at = lines_at + 4 * k * rows
                        b_at = packed_at + 4 * (panel * size_k + k) * COLUMNS
                        if fused:
                            fused_block(a_at, 1, rows, 0, b_at, sums_at, 1, steps)
                        else:
                            plain_block(a_at, 1, rows, 0, b_at, sums_at, 1, steps)
                        if k == tile:
                            for i in range(rows * COLUMNS):
                                partial[i] = round_bf16(sums[i])
                        else:
                            for i in range(rows * COLUMNS):
                                partial[i] = round_bf16(np.float32(partial[i] + sums[i]))
                    if tile == 0:
                        total[:] = partial
                    else:
                        for i in range(rows * COLUMNS):
                            total[i] = round_bf16(np.float32(total[i] + partial[i]))
                for i in range(count):
                    for j in range(min(COLUMNS, size_n - n)):
                        store_at(out, o_base + o_m[m + i] + o_n[n + j], total[i * COLUMNS + j])


__all__: list[str] = []
