"""Outcome rates of a campaign, each with its n and its intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yieldkit.burnin.campaign import CampaignRun
from yieldkit.burnin.tally import Tally
from yieldkit.reliability.proportions import clopper_pearson_interval, wilson_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALL_KINDS", "outcome_rows", "outcome_table"]

ALL_KINDS: Final = "all"
_COLUMNS: Final = (
    *("kind", "label", "count", "n", "rate"),
    *("wilson_low", "wilson_high", "exact_low", "exact_high"),
)


def outcome_rows(tally: Tally, *, confidence: float = 0.95) -> list[dict[str, Any]]:
    """The rows of `outcome_table` as plain values."""
    labels = list(tally.by_label())
    kinds: list[str | None] = [None, *tally.kinds] if labels else []
    cells = [(kind, label) for kind in kinds for label in labels]
    count = np.array([tally.count(kind=kind, label=label) for kind, label in cells], dtype=np.int64)
    n = np.array([tally.count(kind=kind) for kind, _ in cells], dtype=np.int64)
    columns = {
        "kind": [ALL_KINDS if kind is None else kind for kind, _ in cells],
        "label": [label for _, label in cells],
        "count": count.tolist(),
        "n": n.tolist(),
        "rate": (count / np.maximum(n, 1)).tolist(),
    }
    for name, interval in (("wilson", wilson_interval), ("exact", clopper_pearson_interval)):
        low, high = interval(count, n, confidence=confidence)
        columns |= {f"{name}_low": low.tolist(), f"{name}_high": high.tolist()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def outcome_table(run: CampaignRun | Tally, *, confidence: float = 0.95) -> pd.DataFrame:
    """Count labels by kind of fault.

    Args:
        run: a run, or counts.
        confidence: of the two-sided intervals, each on its own (not simultaneous).

    Returns:
        one row for every kind and every label seen anywhere, zeros included, because a zero has an upper bound; the
        kind "all" comes first. Columns: kind, label, count, n (trials of the kind), rate, wilson_low, wilson_high,
        exact_low, exact_high (Clopper-Pearson). Rates and bounds are fractions.

    Raises:
        BadInput: the confidence is out of range.
    """
    import pandas as pd

    rows = outcome_rows(run if isinstance(run, Tally) else run.tally(), confidence=confidence)
    return pd.DataFrame(rows, columns=list(_COLUMNS))
