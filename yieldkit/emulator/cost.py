"""What things cost in cycles: one table that the wavelet executor and the cycle model of the tensor executor share.

Costs are whole numbers of 1/256 cycle, so that sums are exact and the same on every machine. The preset `ideal` has one
cycle for everything and reproduces the closed forms of the literature; others are fitted to measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.isa import OPCODES

__all__ = ["CLASSES", "FRACTION", "Timing", "cost_class"]

FRACTION: Final = 256
"""Parts of a cycle that costs are counted in."""

CLASSES: Final = ("memory", "fabric in", "fabric out", "fabric in and out")
N_OPCODES: Final = 1 + len(OPCODES)


def cost_class(kind_d: int, kind_a: int, kind_b: int) -> int:
    """Column of the cost table for operands of these kinds (1 memory, 2 fabric in, 3 fabric out; b 0 when absent)."""
    return int(2 in (kind_a, kind_b)) | (int(kind_d == 3) << 1)


def _flat(value: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    return tuple(tuple((value, value) for _ in CLASSES) for _ in range(N_OPCODES))


def _flat_start(value: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(value for _ in CLASSES) for _ in range(N_OPCODES))


@dataclass(frozen=True)
class Timing:
    """Cycle costs of a machine.

    Attributes:
        name: of the preset.
        ramp_cycles: T_R, latency between a core and its router, each way.
        pitch_cycles: cycles a word needs on a link for each core pitch that the link spans.
        element: cost of one element in 1/256 cycle, `[opcode][class][wide]`; class as `CLASSES`, wide 1 when an operand
            is fp32 and 0 when all are 16 bits.
        start: cost of starting a task before its first element in 1/256 cycle, `[opcode][class]`.
        row: cost of every step of a loop but the innermost in 1/256 cycle, `[opcode][class]`, on top of `element`.
        control: cost of sending a control word in 1/256 cycle.
        launch_cycles: cycles between the host's go and the first task.
    """

    name: str = "ideal"
    ramp_cycles: int = 2
    pitch_cycles: int = 1
    element: tuple[tuple[tuple[int, int], ...], ...] = _flat(FRACTION)
    start: tuple[tuple[int, ...], ...] = _flat_start(0)
    row: tuple[tuple[int, ...], ...] = _flat_start(0)
    control: int = FRACTION
    launch_cycles: int = 0

    @property
    def element_array(self) -> npt.NDArray[np.int64]:
        """int64[opcodes, classes, 2]."""
        return np.array(self.element, np.int64)

    @property
    def start_array(self) -> npt.NDArray[np.int64]:
        """int64[opcodes, classes]."""
        return np.array(self.start, np.int64)

    @property
    def row_array(self) -> npt.NDArray[np.int64]:
        """int64[opcodes, classes]."""
        return np.array(self.row, np.int64)
