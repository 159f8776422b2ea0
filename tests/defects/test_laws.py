"""Closed-form yields against printed tables, count laws against their definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.defects import (
    LAWS,
    BoseEinstein,
    CountLaw,
    Murphy,
    NegativeBinomial,
    Poisson,
    Seeds,
    law_from_name,
)
from yieldkit.errors import BadInput

ALL: list[Callable[[float], CountLaw]] = [
    lambda d0: Poisson(d0_per_cm2=d0),
    lambda d0: NegativeBinomial(d0_per_cm2=d0, alpha=0.7),
    lambda d0: NegativeBinomial(d0_per_cm2=d0, alpha=12.0),
    lambda d0: Murphy(d0_per_cm2=d0),
    lambda d0: Seeds(d0_per_cm2=d0),
    lambda d0: BoseEinstein(d0_per_cm2=d0, layers=9),
]


@pytest.mark.parametrize(
    ("m", "poisson", "murphy", "seeds"),
    [
        # Berkeley IEOR 130, homework 4 (Leachman), four digits printed.
        (0.05, 0.9512, 0.9514, 0.9524),
        (0.25, 0.7788, 0.7829, 0.8000),
        (0.75, 0.4724, 0.4949, 0.5714),
        (1.5, 0.2231, 0.2682, 0.4000),
    ],
)
def test_printed_yields(m: float, poisson: float, murphy: float, seeds: float) -> None:
    for law, printed in ((Poisson, poisson), (Murphy, murphy), (Seeds, seeds)):
        assert law(d0_per_cm2=m).yield_(area_mm2=100.0) == pytest.approx(printed, abs=5e-5)


@pytest.mark.parametrize(
    ("area_cm2", "target", "poisson", "murphy"),
    # Same source, the inverse.
    [(0.25, 0.92, 0.3335, None), (0.5, 0.85, 0.3250, 0.3296), (1.0, 0.65, 0.4308, 0.4474)],
)
def test_printed_densities(area_cm2: float, target: float, poisson: float, murphy: float | None) -> None:
    found = Poisson.from_yield(target, area_mm2=100 * area_cm2)
    assert found.d0_per_cm2 == pytest.approx(poisson, abs=5.01e-5)
    if murphy is not None:
        found_m = Murphy.from_yield(target, area_mm2=100 * area_cm2)
        assert found_m.d0_per_cm2 == pytest.approx(murphy, abs=5.01e-5)


@pytest.mark.parametrize(
    ("alpha", "at_0_1", "at_1", "at_5"),
    # (1 + m/a)^-a, six digits, computed apart.
    [(0.5, 0.912871, 0.577350, 0.301511), (2.0, 0.907029, 0.444444, 0.081633), (10.0, 0.905287, 0.385543, 0.017342)],
)
def test_negative_binomial_yields(alpha: float, at_0_1: float, at_1: float, at_5: float) -> None:
    for m, printed in ((0.1, at_0_1), (1.0, at_1), (5.0, at_5)):
        assert NegativeBinomial(d0_per_cm2=m, alpha=alpha).yield_(area_mm2=100) == pytest.approx(printed, abs=5.01e-7)


def test_tsmc_n5() -> None:
    # AnandTech, December 2019: a 17.92 mm² die yields 80 % (Murphy) at 1.271 per cm²; a 100 mm² die then yields 32.0 %.
    law = Murphy(d0_per_cm2=1.271)
    assert law.yield_(area_mm2=17.92) == pytest.approx(0.80, abs=5e-3)
    assert law.yield_(area_mm2=100.0) == pytest.approx(0.320, abs=5.01e-4)
    assert Murphy.from_yield(0.80, area_mm2=17.92).d0_per_cm2 == pytest.approx(1.271, abs=3e-3)


def test_bose_einstein_is_seeds_on_each_layer() -> None:
    one = Seeds(d0_per_cm2=0.04).yield_(area_mm2=150)
    assert BoseEinstein(d0_per_cm2=0.04, layers=7).yield_(area_mm2=150) == pytest.approx(one**7, rel=1e-14)


@pytest.mark.parametrize("make", ALL)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(target=st.floats(1e-6, 1.0), area=st.floats(0.01, 5e4))
def test_density_and_yield_invert_each_other(make: Callable[[float], CountLaw], target: float, area: float) -> None:
    law = make(0.1)
    parameters = {k: v for k, v in law.describe().items() if k not in ("law", "d0_per_cm2")}
    found = type(law).from_yield(target, area_mm2=area, **parameters)
    assert found.yield_(area_mm2=area) == pytest.approx(target, rel=1e-9)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("m", [0.01, 1.0, 46.0])
def test_counts_add_up_and_zero_is_the_yield(make: Callable[[float], CountLaw], m: float) -> None:
    law = make(m)
    k = np.arange(20_000)
    p = law.pmf(k, area_mm2=100.0)
    assert p.sum() == pytest.approx(1.0, abs=1e-9)
    assert (p * k).sum() == pytest.approx(law.mean(area_mm2=100.0), rel=1e-6)
    assert p[0] == pytest.approx(law.yield_(area_mm2=100.0), rel=1e-9)


def test_murphy_counts_by_quadrature() -> None:
    # The law is a Poisson law whose rate is spread as a triangle on 0..2: integrate that numerically.
    t = (np.arange(400_000) + 0.5) / 200_000
    weight = np.where(t < 1, t, 2 - t) / 200_000
    law = Murphy(d0_per_cm2=3.0)
    for k, factorial in ((0, 1), (2, 2), (5, 120)):
        rate = 3.0 * t
        expected = float((weight * np.exp(-rate) * rate**k / factorial).sum())
        assert law.pmf(k, area_mm2=100.0) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("make", ALL)
def test_no_density_and_no_area(make: Callable[[float], CountLaw]) -> None:
    assert make(0.0).yield_(area_mm2=50) == 1.0
    assert make(0.3).yield_(area_mm2=0.0) == 1.0
    assert make(0.0).pmf([0, 1], area_mm2=50).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("make", ALL)
def test_name_and_parameters_there_and_back(make: Callable[[float], CountLaw]) -> None:
    law = make(0.2)
    described = law.describe()
    assert law_from_name(described.pop("law"), **described) == law
    assert law.name in LAWS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Poisson(d0_per_cm2=-0.1), "d0_per_cm2 must be a finite number at least 0, got -0.1"),
        (lambda: Poisson(d0_per_cm2=float("nan")), "d0_per_cm2"),
        (lambda: Poisson(d0_per_cm2="x"), "d0_per_cm2"),  # type: ignore[arg-type]
        (lambda: NegativeBinomial(d0_per_cm2=0.1, alpha=0.0), "alpha must be a finite number above 0"),
        (lambda: BoseEinstein(d0_per_cm2=0.1, layers=0), "layers must be"),
        (lambda: BoseEinstein(d0_per_cm2=0.1, layers="x"), "layers must be"),  # type: ignore[arg-type]
        (lambda: Poisson(d0_per_cm2=0.1).yield_(area_mm2=-1.0), "area_mm2"),
        (lambda: Poisson.from_yield(0.0, area_mm2=1.0), "yield must be a finite number above 0 and at most 1"),
        (lambda: Poisson.from_yield(1.1, area_mm2=1.0), "yield"),
        (lambda: Poisson.from_yield(0.5, area_mm2=0.0), "area_mm2"),
        (lambda: Poisson(d0_per_cm2=0.1).pmf(-1, area_mm2=1.0), "k must be non-negative"),
        (lambda: Poisson(d0_per_cm2=0.1).pmf(1.5, area_mm2=1.0), "k must be non-negative"),
        (lambda: law_from_name("zipf", d0_per_cm2=0.1), "there are: poisson"),
        (lambda: law_from_name("nb", d0_per_cm2=0.1), "needs alpha"),
        (lambda: law_from_name("poisson", d0_per_cm2=0.1, alpha=1.0), "takes no alpha"),
    ],
)
def test_wrong_numbers_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()
