"""Defects on a wafer: count laws with closed-form yields, seeded sampling, defect lists of inspected wafers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.defects.defects import DefectBatch, Defects
    from yieldkit.defects.laws import (
        LAWS,
        BoseEinstein,
        CountLaw,
        Murphy,
        NegativeBinomial,
        Poisson,
        Seeds,
        law_from_name,
    )

_HOMES: Final = {
    "LAWS": "laws",
    "BoseEinstein": "laws",
    "CountLaw": "laws",
    "DefectBatch": "defects",
    "Defects": "defects",
    "Murphy": "laws",
    "NegativeBinomial": "laws",
    "Poisson": "laws",
    "Seeds": "laws",
    "law_from_name": "laws",
}

__all__ = [
    "LAWS",
    "BoseEinstein",
    "CountLaw",
    "DefectBatch",
    "Defects",
    "Murphy",
    "NegativeBinomial",
    "Poisson",
    "Seeds",
    "law_from_name",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.defects' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.defects.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
