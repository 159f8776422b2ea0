"""Vector operations on the blocks of all cores at once, as rows of a table, in the order the machine keeps.

Arrays are `[rows|1, cols|1, *dims]`, C-contiguous float32. An instruction becomes a nest of loops with one stride per
operand; loops that step alike are merged. Consecutive instructions run on a few rows of cores at a time, which stay in
the cache from one to the next: cores do not see each other inside a phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from yieldkit.emulator.isa import FORMATS, OPCODES
from yieldkit.emulator.kernels import spans
from yieldkit.emulator.kernels import table as rows_of
from yieldkit.emulator.layouts import Layout
from yieldkit.workloads.program import Instr, Ref, Tensor

__all__ = ["Blocks", "Rows", "Unit", "copy_row", "covers", "group", "instruction_rows", "merge", "put", "unit_rows"]

Loop = tuple[int, tuple[int, ...]]
Rows = list[list[int]]

_READS_B: Final = frozenset({"add", "sub", "mul", "max", "mac", "eq", "select", "gelu_grad"})
_READS_D: Final = frozenset({"mac", "select"})
_CACHE_WORDS: Final = 49_152
"""Words of all operands of a chunk, well inside a second-level cache of 512 KB."""


@dataclass(frozen=True)
class Blocks:
    """Where tensors are and how their blocks lie.

    Attributes:
        tensors: of the program.
        number: index of each tensor in the list of addresses.
        layout: (rows, cols) of each array.
        zeros: constants that hold nothing but +0.
    """

    tensors: Mapping[str, Tensor]
    number: Mapping[str, int]
    layout: Mapping[str, Layout]
    zeros: frozenset[str]

    def words(self, name: str) -> int:
        """Words of a row of blocks."""
        return self.layout[name][1] * self.tensors[name].size


def put(kind: int, *parts: tuple[int, Sequence[int]]) -> list[int]:
    """A row of a table with `parts` (position, values)."""
    row = [0] * rows_of.WIDTH
    row[rows_of.KIND] = kind
    for position, values in parts:
        row[position : position + len(values)] = values
    return row


def group(rows: Rows, chunks: int = 1) -> Rows:
    """Rows that run one after the other, `chunks` times."""
    return [put(rows_of.GROUP, (rows_of.CHUNKS, (chunks, len(rows)))), *rows] if rows else []


def merge(loops: Sequence[Loop]) -> list[Loop]:
    """Neighbouring loops that step through all operands as one."""
    merged: list[Loop] = []
    for extent, strides in loops:
        if merged and all(o == s * extent for o, s in zip(merged[-1][1], strides, strict=True)):
            merged[-1] = (merged[-1][0] * extent, strides)
        else:
            merged.append((extent, strides))
    return merged


def instruction_rows(instrs: Sequence[Instr], blocks: Blocks) -> Rows:
    """Groups of rows for the instructions of a compute phase."""
    rows: Rows = []
    units = list(_units(instrs, blocks))
    first = 0
    while first < len(units):
        extent = blocks.layout[units[first].instr.d.tensor][0]
        last = first
        while last < len(units) and blocks.layout[units[last].instr.d.tensor][0] == extent:
            last += 1
        names = dict.fromkeys(ref.tensor for unit in units[first:last] for ref in unit.refs())
        words = sum(blocks.words(name) for name in names if blocks.layout[name][0] > 1)
        here = extent
        if last - first > 1 and extent > 1:
            # Chunks of equal size, whatever number of rows.
            here = max(n for n in range(1, extent + 1) if extent % n == 0 and (n == 1 or n * words <= _CACHE_WORDS))
        body = [row for unit in units[first:last] for row in unit_rows(unit, blocks, here)]
        rows += group(body, extent // here)
        first = last
    return rows


@dataclass(frozen=True)
class Unit:
    """An instruction, and where its sequences start if not at the destination's present values."""

    instr: Instr
    start: Ref | None = None

    def refs(self) -> list[Ref]:
        """References to all operands."""
        return [ref for ref in (self.instr.d, self.instr.a, self.instr.b, self.start) if ref is not None]


