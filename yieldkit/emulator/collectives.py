"""Tasks of phases along a line of cores: reduce, all-reduce, all-gather, broadcast.

In a tree all cores that still hear take part in a level at the same time, one word a cycle, so a sender should deliver
the first word of the next level just when its receiver has done with this one. Sooner, it would wait in queues on the
way and take turns on links with words that are needed first; later, the receiver would idle. So a core that will send
over 2^l links keeps what it adds up, but for the last d = 2 T_R + 1 + 2^l elements, which go out as they arise; the
others follow::

    hears level l - 1    e0 e1 ... e9        into SRAM: e0 ... e5      straight out: e6 ... e9
    sends level l                                                      e6 e7 e8 e9 e0 e1 ... e5

The elements of a level are so turned against those of the one before. Order among the elements touches no sum.
"""

from __future__ import annotations

from typing import Final

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.isa import CONTROL_ADVANCE, CONTROL_RESET
from yieldkit.emulator.lines import Stop, stop_of
from yieldkit.emulator.products import scratch_name
from yieldkit.emulator.tables import CoreCode, Desc
from yieldkit.workloads.program import AllGather, AllReduce, Broadcast, Program, Reduce

__all__ = ["Reduction", "along", "emit_all_gather", "emit_broadcast", "emit_reduction", "tree_order"]

Reduction = AllReduce | Reduce

_RAMP_CYCLES: Final = Timing().ramp_cycles
"""T_R that trees are laid out for; where it is another, words come a little early or late and values are the same."""


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
    if phase.method == "tree":
        _tree_step(code, phase, stop, target, count, dtype)
    else:
        _line_step(code, phase, stop, x, target, count, dtype)
    if isinstance(phase, AllReduce):
        back = COLOUR_OF["row_multicast_west" if row else "column_multicast_north"]
        if last:
            code.task("mov", code.send(back, dtype, [count]), y)
        else:
            code.task("mov", y, code.receive(back, dtype, [count]))


def _line_step(code: CoreCode, phase: Reduction, stop: Stop, own: Desc, target: str, count: int, dtype: str) -> None:
    """Combine what comes in with `own`, in order, in `target`; the last step goes straight out where there is a way."""
    out = None if stop.send is None else code.send(_colour(code, phase, stop.send), dtype, [count])
    if out is not None and not stop.receive:
        code.task("mov", out, own)
    for number, end in enumerate(stop.receive):
        before = code.receive(_colour(code, phase, end), dtype, [count])
        if out is not None and number == len(stop.receive) - 1:
            code.task(phase.op, out, before, own)
        else:
            kept = code.memory(target, [(count, 1)])
            code.task(phase.op, kept, before, own)
            own = kept


def _colour(code: CoreCode, phase: Reduction, end: tuple[str, int]) -> int:
    return code.colours[along(end[0], phase.axis)][end[1]]


def _tree_step(code: CoreCode, phase: Reduction, stop: Stop, target: str, count: int, dtype: str) -> None:
    """The same for a tree, with elements of a level turned so that words arrive when they are needed."""

    def hear(level: int, kept: list[tuple[int, int]]) -> None:
        for start, n in kept:
            before = code.receive(_colour(code, phase, ("tree", level)), dtype, [n])
            code.task(phase.op, code.memory(target, [(n, 1)], start), before, code.memory(own, [(n, 1)], start))

    own = phase.x
    sends = -1 if stop.send is None else stop.send[1]
    for _, level in stop.receive:
        first = _first_element(level, count)
        ahead = _ahead(sends, count) if level == sends - 1 else 0
        kept = _runs(first, count - ahead, count)
        hear(level, kept)
        for start, n in _runs(first + count - ahead, ahead, count):
            before = code.receive(_colour(code, phase, ("tree", level)), dtype, [n])
            out = code.send(_colour(code, phase, ("tree", sends)), dtype, [n])
            code.task(phase.op, out, before, code.memory(own, [(n, 1)], start))
        own = target
        if ahead:
            break
    else:
        kept = _runs(_first_element(sends, count), count, count)
    if stop.send is not None:
        for start, n in kept:
            out = code.send(_colour(code, phase, stop.send), dtype, [n])
            code.task("mov", out, code.memory(own, [(n, 1)], start))


def tree_order(stop: Stop, count: int) -> list[tuple[int, int]]:
    """Runs (start, length) of the `count` elements in the order in which a core of a tree sends them."""
    if stop.send is None:
        return []
    level = stop.send[1]
    if not any(heard == level - 1 for _, heard in stop.receive):
        return _runs(_first_element(level, count), count, count)
    first, ahead = _first_element(level - 1, count), _ahead(level, count)
    return _runs(first + count - ahead, ahead, count) + _runs(first, count - ahead, count)


def _ahead(level: int, count: int) -> int:
    """Elements that a sender of a level of a tree hands on as they arise: those on their way at a time."""
    return min(count, 2 * _RAMP_CYCLES + 1 + (1 << level))


def _first_element(level: int, count: int) -> int:
    """Element with which a level begins."""
    return -sum(_ahead(below, count) for below in range(1, level + 1)) % count


def _runs(first: int, n: int, count: int) -> list[tuple[int, int]]:
    """(start, length) of `n` of `count` elements from `first` on, going round."""
    first %= count
    return [run for run in ((first, min(n, count - first)), (0, n - (count - first))) if run[1] > 0]


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
