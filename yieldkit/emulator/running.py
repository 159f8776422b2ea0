"""`run`: a program on a booted fabric, from the first step to the last or to where it stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.checkpoint import Checkpoint
from yieldkit.emulator.checks import check_lowered
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.estimate import estimated_cycles
from yieldkit.emulator.hooks import slow_cores
from yieldkit.emulator.job import HookSource, Job, StepResult
from yieldkit.emulator.links import LINK_PROTECTIONS, LinkGuard
from yieldkit.emulator.lowering import Lowered, LoweredLaunch, lower
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.placement import FabricView, Placement, link_pitches
from yieldkit.emulator.scan import LogicalScan
from yieldkit.emulator.symptoms import (
    COMPLETED,
    CORRUPTION_DETECTED,
    CRASH_DETECTED,
    STALL_DETECTED,
    HostEvent,
    Symptoms,
)
from yieldkit.emulator.timing import launch_cycles, step_cycles
from yieldkit.emulator.trace import Trace
from yieldkit.errors import BadInput
from yieldkit.files import fingerprint
from yieldkit.quantities import Site
from yieldkit.wafer import WaferSpec
from yieldkit.workloads.program import Program

__all__ = [
    "ACTED_OUT",
    "RunResult",
    "Telemetry",
    "check_protection",
    "protection_options",
    "run",
    "run_job",
    "sram_words_of",
    "symptoms_of",
]

F32 = npt.NDArray[np.float32]
_IDEAL: Final = Timing()


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        symptoms: what could be seen from outside.
        outputs: streams of the last step, by name.
        state_hash: hash over every step's outputs, over the host's weights and moments, and over the vectors that an
            iteration leaves in the cores.
        step_digests: hash of each step's outputs (and fp32 sums, where they are kept).
        memoryx: host state at the end.
        tokens: int64[sequences, steps] decoded symbols.
        job: the job, for reading tensors and logits.
        traces: of the launches of the last step, where they were asked for.
        timing: what things cost.
        placement: where the program ran; None where links have the pitch of a perfect mesh.
        source: what struck, for the cycles of slow cores.
        first: number of the first step.
    """

    symptoms: Symptoms
    outputs: Mapping[str, F32]
    state_hash: str
    step_digests: tuple[str, ...]
    memoryx: MemoryX
    tokens: npt.NDArray[np.int64]
    job: Job
    traces: tuple[Trace, ...] = ()
    timing: Timing = _IDEAL
    placement: Placement | None = None
    source: HookSource | None = None
    first: int = 0

    @cached_property
    def cycles(self) -> int:
        """Cycles of all steps done: as the wavelet executor measured them, stalled launches included; otherwise worked
        out from the tables (`emulator.timing`), slow cores included, when first asked for.
        """
        if hasattr(self.job.executor, "clock"):
            return self.symptoms.cycles
        lowered, done = self.job.lowered, self.symptoms.steps_done
        pitches = link_pitches(self.placement) if self.placement is not None else None

        def of(low: LoweredLaunch, slow: Mapping[int, float]) -> int:
            depth = self.job.executor.queue_depth
            return launch_cycles(lowered, low, timing=self.timing, link_pitches=pitches, queue_depth=depth, slow=slow)

        clean = {low.name: of(low, {}) for low in lowered.launches}
        total = sum(clean.values()) * done
        if self.source is None:
            return total
        for step in range(self.first, self.first + done):
            for low in lowered.launches:
                slow = slow_cores(self.source.hooks(step, low), lowered.program.cols)
                if slow:
                    total += of(low, slow) - clean[low.name]
        return total

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean loss of each step done, nats; of an iteration, its relative residual."""
        return self.symptoms.loss

    def _repr_html_(self) -> str:
        s = self.symptoms
        loss = f", loss {s.loss[0]:.4f} to {s.loss[-1]:.4f}" if s.loss else ""
        return f"<b>{s.status}</b>: {s.steps_done} of {s.steps_planned} steps{loss}, state {self.state_hash}"


def run(
    program: Program | Lowered,
    fabric: FabricView,
    *,
    executor: str = "tensor",
    steps: int = 1,
    origin: Site = (0, 0),
    faults: HookSource | None = None,
    memoryx: MemoryX | None = None,
    weights: Mapping[str, F32] | None = None,
    batches: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]] | None = None,
    checkpoint: Checkpoint | None = None,
    taps: bool = True,
    threads: int = 1,
    timing: Timing | str = "ideal",
    trace: int = 0,
    progress: Callable[[int, StepResult], None] | None = None,
) -> RunResult:
    """Run a program on a booted fabric.

    Args:
        program: a Program, or one already lowered.
        fabric: a booted fabric; decides which physical cores work, never a value.
        executor: "tensor", "reference", or "wavelet", which has a clock.
        steps: steps to do.
        origin: logical core at the rectangle's north-west corner.
        faults: what strikes, by step and launch.
        memoryx: host state to go on from; copied.
        weights: initial weights in place of the program's own.
        batches: (tokens, targets) of each step in place of the program's corpus.
        checkpoint: state of a job to go on from, in place of `memoryx` and `weights`; `steps` more are done.
        taps: hash the fp32 sums of every product too, where a wrong order of summation shows.
        threads: for matrix products; changes no bit.
        timing: what things cost, or the name of a preset: "ideal", "cs2", "cs3".
        trace: bins that the wavelet executor's trace of each launch has at most, 0 for no traces.
        progress: called after each step.

    Returns:
        the result; a stalled or crashed run is a result with its symptoms, not an error.

    Raises:
        BadInput: the rectangle does not fit the fabric, the program does not fit its cores or fails the static checks
            (`emulator.checks`), faults are given for a wafer with a protection that is not acted out, or a trace is
            asked of an executor without a clock.
    """
    if steps < 1:
        raise BadInput("steps must be at least 1", value=steps)
    lowered = program if isinstance(program, Lowered) else lower(program, sram_words=sram_words_of(fabric))
    placement = Placement.of(lowered.program, fabric, origin)
    if faults is not None:
        check_protection(fabric)
        faults.check(lowered)
    depth = _queue_depth(fabric)
    check_lowered(lowered, queue_depth=depth)
    options: dict[str, Any] = {
        "queue_depth": depth,
        "threads": threads,
        **protection_options(fabric),
    }
    if executor == "tensor":
        options["taps"] = taps
    costs = Timing.preset(timing) if isinstance(timing, str) else timing
    if executor == "wavelet":
        options |= {"timing": costs, "link_pitches": link_pitches(placement), "trace_bins": trace}
    elif trace:
        raise BadInput("only the wavelet executor records traces", value=executor, cure='use executor="wavelet"')
    job = Job.start(
        lowered,
        executor=executor,
        memoryx=memoryx,
        weights=weights,
        batches=batches,
        checkpoint=checkpoint,
        **options,
    )
    return run_job(job, placement, steps, faults=faults, timing=costs, progress=progress)


def run_job(
    job: Job,
    placement: Placement,
    steps: int,
    *,
    faults: HookSource | None = None,
    timing: Timing = _IDEAL,
    progress: Callable[[int, StepResult], None] | None = None,
) -> RunResult:
    """Run `steps` more steps of a job that has been started."""
    telemetry = Telemetry()
    first = job.step
    result = None
    for _ in range(steps):
        result = job.run_step(faults)
        telemetry.add(job, result)
        if progress is not None:
            progress(job.step, result)
        if result.stopped is not None:
            break
    symptoms = symptoms_of(job, placement, steps, telemetry)
    digest = fingerprint("".join([*telemetry.digests, job.memoryx.state_hash, left_in_cores(job)]).encode())
    tokens = np.stack(job.tokens, axis=1) if job.tokens else np.zeros((0, 0), np.int64)
    return RunResult(
        symptoms,
        result.outputs if result is not None else {},
        digest,
        tuple(telemetry.digests),
        job.memoryx,
        tokens,
        job,
        result.traces if result is not None else (),
        timing,
        placement,
        faults,
        first,
    )


def left_in_cores(job: Job) -> str:
    """Hash of what an iteration leaves in the cores, which is its result; other jobs send theirs out."""
    if job.lowered.program.job.get("kind") != "iteration" or job.stopped:
        return ""
    kept = job.kept()
    return fingerprint(b"".join(name.encode() + kept[name].tobytes() for name in sorted(kept)))


class Telemetry:
    """Collects what every step reports."""

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.grad_norm: list[float] = []
        self.update_norm: list[float] = []
        self.digests: list[str] = []
        self.nonfinite: tuple[int, str] | None = None
        self.bad_logits = 0
        self.last: StepResult | None = None
        self.scans: list[LogicalScan] = []
        self.host_events: list[HostEvent] = []
        self.cycles: int | None = None

    def add(self, job: Job, result: StepResult) -> None:
        """Take in one step."""
        self.last = result
        self.scans += result.scans
        self.host_events += result.host_events
        self.digests.append(result.digest)
        if result.cycles is not None:
            self.cycles = (self.cycles or 0) + result.cycles
        if result.report is None:
            return
        kind = job.lowered.program.job.get("kind")
        if kind == "decode":
            self.bad_logits += int((~np.isfinite(job.logits(result.outputs))).sum())
        else:
            self.loss.append(result.report.loss)
        if kind == "training":
            self.grad_norm.append(result.report.grad_norm)
            self.update_norm.append(result.report.update_norm)
        if result.report.nonfinite and self.nonfinite is None:
            self.nonfinite = (job.step - 1, result.report.nonfinite)


def symptoms_of(job: Job, placement: Placement, planned: int, telemetry: Telemetry) -> Symptoms:
    """Symptoms of a run from its telemetry and the scans that follow every launch."""
    program = job.lowered.program
    last = telemetry.last
    stopped = last.stopped if last is not None else None
    scans = telemetry.scans
    scan = scans[-1] if scans else None
    status = COMPLETED
    if stopped is not None:
        halted = scan is not None and any(state == "HALTED" for _, _, state, _, _ in scan.waiting)
        status = CRASH_DETECTED if halted else STALL_DETECTED
        if stopped[1].completed:
            status = CORRUPTION_DETECTED
    clock = getattr(job.executor, "clock", None)
    cycles = estimated_cycles(job.lowered) if clock is None else step_cycles(job.lowered, **clock)
    done = len(telemetry.digests) - (1 if stopped is not None else 0)
    return Symptoms(
        program=program.fingerprint,
        status=status,
        steps_planned=planned,
        steps_done=done,
        loss=tuple(telemetry.loss),
        grad_norm=tuple(telemetry.grad_norm),
        update_norm=tuple(telemetry.update_norm),
        nonfinite_step=telemetry.nonfinite[0] if telemetry.nonfinite else None,
        nonfinite_channel=telemetry.nonfinite[1] if telemetry.nonfinite else "",
        tokens=tuple(int(t) for step in job.tokens for t in step),
        logit_nonfinite=telemetry.bad_logits,
        stalled_launch=stopped[0].name if stopped is not None else "",
        waiting=placement.waiting(scan) if scan is not None else (),
        link_mismatch=_distinct(placement.links(s) for s in scans),
        config_mismatch=_distinct(placement.config(s) for s in scans),
        events=_distinct(placement.events(s) for s in scans),
        leftover=placement.leftover(scan) if scan is not None else (),
        host_missing=stopped[1].missing if stopped is not None else (),
        host_events=_summed(telemetry.host_events),
        cycles=cycles * done if telemetry.cycles is None else telemetry.cycles,
        expected_cycles=cycles * planned,
    )


ACTED_OUT: Final[Mapping[str, Sequence[str]]] = {
    "sram": ("none", "parity", "secded"),
    "links": LINK_PROTECTIONS,
    "framing": ("counted",),
}
"""Protections whose effects are acted out, the one without any first."""


def protection_options(fabric: FabricView) -> dict[str, Any]:
    """Protection of a wafer's links, SRAM and MemoryX, as options of a job."""
    return {
        "guard": LinkGuard(_protection(fabric, "links")),
        "sram_code": _protection(fabric, "sram"),
        "host_code": _protection(fabric, "memoryx"),
    }


