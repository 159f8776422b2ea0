"""Writing programs: tensors, references by stride, phases and launches, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yieldkit.workloads.program import AllReduce, Compute, Instr, Launch, Phase, Program, Ref, Shift, Tensor

__all__ = ["ProgramBuilder", "at"]


def at(tensor: str, offset: int = 0, **strides: int) -> Ref:
    """Reference with a stride for each loop it depends on, e.g. ``at("q", i=8, f=1)``."""
    return Ref(tensor, tuple(strides), tuple(strides.values()), offset)


class ProgramBuilder:
    """Collects the parts of a Program.

    Args:
        name: of the program.
        rows, cols: rectangle of logical cores.
        dtype: operand format of matrix products.
        accumulation: their accumulators, "fp32" or "bf16_blocked".
        block: steps of k in a block of "bf16_blocked".
    """

    def __init__(
        self, name: str, rows: int, cols: int, dtype: str, *, accumulation: str = "fp32", block: int = 0
    ) -> None:
        self.name, self.rows, self.cols, self.dtype = name, rows, cols, dtype
        self.accumulation, self.block = accumulation, block
        self.tensors: dict[str, Tensor] = {}
        self.launches: list[Launch] = []
        self.phases: list[Phase] = []

    def tensor(
        self,
        name: str,
        dims: Sequence[int],
        over: str = "rc",
        *,
        dtype: str = "fp32",
        keep: bool = False,
        values: Sequence[float] = (),
    ) -> str:
        """Declare a tensor and return its name."""
        if name not in self.tensors:
            self.tensors[name] = Tensor(name, dtype, tuple(dims), over, keep, tuple(float(v) for v in values))
        return name

    def constant(self, name: str, value: float) -> Ref:
        """Reference to a one-word constant, the same on every core."""
        return at(self.tensor(name, (1,), "", values=(value,)))

    def phase(self, phase: Phase) -> None:
        """Append a phase to the launch being written."""
        self.phases.append(phase)

    def compute(self, name: str, *instrs: Instr) -> None:
        """Append a compute phase."""
        self.phases.append(Compute(name, tuple(instrs)))

    def halo(self, name: str, x: str, *, north: str, east: str, south: str, west: str) -> None:
        """Exchange `x` with the four neighbours: `north` receives what the northern neighbour holds, and so on."""
        for direction, target in (("S", north), ("W", east), ("N", south), ("E", west)):
            self.phases.append(Shift(f"{name}.{direction}", x, target, direction))

    def barrier(self, name: str) -> None:
        """No core goes on before every core has come here: a word reduced along rows and columns and sent back."""
        zero = self.constant("k.zero", 0.0)
        here, row, everywhere = (f"{name}.{part}" for part in ("here", "row", "all"))
        self.tensor(here, (1,))
        self.tensor(row, (1,), "r")
        self.tensor(everywhere, (1,), "")
        self.compute(f"{name}.arrive", Instr("mov", (("w", 1),), at(here), zero))
        self.phases.append(AllReduce(f"{name}.rows", "row", "add", here, row))
        self.phases.append(AllReduce(f"{name}.cols", "col", "add", row, everywhere))

    def launch(self, name: str) -> None:
        """Close the launch that holds the phases written since the last one."""
        self.launches.append(Launch(name, tuple(self.phases)))
        self.phases = []

    def build(self, job: Mapping[str, Any]) -> Program:
        """The finished program."""
        tensors = tuple(self.tensors.values())
        return Program(
            self.name,
            self.rows,
            self.cols,
            self.dtype,
            tensors,
            tuple(self.launches),
            job,
            self.accumulation,
            self.block,
        )
