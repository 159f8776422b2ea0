"""Two campaigns beside each other: which rates differ, by how much, and what differs in their specs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yieldkit.burnin.campaign import CampaignRun
from yieldkit.burnin.outcomes import ALL_KINDS, outcome_rows
from yieldkit.burnin.schedule import strata_of
from yieldkit.burnin.tally import Tally
from yieldkit.reliability.proportions import difference_interval, difference_test, holm

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "SpecDifference", "compare_runs"]

_SIDES: Final = ("a", "b")
_FREE: Final = ("name", "trials", "round", "chunk", "stop")
_COLUMNS: Final = (
    *("group", "label"),
    *(f"{name}_{side}" for side in _SIDES for name in ("count", "n", "rate", "low", "high")),
    *("difference", "difference_low", "difference_high", "p", "p_holm"),
)


@dataclass(frozen=True)
class SpecDifference:
    """A field with another value in the two specs; None where a spec does not have it."""

    field: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Comparison:
    """What compares two runs.

    Attributes:
        folders: of the two runs.
        n: trials of the two.
        by: what groups are: "site" where both benches tell it, else "kind".
        confidence: of the intervals, each on its own.
        rows: one a group and label: group ("all" first), label, count, n, rate and Wilson bounds of each run, the
            difference b - a with its interval, the p-value of the score test and that value adjusted for their number
            (Holm; the labels of "all" are one family, those of all groups another).
        weighted: for each run, whether its rates are weighted by a design.
        groups_of_one: groups that only one run has, by side.
        fields: where the specs differ.
        same_task: the benches built the same thing (None before a first trial).
    """

    folders: tuple[str, str]
    n: tuple[int, int]
    by: str
    confidence: float
    rows: tuple[Mapping[str, Any], ...]
    weighted: tuple[bool, bool]
    groups_of_one: Mapping[str, tuple[str, ...]]
    fields: tuple[SpecDifference, ...]
    same_task: bool | None

    def to_frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(_COLUMNS))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "folders": list(self.folders),
            "n": list(self.n),
            "by": self.by,
            "confidence": self.confidence,
            "rows": [dict(row) for row in self.rows],
            "weighted": list(self.weighted),
            "groups_of_one": {side: list(groups) for side, groups in self.groups_of_one.items()},
            "fields": [{"field": one.field, "a": one.a, "b": one.b} for one in self.fields],
            "same_task": self.same_task,
        }


def compare_runs(a: CampaignRun, b: CampaignRun, *, confidence: float = 0.95) -> Comparison:
    """Compare the outcome rates of two runs, of one campaign or of two.

    Rates are those of `outcome_table`, weighted by the design where a run has one. The two samples are taken as
    independent; where they share a seed and the faults, trial k strikes alike in both, and the intervals are wider than
    they need be.

    Args:
        a: one run.
        b: the other; differences are b - a.
        confidence: of every interval.

    Raises:
        BadInput: the confidence is out of range.
        BadFile: a run is damaged.
    """
    runs = (a, b)
    tallies = (a.tally(), b.tally())
    strata = tuple(strata_of(run.campaign.spec, run.classes()) for run in runs)
    by = "site" if all(tally.cells for tally in tallies) else "kind"
    labels = _labels(*tallies)
    first, second = (
        {
            (row[by], row["label"]): row
            for row in outcome_rows(tally, by=by, confidence=confidence, strata=design, labels=labels)
        }
        for tally, design in zip(tallies, strata, strict=True)
    )
    shared = [key for key in first if key in second]
    families = [[key for key in shared if (key[0] == ALL_KINDS) == overall] for overall in (True, False)]
    rows = [row for family in families for row in _rows(family, first, second)]
    groups = [{group for group, _ in side} for side in (first, second)]
    tasks = {run.task_fingerprint for run in runs}
    return Comparison(
        folders=(str(a.folder), str(b.folder)),
        n=(tallies[0].n, tallies[1].n),
        by=by,
        confidence=confidence,
        rows=tuple(rows),
        weighted=(strata[0] is not None, strata[1] is not None),
        groups_of_one={
            side: tuple(sorted(own - other))
            for side, own, other in (("a", groups[0], groups[1]), ("b", groups[1], groups[0]))
        },
        fields=_differences(_fields(a), _fields(b)),
        same_task=None if "" in tasks else len(tasks) == 1,
    )


def _labels(first: Tally, second: Tally) -> tuple[str, ...]:
    """All labels, the most frequent first, then by name."""
    return tuple((first + second).by_label())


def _rows(
    keys: list[tuple[str, str]], first: Mapping[tuple[str, str], Any], second: Mapping[tuple[str, str], Any]
) -> list[dict[str, Any]]:
    def both(name: str) -> tuple[np.ndarray, np.ndarray]:
        found = [np.array([side[key][name] for key in keys], np.float64) for side in (first, second)]
        return found[0], found[1]

    rates = both("rate")
    low, high = difference_interval(rates, both("wilson_low"), both("wilson_high"))
    p = difference_test(rates, both("effective_n"))
    adjusted = holm(p)
    rows = []
    for i, (group, label) in enumerate(keys):
        row: dict[str, Any] = {"group": group, "label": label}
        for side, found in zip(_SIDES, (first, second), strict=True):
            own = found[group, label]
            row |= {f"{name}_{side}": own[name] for name in ("count", "n", "rate")}
            row |= {f"low_{side}": own["wilson_low"], f"high_{side}": own["wilson_high"]}
        row |= {
            "difference": float(rates[1][i] - rates[0][i]),
            "difference_low": float(low[i]),
            "difference_high": float(high[i]),
            "p": float(p[i]),
            "p_holm": float(adjusted[i]),
        }
        rows.append(row)
    return rows


def _fields(run: CampaignRun) -> dict[str, Any]:
    """Every field of the spec, flat; files by their content."""
    plan = run.campaign.spec.tables()["campaign"]
    return {**{f"campaign.{name}": plan[name] for name in _FREE if name in plan}, **run.campaign.identity}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[SpecDifference, ...]:
    return tuple(
        SpecDifference(name, a.get(name), b.get(name))
        for name in sorted(set(a) | set(b))
        if a.get(name) != b.get(name) or type(a.get(name)) is not type(b.get(name))
    )
