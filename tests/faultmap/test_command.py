"""`yieldkit map faults` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real_data import real_data
from yieldkit.cli import run
from yieldkit.faultmap import FaultMap
from yieldkit.wafer import WaferSpec

SYNTHETIC = Path(__file__).resolve().parents[2] / "data" / "two-wafers.klarf"


def test_sampled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "map.json"
    arguments = ["map", "faults", "--preset", "wse3", "--seed", "4", "--wafer-id", "W04", "--out", str(out), "--json"]
    assert run(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    faults = FaultMap.load(out, wafer=WaferSpec.preset("wse3"))
    assert facts["fingerprint"] == faults.fingerprint
    assert facts["dead_cores"] == len(faults.dead_cores)
    assert sum(facts["effects"].values()) == facts["defects"]
    assert faults.wafer_id == "W04"
    assert run(["map", "show", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == faults.fingerprint
    assert run(["map", "show", str(out)]) == 0
    assert "dead cores" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["keep", "scale"])
def test_defects_of_a_file(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "map.json"
    arguments = ["map", "faults", "--preset", "mini", "--defects", str(SYNTHETIC), "--wafer-id", "A1"]
    assert run([*arguments, "--place", place, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert ("scaled by 1.5" if place == "scale" else "left at their place") in shown
    faults = FaultMap.load(out)
    assert len(faults.outcomes) == 24
    assert faults.wafer_id == "A1"
    assert any("200 mm wafer on a 300 mm wafer" in note for note in faults.notes)


def test_defects_of_a_real_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(real_data("klarf/QUU_NUU.000"))
    arguments = ["map", "faults", "--preset", "wse3", "--defects", path, "--wafer-id", "02", "--json"]
    assert run([*arguments, "--place", "keep"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["defects"] == 56
    assert facts["wafer_id"] == "02"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--preset NAME or by --spec FILE"),
        (["--preset", "mini", "--place", "keep"], "--place needs --defects"),
        (["--preset", "mini", "--defects", str(SYNTHETIC)], "choose one by wafer_id: A1, A2"),
        (["--preset", "mini", "--defects", str(SYNTHETIC), "--wafer-id", "A1"], "choose --place keep or --place scale"),
        (["--preset", "mini", "--defects", str(SYNTHETIC), "--wafer-id", "A1", "--d0", "1"], "belong to sampled"),
        (["--preset", "mini", "--defects", "/nowhere.klarf"], "cannot be read"),
        (["--preset", "mini", "--law", "zipf"], "no law of this name"),
        (["--spec", "/nowhere.toml"], "cannot be read"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.json"
    assert run(["map", "faults", *arguments, "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
