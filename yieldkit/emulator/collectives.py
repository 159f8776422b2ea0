"""Tasks of phases along a line of cores: reduce, all-reduce, all-gather, broadcast."""

from __future__ import annotations

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.isa import CONTROL_ADVANCE, CONTROL_RESET
from yieldkit.emulator.lines import Stop, stop_of
from yieldkit.emulator.products import scratch_name
from yieldkit.emulator.tables import CoreCode, Desc
from yieldkit.workloads.program import AllGather, AllReduce, Broadcast, Program, Reduce

__all__ = ["Reduction", "along", "emit_all_gather", "emit_broadcast", "emit_reduction"]

Reduction = AllReduce | Reduce


def along(stem: str, axis: str) -> str:
    """Channel of a line along a row or down a column."""
    return f"{stem}_east" if axis == "row" else f"{stem}_south"


def emit_reduction(code: CoreCode, program: Program, phase: Reduction) -> None:
    """Append the tasks of a reduction along the core's line, and of the way back of an all-reduce."""
    tensor = program.table[phase.x]
    count, dtype = tensor.size, tensor.dtype
    row = phase.axis == "row"
    place, size = (code.c, code.cols) if row else (code.r, code.rows)
    x, y = code.memory(phase.x, [(count, 1)]), code.memory(phase.y, [(count, 1)])
    if size == 1:
        code.task("mov", y, x)
        return
    stop = stop_of(phase.method, place, size)
    last = stop.send is None
    # What the last core keeps, and every core that is to have the result, gathers where the result goes.
    target = phase.y if last or isinstance(phase, AllReduce) else scratch_name(phase)
    _line_step(code, phase, stop, x, target, count, dtype)
    if isinstance(phase, AllReduce):
        back = COLOUR_OF["row_multicast_west" if row else "column_multicast_north"]
        if last:
            code.task("mov", code.send(back, dtype, [count]), y)
        else:
            code.task("mov", y, code.receive(back, dtype, [count]))


def _line_step(code: CoreCode, phase: Reduction, stop: Stop, own: Desc, target: str, count: int, dtype: str) -> None:
    """Combine what comes in with `own`, in order, in `target`; the last step goes straight out where there is a way."""

    def colour(end: tuple[str, int]) -> int:
        return code.colours[along(end[0], phase.axis)][end[1]]

    out = None if stop.send is None else code.send(colour(stop.send), dtype, [count])
    if out is not None and not stop.receive:
        code.task("mov", out, own)
    for number, end in enumerate(stop.receive):
        before = code.receive(colour(end), dtype, [count])
        if out is not None and number == len(stop.receive) - 1:
            code.task(phase.op, out, before, own)
        else:
            kept = code.memory(target, [(count, 1)])
            code.task(phase.op, kept, before, own)
            own = kept


def emit_all_gather(code: CoreCode, program: Program, phase: AllGather) -> None:
    """Append the tasks of an all-gather: own block out both ways, those of the others in."""
    tensor = program.table[phase.x]
    count, dtype = tensor.size, tensor.dtype
    row = phase.axis == "row"
    place, size = (code.c, code.cols) if row else (code.r, code.rows)
    x = code.memory(phase.x, [(count, 1)])
    code.task("mov", code.memory(phase.y, [(count, 1)], place * count), x)
    if size == 1:
        return
    up, down = code.colours["all_gather" if row else "all_gather_column"]
    # Blocks come nearest core first, so from the lower places they come in descending order.
    if place < size - 1:
        code.task("mov", code.send(up, dtype, [count], control=CONTROL_RESET if place == 0 else CONTROL_ADVANCE), x)
    if place > 0:
        lower = code.memory(phase.y, [(count, 1), (place, -count)], (place - 1) * count)
        code.task("mov", lower, code.receive(up, dtype, [count, place]))
        control = CONTROL_RESET if place == size - 1 else CONTROL_ADVANCE
        code.task("mov", code.send(down, dtype, [count], control=control), x)
    if place < size - 1:
        upper = code.memory(phase.y, [(count, 1), (size - 1 - place, count)], (place + 1) * count)
        code.task("mov", upper, code.receive(down, dtype, [count, size - 1 - place]))


def emit_broadcast(code: CoreCode, program: Program, phase: Broadcast) -> None:
    """Append the tasks of a broadcast from the last core of a line."""
    tensor = program.table[phase.x]
    row = phase.axis == "row"
    place, size = (code.c, code.cols) if row else (code.r, code.rows)
    colour = COLOUR_OF["row_multicast_west" if row else "column_multicast_north"]
    x, y = code.memory(phase.x, [(tensor.size, 1)]), code.memory(phase.y, [(tensor.size, 1)])
    if place < size - 1:
        code.task("mov", y, code.receive(colour, tensor.dtype, [tensor.size]))
        return
    if size > 1:
        code.task("mov", code.send(colour, tensor.dtype, [tensor.size]), x)
    code.task("mov", y, x)
