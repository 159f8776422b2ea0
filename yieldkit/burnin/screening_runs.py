"""Runs of a screening: a workload, its clean run, and the trials of weak parts, which begin and stop where they may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from yieldkit.diagnosis import Baseline
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import Lowered, lower
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.placement import FabricView, Placement
from yieldkit.emulator.running import Telemetry, run, sram_words_of, symptoms_of
from yieldkit.emulator.symptoms import Symptoms
from yieldkit.errors import BadInput
from yieldkit.faults import PersistentPlan
from yieldkit.faults.host_places import HOST_PLACES
from yieldkit.quantities import Site
from yieldkit.workloads.program import Program

__all__ = ["ANY_WORKLOAD", "Clean", "ScreeningWorkload", "run_clean", "run_part"]

ANY_WORKLOAD: Final = "any"
"""What a table calls all workloads together."""


@dataclass(frozen=True)
class ScreeningWorkload:
    """A workload to screen with.

    Attributes:
        name: what the table calls it.
        program: what runs.
        steps: of the run.
        weights: to begin with; None: the program's own.
        batches: (tokens, targets) of each step in place of the corpus.
        origin: logical core at the rectangle's north-west corner.
        clean_runs: clean runs behind the band of the loss; those after the first draw other batches (training only).
        executor: "tensor", or "wavelet", which has a clock and so sees a slow core.
    """

    name: str
    program: Program
    steps: int
    weights: Mapping[str, Any] | None = None
    batches: Sequence[tuple[Any, Any]] | None = None
    origin: Site = (0, 0)
    clean_runs: int = 3
    executor: str = "tensor"

    def __post_init__(self) -> None:
        if self.name in ("", ANY_WORKLOAD):
            raise BadInput("a workload needs a name of its own", value=self.name)
        if self.steps < 1 or self.clean_runs < 1:
            raise BadInput("steps and clean_runs must be at least 1", value=(self.steps, self.clean_runs))

    @classmethod
    def of_kind(cls, kind: str, parameters: Mapping[str, Any], fabric: FabricView, *, executor: str = "tensor") -> Self:
        """A workload of one of the kinds of program that campaigns know, with its defaults where nothing is given.

        Args:
            kind: as in the program section of a campaign.
            parameters: as there.
            fabric: for the short training that a decoding or forward pass starts from.
            executor: as above.

        Raises:
            BadInput: unknown kind, or parameters that are unknown or do not fit.
        """
        from yieldkit.burnin.programs import KINDS, check_parameters, initial_weights, make_program, program_parameters

        if kind not in KINDS:
            raise BadInput("unknown kind of workload", value=kind, cure=f"known: {', '.join(KINDS)}")
        if problems := check_parameters(kind, parameters):
            raise BadInput(f"workload {kind}: " + "; ".join(f"{name} {what}" for name, what in problems))
        p = program_parameters(kind, parameters)
        weights = initial_weights(kind, p, fabric)
        return cls(
            kind,
            make_program(kind, p),
            int(p["steps"]),
            weights,
            clean_runs=int(p.get("clean_runs", 1)),
            executor=executor,
        )


@dataclass(frozen=True)
class Clean:
    """A workload's clean run: what a trial is compared with, and where it can begin."""

    work: ScreeningWorkload
    lowered: Lowered
    placement: Placement
    options: Mapping[str, Any]
    first: MemoryX
    checkpoints: tuple[MemoryX, ...]
    symptoms: Symptoms
    digests: tuple[str, ...]
    state: str
    baseline: Baseline

    def start(self, step: int) -> Job:
        """The job before a step."""
        return Job.start(
            self.lowered,
            executor=self.work.executor,
            memoryx=self.checkpoints[step] if self.checkpoints else self.first,
            batches=self.work.batches,
            **self.options,
        )


