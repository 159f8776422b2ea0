"""`yieldkit emulate`: run a program on a booted wafer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option, steps_bar
from yieldkit.cli.emulate_calibrate import calibrate
from yieldkit.cli.emulate_check import check
from yieldkit.cli.emulate_dump import dump
from yieldkit.cli.emulate_faults import events_of
from yieldkit.cli.emulate_program import program

if TYPE_CHECKING:
    from yieldkit.emulator import RunResult
    from yieldkit.fabric import Fabric

__all__ = ["command"]


@click.group()
def command() -> None:
    """Make programs and run them on a booted wafer."""


_BINS = 240
"""Bins of a trace at most."""
_LINES = 12
"""Lines of a wait-for graph that are shown unasked."""

for _one in (calibrate, check, dump, program):
    command.add_command(_one)


def _fabric(
    image: Path | None, preset: str | None, spec: Path | None, perfect: str | None, wafer_id: str | None
) -> Fabric:
    from yieldkit.cli.spec_options import chosen_wafer
    from yieldkit.errors import BadInput
    from yieldkit.fabric import Fabric, FirmwareImage

    if (image is None) == (perfect is None):
        raise BadInput("choose the fabric by --image FILE (with its wafer) or by --perfect ROWSxCOLS, one of them")
    if perfect is not None:
        rows, _, cols = perfect.partition("x")
        if not (rows.isdecimal() and cols.isdecimal()):
            raise BadInput("--perfect needs ROWSxCOLS", value=perfect, cure="e.g. --perfect 16x16")
        return Fabric.perfect(int(rows), int(cols))
    if preset is None and spec is None:
        raise BadInput("--image needs the wafer it is for: --preset NAME or --spec FILE")
    wafer = chosen_wafer(preset, str(spec) if spec is not None else None)
    return Fabric.boot(FirmwareImage.load(str(image)), wafer, wafer_id=wafer_id)


@command.command("run")
@click.argument("program_file", metavar="PROGRAM.json", type=click.Path(path_type=Path))
@click.option("--image", type=click.Path(path_type=Path), help="Firmware image of the wafer.")
@click.option("--preset", help="Wafer preset the image is for.")
@click.option("--spec", type=click.Path(path_type=Path), help="Wafer spec the image is for.")
@click.option("--wafer-id", help="The single wafer that is there; an image for another one is refused.")
@click.option("--perfect", help="ROWSxCOLS: a fabric without a wafer.")
@click.option("--steps", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--executor", type=click.Choice(["tensor", "reference", "wavelet"]), default="tensor", show_default=True)
@click.option(
    "--timing",
    help="Preset of timing for the cycles: ideal, cs2 or cs3. Without it only the wavelet executor counts them.",
)
@click.option(
    "--trace",
    "trace_file",
    type=click.Path(path_type=Path),
    help="Write what links and cores did over time, as .html, .svg, .png or .npz (wavelet executor).",
)
@click.option("--trace-launch", help="Launch of the trace; the one that stalls, else the longest of the last step.")
@click.option("--waits", is_flag=True, help="Print the whole wait-for graph of a stall, not its first lines.")
@click.option("--origin", type=(int, int), default=(0, 0), show_default=True, help="Logical row and column.")
@click.option("--fault", "fault_file", type=click.Path(path_type=Path), help="Fault events, a JSON list.")
@click.option("--symptoms", "symptoms_file", type=click.Path(path_type=Path), help="Write the symptoms to this file.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@json_option
def run_program(
    program_file: Path,
    image: Path | None,
    preset: str | None,
    spec: Path | None,
    wafer_id: str | None,
    perfect: str | None,
    steps: int,
    executor: str,
    origin: tuple[int, int],
    fault_file: Path | None,
    symptoms_file: Path | None,
    threads: int,
    timing: str | None,
    trace_file: Path | None,
    trace_launch: str | None,
    *,
    waits: bool,
    as_json: bool,
) -> None:
    """Run a program; a stall or a crash is a result, shown with its symptoms, its class and who waits for whom."""
    import json

    from yieldkit.emulator import Placement, run
    from yieldkit.emulator.stalls import stall_of
    from yieldkit.emulator.symptoms import CORRUPTION_DETECTED
    from yieldkit.emulator.waits_text import stall_lines
    from yieldkit.errors import BadInput
    from yieldkit.faults import FaultPlan
    from yieldkit.files import write_text
    from yieldkit.workloads import Program

    if trace_file is not None:
        _check_trace(trace_file, executor)
    elif trace_launch is not None:
        raise BadInput("--trace-launch needs --trace FILE")
    fabric = _fabric(image, preset, spec, perfect, wafer_id)
    program = Program.load(program_file)
    plan = None
    if fault_file is not None:
        plan = FaultPlan(events_of(fault_file, program, steps), Placement.of(program, fabric, origin))
    with steps_bar("steps", steps) as tick:
        result = run(
            program,
            fabric,
            executor=executor,
            steps=steps,
            origin=origin,
            faults=plan,
            threads=threads,
            timing=timing or "ideal",
            trace=_BINS if trace_file is not None else 0,
            progress=tick,
        )
    seen = result.symptoms
    if symptoms_file is not None:
        write_text(symptoms_file, json.dumps(seen.to_dict(), indent=1, sort_keys=True) + "\n")
    facts: dict[str, Any] = {
        "status": seen.status,
        "steps_done": seen.steps_done,
        "state_hash": result.state_hash,
        "cycles": result.cycles if timing or executor == "wavelet" else None,
        "tokens": result.tokens.tolist(),
        "loss": seen.to_dict()["loss"],
    }
    lines = [f"{seen.status}: {seen.steps_done} of {steps} steps, state {result.state_hash}"]
    if seen.loss:
        if program.job.get("kind") == "iteration":
            what = {"cg": "residual", "stencil": "gain"}.get(program.job.get("workload", ""), "figure")
            lines.append(f"{what} {seen.loss[0]:.3g} to {seen.loss[-1]:.3g}")
        else:
            lines.append(f"loss {seen.loss[0]:.4f} to {seen.loss[-1]:.4f} nats")
    lines += [f"{one.endpoint}: {one.kind}, {one.name}, {one.count} words" for one in seen.host_events]
    if seen.stalled_launch:
        what = "the host stopped: a check fired at" if seen.status == CORRUPTION_DETECTED else "nothing moves in"
        lines.append(f"{what} launch {seen.stalled_launch}: {len(seen.waiting)} cores wait")
        facts["symptoms"] = seen.to_dict()
        stall = stall_of(result)
        if stall is not None:
            facts["stall"] = stall.to_dict()
            lines += stall_lines(stall, limit=None if waits else _LINES)
    if facts["cycles"] is not None:
        lines.append(f"{facts['cycles']} cycles with timing {timing or 'ideal'!r}")
    if trace_file is not None:
        path = _write_trace(result, trace_file, trace_launch)
        facts["trace"] = str(path)
        lines.append(f"trace: {path}")
    emit(facts, "\n".join(lines), as_json=as_json)


def _check_trace(path: Path, executor: str) -> None:
    """Refuse before the run what could not be written after it."""
    from yieldkit.errors import BadInput
    from yieldkit.report.traces import FORMS

    if executor != "wavelet":
        raise BadInput("only the wavelet executor records traces", value=executor, cure="--executor wavelet")
    if path.suffix.lower().removeprefix(".") not in FORMS:
        raise BadInput("a trace is written as " + ", ".join(f".{name}" for name in FORMS), value=str(path))


def _write_trace(result: RunResult, path: Path, launch: str | None) -> Path:
    """Write the trace of one launch of the last step."""
    from yieldkit.errors import BadInput
    from yieldkit.report.traces import write_trace

    wanted = launch or result.symptoms.stalled_launch
    traces = [trace for trace in result.traces if wanted in ("", trace.launch)]
    if not traces:
        names = ", ".join(trace.launch for trace in result.traces)
        raise BadInput("the last step ran no such launch", value=wanted, cure=f"there are: {names}")
    return write_trace(max(traces, key=lambda trace: trace.cycles), path, command="yieldkit emulate run --trace")
