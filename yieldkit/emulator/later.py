"""Launches whose end is known by counts, and whose values are worked out when somebody looks at them.

A launch that stalls or halts ends its job: the host takes nothing from it, and the scan's counters, which tell how it
ended, follow from counts of words alone. What stands in the cores then is worked out by a run of the whole, once, for
whoever asks: for its hash, its words, or to go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.machine import LaunchResult, Machine

__all__ = ["LateArrays", "LateRun"]

F32 = npt.NDArray[np.float32]


class LateRun:
    """A run that is carried out when its end is asked for.

    Args:
        work: runs the launch on a machine of its own.
    """

    def __init__(self, work: Callable[[], tuple[Machine, LaunchResult]]) -> None:
        self._work = work

    @cached_property
    def ended(self) -> tuple[Machine, LaunchResult]:
        """The machine after the launch, and what the launch gave."""
        return self._work()

    @property
    def result(self) -> LaunchResult:
        """What the launch gave."""
        return self.ended[1]

    @property
    def state_hash(self) -> str:
        """Hash of the state that it ended in."""
        scan = self.result.scan
        return scan.state_hash if scan is not None else ""


class LateArrays(Mapping[str, F32]):
    """Arrays by name that are there once somebody looks.

    Args:
        work: gives them; asked at every look, so it should keep them.
    """

    def __init__(self, work: Callable[[], Mapping[str, F32]]) -> None:
        self._work = work

    def __getitem__(self, name: str) -> F32:
        return self._work()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._work())

    def __len__(self) -> int:
        return len(self._work())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
