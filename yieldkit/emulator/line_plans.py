"""Plans of phases along a line of cores: reduce, all-reduce, all-gather, broadcast."""

from __future__ import annotations

from yieldkit.emulator.layouts import SUM, Layout, Plan
from yieldkit.emulator.lines import group_size, levels
from yieldkit.emulator.planning import Planner
from yieldkit.emulator.vector import Rows, copy_row, group
from yieldkit.workloads.program import AllGather, AllReduce, Broadcast, Reduce

__all__ = ["plan_all_gather", "plan_all_reduce", "plan_broadcast", "plan_reduce"]


def _chain(p: Planner, target: int, source: str, axis: int, op: str, layout: Layout) -> Rows:
    """Blocks of the first row or column, then the others one by one."""
    size, fmt = p.tensors[source].size, p.fmt(source)
    step = p.strides(source)[axis]
    across = p.strides(source)[1 - axis]
    extent = layout[1 - axis]
    loops = [(extent, (size if extent > 1 else 0, across, size)), (size, (1, 1, 1))]
    first = copy_row("mov", fmt, (target, p.number(source), target), loops)
    # The sum so far comes first: of equal zeros, a maximum keeps the earlier one.
    loops = [(e, (s[0], s[0], s[1])) for e, s in loops]
    number = p.number(source)
    following = copy_row(op, fmt, (target, target, number), loops, offsets=(0, 0, step), steps=(0, 0, step))
    count = p.full[axis] - 1
    return group([first]) + (group([following], count) if count else [])


def _line(p: Planner, phase: AllReduce | Reduce, axis: int, layout: Layout) -> tuple[Rows, int, tuple[int, int]]:
    """Rows that reduce into the sums, words of sums, and strides from result to result over rows and columns."""
    size = p.tensors[phase.x].size
    if phase.method == "chain":
        rows = _chain(p, SUM, phase.x, axis, phase.op, layout)
        return rows, layout[0] * layout[1] * size, p.strides(phase.x, layout)
    length, lines = p.full[axis], layout[1 - axis]
    # Sums lie line by line, the last core's block first: words from core q to core q + 1 are `size`.
    step, across = p.strides(phase.x)[axis], p.strides(phase.x)[1 - axis]
    loops = [(lines, (length * size, across, 0)), (length, (size, -step, 0)), (size, (1, 1, 0))]
    copy = copy_row("mov", p.fmt(phase.x), (SUM, p.number(phase.x), SUM), loops, offsets=(0, (length - 1) * step, 0))
    rows = group([copy])
    for start, source, stride, count, times, back in _steps(phase.method, length):
        loops = [(lines, (length * size,) * 3), (count, (stride * size,) * 3), (size, (1, 1, 1))]
        row = copy_row(
            phase.op,
            p.fmt(phase.x),
            (SUM, SUM, SUM),
            loops,
            offsets=(start * size, source * size, start * size),
            steps=(-back * size,) * 3,
        )
        rows += group([row], times)
    return rows, lines * length * size, (length * size, 0) if axis == 1 else (0, length * size)


def plan_all_reduce(p: Planner, phase: AllReduce) -> Plan:
    """Every core of a line gets what the line reduces to."""
    axis = 1 if phase.axis == "row" else 0
    rows, cols = p.layout(phase.x)
    layout = (rows, 1) if axis == 1 else (1, cols)
    # In place a chain would overwrite blocks it still needs.
    in_place = phase.x == phase.y
    if not in_place:
        p.written(phase.y, layout)
        if phase.method == "chain":
            return p.plan(_chain(p, p.number(phase.y), phase.x, axis, phase.op, layout))
    table, words, (sr, sc) = _line(p, phase, axis, layout)
    extents, (yr, yc) = p.layout(phase.y), p.strides(phase.y)
    y, size = p.number(phase.y), p.tensors[phase.y].size
    loops = [(extents[0], (yr, sr, 0)), (extents[1], (yc, sc, 0)), (size, (1, 1, 0))]
    return p.plan(table + group([copy_row("mov", p.fmt(phase.y), (y, SUM, SUM), loops)]), sums=(words,))


