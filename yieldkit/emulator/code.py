"""The tasks of one core for each phase kind: what lowering puts into the task and descriptor tables.

Every function appends tasks for the core at (r, c) of the rectangle. All extents are counted; nothing marks the end of
a stream. Blocks lie row-major in SRAM.
"""

from __future__ import annotations

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.collectives import Reduction, along, emit_all_gather, emit_broadcast, emit_reduction
from yieldkit.emulator.isa import CONTROL_ADVANCE, CONTROL_RESET
from yieldkit.emulator.lines import stop_of
from yieldkit.emulator.permute import emit_permute, permute_channel
from yieldkit.emulator.products import emit_gemm, emit_gemv, emit_wgrad, reduce_to_edge, scratch_name, total_name
from yieldkit.emulator.tables import ZERO, CoreCode
from yieldkit.workloads.program import (
    AllGather,
    Broadcast,
    ChainAccumulate,
    Compute,
    Gemm,
    Gemv,
    Instr,
    Permute,
    Phase,
    Program,
    Reduce,
    Ref,
    Shift,
    StreamIn,
    StreamOut,
    WGrad,
)

__all__ = ["ZERO", "CoreCode", "channels_of", "emit_phase", "scratch_of"]


def scratch_of(program: Program, phase: Phase) -> dict[str, tuple[str, int]]:
    """(format, words) of the accumulators that a phase needs for itself, by name."""
    table = program.table
    if isinstance(phase, Gemm):
        words = program.cols * phase.part * table[phase.x].dims[0]
    elif isinstance(phase, WGrad):
        words = program.cols * phase.part * table[phase.x].dims[1]
    elif isinstance(phase, Gemv):
        words = table[phase.w].dims[1] * table[phase.x].dims[0]
    elif isinstance(phase, Reduce):
        size = program.cols if phase.axis == "row" else program.rows
        stops = (stop_of(phase.method, place, size) for place in range(size - 1))
        # A tree keeps sums that it does not hand on at once.
        most = 0 if phase.method == "tree" else 1
        if all(len(stop.receive) <= most for stop in stops):
            return {}
        return {scratch_name(phase): (table[phase.x].dtype, table[phase.x].size)}
    else:
        return {}
    needed = {scratch_name(phase): ("fp32", words)}
    if program.block:
        needed[total_name(phase)] = (program.sum_dtype, words)
    return needed


def channels_of(program: Program, phase: Phase) -> tuple[str, ...]:
    """Channels whose routes a phase needs."""
    if isinstance(phase, Gemm):
        return ("column_multicast", "chain_east", "scatter_west")
    if isinstance(phase, WGrad):
        return ("all_gather", "chain_south", "edge_out_south")
    if isinstance(phase, Gemv):
        return ("chain_east", "diagonal")
    if isinstance(phase, Reduction):
        row = phase.axis == "row"
        stems = {"chain": ("chain",), "tree": ("tree",), "two_phase": ("chain", "leaders")}[phase.method]
        names = tuple(along(stem, phase.axis) for stem in stems)
        return (
            names if isinstance(phase, Reduce) else (*names, "row_multicast_west" if row else "column_multicast_north")
        )
    if isinstance(phase, AllGather):
        return ("all_gather",) if phase.axis == "row" else ("all_gather_column",)
    if isinstance(phase, Broadcast):
        return ("row_multicast_west",) if phase.axis == "row" else ("column_multicast_north",)
    if isinstance(phase, ChainAccumulate):
        return ("chain_south", "column_multicast_north")
    if isinstance(phase, StreamIn):
        return (
            {
                "scatter_row": "stream_scatter",
                "multicast_row": "stream_multicast_row",
                "multicast_col": "column_multicast",
            }[phase.mode],
        )
    if isinstance(phase, StreamOut):
        return {
            "gather_row": ("gather_out",),
            "last_col": ("edge_out_east",),
            "last_row": ("edge_out_south",),
            "reduce_col": ("chain_south", "edge_out_south"),
        }[phase.mode]
    if isinstance(phase, Permute):
        return (permute_channel(phase.to),)
    if isinstance(phase, Shift):
        return ({"E": "chain_east", "S": "chain_south", "W": "shift_west", "N": "shift_north"}[phase.direction],)
    return ()


def emit_phase(code: CoreCode, program: Program, phase: Phase) -> None:
    """Append the tasks of `phase` for the core of `code`."""
    if isinstance(phase, Compute):
        for instr in phase.instrs:
            _instr(code, instr)
    elif isinstance(phase, Gemm):
        emit_gemm(code, program, phase)
    elif isinstance(phase, WGrad):
        emit_wgrad(code, program, phase)
    elif isinstance(phase, Gemv):
        emit_gemv(code, program, phase)
    elif isinstance(phase, Reduction):
        emit_reduction(code, program, phase)
    elif isinstance(phase, AllGather):
        emit_all_gather(code, program, phase)
    elif isinstance(phase, Broadcast):
        emit_broadcast(code, program, phase)
    elif isinstance(phase, ChainAccumulate):
        _chain_accumulate(code, program, phase)
    elif isinstance(phase, StreamIn):
        _stream_in(code, program, phase)
    elif isinstance(phase, StreamOut):
        _stream_out(code, program, phase)
    elif isinstance(phase, Permute):
        emit_permute(code, program, phase, code.colours[permute_channel(phase.to)])
    else:
        _shift(code, program, phase)


