"""`yieldkit map show` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yieldkit.cli import run

SYNTHETIC = Path(__file__).resolve().parents[2] / "data" / "two-wafers.klarf"


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["map", "show", str(SYNTHETIC)]) == 0
    assert "wafer A1: 200 mm, 147 dies of 1.800000 cm², 128 good, 19 bad, 24 defects" in capsys.readouterr().out
    assert run(["map", "show", str(SYNTHETIC), "--wafer-id", "A2", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["wafers"]
    assert (one["wafer_id"], one["n_defects"], one["n_bad"]) == ("A2", 9, 9)


@pytest.mark.parametrize("content", ["", "hello", "FileVersion 1 2;", "{"])
def test_bad_files_are_one_line_and_exit_2(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad"
    path.write_text(content)
    assert run(["map", "show", str(path)]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.count("\n") == 1
    assert str(path) in out.err


def test_a_wafer_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["map", "show", str(SYNTHETIC), "--wafer-id", "A9"]) == 2
    assert "it holds: A1, A2" in capsys.readouterr().err
