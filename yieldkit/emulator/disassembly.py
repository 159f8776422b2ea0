"""Configuration words read back: the chain of tasks that a role's header starts, with every operand by its fields."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.isa import (
    COLOURS,
    CONTROL_EACH,
    CONTROL_NONE,
    CONTROL_RESET,
    FABRIC_IN,
    FABRIC_OUT,
    FORMATS,
    MEMORY,
    OPCODES,
)
from yieldkit.emulator.kernels.machine import ADVANCE, DATA, RESET
from yieldkit.emulator.lowering import LoweredLaunch, Role

__all__ = ["Chain", "Operand", "Task", "chain_of", "operand_of", "task_of"]

OPCODE_NAMES: Final = {code: name for name, code in OPCODES.items()}
FORMAT_NAMES: Final = {code: name for name, code in FORMATS.items()}
KIND_NAMES: Final = {MEMORY: "memory", FABRIC_IN: "fabric in", FABRIC_OUT: "fabric out"}
_BINARY: Final = frozenset({*range(OPCODES["add"], OPCODES["select"] + 1), OPCODES["gelu_grad"]})
_NOT_TO_FABRIC: Final = frozenset({OPCODES["mac"], OPCODES["select"]})

Segments = tuple[tuple[int, int], ...]
"""Words in order: (data words, control word after them or DATA)."""


@dataclass(frozen=True)
class Operand:
    """A descriptor.

    Attributes:
        number: in the descriptor table.
        kind: MEMORY, FABRIC_IN or FABRIC_OUT, or 0.
        fmt: 0 fp32, 1 bf16, 2 fp16, 3 undefined.
        colour: of a fabric operand.
        hold: fetch a word only when the inner index is 0.
        control: what a fabric-out operand emits.
        base: address of the first element.
        loops: (extent, stride), innermost first.
    """

    number: int
    kind: int
    fmt: int
    colour: int
    hold: bool
    control: int
    base: int
    loops: tuple[tuple[int, int], ...]

    @cached_property
    def elements(self) -> int:
        """Elements of all loops."""
        return prod(extent for extent, _ in self.loops)

    @cached_property
    def reach(self) -> tuple[int, int]:
        """Lowest and highest address of all loops."""
        steps = [(extent - 1) * stride for extent, stride in self.loops]
        return self.base + sum(min(0, s) for s in steps), self.base + sum(max(0, s) for s in steps)


@dataclass(frozen=True)
class Task:
    """A task: `operands` D, A and, where the operation has two, B; `following` is the next task or None."""

    number: int
    opcode: int
    operands: tuple[Operand, ...]
    following: int | None

    @cached_property
    def elements(self) -> int:
        """Elements until the first operand is exhausted."""
        return min(operand.elements for operand in self.operands)

    def taken(self, operand: Operand) -> int:
        """Words that a fabric-in operand takes."""
        inner = operand.loops[0][0]
        return -(-self.elements // inner) if operand.hold and inner else self.elements

    def sent(self) -> Segments:
        """Words that a fabric-out destination sends."""
        d, count = self.operands[0], self.elements
        if not count or d.control == CONTROL_NONE:
            return ((count, DATA),) if count else ()
        whole = count == d.elements
        if d.control == CONTROL_EACH:
            step = d.loops[0][0] * d.loops[1][0]
            full, rest = divmod(count, step)
            if whole:
                return (*(((step, ADVANCE),) * (full - 1)), (step, RESET))
            return (*(((step, ADVANCE),) * full), *(((rest, DATA),) if rest else ()))
        if not whole:
            return ((count, DATA),)
        return ((count, RESET if d.control == CONTROL_RESET else ADVANCE),)


@dataclass(frozen=True)
class Chain:
    """The tasks that a role runs.

    Attributes:
        order: their numbers.
        fabric: those that send or take words, in order.
        problem: what would halt the core, or "".
    """

    order: tuple[int, ...]
    fabric: tuple[Task, ...]
    problem: str = ""


def operand_of(number: int, words: npt.NDArray[np.uint32]) -> Operand:
    """A descriptor from its four words."""
    first = int(words[0])
    loops = []
    for word in words[1:4].tolist():
        stride = word >> 16
        loops.append((word & 0xFFFF, stride - 65536 if stride >= 32768 else stride))
    return Operand(
        number,
        (first >> 14) & 3,
        (first >> 16) & 3,
        (first >> 18) & 31,
        bool((first >> 23) & 1),
        (first >> 24) & 3,
        first & 0x3FFF,
        tuple(loops),
    )


def task_of(low: LoweredLaunch, role: Role, number: int, known: dict[int, Operand] | None = None) -> Task | None:
    """Task `number` of a role as its header addresses it, or None outside the tables.

    `known` keeps the role's descriptors by their numbers, for one who reads many tasks.
    """
    known = {} if known is None else known
    tables = int(role.header[1]) & 0x3FFF
    descriptors = (int(role.header[1]) >> 14) & 0x3FFF
    words = _words(low, role, tables + 2 * number, 2)
    if words is None:
        return None
    opcode = int(words[0]) & 0x3F
    operands = []
    for place in range(3 if opcode in _BINARY else 2):
        index = (int(words[1]) >> (10 * place)) & 0x3FF
        if index not in known:
            found = _words(low, role, descriptors + 4 * index, 4)
            if found is None:
                return None
            known[index] = operand_of(index, found)
        operands.append(known[index])
    following = (int(words[0]) >> 7) & 0xFFF if (int(words[0]) >> 6) & 1 else None
    return Task(number, opcode, tuple(operands), following)


def _words(low: LoweredLaunch, role: Role, address: int, count: int) -> npt.NDArray[np.uint32] | None:
    start = address - low.table_base
    if start < 0 or start + count > len(role.tables):
        return None
    return role.tables[start : start + count]


def chain_of(low: LoweredLaunch, role: Role, sram_words: int) -> Chain:
    """The chain that a role's header starts, up to its end or to the first thing that would halt the core."""
    if not int(role.header[0]) >> 31:
        return Chain((), ())
    order, problem = _order(low, role)
    fabric: list[Task] = []
    known: dict[int, Operand] = {}
    for number in _unusual(low, role, order, sram_words):
        task = task_of(low, role, number, known)
        if task is None:
            text = f"task {number} or one of its descriptors lies outside the tables"
        else:
            text = _wrong(task, sram_words)
        if task is None or text:
            return Chain(tuple(order), tuple(fabric), text if task is None else f"task {number} {text}")
        fabric.append(task)
    return Chain(tuple(order), tuple(task for task in fabric if any(o.kind != MEMORY for o in task.operands)), problem)


