"""Faults as events at physical sites, and the plan that turns them into what strikes a running program.

An event names a physical core or link, a step, a launch and a place in the machine. What it does is decided by the
machine: a site that the map bypasses, or that lies outside the program's rectangle, touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from yieldkit.emulator.hooks import (
    ALL_BITS,
    MOST_HELD_UP,
    IndexHook,
    LaunchHooks,
    LinkHook,
    OperandHook,
    ProductHook,
    QueueHook,
    RegisterHook,
    ResultHook,
    RouteHook,
    SlowHook,
    SramHook,
    SwitchHook,
)
from yieldkit.emulator.host_faults import MemoryHook, StreamHook
from yieldkit.emulator.isa import COLOURS, POSITIONS, SRAM_WORDS
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.secded import word_bits
from yieldkit.errors import BadInput
from yieldkit.faults.host_places import HOST_PLACES, check_fields, check_in_program, memory_hooks, stream_hooks
from yieldkit.quantities import LinkKey, Site

__all__ = ["PLACES", "FaultEvent", "FaultPlan"]

PLACES: Final = (
    *("sram", "route", "register", "index", "operand", "product", "result", "slow"),
    *("link_flip", "link_drop", "link_duplicate", "link_credit", "link_delay", "queue", "switch"),
    *HOST_PLACES,
)
CHECKED_BITS: Final = 39
"""Bits of a word with its check bits, at most."""
LARGEST_FACTOR: Final = 1024.0
_NO_WORD_ON_LINK: Final = ("link_drop", "link_duplicate", "link_credit", "link_delay")
_WITHOUT_A_WORD: Final = ("slow", "stream_drop", *_NO_WORD_ON_LINK)
_MASK_BITS: Final = {
    "sram": CHECKED_BITS,
    "index": 16,
    "switch": 2,
    **dict.fromkeys(_NO_WORD_ON_LINK, 0),
}
_OF_A_TASK: Final = ("register", "result", "operand", "product", "index")


@dataclass(frozen=True)
class FaultEvent:
    """One fault in one launch: at its moment, or from there to the launch's end.

    The struck word becomes `(old & keep) ^ mask`: bits flip (`keep` all ones), are stuck at 1 (`keep` without the bits
    of `mask`) or at 0 (`keep` without some bits, `mask` 0), or the word is another (`keep` 0, `mask` the word) or 0.

    Attributes:
        place: "sram" (any SRAM word: data, tables), "route" (a route word), "register" (a descriptor or task word of
            the running task), "result" (the word an element stores or sends: an accumulator bit, for a mac), "operand"
            (the word of an operand on its way into an element), "product" (fp32 product of a mac before the addition),
            "index" (a loop index of an operand), "slow" (a core that takes longer), "link_flip" and "link_drop" (a
            word on its way), "link_duplicate" (it goes over the link twice), "link_credit" (from it on a place of the
            queue behind the link is lost), "link_delay" (it holds up the link), "queue" (a word as it enters a queue of
            a router), "switch" (the position of a router's switch for a colour, at the launch's start), "memoryx" (a
            word of the host's memory, before a step), "stream" (a word on the host's link), "stream_drop" (a whole
            tensor that never comes over it).
        row, col: physical core; for a link the end that the word leaves; 0 on the host's side, and ignored there.
        step, launch: when, by step number and launch name; for memoryx the launch is ignored and may be "".
        mask: bits to XOR, of 32; of 16 for an index, of 2 for a switch; 0 where no word changes; check bits of a
            protected SRAM word are bits 32 (parity), 32 to 38 (SECDED).
        drow, dcol: other end of the link.
        phase: for sram: before the core's first task of this phase (number within the launch); a route word is struck
            at the launch's start, since what a router has passed on by then depends on timing.
        address: SRAM word.
        colour, position: of a route word; colour of the word on a link or in a queue, or of the switch.
        task, element: tasks the core has run since the launch began, and element of that task.
        operand, word: register of that task: operand 0 D, 1 A, 2 B and word 0..3, or operand -1 for the task word; for
            an index the operand and its level, 0 innermost; for an operand 1 A or 2 B.
        nth: number of the word that leaves through the link, or enters the queue, in this colour since the launch's
            start.
        keep: bits of the old word that stay.
        lasts: strikes at every later occasion in the launch too: each store to the SRAM word, each load of the register
            by a later task, each element, each word over the link or into the queue.
        factor: cycles of a slow core over its usual ones, 1 to 1,024.
        tensor: on the host's side, the parameter (memoryx) or the stream.
        index: word of it, in C order.
        part: of memoryx: "weights", "first" or "second" (moments).
        port: of a queue: logical N, E, S, W (0 to 3), 4 from the core, 5 to the core.
        cycles: that a word holds up its link.
    """

    place: str
    row: int
    col: int
    step: int
    launch: str
    mask: int = 0
    drow: int = 0
    dcol: int = 0
    phase: int = 0
    address: int = 0
    colour: int = 0
    position: int = 0
    task: int = 0
    element: int = 0
    operand: int = 0
    word: int = 0
    nth: int = 0
    keep: int = 0xFFFFFFFF
    lasts: bool = False
    factor: float = 1.0
    tensor: str = ""
    index: int = 0
    part: str = ""
    port: int = 0
    cycles: int = 0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise BadInput("fault place must be one of " + ", ".join(PLACES), value=self.place)
        if not isinstance(self.launch, str):
            raise BadInput("fault launch must be the name of a launch", value=self.launch)
        limits = {
            "row": (0, 1 << 20),
            "col": (0, 1 << 20),
            "drow": (-(1 << 20), 1 << 20),
            "dcol": (-(1 << 20), 1 << 20),
            "mask": (0, (1 << _MASK_BITS.get(self.place, 32)) - 1),
            "keep": (0, ALL_BITS),
            "step": (0, 1 << 40),
            "address": (0, SRAM_WORDS - 1),
            "colour": (0, COLOURS - 1),
            "position": (0, POSITIONS - 1),
            "operand": ({"operand": 1, "index": 0}.get(self.place, -1), 2),
            "word": (0, 2 if self.place == "index" else 1 if self.operand == -1 else 3),
            "phase": (0, 1 << 16),
            "task": (0, 1 << 16),
            "element": (0, 1 << 40),
            "nth": (0, 1 << 40),
            "index": (0, 1 << 40),
            "port": (0, 5),
            "cycles": (1 if self.place == "link_delay" else 0, MOST_HELD_UP),
        }
        for name in limits:
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int):
                raise BadInput(f"fault {name} must be a whole number", value=getattr(self, name))
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"fault {name} must be {low} to {high}", value=getattr(self, name))
        check_fields(self)
        if not isinstance(self.lasts, bool):
            raise BadInput("fault lasts must be true or false", value=self.lasts)
        if isinstance(self.factor, bool) or not isinstance(self.factor, int | float):
            raise BadInput("fault factor must be a number", value=self.factor)
        if not 1 <= self.factor <= LARGEST_FACTOR or (self.place != "slow" and self.factor != 1):
            raise BadInput(
                f"fault factor must be 1 to {LARGEST_FACTOR:g}, and 1 but for a slow core", value=self.factor
            )
        bits = 0xFFFF if self.place == "index" else ALL_BITS
        if self.place not in _WITHOUT_A_WORD and self.mask == 0 and self.keep & bits == bits:
            raise BadInput(
                "fault mask 0 changes nothing where keep has all bits", cure="give bits in mask, or keep fewer"
            )
        if self.place == "route" and self.phase:
            raise BadInput("a route word is struck at the launch's start", value=self.phase, cure="use phase 0")
        if self.place.startswith("link") and (self.drow, self.dcol) == (0, 0):
            raise BadInput("a link fault needs its other end", cure="give drow and dcol")

    @property
    def site(self) -> Site:
        """Physical core."""
        return self.row, self.col

    @property
    def link(self) -> LinkKey | None:
        """Physical link by its two ends, smaller end first, or None."""
        if not self.place.startswith("link"):
            return None
        if (self.drow, self.dcol) > (0, 0):
            return self.row, self.col, self.drow, self.dcol
        return self.row + self.drow, self.col + self.dcol, -self.drow, -self.dcol

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown or wrong fields.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise BadInput(f"fault event cannot be read: {error}") from error


class FaultPlan:
    """Events on a placement: what `run` asks before every launch.

    Args:
        events: what strikes.
        placement: where the program lies; sites are looked up in its fabric.
    """

    def __init__(self, events: Iterable[FaultEvent], placement: Placement) -> None:
        self.events = tuple(events)
        self.placement = placement

    def logical(self, event: FaultEvent) -> Site | None:
        """Core of the rectangle that an event strikes (the sending one, for a link), or None when it touches none."""
        if event.place in HOST_PLACES:
            return None
        link = event.link
        if link is None:
            return self.placement.logical(event.row, event.col)
        ends = self.placement.link_end(link)
        here = self.placement.logical(event.row, event.col)
        if ends is None or here is None:
            return None
        return here

    def check(self, lowered: Lowered) -> None:
        """Refuse events that no run of this program could ever meet.

        Raises:
            BadInput: unknown launch, a phase, task or address beyond what there is.
        """
        launches = {low.name: low for low in lowered.launches}
        for event in self.events:
            if event.place in HOST_PLACES:
                check_in_program(event, lowered)
                continue
            low = launches.get(event.launch)
            if low is None:
                raise BadInput(
                    "fault names an unknown launch", value=event.launch, cure=f"known: {', '.join(launches)}"
                )
            if event.mask >> self._word_bits:
                raise BadInput(
                    f"a word of this wafer's SRAM has {self._word_bits} bits, check bits included, and the mask more",
                    value=hex(event.mask),
                )
            tasks = max(role.n_tasks for role in low.roles)
            limits = dict.fromkeys(_OF_A_TASK, ("task", event.task, tasks))
            limits["sram"] = ("address", event.address, lowered.sram_words)
            name, value, limit = limits.get(event.place, ("phase", event.phase, len(low.launch.phases)))
            if value >= limit:
                raise BadInput(f"fault {name} in launch {low.name!r} must be below {limit}", value=value)

    @property
    def _word_bits(self) -> int:
        machine = getattr(getattr(self.placement.fabric, "spec", None), "machine", None)
        return word_bits(str(getattr(getattr(machine, "protection", None), "sram", "none")))

    def hooks(self, step: int, low: LoweredLaunch) -> LaunchHooks:
        """What strikes during a launch, in logical coordinates."""
        total = LaunchHooks()
        for event in self.events:
            if event.step == step and event.launch == low.name:
                core = self.logical(event)
                if core is not None:
                    total += self._hook(event, core, low)
        return total

    def memory_hooks(self, step: int) -> tuple[MemoryHook, ...]:
        """What strikes MemoryX before a step."""
        return memory_hooks(self.events, step)

    def stream_hooks(self, step: int, low: LoweredLaunch) -> tuple[StreamHook, ...]:
        """What strikes the streams of a launch."""
        return stream_hooks(self.events, step, low.name)

    def _hook(self, event: FaultEvent, core: Site, low: LoweredLaunch) -> LaunchHooks:
        r, c = core
        if event.place in ("sram", "route") and event.phase >= len(low.launch.phases):
            raise BadInput(f"launch {low.name!r} has {len(low.launch.phases)} phases", value=event.phase)
        model = (event.mask, event.keep, event.lasts)
        at = (r, c, event.task, event.element)
        if event.place == "sram":
            return LaunchHooks(sram=(SramHook(r, c, event.phase, event.address, *model),))
        if event.place == "route":
            route = RouteHook(r, c, event.phase, event.colour, event.position, event.mask, event.keep)
            return LaunchHooks(routes=(route,))
        if event.place == "register":
            return LaunchHooks(registers=(RegisterHook(*at, event.operand, event.word, *model),))
        if event.place == "result":
            return LaunchHooks(results=(ResultHook(*at, *model),))
        if event.place == "operand":
            return LaunchHooks(operands=(OperandHook(*at, event.operand, *model),))
        if event.place == "product":
            return LaunchHooks(products=(ProductHook(*at, *model),))
        if event.place == "index":
            return LaunchHooks(indices=(IndexHook(*at, event.operand, event.word, *model),))
        if event.place == "slow":
            return LaunchHooks(slow=(SlowHook(r, c, float(event.factor)),))
        if event.place == "queue":
            return LaunchHooks(queues=(QueueHook(r, c, event.port, event.colour, event.nth, *model),))
        if event.place == "switch":
            return LaunchHooks(switches=(SwitchHook(r, c, event.colour, event.mask),))
        return self._link_hook(event, core)

    def _link_hook(self, event: FaultEvent, core: Site) -> LaunchHooks:
        link = event.link
        ends = self.placement.link_end(link) if link is not None else None
        if ends is None:
            return LaunchHooks()
        port = next(port for er, ec, port in ends if (er, ec) == core)
        what = event.place.removeprefix("link_")
        hook = LinkHook(
            *core, port, event.colour, event.nth, what == "drop", event.mask, event.keep, event.lasts,
            duplicate=what == "duplicate", credit=what == "credit", delay=event.cycles if what == "delay" else 0,
        )  # fmt: skip
        return LaunchHooks(links=(hook,))
