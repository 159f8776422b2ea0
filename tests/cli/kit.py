"""One good file of every kind, made by the command line itself."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yieldkit.cli import run

__all__ = ["CAMPAIGN", "Answer", "Kit", "call", "contents", "make_kit"]

ROOT: Final = Path(__file__).parents[2]
KLARF: Final = ROOT / "data" / "two-wafers.klarf"

CAMPAIGN: Final = """\
[campaign]
name = "tiny"
seed = 3
trials = 4
round = 4
chunk = 2

[wafer]
preset = "mini"

[program]
kind = "gpt_training"
rows = 2
cols = 2
layers = 1
width = 8
heads = 2
context = 4
sequences = 2
steps = 4
clean_runs = 1

[faults]
kinds = { sram_data = 1, config = 1 }
"""

TAXONOMY: Final = """\
schema = 1
version = "1.0-ours"

[[entry]]
axis = "cause"
id = "ours"
name = "A cause of ours"
definition = "What only our plant has."
"""


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def facts(self) -> dict:
        return json.loads(self.out)


def call(*arguments: object) -> Answer:
    """Run the command line in this process; a bug keeps its traceback, here as there."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run([str(argument) for argument in arguments])
    return Answer(status, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with their bytes, folders with None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@dataclass(frozen=True)
class Kit:
    """Paths of the good files."""

    folder: Path

    def __getitem__(self, kind: str) -> Path:
        return self.folder / _NAMES[kind]

    def __contains__(self, kind: str) -> bool:
        return kind in _NAMES


_NAMES: Final = {
    "spec": "wafer.toml",
    "klarf": "two.klarf",
    "faults": "faults.json",
    "hopeless": "hopeless.json",
    "plan": "plan.json",
    "image": "firmware.bin",
    "program": "program.json",
    "events": "events.json",
    "symptoms": "symptoms.json",
    "baseline": "baseline.json",
    "taxonomy": "taxonomy.toml",
    "campaign": "campaign.toml",
    "run": "run",
    "store": "run/campaign.sqlite",
    "report": "report.json",
}


def make_kit(folder: Path) -> Kit:
    """Make them; every command must end well."""

    def done(*arguments: object) -> Answer:
        answer = call(*arguments)
        assert answer.status == 0, (arguments, answer)
        return answer

    kit = Kit(folder)
    kit["spec"].write_text(done("wafer", "show", "mini", "--toml").out)
    kit["klarf"].write_bytes(KLARF.read_bytes())
    for seed, path in ((1, kit["faults"]), (5, kit["hopeless"])):
        done("map", "faults", "--preset", "mini", "--seed", seed, "--wafer-id", "W01", "--out", path)
    done("repair", "plan", kit["faults"], "--out", kit["plan"], "--image", kit["image"])
    sizes = ("--layers", 1, "--width", 8, "--heads", 2, "--context", 4, "--sequences", 2)
    done("emulate", "program", "gpt_training", "--out", kit["program"], "--rows", 2, "--cols", 2, *sizes)
    done("emulate", "run", kit["program"], "--perfect", "2x2", "--steps", 4, "--symptoms", kit["symptoms"])
    first = json.loads(kit["program"].read_text())["launches"][0]["name"]
    event = {"place": "sram", "row": 0, "col": 0, "step": 0, "launch": first, "address": 5, "mask": 1 << 3}
    kit["events"].write_text(json.dumps([event]))
    from yieldkit.diagnosis import Baseline
    from yieldkit.emulator import Symptoms

    clean = Symptoms.from_dict(json.loads(kit["symptoms"].read_text()))
    kit["baseline"].write_text(json.dumps(Baseline.from_runs([clean]).to_dict()))
    kit["taxonomy"].write_text(TAXONOMY)
    kit["campaign"].write_text(CAMPAIGN)
    done("burnin", "run", kit["campaign"], "--out", kit["run"])
    from yieldkit.burnin import CampaignRun
    from yieldkit.report import report_of

    report_of(title="kit", campaign=CampaignRun.load(kit["run"])).save(kit["report"])
    return kit
