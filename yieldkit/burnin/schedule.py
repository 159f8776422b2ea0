"""Which trials are left, in which chunks, and when there are enough: decided from complete rounds in the order of k."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from yieldkit.burnin.spec import CampaignSection, CampaignSpec, StopSection
from yieldkit.burnin.strata import Shown, Strata
from yieldkit.burnin.tally import Tally
from yieldkit.burnin.trial import FaultClass, TrialRow
from yieldkit.reliability.designs import design_interval, design_rate
from yieldkit.reliability.proportions import wilson_interval

__all__ = ["BUDGET", "HALF_WIDTH", "LEAST_EVENTS", "Decision", "Ledger", "strata_of"]

BUDGET: Final = "budget"
HALF_WIDTH: Final = "half_width"
LEAST_EVENTS: Final = 10.0
"""Assumption: what a weighted rate must rest on before its width can stop a campaign (`DesignRate.events`)."""


@dataclass(frozen=True)
class Decision:
    """Trials 0..limit-1 may be run. `final`: more will never be asked for, because of `reason`."""

    limit: int
    final: bool
    reason: str


class Ledger:
    """What is stored, what is handed out and what is still to do.

    With a stop rule no trial behind the next undecided end of a round is handed out, so a campaign stops at the same
    trial whatever ran at the same time. The same holds where rounds wait for each other's results.

    Args:
        plan: budget, rounds, chunks and stop rule.
        covered: stored ranges of k, in order and disjoint.
        rounds: stored counts of trials below the budget, by number of round (rounds without a trial may be absent).
        spec: the whole spec, where faults are drawn by strata or by importance.
        classes: classes of faults, as far as the bench has counted them yet.
        complete: the first so many rounds are known to be complete, and all but the last to have left it open whether
            there are more.
        decided: counts of those; `rounds` then holds the later ones.
    """

    def __init__(
        self,
        plan: CampaignSection,
        covered: Sequence[tuple[int, int]],
        rounds: Mapping[int, Tally],
        *,
        spec: CampaignSpec | None = None,
        classes: Sequence[FaultClass] = (),
        complete: int = 0,
        decided: Tally | None = None,
    ) -> None:
        self._plan = plan
        self._spec = spec
        self._strata = strata_of(spec, classes)
        self._waits = spec is not None and spec.strata is not None and spec.strata.allocation == "neyman"
        self._open = dict(rounds)
        self._complete = complete
        self._verdict: Decision | None = None
        self._decided = self._tally = decided or Tally()
        for tally in rounds.values():
            self._tally = self._tally + tally
        self._chunks = _chunks(plan, covered)
        self._next = next(self._chunks, None)
        self._out = 0
        if complete:
            self._judge()
        self._close_rounds()

    @property
    def complete(self) -> int:
        """Rounds complete from the first on, as far as they have been looked at."""
        return self._complete

    @property
    def decision(self) -> Decision:
        """How far to go, from the rounds complete so far."""
        if self._verdict is not None:
            return self._verdict
        boundary = (self._complete + 1) * self._plan.round
        if self._by_round and boundary < self._plan.trials:
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

    def shown(self, k: int) -> Shown:
        """What the rounds before that of trial `k` have shown, as far as its allocation goes by it."""
        if not self._waits or self._strata is None or k < self._plan.round:
            return ()
        return self._strata.shown(self._decided)

    def add(self, rows: Sequence[TrialRow], *, classes: Sequence[FaultClass] = ()) -> None:
        """Book the stored trials of one chunk that was handed out, and the classes that its bench has counted."""
        self._out -= 1
        if self._strata is None and classes:
            self._strata = strata_of(self._spec, classes)
        number = rows[0].k // self._plan.round
        tally = Tally.of(rows)
        self._tally = self._tally + tally
        if not self._by_round:
            return
        self._open[number] = self._open.get(number, Tally()) + tally
        self._close_rounds()

    @property
    def _by_round(self) -> bool:
        return self._plan.stop is not None or self._waits

    def _close_rounds(self) -> None:
        plan = self._plan
        while self._verdict is None:
            tally = self._open.get(self._complete)
            size = min(plan.round, plan.trials - self._complete * plan.round)
            if tally is None or size <= 0 or tally.n < size:
                return
            del self._open[self._complete]
            self._complete += 1
            self._decided = self._decided + tally
            self._judge()

    def _judge(self) -> None:
        plan, stop = self._plan, self._plan.stop
        if stop is not None and self._half_width(stop) <= stop.half_width:
            self._verdict = Decision(min(self._complete * plan.round, plan.trials), True, HALF_WIDTH)

    def _half_width(self, stop: StopSection) -> float:
        """Of Wilson's interval, because the rule is about width, and its width shrinks steadily.

        A weighted rate has none before its variance is known: the first round whose luck makes it look narrow would end
        the campaign.
        """
        if self._strata is not None:
            strata = self._strata
            rate = design_rate(strata.frame(), *strata.counted(self._decided.cells, (stop.label,)))
            if rate.events < LEAST_EVENTS:
                return math.inf
            low, high = design_interval(rate, confidence=stop.confidence)
        else:
            count, n = self._decided.count(label=stop.label), self._decided.n
            low, high = wilson_interval(count, n, confidence=stop.confidence)
        return float(high - low) / 2


def strata_of(spec: CampaignSpec | None, classes: Sequence[FaultClass]) -> Strata | None:
    """Strata by which a campaign's rates are weighted; None where counts alone will do, or nothing is counted yet."""
    if spec is None or not classes or (spec.strata is None and not spec.faults.importance):
        return None
    return Strata.of(spec, classes)


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
