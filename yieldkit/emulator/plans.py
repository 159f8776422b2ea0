"""What stays the same over all executors of a program: where its tensors lie in memory, and the plans of its phases."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.formats import round_to
from yieldkit.emulator.layouts import FIRST_TENSOR, Layout, Plan, Setting
from yieldkit.emulator.lowering import Lowered
from yieldkit.emulator.phases import plan_of
from yieldkit.workloads.program import Tensor, tensors_of

__all__ = ["ProgramPlans", "constant_array", "plans_of"]

F32 = npt.NDArray[np.float32]

_ALIGNED: Final = 16  # words of a cache line


class ProgramPlans:
    """What stays the same over all executors of a lowered program.

    Attributes:
        setting: rectangle, tensors and their numbers.
        zeros: constants that hold +0 only.
        place: offset in words of every tensor that lives within a step, in memory shared by lifetimes.
        room: words of that memory.
        dead: by phase, tensors that end with it.
        plans: by phase and layouts.
    """

    def __init__(self, lowered: Lowered) -> None:
        program = lowered.program
        self.tensors: Mapping[str, Tensor] = lowered.tensors
        number = {name: FIRST_TENSOR + i for i, name in enumerate(self.tensors)}
        self.setting = Setting(program.rows, program.cols, program.dtype, self.tensors, number, program.block)
        self.phases = program.phases
        self.names = [tensors_of(phase) for phase in self.phases]
        self.plans: list[dict[tuple[Any, ...], Plan]] = [{} for _ in self.phases]
        self.constants = {
            name: constant_array(tensor, program.rows, program.cols)
            for name, tensor in self.tensors.items()
            if tensor.values
        }
        self.zeros = frozenset(name for name, value in self.constants.items() if not value.view(np.uint32).any())
        self.dead: list[list[str]] = [[] for _ in self.phases]
        for name, (_, last) in lowered.life.items():
            if last < len(self.phases) and not self.lasts(name):
                self.dead[last].append(name)
        self.place, self.room = self._place(lowered.life)

    def lasts(self, name: str) -> bool:
        """Whether a tensor lives from step to step."""
        tensor = self.tensors[name]
        return tensor.keep or bool(tensor.values)

    def _place(self, life: Mapping[str, tuple[int, int]]) -> tuple[dict[str, int], int]:
        """First fit, so that memory in the cache is used again."""
        place: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for name in sorted(life, key=lambda n: (life[n][0], -life[n][1], n)):
            if self.lasts(name) or name.startswith("__acc"):
                continue
            rows, cols = self.setting.usual(name)
            sizes[name] = -(-rows * cols * self.tensors[name].size // _ALIGNED) * _ALIGNED
            first, last = life[name]
            base = 0
            for low, high in sorted(
                (place[n], place[n] + sizes[n]) for n in place if life[n][0] <= last and first <= life[n][1]
            ):
                if base + sizes[name] <= low:
                    break
                base = max(base, high)
            place[name] = base
        return place, max((place[n] + sizes[n] for n in place), default=0)

    def plan(self, number: int, layout: Mapping[str, Layout], altered: frozenset[str], extra: tuple[Any, ...]) -> Plan:
        """Plan of a phase.

        Args:
            number: the phase, counted over the whole program.
            layout: of the arrays that exist.
            altered: constants that a fault has changed.
            extra: strides of the streamed operand and whether sums are kept.

        Raises:
            Widen: some array must first have a block for every core.
        """
        key = (*[layout.get(name) for name in self.names[number]], altered, *extra)
        plan = self.plans[number].get(key)
        if plan is None:
            plan = plan_of(self.phases[number], self.setting, layout, self.zeros - altered, *extra)
            self.plans[number][key] = plan
        return plan


_KEPT: dict[int, ProgramPlans] = {}


def plans_of(lowered: Lowered) -> ProgramPlans:
    """The plans of a lowered program, which live as long as it does."""
    key = id(lowered)
    if key not in _KEPT:
        _KEPT[key] = ProgramPlans(lowered)
        weakref.finalize(lowered, _KEPT.pop, key, None)
    return _KEPT[key]


def constant_array(tensor: Tensor, rows: int, cols: int) -> F32:
    """Contents of a constant tensor, `[rows|1, cols|1, *dims]`, rounded to its format."""
    shape = (rows if "r" in tensor.over else 1, cols if "c" in tensor.over else 1, *tensor.dims)
    return round_to(np.array(tensor.values, np.float32).reshape(shape), tensor.dtype)
