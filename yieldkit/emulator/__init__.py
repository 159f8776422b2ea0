"""The emulator: lowering to per-core configuration, machines with and without a clock, tensors, jobs, symptoms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.emulator.checkpoint import Checkpoint
    from yieldkit.emulator.corruption import Corruption, corrupt, corrupt_weights
    from yieldkit.emulator.cost import Timing
    from yieldkit.emulator.counted import Counted
    from yieldkit.emulator.counts import count_launch
    from yieldkit.emulator.job import Job
    from yieldkit.emulator.lowering import Lowered, lower
    from yieldkit.emulator.memoryx import MemoryX
    from yieldkit.emulator.placement import Placement
    from yieldkit.emulator.running import RunResult, run
    from yieldkit.emulator.symptoms import Symptoms
    from yieldkit.emulator.trace import Trace
    from yieldkit.emulator.training import TrainingOutcome, train
    from yieldkit.workloads.program import Program

_HOMES: Final = {
    "Checkpoint": "yieldkit.emulator.checkpoint",
    "Corruption": "yieldkit.emulator.corruption",
    "Counted": "yieldkit.emulator.counted",
    "Job": "yieldkit.emulator.job",
    "Lowered": "yieldkit.emulator.lowering",
    "MemoryX": "yieldkit.emulator.memoryx",
    "Placement": "yieldkit.emulator.placement",
    "Program": "yieldkit.workloads.program",
    "RunResult": "yieldkit.emulator.running",
    "Symptoms": "yieldkit.emulator.symptoms",
    "Timing": "yieldkit.emulator.cost",
    "Trace": "yieldkit.emulator.trace",
    "TrainingOutcome": "yieldkit.emulator.training",
    "corrupt": "yieldkit.emulator.corruption",
    "corrupt_weights": "yieldkit.emulator.corruption",
    "count_launch": "yieldkit.emulator.counts",
    "lower": "yieldkit.emulator.lowering",
    "run": "yieldkit.emulator.running",
    "train": "yieldkit.emulator.training",
}

__all__ = [
    "Checkpoint",
    "Corruption",
    "Counted",
    "Job",
    "Lowered",
    "MemoryX",
    "Placement",
    "Program",
    "RunResult",
    "Symptoms",
    "Timing",
    "Trace",
    "TrainingOutcome",
    "corrupt",
    "corrupt_weights",
    "count_launch",
    "lower",
    "run",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.emulator' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
