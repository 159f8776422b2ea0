"""Stratified and importance-weighted rates: the formulas again by hand, and simulated campaigns with their controls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.errors import BadInput
from yieldkit.reliability.designs import (
    Moments,
    allocate,
    design_interval,
    design_rate,
    neyman_shares,
    plan_round,
    posterior_rates,
)
from yieldkit.reliability.proportions import clopper_pearson_interval, wilson_interval
from yieldkit.rng import generator

NOMINAL = 0.95


def populations():
    """(name, weights, rates): what a campaign may meet, rare outcomes included."""
    rng = generator(11, "tests.populations")
    uneven = np.sort(np.maximum(rng.dirichlet(np.full(24, 0.5)), 1e-5))[::-1]
    uneven = uneven / uneven.sum()
    many = np.maximum(rng.dirichlet(np.full(120, 0.4)), 1e-6)
    many = many / many.sum()
    third = np.where(rng.random(24) < 0.3, 0.3, 0.0)
    hot = np.full(24, 0.001)
    hot[3] = 0.4
    yield "alike", uneven, np.full(24, 0.1)
    yield "alike and common", uneven, np.full(24, 0.6)
    yield "alike and rare", uneven, np.full(24, 0.01)
    yield "spread", uneven, rng.beta(0.3, 2.0, 24)
    yield "skew", uneven, rng.beta(0.1, 3.0, 24)
    yield "a third of them", uneven, third
    yield "one hot", uneven, hot
    yield "one hot among unlikely ones", uneven, np.where(hot > 0.1, 0.4, 0.01)
    yield "four", np.array([0.7, 0.2, 0.08, 0.02]), np.array([0.02, 0.1, 0.3, 0.9])
    yield "many", many, rng.beta(0.1, 1.0, 120)


def simulate(weights, rates, *, rounds, size, floor, mix, campaigns, seed, stop=None):
    """Campaigns by rounds; returns trials and hits [campaigns, 2, H]. With `stop` each ends at its own round."""
    rng = generator(seed, "tests.designs")
    n = np.zeros((campaigns, 2, len(weights)), np.int64)
    hits = np.zeros_like(n)
    going = np.ones(campaigns, bool)
    for _ in range(rounds):
        plan = plan_round(weights, weights, (n, hits), (size // 2, size // 2), floor=floor, mix=mix)
        plan = plan * going[:, None, None]
        hits = hits + rng.binomial(plan, rates)
        n = n + plan
        if stop is not None:
            low, high = design_interval(design_rate(weights, Moments.plain(n, hits)))
            going &= (high - low) / 2 > stop
    return n, hits


def figures(weights, rates, n, hits, *, method, seed=5):
    """Coverage, mean width over that of simple random samples of the same size, and the bias over the deviation."""
    truth = float(np.sum(weights * rates))
    found = design_rate(weights, Moments.plain(n, hits))
    low, high = design_interval(found, method=method)
    covered = float(((low <= truth) & (truth <= high)).mean())
    total = n.sum(axis=(-1, -2))
    drawn = generator(seed, "tests.simple").binomial(total, truth)
    plain = {"wilson": wilson_interval, "exact": clopper_pearson_interval}[method](drawn, total)
    simple = float(((plain[0] <= truth) & (truth <= plain[1])).mean())
    width = float((high - low).mean() / (plain[1] - plain[0]).mean())
    bias = float((found.rate.mean() - truth) / found.rate.std())
    return covered, width, bias, simple, truth * float(total.mean())


def check(name, weights, rates, *, campaigns, rounds, size, floor, mix, seed):
    """Coverage within two points, and widths at most 1.25 times those of simple samples, with room for the count."""
    n, hits = simulate(weights, rates, rounds=rounds, size=size, floor=floor, mix=mix, campaigns=campaigns, seed=seed)
    noise = 5 * math.sqrt(NOMINAL * (1 - NOMINAL) / campaigns)
    for method in ("wilson", "exact"):
        covered, width, bias, simple, expected = figures(weights, rates, n, hits, method=method)
        told = f"{name}, mix {mix}, n {rounds * size}, {method}: {covered:.3f} {simple:.3f} {width:.2f} {bias:.2f}"
        # Clopper and Pearson's own interval covers too much where little is expected; so may this one.
        above = max(NOMINAL + 0.02, simple + 0.01) if method == "exact" else NOMINAL + 0.02
        assert NOMINAL - 0.02 - noise <= covered <= above + noise, told
        assert width <= 1.25, told
        assert abs(bias) < 0.2 + 5 / math.sqrt(campaigns), told
        assert expected >= 5


GRID = [(name, weights, rates) for name, weights, rates in populations()]


@pytest.mark.parametrize(("name", "weights", "rates"), GRID, ids=[one[0] for one in GRID])
def test_simulated_campaigns_are_covered_at_the_width_of_simple_ones(name, weights, rates):
    for mix in (1.0, 0.5):
        check(name, weights, rates, campaigns=400, rounds=10, size=100, floor=4, mix=mix, seed=3)


@pytest.mark.long
@pytest.mark.parametrize(("name", "weights", "rates"), GRID, ids=[one[0] for one in GRID])
@pytest.mark.parametrize("mix", [1.0, 0.5])
def test_two_thousand_simulated_campaigns(name, weights, rates, mix):
    for rounds, size, floor in ((10, 64, 4), (20, 100, 8), (16, 400, 8)):
        check(name, weights, rates, campaigns=2000, rounds=rounds, size=size, floor=floor, mix=mix, seed=1)


def test_stopping_by_half_width_keeps_the_coverage():
    for name, weights, rates in GRID:
        if name in ("alike", "spread", "four", "a third of them"):
            n, hits = simulate(weights, rates, rounds=40, size=100, floor=4, mix=0.5, campaigns=400, seed=8, stop=0.015)
            ends = n.sum(axis=(1, 2))
            assert len(set(ends.tolist())) > 1
            covered, width, *_ = figures(weights, rates, n, hits, method="wilson")
            assert abs(covered - NOMINAL) <= 0.02 + 5 * math.sqrt(NOMINAL * (1 - NOMINAL) / 400), name
            assert width <= 1.25


def test_the_controls_fail_pooling_without_weights_and_going_by_ones_own_luck():
    name, weights, rates = GRID[7]
    assert name == "one hot among unlikely ones"
    n, hits = simulate(weights, rates, rounds=20, size=100, floor=8, mix=0.5, campaigns=400, seed=4)
    truth = float(np.sum(weights * rates))
    low, high = wilson_interval(hits.sum(axis=(1, 2)), n.sum(axis=(1, 2)))
    assert ((low <= truth) & (truth <= high)).mean() < 0.5
    # Neyman by the same trials that are then counted: rare and alike, the rate comes out too low.
    _, weights, rates = GRID[2]
    rng = generator(4, "tests.own_luck")
    n, hits = (np.zeros((400, 1, 24), np.int64) for _ in range(2))
    for _ in range(20):
        deviation = np.sqrt((hits + 0.02) / (n + 2.0))
        shares = 0.9 * weights * deviation / (weights * deviation).sum(axis=-1, keepdims=True) + 0.1 * weights
        plan = allocate(weights, n, 100, floor=4, shares=shares)
        hits, n = hits + rng.binomial(plan, rates), n + plan
    found = design_rate(weights, Moments.plain(n, hits))
    assert found.rate.mean() < 0.8 * 0.01


def test_one_stratum_is_wilson_and_clopper_pearson_but_for_the_prior():
    n, hits = np.array([[[150], [150]]]), np.array([[[10], [14]]])
    found = design_rate([1.0], Moments.plain(n, hits))
    assert float(found.rate[0]) == pytest.approx(24 / 300)
    assert float(found.effective_n[0]) == pytest.approx(300, rel=0.01)
    for method, plain in (("wilson", wilson_interval), ("exact", clopper_pearson_interval)):
        low, high = design_interval(found, method=method)
        expected = plain(24, 300)
        assert (float(low[0]), float(high[0])) == pytest.approx((float(expected[0]), float(expected[1])), abs=2e-4)


def test_the_stratified_estimator_again_by_hand():
    weights = np.array([0.5, 0.3, 0.2])
    n = np.array([[[10, 20, 5], [12, 18, 5]]])
    hits = np.array([[[1, 10, 0], [2, 8, 1]]])
    found = design_rate(weights, Moments.plain(n, hits))
    rate = sum(0.5 * w * h / m for half in (0, 1) for w, h, m in zip(weights, hits[0, half], n[0, half], strict=True))
    assert float(found.rate[0]) == pytest.approx(rate)
    variance = 0.0
    for stratum, w in enumerate(weights):
        m, h = n[0, :, stratum].sum(), hits[0, :, stratum].sum()
        p = (h + 1.5 * rate) / (m + 1.5)
        variance += sum((w / 2) ** 2 * p * (1 - p) / n[0, half, stratum] for half in (0, 1))
    assert float(found.variance[0]) == pytest.approx(variance)
    assert float(found.effective_n[0]) == pytest.approx(rate * (1 - rate) / variance)
    assert float(found.blind_n[0]) == pytest.approx(min(22 / 0.5, 38 / 0.3, 10 / 0.2))


def test_a_label_never_seen_is_bounded_where_the_design_looks_least():
    weights = np.array([0.9, 0.1])
    n = np.array([[[45, 5], [45, 5]]])
    even = design_interval(design_rate(weights, Moments.plain(n, n * 0)), method="exact")
    assert float(even[0][0]) == 0
    assert float(even[1][0]) == pytest.approx(float(clopper_pearson_interval(0, 100)[1]))
    # The heavy stratum has 20 trials of 100: the bound is that of 20 / 0.9 trials, and for one that sees nothing in
    # truth 0.12 in the heavy stratum it must hold as often as it says.
    uneven = np.array([[[10, 40], [10, 40]]])
    _, high = design_interval(design_rate(weights, Moments.plain(uneven, n * 0)), method="exact")
    assert float(high[0]) == pytest.approx(1 - 0.025 ** (1 / (20 / 0.9)), rel=1e-6)
    # Probability 0.87^20 = 0.062 to see nothing at 0.13, above 2.5 %: not excluded.
    assert float(high[0]) > 0.9 * 0.13
    # One hit elsewhere brings the bound no closer.
    hit = np.array([[[0, 1], [0, 0]]])
    assert float(design_interval(design_rate(weights, Moments.plain(uneven, hit)), method="exact")[1][0]) >= float(
        high[0]
    )
    # All hits: the same from the other side.
    sure = design_interval(design_rate(weights, Moments.plain(uneven, uneven)), method="exact")
    assert (float(sure[0][0]), float(sure[1][0])) == pytest.approx((1 - float(high[0]), 1.0))


def test_strata_without_a_trial_may_be_all_or_nothing():
    weights = np.array([0.6, 0.4])
    found = design_rate(weights, Moments.plain(np.array([[[50, 0], [50, 0]]]), np.array([[[5, 0], [5, 0]]])))
    assert float(found.unseen[0]) == pytest.approx(0.4)
    low, high = design_interval(found)
    seen = design_interval(design_rate([1.0], Moments.plain(np.array([[[50], [50]]]), np.array([[[5], [5]]]))))
    assert float(low[0]) == pytest.approx(0.6 * float(seen[0][0]))
    assert float(high[0]) == pytest.approx(0.6 * float(seen[1][0]) + 0.4)
    nothing = design_interval(design_rate(weights, Moments.plain(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)))))
    assert (float(nothing[0][0]), float(nothing[1][0])) == (0.0, 1.0)
    # A stratum that only one half has looked at stands for both.
    half = design_rate(weights, Moments.plain(np.array([[[50, 10], [50, 0]]]), np.array([[[5, 2], [5, 0]]])))
    assert float(half.rate[0]) == pytest.approx(0.6 * 0.1 + 0.4 * 0.2)


def weighted(rates, shares, proposal, n, campaigns, seed):
    """Importance sampling inside one stratum: classes with rates, drawn by a proposal."""
    rng = generator(seed, "tests.importance")
    weights = shares / proposal
    arrays = np.zeros((6, campaigns, 2, 1))
    for half in (0, 1):
        counts = rng.multinomial(n // 2, proposal, size=campaigns)
        hits = rng.binomial(counts, rates)
        for number, (count, factor) in enumerate(
            [(counts, 0), (hits, 0), (counts, 1), (counts, 2), (hits, 1), (hits, 2)]
        ):
            arrays[number, :, half, 0] = (count * weights**factor).sum(axis=-1)
    return Moments(*arrays, heaviest=np.array([weights.max()]))


def test_importance_sampling_agrees_with_plain_sampling_and_needs_fewer_trials():
    """Three bits of a hundred, drawn thirty times as often, bring a rare outcome with an eighth of the trials."""
    shares, rates = np.array([0.03, 0.27, 0.7]), np.array([0.4, 0.001, 0.0])
    truth = float(np.sum(shares * rates))
    boosted = shares * np.array([30.0, 1.0, 1.0])
    proposal = boosted / boosted.sum()
    rare = weighted(rates, shares, proposal, 1250, 2000, 6)
    plain = weighted(rates, shares, shares, 10_000, 2000, 7)
    intervals = {}
    for name, moments in (("rare", rare), ("plain", plain)):
        found = design_rate([1.0], moments)
        assert abs(found.rate.mean() - truth) <= 5 * found.rate.std() / math.sqrt(2000) + 0.01 * truth
        low, high = intervals[name] = design_interval(found)
        covered = ((low <= truth) & (truth <= high)).mean()
        assert abs(covered - NOMINAL) <= 0.02 + 5 * math.sqrt(NOMINAL * (1 - NOMINAL) / 2000), name
    # An eighth of the trials, and no wider an interval.
    width = {name: float((high - low).mean()) for name, (low, high) in intervals.items()}
    assert width["rare"] <= width["plain"]
    # Each estimate lies in the other's interval about as often as two samples of that precision should.
    agree = (intervals["rare"][0] <= intervals["plain"][1]) & (intervals["plain"][0] <= intervals["rare"][1])
    assert agree.mean() > 0.98
    # The control: counting hits without their weights.
    low, high = wilson_interval(rare.hits.sum(axis=(1, 2)), rare.n.sum(axis=(1, 2)))
    assert ((low <= truth) & (truth <= high)).mean() < 0.01


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.data())
def test_allocation_gives_every_trial_once_and_the_floor_first(data):
    strata = data.draw(st.integers(1, 9))
    weights = np.array(data.draw(st.lists(st.floats(0.001, 1), min_size=strata, max_size=strata)))
    sampled = np.array(data.draw(st.lists(st.integers(0, 12), min_size=strata, max_size=strata)))
    size, floor = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 6))
    given_ = allocate(weights, sampled, size, floor=floor, shares=weights)
    assert given_.sum() == size
    assert (given_ >= 0).all()
    missing = np.maximum(floor - sampled, 0)
    if missing.sum() <= size:
        assert (given_ >= missing).all()
    else:
        assert (given_ <= missing).all()
        # Those with fewest come first.
        after = np.minimum(sampled + given_, floor)
        assert after[sampled < floor].max() - after[sampled < floor].min() <= max(
            1, int(after[sampled < floor].max() - sampled.min())
        )
    alone = allocate(np.array([*weights, 0.0]), np.array([*sampled, 0]), size, floor=floor, shares=[*weights, 1.0])
    assert alone[-1] == 0


def test_neyman_shares_and_what_shrinks_them():
    n = np.array([50, 50, 50])
    far = neyman_shares([0.5, 0.3, 0.2], n, [0, 25, 1])
    assert far[1] > 2 * far[0]
    # Two hits among 150 trials say little: taken at their word they would send nearly all trials to one stratum.
    near = neyman_shares([0.5, 0.3, 0.2], n, [0, 2, 0])
    assert near[1] < 0.4
    assert neyman_shares([0.5, 0.3, 0.2], [0, 0, 0], [0, 0, 0]) == pytest.approx([0.5, 0.3, 0.2])
    p, v = posterior_rates([1000, 1000], [500, 10])
    assert p == pytest.approx([0.5, 0.01], abs=0.01)
    assert v == pytest.approx(p * (1 - p), rel=0.01)


def test_halves_go_by_each_other():
    weights = np.array([0.5, 0.5])
    n = np.array([[100, 100], [100, 100]])
    hits = np.array([[50, 0], [0, 50]])
    plan = plan_round(weights, weights, (n, hits), (40, 40), floor=0, mix=0.1)
    # The first half found the first stratum to vary: the second half looks there.
    assert plan[1, 0] > plan[1, 1]
    assert plan[0, 1] > plan[0, 0]


def test_wrong_input_is_told():
    with pytest.raises(BadInput, match="hits"):
        Moments.plain([3], [4])
    with pytest.raises(BadInput, match="method"):
        design_interval(design_rate([1.0], Moments.plain([[3]], [[1]])), method="wald")
    with pytest.raises(BadInput, match="confidence"):
        design_interval(design_rate([1.0], Moments.plain([[3]], [[1]])), confidence=1.5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans())
def test_a_rate_is_one_exactly_when_every_trial_hit(seed, strata, weighted):
    rng = generator(seed, "tests.rates")
    weights = rng.random(strata) + 1e-3
    n = rng.integers(1, 9, (2, strata)).astype(float)
    weight = n * (rng.random((2, strata)) + 0.5) if weighted else n
    heaviest = np.full(strata, 1.5)
    full = Moments(n, n, weight, weight**2 / n, weight, weight**2 / n, heaviest)
    assert float(design_rate(weights, full).rate) == 1.0
    missed = n.copy()
    missed[0, 0] -= 1
    share = weight * missed / n
    one = Moments(n, missed, weight, weight**2 / n, share, share**2 / np.maximum(missed, 1), heaviest)
    assert 0.0 <= float(design_rate(weights, one).rate) < 1.0
    low, high = design_interval(design_rate(weights, full))
    assert 0.0 <= float(low) <= float(high) == 1.0
