"""Yield with redundancy: which share of wafers can be repaired, by sampling maps and deciding each exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.repair.architecture import Architecture, decider_of
from yieldkit.repair.drawn import DefectLaw, drawn_map
from yieldkit.repair.rounds import Tick, boundaries, check_confidence, measured, whole_number
from yieldkit.rng import Seed

if TYPE_CHECKING:
    from yieldkit.wafer import WaferSpec

__all__ = ["DefectLaw", "YieldEstimate", "repair_yield", "single_spare_yield"]


@dataclass(frozen=True, slots=True)
class YieldEstimate:
    """Counts of decided wafers: `repaired` of `n`, of which `perfect` needed no repair; `undecided` count as lost.

    `low`, `high` are the Wilson interval of the yield at `confidence`; `loss_low`, `loss_high` the Clopper-Pearson
    interval of what is lost, for yields near 1.
    """

    n: int
    repaired: int
    perfect: int
    undecided: int
    confidence: float

    @property
    def value(self) -> float:
        """Share of wafers with the full fabric."""
        return self.repaired / self.n

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self._interval()[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self._interval()[1]

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        low, high = self._interval()
        return 0.5 * (high - low)

    @property
    def loss(self) -> float:
        """Share of wafers without the full fabric."""
        return (self.n - self.repaired) / self.n

    @property
    def loss_low(self) -> float:
        """Lower end of the exact interval of the loss."""
        return self._loss_interval()[0]

    @property
    def loss_high(self) -> float:
        """Upper end of the exact interval of the loss."""
        return self._loss_interval()[1]

    def _interval(self) -> tuple[float, float]:
        from yieldkit.reliability.proportions import wilson_interval

        low, high = wilson_interval(self.repaired, self.n, confidence=self.confidence)
        return float(low), float(high)

    def _loss_interval(self) -> tuple[float, float]:
        from yieldkit.reliability.proportions import clopper_pearson_interval

        low, high = clopper_pearson_interval(self.n - self.repaired, self.n, confidence=self.confidence)
        return float(low), float(high)

    def __add__(self, other: YieldEstimate) -> YieldEstimate:
        if self.confidence != other.confidence:
            raise BadInput("estimates of unlike confidence cannot be added", value=other.confidence)
        return YieldEstimate(
            self.n + other.n,
            self.repaired + other.repaired,
            self.perfect + other.perfect,
            self.undecided + other.undecided,
            self.confidence,
        )

    def _repr_html_(self) -> str:
        return (
            f"<p>Yield with repair {self.value:.4f} ({self.low:.4f} to {self.high:.4f} at "
            f"{100 * self.confidence:g} %), n = {self.n}</p>"
        )


@dataclass(frozen=True, eq=False)
class _Decided:
    """Measure: bool[count, 3], whether a wafer is repaired, needed no repair, was left undecided."""

    wafer: WaferSpec
    law: DefectLaw
    architecture: Architecture
    rng: Seed

    def __call__(self, first: int, count: int) -> npt.NDArray[np.bool_]:
        decider = decider_of(self.architecture, self.wafer)
        out = np.zeros((count, 3), bool)
        for i in range(count):
            faults = drawn_map(self.wafer, self.law, self.rng, first + i)
            if not faults.wafer_killed:
                answer = decider.decide(faults)
                out[i] = answer is True, faults.n_faults == 0, answer is None
        return out


def repair_yield(
    wafer: WaferSpec,
    law: DefectLaw,
    architecture: Architecture,
    *,
    n: int = 1000,
    rng: int | np.random.Generator = 0,
    confidence: float = 0.95,
    half_width: float | None = None,
    jobs: int = 1,
    progress: Tick | None = None,
) -> YieldEstimate:
    """Share of wafers that present the full fabric, from `n` sampled fault maps, each decided exactly.

    Wafer k is drawn from `(rng, k)` alone, so two architectures given the same seed see the same wafers, and the answer
    does not depend on `jobs`.

    Args:
        wafer: kind of wafer.
        law: defect law; anything with ``sample(wafer, rng=...)``.
        architecture: rules of repair; the logical shape comes from the wafer when they leave it open.
        n: wafers to draw; with `half_width` the most.
        rng: seed.
        confidence: of the interval.
        half_width: stop at the first of 500, 625, 781, ... wafers where the interval is no wider than this to each
            side.
        jobs: worker processes.
        progress: called with (wafers done, most wafers).

    Raises:
        BadInput: a number is out of range, or a Generator is to be shared by several processes.
    """
    whole_number("n", n, 1)
    check_confidence(confidence)
    if half_width is not None and not 0 < half_width < 0.5:
        raise BadInput("half_width must lie between 0 and 0.5", value=half_width)
    if jobs != 1 and isinstance(rng, np.random.Generator):
        raise BadInput("several jobs need a seed: a Generator cannot be shared", value=jobs, cure="pass rng=7")
    decider_of(architecture, wafer)

    def estimate(rows: npt.NDArray[Any]) -> YieldEstimate:
        repaired, perfect, undecided = (int(count) for count in rows.sum(axis=0))
        return YieldEstimate(len(rows), repaired, perfect, undecided, confidence)

    def enough(rows: npt.NDArray[Any]) -> bool:
        return half_width is not None and estimate(rows).half_width <= half_width

    looks = [n] if half_width is None else boundaries(n)
    measure = _Decided(wafer, law, architecture, rng)
    return estimate(measured(measure, looks, jobs=jobs, enough=enough, progress=progress))


def single_spare_yield(rows: int, cols: int, faults: int) -> float:
    """Chance that a fabric with one spare core in each row survives `faults` dead cores anywhere: a closed form.

    Every row may have at most one fault: C(rows, faults) (cols + 1)^faults / C(rows (cols + 1), faults). It holds for
    row shift with one spare, links that pass over one site, and a reach of at least one column between rows; faults
    are single dead cores, all sets of sites alike likely.

    Args:
        rows: of the logical fabric.
        cols: of the logical fabric, without the spare.
        faults: number of dead cores.

    Raises:
        BadInput: a number is not an integer or out of range.
    """
    whole_number("rows", rows, 1)
    whole_number("cols", cols, 1)
    whole_number("faults", faults, 0)
    if faults > rows * (cols + 1):
        raise BadInput("there are more faults than sites", value=faults)
    # As a product: fault i + 1 has to miss the i rows that have one already. No large factorials cancel.
    return (
        math.prod((rows - i) * (cols + 1) / (rows * (cols + 1) - i) for i in range(faults)) if faults <= rows else 0.0
    )
