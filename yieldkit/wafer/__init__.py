"""Wafer specifications: geometry, reticle fields, cores, spares, links, protection, presets with sources."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.wafer.parts import (
        AreaSpec,
        Hole,
        LogicalSpec,
        MachineSpec,
        ProcessSpec,
        ProtectionSpec,
        RepairSpec,
        ReticleSpec,
        TargetSpec,
    )
    from yieldkit.wafer.spec import WaferSpec, preset_names

_HOMES: Final = {
    "AreaSpec": "parts",
    "Hole": "parts",
    "LogicalSpec": "parts",
    "MachineSpec": "parts",
    "ProcessSpec": "parts",
    "ProtectionSpec": "parts",
    "RepairSpec": "parts",
    "ReticleSpec": "parts",
    "TargetSpec": "parts",
    "WaferSpec": "spec",
    "preset_names": "spec",
}

__all__ = [
    "AreaSpec",
    "Hole",
    "LogicalSpec",
    "MachineSpec",
    "ProcessSpec",
    "ProtectionSpec",
    "RepairSpec",
    "ReticleSpec",
    "TargetSpec",
    "WaferSpec",
    "preset_names",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.wafer' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.wafer.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
