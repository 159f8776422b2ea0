"""Counts of outcomes: a frozen value with `+`, the only way in which results are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from yieldkit.burnin.trial import TrialRecord, TrialRow

__all__ = ["Tally"]


@dataclass(frozen=True)
class Tally:
    """Number of trials by (kind of fault, label)."""

    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[TrialRecord | TrialRow]) -> Self:
        """Count trials."""
        return cls(dict(Counter((record.kind, record.label) for record in records)))

    def __add__(self, other: Tally) -> Tally:
        total = Counter(dict(self.counts))
        total.update(dict(other.counts))
        return Tally(dict(total))

    @property
    def n(self) -> int:
        """All trials."""
        return sum(self.counts.values())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of fault seen, sorted."""
        return tuple(sorted({kind for kind, _ in self.counts}))

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels seen, sorted."""
        return tuple(sorted({label for _, label in self.counts}))

    def count(self, *, kind: str | None = None, label: str | None = None) -> int:
        """Trials of a kind and label; None stands for all of them."""
        return sum(
            number
            for (one_kind, one_label), number in self.counts.items()
            if kind in (None, one_kind) and label in (None, one_label)
        )

    def by_label(self) -> dict[str, int]:
        """Counts by label, the most frequent first, then by name."""
        counts = {label: self.count(label=label) for label in self.labels}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
