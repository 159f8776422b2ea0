"""Figures of the emulator: a training step against PyTorch, trials a second, the cost of a handed-on launch."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from tests.bench.torch_gpt import torch_step_seconds
from yieldkit.burnin import Campaign
from yieldkit.burnin.trial import open_bench
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.faults import FAULT_KINDS
from yieldkit.workloads.gpt import GptShape, gpt_training

COMMAND = "python -m tests.bench.emulator"
SHAPE = GptShape(layers=2, width=64, heads=8, context=32, sequences=32)
ROWS, COLS = 32, 8
CAMPAIGN: dict[str, Any] = {
    "campaign": {"name": "bench", "seed": 1, "trials": 40, "round": 40, "chunk": 5},
    "wafer": {
        "preset": "mini",
        "defects": {"law": "negative_binomial", "d0_per_cm2": 0.05, "alpha": 2.0, "seed": 5},
    },
    "program": {"kind": "gpt_training", "steps": 48},
    "faults": {"kinds": dict.fromkeys(FAULT_KINDS, 1)},
}


def _row(name: str, value: float | None, unit: str, **peer: Any) -> dict[str, Any]:
    empty = {"peer": None, "peer_value": None, "ratio": None}
    return {"name": name, "value": value, "unit": unit, **empty, **peer, "command": COMMAND}


def training_step() -> Callable[[], None]:
    """One step of the benchmark's GPT on the tensor executor, one thread, ready to be called."""
    program = gpt_training(SHAPE, rows=ROWS, cols=COLS)
    job = Job.start(lower(program), taps=False, threads=1)

    def step() -> None:
        outcome = job.run_step()
        assert outcome.report is not None

    step()
    return step


def step_against_torch(rounds: int = 3, steps: int = 15) -> list[dict[str, Any]]:
    """Seconds of a full training step, ours and PyTorch's in turn."""
    step = training_step()
    ours, theirs = [], []
    for _ in range(rounds):
        for _ in range(steps):
            begin = time.perf_counter()
            step()
            ours.append(time.perf_counter() - begin)
        peer = torch_step_seconds(
            SHAPE.width, SHAPE.layers, SHAPE.heads, SHAPE.context, SHAPE.sequences, SHAPE.vocabulary, steps
        )
        if peer is not None:
            theirs.append(peer)
    value = statistics.median(ours)
    if not theirs:
        return [_row("gpt_step_vs_torch", value, "s", peer="PyTorch eager, one thread: not installed")]
    other = statistics.median(theirs)
    return [
        _row(
            "gpt_step_vs_torch",
            value,
            "s",
            peer="PyTorch eager fp32, one thread",
            peer_value=other,
            ratio=value / other,
        )
    ]


def trials() -> list[dict[str, Any]]:
    """Trials a second on one core, against running the whole job for each; the last trials against the first."""
    campaign = Campaign.from_tables(CAMPAIGN, source="bench")
    bench = open_bench(campaign.spec)
    for k in range(8):
        bench.trial(k)
    begin = time.perf_counter()
    for k in range(40):
        bench.trial(k)
    mine = (time.perf_counter() - begin) / 40
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        campaign.run(folder, jobs=1)
        stored = 40 / (time.perf_counter() - begin)
    return [
        _row("trials_per_s", 1 / mine, "trials/s", peer="with its store, first trials", peer_value=stored),
    ]


def figures() -> list[dict[str, Any]]:
    """All rows."""
    return [*step_against_torch(), *trials()]


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