def plan_reduce(p: Planner, phase: Reduce) -> Plan:
    """The last core of every line gets what the line reduces to; the others keep what they have."""
    axis = 1 if phase.axis == "row" else 0
    rows, cols = p.layout(phase.x)
    table, words, (sr, sc) = _line(p, phase, axis, (rows, 1) if axis == 1 else (1, cols))
    p.of_its_own(phase.y)
    (yr, yc), y, size = p.strides(phase.y), p.number(phase.y), p.tensors[phase.y].size
    # Only the last core of a line keeps the result; lines that agree share one.
    if axis == 1:
        loops, last = [(p.full[0], (yr, sr if rows > 1 else 0, 0))], yc * (p.full[1] - 1)
    else:
        loops, last = [(p.full[1], (yc, sc if cols > 1 else 0, 0))], yr * (p.full[0] - 1)
    loops.append((size, (1, 1, 0)))
    row = copy_row("mov", p.fmt(phase.y), (y, SUM, SUM), loops, offsets=(last, 0, 0))
    return p.plan(table + group([row]), sums=(words,))


def plan_all_gather(p: Planner, phase: AllGather) -> Plan:
    """Blocks of a line side by side; all of its cores hold the same."""
    axis = 1 if phase.axis == "row" else 0
    rows, cols = p.layout(phase.x)
    layout = (rows, 1) if axis == 1 else (1, cols)
    step = p.strides(phase.x)
    p.written(phase.y, layout)
    across = p.strides(phase.y)[1 - axis]
    x, y, size = p.number(phase.x), p.number(phase.y), p.tensors[phase.x].size
    loops = [(layout[1 - axis], (across, step[1 - axis], 0)), (p.full[axis], (size, step[axis], 0))]
    loops.append((size, (1, 1, 0)))
    return p.plan(group([copy_row("mov", p.fmt(phase.y), (y, x, x), loops)]))


def plan_broadcast(p: Planner, phase: Broadcast) -> Plan:
    """The last core's block; all cores of a line hold the same."""
    axis = 1 if phase.axis == "row" else 0
    rows, cols = p.layout(phase.x)
    layout = (rows, 1) if axis == 1 else (1, cols)
    step = p.strides(phase.x)
    p.written(phase.y, layout)
    yr, yc = p.strides(phase.y)
    x, y = p.number(phase.x), p.number(phase.y)
    loops = [(layout[0], (yr, step[0], 0)), (layout[1], (yc, step[1], 0)), (p.tensors[phase.x].size, (1, 1, 0))]
    last = step[axis] * (p.full[axis] - 1)
    return p.plan(group([copy_row("mov", p.fmt(phase.y), (y, x, x), loops, offsets=(0, last, 0))]))


def _steps(method: str, length: int) -> list[tuple[int, int, int, int, int, int]]:
    """Rows of a reduction over a line of `length` cores, counted by q from the last one.

    Each is (first q, q it takes from, step to the next such core, cores, times, cores to go back each time): core
    q = op(core q + distance, core q), side by side for `cores` of them, `times` after one another.
    """
    steps = []
    if method == "tree":
        for level in range(levels(length)):
            distance = 1 << level
            steps.append((0, distance, 2 * distance, -(-(length - distance) // (2 * distance)), 1, 0))
        return steps
    apart = group_size(length)
    for place in reversed(range(apart - 1)):
        count = -(-(length - 1 - place) // apart)
        if count > 0:
            steps.append((place, place + 1, apart, count, 1, 0))
    farther = -(-length // apart) - 1
    if farther:
        steps.append(((farther - 1) * apart, farther * apart, 0, 1, farther, apart))
    return steps
