"""Bad input of every file kind: one line on stderr, exit 2, nothing printed, nothing written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.cli.kit import call, contents
from yieldkit.errors import AnswerIsNo, BadFile, BadInput, BadSpec

# Kind of file: the commands that read it, with FILE for the bad one, OUT for a folder to write to, and @ for a good
# file of another kind.
READERS = {
    "spec": [
        ["wafer", "check", "FILE"],
        ["wafer", "show", "FILE"],
        ["defects", "sample", "--spec", "FILE", "--out", "OUT/defects.csv"],
        ["map", "faults", "--spec", "FILE", "--out", "OUT/faults.json"],
        ["repair", "plan", "@faults", "--wafer", "FILE", "--out", "OUT/plan.json"],
        ["repair", "yield", "--wafer", "FILE", "--d0", "0.1", "-n", "2"],
        ["emulate", "run", "@program", "--image", "@image", "--spec", "FILE", "--symptoms", "OUT/s.json"],
        ["burnin", "run", "@campaign", "--out", "OUT/run", "--set", "wafer={spec='FILE'}"],
    ],
    "klarf": [
        ["map", "show", "FILE"],
        ["map", "faults", "--preset", "mini", "--defects", "FILE", "--place", "scale", "--out", "OUT/faults.json"],
        ["demo", "--defects", "FILE", "--wafer-id", "A1", "--out", "OUT/demo"],
        [
            *("burnin", "run", "@campaign", "--out", "OUT/run"),
            *("--set", "wafer.defects={klarf='FILE', wafer_id='A1', place='scaled'}"),
        ],
    ],
    "faults": [
        ["repair", "plan", "FILE", "--out", "OUT/plan.json", "--image", "OUT/image.bin"],
        ["repair", "check", "FILE", "@plan"],
    ],
    "plan": [["repair", "check", "@faults", "FILE"]],
    "image": [["emulate", "run", "@program", "--image", "FILE", "--preset", "mini", "--symptoms", "OUT/s.json"]],
    "program": [["emulate", "run", "FILE", "--perfect", "2x2", "--symptoms", "OUT/s.json"]],
    "events": [["emulate", "run", "@program", "--perfect", "2x2", "--fault", "FILE", "--symptoms", "OUT/s.json"]],
    "campaign": [["burnin", "run", "FILE", "--out", "OUT/run"]],
    "store": [
        ["burnin", "status", "FOLDER"],
        ["burnin", "resume", "FOLDER"],
        ["burnin", "export", "FOLDER", "--csv", "OUT/t.csv"],
        ["burnin", "replay", "FOLDER", "--trial", "0"],
        ["burnin", "run", "@campaign", "--out", "FOLDER"],
    ],
    "symptoms": [["diagnose", "FILE"], ["diagnose", "FILE", "--baseline", "@baseline"]],
    "baseline": [["diagnose", "@symptoms", "--baseline", "FILE"]],
    "taxonomy": [["diagnose", "@symptoms", "--taxonomy", "FILE"]],
    "report": [["report", "FILE", "--out", "OUT/report.html"]],
}
JSON_KINDS = ("faults", "plan", "program", "events", "symptoms", "baseline", "report")
TOML_KINDS = ("spec", "campaign", "taxonomy")
COMMANDS = [pytest.param(kind, words, id="-".join(words[:2])) for kind in READERS for words in READERS[kind]]


@pytest.fixture
def refused(kit, tmp_path):
    """Run a command on a bad file; it must leave one line, exit 2 and the folder as it was."""

    def check(kind: str, words: list[str], bad: Path) -> str:
        (tmp_path / "out").mkdir(exist_ok=True)
        places = {"FILE": str(bad), "FOLDER": str(bad.parent), "OUT": str(tmp_path / "out")}
        arguments = []
        for word in words:
            if word.startswith("@"):
                word = str(kit[word[1:]])
            for name, place in places.items():
                word = word.replace(name, place)
            arguments.append(word)
        before = contents(tmp_path)
        answer = call(*arguments)
        assert (answer.status, answer.out) == (2, ""), answer
        assert answer.err.count("\n") == 1, answer.err
        assert answer.err.startswith("yieldkit: "), answer.err
        assert len(answer.err) < 2000
        assert contents(tmp_path) == before
        return answer.err

    return check


def damaged(kind: str, good: bytes) -> dict[str, bytes]:
    """Bytes that are no file of the kind."""
    found = {
        "empty": b"",
        "zeros": bytes(300),
        "not-text": b"\xff\xfe\x80" * 50,
        "another-kind": b"PK\x03\x04 surely not\n",
        "half": good[: len(good) // 2],
    }
    if kind in JSON_KINDS:
        found |= {
            "null": b"null",
            "number": b"3",
            "list-of-list": b"[[]]",
            "empty-object": b"{}",
            "unknown-field": b'{"no such field": 1}',
            "nested": b"[" * 200_000,
            "nan": b"NaN",
            "broken": good.replace(b":", b"", 1),
        }
    if kind in TOML_KINDS:
        found |= {"other-table": b"[nonsense]\nx = 1\n", "nested": b"x = " + b"[" * 20_000, "not-toml": b"a = = 1\n"}
    return found


# A folder without a store is where `burnin run` begins.
@pytest.mark.parametrize(("kind", "words"), [c for c in COMMANDS if c.values[1][-1] != "FOLDER" or "run" not in c.id])
def test_files_that_are_not_there_or_are_no_files(refused, tmp_path, kind, words):
    bad = tmp_path / "in" / kit_name(kind)
    bad.parent.mkdir()
    assert str(bad) in refused(kind, words, bad).replace("'", "")
    bad.mkdir()
    refused(kind, words, bad)
    if kind != "store":
        bad.rmdir()
        bad.symlink_to("/dev/null")
        refused(kind, words, bad)


@pytest.mark.parametrize(("kind", "words"), COMMANDS)
def test_files_that_are_something_else(refused, kit, tmp_path, kind, words):
    bad = tmp_path / "in" / kit_name(kind)
    bad.parent.mkdir()
    good = kit[kind].read_bytes()
    for name, data in damaged(kind, good).items():
        if kind == "store" and words[1] == "run" and not data:
            continue  # as good as no store: the campaign begins
        bad.write_bytes(data)
        try:
            said = refused(kind, words, bad)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        assert "Traceback" not in said


@pytest.mark.parametrize(("change", "said"), [
    (lambda data: data[:-1], "truncated"),
    (lambda data: data[:20], "truncated"),
    (lambda data: data + b"!", "too long"),
    (lambda data: data[:100] + bytes([data[100] ^ 4]) + data[101:], "CRC"),
    (lambda data: data[:8] + bytes([data[8] + 1]) + data[9:], "version"),
])  # fmt: skip
def test_damaged_images(refused, kit, tmp_path, change, said):
    bad = tmp_path / "image.bin"
    bad.write_bytes(change(kit["image"].read_bytes()))
    assert said in refused("image", READERS["image"][0], bad)


def test_any_flipped_bit_of_an_image_is_refused(refused, kit, tmp_path):
    good = kit["image"].read_bytes()
    bad = tmp_path / "image.bin"
    for bit in range(0, 8 * len(good), 37):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        bad.write_bytes(data)
        refused("image", READERS["image"][0], bad)


def test_an_image_for_another_wafer_spec(refused, kit, tmp_path):
    other = tmp_path / "wafer.toml"
    text = kit["spec"].read_text()
    assert text.count("queue_depth = ") == 1
    other.write_text(re.sub(r"queue_depth = \d+", "queue_depth = 7", text))
    words = ["emulate", "run", "@program", "--image", "@image", "--spec", "FILE", "--symptoms", "OUT/s.json"]
    assert "spec" in refused("spec", words, other)
    other.write_text(text)
    answer = call("emulate", "run", kit["program"], "--image", kit["image"], "--spec", other)
    assert answer.status == 0, answer


@pytest.mark.parametrize(("kind", "old", "new", "said"), [
    ("spec", "queue_depth = ", "queue_depth = -", "queue_depth"),
    ("spec", "queue_depth", "queue_dept", "queue_depth"),
    ("klarf", "FileVersion 1 2", "FileVersion 9 2", "KLARF 1.x"),
    ("klarf", "EndOfFile;", "", "EndOfFile"),
    ("faults", '"version": 1', '"version": 2', "version"),
    ("faults", '"W01"', '"W02"', "checksum"),
    ("plan", '"version":1', '"version":2', "version"),
    ("program", '"rows":2', '"rows":0', "row"),
    ("program", '"version":1', '"version":2', "version"),
    ("campaign", "seed = 3", "seeds = 3", "campaign.seeds"),
    ("campaign", "trials = 4", "trials = -4", "campaign.trials"),
    ("campaign", "width = 8", "width = 7", "program"),
    ("campaign", "rows = 2", "rows = 64", "program"),
    ("campaign", "sram_data", "sram_date", "sram_data"),
    ("campaign", '"mini"', '"minor"', "wafer.preset"),
    ("campaign", '"gpt_training"', '"gpt_trainer"', "program.kind"),
    ("symptoms", '"status"', '"state"', "state"),
    ("baseline", '"half_width"', '"width"', "width"),
    ("taxonomy", "schema = 1", "schema = 2", "schema"),
    ("taxonomy", '"cause"', '"causes"', "causes"),
    ("report", '"schema_version": 1', '"schema_version": 2', "schema_version"),
    ("events", '"sram"', '"dram"', "place"),
    ("events", '"mask": 8', '"mask": "8"', "mask"),
    ("events", '"row": 0', '"row": -1', "row"),
    ("events", '"step": 0', '"step": 1', "step"),
    ("events", '"launch": "', '"launch": "no.', "launch"),
    ("events", '"mask": 8', '"mask": 8, "phase": 500', "phases"),
])  # fmt: skip
def test_one_wrong_value(refused, kit, tmp_path, kind, old, new, said):
    bad = tmp_path / kit_name(kind)
    text = kit[kind].read_text()
    assert old in text, text[:300]
    bad.write_text(text.replace(old, new, 1))
    answer = refused(kind, READERS[kind][0], bad)
    assert said in answer
    assert str(bad) in answer or kind == "klarf"


def test_a_store_of_another_campaign_and_a_row_that_changed(kit, refused, tmp_path):
    import sqlite3

    folder = tmp_path / "run"
    shutil.copytree(kit["run"], folder)
    other = tmp_path / "campaign.toml"
    other.write_text(kit["campaign"].read_text().replace("seed = 3", "seed = 4"))
    said = refused("campaign", ["burnin", "run", "FILE", "--out", str(folder)], other)
    assert "campaign.seed" in said
    connection = sqlite3.connect(folder / "campaign.sqlite")
    connection.execute("UPDATE trials SET label = 'SPIKE' WHERE k = 2")
    connection.commit()
    connection.close()
    refused("store", ["burnin", "export", "FOLDER", "--csv", "OUT/t.csv"], folder / "campaign.sqlite")


def test_a_corpus_whose_bytes_changed(refused, kit, tmp_path, monkeypatch):
    from yieldkit.workloads import batches, corpus

    shipped = corpus._find("cpython-topics")
    shutil.copytree(shipped, tmp_path / "corpus")
    bad = tmp_path / "corpus" / "topics.json"
    bad.write_bytes(bad.read_bytes().replace(b"assert", b"Assert", 1))
    monkeypatch.setattr(corpus, "_find", lambda name: tmp_path / "corpus")
    batches._corpus.cache_clear()
    words = ["emulate", "run", "@program", "--perfect", "2x2", "--symptoms", "OUT/s.json"]
    said = refused("program", words, bad)
    assert "SHA-256" in said
    assert str(bad) in said
    batches._corpus.cache_clear()


def test_errors_survive_the_way_between_processes():
    import pickle

    for error in (
        BadFile("a.toml", "is wrong", where="line 3", value=5, cure="mend it"),
        BadSpec("a.toml", [("a.b", "is missing")]),
        BadInput("n is wrong", value=0),
        AnswerIsNo("no"),
    ):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(copy), str(copy), copy.__dict__) == (type(error), str(error), error.__dict__)


def kit_name(kind: str) -> str:
    return {"spec": "wafer.toml", "taxonomy": "taxonomy.toml", "campaign": "campaign.toml"}.get(
        kind, "campaign.sqlite" if kind == "store" else f"{kind}.dat"
    )
