"""What a fault may touch, as plain places and times in logical coordinates. The `faults` folder makes these; the
interpreters apply them and never ask where they came from.

Times are local to a core: before the first task of a phase, or at an element of a task, counted from the launch. A word
on a link is the n-th that leaves through that port in that colour since the launch began (control words count).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LaunchHooks", "LinkHook", "RegisterHook", "ResultHook", "RouteHook", "SramHook"]


@dataclass(frozen=True)
class SramHook:
    """XOR `mask` onto SRAM word `address` of core (r, c) before its first task of phase number `phase`."""

    r: int
    c: int
    phase: int
    address: int
    mask: int


@dataclass(frozen=True)
class RouteHook:
    """XOR `mask` onto the route word of (colour, position) as the launch begins, before any word moves.

    Later the router may be ahead of its core, and the final state would depend on timing; so `phase` is 0.
    """

    r: int
    c: int
    phase: int
    colour: int
    position: int
    mask: int


@dataclass(frozen=True)
class RegisterHook:
    """XOR `mask` onto a register of the running task: `operand` 0 D, 1 A, 2 B with `word` 0..3, or -1 the task word.

    `task` counts the tasks the core has run since the launch, `element` the elements of that task.
    """

    r: int
    c: int
    task: int
    element: int
    operand: int
    word: int
    mask: int


@dataclass(frozen=True)
class ResultHook:
    """XOR `mask` onto the word that one element of a task stores or sends (an accumulator bit, for a mac)."""

    r: int
    c: int
    task: int
    element: int
    mask: int


@dataclass(frozen=True)
class LinkHook:
    """The `nth` word that leaves core (r, c) through `port` in `colour` is lost (`drop`) or XORed with `mask`."""

    r: int
    c: int
    port: int
    colour: int
    nth: int
    drop: bool
    mask: int


@dataclass(frozen=True)
class LaunchHooks:
    """Everything that strikes during one launch; of streams in `withheld` MemoryX pushes nothing."""

    sram: tuple[SramHook, ...] = ()
    routes: tuple[RouteHook, ...] = ()
    registers: tuple[RegisterHook, ...] = ()
    results: tuple[ResultHook, ...] = ()
    links: tuple[LinkHook, ...] = ()
    withheld: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sram or self.routes or self.registers or self.results or self.links or self.withheld)

    def __add__(self, other: LaunchHooks) -> LaunchHooks:
        return LaunchHooks(
            self.sram + other.sram,
            self.routes + other.routes,
            self.registers + other.registers,
            self.results + other.results,
            self.links + other.links,
            self.withheld + other.withheld,
        )