def _units(instrs: Sequence[Instr], blocks: Blocks) -> Iterator[Unit]:
    """A copy of one value to where a reduction starts is left out: the reduction starts from that value itself."""
    number = 0
    while number < len(instrs):
        instr = instrs[number]
        after = instrs[number + 1] if number + 1 < len(instrs) else None
        if after is not None and instr.op == "mov" and _starts(instr, after, blocks):
            yield Unit(after, instr.a)
            number += 2
        else:
            yield Unit(instr)
            number += 1


def _starts(copy: Instr, after: Instr, blocks: Blocks) -> bool:
    d = after.d
    operands = (after.a, after.b) if after.op == "mac" else (after.a,)
    return (
        d.tensor == copy.d.tensor
        and blocks.tensors[d.tensor].dtype == "fp32"
        and blocks.tensors[copy.a.tensor].dtype == "fp32"
        and any(extent > 1 and d.stride(axis) == 0 for axis, extent in after.axes)
        and (after.op == "mac" or after.b == d)
        and not any(copy.a.strides)
        and copy.a.tensor != d.tensor
        and all(ref is not None and ref.tensor != d.tensor for ref in operands)
        and _places(copy) == _places(after)
    )


def _places(instr: Instr) -> tuple[int, list[Loop]]:
    loops = [(extent, instr.d.stride(axis)) for axis, extent in instr.axes]
    kept = sorted(((e, (s,)) for e, s in loops if e > 1 and s), key=lambda loop: -abs(loop[1][0]))
    return instr.d.offset, merge(kept)


def covers(instr: Instr, size: int) -> bool:
    """Whether an instruction writes every word of its destination's block, which has `size` words."""
    offset, loops = _places(instr)
    return offset == 0 and (loops == [(size, (1,))] or (size == 1 and not loops))


def _loops(instr: Instr, refs: Sequence[Ref | None], blocks: Blocks, here: int) -> list[Loop]:
    layouts = [blocks.layout[ref.tensor] if ref is not None else (1, 1) for ref in refs]
    sizes = [blocks.tensors[ref.tensor].size if ref is not None else 0 for ref in refs]
    loops: list[Loop] = [
        (here, tuple(size * c if r > 1 else 0 for (r, c), size in zip(layouts, sizes, strict=True))),
        (layouts[0][1], tuple(size if c > 1 else 0 for (_, c), size in zip(layouts, sizes, strict=True))),
    ]
    loops += [(extent, tuple(ref.stride(axis) if ref else 0 for ref in refs)) for axis, extent in instr.axes]
    return [loop for loop in loops if loop[0] > 1]


def unit_rows(unit: Unit, blocks: Blocks, here: int) -> Rows:
    """Rows for one instruction on `here` rows of cores at a time."""
    instr = unit.instr
    d, a, b = instr.d, instr.a, instr.b
    reduces = any(extent > 1 and d.stride(axis) == 0 for axis, extent in instr.axes)
    fmt = FORMATS[blocks.tensors[d.tensor].dtype]
    read = (a,) if instr.op != "mac" and reduces else (a, b)
    shifted = any(ref is not None and ref.tensor == d.tensor and (reduces or not _alike(instr, ref)) for ref in read)
    refs = [d, a, b, unit.start or d]
    loops = _loops(instr, refs, blocks, here)
    kept, reduced = [loop for loop in loops if loop[1][0]], merge([loop for loop in loops if not loop[1][0]])
    if shifted or (reduces and fmt) or len(reduced) > 4:
        return _serial(instr, refs, loops, blocks, here, fmt)
    if not reduces:
        return _elementwise(instr, refs, merge(kept), blocks, here, fmt)
    if instr.op == "mac" and unit.start is not None and unit.start.tensor in blocks.zeros:
        product = _product(refs, merge([(e, s[:3]) for e, s in kept]), reduced, blocks, here)
        if product:
            return product
    rows: Rows = []
    for offset, inner in _expanded(merge(kept), 4):
        rows.append(
            put(
                rows_of.CHAIN,
                (rows_of.OP, (OPCODES[instr.op], fmt)),
                *_operands(refs, offset, blocks, here),
                (rows_of.SHAPE, _extents(inner)),
                (rows_of.REDUCED, _extents(reduced)),
                (rows_of.KEPT_STRIDES, _strides(inner, 4)),
                (rows_of.REDUCED_STRIDES, _strides(reduced, 3)),
            )
        )
    return rows


