"""Names for axes, ports and units, so that signatures read as the field does."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CM2_PER_MM2",
    "EAST",
    "FIT_HOURS",
    "KELVIN_OFFSET",
    "NORTH",
    "OPPOSITE",
    "PORT_NAMES",
    "RAMP",
    "SOUTH",
    "WEST",
    "LinkKey",
    "Site",
]

NORTH: Final = 0
EAST: Final = 1
SOUTH: Final = 2
WEST: Final = 3
RAMP: Final = 4
PORT_NAMES: Final = ("N", "E", "S", "W", "ramp")
OPPOSITE: Final = (SOUTH, WEST, NORTH, EAST)

CM2_PER_MM2: Final = 0.01
FIT_HOURS: Final = 1e9
KELVIN_OFFSET: Final = 273.15

Site = tuple[int, int]
"""A core by `(row, col)`; row 0 is north."""

LinkKey = tuple[int, int, int, int]
"""A physical link by its two ends, `(row, col, drow, dcol)`: from core (row, col) to (row + drow, col + dcol).

One key per undirected link: the end with the smaller (row, col) comes first, so drow > 0, or drow == 0 and dcol > 0.
"""
