"""The clean run of a campaign's job, with its state before every step, and the trials that start from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

import yieldkit
from yieldkit.burnin.exits import FULL, GOLDEN_AGAIN, NOT_A_NUMBER, STEADY, STOPPED, Steady, never_finite_again
from yieldkit.burnin.golden_states import CHECK_EVERY, GoldenStates, states_folder
from yieldkit.burnin.passes import Passes
from yieldkit.diagnosis import Baseline
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import Lowered
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import RunResult, Telemetry, left_in_cores, protection_options, run, symptoms_of
from yieldkit.emulator.symptoms import Symptoms
from yieldkit.errors import BadFile, BadInput
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.files import fingerprint

__all__ = ["Golden", "Trial", "carry_out", "long_way", "run_golden", "run_trial"]


@dataclass(frozen=True)
class Golden:
    """A clean run.

    Attributes:
        lowered: the program.
        placement: where it ran.
        steps: of the run.
        result: what it gave.
        states: state before each step and after the last, read-only, in a file that all processes share.
        hashes: hash of the state after each step, as `Checkpoint.state_hash`.
        baseline: what an operator knows from clean runs of the job.
        clean: symptoms of the clean runs behind the baseline, the golden one first.
    """

    lowered: Lowered
    placement: Placement
    steps: int
    result: RunResult
    states: GoldenStates
    hashes: tuple[str, ...]
    baseline: Baseline
    clean: tuple[dict[str, Any], ...]
    _done: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    @cached_property
    def passes(self) -> Passes:
        """Trials of the job's steps, where these know nothing of each other."""
        return Passes(self.lowered, self.placement, self.steps, self.result)

    def count_trial(self) -> None:
        """Count a trial; the hashes of the states are checked again every `CHECK_EVERY`.

        Raises:
            BadFile: a state has changed.
        """
        self._done[0] += 1
        if self._done[0] % CHECK_EVERY == 0:
            self.states.check()


@dataclass(frozen=True)
class Trial:
    """A trial that was carried out.

    Attributes:
        result: what the run gave; where it ended early by an exact exit, what the whole run would have given (after
            NOT_A_NUMBER without its last hashes); where by the statistical one, what it had given until then.
        exit: how it ended, a key of `burnin.exits.EXITS`.
        steps_run: steps that were carried out.
        would_end: steps that would have been carried out with each statistical exit that was watched; 0 where it would
            not have ended the trial.
    """

    result: RunResult
    exit: int
    steps_run: int
    would_end: tuple[int, ...] = ()


def run_golden(
    lowered: Lowered,
    placement: Placement,
    steps: int,
    *,
    queue_depth: int,
    weights: dict[str, Any] | None,
    runs: int,
    folder: Path | None = None,
) -> Golden:
    """Run a job cleanly, keeping its states, or open what another process has kept of the same run.

    Args:
        lowered: the program.
        placement: where it runs.
        steps: of the run.
        queue_depth: words a queue holds.
        weights: initial weights in place of the program's own.
        runs: clean runs in all; those after the first have other batches and widen the baseline (training).
        folder: where the states are kept; `states_folder()` if absent.
    """
    path = (folder or states_folder()) / f"{_key(lowered, placement, steps, weights, runs)}.states"
    if path.exists():
        try:
            return _opened(GoldenStates(path), lowered, placement, steps, queue_depth)
        except BadFile:
            pass  # made anew
    training = lowered.program.job["kind"] == "training"
    protection = protection_options(placement.fabric)
    job = Job.start(lowered, weights=weights, queue_depth=queue_depth, taps=True, **protection)
    states = [job.checkpoint()]
    telemetry = Telemetry()
    for _ in range(steps):
        telemetry.add(job, job.run_step())
        states.append(job.checkpoint())
    symptoms = symptoms_of(job, placement, steps, telemetry)
    clean = [symptoms]
    seed = int(lowered.program.job["seed"])
    for number in range(1, runs if training else 1):
        other = replace(lowered.program, job={**lowered.program.job, "seed": seed + 1_000 * number})
        varied = replace(lowered, program=other)
        outcome = run(varied, placement.fabric, steps=steps, origin=placement.origin, taps=False)
        clean.append(replace(outcome.symptoms, program=symptoms.program))
    facts = {
        "clean": [item.to_dict() for item in clean],
        "digests": telemetry.digests,
        "hashes": [state.state_hash for state in states[1:]],
    }
    return _opened(GoldenStates.write(path, facts, states), lowered, placement, steps, queue_depth)


