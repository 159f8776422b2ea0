"""Sampling designs: how many trials each stratum gets, and what a design-weighted rate and its intervals are.

Arrays in, arrays out: the last axis is that of the H strata, the one before it that of the halves of a campaign where
there are halves, all others are free (simulated campaigns, labels).

Why halves: where later trials go by what earlier ones showed, a stratum without luck is left with the few trials that
showed nothing, one with luck is looked at again, and the pooled rate comes out too low (by half, for a rate of 1 % in
24 strata). So each half goes by what the other one showed, which keeps its own rates clear of its own luck.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yieldkit.errors import BadInput
from yieldkit.reliability.proportions import beta_interval, score_interval

__all__ = [
    "DesignRate",
    "Moments",
    "allocate",
    "design_interval",
    "design_rate",
    "neyman_shares",
    "plan_round",
    "posterior_rates",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Interval = tuple[F64, F64]

PRIOR_TRIALS: Final = 1.5
"""Assumption: a stratum's variance is estimated as if it had one and a half trials more, with the rate of all strata.
So a stratum that has shown nothing yet is not taken to be sure."""


class Moments(NamedTuple):
    """Trials of each stratum with the weights of their draws, arrays [..., H] (or [..., halves, H]).

    A weight is how much likelier the trial's fault is under a uniform draw inside the stratum than under the draw that
    was made; its mean is near 1. Without importance every weight is 1.

    Attributes:
        n: trials.
        hits: trials with the label.
        weight: sum of weights.
        square: sum of squared weights.
        hit_weight: sum of the weights of hits.
        hit_square: sum of their squares.
        heaviest: largest weight that the draw can give in the stratum, array [H].
    """

    n: F64
    hits: F64
    weight: F64
    square: F64
    hit_weight: F64
    hit_square: F64
    heaviest: F64

    @classmethod
    def plain(cls, n: ArrayLike, hits: ArrayLike) -> Moments:
        """Moments of trials that all weigh 1.

        Raises:
            BadInput: there are more hits than trials, or a count is negative.
        """
        trials, found = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(hits, np.float64))
        if not ((found >= 0) & (found <= trials)).all():
            raise BadInput("hits must lie between 0 and the number of trials")
        return cls(trials, found, trials, trials, found, found, np.ones(trials.shape[-1]))


class DesignRate(NamedTuple):
    """A rate of a population and what is known about it.

    Attributes:
        rate: over the strata that have trials.
        variance: of `rate`.
        effective_n: trials of a simple random sample with that variance.
        blind_n: trials of a simple random sample that would be as likely to show nothing, if the label sat where the
            design looks least.
        unseen: share of the population in strata without a trial.
    """

    rate: F64
    variance: F64
    effective_n: F64
    blind_n: F64
    unseen: F64


def allocate(weights: ArrayLike, sampled: ArrayLike, size: int, *, floor: int, shares: ArrayLike) -> I64:
    """Give the trials of a round to strata: first the floor, then towards the shares of all trials so far.

    Args:
        weights: [H] population shares; strata without weight get nothing.
        sampled: [..., H] trials that strata have.
        size: trials to give.
        floor: trials that every stratum shall have before any other gets more; those with fewest come first.
        shares: [..., H] shares of all trials that each stratum shall have in the end; they need not add up to 1.

    Returns:
        int64[..., H], summing to `size`. Sums run in the order of strata, so the same input gives the same answer on
        every machine; ties go to the first.
    """
    w = np.asarray(weights, np.float64)
    n = np.asarray(sampled, np.int64)
    give = np.zeros(n.shape, np.int64)
    left = np.full(n.shape[:-1], size, np.int64)
    for level in range(floor):
        wanted = (n + give <= level) & (w > 0)
        taken = wanted & (np.cumsum(wanted, axis=-1) <= left[..., None])
        give = give + taken
        left = left - taken.sum(axis=-1)
    share = np.broadcast_to(np.asarray(shares, np.float64), n.shape) * (w > 0)
    share = share / _total(share)
    total = _total(n.astype(np.float64)) + size
    behind = np.maximum(share * total - n - give, 0.0)
    behind = np.where(_total(behind) > 0, behind, share)
    return give + _spread(left, behind)


def plan_round(
    weights: ArrayLike, base: ArrayLike, trials: tuple[ArrayLike, ArrayLike], sizes: tuple[int, int], *, floor: int,
    mix: float = 1.0,
) -> I64:  # fmt: skip
    """Trials of each stratum in both halves of the next round; each half goes by what the other has shown.

    Args:
        weights: [H] population shares.
        base: [H] shares that trials have where nothing is known; those of the population, or others on purpose.
        trials: (n, hits), each [..., 2, H], of complete rounds.
        sizes: trials that each half gets.
        floor: trials that every stratum shall have in both halves together.
        mix: share of trials that goes by `base`; the rest by `neyman_shares`.

    Returns:
        int64[..., 2, H].
    """
    n, hits = np.asarray(trials[0], np.int64), np.asarray(trials[1], np.float64)
    start = np.asarray(base, np.float64) / np.sum(base)
    plans = []
    for half, size in enumerate(sizes):
        shares = start
        if mix < 1.0:
            other = neyman_shares(weights, n[..., 1 - half, :], hits[..., 1 - half, :])
            shares = (1.0 - mix) * other + mix * start
        plans.append(allocate(weights, n[..., half, :], size, floor=(floor + 1) // 2, shares=shares))
    return np.stack(plans, axis=-2)


def neyman_shares(weights: ArrayLike, n: ArrayLike, hits: ArrayLike) -> F64:
    """Shares of trials for the smallest variance of a rate: W_h times the deviation within the stratum (Neyman 1934).

    Args:
        weights: [H] population shares.
        n: [..., H] trials.
        hits: [..., H] trials with the target; may be weighted.

    Returns:
        [..., H], summing to 1; the weights' own before any trial.
    """
    w = np.asarray(weights, np.float64)
    deviation = w * np.sqrt(posterior_rates(n, hits)[1])
    return np.asarray(deviation / _total(deviation))


def posterior_rates(n: ArrayLike, hits: ArrayLike) -> tuple[F64, F64]:
    """Rate of each stratum and its p(1 - p), shrunk to the rate of all as far as the strata agree (empirical Bayes).

    A beta prior fitted by moments to the spread between strata (as in Kleinman, JASA 68, 1973): strata that differ by
    no more than chance get one rate, so that luck in small strata moves no trials.

    Args:
        n: [..., H] trials.
        hits: [..., H] trials with the label.

    Returns:
        posterior means of p and of p(1 - p), each [..., H].
    """
    trials, x = np.asarray(n, np.float64), np.asarray(hits, np.float64)
    total = _total(trials)
    mean = (_total(x) + 1.0) / (total + 2.0)
    spread = _total(trials * (x / np.maximum(trials, 1.0) - mean) ** 2)
    free = np.maximum(_total((trials > 0).astype(np.float64)) - 1.0, 0.0)
    room = total - _total(trials * trials) / np.maximum(total, 1.0) - free
    likeness = (spread / (mean * (1.0 - mean)) - free) / np.maximum(room, 1e-9)
    # At most as much prior as there are trials, at least a tenth of one.
    likeness = np.clip(likeness, 1.0 / (1.0 + total), 0.9)
    prior = 1.0 / likeness - 1.0
    a, b = x + prior * mean, trials - x + prior * (1.0 - mean)
    both = a + b
    return a / both, a * b / (both * (both + 1.0))


def design_rate(weights: ArrayLike, trials: Moments) -> DesignRate:
    """Rate of a population from a stratified sample, each half standing for the whole.

    The rate of a stratum in a half is the weighted share of hits (Hájek); strata add up by their population, halves
    count alike. A stratum that only one half has looked at is taken from that half.

    Args:
        weights: [H] population shares.
        trials: moments with arrays [..., halves, H].

    Returns:
        fields [...]; without any trial the rate is 0, the effective size 0 and everything unseen.
    """
    w = np.asarray(weights, np.float64)
    w = w / w.sum()
    looked = trials.n > 0
    halves = looked.sum(axis=-2, keepdims=True)
    part = w * looked / np.maximum(halves, 1)
    covered = part.sum(axis=(-1, -2))
    part = part / np.maximum(covered, 1e-300)[..., None, None]
    rate = (part * trials.hit_weight / np.where(looked, trials.weight, 1.0)).sum(axis=(-1, -2))
    # Rounding must not carry a rate over 1, nor to 1 while some trial missed.
    missed = (looked & (w > 0) & (trials.hits < trials.n)).any(axis=(-1, -2))
    rate = np.where(missed, np.minimum(rate, np.nextafter(1.0, 0.0)), np.where(covered > 0, 1.0, 0.0))
    deviation = _variance_of_a_trial(trials, rate)
    variance = (part * part * deviation[..., None, :] / np.maximum(trials.n, 1.0)).sum(axis=(-1, -2))
    found = trials.weight.sum(axis=-2)
    seen = (found > 0) & (w > 0)
    ratio = np.where(seen, found / np.where(w > 0, w * trials.heaviest, 1.0), np.inf)
    blind = np.where(seen.any(axis=-1), ratio.min(axis=-1), 0.0)
    pure = (rate <= 0) | (rate >= 1) | (variance <= 0)
    effective = np.where(pure, blind, rate * (1.0 - rate) / np.where(pure, 1.0, variance))
    lacking = ((w > 0) & ~looked.any(axis=-2)).any(axis=-1)
    return DesignRate(rate, variance, effective, blind, np.where(lacking, 1.0 - covered, 0.0))


def design_interval(rate: DesignRate, *, method: str = "wilson", confidence: float = 0.95) -> Interval:
    """Two-sided interval of a design-weighted rate: an interval for counts at the effective number of trials.

    "wilson" and "exact" (Clopper-Pearson) as for a simple random sample (Korn and Graubard, Survey Methodology 24,
    1998). Neither bound is closer than if nothing had been seen (or nothing else): a label that was never met may sit
    where the design looks least, and one hit elsewhere makes that no less likely. What no trial has looked at may be
    all or nothing.

    Args:
        rate: as `design_rate` gives it.
        method: "wilson" or "exact".
        confidence: nominal coverage.

    Raises:
        BadInput: unknown method, or the confidence is out of range.
    """
    intervals = {"wilson": score_interval, "exact": beta_interval}
    if method not in intervals:
        raise BadInput("method must be wilson or exact", value=method)
    low, high = intervals[method](rate.rate, rate.effective_n, confidence=confidence)
    none = intervals[method](np.zeros_like(rate.rate), rate.blind_n, confidence=confidence)[1]
    low = np.where(rate.rate <= 0.0, 0.0, np.minimum(low, 1.0 - none))
    high = np.where(rate.rate >= 1.0, 1.0, np.maximum(high, none))
    seen = 1.0 - rate.unseen
    return np.maximum(low, 0.0) * seen, np.minimum(high, 1.0) * seen + rate.unseen


def _variance_of_a_trial(trials: Moments, rate: F64) -> F64:
    """Variance that one trial of a stratum brings to its rate, [..., H], from both halves and `PRIOR_TRIALS`."""
    n, weight, square, hit_weight, hit_square = (
        field.sum(axis=-2) for field in (trials.n, trials.weight, trials.square, trials.hit_weight, trials.hit_square)
    )
    p = rate[..., None]
    some = np.maximum(n, 1.0)
    mean_weight, mean_square = np.where(n > 0, weight / some, 1.0), np.where(n > 0, square / some, 1.0)
    weight = weight + PRIOR_TRIALS * mean_weight
    square = square + PRIOR_TRIALS * mean_square
    own = (hit_weight + PRIOR_TRIALS * p * mean_weight) / weight
    hit_square = hit_square + PRIOR_TRIALS * p * mean_square
    spread = hit_square * (1.0 - 2.0 * own) + square * own * own
    return np.asarray((n + PRIOR_TRIALS) * np.maximum(spread, 0.0) / (weight * weight))


def _spread(size: I64, wanted: F64) -> I64:
    """Whole numbers [..., H] that add up to `size` [...], in proportion to `wanted`: largest remainders."""
    exact = size[..., None] * wanted / _total(wanted)
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - whole), axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    return np.asarray(whole + (rank < (size - whole.sum(axis=-1))[..., None]), np.int64)


def _total(values: F64) -> F64:
    """Sum over the last axis, kept, one after the other: numpy's own sums take an order of their choice."""
    return np.asarray(np.cumsum(values, axis=-1)[..., -1:])
