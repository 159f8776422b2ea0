"""Campaigns on the emulator at its smallest: same rows on any way to them, the referee's words, blind diagnosis."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.burnin.test_survival import integrity
from yieldkit.burnin import Campaign, CampaignRun
from yieldkit.burnin.emulator_bench import EmulatorBench, open_bench
from yieldkit.burnin.golden import run_trial
from yieldkit.burnin.referee import label_of
from yieldkit.burnin.spec_file import apply_overrides, toml_text
from yieldkit.burnin.trial import TrialRecord
from yieldkit.burnin.verdict import baseline_of, verdict_of
from yieldkit.diagnosis import load_taxonomy
from yieldkit.emulator.job import Job
from yieldkit.emulator.running import run_job
from yieldkit.errors import BadFile, BadSpec
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.rng import generator

ROOT = Path(__file__).parents[2]
SIZES = {"layers": 1, "width": 8, "heads": 2, "context": 4, "sequences": 2}
PROGRAMS = {
    "training": {"kind": "gpt_training", "rows": 2, "cols": 2, "steps": 24, "clean_runs": 2, **SIZES},
    "decode": {"kind": "gpt_decode", "side": 2, "steps": 4, "trained_steps": 4, "prompt": 2, **SIZES},
}
KINDS = {"sram_data": 3, "accumulator": 2, "config": 4, "link_flip": 2, "link_drop": 1}
CODES = {entry.id for entry in load_taxonomy().entries if entry.axis == "manifestation"}


def tables(program="training", *overrides, trials=12):
    made = {
        "campaign": {"name": "tiny", "seed": 3, "trials": trials, "round": 12, "chunk": 3},
        "wafer": {"preset": "mini", "defects": {"law": "poisson", "d0_per_cm2": 0.02, "seed": 1}},
        "program": PROGRAMS[program],
        "faults": {"kinds": KINDS},
    }
    return apply_overrides(made, overrides)


def campaign(program="training", *overrides, trials=12):
    return Campaign.from_tables(tables(program, *overrides, trials=trials))


def rows(run: CampaignRun) -> list[str]:
    return [record.text() for record in run.records()]


@cache
def bench(program="training", *overrides) -> EmulatorBench:
    return open_bench(campaign(program, *overrides).spec)


@pytest.fixture(scope="module", params=sorted(PROGRAMS))
def whole(request, tmp_path_factory):
    """A campaign run in this process without a stop."""
    return request.param, campaign(request.param).run(tmp_path_factory.mktemp("whole"))


def test_two_workers_give_the_rows_of_one_to_the_byte(whole, tmp_path):
    program, one = whole
    two = campaign(program).run(tmp_path / "two", jobs=2)
    assert rows(two) == rows(one)
    assert two.task_fingerprint == one.task_fingerprint
    assert two.clean_observations == one.clean_observations
    assert two.to_frame().to_csv() == one.to_frame().to_csv()


def test_stopped_and_resumed_is_one_campaign(whole, tmp_path):
    program, one = whole
    for trials in (5, 6, 12):
        assert campaign(program, trials=trials).run(tmp_path).n == trials
    assert rows(CampaignRun.load(tmp_path)) == rows(one)


def test_any_trial_alone_is_its_row(whole):
    _, run = whole
    for k in (11, 0, 6):
        assert run.replay(k).equal is True


def test_labels_and_diagnoses_are_codes_of_the_taxonomy(whole):
    _, run = whole
    baseline = baseline_of(run.clean_observations)
    for record in run.records():
        assert record.label in CODES
        assert verdict_of(record, baseline=baseline).code in CODES


def kill_and_resume(tmp_path, *, kills, jobs, seed, trials):
    """Kill -9 the real command at random moments, then let it end."""
    spec = tmp_path / "campaign.toml"
    spec.write_text(toml_text(tables(trials=trials)))
    words = [sys.executable, "-m", "yieldkit", "burnin", "run", spec, "--out", tmp_path / "out", "--jobs", jobs]
    rng = generator(seed, "tests.kill")
    seen = []
    for _ in range(kills):
        process = subprocess.Popen(
            [str(word) for word in words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        before = seen[-1] if seen else 0
        deadline = time.monotonic() + 60
        while stored(tmp_path / "out") == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0.0, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen.append(stored(tmp_path / "out"))
        assert integrity(tmp_path / "out") == "ok"
    done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(seen) == seen
    return CampaignRun.load(tmp_path / "out"), seen


def stored(out):
    try:
        return CampaignRun.load(out).n
    except BadFile:
        return 0


def test_killed_and_resumed_equals_not_killed(tmp_path):
    run, seen = kill_and_resume(tmp_path, kills=2, jobs=1, seed=1, trials=60)
    assert rows(run) == rows(campaign(trials=60).run(tmp_path / "whole"))
    assert any(0 < n < 60 for n in seen)


@pytest.mark.long
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_many_times_and_resumed_equals_not_killed(tmp_path, jobs):
    run, seen = kill_and_resume(tmp_path, kills=12, jobs=jobs, seed=jobs, trials=600)
    assert rows(run) == rows(campaign(trials=600).run(tmp_path / "whole"))
    assert any(0 < n < 600 for n in seen)


def children(pid):
    """Processes started by one, and by those."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found += [int(child), *children(int(child))]
    return found


