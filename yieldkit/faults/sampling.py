"""Drawing a fault of a kind uniformly over the places of that kind that exist in a lowered program.

A kind names what a campaign asks for ("sram_data", "accumulator", "config", "link_flip", "link_drop"); the draw
decides the site, the moment and the bit, never the effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.host_words import input_shape, inputs_of
from yieldkit.emulator.isa import OPCODES
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.placement import Placement
from yieldkit.errors import BadInput
from yieldkit.faults.event import FaultEvent
from yieldkit.quantities import Site

__all__ = ["FAULT_KINDS", "FaultSampler"]

FAULT_KINDS: Final = ("accumulator", "config", "link_drop", "link_flip", "sram_data")

_ROUTE_BITS: Final = 9
_STEPS: Final = ((-1, 0), (0, 1), (1, 0), (0, -1))


@dataclass(frozen=True)
class FaultSampler:
    """Draws events for a program on a placement.

    Attributes:
        lowered: the program.
        placement: where it lies.
        steps: events fall in steps 0 .. steps - 1.
        sites: physical cores to draw from; None: the cores the program runs on.
    """

    lowered: Lowered
    placement: Placement
    steps: int
    sites: tuple[Site, ...] | None = None

    def draw(self, kind: str, rng: np.random.Generator) -> FaultEvent:
        """Draw one event.

        Raises:
            BadInput: unknown kind.
        """
        if kind not in FAULT_KINDS:
            raise BadInput("fault kind must be one of " + ", ".join(FAULT_KINDS), value=kind)
        step = int(rng.integers(self.steps))
        weights = np.array([len(low.launch.phases) for low in self.lowered.launches], np.float64)
        if kind.startswith("link"):
            # Only launches that send something have a word on a link to strike.
            weights[[len(used) == 0 for used in self.streams]] = 0
            if not weights.any():
                raise BadInput("the program sends nothing over the links to draw from")
        low = self.lowered.launches[int(rng.choice(len(weights), p=weights / weights.sum()))]
        if kind.startswith("link"):
            return self._link(kind, step, low, rng)
        site, core = self._site(rng)
        common: dict[str, Any] = {"row": site[0], "col": site[1], "step": step, "launch": low.name}
        role = int(low.role_of[core])
        if kind == "sram_data":
            return self._data(low, role, common, rng)
        if kind == "accumulator":
            return self._result(low, role, common, rng)
        return self._config(low, role, common, rng)

    def _site(self, rng: np.random.Generator) -> tuple[Site, Site]:
        """A physical core, and the core of the rectangle whose contents decide what can be drawn there."""
        if self.sites is None:
            core = (int(rng.integers(self.placement.rows)), int(rng.integers(self.placement.cols)))
            return self.placement.physical(*core), core
        site = self.sites[int(rng.integers(len(self.sites)))]
        # A site that runs nothing has no contents of its own; the event then names those of the first core.
        return site, self.placement.logical(*site) or (0, 0)

    def _data(self, low: LoweredLaunch, role: int, common: dict[str, Any], rng: np.random.Generator) -> FaultEvent:
        phase = int(rng.integers(len(low.launch.phases)))
        ranges = [
            (start, size, 32 if self.lowered.tensors[name].dtype == "fp32" else 16)
            for start, size, kind, name in self.lowered.words_in_use(low.index, phase, role)
            if kind == "tensor"
        ]
        if not ranges:
            raise BadInput(f"launch {low.name!r} holds no tensors at phase {phase}")
        bits = np.array([size * width for _, size, width in ranges], np.int64)
        place = int(rng.integers(bits.sum()))
        number = int(np.searchsorted(np.cumsum(bits), place, side="right"))
        start, _, width = ranges[number]
        word, bit = divmod(place - int(bits[:number].sum()), width)
        return FaultEvent("sram", **common, phase=phase, address=start + word, mask=1 << bit)

    def _result(self, low: LoweredLaunch, role: int, common: dict[str, Any], rng: np.random.Generator) -> FaultEvent:
        image = low.roles[role]
        tasks = image.tables[: 2 * image.n_tasks].reshape(-1, 2)
        candidates = np.flatnonzero((tasks[:, 0] & 0x3F) == OPCODES["mac"])
        if len(candidates) == 0:
            candidates = np.arange(image.n_tasks)
        if len(candidates) == 0:
            raise BadInput(f"core ({common['row']}, {common['col']}) runs nothing in launch {low.name!r}")
        extents = task_extents(image.tables, image.n_tasks)[candidates]
        place = int(rng.integers(extents.sum()))
        number = int(np.searchsorted(np.cumsum(extents), place, side="right"))
        element = place - int(extents[:number].sum())
        mask = 1 << int(rng.integers(32))
        return FaultEvent("result", **common, task=int(candidates[number]), element=element, mask=mask)

    def _config(self, low: LoweredLaunch, role: int, common: dict[str, Any], rng: np.random.Generator) -> FaultEvent:
        """A bit of the header and tables in SRAM, of a route word in use, or of a register of a running task."""
        image = low.roles[role]
        routes = np.argwhere(image.routes != 0)
        # A core without tasks loads no registers.
        registers = 3 * 4 * 32 + 2 * 32 if image.n_tasks else 0
        bits = np.array([(2 + len(image.tables)) * 32, len(routes) * _ROUTE_BITS, registers], np.int64)
        place = int(rng.integers(bits.sum()))
        phase = int(rng.integers(len(low.launch.phases)))
        if place < bits[0]:
            word, bit = divmod(place, 32)
            address = word if word < 2 else low.table_base + word - 2
            return FaultEvent("sram", **common, phase=phase, address=address, mask=1 << bit)
        place -= int(bits[0])
        if place < bits[1]:
            number, bit = divmod(place, _ROUTE_BITS)
            colour, position = (int(v) for v in routes[number])
            return FaultEvent("route", **common, colour=colour, position=position, mask=1 << bit)
        place -= int(bits[1])
        extents = task_extents(image.tables, image.n_tasks)
        task = int(rng.integers(len(extents)))
        element = int(rng.integers(extents[task]))
        number, bit = divmod(place, 32)
        operand, word = divmod(number, 4) if number < 12 else (-1, number - 12)
        return FaultEvent("register", **common, task=task, element=element, operand=operand, word=word, mask=1 << bit)

    def _link(self, kind: str, step: int, low: LoweredLaunch, rng: np.random.Generator) -> FaultEvent:
        sent, used = self.traffic[low.index], self.streams[low.index]
        number = int(rng.integers(len(used) + len(self.idle_links)))
        if number >= len(used):
            (row, col), (down, right) = self.idle_links[number - len(used)]
            mask = 0 if kind == "link_drop" else 1 << int(rng.integers(32))
            return FaultEvent(kind, row, col, step, low.name, mask=mask, drow=down, dcol=right)
        core, colour, port = (int(v) for v in used[number])
        r, c = divmod(core, self.placement.cols)
        row, col = self.placement.physical(r, c)
        there = self.placement.physical(r + _STEPS[port][0], c + _STEPS[port][1])
        return FaultEvent(
            kind,
            row,
            col,
            step,
            low.name,
            drow=there[0] - row,
            dcol=there[1] - col,
            colour=colour,
            nth=int(rng.integers(sent[core, colour, port])),
            mask=0 if kind == "link_drop" else 1 << int(rng.integers(32)),
        )

    @cached_property
    def streams(self) -> tuple[npt.NDArray[np.int64], ...]:
        """What is sent from the sites in every launch, int64[n, 3]: core of the rectangle, colour, port."""
        wanted = None if self.sites is None else set(self.sites)
        found = []
        for sent in self.traffic:
            used = np.argwhere(sent > 0)
            if wanted is not None:
                cores = [self.placement.physical(*divmod(int(core), self.placement.cols)) for core in used[:, 0]]
                used = used[[site in wanted for site in cores]]
            found.append(used.reshape(-1, 3))
        return tuple(found)

    @cached_property
    def idle_links(self) -> tuple[tuple[Site, Site], ...]:
        """Links to a neighbour that leave a site on which nothing runs: (site, (drow, dcol)); none without `sites`."""
        sites = set(self.sites or ())
        idle = [site for site in self.sites or () if self.placement.logical(*site) is None]
        return tuple(
            ((r, c), (down, right)) for r, c in idle for down, right in _STEPS if (r + down, c + right) in sites
        )

    @cached_property
    def traffic(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Words each core sends per (colour, port) over inner links in every launch, int64[n, 24, 4].

        Control never reads values, so a run on zeros counts what any clean run sends.
        """
        machine = Machine(self.lowered)
        counts = []
        for low in self.lowered.launches:
            streams = {
                phase.stream: np.zeros(input_shape(self.lowered.program, phase), np.float32)
                for phase in inputs_of(low.launch)
            }
            result = machine.launch(low, streams)
            if not result.completed:
                raise BadInput(f"launch {low.name!r} does not complete on a clean machine", value=result.missing)
            sent = machine.state.sent[:, :, :4].copy()
            for port in range(4):
                sent[machine.neighbour[:, port] < 0, :, port] = 0
            counts.append(sent)
        return tuple(counts)


def task_extents(tables: npt.NDArray[np.uint32], n_tasks: int) -> npt.NDArray[np.int64]:
    """Elements of each task of a role, int64[n_tasks]."""
    tasks = tables[: 2 * n_tasks].reshape(-1, 2)
    extents = (tables[2 * n_tasks :].reshape(-1, 4)[:, 1:] & 0xFFFF).astype(np.int64).prod(axis=1)
    return np.asarray(extents[tasks[:, 1] & 0x3FF], np.int64)
