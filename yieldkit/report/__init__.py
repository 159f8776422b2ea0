"""Reports: `ReportData` in, one self-contained HTML file out. Reads results, never makes them."""

from __future__ import annotations

import importlib
from typing import Any, Final

_DATA: Final = (
    "AxisRate",
    "CampaignSection",
    "CellTrial",
    "ConfusionSection",
    "DefectsSection",
    "Fact",
    "Headline",
    "Interval",
    "Level",
    "Line",
    "Mark",
    "Note",
    "OutcomeCount",
    "Provenance",
    "RateCell",
    "RepairSection",
    "ReportData",
    "SimulatedYield",
    "Summary",
    "Table",
    "TraceSection",
    "TraceView",
    "TrainingSection",
    "TrialCurve",
    "TrialRow",
    "WaferSection",
    "YieldLaw",
    "YieldSection",
)
_HOMES: Final[dict[str, str]] = {
    **dict.fromkeys(_DATA, "yieldkit.report.data"),
    "YieldResult": "yieldkit.report.assemble",
    "pack": "yieldkit.report.packing",
    "report_of": "yieldkit.report.assemble",
    "render_report": "yieldkit.report.write",
    "site_states": "yieldkit.report.wafer_map",
    "trace_view": "yieldkit.report.traces",
    "wafer_section": "yieldkit.report.wafer_map",
    "write_report": "yieldkit.report.write",
    "write_trace": "yieldkit.report.traces",
    "write_trace_report": "yieldkit.report.traces",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.report' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
