"""Repair plans: rules, the solver-free checker, OR-tools models and yield with redundancy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.repair.checker import Violation, check_plan
    from yieldkit.repair.frontier import Frontier, FrontierPoint, repair_frontier
    from yieldkit.repair.lineplan import LinePlan
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
    "Violation": "checker",
    "YieldEstimate": "yields",
    "check_plan": "checker",
    "plan_repair": "solve",
    "repair_frontier": "frontier",
    "repair_yield": "yields",
}

__all__ = [
    "Frontier",
    "FrontierPoint",
    "Level",
    "LinePlan",
    "LineSpares",
    "RepairPlan",
    "RowShift",
    "Violation",
    "YieldEstimate",
    "check_plan",
    "plan_repair",
    "repair_frontier",
    "repair_yield",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.repair' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.repair.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
