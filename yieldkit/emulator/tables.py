"""Task and descriptor tables of one core while lowering writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from yieldkit.emulator.isa import (
    CONTROL_NONE,
    FABRIC_IN,
    FABRIC_OUT,
    FORMATS,
    MAX_DESCRIPTORS,
    MAX_TASKS,
    MEMORY,
    OPCODES,
    descriptor_words,
    task_words,
)
from yieldkit.errors import BadInput

__all__ = ["ZERO", "CoreCode", "Desc", "Loops"]

ZERO: Final = "__zero"
"""Name of the one-word constant that clears accumulators."""

Desc = tuple[int, ...]
Loops = list[tuple[int, int]]


@dataclass
class CoreCode:
    """Tables of one core while they are being written.

    Attributes:
        r, c, rows, cols: where the core sits in the rectangle.
        address: SRAM address of every tensor.
        dtypes: its format.
        colours: of every channel of the launch.
        tasks: (opcode, D, A, B) as descriptor numbers.
        descriptors: distinct descriptors, in order of first use.
        taps: for each task, whether its A operand is a finished fp32 sum that state hashes cover.
    """

    r: int
    c: int
    rows: int
    cols: int
    address: Mapping[str, int]
    dtypes: Mapping[str, str]
    colours: Mapping[str, tuple[int, ...]]
    tasks: list[tuple[int, int, int, int]] = field(default_factory=list)
    descriptors: dict[Desc, int] = field(default_factory=dict)
    taps: list[bool] = field(default_factory=list)

    def memory(self, tensor: str, loops: Loops, offset: int = 0) -> Desc:
        """Descriptor of a nest of loops (innermost first) over a tensor in SRAM."""
        fmt = FORMATS[self.dtypes[tensor]]
        return tuple(descriptor_words(MEMORY, fmt, loops, base=self.address[tensor] + offset))

    def zero(self, count: int) -> Desc:
        """Descriptor that reads the constant zero `count` times."""
        return self.memory(ZERO, [(count, 0)])

    def receive(self, colour: int, dtype: str, extents: list[int], *, hold: bool = False) -> Desc:
        """Descriptor of words from the fabric."""
        loops = [(extent, 0) for extent in extents]
        return tuple(descriptor_words(FABRIC_IN, FORMATS[dtype], loops, colour=colour, hold=hold))

    def send(self, colour: int, dtype: str, extents: list[int], *, control: int = CONTROL_NONE) -> Desc:
        """Descriptor of words to the fabric."""
        loops = [(extent, 0) for extent in extents]
        return tuple(descriptor_words(FABRIC_OUT, FORMATS[dtype], loops, colour=colour, control=control))

    def task(self, op: str, d: Desc, a: Desc, b: Desc | None = None, *, tap: bool = False) -> None:
        """Append one task."""
        numbers = [self.descriptors.setdefault(x, len(self.descriptors)) for x in (d, a, *(() if b is None else (b,)))]
        self.tasks.append((OPCODES[op], numbers[0], numbers[1], numbers[2] if b is not None else 0))
        self.taps.append(tap)

    def words(self) -> list[int]:
        """Task table followed by descriptor table."""
        if len(self.tasks) > MAX_TASKS or len(self.descriptors) > MAX_DESCRIPTORS:
            raise BadInput(
                f"core ({self.r}, {self.c}) needs {len(self.tasks)} tasks and {len(self.descriptors)} descriptors, "
                f"the tables hold {MAX_TASKS} and {MAX_DESCRIPTORS}",
                cure="split the launch",
            )
        words: list[int] = []
        for number, (opcode, d, a, b) in enumerate(self.tasks):
            following = number + 1 if number + 1 < len(self.tasks) else None
            words += task_words(opcode, d, a, b, following)
        for descriptor in self.descriptors:
            words += descriptor
        return words
