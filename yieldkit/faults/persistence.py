"""Faults that stay or come and go: a plan that turns them into events, launch by launch.

A `FaultEvent` strikes in one launch. A `PersistentFault` is the place, site and bits of one with its times left open,
and says when it strikes: once (transient), at occasions drawn in every launch (intermittent), or at every occasion of
every launch (permanent). Draws depend on the seed, the fault, the step and the launch only, so any step can be run or
replayed alone, on any worker, without the steps before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Final, Self

import numpy as np

from yieldkit.emulator.hooks import ALL_BITS, LaunchHooks
from yieldkit.emulator.host_faults import MemoryHook, StreamHook
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.placement import Placement
from yieldkit.errors import BadInput
from yieldkit.faults.conditions import ALWAYS, REFERENCE_K, REFERENCE_V, Condition, Environment, RateLaw
from yieldkit.faults.event import FaultEvent, FaultPlan
from yieldkit.faults.exposure import OCCASIONS, Exposure, Occasions, occasion_of
from yieldkit.faults.host_places import HOST_PLACES
from yieldkit.files import fingerprint
from yieldkit.rng import generator

__all__ = ["MOST_EVENTS", "PERSISTENCES", "PersistentFault", "PersistentPlan"]

PERSISTENCES: Final = ("transient", "intermittent", "permanent")
MOST_EVENTS: Final = 1 << 16
"""Events that one fault may have in one launch."""

_CHUNK: Final = 256
_LASTING: Final = ("register", "result", "operand", "product", "index")
"""Places in a core where an event that lasts strikes at all later occasions of the launch."""


@dataclass(frozen=True)
class PersistentFault:
    """A fault with its persistence.

    Attributes:
        event: place, site and bits. Its launch, if it names one, is the only launch that is struck; its step and moment
            (phase, task, element, nth and, for a link, colour) are open, but for a transient fault that names a launch,
            which strikes as it says.
        persistence: "transient", "intermittent" or "permanent".
        rate: of an intermittent fault.
        condition: thresholds without which it does not strike; a transient fault has none.
        occasion: what counts as an occasion, one of `OCCASIONS`; "" for the usual one of the place.
        first_step, last_step: steps in which it is there, ends included; None: to the end.
    """

    event: FaultEvent
    persistence: str = "permanent"
    rate: RateLaw | None = None
    condition: Condition = ALWAYS
    occasion: str = ""
    first_step: int = 0
    last_step: int | None = None

    def __post_init__(self) -> None:
        if self.persistence not in PERSISTENCES:
            raise BadInput("persistence must be one of " + ", ".join(PERSISTENCES), value=self.persistence)
        if self.occasion and self.occasion not in OCCASIONS:
            raise BadInput("occasion must be one of " + ", ".join(OCCASIONS), value=self.occasion)
        if (self.rate is not None) != (self.persistence == "intermittent"):
            raise BadInput("an intermittent fault has a rate, and no other has one", value=self.persistence)
        if self.persistence == "transient" and self.condition != ALWAYS:
            raise BadInput("a transient fault strikes once and has no condition", value=self.condition)
        if self.event.lasts:
            raise BadInput("how long a fault lasts is for its persistence to say", cure="use an event without lasts")
        if self.first_step < 0 or (self.last_step is not None and self.last_step < self.first_step):
            raise BadInput("steps must run from first_step to last_step", value=(self.first_step, self.last_step))
        stays = self.event.place in ("sram", "route", "memoryx")
        if self.persistence == "permanent" and stays and self.event.keep & self.event.mask & ALL_BITS:
            # Such a word may stay from launch to launch; flipping it again would put the old value back.
            raise BadInput(
                "a permanent fault of a stored word is a stuck one: keep must leave out the bits of mask",
                value=(hex(self.event.mask), hex(self.event.keep)),
                cure="keep = ~mask for stuck at 1, keep without the bits and mask 0 for stuck at 0",
            )

    @cached_property
    def key(self) -> str:
        """Fingerprint of the fault: its draws are its own, whatever else is in the plan."""
        return fingerprint(self.to_dict())

    @property
    def kind_of_occasion(self) -> str:
        """What counts as an occasion."""
        return self.occasion or occasion_of(self.event)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "event": self.event.to_dict(),
            "persistence": self.persistence,
            "rate": None if self.rate is None else self.rate.to_dict(),
            "condition": self.condition.to_dict(),
            "occasion": self.occasion,
            "first_step": self.first_step,
            "last_step": self.last_step,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown, missing or wrong fields.
        """
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise BadInput("persistent fault has unknown fields", value=unknown)
        values: dict[str, Any] = dict(data)
        try:
            values["event"] = FaultEvent.from_dict(values["event"])
            if values.get("rate") is not None:
                values["rate"] = RateLaw.from_dict(values["rate"])
            if "condition" in values:
                values["condition"] = Condition.from_dict(values["condition"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"persistent fault cannot be read: {error}") from error


class PersistentPlan:
    """Persistent faults on a placement: what `run` asks before every launch, like a `FaultPlan`.

    Args:
        faults: what strikes; no fault twice.
        placement: where the program lies; a site that is bypassed or outside the rectangle touches nothing.
        lowered: the program; its launches say what occasions there are.
        environment: temperature, voltage and age.
        seed: of the draws.

    Raises:
        BadInput: a fault appears twice, or its occasion does not fit its place.
    """

    def __init__(
        self,
        faults: Iterable[PersistentFault],
        placement: Placement,
        lowered: Lowered,
        *,
        environment: Environment | None = None,
        seed: int = 0,
    ) -> None:
        self.faults = tuple(faults)
        self.placement = placement
        self.lowered = lowered
        self.environment = environment or Environment()
        self.seed = seed
        self.exposure = Exposure(lowered, placement)
        keys = [fault.key for fault in self.faults]
        if len(set(keys)) < len(keys):
            twice = next(fault for fault in self.faults if keys.count(fault.key) > 1)
            raise BadInput("a fault is in the plan twice", value=twice.event.to_dict())

    def check(self, lowered: Lowered) -> None:
        """Refuse faults that no run of this program could ever meet.

        Raises:
            BadInput: the plan was made for another program, unknown launch, an address beyond what there is, or an
                environment without a value for a site.
        """
        if lowered.program.fingerprint != self.lowered.program.fingerprint:
            raise BadInput(
                "the plan was made for another program",
                value=self.lowered.program.fingerprint,
                cure=f"make it for {lowered.program.fingerprint}",
            )
        longest = max(lowered.launches, key=lambda low: max(role.n_tasks for role in low.roles))
        for fault in self.faults:
            event = fault.event if fault.event.launch else replace(fault.event, launch=longest.name)
            FaultPlan([event], self.placement).check(lowered)
            self.exposure.occasions(event, fault.kind_of_occasion, longest)
            if event.place not in HOST_PLACES:
                self.environment.temperature_at(*event.site)
                self.environment.voltage_at(*event.site)

    def hooks(self, step: int, low: LoweredLaunch) -> LaunchHooks:
        """What strikes during a launch, in logical coordinates."""
        events = self.events(step, low)
        total = LaunchHooks()
        for start in range(0, len(events), _CHUNK):
            total += FaultPlan(events[start : start + _CHUNK], self.placement).hooks(step, low)
        return total

    def memory_hooks(self, step: int) -> tuple[MemoryHook, ...]:
        """What strikes MemoryX before a step."""
        return FaultPlan(self.events(step, self.lowered.launches[0]), self.placement).memory_hooks(step)

    def stream_hooks(self, step: int, low: LoweredLaunch) -> tuple[StreamHook, ...]:
        """What strikes the streams of a launch."""
        return FaultPlan(self.events(step, low), self.placement).stream_hooks(step, low)

    def events(self, step: int, low: LoweredLaunch) -> tuple[FaultEvent, ...]:
        """Events of a launch, fault by fault; those on sites that run nothing are left out.

        Raises:
            BadInput: a fault strikes more than `MOST_EVENTS` times in the launch.
        """
        return tuple(event for fault in self.faults for event in self.events_of(fault, step, low))

    def events_of(self, fault: PersistentFault, step: int, low: LoweredLaunch) -> tuple[FaultEvent, ...]:
        """Events of one fault in a launch; errors as in `events`."""
        struck = self._struck(fault, step, low)
        if not struck.count:
            return ()
        template = replace(fault.event, step=step, launch=low.name)
        if fault.persistence == "permanent":
            return _standing(template, struck.occasions)
        if struck.rng is None:
            return (fault.event if fault.event.launch else replace(template, **struck.occasions.at(struck.first)),)
        places = struck.rng.choice(struck.occasions.count, struck.count, replace=False)
        return _at_each(template, struck.occasions, np.sort(places))

    def strikes(self, fault: PersistentFault, step: int, low: LoweredLaunch) -> int:
        """Occasions of a launch at which a fault strikes; a stuck SRAM cell counts its reads, and 1 at least."""
        return self._struck(fault, step, low).count

    def conditions(self, fault: PersistentFault, low: LoweredLaunch) -> dict[str, float]:
        """Temperature, voltage, activity and age that a fault meets in a launch.

        A link has those of the end that the words leave; the host's side, which is not on the wafer, the reference
        temperature and voltage.
        """
        row, col = fault.event.site
        host = fault.event.place in HOST_PLACES
        return {
            "temperature_k": REFERENCE_K if host else self.environment.temperature_at(row, col),
            "voltage_v": REFERENCE_V if host else self.environment.voltage_at(row, col),
            "activity": self.exposure.activity(fault.event, low),
            "age_hours": self.environment.age_hours,
        }

    def _struck(self, fault: PersistentFault, step: int, low: LoweredLaunch) -> _Struck:
        """How often a fault strikes in a launch. What is drawn next from `rng` says where."""
        named = fault.event.launch
        if (named and named != low.name and fault.event.place != "memoryx") or not self.exposure.touches(fault.event):
            return _NOTHING
        occasions = self.exposure.occasions(fault.event, fault.kind_of_occasion, low)
        if fault.persistence == "transient":
            return self._once(fault, step, low, occasions)
        if step < fault.first_step or (fault.last_step is not None and step > fault.last_step):
            return _NOTHING
        met = self.conditions(fault, low)
        if not fault.condition.met(**met):
            return _NOTHING
        if fault.rate is None:
            # A cell is stuck whether something reads it or not, and so is a place of a queue.
            return _Struck(occasions, max(occasions.count, int(fault.event.place in ("sram", "queue"))))
        chance = fault.rate.probability(**met)
        if not occasions.count or chance == 0:
            return _NOTHING
        rng = generator(self.seed, f"faults.persistence.{fault.key}", step, low.index)
        return _Struck(occasions, int(rng.binomial(occasions.count, chance)), rng)

    def _once(self, fault: PersistentFault, step: int, low: LoweredLaunch, occasions: Occasions) -> _Struck:
        """The one strike of a transient fault: as given, or at an occasion drawn from all of its step."""
        if step != fault.event.step:
            return _NOTHING
        if fault.event.launch:
            return _Struck(occasions, 1)
        counts = [
            self.exposure.occasions(fault.event, fault.kind_of_occasion, one).count for one in self.lowered.launches
        ]
        if not sum(counts):
            return _NOTHING
        place = int(generator(self.seed, f"faults.persistence.{fault.key}", step).integers(sum(counts)))
        place -= sum(counts[: low.index])
        return _Struck(occasions, 1, first=place) if 0 <= place < occasions.count else _NOTHING


@dataclass(frozen=True)
class _Struck:
    """How many occasions of a launch are struck; the first, where it is known already; what draws them, where not."""

    occasions: Occasions
    count: int
    rng: np.random.Generator | None = None
    first: int = 0


_NOTHING: Final = _Struck(Occasions(), 0)


def _standing(template: FaultEvent, occasions: Occasions) -> tuple[FaultEvent, ...]:
    """Events that strike at every occasion of a launch."""
    if template.place in ("sram", "queue"):
        return (replace(template, phase=0, nth=0, lasts=True),)
    if template.link is None:
        return (replace(template, **occasions.at(0), lasts=template.place in _LASTING),)
    # Each colour has a count of its own. A place that a queue has lost stays lost without being lost again.
    firsts = [end - size for end, (_, _, size) in zip(occasions.ends, occasions.groups, strict=True)]
    lasts = template.place != "link_credit"
    return tuple(replace(template, **occasions.at(first), lasts=lasts) for first in firsts)


def _at_each(template: FaultEvent, occasions: Occasions, places: Any) -> tuple[FaultEvent, ...]:
    if len(places) > MOST_EVENTS:
        raise BadInput(
            f"a fault strikes more than {MOST_EVENTS} times in launch {template.launch!r}",
            value=len(places),
            cure="lower its rate, or make it permanent",
        )
    # Several accesses to a word in one phase make one strike: a phase is the finest moment of an SRAM fault.
    return tuple(dict.fromkeys(replace(template, **occasions.at(int(place))) for place in places))
