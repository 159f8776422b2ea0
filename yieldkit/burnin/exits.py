"""When a trial may end before the run does, and what is known of it then.

Exact ends lose nothing: the state is the clean run's again, bit for bit, so the rest is too; or a value that is not a
number sits in a parameter that every later step reads and no update can mend, so every later loss is not a number
either. The statistical end is a rule that was calibrated on full-length runs: the loss has stayed close to the clean
run's for some steps after the fault. How often its label is another than the full run's is measured, never assumed
(`burnin.disagreement`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.job import Job
from yieldkit.errors import BadInput

__all__ = ["EXITS", "FULL", "GOLDEN_AGAIN", "NOT_A_NUMBER", "STEADY", "STOPPED", "Steady", "never_finite_again"]

FULL, STOPPED, GOLDEN_AGAIN, NOT_A_NUMBER, STEADY = range(5)
EXITS: Final[Mapping[int, str]] = {
    FULL: "the last step",
    STOPPED: "a launch that did not complete",
    GOLDEN_AGAIN: "the clean run's state again",
    NOT_A_NUMBER: "a parameter that is not a number and stays so",
    STEADY: "a loss that stayed near the clean run's",
}
"""What `metrics.exit` of a trial's record means."""


@dataclass(frozen=True)
class Steady:
    """The statistical end of a training trial.

    Attributes:
        steps: steps after the struck one for which the loss must have stayed near the clean run's.
        band: how near, in half widths of the band of clean runs.
        growth: largest factor by which the distance of the last half of these steps may exceed that of the first half,
            where it is above a tenth of `band`.
        spread: least share of all weights that differ from the clean run's. A fault that still sits in a few words may
            go away with them however long it has been there, or has not been read yet: a moment of Adam that is off in
            its low bits comes to be the clean run's tens of steps later.
        reach: how far any weight may be from the clean run's, in learning rates. A step of Adam is about one learning
            rate long, so a weight that is farther has been led elsewhere, and the losses may part tens of steps later.
    """

    steps: int = 4
    band: float = 0.1
    growth: float = 4.0
    spread: float = 0.1
    reach: float = 2.0

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise BadInput("steady steps must be at least 2", value=self.steps)
        if not 0 < self.band < 1:
            raise BadInput("the steady band must be within a half width", value=self.band)
        if not self.growth >= 1:
            raise BadInput("steady growth must be at least 1", value=self.growth)
        if not 0 <= self.spread < 1 or not self.reach > 0:
            raise BadInput("a share below 1 and a positive reach are needed", value=(self.spread, self.reach))

    def settled(self, job: Job, clean: Mapping[str, npt.NDArray[np.float32]]) -> bool:
        """Whether a job's weights differ from the clean run's in many places, and nowhere by much."""
        rate = float(job.lowered.program.job["adam"]["learning_rate"])
        differ = total = 0
        for name, mine in job.memoryx.weights.items():
            differ += int((mine.view(np.uint32) != clean[name].view(np.uint32)).sum())
            total += mine.size
            if not np.abs(mine - clean[name]).max() <= self.reach * rate:
                return False
        return differ >= self.spread * total

    def reached(self, loss: Sequence[float], clean: Sequence[float], half_width: Sequence[float], step: int) -> bool:
        """Whether a trial struck in `step` whose losses so far are `loss` may end."""
        done = len(loss)
        if done - step - 1 < self.steps:
            return False
        away = [abs(loss[t] - clean[t]) / half_width[t] for t in range(step, done)]
        if not all(distance <= self.band for distance in away):
            return False  # so too where one is not a number
        recent = away[-self.steps :]
        middle = self.steps // 2
        return max(recent[middle:]) <= max(self.growth * max(recent[:middle]), self.band / 10)


def never_finite_again(job: Job, loss: float) -> bool:
    """Whether every loss from the next step on is sure not to be a number, after a step whose loss was not one.

    A NaN in a weight or in its first or second moment never leaves it: Adam adds to moments and subtracts from weights,
    and a sum with a NaN is one. A weight that streams in as an operand of a product, or as a vector, is read for every
    token: its NaN goes through the product into every token's features, and through sums, maxima, exponentials and
    products with 0 into the loss. Rows of embedding tables are looked up, so a NaN there may go unread; it decides
    nothing.
    """
    if loss == loss or not _dense(job.lowered.program.job):
        return False
    names = {item["param"] for item in job.lowered.program.job["inputs"] if item.get("form") in ("matrix", "vector")}
    return any(_has_nan(job.memoryx.weights[name]) for name in names)


def _dense(job: Mapping[str, Any]) -> bool:
    """Whether every parameter is read for every token: a GPT without experts."""
    model = job.get("model", {})
    return job.get("kind") == "training" and "context" in model and not model.get("experts")


def _has_nan(array: npt.NDArray[np.float32]) -> bool:
    return bool(np.isnan(array).any())
