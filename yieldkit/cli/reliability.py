"""`yieldkit reliability`: intervals for what was counted."""

from __future__ import annotations

import click

from yieldkit.cli import emit, json_option

__all__ = ["command"]


@click.group()
def command() -> None:
    """Intervals for what was counted."""


@command.command("interval")
@click.argument("successes", type=click.IntRange(min=0))
@click.argument("trials", type=click.IntRange(min=1))
@click.option(
    "--confidence", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.95, show_default=True
)
@json_option
def interval(successes: int, trials: int, confidence: float, *, as_json: bool) -> None:
    """Wilson and Clopper-Pearson intervals of a proportion."""
    from yieldkit.errors import BadInput
    from yieldkit.reliability import clopper_pearson_interval, wilson_interval

    if successes > trials:
        raise BadInput("there cannot be more successes than trials", value=(successes, trials))
    facts: dict[str, float | int] = {"successes": successes, "trials": trials, "confidence": confidence}
    lines = [f"{successes} of {trials}: {successes / trials:.6g}, two-sided at {confidence:g}"]
    for name, method in (("wilson", wilson_interval), ("clopper_pearson", clopper_pearson_interval)):
        low, high = (float(bound) for bound in method(successes, trials, confidence=confidence))
        facts |= {f"{name}_low": low, f"{name}_high": high}
        lines.append(f"  {name:<16} {low:.7f} to {high:.7f}")
    emit(facts, "\n".join(lines), as_json=as_json)
