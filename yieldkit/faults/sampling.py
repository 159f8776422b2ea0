"""Drawing a fault uniformly over what exists in a lowered program: by kind, or inside one class of faults.

A kind names what a campaign asks for and stands for one or more classes of places; the draw decides the place, the
moment and the bit, never the effect. A class of faults is a class of places, one of bits and one of moments, and its
population is counted exactly, from tensors and roles and never word by word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.lowering import Lowered
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.secded import word_bits
from yieldkit.errors import BadInput
from yieldkit.faults.bits import CHECK, LAYOUTS
from yieldkit.faults.event import FaultEvent
from yieldkit.faults.ground import Ground
from yieldkit.faults.places import SITE_CLASSES, Item
from yieldkit.faults.traffic import Traffic
from yieldkit.quantities import Site

__all__ = ["FAULT_KINDS", "KIND_SITES", "FaultSampler", "Population"]

FAULT_KINDS: Final = ("accumulator", "config", "link_drop", "link_flip", "sram_data")
"""The kinds that every program with traffic has places for."""

KIND_SITES: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (name,) for name in SITE_CLASSES},
    "sram_data": ("sram_weights", "sram_activations", "sram_gradients", "sram_kv"),
    "config": ("sram_code", "route", "register"),
}
"""Classes of places behind every kind: each class is a kind of its own, and two names stand for several."""


_INSTEAD: Final = {"accumulator": "result"}
"""What stands in for a kind in a program that has no place for it: without products, sums of other operations."""


class Population(NamedTuple):
    """A class of faults and its (place, moment, bit) triples."""

    site: str
    bit: str
    phase: str
    size: int


class _Group(NamedTuple):
    """Items of one layout in the launches of one kind, with the running sum of their places."""

    layout: str
    items: tuple[Item, ...]
    ends: npt.NDArray[np.int64]


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
    _groups: dict[str, dict[str, list[_Group]]] = field(default_factory=dict, repr=False, compare=False)
    _populations: dict[str, tuple[Population, ...]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def ground(self) -> Ground:
        """What places are counted over."""
        return Ground(self.lowered, self.placement, self.steps, self.sites)

    @cached_property
    def _check_bits(self) -> tuple[int, ...]:
        """Bits beside the 32 of an SRAM word that its protection keeps."""
        machine = getattr(getattr(self.placement.fabric, "spec", None), "machine", None)
        code = str(getattr(getattr(machine, "protection", None), "sram", "none"))
        return tuple(range(32, word_bits(code)))

    def _bits(self, site: str, layout: str) -> Mapping[str, tuple[int, ...]]:
        """Bits of every class of a word of a class of places."""
        check = self._check_bits if site.startswith("sram_") else ()
        return {**LAYOUTS[layout], **({CHECK: check} if check else {})}

    @property
    def traffic(self) -> tuple[Traffic, ...]:
        """Words over links and into queues in every launch, of the sites to draw from."""
        return self.ground.traffic

    def populations(self, sites: Iterable[str]) -> tuple[Population, ...]:
        """Classes of faults of some classes of places that hold anything, in a fixed order.

        Raises:
            BadInput: unknown class of places.
        """
        return tuple(population for site in sites for population in self._of_site(site))

    def units(self, one: Population) -> float:
        """What a raw rate counts in a class of faults: bits on the average over the run, cores, or directed links."""
        unit = SITE_CLASSES[one.site].unit
        if unit == "bit":
            return one.size / (self.steps * sum(len(low.launch.phases) for low in self.lowered.launches))
        if unit == "host_bit":
            return one.size / self.steps
        number = {"core": len(self.ground.core_of), "host": 1}.get(unit) or self.ground.links
        return number * one.size / sum(other.size for other in self._of_site(one.site))

    def of_kind(self, kind: str) -> tuple[Population, ...]:
        """Classes of faults behind a kind.

        Raises:
            BadInput: unknown kind, or the program has no place for it.
        """
        if kind not in KIND_SITES:
            raise BadInput("fault kind must be one of " + ", ".join(sorted(KIND_SITES)), value=kind)
        found = self.populations(KIND_SITES[kind])
        if not found and kind in _INSTEAD:
            found = self.populations((_INSTEAD[kind],))
        if not found:
            raise BadInput("the program has no place for this kind of fault", value=kind)
        return found

    def draw(self, kind: str, rng: np.random.Generator) -> FaultEvent:
        """Draw one event: one bit flipped, or a word lost, uniformly over the kind's population.

        Raises:
            BadInput: unknown kind, or the program has no place for it.
        """
        choices = self.of_kind(kind)
        counts = np.array([choice.size for choice in choices], np.float64)
        chosen = choices[int(rng.choice(len(choices), p=counts / counts.sum()))]
        return self.draw_in(chosen.site, chosen.bit, chosen.phase, rng)

    def draw_in(self, site: str, bit: str, phase: str, rng: np.random.Generator) -> FaultEvent:
        """Draw one event uniformly inside a class of faults.

        Raises:
            BadInput: the class has no population.
        """
        found = [entry for entry in self.ground.phases if entry[0] == phase]
        groups = [
            group
            for group in self._by_kind(site).get(found[0][1] if found else "", [])
            if bit in self._bits(site, group.layout)
        ]
        if not found or not groups:
            raise BadInput("there is no such class of faults", value=f"{site}/{bit}/{phase}")
        steps = found[0][2]
        sizes = np.array([int(group.ends[-1]) * len(self._bits(site, group.layout)[bit]) for group in groups], np.int64)
        step = int(rng.integers(steps.start, steps.stop))
        place = int(rng.integers(sizes.sum()))
        which = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
        group = groups[which]
        bits = self._bits(site, group.layout)[bit]
        place, number = divmod(place - int(sizes[:which].sum()), len(bits))
        at = int(np.searchsorted(group.ends, place, side="right"))
        item = group.items[at]
        place -= int(group.ends[at - 1]) if at else 0
        when = {"step": step, "launch": self.lowered.launches[item.launch].name}
        return SITE_CLASSES[site].strike(self.ground, item, place, bits[number], when, rng)

    def _of_site(self, site: str) -> tuple[Population, ...]:
        if site not in self._populations:
            counted: dict[tuple[str, str], int] = {}
            for name, kind, steps in self.ground.phases:
                for group in self._by_kind(site).get(kind, []):
                    for bit, bits in self._bits(site, group.layout).items():
                        count = len(steps) * len(bits) * int(group.ends[-1])
                        counted[bit, name] = counted.get((bit, name), 0) + count
            found = [Population(site, bit, phase, count) for (bit, phase), count in counted.items() if count]
            self._populations[site] = tuple(sorted(found, key=lambda one: (one.phase, one.bit)))
        return self._populations[site]

    def _by_kind(self, site: str) -> dict[str, list[_Group]]:
        """Items of a class of places by kind of launch and layout."""
        if site not in SITE_CLASSES:
            raise BadInput("class of places must be one of " + ", ".join(SITE_CLASSES), value=site)
        if site not in self._groups:
            items: dict[tuple[str, str], list[Item]] = {}
            for low in self.lowered.launches:
                for item in SITE_CLASSES[site].items(self.ground, low):
                    if item.places:
                        items.setdefault((self.ground.launch_kind[low.index], item.layout), []).append(item)
            groups: dict[str, list[_Group]] = {}
            for (kind, layout), found in items.items():
                ends = np.cumsum([item.places for item in found], dtype=np.int64)
                groups.setdefault(kind, []).append(_Group(layout, tuple(found), ends))
            self._groups[site] = groups
        return self._groups[site]
