"""The classes of places where a fault can strike: each counts its own population and finds any one place of it.

A population is counted in (place, moment, bit) triples. The moments of what stores (SRAM, routes, registers) are the
phases of a launch; those of a datapath are the elements it works on, those of a link the words that cross it. So a
uniform raw rate per bit and time, per operation or per word strikes every triple of a class alike.

A new place is one small class with `items` and `strike`, and an entry in `SITE_CLASSES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from yieldkit.emulator.host_faults import stream_size
from yieldkit.emulator.host_words import inputs_of, outputs_of
from yieldkit.emulator.isa import FABRIC_OUT, HEADER_WORDS, OPCODES
from yieldkit.emulator.lowering import LoweredLaunch, Role
from yieldkit.faults.bits import WHOLE, descriptor_layout, header_layout, task_layout
from yieldkit.faults.event import FaultEvent
from yieldkit.faults.ground import Ground
from yieldkit.faults.host_places import words_of_memoryx
from yieldkit.faults.traffic import task_extents
from yieldkit.workloads.program import Gemm, WGrad

Rng = np.random.Generator

__all__ = ["SITE_CLASSES", "Item", "SiteClass"]

_FORMATS: Final = ("fp32", "bf16", "fp16", "fp32")
_OPERANDS: Final = 3
_LEVELS: Final = 3
_SECOND: Final = 2
_BINARY: Final = (*range(OPCODES["add"], OPCODES["select"] + 1), OPCODES["gelu_grad"])
DELAY_CYCLES: Final = 100
"""Assumption: cycles for which a delayed word holds up its link."""
SLOW_FACTOR: Final = 2.0
"""Assumption: cycles of a slow core over its usual ones."""


@dataclass(frozen=True)
class Item:
    """Places of one kind in one launch.

    Attributes:
        launch: number of the launch.
        layout: what their words hold, a key of `LAYOUTS`.
        places: (place, moment) pairs; each has the bits of the layout.
        key: what the site class needs to find one of them again.
    """

    launch: int
    layout: str
    places: int
    key: tuple[Any, ...]


class SiteClass(Protocol):
    """A class of places."""

    @property
    def unit(self) -> str:
        """What a raw rate counts: "bit", "core", "link", "host_bit" (of MemoryX) or "host" (its link)."""
        ...

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """Everything of this class in a launch."""
        ...

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """The event at place `index` of an item; `when` holds step and launch, `rng` draws what is finer."""
        ...


def _split(index: int, *sizes: int) -> list[int]:
    """Digits of an index in mixed radix, the first the fastest."""
    digits = []
    for size in sizes:
        index, digit = divmod(index, size)
        digits.append(digit)
    return digits


def _at(ground: Ground, low: LoweredLaunch, index: int, role: int | None = None) -> dict[str, Any]:
    row, col = ground.site(ground.cores(low).pick(index, role))
    return {"row": row, "col": col}


@dataclass(frozen=True)
class SramTensors:
    """Words of tensors with a role, while they live."""

    role: str
    unit: str = "bit"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a tensor."""
        lowered = ground.lowered
        start = sum(len(other.launch.phases) for other in lowered.launches[: low.index])
        end = start + len(low.launch.phases) - 1
        cores = ground.cores(low).count()
        for name, (first, last) in lowered.life.items():
            low_end, high_end = max(first, start), min(last, end)
            # Constants and accumulators of products have no role of their own.
            if ground.roles.get(name, "other") == self.role and low_end <= high_end:
                tensor, phases = lowered.tensors[name], high_end - low_end + 1
                key = (lowered.address[name], tensor.size, low_end - start, phases)
                yield Item(low.index, tensor.dtype, tensor.size * phases * cores, key)

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit of a word before a phase."""
        low = ground.lowered.launches[item.launch]
        address, size, first, phases = item.key
        word, phase, core = _split(index, size, phases, ground.cores(low).count())
        where = _at(ground, low, core)
        return FaultEvent("sram", **where, **when, phase=first + phase, address=address + word, mask=1 << bit)


@dataclass(frozen=True)
class SramCode:
    """Header, task table and descriptor table."""

    unit: str = "bit"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a word of the header, of a task and of a descriptor, for every role."""
        phases = len(low.launch.phases)
        for role, image, cores in ground.images(low):
            base, moments = low.table_base, phases * cores
            for word in range(HEADER_WORDS):
                yield Item(low.index, header_layout(word), moments, (role, word, 1, 1))
            for word in range(2):
                yield Item(low.index, task_layout(word), image.n_tasks * moments, (role, base + word, 2, image.n_tasks))
            tables = base + 2 * image.n_tasks
            number = (len(image.tables) - 2 * image.n_tasks) // 4
            for word in range(4):
                yield Item(low.index, descriptor_layout(word), number * moments, (role, tables + word, 4, number))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit of a word before a phase."""
        low = ground.lowered.launches[item.launch]
        role, address, stride, number = item.key
        word, phase, core = _split(index, number, len(low.launch.phases), ground.cores(low).count(role))
        where = _at(ground, low, core, role)
        return FaultEvent("sram", **where, **when, phase=phase, address=address + stride * word, mask=1 << bit)


@dataclass(frozen=True)
class SramFree:
    """Words that hold nothing live."""

    unit: str = "bit"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a phase and role; what lives at the same time shares no words, so sizes add up."""
        lowered = ground.lowered
        start = sum(len(other.launch.phases) for other in lowered.launches[: low.index])
        spans = [(first, last, lowered.tensors[name].size) for name, (first, last) in lowered.life.items()]
        alive = [
            sum(size for first, last, size in spans if first <= start + phase <= last)
            for phase in range(len(low.launch.phases))
        ]
        for role, image, cores in ground.images(low):
            for phase, words in enumerate(alive):
                free = lowered.sram_words - HEADER_WORDS - len(image.tables) - words
                yield Item(low.index, "free", free * cores, (role, phase, free))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit of a word before a phase."""
        low = ground.lowered.launches[item.launch]
        role, phase, free = item.key
        word, core = _split(index, free, ground.cores(low).count(role))
        for start, stop in self._ranges(ground, low, phase, role):
            if word < stop - start:
                where = _at(ground, low, core, role)
                return FaultEvent("sram", **where, **when, phase=phase, address=start + word, mask=1 << bit)
            word -= stop - start
        raise AssertionError("a free word beyond the last")

    def _ranges(self, ground: Ground, low: LoweredLaunch, phase: int, role: int) -> Iterator[tuple[int, int]]:
        end = 0
        for start, size, _, _ in sorted(ground.lowered.words_in_use(low.index, phase, role)):
            if start > end:
                yield end, start
            end = max(end, start + size)
        if end < ground.lowered.sram_words:
            yield end, ground.lowered.sram_words


@dataclass(frozen=True)
class Registers:
    """Task word and descriptors of the running task, or the loop indices of its operands.

    The phases' share of a core's elements is taken as equal, and inside it one element is as likely as another.
    """

    place: str = "register"
    unit: str = "bit"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a word and role; a core without tasks loads no registers."""
        for role, image, cores in ground.images(low):
            moments = len(low.launch.phases) * cores
            if image.n_tasks and self.place == "index":
                for number in range(_OPERANDS * _LEVELS):
                    yield Item(low.index, "index", moments, (role, *divmod(number, _LEVELS)))
            elif image.n_tasks:
                for word in range(2):
                    yield Item(low.index, task_layout(word), moments, (role, -1, word))
                for word in range(4):
                    for operand in range(_OPERANDS):
                        yield Item(low.index, descriptor_layout(word), moments, (role, operand, word))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit while an element is worked on."""
        low = ground.lowered.launches[item.launch]
        role, operand, word = item.key
        phases = len(low.launch.phases)
        phase, core = _split(index, phases, ground.cores(low).count(role))
        image = low.roles[role]
        extents = task_extents(image.tables, image.n_tasks)
        ends = np.cumsum(extents)
        low_end, high_end = (int(ends[-1]) * edge // phases for edge in (phase, phase + 1))
        # A slot without an element of its own stands for the one it falls into.
        number = low_end if high_end <= low_end + 1 else int(rng.integers(low_end, high_end))
        task = int(np.searchsorted(ends, number, side="right"))
        element = number - int(ends[task] - extents[task])
        where = _at(ground, low, core, role)
        return FaultEvent(
            self.place, **where, **when, task=task, element=element, operand=operand, word=word, mask=1 << bit
        )


@dataclass(frozen=True)
class Routes:
    """Route words: those that the program sets, or the empty ones."""

    empty: bool = False
    unit: str = "bit"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a role."""
        for role, image, cores in ground.images(low):
            words = np.argwhere((image.routes == 0) if self.empty else (image.routes != 0))
            if len(words):
                phases = len(low.launch.phases)
                yield Item(low.index, "route", len(words) * phases * cores, (role, words))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit at the launch's start, which stands for all its phases."""
        low = ground.lowered.launches[item.launch]
        role, words = item.key
        number, _, core = _split(index, len(words), len(low.launch.phases), ground.cores(low).count(role))
        colour, position = (int(value) for value in words[number])
        where = _at(ground, low, core, role)
        return FaultEvent("route", **where, **when, colour=colour, position=position, mask=1 << bit)


