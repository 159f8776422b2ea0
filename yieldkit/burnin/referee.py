"""The referee: knows the injected truth and the golden run, and names what came of a trial.

Its names are the manifestations of the taxonomy, the three kinds of masking included. Diagnosis never sees them.
"""

from __future__ import annotations

from dataclasses import replace

from yieldkit.burnin.golden import Golden
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.running import RunResult
from yieldkit.emulator.symptoms import COMPLETED, CORRUPTION_DETECTED, CRASH_DETECTED, REPAIRED
from yieldkit.faults import FaultEvent
from yieldkit.faults.host_places import HOST_PLACES, reads_of_step
from yieldkit.quantities import Site
from yieldkit.workloads.program import Program, StreamOut, instrs_of, tensors_of, written_by

__all__ = ["label_of"]


def label_of(golden: Golden, trial: RunResult, event: FaultEvent, core: Site | None, lowered: Lowered) -> str:
    """Outcome of a trial.

    Args:
        golden: the clean run.
        trial: the run with the fault, from its first step to its end.
        event: what was injected.
        core: the core of the rectangle that it struck, or None.
        lowered: the program.

    Returns:
        a manifestation code: CRASH, DUE_TRAP, STALL_DROP, STALL_CTRL, NAN_HW, NAN_SHORT, a loss class, SDC_BITS,
        BENIGN, or CORRECTED, MASKED_UNREAD, MASKED_OVERWRITTEN, MASKED_LOGICAL when every bit that is kept equals the
        golden run's.
    """
    symptoms = trial.symptoms
    if symptoms.status == CRASH_DETECTED:
        return "CRASH"
    if symptoms.status == CORRUPTION_DETECTED:
        return "DUE_TRAP"
    if symptoms.status != COMPLETED:
        if event.place in HOST_PLACES:
            return "INFRASTRUCTURE"
        return "STALL_DROP" if event.place.startswith("link") else "STALL_CTRL"
    if trial.step_digests == golden.result.step_digests and trial.state_hash == golden.result.state_hash:
        repaired = [scan.kind for scan in symptoms.events if scan.kind in REPAIRED]
        if repaired or any(seen.kind == "memoryx_corrected" for seen in symptoms.host_events):
            return "CORRECTED"
        return _masked(event, core, lowered, again=event.step + 1 < golden.steps)
    if symptoms.nonfinite_step is not None or symptoms.logit_nonfinite > golden.result.symptoms.logit_nonfinite:
        last = symptoms.loss[-1] if symptoms.loss else float("nan")
        return "NAN_SHORT" if last - last == 0 else "NAN_HW"
    if symptoms.tokens != golden.result.symptoms.tokens:
        return "SDC_BITS"
    if symptoms.loss:
        from yieldkit.diagnosis import Thresholds
        from yieldkit.diagnosis.trend import read_trend

        # The band is laid around the golden run itself: the referee knows what the loss would have been.
        own = replace(golden.baseline, loss=golden.result.symptoms.loss)
        trend = read_trend(symptoms, own, Thresholds())
        if trend is not None:
            return trend.code
    return "BENIGN"


def _masked(event: FaultEvent, core: Site | None, lowered: Lowered, *, again: bool) -> str:
    """Which masking it was; `again`: another step follows the one that was struck."""
    if event.place in HOST_PLACES:
        return "MASKED_LOGICAL" if reads_of_step(event, lowered.program) else "MASKED_UNREAD"
    if core is None or event.place != "sram":
        return "MASKED_UNREAD" if core is None else "MASKED_LOGICAL"
    low = next(launch for launch in lowered.launches if launch.name == event.launch)
    meaning = lowered.meaning(low.index, event.phase, int(low.role_of[core]), event.address)
    if meaning.kind == "free":
        return "MASKED_UNREAD"
    if meaning.kind == "accumulator":
        return "MASKED_OVERWRITTEN"
    if meaning.kind != "tensor":
        return "MASKED_LOGICAL"
    if lowered.tensors[meaning.name].dtype != "fp32" and event.mask & 0xFFFF == 0:
        return "MASKED_UNREAD"
    return {"read": "MASKED_LOGICAL", "written": "MASKED_OVERWRITTEN", "never": "MASKED_UNREAD"}[
        _next_use(lowered, low, event.phase, meaning.name, core, again=again)
    ]


def _puts_out(phase: StreamOut, core: Site, program: Program) -> bool:
    """Whether a core's block is among those that go out: of equal copies only the last row's or column's do."""
    if phase.mode == "last_col":
        return core[1] == program.cols - 1
    return phase.mode != "last_row" or core[0] == program.rows - 1


def _next_use(lowered: Lowered, low: LoweredLaunch, phase: int, name: str, core: Site, *, again: bool) -> str:
    """Whether a core next reads its block of a tensor, overwrites it, or never uses it, from a phase of a launch on."""
    launches = lowered.launches[low.index :]
    if again and lowered.tensors[name].keep:
        launches += lowered.launches[: low.index + 1]
    for number, launch in enumerate(launches):
        for index, later in enumerate(launch.launch.phases):
            if (number == 0 and index < phase) or name not in tensors_of(later):
                continue
            if isinstance(later, StreamOut) and not _puts_out(later, core, lowered.program):
                continue
            read = name not in written_by(later) or getattr(later, "accumulate", False)
            for instr in instrs_of(later):
                operands = [ref.tensor for ref in (instr.a, instr.b) if ref is not None]
                if name in operands or (instr.op in ("mac", "select") and instr.d.tensor == name):
                    return "read"
                if instr.d.tensor == name:
                    return "written"
            return "read" if read else "written"
    return "never"
