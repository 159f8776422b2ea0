"""`yieldkit repair yield`, `bins` and `study`: shares of sampled wafers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option
from yieldkit.errors import BadInput

if TYPE_CHECKING:
    from yieldkit.repair import FabricBin
    from yieldkit.wafer import WaferSpec

__all__ = ["bins", "study", "yield_"]

_INTEGERS = ("spares", "skip_reach", "vertical_reach", "rows_dropped", "rows", "cols")
_MOST_VALUES = 1000


def _draw_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Worker processes."),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option("-n", "n", type=click.IntRange(1), default=1000, show_default=True, help="Wafers to sample."),
        click.option("--wafer", "wafer_name", default="wse3", show_default=True, help="Preset or TOML file."),
    ):
        function = option(function)
    return function


def _law_options(function: Callable[..., Any]) -> Callable[..., Any]:
    text = "Clustering of a negative binomial law; Poisson without it."
    function = click.option("--alpha", type=float, help=text)(function)
    return click.option("--d0", type=float, required=True, help="Defects per square centimetre.")(function)


def _law(d0: float, alpha: float | None) -> Any:
    from yieldkit.defects import NegativeBinomial, Poisson

    return Poisson(d0_per_cm2=d0) if alpha is None else NegativeBinomial(d0_per_cm2=d0, alpha=alpha)


def _wafer(name: str) -> WaferSpec:
    from yieldkit.wafer import WaferSpec

    return WaferSpec.from_toml(name) if name.endswith(".toml") else WaferSpec.preset(name)


@contextmanager
def _wafers_bar() -> Iterator[Callable[[int, int], None] | None]:
    """A bar over wafers with the time left on a terminal, nothing when piped."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("wafers", total=None)
        yield lambda done, most: bar.update(task, completed=done, total=most)


