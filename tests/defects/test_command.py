"""`yieldkit defects` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yieldkit.cli import run


def test_yield(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["defects", "yield", "--law", "nb", "--d0", "0.1", "--alpha", "2", "--area", "100"]) == 0
    assert "yield 90.70 %" in capsys.readouterr().out
    assert run(["defects", "yield", "--from-yield", "0.92", "--area", "25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["d0_per_cm2"] == pytest.approx(0.3335, abs=5e-5)
    assert run(["defects", "yield", "--d0", "100", "--area", "1e4"]) == 0
    assert "yield < 0.01 %" in capsys.readouterr().out
    assert run(["defects", "yield", "--d0", "1e-9", "--area", "1"]) == 0
    assert "yield > 99.99 %" in capsys.readouterr().out
    assert run(["defects", "yield", "--d0", "0", "--area", "1"]) == 0
    assert "yield 100 %" in capsys.readouterr().out


def test_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "d.csv"
    arguments = ["defects", "sample", "--preset", "wse3", "-n", "5", "--seed", "3", "--out", str(out), "--json"]
    assert run(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    lines = out.read_text().splitlines()
    assert lines[0] == "wafer,x_mm,y_mm,size_um,layer"
    assert len(lines) == facts["defects"] + 1
    assert facts["expected_per_wafer"] == pytest.approx(46.2, abs=0.05)
    first = out.read_bytes()
    assert run(arguments) == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["yield", "--area", "1"], "--d0 or --from-yield"),
        (["yield", "--d0", "0.1", "--from-yield", "0.9", "--area", "1"], "--d0 or --from-yield"),
        (["yield", "--law", "nb", "--d0", "0.1", "--area", "1"], "needs alpha"),
        (["yield", "--d0", "0.1", "--area", "-1"], "area_mm2"),
        (["sample"], "--preset NAME or by --spec FILE"),
        (["sample", "--preset", "mini", "--spec", "x.toml"], "one of them"),
        (["sample", "--preset", "mini", "--d0", "nan"], "d0_per_cm2"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["defects", *arguments]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert message in out.err
    assert out.err.count("\n") == 1
