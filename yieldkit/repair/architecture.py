"""What a yield needs of a repair architecture: something that decides fault maps of one kind of wafer."""

from __future__ import annotations

import threading
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

from yieldkit.errors import BadInput
from yieldkit.repair.rules import LineSpares, RowShift

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.wafer import WaferSpec

__all__ = [
    "NEVER_HURTS",
    "Architecture",
    "MakesDeciders",
    "MapDecider",
    "decider_of",
    "has_knob",
    "never_hurts",
    "turned",
]

NEVER_HURTS: Final = {"row_shift": ("spares", "skip_reach", "vertical_reach")}
"""Fields by kind of architecture of which more can never make a map unrepairable. Other architectures say so
themselves, in a class attribute `never_hurts`.

Row shift: the region of fewer spares lies in that of more, so its displacements are some of theirs, and a longer reach
only allows more."""


_KEPT: Final = threading.local()
_MOST_KEPT: Final = 64


class MapDecider(Protocol):
    """Decides maps of one kind of wafer."""

    def decide(self, faults: FaultMap) -> bool | None:
        """Whether a map can be repaired; None where a limit was reached first."""


@runtime_checkable
class MakesDeciders(Protocol):
    """An architecture that brings its own decision.

    Two things are relied on: a map with fewer faults is never harder, and the answer depends on the map alone.
    """

    def decider(self, like: FaultMap) -> MapDecider:
        """A decider for maps of the shape, spans and holes of `like`, whose faults are not read."""


Architecture: TypeAlias = "RowShift | LineSpares | MakesDeciders"
"""What the yields of this folder take."""


def decider_of(architecture: Architecture, wafer: WaferSpec) -> MapDecider:
    """The decision of an architecture on a kind of wafer.

    Raises:
        BadInput: it is none, or does not fit on the wafer.
    """
    if getattr(type(architecture), "__hash__", None) is None:
        return _made(architecture, wafer)
    # What a wafer asks for without a fault takes as long as hundreds of maps, and work comes in chunks. A decider has
    # arrays of its own, so that threads may not share one.
    kept: dict[Any, MapDecider] = _KEPT.__dict__.setdefault("deciders", {})
    key = (architecture, wafer.fingerprint)
    if key not in kept:
        while len(kept) >= _MOST_KEPT:
            del kept[next(iter(kept))]
        kept[key] = _made(architecture, wafer)
    return kept[key]


def _made(architecture: Architecture, wafer: WaferSpec) -> MapDecider:
    from yieldkit.faultmap import FaultMap

    bare = FaultMap.for_wafer(wafer)
    if isinstance(architecture, LineSpares):
        from yieldkit.repair.linesolve import LineDecider

        return LineDecider(architecture.placed(bare, wafer))
    if isinstance(architecture, MakesDeciders):
        return architecture.decider(bare)
    if isinstance(architecture, RowShift):
        from yieldkit.repair.thresholds import Decider

        return Decider(architecture.placed(bare, wafer), bare)
    raise BadInput(
        "the architecture cannot decide maps",
        value=architecture,
        cure="pass RowShift, LineSpares or an object with decider(like)",
    )


def has_knob(architecture: Architecture, name: str) -> bool:
    """Whether the architecture has a field of that name."""
    return is_dataclass(architecture) and any(field.name == name for field in fields(architecture))


def turned(architecture: Any, values: dict[str, Any]) -> Any:
    """The architecture with some fields replaced; its own checks apply."""
    return replace(architecture, **values) if values else architecture


def never_hurts(architecture: Architecture) -> tuple[str, ...]:
    """Fields of which more never hurts."""
    own = getattr(architecture, "never_hurts", None)
    return tuple(own) if own is not None else NEVER_HURTS["row_shift"] if isinstance(architecture, RowShift) else ()
