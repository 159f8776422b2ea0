"""Kinds of weakness: what a weak part of each kind does, and how its constants are spread from part to part.

All constants are assumptions unless a source is named: they are there to be replaced by those of a process. Energies
and signs follow what is generally known of the mechanism: leakage and retention get worse with heat, timing margins and
cell stability with a falling voltage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

import numpy as np

from yieldkit.emulator.hooks import ALL_BITS
from yieldkit.emulator.isa import COLOURS, POSITIONS
from yieldkit.errors import BadInput
from yieldkit.faults.conditions import REFERENCE_K, Condition, RateLaw
from yieldkit.faults.event import PLACES, FaultEvent
from yieldkit.faults.exposure import OCCASIONS
from yieldkit.faults.persistence import PERSISTENCES, PersistentFault

__all__ = ["MECHANISMS", "Mechanism"]

_ROUTE_BITS: Final = 9
_MODELS: Final = ("flip", "stuck", "lost", "slow")
_BITS: Final = 32


@dataclass(frozen=True)
class Mechanism:
    """A kind of weakness. Pairs are the ends of a uniform law; a part draws its own value.

    Attributes:
        name: what tables call it.
        place: of the fault event.
        model: "flip" of one bit, "stuck" at 0 or 1 in one bit, "lost" (a word), "slow" (a factor on the cycles).
        persistence: "intermittent" or "permanent".
        occasion: what counts as an occasion; "" for the usual one of the place.
        per_occasion: median rate an occasion at the reference conditions (intermittent only).
        spread: standard deviation of the logarithm of that rate between parts.
        activation_ev: Ea of the rate, eV.
        per_volt: of the rate, 1/V.
        activity_power: of the rate.
        age_shape: of the rate's dependence on age.
        above_k: activation threshold in kelvin: at least; None for no threshold.
        below_v: activation threshold in volts: at most; None for no threshold.
        factor: of a slow core.
        source: where the constants are from.
    """

    name: str
    place: str
    model: str
    persistence: str
    occasion: str = ""
    per_occasion: float = 0.0
    spread: float = 0.0
    activation_ev: tuple[float, float] = (0.0, 0.0)
    per_volt: tuple[float, float] = (0.0, 0.0)
    activity_power: float = 0.0
    age_shape: float = 1.0
    above_k: tuple[float, float] | None = None
    below_v: tuple[float, float] | None = None
    factor: tuple[float, float] = (1.0, 1.0)
    source: str = "assumption"

    def __post_init__(self) -> None:
        if not self.name:
            raise BadInput("a mechanism needs a name")
        if self.place not in PLACES:
            raise BadInput(f"place of mechanism {self.name!r} must be one of " + ", ".join(PLACES), value=self.place)
        if self.model not in _MODELS:
            raise BadInput(f"model of mechanism {self.name!r} must be one of " + ", ".join(_MODELS), value=self.model)
        if self.persistence not in PERSISTENCES[1:]:
            raise BadInput(f"mechanism {self.name!r} must be intermittent or permanent", value=self.persistence)
        if self.occasion and self.occasion not in OCCASIONS:
            raise BadInput("occasion must be one of " + ", ".join(OCCASIONS), value=self.occasion)
        if (self.persistence == "intermittent") != (self.per_occasion > 0) or not self.spread >= 0:
            raise BadInput(
                f"mechanism {self.name!r}: per_occasion must be positive for intermittent faults and 0 for others",
                value=self.per_occasion,
            )
        for name in ("activation_ev", "per_volt", "above_k", "below_v", "factor"):
            pair = getattr(self, name)
            if pair is not None and not (len(pair) == 2 and pair[0] <= pair[1]):
                raise BadInput(f"{name} of mechanism {self.name!r} must be (low, high)", value=pair)
            if pair is not None:
                object.__setattr__(self, name, (float(pair[0]), float(pair[1])))

    @property
    def on_link(self) -> bool:
        """Whether it sits on a link; otherwise in a core or its router."""
        return self.place.startswith("link")

    def fault(self, place: Mapping[str, int], rng: np.random.Generator, *, sram_words: int) -> PersistentFault:
        """Draw the fault of one weak part: which bit, how often, beyond which threshold.

        Args:
            place: row, col and, for a link, drow and dcol of the physical site.
            rng: of the part.
            sram_words: SRAM of a core.
        """
        bit = int(rng.integers(_ROUTE_BITS if self.place == "route" else 16 if self.place == "index" else _BITS))
        one = bool(rng.integers(2))
        details: dict[str, Any] = dict(place)
        if self.place == "sram":
            details["address"] = int(rng.integers(sram_words))
        elif self.place == "route":
            details |= {"colour": int(rng.integers(COLOURS)), "position": int(rng.integers(POSITIONS))}
        elif self.place == "register":
            operand = int(rng.integers(-1, 3))
            details |= {"operand": operand, "word": int(rng.integers(2 if operand == -1 else 4))}
        elif self.place == "operand":
            details["operand"] = int(rng.integers(1, 3))
        elif self.place == "index":
            details |= {"operand": int(rng.integers(3)), "word": int(rng.integers(3))}
        if self.model == "flip":
            details["mask"] = 1 << bit
        elif self.model == "stuck":
            details |= {"keep": ALL_BITS & ~(1 << bit), "mask": (1 << bit) if one else 0}
        elif self.model == "slow":
            details["factor"] = float(rng.uniform(*self.factor))
        event = FaultEvent(self.place, step=0, launch="", **details)
        rate = None
        if self.persistence == "intermittent":
            rate = RateLaw(
                float(self.per_occasion * np.exp(self.spread * rng.standard_normal())),
                activation_ev=float(rng.uniform(*self.activation_ev)),
                per_volt=float(rng.uniform(*self.per_volt)),
                activity_power=self.activity_power,
                age_shape=self.age_shape,
            )
        condition = Condition(
            above_k=None if self.above_k is None else float(rng.uniform(*self.above_k)),
            below_v=None if self.below_v is None else float(rng.uniform(*self.below_v)),
        )
        return PersistentFault(event, self.persistence, rate, condition, self.occasion)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown or wrong fields.
        """
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise BadInput("mechanism has unknown fields", value=unknown)
        try:
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
            }
            return cls(**values)
        except TypeError as error:
            raise BadInput(f"mechanism cannot be read: {error}") from error