def _alike(instr: Instr, ref: Ref) -> bool:
    d = instr.d
    return ref.offset == d.offset and all(ref.stride(axis) == d.stride(axis) for axis, e in instr.axes if e > 1)


def _padded(loops: Sequence[Loop], to: int) -> list[Loop]:
    return [(1, (0, 0, 0, 0))] * (to - len(loops)) + list(loops)


def _extents(loops: Sequence[Loop]) -> list[int]:
    return [extent for extent, _ in _padded(loops, 4)]


def _strides(loops: Sequence[Loop], operands: int) -> list[int]:
    return [strides[operand] for operand in range(operands) for _, strides in _padded(loops, 4)]


def _expanded(loops: Sequence[Loop], keep: int) -> list[tuple[tuple[int, ...], list[Loop]]]:
    """Offsets per operand for the loops that do not fit a row, each with the `keep` innermost loops that do."""
    extra, inner = loops[: max(0, len(loops) - keep)], list(loops[max(0, len(loops) - keep) :])
    offsets = [(0, 0, 0, 0)]
    for extent, s in extra:
        s = (*s, 0)[:4]
        offsets = [tuple(o + i * t for o, t in zip(base, s, strict=True)) for base in offsets for i in range(extent)]  # type: ignore[misc]
    return [(offset, inner) for offset in offsets]


def _operands(
    refs: Sequence[Ref | None], offset: Sequence[int], blocks: Blocks, here: int
) -> list[tuple[int, list[int]]]:
    known = [ref if ref is not None else refs[1] for ref in refs]
    names = [ref.tensor for ref in known if ref is not None]
    steps = [here * blocks.words(name) if blocks.layout[name][0] > 1 else 0 for name in names]
    places = [ref.offset + o for ref, o in zip(known, offset, strict=True) if ref is not None]
    return [
        (rows_of.OPERAND, [blocks.number[name] for name in names]),
        (rows_of.OFFSET, places),
        (rows_of.STEP, steps),
    ]


def _elementwise(instr: Instr, refs: list[Ref | None], loops: list[Loop], blocks: Blocks, here: int, fmt: int) -> Rows:
    op = OPCODES[instr.op]
    key = span_key(op, fmt, loops, unary=instr.b is None)
    rows: Rows = []
    if instr.op == "max" and key is None:
        # The machine keeps A where the operands compare equal (zeros of either sign); that kernel keeps B.
        refs = [refs[0], refs[2], refs[1], refs[3]]
        loops = [(e, (s[0], s[2], s[1], s[3])) for e, s in loops]
    for offset, inner in _expanded(loops, 4):
        rows.append(
            put(
                rows_of.CHUNKED if key is None else rows_of.SPAN,
                (rows_of.OP, (op, fmt, key or 0)),
                *_operands(refs, offset, blocks, here),
                (rows_of.SHAPE, _extents(inner)),
                (rows_of.STRIDES, _strides(inner, 3)),
                (rows_of.READS_D, (instr.op in _READS_D, instr.op in _READS_B)),
            )
        )
    return rows


def span_key(op: int, fmt: int, loops: Sequence[Loop], *, unary: bool) -> int | None:
    """Key of the vector loop for an operation, None where there is none."""
    d, a, b = loops[-1][1][:3] if loops else (1, 1, 1)
    if unary:
        b = 1
    modes = {(1, 1): spans.BOTH, (1, 0): spans.B_FIXED, (0, 1): spans.A_FIXED}
    if op not in spans.SPAN_OPS or fmt > 1 or d != 1 or (a, b) not in modes:
        return None
    return (op * 2 + fmt) * 4 + modes[a, b]