def _opened(states: GoldenStates, lowered: Lowered, placement: Placement, steps: int, queue_depth: int) -> Golden:
    facts = states.facts
    try:
        clean = [Symptoms.from_dict(item) for item in facts["clean"]]
        digests, hashes = tuple(map(str, facts["digests"])), tuple(map(str, facts["hashes"]))
    except (KeyError, TypeError, ValueError, BadInput) as error:
        raise BadFile(states.path, f"has a wrong header: {error}") from None
    if len(states) != steps + 1 or len(hashes) != steps:
        raise BadFile(states.path, f"holds {len(states)} states", cure="delete the file")
    protection = protection_options(placement.fabric)
    job = Job.start(lowered, checkpoint=states.state(steps), queue_depth=queue_depth, taps=True, **protection)
    result = _result(job, placement, clean[0], list(digests), {}, left_in_cores(job))
    observed = tuple(item.to_dict() for item in clean)
    return Golden(lowered, placement, steps, result, states, hashes, Baseline.from_runs(clean), observed)


def _key(lowered: Lowered, placement: Placement, steps: int, weights: Mapping[str, Any] | None, runs: int) -> str:
    """What a clean run follows from: the program, its weights, its place, and the rules of the machine."""
    digest = hashlib.sha256()
    for name in sorted(weights or {}):
        digest.update(name.encode() + np.ascontiguousarray((weights or {})[name]).tobytes())
    return fingerprint(
        {
            "program": lowered.program.fingerprint,
            "sram_words": lowered.sram_words,
            "origin": list(placement.origin),
            "protection": {name: str(value) for name, value in protection_options(placement.fabric).items()},
            "steps": steps,
            "runs": runs,
            "weights": digest.hexdigest(),
            "sources": _sources(),
        }
    )


