"""Every group and subcommand: help, the happy path as text and as JSON, and the exit statuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import click
import pytest

from tests.cli.kit import ROOT, call, contents
from yieldkit.cli import GROUPS, app
from yieldkit.version import __version__


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """All commands below one, groups included, by the words that call them."""
    found = {path: command}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found |= leaves(inner, (*path, name))
    return found


ALL = leaves(app)


# A happy path of every command; @kind is a good file, OUT a new place. The facts named must stand in the text too.
HAPPY = {
    ("wafer", "list"): ([], []),
    ("wafer", "show"): (["mini", "--sources"], ["name", "fingerprint"]),
    ("wafer", "check"): (["@spec"], ["name", "fingerprint"]),
    ("defects", "yield"): (["--d0", 0.5, "--area", 100], []),
    ("defects", "sample"): (["--preset", "mini", "-n", 3, "--out", "OUT"], ["wafer", "seed", "defects", "most"]),
    ("map", "show"): (["@klarf"], []),
    ("map", "faults"): (["--preset", "mini", "--out", "OUT"], ["wafer"]),
    ("repair", "plan"): (["@faults", "--out", "OUT"], ["status"]),
    ("repair", "check"): (["@faults", "@plan"], []),
    ("repair", "replan"): (["@faults", "--plan", "@plan", "--out", "OUT"], ["status"]),
    ("repair", "diff"): (["@image", "@image"], ["moved"]),
    ("repair", "margin"): (["@faults", "--kind", "dead_core", "--kind", "dead_link", "-n", 5], []),
    ("repair", "frontier"): (["@faults", "--csv", "OUT"], []),
    ("repair", "yield"): (["--wafer", "mini", "--d0", 0.2, "-n", 20], ["n", "repaired"]),
    ("repair", "bins"): (["--wafer", "mini", "--d0", 0.2, "-n", 20, "--bin", "a=20x18@2"], ["n", "seed"]),
    ("repair", "study"): (["silicon", "--wafer", "mini", "-n", 20], ["study", "n"]),
    ("emulate", "program"): (
        ["gpt_decode", "--cols", 2, "--width", 8, "--heads", 2, "--context", 4, "--out", "OUT"],
        ["path", "fingerprint", "launches", "phases"],
    ),
    ("emulate", "run"): (
        ["@program", "--perfect", "2x2", "--steps", 2, "--symptoms", "OUT"],
        ["status", "state_hash", "steps_done"],
    ),
    ("emulate", "check"): (["@program"], []),
    ("emulate", "dump"): (["@program", "--core", "0,1"], []),
    ("burnin", "init"): (["OUT"], ["file"]),
    ("burnin", "run"): (["@campaign", "--out", "OUT"], ["name", "fingerprint", "state", "trials", "folder"]),
    ("burnin", "resume"): (["@run"], ["name", "fingerprint", "state", "trials", "added"]),
    ("burnin", "check"): (["@campaign"], ["name", "fingerprint"]),
    ("burnin", "outcomes"): (["@run", "--by", "site"], ["folder", "trials"]),
    ("burnin", "status"): (["@run"], ["name", "fingerprint", "state", "trials"]),
    ("burnin", "replay"): (["@run", "--trial", 1], ["label"]),
    ("burnin", "export"): (["@run", "--csv", "OUT"], ["rows", "file"]),
    ("burnin", "merge"): (["@run", "--out", "OUT"], ["name", "fingerprint", "trials", "added", "shared"]),
    ("burnin", "compare"): (["@run", "@run"], []),
    ("burnin", "screen"): (
        [
            *("--preset", "mini", "--workload", "gpt_training", "--kind", "link_drop", "--kind", "stuck_cell", "-n", 2),
            *("--steps", 2, "--set", "gpt_training.width=8", "--set", "gpt_training.context=4", "--csv", "OUT"),
        ],
        ["wafer", "seed", "parts"],
    ),
    ("diagnose",): (["@symptoms", "--baseline", "@baseline", "--taxonomy", "@taxonomy"], ["code"]),
    ("reliability", "interval"): ([3, 40], []),
    ("report",): (["@report", "--out", "OUT"], ["path"]),
    ("doctor",): ([], ["yieldkit", "python", "machine"]),
}  # fmt: skip
ELSEWHERE = {("demo",), ("emulate", "calibrate")}  # tests/chain, tests/emulator/test_calibration.py


@pytest.mark.parametrize("kind", ["stencil", "cg"])
def test_programs_of_grids(kind, tmp_path):
    program = tmp_path / "program.json"
    made = call("emulate", "program", kind, "--rows", 2, "--cols", 3, "--depth", 4, "--out", program)
    assert made.status == 0, made.err
    ran = call("emulate", "run", program, "--perfect", "2x3", "--steps", 9)
    assert ran.status == 0, ran.err
    assert {"stencil": "gain ", "cg": "residual 1 to "}[kind] in ran.out


def test_every_command_is_tested():
    commands = {path for path, command in ALL.items() if not isinstance(command, click.Group)}
    assert commands == set(HAPPY) | ELSEWHERE
    assert {path[0] for path in commands} == set(GROUPS)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help(path):
    answer = call(*path, "--help")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith(f"Usage: {' '.join(('yieldkit', *path))}")
    command = ALL[path]
    first = (command.help or "").strip().splitlines()[0]
    assert first.endswith((".", ":", ",", "faults", "injected"))
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            assert re.search(rf"^  {name}\b", answer.out, re.M)
    else:
        assert "--json" in answer.out
        assert all(p.help for p in command.params if isinstance(p, click.Option) and p.name in ("out", "as_json"))


@pytest.mark.parametrize("path", HAPPY, ids=" ".join)
def test_text_and_json_say_the_same(path, kit, tmp_path):
    words, shown = HAPPY[path]
    answers = {}
    for form in ("text", "json"):
        if path == ("burnin", "resume"):
            shutil.copytree(kit["run"], tmp_path / form / "run")
        out = tmp_path / form / ("out.toml" if path[0] == "burnin" else "out")
        places = {word: str(kit[word[1:]]) for word in map(str, words) if word.startswith("@")}
        arguments = [str(out) if word == "OUT" else places.get(str(word), str(word)) for word in words]
        answers[form] = call(*path, *arguments, *(["--json"] if form == "json" else []))
        assert (answers[form].status, answers[form].err) == (0, ""), answers[form]
        assert out.exists() == ("OUT" in words)
        if out.is_file():
            assert out.read_bytes()
    facts, text = answers["json"].facts, answers["text"].out
    assert isinstance(facts, dict)
    for name in shown:
        value = str(facts[name]).replace("/json/", "/text/")
        plain = text.replace(",", "")
        assert value.replace(",", "") in plain, (name, value, text)


def test_files_written_are_the_same_with_json(kit, tmp_path):
    for form in ((), ("--json",)):
        folder = tmp_path / ("json" if form else "text")
        folder.mkdir()
        assert call("defects", "sample", "--preset", "mini", "--seed", 3, "--out", folder / "d.csv", *form).status == 0
        words = ["map", "faults", "--preset", "mini", "--seed", 3, "--out", folder / "f.json", *form]
        assert call(*words).status == 0
    assert contents(tmp_path / "json") == contents(tmp_path / "text")


def test_lists_and_numbers_of_the_text_stand_in_the_json(kit):
    text, facts = call("wafer", "list").out, call("wafer", "list", "--json").facts
    assert [line.split()[0] for line in text.splitlines()[1:]] == [one["name"] for one in facts["presets"]]
    text, facts = call("defects", "yield", "--d0", 0.5, "--area", 100).out, None
    facts = call("defects", "yield", "--d0", 0.5, "--area", 100, "--json").facts
    assert f"{100 * facts['yield']:.2f} %" in text
    assert facts["yield"] == pytest.approx(2.718281828459045**-0.5)
    text, facts = call("map", "show", kit["klarf"]).out, call("map", "show", kit["klarf"], "--json").facts
    assert len(facts["wafers"]) == 2
    assert all(f"wafer {one['wafer_id']}: " in text for one in facts["wafers"])
    assert call("repair", "check", kit["faults"], kit["plan"], "--json").facts["holds"] is True


def test_a_hopeless_wafer_is_exit_3_with_one_line_and_its_result(kit, tmp_path):
    out, image = tmp_path / "plan.json", tmp_path / "image.bin"
    answer = call("repair", "plan", kit["hopeless"], "--out", out, "--image", image, "--json")
    assert (answer.status, answer.err.count("\n")) == (3, 1)
    assert answer.err.startswith("yieldkit: ")
    assert "no full fabric (infeasible)" in answer.err
    assert answer.facts["status"] == "infeasible"
    assert out.exists()
    assert not image.exists()
    assert "why not" in call("repair", "plan", kit["hopeless"]).out


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_campaign_on_a_hopeless_wafer_is_exit_3_with_one_line(kit, tmp_path, jobs):
    law = "wafer.defects={law='poisson', d0_per_cm2=5.0, seed=1}"
    words = ["burnin", "run", kit["campaign"], "--out", tmp_path / "run", "--jobs", jobs, "--set", law]
    for _ in range(2):
        answer = call(*words)
        assert (answer.status, answer.out, answer.err.count("\n")) == (3, "", 1), answer
        assert answer.err.startswith("yieldkit: wafer W01 has no full fabric: infeasible")
    # The folder claims nothing: another campaign may have it.
    assert call("burnin", "run", kit["campaign"], "--out", tmp_path / "run").status == 0


def test_a_plan_that_does_not_hold_is_exit_3(kit, tmp_path):
    facts = json.loads(kit["faults"].read_text())
    words = ["map", "faults", "--preset", "mini", "--seed", 2, "--wafer-id", "W01", "--out", tmp_path / "other.json"]
    assert call(*words).status == 0
    assert facts["dead_cores"] != json.loads((tmp_path / "other.json").read_text())["dead_cores"]
    answer = call("repair", "check", tmp_path / "other.json", kit["plan"], "--json")
    assert (answer.status, answer.facts["holds"], answer.err.count("\n")) == (3, False, 1)
    assert answer.facts["violations"]


def test_a_stall_is_a_result(kit, tmp_path):
    launch = json.loads(kit["program"].read_text())["launches"][0]["name"]
    drop = {"place": "link_drop", "row": 0, "col": 0, "dcol": 1, "step": 0, "launch": launch, "nth": 0}
    for colour in range(24):
        (tmp_path / "events.json").write_text(json.dumps([{**drop, "colour": colour}]))
        words = ["emulate", "run", kit["program"], "--perfect", "2x2", "--fault", tmp_path / "events.json"]
        answer = call(*words, "--json")
        assert (answer.status, answer.err) == (0, "")
        if answer.facts["status"] != "COMPLETED":
            break
    assert answer.facts["status"] == "STALL_DETECTED"
    assert answer.facts["symptoms"]["stalled_launch"] == launch
    assert "cores wait" in call(*words).out


@pytest.mark.parametrize("words", [
    ["nonsense"],
    ["wafer", "nonsense"],
    ["wafer", "show"],
    ["wafer", "show", "mini", "--nonsense"],
    ["wafer", "show", "wse9"],
    ["defects", "sample"],
    ["defects", "sample", "--preset", "mini", "--d0", "-1"],
    ["defects", "sample", "--preset", "mini", "--law", "gauss"],
    ["defects", "yield", "--area", "1"],
    ["repair", "yield", "--d0", "0.1", "-n", "0"],
    ["repair", "plan", "@faults", "--rule", "lines", "--spares", "2"],
    ["repair", "plan", "@faults", "--spare-rows", "2"],
    ["repair", "frontier", "@spec"],
    ["repair", "yield", "--wafer", "mini", "--d0", "-1"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--half-width", "0"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--half-width", "nan"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--confidence", "1"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--curve", "S"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--curve", "S=8:0"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--curve", "S=0:99"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--curve", "S=0.5"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--curve", "S=1,1"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--curve", "R=0:2"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--curve", "alpha=1,2"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--curve", "D0=nan"],
    ["repair", "yield", "--wafer", "mini", "--d0", "1", "--rare", "--curve", "S=0:1"],
    ["repair", "bins", "--wafer", "mini", "--d0", "1", "--bin", "a"],
    ["repair", "bins", "--wafer", "mini", "--d0", "1", "--bin", "a=20x18@x"],
    ["repair", "bins", "--wafer", "mini", "--d0", "1", "--bin", "a=99x18"],
    ["repair", "bins", "--wafer", "mini", "--d0", "1", "--bin", "a=20x18", "--bin", "a=10x18"],
    ["repair", "study", "nothing", "--wafer", "mini"],
    ["emulate", "program", "gpt_training", "--rows", "3", "--out", "OUT"],
    ["emulate", "program", "gpt_training", "--width", "7", "--out", "OUT"],
    ["emulate", "run", "@program", "--perfect", "2"],
    ["emulate", "run", "@program", "--perfect", "0x0"],
    ["emulate", "run", "@program", "--perfect", "1x1"],
    ["emulate", "run", "@program", "--image", "@image"],
    ["emulate", "run", "@program", "--perfect", "2x2", "--origin", "1", "0"],
    ["burnin", "replay", "@run", "--trial", "-1"],
    ["demo", "--preset", "wse9", "--out", "OUT"],
    ["demo", "--steps", "0", "--out", "OUT"],
    ["burnin", "run", "@campaign", "--out", "@spec"],
    ["burnin", "status", "@spec"],
    ["report", "@report", "--out", "@run"],
])  # fmt: skip
def test_wrong_use_is_exit_2_without_a_traceback_and_writes_nothing(words, kit, tmp_path):
    before = contents(kit.folder)
    arguments = [str(kit[w[1:]]) if w.startswith("@") else w.replace("OUT", str(tmp_path / "out")) for w in words]
    answer = call(*arguments)
    assert (answer.status, answer.out) == (2, "")
    # Bad values are one line; wrong usage shows the usage above it.
    lines = answer.err.splitlines()
    assert len(lines) == 1 or lines[0].startswith("Usage: yieldkit")
    assert not list(tmp_path.iterdir())
    assert contents(kit.folder) == before


def test_version_and_the_real_process(tmp_path):
    def process(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "yieldkit", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = process("--version")
    assert (done.returncode, done.stdout) == (0, f"yieldkit, version {__version__}\n")
    done = process("wafer", "check", str(tmp_path / "none.toml"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert process("wafer", "list", "--json").returncode == 0


def test_a_closed_pipe_is_no_trouble():
    command = f"{sys.executable} -m yieldkit wafer show wse3 --sources --json | head -c 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_bugs_keep_their_traceback(monkeypatch):
    from yieldkit.wafer import WaferSpec

    monkeypatch.setattr(WaferSpec, "preset", lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call("wafer", "show", "mini")
