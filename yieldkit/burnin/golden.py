"""The clean run of a campaign's job, with a checkpoint before every step, and the trials that start from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yieldkit.diagnosis import Baseline
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import Lowered
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import RunResult, Telemetry, protection_options, run, symptoms_of
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.files import fingerprint

__all__ = ["Golden", "run_golden", "run_trial"]


@dataclass(frozen=True)
class Golden:
    """A clean run.

    Attributes:
        lowered: the program.
        placement: where it ran.
        steps: of the run.
        result: what it gave.
        checkpoints: host state before each step (training); one entry, before the first step, for decoding.
        hashes: hash of the host state after each step.
        baseline: what an operator knows from clean runs of the job.
        clean: symptoms of the clean runs behind the baseline, the golden one first.
    """

    lowered: Lowered
    placement: Placement
    steps: int
    result: RunResult
    checkpoints: tuple[MemoryX, ...]
    hashes: tuple[str, ...]
    baseline: Baseline
    clean: tuple[dict[str, Any], ...]


def run_golden(
    lowered: Lowered, placement: Placement, steps: int, *, queue_depth: int, weights: dict[str, Any] | None, runs: int
) -> Golden:
    """Run a job cleanly, keeping checkpoints; `runs` further clean runs with other batches widen the baseline."""
    training = lowered.program.job["kind"] == "training"
    protection = protection_options(placement.fabric)
    job = Job.start(lowered, weights=weights, queue_depth=queue_depth, taps=True, **protection)
    checkpoints = [job.memoryx.copy()]
    telemetry = Telemetry()
    hashes = []
    last = None
    for _ in range(steps):
        last = job.run_step()
        telemetry.add(job, last)
        if training:
            checkpoints.append(job.memoryx.copy())
            hashes.append(job.memoryx.state_hash)
    symptoms = symptoms_of(job, placement, steps, telemetry)
    result = _result(job, placement, symptoms, telemetry, last.outputs if last is not None else {})
    clean = [symptoms]
    seed = int(lowered.program.job["seed"])
    for number in range(1, runs if training else 1):
        other = replace(lowered.program, job={**lowered.program.job, "seed": seed + 1_000 * number})
        varied = replace(lowered, program=other)
        outcome = run(varied, placement.fabric, steps=steps, origin=placement.origin, taps=False)
        clean.append(replace(outcome.symptoms, program=symptoms.program))
    return Golden(
        lowered,
        placement,
        steps,
        result,
        tuple(checkpoints),
        tuple(hashes),
        Baseline.from_runs(clean),
        tuple(item.to_dict() for item in clean),
    )


def run_trial(golden: Golden, event: FaultEvent, *, queue_depth: int) -> RunResult:
    """Run the job with a fault: golden up to the fault's step, then step by step to the end.

    A training job whose host state equals the golden one again after a step goes on as the golden run, bit for bit,
    because cores keep nothing from step to step; so the rest is taken from there.
    """
    lowered, placement = golden.lowered, golden.placement
    plan, protection = FaultPlan([event], placement), protection_options(placement.fabric)
    if lowered.program.job["kind"] != "training":
        job = Job.start(lowered, memoryx=golden.checkpoints[0], queue_depth=queue_depth, taps=True, **protection)
        return _go_on(job, placement, golden, plan, 0)
    job = Job.start(lowered, memoryx=golden.checkpoints[event.step], queue_depth=queue_depth, taps=True, **protection)
    return _go_on(job, placement, golden, plan, event.step)


def _go_on(job: Job, placement: Placement, golden: Golden, plan: FaultPlan, start: int) -> RunResult:
    clean = golden.result.symptoms
    training = job.lowered.program.job["kind"] == "training"
    telemetry = Telemetry()
    telemetry.loss = list(clean.loss[:start])
    telemetry.grad_norm = list(clean.grad_norm[:start])
    telemetry.update_norm = list(clean.update_norm[:start])
    telemetry.digests = list(golden.result.step_digests[:start])
    wrong = clean.nonfinite_step
    if wrong is not None and wrong < start:
        telemetry.nonfinite = (wrong, clean.nonfinite_channel)
    last = None
    for step in range(start, golden.steps):
        last = job.run_step(plan)
        telemetry.add(job, last)
        if last.stopped is not None:
            break
        if training and job.executor.pristine and job.memoryx.state_hash == golden.hashes[step]:
            done = step + 1
            telemetry.loss += clean.loss[done:]
            telemetry.grad_norm += clean.grad_norm[done:]
            telemetry.update_norm += clean.update_norm[done:]
            telemetry.digests += golden.result.step_digests[done:]
            if telemetry.nonfinite is None and wrong is not None:
                telemetry.nonfinite = (wrong, clean.nonfinite_channel)
            job.memoryx = golden.checkpoints[-1]
            break
    symptoms = symptoms_of(job, placement, golden.steps, telemetry)
    return _result(job, placement, symptoms, telemetry, last.outputs if last is not None else {})


def _result(job: Job, placement: Placement, symptoms: Any, telemetry: Telemetry, outputs: Any) -> RunResult:
    digest = fingerprint("".join([*telemetry.digests, job.memoryx.state_hash]).encode())
    tokens = np.stack(job.tokens, axis=1) if job.tokens else np.zeros((0, 0), np.int64)
    digests = tuple(telemetry.digests)
    return RunResult(symptoms, outputs, digest, digests, job.memoryx, tokens, job, placement=placement)
