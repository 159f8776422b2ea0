"""`yieldkit repair`: text, JSON, files and exit statuses."""

from __future__ import annotations

import json

import pytest

from yieldkit.cli import run
from yieldkit.fabric import Fabric, FirmwareImage
from yieldkit.faultmap import FaultMap
from yieldkit.repair import RepairPlan
from yieldkit.wafer import WaferSpec

MINI = WaferSpec.preset("mini")


@pytest.fixture
def faults(tmp_path):
    path = tmp_path / "faults.json"
    FaultMap.for_wafer(MINI, dead_cores=[(4, 7), (9, 12)], wafer_id="W01").save(path)
    return path


def test_plan_image_and_check(tmp_path, faults, capsys):
    plan, image = tmp_path / "plan.json", tmp_path / "fw.bin"
    assert run(["repair", "plan", str(faults), "--out", str(plan), "--image", str(image)]) == 0
    assert "optimal: 20 x 18 fabric" in capsys.readouterr().out
    fabric = Fabric.boot(FirmwareImage.load(image), MINI, wafer_id="W01")
    assert (fabric.core_of == RepairPlan.load(plan).core_of).all()
    assert run(["repair", "check", str(faults), str(plan)]) == 0
    assert "the plan holds" in capsys.readouterr().out


def test_json_says_the_same(faults, capsys):
    assert run(["repair", "plan", str(faults), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["status"] == "optimal"
    assert facts["objective"] == facts["bound"]
    assert [level["name"] for level in facts["levels"]][-1] == "skew"


def test_no_is_exit_3(tmp_path, faults, capsys):
    plan = tmp_path / "plan.json"
    assert run(["repair", "plan", str(faults), "--spares", "0", "--out", str(plan)]) == 3
    assert "infeasible" in capsys.readouterr().out
    assert run(["repair", "plan", str(faults), "--out", str(plan)]) == 0
    worse = tmp_path / "worse.json"
    used = RepairPlan.load(plan).core_of[3, 3].tolist()
    FaultMap.load(faults).with_faults(dead_cores=[used]).save(worse)
    capsys.readouterr()
    assert run(["repair", "check", str(worse), str(plan)]) == 3
    assert "is dead" in capsys.readouterr().out
    assert run(["repair", "check", str(worse), str(plan), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["holds"] is False


def test_bad_input_is_exit_2_and_writes_nothing(tmp_path, faults, capsys):
    out, image = tmp_path / "out.json", tmp_path / "fw.bin"
    bare = tmp_path / "bare.json"
    FaultMap((4, 6)).save(bare)
    text = tmp_path / "text"
    text.write_text("hello")
    for arguments in (
        ["plan", str(tmp_path / "none.json")],
        ["plan", str(text)],
        ["plan", str(bare)],
        ["plan", str(bare), "--spares", "1", "--image", str(image)],
        ["plan", str(faults), "--logical", "20"],
        ["plan", str(faults), "--logical", "99x99"],
        ["plan", str(faults), "--wafer", "wse1"],
        ["plan", str(faults), "--image", str(image), "--wafer-id", "W02"],
        ["plan", str(faults), "--spares", "-1"],
    ):
        assert run(["repair", *arguments, "--out", str(out)]) == 2, arguments
        assert "Traceback" not in capsys.readouterr().err
        assert not out.exists()
        assert not image.exists()
    for arguments in (["check", str(faults), str(text)], ["check", str(faults), str(faults)]):
        assert run(["repair", *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_replan_moves_few_cores_and_diff_shows_them(tmp_path, faults, capsys):
    plan, image = tmp_path / "plan.json", tmp_path / "fw.bin"
    assert run(["repair", "plan", str(faults), "--out", str(plan), "--image", str(image)]) == 0
    before = RepairPlan.load(plan)
    worse = tmp_path / "worse.json"
    FaultMap.load(faults).with_faults(dead_cores=[before.core_of[3, 3]]).save(worse)
    new, new_image = tmp_path / "new.json", tmp_path / "new.bin"
    capsys.readouterr()
    words = ["repair", "replan", str(worse), "--plan", str(plan), "--out", str(new), "--image", str(new_image)]
    assert run([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    moved = {level["name"]: level["value"] for level in facts["levels"]}["moved_cores"]
    assert facts["status"] == "optimal"
    assert 0 < moved < 40
    assert run(["repair", "check", str(worse), str(new)]) == 0
    capsys.readouterr()
    assert run(["repair", "diff", str(image), str(new_image)]) == 0
    assert f"{moved} cores move" in capsys.readouterr().out
    assert Fabric.boot(FirmwareImage.load(new_image), MINI, wafer_id="W01").shape == (20, 18)


def test_replan_says_no_and_refuses(tmp_path, faults, capsys):
    plan = tmp_path / "plan.json"
    assert run(["repair", "plan", str(faults), "--out", str(plan)]) == 0
    lost = tmp_path / "lost.json"
    row = RepairPlan.load(plan).core_of[3].tolist()
    FaultMap.load(faults).with_faults(dead_cores=row).save(lost)
    capsys.readouterr()
    assert run(["repair", "replan", str(lost), "--plan", str(plan)]) == 3
    assert "infeasible" in capsys.readouterr().out
    assert run(["repair", "margin", str(lost), "-n", "2"]) == 3
    capsys.readouterr()
    other = tmp_path / "other.json"
    FaultMap((4, 6)).save(other)
    for words in (
        ["replan", str(other), "--plan", str(plan)],
        ["replan", str(faults), "--plan", str(faults)],
        ["margin", str(other)],
        ["diff", str(plan), str(plan)],
    ):
        assert run(["repair", *words]) == 2, words
        assert capsys.readouterr().err.count("\n") == 1


def test_margin(tmp_path, faults, capsys):
    plan = tmp_path / "plan.json"
    assert run(["repair", "plan", str(faults), "--out", str(plan)]) == 0
    capsys.readouterr()
    words = ["repair", "margin", str(faults), "-n", "8", "--kind", "dead_core", "--kind", "dead_link"]
    assert run([*words, "--plan", str(plan), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["kinds"]) == ["dead_core", "dead_link"]
    assert len(facts["kinds"]["dead_core"]["survived"]) == 8
    assert run(words) == 0
    assert "dead_link: " in capsys.readouterr().out


def test_yield(capsys):
    assert run(["repair", "yield", "--wafer", "mini", "--d0", "1", "-n", "20", "--seed", "3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["n"] == 20
    assert facts["low"] <= facts["yield"] <= facts["high"]


def test_rule_lines(tmp_path, faults, capsys):
    plan, image = tmp_path / "plan.json", tmp_path / "fw.bin"
    bare = tmp_path / "bare.json"
    FaultMap((9, 9), dead_cores=[(4, 7), (2, 3)], wafer_id="W01").save(bare)
    words = ["repair", "plan", str(bare), "--rule", "lines", "--out", str(plan)]
    assert run([*words, "--spare-rows", "0", "--spare-cols", "2", "--image", str(image)]) == 0
    assert "optimal: 9 x 7 fabric" in capsys.readouterr().out
    assert FirmwareImage.load(image).columns.shape == (1, 7)
    assert run(["repair", "check", str(bare), str(plan)]) == 0
    assert run([*words, "--spare-rows", "1", "--spare-cols", "0", "--json"]) == 3
    captured = capsys.readouterr()
    facts = json.loads(captured.out[captured.out.index("{") :])
    assert facts["certificate"]["kind"] == "matching"
    assert run(["repair", "check", str(bare), str(plan)]) == 0
    image.unlink()
    assert run([*words, "--spare-rows", "2", "--spare-cols", "0", "--image", str(image)]) == 2
    assert "no form for a row bypassed" in capsys.readouterr().err
    assert not image.exists()
    assert run([*words, "--spare-rows", "2"]) == 2
    assert run(["repair", "plan", str(faults), "--rule", "lines", "--logical", "10x10", "--spare-rows", "4"]) == 0
    capsys.readouterr()
    assert run(["repair", "frontier", str(bare), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == [[0, 2], [1, 1], [2, 0]]
    killed = tmp_path / "killed.json"
    FaultMap((4, 4), wafer_killed=True).save(killed)
    assert run(["repair", "frontier", str(killed)]) == 3


def test_yield_stops_turns_and_weighs(capsys):
    words = ["repair", "yield", "--wafer", "mini", "--d0", "0.3", "--alpha", "2", "--seed", "3"]
    assert run([*words, "-n", "5000", "--half-width", "0.03", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["n"] < 5000
    assert facts["half_width"] <= 0.03
    assert run([*words, "-n", "20", "--half-width", "0.001"]) == 0
    assert "raise -n" in capsys.readouterr().out
    assert run([*words, "-n", "100", "--curve", "S=0:4:2", "--curve", "D0=0.1,0.3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    points = [(row["spares"], row["d0_per_cm2"]) for row in facts["rows"]]
    assert points == [(s, d) for s in (0, 2, 4) for d in (0.1, 0.3)]
    assert facts["rows"][0]["change"] is None
    assert run([*words, "-n", "60", "--rare"]) == 0
    text = capsys.readouterr().out
    assert run([*words, "-n", "60", "--rare", "--jobs", "2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert f"loss {facts['loss']:.4g} " in text
    assert ("warning" in text) == bool(facts["warning"])


def test_bins_and_studies(capsys):
    words = ["--wafer", "mini", "-n", "50", "--seed", "3", "--json"]
    bins = ["--bin", "all=20x18@2", "--bin", "some=10x16@0.5"]
    assert run(["repair", "bins", "--d0", "1", *bins, *words]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in facts["rows"]] == ["all", "some", "none"]
    assert sum(row["count"] for row in facts["rows"]) == 50
    assert facts["mean_price_low"] <= facts["mean_price"] <= facts["mean_price_high"]
    assert run(["repair", "study", "silicon", *words]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"][0]["product"] == "one fabric"
    assert facts["rows"][0]["die_mm2"] is None
