"""Campaigns on the stencil and the solver at their smallest."""

from __future__ import annotations

import pytest

from yieldkit.burnin import Campaign
from yieldkit.burnin.emulator_bench import open_bench
from yieldkit.burnin.verdict import baseline_of, verdict_of
from yieldkit.diagnosis import load_taxonomy

CODES = {entry.id for entry in load_taxonomy().entries if entry.axis == "manifestation"}


@pytest.mark.parametrize("kind", ["cg", "stencil"])
def test_trials_have_labels_and_diagnoses_and_repeat_themselves(kind):
    campaign = Campaign.from_tables(
        {
            "campaign": {"name": "grid", "seed": 3, "trials": 10, "round": 10, "chunk": 5},
            "wafer": {"preset": "mini", "defects": {"law": "poisson", "d0_per_cm2": 0.02, "seed": 1}},
            "program": {"kind": kind, "rows": 2, "cols": 3, "depth": 4, "steps": 12},
            "faults": {"kinds": {"result": 3, "config": 4, "link_flip": 2, "link_drop": 1}},
        }
    )
    bench = open_bench(campaign.spec)
    records = [bench.trial(k) for k in range(10)]
    assert [bench.trial(k).text() for k in (7, 2)] == [records[k].text() for k in (7, 2)]
    baseline = baseline_of(bench.clean_observations)
    labels = {record.label for record in records}
    assert labels <= CODES
    assert len(labels) > 1
    assert {verdict_of(record, baseline=baseline).code for record in records} <= CODES
