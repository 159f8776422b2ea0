"""`yieldkit defects`: yield laws and sampled defects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from yieldkit.cli import emit, json_option
from yieldkit.cli.spec_options import chosen_law, chosen_wafer, law_options, wafer_options
from yieldkit.errors import BadInput

if TYPE_CHECKING:
    from yieldkit.defects import DefectBatch

__all__ = ["command"]


@click.group(name="defects")
def command() -> None:
    """Yield laws and sampled defects."""


@command.command("yield")
@law_options
@click.option("--area", "area_mm2", type=float, required=True, help="Area in mm².")
@click.option("--from-yield", "target", type=float, help="Give the density that has this yield, instead of --d0.")
@json_option
def yield_(
    law_name: str,
    d0: float | None,
    alpha: float | None,
    layers: int | None,
    area_mm2: float,
    target: float | None,
    as_json: bool,
) -> None:
    """Yield of an area at a density, or the density that has a yield."""
    if (d0 is None) == (target is None):
        raise BadInput("give --d0 or --from-yield, one of them")
    law = chosen_law(law_name, d0 or 0.0, alpha, layers)
    if target is not None:
        parameters = {k: v for k, v in law.describe().items() if k not in ("law", "d0_per_cm2")}
        law = type(law).from_yield(target, area_mm2=area_mm2, **parameters)
    value, mean = law.yield_(area_mm2=area_mm2), law.mean(area_mm2=area_mm2)
    facts = {**law.describe(), "area_mm2": area_mm2, "yield": value, "mean_defects": mean}
    text = (
        f"{law.name}: {law.d0_per_cm2:.6g} defects per cm² on {area_mm2:g} mm²: "
        f"yield {_percent(value, certain=mean == 0)}, {mean:.6g} defects on average"
    )
    emit(facts, text, as_json=as_json)


@command.command()
@wafer_options
@law_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw.")
@click.option("-n", "n", type=click.IntRange(min=1), default=1, show_default=True, help="Wafers to draw.")
@click.option("--out", type=click.Path(), help="Write the defects to this CSV file.")
@json_option
def sample(
    preset: str | None,
    spec: str | None,
    law_name: str,
    d0: float | None,
    alpha: float | None,
    layers: int | None,
    seed: int,
    n: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Draw the defects of wafers."""
    wafer = chosen_wafer(preset, spec)
    law = chosen_law(law_name, d0, alpha, layers, wafer)
    batch = law.sample_wafers(wafer, n, rng=seed)
    counts = batch.counts
    if out is not None:
        _write_csv(out, batch)
    facts = {
        **law.describe(),
        "wafer": wafer.name,
        "spec_fingerprint": wafer.fingerprint,
        "seed": seed,
        "wafers": n,
        "defects": int(counts.sum()),
        "expected_per_wafer": law.mean(area_mm2=wafer.silicon_mm2),
        "mean_per_wafer": float(counts.mean()),
        "fewest": int(counts.min()),
        "most": int(counts.max()),
        "out": out,
    }
    text = (
        f"{n} wafer{'s' * (n > 1)} {wafer.name}, {law.name} law, {law.d0_per_cm2:g} per cm², seed {seed}: "
        f"{facts['defects']:,} defects, {facts['fewest']} to {facts['most']} a wafer, "
        f"mean {facts['mean_per_wafer']:.2f} (expected {facts['expected_per_wafer']:.2f})"
    )
    emit(facts, text + (f"\nwritten to {out}" if out else ""), as_json=as_json)


def _write_csv(out: str, batch: DefectBatch) -> None:
    import numpy as np
    import pandas as pd

    from yieldkit.files import write_text

    columns = {"x_mm": batch.x_mm, "y_mm": batch.y_mm, "size_um": batch.size_um, "layer": batch.layer}
    table = pd.DataFrame({"wafer": np.repeat(np.arange(len(batch)), batch.counts), **columns})
    write_text(out, table.to_csv(index=False, lineterminator="\n"))


def _percent(share: float, *, certain: bool) -> str:
    """A yield in per cent: 100 % only where no defect can be (`certain`), and never 0 %."""
    if certain:
        return "100 %"
    if share < 5e-5:
        return "< 0.01 %"
    return "> 99.99 %" if share > 1 - 5e-5 else f"{share * 100:.2f} %"
