"""Yield with redundancy: which share of wafers can be repaired, by sampling maps and deciding each exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from yieldkit.errors import BadInput
from yieldkit.repair.problem import Problem
from yieldkit.repair.propagate import decide
from yieldkit.repair.rules import LineSpares
from yieldkit.rng import Seed, generator

if TYPE_CHECKING:
    import numpy as np

    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.rules import Rules
    from yieldkit.wafer import WaferSpec

__all__ = ["DefectLaw", "YieldEstimate", "repair_yield"]


class DefectLaw(Protocol):
    """What `repair_yield` needs of a defect law: `yieldkit.NegativeBinomial` and the others have it."""

    def sample(self, wafer: WaferSpec, *, rng: Seed) -> Any:
        """Defects of one wafer."""


@dataclass(frozen=True, slots=True)
class YieldEstimate:
    """Counts of decided wafers: `repaired` of `n`, of which `perfect` needed no repair; `undecided` count as lost.

    `low`, `high` are the Wilson interval of the yield at `confidence`.
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

    def _interval(self) -> tuple[float, float]:
        from yieldkit.reliability.proportions import wilson_interval

        low, high = wilson_interval(self.repaired, self.n, confidence=self.confidence)
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


def repair_yield(
    wafer: WaferSpec,
    law: DefectLaw,
    rules: Rules,
    *,
    n: int = 1000,
    rng: int | np.random.Generator = 0,
    confidence: float = 0.95,
) -> YieldEstimate:
    """Share of wafers that present the full fabric, from `n` sampled fault maps, each decided exactly.

    Wafer k is drawn from `(rng, k)` alone, so two rules given the same seed see the same wafers.

    Args:
        wafer: kind of wafer.
        law: defect law; anything with ``sample(wafer, rng=...)``.
        rules: architecture; the logical shape comes from the wafer when the rules leave it open.
        n: wafers to draw.
        rng: seed.
        confidence: of the Wilson interval.

    Raises:
        BadInput: n is not positive.
    """
    from yieldkit.faultmap import FaultMap

    if n < 1:
        raise BadInput("n must be at least 1", value=n)
    if not 0 < confidence < 1:
        raise BadInput("confidence must lie between 0 and 1", value=confidence)
    repaired = perfect = undecided = 0
    for k in range(n):
        own = generator(rng, "repair.yield", k)
        faults = FaultMap.from_defects(wafer, law.sample(wafer, rng=own), rng=own)
        if faults.wafer_killed:
            continue
        feasible = _decided(faults, rules, wafer)
        repaired += feasible is True
        perfect += faults.n_faults == 0
        undecided += feasible is None
    return YieldEstimate(n, repaired, perfect, undecided, confidence)


def _decided(faults: FaultMap, rules: Rules, wafer: WaferSpec) -> bool | None:
    """Whether the rules give the full fabric; None where a limit came first."""
    if isinstance(rules, LineSpares):
        from yieldkit.repair.linesolve import choose_lines

        return choose_lines(faults, rules.placed(faults, wafer).region(faults.shape)).feasible
    placed = rules.placed(faults, wafer)
    return decide(Problem.build(faults, placed, placed.placement(faults.shape))).feasible
