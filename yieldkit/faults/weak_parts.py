"""Latent weak cores and links of one wafer: what each will do, and at what age it begins to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from yieldkit.errors import BadFile, BadInput
from yieldkit.faults.conditions import Ageing, Environment
from yieldkit.faults.persistence import PersistentFault
from yieldkit.files import canonical_json, read_bytes, write_text
from yieldkit.quantities import LinkKey, Site

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Stress", "WeakPart", "WeakParts"]

_FORMAT: Final = "yieldkit-weak-parts"
_VERSION: Final = 1
_COLUMNS: Final = (
    *("number", "kind", "row", "col", "drow", "dcol", "place", "persistence", "onset_hours", "per_occasion"),
    *("activation_ev", "per_volt", "above_k", "below_v"),
)

Stress = Sequence[tuple[Environment, float]]
"""Earlier exposure: (environment, hours in it); the environments' own ages do not enter."""


@dataclass(frozen=True)
class WeakPart:
    """One weak core or link.

    Attributes:
        number: in its wafer's list.
        kind: name of the mechanism.
        fault: what it does once it fails.
        onset_hours: reference hours at which it begins to fail.
        ageing: what an hour in an environment counts.
    """

    number: int
    kind: str
    fault: PersistentFault
    onset_hours: float
    ageing: Ageing = field(default_factory=Ageing)

    def __post_init__(self) -> None:
        if not self.onset_hours >= 0:
            raise BadInput("onset_hours must not be negative", value=self.onset_hours)

    @property
    def site(self) -> Site:
        """Physical core; for a link the end that the words leave."""
        return self.fault.event.site

    @property
    def link(self) -> LinkKey | None:
        """Physical link, or None for a core."""
        return self.fault.event.link

    def age(self, environment: Environment, stress: Stress = ()) -> float:
        """Reference hours lived: those of the environment's own age and of earlier stress, each by its acceleration."""
        spans = [(environment, environment.age_hours), *stress]
        total = 0.0
        for where, hours in spans:
            if not 0 <= hours < np.inf:
                raise BadInput("hours of stress must be finite and not negative", value=hours)
            row, col = self.site
            temperature, voltage = where.temperature_at(row, col), where.voltage_at(row, col)
            total += hours * self.ageing.factor(temperature_k=temperature, voltage_v=voltage)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "number": self.number,
            "kind": self.kind,
            "fault": self.fault.to_dict(),
            "onset_hours": self.onset_hours,
            "ageing": self.ageing.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown, missing or wrong fields.
        """
        try:
            fault, ageing = PersistentFault.from_dict(data["fault"]), Ageing.from_dict(data["ageing"])
            rest = {name: value for name, value in data.items() if name not in ("fault", "ageing")}
            return cls(fault=fault, ageing=ageing, **{**rest, "onset_hours": float(rest["onset_hours"])})
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"weak part cannot be read: {error}") from error


@dataclass(frozen=True)
class WeakParts:
    """The weak parts of one wafer; memory goes by the part.

    Attributes:
        parts: by number.
        wafer: fingerprint of the wafer's spec, or "".
    """

    parts: tuple[WeakPart, ...]
    wafer: str = ""

    def __post_init__(self) -> None:
        numbers = [part.number for part in self.parts]
        if len(set(numbers)) < len(numbers):
            raise BadInput("weak parts must have numbers that differ", value=numbers)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[WeakPart]:
        return iter(self.parts)

    def active(self, environment: Environment, *, stress: Stress = ()) -> WeakParts:
        """Those that have begun to fail: their age, accelerated by what they were exposed to, is past their onset."""
        return WeakParts(tuple(part for part in self if part.age(environment, stress) >= part.onset_hours), self.wafer)

    def faults(self, environment: Environment, *, stress: Stress = ()) -> tuple[PersistentFault, ...]:
        """What the parts that have begun to fail do; for a `PersistentPlan` with the same environment.

        Args:
            environment: temperature, voltage and age of the wafer now.
            stress: earlier exposure, e.g. a burn-in: (environment, hours) pairs.
        """
        return tuple(part.fault for part in self.active(environment, stress=stress))

    def to_frame(self) -> pd.DataFrame:
        """One row a part; what a part does not have is NaN, drow and dcol of a core are 0."""
        import pandas as pd

        rows = []
        for part in self:
            event, rate, condition = part.fault.event, part.fault.rate, part.fault.condition
            ends = (event.row, event.col, event.drow, event.dcol)
            laws = (np.nan,) * 3 if rate is None else (rate.per_occasion, rate.activation_ev, rate.per_volt)
            limits = [np.nan if value is None else value for value in (condition.above_k, condition.below_v)]
            what = (event.place, part.fault.persistence, part.onset_hours)
            rows.append((part.number, part.kind, *ends, *what, *laws, *limits))
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "wafer": self.wafer,
            "parts": [part.to_dict() for part in self],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: another format or version, or a part that cannot be read.
        """
        if data.get("format") != _FORMAT:
            raise BadInput("this is no list of weak parts", value=data.get("format"))
        if data.get("version") != _VERSION:
            raise BadInput(f"weak parts of version {_VERSION} are read", value=data.get("version"))
        parts = data.get("parts")
        if not isinstance(parts, list) or not isinstance(data.get("wafer"), str):
            raise BadInput("weak parts need a list of parts and the wafer's fingerprint")
        return cls(tuple(WeakPart.from_dict(part) for part in parts), data["wafer"])

    def save(self, path: str | Path) -> Path:
        """Write as JSON, whole or not at all."""
        return write_text(path, canonical_json(self.to_dict()) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BadFile: the file cannot be read or is something else.
        """
        try:
            data = json.loads(read_bytes(path))
            if not isinstance(data, dict):
                raise BadInput("this is no list of weak parts")
            return cls.from_dict(data)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise BadFile(path, f"is not JSON: {error}") from error
        except BadFile:
            raise
        except BadInput as error:
            raise BadFile(path, str(error)) from error
