"""`yieldkit emulate dump`: one core's configuration as text, and what the core of a stalled run holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option

if TYPE_CHECKING:
    from yieldkit.emulator.lowering import LoweredLaunch
    from yieldkit.workloads import Program

__all__ = ["dump"]


@click.command("dump")
@click.argument("program_file", metavar="PROGRAM.json", type=click.Path(path_type=Path))
@click.option("--launch", help="Name of the launch; the first one if none is named.")
@click.option("--core", required=True, metavar="R,C", help="Logical row and column.")
@click.option("--fault", "fault_file", type=click.Path(path_type=Path), help="Fault events: run, and show the state.")
@click.option("--steps", type=click.IntRange(min=1), default=1, show_default=True, help="Steps of that run.")
@json_option
def dump(
    program_file: Path, launch: str | None, core: str, fault_file: Path | None, steps: int, *, as_json: bool
) -> None:
    """Show header, tasks, routes and SRAM of one core, and what it holds after a run with faults."""
    from yieldkit.emulator.dump import dump_core, launch_named
    from yieldkit.emulator.lowering import lower
    from yieldkit.workloads import Program

    r, c = _core(core)
    program = Program.load(program_file)
    lowered = lower(program)
    low = lowered.launches[0] if launch is None else launch_named(lowered, launch)
    text = dump_core(lowered, low, r, c)
    facts: dict[str, Any] = {"launch": low.name, "core": [r, c], "configuration": text.splitlines()}
    if fault_file is not None:
        state, stall = _after(program, low, r, c, fault_file, steps)
        text += "\n" + "\n".join(state) + "\n"
        facts |= {"state": state, "stall": stall}
    emit(facts, text.rstrip("\n"), as_json=as_json)


def _core(text: str) -> tuple[int, int]:
    from yieldkit.errors import BadInput

    row, comma, column = text.partition(",")
    if not (comma and row.strip().isdecimal() and column.strip().isdecimal()):
        raise BadInput("--core needs ROW,COLUMN", value=text, cure="e.g. --core 0,1")
    return int(row), int(column)


def _after(
    program: Program, low: LoweredLaunch, r: int, c: int, fault_file: Path, steps: int
) -> tuple[list[str], dict[str, Any] | None]:
    """State of the core, and the stall, of a run with faults on the reference machine."""
    from yieldkit.cli.emulate_faults import events_of
    from yieldkit.emulator import Placement, run
    from yieldkit.emulator.dump import dump_state
    from yieldkit.emulator.stalls import machine_of, stall_of
    from yieldkit.emulator.waits_text import stall_lines
    from yieldkit.errors import BadInput
    from yieldkit.fabric import Fabric
    from yieldkit.faults import FaultPlan

    fabric = Fabric.perfect(program.rows, program.cols)
    plan = FaultPlan(events_of(fault_file, program, steps), Placement.of(program, fabric, (0, 0)))
    result = run(program, fabric, executor="reference", steps=steps, faults=plan)
    machine, stall = machine_of(result), stall_of(result)
    if stall is None:
        return ["the run ended as it should; its cores hold nothing more to see"], None
    if stall.launch != low.name:
        raise BadInput(f"the run stops in launch {stall.launch!r}", value=low.name, cure=f"--launch {stall.launch}")
    assert machine is not None
    return [*dump_state(machine, low, r, c).splitlines(), "", *stall_lines(stall)], stall.to_dict()
