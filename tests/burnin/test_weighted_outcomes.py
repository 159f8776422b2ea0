"""Rates of the population from strata and from importance, by class; failures in time against a sum by hand."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from tests.burnin.counting_bench import RATES, CountingBench
from tests.burnin.specs import campaign
from tests.burnin.test_strata import stratified
from yieldkit.burnin import outcome_table
from yieldkit.burnin.fit import fit_table, protection_of, without_rate
from yieldkit.burnin.survey import survey_of
from yieldkit.errors import BadInput
from yieldkit.reliability.proportions import wilson_interval

RATE_TABLE = "rates={sram_weights=200.0, sram=100.0, link_drop=0.5}"


def truth(**only):
    """Rate of NAN_HW in a part of the counting bench's population: kinds by weight, classes by population."""
    made = campaign("strata={}")
    classes = CountingBench(made.spec).classes
    kinds = {"sram_data": 3, "link_drop": 1.5}
    kind = {one: "link_drop" if one.site == "link_drop" else "sram_data" for one in classes}
    size = {name: sum(one.population for one in classes if kind[one] == name) for name in kinds}
    total = hits = 0.0
    for one in classes:
        if all(getattr(one, axis) == value for axis, value in only.items()):
            share = kinds[kind[one]] * one.population / size[kind[one]]
            total += share
            hits += share * RATES[one.bit] * (1.0 if one.site == "sram_weights" else 0.5)
    return hits / total


@cache
def run_of(tmp, *overrides, **changes):
    return stratified(*overrides, trials=3200, round=400, chunk=100, **changes).run(tmp)


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("weighted"), RATE_TABLE)


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """Importance inside one stratum of everything: highest exponent bits and signs oftener."""
    boost = "faults.importance={exponent_msb=20, sign=10, unused=0.2}"
    made = campaign("strata={by=['phase'], floor=0}", boost, trials=3200, round=400, chunk=100)
    return made.run(tmp_path_factory.mktemp("rare"))


def within(row, true):
    return row.exact_low - 1e-12 <= true <= row.exact_high + 1e-12


def test_weighted_rates_hold_the_truth_and_plain_counts_do_not(weighted):
    row = outcome_table(weighted).set_index(["kind", "label"]).loc["all", "NAN_HW"]
    assert within(row, truth())
    assert (row["count"], row.n) == (weighted.tally().count(label="NAN_HW"), 3200)
    low, high = wilson_interval(row["count"], row.n)
    assert not low <= truth() <= high
    # The width is below that of as many trials drawn alike.
    alike = wilson_interval(round(truth() * 3200), 3200)
    assert row.wilson_high - row.wilson_low < 0.8 * float(alike[1] - alike[0])


@pytest.mark.parametrize("by", ["site", "bit", "kind"])
def test_tables_by_class_hold_the_truth_of_each_class(weighted, by):
    table = outcome_table(weighted, by=by, confidence=0.999)
    for row in table[table.label == "NAN_HW"].itertuples():
        value = getattr(row, by)
        if by == "kind":
            continue
        assert within(row, truth() if value == "all" else truth(**{by: value})), row
    assert table[by].iloc[0] == "all"
    for _, part in table.groupby(by):
        assert part.rate.sum() == pytest.approx(1.0)
        assert part["count"].sum() == part.n.iloc[0]


def test_rates_per_live_bit_leave_out_what_nothing_reads(weighted):
    table = outcome_table(weighted, by="site", live=True).set_index(["site", "label"])
    bench = CountingBench(weighted.campaign.spec)
    live = [one for one in bench.classes if one.site == "sram_weights" and one.bit != "unused"]
    true = sum(one.population * RATES[one.bit] for one in live) / sum(one.population for one in live)
    row = table.loc["sram_weights", "NAN_HW"]
    assert within(row, true)
    assert row.n == sum(
        count for cell, count in weighted.tally().cells.items() if cell.site == "sram_weights" and cell.bit != "unused"
    )
    with pytest.raises(BadInput, match="by must be"):
        outcome_table(weighted, by="colour")


def test_importance_agrees_with_plain_sampling_inside_its_interval(rare, weighted, tmp_path):
    row = outcome_table(rare).set_index(["kind", "label"]).loc["all", "NAN_HW"]
    assert within(row, truth())
    assert {record.weight for record in rare.records()} > {next(iter(rare.records())).weight}
    # Weights average to one, and are stored with the trial.
    weights = np.array([record.weight for record in rare.records()])
    assert abs(weights.mean() - 1) <= 5 * weights.std() / math.sqrt(len(weights))
    plain = campaign("strata={by=['phase'], floor=0}", trials=3200, round=400, chunk=100).run(tmp_path)
    other = outcome_table(plain).set_index(["kind", "label"]).loc["all", "NAN_HW"]
    assert row.wilson_low <= other.wilson_high
    assert other.wilson_low <= row.wilson_high
    # Rates of one class that is drawn twenty times as often come from far more trials.
    both = [
        outcome_table(run, by="bit").set_index(["bit", "label"]).loc["exponent_msb", "NAN_HW"] for run in (rare, plain)
    ]
    assert both[0].n > 8 * both[1].n
    assert all(within(one, truth(bit="exponent_msb")) for one in both)
    # The control: counting without weights.
    low, high = wilson_interval(row["count"], row.n)
    assert not low <= truth() <= high


