"""Weibull and limited failure populations: against independent forms, each other, and draws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from yieldkit.errors import BadInput
from yieldkit.reliability import LimitedFailurePopulation, weibull_hazard, weibull_survival

# IC data of Meeker (Technometrics 29, 1987): defective fraction .0067, shape .496.
MEEKER = LimitedFailurePopulation(0.0067, 0.496, 30.0)


@given(st.floats(0, 1e5), st.floats(0.2, 5), st.floats(1, 1e5))
def test_survival_is_that_of_scipy(hours, shape, scale):
    expected = stats.weibull_min.sf(hours, shape, scale=scale)
    assert float(weibull_survival(hours, shape=shape, scale_hours=scale)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [0.496, 1.0, 2.5])
def test_survival_is_the_exponential_of_the_integrated_hazard(shape):
    for start, end in ((1.0, 10.0), (10.0, 400.0)):
        area, _ = integrate.quad(lambda t: float(weibull_hazard(t, shape=shape, scale_hours=100)), start, end)
        ratio = weibull_survival([start, end], shape=shape, scale_hours=100)
        assert math.exp(-area) == pytest.approx(ratio[1] / ratio[0], rel=1e-7)


@pytest.mark.parametrize("fraction", [0.0, 0.0067, 0.4, 1.0])
def test_the_population_is_a_mixture(fraction):
    population = LimitedFailurePopulation(fraction, 0.496, 30.0)
    hours = np.array([0.0, 1.0, 30.0, 1e3, 1e9])
    alive = weibull_survival(hours, shape=0.496, scale_hours=30.0)
    assert population.survival(hours) == pytest.approx(1 - fraction + fraction * alive, abs=1e-15)
    assert population.cdf(hours)[0] == 0
    assert population.cdf(hours)[-1] == pytest.approx(fraction)
    mixed = (1 - fraction) + fraction * alive[:-1]
    assert population.remaining(hours[:-1]) == pytest.approx(fraction * alive[:-1] / mixed, abs=1e-15)
    assert population.remaining(np.inf) == (1.0 if fraction == 1 else 0.0)
    slope = (population.cdf(30.0 + 1e-4) - population.cdf(30.0 - 1e-4)) / 2e-4
    assert float(population.hazard(30.0)) == pytest.approx(float(slope / population.survival(30.0)), rel=1e-6)


def test_draws_have_the_fraction_and_the_shape():
    n = 400_000
    ages = MEEKER.sample(n, rng=11)
    failed = ages[np.isfinite(ages)]
    expected = n * MEEKER.fraction
    spread = 5 * math.sqrt(expected * (1 - MEEKER.fraction))
    assert abs(len(failed) - expected) <= spread
    assert abs(len(failed) - n * 0.0080) > spread  # a fraction that is a fifth off would show

    def distance(shape):
        return stats.kstest(failed, "weibull_min", (shape, 0, 30.0)).pvalue

    assert distance(0.496) > 1e-3
    assert distance(0.62) < 1e-6  # negative control: a quarter more shape
    assert (MEEKER.sample(n, rng=11) == ages).all()


def test_what_cannot_be_is_refused():
    for change in ({"fraction": 1.2}, {"shape": 0}, {"scale_hours": math.inf}, {"fraction": math.nan}):
        with pytest.raises(BadInput):
            LimitedFailurePopulation(**{"fraction": 0.1, "shape": 1.0, "scale_hours": 1.0, **change})
    with pytest.raises(BadInput, match="negative"):
        weibull_survival(-1, shape=1, scale_hours=1)
    with pytest.raises(BadInput, match="finite"):
        weibull_hazard(math.inf, shape=1, scale_hours=1)