@click.command(name="yield")
@_draw_options
@_law_options
@click.option("--spares", type=click.IntRange(0), help="Spare columns to use; all of the wafer's by default.")
@click.option(
    "--half-width", type=float, help="Stop when the interval is no wider than this to each side; -n is the most."
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@click.option("--rare", is_flag=True, help="Importance sampling of the loss, for yields near 1.")
@click.option(
    "--curve",
    "curves",
    multiple=True,
    metavar="KNOB=VALUES",
    help="Yield over S, h, v, D0 or alpha on the same wafers: S=0:8, S=0:36:4 or D0=0.05,0.1; repeatable.",
)
@json_option
def yield_(
    wafer_name: str,
    d0: float,
    alpha: float | None,
    spares: int | None,
    n: int,
    seed: int,
    jobs: int,
    half_width: float | None,
    confidence: float,
    rare: bool,
    curves: tuple[str, ...],
    as_json: bool,
) -> None:
    """Share of wafers that give the full fabric, by sampling fault maps and deciding each exactly."""
    from yieldkit.repair import RowShift, rare_loss, repair_yield, yield_curve

    if sum((bool(curves), rare, half_width is not None)) > 1:
        raise BadInput("--curve, --rare and --half-width exclude each other")
    wafer, law = _wafer(wafer_name), _law(d0, alpha)
    rules = RowShift.for_wafer(wafer, spares=spares)
    options: dict[str, Any] = {"n": n, "rng": seed, "confidence": confidence, "jobs": jobs}
    if curves:
        over = _knobs(curves)
        with _wafers_bar() as progress:
            table = yield_curve(wafer, law, rules, over, progress=progress, **options)
        _emit_table(table, {"n": n, "seed": seed, "confidence": confidence}, as_json=as_json)
        return
    if rare:
        with _wafers_bar() as progress:
            loss = rare_loss(wafer, law, rules, progress=progress, **options)
        facts = {
            **{name: getattr(loss, name) for name in ("n", "losses", "undecided", "low", "high", "confidence")},
            **{"loss": loss.value, "effective_losses": loss.effective_losses, "plain_n": loss.plain_n},
            **{"warning": loss.warning, "seed": seed},
        }
        text = (
            f"loss {loss.value:.4g} ({loss.low:.4g} to {loss.high:.4g} at {100 * confidence:g} %) from {loss.n} "
            f"weighed wafers, {loss.losses} of them lost, {loss.undecided} undecided; "
            f"a plain draw needs {loss.plain_n:.0f}"
        )
        emit(facts, text + (f"\nwarning: {loss.warning}" if loss.warning else ""), as_json=as_json)
        return
    with _wafers_bar() as progress:
        estimate = repair_yield(wafer, law, rules, half_width=half_width, progress=progress, **options)
    facts = {
        "n": estimate.n,
        "repaired": estimate.repaired,
        "perfect": estimate.perfect,
        "undecided": estimate.undecided,
        "yield": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "half_width": estimate.half_width,
        "loss_low": estimate.loss_low,
        "loss_high": estimate.loss_high,
        "confidence": estimate.confidence,
        "seed": seed,
    }
    text = (
        f"{estimate.repaired} of {estimate.n} wafers repaired: {estimate.value:.4f} "
        f"({estimate.low:.4f} to {estimate.high:.4f} at {100 * estimate.confidence:g} %)"
    )
    if half_width is not None and estimate.half_width > half_width:
        text += f"\nthe interval is still wider than {half_width:g} to each side: raise -n"
    emit(facts, text, as_json=as_json)


@click.command()
@_draw_options
@_law_options
@click.option(
    "--bin",
    "bin_texts",
    multiple=True,
    required=True,
    metavar="NAME=ROWSxCOLS[@PRICE]",
    help="A fabric that wafers sell as, best first; repeatable.",
)
@json_option
def bins(
    wafer_name: str,
    d0: float,
    alpha: float | None,
    bin_texts: tuple[str, ...],
    n: int,
    seed: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Which share of wafers sells as which fabric, each as the first of the bins that it can present."""
    from yieldkit.repair import RowShift, bin_yields

    wafer, law = _wafer(wafer_name), _law(d0, alpha)
    table = [_bin(text) for text in bin_texts]
    with _wafers_bar() as progress:
        found = bin_yields(wafer, law, RowShift.for_wafer(wafer), table, n=n, rng=seed, jobs=jobs, progress=progress)
    value, low, high = found.mean_price()
    price = {"mean_price": value, "mean_price_low": low, "mean_price_high": high}
    finite = {name: number if math.isfinite(number) else None for name, number in price.items()}
    _emit_table(found.to_frame(), {"n": n, "seed": seed, **finite}, as_json=as_json)


@click.command()
@click.argument("name")
@_draw_options
@json_option
def study(name: str, wafer_name: str, n: int, seed: int, jobs: int, as_json: bool) -> None:
    """A study of redundancy: NAME is spares, pools, reach or silicon."""
    from yieldkit.repair.studies import STUDIES

    if name not in STUDIES:
        raise BadInput("there is no such study", value=name, cure=f"there are {', '.join(STUDIES)}")
    table = STUDIES[name](_wafer(wafer_name), n=n, rng=seed, jobs=jobs)
    _emit_table(table, {"study": name, "n": n, "seed": seed}, as_json=as_json)


def _emit_table(table: Any, facts: dict[str, Any], *, as_json: bool) -> None:
    rows = [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]
    head = ", ".join(f"{name} {value}" for name, value in facts.items())
    text = table.to_string(index=False, na_rep="", float_format="{:.6g}".format)
    emit({**facts, "rows": rows}, f"{text}\n{head}", as_json=as_json)


def _knobs(texts: tuple[str, ...]) -> dict[str, list[Any]]:
    from yieldkit.repair.curves import KNOBS

    found: dict[str, list[Any]] = {}
    for text in texts:
        short, equals, values = text.partition("=")
        name = KNOBS.get(short.strip(), short.strip())
        if not equals or not values.strip():
            raise BadInput("--curve must be KNOB=VALUES", value=text, cure="e.g. --curve S=0:8 or --curve D0=0.05,0.1")
        if name in found:
            raise BadInput(f"--curve turns {name} twice", value=text)
        found[name] = _values(text, values, whole=name in _INTEGERS)
    return found


def _values(text: str, values: str, *, whole: bool) -> list[Any]:
    """Numbers of "0:8" (ends included), "0:36:4" or "0.05,0.1"."""
    number: Callable[[str], Any] = int if whole else float
    try:
        if ":" in values:
            start, stop, step = (int(part) for part in (values if values.count(":") > 1 else values + ":1").split(":"))
            if step < 1 or not 0 <= stop - start <= _MOST_VALUES * step:
                raise BadInput(f"a range of --curve must rise and have at most {_MOST_VALUES} steps", value=text)
            return [number(str(value)) for value in range(start, stop + 1, step)]
        return [number(part) for part in values.split(",")]
    except ValueError:
        kind = "integers" if whole else "numbers"
        raise BadInput(f"the values of --curve must be {kind}", value=text, cure="e.g. --curve S=0:8") from None


def _bin(text: str) -> FabricBin:
    from yieldkit.repair import FabricBin

    name, equals, rest = text.partition("=")
    shape, _, price = rest.partition("@")
    rows, cross, cols = shape.partition("x")
    try:
        worth = float(price) if "@" in rest else 1.0
    except ValueError:
        worth = math.nan
    if not (equals and cross and name and rows.isdecimal() and cols.isdecimal()) or not math.isfinite(worth):
        raise BadInput("--bin must be NAME=ROWSxCOLS or NAME=ROWSxCOLS@PRICE", value=text, cure="e.g. a=1170x755@1")
    return FabricBin(name, int(rows), int(cols), worth)
