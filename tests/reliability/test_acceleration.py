"""Acceleration factors: golden numbers, how they compose, what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import yieldkit as yk
from yieldkit.errors import BadInput
from yieldkit.reliability import arrhenius_factor_k, voltage_exponential_factor, voltage_power_factor

TEMPERATURES = st.floats(-40, 300)
ENERGIES = st.floats(-0.3, 1.5)


@pytest.mark.parametrize(
    ("use_c", "stress_c", "ea_ev", "factor"),
    # Computed by hand from k = 8.617333262e-5 eV/K and 273.15 K; to the last digit printed.
    [(55, 125, 0.7, 77.6454), (85, 125, 0.7, 9.76328), (25, 125, 0.5, 132.66)],
)
def test_golden_arrhenius_factors(use_c, stress_c, ea_ev, factor):
    digits = len(f"{factor}".replace(".", ""))
    found = float(yk.reliability.arrhenius_factor(use_c=use_c, stress_c=stress_c, ea_ev=ea_ev))
    assert float(f"{found:.{digits}g}") == factor


@given(TEMPERATURES, TEMPERATURES, TEMPERATURES, ENERGIES)
def test_factors_over_a_stop_multiply_and_the_way_back_undoes_them(a, b, c, ea):
    def factor(use, stress):
        return float(yk.reliability.arrhenius_factor(use_c=use, stress_c=stress, ea_ev=ea))

    assert factor(a, b) * factor(b, c) == pytest.approx(factor(a, c), rel=1e-9)
    assert factor(a, b) * factor(b, a) == pytest.approx(1, rel=1e-9)
    assert factor(a, a) == 1


@given(st.floats(0.4, 1.2), st.floats(0.4, 1.2), st.floats(-20, 20))
def test_voltage_factors(use, stress, exponent):
    exponential = float(voltage_exponential_factor(use_v=use, stress_v=stress, per_volt=exponent))
    assert math.log(exponential) == pytest.approx(exponent * (stress - use), abs=1e-12)
    power = float(voltage_power_factor(use_v=use, stress_v=stress, exponent=exponent))
    assert math.log(power) == pytest.approx(exponent * math.log(stress / use), abs=1e-9)


def test_arrays_broadcast():
    maps = arrhenius_factor_k(use_k=328.15, stress_k=np.full((3, 4), 398.15), ea_ev=0.7)
    assert maps.shape == (3, 4)
    assert maps == pytest.approx(77.6454, abs=5e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_c": -300}, "absolute zero"),
        ({"stress_c": float("nan")}, "stress_c must be finite"),
        ({"ea_ev": "much"}, "ea_ev must be numbers"),
    ],
)
def test_what_cannot_be_is_refused(change, said):
    with pytest.raises(BadInput, match=said):
        yk.reliability.arrhenius_factor(**{"use_c": 55, "stress_c": 125, "ea_ev": 0.7, **change})
    with pytest.raises(BadInput, match="positive"):
        voltage_power_factor(use_v=0, stress_v=1, exponent=2)
