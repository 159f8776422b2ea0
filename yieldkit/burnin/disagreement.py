"""How often the statistical exit names another outcome than the full-length run: measured, with its upper bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from yieldkit.burnin.exits import Steady
from yieldkit.burnin.golden import Golden, carry_out
from yieldkit.burnin.referee import label_of
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.reliability.proportions import clopper_pearson_interval

__all__ = ["STEADY_LABEL", "ClassCount", "Compared", "Disagreement", "compare_exit", "measure_disagreement"]

STEADY_LABEL: Final = "BENIGN"
"""What a trial that the statistical exit ends is called: a loss within the band, and a state that is not the clean one.

So BENIGN runs cannot be named otherwise, and of any other outcome every run that the exit ends is.
"""


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

    @property
    def ended(self) -> ClassCount:
        """The trials that the exit would have ended, and how many of these it would have named wrongly."""
        ended = sum(count.ended for count in self.by_label.values())
        return ClassCount(ended, ended, sum(count.wrong for count in self.by_label.values()))

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


class Compared(NamedTuple):
    """A full-length trial: its outcome, its name with the exit, and the steps run with the exit and without it."""

    label: str
    named: str
    steps: tuple[int, int]

    @property
    def ended(self) -> bool:
        """Whether the exit would have ended it."""
        return self.steps[0] < self.steps[1]

    @property
    def counted(self) -> Disagreement:
        """The trial as counts."""
        count = ClassCount(1, int(self.ended), int(self.named != self.label))
        return Disagreement({self.label: count}, self.steps)


def compare_exit(golden: Golden, event: FaultEvent, *, queue_depth: int, steady: Steady | None = None) -> Compared:
    """Run a trial to its exact end, once, watching where the statistical exit would have ended it.

    Args:
        golden: the clean run of a training job.
        event: the fault.
        queue_depth: words a queue holds.
        steady: the exit.
    """
    trial = carry_out(golden, event, queue_depth=queue_depth, watched=(steady or Steady(),))
    core = FaultPlan([event], golden.placement).logical(event)
    label = label_of(golden, trial.result, event, core, golden.lowered)
    ended = trial.would_end[0]
    return Compared(label, STEADY_LABEL if ended else label, (ended or trial.steps_run, trial.steps_run))


def measure_disagreement(
    golden: Golden, events: Iterable[FaultEvent], *, queue_depth: int, steady: Steady | None = None
) -> Disagreement:
    """Run trials to their exact ends, and count what the statistical exit would have named them.

    Args:
        golden: the clean run of a training job.
        events: the fault of each trial; rare outcomes need faults that lead to them.
        queue_depth: words a queue holds.
        steady: the exit.
    """
    total = Disagreement()
    for event in events:
        total += compare_exit(golden, event, queue_depth=queue_depth, steady=steady).counted
    return total
