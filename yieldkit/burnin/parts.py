"""One campaign on several machines: each carries out its part of the trials into a folder of its own, to be merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from yieldkit.burnin.spec import CampaignSection
from yieldkit.errors import BadInput

__all__ = ["Part", "Range", "join_ranges"]

Range = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """Part `number` (from 1) of `of` parts."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "2/3".

        Raises:
            BadInput: it is not that, or there is no such part.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise BadInput("a part reads I/N, the I-th of N parts", value=text)
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def others(self, plan: CampaignSection, *, by_round: bool) -> list[Range]:
        """Ranges of k below the budget that belong to the other parts.

        Args:
            plan: budget and rounds.
            by_round: each round is shared out, because what later rounds do, or whether there are any, hangs on the
                earlier ones: the parts must be merged after each round. Otherwise the whole budget is shared out.
        """
        size = plan.round if by_round else plan.trials
        return join_ranges(self._others(plan.trials, size))

    def _others(self, trials: int, size: int) -> Iterator[Range]:
        for start in range(0, trials, size):
            stop = min(start + size, trials)
            low = start + (stop - start) * (self.number - 1) // self.of
            high = start + (stop - start) * self.number // self.of
            yield start, low
            yield high, stop


def join_ranges(ranges: Iterator[Range] | Sequence[Range]) -> list[Range]:
    """The union of ranges: sorted, disjoint, neighbours joined, none empty."""
    joined: list[Range] = []
    for start, stop in sorted(one for one in ranges if one[0] < one[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined
