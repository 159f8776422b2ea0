"""When a fault in use strikes: what the wafer is exposed to, thresholds, and the law of its rate.

An intermittent fault strikes each of its occasions (an element through a datapath, a read of a word, a word over a
link, a launch) with a chance of 1 - exp(-rate), where

    rate = per_occasion x exp(Ea/k (1/T_ref - 1/T)) x exp(per_volt (V - V_ref)) x activity^m x (age / age_ref)^(b - 1)

The last factor is a Weibull hazard relative to that at the reference age; it falls with age where b is below 1.
Every constant is a parameter; what has no published value is an assumption of whoever sets it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.reliability import arrhenius_factor_k, voltage_exponential_factor

__all__ = ["ALWAYS", "REFERENCE_K", "REFERENCE_V", "Ageing", "Condition", "Environment", "RateLaw"]

Floats = npt.NDArray[np.float64]
T = TypeVar("T")

REFERENCE_K: Final = 328.15
"""55 °C, the use temperature that acceleration factors are commonly quoted for (JESD47 and its kin)."""

REFERENCE_V: Final = 0.8
"""Assumption: supply of a core in volts."""


@dataclass(frozen=True, eq=False)
class Environment:
    """What the wafer is exposed to during a run; it does not change within one.

    Attributes:
        temperature_k: kelvin, one number or float64[rows, cols] by physical site (a thermal solve).
        voltage_v: volts, the same.
        age_hours: hours that the wafer has been in use in this environment when the run begins. A run is short
            against them, so the age does not change within it.
    """

    temperature_k: float | Floats = REFERENCE_K
    voltage_v: float | Floats = REFERENCE_V
    age_hours: float = 0.0

    def __post_init__(self) -> None:
        for name in ("temperature_k", "voltage_v"):
            object.__setattr__(self, name, _field(name, getattr(self, name)))
        _check("age_hours", self.age_hours, low=0.0)

    def temperature_at(self, row: int, col: int) -> float:
        """Kelvin at a physical site.

        Raises:
            BadInput: the site lies outside the array.
        """
        return _value("temperature_k", self.temperature_k, row, col)

    def voltage_at(self, row: int, col: int) -> float:
        """Volts at a physical site; errors as in `temperature_at`."""
        return _value("voltage_v", self.voltage_v, row, col)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        return {
            "temperature_k": _plain(self.temperature_k),
            "voltage_v": _plain(self.voltage_v),
            "age_hours": float(self.age_hours),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown or wrong fields.
        """
        return _made(cls, data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Environment) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.age_hours)


@dataclass(frozen=True)
class Condition:
    """Thresholds that must all be met for a fault to strike at all; None asks nothing.

    Attributes:
        above_k, below_k: kelvin at the site, at least and at most.
        above_v, below_v: volts, at least and at most. Timing margins fail below a voltage, leaks above one.
        above_activity: share of the busiest core's elements, or link's words, in the launch: at least.
        after_hours: age in use, hours: at least.
    """

    above_k: float | None = None
    below_k: float | None = None
    above_v: float | None = None
    below_v: float | None = None
    above_activity: float | None = None
    after_hours: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None:
                _check(name, value, low=0.0)

    def met(self, *, temperature_k: float, voltage_v: float, activity: float, age_hours: float) -> bool:
        """Whether every threshold is met."""
        return (
            (self.above_k is None or temperature_k >= self.above_k)
            and (self.below_k is None or temperature_k <= self.below_k)
            and (self.above_v is None or voltage_v >= self.above_v)
            and (self.below_v is None or voltage_v <= self.below_v)
            and (self.above_activity is None or activity >= self.above_activity)
            and (self.after_hours is None or age_hours >= self.after_hours)
        )

    def to_dict(self) -> dict[str, Any]:
        """The thresholds that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown or wrong fields.
        """
        return _made(cls, data)


ALWAYS: Final = Condition()
"""No threshold."""


