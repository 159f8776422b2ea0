"""Reading the loss against the band of clean runs: whether it left, how, and whether it came back.

The names of the classes are those of He et al., "Understanding and Mitigating Hardware Failures in Deep Learning
Training Systems", ISCA 2023; the thresholds are this toolkit's (`Thresholds`). Distances are in half widths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from yieldkit.diagnosis.baseline import Baseline
from yieldkit.diagnosis.thresholds import Thresholds
from yieldkit.emulator.symptoms import Symptoms

__all__ = ["Trend", "read_trend"]


@dataclass(frozen=True)
class Trend:
    """How the loss left the band: the code, how sure, the evidence and the first step outside."""

    code: str
    confidence: float
    lines: tuple[str, ...]
    onset: int


def read_trend(symptoms: Symptoms, baseline: Baseline | None, thresholds: Thresholds) -> Trend | None:
    """The departure, or None: no loss, no band, or never outside it."""
    if baseline is None or not symptoms.loss or not baseline.loss:
        return None
    steps = min(len(symptoms.loss), len(baseline.loss))
    signed = [(symptoms.loss[t] - baseline.loss[t]) / baseline.half_width[t] for t in range(steps)]
    if not all(math.isfinite(value) for value in signed):
        return None  # the NaN rules decide
    away = [abs(value) for value in signed]
    onset = _onset(away, thresholds)
    if onset is None:
        return None
    peak = max(range(onset, steps), key=lambda t: away[t])
    side = "above" if signed[peak] > 0 else "below"
    first = (
        f"loss left the band at step {onset} of {steps} (at {symptoms.loss[onset]:.4f}, clean "
        f"{baseline.loss[onset]:.4f} ± {baseline.half_width[onset]:.4f})"
    )
    farthest = f"farthest at step {peak}: {away[peak]:.1f} half widths {side}"
    sharp = max(away[onset : onset + 2]) >= thresholds.jump
    rest = away[onset + 1 :]
    tail = rest[-thresholds.settle :]
    if tail and fmean(tail) < 1:
        back = f"last {len(tail)} steps {fmean(tail):.2f} half widths from the centre on average: back inside"
        return Trend("SPIKE", 0.9, (first, farthest, back), onset)
    head, end = _thirds(away[onset + 2 :])
    growing = end >= thresholds.growth * head and end - head >= 1
    shape = f"distance {head:.1f} half widths early, {end:.1f} late, {'growing' if growing else 'not growing'}"
    jump = f"{'a jump' if sharp else 'no jump'} within two steps (limit {thresholds.jump:g} half widths)"
    if sharp:
        code = "SHARP_SLOW_DEGRADE" if growing else "SHARP_DEGRADE"
    else:
        code = "SLOW_DEGRADE" if growing else "LOW_ACCURACY"
    sure = 0.9 if len(rest) >= 2 * thresholds.settle else 0.6
    return Trend(code, sure, (first, farthest, jump, shape), onset)


def _onset(away: Sequence[float], thresholds: Thresholds) -> int | None:
    for step, distance in enumerate(away):
        pair = distance >= thresholds.out_twice and step + 1 < len(away) and away[step + 1] >= thresholds.out_twice
        if distance >= thresholds.out_once or pair:
            return step
    return None


def _thirds(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 6:
        return (0.0, 0.0) if not values else (fmean(values), fmean(values))
    part = len(values) // 3
    return fmean(values[:part]), fmean(values[-part:])
