"""Burn-in campaigns: spec, trials, store, runner, resume, replay, outcome rates.

Names are imported when first used: `Tally` or `TrialRecord` alone should not cost pandas or pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.burnin.campaign import Campaign, CampaignRun, Replay
    from yieldkit.burnin.dask_executor import dask_crew, dask_executor
    from yieldkit.burnin.example import EXAMPLE_SPEC
    from yieldkit.burnin.merge import Merged, merge_runs
    from yieldkit.burnin.outcomes import outcome_table
    from yieldkit.burnin.progress import show_progress
    from yieldkit.burnin.runner import Progress, TrialFailure
    from yieldkit.burnin.spec import CampaignSpec
    from yieldkit.burnin.stopping import StopRequest, stop_on_signals
    from yieldkit.burnin.tally import Tally
    from yieldkit.burnin.trial import Bench, BenchModule, TrialRecord, open_bench
    from yieldkit.burnin.verdict import baseline_of, verdict_of

_HOMES: Final = {
    "EXAMPLE_SPEC": "example",
    "Bench": "trial",
    "BenchModule": "trial",
    "Campaign": "campaign",
    "CampaignRun": "campaign",
    "CampaignSpec": "spec",
    "Merged": "merge",
    "Progress": "runner",
    "Replay": "campaign",
    "StopRequest": "stopping",
    "Tally": "tally",
    "TrialFailure": "runner",
    "TrialRecord": "trial",
    "baseline_of": "verdict",
    "dask_crew": "dask_executor",
    "dask_executor": "dask_executor",
    "merge_runs": "merge",
    "open_bench": "trial",
    "outcome_table": "outcomes",
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
    "Merged",
    "Progress",
    "Replay",
    "StopRequest",
    "Tally",
    "TrialFailure",
    "TrialRecord",
    "baseline_of",
    "dask_crew",
    "dask_executor",
    "merge_runs",
    "open_bench",
    "outcome_table",
    "show_progress",
    "stop_on_signals",
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