def test_failures_in_time_are_raw_rates_times_units_times_outcomes(weighted):
    table = fit_table(weighted).set_index(["site", "label"])
    rates = {"sram_weights": 200.0, "sram_activations": 100.0, "link_drop": 0.5}
    units = {"sram_weights": 3 * 2**20, "sram_activations": 5 * 2**20, "link_drop": 40}
    outcomes = outcome_table(weighted, by="site").set_index(["site", "label"])
    expected = 0.0
    for site, raw in rates.items():
        row, number = table.loc[site, "NAN_HW"], units[site] / (1 if site == "link_drop" else 2**20)
        assert row.units == pytest.approx(number)
        assert row.raw_fit == raw
        assert row.rate == pytest.approx(outcomes.loc[site, "NAN_HW"].rate)
        assert row.fit == pytest.approx(raw * number * row.rate)
        assert row.fit_low <= raw * number * truth(site=site) <= row.fit_high
        expected += raw * number * truth(site=site)
    total = table.loc["all", "NAN_HW"]
    assert total.fit == pytest.approx(sum(table.loc[site, "NAN_HW"].fit for site in rates))
    assert total.fit_low <= expected <= total.fit_high
    # Labels share what is struck: their failures add up to all that strikes.
    struck = sum(raw * units[site] / (1 if site == "link_drop" else 2**20) for site, raw in rates.items())
    assert sum(table.loc["all"].fit) == pytest.approx(struck)
    assert set(protection_of(weighted.campaign.spec)) == {"sram", "links", "memoryx", "framing"}


def test_what_has_no_raw_rate_or_no_trials_is_told(weighted):
    unrated, unsampled = without_rate(weighted)
    assert unrated == ()
    assert {"sram_kv", "sram_free"} <= set(unsampled)
    assert "link_flip" not in unsampled


def test_without_raw_rates_there_is_nothing_to_multiply(rare):
    with pytest.raises(BadInput, match="raw rates"):
        fit_table(rare)


def test_a_survey_names_strata_populations_and_plans():
    survey = survey_of(stratified())
    assert len(survey.rows) == 12
    assert sum(row["share"] for row in survey.rows) == pytest.approx(1)
    assert sum(row["first_round"] for row in survey.rows) == 80
    assert {row["budget"] for row in survey.rows} == {None}
    fixed = survey_of(stratified(strata={"by": ["bit"], "allocation": "proportional"}, trials=100))
    assert sum(row["budget"] for row in fixed.rows) == 160
    assert any("last round has 20 of 80" in note for note in fixed.notes)
    short = survey_of(stratified("strata.floor=90"))
    assert any("stay short" in note for note in short.notes)
    # A floor of 24 in 12 strata takes nine tenths of 320 trials; one of 4 takes a sixth and widens nothing much.
    heavy = survey_of(stratified("strata.floor=24", strata={"by": ["site", "bit"], "allocation": "proportional"}))
    assert any("times as wide" in note and "the floor takes 90 %" in note for note in heavy.notes)
    assert not any("times as wide" in note for note in survey.notes)
    favoured = survey_of(stratified("faults.importance={sign=200}", strata={"by": ["site"]}))
    assert any("(importance)" in note for note in favoured.notes)
    whole = survey_of(campaign())
    assert whole.notes == ()
    assert [row["stratum"] for row in whole.rows] == ["all"]


def test_importance_agrees_with_plain_sampling_on_the_emulator(tmp_path):
    """A decoding: exponents and signs eight times as often, and the same rate of changed tokens."""
    from tests.burnin.test_emulator_campaign import campaign as emulated

    found = {}
    for name, trials, boost in (
        ("plain", 400, "faults.importance={}"),
        ("rare", 200, "faults.importance={exponent_msb=8, exponent_rest=2, sign=4, unused=0.25}"),
    ):
        run = emulated("decode", boost, "faults.kinds={sram_data=1}", "campaign.round=100", trials=trials).run(
            tmp_path / name
        )
        table = outcome_table(run).set_index(["kind", "label"])
        found[name] = table.loc["all", "SDC_BITS"]
        assert run.classes()
        assert {record.model for record in run.records()} == {"bit"}
    assert found["plain"]["count"] >= 5
    assert found["rare"]["count"] / 200 > 1.5 * found["plain"]["count"] / 400
    assert found["rare"].wilson_low <= found["plain"].wilson_high
    assert found["plain"].wilson_low <= found["rare"].wilson_high
    # The control: without weights the two would not agree.
    low, _ = wilson_interval(found["rare"]["count"], 200)
    assert low > found["plain"].rate


def test_strata_on_the_emulator_give_the_same_rows_on_two_workers_and_any_trial_again(tmp_path):
    from tests.burnin.test_emulator_campaign import campaign as emulated

    overrides = (
        "strata={by=['site'], floor=2, allocation='neyman', target='SDC_BITS'}",
        "faults.kinds={sram_weights=2, sram_kv=1, operand=1, index=1, queue=1, switch=1, memoryx_weights=1}",
        "faults.models={bit=1, adjacent_2=1, stuck_1=1, zero=1}",
        "campaign.round=16",
    )
    one, two = (emulated("decode", *overrides, trials=32).run(tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert [record.text() for record in one.records()] == [record.text() for record in two.records()]
    assert one.allocations() == two.allocations()
    assert {record.site for record in one.records()} == {one.site for one in one.classes()}
    assert one.replay(30).equal


def test_the_text_names_rates_that_few_events_decide(tmp_path):
    from click.testing import CliRunner

    from yieldkit.cli.burnin_strata import outcomes

    short = stratified(trials=160).run(tmp_path / "short")
    said = CliRunner().invoke(outcomes, [str(short.folder), "--by", "site"])
    assert said.exit_code == 0, said.output
    assert "fewer than 5 events decide these" in said.output
