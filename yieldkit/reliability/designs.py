"""Sampling designs: how many trials each stratum gets, and what a design-weighted rate and its intervals are.

Arrays in, arrays out: the last axis is that of the H strata, the one before it that of the halves of a campaign where
there are halves, all others are free (simulated campaigns, labels).

Why halves: where later trials go by what earlier ones showed, a stratum without luck is left with the few trials that
showed nothing, one with luck is looked at again, and the pooled rate comes out too low (by half, for a rate of 1 % in
24 strata). So each half goes by what the other one showed, which keeps its own rates clear of its own luck.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yieldkit.errors import BadInput
from yieldkit.reliability.proportions import beta_interval, score_interval

__all__ = [
    "DesignRate",
    "Frame",
    "Law",
    "allocate",
    "design_interval",
    "design_rate",
    "neyman_shares",
    "plan_round",
    "posterior_rates",
    "width_factor",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Interval = tuple[F64, F64]

_MOST_UNLIKE: Final = 0.98
"""Assumption: strata are never taken to be all or nothing for sure; a fiftieth of a trial is shared."""
_MOMENT_ROUNDS: Final = 6
_WIDENINGS: Final = 12
_BISECTIONS: Final = 36
_LEAST_RATE: Final = 1e-15


class Frame(NamedTuple):
    """A population as a design sees it: strata, and inside them groups of what is drawn alike.

    Without importance a stratum is one group. With it, groups are told apart by how much they are favoured; the shares
    of both are known, so a rate need not suffer from how often each happened to be drawn.

    Attributes:
        shares: [G] share of the population in each group; they need not add up to 1.
        stratum: [G] number of its stratum, from 0.
        chances: [G] that a draw in its stratum comes from it; they add up to 1 in each stratum.
    """

    shares: F64
    stratum: I64
    chances: F64

    @classmethod
    def plain(cls, weights: ArrayLike) -> Frame:
        """Strata of one group each, by their shares of the population."""
        w = np.asarray(weights, np.float64)
        return cls(w, np.arange(len(w)), np.ones(len(w)))


class Law(NamedTuple):
    """How an estimated rate would spread, were the rates of groups others: arrays [..., G], but `rest` [...].

    Attributes:
        reach: what the rate of a group counts in the estimate.
        gain: variance that a group brings, for 1 of p(1 - p).
        pull: how far a group follows when the whole is pushed, by its logit: reach over trials.
        chance: rate of a group, such that p(1 - p) is what is expected of it.
        rest: variance that does not hang on the rates.
    """

    reach: F64
    gain: F64
    pull: F64
    chance: F64
    rest: F64


class DesignRate(NamedTuple):
    """A rate of a population and what is known about it.

    Attributes:
        rate: over the strata that have trials.
        variance: of `rate`.
        effective_n: trials of a simple random sample with that variance.
        blind_n: trials of a simple random sample that would be as likely to show nothing, if the label sat where the
            design looks least.
        unseen: share of the population in strata without a trial.
        events: n p(1 - p) of a simple random sample whose variance is known as well; below about ten the variance, and
            with it the width, is itself a guess.
        law: what intervals go by.
    """

    rate: F64
    variance: F64
    effective_n: F64
    blind_n: F64
    unseen: F64
    events: F64
    law: Law

    @classmethod
    def simple(cls, hits: ArrayLike, n: ArrayLike) -> DesignRate:
        """Of a simple random sample; its intervals are Wilson's and Clopper and Pearson's own."""
        x, trials = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(n, np.float64))
        some = np.maximum(trials, 1.0)
        rate = x / some
        each = 1.0 / some
        law = Law(np.ones_like(each)[..., None], each[..., None], each[..., None], rate[..., None], np.zeros_like(rate))
        variance = rate * (1.0 - rate) / some
        return cls(rate, variance, trials, trials, np.zeros_like(rate), trials * rate * (1.0 - rate), law)


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

    The deviation is that of the stratum's posterior with one hit and one miss more (Laplace's rule). Without them a
    single hit among rare ones draws several times the trials of a neighbour without luck, and the halves, each going by
    the other, carry their luck back to themselves: for one hot stratum among 82 of 0.2 % the rate came out a quarter of
    a deviation too high, and 79 % of the intervals held. They cost 7 % of width on the average.

    Args:
        weights: [H] population shares.
        n: [..., H] trials.
        hits: [..., H] trials with the target; may be weighted.

    Returns:
        [..., H], summing to 1; the weights' own before any trial.
    """
    trials, x = np.asarray(n, np.float64), np.asarray(hits, np.float64)
    mean, prior = _prior(trials, x)
    a, b = x + prior * mean + 1.0, trials - x + prior * (1.0 - mean) + 1.0
    deviation = np.asarray(weights, np.float64) * np.sqrt(a * b / ((a + b) * (a + b + 1.0)))
    return np.asarray(deviation / _total(deviation))


