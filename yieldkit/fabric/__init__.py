"""Firmware images and the fabric booted from them: logical core -> physical core, live links."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.fabric.changes import ImageChanges, RowChange
    from yieldkit.fabric.fabric import Fabric
    from yieldkit.fabric.image import FirmwareImage

_HOMES: Final = {
    "Fabric": "fabric",
    "FirmwareImage": "image",
    "ImageChanges": "changes",
    "RowChange": "changes",
}

__all__ = ["Fabric", "FirmwareImage", "ImageChanges", "RowChange"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.fabric' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.fabric.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
