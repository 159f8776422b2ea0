"""How often the statistical exit names another outcome than the full-length run: measured, with its upper bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from yieldkit.burnin.exits import GOLDEN_AGAIN, Steady
from yieldkit.burnin.golden import Golden, Trial, carry_out
from yieldkit.burnin.referee import label_of
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.reliability.proportions import clopper_pearson_interval

__all__ = ["ClassCount", "Disagreement", "exit_step", "measure_disagreement"]


@dataclass(frozen=True)
class ClassCount:
    """Full-length trials of one outcome: how many, how many would have ended early, and how many of these wrongly."""

    trials: int = 0
    ended: int = 0
    wrong: int = 0

    def __add__(self, other: ClassCount) -> ClassCount:
        return ClassCount(self.trials + other.trials, self.ended + other.ended, self.wrong + other.wrong)

    def upper(self, confidence: float = 0.95) -> float:
        """One-sided Clopper-Pearson upper bound of the share of trials of this outcome that would be named wrongly."""
        if not self.trials:
            return 1.0
        interval = clopper_pearson_interval(self.wrong, self.trials, confidence=2 * confidence - 1)
        return float(interval[1])


@dataclass(frozen=True)
class Disagreement:
    """Counts by the outcome of the full-length run; `steps` run in all with the exit and without it."""

    by_label: Mapping[str, ClassCount] = field(default_factory=dict)
    steps: tuple[int, int] = (0, 0)

    def __add__(self, other: Disagreement) -> Disagreement:
        names = sorted({*self.by_label, *other.by_label})
        none = ClassCount()
        merged = {name: self.by_label.get(name, none) + other.by_label.get(name, none) for name in names}
        return Disagreement(merged, (self.steps[0] + other.steps[0], self.steps[1] + other.steps[1]))

    def text(self, confidence: float = 0.95) -> str:
        """A table: outcome, trials, ended early, named otherwise, upper bound."""
        lines = [
            "| outcome of the full run | trials | ended early | named otherwise | at most |",
            "|---|---|---|---|---|",
        ]
        for label, count in self.by_label.items():
            bound = f"{100 * count.upper(confidence):.2f} %"
            lines.append(f"| {label} | {count.trials} | {count.ended} | {count.wrong} | {bound} |")
        return "\n".join(lines)


def exit_step(trial: Trial, golden: Golden, step: int, steady: Steady) -> int | None:
    """Steps done when the exit would have ended a trial struck in `step`; None where it would not have."""
    loss = trial.result.symptoms.loss
    clean, half = golden.result.symptoms.loss, golden.baseline.half_width
    # The exit is asked after every step that was run but the last of all.
    for done in range(step + 1, min(step + trial.steps_run + 1, golden.steps)):
        if not all(value - value == 0 for value in loss[step:done]):
            return None
        if steady.reached(loss[:done], clean, half, step):
            return done
    return None


def measure_disagreement(
    golden: Golden, events: Iterable[FaultEvent], *, queue_depth: int, steady: Steady | None = None
) -> Disagreement:
    """Run trials to their exact ends, and see what the statistical exit would have named them.

    Args:
        golden: the clean run of a training job.
        events: the fault of each trial; rare outcomes need faults that lead to them.
        queue_depth: words a queue holds.
        steady: the exit.
    """
    steady = steady or Steady()
    total = Disagreement()
    for event in events:
        trial = carry_out(golden, event, queue_depth=queue_depth)
        core = FaultPlan([event], golden.placement).logical(event)
        label = label_of(golden, trial.result, event, core, golden.lowered)
        done = exit_step(trial, golden, event.step, steady)
        if trial.exit == GOLDEN_AGAIN and done is not None and done - event.step >= trial.steps_run:
            done = None  # the exact end comes first
        # What has stayed in the band until then, and is finite, is called BENIGN.
        count = ClassCount(1, int(done is not None), int(done is not None and label != "BENIGN"))
        ran = trial.steps_run
        total += Disagreement({label: count}, (ran if done is None else done - event.step, ran))
    return total
