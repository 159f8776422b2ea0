"""Laws of the number of defects: density, closed-form yield, count distribution, sampling.

With m = density x area, the yield is the chance of no defect:

=================  ==================  =========================================================
law                yield               rate of one wafer, relative to its mean
=================  ==================  =========================================================
Poisson            e^-m                1
NegativeBinomial   (1 + m/a)^-a        gamma of shape a, mean 1
Murphy             ((1 - e^-m)/m)^2    triangle on 0..2 (sum of two uniforms)
Seeds              1 / (1 + m)         exponential
BoseEinstein       (1 + m)^-N          gamma of shape N, mean 1; m is that of one of N layers
=================  ==================  =========================================================

Each law is a Poisson law whose rate is itself random and shared by the whole wafer, so that the closed form holds for a
die of any area cut from it. Names follow the formulas; "Seeds" is used in print for others as well.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.quantities import CM2_PER_MM2
from yieldkit.rng import Seed, generator

if TYPE_CHECKING:
    from yieldkit.defects.defects import DefectBatch, Defects
    from yieldkit.wafer import WaferSpec

__all__ = ["LAWS", "BoseEinstein", "CountLaw", "Murphy", "NegativeBinomial", "Poisson", "Seeds", "law_from_name"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CountLaw(ABC):
    """A law of the number of defects at a density of `d0_per_cm2` per cm² of surface."""

    name: ClassVar[str]
    d0_per_cm2: float

    def __post_init__(self) -> None:
        _number("d0_per_cm2", self.d0_per_cm2, low=0.0, low_ok=True)

    def mean(self, *, area_mm2: float) -> float:
        """Expected number of defects on an area, all layers together."""
        return self._m(area_mm2) * self.n_layers

    @property
    def n_layers(self) -> int:
        """Critical layers that carry the density each; 1 but for `BoseEinstein`."""
        return 1

    def yield_(self, *, area_mm2: float) -> float:
        """Chance that an area has no defect, 0..1.

        Raises:
            BadInput: the area is negative or not finite.
        """
        return self._yield(self._m(area_mm2))

    @classmethod
    def from_yield(cls, yield_: float, *, area_mm2: float, **parameters: Any) -> Self:
        """The law of this kind that gives a yield on an area; `parameters` are those beside the density.

        Raises:
            BadInput: the yield is not in 0..1 (0 excluded), or the area is not positive.
        """
        _number("yield", yield_, low=0.0, high=1.0)
        _number("area_mm2", area_mm2, low=0.0)
        shape = cls(d0_per_cm2=0.0, **parameters)
        m = shape._m_at(float(yield_))
        return cls(d0_per_cm2=m / (area_mm2 * CM2_PER_MM2), **parameters)

    def pmf(self, k: npt.ArrayLike, *, area_mm2: float) -> Floats:
        """Chance of exactly k defects on an area, for each k: float[...], shape of `k`."""
        counts = np.asarray(k)
        if counts.dtype.kind not in "iu" or (counts < 0).any():
            raise BadInput("k must be non-negative integers", value=k)
        m = self._m(area_mm2)
        if m == 0:
            return np.asarray(counts == 0, dtype=np.float64)
        return self._pmf(counts.astype(np.float64), m)

    def sample(self, wafer: WaferSpec, *, rng: Seed) -> Defects:
        """Draw the defects of one wafer: their number by this law, their places uniform over its silicon.

        Sizes follow the wafer's process. The same seed gives the same defects on every machine.
        """
        from yieldkit.defects.sampling import draw_wafers

        return draw_wafers(self, wafer, 1, generator(rng, "defects.sample")).wafer(0)

    def sample_wafers(self, wafer: WaferSpec, n: int, *, rng: Seed, first: int = 0) -> DefectBatch:
        """Draw wafers `first` to `first + n - 1` at once.

        Wafer k is the same whatever `first` and `n` are when `rng` is a seed, so a single one can be drawn again.
        """
        from yieldkit.defects.sampling import sample_many

        return sample_many(self, wafer, n, rng, first)

    def iter_wafers(self, wafer: WaferSpec, n: int, *, rng: Seed, first: int = 0) -> Iterator[Defects]:
        """The wafers of `sample_wafers` one by one, a block in memory at a time."""
        from yieldkit.defects.sampling import iter_blocks

        for block in iter_blocks(self, wafer, n, rng, first):
            yield from block

    def describe(self) -> dict[str, Any]:
        """Name and parameters, as plain values that `law_from_name` takes back."""
        return {"law": self.name, **{f.name: getattr(self, f.name) for f in fields(self)}}

    def _m(self, area_mm2: float) -> float:
        _number("area_mm2", area_mm2, low=0.0, low_ok=True)
        return self.d0_per_cm2 * area_mm2 * CM2_PER_MM2

    @abstractmethod
    def rates(self, rng: np.random.Generator, n: int) -> Floats:
        """Relative rates of n wafers, mean 1."""

    @abstractmethod
    def _yield(self, m: float) -> float: ...

    @abstractmethod
    def _m_at(self, yield_: float) -> float: ...

    @abstractmethod
    def _pmf(self, k: Floats, m: float) -> Floats: ...


@dataclass(frozen=True, kw_only=True)
class Poisson(CountLaw):
    """Defects independent of each other: yield e^-m."""

    name: ClassVar[str] = "poisson"

    def rates(self, rng: np.random.Generator, n: int) -> Floats:
        """All 1."""
        return np.ones(n)

    def _yield(self, m: float) -> float:
        return math.exp(-m)

    def _m_at(self, yield_: float) -> float:
        return -math.log(yield_)

    def _pmf(self, k: Floats, m: float) -> Floats:
        from scipy.special import gammaln

        return np.asarray(np.exp(k * math.log(m) - m - gammaln(k + 1)))


@dataclass(frozen=True, kw_only=True)
class NegativeBinomial(CountLaw):
    """Clustered defects: yield (1 + m/alpha)^-alpha; a small alpha clusters strongly, a large one is Poisson."""

    name: ClassVar[str] = "negative-binomial"
    alpha: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _number("alpha", self.alpha, low=0.0)

    def rates(self, rng: np.random.Generator, n: int) -> Floats:
        """Gamma of shape alpha and mean 1."""
        return rng.gamma(self.alpha, 1.0 / self.alpha, n)

    def _yield(self, m: float) -> float:
        return math.exp(-self.alpha * math.log1p(m / self.alpha))

    def _m_at(self, yield_: float) -> float:
        return self.alpha * math.expm1(-math.log(yield_) / self.alpha)

    def _pmf(self, k: Floats, m: float) -> Floats:
        return _gamma_mixed_pmf(k, m, self.alpha)


@dataclass(frozen=True, kw_only=True)
class Murphy(CountLaw):
    """Density spread as a triangle: yield ((1 - e^-m)/m)^2 (Murphy 1964)."""

    name: ClassVar[str] = "murphy"

    def rates(self, rng: np.random.Generator, n: int) -> Floats:
        """Triangle on 0..2."""
        return np.asarray(rng.random((n, 2)).sum(axis=1))

    def _yield(self, m: float) -> float:
        return (-math.expm1(-m) / m) ** 2 if m > 0 else 1.0

    def _m_at(self, yield_: float) -> float:
        # The root of the yield falls from 1 to 0 and below 1/m; bisect between 0 and 1/sqrt(yield).
        low, high = 0.0, 1.0 / math.sqrt(yield_) + 1.0
        for _ in range(200):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self._yield(middle) > yield_ else (low, middle)
        return 0.5 * (low + high)

    def _pmf(self, k: Floats, m: float) -> Floats:
        # Integral of the Poisson law over the triangle t on 0..1 and 2 - t on 1..2, in incomplete gamma functions.
        from scipy.special import gammainc

        flat = [gammainc(k + 1, m * t) / m for t in (1.0, 2.0)]
        ramp = [(k + 1) / m**2 * gammainc(k + 2, m * t) for t in (1.0, 2.0)]
        return np.asarray(ramp[0] + 2 * (flat[1] - flat[0]) - (ramp[1] - ramp[0]))


@dataclass(frozen=True, kw_only=True)
class Seeds(CountLaw):
    """Exponentially spread density: yield 1 / (1 + m)."""

    name: ClassVar[str] = "seeds"

    def rates(self, rng: np.random.Generator, n: int) -> Floats:
        """Exponential of mean 1."""
        return rng.exponential(1.0, n)

    def _yield(self, m: float) -> float:
        return 1.0 / (1.0 + m)

    def _m_at(self, yield_: float) -> float:
        return 1.0 / yield_ - 1.0

    def _pmf(self, k: Floats, m: float) -> Floats:
        return _gamma_mixed_pmf(k, m, 1.0)


@dataclass(frozen=True, kw_only=True)
class BoseEinstein(CountLaw):
    """`layers` critical layers of density d0 each: yield (1 + m)^-layers."""

    name: ClassVar[str] = "bose-einstein"
    layers: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _number("layers", self.layers, low=0.0)
        if isinstance(self.layers, bool) or self.layers != int(self.layers) or not 1 <= self.layers <= 1000:
            raise BadInput("layers must be an integer from 1 to 1000", value=self.layers)

    @property
    def n_layers(self) -> int:
        """Critical layers."""
        return self.layers

    def rates(self, rng: np.random.Generator, n: int) -> Floats:
        """Gamma of shape `layers` and mean 1: the mean of that many exponentials."""
        return rng.gamma(self.layers, 1.0 / self.layers, n)

    def _yield(self, m: float) -> float:
        return math.exp(-self.layers * math.log1p(m))

    def _m_at(self, yield_: float) -> float:
        return math.expm1(-math.log(yield_) / self.layers)

    def _pmf(self, k: Floats, m: float) -> Floats:
        return _gamma_mixed_pmf(k, m * self.layers, float(self.layers))


LAWS: dict[str, type[CountLaw]] = {law.name: law for law in (Poisson, NegativeBinomial, Murphy, Seeds, BoseEinstein)}
"""Laws by name, as used on the command line and in files."""

_ALIASES = {"nb": "negative-binomial", "negative_binomial": "negative-binomial", "bose_einstein": "bose-einstein"}


def law_from_name(name: str, **parameters: Any) -> CountLaw:
    """Make a law from its name (or a short form, e.g. "nb") and its parameters.

    Raises:
        BadInput: there is no such law, or a parameter is missing, unknown or out of range.
    """
    kind = LAWS.get(_ALIASES.get(name.lower(), name.lower()))
    if kind is None:
        raise BadInput("there is no law of this name", value=name, cure=f"there are: {', '.join(LAWS)}")
    wanted = {f.name for f in fields(kind)}
    if missing := sorted(wanted - set(parameters)):
        raise BadInput(f"the law {kind.name} needs {', '.join(missing)}")
    if unknown := sorted(set(parameters) - wanted):
        raise BadInput(
            f"the law {kind.name} takes no {', '.join(unknown)}", cure=f"it takes {', '.join(sorted(wanted))}"
        )
    return kind(**parameters)


def _gamma_mixed_pmf(k: Floats, m: float, alpha: float) -> Floats:
    """Negative binomial of mean m and shape alpha, in logarithms."""
    from scipy.special import gammaln

    log_p = gammaln(k + alpha) - gammaln(k + 1) - math.lgamma(alpha)
    return np.asarray(np.exp(log_p - alpha * math.log1p(m / alpha) - k * math.log1p(alpha / m)))


def _number(name: str, value: object, *, low: float, high: float = math.inf, low_ok: bool = False) -> None:
    """Refuse what is not a finite number in low..high (low itself only when `low_ok`)."""
    number = float(value) if isinstance(value, int | float | np.number) and not isinstance(value, bool) else math.nan
    fine = math.isfinite(number) and number <= high and (number >= low if low_ok else number > low)
    if not fine:
        limits = f"{'at least' if low_ok else 'above'} {low:g}" + (f" and at most {high:g}" if high < math.inf else "")
        raise BadInput(f"{name} must be a finite number {limits}", value=value)
