"""Element-wise operations and ordered reductions of the vector unit on strided float32 views.

Opcodes and formats are those of the configuration words. Every result is rounded to the format it is stored in (0 fp32,
1 bf16, 2 fp16), its NaNs made canonical, and kept as float32. Elements are taken in row-major order, in chunks that
are gathered, computed and scattered, so that one compiled version serves every layout.
"""

from collections.abc import Sequence

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
from yieldkit.errors import BadInput

MOV, ADD, SUB, MUL, MAX, MAC, EQ, SELECT = 1, 2, 3, 4, 5, 6, 7, 8
EXP, LOG, RECIP, RSQRT, SQRT, SIGMOID, GELU, GELU_GRAD = 9, 10, 11, 12, 13, 14, 15, 16

AXES = 4
_CHUNK = 1024
_LONG_RUN = 16  # from here on a block copy beats a loop
_SIDE_BY_SIDE = 8  # from so many outputs on, sequences run side by side
_NAN = np.float32(np.nan)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_READS_D = (MAC, SELECT)
_READS_B = (ADD, SUB, MUL, MAX, MAC, EQ, SELECT, GELU_GRAD)


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


@njit(cache=True, error_model="numpy", nogil=True)
def _reduce_each(op, d, a, b, kept, kept_strides, reduced, reduced_strides, fmt):
    """Like `_reduce`, one output after the other."""
    total = reduced[0] * reduced[1] * reduced[2] * reduced[3]
    room = min(total, _CHUNK)
    a_buffer = np.empty(room, np.float32)
    b_buffer = np.empty(room, np.float32)
    base = np.empty(3, np.int64)
    for output in range(kept[0] * kept[1] * kept[2] * kept[3]):
        left = output
        base[:] = 0
        for axis in range(AXES - 1, -1, -1):
            for operand in range(3):
                base[operand] += (left % kept[axis]) * kept_strides[operand, axis]
            left //= kept[axis]
        value = load_at(d, base[0])
        for first in range(0, total, room):
            count = min(room, total - first)
            _gather(a_buffer, a + 4 * base[1], reduced, reduced_strides[1], first, count)
            if op == MAC:
                _gather(b_buffer, b + 4 * base[2], reduced, reduced_strides[2], first, count)
            for i in range(count):
                if op == ADD:
                    value = np.float32(value + a_buffer[i])
                elif op == MAX:
                    value = maximum32(value, a_buffer[i])
                else:
                    value = np.float32(value + np.float32(a_buffer[i] * b_buffer[i]))
                if fmt == 1:
                    value = round_bf16(value)
                elif fmt == 2:
                    value = round_fp16(value)
        store_at(d, base[0], canon(value))


