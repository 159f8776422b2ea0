"""Two runs beside each other: rates, differences with intervals and tests, and the fields in which the specs differ."""

from __future__ import annotations

import json

import pytest

from tests.burnin.specs import campaign
from tests.burnin.test_strata import stratified
from yieldkit.burnin import CampaignRun, compare_runs, outcome_table
from yieldkit.cli import run as cli
from yieldkit.errors import BadInput
from yieldkit.reliability import difference_interval, wilson_interval


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    a = campaign("campaign.trials=200").run(folder / "a")
    b = campaign("campaign.trials=120", "campaign.seed=8", "faults.kinds.link_drop=6").run(folder / "b")
    return a, b


def test_rows_hold_both_rates_and_their_difference(pair):
    a, b = pair
    found = compare_runs(a, b)
    assert found.n == (200, 120)
    for row in found.rows:
        for side, run in zip("ab", pair, strict=True):
            records = [one for one in run.records() if row["group"] in ("all", one.site or one.kind)]
            assert row[f"n_{side}"] == len(records)
            assert row[f"count_{side}"] == sum(one.label == row["label"] for one in records)
        x, n, y, m = (row[name] for name in ("count_a", "n_a", "count_b", "n_b"))
        assert row["difference"] == pytest.approx(y / m - x / n)
        first, second = wilson_interval(x, n), wilson_interval(y, m)
        low, high = difference_interval((x / n, y / m), (first[0], second[0]), (first[1], second[1]))
        assert (row["difference_low"], row["difference_high"]) == pytest.approx((float(low), float(high)))
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        assert row["p"] <= row["p_holm"] <= 1.0
    every = [row for row in found.rows if row["group"] == "all"]
    assert [row["label"] for row in every] == sorted(
        {row["label"] for row in every}, key=lambda label: -a.tally().count(label=label) - b.tally().count(label=label)
    )
    assert list(found.to_frame().columns)[:2] == ["group", "label"]


def test_swapping_the_runs_turns_the_signs(pair):
    a, b = pair
    there, back = compare_runs(a, b), compare_runs(b, a)
    for one, other in zip(there.rows, back.rows, strict=True):
        assert (one["group"], one["label"]) == (other["group"], other["label"])
        assert one["difference"] == pytest.approx(-other["difference"])
        assert one["difference_low"] == pytest.approx(-other["difference_high"])
        assert one["p_holm"] == pytest.approx(other["p_holm"])


def test_a_run_does_not_differ_from_itself(pair):
    found = compare_runs(pair[0], pair[0])
    assert (found.fields, found.same_task) == ((), True)
    assert all(row["difference"] == 0 and row["p"] == row["p_holm"] == 1 for row in found.rows)


def test_fields_that_differ_are_named_with_both_values(pair):
    fields = {one.field: (one.a, one.b) for one in compare_runs(*pair).fields}
    assert fields == {
        "campaign.seed": (7, 8),
        "campaign.trials": (200, 120),
        "faults.kinds.link_drop": (1.5, 6.0),
    }


def test_another_program_shows_as_another_task(pair, tmp_path):
    other = campaign("campaign.trials=8", "program.steps_more=1").run(tmp_path / "run")
    found = compare_runs(pair[0], other)
    assert found.same_task is False
    assert ("program.steps_more", None, 1) in [(one.field, one.a, one.b) for one in found.fields]


def test_labels_and_groups_of_one_side_only(pair, tmp_path):
    few = campaign("campaign.trials=2", "faults.kinds={sram_data=1}").run(tmp_path / "few")
    found = compare_runs(pair[0], few)
    assert {row["label"] for row in found.rows} == set(pair[0].tally().labels)
    assert [row["count_b"] for row in found.rows if row["group"] == "all"].count(0) >= 2
    groups = {row["group"] for row in found.rows} - {"all"}
    assert groups == {row[0] for row in outcome_table(few, by=found.by)[[found.by]].to_numpy()} - {"all"}
    assert found.groups_of_one["b"] == ()
    assert found.groups_of_one["a"]


def test_design_weights_are_used_where_a_run_has_them(tmp_path):
    weighted = stratified().run(tmp_path / "a")
    plain = campaign("campaign.trials=320", "campaign.seed=9").run(tmp_path / "b")
    found = compare_runs(weighted, plain)
    assert found.weighted == (True, False)
    table = outcome_table(weighted, by="kind")
    for row in found.rows:
        if row["group"] == "all" and row["count_a"]:
            own = table[(table["kind"] == "all") & (table["label"] == row["label"])].iloc[0]
            assert row["rate_a"] == pytest.approx(own["rate"])
            assert (row["low_a"], row["high_a"]) == pytest.approx((own["wilson_low"], own["wilson_high"]))
    # Weighting matters here: for some label the rate is not the share of the trials.
    assert any(abs(row["rate_a"] - row["count_a"] / row["n_a"]) > 0.01 for row in found.rows if row["group"] == "all")


def test_the_command(pair, capsys):
    folders = [str(run.folder) for run in pair]
    assert cli(["burnin", "compare", *folders]) == 0
    text = capsys.readouterr().out
    assert "campaign.seed: 7 -> 8" in text
    assert "Newcombe's interval of 95 %" in text
    assert cli(["burnin", "compare", *folders, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(compare_runs(*pair).to_dict()))
    assert cli(["burnin", "compare", *folders, "--confidence", "2"]) == 2
    assert cli(["burnin", "compare", folders[0], folders[0] + "/none"]) == 2


def test_runs_without_trials_compare_to_nothing(pair, tmp_path):
    with pytest.raises(BadInput):
        campaign("program.refuse=true").run(tmp_path)
    found = compare_runs(pair[0], CampaignRun.load(tmp_path))
    assert (found.n[1], found.same_task) == (0, None)
    assert all(row["p"] == 1 for row in found.rows)
