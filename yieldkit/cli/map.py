"""`yieldkit map`: wafer map files, and fault maps made from defects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from yieldkit.cli import emit, json_option
from yieldkit.cli.spec_options import chosen_law, chosen_wafer, law_options, wafer_options
from yieldkit.errors import BadInput

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap

__all__ = ["command"]


@click.group(name="map")
def command() -> None:
    """Read wafer maps and inspection files."""


@command.command()
@click.argument("file", type=click.Path())
@click.option("--wafer-id", help="Only this wafer.")
@json_option
def show(file: str, wafer_id: str | None, as_json: bool) -> None:
    """Show the wafers of a map file (KLARF 1.1 and 1.2), or a fault map."""
    from yieldkit.wafermap import read_wafer_map, read_wafer_maps

    if _is_fault_map(file):
        _show_faults(file, as_json=as_json)
        return
    wafers = [read_wafer_map(file, wafer_id=wafer_id)] if wafer_id is not None else read_wafer_maps(file)
    lines = []
    for one in wafers:
        lines.append(
            f"wafer {one.wafer_id or '(no id)'}: {one.diameter_mm:g} mm, {one.n_dies:,} dies of "
            f"{one.die_area_mm2 / 100:.6f} cm², {one.n_good:,} good, {one.n_bad:,} bad, {len(one.defects):,} defects"
        )
        lines += [f"  note: {note}" for note in one.notes]
    emit({"file": file, "wafers": [one.summary() for one in wafers]}, "\n".join(lines), as_json=as_json)


@command.command()
@wafer_options
@law_options
@click.option("--defects", "file", type=click.Path(), help="Defects of this KLARF file instead of sampled ones.")
@click.option("--wafer-id", help="Wafer of the file; the name of the map when defects are sampled.")
@click.option(
    "--place",
    type=click.Choice(["keep", "scale"]),
    help="Defects of a file from a wafer of another size: leave them at their place, or scale them.",
)
@click.option(
    "--sizes",
    type=click.Choice(["law", "file"]),
    default="law",
    show_default=True,
    help="Sizes of the defects of a file: drawn by the wafer's process, or as in the file.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every draw.")
@click.option("--out", type=click.Path(), help="Write the fault map to this file.")
@json_option
def faults(
    preset: str | None,
    spec: str | None,
    law_name: str,
    d0: float | None,
    alpha: float | None,
    layers: int | None,
    file: str | None,
    wafer_id: str | None,
    place: str | None,
    sizes: str,
    seed: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Turn defects, sampled or from a file, into a fault map."""
    from yieldkit.defects import Defects
    from yieldkit.faultmap import FaultMap
    from yieldkit.wafermap import read_wafer_map

    wafer = chosen_wafer(preset, spec)
    if file is None:
        if place is not None:
            raise BadInput("--place needs --defects FILE")
        defects = chosen_law(law_name, d0, alpha, layers, wafer).sample(wafer, rng=seed)
    else:
        if d0 is not None or alpha is not None or layers is not None:
            raise BadInput("--d0, --alpha and --layers belong to sampled defects, not to --defects FILE")
        wmap = read_wafer_map(file, wafer_id=wafer_id)
        if place is None and wmap.diameter_mm != wafer.diameter_mm:
            raise BadInput(
                f"{file} is of a {wmap.diameter_mm:g} mm wafer, {wafer.name} is {wafer.diameter_mm:g} mm",
                cure="choose --place keep or --place scale",
            )
        defects = Defects.from_wafer_map(
            wmap, wafer, place="scale" if place == "scale" else "keep", sizes="file" if sizes == "file" else "law"
        )
        wafer_id = wmap.wafer_id
    found = FaultMap.from_defects(wafer, defects, rng=seed, wafer_id=wafer_id or "")
    if out is not None:
        found.save(out)
    facts = {**_facts(found), "seed": seed, "out": out}
    emit(facts, _text(found) + (f"\nwritten to {out}" if out else ""), as_json=as_json)


def _facts(found: FaultMap) -> dict[str, object]:
    return {
        "wafer": found.wafer_name,
        "wafer_id": found.wafer_id,
        "spec_fingerprint": found.spec_fingerprint,
        "fingerprint": found.fingerprint,
        "shape": list(found.shape),
        **found.counts(),
        "wafer_killed": found.wafer_killed,
        "defects": len(found.outcomes),
        "effects": found.effects(),
        "notes": list(found.notes),
    }


def _text(found: FaultMap) -> str:
    lines = [str(found)]
    if found.outcomes:
        effects = ", ".join(f"{n} {effect}" for effect, n in found.effects().items())
        lines.append(f"{len(found.outcomes)} defects: {effects}")
    if found.wafer_killed:
        lines.append("a global net is hit: the wafer is lost")
    return "\n".join([*lines, *found.notes])


def _is_fault_map(file: str) -> bool:
    from yieldkit.files import read_bytes

    return read_bytes(file)[:64].lstrip().startswith(b"{")


def _show_faults(file: str, *, as_json: bool) -> None:
    from yieldkit.faultmap import FaultMap

    found = FaultMap.load(file)
    emit(_facts(found), _text(found), as_json=as_json)
