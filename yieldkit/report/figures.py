"""Charts: matplotlib axes in, the same axes out. `render` turns one into SVG text whose bytes repeat.

The SVG carries no style attributes and no style element, so that a page may forbid inline styles; ids are prefixed,
so that several figures share a page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "draw_displacement", "draw_losses", "draw_outcomes", "draw_training", "draw_yields", "render"]

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
"""Okabe-Ito."""
_REACH: Final = 1.0
"""How far above the golden losses an axis goes, in their range."""
_DASHES: Final = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
_HATCHES: Final = ("", "//", "..", "xx", "\\\\", "--", "++", "oo")
_GREY: Final = "#555555"
SETTINGS: Final[Any] = {
    "svg.hashsalt": "yieldkit",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "axes.unicode_minus": False,
}
"""What matplotlib draws every chart with."""


def _plain(axes: Axes) -> Axes:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def draw_training(
    axes: Axes,
    loss: Sequence[float | None],
    *,
    references: Sequence[tuple[str, float]] = (),
    held_out: Sequence[tuple[int, float]] = (),
    unit: str = "nats",
) -> Axes:
    """Training loss per step, held-out loss as points, reference tables as dashed lines named at their right end."""
    _plain(axes)
    steps = max(len(loss), 1 + max((step for step, _ in held_out), default=0), 2)
    values = np.array([np.nan if value is None else value for value in loss], dtype=float)
    axes.plot(np.arange(len(values)), values, color=COLOURS[0], linewidth=1.2, label="training batch")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "D", color=COLOURS[1], markersize=5, label="held-out text")
    placed: list[float] = []
    span = max([value for _, value in references] + [np.nanmax(values, initial=0.0)]) or 1.0
    for index, (name, value) in enumerate(sorted(references, key=lambda item: -item[1])):
        axes.axhline(value, color=_GREY, linewidth=1.0, linestyle=_DASHES[1 + index % 3])
        height = min([value, *(other - 0.055 * span for other in placed)])
        placed.append(height)
        axes.annotate(
            f"{name} {value:.3f}",
            (1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlim(0, steps - 1)
    axes.set_xlabel("step")
    axes.set_ylabel(unit)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=8)
    return axes


def draw_losses(
    axes: Axes, golden: Sequence[float | None], curves: Sequence[tuple[str, Sequence[float | None]]], *, unit: str = ""
) -> Axes:
    """Losses of trials beside the golden one; a cross marks the last finite value before a non-finite one.

    The axis follows the golden run; where a curve leaves it there is a triangle, and its largest value by its name.
    """
    _plain(axes)
    clean = _floats(golden)
    known = clean[np.isfinite(clean)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    reach = _REACH * (high - low)
    far = False
    axes.plot(np.arange(len(golden)), _floats(golden), color="#000000", linewidth=2.4, alpha=0.35, label="golden")
    for index, (name, loss) in enumerate(curves):
        values = _floats(loss)
        colour, dash = COLOURS[index % 6], _DASHES[index % len(_DASHES)]
        away = np.flatnonzero(values > high + reach) if reach > 0 else np.zeros(0, np.int64)
        if away.size:
            far = True
            name = f"{name} (up to {np.nanmax(values[away]):.2g})"
            axes.plot(away, np.full(away.size, high + reach), "^", color=colour, markersize=7, clip_on=False)
        axes.plot(np.arange(len(values)), values, color=colour, linewidth=1.3, linestyle=dash, label=name)
        broken = np.flatnonzero(np.isnan(values))
        if broken.size and broken[0] > 0:
            axes.plot([broken[0] - 1], [values[broken[0] - 1]], "x", color=colour, markersize=8, markeredgewidth=2)
    if far:
        axes.set_ylim(low - 0.1 * reach, high + reach)
    axes.set_xlabel("step")
    axes.set_ylabel(unit)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)
    return axes


def draw_yields(axes: Axes, rows: Sequence[tuple[str, float, float | None, float | None]]) -> Axes:
    """Yields as points, one line each: (name, value, low, high); closed forms have no interval and an open marker."""
    _plain(axes)
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
    for place, (_, value, low, high) in enumerate(rows):
        if low is None or high is None:
            axes.plot([100 * value], [place], "o", markerfacecolor="white", markeredgecolor=COLOURS[0], markersize=7)
        else:
            axes.plot([100 * low, 100 * high], [place, place], color=COLOURS[1], linewidth=2.2)
            axes.plot([100 * value], [place], "s", color=COLOURS[1], markersize=6)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("yield, %")
    return axes


def draw_outcomes(axes: Axes, counts: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> Axes:
    """Share of each outcome per kind of fault, stacked; colour and hatch both tell them apart."""
    _plain(axes)
    axes.grid(visible=False)
    names = list(counts)
    left = np.zeros(len(names))
    totals = np.array([max(1, sum(counts[name].values())) for name in names], dtype=float)
    for index, label in enumerate(labels):
        share = 100 * np.array([counts[name].get(label, 0) for name in names]) / totals
        axes.barh(
            np.arange(len(names)),
            share,
            left=left,
            height=0.62,
            color=COLOURS[index % len(COLOURS)],
            hatch=_HATCHES[(index + index // len(COLOURS)) % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.8,
            label=label,
        )
        left += share
    axes.set_yticks(range(len(names)), [f"{name} (n = {sum(counts[name].values())})" for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of trials, %")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)
    return axes


def draw_displacement(axes: Axes, displacement: npt.NDArray[Any], *, aspect: float = 1.0) -> Axes:
    """How far each logical core sits from its nominal column, in columns; cividis."""
    low, high = int(displacement.min()), int(displacement.max())
    image = axes.imshow(
        displacement, cmap="cividis", vmin=low, vmax=max(high, low + 1), interpolation="nearest", aspect=aspect
    )
    axes.set_xlabel("logical column")
    axes.set_ylabel("logical row")
    figure = axes.get_figure()
    if figure is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.85)
        bar.set_label("columns from the nominal place")
        bar.locator = _whole_numbers()
        bar.update_ticks()
    return axes


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, nbins=6)


def _floats(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def render(draw: Callable[[Axes], object], *, name: str, width: float, height: float, title: str) -> str:
    """SVG of one chart.

    Args:
        draw: puts the chart on the axes it is given.
        name: prefix of all ids.
        width: inches.
        height: inches.
        title: text alternative.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _embedded(buffer.getvalue(), name, title)


def _embedded(text: str, name: str, title: str) -> str:
    from html import escape

    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r' style="([^"]*)"', _attributes, text)
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    head = f'<svg role="img" aria-label="{escape(title)}" class="chart" '
    return text.replace("<svg ", head, 1).strip()


def _attributes(match: re.Match[str]) -> str:
    """`style="a: b"` as presentation attributes; the font shorthand is taken apart, as it has no attribute."""
    made: list[str] = []
    for item in match.group(1).split(";"):
        if not item.strip():
            continue
        key, _, value = item.partition(":")
        key, value = key.strip(), value.strip().replace("&quot;", "'").replace('"', "'")
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            made.append(f'font-size="{size.group(1) if size else 10}"')
            if "bold" in value or re.search(r"\b700\b", value):
                made.append('font-weight="bold"')
        elif key == "image-rendering" or not key.startswith(("font-family", "mix-blend")):
            made.append(f'{key}="{value}"')
    return " " + " ".join(made) if made else ""