def posterior_rates(n: ArrayLike, hits: ArrayLike) -> tuple[F64, F64]:
    """Rate of each stratum and its p(1 - p), shrunk to the rate of all as far as the strata agree (empirical Bayes).

    A beta prior fitted by moments to the spread between strata (as in Kleinman, JASA 68, 1973, with his weights):
    strata that differ by no more than chance get one rate, strata that are all or nothing keep their own.

    Args:
        n: [..., H] trials.
        hits: [..., H] trials with the label.

    Returns:
        posterior means of p and of p(1 - p), each [..., H].
    """
    trials, x = np.asarray(n, np.float64), np.asarray(hits, np.float64)
    mean, deviation, _ = _posterior(trials, x, *_prior(trials, x))
    return mean, deviation


def design_rate(frame: Frame, n: ArrayLike, hits: ArrayLike) -> DesignRate:
    """Rate of a population from a stratified sample, each half standing for the whole.

    The rate of a stratum in a half is the share of hits, each weighted by how much likelier its group is in the
    population than in the draws; what a group lacks in draws, or has too many, counts with the rate that the other half
    expects there (a difference estimator: Cassel, Särndal and Wretman, Biometrika 63, 1976). Strata add up by their
    population, halves count alike. A stratum that only one half has looked at is taken from that half.

    Args:
        frame: strata and groups.
        n: trials, [..., halves, G].
        hits: trials with the label, of the same shape.

    Returns:
        fields [...]; without any trial the rate is 0, the effective size 0 and everything unseen.

    Raises:
        BadInput: there are more hits than trials, or a count is negative.
    """
    trials, x = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(hits, np.float64))
    if not ((x >= 0) & (x <= trials)).all():
        raise BadInput("hits must lie between 0 and the number of trials")
    member = (frame.stratum[:, None] == np.arange(int(frame.stratum.max()) + 1)).astype(np.float64)
    shares = np.asarray(frame.shares, np.float64)
    weights = (shares / shares.sum()) @ member
    inside = shares / shares.sum() / np.where(weights > 0, weights, 1.0)[frame.stratum]
    factor = inside / frame.chances
    drawn = trials @ member
    looked = drawn > 0
    part = weights * looked / np.maximum(looked.sum(axis=-2, keepdims=True), 1)
    covered = part.sum(axis=(-1, -2))
    part = (part / np.maximum(covered, 1e-300)[..., None, None])[..., frame.stratum]
    some = np.maximum(drawn, 1.0)[..., frame.stratum]

    mean, prior = _prior(trials.sum(axis=-2), x.sum(axis=-2))
    rates, deviation, _ = _posterior(trials.sum(axis=-2), x.sum(axis=-2), mean, prior)
    expected, _, doubt = _posterior(trials[..., ::-1, :], x[..., ::-1, :], mean[..., None, :], prior[..., None, :])
    rate = (part * (factor * (x - expected * trials) / some + inside * expected)).sum(axis=(-1, -2))
    # Neither luck with groups nor rounding carries a rate to 0 or 1, or beyond, while some trials say otherwise.
    missed = ((trials > x) & (part > 0)).any(axis=(-1, -2))
    hit = ((x > 0) & (part > 0)).any(axis=(-1, -2))
    rate = np.where(hit, np.maximum(rate, _LEAST_RATE), 0.0)
    rate = np.where(missed, np.minimum(rate, np.nextafter(1.0, 0.0)), np.where(covered > 0, 1.0, 0.0))

    # By the draws that a group gets on the average: what was drawn too seldom by luck is no surer for it.
    each = part * part * inside * factor / some
    gain = each.sum(axis=-2)
    reach = (part * inside).sum(axis=-2)
    looks = drawn.sum(axis=-2)[..., frame.stratum] * frame.chances
    pull = np.where(looks > 0, reach / np.where(looks > 0, looks, 1.0), 0.0)
    rest = (each * doubt * (1.0 - frame.chances)).sum(axis=(-1, -2))
    distance = np.sqrt(np.maximum(1.0 - 4.0 * deviation, 0.0))
    chance = np.where(rates > 0.5, 1.0 + distance, 1.0 - distance) / 2.0
    law = Law(reach, gain, pull, chance, rest)
    variance = (gain * deviation).sum(axis=-1) + rest

    there = (looks > 0) & (shares > 0)
    ratio = np.where(there, looks / np.where(shares > 0, shares / shares.sum(), 1.0), np.inf)
    blind = np.where(there.any(axis=-1), ratio.min(axis=-1), 0.0)
    pure = (rate <= 0) | (rate >= 1) | (variance <= 0)
    effective = np.where(pure, blind, rate * (1.0 - rate) / np.where(pure, 1.0, variance))
    lacking = ((weights > 0) & ~looked.any(axis=-2)).any(axis=-1)
    # Every group brings gain p(1 - p), known as well as reach² / gain trials tell it.
    brought = gain * deviation
    known = (brought * gain * gain / np.where(gain > 0, reach * reach, 1.0)).sum(axis=-1)
    events = np.where(known > 0, brought.sum(axis=-1) ** 2 / np.where(known > 0, known, 1.0), 0.0)
    return DesignRate(rate, variance, effective, blind, np.where(lacking, 1.0 - covered, 0.0), events, law)


