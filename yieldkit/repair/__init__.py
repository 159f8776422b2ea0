"""Repair plans: rules, the solver-free checker, OR-tools models and yield with redundancy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.repair.bins import BinYields, FabricBin, bin_yields, silicon_sold
    from yieldkit.repair.checker import Violation, check_plan
    from yieldkit.repair.curves import yield_curve
    from yieldkit.repair.frontier import Frontier, FrontierPoint, repair_frontier
    from yieldkit.repair.incremental import check_replan, moved_cores, replan_repair
    from yieldkit.repair.lineplan import LinePlan
    from yieldkit.repair.margin import SpareMargin, spare_margin
    from yieldkit.repair.plan import Level, RepairPlan
    from yieldkit.repair.pools import ReticlePools
    from yieldkit.repair.rare import LossEstimate, rare_loss
    from yieldkit.repair.rules import LineSpares, RowShift
    from yieldkit.repair.solve import plan_repair
    from yieldkit.repair.studies import pool_study, reach_study, silicon_study, spare_study, whole_rectangle
    from yieldkit.repair.yields import YieldEstimate, repair_yield, single_spare_yield

_HOMES: Final = {
    "BinYields": "bins",
    "FabricBin": "bins",
    "Frontier": "frontier",
    "FrontierPoint": "frontier",
    "Level": "plan",
    "LinePlan": "lineplan",
    "LineSpares": "rules",
    "LossEstimate": "rare",
    "RepairPlan": "plan",
    "ReticlePools": "pools",
    "RowShift": "rules",
    "SpareMargin": "margin",
    "Violation": "checker",
    "YieldEstimate": "yields",
    "bin_yields": "bins",
    "check_plan": "checker",
    "check_replan": "incremental",
    "moved_cores": "incremental",
    "plan_repair": "solve",
    "pool_study": "studies",
    "rare_loss": "rare",
    "reach_study": "studies",
    "repair_frontier": "frontier",
    "repair_yield": "yields",
    "replan_repair": "incremental",
    "silicon_sold": "bins",
    "silicon_study": "studies",
    "single_spare_yield": "yields",
    "spare_margin": "margin",
    "spare_study": "studies",
    "whole_rectangle": "studies",
    "yield_curve": "curves",
}

__all__ = [
    "BinYields",
    "FabricBin",
    "Frontier",
    "FrontierPoint",
    "Level",
    "LinePlan",
    "LineSpares",
    "LossEstimate",
    "RepairPlan",
    "ReticlePools",
    "RowShift",
    "SpareMargin",
    "Violation",
    "YieldEstimate",
    "bin_yields",
    "check_plan",
    "check_replan",
    "moved_cores",
    "plan_repair",
    "pool_study",
    "rare_loss",
    "reach_study",
    "repair_frontier",
    "repair_yield",
    "replan_repair",
    "silicon_sold",
    "silicon_study",
    "single_spare_yield",
    "spare_margin",
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