@njit(cache=True, error_model="numpy", nogil=True)
def _reduce(op, d, a, b, kept, kept_strides, reduced, reduced_strides, fmt):
    """Take d to op(d, a) or d + a b over reduced[AXES] in row-major order, for all of kept[AXES] side by side."""
    outputs = kept[0] * kept[1] * kept[2] * kept[3]
    if outputs < _SIDE_BY_SIDE:
        _reduce_each(op, d, a, b, kept, kept_strides, reduced, reduced_strides, fmt)
        return
    room = min(outputs, _CHUNK // 4)
    d_buffer = np.empty(room, np.float32)
    a_buffer = np.empty(room, np.float32)
    b_buffer = np.empty(room, np.float32)
    product = np.empty(room, np.float32)
    result = np.empty(room, np.float32)
    for first in range(0, outputs, room):
        count = min(room, outputs - first)
        _gather(d_buffer, d, kept, kept_strides[0], first, count)
        for i0 in range(reduced[0]):
            for i1 in range(reduced[1]):
                for i2 in range(reduced[2]):
                    for i3 in range(reduced[3]):
                        s = reduced_strides[1]
                        at = a + 4 * (i0 * s[0] + i1 * s[1] + i2 * s[2] + i3 * s[3])
                        _gather(a_buffer, at, kept, kept_strides[1], first, count)
                        if op == MAC:
                            s = reduced_strides[2]
                            at = b + 4 * (i0 * s[0] + i1 * s[1] + i2 * s[2] + i3 * s[3])
                            _gather(b_buffer, at, kept, kept_strides[2], first, count)
                            _compute(MUL, product, a_buffer, b_buffer, count)
                            _compute(ADD, result, d_buffer, product, count)
                        else:
                            _compute(op, result, d_buffer, a_buffer, count)
                        _round(d_buffer, result, count, fmt)
        _scatter(d_buffer, d, kept, kept_strides[0], first, count)


def _address(x: np.ndarray) -> int:
    return int(x.__array_interface__["data"][0])


def _views(d: np.ndarray, operands: Sequence[np.ndarray], fmt: int) -> list[np.ndarray]:
    """All operands as views of d's shape."""
    if fmt not in (0, 1, 2):
        raise BadInput(f"fmt: 0 fp32, 1 bf16 or 2 fp16 expected, got {fmt}")
    if d.ndim > AXES:
        raise BadInput(f"d: at most {AXES} axes, got shape {d.shape}")
    if not d.flags.writeable:
        raise BadInput("d: a read-only array cannot take results")
    views = []
    for x in (d, *operands):
        if x.dtype != np.float32:
            raise BadInput(f"operand of dtype {x.dtype}: float32 expected")
        if x.shape != d.shape:
            try:
                x = np.broadcast_to(x, d.shape)
            except ValueError:
                raise BadInput(f"operand of shape {x.shape} does not fit d of shape {d.shape}") from None
        if any(stride % 4 for stride in x.strides):
            raise BadInput(f"strides {x.strides} are not whole elements; pass a copy")
        views.append(x)
    return views


def apply(op: int, d: np.ndarray, a: np.ndarray, b: np.ndarray | None, fmt: int) -> np.ndarray:
    """Set d to op(a, b) element by element, rounded to format `fmt`; returns `d`.

    MOV a; ADD, SUB, MUL; MAX (a if a > b else b, NaN where either is); MAC d + a b, product rounded first; EQ 1 or 0;
    SELECT a where b is not 0, else d; GELU_GRAD a gelu'(b); EXP, LOG, RECIP, RSQRT, SQRT, SIGMOID, GELU of a.
    `a` and `b` are float32 views that broadcast to `d` (up to 4 axes, any strides). `d` may be the same view as an
    operand; otherwise it must not overlap with one.
    """
    if not MOV <= op <= GELU_GRAD:
        raise BadInput(f"op: opcode {MOV} to {GELU_GRAD} expected, got {op}")
    reads_b = op in _READS_B
    if reads_b and b is None:
        raise BadInput(f"b: operation {op} needs a second operand")
    views = _views(d, (a, b) if reads_b and b is not None else (a,), fmt)
    if d.size == 0:
        return d
    missing = AXES - d.ndim
    shape = np.array((1,) * missing + d.shape, np.int64)
    strides = np.zeros((3, AXES), np.int64)
    for row, x in zip(strides, views, strict=False):
        row[missing:] = x.strides
    strides //= 4
    addresses = [_address(x) for x in views]
    _apply(op, addresses[0], addresses[1], addresses[-1], shape, strides, op in _READS_D, reads_b, fmt)
    return d


def reduce(op: int, d: np.ndarray, a: np.ndarray, fmt: int, b: np.ndarray | None = None) -> np.ndarray:
    """Take d to op(d, a) in sequence over the axes on which `d` has stride 0; returns `d`.

    ADD d + a, MAX, or MAC d + a b. `d` is a writable view with stride 0 over the reduced axes (`as_strided`; axes of
    extent 1 count as kept), whose present values start the sequences. Each output element takes its inputs in
    row-major order of the reduced axes and is rounded to format `fmt` after every one. `d` overlaps no operand.
    """
    if op not in (ADD, MAX, MAC):
        raise BadInput(f"op: ADD, MAX or MAC expected, got {op}")
    if op == MAC and b is None:
        raise BadInput("b: MAC needs a second operand")
    views = _views(d, (a, b) if op == MAC and b is not None else (a,), fmt)
    if d.size == 0:
        return d
    reduced_axes = [i for i in range(d.ndim) if d.strides[i] == 0 and d.shape[i] > 1]
    kept_axes = [i for i in range(d.ndim) if i not in reduced_axes]
    shapes, strides = np.ones((2, AXES), np.int64), np.zeros((2, 3, AXES), np.int64)
    for side, axes in enumerate((kept_axes, reduced_axes)):
        for place, axis in enumerate(axes, AXES - len(axes)):
            shapes[side, place] = d.shape[axis]
            for operand, x in enumerate(views):
                strides[side, operand, place] = x.strides[axis] // 4
    addresses = [_address(x) for x in views]
    _reduce(op, addresses[0], addresses[1], addresses[-1], shapes[0], strides[0], shapes[1], strides[1], fmt)
    return d
