"""Weibull lives and limited failure populations: the laws that weak parts need.

Weibull (shape b, scale eta in hours):  S(t) = exp(-(t/eta)^b),  h(t) = (b/eta) (t/eta)^(b-1).

Limited failure population (Meeker, "Limited failure population life tests", Technometrics 29, 1987): a fraction p of
the parts is defective and fails by a Weibull law, the rest never does,  F(t) = p (1 - exp(-(t/eta)^b)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yieldkit.errors import BadInput
from yieldkit.rng import Seed, generator

__all__ = ["LimitedFailurePopulation", "weibull_hazard", "weibull_survival"]

Floats = NDArray[np.float64]


def weibull_survival(hours: ArrayLike, *, shape: float, scale_hours: float) -> Floats:
    """Chance to live longer than `hours`, array[...].

    Args:
        hours: ages, array[...], not negative; infinity gives 0.
        shape: below 1 the hazard falls with age (infant mortality), above 1 it rises (wear-out).
        scale_hours: age that 1/e of the parts outlive.

    Raises:
        BadInput: an age is negative or not a number, or shape or scale is not positive and finite.
    """
    return np.exp(-_scaled(hours, shape, scale_hours))


def weibull_hazard(hours: ArrayLike, *, shape: float, scale_hours: float) -> Floats:
    """Failures an hour among those that live, array[...]; infinite at age 0 for a shape below 1.

    Args and errors as in `weibull_survival`; infinite ages are refused.
    """
    t = _ages(hours)
    _positive(shape=shape, scale_hours=scale_hours)
    if np.isinf(t).any():
        raise BadInput("hours must be finite for a hazard", value=hours)
    with np.errstate(divide="ignore"):
        return np.asarray(shape / scale_hours * (t / scale_hours) ** (shape - 1.0))


@dataclass(frozen=True)
class LimitedFailurePopulation:
    """A defective fraction with Weibull lives; all other parts never fail this way.

    Attributes:
        fraction: p, 0 to 1.
        shape: Weibull shape of the defective ones.
        scale_hours: their Weibull scale, hours.
    """

    fraction: float
    shape: float
    scale_hours: float

    def __post_init__(self) -> None:
        _positive(shape=self.shape, scale_hours=self.scale_hours)
        if not 0.0 <= self.fraction <= 1.0:
            raise BadInput("fraction must lie between 0 and 1", value=self.fraction)

    def cdf(self, hours: ArrayLike) -> Floats:
        """Chance that a part has failed by `hours`, array[...]: at most the fraction."""
        return np.asarray(-self.fraction * np.expm1(-_scaled(hours, self.shape, self.scale_hours)))

    def survival(self, hours: ArrayLike) -> Floats:
        """Chance that a part lives longer than `hours`, array[...]."""
        return np.asarray(1.0 - self.cdf(hours))

    def hazard(self, hours: ArrayLike) -> Floats:
        """Failures an hour among the parts that live, defective or not, array[...]."""
        return np.asarray(weibull_hazard(hours, shape=self.shape, scale_hours=self.scale_hours) * self.remaining(hours))

    def remaining(self, hours: ArrayLike) -> Floats:
        """Share of the parts that have lived to `hours` and are defective all the same: what a burn-in lets through."""
        lived = _scaled(hours, self.shape, self.scale_hours)
        if self.fraction in (0.0, 1.0):
            return np.full_like(lived, self.fraction)
        # Written with exp(+x), infinite in the end, so that a dead population does not give 0/0.
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + (1.0 - self.fraction) / self.fraction * np.exp(lived)))

    def sample(self, n: int, *, rng: Seed) -> Floats:
        """Failure ages of n parts, hours, float64[n]; infinite for those that never fail."""
        draws = generator(rng, "reliability.limited-failure-population")
        defective = draws.random(n) < self.fraction
        return np.where(defective, self.scale_hours * draws.weibull(self.shape, n), np.inf)


def _scaled(hours: ArrayLike, shape: float, scale_hours: float) -> Floats:
    t = _ages(hours)
    _positive(shape=shape, scale_hours=scale_hours)
    return np.asarray((t / scale_hours) ** shape)


def _ages(hours: ArrayLike) -> Floats:
    try:
        t = np.asarray(hours, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput("hours must be numbers", value=hours) from error
    if not (t >= 0).all():
        raise BadInput("hours must not be negative", value=hours)
    return t


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (0 < value < np.inf):
            raise BadInput(f"{name} must be positive and finite", value=value)
