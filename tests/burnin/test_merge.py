"""Joining folders: parts of one campaign, in any order, overlapping or not; unlike ones are refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.burnin.specs import BENCHES, campaign, rows, tables
from tests.burnin.test_campaign import snapshot
from tests.burnin.test_strata import stratified
from yieldkit.burnin import Campaign, CampaignRun, merge_runs
from yieldkit.burnin.parts import Part, join_ranges
from yieldkit.burnin.store import STORE_NAME, Store
from yieldkit.cli import run as cli
from yieldkit.errors import BadFile, BadInput

META = ("identity", "fingerprint", "spec", "versions")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return campaign().run(tmp_path_factory.mktemp("whole"))


def piece(whole, folder, ranges, *, change=None, **meta):
    """A run that has come to some ranges of k only; `change` alters its rows, `meta` what it says of itself."""
    folder.mkdir(parents=True)
    with Store.reader(whole.folder / STORE_NAME) as source:
        kept = {name: source.meta(name) for name in META} | meta
        task = meta.get("task", source.meta("task_fingerprint"))
        found = list(source.rows())
    with Store.writer(folder / STORE_NAME, meta=kept) as store:
        for start, stop in ranges:
            some = [change(row) if change else row for row in found[start:stop]]
            store.add_chunk(start, stop, some, task_fingerprint=task)
        store.finish()
    return folder


def merged(folders, out):
    return merge_runs(folders, out, benches=BENCHES)


RANGES = st.lists(
    st.tuples(st.integers(0, 59), st.integers(1, 20)).map(lambda one: (one[0], min(sum(one), 60))), max_size=4
)


@settings(max_examples=8, deadline=None)
@given(pieces=st.lists(RANGES, min_size=1, max_size=3), data=st.data())
def test_any_pieces_join_to_what_they_cover_in_any_order(whole, pieces, data):
    pieces = [join_ranges(ranges) for ranges in pieces]
    covered = {k for ranges in pieces for start, stop in ranges for k in range(start, stop)}
    twice = {k for k in covered if sum(any(start <= k < stop for start, stop in ranges) for ranges in pieces) > 1}
    with tempfile.TemporaryDirectory() as place:
        folders = [piece(whole, Path(place) / str(i), ranges) for i, ranges in enumerate(pieces)]
        one = merged(folders, Path(place) / "one")
        assert (one.added, one.shared) == (len(covered), len(twice))
        assert [record.k for record in one.run.records()] == sorted(covered)
        assert rows(one.run) == [row for k, row in enumerate(rows(whole)) if k in covered]
        other = merged(data.draw(st.permutations(folders)), Path(place) / "other")
        assert rows(other.run) == rows(one.run)
        with Store.reader(one.run.folder / STORE_NAME) as a, Store.reader(other.run.folder / STORE_NAME) as b:
            assert a.covered() == b.covered()
        # Into one of them, and once more.
        again = merged(folders, folders[0])
        assert rows(again.run) == rows(one.run)
        before = snapshot(folders[0])
        assert merged(folders, folders[0]).added == 0
        assert snapshot(folders[0]) == before


def test_a_merged_run_is_gone_on_with(whole, tmp_path):
    folders = [piece(whole, tmp_path / "a", [(0, 7), (30, 40)]), piece(whole, tmp_path / "b", [(5, 12)])]
    joined = merged(folders, tmp_path / "c").run
    assert (joined.n, joined.finished) == (22, False)
    assert joined.fingerprint == whole.fingerprint
    assert joined.versions == whole.versions
    assert (tmp_path / "c" / "spec.toml").read_text() == (whole.folder / "spec.toml").read_text()
    assert rows(joined.resume(jobs=2)) == rows(whole)
    assert joined.finished


def test_a_trial_that_differs_is_named_and_nothing_is_written(whole, tmp_path):
    a = piece(whole, tmp_path / "a", [(0, 20)])
    b = piece(whole, tmp_path / "b", [(10, 30)], change=lambda row: row._replace(label="X") if row.k == 13 else row)
    with pytest.raises(BadInput, match=r"trial 13 is one thing in .*/a and another in .*/b.* burnin replay .*/b --tri"):
        merged([a, b], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    # A control: elsewhere they agree.
    c = piece(whole, tmp_path / "c", [(14, 30)], change=lambda row: row._replace(label="X") if row.k == 13 else row)
    assert merged([a, c], tmp_path / "d").added == 30


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("campaign.seed=8", r"campaign\.seed is 7 there and 8 here; likely cause: two seeds are two campaigns"),
        ("program.work=3", r"program\.work is absent there and 3 here; likely cause: the spec was edited"),
        ("faults.kinds.link_drop=2", r"faults\.kinds\.link_drop is 1\.5 there and 2\.0 here"),
    ],
)
def test_runs_of_other_campaigns_are_refused_with_the_likely_cause(whole, tmp_path, override, what):
    other = campaign(override, "campaign.trials=4").run(tmp_path / "other")
    with pytest.raises(BadInput, match=what):
        merged([whole.folder, other.folder], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(BadInput, match="different campaigns"):
        merged([whole.folder], other.folder)


def test_another_task_or_version_behind_the_same_spec_is_refused(whole, tmp_path):
    other = piece(whole, tmp_path / "a", [(0, 4)], task="another")
    with pytest.raises(BadInput, match=r"different tasks .* likely cause: different versions of yieldkit"):
        merged([whole.folder, other], tmp_path / "c")
    with Store.reader(whole.folder / STORE_NAME) as store:
        identity = {**store.meta("identity"), "semantics": 1}
    older = piece(whole, tmp_path / "b", [(0, 4)], identity=identity)
    with pytest.raises(BadInput, match="made by a version of yieldkit with other rules"):
        merged([whole.folder, older], tmp_path / "c")


def test_a_merge_cut_short_is_completed_by_the_next(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("yieldkit.burnin.merge._BLOCK", 8)
    folders = [piece(whole, tmp_path / "a", [(0, 30)]), piece(whole, tmp_path / "b", [(25, 60)])]
    add, calls = Store.add_chunk, []

    def fails(self, start, *rest, **named):
        calls.append(start)
        if len(calls) == 3:
            raise BadFile(self.path, "the disk is full")
        add(self, start, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_chunk", fails)
        with pytest.raises(BadFile, match="full"):
            merged(folders, tmp_path / "c")
    assert CampaignRun.load(tmp_path / "c").n == 16
    done = merged(folders, tmp_path / "c")
    assert (done.added, rows(done.run)) == (44, rows(whole))


def test_the_largest_budget_is_kept(tmp_path):
    few = campaign("campaign.trials=10", "campaign.name=few").run(tmp_path / "few")
    many = campaign("campaign.trials=20", "campaign.name=many").run(tmp_path / "many")
    for order in ([few, many], [many, few]):
        out = tmp_path / order[0].folder.name / "out"
        spec = merged([run.folder for run in order], out).run.campaign.spec
        assert (spec.campaign.name, spec.campaign.trials) == ("many", 20)
    # Into the smaller one: its own spec grows with it.
    assert merged([many.folder], few.folder).run.campaign.spec.campaign.trials == 20


def test_inputs_travel_with_a_merge(tmp_path):
    (tmp_path / "lot.klarf").write_text("one")
    data = tables(trials=8)
    data["wafer"]["defects"] = {"klarf": "lot.klarf", "wafer_id": "02", "place": "as_is"}
    one = Campaign.from_tables(data, folder=tmp_path, benches=BENCHES)
    parts = [one.run(tmp_path / str(i), part=f"{i}/2").folder for i in (1, 2)]
    joined = merged(parts, tmp_path / "c").run
    for folder in parts:
        shutil.rmtree(folder)
    (copy,) = (tmp_path / "c" / "inputs").iterdir()
    assert copy.read_text() == "one"
    assert joined.finished


@given(
    trials=st.integers(1, 300), size=st.integers(1, 70), of=st.integers(1, 9), by_round=st.booleans(), data=st.data()
)
def test_parts_share_out_the_budget_and_leave_nothing(trials, size, of, by_round, data):
    plan = campaign().spec.campaign.model_copy(update={"trials": trials, "round": size})
    owners = [0] * trials
    for number in range(1, of + 1):
        others = Part(number, of).others(plan, by_round=by_round)
        assert others == join_ranges(others)
        mine = set(range(trials)) - {k for start, stop in others for k in range(start, stop)}
        for k in mine:
            owners[k] += 1
        whole = data.draw(st.integers(0, (trials - 1) // size)) if by_round else 0
        span = range(whole * size, min((whole + 1) * size, trials)) if by_round else range(trials)
        assert abs(len(mine & set(span)) - len(span) / of) <= 1
    assert owners == [1] * trials


def test_parts_run_on_their_own_join_to_the_whole(whole, tmp_path):
    parts = [
        campaign(f"campaign.chunk={chunk}").run(tmp_path / str(i), jobs=jobs, part=f"{i}/3")
        for i, jobs, chunk in ((1, 1, 4), (2, 2, 3), (3, 1, 7))
    ]
    assert [part.n for part in parts] == [20, 20, 20]
    assert not any(part.finished for part in parts)
    # A part that has done its share has nothing left to do.
    before = snapshot(parts[0].folder)
    assert [step.finished for step in campaign().iter_run(parts[0].folder, part="1/3")] == [True]
    assert snapshot(parts[0].folder) == before
    joined = merged([part.folder for part in parts], tmp_path / "all")
    assert (joined.shared, rows(joined.run)) == (0, rows(whole))
    assert joined.run.finished


def test_where_rounds_decide_the_parts_meet_after_each(tmp_path):
    rule = ["campaign.stop={label='BENIGN', half_width=0.12}", "campaign.trials=400"]
    plain = campaign(*rule).run(tmp_path / "plain")
    assert 16 < plain.n < 400
    meeting = tmp_path / "meeting"
    for turn in range(30):
        parts = []
        for i in (1, 2, 3):
            mine = tmp_path / f"{turn}-{i}"
            if meeting.exists():
                shutil.copytree(meeting, mine)
            parts.append(campaign(*rule).run(mine, part=f"{i}/3").folder)
        run = merged(parts, meeting).run
        assert run.n == min(16 * (turn + 1), 400)
        if run.finished:
            break
    assert rows(run) == rows(plain)
    assert run.decision.reason == "half_width"


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_parts_that_are_none(tmp_path, text):
    with pytest.raises(BadInput, match="the I-th of N"):
        campaign().run(tmp_path / "run", part=text)
    assert not (tmp_path / "run").exists()


def test_the_command(whole, tmp_path, capsys):
    folders = [str(piece(whole, tmp_path / "a", [(0, 20)])), str(piece(whole, tmp_path / "b", [(10, 30)]))]
    assert cli(["burnin", "merge", *folders, "--out", str(tmp_path / "c"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["trials"], facts["added"], facts["shared"], facts["state"]) == (30, 30, 10, "can be resumed")
    assert cli(["burnin", "merge", *folders, "--out", str(tmp_path / "c")]) == 0
    assert "0 trials added, 30 were in more than one folder" in capsys.readouterr().out
    assert cli(["burnin", "merge", folders[0], str(tmp_path / "nothing"), "--out", str(tmp_path / "d")]) == 2
    assert "no campaign here" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_nothing_to_merge(tmp_path):
    with pytest.raises(BadInput, match="nothing to merge"):
        merge_runs([], tmp_path / "c")


def test_parts_of_an_adaptive_campaign_meet_after_each_round(tmp_path):
    plain = stratified().run(tmp_path / "plain")
    meeting = tmp_path / "meeting"
    for turn in range(4):
        parts = []
        for i in (1, 2):
            mine = tmp_path / f"{turn}-{i}"
            if meeting.exists():
                shutil.copytree(meeting, mine)
            parts.append(stratified(chunk=7 + i).run(mine, part=f"{i}/2").folder)
        run = merged(parts, meeting).run
        assert run.n == 80 * (turn + 1)
    assert rows(run) == rows(plain)
    assert run.allocations() == plain.allocations()
    assert run.classes() == plain.classes()
    assert run.replay(250).equal
    # Merged only once, the second part would not know what the first has shown: nothing more is handed out.
    alone = stratified().run(tmp_path / "alone", part="1/2")
    assert stratified().run(tmp_path / "alone", part="1/2").n == alone.n == 40


def test_rounds_allocated_otherwise_are_refused(tmp_path):
    run = stratified(trials=80).run(tmp_path / "a")
    shutil.copytree(run.folder, tmp_path / "b")
    with closing(sqlite3.connect(tmp_path / "b" / STORE_NAME)) as connection:
        connection.execute("UPDATE allocation SET n = n + 1 WHERE half = 0")
        connection.commit()
    with pytest.raises(BadInput, match="allocated round 0 to strata otherwise"):
        merged([run.folder, tmp_path / "b"], tmp_path / "c")