def _serial(instr: Instr, refs: list[Ref | None], loops: list[Loop], blocks: Blocks, here: int, fmt: int) -> Rows:
    """Element by element in the order of the loops: operands that overlap with the destination, rounded sums."""
    if instr.op == "max":
        refs = [refs[0], refs[2], refs[1], refs[3]]
        loops = [(e, (s[0], s[2], s[1], s[3])) for e, s in loops]
    return [
        put(
            rows_of.SERIAL,
            (rows_of.OP, (OPCODES[instr.op], fmt)),
            *_operands(refs, offset, blocks, here),
            (rows_of.SHAPE, _extents(inner)),
            (rows_of.STRIDES, _strides(inner, 3)),
            (rows_of.READS_D, (instr.op in _READS_D, instr.op in _READS_B)),
        )
        for offset, inner in _expanded(loops, 4)
    ]


def _product(refs: list[Ref | None], kept: list[Loop], reduced: list[Loop], blocks: Blocks, here: int) -> Rows:
    """Rows of a product of matrices, none where the loops are not those of one."""
    lines = [loop for loop in kept if loop[1][1] and not loop[1][2]]
    columns = [loop for loop in kept if loop[1][2] and not loop[1][1]]
    batch = merge([loop for loop in kept if bool(loop[1][1]) == bool(loop[1][2])])
    if len(lines) > 2 or len(columns) > 2 or len(reduced) > 2 or not (lines or columns) or len(batch) > 3:
        return []
    size = 1
    for extent, _ in reduced:
        size *= extent
    names = [ref.tensor for ref in refs[1:3] if ref is not None]
    fuses = all(blocks.tensors[name].dtype != "fp32" for name in names)
    lengths = [(here if blocks.layout[name][0] > 1 else 1) * blocks.words(name) for name in names]
    rows: Rows = []
    for offset, inner in _expanded(batch, 2):
        parts = _operands([*refs[:3], refs[0]], offset, blocks, here)
        places = parts[1][1]
        axes: list[int] = []
        for operand, order in (
            (1, (inner, lines, reduced)),
            (2, (inner, reduced, columns)),
            (0, (inner, lines, columns)),
        ):
            loops = [loop for part in order for loop in _padded(part, 2)]
            axes += [extent for extent, _ in loops] + [4 * strides[operand] for _, strides in loops]
        rows.append(
            put(
                rows_of.PRODUCT,
                *parts,
                (rows_of.PRODUCT_AXES, axes),
                (rows_of.K_TILE, (size, fuses, -places[1], lengths[0], -places[2], lengths[1])),
            )
        )
    return rows


def copy_row(
    op: str,
    fmt: int,
    numbers: Sequence[int],
    loops: Sequence[Loop],
    *,
    offsets: Sequence[int] = (0, 0, 0),
    steps: Sequence[int] = (0, 0, 0),
) -> list[int]:
    """A row d = op(a, b) or d = a over up to four loops, with operands given by number and strides in elements."""
    merged = merge([loop for loop in loops if loop[0] > 1])
    key = span_key(OPCODES[op], fmt, merged, unary=op == "mov")
    swap = op == "max" and key is None
    order = (0, 2, 1) if swap else (0, 1, 2)
    merged = [(e, tuple(s[i] for i in order)) for e, s in merged]
    return put(
        rows_of.CHUNKED if key is None else rows_of.SPAN,
        (rows_of.OP, (OPCODES[op], fmt, key or 0)),
        (rows_of.OPERAND, [numbers[i] for i in order]),
        (rows_of.OFFSET, [offsets[i] for i in order]),
        (rows_of.STEP, [steps[i] for i in order]),
        (rows_of.SHAPE, _extents(merged)),
        (rows_of.STRIDES, _strides(merged, 3)),
        (rows_of.READS_D, (op in _READS_D, op in _READS_B)),
    )