@dataclass(frozen=True)
class Elements:
    """Words of a datapath, one an element: what it stores or sends, what it fetches, or the product of a mac.

    Attributes:
        place: "result", "operand" or "product".
        macs: elements of macs only, of all other operations only, or (None) of all.
        operand: 0 D, 1 A, 2 B; its descriptor has the format.
    """

    place: str
    macs: bool | None = None
    operands: tuple[int, ...] = (0,)
    unit: str = "core"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a role, operand and format."""
        for role, image, cores in ground.images(low):
            if not image.n_tasks:
                continue
            extents = task_extents(image.tables, image.n_tasks)
            for operand in self.operands:
                tasks, formats = self._tasks(image, operand)
                for layout in dict.fromkeys(_FORMATS):
                    chosen = tasks[formats[tasks] == _FORMATS.index(layout)]
                    ends = np.cumsum(extents[chosen])
                    if len(chosen) and ends[-1]:
                        yield Item(low.index, layout, int(ends[-1]) * cores, (role, operand, chosen, ends))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit of one element's word."""
        low = ground.lowered.launches[item.launch]
        role, operand, tasks, ends = item.key
        number, core = _split(index, int(ends[-1]), ground.cores(low).count(role))
        which = int(np.searchsorted(ends, number, side="right"))
        element = number - (int(ends[which - 1]) if which else 0)
        where = _at(ground, low, core, role) | {**when, "task": int(tasks[which]), "element": element}
        if self.place == "operand":
            where["operand"] = operand
        return FaultEvent(self.place, **where, mask=1 << bit)

    def _tasks(self, image: Role, operand: int) -> tuple[Any, Any]:
        """Numbers of the tasks that count, and the format of the operand of every task."""
        words = image.tables[: 2 * image.n_tasks].reshape(-1, 2)
        first = image.tables[2 * image.n_tasks :].reshape(-1, 4)[:, 0]
        opcode = words[:, 0] & 0x3F
        counts = np.ones(len(words), bool) if self.macs is None else (opcode == OPCODES["mac"]) == self.macs
        if operand == _SECOND:
            counts &= np.isin(opcode, _BINARY)
        if self.place == "product":
            return np.flatnonzero(counts), np.zeros(len(words), np.int64)
        formats = (first[np.minimum((words[:, 1] >> (10 * operand)) & 0x3FF, len(first) - 1)] >> 16) & 3
        return np.flatnonzero(counts), np.where(formats == len(_FORMATS) - 1, 0, formats)


