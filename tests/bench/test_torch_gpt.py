"""The PyTorch peer says so when there is no PyTorch, and asks the interpreter that it is given."""

import importlib.util
import json
import sys

import pytest

from tests.bench.torch_gpt import torch_step_seconds, torch_step_variants


@pytest.fixture(autouse=True)
def no_torch_here(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("YIELDKIT_TORCH_PYTHON", raising=False)


def test_without_torch_there_is_no_figure():
    assert torch_step_seconds(16, 1, 2, 8, 2, 32, 1) is None
    assert torch_step_variants(16, 1, 2, 8, 2, 32, 1) == {}


def test_another_interpreter_is_asked_and_the_fastest_variant_counts(monkeypatch, tmp_path):
    answer = {"manual+adam": 0.5, "sdpa+fused": 0.25, "torch": "2.13.0"}
    asked = tmp_path / "asked"
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nimport sys\nopen({str(asked)!r}, 'w').write(' '.join(sys.argv[1:]))\n")
    with python.open("a") as script:
        script.write(f"print({json.dumps(json.dumps(answer))})\n")
    python.chmod(0o755)
    monkeypatch.setenv("YIELDKIT_TORCH_PYTHON", str(python))
    assert torch_step_seconds(16, 1, 2, 8, 4, 32, 3) == 0.25
    assert asked.read_text() == "-m tests.bench.torch_gpt 16 1 2 8 4 32 3"