def run_part(plan: PersistentPlan, clean: Clean, struck: Sequence[int]) -> tuple[Symptoms, bool]:
    """Run a workload with a plan: its symptoms, and whether anything differs from the clean run.

    Where there are checkpoints, cores keep nothing from step to step: steps before the first strike, and those between
    a state that is golden again and the next strike, are those of the clean run, bit for bit.
    """
    steps, golden = clean.work.steps, clean.symptoms
    on_host = plan.faults[0].event.place in HOST_PLACES
    telemetry = Telemetry()
    step = struck[0] if clean.checkpoints else 0
    _fill(telemetry, clean, 0, step)
    job = clean.start(step)
    state = ""
    while step < steps:
        result = job.run_step(plan)
        telemetry.add(job, result)
        step += 1
        state = job.memoryx.state_hash
        if result.stopped is not None:
            break
        # What the host's memory holds wrong need not show in its values yet.
        pristine = bool(clean.checkpoints) and getattr(job.executor, "pristine", False) and not on_host
        if pristine and step < steps and state == clean.checkpoints[step].state_hash:
            after = next((one for one in struck if one >= step), steps)
            _fill(telemetry, clean, step, after)
            if after == steps:
                state = clean.state
            elif after > step:
                job = clean.start(after)
            step = after
    symptoms = symptoms_of(job, clean.placement, steps, telemetry)
    same = (tuple(telemetry.digests), state, symptoms.status) == (clean.digests, clean.state, golden.status)
    return symptoms, not same


def _fill(telemetry: Telemetry, clean: Clean, start: int, stop: int) -> None:
    golden = clean.symptoms
    telemetry.loss += golden.loss[start:stop]
    telemetry.grad_norm += golden.grad_norm[start:stop]
    telemetry.update_norm += golden.update_norm[start:stop]
    telemetry.digests += clean.digests[start:stop]
    bad = golden.nonfinite_step
    if bad is not None and start <= bad < stop and telemetry.nonfinite is None:
        telemetry.nonfinite = (bad, golden.nonfinite_channel)


def run_clean(work: ScreeningWorkload, fabric: FabricView) -> Clean:
    """Run a workload cleanly, keeping what trials begin from.

    Raises:
        BadInput: the rectangle leaves the fabric, or a launch does not complete.
    """
    lowered = lower(work.program, sram_words=sram_words_of(fabric))
    placement = Placement.of(work.program, fabric, work.origin)
    options = _options(fabric, work.executor)
    # With a clock a run is not cut: its cycles are those of all its steps.
    keeps = work.program.job.get("kind") == "training" and work.executor == "tensor"
    job = Job.start(lowered, executor=work.executor, weights=work.weights, batches=work.batches, **options)
    first = job.memoryx.copy()
    checkpoints = [first] if keeps else []
    telemetry = Telemetry()
    for _ in range(work.steps):
        result = job.run_step()
        telemetry.add(job, result)
        if result.stopped is not None:
            raise BadInput(f"workload {work.name!r} does not complete on a clean machine", value=result.stopped[0].name)
        if keeps:
            checkpoints.append(job.memoryx.copy())
    symptoms = symptoms_of(job, placement, work.steps, telemetry)
    runs = [symptoms, *_varied(work, lowered, fabric, symptoms)]
    # Without its tokens the baseline has nothing of a golden run to compare with.
    baseline = replace(Baseline.from_runs(runs), tokens=())
    state = job.memoryx.state_hash
    return Clean(
        work,
        lowered,
        placement,
        options,
        first,
        tuple(checkpoints),
        symptoms,
        tuple(telemetry.digests),
        state,
        baseline,
    )


def _varied(work: ScreeningWorkload, lowered: Lowered, fabric: FabricView, clean: Symptoms) -> Iterator[Symptoms]:
    """Clean runs with other batches of the corpus: they widen the band of the loss."""
    job = work.program.job
    if job.get("kind") != "training" or work.batches is not None:
        return
    for number in range(1, work.clean_runs):
        other = replace(work.program, job={**job, "seed": int(job["seed"]) + 1_000 * number})
        again = replace(lowered, program=other)
        result = run(
            again,
            fabric,
            steps=work.steps,
            origin=work.origin,
            weights=work.weights,
            taps=False,
            executor=work.executor,
        )
        yield replace(result.symptoms, program=clean.program)


def _options(fabric: FabricView, executor: str) -> dict[str, Any]:
    """Of the executor, as the wafer's spec has them."""
    machine = getattr(getattr(fabric, "spec", None), "machine", None)
    options: dict[str, Any] = {"taps": True} if executor == "tensor" else {}
    if machine is not None:
        options |= {
            "queue_depth": int(machine.queue_depth),
            "sequence": machine.protection.links == "sequence",
            "sram_code": str(machine.protection.sram),
            "host_code": str(machine.protection.memoryx),
        }
    return options