@dataclass(frozen=True)
class SlowCores:
    """A core that takes longer for a launch."""

    unit: str = "core"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a launch."""
        yield Item(low.index, WHOLE, ground.cores(low).count(), ())

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Slow one core down."""
        low = ground.lowered.launches[item.launch]
        return FaultEvent("slow", **_at(ground, low, index), **when, factor=SLOW_FACTOR)


@dataclass(frozen=True)
class MemoryX:
    """Words of parameters and of their moments in MemoryX, before each step."""

    parts: tuple[str, ...]
    unit: str = "host_bit"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a parameter and part, with the first launch of the step."""
        program = ground.lowered.program
        if low.index or (self.parts != ("weights",) and program.job.get("kind") != "training"):
            return
        for name, words in words_of_memoryx(program).items():
            for part in self.parts:
                yield Item(low.index, "fp32", words, (name, part))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit of a word."""
        name, part = item.key
        return FaultEvent("memoryx", 0, 0, when["step"], "", mask=1 << bit, tensor=name, part=part, index=index)


@dataclass(frozen=True)
class Streams:
    """Words of the streams between MemoryX and the wafer, or whole tensors of them."""

    place: str
    unit: str = "host"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a stream of a launch."""
        program = ground.lowered.program
        for phase in (*inputs_of(low.launch), *outputs_of(low.launch)):
            if self.place == "stream_drop":
                yield Item(low.index, WHOLE, 1, (phase.stream,))
                continue
            if isinstance(phase, Gemm | WGrad):
                layout = program.dtype if isinstance(phase, Gemm) else program.sum_dtype
            else:
                layout = ground.lowered.tensors[phase.tensor].dtype
            yield Item(low.index, layout, stream_size(program, low.launch, phase.stream), (phase.stream,))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Strike one word, or lose the tensor."""
        (stream,) = item.key
        if self.place == "stream_drop":
            return FaultEvent(self.place, 0, 0, **when, tensor=stream)
        return FaultEvent(self.place, 0, 0, **when, tensor=stream, index=index, mask=1 << bit)


