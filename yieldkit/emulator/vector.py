"""One vector operation on the blocks of all cores at once, in the order the machine keeps.

Arrays are `[rows|1, cols|1, *dims]`, C-contiguous float32. An instruction becomes a nest of loops with one stride per
operand; loops that step alike are merged, and the nest is handed to a compiled kernel as strided views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.isa import FORMATS, OPCODES
from yieldkit.emulator.kernels.elementwise import apply, reduce
from yieldkit.emulator.kernels.matmul import split_product
from yieldkit.workloads.program import Instr, Ref, Tensor

__all__ = ["run_instr"]

F32 = npt.NDArray[np.float32]
Loop = tuple[int, tuple[int, ...]]

_BYTES: Final = 4


@dataclass(frozen=True)
class _Nest:
    """Loops kept (they index the destination) and reduced (they do not), outermost first, strides in elements."""

    kept: tuple[Loop, ...]
    reduced: tuple[Loop, ...]


def run_instr(
    instr: Instr, get: Callable[[str], F32], put: Callable[[str, F32], None], tensors: dict[str, Tensor]
) -> None:
    """Run `instr` on the arrays that `get` returns; `put` stores a destination that had to be made larger."""
    refs = [ref for ref in (instr.d, instr.a, instr.b) if ref is not None]
    arrays = [get(ref.tensor) for ref in refs]
    rows = max(array.shape[0] for array in arrays)
    cols = max(array.shape[1] for array in arrays)
    if arrays[0].shape[:2] != (rows, cols):
        # A copy of this block has come to differ between cores: from here on every core has its own.
        wide = np.ascontiguousarray(np.broadcast_to(arrays[0], (rows, cols, *arrays[0].shape[2:])))
        put(instr.d.tensor, wide)
        arrays = [get(ref.tensor) for ref in refs]
    nest = _nest(instr, tuple(array.shape[:2] for array in arrays), tuple(tensors[r.tensor].size for r in refs))
    fmt = FORMATS[tensors[instr.d.tensor].dtype]
    if instr.op == "mac":
        exact = all(tensors[ref.tensor].dtype != "fp32" for ref in refs[1:])
        _mac(nest, refs, arrays, exact=exact)
    elif nest.reduced:
        _reduce(instr.op, nest, refs, arrays, fmt)
    else:
        _apply(instr.op, nest, refs, arrays, fmt)


@lru_cache(maxsize=8192)
def _nest(instr: Instr, shapes: tuple[tuple[int, int], ...], sizes: tuple[int, ...]) -> _Nest:
    refs = [ref for ref in (instr.d, instr.a, instr.b) if ref is not None]
    rows, cols = shapes[0]
    loops: list[Loop] = [
        (rows, tuple(size * c if r > 1 else 0 for (r, c), size in zip(shapes, sizes, strict=True))),
        (cols, tuple(size if c > 1 else 0 for (_, c), size in zip(shapes, sizes, strict=True))),
    ]
    loops += [(extent, tuple(ref.stride(axis) for ref in refs)) for axis, extent in instr.axes]
    kept = _merge([loop for loop in loops if loop[0] > 1 and loop[1][0] != 0])
    reduced = _merge([loop for loop in loops if loop[0] > 1 and loop[1][0] == 0])
    return _Nest(tuple(kept), tuple(reduced))


def _merge(loops: list[Loop]) -> list[Loop]:
    merged: list[Loop] = []
    for extent, strides in loops:
        if merged and all(o == s * extent for o, s in zip(merged[-1][1], strides, strict=True)):
            merged[-1] = (merged[-1][0] * extent, strides)
        else:
            merged.append((extent, strides))
    return merged


def _view(array: F32, offset: int, loops: tuple[Loop, ...] | list[Loop], operand: int, axes: int) -> F32:
    """Strided view with `axes` axes; missing ones come first with extent 1."""
    lead = axes - len(loops)
    shape = (1,) * lead + tuple(extent for extent, _ in loops)
    strides = (0,) * lead + tuple(strides[operand] * _BYTES for _, strides in loops)
    return np.ndarray(shape, np.float32, array, offset * _BYTES, strides)


def _outer(loops: tuple[Loop, ...], keep: int) -> tuple[list[tuple[int, ...]], tuple[Loop, ...]]:
    """Offsets per operand of the loops that do not fit a kernel, and the `keep` innermost loops that do."""
    extra, inner = loops[: max(0, len(loops) - keep)], loops[max(0, len(loops) - keep) :]
    operands = len(loops[0][1]) if loops else 3
    offsets = [(0,) * operands]
    for extent, strides in extra:
        offsets = [
            tuple(o + i * s for o, s in zip(base, strides, strict=True)) for base in offsets for i in range(extent)
        ]
    return offsets, inner


def _apply(op: str, nest: _Nest, refs: list[Ref], arrays: list[F32], fmt: int) -> None:
    offsets, loops = _outer(nest.kept, 4)
    for offset in offsets:
        views = [
            _view(array, ref.offset + offset[i], loops, i, 4)
            for i, (array, ref) in enumerate(zip(arrays, refs, strict=True))
        ]
        if op == "max":
            # The machine keeps A where the operands compare equal (zeros of either sign); the kernel keeps B.
            views[1], views[2] = views[2], views[1]
        apply(OPCODES[op], views[0], views[1], views[2] if len(views) > 2 else None, fmt)


def _reduce(op: str, nest: _Nest, refs: list[Ref], arrays: list[F32], fmt: int) -> None:
    offsets, loops = _outer(nest.kept, 4 - len(nest.reduced))
    for offset in offsets:
        every = [*loops, *nest.reduced]
        d = _view(arrays[0], refs[0].offset + offset[0], every, 0, 4)
        a = _view(arrays[1], refs[1].offset + offset[1], every, 1, 4)
        b = _view(arrays[2], refs[2].offset + offset[2], every, 2, 4) if op == "mac" else None
        reduce(OPCODES[op], d, a, fmt, b)


def _mac(nest: _Nest, refs: list[Ref], arrays: list[F32], *, exact: bool) -> None:
    rows = [loop for loop in nest.kept if loop[1][1] and not loop[1][2]]
    columns = [loop for loop in nest.kept if loop[1][2] and not loop[1][1]]
    batch = _merge([loop for loop in nest.kept if bool(loop[1][1]) == bool(loop[1][2])])
    plain = len(rows) <= 2 and len(columns) <= 2 and len(nest.reduced) <= 2 and (rows or columns) and len(batch) <= 3
    if plain and nest.reduced and _is_zero(arrays[0], refs[0], nest.kept):
        _product(batch, rows, columns, nest.reduced, refs, arrays, exact=exact)
        return
    _reduce("mac", nest, refs, arrays, 0)


def _is_zero(array: F32, ref: Ref, loops: tuple[Loop, ...]) -> bool:
    view = np.ndarray(
        tuple(extent for extent, _ in loops),
        np.uint32,
        array,
        ref.offset * _BYTES,
        tuple(strides[0] * _BYTES for _, strides in loops),
    )
    return not view.any()


def _product(
    batch: list[Loop],
    rows: list[Loop],
    columns: list[Loop],
    reduced: tuple[Loop, ...],
    refs: list[Ref],
    arrays: list[F32],
    *,
    exact: bool,
) -> None:
    one: Loop = (1, (0, 0, 0))

    def pair(loops: list[Loop] | tuple[Loop, ...]) -> list[Loop]:
        return [one] * (2 - len(loops)) + list(loops)

    offsets, inner = _outer(tuple(batch), 2)
    size = 1
    for extent, _ in reduced:
        size *= extent
    for offset in offsets:
        places = [ref.offset + offset[i] for i, ref in enumerate(refs)]
        a = _view(arrays[1], places[1], [*pair(inner), *pair(rows), *pair(reduced)], 1, 6)
        b = _view(arrays[2], places[2], [*pair(inner), *pair(reduced), *pair(columns)], 2, 6)
        out = _view(arrays[0], places[0], [*pair(inner), *pair(rows), *pair(columns)], 0, 6)
        split_product(a, b, out, k_tile=size, exact_products=exact)
