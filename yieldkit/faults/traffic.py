"""Words that cross the links of a rectangle in a clean launch, and those that enter the queues of its routers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.counts import count_launch
from yieldkit.emulator.isa import FABRIC_OUT
from yieldkit.emulator.lowering import Lowered, LoweredLaunch, Role
from yieldkit.errors import BadInput

__all__ = ["Traffic", "task_extents"]

I64 = npt.NDArray[np.int64]
FROM_CORE: Final = 4
TO_CORE: Final = 5
QUEUES: Final = 6


@dataclass(frozen=True, eq=False)
class Traffic:
    """What a clean launch sends, by slot: a core and a colour that it has a route for, in row-major order.

    Control never reads values, so counts of words settle it, and no core has to run. Memory follows the colours in use.

    Attributes:
        core: int64[s], core of the rectangle.
        colour: int64[s].
        sent: int64[s, 4], words sent N, E, S, W over links inside the rectangle.
        entered: int64[s, 6], words that entered the router's queues N, E, S, W, from the core and to the core. Control
            words that a core sends are left out at its own queue, which holds them as any word.
    """

    core: I64
    colour: I64
    sent: I64
    entered: I64

    @classmethod
    def of(cls, lowered: Lowered, low: LoweredLaunch) -> Traffic:
        """Count a clean launch.

        Raises:
            BadInput: it does not complete.
        """
        counted = count_launch(lowered, low)
        if counted is None or not counted.completed:
            missing = () if counted is None else counted.missing
            raise BadInput(f"launch {low.name!r} does not complete on a clean machine", value=missing)
        rows, cols = low.role_of.shape
        core, colour = counted.slot_core.astype(np.int64), counted.slot_colour.astype(np.int64)
        r, c = np.divmod(core, cols)
        sent = counted.sent[:, :4].astype(np.int64)
        for port, outside in enumerate((r == 0, c == cols - 1, r == rows - 1, c == 0)):
            sent[outside, port] = 0
        entered = np.zeros((len(core), QUEUES), np.int64)
        entered[:, :4], entered[:, TO_CORE] = counted.received, counted.sent[:, 4]
        role = low.role_of.reshape(-1)[core]
        for number, image in enumerate(low.roles):
            for of_colour, words in _words_out(image):
                entered[(role == number) & (colour == of_colour), FROM_CORE] += words
        return cls(core, colour, sent, entered)

    @cached_property
    def busiest(self) -> int:
        """Words over the link that carries most."""
        if not len(self.core):
            return 0
        starts = np.flatnonzero(np.diff(self.core, prepend=-1))
        return int(np.add.reduceat(self.sent, starts, axis=0).max())

    def over(self, core: int, port: int) -> dict[int, int]:
        """Words that a core sends through a port, by colour."""
        first, end = np.searchsorted(self.core, (core, core + 1))
        words = self.sent[first:end, port].tolist()
        return {colour: n for colour, n in zip(self.colour[first:end].tolist(), words, strict=True) if n}


def _words_out(image: Role) -> list[tuple[int, int]]:
    """(colour, words) that each task of a role sends from its core."""
    if not image.n_tasks:
        return []
    destination = image.tables[1 : 2 * image.n_tasks : 2] & 0x3FF
    first = image.tables[2 * image.n_tasks :].reshape(-1, 4)[destination, 0]
    extents = task_extents(image.tables, image.n_tasks)
    out = np.flatnonzero(((first >> 14) & 3) == FABRIC_OUT)
    return [(int((first[task] >> 18) & 31), int(extents[task])) for task in out]


def task_extents(tables: npt.NDArray[np.uint32], n_tasks: int) -> I64:
    """Elements of each task of a role, int64[n_tasks]."""
    tasks = tables[: 2 * n_tasks].reshape(-1, 2)
    extents = (tables[2 * n_tasks :].reshape(-1, 4)[:, 1:] & 0xFFFF).astype(np.int64).prod(axis=1)
    return np.asarray(extents[tasks[:, 1] & 0x3FF], np.int64)
