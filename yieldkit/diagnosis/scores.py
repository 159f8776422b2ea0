"""Scores of the blind answers against the referee's labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from yieldkit.diagnosis.taxonomy import Taxonomy, load_taxonomy
from yieldkit.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["confusion", "recall_table"]


def confusion(labels: Sequence[str], codes: Sequence[str], *, taxonomy: Taxonomy | None = None) -> pd.DataFrame:
    """Count trials by the referee's label (rows) and the blind code (columns), both in order of priority.

    Only labels and codes that occur, and the codes that would have been right for them, get a row or column.

    Raises:
        BadInput: unlike lengths, an unknown label or code, or a code that only a referee can give.
    """
    import pandas as pd

    taxonomy = taxonomy or load_taxonomy()
    _check(labels, codes, taxonomy)
    order = [entry.id for entry in taxonomy.on("manifestation")]
    rows = [code for code in order if code in set(labels)]
    wanted = set(codes) | {taxonomy.right_answer(label) for label in rows}
    columns = [code for code in order if code in wanted]
    counts = Counter(zip(labels, codes, strict=True))
    return pd.DataFrame(
        [[counts[label, code] for code in columns] for label in rows],
        index=pd.Index(rows, name="label", dtype="object"),
        columns=pd.Index(columns, name="code", dtype="object"),
        dtype="int64",
    )


def recall_table(
    labels: Sequence[str], codes: Sequence[str], *, confidence: float = 0.95, taxonomy: Taxonomy | None = None
) -> pd.DataFrame:
    """Recall per label with its Wilson interval.

    Returns:
        one row per label that occurs, in order of priority: label, right_code, needs (the channel without which the
        right answer cannot be given, or ""), n, right, recall, low, high. INCONCLUSIVE counts as wrong unless it is
        the label.

    Raises:
        BadInput: as `confusion`.
    """
    import pandas as pd

    from yieldkit.reliability.proportions import wilson_interval

    taxonomy = taxonomy or load_taxonomy()
    _check(labels, codes, taxonomy)
    rows = []
    for entry in taxonomy.on("manifestation"):
        answers = [code for label, code in zip(labels, codes, strict=True) if label == entry.id]
        if answers:
            good = taxonomy.right_answer(entry.id)
            right = sum(code == good for code in answers)
            low, high = wilson_interval(right, len(answers), confidence=confidence)
            rows.append(
                (entry.id, good, entry.needs, len(answers), right, right / len(answers), float(low), float(high))
            )
    return pd.DataFrame(rows, columns=["label", "right_code", "needs", "n", "right", "recall", "low", "high"])


def _check(labels: Sequence[str], codes: Sequence[str], taxonomy: Taxonomy) -> None:
    if len(labels) != len(codes):
        raise BadInput("labels and codes must have the same length", value=(len(labels), len(codes)))
    for label in sorted(set(labels)):
        taxonomy.manifestation(label)
    for code in sorted(set(codes)):
        if taxonomy.manifestation(code).judge != "diagnosis":
            raise BadInput("diagnosis cannot give this code, only a referee can", value=code)
