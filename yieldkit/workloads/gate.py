"""The one gate for programs: names exist, shapes agree, references stay inside their blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from yieldkit.errors import BadInput
from yieldkit.workloads.phases import (
    ACCUMULATIONS,
    ALU_OPS,
    DTYPES,
    METHODS,
    OVERS,
    REDUCING_OPS,
    UNARY_OPS,
    AllGather,
    AllReduce,
    Broadcast,
    ChainAccumulate,
    Gemm,
    Gemv,
    Instr,
    Permute,
    Phase,
    Reduce,
    Ref,
    Shift,
    StreamIn,
    StreamOut,
    Tensor,
    WGrad,
    instrs_of,
    reads_of,
    tensors_of,
    written_by,
)

if TYPE_CHECKING:
    from yieldkit.workloads.program import Program

__all__ = ["check_program", "covers"]

ADDRESSABLE_WORDS: Final = 1 << 14


def check_program(program: Program) -> None:
    """Refuse a program that does not hold together.

    Raises:
        BadInput: names the tensor or phase and what is wrong with it.
    """
    if program.rows < 1 or program.cols < 1:
        raise BadInput("a program needs at least one row and one column", value=(program.rows, program.cols))
    if program.dtype not in DTYPES:
        raise BadInput(f"dtype must be one of {DTYPES}", value=program.dtype)
    if program.accumulation not in ACCUMULATIONS:
        raise BadInput(f"accumulation must be one of {ACCUMULATIONS}", value=program.accumulation)
    if (program.block < 1) != (program.accumulation == "fp32") or program.block < 0:
        raise BadInput(
            f"accumulation {program.accumulation!r} does not go with a block of {program.block}",
            cure="give a positive block with bf16_blocked, and 0 with fp32",
        )
    table = program.table
    if len(table) != len(program.tensors):
        raise BadInput("tensor names must be unique")
    for tensor in program.tensors:
        _check_tensor(program, tensor)
    names = [launch.name for launch in program.launches]
    if len(set(names)) != len(names):
        raise BadInput("launch names must be unique", value=names)
    if not program.launches:
        raise BadInput("a program needs at least one launch")
    outputs: set[str] = set()
    for launch in program.launches:
        if not launch.phases:
            raise BadInput(f"launch {launch.name!r} has no phases")
        for phase in launch.phases:
            for name in tensors_of(phase):
                if name not in table:
                    raise BadInput(f"phase {phase.name!r} names an unknown tensor", value=name)
            for name in written_by(phase):
                if table[name].values:
                    raise BadInput(f"phase {phase.name!r}: a constant cannot be written", value=name)
            if isinstance(phase, WGrad | StreamOut):
                if phase.stream in outputs:
                    raise BadInput(f"phase {phase.name!r}: another phase fills the same stream", value=phase.stream)
                outputs.add(phase.stream)
            for instr in instrs_of(phase):
                _check_instr(phase.name, instr, table)
            _check_shapes(program, phase)


def _check_tensor(program: Program, tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES or tensor.over not in OVERS:
        raise BadInput(f"tensor {tensor.name!r}: dtype or over unknown", value=(tensor.dtype, tensor.over))
    if tensor.size > ADDRESSABLE_WORDS:
        raise BadInput(
            f"tensor {tensor.name!r}: a core addresses {ADDRESSABLE_WORDS} words",
            value=tensor.size,
            cure="cut it finer",
        )
    if any(extent < 1 for extent in tensor.dims):
        raise BadInput(f"tensor {tensor.name!r}: dims must be positive", value=tensor.dims)
    if tensor.values:
        blocks = (program.rows if "r" in tensor.over else 1) * (program.cols if "c" in tensor.over else 1)
        if len(tensor.values) != blocks * tensor.size:
            raise BadInput(f"tensor {tensor.name!r}: needs {blocks * tensor.size} values", value=len(tensor.values))


def _check_instr(phase: str, instr: Instr, table: Mapping[str, Tensor]) -> None:
    if instr.op not in ALU_OPS:
        raise BadInput(f"phase {phase!r}: unknown operation", value=instr.op)
    if (instr.b is None) != (instr.op in UNARY_OPS):
        raise BadInput(f"phase {phase!r}: {instr.op} takes {1 if instr.op in UNARY_OPS else 2} operands")
    extents = dict(instr.axes)
    if len(extents) != len(instr.axes) or any(e < 1 for e in extents.values()):
        raise BadInput(f"phase {phase!r}: axes must be distinct with positive extents", value=instr.axes)
    for ref in (instr.d, instr.a, instr.b):
        if ref is None:
            continue
        if len(ref.axes) != len(ref.strides) or not set(ref.axes) <= set(extents):
            raise BadInput(f"phase {phase!r}: reference to {ref.tensor!r} has unknown axes", value=ref.axes)
        low = high = ref.offset
        for axis, stride in zip(ref.axes, ref.strides, strict=True):
            reach = stride * (extents[axis] - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        if low < 0 or high >= table[ref.tensor].size:
            raise BadInput(f"phase {phase!r}: reference leaves {ref.tensor!r}", value=(low, high))
    if instr.op == "mac" and table[instr.d.tensor].dtype != "fp32":
        raise BadInput(f"phase {phase!r}: a mac needs an fp32 accumulator", value=instr.d.tensor)
    reduced = [axis for axis, extent in instr.axes if extent > 1 and instr.d.stride(axis) == 0]
    target = _elements(instr.d, extents)
    if len(set(target)) != len(target):
        raise BadInput(f"phase {phase!r}: two steps of {instr.op} write the same element", value=instr.d)
    for ref in (instr.a, instr.b):
        if ref is not None and ref.tensor == instr.d.tensor and ref != instr.d:
            if not set(target).isdisjoint(_elements(ref, extents)):
                raise BadInput(f"phase {phase!r}: {instr.op} reads what it is writing, in another order", value=ref)
        elif ref == instr.d and reduced and (instr.op == "mac" or ref is instr.a):
            raise BadInput(f"phase {phase!r}: {instr.op} reads the sum it is adding to", value=ref)
    if reduced and not (instr.op == "mac" or (instr.op in REDUCING_OPS and instr.b == instr.d)):
        raise BadInput(f"phase {phase!r}: {instr.op} cannot reduce over {reduced}", cure="use b = d, or mac")


def _elements(ref: Ref, extents: Mapping[str, int]) -> list[int]:
    """Elements that a reference walks over, with repeats where two steps meet; axes without a stride count once."""
    elements = [ref.offset]
    for axis, stride in zip(ref.axes, ref.strides, strict=True):
        if stride:
            elements = [element + i * stride for element in elements for i in range(extents[axis])]
    return elements


def covers(instr: Instr, tensor: Tensor) -> bool:
    """Whether an instruction writes every element of its destination."""
    extents = dict(instr.axes)
    written = 1
    for axis, stride in zip(instr.d.axes, instr.d.strides, strict=True):
        written *= extents[axis] if stride else 1
    return instr.op != "select" and written == tensor.size


def _check_shapes(program: Program, phase: Phase) -> None:
    table = program.table
    problem = ""
    if isinstance(phase, Gemm | WGrad):
        x, y = table[phase.x], table[phase.y if isinstance(phase, Gemm) else phase.dy]
        if len(x.dims) != 2 or len(y.dims) != 2 or x.dims[0] != y.dims[0] or x.over != "rc" or y.over != "rc":
            problem = "x and y need dims (m, k) and (m, n) over 'rc'"
        elif phase.part < 1 or y.dims[1] % phase.part:
            problem = f"part must divide {y.dims[1]}"
        elif isinstance(phase, Gemm) and x == y:
            problem = "x and y must be distinct"
    elif isinstance(phase, Gemv):
        x, w, y = table[phase.x], table[phase.w], table[phase.y]
        if program.rows != program.cols:
            problem = "resident weights need a square rectangle"
        elif (len(x.dims), len(w.dims), len(y.dims)) != (2, 2, 2) or (x.over, w.over, y.over) != ("c", "rc", "c"):
            problem = "x and y need dims (b, k), (b, n) over 'c', w (k, n) over 'rc'"
        elif x.dims[1] != w.dims[0] or y.dims[1] != w.dims[1] or x.dims[0] != y.dims[0]:
            problem = "shapes of x, w and y do not agree"
    elif isinstance(phase, AllReduce | Reduce):
        x, y = table[phase.x], table[phase.y]
        if phase.axis not in ("row", "col") or phase.op not in ("add", "max") or phase.method not in METHODS:
            problem = f"axis must be row or col, op add or max, method one of {METHODS}"
        elif x.dims != y.dims or x.dtype != y.dtype:
            problem = "x and y need equal dims and dtype"
    elif isinstance(phase, AllGather):
        x, y = table[phase.x], table[phase.y]
        size = program.cols if phase.axis == "row" else program.rows
        if phase.axis not in ("row", "col"):
            problem = "axis must be row or col"
        elif y.dims != (size, *x.dims) or x.dtype != y.dtype:
            problem = f"y needs dims {(size, *x.dims)} and the dtype of x"
    elif isinstance(phase, Broadcast):
        x, y = table[phase.x], table[phase.y]
        if phase.axis not in ("row", "col") or x.dims != y.dims or x.dtype != y.dtype or x == y:
            problem = "axis must be row or col; x and y distinct with equal dims and dtype"
    elif isinstance(phase, ChainAccumulate):
        if table[phase.acc].dtype != "fp32" or any(i.d.tensor != phase.acc for i in (phase.start, *phase.instrs)):
            problem = "every instruction must write the fp32 accumulator"
        elif not covers(phase.start, table[phase.acc]) or reads_of(phase.start, phase.acc):
            problem = "start must write the whole accumulator and not read it"
    elif isinstance(phase, StreamIn):
        over = table[phase.tensor].over
        if phase.mode not in ("scatter_row", "multicast_row", "multicast_col"):
            problem = "unknown mode"
        elif (phase.mode == "multicast_row" and "c" in over) or (phase.mode == "multicast_col" and "r" in over):
            problem = f"a multicast cannot fill blocks that differ over {over!r}"
    elif isinstance(phase, StreamOut):
        if phase.mode not in ("gather_row", "last_col", "last_row", "reduce_col"):
            problem = "unknown mode"
        elif phase.mode == "reduce_col" and table[phase.tensor].dtype != "fp32":
            problem = "a sum over rows needs an fp32 tensor"
    elif isinstance(phase, Shift):
        x, y = table[phase.x], table[phase.y]
        if phase.direction not in ("N", "E", "S", "W") or x.dims != y.dims or x.dtype != y.dtype or x == y:
            problem = "direction must be N, E, S or W; x and y distinct with equal dims and dtype"
    elif isinstance(phase, Permute):
        x, y = table[phase.x], table[phase.y]
        if sorted(phase.to) != list(range(program.cols)):
            problem = f"to must be a permutation of the {program.cols} columns"
        elif x.dims != y.dims or x.dtype != y.dtype or x == y:
            problem = "x and y distinct with equal dims and dtype"
    if problem:
        raise BadInput(f"phase {phase.name!r} ({phase.kind}): {problem}")
