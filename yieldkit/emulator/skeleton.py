"""A launch reduced to what moves words, for finding out whether it can deadlock.

Values do not matter, so tasks inside a core are left out, a held word is used once, and memory operands are one word.
Rows may be thinned out: where rows repeat two by two and hand on the same words, one pair is like the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from yieldkit.emulator.disassembly import Chain, Operand, Task
from yieldkit.emulator.host_words import input_shape, inputs_of
from yieldkit.emulator.isa import (
    FABRIC_OUT,
    HEADER_WORDS,
    MAX_DESCRIPTORS,
    MEMORY,
    descriptor_words,
    header_words,
    task_words,
)
from yieldkit.emulator.lowering import Lowered, LoweredLaunch, Role
from yieldkit.emulator.word_counts import Flows
from yieldkit.quantities import NORTH, SOUTH
from yieldkit.workloads.program import Program

__all__ = ["Thinned", "alike", "reduced", "thinned", "zeros"]

KEPT_ROWS: Final = 8
"""Rows that are kept of a stretch of rows that repeat, half of them at each end."""
PERIOD: Final = 2


@dataclass(frozen=True)
class Thinned:
    """A launch on fewer rows.

    Attributes:
        low: the launch with a smaller map of roles.
        program: with as many rows.
        rows: row of the whole rectangle that each row stands for.
        seams: rows (of the thinned rectangle) after which some were left out.
    """

    low: LoweredLaunch
    program: Program
    rows: tuple[int, ...]
    seams: tuple[int, ...]


def thinned(program: Program, low: LoweredLaunch) -> Thinned:
    """Leave out rows within stretches whose roles repeat two by two; an even number of each."""
    count = len(low.role_of)
    same = [(low.role_of[r] == low.role_of[r + PERIOD]).all() for r in range(max(0, count - PERIOD))]
    keep = np.ones(count, np.bool_)
    seams = []
    start = 0
    while start < len(same):
        end = start
        while end < len(same) and same[end]:
            end += 1
        stretch = end - start + PERIOD
        spare = (stretch - KEPT_ROWS) // PERIOD * PERIOD
        if end > start and spare > 0:
            first = start + KEPT_ROWS // 2
            keep[first : first + spare] = False
            seams.append(first)
        start = max(end, start + 1)
    rows = np.flatnonzero(keep).tolist()
    if not seams:
        return Thinned(low, program, tuple(rows), ())
    smaller = replace(
        program,
        rows=len(rows),
        tensors=tuple(replace(tensor, values=()) for tensor in program.tensors),
        launches=(low.launch,),
        job={},
    )
    place = [rows.index(seam - 1) for seam in seams]
    return Thinned(replace(low, role_of=low.role_of[keep]), smaller, tuple(rows), tuple(place))


def alike(flows: Flows, cols: int, seams: Sequence[int]) -> bool:
    """Whether the same words cross the border at each seam and the border two rows before it.

    Then what was left out hands on what it gets: each pair of rows repeats the pair before it, word for word.
    """
    for seam in seams:
        borders = [
            {
                (c, port, colour): words
                for port, row in ((SOUTH, before), (NORTH, before + 1))
                for c in range(cols)
                for colour in range(24)
                if (words := flows.links.get((row * cols + c, port, colour)))
            }
            for before in (seam - PERIOD, seam)
        ]
        if borders[0] != borders[1]:
            return False
    return True


def zeros(program: Program, low: LoweredLaunch) -> dict[str, np.ndarray]:
    """Arrays of zeros for every stream of a launch."""
    return {p.stream: np.zeros(input_shape(program, p), np.float32) for p in inputs_of(low.launch)}


def reduced(part: Thinned, chains: Sequence[Chain]) -> tuple[Lowered, LoweredLaunch]:
    """The launch with nothing in it but fabric operands, lowered into as little SRAM as it needs."""
    images = [_image([task for task in chain.fabric if task.elements]) for chain in chains]
    longest = max((len(tasks) + len(descriptors) for tasks, descriptors in images), default=0)
    base = HEADER_WORDS + 1
    roles = []
    for role, (tasks, descriptors) in zip(part.low.roles, images, strict=True):
        count = len(tasks) // 2
        header = header_words(0, base, base + len(tasks)) if count else [0, 0]
        roles.append(
            Role(
                np.array(header, np.uint32),
                np.array([*tasks, *descriptors], np.uint32),
                count,
                role.routes,
                np.full(len(role.first_task), 0, np.int32),
                np.zeros(count, np.bool_),
            )
        )
    low = replace(
        part.low, roles=tuple(roles), table_base=base, address={}, alive_at_start=(), tables_id="reduced", index=0
    )
    return Lowered(part.program, (low,), base + longest, {}, {}), low


def _image(tasks: Sequence[Task]) -> tuple[list[int], list[int]]:
    """Task and descriptor words of a chain."""
    for once in (True, False):
        numbers: dict[tuple[int, ...], int] = {}
        words: list[int] = []
        for place, task in enumerate(tasks):
            shrink = once and _held(task)
            used = [numbers.setdefault(_descriptor(operand, shrink), len(numbers)) for operand in task.operands]
            following = place + 1 if place + 1 < len(tasks) else None
            words += task_words(task.opcode, used[0], used[1], used[2] if len(used) > 2 else 0, following)
        if len(numbers) <= MAX_DESCRIPTORS:
            break
    return words, [word for descriptor in numbers for word in descriptor]


def _held(task: Task) -> bool:
    """Whether every word that comes in is held over the same inner loop, and nothing goes out."""
    inner = {operand.loops[0][0] for operand in task.operands}
    fabric = [operand for operand in task.operands if operand.kind != MEMORY]
    return len(inner) == 1 and all(operand.kind != FABRIC_OUT and operand.hold for operand in fabric)


def _descriptor(operand: Operand, shrink: bool) -> tuple[int, ...]:
    extents = [extent for extent, _ in operand.loops]
    if shrink:
        extents[0] = 1
    if operand.kind == MEMORY:
        return tuple(descriptor_words(MEMORY, operand.fmt, [(e, 0) for e in extents], base=HEADER_WORDS))
    loops = [(extent, 0) for extent in extents]
    return tuple(
        descriptor_words(
            operand.kind, operand.fmt, loops, colour=operand.colour, hold=operand.hold, control=operand.control
        )
    )
