"""Confusion and recall against a referee's labels."""

from __future__ import annotations

import pytest

from yieldkit.diagnosis import confusion, recall_table
from yieldkit.errors import BadInput

LABELS = ["BENIGN", "MASKED_UNREAD", "MASKED_UNREAD", "STALL_DROP", "STALL_DROP", "SDC_BITS"]
CODES = ["MASKED_OR_BENIGN", "MASKED_OR_BENIGN", "SPIKE", "STALL_DROP", "INCONCLUSIVE", "MASKED_OR_BENIGN"]


def test_confusion_counts_every_trial_once() -> None:
    table = confusion(LABELS, CODES)
    assert list(table.index) == ["STALL_DROP", "BENIGN", "SDC_BITS", "MASKED_UNREAD"]
    assert list(table.columns) == ["STALL_DROP", "SPIKE", "SDC_BITS", "MASKED_OR_BENIGN", "INCONCLUSIVE"]
    assert int(table.to_numpy().sum()) == len(LABELS)
    assert table.loc["STALL_DROP", "INCONCLUSIVE"] == 1
    assert table.loc["MASKED_UNREAD", "SPIKE"] == 1
    assert table.loc["SDC_BITS", "SDC_BITS"] == 0


def test_recall_maps_the_referees_rows_and_counts_inconclusive_as_wrong() -> None:
    table = recall_table(LABELS, CODES).set_index("label")
    assert table.loc["BENIGN", "right_code"] == "MASKED_OR_BENIGN"
    assert table["right"].to_dict() == {"STALL_DROP": 1, "BENIGN": 1, "SDC_BITS": 0, "MASKED_UNREAD": 1}
    assert table.loc["STALL_DROP", "recall"] == 0.5
    assert table.loc["SDC_BITS", "needs"] == "golden_compare"


def test_intervals_are_wilsons() -> None:
    """5 of 100 at 95 %: .0215437 to .1117505 (published worked number)."""
    table = recall_table(["CRASH"] * 100, ["CRASH"] * 5 + ["SLOW"] * 95)
    assert table["low"][0] == pytest.approx(0.0215437, abs=5e-8)
    assert table["high"][0] == pytest.approx(0.1117505, abs=5e-8)


def test_empty_and_wrong_input() -> None:
    assert confusion([], []).shape == (0, 0)
    assert len(recall_table([], [])) == 0
    with pytest.raises(BadInput, match="same length"):
        confusion(["CRASH"], [])
    with pytest.raises(BadInput, match="only a referee"):
        confusion(["BENIGN"], ["BENIGN"])
    with pytest.raises(BadInput, match="unknown manifestation"):
        confusion(["NOPE"], ["CRASH"])