def design_interval(rate: DesignRate, *, method: str = "wilson", confidence: float = 0.95) -> Interval:
    """Two-sided interval of a design-weighted rate, of Wilson's or of Clopper and Pearson's kind.

    Wilson's interval holds the rates that lie within z of their own standard deviations from the estimate. Here it does
    so too: the rates of all groups are pushed together, each as far as its trials allow (along the constrained most
    likely rates), until the estimate is z deviations of the pushed rates away. For one group that is Wilson's formula.
    "exact" takes the binomial law, shifted and stretched, whose Wilson interval that is, and gives Clopper and
    Pearson's interval of it: theirs for one group.

    Neither bound is closer than if nothing had been seen (or nothing else): a label that was never met may sit where
    the design looks least, and one hit elsewhere makes that no less likely. What no trial has looked at may be all or
    nothing.

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
    none = intervals[method](np.zeros_like(rate.rate), rate.blind_n, confidence=confidence)[1]
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    below, above = (_push(rate.law, z, side) for side in (-1.0, 1.0))
    if method == "exact":
        below, above = _exact(rate, below, above, z, confidence)
    nothing, everything = rate.rate <= 0.0, rate.rate >= 1.0
    low = np.where(nothing, 0.0, np.minimum(rate.rate - np.where(everything, 0.0, below), 1.0 - none))
    high = np.where(everything, 1.0, np.maximum(rate.rate + np.where(nothing, 0.0, above), none))
    seen = 1.0 - rate.unseen
    return np.clip(low, 0.0, 1.0) * seen, np.clip(high, 0.0, 1.0) * seen + rate.unseen


def width_factor(frame: Frame, n: ArrayLike) -> F64:
    """How much wider than those of a simple sample of the same size the intervals of an evenly spread label are.

    What strata bring is not in it: where rates differ between strata, intervals are narrower than that. A floor that
    takes the part f of all trials widens by at most 1 / sqrt(1 - f).

    Args:
        frame: strata and groups.
        n: [..., H] trials.

    Returns:
        [...]; infinite where a stratum of the population has no trial.
    """
    trials = np.asarray(n, np.float64)
    shares = np.asarray(frame.shares, np.float64) / np.sum(frame.shares)
    looks = trials[..., frame.stratum] * frame.chances
    each = np.where(shares > 0, shares * shares / np.where(looks > 0, looks, 1.0), 0.0)
    blind = ((shares > 0) & (looks <= 0)).any(axis=-1)
    return np.where(blind, np.inf, np.sqrt(trials.sum(axis=-1) * each.sum(axis=-1)))


def _push(law: Law, z: float, side: float) -> F64:
    """How far the rate moves until it is z of its deviations there away: by bisection of the push."""
    logit = np.log(np.maximum(law.chance, 1e-300)) - np.log(np.maximum(1.0 - law.chance, 1e-300))
    start = (law.reach * law.chance).sum(axis=-1)
    scale = np.sqrt(np.maximum((law.gain * law.chance * (1.0 - law.chance)).sum(axis=-1) + law.rest, 1e-300))

    def at(push: F64) -> tuple[F64, F64]:
        p = 1.0 / (1.0 + np.exp(-np.clip(logit + side * (push / scale)[..., None] * law.pull, -700.0, 700.0)))
        moved = side * ((law.reach * p).sum(axis=-1) - start)
        return moved, moved - z * np.sqrt((law.gain * p * (1.0 - p)).sum(axis=-1) + law.rest)

    least, most = np.zeros_like(scale), np.full_like(scale, 8.0)
    for _ in range(_WIDENINGS):
        short = at(most)[1] < 0
        if not short.any():
            break
        most = np.where(short, 2.0 * most, most)
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2.0
        short = at(middle)[1] < 0
        least, most = np.where(short, middle, least), np.where(short, most, middle)
    return at(most)[0]


def _exact(rate: DesignRate, below: F64, above: F64, z: float, confidence: float) -> Interval:
    """Distances of Clopper and Pearson's bounds, for the binomial law with the variance and the Wilson interval given.

    A binomial share of m trials, times b, has the variance V + slope d - d²/m where its mean lies d higher; Wilson's
    bounds are where that is d²/z². Two bounds give m and the slope; where no m fits, each side has a slope of its own.
    """
    # Where all trials agree nothing of this is used; it only has to stay finite.
    mixed = (rate.rate > 0.0) & (rate.rate < 1.0) & (below > 0.0) & (above > 0.0)
    v, low, high = (np.where(mixed, one, 1.0) for one in (rate.variance, below, above))
    curve = np.maximum(-((low / z**2 - v / low) + (high / z**2 - v / high)) / (low + high), 1e-7)
    m = 1.0 / curve
    found = []
    for side, distance in ((-1.0, low), (1.0, high)):
        slope = side * (distance / z**2 - v / distance + curve * distance)
        width = np.sqrt((slope * m) ** 2 + 4.0 * v * m)
        share = np.clip((1.0 - slope * m / width) / 2.0, 0.0, 1.0)
        bound = beta_interval(share, m, confidence=confidence)[0 if side < 0 else 1]
        found.append(side * width * (bound - share))
    return found[0], found[1]


def _posterior(n: F64, hits: F64, mean: F64, prior: F64) -> tuple[F64, F64, F64]:
    """Means of p and of p(1 - p), and the variance of p, under a beta law that has seen the trials."""
    a, b = hits + prior * mean, n - hits + prior * (1.0 - mean)
    both = a + b
    deviation = a * b / (both * (both + 1.0))
    return a / both, deviation, deviation / both


def _prior(n: F64, hits: F64) -> tuple[F64, F64]:
    """Mean and strength in trials, each [..., 1], of the beta law that the rates of strata seem to follow.

    Kleinman's moments: each stratum counts n / (1 + likeness (n - 1)), which is its trials where strata are alike and
    one where they are not, and the likeness comes from the spread that is left. A few rounds settle the two.
    """
    some = np.maximum(n, 1.0)
    share = hits / some
    total = _total(n)
    least = np.minimum(1.0 / (1.0 + total), _MOST_UNLIKE)
    likeness = np.zeros(total.shape)
    for _ in range(_MOMENT_ROUNDS):
        counts = n / (1.0 + likeness * (some - 1.0))
        every = np.maximum(_total(counts), 1e-300)
        mean = _total(counts * share) / every
        spread = _total(counts * (share - mean) ** 2)
        free = counts * (1.0 - counts / every)
        room = _total(free * (1.0 - 1.0 / some))
        excess = spread / np.maximum(mean * (1.0 - mean), 1e-300) - _total(free / some)
        likeness = np.where(room > 1e-9, np.clip(excess / np.maximum(room, 1e-9), 0.0, _MOST_UNLIKE), 0.0)
    # Half a hit in all of the trials: no rate is taken to be 0 or 1.
    mean = (mean * total + 0.5) / (total + 1.0)
    return mean, 1.0 / np.maximum(likeness, least) - 1.0


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
