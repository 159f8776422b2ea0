"""`yieldkit emulate calibrate`: fit the presets of timing to published tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from yieldkit.cli import emit, json_option

__all__ = ["calibrate"]


@click.command("calibrate")
@click.option(
    "--tables",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder with the published tables as CSV.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the constants, each with its source, to this file.")
@click.option("--residuals", type=click.Path(path_type=Path), help="Write all residuals as Markdown to this file.")
@json_option
def calibrate(tables: Path, out: Path | None, residuals: Path | None, *, as_json: bool) -> None:
    """Fit the presets cs2 and cs3 and say what is left over."""
    from yieldkit.emulator.calibration import (
        MULTICAST,
        STENCILS,
        largest_cycles,
        median_error,
        preset_text,
        residual_page,
    )
    from yieldkit.emulator.calibration import (
        calibrate as fit,
    )
    from yieldkit.files import write_text

    result = fit(tables)
    if out is not None:
        write_text(out, preset_text(result))
    if residuals is not None:
        write_text(residuals, residual_page(result.residuals))
    errors = {preset: median_error(result.residuals, preset, STENCILS) for preset in result.constants}
    multicast = largest_cycles(result.residuals, "cs3", MULTICAST)
    facts: dict[str, Any] = {
        "constants": {preset: dict(values) for preset, values in result.constants.items()},
        "stencil_median_error": errors,
        "multicast_largest_cycles": multicast,
        "residuals": [
            {
                "preset": r.preset,
                "table": r.table,
                "row": r.setting,
                "published": r.published,
                "model": r.model,
                "fitted": r.fitted,
            }
            for r in result.residuals
        ],
    }
    lines = [
        *(f"{preset}: stencils within {100 * error:.1f} % in the median" for preset, error in errors.items()),
        f"cs3: multicast within {multicast:.2f} cycles",
    ]
    for preset, values in result.constants.items():
        lines.append(f"{preset}: " + ", ".join(f"{name} {value:g}" for name, value in values.items()))
    emit(facts, "\n".join(lines), as_json=as_json)
