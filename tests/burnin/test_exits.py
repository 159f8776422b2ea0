"""Trials that end early: what is known of the rest is right, and the statistical exit's error is measured."""

from __future__ import annotations

import gc
import json
import re
import tracemalloc
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.bench.disagreement import Survey, bench_of
from yieldkit.burnin import Campaign, emulator_bench
from yieldkit.burnin.disagreement import ClassCount, Disagreement, compare_exit, measure_disagreement
from yieldkit.burnin.early_ends import MEASURED, EarlyEnds, early_ends
from yieldkit.burnin.exits import FULL, GOLDEN_AGAIN, NOT_A_NUMBER, STEADY, STOPPED, Steady
from yieldkit.burnin.golden import carry_out, long_way
from yieldkit.burnin.identity import identity_of
from yieldkit.burnin.referee import label_of
from yieldkit.burnin.trial import open_bench
from yieldkit.cli import run as main
from yieldkit.errors import BadInput, BadSpec
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.report.campaign import campaign_section, judge

LONG = 7_000
SIZES = {"layers": 1, "width": 8, "heads": 2, "context": 4, "sequences": 2}


def tables(**trials):
    return {
        "campaign": {"name": "exits", "seed": 5, "trials": 12},
        "wafer": {"preset": "mini"},
        "program": {"kind": "gpt_training", "rows": 2, "cols": 2, "steps": 16, "clean_runs": 2, **SIZES},
        "faults": {"kinds": {"sram_data": 3, "accumulator": 2, "config": 2, "link_flip": 2, "link_drop": 1}},
        **({"trials": trials} if trials else {}),
    }


@cache
def bench(exit_="exact", way=0.0):
    return open_bench(Campaign.from_tables(tables(exit=exit_, long_way=way)).spec)


@cache
def surveyed():
    made = survey()
    with np.errstate(all="ignore"):
        list(made.until(300, least=300))
    return made


def survey():
    return Survey(3, jobs=1, sizes={"rows": 2, "cols": 2, "steps": 16, "clean_runs": 2, **SIZES})


def test_the_rule_asks_for_enough_steps_near_and_not_growing():
    rule = Steady(steps=4, band=0.1, growth=2.0)
    clean, half = [1.0] * 20, [1.0] * 20

    def reached(away, step=5):
        return rule.reached([1.0] * step + [1.0 + d for d in away], clean, half, step)

    assert reached([0.05, 0.01, 0.01, 0.01, 0.01])
    assert not reached([0.05, 0.01, 0.01, 0.01])
    assert not reached([0.2, 0.01, 0.01, 0.01, 0.01])
    assert not reached([0.05, 0.01, 0.01, 0.01, 0.03])
    assert not reached([0.05, 0.01, float("nan"), 0.01, 0.01])
    assert reached([0.0, 0.0001, 0.0001, 0.0001, 0.009])


@pytest.mark.parametrize("wrong", [{"steps": 1}, {"band": 0.0}, {"band": 1.0}, {"growth": 0.5}])
def test_wrong_rules_are_refused(wrong):
    with pytest.raises(BadInput):
        Steady(**wrong)


def test_every_exact_trial_is_the_long_way_s():
    made = bench(way=1.0)
    exits = set()
    with np.errstate(all="ignore"):
        for k in range(24):
            record = made.trial(k)
            exits.add(int(record.metrics["exit"]))
            assert 1 <= record.metrics["steps_run"] <= made.golden.steps - record.metrics["fault_step"]
    assert exits >= {FULL, STOPPED, GOLDEN_AGAIN}


def test_a_difference_to_the_long_way_is_an_error_that_names_the_replay(monkeypatch):
    made = bench(way=1.0)
    names = iter(["BENIGN", "SPIKE"])
    monkeypatch.setattr(emulator_bench, "label_of", lambda *_: next(names))
    with np.errstate(all="ignore"), pytest.raises(RuntimeError, match=r"trial 3 .*burnin replay FOLDER --trial 3"):
        made.trial(3)


def nan_event(golden, step, tensor="head"):
    """A gradient that is not a number, and so a weight."""
    program = golden.lowered.program
    item = next(one for one in program.job["outputs"] if one.get("param", "wte") == tensor and one["form"] != "loss")
    launch = next(
        one for one in program.launches if any(getattr(p, "stream", "") == item["stream"] for p in one.phases)
    )
    return FaultEvent("stream", 0, 0, step, launch.name, mask=0x7FC00000, keep=0, tensor=item["stream"], index=3)


def test_a_parameter_that_is_not_a_number_decides_the_rest():
    made = bench()
    golden = made.golden
    for tensor in ("head", "l0.ln1", "l0.wk", "l0.w2"):
        event = nan_event(golden, 4, tensor)
        with np.errstate(all="ignore"):
            trial = carry_out(golden, event, queue_depth=made.queue_depth)
            whole = long_way(golden, event, queue_depth=made.queue_depth)
        assert trial.exit == NOT_A_NUMBER
        assert trial.steps_run <= 2
        assert trial.result.symptoms.to_dict() == whole.symptoms.to_dict()


