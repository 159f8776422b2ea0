"""`yieldkit burnin`: what it prints, its exit statuses, and nothing written on bad input."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.burnin.specs import campaign, write_spec
from yieldkit.burnin import Campaign, CampaignRun, show_progress
from yieldkit.cli import run
from yieldkit.cli.burnin_strata import percent

BENCH = ["--bench", "counting=tests.burnin.counting_bench"]


@pytest.fixture
def call(capsys):
    def one(*arguments):
        status = run(["burnin", *(str(argument) for argument in arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return one


def test_run_status_resume_replay_export(call, tmp_path):
    out = tmp_path / "run"
    spec = write_spec(tmp_path)
    status, text, err = call("run", spec, "--out", out, *BENCH, "--set", "campaign.trials=20")
    assert (status, err) == (0, "")
    assert "20 of 20 trials (the budget)" in text
    assert "20 trials added" in text
    status, text, _ = call("resume", out, *BENCH, "--jobs", 2, "--set", "campaign.trials=30", "--json")
    facts = json.loads(text)
    assert (status, facts["trials"], facts["added"], facts["state"]) == (0, 30, 10, "finished")
    assert facts["fingerprint"] == campaign().fingerprint
    everything = [row for row in facts["outcomes"] if row["kind"] == "all"]
    assert sum(row["count"] for row in everything) == 30
    assert all(row["wilson_low"] <= row["rate"] <= row["wilson_high"] for row in everything)
    status, text, _ = call("status", out)
    assert "n = 30; in brackets the 95 % Wilson interval" in text
    status, text, _ = call("replay", out, "--trial", 7, *BENCH)
    assert status == 0
    assert "trial 7: equal to the stored row" in text
    status, text, _ = call("replay", out, "--trial", 99, *BENCH, "--json")
    assert (status, json.loads(text)["equals_stored"]) == (0, None)
    status, text, _ = call("export", out, "--csv", "-")
    table = pd.read_csv(io.StringIO(text))
    assert list(table.k) == list(range(30))
    assert json.loads(table["seen.loss"][0]) == CampaignRun.load(out).record(0).observations["loss"]
    status, text, _ = call("export", out, "--csv", tmp_path / "t.csv", "--json")
    assert json.loads(text)["rows"] == 30
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 31


def test_replay_that_differs_exits_3_after_printing(call, tmp_path):
    campaign("campaign.trials=4").run(tmp_path)
    connection = sqlite3.connect(tmp_path / "campaign.sqlite")
    connection.execute("UPDATE trials SET label = 'SPIKE' WHERE k = 2")
    connection.commit()
    connection.close()
    status, text, err = call("replay", tmp_path, "--trial", 2, *BENCH, "--json")
    facts = json.loads(text)
    assert (status, facts["equals_stored"], facts["stored"]["label"]) == (3, False, "SPIKE")
    assert facts["label"] != "SPIKE"
    assert err.startswith("yieldkit: trial 2 is not what is stored")
    # Such a change is also seen where rows are read in bulk.
    assert call("export", tmp_path, "--csv", "-")[0] == 2


def test_init_writes_a_spec_that_loads_and_never_overwrites(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("init")[0] == 0
    benches = {"emulator": "tests.burnin.counting_bench"}
    assert Campaign.from_toml("campaign.toml", benches=benches).spec.campaign.name == "mini-gpt"
    Path("campaign.toml").write_text("mine")
    status, _, err = call("init")
    assert (status, Path("campaign.toml").read_text()) == (2, "mine")
    assert "use --force" in err
    assert call("init", "--force", "--json")[0] == 0
    assert call("init", "-")[1] == Path("campaign.toml").read_text()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (["--set", "campaign.trials=0", "--set", "program.work=forbidden"], "campaign.trials: .*; program.work: "),
        (["--set", "nonsense"], "a.b=value"),
        (["--bench", "counting"], "KIND=MODULE"),
        (["--bench", "counting=no.such.module"], "cannot be imported"),
        (["--jobs", "0"], "jobs"),
    ],
)
def test_bad_input_is_one_line_exit_2_nothing_written(call, tmp_path, change, what):
    out = tmp_path / "run"
    status, text, err = call("run", write_spec(tmp_path), "--out", out, *BENCH, *change)
    assert (status, text) == (2, "")
    assert re.search(what, err.strip().splitlines()[-1])
    assert "Traceback" not in err
    assert not out.exists()


def test_places_without_a_campaign(call, tmp_path):
    for command in ("status", "resume", "export", "replay"):
        extra = {"export": ["--csv", "-"], "replay": ["--trial", "0"]}.get(command, [])
        for place in (tmp_path, tmp_path / "nowhere"):
            status, text, err = call(command, place, *extra)
            assert (status, text, err.count("\n")) == (2, "", 1)
            assert "no campaign here" in err
    assert not list(tmp_path.iterdir())
    assert call("run", tmp_path / "missing.toml", "--out", tmp_path / "run")[0] == 2
    assert not (tmp_path / "run").exists()


def test_status_says_that_it_runs_while_it_runs(call, tmp_path):
    states = []
    for step in campaign().iter_run(tmp_path):
        if step.done in (20, 40):
            states.append(json.loads(call("status", tmp_path, "--json")[1]))
            assert "trials/s" in call("status", tmp_path)[1]
    assert [(state["state"], state["trials"]) for state in states] == [("running", 20), ("running", 40)]
    assert all(state["rate_per_s"] > 0 and state["eta_s"] > 0 and state["last_commit_s"] >= 0 for state in states)
    last = json.loads(call("status", tmp_path, "--json")[1])
    assert (last["state"], last["rate_per_s"], last["eta_s"]) == ("finished", None, None)


def test_rates_are_never_rounded_to_all_or_nothing():
    assert [percent(rate) for rate in (0.0, 1e-6, 0.5, 1 - 1e-6, 1.0)] == [
        "0.00 %",
        "<0.01 %",
        "50.00 %",
        ">99.99 %",
        "100.00 %",
    ]


def test_progress_is_drawn_on_a_terminal_only(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    quiet, terminal = io.StringIO(), Terminal()
    assert len(list(show_progress(campaign().iter_run(tmp_path / "a"), stream=quiet))) == 16
    assert quiet.getvalue() == ""
    assert len(list(show_progress(campaign().iter_run(tmp_path / "b"), stream=terminal))) == 16
    assert "60/60" in terminal.getvalue()
    assert "MASKED_OVERWRITTEN" in terminal.getvalue()


def test_help_and_status_load_no_heavy_library(tmp_path):
    campaign("campaign.trials=4").run(tmp_path)
    for arguments in (["--help"], ["status", str(tmp_path)]):
        code = (
            "import sys; from yieldkit.cli import run; status = run(['burnin', *sys.argv[1:]]);"
            "heavy = {'pandas', 'matplotlib', 'ortools', 'numba', 'loky', 'scipy.stats'} & set(sys.modules);"
            "sys.exit(str(heavy) if heavy or status else 0)"
        )
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
