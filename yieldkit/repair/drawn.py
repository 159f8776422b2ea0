"""Wafers by number: the plain draw of `repair_yield`, and wafers with a given number of defects.

In the second way a wafer is an endless list of defects, fixed by `(seed, k)`, of which it has the first N. The law only
says how large N is, so one and the same wafer can be asked under many laws: at a higher density it has the same defects
and some more. Given N, places and sizes do not depend on the law (its rate is shared by the whole wafer), so this is
the same distribution as the plain draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from yieldkit.defects import CountLaw, Defects
from yieldkit.defects.sampling import sizes_at
from yieldkit.errors import BadInput
from yieldkit.faultmap import FaultMap
from yieldkit.rng import Seed, generator

if TYPE_CHECKING:
    from yieldkit.wafer import WaferSpec

__all__ = ["CountTable", "DefectLaw", "ListedWafer", "drawn_defects", "drawn_map", "seed_of"]

_MOST_COUNTS = 10_000_000
_SMALLEST_CHANCE = 1e-300


class DefectLaw(Protocol):
    """What `repair_yield` needs of a defect law: `yieldkit.NegativeBinomial` and the others have it."""

    def sample(self, wafer: WaferSpec, *, rng: Seed) -> Any:
        """Defects of one wafer."""


def drawn_map(wafer: WaferSpec, law: DefectLaw, rng: Seed, k: int) -> FaultMap:
    """The fault map of wafer k of a seed."""
    own = generator(rng, "repair.yield", k)
    return FaultMap.from_defects(wafer, law.sample(wafer, rng=own), rng=own, outcomes=False)


def drawn_defects(wafer: WaferSpec, law: DefectLaw, rng: Seed, k: int) -> FaultMap:
    """The fault map of wafer k of a seed, the same as `drawn_map`, with what each defect did."""
    own = generator(rng, "repair.yield", k)
    return FaultMap.from_defects(wafer, law.sample(wafer, rng=own), rng=own)


def seed_of(rng: object) -> int:
    """A seed that can be asked for a wafer by number.

    Raises:
        BadInput: a Generator, whose draws have no numbers.
    """
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer) or rng < 0:
        raise BadInput("rng must be a non-negative int here: wafers are drawn by number", value=rng, cure="pass rng=7")
    return int(rng)


@dataclass(frozen=True, eq=False)
class ListedWafer:
    """Wafer k of a seed as a list of defects.

    Attributes:
        wafer: its kind.
        seed, k: which one.
        purpose: of the draw; unlike ones are independent.
    """

    wafer: WaferSpec
    seed: int
    k: int
    purpose: str

    def uniforms(self, n: int) -> npt.NDArray[np.float64]:
        """Numbers in [0, 1) that the number of defects is drawn from."""
        return generator(self.seed, f"{self.purpose}.count", self.k).random(n)

    def map(self, count: int) -> FaultMap:
        """The wafer with the first `count` of its defects."""
        defects = self.defects(count)
        rng = generator(self.seed, f"{self.purpose}.landing", self.k)
        return FaultMap.from_defects(self.wafer, defects, rng=rng, outcomes=False)

    def defects(self, count: int) -> Defects:
        """Its first `count` defects: uniform over the silicon, sizes by the process."""
        rng = generator(self.seed, f"{self.purpose}.places", self.k)
        width, height = self.wafer.array_mm
        radius = self.wafer.diameter_mm / 2 - self.wafer.edge_exclusion_mm
        kept: list[npt.NDArray[np.float64]] = []
        found = 0
        while found < count:
            # Row by row from one stream: how many rows are asked for at a time changes none of them.
            rows = rng.random((count - found + 4, 3))
            x, y = (rows[:, 0] - 0.5) * width, (rows[:, 1] - 0.5) * height
            rows = np.column_stack([x, y, rows[:, 2]])[x * x + y * y <= radius * radius]
            kept.append(rows)
            found += len(rows)
        all_rows = np.concatenate(kept)[:count] if kept else np.empty((0, 3))
        size = sizes_at(self.wafer.process, all_rows[:, 2])
        layer = np.zeros(count, np.int16)
        return Defects(all_rows[:, 0].copy(), all_rows[:, 1].copy(), size, layer, "sampled by number")


class CountTable:
    """The distribution of the number of defects on a wafer's silicon.

    Args:
        law: any `CountLaw`.
        area_mm2: silicon.

    Attributes:
        pmf: float64[K + 1], chance of k defects; what lies beyond K has a chance below 1e-15.
    """

    def __init__(self, law: CountLaw, area_mm2: float) -> None:
        if not isinstance(law, CountLaw):
            raise BadInput("the law must give the chance of every number of defects", value=law, cure="e.g. yk.Poisson")
        mean = law.mean(area_mm2=area_mm2)
        top = int(mean + 12 * np.sqrt(mean) + 30)
        while True:
            if top > _MOST_COUNTS:
                raise BadInput("the density asks for too many defects", value=law.d0_per_cm2)
            pmf = law.pmf(np.arange(top + 1), area_mm2=area_mm2)
            # The last term falls at least as fast as the tail of a geometric law of the same decay.
            decay = pmf[-1] / pmf[-2] if pmf[-2] > _SMALLEST_CHANCE else 0.0
            if pmf[-1] <= 1e-16 * max(1.0 - decay, 1e-9) or decay == 0.0:
                break
            top *= 2
        self.law = law
        self.pmf = np.maximum(pmf, 0.0)
        self._cdf = np.cumsum(self.pmf)

    def quantile(self, uniform: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Smallest number of defects whose cumulated chance exceeds a number in [0, 1)."""
        at = np.searchsorted(self._cdf, np.asarray(uniform, np.float64), side="right")
        return np.minimum(at, len(self.pmf) - 1).astype(np.int64)

    def padded(self, length: int) -> npt.NDArray[np.float64]:
        """`pmf` with zeros up to a length."""
        return np.pad(self.pmf, (0, max(length - len(self.pmf), 0)))
