"""Environments, thresholds and the law of the rate: formulas, limits, round trips."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yieldkit.errors import BadInput
from yieldkit.faults import Ageing, Condition, Environment, RateLaw

HERE = {"temperature_k": 328.15, "voltage_v": 0.8, "activity": 1.0, "age_hours": 1000.0}


def test_an_environment_is_one_number_or_one_a_site():
    grid = np.array([[300.0, 310.0], [320.0, 330.0]])
    where = Environment(grid, 0.7, 12.0)
    grid[1, 0] = 0
    assert (where.temperature_at(1, 0), where.voltage_at(1, 0)) == (320.0, 0.7)
    assert Environment().temperature_at(900, 900) == 328.15
    with pytest.raises(BadInput, match="no value for the site"):
        where.temperature_at(2, 0)
    again = Environment.from_dict(where.to_dict())
    assert again == where
    assert again != Environment(grid + 1, 0.7, 12.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature_k": 0.0},
        {"temperature_k": np.zeros((2, 2))},
        {"temperature_k": np.ones(3)},
        {"voltage_v": "low"},
        {"voltage_v": math.nan},
        {"age_hours": -1.0},
        {"surprise": 1},
    ],
)
def test_a_wrong_environment_is_refused(wrong):
    with pytest.raises(BadInput):
        Environment.from_dict(wrong)


@pytest.mark.parametrize(
    ("name", "value", "meets", "misses"),
    [
        ("above_k", 350.0, {"temperature_k": 350.0}, {"temperature_k": 349.9}),
        ("below_k", 350.0, {"temperature_k": 350.0}, {"temperature_k": 350.1}),
        ("above_v", 0.75, {"voltage_v": 0.75}, {"voltage_v": 0.74}),
        ("below_v", 0.75, {"voltage_v": 0.75}, {"voltage_v": 0.76}),
        ("above_activity", 0.5, {"activity": 0.5}, {"activity": 0.49}),
        ("after_hours", 2000.0, {"age_hours": 2000.0}, {"age_hours": 1999.0}),
    ],
)
def test_every_threshold_has_two_sides(name, value, meets, misses):
    condition = Condition(**{name: value})
    assert condition.met(**{**HERE, **meets})
    assert not condition.met(**{**HERE, **misses})
    assert Condition.from_dict(condition.to_dict()) == condition
    # All thresholds must be met, not one of them.
    assert not Condition(**{name: value}, **({"above_k": 1e4} if name != "above_k" else {"below_k": 1.0})).met(
        **{**HERE, **meets}
    )


def test_the_rate_is_the_product_of_its_factors():
    law = RateLaw(1e-3, activation_ev=0.7, per_volt=-10.0, activity_power=2.0, age_shape=0.496)
    assert law.rate(**HERE) == pytest.approx(1e-3)
    # 77.6454: 55 to 125 °C at 0.7 eV.
    assert law.rate(**{**HERE, "temperature_k": 398.15}) == pytest.approx(1e-3 * 77.6454, rel=1e-6)
    assert law.rate(**{**HERE, "voltage_v": 0.7}) == pytest.approx(1e-3 * math.e)
    assert law.rate(**{**HERE, "activity": 0.5}) == pytest.approx(0.25e-3)
    assert law.rate(**{**HERE, "age_hours": 1.0}) == pytest.approx(1e-3 * 1000**0.504)
    assert law.rate(**{**HERE, "age_hours": 0.0}) == law.rate(**{**HERE, "age_hours": 1.0})
    assert RateLaw.from_dict(law.to_dict()) == law


@given(st.floats(0, 50))
def test_the_chance_is_that_of_at_least_one_poisson_strike(rate):
    assert RateLaw(rate).probability(**HERE) == pytest.approx(1 - math.exp(-rate), abs=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [{"per_occasion": -1}, {"age_shape": 0}, {"reference_k": 0}, {"per_volt": math.inf}, {"activation_ev": True}],
)
def test_a_wrong_law_is_refused(wrong):
    with pytest.raises(BadInput):
        RateLaw(**{"per_occasion": 1e-3, **wrong})


def test_ageing_is_the_acceleration_of_temperature_and_voltage():
    ageing = Ageing(0.7, 5.0)
    assert ageing.factor(temperature_k=328.15, voltage_v=0.8) == 1
    assert ageing.factor(temperature_k=398.15, voltage_v=0.9) == pytest.approx(77.6454 * math.exp(0.5), rel=1e-6)
    assert Ageing.from_dict(ageing.to_dict()) == ageing
    with pytest.raises(BadInput, match="unknown fields"):
        Ageing.from_dict({"heat": 1})
