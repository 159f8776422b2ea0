"""Law of the weak parts of a wafer: how many, where, of what kind, and when they begin to fail.

A fraction p of the cores, and one of the links, is weak: it works when the wafer is tested and fails later, by a
Weibull law whose shape is below 1 (infant mortality). So the age at which a core fails follows the limited failure
population F(t) = p (1 - exp(-(t/eta)^b)). Meeker (Technometrics 29, 1987) finds b = 0.496 and p = 0.0067 for packaged
integrated circuits on life test; the shape is the default here. The fraction is one of whole circuits there, so that no
default for a single core follows from it: it is the user's to set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.faultmap.landing import links_of_site
from yieldkit.faults.conditions import Ageing
from yieldkit.faults.mechanisms import MECHANISMS, Mechanism
from yieldkit.faults.weak_parts import WeakPart, WeakParts
from yieldkit.quantities import LinkKey, Site
from yieldkit.reliability import LimitedFailurePopulation
from yieldkit.rng import Seed, generator

if TYPE_CHECKING:
    from yieldkit.defects import CountLaw
    from yieldkit.wafer import WaferSpec

__all__ = ["MEEKER_SHAPE", "WeakPopulation"]

MEEKER_SHAPE: Final = 0.496
"""Weibull shape of early failures of integrated circuits: Meeker, Technometrics 29, 1987."""


@dataclass(frozen=True)
class WeakPopulation:
    """Law of the weak parts of a wafer.

    Attributes:
        core_fraction, link_fraction: expected weak parts a core and a link.
        kinds: weight of each mechanism; cores and links each draw among theirs.
        shape: Weibull shape of their lives.
        scale_hours: Weibull scale, in reference hours. Assumption.
        ageing: what an hour in an environment counts. Assumption: 0.7 eV, the common value for mixed silicon
            mechanisms (JESD47 and its kin), and 5/V.
        clustering: law whose relative rate a wafer draws once, for cores and links together; None: Poisson.
        intensity: relative density by physical site, float[rows, cols]; None: uniform. A link counts at its first end.
        mechanisms: what the names in `kinds` mean.
    """

    core_fraction: float
    link_fraction: float
    kinds: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(MECHANISMS, 1.0))
    shape: float = MEEKER_SHAPE
    scale_hours: float = 1000.0
    ageing: Ageing = field(default_factory=lambda: Ageing(activation_ev=0.7, per_volt=5.0))
    clustering: CountLaw | None = None
    intensity: npt.NDArray[np.float64] | None = None
    mechanisms: Mapping[str, Mechanism] = field(default_factory=lambda: MECHANISMS)

    def __post_init__(self) -> None:
        for name, value in (("core_fraction", self.core_fraction), ("link_fraction", self.link_fraction)):
            if not 0 <= value <= 1:
                raise BadInput(f"{name} must lie between 0 and 1", value=value)
        # Checks shape and scale.
        LimitedFailurePopulation(self.core_fraction, self.shape, self.scale_hours)
        for name, weight in self.kinds.items():
            if name not in self.mechanisms:
                raise BadInput("unknown kind of weak part", value=name, cure=f"known: {', '.join(self.mechanisms)}")
            if not 0 <= weight < np.inf:
                raise BadInput(f"weight of kind {name!r} must be finite and not negative", value=weight)
        for name, fraction, on_link in (("core", self.core_fraction, False), ("link", self.link_fraction, True)):
            if fraction and not sum(self._weights(on_link=on_link).values()):
                raise BadInput(f"{name}_fraction is positive, but no kind of weak {name} has a weight")

    @property
    def core_life(self) -> LimitedFailurePopulation:
        """Age at which a core fails, in reference hours."""
        return LimitedFailurePopulation(self.core_fraction, self.shape, self.scale_hours)

    @property
    def link_life(self) -> LimitedFailurePopulation:
        """Age at which a link fails, in reference hours."""
        return LimitedFailurePopulation(self.link_fraction, self.shape, self.scale_hours)

    def sample(self, wafer: WaferSpec, *, rng: Seed) -> WeakParts:
        """Draw the weak parts of one wafer.

        Cores and links that the wafer has are drawn from, spares and redundant links included; no core and no link is
        drawn twice, so a wafer has at most all of them.
        """
        draws = generator(rng, "faults.weak-parts")
        relative = 1.0 if self.clustering is None else float(self.clustering.rates(draws, 1)[0])
        present = wafer.present_mask()
        weight = self._intensity(present)
        steps = links_of_site(wafer)
        counts = np.array([int(_joined(present, *step).sum()) for step in steps], np.int64)
        n_cores = int(draws.poisson(relative * self.core_fraction * present.sum()))
        n_links = int(draws.poisson(relative * self.link_fraction * counts.sum()))
        places: list[tuple[bool, dict[str, int]]] = [
            (False, {"row": int(r), "col": int(c)}) for r, c in _sites(weight, min(n_cores, int(present.sum())), draws)
        ]
        links = _links(weight, present, steps, min(n_links, int(counts.sum())), draws)
        places += [(True, _directed(key, draws)) for key in links]
        return self._parts(places, wafer, draws)

    def sample_at(
        self, kind: str, n: int, wafer: WaferSpec, *, sites: Sequence[Site], links: Sequence[LinkKey], rng: Seed
    ) -> WeakParts:
        """Draw n parts of one kind, uniform over given cores or links: for a study of that kind, not for a wafer.

        Args:
            kind: of the mechanism.
            n: parts; several may fall on one site.
            wafer: for the size of its cores.
            sites: physical cores to draw from.
            links: physical links to draw from.
            rng: seed; each kind has draws of its own.

        Raises:
            BadInput: unknown kind, or nothing to draw from.
        """
        if kind not in self.mechanisms:
            raise BadInput("unknown kind of weak part", value=kind, cure=f"known: {', '.join(self.mechanisms)}")
        draws = generator(rng, f"faults.weak-parts.{kind}")
        on_link = self.mechanisms[kind].on_link
        if not (links if on_link else sites):
            raise BadInput(f"there is no {'link' if on_link else 'core'} to draw a weak part of kind {kind!r} from")

        def places() -> Iterator[tuple[bool, dict[str, int]]]:
            # One at a time, so that the first parts are the same however many there are.
            for _ in range(n):
                if on_link:
                    yield True, _directed(links[int(draws.integers(len(links)))], draws)
                else:
                    row, col = sites[int(draws.integers(len(sites)))]
                    yield False, {"row": int(row), "col": int(col)}

        return self._parts(places(), wafer, draws, kind)

    def _parts(
        self,
        places: Iterable[tuple[bool, dict[str, int]]],
        wafer: WaferSpec,
        draws: np.random.Generator,
        kind: str | None = None,
    ) -> WeakParts:
        parts = []
        for number, (on_link, place) in enumerate(places):
            name = kind if kind is not None else _chosen(self._weights(on_link=on_link), draws)
            fault = self.mechanisms[name].fault(place, draws, sram_words=int(wafer.machine.sram_words))
            onset = float(self.scale_hours * draws.weibull(self.shape))
            parts.append(WeakPart(number, name, fault, onset, self.ageing))
        return WeakParts(tuple(parts), wafer.fingerprint)

    def _weights(self, *, on_link: bool) -> dict[str, float]:
        return {name: weight for name, weight in self.kinds.items() if self.mechanisms[name].on_link == on_link}

    def _intensity(self, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        if self.intensity is None:
            return present.astype(np.float64)
        intensity = np.asarray(self.intensity, np.float64)
        if intensity.shape != present.shape or not (intensity >= 0).all() or not np.isfinite(intensity).all():
            raise BadInput(
                f"intensity must be finite, not negative and of shape {present.shape}", value=intensity.shape
            )
        weight = np.where(present, intensity, 0.0)
        if not weight.any():
            raise BadInput("intensity is 0 wherever the wafer has a core")
        return weight


def _joined(present: npt.NDArray[np.bool_], drow: int, dcol: int) -> npt.NDArray[np.bool_]:
    """bool[rows, cols]: sites from which a link of this step leads to another site."""
    joined = np.zeros_like(present)
    rows, cols = present.shape
    left, right = max(0, -dcol), min(cols, cols - dcol)
    joined[: rows - drow, left:right] = present[: rows - drow, left:right] & present[drow:, left + dcol : right + dcol]
    return joined


def _sites(weight: npt.NDArray[np.float64], n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw n different sites by weight, int64[n, 2]; fewer where fewer have a weight."""
    flat = weight.reshape(-1)
    n = min(n, int(np.count_nonzero(flat)))
    chosen = rng.choice(len(flat), n, replace=False, p=flat / flat.sum()) if n else np.zeros(0, np.int64)
    return np.stack(np.divmod(np.asarray(chosen, np.int64), weight.shape[1]), axis=1)


