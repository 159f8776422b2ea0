"""`yieldkit repair`: plan, check and ship the map of a wafer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option
from yieldkit.cli.repair_yields import bins, study, yield_
from yieldkit.errors import AnswerIsNo, BadInput

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair import LineSpares, RepairPlan, RowShift
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
@click.option(
    "--rule",
    type=click.Choice(["shift", "lines"]),
    default="shift",
    show_default=True,
    help="Architecture: cores of a row shift along, or whole rows and columns are bypassed.",
)
@click.option("--spares", type=click.IntRange(0), help="shift: spare columns; all of the wafer's by default.")
@click.option("--spare-rows", type=click.IntRange(0), help="lines: most rows to bypass; the wafer's by default.")
@click.option("--spare-cols", type=click.IntRange(0), help="lines: most columns to bypass; the wafer's by default.")
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
    rule: str,
    spares: int | None,
    spare_rows: int | None,
    spare_cols: int | None,
    skip_reach: int | None,
    vertical_reach: int | None,
    logical: str | None,
    marginal: Any,
    as_json: bool,
) -> None:
    """Plan the repair of the wafer in FAULTS; exit 3 when it cannot be repaired."""
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair import plan_repair

    fault_map = FaultMap.load(faults)
    wafer = _wafer(wafer_name, fault_map.wafer_name)
    shift = {"spares": spares, "skip_reach": skip_reach, "vertical_reach": vertical_reach}
    lines = {"rows": spare_rows, "cols": spare_cols}
    for other, values in (("shift", lines), ("lines", shift)):
        given = [name for name, value in values.items() if value is not None]
        if rule == other and given:
            names = ["--spare-" + name if name in lines else "--" + name.replace("_", "-") for name in given]
            raise BadInput(f"{', '.join(names)} cannot be used with --rule {rule}")
    rules = _line_rules(wafer, lines, fault_map) if rule == "lines" else _shift_rules(wafer, shift, fault_map)
    answer = plan_repair(fault_map, rules, wafer=wafer, logical_shape=_shape(logical), marginal=marginal)
    _write(answer, out=out, image=image, wafer_id=wafer_id, wafer=wafer, as_json=as_json)
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


@command.command()
@click.argument("faults", type=click.Path())
@click.option("--plan", "plan_file", type=click.Path(), required=True, help="The plan in use (JSON).")
@click.option("--out", type=click.Path(), help="Write the new plan to this file (JSON).")
@click.option("--image", type=click.Path(), help="Write the new firmware image to this file.")
@click.option("--wafer-id", help="Id of the single wafer, for the image; else the one in the map or the plan.")
@json_option
def replan(
    faults: str, plan_file: str, out: str | None, image: str | None, wafer_id: str | None, as_json: bool
) -> None:
    """Plan anew after failures in the field, moving as few cores as possible; exit 3 when the fabric is lost.

    FAULTS is the map with the new failures.
    """
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair import RepairPlan, replan_repair

    before = RepairPlan.load(plan_file)
    answer = replan_repair(FaultMap.load(faults), before)
    _write(answer, out=out, image=image, wafer_id=wafer_id, wafer=None, as_json=as_json)
    if not answer.repaired:
        raise AnswerIsNo(f"{faults}: no full fabric ({answer.status})")


@command.command()
@click.argument("before", type=click.Path())
@click.argument("after", type=click.Path())
@json_option
def diff(before: str, after: str, as_json: bool) -> None:
    """What changes from the firmware image BEFORE to AFTER: rows, cores that move, first and last."""
    from yieldkit.fabric import FirmwareImage

    changes = FirmwareImage.load(before).diff(FirmwareImage.load(after))
    emit(changes.to_dict(), changes.summary(), as_json=as_json)


@command.command()
@click.argument("faults", type=click.Path())
@click.option("--plan", "plan_file", type=click.Path(), help="Take the rules from this plan; else from the wafer.")
@click.option("--wafer", "wafer_name", help="Preset or TOML file of the wafer; else the one the map names.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(["dead_core", "dead_link", "dead_router"]),
    multiple=True,
    default=("dead_core",),
    show_default=True,
    help="Kind of failure; one answer for each.",
)
@click.option("-n", "n", type=click.IntRange(1), default=200, show_default=True, help="Orders of failures to draw.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@json_option
def margin(
    faults: str,
    plan_file: str | None,
    wafer_name: str | None,
    kinds: tuple[str, ...],
    n: int,
    seed: int,
    as_json: bool,
) -> None:
    """How many more failures the wafer in FAULTS can take before its fabric is lost, by simulation."""
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair import RepairPlan, RowShift, spare_margin

    fault_map = FaultMap.load(faults)
    wafer = _wafer(wafer_name, fault_map.wafer_name)
    rules: RowShift | RepairPlan
    if plan_file is not None:
        rules = RepairPlan.load(plan_file)
    elif wafer is not None:
        rules = RowShift.for_wafer(wafer)
    else:
        raise BadInput("the fault map names no known wafer", value=fault_map.wafer_name, cure="pass --wafer or --plan")
    answers = {kind: spare_margin(fault_map, rules, kinds=kind, wafer=wafer, n=n, rng=seed) for kind in kinds}
    facts: dict[str, Any] = {"seed": seed, "n": n, "kinds": {kind: one.to_dict() for kind, one in answers.items()}}
    emit(facts, "\n".join(one.summary() for one in answers.values()), as_json=as_json)
    lost = [kind for kind, one in answers.items() if int(one.lost.max()) == 0]
    if lost:
        raise AnswerIsNo(f"{faults}: the fabric is lost already")


@command.command()
@click.argument("faults", type=click.Path())
@click.option("--csv", type=click.Path(), help="Write the pairs to this file.")
@json_option
def frontier(faults: str, csv: str | None, as_json: bool) -> None:
    """Minimal pairs of whole rows and columns that cover every fault of the map FAULTS."""
    from yieldkit.faultmap import FaultMap
    from yieldkit.files import write_text
    from yieldkit.repair import repair_frontier

    found = repair_frontier(FaultMap.load(faults))
    if csv is not None:
        write_text(csv, found.to_frame().to_csv(index=False))
    facts = {"proven": found.proven, "method": found.method, "pairs": [list(pair) for pair in found.pairs]}
    lines = [f"{len(found)} minimal pairs, {'proven' if found.proven else 'not all proven'}: rows columns"]
    lines += [f"{p.rows:7} {p.cols:7}" + ("" if p.proven else f"  (bound {p.cols_bound})") for p in found]
    emit(facts, "\n".join(lines), as_json=as_json)
    if not found.pairs:
        raise AnswerIsNo(f"{faults}: no lines cover it ({found.method})")


def _write(
    answer: RepairPlan,
    *,
    out: str | None,
    image: str | None,
    wafer_id: str | None,
    wafer: WaferSpec | None,
    as_json: bool,
) -> None:
    """Write the files of a plan and say what it is."""
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


def _shift_rules(wafer: WaferSpec | None, values: dict[str, int | None], faults: FaultMap) -> RowShift:
    from dataclasses import replace

    from yieldkit.repair import RowShift

    changes: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if wafer is not None:
        return replace(RowShift.for_wafer(wafer), **changes)
    if "spares" not in changes:
        raise BadInput("the fault map names no known wafer", value=faults.wafer_name, cure="pass --wafer or --spares")
    return RowShift(**changes)


def _line_rules(wafer: WaferSpec | None, values: dict[str, int | None], faults: FaultMap) -> LineSpares:
    from yieldkit.repair import LineSpares

    rows, cols = values["rows"], values["cols"]
    if wafer is not None:
        return LineSpares.for_wafer(wafer, rows=rows, cols=cols)
    if rows is None or cols is None:
        cure = "pass --wafer, or --spare-rows and --spare-cols"
        raise BadInput("the fault map names no known wafer", value=faults.wafer_name, cure=cure)
    return LineSpares(rows, cols)


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
    if facts.get("lines"):
        del facts["lines"]["row_map"], facts["lines"]["col_map"]
    facts.update(objective=plan.objective, bound=plan.bound, proven=plan.proven, fingerprint=plan.fingerprint)
    facts["stretched_links"] = plan.stretched_links
    return facts