def test_a_row_of_an_embedding_that_may_go_unread_decides_nothing():
    made = bench()
    with np.errstate(all="ignore"):
        trial = carry_out(made.golden, nan_event(made.golden, 4, "wte"), queue_depth=made.queue_depth)
    assert trial.exit != STEADY
    assert trial.exit == NOT_A_NUMBER or trial.steps_run == made.golden.steps - 4


def test_a_statistical_end_says_so_and_keeps_the_losses_it_saw():
    made, exact = bench("statistical"), bench()
    ended = 0
    with np.errstate(all="ignore"):
        for k in range(50):
            record, full = made.trial(k), exact.trial(k)
            if record.metrics["exit"] != STEADY:
                assert record.text() == full.text()
                continue
            ended += 1
            seen = record.observations["loss"]
            assert record.metrics["steps_run"] < full.metrics["steps_run"]
            assert record.observations["steps_done"] == len(seen) < made.golden.steps
            assert seen == full.observations["loss"][: len(seen)]
            assert record.label == "BENIGN" == full.label
    assert ended >= 3


def test_only_the_statistical_exit_makes_another_campaign():
    def identity(**trials):
        spec = Campaign.from_tables(tables(**trials)).spec
        return identity_of(spec, {})

    assert identity() == identity(exit="exact") == identity(long_way=0.5)
    assert identity(exit="statistical") != identity()


def test_wrong_fields_are_named():
    with pytest.raises(BadSpec, match=r"trials\.exit"):
        Campaign.from_tables(tables(exit="soon"))
    with pytest.raises(BadSpec, match=r"trials\.long_way"):
        Campaign.from_tables(tables(long_way=1.5))


def test_bounds_are_those_of_clopper_and_pearson():
    # 1 - 0.05^(1/n) for no disagreement in n.
    assert ClassCount(300, 200, 0).upper() == pytest.approx(1 - 0.05 ** (1 / 300), rel=1e-9)
    assert ClassCount(300, 200, 3).upper() > 0.02
    assert ClassCount().upper() == 1.0
    total = Disagreement({"BENIGN": ClassCount(2, 1, 0)}, (3, 9)) + Disagreement({"SPIKE": ClassCount(1, 1, 1)}, (1, 1))
    assert total.steps == (4, 10)
    assert "| SPIKE | 1 | 1 | 1 | 100.00 % |" in total.text()


def test_watching_the_exit_shows_what_really_ending_by_it_gives():
    made = bench()
    ended = 0
    with np.errstate(all="ignore"):
        for k in range(40):
            draw = made.strata.draw("", k).fault
            event = made.sampler.draw_in(draw.site, draw.bit, draw.phase, np.random.default_rng(k))
            watched = compare_exit(made.golden, event, queue_depth=made.queue_depth)
            short = carry_out(made.golden, event, queue_depth=made.queue_depth, steady=Steady())
            core = FaultPlan([event], made.golden.placement).logical(event)
            assert watched.ended == (short.exit == STEADY)
            assert watched.steps[0] == short.steps_run
            assert watched.named == label_of(made.golden, short.result, event, core, made.golden.lowered)
            ended += watched.ended
    assert ended >= 3


def test_watching_does_not_change_a_trial():
    made = bench()
    event = replace(nan_event(made.golden, 2), mask=0x3A000000)
    lax = Steady(steps=2, band=0.999, growth=1e9, spread=0.0, reach=1e9)
    with np.errstate(all="ignore"):
        seen = carry_out(made.golden, event, queue_depth=made.queue_depth, watched=(Steady(), lax, lax))
        plain = carry_out(made.golden, event, queue_depth=made.queue_depth)
    assert seen.result.state_hash == plain.result.state_hash
    assert (seen.exit, seen.steps_run, plain.would_end) == (plain.exit, plain.steps_run, ())
    assert seen.would_end[1] == seen.would_end[2] == 3


def test_a_rule_that_is_too_lax_disagrees():
    """The measurement can fail: low bits of a moment come right after some steps, so few words must not be enough."""
    made = bench_of(5, protected=False, rows=2, cols=2, steps=16, clean_runs=2, **SIZES)
    at = {"tensor": "l0.ln1", "part": "first"}
    events = [FaultEvent("memoryx", 0, 0, 2, "", mask=1 << bit, index=n, **at) for bit in (0, 4) for n in range(3)]
    with np.errstate(all="ignore"):
        lax = measure_disagreement(made.golden, events, queue_depth=made.queue_depth, steady=Steady(spread=0.0))
        strict = measure_disagreement(made.golden, events, queue_depth=made.queue_depth)
    assert lax.by_label["MASKED_LOGICAL"].wrong == lax.by_label["MASKED_LOGICAL"].ended >= 2
    assert lax.ended.wrong == lax.by_label["MASKED_LOGICAL"].wrong
    assert strict.ended.wrong == 0
    assert strict.by_label["MASKED_LOGICAL"].trials == lax.by_label["MASKED_LOGICAL"].trials


