"""Rare losses: wafers with many defects are drawn more often than they occur, and weighed back exactly.

What is lost depends on a wafer's list of defects and on how many of them it has; given their number the law plays no
part. So it is enough to draw the number N from another distribution q and to weigh each wafer by p(N) / q(N), with p
the law's own chance of N, its clusters included. It helps where wafers are lost by many defects together; where one
defect can lose a wafer (a global net, a core beside a hole), `LossEstimate.plain_n` shows that nothing is gained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from yieldkit.defects import CountLaw
from yieldkit.errors import BadInput
from yieldkit.repair.architecture import Architecture, MapDecider, decider_of
from yieldkit.repair.drawn import CountTable, ListedWafer, seed_of
from yieldkit.repair.rounds import Tick, check_confidence, measured, whole_number

if TYPE_CHECKING:
    from yieldkit.wafer import WaferSpec

__all__ = ["LossEstimate", "rare_loss", "weighed", "weighted_interval"]

Floats = npt.NDArray[np.float64]

_OWN_SHARE: Final = 0.2
"""Share of wafers drawn by the law itself, so that no weight is above its inverse, whatever the other draw misses."""

_PILOT: Final = 200
_BEYOND: Final = 1e-9
"""The pilot asks for no more defects than all but this share of wafers have."""
_FEW: Final = 20.0


@dataclass(frozen=True, slots=True)
class LossEstimate:
    """Share of wafers that cannot be repaired, from wafers that are weighed.

    Attributes:
        value: unbiased estimate of the share lost.
        low, high: its interval at `confidence`.
        confidence: nominal coverage.
        n: wafers drawn, without the pilot.
        losses: of them not repaired (or undecided).
        undecided: of them undecided.
        effective_losses: plain losses that would know as much: the squared sum of the weights of the lost ones over the
            sum of their squares.
        plain_n: wafers a plain draw would need for the same standard error.
        weight_sum: mean weight of all wafers, 1 but for chance.
    """

    value: float
    low: float
    high: float
    confidence: float
    n: int
    losses: int
    undecided: int
    effective_losses: float
    plain_n: float
    weight_sum: float

    @property
    def warning(self) -> str:
        """What to be careful about, or "" for nothing."""
        if self.effective_losses < _FEW:
            return (
                f"the interval rests on {self.effective_losses:.1f} effective losses of {self.losses}; "
                f"below {_FEW:g} it may be off: draw more wafers"
            )
        return ""

    def _repr_html_(self) -> str:
        warning = f"<p>{self.warning}</p>" if self.warning else ""
        return (
            f"<p>Loss {self.value:.3g} ({self.low:.3g} to {self.high:.3g} at {100 * self.confidence:g} %), "
            f"n = {self.n}</p>{warning}"
        )


@dataclass(frozen=True, eq=False)
class _Struck:
    """Measure: int64[count, 2], number of defects by a cumulated distribution, and 1 lost, 0 not, -1 unknown."""

    wafer: WaferSpec
    architecture: Architecture
    cdf: Floats
    seed: int

    def __call__(self, first: int, count: int) -> npt.NDArray[np.int64]:
        decider = decider_of(self.architecture, self.wafer)
        out = np.empty((count, 2), np.int64)
        for i in range(count):
            listed = ListedWafer(self.wafer, self.seed, first + i, "repair.rare")
            number = int(np.searchsorted(self.cdf, listed.uniforms(1)[0] * self.cdf[-1], side="right"))
            out[i] = number, _lost(decider, listed, number)
        return out


@dataclass(frozen=True, eq=False)
class _Borne:
    """Measure: int64[count], the most defects that a wafer bears, at most `top`; doubling, then bisection."""

    wafer: WaferSpec
    architecture: Architecture
    start: int
    top: int
    seed: int

    def __call__(self, first: int, count: int) -> npt.NDArray[np.int64]:
        decider = decider_of(self.architecture, self.wafer)
        out = np.empty(count, np.int64)
        for i in range(count):
            listed = ListedWafer(self.wafer, self.seed, first + i, "repair.rare.pilot")
            low, high = -1, max(self.start, 1)
            while high < self.top and not _lost(decider, listed, high):
                low, high = high, min(2 * high, self.top)
            high = min(high, self.top) + (high >= self.top)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if _lost(decider, listed, middle) else (middle, high)
            out[i] = low
        return out


def _lost(decider: MapDecider, listed: ListedWafer, number: int) -> int:
    faults = listed.map(number)
    if faults.wafer_killed:
        return 1
    return {True: 0, False: 1, None: -1}[decider.decide(faults)]


def rare_loss(
    wafer: WaferSpec,
    law: CountLaw,
    architecture: Architecture,
    *,
    n: int = 4000,
    rng: int = 0,
    confidence: float = 0.95,
    proposal: CountLaw | None = None,
    jobs: int = 1,
    progress: Tick | None = None,
) -> LossEstimate:
    """Share of wafers that cannot be repaired, for yields above 0.999 or so, by importance sampling.

    A fifth of the wafers is drawn by the law itself, so that no weight is above 5; the others by `proposal`, or, when
    it is not given, by p(N) L(N) and p(N) sqrt(L(N)) in equal parts, where L(N) is the share lost with N defects
    among 200 wafers of a pilot. The pilot has seeds of its own, so the estimate is unbiased whatever it says.

    Args:
        wafer: kind of wafer.
        law: a `CountLaw`, whose chance of every number of defects is known.
        architecture: rules of repair.
        n: wafers, besides the pilot.
        rng: seed.
        confidence: of the interval.
        proposal: a law that gives more losses, e.g. of a higher density or of stronger clusters.
        jobs: worker processes; the answer is the same with any number.
        progress: called with (wafers done, wafers).

    Returns:
        the estimate; its `warning` says when it rests on too few losses.

    Raises:
        BadInput: a number is out of range, or a law gives no chances.
    """
    whole_number("n", n, 1)
    check_confidence(confidence)
    seed = seed_of(rng)
    table = CountTable(law, wafer.silicon_mm2)
    own = table.pmf
    if proposal is not None:
        other = CountTable(proposal, wafer.silicon_mm2).pmf
    else:
        mean = round(law.mean(area_mm2=wafer.silicon_mm2))
        top = int(np.searchsorted(np.cumsum(own), 1.0 - _BEYOND, side="left"))
        pilot = _Borne(wafer, architecture, mean, min(top, len(own) - 1), seed)
        other = _towards_losses(own, measured(pilot, [_PILOT], jobs=jobs))
    length = max(len(own), len(other))
    own, other = (np.pad(one, (0, length - len(one))) for one in (own, other))
    drawn = _OWN_SHARE * own + (1 - _OWN_SHARE) * other
    found = measured(_Struck(wafer, architecture, np.cumsum(drawn), seed), [n], jobs=jobs, progress=progress)
    weights = own[found[:, 0]] / drawn[found[:, 0]]
    return weighed(found[:, 0], found[:, 1], weights, confidence)


def _towards_losses(own: Floats, borne: npt.NDArray[np.int64]) -> Floats:
    """Half by p sqrt(L), which has the least variance where L is known well, and half by p L, the losses themselves.

    A pilot says little of an L below its inverse length, where the first would stay among the many wafers that are
    not lost.
    """
    counts = np.arange(len(own))
    below = np.searchsorted(np.sort(borne), counts, side="left")
    spread = own * np.sqrt((below + 0.5) / (len(borne) + 1))
    losses = own * below
    shapes = [shape / shape.sum() for shape in (spread, losses) if shape.sum() > 0]
    return np.asarray(sum(shapes) / len(shapes))


def weighed(
    numbers: npt.NDArray[np.int64], answers: npt.NDArray[np.int64], weights: Floats, confidence: float
) -> LossEstimate:
    """The estimate from drawn numbers of defects, answers (0 for repaired) and weights of wafers."""
    n = len(answers)
    lost = answers != 0
    hit = weights[lost]
    total, squares = float(hit.sum()), float((hit**2).sum())
    value = total / n
    # A loss not seen yet can weigh as much as any wafer with at least as many defects as the least that was lost.
    candidates = weights[numbers >= numbers[lost].min()] if len(hit) else weights[numbers > 0]
    heaviest = float(candidates.max(initial=0.0))
    low, high = weighted_interval(hit / n, heaviest / n, confidence=confidence)
    variance = max(squares / n - value**2, 0.0) / n
    return LossEstimate(
        value=value,
        low=low,
        high=high,
        confidence=confidence,
        n=n,
        losses=int(lost.sum()),
        undecided=int((answers == -1).sum()),
        effective_losses=total**2 / squares if squares else 0.0,
        plain_n=value * (1 - value) / variance if variance > 0 else float(n),
        weight_sum=float(weights.mean()),
    )


def weighted_interval(hits: npt.ArrayLike, heaviest: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a weighted sum of rare events: gamma limits (Fay and Feuer, Statistics in Medicine 16, 1997).

    With equal weights it is the exact interval of a Poisson count.

    Args:
        hits: weights of the events that occurred, their sum being the estimate.
        heaviest: weight of the heaviest event that may occur.
        confidence: nominal coverage.

    Raises:
        BadInput: a weight is negative or the confidence is out of range.
    """
    from scipy.special import gammaincinv

    check_confidence(confidence)
    w = np.asarray(hits, np.float64)
    if heaviest < 0 or (w < 0).any():
        raise BadInput("weights must not be negative", value=heaviest)
    tail = (1 - confidence) / 2
    total, variance = float(w.sum()), float((w**2).sum())
    low = variance / total * float(gammaincinv(total**2 / variance, tail)) if total > 0 else 0.0
    more, spread = total + heaviest, variance + heaviest**2
    high = spread / more * float(gammaincinv(more**2 / spread, 1 - tail)) if more > 0 else 0.0
    return low, min(high, 1.0)
