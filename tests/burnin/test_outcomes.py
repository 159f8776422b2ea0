"""Outcome tables: counted again by hand, intervals from the published numbers, coverage with a control."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.burnin.specs import campaign
from yieldkit.burnin import Tally, baseline_of, outcome_table, verdict_of
from yieldkit.errors import BadInput
from yieldkit.rng import generator


def test_every_kind_meets_every_label_with_n_and_intervals():
    tally = Tally({("config", "STALL_CTRL"): 5, ("config", "BENIGN"): 95, ("link_drop", "STALL_DROP"): 300})
    table = outcome_table(tally).set_index(["kind", "label"])
    assert len(table) == 3 * 3
    row = table.loc["config", "STALL_CTRL"]
    assert (row["count"], row.n, row.rate) == (5, 100, 0.05)
    # Two-sided 95 % intervals of 5 in 100 and of 0 in 300, as in the tests of the intervals.
    assert [round(row[name], 7) for name in ("wilson_low", "wilson_high")] == [0.0215437, 0.1117505]
    assert [round(row[name], 7) for name in ("exact_low", "exact_high")] == [0.0164319, 0.1128349]
    zero = table.loc["link_drop", "BENIGN"]
    assert (zero["count"], zero.rate, zero.wilson_low, zero.exact_low) == (0, 0, 0, 0)
    assert [round(zero[name], 7) for name in ("wilson_high", "exact_high")] == [0.0126430, 0.0122210]
    assert table.loc["all", "STALL_CTRL"]["n"] == 400
    assert outcome_table(tally, confidence=0.99).wilson_high.iloc[0] > outcome_table(tally).wilson_high.iloc[0]
    with pytest.raises(BadInput, match="confidence"):
        outcome_table(tally, confidence=95)


def test_a_run_is_counted_as_its_rows_are(tmp_path):
    run = campaign().run(tmp_path)
    frame = run.to_frame()
    table = outcome_table(run)
    for row in table.itertuples():
        chosen = frame if row.kind == "all" else frame[frame.kind == row.kind]
        assert row.n == len(chosen)
        assert row.count == (chosen.label == row.label).sum()
    assert table["count"].sum() == 2 * len(frame)


def test_no_trial_makes_an_empty_table_with_its_columns():
    table = outcome_table(Tally())
    assert len(table) == 0
    assert list(table.columns)[:5] == ["kind", "label", "count", "n", "rate"]


def test_simulated_campaigns_are_covered_and_a_narrow_interval_is_not():
    rate, n, repeats = 0.1, 200, 2000
    counts = generator(7, "tests.outcomes").binomial(n, rate, size=repeats)
    covered = narrow = 0
    for count, times in zip(*np.unique(counts, return_counts=True), strict=True):
        tally = Tally({("a", "SDC_BITS"): int(count), ("a", "BENIGN"): int(n - count)})
        row = outcome_table(tally).set_index(["kind", "label"]).loc["a", "SDC_BITS"]
        covered += times * (row.exact_low <= rate <= row.exact_high)
        # The control takes a third of the width and must fail the same bar.
        middle, half = (row.exact_low + row.exact_high) / 2, (row.exact_high - row.exact_low) / 6
        narrow += times * (abs(rate - middle) <= half)
    bar = 0.95 * repeats - 5 * math.sqrt(repeats * 0.95 * 0.05)
    assert covered >= bar
    assert narrow < bar


def test_diagnosis_gets_the_observations_only(tmp_path):
    run = campaign().run(tmp_path)
    stalled = next(record for record in run.records() if record.label == "STALL_DROP")
    verdict = verdict_of(stalled)
    assert verdict.code not in ("MASKED_OR_BENIGN", "BENIGN")
    import dataclasses

    blind = dataclasses.replace(stalled, truth={"kind": "none"}, label="BENIGN", metrics={})
    assert verdict_of(blind) == verdict
    assert baseline_of(()) is None
    clean = next(record for record in run.records() if record.label == "BENIGN")
    baseline = baseline_of([clean.observations])
    assert baseline.loss == pytest.approx(np.array(clean.observations["loss"]))
    assert verdict_of(clean, baseline=baseline).code == "MASKED_OR_BENIGN"
