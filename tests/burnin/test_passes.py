"""Trials of forward jobs, followed in the clean pass of the struck step, against the job from its first step on."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from yieldkit.burnin import Campaign
from yieldkit.burnin.exits import FULL, GOLDEN_AGAIN
from yieldkit.burnin.golden import Golden, carry_out, long_way
from yieldkit.burnin.passes import Passes
from yieldkit.burnin.referee import label_of
from yieldkit.burnin.trial import open_bench
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.rng import generator

PROGRAMS = {
    "gpt": {"kind": "gpt_forward", "layers": 1, "width": 8, "heads": 2, "context": 4, "sequences": 2},
    "cnn": {"kind": "cnn_forward", "layers": 2, "channels": 4, "side": 8, "samples": 4},
}
KINDS = {"sram_data": 3, "accumulator": 2, "config": 2, "link_flip": 2, "link_drop": 1}
STEPS = 3
TRIALS = 200


def campaign(program, **trials):
    sizes = {"rows": 2, "cols": 2, "steps": STEPS, "trained_steps": 6, **PROGRAMS[program]}
    tables = {
        "campaign": {"name": "passes", "seed": 7, "trials": 12},
        "wafer": {"preset": "mini"},
        "program": sizes,
        "faults": {"kinds": KINDS, "models": {"bit": 3, "stuck_1": 1, "random_2": 1}},
        "trials": trials,
    }
    return Campaign.from_tables(tables)


@cache
def bench(program, way=0.0):
    return open_bench(campaign(program, long_way=way).spec)


def at_once(golden: Golden, **options) -> Passes:
    """Passes that are kept from the first trial on."""
    return Passes(golden.lowered, golden.placement, golden.steps, golden.result, struck_before=0, **options)


def events(made, count, seed=1):
    """Faults of all classes alike, then as the campaign draws."""
    for k in range(count):
        rng = generator(seed, "tests.passes", k)
        one = made.classes[int(rng.integers(len(made.classes)))] if k % 2 else made.strata.draw("", k).fault
        event = made.sampler.draw_in(one.site, one.bit, one.phase, rng)
        yield made._model(event, rng)[0]


def assert_equal(result, whole, golden, event):
    assert result.symptoms.to_dict() == whole.symptoms.to_dict()
    assert result.step_digests == whole.step_digests
    assert result.state_hash == whole.state_hash
    assert np.array_equal(result.tokens, whole.tokens)
    core = FaultPlan([event], golden.placement).logical(event)
    assert label_of(golden, result, event, core, golden.lowered) == label_of(golden, whole, event, core, golden.lowered)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_followed_trial_is_the_long_way_s_bit_for_bit(program):
    made = bench(program)
    golden, passes = made.golden, at_once(made.golden)
    seen = Counter()
    with np.errstate(all="ignore"):
        for event in events(made, TRIALS):
            result = passes.trial(event)
            if result is None:
                result = carry_out(golden, event, queue_depth=made.queue_depth).result
            else:
                seen[event.place] += 1
                seen["changed"] += result.step_digests != golden.result.step_digests
                seen["loss"] += result.symptoms.loss != golden.result.symptoms.loss
                seen["tables"] += bool(result.symptoms.config_mismatch)
            assert_equal(result, long_way(golden, event, queue_depth=made.queue_depth), golden, event)
    assert passes.followed == seen["sram"] + seen["result"] + seen["link_flip"]
    assert min(seen[place] for place in ("sram", "result", "link_flip")) >= 8
    assert seen["changed"] >= 8
    assert seen["loss"] >= 3
    assert seen["tables"] >= 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_values_that_are_no_numbers_are_reported_as_the_long_way_reports_them(program):
    made = bench(program)
    golden, passes = made.golden, at_once(made.golden)
    numbers = 0
    with np.errstate(all="ignore"):
        for event in events(made, 400, seed=2):
            if event.place != "sram":
                continue
            nan = FaultEvent(**{**event.to_dict(), "keep": 0, "mask": 0x7FC0_0000, "lasts": False})
            result = passes.trial(nan)
            if result is None or result.symptoms.nonfinite_step is None:
                continue
            numbers += 1
            assert_equal(result, long_way(golden, nan, queue_depth=made.queue_depth), golden, nan)
            if numbers == 4:
                break
    assert numbers == 4


def test_a_trial_says_how_it_ended_as_if_its_step_had_been_run():
    made = bench("cnn")
    ends = set()
    with np.errstate(all="ignore"):
        for event in events(made, 60, seed=3):
            if made.golden.passes.trial(event) is None:
                continue
            trial = carry_out(made.golden, event, queue_depth=made.queue_depth)
            assert trial.steps_run == 1
            assert trial.exit == (FULL if event.step == STEPS - 1 else GOLDEN_AGAIN)
            ends.add(trial.exit)
    assert ends == {FULL, GOLDEN_AGAIN}


@pytest.mark.parametrize("program", PROGRAMS)
def test_campaigns_that_compare_find_no_difference(program):
    made = bench(program, 1.0)
    plain = bench(program)
    with np.errstate(all="ignore"):
        for k in range(12):
            assert made.trial(k).text() == plain.trial(k).text()


def test_a_wrong_pass_is_found_by_the_comparison(monkeypatch):
    made = open_bench(campaign("cnn", long_way=1.0).spec)
    passes = at_once(made.golden)
    monkeypatch.setattr(Passes, "trial", lambda self, event: passes._result(event.step, _nothing()))

    def trials():
        for k in range(40):
            made.trial(k)

    with np.errstate(all="ignore"), pytest.raises(RuntimeError, match="burnin replay FOLDER"):
        trials()


def _nothing():
    from yieldkit.burnin.passes import _Struck

    return _Struck(None)


def test_memory_for_passes_is_bounded_and_what_finds_no_room_is_run():
    made = bench("cnn")
    golden = made.golden
    roomy, narrow = at_once(golden), at_once(golden, largest_bytes=1)
    held = [event for event in events(made, 120, seed=4) if event.place == "sram"]
    with np.errstate(all="ignore"):
        for event in held:
            roomy.trial(event)
            narrow.trial(event)
    size = max(kept.replay.nbytes for kept in roomy._passes.values() if kept is not None)
    assert size < roomy._bytes <= 2 * STEPS * size
    assert narrow._bytes == 0
    assert 0 < narrow.followed < roomy.followed


def test_jobs_whose_steps_know_of_each_other_are_not_followed():
    tables = {
        "campaign": {"name": "passes", "seed": 7, "trials": 1},
        "wafer": {"preset": "mini"},
        "program": {"kind": "gpt_training", "rows": 2, "cols": 2, "steps": 2, "clean_runs": 1, "layers": 1, "width": 8,
                    "heads": 2, "context": 4, "sequences": 2},
        "faults": {"kinds": {"sram_data": 1}},
    }  # fmt: skip
    made = open_bench(Campaign.from_tables(tables).spec)
    for event in events(made, 8):
        assert made.golden.passes.trial(event) is None
