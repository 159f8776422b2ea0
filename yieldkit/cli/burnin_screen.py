"""`yieldkit burnin screen`: which workload exposes which weak part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from yieldkit.cli import emit, json_option, steps_bar
from yieldkit.cli.spec_options import chosen_wafer, wafer_options

__all__ = ["screen"]

_FILE = click.Path(path_type=Path)
_WORKLOADS = ("gpt_training", "gpt_decode")


@click.command()
@wafer_options
@click.option(
    "--workload",
    "kinds_of_work",
    multiple=True,
    default=_WORKLOADS,
    show_default=True,
    help="Kind of program, as in a campaign; repeatable.",
)
@click.option("--set", "overrides", multiple=True, metavar="KIND.PARAMETER=VALUE", help="Parameter of a workload.")
@click.option("--steps", type=click.IntRange(min=1), default=12, show_default=True, help="Steps of a run, at most.")
@click.option(
    "--executor",
    type=click.Choice(["tensor", "wavelet"]),
    default="tensor",
    show_default=True,
    help="wavelet has a clock and sees slow cores, and takes longer.",
)
@click.option("--kind", "kinds", multiple=True, help="Kind of weak part; repeatable; all kinds when left out.")
@click.option(
    "-n",
    "--parts",
    "n",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Weak parts of each kind, drawn on the cores and links that the workloads lie on.",
)
@click.option("--weak", type=_FILE, help="Weak parts from a file that --save wrote, instead of drawing them.")
@click.option("--temperature-c", type=float, default=85.0, show_default=True, help="During screening, in °C.")
@click.option("--voltage", type=float, default=0.75, show_default=True, help="During screening, in volts.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0),
    default=1000.0,
    show_default=True,
    help="Hours that the wafer has been in these conditions; parts begin to fail at ages of their own.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of parts and occasions.")
@click.option("--save", type=_FILE, help="Write the weak parts, as JSON.")
@click.option("--csv", type=_FILE, help="Write one row a part and workload.")
@json_option
def screen(
    preset: str | None,
    spec: str | None,
    kinds_of_work: tuple[str, ...],
    overrides: tuple[str, ...],
    steps: int,
    executor: str,
    kinds: tuple[str, ...],
    n: int,
    weak: Path | None,
    temperature_c: float,
    voltage: float,
    hours: float,
    seed: int,
    save: Path | None,
    csv: Path | None,
    as_json: bool,
) -> None:
    """Run every workload with every weak part alone, and tabulate which exposes which."""
    from yieldkit.burnin.programs import KINDS
    from yieldkit.burnin.screening import (
        ScreeningWorkload,
        parts_of_each_kind,
        screening_table,
    )
    from yieldkit.burnin.screening import (
        screen as screened,
    )
    from yieldkit.burnin.spec_file import apply_overrides
    from yieldkit.errors import BadInput
    from yieldkit.fabric import Fabric, FirmwareImage
    from yieldkit.faultmap import FaultMap
    from yieldkit.faults import Environment, WeakParts, WeakPopulation
    from yieldkit.files import write_text
    from yieldkit.quantities import KELVIN_OFFSET
    from yieldkit.repair import RowShift, plan_repair

    wafer = chosen_wafer(preset, spec)
    given = apply_overrides({kind: {} for kind in kinds_of_work}, overrides)
    if unknown := sorted(set(given) - set(kinds_of_work)):
        raise BadInput("--set names what is no --workload", value=unknown[0])
    plan = plan_repair(FaultMap.for_wafer(wafer), RowShift.for_wafer(wafer), wafer=wafer)
    fabric = Fabric.boot(FirmwareImage.from_plan(plan, wafer=wafer, wafer_id="screening"), wafer)
    works = []
    for kind in kinds_of_work:
        if kind not in KINDS:
            raise BadInput("unknown kind of workload", value=kind, cure=f"known: {', '.join(KINDS)}")
        most = min(steps, int(KINDS[kind].defaults["steps"]))
        works.append(ScreeningWorkload.of_kind(kind, {"steps": most, **given[kind]}, fabric, executor=executor))
    if weak is not None:
        parts = WeakParts.load(weak)
        if parts.wafer not in ("", wafer.fingerprint):
            raise BadInput(f"{weak}: the weak parts are those of another wafer", value=parts.wafer)
    else:
        population = WeakPopulation(core_fraction=0.0, link_fraction=0.0)
        parts = parts_of_each_kind(population, fabric, works, n=n, kinds=kinds or None, rng=seed)
    if save is not None:
        parts.save(save)
    environment = Environment(temperature_c + KELVIN_OFFSET, voltage, hours)
    with steps_bar("screening", len(parts) * len(works)) as advance:
        result = screened(parts, works, fabric, environment=environment, seed=seed, progress=advance)
    if csv is not None:
        write_text(csv, result.to_frame().to_csv(index=False, lineterminator="\n"))
    rows = screening_table(result).astype(object)
    table = rows.where(rows.notna(), None).to_dict("records")
    facts = {
        "wafer": wafer.name,
        "seed": seed,
        "parts": len(parts),
        "workloads": {work.name: work.program.fingerprint for work in works},
        "environment": environment.to_dict(),
        "table": table,
    }
    emit(facts, _text(facts, temperature_c), as_json=as_json)


def _text(facts: dict[str, Any], temperature_c: float) -> str:
    from yieldkit.burnin.screening import REASONS
    from yieldkit.cli.burnin_strata import table

    where = facts["environment"]
    lines = [
        f"{facts['parts']} weak parts on {facts['wafer']} (seed {facts['seed']}), {temperature_c:g} °C, "
        f"{where['voltage_v']:g} V, {where['age_hours']:g} h"
    ]
    rows = []
    for row in facts["table"]:
        shares = [
            f"{row[name]}/{row['n']} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
            for name in ("changed", "seen")
        ]
        hidden = ", ".join(f"{reason} {row[reason]}" for reason in REASONS if row[reason])
        rows.append((row["kind"], row["workload"], *shares, hidden or "-", row["codes"] or "-"))
    lines += table(("kind", "workload", "changed", "seen", "hidden because", "diagnosis"), rows)
    lines += [
        "changed: differs from a golden run in any bit; seen: diagnosis says more than masked or benign, without one",
        "in brackets the 95 % Wilson interval",
    ]
    return "\n".join(lines)