def check_protection(wafer: FabricView | WaferSpec) -> None:
    """Refuse faults on a wafer whose protection is not acted out: their effects would be wrong.

    Args:
        wafer: a wafer, or a booted fabric or what else has a wafer's `spec`.

    Raises:
        BadInput: names the protection.
    """
    for name, acted_out in ACTED_OUT.items():
        value = _protection(wafer, name)
        if value not in acted_out:
            raise BadInput(
                f"the emulator does not act out machine.protection.{name}, so what a fault does would be wrong",
                value=value,
                cure="set it to " + " or ".join(f'"{one}"' for one in acted_out),
            )


def _protection(wafer: FabricView | WaferSpec, name: str) -> str:
    machine = getattr(getattr(wafer, "spec", wafer), "machine", None)
    return str(getattr(getattr(machine, "protection", None), name, ACTED_OUT[name][0] if name in ACTED_OUT else "none"))


def _summed(events: Iterable[HostEvent]) -> tuple[HostEvent, ...]:
    """Events of one endpoint, kind and name together, in the order they were first seen."""
    counts: dict[tuple[str, str, str], int] = {}
    for event in events:
        key = (event.endpoint, event.kind, event.name)
        counts[key] = counts.get(key, 0) + event.count
    return tuple(HostEvent(*key, count) for key, count in counts.items())


def _distinct(parts: Iterable[Iterable[Any]]) -> tuple[Any, ...]:
    """What scans showed, each thing once, in the order it was first seen."""
    return tuple(dict.fromkeys(item for part in parts for item in part))


def sram_words_of(fabric: FabricView) -> int:
    """SRAM of a core in words: the wafer's, or the machine's own on a fabric without a wafer."""
    machine = getattr(getattr(fabric, "spec", None), "machine", None)
    return int(machine.sram_words) if machine is not None else 12_288


def _queue_depth(fabric: FabricView) -> int:
    machine = getattr(getattr(fabric, "spec", None), "machine", None)
    return int(machine.queue_depth) if machine is not None else 4
