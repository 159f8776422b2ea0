"""Stratified and importance-weighted rates: the formulas again by hand, and simulated campaigns with their controls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.coverage import NOMINAL, measure, table
from tests.reliability.simulated_campaigns import (
    LEAST_EXPECTED,
    SETS,
    Cell,
    Design,
    Population,
    cells_of,
    fixed_populations,
    simulate,
)
from yieldkit.errors import BadInput
from yieldkit.reliability.designs import (
    DesignRate,
    Frame,
    allocate,
    design_interval,
    design_rate,
    neyman_shares,
    plan_round,
    posterior_rates,
    width_factor,
)
from yieldkit.reliability.proportions import clopper_pearson_interval, wilson_interval
from yieldkit.rng import generator


def inside(rows, *, errors):
    """Cells out of bounds by more than noise: coverage by two points, widths at 1.25 unless told beforehand."""
    wrong = [line for line in table(rows, errors=errors, marked=True) if "<<" in line]
    for cell, both in rows:
        for one in both:
            name = f"{cell.population.name} {cell.design}"
            assert one.expected >= LEAST_EXPECTED or cell.design.stop is not None, name
            if np.isfinite(cell.width_factor):
                assert one.width <= max(1.25, 1.1 * cell.width_factor), name
    return wrong


GRID = list(fixed_populations())


@pytest.mark.parametrize("population", GRID, ids=[one.name for one in GRID])
def test_simulated_campaigns_are_covered_at_the_width_of_simple_ones(population):
    cells = [Cell(population, Design(10, 100, 4, mix)) for mix in (1.0, 0.5)]
    rows = measure(cells, campaigns=400, seed=3, quiet=True)
    assert inside(rows, errors=3.0) == []
    assert all(abs(one.bias) < 0.1 + 5 / math.sqrt(400) for _, both in rows for one in both)


def test_populations_that_nothing_was_tuned_on_small():
    cells = [cell for cell in cells_of("fresh") if len(cell.population.shares) <= 60][:16]
    assert inside(measure(cells, campaigns=300, seed=2, quiet=True), errors=3.0) == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["fixed", "final"])
def test_two_thousand_simulated_campaigns(name):
    assert inside(measure(cells_of(name), campaigns=2000, seed=1, quiet=True), errors=3.0) == []


def test_what_the_sets_hold():
    for name in SETS:
        cells = cells_of(name)
        assert len(cells) == 96
        assert min(cell.population.truth * cell.design.n for cell in cells) >= LEAST_EXPECTED
        assert sum(cell.design.stop is not None for cell in cells) == 16
        assert sum(cell.population.shares.shape[1] > 1 for cell in cells) == 16
        strata = [len(cell.population.shares) for cell in cells]
        assert min(strata) < 8
        assert max(strata) > 120


def test_stopping_by_half_width_keeps_the_coverage():
    cells = [
        Cell(one, Design(40, 100, 4, 0.5, 0.015))
        for one in GRID
        if one.name in ("alike", "spread", "four", "a third of them")
    ]
    for cell in cells:
        n, _ = simulate(cell, campaigns=20, seed=8)
        assert len(set(n.sum(axis=(1, 2)).tolist())) > 1
    assert inside(measure(cells, campaigns=400, seed=8, quiet=True), errors=3.0) == []


def test_a_width_that_luck_brings_does_not_stop_a_campaign():
    """Three strata, two of them with two hits in the first rounds or none: narrow at once, and wrong too often."""
    three = Population.plain("three", np.array([0.36, 0.434, 0.206]), np.array([0.019, 0.019, 0.89]))
    n, hits = simulate(Cell(three, Design(15, 60, 4, 1.0)._replace(stop=0.039)), campaigns=600, seed=6)
    low, high = design_interval(design_rate(three.frame, n, hits))
    assert ((low <= three.truth) & (three.truth <= high)).mean() > NOMINAL - 0.02 - 3 * math.sqrt(0.05 * 0.95 / 600)
    # The control: without the rule many stop after 120 trials.
    early, found = simulate(Cell(three, Design(2, 60, 4, 1.0)), campaigns=600, seed=6)
    rate = design_rate(three.frame, early, found)
    low, high = design_interval(rate)
    narrow = (high - low) / 2 <= 0.039
    assert narrow.mean() > 0.2
    assert ((low <= three.truth) & (three.truth <= high))[narrow].mean() < 0.85


def test_the_controls_fail_pooling_without_weights_and_going_by_ones_own_luck():
    unlikely = next(one for one in GRID if one.name == "one hot among unlikely ones")
    n, hits = simulate(Cell(unlikely, Design(20, 100, 8, 0.5)), campaigns=400, seed=4)
    low, high = wilson_interval(hits.sum(axis=(1, 2)), n.sum(axis=(1, 2)))
    assert ((low <= unlikely.truth) & (unlikely.truth <= high)).mean() < 0.5
    # Neyman by the same trials that are then counted: rare and alike, the rate comes out too low.
    weights, rates = GRID[2].weights, GRID[2].rates[:, 0]
    rng = generator(4, "tests.own_luck")
    n, hits = (np.zeros((400, 1, 24), np.int64) for _ in range(2))
    for _ in range(20):
        deviation = np.sqrt((hits + 0.02) / (n + 2.0))
        shares = 0.9 * weights * deviation / (weights * deviation).sum(axis=-1, keepdims=True) + 0.1 * weights
        plan = allocate(weights, n, 100, floor=4, shares=shares)
        hits, n = hits + rng.binomial(plan, rates), n + plan
    found = design_rate(Frame.plain(weights), n, hits)
    assert found.rate.mean() < 0.8 * 0.01


def test_one_stratum_is_wilson_and_clopper_pearson():
    for method, plain in (("wilson", wilson_interval), ("exact", clopper_pearson_interval)):
        x, n = np.array([0, 1, 24, 150, 299, 300, 0]), np.array([300, 300, 300, 300, 300, 300, 0])
        low, high = design_interval(DesignRate.simple(x, n), method=method)
        expected = plain(x, n)
        assert low == pytest.approx(expected[0], abs=1e-6)
        assert high == pytest.approx(expected[1], abs=1e-6)
        low, high = design_interval(design_rate(Frame.plain([1.0]), [[150], [150]], [[10], [14]]), method=method)
        assert (float(low), float(high)) == pytest.approx([float(bound) for bound in plain(24, 300)], abs=2e-4)


def test_the_stratified_estimator_again_by_hand():
    weights = np.array([0.5, 0.3, 0.2])
    n = np.array([[10, 20, 5], [12, 18, 5]])
    hits = np.array([[1, 10, 0], [2, 8, 1]])
    found = design_rate(Frame.plain(weights), n, hits)
    rate = sum(0.5 * w * h / m for half in (0, 1) for w, h, m in zip(weights, hits[half], n[half], strict=True))
    assert float(found.rate) == pytest.approx(rate)
    _, deviation = posterior_rates(n.sum(axis=0), hits.sum(axis=0))
    variance = sum(
        (w / 2) ** 2 * deviation[stratum] / n[half, stratum] for half in (0, 1) for stratum, w in enumerate(weights)
    )
    assert float(found.variance) == pytest.approx(variance)
    assert float(found.effective_n) == pytest.approx(rate * (1 - rate) / variance)
    assert float(found.blind_n) == pytest.approx(min(22 / 0.5, 38 / 0.3, 10 / 0.2))
    # Wilson's bounds again by brute force: the push that brings the rate z of its own deviations away.
    low, high = design_interval(found)
    for side, distance in ((1, float(high) - rate), (-1, rate - float(low))):
        pushes = side * np.linspace(0, 400, 400_001)
        start = found.law.chance
        p = 1 / (1 + np.exp(-(np.log(start / (1 - start)) + pushes[:, None] * weights / n.sum(axis=0))))
        moved = side * (p - start) @ weights
        spread = np.sqrt((p * (1 - p)) @ ((weights / 2) ** 2 * (1 / n).sum(axis=0)))
        assert distance == pytest.approx(moved[np.argmax(moved > 1.959964 * spread)], abs=1e-4)


def test_groups_of_a_stratum():
    """Two groups of a stratum, one drawn six times as often: luck with how often each comes spreads nothing."""
    frame, rates = Frame(np.array([0.1, 0.9]), np.array([0, 0]), np.array([0.4, 0.6])), np.array([0.8, 0.4])
    n, hits = weighted(rates, frame, 200, 4000, 9)
    found = design_rate(frame, n, hits)
    shares = (hits @ [0.25, 1.5] / 100).mean(axis=-1)
    assert found.rate.mean() == pytest.approx(0.44, abs=5 * found.rate.std() / math.sqrt(4000))
    assert found.rate.std() < 0.97 * shares.std()
    assert found.variance.mean() == pytest.approx(found.rate.var(), rel=0.1)
    # Where each group came as often as it should, the rate is the share of weighted hits.
    even = design_rate(frame, [[40, 60], [40, 60]], [[9, 1], [8, 2]])
    assert float(even.rate) == pytest.approx(np.mean([(0.25 * 9 + 1.5) / 100, (0.25 * 8 + 3) / 100]))


def test_width_factor():
    assert float(width_factor(Frame.plain([0.5, 0.5]), [50, 50])) == pytest.approx(1.0)
    assert float(width_factor(Frame.plain([0.9, 0.1]), [50, 50])) == pytest.approx(math.sqrt(1.64))
    assert float(width_factor(Frame.plain([0.9, 0.1]), [50, 0])) == math.inf
    frame = Frame(np.array([0.1, 0.9]), np.array([0, 0]), np.array([0.4, 0.6]))
    assert float(width_factor(frame, [100])) == pytest.approx(math.sqrt(0.01 / 0.4 + 0.81 / 0.6))
    # A floor that takes the part f widens by 1 / sqrt(1 - f) at most.
    rng = generator(3, "tests.floor")
    for strata, size, floor in ((20, 400, 4), (60, 400, 4), (40, 300, 2)):
        weights = rng.dirichlet(np.full(strata, 0.5))
        n = allocate(weights, np.zeros(strata, np.int64), size, floor=floor, shares=weights)
        # Whole trials: a part of one is lost here and there.
        assert float(width_factor(Frame.plain(weights), n)) <= 1.02 / math.sqrt(1 - floor * strata / size)


def test_a_label_never_seen_is_bounded_where_the_design_looks_least():
    weights = np.array([0.9, 0.1])
    n = np.array([[[45, 5], [45, 5]]])
    even = design_interval(design_rate(Frame.plain(weights), n, n * 0), method="exact")
    assert float(even[0][0]) == 0
    assert float(even[1][0]) == pytest.approx(float(clopper_pearson_interval(0, 100)[1]))
    # The heavy stratum has 20 trials of 100: the bound is that of 20 / 0.9 trials, and for one that sees nothing in
    # truth 0.12 in the heavy stratum it must hold as often as it says.
    uneven = np.array([[[10, 40], [10, 40]]])
    _, high = design_interval(design_rate(Frame.plain(weights), uneven, n * 0), method="exact")
    assert float(high[0]) == pytest.approx(1 - 0.025 ** (1 / (20 / 0.9)), rel=1e-6)
    # Probability 0.87^20 = 0.062 to see nothing at 0.13, above 2.5 %: not excluded.
    assert float(high[0]) > 0.9 * 0.13
    # One hit elsewhere brings the bound no closer.
    hit = np.array([[[0, 1], [0, 0]]])
    assert float(design_interval(design_rate(Frame.plain(weights), uneven, hit), method="exact")[1][0]) >= float(
        high[0]
    )
    # All hits: the same from the other side.
    sure = design_interval(design_rate(Frame.plain(weights), uneven, uneven), method="exact")
    assert (float(sure[0][0]), float(sure[1][0])) == pytest.approx((1 - float(high[0]), 1.0))


def test_strata_without_a_trial_may_be_all_or_nothing():
    weights = np.array([0.6, 0.4])
    found = design_rate(Frame.plain(weights), np.array([[[50, 0], [50, 0]]]), np.array([[[5, 0], [5, 0]]]))
    assert float(found.unseen[0]) == pytest.approx(0.4)
    low, high = design_interval(found)
    seen = design_interval(design_rate(Frame.plain([1.0]), np.array([[[50], [50]]]), np.array([[[5], [5]]])))
    assert float(low[0]) == pytest.approx(0.6 * float(seen[0][0]))
    assert float(high[0]) == pytest.approx(0.6 * float(seen[1][0]) + 0.4)
    nothing = design_interval(design_rate(Frame.plain(weights), np.zeros((1, 2, 2)), np.zeros((1, 2, 2))))
    assert (float(nothing[0][0]), float(nothing[1][0])) == (0.0, 1.0)
    # A stratum that only one half has looked at stands for both.
    half = design_rate(Frame.plain(weights), np.array([[[50, 10], [50, 0]]]), np.array([[[5, 2], [5, 0]]]))
    assert float(half.rate[0]) == pytest.approx(0.6 * 0.1 + 0.4 * 0.2)


def weighted(rates, frame, n, campaigns, seed):
    """Importance sampling inside one stratum of three groups."""
    rng = generator(seed, "tests.importance")
    counts = rng.multinomial(n // 2, frame.chances, size=(campaigns, 2))
    return counts, rng.binomial(counts, rates)


def test_importance_sampling_agrees_with_plain_sampling_and_needs_fewer_trials():
    """Three bits of a hundred, drawn thirty times as often, bring a rare outcome with two fifths of the trials."""
    shares, rates = np.array([0.03, 0.27, 0.7]), np.array([0.4, 0.001, 0.0])
    truth = float(np.sum(shares * rates))
    boosted = shares * np.array([30.0, 1.0, 1.0])
    proposal = boosted / boosted.sum()
    stratum = np.zeros(3, np.int64)
    favoured, alike = Frame(shares, stratum, proposal), Frame(shares, stratum, shares)
    rare = weighted(rates, favoured, 1250, 2000, 6)
    plain = [counts.sum(axis=-1, keepdims=True) for counts in weighted(rates, alike, 3000, 2000, 7)]
    intervals = {}
    for name, frame, counted in (("rare", favoured, rare), ("plain", Frame.plain([1.0]), plain)):
        found = design_rate(frame, *counted)
        assert abs(found.rate.mean() - truth) <= 5 * found.rate.std() / math.sqrt(2000) + 0.01 * truth
        low, high = intervals[name] = design_interval(found)
        covered = ((low <= truth) & (truth <= high)).mean()
        assert abs(covered - NOMINAL) <= 0.02 + 5 * math.sqrt(NOMINAL * (1 - NOMINAL) / 2000), name
    # Two fifths of the trials, and no wider an interval.
    width = {name: float((high - low).mean()) for name, (low, high) in intervals.items()}
    assert width["rare"] <= width["plain"]
    # Each estimate lies in the other's interval about as often as two samples of that precision should.
    agree = (intervals["rare"][0] <= intervals["plain"][1]) & (intervals["plain"][0] <= intervals["rare"][1])
    assert agree.mean() > 0.98
    # The control: counting hits without their weights.
    low, high = wilson_interval(rare[1].sum(axis=(1, 2)), rare[0].sum(axis=(1, 2)))
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
        design_rate(Frame.plain([1.0]), [[3]], [[4]])
    with pytest.raises(BadInput, match="method"):
        design_interval(design_rate(Frame.plain([1.0]), [[3]], [[1]]), method="wald")
    with pytest.raises(BadInput, match="confidence"):
        design_interval(design_rate(Frame.plain([1.0]), [[3]], [[1]]), confidence=1.5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans())
def test_a_rate_is_one_exactly_when_every_trial_hit(seed, strata, weighted):
    rng = generator(seed, "tests.rates")
    weights = rng.random(strata) + 1e-3
    stratum = np.arange(strata) // (2 if weighted else 1)
    boosted = weights * (rng.random(strata) + 0.5 if weighted else 1.0)
    frame = Frame(weights, stratum, boosted / np.bincount(stratum, boosted)[stratum])
    n = rng.integers(1, 9, (2, strata))
    full = design_rate(frame, n, n)
    assert float(full.rate) == 1.0
    missed = n.copy()
    missed[0, 0] -= 1
    assert 0.0 < float(design_rate(frame, n, missed).rate) < 1.0
    assert 0.0 < float(design_rate(frame, n, n - missed).rate) < 1.0
    low, high = design_interval(full)
    assert 0.0 <= float(low) <= float(high) == 1.0
