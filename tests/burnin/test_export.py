"""Tables of trials: CSV and Parquet say the same, with stable columns, and memory does not grow with the trials."""

from __future__ import annotations

import io
import json
import math
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pandas as pd
import pytest

from tests.burnin.specs import campaign
from tests.burnin.test_survival import ROOT
from yieldkit.burnin import CampaignRun, export_columns, export_csv, export_parquet
from yieldkit.burnin.store import STORE_NAME, Store
from yieldkit.burnin.trial import TrialRecord
from yieldkit.cli import run as cli
from yieldkit.errors import BadFile, BadInput


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return campaign().run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A run whose facts take every shape; the rows are written by hand."""
    run = campaign("campaign.trials=4").run(tmp_path_factory.mktemp("odd"))
    truths = [
        {"kind": "a", "bit": 3, "on": True, "mixed": 1, "gone": None, "note": 'é, "quoted"\nline'},
        {"kind": "a", "bit": None, "on": False, "mixed": "x", "link": [1, 2]},
        {"kind": "b", "bit": 1 << 40, "share": 0.1},
        {"kind": "b", "share": 2, "where": {"row": 1}},
    ]
    metrics = [{"loss": float("nan"), "steps": 3}, {"loss": -math.inf}, {"loss": 1e-300}, {"steps": 0.5}]
    with Store.writer(run.folder / STORE_NAME, meta={}) as store:
        store._connection.execute("DELETE FROM trials")
        store._connection.execute("DELETE FROM chunks")
        rows = [
            TrialRecord(k, truth, "SDC" if k % 2 else "BENIGN", {}, metric, weight=0.5).to_row()
            for k, (truth, metric) in enumerate(zip(truths, metrics, strict=True))
        ]
        store.add_chunk(0, 4, rows, task_fingerprint=run.task_fingerprint)
        store.finish()
    return run


def read_csv(run, **chosen):
    stream = io.StringIO()
    export_csv(run, stream, **chosen)
    return pd.read_csv(io.StringIO(stream.getvalue()))


def test_every_fact_is_in_the_table(plain, tmp_path):
    table = read_csv(plain)
    frame = plain.to_frame()
    assert list(table.k) == list(frame.k) == list(range(60))
    assert list(table.columns) == list(export_columns(plain))
    assert set(table.columns) == set(frame.columns)
    assert list(table.label) == list(frame.label)
    assert list(table["truth.row"]) == list(frame["truth.row"])
    # Bit for bit: a float is written so that it reads back as itself.
    same = (table["metric.final_loss"] == frame["metric.final_loss"]) | frame["metric.final_loss"].isna()
    assert same.all()
    assert [json.loads(text) for text in table["seen.loss"]] == list(frame["seen.loss"])


def test_types_are_what_all_values_have(odd):
    columns = export_columns(odd)
    assert {name: kind for name, kind in columns.items() if name.startswith("truth.")} == {
        "truth.bit": "int",
        "truth.gone": "text",
        "truth.kind": "text",
        "truth.link": "json",
        "truth.mixed": "json",
        "truth.note": "text",
        "truth.on": "bool",
        "truth.share": "float",
        "truth.where": "json",
    }
    assert columns["metric.steps"] == columns["metric.loss"] == columns["weight"] == "float"
    assert list(columns)[:8] == ["k", "kind", "label", "site", "bit", "phase", "model", "weight"]


def test_csv_tells_absent_from_nan(odd, tmp_path):
    exported = export_csv(odd, tmp_path / "t.csv", columns=["k", "truth.on", "truth.bit", "metric.*", "truth.note"])
    assert exported.rows == 4
    assert (tmp_path / "t.csv").read_bytes().decode().splitlines(keepends=True) == [
        "k,truth.on,truth.bit,metric.loss,metric.steps,truth.note\n",
        '0,true,3,nan,3.0,"é, ""quoted""\n',
        'line"\n',
        "1,false,,-inf,,\n",
        "2,,1099511627776,1e-300,,\n",
        "3,,,,0.5,\n",
    ]


def test_parquet_says_what_csv_says(odd, plain, tmp_path):
    from pyarrow import parquet

    export_parquet(odd, tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet")
    assert {name: str(table.schema.field(name).type) for name in ("k", "truth.on", "metric.steps", "truth.link")} == {
        "k": "int64",
        "truth.on": "bool",
        "metric.steps": "double",
        "truth.link": "string",
    }
    assert table.column("truth.bit").to_pylist() == [3, None, 1 << 40, None]
    assert table.column("truth.mixed").to_pylist() == ["1", "x", None, None]
    assert table.column("truth.where").to_pylist() == [None, None, None, '{"row":1}']
    assert math.isnan(table.column("metric.loss").to_pylist()[0])
    assert table.column("metric.loss").to_pylist()[3] is None
    assert table.schema.metadata[b"yieldkit.fingerprint"].decode() == odd.fingerprint
    export_parquet(plain, tmp_path / "p.parquet", labels=["BENIGN", "STALL_DROP"])
    frame = parquet.read_table(tmp_path / "p.parquet").to_pandas()
    other = read_csv(plain, labels=["BENIGN", "STALL_DROP"])
    # CSV has one way to write an empty text and an absent one.
    empty = [name for name in frame if (frame[name] == "").all()]
    assert {"site", "phase"} <= set(empty)
    pd.testing.assert_frame_equal(
        frame.drop(columns=empty), other.drop(columns=empty), check_dtype=False, check_column_type=False
    )
    assert 0 < len(frame) < 60


def test_filters_that_match_nothing_are_named(plain, tmp_path):
    for chosen, what in (
        ({"columns": ["truth.rwo"]}, r"no such column, got 'truth\.rwo'; did you mean truth\.row\?"),
        ({"columns": ["nothing.*"]}, "columns here: k, kind"),
        ({"labels": ["BENING"]}, "no trial has this label, got 'BENING'; labels here: BENIGN"),
    ):
        with pytest.raises(BadInput, match=what):
            export_csv(plain, tmp_path / "t.csv", **chosen)
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_trial_is_a_table_without_a_row(tmp_path):
    with pytest.raises(BadInput):
        campaign("program.refuse=true").run(tmp_path / "run")
    table = read_csv(CampaignRun.load(tmp_path / "run"))
    assert (len(table), list(table.columns)[:3]) == (0, ["k", "kind", "label"])


def test_without_pyarrow_the_cure_is_named(plain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"pip install 'yieldkit\[parquet\]'"):
        export_parquet(plain, tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_behind(plain, tmp_path):
    code = (
        "import resource, sys; from yieldkit.cli import run; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "sys.exit(run(['burnin', 'export', *sys.argv[1:]]))"
    )
    for option in ("--csv", "--parquet"):
        words = [sys.executable, "-c", code, plain.folder, option, tmp_path / "table"]
        process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (process.returncode, process.stdout, process.stderr.count("\n")) == (2, "", 1), process.stderr
        assert "table: cannot be written" in process.stderr
        assert not list(tmp_path.iterdir())


def test_damage_is_told_and_nothing_written(plain, tmp_path):
    shutil.copytree(plain.folder, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / STORE_NAME)) as connection:
        connection.execute("UPDATE trials SET label = 'SPIKE' WHERE k = 33")
        connection.commit()
    with pytest.raises(BadFile, match="trials 32 to 35 are not what was written"):
        export_csv(CampaignRun.load(tmp_path / "run"), tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


def test_the_command_writes_both_at_once(plain, tmp_path, capsys):
    files = ["--csv", str(tmp_path / "t.csv"), "--parquet", str(tmp_path / "t.parquet")]
    assert cli(["burnin", "export", str(plain.folder), *files, "--columns", "k,label", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {
        "rows": 60,
        "columns": ["k", "label"],
        "file": str(tmp_path / "t.csv"),
        "parquet": str(tmp_path / "t.parquet"),
    }
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 61
    assert cli(["burnin", "export", str(plain.folder)]) == 2
    assert "nowhere to write to" in capsys.readouterr().err
    assert cli(["burnin", "export", str(plain.folder), "--csv", "-", "--label", "BENIGN", "--columns", "label"]) == 0
    assert set(capsys.readouterr().out.splitlines()) == {"label", "BENIGN"}
