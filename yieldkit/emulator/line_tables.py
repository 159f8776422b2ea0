"""Phases on a range of lines (tokens, samples, pixels): which of them can be cut so, and the tables that do it.

A line is one index of a tensor's first dimension. A phase of vector operations can be cut into lines if every
operation writes line by line and reads, of what the phase itself writes, the same line only. What it reads besides may
come from any line: then a changed line there changes every line of the phase (keys and values of attention).

The rows of such a table are linear in the number of lines, the first line and the row of cores. So the tables of a few
ranges give those of all; a further range checks that they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.kernels import table as rows_of
from yieldkit.emulator.layouts import Layout
from yieldkit.emulator.vector import Blocks, instruction_rows
from yieldkit.workloads.program import Compute, Instr, Ref, Tensor

__all__ = ["LineTable", "Lines", "line_table", "lines_of"]

I64 = npt.NDArray[np.int64]
_LEAST: Final = 12
"""Lines of a phase from which on it is worth cutting; the ranges that a table is made from have up to nine."""


@dataclass(frozen=True)
class Lines:
    """How a phase is cut.

    Attributes:
        count: lines.
        axis: by instruction, the loop that runs over lines.
        same: by tensor that the phase reads and does not write before, whether a line of it serves the same line only.
    """

    count: int
    axis: tuple[str, ...]
    same: Mapping[str, bool]


@dataclass(frozen=True)
class LineTable:
    """Rows as base + count * by_count + first * by_line + row of cores * by_row; all int64[n, WIDTH]."""

    base: I64
    by_count: I64
    by_line: I64
    by_row: I64


def lines_of(phase: Compute, tensors: Mapping[str, Tensor], inside: frozenset[str]) -> Lines | None:
    """How a phase of vector operations is cut into lines, None where it cannot be.

    Args:
        phase: the phase.
        tensors: of the program.
        inside: tensors that the phase writes and nothing reads later.
    """
    written = {instr.d.tensor for instr in phase.instrs}
    counts = {tensors[name].dims[0] for name in written - inside}
    if len(counts) != 1 or (count := counts.pop()) < _LEAST:
        return None
    # Words from line to line; of tensors that live in this phase only, found from the operations.
    step: dict[str, int] = {}
    for instr in phase.instrs:
        for ref in _refs(instr):
            tensor = tensors[ref.tensor]
            if not tensor.values and ref.tensor not in inside and tensor.dims[0] == count:
                step[ref.tensor] = tensor.size // count
    axis: dict[int, str] = {}
    while len(axis) < len(phase.instrs):
        found = len(axis)
        for number, instr in enumerate(phase.instrs):
            if number not in axis and (name := _axis(instr, step, count)) is not None:
                axis[number] = name
                step.setdefault(instr.d.tensor, instr.d.stride(name))
        if len(axis) == found:
            return None
    same: dict[str, bool] = {}
    for number, instr in enumerate(phase.instrs):
        name = axis[number]
        if not _one_line(instr, instr.d, name, step.get(instr.d.tensor, 0), count):
            return None
        for ref in _refs(instr)[1:]:
            if tensors[ref.tensor].values:
                continue
            alike = _one_line(instr, ref, name, step.get(ref.tensor, 0), count)
            if ref.tensor in written and not alike:
                return None
            if not alike and ref.stride(name) != 0:
                return None
            same[ref.tensor] = same.get(ref.tensor, True) and alike
    return Lines(count, tuple(axis[i] for i in range(len(phase.instrs))), same)


def _refs(instr: Instr) -> list[Ref]:
    return [ref for ref in (instr.d, instr.a, instr.b) if ref is not None]


def _one_line(instr: Instr, ref: Ref, axis: str, step: int, count: int) -> bool:
    """Whether index i of the loop over lines reaches line i only, of a tensor with `step` words from line to line."""
    if not step or ref.stride(axis) != step:
        return False
    reach = ref.offset
    for name, extent in instr.axes:
        stride = ref.stride(name)
        if name == axis or extent == 1:
            continue
        if stride % (step * count):
            reach += (extent - 1) * stride if stride > 0 else step
    return 0 <= reach < step


def _axis(instr: Instr, step: Mapping[str, int], count: int) -> str | None:
    """The loop of an operation that steps its destination from line to line."""
    d = instr.d
    for name, extent in instr.axes:
        if extent != count or not d.stride(name):
            continue
        if d.tensor in step:
            if d.stride(name) == step[d.tensor]:
                return name
        elif any(r.tensor in step and r.stride(name) == step[r.tensor] for r in (instr.a, instr.b) if r is not None):
            return name
    return None


def line_table(
    phase: Compute,
    lines: Lines,
    tensors: Mapping[str, Tensor],
    number: Mapping[str, int],
    layout: Mapping[str, Layout],
    zeros: frozenset[str],
) -> LineTable | None:
    """The table of a phase that is cut into lines; None where its rows are not linear in the range."""
    one_row = {name: (1, cols) for name, (_, cols) in layout.items()}
    blocks = Blocks(tensors, number, one_row, zeros)

    def rows(count: int, first: int) -> I64:
        instrs = [_part(instr, name, count, first) for instr, name in zip(phase.instrs, lines.axis, strict=True)]
        return np.array(instruction_rows(instrs, blocks), np.int64)

    corner = rows(5, 0)
    more, further, check = rows(6, 0), rows(5, 1), rows(9, 2)
    if not corner.shape == more.shape == further.shape == check.shape:
        return None
    by_count, by_line = more - corner, further - corner
    if not np.array_equal(check, corner + 4 * by_count + 2 * by_line):
        return None
    by_row = np.zeros_like(corner)
    words = {number[name]: (cols * tensors[name].size if rows_ > 1 else 0) for name, (rows_, cols) in layout.items()}
    for row, slope in zip(corner, by_row, strict=True):
        if row[rows_of.KIND] != rows_of.GROUP:
            for operand in range(4):
                slope[rows_of.OFFSET + operand] = words.get(int(row[rows_of.OPERAND + operand]), 0)
    return LineTable(corner - 5 * by_count, by_count, by_line, by_row)


def _part(instr: Instr, axis: str, count: int, first: int) -> Instr:
    """An operation on `count` lines from `first` on."""

    def moved(ref: Ref) -> Ref:
        return replace(ref, offset=ref.offset + first * ref.stride(axis))

    axes = tuple((name, count if name == axis else extent) for name, extent in instr.axes)
    return Instr(instr.op, axes, moved(instr.d), moved(instr.a), None if instr.b is None else moved(instr.b))
