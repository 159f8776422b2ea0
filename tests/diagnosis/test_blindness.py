"""Nothing that was injected can reach a verdict."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import yieldkit.diagnosis
from tests.diagnosis import cases
from yieldkit.diagnosis import Baseline, classify
from yieldkit.emulator.symptoms import Symptoms
from yieldkit.errors import BadInput

FOLDER = Path(yieldkit.diagnosis.__file__).parent
ALLOWED = {"diagnosis", "emulator", "errors", "files", "quantities", "reliability", "rng"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_imports_stay_on_the_side_of_the_observer(path: Path) -> None:
    for name in imported(path):
        if name.split(".")[0] == "yieldkit":
            assert name.split(".")[1] in ALLOWED, name
            if name.split(".")[1] == "emulator":
                assert name == "yieldkit.emulator.symptoms"


def test_symptoms_refuse_fields_that_would_carry_truth() -> None:
    data = cases.CLEAN.to_dict()
    assert Symptoms.from_dict(data) == cases.CLEAN
    for extra in ("truth", "fault", "golden_hash", "label"):
        with pytest.raises(BadInput, match="unknown fields"):
            Symptoms.from_dict({**data, extra: "STALL_DROP"})


def test_baselines_refuse_unknown_fields() -> None:
    data = cases.BASELINE.to_dict()
    assert Baseline.from_dict(data) == cases.BASELINE
    with pytest.raises(BadInput, match="unknown fields"):
        Baseline.from_dict({**data, "fault": 1})
    with pytest.raises(BadInput, match="cannot be read"):
        Baseline.from_dict({"loss": ["x"], "half_width": [1.0]})
    with pytest.raises(BadInput, match="finite and positive"):
        Baseline(loss=(1.0,), half_width=(0.0,))
    with pytest.raises(BadInput, match="one half_width per loss"):
        Baseline(loss=(1.0,), half_width=())


def test_the_same_observations_give_the_same_verdict() -> None:
    run = cases.stalled(link_mismatch=(cases.GAP,))
    assert classify(run) == classify(Symptoms.from_dict(run.to_dict()))


def test_the_band_comes_from_clean_runs_only() -> None:
    import math
    from dataclasses import replace

    up = replace(cases.CLEAN, loss=tuple(x + 0.2 for x in cases.LOSS))
    down = replace(cases.CLEAN, loss=tuple(x - 0.2 for x in cases.LOSS))
    band = Baseline.from_runs([up, down], spread=3.0, floor=0.02)
    assert band.loss == pytest.approx(cases.LOSS)
    assert band.half_width == pytest.approx([3 * 0.2 * math.sqrt(2)] * cases.STEPS)  # sigma of {+.2, -.2}, 1 freedom
    single = Baseline.from_runs([cases.CLEAN], floor=0.02)
    assert single.half_width == pytest.approx([0.02 * x for x in cases.LOSS])
    assert classify(cases.CLEAN, baseline=single).code == "MASKED_OR_BENIGN"
    with pytest.raises(BadInput, match="did not complete"):
        Baseline.from_runs([cases.stalled()])
    with pytest.raises(BadInput, match="at least one"):
        Baseline.from_runs([])
    with pytest.raises(BadInput, match="same number of steps"):
        Baseline.from_runs([cases.CLEAN, replace(cases.CLEAN, loss=cases.LOSS[:5])])
