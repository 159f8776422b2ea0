"""Wafer maps: dies and defect lists of inspected wafers, and the formats they come in."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.wafermap.reading import read_wafer_map, read_wafer_maps
    from yieldkit.wafermap.wafer_map import DefectTable, WaferMap

_HOMES: Final = {
    "DefectTable": "wafer_map",
    "WaferMap": "wafer_map",
    "read_wafer_map": "reading",
    "read_wafer_maps": "reading",
}

__all__ = ["DefectTable", "WaferMap", "read_wafer_map", "read_wafer_maps"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.wafermap' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.wafermap.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
