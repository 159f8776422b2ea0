"""Options that several commands share: which wafer, which law of defects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from yieldkit.errors import BadInput

if TYPE_CHECKING:
    from yieldkit.defects import CountLaw
    from yieldkit.wafer import WaferSpec

__all__ = ["chosen_law", "chosen_wafer", "law_options", "wafer_options"]


def wafer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--preset NAME` and `--spec FILE`; pass both to `chosen_wafer`."""
    function = click.option("--spec", type=click.Path(), help="Wafer spec, a TOML file.")(function)
    return click.option("--preset", help="Wafer preset: see `yieldkit wafer list`.")(function)


def chosen_wafer(preset: str | None, spec: str | None) -> WaferSpec:
    """The wafer of exactly one of the two options."""
    from yieldkit.wafer import WaferSpec

    if (preset is None) == (spec is None):
        raise BadInput("choose the wafer by --preset NAME or by --spec FILE, one of them")
    return WaferSpec.preset(preset) if preset is not None else WaferSpec.from_toml(str(spec))


def law_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--law`, `--d0`, `--alpha` and `--layers`; pass them to `chosen_law`."""
    for option in (
        click.option("--layers", type=int, help="Critical layers, for bose-einstein."),
        click.option("--alpha", type=float, help="Clustering, for negative-binomial."),
        click.option("--d0", type=float, help="Defects per cm²; the wafer's own density when left out."),
        click.option("--law", "law_name", default="poisson", show_default=True, help="Law of the number of defects."),
    ):
        function = option(function)
    return function


def chosen_law(
    law_name: str, d0: float | None, alpha: float | None, layers: int | None, wafer: WaferSpec | None = None
) -> CountLaw:
    """The law of the options; without `--d0` the density is that of the wafer's process."""
    from yieldkit.defects import law_from_name

    if d0 is None and wafer is None:
        raise BadInput("--d0 is missing: the density in defects per cm²")
    density = d0 if d0 is not None else wafer.process.d0_per_cm2 if wafer is not None else 0.0
    given = {"alpha": alpha, "layers": layers}
    return law_from_name(law_name, d0_per_cm2=density, **{k: v for k, v in given.items() if v is not None})