_HOT: Final = (REFERENCE_K - 30.0, REFERENCE_K + 50.0)
_MARGIN: Final = (0.70, 0.90)

MECHANISMS: Final[Mapping[str, Mechanism]] = {
    item.name: item
    for item in (
        Mechanism("stuck_cell", "sram", "stuck", "permanent", below_v=_MARGIN),
        Mechanism(
            *("read_disturb", "sram", "flip", "intermittent", "read"),
            per_occasion=1e-3, spread=1.5, activation_ev=(0.1, 0.3), per_volt=(-20.0, -5.0),
        ),
        Mechanism(
            *("retention", "sram", "flip", "intermittent", "live_phase"),
            per_occasion=1e-2, spread=1.5, activation_ev=(0.5, 0.7), per_volt=(-10.0, 0.0),
        ),
        Mechanism(
            *("datapath_bit", "result", "flip", "intermittent"),
            per_occasion=1e-4, spread=1.5, activation_ev=(0.1, 0.5), per_volt=(-20.0, -5.0), above_k=_HOT,
        ),
        Mechanism("stuck_datapath", "result", "stuck", "permanent", above_k=_HOT),
        Mechanism(
            *("operand_bit", "operand", "flip", "intermittent"),
            per_occasion=1e-4, spread=1.5, activation_ev=(0.1, 0.5), per_volt=(-20.0, -5.0), above_k=_HOT,
        ),
        Mechanism(
            *("router_bit", "route", "flip", "intermittent"),
            per_occasion=1e-2, spread=1.5, activation_ev=(0.1, 0.5), per_volt=(-10.0, 0.0),
        ),
        Mechanism("slow_core", "slow", "slow", "permanent", below_v=_MARGIN, factor=(1.05, 3.0)),
        Mechanism(
            *("link_bit", "link_flip", "flip", "intermittent"),
            per_occasion=1e-3, spread=1.5, activation_ev=(0.1, 0.5), per_volt=(-20.0, -5.0),
        ),
        Mechanism(
            *("link_drop", "link_drop", "lost", "intermittent"),
            per_occasion=1e-3, spread=1.5, activation_ev=(0.1, 0.5), per_volt=(-20.0, -5.0),
        ),
    )
}  # fmt: skip
"""Kinds that come with the toolkit, by name. All constants are assumptions."""
