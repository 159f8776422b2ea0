"""Counts of outcomes: a frozen value with `+`, the only way in which results are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypeVar

from yieldkit.burnin.trial import TrialRecord, TrialRow

__all__ = ["Cell", "Tally"]

K = TypeVar("K")


class Cell(NamedTuple):
    """What trials must share to be counted together: the fault's class and model, the weight of its draw, the label,
    and the half of the campaign (even or odd k), since what one half shows decides where the other one looks.

    Weights take few values (one a class of bits), so that counts stay whole numbers and no sum depends on an order.
    """

    kind: str
    label: str
    site: str
    bit: str
    phase: str
    model: str
    weight: float
    half: int


@dataclass(frozen=True)
class Tally:
    """Number of trials by (kind of fault, label), and by class where trials have one.

    Attributes:
        counts: by (kind, label).
        cells: the same trials by `Cell`, as far as their bench tells the class of a fault.
    """

    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    cells: Mapping[Cell, int] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[TrialRecord | TrialRow]) -> Self:
        """Count trials."""
        return cls.of_cells(
            (one.kind, one.label, one.site, one.bit, one.phase, one.model, one.weight, one.k % 2, 1) for one in records
        )

    @classmethod
    def of_cells(cls, cells: Iterable[tuple[Any, ...]]) -> Self:
        """Put counted cells together: the fields of `Cell`, then the count."""
        counts: Counter[tuple[str, str]] = Counter()
        classed: Counter[Cell] = Counter()
        for *names, count in cells:
            cell = Cell(*names)
            counts[cell.kind, cell.label] += count
            if cell.site:
                classed[cell] += count
        return cls(dict(counts), dict(classed))

    def __add__(self, other: Tally) -> Tally:
        total = Counter(dict(self.counts))
        total.update(dict(other.counts))
        cells = Counter(dict(self.cells))
        cells.update(dict(other.cells))
        return Tally(dict(total), dict(cells))

    def __sub__(self, other: Tally) -> Tally:
        """What is left without trials that are counted here too."""
        return Tally(_less(self.counts, other.counts), _less(self.cells, other.cells))

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


def _less(counts: Mapping[K, int], other: Mapping[K, int]) -> dict[K, int]:
    left = {key: count - other.get(key, 0) for key, count in counts.items()}
    return {key: count for key, count in left.items() if count}
