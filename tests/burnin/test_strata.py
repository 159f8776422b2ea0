"""Strata in a campaign: floors, allocation by complete rounds only, same rows on any way to them, trials replayed."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.burnin.specs import campaign, rows
from yieldkit.burnin import CampaignRun
from yieldkit.burnin.schedule import HALF_WIDTH
from yieldkit.burnin.strata import Strata
from yieldkit.burnin.trial import FaultClass
from yieldkit.errors import BadInput, BadSpec

NEYMAN = {"by": ["site", "bit"], "floor": 4, "allocation": "neyman", "target": "NAN_HW"}


def stratified(*overrides, strata=None, **section):
    text = ", ".join(f"{name} = {value!r}" for name, value in (strata or NEYMAN).items()).replace("'", '"')
    section = {"trials": 320, "round": 80, "chunk": 7, **section}
    return campaign(f"strata={{{text}}}", *overrides, **section)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return stratified().run(tmp_path_factory.mktemp("strata"))


def test_every_stratum_gets_its_floor_and_the_rest_follows_the_target(whole, tmp_path):
    seen = Counter((record.site, record.bit) for record in whole.records())
    assert len(seen) == 12
    assert min(seen.values()) >= 4
    first = whole.allocations()[0]
    assert sum(first.values()) == 80
    assert {half: sum(n for (own, _), n in first.items() if own == half) for half in (0, 1)} == {0: 40, 1: 40}
    assert all(first[half, f"{site}/{bit}"] >= 2 for half in (0, 1) for site, bit in seen)
    # By population the low bits of mantissas would get less than a third; they hold nearly all of the variance. Three
    # hits in 320 trials say little of that, a dozen in 1,600 do.
    late = Counter()
    longer = stratified(trials=1600).run(tmp_path / "longer")
    for number in range(16, 20):
        for (_, name), n in longer.allocations()[number].items():
            late[name.partition("/")[2]] += n
    by_population = Counter()
    for one in whole.classes():
        by_population[one.bit] += one.population
    share = by_population["mantissa_low"] / by_population.total()
    assert late["mantissa_low"] / late.total() > 1.2 * share
    assert late["unused"] / late.total() < 0.9 * by_population["unused"] / by_population.total()


def test_rows_do_not_depend_on_workers_chunks_or_stops(whole, tmp_path):
    two = stratified(chunk=11).run(tmp_path / "two", jobs=2)
    assert rows(two) == rows(whole)
    assert two.allocations() == whole.allocations()
    for trials in (30, 95, 200, 320):
        stratified(trials=trials).run(tmp_path / "bits")
    assert rows(CampaignRun.load(tmp_path / "bits")) == rows(whole)


def test_any_trial_can_be_replayed_from_the_folder_and_from_the_spec_only_where_that_decides(whole):
    for k in (0, 79, 80, 81, 250, 319):
        assert whole.replay(k).equal
    assert whole.campaign.replay(17).text() == whole.record(17).text()
    with pytest.raises(BadInput, match="round 2"):
        whole.campaign.replay(160)
    fixed = stratified(strata={"by": ["bit"], "allocation": "proportional"})
    assert fixed.replay(250).k == 250


def test_the_order_inside_a_round_holds_exactly_what_was_allocated(whole):
    strata = Strata.of(whole.campaign.spec, whole.classes())
    for number, allocation in whole.allocations().items():
        order = strata.order(number, allocation)
        found = Counter((k % 2, strata.stratum_of(k, order)) for k in range(80 * number, 80 * number + 80))
        assert found == Counter(allocation)


@pytest.mark.parametrize("size", [1, 7, 16])
def test_odd_rounds_and_more_strata_than_trials_fill_the_floor_first(size):
    made = stratified(round=size)
    strata = Strata.of(made.spec, stratified_classes())
    seen = Counter()
    for number in range(-(-60 // size)):
        shown = tuple((half, *name.split("/"), "forward", 1.0, False, n) for (half, name), n in sorted(seen.items()))
        allocation = strata.plan(number, shown)
        order = strata.order(number, allocation)
        for k in range(number * size, (number + 1) * size):
            strata.stratum_of(k, order)
        seen.update(allocation)
    assert len(seen) == 24
    assert min(seen.values()) >= 2


def stratified_classes():
    from tests.burnin.counting_bench import CountingBench

    return CountingBench(stratified().spec).classes


def test_the_stop_rule_reads_the_weighted_interval(tmp_path):
    from yieldkit.reliability.designs import design_interval, design_rate

    rule = "campaign.stop={label='NAN_HW', half_width=0.0034}"
    one = stratified(rule, trials=4000).run(tmp_path / "one")
    assert one.decision.reason == HALF_WIDTH
    strata = Strata.of(one.campaign.spec, one.classes())
    rate = design_rate(strata.frame(), *strata.counted(one.tally().cells, ["NAN_HW"]))
    low, high = design_interval(rate)
    assert (high - low) / 2 <= 0.0034
    # Counting alone would stop elsewhere: half of the trials went where the label is frequent.
    from yieldkit.reliability.proportions import wilson_interval

    low, high = wilson_interval(one.tally().count(label="NAN_HW"), one.n)
    assert (high - low) / 2 > 0.0034
    two = stratified(rule, trials=4000, chunk=13).run(tmp_path / "two", jobs=2)
    assert rows(two) == rows(one)


def test_what_alters_a_trial_is_in_the_fingerprint_and_raw_rates_are_not():
    base = stratified().fingerprint
    for change in ("strata.floor=5", "strata.mix=0.6", "campaign.round=81", "faults.models={zero=1}",
                   "faults.importance={sign=2}"):  # fmt: skip
        assert stratified(change).fingerprint != base
    assert stratified("rates={sram=100.0}").fingerprint == base
    assert campaign("campaign.round=81").fingerprint == campaign().fingerprint


@pytest.mark.parametrize(("override", "said"), [
    ("strata.by=['site', 'bits']", "strata.by"),
    ("strata.by=['bit', 'bit']", "twice"),
    ("strata.target=''", "strata.target"),
    ("strata.allocation=neymann", "strata.allocation"),
    ("strata={allocation='neyman'}", "needs the label"),
    ("strata={target='SDC_BITS'}", "belongs to allocation"),
    ("strata.floor=-1", "strata.floor"),
    ("faults.models={adjacent_40=1}", "adjacent_40"),
    ("faults.models={stuck0=1}", "did you mean stuck_0"),
    ("faults.importance={exponent_mbs=2}", "did you mean exponent_msb"),
    ("faults.importance={sign=0}", "faults.importance.sign"),
    ("rates={sramm=1}", "did you mean sram"),
    ("faults.kinds.sram_weights=1", "is in sram_data already"),
])  # fmt: skip
def test_wrong_fields_are_named(override, said):
    with pytest.raises(BadSpec, match=said):
        stratified(override)


def test_a_class_that_stands_in_for_a_kind_has_that_kind():
    made = campaign("faults.kinds={accumulator=1, link_drop=3}")
    classes = (FaultClass("result", "sign", "forward", 10), FaultClass("link_drop", "whole", "forward", 5))
    strata = Strata.of(made.spec, classes)
    assert [strata.kind_of(one) for one in classes] == ["accumulator", "link_drop"]
    assert strata.weights == pytest.approx([0.25, 0.75])
    with pytest.raises(BadInput, match="no kind of fault"):
        Strata.of(made.spec, [*classes, FaultClass("route", "live", "forward", 5)])
    with pytest.raises(BadInput, match="no place"):
        Strata.of(made.spec, classes[1:])
