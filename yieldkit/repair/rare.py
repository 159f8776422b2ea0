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

_SHARES: Final = (0.25, 0.45, 0.15, 0.15)
"""Shares of the wafers drawn by the law itself, so that no weight is above 4; by p L with a fitted L; by p sqrt(L) with
the L of the pilot; and by p N, for what single defects lose. Chosen on simulated L of several shapes."""

_PILOT: Final = 200
_BEYOND: Final = 1e-9
"""The pilot asks for no more defects than all but this share of wafers have."""
_FEW: Final = 20.0
_UNBELIEVED: Final = 0.01
"""Share of the believed losses that is left out in looking for the heaviest weight a loss may have."""

_LEAST_TO_FIT: Final = 3
_SHAPES: Final = (0.3, 30.0)
"""Range of Weibull shapes: 1 where single defects lose wafers, large where a certain number of them does."""


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


@dataclass(frozen=True, eq=False)
class Pilot:
    """What some wafers bear: int64[m] numbers of defects; those at `top` bear that many or more."""

    borne: npt.NDArray[np.int64]
    top: int


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

    A quarter of the wafers is drawn by the law itself, so that no weight is above 4; the others by `proposal`, or, when
    it is not given, towards numbers of defects with which wafers are lost, as far as 200 wafers of a pilot tell. The
    pilot has seeds of its own, so the estimate is unbiased whatever it says; the interval rests on it in what a loss
    not seen may weigh.

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
    own = CountTable(law, wafer.silicon_mm2).pmf
    mean = round(law.mean(area_mm2=wafer.silicon_mm2))
    top = int(np.searchsorted(np.cumsum(own), 1.0 - _BEYOND, side="left"))
    top = min(top, len(own) - 1)
    pilot = Pilot(measured(_Borne(wafer, architecture, mean, top, seed), [_PILOT], jobs=jobs), top)
    if proposal is None:
        drawn = towards_losses(own, pilot)
    else:
        other = CountTable(proposal, wafer.silicon_mm2)
        own = np.pad(own, (0, max(len(other.pmf) - len(own), 0)))
        drawn = _SHARES[0] * own + (1 - _SHARES[0]) * other.padded(len(own))
    found = measured(_Struck(wafer, architecture, np.cumsum(drawn), seed), [n], jobs=jobs, progress=progress)
    return weighed(found[:, 0], found[:, 1], own, drawn, pilot, confidence)


def believed_losses(length: int, pilot: Pilot) -> Floats:
    """Chance to be lost with 0 .. length - 1 defects, by a Weibull law fitted to what the wafers of a pilot bear.

    Only the draw and the caution of the interval hang on it, never the estimate.
    """
    counts = np.arange(length)
    lost = pilot.borne < pilot.top
    failed = int(lost.sum())
    # A wafer that is lost without a defect bears -1; it has half a defect here, for the logarithm.
    t = np.clip(pilot.borne + 1.0, 0.5, max(pilot.top, 1))
    if failed < _LEAST_TO_FIT:
        return np.asarray(-np.expm1(-counts * (failed + 0.5) / t.sum()))
    log_t, scale = np.log(t), t.max()
    low, high = _SHAPES
    for _ in range(60):
        shape = 0.5 * (low + high)
        w = (t / scale) ** shape
        steep = (w * log_t).sum() / w.sum() - 1.0 / shape - log_t[lost].mean() > 0
        low, high = (low, shape) if steep else (shape, high)
    life = scale * (((t / scale) ** low).sum() / failed) ** (1.0 / low)
    with np.errstate(over="ignore"):
        return np.asarray(-np.expm1(-((counts / life) ** low)))


def towards_losses(own: Floats, pilot: Pilot) -> Floats:
    """The distribution that numbers of defects are drawn from."""
    counts = np.arange(len(own))
    seen = (np.searchsorted(np.sort(pilot.borne), counts, side="left") + 0.5) / (len(pilot.borne) + 1)
    shapes = [own, own * believed_losses(len(own), pilot), own * np.sqrt(seen), own * counts]
    return np.asarray(
        sum(
            share * (shape / shape.sum() if shape.sum() > 0 else own / own.sum())
            for share, shape in zip(_SHARES, shapes, strict=True)
        )
    )


def weighed(
    numbers: npt.NDArray[np.int64],
    answers: npt.NDArray[np.int64],
    own: Floats,
    drawn: Floats,
    pilot: Pilot,
    confidence: float,
) -> LossEstimate:
    """The estimate from drawn numbers of defects and answers (0 for repaired).

    `own` and `drawn` are the law's distribution and the one that was drawn from.
    """
    n = len(answers)
    ratio = np.divide(own, drawn, out=np.zeros_like(own), where=drawn > 0)
    weights = ratio[numbers]
    lost = answers != 0
    hit = weights[lost]
    total, squares = float(hit.sum()), float((hit**2).sum())
    value = total / n
    # A loss that was not seen can weigh as much as any number of defects from the least at which losses are believed.
    mass = np.cumsum(own * believed_losses(len(own), pilot))
    first = int(np.searchsorted(mass, _UNBELIEVED * mass[-1]))
    first = min(first, int(numbers[lost].min())) if len(hit) else first
    heaviest = float(ratio[first:].max(initial=0.0))
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
