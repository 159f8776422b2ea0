"""`yieldkit diagnose` on files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.diagnosis import cases
from yieldkit.cli import run


def test_text_and_json_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    symptoms, baseline = tmp_path / "s.json", tmp_path / "b.json"
    symptoms.write_text(json.dumps(cases.nan_at(40).to_dict()), encoding="utf-8")
    baseline.write_text(json.dumps(cases.BASELINE.to_dict()), encoding="utf-8")
    assert run(["diagnose", str(symptoms), "--baseline", str(baseline)]) == 0
    text = capsys.readouterr().out
    assert run(["diagnose", str(symptoms), "--baseline", str(baseline), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["code"] == "NAN_HW"
    assert text.startswith("NAN_HW (NaN made by the machine; SDC found late), confidence 0.90")
    for line in facts["evidence"]:
        assert line in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "must hold a JSON object"),
        (b"\xff\xfe{", "is not"),
        (b'{"program": "p", "status": "COMPLETED", "steps_planned": 1, "steps_done": 1, "truth": 1}', "unknown fields"),
        (b'{"program": "p"}', "missing"),
        (
            b'{"program": "p", "status": "COMPLETED", "steps_planned": 1, "steps_done": 1, "waiting": [{"x": 1}]}',
            "read",
        ),
    ],
)
def test_bad_files_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    assert run(["diagnose", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert str(path) in error


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagnose", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
