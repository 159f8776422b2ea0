"""Reading a run with a non-finite value: was training healthy just before, and did the value stay?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal

from yieldkit.diagnosis.baseline import Baseline
from yieldkit.diagnosis.thresholds import Thresholds
from yieldkit.emulator.symptoms import Symptoms

__all__ = ["NanReading", "read_nan"]


@dataclass(frozen=True)
class NanReading:
    """What the telemetry says about the first non-finite value.

    Attributes:
        step: the step it appeared in, -1 for decode, where steps have no telemetry.
        left: it was gone again at the end.
        verdict: "healthy" (the norms were flat), "grew", or "unknown" (too little history).
        lines: evidence.
    """

    step: int
    left: bool
    verdict: Literal["healthy", "grew", "unknown"]
    lines: tuple[str, ...]


def read_nan(symptoms: Symptoms, baseline: Baseline | None, thresholds: Thresholds) -> NanReading | None:
    """The reading, or None when every value is finite."""
    step = _first(symptoms)
    if step is None:
        return _decode(symptoms, baseline) if symptoms.logit_nonfinite else None
    channel = symptoms.nonfinite_channel or "telemetry"
    first = f"first non-finite value at step {step} ({channel})"
    if _left(symptoms, step):
        return NanReading(step, True, "unknown", (first, f"finite again by step {symptoms.steps_done - 1}"))
    clean = None if baseline is None else next((t for t, x in enumerate(baseline.loss) if not math.isfinite(x)), None)
    if clean is not None and clean <= step:
        return NanReading(step, False, "grew", (first, f"clean runs of this job are non-finite from step {clean} too"))
    far, near = thresholds.nan_window
    norms = symptoms.grad_norm
    if step < thresholds.nan_history or len(norms) < step - near + 1:
        lines = (first, f"{min(step, len(norms))} steps of history, {thresholds.nan_history} needed")
        return NanReading(step, False, "unknown", lines)
    window = [x for x in norms[max(0, step - far) : step - near + 1] if math.isfinite(x)]
    reference = median(window) if window else 0.0
    recent = [x for x in norms[step - near + 1 : step + 1] if math.isfinite(x)]
    if reference <= 0 or not recent:
        return NanReading(step, False, "unknown", (first, "gradient norms of the reference window are not usable"))
    ratio = max(recent) / reference
    grew = ratio > thresholds.nan_growth
    line = (
        f"gradient norm of steps {step - near + 1}..{step} at most {max(recent):.4g}, {ratio:.2f} x the median "
        f"{reference:.4g} of steps {max(0, step - far)}..{step - near} (limit {thresholds.nan_growth:g} x)"
    )
    return NanReading(step, False, "grew" if grew else "healthy", (first, line))


def _first(symptoms: Symptoms) -> int | None:
    found = [] if symptoms.nonfinite_step is None else [symptoms.nonfinite_step]
    for series in (symptoms.loss, symptoms.grad_norm, symptoms.update_norm):
        found += [step for step, value in enumerate(series) if not math.isfinite(value)][:1]
    return min(found) if found else None


def _left(symptoms: Symptoms, step: int) -> bool:
    series = [values for values in (symptoms.loss, symptoms.grad_norm, symptoms.update_norm) if values]
    return bool(series) and all(len(values) > step + 1 and math.isfinite(values[-1]) for values in series)


def _decode(symptoms: Symptoms, baseline: Baseline | None) -> NanReading:
    line = f"{symptoms.logit_nonfinite} non-finite logits"
    if baseline is None:
        return NanReading(-1, False, "unknown", (line, "no clean run of this job to compare with"))
    if baseline.logit_nonfinite:
        return NanReading(-1, False, "grew", (line, f"clean runs show {baseline.logit_nonfinite} as well"))
    return NanReading(-1, False, "healthy", (line, f"none in {baseline.runs} clean run(s) of the same job"))
