"""`yieldkit repair`: plan, check and ship the map of a wafer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option
from yieldkit.cli.repair_yields import bins, study, yield_
from yieldkit.errors import AnswerIsNo, BadInput

if TYPE_CHECKING:
    from yieldkit.repair import RepairPlan
    from yieldkit.wafer import WaferSpec

__all__ = ["command"]


@click.group(name="repair")
def command() -> None:
    """Plan, check and ship the map of a wafer."""


for _further in (bins, study, yield_):
    command.add_command(_further)


@command.command()
@click.argument("faults", type=click.Path())
@click.option("--out", type=click.Path(), help="Write the plan to this file (JSON).")
@click.option("--image", type=click.Path(), help="Write the firmware image to this file.")
@click.option("--wafer", "wafer_name", help="Preset or TOML file of the wafer; else the one the map names.")
@click.option("--wafer-id", help="Id of the single wafer, for the image; else the one in the map.")
@click.option("--spares", type=click.IntRange(0), help="Spare columns to use; all of the wafer's by default.")
@click.option("--skip-reach", type=click.IntRange(1), help="Sites that a link along the row reaches.")
@click.option("--vertical-reach", type=click.IntRange(0), help="Columns that a link between rows reaches aside.")
@click.option("--logical", metavar="ROWSxCOLS", help="Fabric wanted; the wafer's standard fabric by default.")
@click.option("--marginal", type=click.Choice(["avoid", "keep"]), default="avoid", show_default=True)
@json_option
def plan(
    faults: str,
    out: str | None,
    image: str | None,
    wafer_name: str | None,
    wafer_id: str | None,
    spares: int | None,
    skip_reach: int | None,
    vertical_reach: int | None,
    logical: str | None,
    marginal: Any,
    as_json: bool,
) -> None:
    """Plan the repair of the wafer in FAULTS; exit 3 when it cannot be repaired."""
    from dataclasses import replace

    from yieldkit.faultmap import FaultMap
    from yieldkit.repair import RowShift, plan_repair

    fault_map = FaultMap.load(faults)
    wafer = _wafer(wafer_name, fault_map.wafer_name)
    changes: dict[str, Any] = {
        name: value
        for name, value in (("spares", spares), ("skip_reach", skip_reach), ("vertical_reach", vertical_reach))
        if value is not None
    }
    if wafer is not None:
        rules = replace(RowShift.for_wafer(wafer), **changes)
    elif spares is not None:
        rules = RowShift(**changes)
    else:
        raise BadInput(
            "the fault map names no known wafer", value=fault_map.wafer_name, cure="pass --wafer or --spares"
        )
    answer = plan_repair(fault_map, rules, wafer=wafer, logical_shape=_shape(logical), marginal=marginal)
    firmware = None
    if image is not None and answer.repaired:
        # Made before anything is written: an image without a wafer id is refused with nothing on the disk.
        firmware = answer.firmware(wafer_id=wafer_id, wafer=wafer)
    if out is not None:
        answer.save(out)
    facts = _facts(answer)
    text = answer.summary()
    if firmware is not None and image is not None:
        firmware.save(image)
        facts["image"] = {"path": image, "bytes": firmware.nbytes, "fingerprint": firmware.fingerprint}
        text += f"\nimage {image}: {firmware.nbytes} bytes, {firmware.fingerprint}"
    emit(facts, text, as_json=as_json)
    if not answer.repaired:
        raise AnswerIsNo(f"{faults}: no full fabric ({answer.status})")


@command.command()
@click.argument("faults", type=click.Path())
@click.argument("plan_file", metavar="PLAN", type=click.Path())
@json_option
def check(faults: str, plan_file: str, as_json: bool) -> None:
    """Check PLAN against the fault map FAULTS without any solver; exit 3 when it does not hold."""
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair import RepairPlan, check_plan

    fault_map = FaultMap.load(faults)
    answer = RepairPlan.load(plan_file)
    if answer.physical_shape != fault_map.shape:
        raise BadInput(f"the plan is for {answer.physical_shape} sites, the map has {fault_map.shape}")
    violations = check_plan(fault_map, answer.rules, answer)
    facts = {"holds": not violations, "plan": _facts(answer), "violations": [str(v) for v in violations]}
    state = "the plan holds" if not violations else "\n".join(str(v) for v in violations)
    emit(facts, f"{answer.summary()}\n{state}", as_json=as_json)
    if violations:
        raise AnswerIsNo(f"{plan_file}: {len(violations)} violations")


def _wafer(name: str | None, default: str) -> WaferSpec | None:
    from yieldkit.wafer import WaferSpec, preset_names

    if name is None:
        return WaferSpec.preset(default) if default in preset_names() else None
    return WaferSpec.from_toml(name) if name.endswith(".toml") else WaferSpec.preset(name)


def _shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    rows, cross, cols = text.partition("x")
    if not (cross and rows.isdecimal() and cols.isdecimal()):
        raise BadInput("--logical must be ROWSxCOLS", value=text, cure="e.g. --logical 1170x755")
    return int(rows), int(cols)


def _facts(plan: RepairPlan) -> dict[str, Any]:
    """What the text says, without the map itself."""
    facts = plan.to_dict()
    del facts["rows"]
    facts.update(objective=plan.objective, bound=plan.bound, proven=plan.proven, fingerprint=plan.fingerprint)
    facts["stretched_links"] = plan.stretched_links
    return facts
