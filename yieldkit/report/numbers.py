"""Numbers as people read them: a rate is never printed as 0 % or 100 % unless it is exactly that."""

from __future__ import annotations

import math

__all__ = ["number", "percent", "scalar", "seconds"]


def percent(fraction: float, *, digits: int = 1) -> str:
    """A fraction as percent, e.g. "12.5 %", "< 0.1 %", "> 99.9 %"."""
    if not math.isfinite(fraction):
        return "not known"
    step = 10.0**-digits
    value = 100.0 * fraction
    text = f"{value:.{digits}f}"
    if fraction > 0 and float(text) <= 0:
        return f"< {step:.{digits}f} %"
    if fraction < 1 and float(text) >= 100:
        return f"> {100 - step:.{digits}f} %"
    return f"{text} %" if fraction not in (0, 1) else f"{value:.0f} %"


def number(value: float | int) -> str:
    """Thousands separated by a thin space, floats to five significant digits."""
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e15:
        return number(int(value))
    return f"{value:.5g}"


def seconds(value: float) -> str:
    """A duration with a unit that fits."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.0f} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def scalar(value: bool | int | float | str | None) -> str:
    """Any cell of a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else number(value)