def _instr(code: CoreCode, instr: Instr) -> None:
    refs = [ref for ref in (instr.d, instr.a, instr.b) if ref is not None]
    axes = collapse(instr.axes, refs)
    outer, inner = axes[:-3], axes[-3:]
    counts = [0] * len(outer)
    while True:
        descriptors = []
        for number, ref in enumerate(refs):
            offset = ref.offset + sum(i * axis[1][number] for i, axis in zip(counts, outer, strict=True))
            loops = [(extent, strides[number]) for extent, strides in reversed(inner)]
            descriptors.append(code.memory(ref.tensor, loops, offset))
        code.task(instr.op, *descriptors)
        for position in reversed(range(len(outer))):
            counts[position] += 1
            if counts[position] < outer[position][0]:
                break
            counts[position] = 0
        else:
            return


def collapse(axes: tuple[tuple[str, int], ...], refs: list[Ref]) -> list[tuple[int, tuple[int, ...]]]:
    """Merge loops that step through every operand as one longer loop would; outermost first."""
    merged: list[tuple[int, tuple[int, ...]]] = []
    for axis, extent in axes:
        if extent == 1:
            continue
        strides = tuple(ref.stride(axis) for ref in refs)
        if merged and all(o == s * extent for o, s in zip(merged[-1][1], strides, strict=True)):
            merged[-1] = (merged[-1][0] * extent, strides)
        else:
            merged.append((extent, strides))
    return merged or [(1, tuple(0 for _ in refs))]


def _chain_accumulate(code: CoreCode, program: Program, phase: ChainAccumulate) -> None:
    count = program.table[phase.acc].size
    first, back = COLOUR_OF["chain_south"], COLOUR_OF["column_multicast_north"]
    acc = code.memory(phase.acc, [(count, 1)])
    if code.r == 0:
        _instr(code, phase.start)
    else:
        code.task("mov", acc, code.receive(first + (code.r - 1) % 2, "fp32", [count]))
    for instr in phase.instrs:
        _instr(code, instr)
    if code.rows == 1:
        return
    if code.r < code.rows - 1:
        code.task("mov", code.send(first + code.r % 2, "fp32", [count]), acc)
        code.task("mov", acc, code.receive(back, "fp32", [count]))
    else:
        code.task("mov", code.send(back, "fp32", [count]), acc)


def _stream_in(code: CoreCode, program: Program, phase: StreamIn) -> None:
    tensor = program.table[phase.tensor]
    channel = {
        "scatter_row": "stream_scatter",
        "multicast_row": "stream_multicast_row",
        "multicast_col": "column_multicast",
    }[phase.mode]
    target = code.memory(phase.tensor, [(tensor.size, 1)])
    code.task("mov", target, code.receive(COLOUR_OF[channel], tensor.dtype, [tensor.size]))


def _stream_out(code: CoreCode, program: Program, phase: StreamOut) -> None:
    tensor = program.table[phase.tensor]
    source = code.memory(phase.tensor, [(tensor.size, 1)])
    if phase.mode == "reduce_col":
        reduce_to_edge(code, source, tensor.size, "fp32")
    elif phase.mode == "gather_row":
        control = CONTROL_RESET if code.c == 0 else CONTROL_ADVANCE
        out = code.send(COLOUR_OF["gather_out"], tensor.dtype, [tensor.size], control=control)
        code.task("mov", out, source)
    elif phase.mode == "last_row":
        if code.r == code.rows - 1:
            code.task("mov", code.send(COLOUR_OF["edge_out_south"], tensor.dtype, [tensor.size]), source)
    elif code.c == code.cols - 1:
        code.task("mov", code.send(COLOUR_OF["edge_out_east"], tensor.dtype, [tensor.size]), source)


def _shift(code: CoreCode, program: Program, phase: Shift) -> None:
    tensor = program.table[phase.x]
    channel, place, step, size = {
        "E": ("chain_east", code.c, 1, code.cols),
        "S": ("chain_south", code.r, 1, code.rows),
        "W": ("shift_west", code.c, -1, code.cols),
        "N": ("shift_north", code.r, -1, code.rows),
    }[phase.direction]
    first = COLOUR_OF[channel]
    if 0 <= place + step < size:
        out = code.send(first + place % 2, tensor.dtype, [tensor.size])
        code.task("mov", out, code.memory(phase.x, [(tensor.size, 1)]))
    if 0 <= place - step < size:
        source = code.receive(first + (place - step) % 2, tensor.dtype, [tensor.size])
        code.task("mov", code.memory(phase.y, [(tensor.size, 1)]), source)
