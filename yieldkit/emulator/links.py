"""How links are protected, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.hooks import MOST_HELD_UP, LaunchHooks, LinkHook
from yieldkit.emulator.kernels import link_faults as rows
from yieldkit.emulator.kernels.state import FROM_CORE
from yieldkit.errors import BadInput

__all__ = ["LINK_PROTECTIONS", "LinkGuard", "fed_by_cores", "link_rows", "most_held_up"]

LINK_PROTECTIONS: Final = ("none", "parity", "crc", "sequence")


@dataclass(frozen=True)
class LinkGuard:
    """Protection of the links between routers.

    Attributes:
        kind: "none"; "parity", one bit a word: the router behind the link counts a word of which an odd number of bits
            came wrong, and takes it; "crc": every word that came wrong is sent again, up to `resends` times, and then
            taken as it came; "sequence": words are numbered by colour, and a gap or a word that comes twice is counted.
        resends: how often CRC has a word sent again (assumption: 3).
        resend_cycles: cycles that each time takes, in which the link carries no other word of the colour (assumption:
            4, which is a cycle there and back and one at each end).
    """

    kind: str = "none"
    resends: int = 3
    resend_cycles: int = 4

    def __post_init__(self) -> None:
        if self.kind not in LINK_PROTECTIONS:
            raise BadInput("link protection must be one of " + ", ".join(LINK_PROTECTIONS), value=self.kind)
        for name in ("resends", "resend_cycles"):
            if not 1 <= getattr(self, name) <= 64:
                raise BadInput(f"{name} of a link must be 1 to 64", value=getattr(self, name))

    @classmethod
    def of(cls, guard: LinkGuard | str | None, *, sequence: bool = False) -> Self:
        """A guard from its name; `sequence` is short for "sequence"."""
        if isinstance(guard, cls):
            return guard
        kind = guard if isinstance(guard, str) else "none"
        return cls("sequence" if sequence and kind == "none" else kind)


_GUARDS: Final = {"parity": rows.PARITY, "crc": rows.CRC}


def link_rows(hooks: LaunchHooks, cols: int, guard: LinkGuard) -> npt.NDArray[np.int64]:
    """What strikes links and queues as the machines read it: int64[k, 12] of `kernels.link_faults`."""
    found = []
    for h in hooks.links:
        cost = h.delay if _what(h) == rows.DELAY else guard.resend_cycles
        mark = -1 if h.duplicate else 0
        place = (h.r * cols + h.c, h.port, h.colour, h.nth)
        check = (_GUARDS.get(guard.kind, rows.NO_GUARD), guard.resends, cost)
        found.append((*place, _what(h), h.keep, h.mask, int(h.lasts), *check, mark))
    for q in hooks.queues:
        place = (q.r * cols + q.c, q.port, q.colour, q.nth)
        found.append((*place, rows.QUEUE, q.keep, q.mask, int(q.lasts), rows.NO_GUARD, 0, 0, 0))
    return np.array(found, np.int64).reshape(-1, rows.ROW)


def fed_by_cores(link: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Cores that put words into a struck queue."""
    ours = (link[:, rows.WHAT] == rows.QUEUE) & (link[:, rows.PORT] == FROM_CORE)
    cores: npt.NDArray[np.int64] = link[ours, rows.CORE]
    return cores


def most_held_up(link: npt.NDArray[np.int64]) -> int:
    """Most cycles that a word can be held up by all that strikes links together.

    Raises:
        BadInput: more than the clock looks ahead.
    """
    slow = (link[:, rows.WHAT] == rows.DELAY) * link[:, rows.COST]
    again = (link[:, rows.WHAT] == rows.CHANGE) * link[:, rows.RESENDS] * link[:, rows.COST]
    held = int((slow + again).sum())
    if held > MOST_HELD_UP:
        raise BadInput(f"links can be held up by {MOST_HELD_UP} cycles in all", value=held)
    return held


def _what(hook: LinkHook) -> int:
    asked = (hook.drop, hook.duplicate, hook.credit, hook.delay > 0)
    if sum(asked) > 1:
        raise BadInput("a link hook does one thing", value=hook, cure="use one hook for each")
    return (rows.DROP, rows.DUPLICATE, rows.CREDIT, rows.DELAY)[asked.index(True)] if any(asked) else rows.CHANGE
