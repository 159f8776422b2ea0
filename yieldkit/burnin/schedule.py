"""Which trials are left, in which chunks, and when there are enough: decided from complete rounds in the order of k."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from yieldkit.burnin.spec import CampaignSection
from yieldkit.burnin.tally import Tally
from yieldkit.burnin.trial import TrialRow
from yieldkit.reliability.proportions import wilson_interval

__all__ = ["BUDGET", "HALF_WIDTH", "Decision", "Ledger"]

BUDGET: Final = "budget"
HALF_WIDTH: Final = "half_width"


@dataclass(frozen=True)
class Decision:
    """Trials 0..limit-1 may be run. `final`: more will never be asked for, because of `reason`."""

    limit: int
    final: bool
    reason: str


class Ledger:
    """What is stored, what is handed out and what is still to do.

    With a stop rule no trial behind the next undecided end of a round is handed out, so a campaign stops at the same
    trial whatever ran at the same time.

    Args:
        plan: budget, rounds, chunks and stop rule.
        covered: stored ranges of k, in order and disjoint.
        rounds: stored counts of trials below the budget, by number of round (rounds without a trial may be absent).
    """

    def __init__(self, plan: CampaignSection, covered: Sequence[tuple[int, int]], rounds: Mapping[int, Tally]) -> None:
        self._plan = plan
        self._open = dict(rounds)
        self._complete = 0
        self._verdict: Decision | None = None
        self._decided = Tally()
        self._tally = Tally()
        for tally in rounds.values():
            self._tally = self._tally + tally
        self._chunks = _chunks(plan, covered)
        self._next = next(self._chunks, None)
        self._out = 0
        self._close_rounds()

    @property
    def decision(self) -> Decision:
        """How far to go, from the rounds complete so far."""
        if self._verdict is not None:
            return self._verdict
        boundary = (self._complete + 1) * self._plan.round
        if self._plan.stop is not None and boundary < self._plan.trials:
            return Decision(boundary, False, "")
        return Decision(self._plan.trials, True, BUDGET)

    @property
    def tally(self) -> Tally:
        """Everything stored below the budget."""
        return self._tally

    @property
    def finished(self) -> bool:
        """Everything that will ever be asked for is stored."""
        decision = self.decision
        return decision.final and not self._out and (self._next is None or self._next[0] >= decision.limit)

    def take(self) -> tuple[int, int] | None:
        """Hand out the next range of trials, or None as long as nothing may be handed out."""
        chunk = self._next
        if chunk is None or chunk[0] >= self.decision.limit:
            return None
        self._next = next(self._chunks, None)
        self._out += 1
        return chunk

    def add(self, rows: Sequence[TrialRow]) -> None:
        """Book the stored trials of one chunk that was handed out."""
        self._out -= 1
        number = rows[0].k // self._plan.round
        tally = Tally.of(rows)
        self._tally = self._tally + tally
        self._open[number] = self._open.get(number, Tally()) + tally
        self._close_rounds()

    def _close_rounds(self) -> None:
        plan, stop = self._plan, self._plan.stop
        while self._verdict is None:
            tally = self._open.get(self._complete)
            size = min(plan.round, plan.trials - self._complete * plan.round)
            if tally is None or size <= 0 or tally.n < size:
                return
            del self._open[self._complete]
            self._complete += 1
            self._decided = self._decided + tally
            if stop is not None:
                count, n = self._decided.count(label=stop.label), self._decided.n
                # Wilson, because the rule is about width, and its width shrinks steadily.
                low, high = wilson_interval(count, n, confidence=stop.confidence)
                if float(high - low) / 2 <= stop.half_width:
                    self._verdict = Decision(min(self._complete * plan.round, plan.trials), True, HALF_WIDTH)


def _chunks(plan: CampaignSection, covered: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges of trials that are not covered: in order, at most a chunk long, none across the end of a round."""
    start = 0
    for low, high in [*covered, (plan.trials, plan.trials)]:
        end = min(low, plan.trials)
        while start < end:
            stop = min(start + plan.chunk, (start // plan.round + 1) * plan.round, end)
            yield start, stop
            start = stop
        start = max(start, high)
