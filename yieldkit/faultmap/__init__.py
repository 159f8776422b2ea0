"""Fault maps: dead, marginal and absent sites of one wafer, from defects or by hand; files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.faultmap.fault_map import FaultMap
    from yieldkit.faultmap.outcome import DefectOutcome, SiteState

_HOMES: Final = {"DefectOutcome": "outcome", "FaultMap": "fault_map", "SiteState": "outcome"}

__all__ = ["DefectOutcome", "FaultMap", "SiteState"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.faultmap' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.faultmap.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
