"""Strata of a campaign: the classes of faults in each, its trials in a round, and which trial is whose.

Everything here is a pure function of the spec, the classes that the bench has counted and the results of complete
rounds, so that any worker comes to the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from yieldkit.burnin.spec import AXES, KIND_GROUPS, CampaignSpec
from yieldkit.burnin.store import Allocation
from yieldkit.burnin.tally import Cell, Tally
from yieldkit.burnin.trial import FaultClass
from yieldkit.errors import BadInput
from yieldkit.reliability.designs import Frame, plan_round
from yieldkit.rng import generator

__all__ = ["Draw", "Shown", "Strata", "class_weights", "kind_of_site", "kinds_of", "shown_of"]

Shown = tuple[tuple[int, str, str, str, float, bool, int], ...]
"""What complete rounds have shown: (half, site, bit, phase, weight, with the target, trials)."""

_HALVES: Final = 2
_F64 = npt.NDArray[np.float64]


class Draw(NamedTuple):
    """The class of a trial's fault, and how much likelier it is in a uniform draw inside the trial's stratum."""

    fault: FaultClass
    weight: float


def kind_of_site(kinds: Mapping[str, float]) -> dict[str, str]:
    """The kind of fault that each class of places belongs to, of the kinds with a weight."""
    found: dict[str, str] = {}
    for kind, weight in kinds.items():
        if weight > 0:
            found |= dict.fromkeys(KIND_GROUPS.get(kind, (kind,)), kind)
    return found


def kinds_of(spec: CampaignSpec, classes: Sequence[FaultClass]) -> tuple[str, ...]:
    """Kind of fault of every class; one that stands in for a kind without a place of its own has that kind.

    Raises:
        BadInput: a class belongs to no kind of the spec.
    """
    of_site = kind_of_site(spec.faults.kinds)
    missing = sorted(set(of_site.values()) - {of_site.get(one.site) for one in classes})
    strange = sorted({one.site for one in classes if one.site not in of_site})
    if len(strange) > 1 or (strange and len(missing) != 1):
        raise BadInput("classes of places belong to no kind of fault of the spec", value=", ".join(strange))
    return tuple(of_site[one.site] if one.site in of_site else missing[0] for one in classes)


def class_weights(spec: CampaignSpec, classes: Sequence[FaultClass]) -> _F64:
    """Share of the population in each class: a kind's weight, split over its classes by their populations.

    Raises:
        BadInput: a kind has no class, or a class no kind.
    """
    kinds = {kind: weight for kind, weight in spec.faults.kinds.items() if weight > 0}
    kind_of = kinds_of(spec, classes)
    totals = dict.fromkeys(kinds, 0)
    for one, own in zip(classes, kind_of, strict=True):
        totals[own] += one.population
    if empty := sorted(kind for kind, total in totals.items() if total == 0):
        raise BadInput("the program has no place for this kind of fault", value=", ".join(empty))
    every = math.fsum(kinds.values())
    shares = [kinds[own] / every * one.population / totals[own] for one, own in zip(classes, kind_of, strict=True)]
    return np.array(shares, np.float64)


@dataclass(frozen=True)
class Strata:
    """The strata of a campaign.

    Attributes:
        spec: the campaign.
        classes: classes of faults, as the bench has counted them.
        weights: share of the population in each class.
    """

    spec: CampaignSpec
    classes: tuple[FaultClass, ...]
    weights: _F64
    _upto: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, spec: CampaignSpec, classes: Iterable[FaultClass]) -> Self:
        """Strata of a spec; one that holds everything where it has none."""
        found = tuple(FaultClass(*one) for one in classes)
        return cls(spec, found, class_weights(spec, found))

    @cached_property
    def by(self) -> tuple[str, ...]:
        """Axes that strata are told apart by."""
        return () if self.spec.strata is None else self.spec.strata.by

    def name_of(self, one: FaultClass | Cell) -> str:
        """Name of the stratum of a class of faults or of counted trials."""
        return "/".join(getattr(one, axis) for axis in AXES if axis in self.by)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the strata, in a fixed order."""
        return tuple(sorted({self.name_of(one) for one in self.classes}))

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the classes in each stratum."""
        found: dict[str, list[int]] = {name: [] for name in self.names}
        for number, one in enumerate(self.classes):
            found[self.name_of(one)].append(number)
        return tuple(tuple(found[name]) for name in self.names)

    @cached_property
    def shares(self) -> _F64:
        """Share of the population in each stratum."""
        return np.array([math.fsum(self.weights[list(inside)]) for inside in self.members])

    @cached_property
    def boosts(self) -> _F64:
        """Factor of importance of each class."""
        factors = self.spec.faults.importance
        return np.array([math.prod(factors.get(getattr(one, axis), 1.0) for axis in AXES) for one in self.classes])

    @cached_property
    def base(self) -> _F64:
        """Share of trials of each stratum where nothing is known: by population times importance."""
        boosted = self.weights * self.boosts
        shares = np.array([math.fsum(boosted[list(inside)]) for inside in self.members])
        return shares / math.fsum(shares)

    def frame(self, belongs: Callable[[FaultClass], bool] = lambda _: True) -> Frame:
        """Strata and groups of the population, or of the part of it whose classes belong; what is empty is left out."""
        groups, _ = self._groups(belongs)
        strata = {number: place for place, number in enumerate(dict.fromkeys(number for number, _ in groups))}
        shares = np.array([math.fsum(self.weights[inside]) for inside in groups.values()])
        boosted = np.array([math.fsum(self.weights[inside] * self.boosts[inside]) for inside in groups.values()])
        stratum = np.array([strata[number] for number, _ in groups], np.int64)
        return Frame(shares, stratum, boosted / np.bincount(stratum, boosted)[stratum])

    @cached_property
    def _kinds(self) -> dict[FaultClass, str]:
        return dict(zip(self.classes, kinds_of(self.spec, self.classes), strict=True))

    def kind_of(self, one: FaultClass) -> str:
        """Kind of fault of a class."""
        return self._kinds[one]

    @property
    def waits(self) -> bool:
        """A round can only begin when those before it are complete."""
        return self.spec.strata is not None and self.spec.strata.allocation == "neyman"

    def draw(self, stratum: str, k: int) -> Draw:
        """The class of trial k's fault inside its stratum."""
        if stratum not in self.names:
            raise BadInput("there is no such stratum", value=stratum)
        number = self.names.index(stratum)
        chances, weights = self._inside(number)
        chosen = int(generator(self.spec.campaign.seed, "burnin.class", k).choice(len(chances), p=chances))
        return Draw(self.classes[self.members[number][chosen]], float(weights[chosen]))

    def plan(self, number: int, shown: Shown = ()) -> Allocation:
        """Trials of each (half, stratum) in a round; those without a trial are left out.

        Args:
            number: of the round.
            shown: what the rounds before have shown; not needed where the allocation does not go by it.
        """
        strata = self.spec.strata
        if strata is None:
            return {}
        if self.waits:
            n, hits = self._counts(shown)
            return self._named(plan_round(
                self.shares, self.base, (n, hits), self._sizes(number), floor=strata.floor, mix=strata.mix
            ))  # fmt: skip
        zeros = np.zeros((_HALVES, len(self.names)), np.int64)
        before = self._upto.setdefault(0, zeros)
        for earlier in range(number + 1):
            before = self._upto[earlier]
            if earlier + 1 not in self._upto:
                sizes = self._sizes(earlier)
                plan = plan_round(self.shares, self.base, (before, zeros), sizes, floor=strata.floor)
                self._upto[earlier + 1] = before + plan
        return self._named(self._upto[number + 1] - before)

    def order(self, number: int, allocation: Mapping[tuple[int, str], int]) -> tuple[tuple[str, ...], ...]:
        """Strata of the trials of a round: those of even k in their order, then those of odd k."""
        found = []
        for half in range(_HALVES):
            row = [name for name in self.names for _ in range(allocation.get((half, name), 0))]
            rng = generator(self.spec.campaign.seed, "burnin.round", number, half)
            found.append(tuple(row[int(place)] for place in rng.permutation(len(row))))
        return tuple(found)

    def stratum_of(self, k: int, order: Sequence[Sequence[str]]) -> str:
        """Stratum of trial k in the order of its round."""
        start = k // self.spec.campaign.round * self.spec.campaign.round
        return order[k % _HALVES][(k - start - (start + k) % _HALVES) // _HALVES]

    def shown(self, tally: Tally) -> Shown:
        """What the allocation of the next round goes by."""
        if not self.waits or self.spec.strata is None:
            return ()
        return shown_of(tally, self.spec.strata.targets)

    def counted(
        self, cells: Mapping[Cell, int], labels: Iterable[str], belongs: Callable[[FaultClass], bool] = lambda _: True
    ) -> tuple[_F64, _F64]:
        """Trials by half and group of the frame, and those with one of the labels: arrays [2, G]."""
        groups, of_class = self._groups(belongs)
        hits = set(labels)
        n, found = np.zeros((_HALVES, len(groups))), np.zeros((_HALVES, len(groups)))
        for cell, count in cells.items():
            group = of_class.get((cell.site, cell.bit, cell.phase))
            if group is not None:
                n[cell.half, group] += count
                found[cell.half, group] += count * (cell.label in hits)
        return n, found

    def _groups(
        self, belongs: Callable[[FaultClass], bool]
    ) -> tuple[dict[tuple[int, float], list[int]], dict[tuple[str, str, str], int]]:
        """Numbers of the classes by stratum and factor of importance, and the group of each class by its names."""
        groups: dict[tuple[int, float], list[int]] = {}
        for number, inside in enumerate(self.members):
            for one in inside:
                if belongs(self.classes[one]):
                    groups.setdefault((number, float(self.boosts[one])), []).append(one)
        names = {
            (self.classes[one].site, self.classes[one].bit, self.classes[one].phase): group
            for group, inside in enumerate(groups.values())
            for one in inside
        }
        return groups, names

    def _sizes(self, number: int) -> tuple[int, int]:
        size = self.spec.campaign.round
        even = (size + 1 - number * size % _HALVES) // _HALVES
        return even, size - even

    def _inside(self, number: int) -> tuple[_F64, _F64]:
        """Chances and weights of the classes in a stratum."""
        inside = list(self.members[number])
        plain = self.weights[inside] / math.fsum(self.weights[inside])
        boosted = plain * self.boosts[inside]
        chances = boosted / math.fsum(boosted)
        return chances / chances.sum(), plain / chances

    def _counts(self, shown: Shown) -> tuple[npt.NDArray[np.int64], _F64]:
        n, hits = np.zeros((_HALVES, len(self.names)), np.int64), np.zeros((_HALVES, len(self.names)))
        index = {name: number for number, name in enumerate(self.names)}
        for half, site, bit, phase, weight, hit, count in sorted(shown):
            stratum = index[self.name_of(FaultClass(site, bit, phase, 0))]
            n[half, stratum] += count
            hits[half, stratum] += weight * count * hit
        return n, np.minimum(hits, n)

    def _named(self, plan: npt.NDArray[Any]) -> Allocation:
        return {
            (half, name): int(plan[half, number])
            for half in range(_HALVES)
            for number, name in enumerate(self.names)
            if plan[half, number]
        }


def shown_of(tally: Tally, targets: Iterable[str]) -> Shown:
    """Counts of a tally by class, weight and whether they have the target."""
    wanted = set(targets)
    found: dict[tuple[int, str, str, str, float, bool], int] = {}
    for cell, count in tally.cells.items():
        key = (cell.half, cell.site, cell.bit, cell.phase, cell.weight, cell.label in wanted)
        found[key] = found.get(key, 0) + count
    return tuple(sorted((*key, count) for key, count in found.items()))
