"""What single defects did, and the states of sites."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["EFFECTS", "DefectOutcome", "SiteState"]

EFFECTS: Final = (
    "none",
    "marginal core",
    "dead core",
    "dead router",
    "dead link",
    "dead region",
    "off edge link",
    "wafer lost",
)
"""Effects of a defect, in the order of a table."""


class SiteState(StrEnum):
    """State of one site; a dead router makes its core dead, because nothing reaches it."""

    GOOD = "good"
    DEAD = "dead"
    MARGINAL = "marginal"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class DefectOutcome:
    """What one defect did: where it fell, on what, and with which effect.

    `row` and `col` are -1 where there is no core. `landed_on` is a kind of circuit, "insensitive area" or "no core";
    `effect` is one of `EFFECTS`.
    """

    defect: int
    x_mm: float
    y_mm: float
    size_um: float
    row: int
    col: int
    landed_on: str
    effect: str
