"""Repair plans: rules, the solver-free checker, OR-tools models and yield with redundancy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.repair.bins import BinYields, FabricBin, bin_yields, silicon_sold
    from yieldkit.repair.checker import Violation, check_plan
    from yieldkit.repair.curves import yield_curve
    from yieldkit.repair.plan import Level, RepairPlan
    from yieldkit.repair.pools import ReticlePools
    from yieldkit.repair.rare import LossEstimate, rare_loss
    from yieldkit.repair.rules import RowShift
    from yieldkit.repair.solve import plan_repair
    from yieldkit.repair.studies import pool_study, reach_study, silicon_study, spare_study, whole_rectangle
    from yieldkit.repair.yields import YieldEstimate, repair_yield, single_spare_yield

_HOMES: Final = {
    "BinYields": "bins",
    "FabricBin": "bins",
    "Level": "plan",
    "LossEstimate": "rare",
    "RepairPlan": "plan",
    "ReticlePools": "pools",
    "RowShift": "rules",
    "Violation": "checker",
    "YieldEstimate": "yields",
    "bin_yields": "bins",
    "check_plan": "checker",
    "plan_repair": "solve",
    "pool_study": "studies",
    "rare_loss": "rare",
    "reach_study": "studies",
    "repair_yield": "yields",
    "silicon_sold": "bins",
    "silicon_study": "studies",
    "single_spare_yield": "yields",
    "spare_study": "studies",
    "whole_rectangle": "studies",
    "yield_curve": "curves",
}

__all__ = [
    "BinYields",
    "FabricBin",
    "Level",
    "LossEstimate",
    "RepairPlan",
    "ReticlePools",
    "RowShift",
    "Violation",
    "YieldEstimate",
    "bin_yields",
    "check_plan",
    "plan_repair",
    "pool_study",
    "rare_loss",
    "reach_study",
    "repair_yield",
    "silicon_sold",
    "silicon_study",
    "single_spare_yield",
    "spare_study",
    "whole_rectangle",
    "yield_curve",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.repair' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.repair.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
