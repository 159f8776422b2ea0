"""Element-wise operations of the vector unit on strided float32 views.

Opcodes and formats are those of the configuration words. Every result is rounded to the format it is stored in (0 fp32,
1 bf16, 2 fp16), its NaNs made canonical, and kept as float32. Elements are taken in row-major order, in chunks that
are gathered, computed and scattered, so that one compiled version serves every layout.
"""

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.register_block import copy_floats, load_at, store_at
from yieldkit.emulator.kernels.scalar import (
    canon,
    exp32,
    gelu32,
    gelu_grad32,
    log32,
    recip32,
    round_bf16,
    round_fp16,
    rsqrt32,
    sigmoid32,
    sqrt32,
)

MOV, ADD, SUB, MUL, MAX, MAC, EQ, SELECT = 1, 2, 3, 4, 5, 6, 7, 8
EXP, LOG, RECIP, RSQRT, SQRT, SIGMOID, GELU, GELU_GRAD = 9, 10, 11, 12, 13, 14, 15, 16

AXES = 4
_CHUNK = 1024
_LONG_RUN = 16  # from here on a block copy beats a loop
_NAN = np.float32(np.nan)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit(cache=True, error_model="numpy")
def maximum32(a, b):
    """`a` if a > b else `b`; NaN where either is."""
    larger = a if a > b else b
    return larger if a == a and b == b else _NAN


@njit(error_model="numpy", inline="always")
def _compute(op, d, a, b, count):
    """d[i] = op(d[i], a[i], b[i]) on contiguous buffers, not yet rounded to the format."""
    if op == ADD:
        for i in range(count):
            d[i] = a[i] + b[i]
    elif op == SUB:
        for i in range(count):
            d[i] = a[i] - b[i]
    elif op == MUL:
        for i in range(count):
            d[i] = a[i] * b[i]
    elif op == MAX:
        for i in range(count):
            d[i] = maximum32(a[i], b[i])
    elif op == MAC:
        for i in range(count):
            d[i] = d[i] + np.float32(a[i] * b[i])
    elif op == EQ:
        for i in range(count):
            d[i] = _ONE if a[i] == b[i] else _ZERO
    elif op == SELECT:
        for i in range(count):
            d[i] = a[i] if b[i] != _ZERO else d[i]
    elif op == EXP:
        for i in range(count):
            d[i] = exp32(a[i])
    elif op == LOG:
        for i in range(count):
            d[i] = log32(a[i])
    elif op == RECIP:
        for i in range(count):
            d[i] = recip32(a[i])
    elif op == RSQRT:
        for i in range(count):
            d[i] = rsqrt32(a[i])
    elif op == SQRT:
        for i in range(count):
            d[i] = sqrt32(a[i])
    elif op == SIGMOID:
        for i in range(count):
            d[i] = sigmoid32(a[i])
    elif op == GELU:
        for i in range(count):
            d[i] = gelu32(a[i])
    elif op == GELU_GRAD:
        for i in range(count):
            d[i] = a[i] * gelu_grad32(b[i])
    else:
        for i in range(count):
            d[i] = a[i]


@njit(error_model="numpy", inline="always")
def _round(out, d, count, fmt):
    """Round to the format, from one buffer to another: in place, the compiler would branch on NaN."""
    if fmt == 1:
        for i in range(count):
            out[i] = round_bf16(d[i])
    elif fmt == 2:
        for i in range(count):
            out[i] = round_fp16(d[i])
    else:
        for i in range(count):
            out[i] = canon(d[i])


@njit(cache=True, error_model="numpy")
def _gather(buffer, address, shape, stride, first, count):
    """Elements `first` to `first` + `count`, in row-major order, of a view."""
    inner = shape[3]
    outer, i3 = first // inner, first % inner
    i2, outer = outer % shape[2], outer // shape[2]
    i1, i0 = outer % shape[1], outer // shape[1]
    done = 0
    step = stride[3]
    while done < count:
        run = min(inner - i3, count - done)
        at = i0 * stride[0] + i1 * stride[1] + i2 * stride[2] + i3 * step
        if step == 1 and run >= _LONG_RUN:
            copy_floats(np.int64(buffer.ctypes.data) + 4 * done, address + 4 * at, run)
        elif step == 0:
            value = load_at(address, at)
            for i in range(run):
                buffer[done + i] = value
        else:
            for i in range(run):
                buffer[done + i] = load_at(address, at + i * step)
        done += run
        i3 = 0
        i2 += 1
        if i2 == shape[2]:
            i2 = 0
            i1 += 1
            if i1 == shape[1]:
                i1 = 0
                i0 += 1


@njit(cache=True, error_model="numpy")
def _scatter(buffer, address, shape, stride, first, count):
    inner = shape[3]
    outer, i3 = first // inner, first % inner
    i2, outer = outer % shape[2], outer // shape[2]
    i1, i0 = outer % shape[1], outer // shape[1]
    done = 0
    step = stride[3]
    while done < count:
        run = min(inner - i3, count - done)
        at = i0 * stride[0] + i1 * stride[1] + i2 * stride[2] + i3 * step
        if step == 1 and run >= _LONG_RUN:
            copy_floats(address + 4 * at, np.int64(buffer.ctypes.data) + 4 * done, run)
        else:
            for i in range(run):
                store_at(address, at + i * step, buffer[done + i])
        done += run
        i3 = 0
        i2 += 1
        if i2 == shape[2]:
            i2 = 0
            i1 += 1
            if i1 == shape[1]:
                i1 = 0
                i0 += 1


@njit(cache=True, error_model="numpy")
def _merge_axes(shape, strides):
    """Make the last axes as long as the layouts of all operands allow; strides[operand, axis]."""
    for axis in range(AXES - 2, -1, -1):
        together = True
        for operand in range(strides.shape[0]):
            if strides[operand, axis] != strides[operand, 3] * shape[3] and shape[axis] != 1:
                together = False
        if not together:
            # Only neighbours of the last axis merge; a longer axis further out gains nothing.
            break
        shape[3] *= shape[axis]
        shape[axis] = 1


@njit(cache=True, error_model="numpy", nogil=True)
def _apply(op, d, a, b, shape, strides, reads_d, reads_b, fmt):
    """Element-wise operation; d, a, b are addresses, strides[3, AXES] in elements."""
    _merge_axes(shape, strides)
    total = shape[0] * shape[1] * shape[2] * shape[3]
    room = min(total, _CHUNK)
    d_buffer = np.empty(room, np.float32)
    a_buffer = np.empty(room, np.float32)
    b_buffer = np.empty(room, np.float32)
    for first in range(0, total, _CHUNK):
        count = min(_CHUNK, total - first)
        _gather(a_buffer, a, shape, strides[1], first, count)
        if reads_b:
            _gather(b_buffer, b, shape, strides[2], first, count)
        if reads_d:
            _gather(d_buffer, d, shape, strides[0], first, count)
        _compute(op, d_buffer, a_buffer, b_buffer, count)
        _round(a_buffer, d_buffer, count, fmt)
        _scatter(a_buffer, d, shape, strides[0], first, count)