@dataclass(frozen=True)
class Links:
    """Words on their way between two cores. An idle link counts as a used one with as many words as the others have."""

    place: str
    whole: bool = False
    unit: str = "link"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a launch and format, and one of its idle links."""
        traffic = ground.traffic[low.index]
        slots, ports = np.nonzero(traffic.sent)
        if not len(slots):
            return
        used = np.column_stack((traffic.core[slots], traffic.colour[slots], ports))
        words = traffic.sent[slots, ports]
        layouts = _link_layouts(low)
        names = np.array([WHOLE if self.whole else layouts.get(int(colour), "fp32") for colour in used[:, 1]])
        for layout in dict.fromkeys(names.tolist()):
            chosen = used[names == layout]
            ends = np.cumsum(words[names == layout])
            yield Item(low.index, layout, int(ends[-1]), (chosen, ends))
        if idle := len(ground.idle_links):
            each = max(1, round(float(words.mean())))
            yield Item(low.index, WHOLE if self.whole else "fp32", idle * each, (None, each))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Strike one word."""
        mask: dict[str, Any] = {} if self.whole else {"mask": 1 << bit}
        if self.place == "link_delay":
            mask["cycles"] = DELAY_CYCLES
        used, ends = item.key
        if used is None:
            (row, col), (down, right) = ground.idle_links[index // ends]
            return FaultEvent(self.place, row, col, **when, **mask, drow=down, dcol=right)
        which = int(np.searchsorted(ends, index, side="right"))
        core, colour, port = (int(value) for value in used[which])
        nth = index - (int(ends[which - 1]) if which else 0)
        return FaultEvent(self.place, **ground.link(core, port), **when, **mask, colour=colour, nth=nth)


@dataclass(frozen=True)
class Queues:
    """Words as they enter a queue of a router."""

    unit: str = "core"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a launch and format."""
        traffic = ground.traffic[low.index]
        slots, ports = np.nonzero(traffic.entered)
        used = np.column_stack((traffic.core[slots], traffic.colour[slots], ports))
        words = traffic.entered[slots, ports]
        layouts = _link_layouts(low)
        names = np.array([layouts.get(int(colour), "fp32") for colour in used[:, 1]])
        for layout in dict.fromkeys(names.tolist()):
            chosen = used[names == layout]
            ends = np.cumsum(words[names == layout])
            yield Item(low.index, layout, int(ends[-1]), (chosen, ends))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit of one word."""
        used, ends = item.key
        which = int(np.searchsorted(ends, index, side="right"))
        core, colour, port = (int(value) for value in used[which])
        row, col = ground.placement.physical(*divmod(core, ground.placement.cols))
        nth = index - (int(ends[which - 1]) if which else 0)
        return FaultEvent("queue", row, col, **when, colour=colour, port=port, nth=nth, mask=1 << bit)


@dataclass(frozen=True)
class Switches:
    """Positions of switches, for the colours that a router has a route for, and for the others."""

    unit: str = "bit"

    def items(self, ground: Ground, low: LoweredLaunch) -> Iterator[Item]:
        """One item a role for colours in use, one for the others."""
        for role, image, cores in ground.images(low):
            live = (image.routes != 0).any(axis=1)
            for layout, colours in (("position", np.flatnonzero(live)), ("idle_position", np.flatnonzero(~live))):
                moments = len(low.launch.phases) * cores
                yield Item(low.index, layout, len(colours) * moments, (role, colours))

    def strike(self, ground: Ground, item: Item, index: int, bit: int, when: Mapping[str, Any], rng: Rng) -> FaultEvent:
        """Flip a bit at the launch's start, which stands for all its phases."""
        low = ground.lowered.launches[item.launch]
        role, colours = item.key
        number, _, core = _split(index, len(colours), len(low.launch.phases), ground.cores(low).count(role))
        return FaultEvent("switch", **_at(ground, low, core, role), **when, colour=int(colours[number]), mask=1 << bit)


def _link_layouts(low: LoweredLaunch) -> dict[int, str]:
    """Format of the words of each colour, where all that is sent in it has the same; words of mixed colours count as
    fp32.
    """
    formats: dict[int, set[str]] = {}
    for image in low.roles:
        first = image.tables[2 * image.n_tasks :].reshape(-1, 4)[:, 0]
        for word in first[((first >> 14) & 3) == FABRIC_OUT]:
            formats.setdefault(int((word >> 18) & 31), set()).add(_FORMATS[int((word >> 16) & 3)])
    return {colour: next(iter(found)) for colour, found in formats.items() if len(found) == 1}


SITE_CLASSES: Final[Mapping[str, SiteClass]] = {
    "sram_weights": SramTensors("weights"),
    "sram_activations": SramTensors("activations"),
    "sram_gradients": SramTensors("gradients"),
    "sram_kv": SramTensors("kv"),
    "sram_other": SramTensors("other"),
    "sram_code": SramCode(),
    "sram_free": SramFree(),
    "register": Registers(),
    "route": Routes(),
    "route_empty": Routes(empty=True),
    "index": Registers("index"),
    "accumulator": Elements("result", macs=True),
    "result": Elements("result", macs=False),
    "operand": Elements("operand", operands=(1, 2)),
    "product": Elements("product", macs=True),
    "slow": SlowCores(),
    "link_flip": Links("link_flip"),
    "link_drop": Links("link_drop", whole=True),
    "link_duplicate": Links("link_duplicate", whole=True),
    "link_credit": Links("link_credit", whole=True),
    "link_delay": Links("link_delay", whole=True),
    "queue": Queues(),
    "switch": Switches(),
    "memoryx_weights": MemoryX(("weights",)),
    "memoryx_moments": MemoryX(("first", "second")),
    "stream": Streams("stream"),
    "stream_drop": Streams("stream_drop"),
}
"""Every class of places by name."""
