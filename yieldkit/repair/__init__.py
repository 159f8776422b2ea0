"""Repair plans: rules, the solver-free checker, OR-tools models and yield with redundancy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.repair.checker import Violation, check_plan
    from yieldkit.repair.frontier import Frontier, FrontierPoint, repair_frontier
    from yieldkit.repair.incremental import check_replan, moved_cores, replan_repair
    from yieldkit.repair.lineplan import LinePlan
    from yieldkit.repair.margin import SpareMargin, spare_margin
    from yieldkit.repair.plan import Level, RepairPlan
    from yieldkit.repair.rules import LineSpares, RowShift
    from yieldkit.repair.solve import plan_repair
    from yieldkit.repair.yields import YieldEstimate, repair_yield

_HOMES: Final = {
    "Frontier": "frontier",
    "FrontierPoint": "frontier",
    "Level": "plan",
    "LinePlan": "lineplan",
    "LineSpares": "rules",
    "RepairPlan": "plan",
    "RowShift": "rules",
    "SpareMargin": "margin",
    "Violation": "checker",
    "YieldEstimate": "yields",
    "check_plan": "checker",
    "check_replan": "incremental",
    "moved_cores": "incremental",
    "plan_repair": "solve",
    "repair_frontier": "frontier",
    "repair_yield": "yields",
    "replan_repair": "incremental",
    "spare_margin": "margin",
}

__all__ = [
    "Frontier",
    "FrontierPoint",
    "Level",
    "LinePlan",
    "LineSpares",
    "RepairPlan",
    "RowShift",
    "SpareMargin",
    "Violation",
    "YieldEstimate",
    "check_plan",
    "check_replan",
    "moved_cores",
    "plan_repair",
    "repair_frontier",
    "repair_yield",
    "replan_repair",
    "spare_margin",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.repair' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.repair.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
