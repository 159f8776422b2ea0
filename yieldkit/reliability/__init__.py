"""Lifetime laws, intervals, acceleration: arrays in, numbers out."""

from __future__ import annotations

from yieldkit.reliability.acceleration import (
    BOLTZMANN_EV_PER_K,
    arrhenius_factor,
    arrhenius_factor_k,
    voltage_exponential_factor,
    voltage_power_factor,
)
from yieldkit.reliability.lifetimes import LimitedFailurePopulation, weibull_hazard, weibull_survival
from yieldkit.reliability.proportions import (
    clopper_pearson_interval,
    difference_interval,
    difference_test,
    holm,
    wilson_interval,
)

__all__ = [
    "BOLTZMANN_EV_PER_K",
    "LimitedFailurePopulation",
    "arrhenius_factor",
    "arrhenius_factor_k",
    "clopper_pearson_interval",
    "difference_interval",
    "difference_test",
    "holm",
    "voltage_exponential_factor",
    "voltage_power_factor",
    "weibull_hazard",
    "weibull_survival",
    "wilson_interval",
]
