"""One vector operation of one core, element by element in the machine's order and rounding."""

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.state import binary, compute, decode, encode

__all__ = ["run_instr"]


@njit(cache=True)
def run_instr(opcode, extents, strides, start, d, a, b, fmt):
    """Run an operation on flat blocks.

    extents int64[k], outermost first; strides int64[3, k] and start int64[3] of D, A, B; d, a, b float32 flat, of which
    any may be the same array; `fmt` is D's format.
    """
    levels = extents.shape[0]
    index = np.zeros(levels, np.int64)
    at_d, at_a, at_b = start[0], start[1], start[2]
    two = binary(opcode)
    while True:
        y = b[at_b] if two else np.float32(0.0)
        if opcode != 8 or y != np.float32(0.0):
            d[at_d] = decode(encode(compute(opcode, d[at_d], a[at_a], y), fmt), fmt)
        level = levels - 1
        while level >= 0:
            index[level] += 1
            at_d += strides[0, level]
            at_a += strides[1, level]
            at_b += strides[2, level]
            if index[level] < extents[level]:
                break
            at_d -= strides[0, level] * extents[level]
            at_a -= strides[1, level] * extents[level]
            at_b -= strides[2, level] * extents[level]
            index[level] = 0
            level -= 1
        if level < 0:
            return
