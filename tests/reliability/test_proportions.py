"""Intervals for a proportion: published numbers, an independent tail sum, coverage by exact enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.errors import BadInput
from yieldkit.reliability import clopper_pearson_interval, wilson_interval

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