@pytest.mark.long
def test_workers_killed_in_the_middle_of_trials_change_no_row(tmp_path):
    spec = tmp_path / "campaign.toml"
    spec.write_text(toml_text(tables(trials=600)))
    words = [sys.executable, "-m", "yieldkit", "burnin", "run", spec, "--out", tmp_path / "out", "--jobs", "2"]
    rng = generator(9, "tests.kill.worker")
    killed = before = 0
    code = 1
    while code:
        process = subprocess.Popen(
            [str(word) for word in words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while killed < 6 and process.poll() is None:
            # Some moments after a commit, so that the pool is at work.
            if stored(tmp_path / "out") > before:
                time.sleep(float(rng.uniform(0.0, 0.5)))
                before = stored(tmp_path / "out")
                if workers := [pid for pid in children(process.pid) if b"loky" in cmdline(pid)]:
                    os.kill(workers[int(rng.integers(len(workers)))], signal.SIGKILL)
                    killed += 1
            time.sleep(0.02)
        _, errors = process.communicate()
        code = process.returncode
        # Twice alone by chance is taken for the chunk's own fault; the next run goes on.
        assert code == 0 or "died twice on trials" in errors, errors
        assert integrity(tmp_path / "out") == "ok"
    assert killed >= 3
    assert rows(CampaignRun.load(tmp_path / "out")) == rows(campaign(trials=600).run(tmp_path / "whole"))


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_bypassed_and_idle_sites_are_masked_unread():
    made = bench("training", "faults.sites=all")
    sites = made.sampler.sites
    assert len(sites) > 4
    seen = set()
    for k in range(30):
        record = made.trial(k)
        place = (record.truth["row"], record.truth["col"])
        inside = made.golden.placement.logical(*place) is not None
        seen.add((record.kind, inside))
        if not inside:
            assert (record.label, record.truth["logical"], record.truth["bypassed"]) == ("MASKED_UNREAD", None, True)
            assert record.observations == made.golden.clean[0] | {}
    assert {kind for kind, inside in seen if not inside} >= {"sram_data", "config", "accumulator"}
    links = [made.sampler.draw("link_drop", generator(1, "tests.idle", i)) for i in range(60)]
    idle = [event for event in links if FaultPlan([event], made.golden.placement).logical(event) is None]
    assert idle
    result = run_trial(made.golden, idle[0], queue_depth=made.queue_depth)
    assert result.state_hash == made.golden.result.state_hash


def long_way(made: EmulatorBench, event: FaultEvent):
    """The whole job from its first step, every step run."""
    golden = made.golden
    first = golden.states.state(0)
    job = Job.start(golden.lowered, checkpoint=first, queue_depth=made.queue_depth, taps=True, parts=False)
    return run_job(job, golden.placement, golden.steps, faults=FaultPlan([event], golden.placement))


def same_run(made: EmulatorBench, event: FaultEvent) -> None:
    short = run_trial(made.golden, event, queue_depth=made.queue_depth)
    full = long_way(made, event)
    assert short.symptoms.to_dict() == full.symptoms.to_dict(), event
    assert short.step_digests == full.step_digests
    assert short.state_hash == full.state_hash
    assert short.memoryx.state_hash == full.memoryx.state_hash
    assert short.tokens.tolist() == full.tokens.tolist()
    core = FaultPlan([event], made.golden.placement).logical(event)
    labels = [label_of(made.golden, one, event, core, made.golden.lowered) for one in (short, full)]
    assert labels[0] == labels[1]


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_stopping_early_changes_no_bit(program):
    made = bench(program)
    for k in range(15):
        rng = generator(9, "tests.early", k)
        same_run(made, made.sampler.draw(sorted(KINDS)[k % 5], rng))


@pytest.mark.long
@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_stopping_early_changes_no_bit_in_many_trials(program):
    made = bench(program)
    for k in range(400):
        rng = generator(10, "tests.early", k)
        same_run(made, made.sampler.draw(sorted(KINDS)[k % 5], rng))


def sram(
    made: EmulatorBench, launch: str, phase: str, word: str | int, bit: int, *, core=(0, 0), step=20
) -> FaultEvent:
    """A flip of a bit of the first word of a tensor, or of an address, before a phase on a logical core."""
    low = next(low for low in made.golden.lowered.launches if low.name == launch)
    row, col = made.golden.placement.physical(*core)
    number = [item.name for item in low.launch.phases].index(phase)
    address = low.address[word] if isinstance(word, str) else word
    return FaultEvent("sram", row, col, 20, launch, phase=number, address=address, mask=1 << bit)


def judged(made: EmulatorBench, event: FaultEvent) -> TrialRecord:
    result = run_trial(made.golden, event, queue_depth=made.queue_depth)
    core = FaultPlan([event], made.golden.placement).logical(event)
    label = label_of(made.golden, result, event, core, made.golden.lowered)
    return TrialRecord(0, {"kind": event.place, **event.to_dict()}, label, result.symptoms.to_dict(), {})


def verdict(made: EmulatorBench, record: TrialRecord):
    return verdict_of(record, baseline=baseline_of(made.clean_observations))


@pytest.mark.parametrize(("label", "launch", "phase", "word", "bit"), [
    # A gain of 1.0 with its highest exponent bit flipped is infinite.
    ("NAN_HW", "f0.attention", "f0.ln1.scale", "f0.ln1.gain", 30),
    # A bit in the middle of one activation moves the state, and the loss by nothing that shows.
    ("BENIGN", "f0.attention", "f0.ln1.mean.local", "x", 20),
    # The upper half of a word that holds 16 bits, a word that holds nothing, a value that is not used again.
    ("MASKED_UNREAD", "f0.attention", "f0.attend", "f0.q", 20),
    ("MASKED_UNREAD", "f0.attention", "f0.attend", 9000, 20),
    ("MASKED_UNREAD", "head", "head.loss.out", "head.loss", 30),
    # A block that its phase writes from scratch.
    ("MASKED_OVERWRITTEN", "f0.attention", "f0.q.gemm", "f0.q", 14),
    ("MASKED_OVERWRITTEN", "f0.attention", "f0.q.gemm", "__acc:f0.q.gemm", 30),
])  # fmt: skip
def test_the_referee_names_what_a_flip_did(label, launch, phase, word, bit):
    made = bench()
    record = judged(made, sram(made, launch, phase, word, bit))
    assert record.label == label
    answer = verdict(made, record).code
    entry = next(e for e in load_taxonomy().entries if e.axis == "manifestation" and e.id == label)
    assert answer == (entry.diagnosed_as or label)


def test_the_copy_of_the_loss_that_goes_out_is_read():
    made = bench()
    assert judged(made, sram(made, "head", "head.loss.out", "head.loss", 30)).label == "MASKED_UNREAD"
    assert judged(made, sram(made, "head", "head.loss.out", "head.loss", 30, core=(0, 1))).label != "MASKED_UNREAD"


def test_undefined_opcode_is_a_crash():
    made = bench()
    low = made.golden.lowered.launches[1]
    opcode = int(low.roles[low.role_of[0, 0]].tables[0]) & 0x3F
    event = replace(sram(made, low.name, low.launch.phases[0].name, low.table_base, 0), mask=opcode)
    record = judged(made, event)
    assert (record.label, verdict(made, record).code) == ("CRASH", "CRASH")
    site = made.golden.placement.physical(0, 0)
    assert [(one["row"], one["col"]) for one in record.observations["waiting"] if one["state"] == "HALTED"] == [site]
    assert record.observations["steps_done"] == 20


def test_a_route_that_receives_from_nowhere_is_a_control_stall():
    made = bench()
    low = made.golden.lowered.launches[1]
    routes = low.roles[low.role_of[0, 0]].routes
    colour = int(np.flatnonzero(routes[:, 0])[0])
    row, col = made.golden.placement.physical(0, 0)
    event = FaultEvent("route", row, col, 20, low.name, colour=colour, mask=int(routes[colour, 0]) & 7)
    record = judged(made, event)
    assert (record.label, verdict(made, record).code) == ("STALL_CTRL", "STALL_CTRL")
    assert {"row": row, "col": col, "kind": "route"} in record.observations["config_mismatch"]


def test_a_lost_word_is_a_drop_stall_at_its_link():
    made = bench()
    for k in range(4):
        event = made.sampler.draw("link_drop", generator(4, "tests.drop", k))
        record = judged(made, event)
        answer = verdict(made, record)
        assert (record.label, answer.code) == ("STALL_DROP", "STALL_DROP")
        seen = record.observations["link_mismatch"]
        place = {"row": event.row, "col": event.col, "drow": event.drow, "dcol": event.dcol, "colour": event.colour}
        assert [one for one in seen if one.items() >= place.items() and one["sent"] == one["received"] + 1]


def test_a_config_flip_that_is_loaded_over_is_still_seen():
    made = bench()
    low = made.golden.lowered.launches[1]
    # Bits 19 to 31 of a task word mean nothing, and the next launch loads other tables.
    event = sram(made, low.name, low.launch.phases[0].name, low.table_base, 25)
    record = judged(made, event)
    assert record.label == "MASKED_LOGICAL"
    row, col = made.golden.placement.physical(0, 0)
    assert record.observations["config_mismatch"] == [{"row": row, "col": col, "kind": "task"}]
    assert record.observations["status"] == "COMPLETED"


def test_changed_tokens_are_silent_corruption():
    made = bench("decode")
    # The sign of the first weights of the head, flipped before the first token, on every core until tokens change.
    labels = {}
    for k in range(60):
        record = made.trial(k)
        same = record.observations["tokens"] == made.golden.clean[0]["tokens"]
        labels.setdefault(record.label, set()).add(same)
        if record.metrics.get("tokens_changed"):
            assert not same
    assert labels["SDC_BITS"] == {False}
    assert all(same == {True} for label, same in labels.items() if label.startswith("MASKED") or label == "BENIGN")


def test_a_kept_value_is_read_again_in_the_next_step():
    made = bench("decode")
    lowered = made.golden.lowered
    caches = [t.name for t in lowered.program.tensors if t.keep and t.name.endswith("kcache")]
    last = lowered.launches[-1]
    row, col = made.golden.placement.physical(0, 0)
    labels = []
    for step in (0, made.golden.steps - 1):
        event = FaultEvent(
            "sram", row, col, step, last.name, phase=len(last.launch.phases) - 1, address=lowered.address[caches[0]],
            mask=1,
        )  # fmt: skip
        labels.append(judged(made, event).label)
    # After the last step nothing reads it any more.
    assert labels[0] != "MASKED_UNREAD"
    assert labels[1] == "MASKED_UNREAD"


def test_diagnosis_never_sees_the_truth(whole):
    program, run = whole
    made = bench(program)
    baseline = baseline_of(run.clean_observations)
    for record in list(run.records())[:6]:
        lies = replace(
            record, truth={"kind": "link_drop", "row": 0, "col": 0}, label="CRASH", metrics={"final_loss_delta": 1e9}
        )
        assert verdict_of(lies, baseline=baseline) == verdict_of(record, baseline=baseline)
        text = str(record.observations)
        assert not any(word in text for word in ("mask", "truth", "logical"))
    with pytest.raises(AttributeError):
        made.golden.result.symptoms.truth  # noqa: B018


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_clean_runs_are_diagnosed_as_clean(program):
    made = bench(program)
    for clean in made.clean_observations:
        record = TrialRecord(0, {}, "", copy.deepcopy(clean), {})
        assert verdict(made, record).code == "MASKED_OR_BENIGN"


def test_one_fault_strikes_on_the_map_that_uses_its_core_only():
    """The control of everything: same wafer, same event, two programs' places."""
    made = bench()
    event = sram(made, "f0.attention", "f0.ln1.scale", "f0.ln1.gain", 30)
    assert judged(made, event).label == "NAN_HW"
    used = set(map(tuple, made.chain.plan.core_of.reshape(-1, 2).tolist()))
    present = map(tuple, np.argwhere(made.chain.wafer.present_mask()).tolist())
    bypassed = next(site for site in present if site not in used)
    moved = replace(event, row=bypassed[0], col=bypassed[1])
    result = run_trial(made.golden, moved, queue_depth=made.queue_depth)
    assert (result.state_hash, result.step_digests) == (made.golden.result.state_hash, made.golden.result.step_digests)


@pytest.mark.parametrize(("overrides", "said"), [
    (["program.rows=32", "program.sequences=32"], "do not fit the fabric of"),
    (["program.sequences=3"], "program: sequences"),
    (["program.vocabulary=4096"], "SRAM"),
    (["program.vocabulary=128"], "vocabulary"),
    (["program.steps=0"], "program.steps"),
    (["program.widht=8"], "did you mean width"),
    (["program.learning_rate=fast"], "program.learning_rate"),
    (["faults.options={a=1}"], "faults.options.a"),
])  # fmt: skip
def test_wrong_programs_are_told_before_anything_is_built(overrides, said):
    with pytest.raises(BadSpec, match=said):
        campaign("training", *overrides)
