"""Importance sampling of losses: against exact tails and plain draws, with wrong weights as negative controls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.repair.wafers import AtMost, FixedDead, grid_wafer
from yieldkit.defects import NegativeBinomial, Poisson
from yieldkit.errors import BadInput
from yieldkit.reliability.proportions import clopper_pearson_interval
from yieldkit.repair import RowShift, rare_loss, repair_yield
from yieldkit.repair.drawn import CountTable
from yieldkit.repair.rare import Pilot, towards_losses, weighed, weighted_interval
from yieldkit.wafer import WaferSpec

WAFER = grid_wafer(400, 400)
LAW = NegativeBinomial(d0_per_cm2=0.02, alpha=2.0)


def tail(law, most, wafer=WAFER):
    """Chance of more than `most` defects."""
    table = CountTable(law, wafer.silicon_mm2)
    return float(table.pmf[most + 1 :].sum())


def off(estimate, truth, confidence=0.95):
    """How far an estimate is off, in the standard errors that its interval claims."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    error = (estimate.high - estimate.value if truth > estimate.value else estimate.value - estimate.low) / z
    return abs(estimate.value - truth) / error


@pytest.mark.parametrize("most", [35, 60])
def test_small_losses_are_those_of_the_exact_tail(most):
    got = rare_loss(WAFER, LAW, AtMost(most), n=1500, rng=3)
    exact = tail(LAW, most)
    assert exact < (1e-2 if most == 35 else 2e-5)
    assert off(got, exact) < 5
    assert not got.warning
    assert got.plain_n > 10 * got.n
    assert got.weight_sum == pytest.approx(1.0, abs=0.2)
    # Negative controls: another clustering, and no weights at all.
    assert off(got, tail(NegativeBinomial(d0_per_cm2=0.02, alpha=6.0), most)) > 5
    assert off(got, got.losses / got.n) > 5


def test_a_law_of_a_higher_density_or_stronger_clusters_serves_as_proposal():
    exact = tail(LAW, 45)
    for proposal in (NegativeBinomial(d0_per_cm2=0.07, alpha=2.0), NegativeBinomial(d0_per_cm2=0.02, alpha=0.2)):
        got = rare_loss(WAFER, LAW, AtMost(45), n=1500, rng=4, proposal=proposal)
        assert off(got, exact) < 5
        assert got.losses > 30
    # Its own law as proposal is the plain draw.
    own = rare_loss(WAFER, LAW, AtMost(14), n=1000, rng=4, proposal=LAW)
    assert own.value == own.losses / own.n
    assert own.effective_losses == pytest.approx(own.losses)


def test_weighed_and_plain_agree_under_row_shift():
    """On a case where both are possible: the difference of two estimates is within five standard errors of 0."""
    wafer = grid_wafer(60, 62, spares=2)
    law = NegativeBinomial(d0_per_cm2=0.05, alpha=2.0)
    rules = RowShift.for_wafer(wafer)
    n = 1500
    plain = repair_yield(wafer, law, rules, n=n, rng=5)
    got = rare_loss(wafer, law, rules, n=n, rng=5)
    assert 0.01 < plain.loss < 0.4
    error = math.hypot((got.high - got.low) / 3.92, (plain.loss_high - plain.loss_low) / 3.92)
    assert abs(got.value - plain.loss) < 5 * error
    # Negative control: the loss at half as many defects again is told apart.
    other = rare_loss(wafer, NegativeBinomial(d0_per_cm2=0.1, alpha=2.0), rules, n=n, rng=5)
    assert abs(other.value - plain.loss) > 5 * error


BIG = NegativeBinomial(d0_per_cm2=0.1, alpha=2.0)
SILICON_MM2 = 46_225.0


def lost_share(name, k):
    """Chance to be lost with k defects: single defects, pairs, a run of four, mixtures, a sharp limit."""
    return {
        "single": 1 - np.exp(-3e-5 * k),
        "pairs": 1 - np.exp(-((k / 1500.0) ** 2)),
        "fours": 1 - np.exp(-((k / 400.0) ** 4)),
        "mixed": 1 - np.exp(-5e-6 * k - (k / 300.0) ** 8),
        "limit": (k > 300).astype(float),
        "soft limit": 1 / (1 + np.exp(-(k - 350) / 25.0)),
    }[name]