@cache
def _sources() -> str:
    """Digest of the sources that a clean run follows from, so that no file outlives the rules it was made by."""
    home = Path(yieldkit.__file__).parent
    digest = hashlib.sha256()
    for folder in ("burnin", "diagnosis", "emulator", "workloads"):
        for source in sorted((home / folder).rglob("*.py")):
            digest.update(source.relative_to(home).as_posix().encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()


def run_trial(golden: Golden, event: FaultEvent, *, queue_depth: int) -> RunResult:
    """Run the job with a fault, ending early only where nothing is lost (see `carry_out`)."""
    return carry_out(golden, event, queue_depth=queue_depth).result


def carry_out(
    golden: Golden,
    event: FaultEvent,
    *,
    queue_depth: int,
    steady: Steady | None = None,
    watched: Sequence[Steady] = (),
) -> Trial:
    """Run the job with a fault: golden up to the fault's step, then step by step to the end.

    A job whose state equals the golden one again after a step goes on as the golden run, bit for bit: so the rest is
    taken from there. A job that will not see a finite loss again has a known rest, too (`never_finite_again`).

    Args:
        golden: the clean run.
        event: the fault.
        queue_depth: words a queue holds.
        steady: the statistical end; None for exact ends only.
        watched: statistical ends that end nothing: only where they would have is kept. What the trial would have been
            is its beginning, since up to its end a trial with such an exit is the one without it.
    """
    golden.count_trial()
    known = golden.passes.trial(event)
    if known is not None:
        # As below: the state after any step but the last is looked at, and it is the clean run's.
        how = FULL if event.step + 1 == golden.steps else GOLDEN_AGAIN
        return Trial(known, how, 1, (0,) * len(watched))
    # The logits of a clean decode that are not finite are not known step by step.
    start = 0 if golden.result.symptoms.logit_nonfinite else min(event.step, golden.steps - 1)
    plan = FaultPlan([event], golden.placement)
    state = golden.states.state(start)
    protection = protection_options(golden.placement.fabric)
    job = Job.start(golden.lowered, checkpoint=state, queue_depth=queue_depth, taps=True, **protection)
    telemetry = _telemetry_until(golden, start)
    how, last = FULL, None
    would_end = [0] * len(watched)
    for step in range(start, golden.steps):
        last = job.run_step(plan)
        telemetry.add(job, last)
        if last.stopped is not None:
            how = STOPPED
        elif step >= event.step:
            how = _exit_after(golden, job, telemetry, step, event, steady)
            for number, rule in enumerate(watched if how == FULL and step + 1 < golden.steps else ()):
                if not would_end[number] and _ends(rule, golden, job, telemetry, step, event):
                    would_end[number] = step + 1 - start
        if how != FULL:
            break
    done = job.step + (how == STOPPED)
    _rest(golden, job, telemetry, done, how)
    symptoms = symptoms_of(job, golden.placement, golden.steps, telemetry)
    left = left_in_cores(golden.result.job if how == GOLDEN_AGAIN else job)
    outputs = last.outputs if last is not None else {}
    result = _result(job, golden.placement, symptoms, telemetry.digests, outputs, left)
    return Trial(result, how, done - start, tuple(would_end))


def long_way(golden: Golden, event: FaultEvent, *, queue_depth: int) -> RunResult:
    """Run the job with a fault from its very start to its end, launches that are struck word by word as a whole."""
    plan = FaultPlan([event], golden.placement)
    first = golden.states.state(0)
    options = {**protection_options(golden.placement.fabric), "parts": False}
    job = Job.start(golden.lowered, checkpoint=first, queue_depth=queue_depth, taps=True, **options)
    telemetry = Telemetry()
    last = None
    for _ in range(golden.steps):
        last = job.run_step(plan)
        telemetry.add(job, last)
        if last.stopped is not None:
            break
    symptoms = symptoms_of(job, golden.placement, golden.steps, telemetry)
    outputs = last.outputs if last is not None else {}
    return _result(job, golden.placement, symptoms, telemetry.digests, outputs, left_in_cores(job))


def _telemetry_until(golden: Golden, start: int) -> Telemetry:
    """What the clean run reports of the steps before `start`."""
    clean = golden.result.symptoms
    telemetry = Telemetry()
    telemetry.loss = list(clean.loss[:start])
    telemetry.grad_norm = list(clean.grad_norm[:start])
    telemetry.update_norm = list(clean.update_norm[:start])
    telemetry.digests = list(golden.result.step_digests[:start])
    wrong = clean.nonfinite_step
    if wrong is not None and wrong < start:
        telemetry.nonfinite = (wrong, clean.nonfinite_channel)
    return telemetry


def _exit_after(
    golden: Golden, job: Job, telemetry: Telemetry, step: int, event: FaultEvent, steady: Steady | None
) -> int:
    """How a trial ends after a step, FULL where it goes on."""
    if step + 1 == golden.steps:
        return FULL
    if _golden_again(golden, job, step + 1):
        return GOLDEN_AGAIN
    if telemetry.nonfinite is not None:
        return NOT_A_NUMBER if _undisturbed(job) and never_finite_again(job, telemetry.loss[-1]) else FULL
    return STEADY if steady is not None and _ends(steady, golden, job, telemetry, step, event) else FULL


def _undisturbed(job: Job) -> bool:
    """Whether a training job's cores are as loaded, so that what a fault has left lies in the host's state alone."""
    return job.lowered.program.job["kind"] == "training" and bool(getattr(job.executor, "pristine", False))


def _ends(rule: Steady, golden: Golden, job: Job, telemetry: Telemetry, step: int, event: FaultEvent) -> bool:
    """Whether a statistical exit ends a trial after a step that is not the last and has no exact end."""
    if telemetry.nonfinite is not None or not _undisturbed(job):
        return False
    if not rule.reached(telemetry.loss, golden.result.symptoms.loss, golden.baseline.half_width, event.step):
        return False
    return rule.settled(job, golden.states.state(step + 1).weights)


def _golden_again(golden: Golden, job: Job, number: int) -> bool:
    """Whether all that a job has between two steps is state `number` of the clean run."""
    if job.memory.wrong or not golden.states.holds(number, job):
        return False
    if getattr(job.executor, "pristine", False):
        return True
    try:
        return job.checkpoint().state_hash == golden.hashes[number - 1]
    except BadInput:
        return False  # words are left in queues, or tables are changed


def _rest(golden: Golden, job: Job, telemetry: Telemetry, done: int, how: int) -> None:
    """Fill in what is known of the steps that are not carried out."""
    clean = golden.result.symptoms
    if how == GOLDEN_AGAIN:
        telemetry.loss += clean.loss[done:]
        telemetry.grad_norm += clean.grad_norm[done:]
        telemetry.update_norm += clean.update_norm[done:]
        telemetry.digests += golden.result.step_digests[done:]
        if telemetry.nonfinite is None and clean.nonfinite_step is not None:
            telemetry.nonfinite = (clean.nonfinite_step, clean.nonfinite_channel)
        job.tokens += [golden.result.tokens[:, step].copy() for step in range(done, golden.result.tokens.shape[1])]
        job.memoryx = golden.result.memoryx
    elif how == NOT_A_NUMBER:
        left = golden.steps - done
        telemetry.loss += [float("nan")] * left
        telemetry.grad_norm += [float("nan")] * left
        telemetry.update_norm += [float("nan")] * left
        telemetry.digests += [_UNKNOWN] * left


_UNKNOWN: Final = "not a number"
"""Stands for the digest of a step that was not carried out; no hash is spelled so."""


def _result(job: Job, placement: Placement, symptoms: Any, digests: list[str], outputs: Any, left: str) -> RunResult:
    digest = fingerprint("".join([*digests, job.memoryx.state_hash, left]).encode())
    tokens = np.stack(job.tokens, axis=1) if job.tokens else np.zeros((0, 0), np.int64)
    return RunResult(symptoms, outputs, digest, tuple(digests), job.memoryx, tokens, job, placement=placement)
