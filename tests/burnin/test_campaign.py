"""Campaigns: the same rows on any number of workers, resumed or not, and folders that belong to another."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.burnin.specs import BENCHES, campaign, rows, tables, write_spec
from yieldkit.burnin import Campaign, CampaignRun, StopRequest, TrialFailure
from yieldkit.burnin.folder import only_writer
from yieldkit.burnin.store import Store
from yieldkit.errors import BadFile, BadInput, Interrupted


def snapshot(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return campaign().run(tmp_path_factory.mktemp("plain"))


def test_one_and_two_workers_leave_the_same_rows(plain, tmp_path):
    two = campaign("campaign.chunk=3").run(tmp_path / "two", jobs=2)
    assert plain.n == two.n == 60
    assert rows(two) == rows(plain)
    assert [record.k for record in plain.records()] == list(range(60))
    assert two.tally() == plain.tally()
    assert two.task_fingerprint == plain.task_fingerprint
    assert two.finished
    assert not two.running
    # A control: another seed gives other rows.
    assert rows(campaign(seed=8).run(tmp_path / "other")) != rows(plain)


def test_any_executor_will_do(plain, tmp_path):
    made = []

    def make(workers):
        made.append(workers)
        return ThreadPoolExecutor(workers)

    assert rows(campaign().run(tmp_path, jobs=3, make_executor=make)) == rows(plain)
    assert made == [3]


def test_the_stop_rule_ends_at_the_same_trial_on_any_number_of_workers(tmp_path):
    rule = "campaign.stop={label='BENIGN', half_width=0.09}"
    runs = [
        campaign(rule, "campaign.trials=1000", f"campaign.chunk={size}").run(tmp_path / str(size), jobs=jobs)
        for jobs, size in ((1, 16), (2, 5))
    ]
    assert rows(runs[0]) == rows(runs[1])
    assert runs[0].n % 16 == 0
    assert 16 < runs[0].n < 1000
    assert runs[0].decision.reason == "half_width"
    low, high = (runs[0].n - 16, runs[0].n)
    for n, enough in ((low, False), (high, True)):
        x = sum(record.label == "BENIGN" for record in runs[0].records() if record.k < n)
        z2 = 1.959963984540054**2
        half = (z2 * (x * (n - x) / n + z2 / 4)) ** 0.5 / (n + z2)
        assert (half <= 0.09) == enough


def test_a_rerun_with_enough_data_leaves_every_byte(tmp_path):
    one = campaign()
    one.run(tmp_path)
    before = snapshot(tmp_path)
    steps = list(one.iter_run(tmp_path, jobs=2))
    assert [(step.done, step.added, step.finished) for step in steps] == [(60, 0, True)]
    CampaignRun.load(tmp_path, benches=BENCHES).resume()
    campaign("campaign.trials=20", "campaign.name=renamed").run(tmp_path)
    assert snapshot(tmp_path) == before


def test_stopped_and_resumed_equals_uninterrupted(plain, tmp_path):
    stop = StopRequest()

    def stop_at_20():
        for step in campaign().iter_run(tmp_path, stop=stop):
            if step.done == 20:
                stop.request("the test")

    with pytest.raises(Interrupted, match=r"20 of 60 trials are kept; go on with: yieldkit burnin resume .* --bench"):
        stop_at_20()
    half = CampaignRun.load(tmp_path, benches=BENCHES)
    assert (half.n, half.finished) == (20, False)
    assert rows(half) == rows(plain)[:20]
    assert rows(half.resume(jobs=2)) == rows(plain)


def test_an_abandoned_iterator_keeps_what_it_committed(plain, tmp_path):
    steps = campaign().iter_run(tmp_path, jobs=2)
    for step in steps:
        if step.done >= 8:
            break
    steps.close()
    kept = CampaignRun.load(tmp_path, benches=BENCHES)
    assert kept.n >= 8
    assert not kept.running
    assert rows(kept.resume()) == rows(plain)


def test_progress_counts_up_to_the_end(tmp_path):
    steps = list(campaign().iter_run(tmp_path, jobs=2))
    assert [step.done for step in steps] == list(range(0, 64, 4))
    assert [step.finished for step in steps] == [False] * 15 + [True]
    assert steps[0].eta_s is None
    assert steps[-1].eta_s == 0
    assert steps[-1].tally.n == steps[-1].added == 60
    assert all(step.rate_per_s > 0 for step in steps[1:])


def test_a_raised_budget_adds_only_what_is_new(plain, tmp_path):
    shutil.copytree(plain.folder, tmp_path / "run")
    longer = CampaignRun.load(tmp_path / "run", overrides=["campaign.trials=70"], benches=BENCHES)
    assert [step.added for step in longer.campaign.iter_run(tmp_path / "run")][-1] == 10
    run = CampaignRun.load(tmp_path / "run")
    assert run.campaign.spec.campaign.trials == 70
    assert rows(run)[:60] == rows(plain)
    assert rows(run) == rows(campaign("campaign.trials=70").run(tmp_path / "fresh"))


def test_unlike_campaigns_are_refused_and_the_difference_is_named(plain):
    before = snapshot(plain.folder)
    for overrides, what in (
        (["campaign.seed=8"], "campaign.seed is 7 there and 8 here"),
        (["program.work=3"], "program.work is absent there and 3 here"),
        (["wafer.defects={law='poisson', d0_per_cm2=0.1}"], "wafer.defects.law is absent there and 'poisson' here"),
        (["faults.kinds.config=1"], "faults.kinds.config is absent"),
        ([f"program.p{i}=1" for i in range(9)], "and 4 more fields differ"),
    ):
        with pytest.raises(BadInput, match=what):
            campaign(*overrides).run(plain.folder)
    with pytest.raises(BadInput, match=r"campaign\.seed is 7 there"):
        CampaignRun.load(plain.folder, overrides=["campaign.seed=8"], benches=BENCHES)
    assert snapshot(plain.folder) == before


def test_the_fingerprint_holds_what_alters_trials_and_nothing_else():
    same = campaign("campaign.trials=9", "campaign.name=other", "campaign.chunk=1", "campaign.round=3")
    assert same.fingerprint == campaign().fingerprint
    changes = ["campaign.seed=1", "wafer.id=W02", "wafer.preset=wse3", "program.x=1", "faults.sites=all"]
    changes += ["wafer.repair.skip_reach=1", "faults.options.bits=3", "faults.kinds.sram_data=2"]
    prints = {campaign(change).fingerprint for change in changes}
    assert len(prints) == len(changes)
    assert campaign().fingerprint not in prints


def test_another_task_behind_the_same_spec_is_refused(tmp_path, monkeypatch):
    campaign("campaign.trials=8").run(tmp_path)
    monkeypatch.setenv("COUNTING_VERSION", "2")
    with pytest.raises(BadInput, match="likely cause: another version of yieldkit"):
        # Two jobs, because this process has built its bench already.
        campaign().run(tmp_path, jobs=2)
    assert CampaignRun.load(tmp_path).n == 8


def test_input_files_travel_with_the_run(tmp_path):
    (tmp_path / "a").mkdir()
    klarf = tmp_path / "a" / "lot.klarf"
    klarf.write_text("one")
    data = tables()
    data["wafer"]["defects"] = {"klarf": "lot.klarf", "wafer_id": "02", "place": "as_is"}
    one = Campaign.from_tables(data, folder=tmp_path / "a", benches=BENCHES)
    run = one.run(tmp_path / "run")
    klarf.write_text("two")
    two = Campaign.from_tables(data, folder=tmp_path / "a", benches=BENCHES)
    with pytest.raises(BadInput, match=r"wafer\.defects\.klarf: the content of the file has changed"):
        two.run(tmp_path / "run")
    with pytest.raises(BadInput, match="has changed since the spec was read"):
        one.run(tmp_path / "late")
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = CampaignRun.load(tmp_path / "moved", benches=BENCHES)
    assert moved.fingerprint == one.fingerprint == run.fingerprint
    (copy,) = (tmp_path / "moved" / "inputs").iterdir()
    assert copy.read_text() == "one"
    assert moved.campaign.spec.wafer.defects.klarf == str(copy)
    # The kept spec is a spec itself, and the copies keep their names through a second run.
    again = Campaign.from_toml(tmp_path / "moved" / "spec.toml", benches=BENCHES)
    assert rows(again.run(tmp_path / "again")) == rows(moved)
    assert [path.name for path in (tmp_path / "again" / "inputs").iterdir()] == [copy.name]


def test_replay_gives_the_stored_row_and_shows_a_changed_one(plain, tmp_path):
    for k in (0, 17, 59):
        outcome = plain.replay(k)
        assert outcome.equal is True
        assert outcome.record.text() == plain.record(k).text()
        assert campaign().replay(k).text() == outcome.record.text()
    beyond = plain.replay(60)
    assert (beyond.stored, beyond.equal) == (None, None)
    with pytest.raises(BadInput, match="numbered from 0"):
        plain.replay(-1)
    import sqlite3

    shutil.copytree(plain.folder, tmp_path / "run")
    connection = sqlite3.connect(tmp_path / "run" / "campaign.sqlite")
    connection.execute("UPDATE trials SET metrics = '{}' WHERE k = 3")
    connection.commit()
    connection.close()
    changed = CampaignRun.load(tmp_path / "run", benches=BENCHES)
    assert [changed.replay(k).equal for k in (2, 3)] == [True, False]


def test_a_trial_that_raises_stops_the_run_and_keeps_the_rest(tmp_path):
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        with pytest.raises(TrialFailure, match=r"(?s)trial 30:.*ZeroDivisionError: a bug.*burnin replay"):
            campaign("program.fails_at=30").run(folder, jobs=jobs)
        kept = CampaignRun.load(folder)
        assert kept.record(27) is not None
        assert kept.record(30) is None


def test_what_the_bench_refuses_is_one_line(tmp_path):
    for jobs in (1, 2):
        with pytest.raises(BadInput, match=r"counting bench: program\.refuse: is set"):
            campaign("program.refuse=true").run(tmp_path / str(jobs), jobs=jobs)
        # Nothing was stored, so nothing stands in the way of the spec put right.
        assert campaign("campaign.trials=4").run(tmp_path / str(jobs)).n == 4


def test_only_one_writer_at_a_time(tmp_path):
    run = campaign("campaign.trials=4").run(tmp_path)
    assert not run.running
    with only_writer(tmp_path):
        assert run.running
        with pytest.raises(BadInput, match=r"another process .* is writing"):
            campaign().run(tmp_path)
        # Enough is stored: nothing to write, nothing to wait for.
        assert campaign("campaign.trials=4").run(tmp_path).n == 4


def test_frames_have_a_column_a_fact(plain):
    frame = plain.to_frame()
    assert len(frame) == 60
    assert list(frame.k) == list(range(60))
    assert {"kind", "label", "truth.row", "seen.status", "seen.loss", "metric.final_loss"} <= set(frame.columns)
    stalled = frame[frame["seen.status"] == "STALL_DETECTED"]
    assert len(stalled) == plain.tally().count(label="STALL_DROP") > 0
    assert stalled["metric.final_loss"].isna().all()
    assert plain.versions["yieldkit"]


def test_places_that_hold_no_campaign(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadFile, match="no campaign here"):
        CampaignRun.load(tmp_path)
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(BadFile):
            campaign().run(place)
    with pytest.raises(BadInput, match="jobs"):
        campaign().run(tmp_path / "run", jobs=0)
    assert not (tmp_path / "run").exists()


def test_from_toml_reads_what_from_tables_reads(tmp_path):
    assert Campaign.from_toml(write_spec(tmp_path), benches=BENCHES).spec == campaign().spec


RULE = ("campaign.stop={label='BENIGN', half_width=0.09}", "campaign.trials=1000")


def test_rounds_once_decided_are_not_counted_again_and_decide_the_same(tmp_path, monkeypatch):
    whole = campaign(*RULE).run(tmp_path / "whole")
    asked = []
    count = Store.rounds

    def rounds_of(self, size, *, below, first=0):
        asked.append(first)
        return count(self, size, below=below, first=first)

    monkeypatch.setattr(Store, "rounds", rounds_of)
    # Stopped again and again, also in the middle of a round.
    for trials in (10, 16, 40, 81, 130):
        campaign(*RULE, f"campaign.trials={trials}").run(tmp_path / "bits")
    run = campaign(*RULE).run(tmp_path / "bits")
    assert rows(run) == rows(whole)
    assert run.decision == whole.decision
    assert max(asked) >= 2
    # With another rule, other rounds or a smaller budget what was decided says nothing.
    for overrides in (["campaign.round=7"], ["campaign.stop.half_width=0.2"], ["campaign.trials=20"]):
        shutil.copytree(tmp_path / "bits", tmp_path / overrides[0])
        changed = CampaignRun.load(tmp_path / overrides[0], overrides=overrides, benches=BENCHES)
        fresh = campaign(*RULE, *overrides).run(tmp_path / "fresh" / overrides[0])
        asked.clear()
        changed.resume()
        assert changed.decision == fresh.decision
        assert asked[0] == 0


def test_a_running_campaign_tells_its_pace(tmp_path):
    paces = []
    for step in campaign().iter_run(tmp_path):
        paces.append(CampaignRun.load(tmp_path).pulse)
        assert (paces[-1] is None) == (step.added == 0)
    assert [pace.added for pace in paces[1:]] == list(range(4, 64, 4))
    assert all(pace.rate_per_s > 0 and pace.age_s >= 0 for pace in paces[1:])
    assert CampaignRun.load(tmp_path).pulse is None