def _links(
    weight: npt.NDArray[np.float64],
    present: npt.NDArray[np.bool_],
    steps: Sequence[tuple[int, int]],
    n: int,
    rng: np.random.Generator,
) -> list[LinkKey]:
    """Draw n different links, each weighing what its first end does."""
    if not n:
        return []
    tables = np.stack([np.where(_joined(present, *step), weight, 0.0) for step in steps])
    flat = tables.reshape(-1)
    n = min(n, int(np.count_nonzero(flat)))
    chosen = rng.choice(len(flat), n, replace=False, p=flat / flat.sum()) if n else np.zeros(0, np.int64)
    found = []
    for number in np.asarray(chosen, np.int64).tolist():
        step, place = divmod(number, weight.size)
        row, col = divmod(place, weight.shape[1])
        found.append((row, col, *steps[step]))
    return found


def _directed(key: LinkKey, rng: np.random.Generator) -> dict[str, int]:
    """One of the two ways over a link."""
    row, col, drow, dcol = (int(value) for value in key)
    if rng.integers(2):
        return {"row": row + drow, "col": col + dcol, "drow": -drow, "dcol": -dcol}
    return {"row": row, "col": col, "drow": drow, "dcol": dcol}


def _chosen(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    names = sorted(name for name, weight in weights.items() if weight > 0)
    values = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=values / values.sum()))]
