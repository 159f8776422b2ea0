"""The executor that runs every launch on the reference machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.links import LinkGuard
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import LaunchResult, Machine
from yieldkit.emulator.plans import constant_array

__all__ = ["ReferenceExecutor"]

F32 = npt.NDArray[np.float32]


class ReferenceExecutor:
    """Every launch on the reference machine.

    Args:
        lowered: the program.
        queue_depth: words a queue holds.
        sequence: links number their words.
        guard: protection of links in full.
        sram_code: protection of SRAM.
    """

    def __init__(
        self,
        lowered: Lowered,
        *,
        queue_depth: int = 4,
        threads: int = 1,
        sequence: bool = False,
        guard: LinkGuard | str | None = None,
        sram_code: str = "none",
    ) -> None:
        machine = Machine(lowered, queue_depth=queue_depth, sequence=sequence, guard=guard, sram_code=sram_code)
        self._begin(lowered, machine, queue_depth)

    def _begin(self, lowered: Lowered, machine: Machine, queue_depth: int) -> None:
        self.queue_depth = queue_depth
        self.machine = machine
        self.lowered = lowered
        for tensor in lowered.tensors.values():
            if tensor.values:
                self.write(tensor.name, constant_array(tensor, lowered.program.rows, lowered.program.cols))

    def write(self, name: str, array: F32) -> None:
        """Put a tensor into SRAM (resident weights, constants)."""
        self.machine.write(name, array)

    def read(self, name: str) -> F32:
        """A tensor as `[rows, cols, *dims]`."""
        return self.machine.read(name)

    @property
    def resident(self) -> str:
        """Fingerprint of the tables in the cores, "" before the first launch."""
        return self.machine.loaded

    @property
    def pristine(self) -> bool:
        """Never known here without comparing all of SRAM."""
        return False

    def launch(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks | None = None) -> LaunchResult:
        """Run one launch."""
        return self.machine.launch(low, streams, hooks)
