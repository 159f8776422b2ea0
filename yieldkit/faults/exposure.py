"""What a clean launch exposes a physical site to: how often a fault there could strike, when, and how busy the site is.

All of it is read from the lowered program: tasks and descriptors say how many elements pass a datapath and which words
they read and store, the counters of a clean launch how many words cross a link. Nothing here depends on values.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.disassembly import Operand, Task, chain_of, task_of
from yieldkit.emulator.isa import FABRIC_IN, FABRIC_OUT, HEADER_WORDS, MEMORY, OPCODES
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import clean_elements
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.word_counts import words_of
from yieldkit.errors import BadInput
from yieldkit.faults.event import FaultEvent, FaultPlan
from yieldkit.faults.ground import Ground
from yieldkit.faults.host_places import HOST_PLACES
from yieldkit.faults.traffic import Traffic
from yieldkit.quantities import OPPOSITE, RAMP, Site

__all__ = ["OCCASIONS", "Exposure", "Occasions", "occasion_of"]

OCCASIONS: Final = ("element", "word", "read", "store", "live_phase", "task", "launch", "step")
"""Kinds of occasion: an element that passes the datapath, a word that leaves over the link or enters the queue, a read
or store of the SRAM word, a phase in which the word holds something, a task loaded into the registers, a launch, a
step.
"""

_BY_PLACE: Final = {
    **dict.fromkeys(("result", "operand", "product", "index"), "element"),
    "register": "task",
    "sram": "read",
    "memoryx": "step",
}
_WITH_PHASES: Final = ("read", "store", "live_phase")
_AS_A_WHOLE: Final = ("launch", "step")


def occasion_of(event: FaultEvent) -> str:
    """The kind of occasion at which a place is struck, unless told otherwise."""
    if event.link is not None or event.place == "queue":
        return "word"
    return _BY_PLACE.get(event.place, "launch")


@dataclass(frozen=True)
class Occasions:
    """The occasions of a launch at one site, in groups.

    Attributes:
        groups: (fields of the event, field that counts inside the group or "", number of occasions).
    """

    groups: tuple[tuple[tuple[tuple[str, int], ...], str, int], ...] = ()

    @cached_property
    def ends(self) -> list[int]:
        """Occasions up to the end of each group."""
        return list(accumulate(size for _, _, size in self.groups))

    @property
    def count(self) -> int:
        """Occasions of the launch."""
        return self.ends[-1] if self.groups else 0

    def at(self, index: int) -> dict[str, Any]:
        """Fields of the event that strikes at an occasion."""
        group = bisect_right(self.ends, index)
        fields, counting, size = self.groups[group]
        found: dict[str, Any] = dict(fields)
        if counting:
            found[counting] = index - (self.ends[group] - size)
        return found


@dataclass(frozen=True)
class Exposure:
    """A program on a placement.

    Attributes:
        lowered: the program.
        placement: where it lies.
    """

    lowered: Lowered
    placement: Placement
    _known: dict[tuple[FaultEvent, str, int], Occasions] = field(default_factory=dict, repr=False, compare=False)
    _tasks: dict[tuple[int, int], tuple[tuple[int, Task], ...]] = field(default_factory=dict, repr=False, compare=False)

    def core(self, event: FaultEvent) -> Site | None:
        """Core of the rectangle that an event strikes, or None where it touches none."""
        return FaultPlan((), self.placement).logical(event)

    def touches(self, event: FaultEvent) -> bool:
        """Whether an event's site is one of the program's: a core or link of its rectangle, or the host's side."""
        return event.place in HOST_PLACES or self.core(event) is not None

    def occasions(self, event: FaultEvent, kind: str, low: LoweredLaunch) -> Occasions:
        """Occasions of a launch; none where the site runs nothing.

        Args:
            event: place and site; its step, launch and moment do not enter.
            kind: one of `OCCASIONS`.
            low: the launch.

        Raises:
            BadInput: the kind does not fit the place.
        """
        key = (replace(event, step=0, launch=""), kind, low.index)
        if key not in self._known:
            core = self.core(event)
            if event.place in HOST_PLACES:
                self._known[key] = _of_host(event, kind, low)
            else:
                self._known[key] = Occasions() if core is None else self._occasions(event, kind, low, core)
        return self._known[key]

    def activity(self, event: FaultEvent, low: LoweredLaunch) -> float:
        """Elements of the struck core in a launch over those of the busiest core; for a link, words over it over those
        of the busiest link. 0 where the site runs nothing, 1 on the host's side.
        """
        if event.place in HOST_PLACES:
            return 1.0
        core = self.core(event)
        if core is None:
            return 0.0
        if event.link is None:
            elements = clean_elements(low)[low.role_of]
            most = int(elements.max())
            return int(elements[core]) / most if most else 0.0
        traffic = self._traffic[low.index]
        words = traffic.over(core[0] * self.placement.cols + core[1], self._port(event, core))
        return sum(words.values()) / traffic.busiest if traffic.busiest else 0.0

    def _occasions(self, event: FaultEvent, kind: str, low: LoweredLaunch, core: Site) -> Occasions:
        if kind in _AS_A_WHOLE:
            return _once(kind, low)
        on_wires = event.link is not None or event.place == "queue"
        if (kind in _WITH_PHASES) != (event.place == "sram") or (kind == "word") != on_wires:
            raise _no_such(event, kind)
        if event.place == "queue":
            entering = self._entering(event, low, core)
            return Occasions((((), "nth", entering),) if entering else ())
        if kind == "word":
            words = self._traffic[low.index].over(core[0] * self.placement.cols + core[1], self._port(event, core))
            return Occasions(tuple(((("colour", colour),), "nth", count) for colour, count in words.items()))
        role = int(low.role_of[core])
        if kind == "task":
            size = len(self._chain(low, role))
            return Occasions((((("element", 0),), "task", size),) if size else ())
        if kind == "element":
            return Occasions(
                tuple(
                    ((("task", number),), "element", task.elements)
                    for number, (_, task) in enumerate(self._chain(low, role))
                    if task.elements and _passes(event, task)
                )
            )
        by_phase = self._phases(event.address, kind, low, role)
        return Occasions(tuple(((("phase", phase),), "", int(n)) for phase, n in enumerate(by_phase) if n))

    def _phases(self, address: int, kind: str, low: LoweredLaunch, role: int) -> npt.NDArray[np.int64]:
        """Reads, stores or lives of an SRAM word by phase of a launch, int64[phases]."""
        phases = len(low.launch.phases)
        found = np.zeros(phases, np.int64)
        if kind == "live_phase":
            for phase in range(phases):
                found[phase] = self.lowered.meaning(low.index, phase, role, address).kind != "free"
            return found
        image = low.roles[role]
        if kind == "read" and address < HEADER_WORDS:
            found[0] = 1
            return found
        table = address - low.table_base
        for phase, task in self._chain(low, role):
            if kind == "read" and 0 <= table < 2 * image.n_tasks:
                found[phase] += table // 2 == task.number
            elif kind == "read" and 2 * image.n_tasks <= table < len(image.tables):
                number = (table - 2 * image.n_tasks) // 4
                found[phase] += sum(operand.number == number for operand in task.operands)
            else:
                read = task.operands[1:] if task.opcode != OPCODES["mac"] else task.operands
                touched = read if kind == "read" else task.operands[:1]
                found[phase] += sum(_times(operand, address, task.elements) for operand in touched)
        return found

    def _entering(self, event: FaultEvent, low: LoweredLaunch, core: Site) -> int:
        """Words that enter a queue in a launch: from a neighbour, from the core (4) or to it (5).

        Words that MemoryX pushes at an edge port are not counted: such a queue has no occasions, and only a permanent
        fault strikes it.
        """
        if event.port < RAMP:
            down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[event.port]
            r, c = core[0] + down, core[1] + right
            if not (0 <= r < self.placement.rows and 0 <= c < self.placement.cols):
                return 0
            sent = self._traffic[low.index].over(r * self.placement.cols + c, OPPOSITE[event.port])
            return sent.get(event.colour, 0)
        words = 0
        for _, task in self._chain(low, int(low.role_of[core])):
            d = task.operands[0]
            if event.port == RAMP and d.kind == FABRIC_OUT and d.colour == event.colour:
                words += words_of(task.sent())
            elif event.port > RAMP:
                words += sum(
                    task.taken(operand)
                    for operand in task.operands[1:]
                    if operand.kind == FABRIC_IN and operand.colour == event.colour
                )
        return words

    def _chain(self, low: LoweredLaunch, role: int) -> tuple[tuple[int, Task], ...]:
        """Tasks of a role in the order they run, each with its phase."""
        key = (low.index, role)
        if key not in self._tasks:
            image = low.roles[role]
            known: dict[int, Operand] = {}
            found = []
            for number in chain_of(low, image, self.lowered.sram_words).order:
                task = task_of(low, image, number, known)
                if task is not None:
                    found.append((int(np.searchsorted(image.first_task, number, side="right")) - 1, task))
            self._tasks[key] = tuple(found)
        return self._tasks[key]

    @cached_property
    def _traffic(self) -> tuple[Traffic, ...]:
        return Ground(self.lowered, self.placement, 1).traffic

    def _port(self, event: FaultEvent, core: Site) -> int:
        link = event.link
        ends = self.placement.link_end(link) if link is not None else None
        if ends is None:
            raise BadInput("the link carries nothing here", value=link)
        return next(port for r, c, port in ends if (r, c) == core)