def _table(low: LoweredLaunch, role: Role) -> npt.NDArray[np.uint32]:
    """uint32[n, 2]: the task words from where the header points to the end of the tables."""
    start = (int(role.header[1]) & 0x3FFF) - low.table_base
    if not 0 <= start <= len(role.tables):
        return np.zeros((0, 2), np.uint32)
    return role.tables[start : start + (len(role.tables) - start) // 2 * 2].reshape(-1, 2)


def _order(low: LoweredLaunch, role: Role) -> tuple[list[int], str]:
    """Numbers of the tasks in the order in which they run, the first one outside the tables included."""
    words = _table(low, role)[:, 0].tolist()
    order: list[int] = []
    seen: set[int] = set()
    number = int(role.header[0]) & 0xFFF
    while True:
        if number in seen:
            return order, f"task {number} follows itself: the chain has no end"
        seen.add(number)
        order.append(number)
        if number >= len(words) or not (words[number] >> 6) & 1:
            return order, ""
        number = (words[number] >> 7) & 0xFFF


def _unusual(low: LoweredLaunch, role: Role, order: list[int], sram_words: int) -> list[int]:
    """Tasks of a chain that are more than an operation in memory that is well within SRAM."""
    words = _table(low, role)
    start = ((int(role.header[1]) >> 14) & 0x3FFF) - low.table_base
    tail = role.tables[start:] if 0 <= start <= len(role.tables) else role.tables[:0]
    descriptors = tail[: len(tail) // 4 * 4].reshape(-1, 4)
    numbers = np.array(order, np.int64)
    inside = numbers < len(words)
    if not inside.all() or not len(descriptors):
        return order
    opcode = words[numbers, 0] & 0x3F
    binary = np.isin(opcode, sorted(_BINARY))
    plain = np.isin(opcode, sorted(OPCODE_NAMES))
    good = _plain_memory(descriptors, sram_words)
    for place in range(3):
        index = ((words[numbers, 1] >> np.uint32(10 * place)) & 0x3FF).astype(np.int64)
        there = index < len(descriptors)
        fine = there & good[np.where(there, index, 0)]
        plain &= fine | ~binary if place == 2 else fine
    unusual: list[int] = numbers[~plain].tolist()
    return unusual


def _plain_memory(descriptors: npt.NDArray[np.uint32], sram_words: int) -> npt.NDArray[np.bool_]:
    """bool[n]: descriptors of memory, of a known format, all of whose elements lie in SRAM."""
    first = descriptors[:, 0].astype(np.int64)
    extents = (descriptors[:, 1:] & 0xFFFF).astype(np.int64)
    strides = (descriptors[:, 1:] >> 16).astype(np.int64)
    strides -= (strides >= 32768) * 65536
    steps = (extents - 1) * strides
    base = first & 0x3FFF
    low, high = base + np.minimum(steps, 0).sum(axis=1), base + np.maximum(steps, 0).sum(axis=1)
    known = ((first >> 14) & 3 == MEMORY) & ((first >> 16) & 3 != 3) & (extents > 0).all(axis=1)
    good: npt.NDArray[np.bool_] = known & (low >= 0) & (high < sram_words)
    return good


def _wrong(task: Task, sram_words: int) -> str:
    if task.opcode not in OPCODE_NAMES:
        return f"has the undefined opcode {task.opcode}"
    for place, operand in zip("DAB", task.operands, strict=False):
        what = f"operand {place}"
        if operand.kind not in KIND_NAMES or operand.fmt not in FORMAT_NAMES:
            return f"has an undefined kind or format in {what}"
        if operand.kind == MEMORY:
            low, high = operand.reach
            if task.elements and (low < 0 or high >= sram_words):
                return f"reaches address {low if low < 0 else high} with {what}, and SRAM has {sram_words} words"
            continue
        if operand.colour >= COLOURS:
            return f"has colour {operand.colour} in {what}, and a router has {COLOURS}"
        if (place == "D") != (operand.kind == FABRIC_OUT):
            return f"has a fabric operand of the wrong direction in {what}"
        if place == "D" and task.opcode in _NOT_TO_FABRIC:
            return "sends the result of mac or select to the fabric"
    return ""
