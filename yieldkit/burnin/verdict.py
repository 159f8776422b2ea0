"""What diagnosis says about a trial, from its observations alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yieldkit.burnin.trial import TrialRecord
from yieldkit.emulator.symptoms import Symptoms

if TYPE_CHECKING:
    from yieldkit.diagnosis import Baseline, Verdict

__all__ = ["baseline_of", "verdict_of"]


def baseline_of(clean_observations: Sequence[Mapping[str, Any]]) -> Baseline | None:
    """What monitoring would know from clean runs of the job; None where there were none."""
    from yieldkit.diagnosis import Baseline

    clean = [Symptoms.from_dict(observations) for observations in clean_observations]
    return Baseline.from_runs(clean) if clean else None


def verdict_of(record: TrialRecord, *, baseline: Baseline | None = None) -> Verdict:
    """Classify the observations of a record; its truth, label and metrics are not handed over.

    Args:
        record: a trial.
        baseline: of clean runs of the same job, see `baseline_of`.

    Raises:
        BadInput: the observations are not symptoms.
    """
    from yieldkit.diagnosis import classify

    return classify(Symptoms.from_dict(record.observations), baseline=baseline)
