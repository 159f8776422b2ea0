"""yieldkit: yield, defects, repair and burn-in reliability of wafer-scale processors.

Every public name is listed in `__all__` and is imported when it is first used, so that `import yieldkit` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from yieldkit.version import __version__

if TYPE_CHECKING:
    from yieldkit import burnin, faults, reliability, workloads
    from yieldkit.burnin import Campaign, CampaignRun, outcome_table
    from yieldkit.defects import BoseEinstein, Defects, Murphy, NegativeBinomial, Poisson, Seeds
    from yieldkit.diagnosis import Baseline, Verdict, confusion, diagnose
    from yieldkit.emulator import Program, RunResult, Symptoms, corrupt, run
    from yieldkit.fabric import Fabric, FirmwareImage
    from yieldkit.faultmap import FaultMap
    from yieldkit.faults import FaultEvent, FaultPlan, FaultSampler
    from yieldkit.repair import (
        FabricBin,
        LineSpares,
        RepairPlan,
        ReticlePools,
        RowShift,
        bin_yields,
        check_plan,
        plan_repair,
        rare_loss,
        repair_frontier,
        repair_yield,
        replan_repair,
        silicon_sold,
        single_spare_yield,
        spare_margin,
        yield_curve,
    )
    from yieldkit.report import ReportData, report_of, write_report
    from yieldkit.wafer import WaferSpec
    from yieldkit.wafermap import WaferMap, read_wafer_map, read_wafer_maps

_HOMES: Final[dict[str, str]] = {
    "Baseline": "yieldkit.diagnosis",
    "BoseEinstein": "yieldkit.defects",
    "Campaign": "yieldkit.burnin",
    "CampaignRun": "yieldkit.burnin",
    "Defects": "yieldkit.defects",
    "Fabric": "yieldkit.fabric",
    "FabricBin": "yieldkit.repair",
    "FaultEvent": "yieldkit.faults",
    "FaultMap": "yieldkit.faultmap",
    "FaultPlan": "yieldkit.faults",
    "FaultSampler": "yieldkit.faults",
    "FirmwareImage": "yieldkit.fabric",
    "LineSpares": "yieldkit.repair",
    "Murphy": "yieldkit.defects",
    "NegativeBinomial": "yieldkit.defects",
    "Poisson": "yieldkit.defects",
    "Program": "yieldkit.emulator",
    "RepairPlan": "yieldkit.repair",
    "ReportData": "yieldkit.report",
    "ReticlePools": "yieldkit.repair",
    "RowShift": "yieldkit.repair",
    "RunResult": "yieldkit.emulator",
    "Seeds": "yieldkit.defects",
    "Symptoms": "yieldkit.emulator",
    "Verdict": "yieldkit.diagnosis",
    "WaferMap": "yieldkit.wafermap",
    "WaferSpec": "yieldkit.wafer",
    "bin_yields": "yieldkit.repair",
    "check_plan": "yieldkit.repair",
    "confusion": "yieldkit.diagnosis",
    "corrupt": "yieldkit.emulator",
    "diagnose": "yieldkit.diagnosis",
    "outcome_table": "yieldkit.burnin",
    "plan_repair": "yieldkit.repair",
    "rare_loss": "yieldkit.repair",
    "read_wafer_map": "yieldkit.wafermap",
    "read_wafer_maps": "yieldkit.wafermap",
    "repair_frontier": "yieldkit.repair",
    "repair_yield": "yieldkit.repair",
    "replan_repair": "yieldkit.repair",
    "report_of": "yieldkit.report",
    "run": "yieldkit.emulator",
    "silicon_sold": "yieldkit.repair",
    "single_spare_yield": "yieldkit.repair",
    "spare_margin": "yieldkit.repair",
    "write_report": "yieldkit.report",
    "yield_curve": "yieldkit.repair",
}
_MODULES: Final = ("burnin", "faults", "reliability", "workloads")

__all__ = [
    "Baseline",
    "BoseEinstein",
    "Campaign",
    "CampaignRun",
    "Defects",
    "Fabric",
    "FabricBin",
    "FaultEvent",
    "FaultMap",
    "FaultPlan",
    "FaultSampler",
    "FirmwareImage",
    "LineSpares",
    "Murphy",
    "NegativeBinomial",
    "Poisson",
    "Program",
    "RepairPlan",
    "ReportData",
    "ReticlePools",
    "RowShift",
    "RunResult",
    "Seeds",
    "Symptoms",
    "Verdict",
    "WaferMap",
    "WaferSpec",
    "__version__",
    "bin_yields",
    "burnin",
    "check_plan",
    "confusion",
    "corrupt",
    "diagnose",
    "faults",
    "outcome_table",
    "plan_repair",
    "rare_loss",
    "read_wafer_map",
    "read_wafer_maps",
    "reliability",
    "repair_frontier",
    "repair_yield",
    "replan_repair",
    "report_of",
    "run",
    "silicon_sold",
    "single_spare_yield",
    "spare_margin",
    "workloads",
    "write_report",
    "yield_curve",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"yieldkit.{name}")
    else:
        raise AttributeError(f"module 'yieldkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
