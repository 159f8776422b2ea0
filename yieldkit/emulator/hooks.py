"""What a fault may touch, as plain places and times in logical coordinates. The `faults` folder makes these; the
interpreters apply them and never ask where they came from.

Times are local to a core: before the first task of a phase, or at an element of a task, counted from the launch. A word
on a link is the n-th that leaves through that port in that colour since the launch began (control words count).

A struck word becomes `(old & keep) ^ mask`. With `lasts` it is struck again at every later occasion in the launch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

__all__ = [
    "ALL_BITS",
    "MOST_HELD_UP",
    "IndexHook",
    "LaunchHooks",
    "LinkHook",
    "OperandHook",
    "ProductHook",
    "QueueHook",
    "RegisterHook",
    "ResultHook",
    "RouteHook",
    "SlowHook",
    "SramHook",
    "SwitchHook",
    "slow_cores",
]

ALL_BITS: Final = 0xFFFFFFFF
MOST_HELD_UP: Final = 1 << 14
"""Cycles by which the links of a launch can be held up together."""


@dataclass(frozen=True)
class SramHook:
    """SRAM word `address` of core (r, c) is struck before its first task of phase number `phase`.

    Bits of `mask` from 32 up are the word's check bits, where SRAM is protected. With `lasts` every later store to the
    word is struck too: a stuck cell.
    """

    r: int
    c: int
    phase: int
    address: int
    mask: int
    keep: int = ALL_BITS
    lasts: bool = False


@dataclass(frozen=True)
class RouteHook:
    """The route word of (colour, position) is struck as the launch begins, before any word moves.

    Later the router may be ahead of its core, and the final state would depend on timing; so `phase` is 0.
    """

    r: int
    c: int
    phase: int
    colour: int
    position: int
    mask: int
    keep: int = ALL_BITS


@dataclass(frozen=True)
class RegisterHook:
    """A register of the running task is struck: `operand` 0 D, 1 A, 2 B with `word` 0..3, or -1 the task word.

    `task` counts the tasks the core has run since the launch, `element` the elements of that task. With `lasts` the
    register is struck again whenever a later task is loaded into it.
    """

    r: int
    c: int
    task: int
    element: int
    operand: int
    word: int
    mask: int
    keep: int = ALL_BITS
    lasts: bool = False


@dataclass(frozen=True)
class ResultHook:
    """The word that one element of a task stores or sends is struck (an accumulator bit, for a mac).

    With `lasts`, here and below, every element from that one on, in this and in later tasks.
    """

    r: int
    c: int
    task: int
    element: int
    mask: int
    keep: int = ALL_BITS
    lasts: bool = False


@dataclass(frozen=True)
class OperandHook:
    """The word of operand `operand` (1 A, 2 B) is struck on its way into one element, in the operand's format.

    What it was fetched from, and a word that is held for several elements, stay as they are.
    """

    r: int
    c: int
    task: int
    element: int
    operand: int
    mask: int
    keep: int = ALL_BITS
    lasts: bool = False


@dataclass(frozen=True)
class ProductHook:
    """The fp32 product of a mac is struck before the addition; other operations have none."""

    r: int
    c: int
    task: int
    element: int
    mask: int
    keep: int = ALL_BITS
    lasts: bool = False


@dataclass(frozen=True)
class IndexHook:
    """The loop index (16 bits) of `operand` 0 D, 1 A, 2 B at `level` 0 (innermost) to 2 is struck before an element."""

    r: int
    c: int
    task: int
    element: int
    operand: int
    level: int
    mask: int
    keep: int = ALL_BITS
    lasts: bool = False


@dataclass(frozen=True)
class SlowHook:
    """Everything core (r, c) does takes `factor` times the cycles, in the whole launch; no value changes."""

    r: int
    c: int
    factor: float


def slow_cores(hooks: LaunchHooks, cols: int) -> dict[int, float]:
    """Factors of slow cores, numbered in row-major order; two on one core multiply."""
    found: dict[int, float] = {}
    for hook in hooks.slow:
        core = hook.r * cols + hook.c
        found[core] = found.get(core, 1.0) * hook.factor
    return found


@dataclass(frozen=True)
class LinkHook:
    """What happens to the `nth` word that leaves core (r, c) through `port` in `colour`, or to it and all that follow.

    The word becomes `(word & keep) ^ mask`, unless one of the others is asked for.

    Attributes:
        drop: it is lost.
        duplicate: it goes over the link twice: once alone, when there is room behind the link, and then as it would.
        credit: it finds one place less in the queue behind the link, and so do all words after it; with `lasts`, each
            word after it finds one less than the one before.
        delay: cycles that it holds up the link for words of this colour.
        lasts: all later words of the launch are struck too.
    """

    r: int
    c: int
    port: int
    colour: int
    nth: int
    drop: bool
    mask: int
    keep: int = ALL_BITS
    lasts: bool = False
    duplicate: bool = False
    credit: bool = False
    delay: int = 0


@dataclass(frozen=True)
class QueueHook:
    """The `nth` word that enters a queue of router (r, c) since the launch began becomes `(word & keep) ^ mask` there.

    `port`: N, E, S, W (words from a neighbour or, at the edge, from MemoryX), 4 from the core, 5 to the core. With
    `lasts` every later word does too.
    """

    r: int
    c: int
    port: int
    colour: int
    nth: int
    mask: int
    keep: int = ALL_BITS
    lasts: bool = False


@dataclass(frozen=True)
class SwitchHook:
    """XOR `mask`, 2 bits, onto the switch position of a colour of router (r, c) as the launch begins."""

    r: int
    c: int
    colour: int
    mask: int


@dataclass(frozen=True)
class LaunchHooks:
    """Everything that strikes during one launch; of streams in `withheld` MemoryX pushes nothing."""

    sram: tuple[SramHook, ...] = ()
    routes: tuple[RouteHook, ...] = ()
    registers: tuple[RegisterHook, ...] = ()
    results: tuple[ResultHook, ...] = ()
    links: tuple[LinkHook, ...] = ()
    queues: tuple[QueueHook, ...] = ()
    switches: tuple[SwitchHook, ...] = ()
    operands: tuple[OperandHook, ...] = ()
    products: tuple[ProductHook, ...] = ()
    indices: tuple[IndexHook, ...] = ()
    slow: tuple[SlowHook, ...] = ()
    withheld: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, kind.name) for kind in fields(self))

    def __add__(self, other: LaunchHooks) -> LaunchHooks:
        return LaunchHooks(*(getattr(self, kind.name) + getattr(other, kind.name) for kind in fields(self)))
