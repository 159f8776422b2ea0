"""How often the statistical exit names another outcome than the full-length run: measured, with its upper bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from yieldkit.burnin.exits import STEADY, Steady
from yieldkit.burnin.golden import Golden, carry_out
from yieldkit.burnin.referee import label_of
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.reliability.proportions import clopper_pearson_interval

__all__ = ["ClassCount", "Disagreement", "measure_disagreement"]


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
        core = FaultPlan([event], golden.placement).logical(event)
        full = carry_out(golden, event, queue_depth=queue_depth)
        short = carry_out(golden, event, queue_depth=queue_depth, steady=steady)
        label, named = (label_of(golden, trial.result, event, core, golden.lowered) for trial in (full, short))
        count = ClassCount(1, int(short.exit == STEADY), int(named != label))
        total += Disagreement({label: count}, (short.steps_run, full.steps_run))
    return total