def simulated(name, n, runs, seed, wrong=None):
    """(share of intervals that hold the truth, share missed above, mean estimate over truth, gain) of whole runs."""
    rng = np.random.default_rng(seed)
    p = CountTable(BIG, SILICON_MM2).pmf
    chance = lost_share(name, np.arange(len(p)))
    truth = (p * chance).sum()
    top = int(np.searchsorted(np.cumsum(p), 1 - 1e-9))
    # Negative control: weights of a law of other clusters.
    weigh = p if wrong is None else CountTable(wrong, SILICON_MM2).padded(len(p))[: len(p)]
    held = above = 0
    values = []
    for _ in range(runs):
        pilot = Pilot(np.minimum(np.searchsorted(chance, rng.random(200), side="right") - 1, top), top)
        q = towards_losses(p, pilot)
        numbers = np.minimum(np.searchsorted(np.cumsum(q), rng.random(n), side="right"), len(p) - 1)
        lost = (rng.random(n) < chance[numbers]).astype(np.int64)
        got = weighed(numbers, lost, weigh, q, pilot, 0.95)
        held += got.low <= truth <= got.high
        above += truth > got.high
        values.append(got.value)
    gain = truth * (1 - truth) / n / np.var(values)
    return held / runs, above / runs, np.mean(values) / truth, gain


def covers(name, n, runs):
    held, above, ratio, gain = simulated(name, n, runs, 8)
    # A true coverage of 0.95 falls below this once in a million times; what matters most is never to be too hopeful.
    assert held > 0.95 - 5 * math.sqrt(0.95 * 0.05 / runs)
    assert above < 0.025 + 5 * math.sqrt(0.025 / runs)
    assert ratio == pytest.approx(1.0, abs=0.15)
    # It never costs much more than a plain draw.
    assert gain > 0.8


@pytest.mark.parametrize("name", ["single", "pairs", "fours", "mixed", "limit", "soft limit"])
def test_the_interval_covers_and_the_estimate_is_unbiased(name):
    covers(name, 2000, 200)


@pytest.mark.long
@pytest.mark.parametrize("n", [500, 2000, 8000])
@pytest.mark.parametrize("name", ["single", "pairs", "fours", "mixed", "limit", "soft limit"])
def test_the_interval_covers_at_length(name, n):
    covers(name, n, 2000)


def test_wrong_weights_are_found_out():
    held, _, ratio, _ = simulated("limit", 2000, 60, 9, wrong=NegativeBinomial(d0_per_cm2=0.1, alpha=1.0))
    assert held < 0.1
    assert not 0.5 < ratio < 2


def test_equal_weights_give_the_exact_interval_of_a_poisson_count():
    for hits in (0, 1, 5, 40):
        n = 10**6
        low, high = weighted_interval(np.full(hits, 1 / n), 1 / n)
        exact = clopper_pearson_interval(hits, n)
        assert (low, high) == pytest.approx((float(exact[0]), float(exact[1])), rel=1e-4)


def test_few_losses_are_warned_of():
    got = rare_loss(WAFER, Poisson(d0_per_cm2=0.001), AtMost(10_000), n=50, rng=1)
    assert (got.value, got.low, got.losses) == (0.0, 0.0, 0)
    assert got.high > 0
    assert "effective losses" in got.warning
    assert "effective losses" in got._repr_html_()


def test_wafers_that_are_lost_without_a_defect_or_never():
    always = rare_loss(WAFER, LAW, AtMost(-1), n=300, rng=1)
    assert always.losses == 300
    assert always.low < 1 <= always.high
    nothing = rare_loss(WAFER, Poisson(d0_per_cm2=0.0), AtMost(3), n=20, rng=1)
    assert (nothing.value, nothing.losses) == (0.0, 0)
    mini = WaferSpec.preset("mini")
    assert rare_loss(mini, LAW, RowShift(0, 2, 1, mini.logical_shape, 1), n=20, rng=1).losses == 20


def test_jobs_change_nothing():
    one, two = (rare_loss(WAFER, LAW, AtMost(40), n=400, rng=2, jobs=jobs) for jobs in (1, 2))
    assert one == two


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(BadInput, match="chance of every number"):
        rare_loss(WAFER, FixedDead(3), AtMost(2))
    with pytest.raises(BadInput, match="n must be"):
        rare_loss(WAFER, LAW, AtMost(2), n=0)
    with pytest.raises(BadInput, match="by number"):
        rare_loss(WAFER, LAW, AtMost(2), rng=np.random.default_rng(1))
    with pytest.raises(BadInput, match="not be negative"):
        weighted_interval([-1.0], 1.0)
