"""Burn-in campaigns: spec, trials, store, runner, resume, replay, outcome rates.

Names are imported when first used: `Tally` or `TrialRecord` alone should not cost pandas or pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.burnin.campaign import Campaign, CampaignRun, Replay
    from yieldkit.burnin.compare import Comparison, compare_runs
    from yieldkit.burnin.dask_workers import dask_crew, dask_executor
    from yieldkit.burnin.example import EXAMPLE_SPEC
    from yieldkit.burnin.export import Exported, export_columns, export_csv, export_parquet
    from yieldkit.burnin.fit import fit_table, protection_of
    from yieldkit.burnin.merge import Merged, merge_runs
    from yieldkit.burnin.outcomes import outcome_table
    from yieldkit.burnin.progress import show_progress
    from yieldkit.burnin.runner import Progress, TrialFailure
    from yieldkit.burnin.screening import (
        Screening,
        ScreeningRow,
        ScreeningWorkload,
        parts_of_each_kind,
        screen,
        screening_table,
    )
    from yieldkit.burnin.spec import CampaignSpec
    from yieldkit.burnin.stopping import StopRequest, stop_on_signals
    from yieldkit.burnin.survey import Survey, survey_of
    from yieldkit.burnin.tally import Tally
    from yieldkit.burnin.trial import Bench, BenchModule, FaultClass, TrialRecord, open_bench
    from yieldkit.burnin.verdict import baseline_of, verdict_of

_HOMES: Final = {
    "EXAMPLE_SPEC": "example",
    "Bench": "trial",
    "BenchModule": "trial",
    "Campaign": "campaign",
    "CampaignRun": "campaign",
    "CampaignSpec": "spec",
    "Comparison": "compare",
    "Exported": "export",
    "Merged": "merge",
    "Progress": "runner",
    "Replay": "campaign",
    "Screening": "screening",
    "ScreeningRow": "screening",
    "ScreeningWorkload": "screening",
    "FaultClass": "trial",
    "StopRequest": "stopping",
    "Survey": "survey",
    "Tally": "tally",
    "TrialFailure": "runner",
    "TrialRecord": "trial",
    "baseline_of": "verdict",
    "compare_runs": "compare",
    "dask_crew": "dask_workers",
    "dask_executor": "dask_workers",
    "export_columns": "export",
    "export_csv": "export",
    "export_parquet": "export",
    "merge_runs": "merge",
    "open_bench": "trial",
    "fit_table": "fit",
    "outcome_table": "outcomes",
    "protection_of": "fit",
    "survey_of": "survey",
    "parts_of_each_kind": "screening",
    "screen": "screening",
    "screening_table": "screening",
    "show_progress": "progress",
    "stop_on_signals": "stopping",
    "verdict_of": "verdict",
}

__all__ = [
    "EXAMPLE_SPEC",
    "Bench",
    "BenchModule",
    "Campaign",
    "CampaignRun",
    "CampaignSpec",
    "Comparison",
    "Exported",
    "FaultClass",
    "Merged",
    "Progress",
    "Replay",
    "Screening",
    "ScreeningRow",
    "ScreeningWorkload",
    "StopRequest",
    "Survey",
    "Tally",
    "TrialFailure",
    "TrialRecord",
    "baseline_of",
    "fit_table",
    "compare_runs",
    "dask_crew",
    "dask_executor",
    "export_columns",
    "export_csv",
    "export_parquet",
    "merge_runs",
    "open_bench",
    "outcome_table",
    "protection_of",
    "parts_of_each_kind",
    "screen",
    "screening_table",
    "show_progress",
    "stop_on_signals",
    "survey_of",
    "verdict_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.burnin' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.burnin.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
