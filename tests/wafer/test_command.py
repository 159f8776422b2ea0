"""`yieldkit wafer` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yieldkit.cli import run
from yieldkit.wafer import WaferSpec


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wafer", "list"]) == 0
    assert "969,668" in capsys.readouterr().out
    assert run(["wafer", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["presets"]
    assert [one["name"] for one in listed] == ["mini", "wse1", "wse2", "wse3"]
    assert run(["wafer", "show", "wse3", "--sources"]) == 0
    shown = capsys.readouterr().out
    assert "1,170 x 755" in shown
    assert "assumption" in shown
    assert run(["wafer", "show", "wse3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == WaferSpec.preset("wse3").summary()


def test_edit_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wafer", "show", "mini", "--toml"]) == 0
    path = tmp_path / "mine.toml"
    path.write_text(capsys.readouterr().out)
    assert run(["wafer", "check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == WaferSpec.preset("mini").fingerprint
    path.write_text(path.read_text().replace("skip_reach", "skipreach").replace("banks = 8", "banks = 0"))
    assert run(["wafer", "check", str(path)]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.count("\n") == 1
    for part in ("repair.skipreach", "machine.banks", "did you mean"):
        assert part in out.err


def test_unknown_wafer_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wafer", "show", "nothing"]) == 2
    assert run(["wafer", "show", "./nothing.toml"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
