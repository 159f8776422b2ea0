"""A small deterministic bench: draws a fault, works a little, answers with symptoms; can kill its own process.

What misbehaves is switched by the environment, so that the spec, its fingerprint and the rows stay the same:
COUNTING_FUSE: folder; each file `<k>` in it kills the process once, at trial k (the file goes first).
COUNTING_POISON: trial that kills the process every time. COUNTING_PIDS: folder where each process leaves its pid.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yieldkit.burnin.spec import CampaignSpec
from yieldkit.burnin.trial import FaultClass, TrialRecord
from yieldkit.emulator.symptoms import COMPLETED, STALL_DETECTED, CoreScan, Symptoms
from yieldkit.errors import BadSpec
from yieldkit.files import fingerprint
from yieldkit.rng import generator

RATES = {"sign": 0.3, "exponent_msb": 0.9, "mantissa_low": 0.02, "unused": 0.0}
LABELS = ("MASKED_OVERWRITTEN", "BENIGN", "SDC_BITS", "STALL_DROP")


def check_spec(tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    program = tables.get("program")
    if not isinstance(program, Mapping) or program.get("work", 0) != "forbidden":
        return []
    return [("program.work", "is forbidden")]


class CountingBench:
    def __init__(self, spec: CampaignSpec) -> None:
        self.spec = spec
        self.work = int(spec.program.parameters.get("work", 0))
        self.fails_at = spec.program.parameters.get("fails_at", -1)
        self.task_fingerprint = fingerprint([spec.program.parameters, os.environ.get("COUNTING_VERSION", "1")])
        if pids := os.environ.get("COUNTING_PIDS"):
            (Path(pids) / str(os.getpid())).touch()

    @property
    def classes(self) -> tuple[FaultClass, ...]:
        """Three sites with four bits each; the rarer the bit, the more often it hurts."""
        kinds = ["link_drop", "sram_weights", "sram_activations"]
        bits = {"sign": 40, "exponent_msb": 10, "mantissa_low": 900, "unused": 2000}
        sites = {"link_drop": 1, "sram_weights": 3, "sram_activations": 5}
        total = sum(bits.values())
        units = {"link_drop": 40, "sram_weights": 3 << 20, "sram_activations": 5 << 20}
        return tuple(
            FaultClass(site, bit, "forward", sites[site] * size, units[site] * size / total)
            for site in kinds
            for bit, size in bits.items()
        )

    def trial_of(self, k: int, fault: FaultClass) -> TrialRecord:
        chance = RATES[fault.bit] * (1.0 if fault.site == "sram_weights" else 0.5)
        hit = generator(self.spec.campaign.seed, "tests.counting.of", k).random() < chance
        record = self.trial(k)
        kind = "link_drop" if fault.site == "link_drop" else "sram_data"
        return replace(record, truth={**record.truth, "kind": kind}, label="NAN_HW" if hit else "BENIGN")

    def trial(self, k: int) -> TrialRecord:
        self._misbehave(k)
        if k == self.fails_at:
            raise ZeroDivisionError("a bug")
        digest = b""
        for _ in range(self.work):
            digest = hashlib.sha256(digest * 64).digest()
        rng = generator(self.spec.campaign.seed, "tests.counting", k)
        kinds = self.spec.faults.kinds
        weights = np.array(list(kinds.values()))
        kind = str(rng.choice(list(kinds), p=weights / weights.sum()))
        label = LABELS[int(rng.choice(4, p=(0.6, 0.25, 0.1, 0.05)))]
        stalled = label == "STALL_DROP"
        loss = tuple(float(x) for x in 5.0 - rng.random(3))
        symptoms = Symptoms(
            program="counting",
            status=STALL_DETECTED if stalled else COMPLETED,
            steps_planned=3,
            steps_done=2 if stalled else 3,
            loss=loss[:2] if stalled else loss,
            waiting=(CoreScan(1, 2, "INPUT_STARVATION", 0, 3),) if stalled else (),
        )
        site = rng.integers(0, 8, size=2)
        truth = {"kind": kind, "row": site[0], "col": site[1], "bit": int(rng.integers(32)), "bypassed": False}
        metrics = {"final_loss": np.float64("nan") if stalled else np.float32(loss[-1]), "steps": symptoms.steps_done}
        return TrialRecord(k, truth, label, symptoms.to_dict(), metrics)

    def _misbehave(self, k: int) -> None:
        if os.environ.get("COUNTING_POISON") == str(k):
            os.kill(os.getpid(), signal.SIGKILL)
        if fuses := os.environ.get("COUNTING_FUSE"):
            fuse = Path(fuses) / str(k)
            if fuse.exists():
                fuse.unlink()
                os.kill(os.getpid(), signal.SIGKILL)


def count_classes(spec: CampaignSpec) -> tuple[FaultClass, ...]:
    return CountingBench(spec).classes


def open_bench(spec: CampaignSpec) -> CountingBench:
    if spec.program.parameters.get("refuse"):
        raise BadSpec("counting bench", [("program.refuse", "is set")])
    return CountingBench(spec)