def _no_such(event: FaultEvent, kind: str) -> BadInput:
    return BadInput(f"a fault of place {event.place!r} has no occasions of this kind", value=kind)


def _once(kind: str, low: LoweredLaunch) -> Occasions:
    return Occasions((((), "", 1),) if kind == "launch" or low.index == 0 else ())


def _of_host(event: FaultEvent, kind: str, low: LoweredLaunch) -> Occasions:
    """MemoryX is struck before a step, a stream in the launches that have it."""
    if kind != occasion_of(event):
        raise _no_such(event, kind)
    if event.place != "memoryx" and all(getattr(phase, "stream", "") != event.tensor for phase in low.launch.phases):
        return Occasions()
    return _once(kind, low)


def _passes(event: FaultEvent, task: Task) -> bool:
    """Whether the elements of a task go through the struck part of the datapath."""
    if event.place == "product":
        return task.opcode == OPCODES["mac"]
    return event.place not in ("operand", "index") or event.operand < len(task.operands)


def _times(operand: Operand, address: int, elements: int) -> int:
    """How often the first `elements` elements of a memory operand fall on an address."""
    if operand.kind != MEMORY or not operand.reach[0] <= address <= operand.reach[1]:
        return 0
    (inner, stride), (middle, middle_stride), (outer, outer_stride) = operand.loops
    left = (
        address
        - operand.base
        - (np.arange(outer) * outer_stride)[:, None]
        - (np.arange(middle) * middle_stride)[None, :]
    ).reshape(-1)
    before = np.arange(len(left)) * inner
    if stride == 0:
        return int(np.where(left == 0, np.clip(elements - before, 0, inner), 0).sum())
    at, rest = np.divmod(left, stride)
    return int(((rest == 0) & (at >= 0) & (at < inner) & (before + at < elements)).sum())