@dataclass(frozen=True)
class RateLaw:
    """Expected strikes an occasion; the formula is in the module's docstring.

    Attributes:
        per_occasion: rate at the reference temperature, voltage and age and at full activity.
        activation_ev: Ea, eV; negative for what gets worse in the cold.
        per_volt: 1/V; negative for what gets worse as the voltage falls.
        activity_power: m; 0 leaves activity out (busier parts meet more occasions anyway).
        age_shape: b; 1 leaves age out.
        reference_k, reference_v: kelvin and volts at which `per_occasion` holds.
        reference_hours: age at which it holds.
        youngest_hours: ages below count as this one, since the hazard of a shape below 1 has no bound at 0.
    """

    per_occasion: float
    activation_ev: float = 0.0
    per_volt: float = 0.0
    activity_power: float = 0.0
    age_shape: float = 1.0
    reference_k: float = REFERENCE_K
    reference_v: float = REFERENCE_V
    reference_hours: float = 1000.0
    youngest_hours: float = 1.0

    def __post_init__(self) -> None:
        for name in ("activation_ev", "per_volt"):
            _check(name, getattr(self, name), low=-math.inf)
        for name in ("per_occasion", "activity_power", "reference_v"):
            _check(name, getattr(self, name), low=0.0)
        for name in ("age_shape", "reference_k", "reference_hours", "youngest_hours"):
            _check(name, getattr(self, name), low=0.0, low_ok=False)

    def rate(self, *, temperature_k: float, voltage_v: float, activity: float, age_hours: float) -> float:
        """Expected strikes an occasion."""
        heat = arrhenius_factor_k(use_k=self.reference_k, stress_k=temperature_k, ea_ev=self.activation_ev)
        volts = voltage_exponential_factor(use_v=self.reference_v, stress_v=voltage_v, per_volt=self.per_volt)
        age = (max(age_hours, self.youngest_hours) / self.reference_hours) ** (self.age_shape - 1.0)
        return float(self.per_occasion * heat * volts * activity**self.activity_power * age)

    def probability(self, *, temperature_k: float, voltage_v: float, activity: float, age_hours: float) -> float:
        """Chance to strike an occasion, 1 - exp(-rate)."""
        rate = self.rate(temperature_k=temperature_k, voltage_v=voltage_v, activity=activity, age_hours=age_hours)
        return -math.expm1(-rate)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return {name: float(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown or wrong fields.
        """
        return _made(cls, data)


@dataclass(frozen=True)
class Ageing:
    """How many reference hours an hour in an environment is worth to a part that is to fail.

    Attributes:
        activation_ev: Ea of the wear, eV.
        per_volt: 1/V.
        reference_k, reference_v: where an hour counts as one.
    """

    activation_ev: float = 0.0
    per_volt: float = 0.0
    reference_k: float = REFERENCE_K
    reference_v: float = REFERENCE_V

    def __post_init__(self) -> None:
        for name in ("activation_ev", "per_volt"):
            _check(name, getattr(self, name), low=-math.inf)
        _check("reference_v", self.reference_v, low=0.0)
        _check("reference_k", self.reference_k, low=0.0, low_ok=False)

    def factor(self, *, temperature_k: float, voltage_v: float) -> float:
        """Reference hours an hour."""
        heat = arrhenius_factor_k(use_k=self.reference_k, stress_k=temperature_k, ea_ev=self.activation_ev)
        volts = voltage_exponential_factor(use_v=self.reference_v, stress_v=voltage_v, per_volt=self.per_volt)
        return float(heat * volts)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return {name: float(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown or wrong fields.
        """
        return _made(cls, data)


def _made(kind: type[T], data: Mapping[str, Any]) -> T:
    try:
        unknown = sorted(set(data) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
        if unknown:
            raise BadInput(f"{kind.__name__} has unknown fields", value=unknown)
        return kind(**data)
    except TypeError as error:
        raise BadInput(f"{kind.__name__} cannot be read: {error}") from error


def _field(name: str, value: object) -> float | Floats:
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        _check(name, float(value), low=0.0, low_ok=False)
        return float(value)
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be a number or an array[rows, cols]", value=value) from error
    if array.ndim != 2:
        raise BadInput(f"{name} must be a number or an array[rows, cols]", value=array.shape)
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise BadInput(f"{name} must be positive and finite everywhere")
    array.flags.writeable = False
    return array


def _value(name: str, value: float | Floats, row: int, col: int) -> float:
    if isinstance(value, float):
        return value
    if not (0 <= row < value.shape[0] and 0 <= col < value.shape[1]):
        raise BadInput(f"{name} has no value for the site: it is an array of {value.shape}", value=(row, col))
    return float(value[row, col])


def _plain(value: float | Floats) -> Any:
    return value if isinstance(value, float) else value.tolist()


def _check(name: str, value: object, *, low: float, low_ok: bool = True) -> None:
    number = float(value) if isinstance(value, int | float | np.number) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and (number >= low if low_ok else number > low)):
        limit = "" if low == -math.inf else f" {'of at least' if low_ok else 'above'} {low:g}"
        raise BadInput(f"{name} must be a finite number{limit}", value=value)
