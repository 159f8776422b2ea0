"""Outcome rates of a campaign, each with its n and its intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yieldkit.burnin.campaign import CampaignRun
from yieldkit.burnin.schedule import strata_of
from yieldkit.burnin.strata import Strata
from yieldkit.burnin.tally import Cell, Tally
from yieldkit.burnin.trial import FaultClass
from yieldkit.errors import BadInput
from yieldkit.reliability.designs import DesignRate, design_interval, design_rate
from yieldkit.reliability.proportions import clopper_pearson_interval, wilson_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALL_KINDS", "AXES", "FEW_EVENTS", "domain_rate", "outcome_rows", "outcome_table", "simple_rate"]

ALL_KINDS: Final = "all"
FEW_EVENTS: Final = 5.0
"""With fewer events (`DesignRate.events`) an interval may hold less often, or more often, than it says."""
AXES: Final = ("kind", "site", "bit", "phase", "model")
_COUNTS: Final = (
    *("label", "count", "n", "rate"),
    *("wilson_low", "wilson_high", "exact_low", "exact_high"),
)
_UNUSED: Final = "unused"


def outcome_rows(
    tally: Tally,
    *,
    by: str = "kind",
    confidence: float = 0.95,
    strata: Strata | None = None,
    live: bool = False,
    labels: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The rows of `outcome_table` as plain values, with `effective_n`, the simple random trials that know as much, and
    `events`, what the variance rests on (`DesignRate.events`).

    Args:
        tally: counts.
        by: one of `AXES`.
        confidence: of the intervals.
        strata: of the campaign, where rates are weighted by a design.
        live: leave out the trials that struck a bit nothing reads.
        labels: rows for these; for those seen anywhere when empty.

    Raises:
        BadInput: unknown axis, or trials without classes where they are needed.
    """
    if by not in AXES:
        raise BadInput("by must be one of " + ", ".join(AXES), value=by)
    labels = list(labels or tally.by_label())
    if strata is None and by == "kind" and not live:
        return _counted(tally, [(kind, label) for kind in (None, *tally.kinds) for label in labels], confidence)
    if not tally.cells and tally.n:
        raise BadInput("the bench of this campaign does not tell the class of a fault", cure='use by="kind"')
    cells = {cell: count for cell, count in tally.cells.items() if not live or cell.bit != _UNUSED}
    rows = []
    for value in [None, *sorted({str(getattr(cell, by)) for cell in cells})] if labels else []:
        inside = {cell: count for cell, count in cells.items() if value in (None, getattr(cell, by))}
        for label in labels:
            name = ALL_KINDS if value is None else value
            count = sum(number for cell, number in inside.items() if cell.label == label)
            row = {by: name, "label": label, "count": count, "n": sum(inside.values())}
            if strata is None:
                rate = simple_rate(inside, label)
            else:
                rate = domain_rate(strata, inside, [label], _belongs(strata, by, value, live=live))
            rows.append(row | _bounds(rate, confidence))
    return rows


def outcome_table(
    run: CampaignRun | Tally, *, by: str = "kind", confidence: float = 0.95, live: bool = False
) -> pd.DataFrame:
    """Count labels by kind of fault, or by class of place, bit or moment, or by model.

    Args:
        run: a run, or counts.
        by: "kind", "site", "bit", "phase" or "model".
        confidence: of the two-sided intervals, each on its own (not simultaneous).
        live: leave out the trials that struck a bit nothing reads: rates per live bit.

    Returns:
        one row for every value and every label seen anywhere, zeros included, because a zero has an upper bound; "all"
        comes first. Columns: the axis, label, count, n (trials of the value), rate, wilson_low, wilson_high, exact_low,
        exact_high (Clopper-Pearson). Rates and bounds are fractions. In a run with strata or importance they are those
        of the population, weighted by the design, and not count / n.

    Raises:
        BadInput: the confidence is out of range, the axis unknown, or the bench does not tell the class of a fault.
    """
    import pandas as pd

    if isinstance(run, Tally):
        rows = outcome_rows(run, by=by, confidence=confidence, live=live)
    else:
        strata = strata_of(run.campaign.spec, run.classes())
        rows = outcome_rows(run.tally(), by=by, confidence=confidence, strata=strata, live=live)
    return pd.DataFrame(rows, columns=[by, *_COUNTS])


def domain_rate(
    strata: Strata, cells: Mapping[Cell, int], labels: Iterable[str], belongs: Callable[[FaultClass], bool]
) -> DesignRate:
    """Rate of some labels in a part of the population: the strata cut to it, each by its share of the part.

    Args:
        strata: of the campaign.
        cells: counts of the trials in the part.
        labels: what counts as a hit.
        belongs: whether a class of faults is in the part.
    """
    return design_rate(strata.frame(belongs), *strata.counted(cells, labels, belongs))


def _belongs(strata: Strata, by: str, value: str | None, *, live: bool) -> Callable[[FaultClass], bool]:
    """Whether a class of faults lies where the value of the axis is; a model strikes every class alike."""

    def belongs(one: FaultClass) -> bool:
        if live and one.bit == _UNUSED:
            return False
        if value is None or by == "model":
            return True
        return value == (strata.kind_of(one) if by == "kind" else getattr(one, by))

    return belongs


def simple_rate(cells: Mapping[Cell, int], label: str) -> DesignRate:
    """Rate of a label in a simple random sample."""
    hits = sum(count for cell, count in cells.items() if cell.label == label)
    return DesignRate.simple(hits, sum(cells.values()))


def _bounds(rate: DesignRate, confidence: float) -> dict[str, float]:
    found = {"rate": float(rate.rate), "effective_n": float(rate.effective_n), "events": float(rate.events)}
    for method in ("wilson", "exact"):
        low, high = design_interval(rate, method=method, confidence=confidence)
        found |= {f"{method}_low": float(low), f"{method}_high": float(high)}
    return found


def _counted(tally: Tally, cells: Sequence[tuple[str | None, str]], confidence: float) -> list[dict[str, Any]]:
    """Counts by (kind of fault, label), which every bench tells."""
    count = np.array([tally.count(kind=kind, label=label) for kind, label in cells], dtype=np.int64)
    n = np.array([tally.count(kind=kind) for kind, _ in cells], dtype=np.int64)
    columns = {
        "kind": [ALL_KINDS if kind is None else kind for kind, _ in cells],
        "label": [label for _, label in cells],
        "count": count.tolist(),
        "n": n.tolist(),
        "rate": (count / np.maximum(n, 1)).tolist(),
        "effective_n": n.astype(np.float64).tolist(),
        "events": (count * (1.0 - count / np.maximum(n, 1))).tolist(),
    }
    for name, interval in (("wilson", wilson_interval), ("exact", clopper_pearson_interval)):
        low, high = interval(count, n, confidence=confidence)
        columns |= {f"{name}_low": low.tolist(), f"{name}_high": high.tolist()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
