"""Intervals for a proportion: published numbers, an independent tail sum, coverage by exact enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.errors import BadInput
from yieldkit.reliability import clopper_pearson_interval, difference_interval, difference_test, holm, wilson_interval
from yieldkit.rng import generator

# Two-sided 95 %, tables of Wilson and Clopper-Pearson; 0 of 300 has the closed forms z²/(n + z²) and 1 - 0.025^(1/n).
# Tolerance: half of the last printed digit.
GOLDEN = [
    (wilson_interval, 0, 300, 0.0, 0.0126430),
    (clopper_pearson_interval, 0, 300, 0.0, 0.0122210),
    (wilson_interval, 5, 100, 0.0215437, 0.1117505),
    (clopper_pearson_interval, 5, 100, 0.0164319, 0.1128349),
]


@pytest.mark.parametrize(("interval", "x", "n", "low", "high"), GOLDEN)
def test_published_numbers(interval, x, n, low, high):
    got = interval(x, n)
    assert float(got[0]) == pytest.approx(low, abs=5.1e-8)
    assert float(got[1]) == pytest.approx(high, abs=5.1e-8)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 60), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_inverts_the_binomial_tails(n, data, confidence):
    x = data.draw(st.integers(0, n))
    low, high = (float(end) for end in clopper_pearson_interval(x, n, confidence=confidence))

    def at_least(p: float, k: int) -> float:
        return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))

    tail = (1 - confidence) / 2
    if x > 0:
        assert at_least(low, x) == pytest.approx(tail, rel=1e-9)
    if x < n:
        assert 1.0 - at_least(high, x + 1) == pytest.approx(tail, rel=1e-7)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(0, 500), st.data())
def test_ends_hold_the_rate_and_mirror(n, data):
    x = data.draw(st.integers(0, n))
    for interval in (wilson_interval, clopper_pearson_interval):
        low, high = interval(x, n)
        assert 0.0 <= low <= (x / n if n else 0.0) <= high <= 1.0
        mirrored_low, mirrored_high = interval(n - x, n)
        assert float(mirrored_low) == pytest.approx(1 - float(high), abs=1e-12)
        assert float(mirrored_high) == pytest.approx(1 - float(low), abs=1e-12)


def _coverage(interval, n: int, p: float) -> float:
    x = np.arange(n + 1)
    low, high = interval(x, np.full(n + 1, n))
    weight = np.array([math.comb(n, int(i)) * p**i * (1 - p) ** (n - i) for i in x])
    return float(weight[(low <= p) & (p <= high)].sum())


def _wald(x, n):
    p = x / n
    half = 1.959963985 * np.sqrt(p * (1 - p) / n)
    return p - half, p + half


def test_exact_coverage_over_a_grid_and_the_textbook_interval_as_control():
    grid = np.linspace(0.02, 0.98, 97)
    exact = [_coverage(clopper_pearson_interval, 40, p) for p in grid]
    assert min(exact) >= 0.95
    assert np.mean([_coverage(wilson_interval, 40, p) for p in grid]) == pytest.approx(0.95, abs=0.01)
    # Negative control: the interval that everyone writes first does not pass either bar.
    wald = [_coverage(_wald, 40, p) for p in grid]
    assert min(wald) < 0.90
    assert np.mean(wald) < 0.94


def test_shapes_broadcast_and_no_trials_say_nothing():
    low, high = wilson_interval([[0], [1]], [0, 5, 10][1:])
    assert low.shape == high.shape == (2, 2)
    for interval in (wilson_interval, clopper_pearson_interval):
        assert [float(end) for end in interval(0, 0)] == [0.0, 1.0]


@pytest.mark.parametrize(("x", "n"), [(-1, 5), (6, 5), (0.5, 5), (0, float("inf")), (float("nan"), 5), ("a", 5)])
def test_wrong_counts_are_named(x, n):
    with pytest.raises(BadInput, match="successes"):
        wilson_interval(x, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_wrong_confidence_is_named(confidence):
    with pytest.raises(BadInput, match="confidence"):
        clopper_pearson_interval(1, 5, confidence=confidence)


# Two-sided 95 %, method 10 (hybrid score, no continuity correction) of Newcombe, Statistics in Medicine 17, 1998,
# table II, contrasts (a) to (h): 56/70 - 48/80 and so on. Tolerance: half of the last printed digit.
NEWCOMBE = [
    ((56, 70), (48, 80), 0.0524, 0.3339),
    ((9, 10), (3, 10), 0.1705, 0.8090),
    ((6, 7), (2, 7), 0.0582, 0.8062),
    ((5, 56), (0, 29), -0.0381, 0.1926),
    ((0, 10), (0, 20), -0.1611, 0.2775),
    ((0, 10), (0, 10), -0.2775, 0.2775),
    ((10, 10), (0, 20), 0.6791, 1.0000),
    ((10, 10), (0, 10), 0.6075, 1.0000),
]


def newcombe(first, second, confidence=0.95):
    (x, n), (y, m) = first, second
    a, b = wilson_interval(x, n, confidence=confidence), wilson_interval(y, m, confidence=confidence)
    return difference_interval((np.divide(x, n), np.divide(y, m)), (a[0], b[0]), (a[1], b[1]))


@pytest.mark.parametrize(("more", "less", "low", "high"), NEWCOMBE)
def test_newcombe_s_published_differences(more, less, low, high):
    # The paper subtracts the second from the first; here it is second minus first.
    got = newcombe(less, more)
    assert float(got[0]) == pytest.approx(low, abs=5.1e-5)
    assert float(got[1]) == pytest.approx(high, abs=5.1e-5)
    mirrored = newcombe(more, less)
    assert (float(mirrored[0]), float(mirrored[1])) == pytest.approx((-float(got[1]), -float(got[0])))


def chances(n, p):
    return np.array([math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)])


@pytest.mark.parametrize(("n", "m"), [(20, 20), (40, 25), (60, 60)])
def test_newcombe_s_interval_covers_by_exact_enumeration(n, m):
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(m + 1), indexing="ij"))
    low, high = newcombe((x, n), (y, m))
    coverage = [
        float((np.outer(chances(n, p), chances(m, q)).ravel() * ((low <= q - p) & (q - p <= high))).sum())
        for p in np.linspace(0.02, 0.98, 13)
        for q in np.linspace(0.02, 0.98, 13)
    ]
    # The paper's figures for this method: mean 0.9507, least 0.8673 over its own grid of sizes and rates.
    assert np.mean(coverage) == pytest.approx(0.953, abs=0.012)
    assert min(coverage) > 0.865
    # A control: half as wide covers far less.
    middle, half = (low + high) / 2, (high - low) / 4
    narrow = np.outer(chances(n, 0.5), chances(m, 0.5)).ravel() * (np.abs(middle) <= half)
    assert narrow.sum() < 0.8


def test_the_score_test_is_the_chi_square_test_of_the_table():
    from scipy.stats import chi2_contingency

    for (x, n), (y, m) in [((56, 70), (48, 80)), ((1, 100), (9, 90)), ((3, 10), (3, 10)), ((0, 50), (7, 40))]:
        expected = chi2_contingency([[x, n - x], [y, m - y]], correction=False).pvalue
        assert float(difference_test((x / n, y / m), (n, m))) == pytest.approx(expected, rel=1e-9)
    assert difference_test(([0.0, 1.0, 0.5], [0.0, 1.0, 0.1]), ([9, 9, 0], [5, 5, 5])).tolist() == [1.0, 1.0, 1.0]


def test_the_score_test_rejects_about_as_often_as_it_says():
    n, m = 80, 60
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(m + 1), indexing="ij"))
    p = difference_test((x / n, y / m), (n, m))
    for rate in (0.1, 0.3, 0.5):
        assert 0.03 < (np.outer(chances(n, rate), chances(m, rate)).ravel() * (p <= 0.05)).sum() < 0.06
    assert (np.outer(chances(n, 0.1), chances(m, 0.5)).ravel() * (p <= 0.05)).sum() > 0.99


def test_holm_adjusts_in_steps():
    # By hand: sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, never falling.
    assert holm([0.04, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_keeps_the_chance_of_any_false_alarm():
    rng = generator(11, "tests.holm")
    simulated, hypotheses, alpha = 4000, 6, 0.05
    p = rng.random((simulated, hypotheses))
    false = sum(bool((holm(row) <= alpha).any()) for row in p)
    # Exactly 1 - (1 - alpha/6)^6 of independent uniform families have their least value below alpha/6.
    chance = 1 - (1 - alpha / hypotheses) ** hypotheses
    assert abs(false - simulated * chance) <= 5 * math.sqrt(simulated * chance * (1 - chance))
    # A control: without the correction a quarter of the families raise an alarm.
    assert (p <= alpha).any(axis=1).mean() > 0.2