def test_memory_stays_flat_over_trials():
    made = bench("statistical")
    with np.errstate(all="ignore"):
        for k in range(20):
            made.trial(k)
        tracemalloc.start()
        held = []
        for _ in range(4):
            for _ in range(2):
                for k in range(20):
                    made.trial(k)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    # What is kept of plans is kept once; the 80 trials after that keep nothing.
    assert held[3] - held[1] < 40_000


def test_a_survey_is_the_same_again_and_goes_on_where_it_stopped():
    part, again = survey(), survey()
    with np.errstate(all="ignore"):
        list(part.until(40, least=40))
        for row in part.rows[:12]:
            again.take(row)
        list(again.until(40, least=40))
    assert again.rows == part.rows == surveyed().rows[:40]
    assert [row.campaign for row in part.rows] == [k % 3 == 0 for k in range(40)]
    assert sum(count.trials for count in part.counts().by_label.values()) == 40


def test_the_exit_names_no_outcome_otherwise_in_a_small_survey():
    found = surveyed().counts()
    assert sum(count.wrong for count in found.by_label.values()) == 0
    assert len(found.by_label) >= 8
    assert found.ended.trials >= 20
    text = surveyed().text()
    assert "| outcome of the full run |" in text
    assert all(f"| {label} | {count.trials} |" in text for label, count in found.by_label.items())


def test_families_that_lead_to_a_short_outcome_are_drawn_more_often():
    rare = ("NAN", "SPIKE", "SHARP", "LOW", "SLOW", "CRASH")
    shares = []
    for campaign in (False, True):
        labels = [row.trial.label for row in surveyed().rows if row.campaign == campaign]
        shares.append(sum(label.startswith(rare) for label in labels) / len(labels))
    assert shares[0] > 1.5 * shares[1]


def test_a_search_for_a_rare_outcome_goes_on_next_to_where_it_was_met():
    sizes = {"rows": 2, "cols": 2, "steps": 16, "clean_runs": 2, **SIZES}
    search = Survey(4, jobs=1, sizes=sizes, only=("NAN_HW",))
    with np.errstate(all="ignore"):
        list(search.until(140))
    assert not any(row.campaign for row in search.rows)
    faults = [(row.job, json.dumps(row.event.to_dict())) for row in search.rows]
    met = [row.trial.label == "NAN_HW" for row in search.rows]
    first = met.index(True)
    # Rare until it is met, and most of what is next to it.
    assert first >= 20
    assert sum(met[first + 1 : first + 21]) >= 8
    assert len(set(faults)) > 0.9 * len(faults)


def test_the_run_says_how_many_trials_ended_by_the_exit_and_how_often_that_is_wrong(tmp_path, capsys):
    plain = Campaign.from_tables(tables()).run(tmp_path / "plain")
    assert early_ends(plain) is None
    more = {"campaign": {"name": "exits", "seed": 5, "trials": 50}}
    run = Campaign.from_tables(tables(exit="statistical") | more).run(tmp_path / "run")
    ended = sum(record.metrics["exit"] == STEADY for record in run.records())
    found = early_ends(run)
    assert (found.ended, found.trials, found.bound) == (ended, 50, 0.01)
    assert ended >= 1
    assert main(["burnin", "outcomes", str(run.folder)]) == 0
    assert found.text in capsys.readouterr().out
    assert main(["burnin", "status", str(run.folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["statistical_exit"]
    assert facts == {"ended": ended, "bound": 0.01, "kind": "gpt_training", "text": found.text}
    assert main(["burnin", "status", str(plain.folder)]) == 0
    assert "statistical" not in capsys.readouterr().out
    assert found.text in campaign_section(run, None, judge(run)).notes
    assert "not bounded for cg" in EarlyEnds(1, 2, "cg").text


def test_the_bound_that_is_printed_is_that_of_the_table_in_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "trials.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| [A-Z_]{4,} \| \d", line)]
    table = [(row[1].strip(), int(row[2]), int(row[4]), row[5].strip()) for row in rows]
    bounds: dict[str, float] = {}
    assert len(table) >= 16
    for label, trials, wrong, bound in table:
        upper = ClassCount(trials, 0, wrong).upper()
        assert bound == f"{100 * upper:.2f} %"
        assert wrong == 0
        bounds[label] = min(upper, bounds.get(label, 1.0))
    assert max(bounds.values()) <= MEASURED["gpt_training"]


@pytest.mark.long
def test_the_statistical_exit_disagrees_in_at_most_one_percent_of_each_outcome():
    """Another seed than the table of the docs, and fewer trials: what is rarer than that must not disagree at all."""
    found = Survey(12)
    with np.errstate(all="ignore"):
        list(found.until(LONG, least=LONG))
    print(found.text())
    counts = found.counts().by_label
    assert sum(count.upper() <= 0.01 for count in counts.values()) >= 6
    for label, count in counts.items():
        assert count.upper() <= 0.01 or (count.trials < 299 and not count.wrong), (label, count)
