"""Pictures of a trace: matplotlib axes in, the same axes out. What moves is bright, what waits has a hatch.

Time is in cycles. A launch in which nothing moves any more gets a strip at its end where the cores that still wait keep
their state, and the first of them are marked.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.trace import CORE_STATES, WAIT_WORDS
from yieldkit.errors import BadInput
from yieldkit.quantities import EAST, NORTH, SOUTH, WEST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from yieldkit.emulator.trace import Trace

__all__ = ["STATE_LOOKS", "draw_cores", "draw_link_map", "draw_links", "draw_shares", "trace_figure"]

STATE_LOOKS: Final[dict[str, tuple[str, str]]] = {
    "busy": ("#0072b2", ""),
    "starved": ("#f0e442", "..."),
    "blocked": ("#d55e00", "////"),
    "idle": ("#ffffff", ""),
}
"""Colour (Okabe-Ito) and hatch of each state of a core."""
NAMES: Final = {
    "busy": "busy",
    "starved": "starved: waits for a word",
    "blocked": "blocked: waits for room",
    "idle": "idle: ended, halted or not started",
}
_SIGNS: Final = {"busy": "s", "starved": "v", "blocked": "X", "idle": "."}
_INK: Final = "#1b2026"
_SHADES: Final = ("#dfe4e9", "#56b4e9", "#0072b2", "#002b49")
"""Of a link from idle to full."""
_PORTS: Final = {"N": NORTH, "E": EAST, "S": SOUTH, "W": WEST}
_PORT_NAMES: Final = {"N": "northward", "E": "eastward", "S": "southward", "W": "westward"}
_STRIP: Final = 0.1
"""Width of the strip after a stall, as a share of the launch."""
_LINES: Final = 256
_DRAWN_LINKS: Final = 8192
_VECTORS: Final = 2000
"""Links above which a map is an image inside its picture."""
_BARS: Final = 64
"""Cores that get a line each where no row or column is chosen."""


def _cores_of(trace: Trace, row: int | None, col: int | None) -> list[tuple[int, int]]:
    """Cores of a row or a column, or all of them row by row."""
    for name, chosen, extent in (("row", row, trace.rows), ("col", col, trace.cols)):
        if chosen is not None and not 0 <= chosen < extent:
            raise BadInput(f"the trace has {extent} {name}s", value=chosen)
    rows = range(trace.rows) if row is None else (row,)
    cols = range(trace.cols) if col is None else (col,)
    return [(r, c) for r in rows for c in cols]


def _strip(trace: Trace) -> float:
    """Where the time axis ends."""
    return trace.cycles if trace.completed else trace.cycles * (1 + _STRIP) + 1


def _label_cores(axes: Axes, cores: Sequence[tuple[int, int]], row: int | None, col: int | None) -> None:
    step = max(1, -(-len(cores) // 16))
    places = range(0, len(cores), step)
    if row is not None and col is None:
        axes.set_ylabel(f"column of row {row}")
        names = [str(cores[place][1]) for place in places]
    elif col is not None and row is None:
        axes.set_ylabel(f"row of column {col}")
        names = [str(cores[place][0]) for place in places]
    else:
        axes.set_ylabel("core (row, column)")
        names = [f"({cores[place][0]}, {cores[place][1]})" for place in places]
    axes.set_yticks(list(places), names)


def _end_of_motion(axes: Axes, trace: Trace, *, colour: str = _INK) -> None:
    """The line after which nothing moves."""
    if trace.completed:
        return
    axes.axvline(trace.cycles, color=colour, linewidth=1.4, linestyle=(0, (4, 2)))
    axes.annotate(
        f"nothing moves after cycle {trace.cycles}",
        (trace.cycles, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 4),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
        fontweight="bold",
    )


def _mark_first(axes: Axes, trace: Trace, cores: Sequence[tuple[int, int]], count: int) -> None:
    """Point at the cores that were the first to stop for good."""
    place = {core: index for index, core in enumerate(cores)}
    marked = [(cycle, wait) for cycle, wait in trace.first_waiting(count) if wait[:2] in place]
    texts = []
    for number, (cycle, (r, c, state, _, colour)) in enumerate(marked, 1):
        axes.plot(
            [cycle], [place[r, c]], ">", color=_INK, markeredgecolor="white", markeredgewidth=1.2, markersize=10,
            zorder=6, clip_on=False,
        )  # fmt: skip
        axes.annotate(
            str(number), (cycle, place[r, c]), xytext=(-8 - 12 * (number - 1), 0),
            textcoords="offset points", ha="right", va="center", fontsize=8, fontweight="bold", zorder=7,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": _INK, "linewidth": 0.7},
        )  # fmt: skip
        on = f", colour {colour}" if colour >= 0 else ""
        texts.append(f"{number}: core ({r}, {c}) {WAIT_WORDS[state]} since cycle {cycle}{on}")
    if texts:
        axes.set_xlabel("\n".join(["cycle", "first to wait for good:", *texts]), loc="left")


def _blocks(rectangles: Sequence[tuple[float, float, float]], height: float) -> Any:
    """One path of many rectangles (left, right, middle), so that a state is one element of the picture."""
    from matplotlib.path import Path

    count = len(rectangles)
    corners = np.zeros((count, 5, 2))
    spans = np.array(rectangles, dtype=float).reshape(count, 3)
    left, right, low, high = spans[:, 0], spans[:, 1], spans[:, 2] - height / 2, spans[:, 2] + height / 2
    for corner, (x, y) in enumerate(((left, low), (left, high), (right, high), (right, low), (left, low))):
        corners[:, corner, 0], corners[:, corner, 1] = x, y
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], count)
    return Path(corners.reshape(-1, 2), codes)


def draw_cores(
    axes: Axes, trace: Trace, *, row: int | None = None, col: int | None = None, first: int = 3, legend: bool = True
) -> Axes:
    """What each core mostly did in each bin, one line a core; colour and hatch both tell the states apart.

    Args:
        axes: to draw on.
        trace: of a launch.
        row: cores of this row only.
        col: cores of this column only.
        first: how many of the cores that were the first to wait for good are marked.
        legend: draw the legend above the picture.

    Raises:
        BadInput: the trace has no such row or column.
    """
    from matplotlib.patches import PathPatch

    cores = _cores_of(trace, row, col)
    states, edges = trace.states, trace.edges
    bars: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CORE_STATES}
    for place, (r, c) in enumerate(cores):
        line = states[:, r, c]
        starts = np.flatnonzero(np.r_[True, line[1:] != line[:-1]])
        ends = np.r_[starts[1:], len(line)]
        for begin, end in zip(starts, ends, strict=True):
            bars[CORE_STATES[line[begin]]].append((edges[begin], edges[end], place))
    for r, c, state, _, _ in trace.waiting:
        if (r, c) in cores and WAIT_WORDS[state] in bars:
            bars[WAIT_WORDS[state]].append((trace.cycles, _strip(trace), cores.index((r, c))))
    height = 0.86 if len(cores) <= 24 else 1.0
    for name, rectangles in bars.items():
        if rectangles and name != "idle":
            colour, hatch = STATE_LOOKS[name]
            patch = PathPatch(_blocks(rectangles, height), facecolor=colour, hatch=hatch, edgecolor=_INK, linewidth=0)
            axes.add_patch(patch)
    axes.set_xlim(0, _strip(trace))
    axes.set_ylim(len(cores) - 0.5, -0.5)
    axes.set_xlabel("cycle")
    _label_cores(axes, cores, row, col)
    _end_of_motion(axes, trace)
    if first:
        _mark_first(axes, trace, cores, first)
    if legend:
        state_legend(axes)
    return axes


def draw_shares(axes: Axes, trace: Trace, *, legend: bool = True) -> Axes:
    """How many cores were in each state over time, stacked: for fabrics with too many cores for a line each."""
    counts = np.stack([(trace.states == code).sum(axis=(1, 2)) for code in range(len(CORE_STATES))])
    edges = trace.edges.astype(float)
    if not trace.completed:
        held = [sum(WAIT_WORDS[wait[2]] == name for wait in trace.waiting) for name in CORE_STATES]
        held[-1] += trace.rows * trace.cols - sum(held)
        counts = np.concatenate([counts, np.array(held)[:, None]], axis=1)
        edges = np.r_[edges[:-1], float(trace.cycles), _strip(trace)]
    low = np.zeros(counts.shape[1])
    for name in ("blocked", "starved", "busy"):
        high = low + counts[CORE_STATES.index(name)]
        colour, hatch = STATE_LOOKS[name]
        axes.fill_between(
            np.repeat(edges, 2)[1:-1], np.repeat(low, 2), np.repeat(high, 2), facecolor=colour, hatch=hatch,
            edgecolor=_INK, linewidth=0,
        )  # fmt: skip
        low = high
    axes.set_xlim(0, _strip(trace))
    axes.set_ylim(0, trace.rows * trace.cols)
    axes.set_xlabel("cycle")
    axes.set_ylabel("cores")
    _end_of_motion(axes, trace)
    if legend:
        state_legend(axes)
    return axes


def state_legend(axes: Axes) -> None:
    """Names of the states above the picture, flush left."""
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=_INK, linewidth=0.6, label=NAMES[name])
        for name, (colour, hatch) in STATE_LOOKS.items()
    ]
    axes.legend(
        handles=patches, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False, fontsize=8,
        borderaxespad=2.0, borderpad=0.0, handlelength=2.2,
    )  # fmt: skip


def links_of(
    trace: Trace, port: str | None, row: int | None, col: int | None
) -> tuple[npt.NDArray[np.float64], list[tuple[int, int]]]:
    """Words a cycle, float64[links, bins], and the cores that the links leave from.

    Links east and west come row by row, links north and south column by column, so that a path along them is one
    stretch; `port` None adds up the four links of a core.
    """
    if port is not None and port not in _PORT_NAMES:
        raise BadInput("port must be N, E, S or W", value=port)
    cores = _cores_of(trace, row, col)
    if port in ("N", "S") and row is None:
        cores = sorted(cores, key=lambda core: (core[1], core[0]))
    occupancy = trace.occupancy
    whole = occupancy[..., :4].sum(axis=3) if port is None else occupancy[..., _PORTS[port]]
    index = np.array(cores)
    return whole[:, index[:, 0], index[:, 1]].T, cores


def draw_links(
    axes: Axes, trace: Trace, port: str | None = None, *, row: int | None = None, col: int | None = None
) -> Axes:
    """Space and time: how many words a cycle left on each link; bright links move words, dark ones stand still.

    Args:
        axes: to draw on.
        trace: of a launch.
        port: "N", "E", "S" or "W": links that way; None adds up the four links that leave a core.
        row: links of this row only.
        col: links of this column only; without row and column all links are drawn (more than 256 are averaged).

    Raises:
        BadInput: unknown port, or the trace has no such row or column.
    """
    values, cores = links_of(trace, port, row, col)
    step = -(-len(values) // _LINES)
    if step > 1:
        starts = np.arange(0, len(values), step)
        counts = np.diff(np.r_[starts, len(values)])
        values = np.add.reduceat(values, starts, axis=0) / counts[:, None]
        cores = [cores[start] for start in starts]
    edges = trace.edges.astype(float)
    if not trace.completed:
        values = np.concatenate([values, np.zeros((len(values), 1))], axis=1)
        edges = np.r_[edges[:-1], float(trace.cycles), _strip(trace)]
    top = 1.0 if port is not None else max(1.0, float(values.max(initial=0.0)))
    image = axes.pcolormesh(
        edges, np.arange(len(cores) + 1) - 0.5, values, cmap="cividis", vmin=0.0, vmax=top, rasterized=True
    )
    axes.set_ylim(len(cores) - 0.5, -0.5)
    axes.set_xlim(0, edges[-1])
    axes.set_xlabel("cycle")
    _label_cores(axes, cores, row, col)
    way = _PORT_NAMES.get(port or "", "all")
    each = f", mean of {step} links a line" if step > 1 else ""
    axes.set_title(f"{way} links{each}", fontsize=9, loc="left")
    _end_of_motion(axes, trace, colour="white")
    figure = axes.get_figure()
    if figure is not None:
        bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=14)
        bar.set_label("words a cycle", fontsize=8)
    return axes


def draw_link_map(axes: Axes, trace: Trace, bin_: int, *, first: int = 3, legend: bool = True) -> Axes:
    """The fabric in one bin: cores as squares by state, links as lines whose width and shade say words a cycle.

    Args:
        axes: to draw on.
        trace: of a launch.
        bin_: which bin; negative ones count from the end.
        first: how many of the cores that were the first to wait for good are ringed.
        legend: draw the legend below the map.

    Raises:
        BadInput: the trace has no such bin.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    if not -trace.bins <= bin_ < trace.bins:
        raise BadInput(f"the trace has {trace.bins} bins", value=bin_)
    bin_ %= trace.bins
    states, occupancy, edges = trace.states[bin_], trace.occupancy[bin_], trace.edges
    many = trace.rows * trace.cols > _DRAWN_LINKS // 4
    points = _core_points(axes, (trace.rows, trace.cols))
    if not many:
        lines, strengths = _link_lines(trace, occupancy)
        drawn = LineCollection(
            list(lines),
            array=strengths,
            cmap=LinearSegmentedColormap.from_list("links", _SHADES),
            linewidths=0.6 + points * 0.13 * strengths,
            capstyle="butt",
            zorder=2,
            rasterized=len(lines) > _VECTORS,
        )
        drawn.set_clim(0.0, 1.0)
        axes.add_collection(drawn)
        figure = axes.get_figure()
        if figure is not None:
            bar = figure.colorbar(drawn, ax=axes, pad=0.02, aspect=24, shrink=0.85)
            bar.set_label("words a cycle on a link", fontsize=8)
    for code, name in enumerate(CORE_STATES):
        where = np.argwhere(states == code)
        if where.size:
            _squares(axes, where, name, points, signs=not many)
    for number, (_, (r, c, *_)) in enumerate(trace.first_waiting(first), 1):
        ring: dict[str, Any] = {"marker": "s", "markersize": max(9.0, 0.82 * points), "markerfacecolor": "none"}
        axes.plot([c], [r], **ring, markeredgecolor="white", markeredgewidth=4.5, zorder=5)
        axes.plot([c], [r], **ring, markeredgecolor=_INK, markeredgewidth=2.2, zorder=6)
        axes.annotate(
            str(number), (c, r), xytext=(0.42 * points, 0.42 * points), textcoords="offset points", fontsize=8,
            fontweight="bold", ha="center", va="center", zorder=7,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": _INK, "linewidth": 0.7},
        )  # fmt: skip
    axes.set_xlim(-0.75, trace.cols - 0.25)
    axes.set_ylim(trace.rows - 0.25, -0.75)
    axes.set_aspect("equal")
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    for axis, extent in ((axes.xaxis, trace.cols), (axes.yaxis, trace.rows)):
        axis.set_ticks(range(0, extent, max(1, -(-extent // 16))))
    axes.set_title(f"cycles {edges[bin_]} to {edges[bin_ + 1]}", fontsize=9, loc="left")
    if legend:
        _sign_legend(axes)
    return axes


def _core_points(axes: Axes, shape: tuple[int, int]) -> float:
    """Points from one core to the next, roughly: the drawing may still be laid out."""
    figure = axes.get_figure(root=True)
    width, height = figure.get_size_inches() if figure is not None else (6.0, 6.0)
    box = axes.get_position()
    return float(min(72 * 0.8 * width * box.width / shape[1], 72 * 0.8 * height * box.height / shape[0]))


def _link_lines(
    trace: Trace, occupancy: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Segments between neighbouring cores, the two ways side by side: float64[links, 2, 2] as (x, y), strengths."""
    lines, strengths = [], []
    step = {"N": (-1, 0), "E": (0, 1), "S": (1, 0), "W": (0, -1)}
    # Traffic keeps to the right of its own way, so that opposite links lie side by side.
    for name, (down, right) in step.items():
        values = occupancy[..., _PORTS[name]]
        for r in range(max(0, -down), trace.rows - max(0, down)):
            for c in range(max(0, -right), trace.cols - max(0, right)):
                x, y = c - 0.16 * down, r + 0.16 * right
                lines.append(((x, y), (x + right, y + down)))
                strengths.append(values[r, c])
    if not lines:
        return np.zeros((0, 2, 2)), np.zeros(0)
    order = np.argsort(strengths, kind="stable")
    return np.array(lines, dtype=float)[order], np.array(strengths)[order]


def _squares(axes: Axes, where: npt.NDArray[np.intp], name: str, points: float, *, signs: bool) -> None:
    colour, _ = STATE_LOOKS[name]
    size = (0.52 * points if signs else 0.95 * points) ** 2
    axes.scatter(
        where[:, 1], where[:, 0], s=size, marker="s", facecolor=colour, edgecolor=_INK if signs else "none",
        linewidth=0.6, zorder=3, rasterized=not signs,
    )  # fmt: skip
    if signs and name in ("starved", "blocked"):
        axes.scatter(
            where[:, 1], where[:, 0], s=0.3 * size, marker=_SIGNS[name], facecolor=_INK, edgecolor="none", zorder=4
        )


def _sign_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for name, (colour, _) in STATE_LOOKS.items():
        square = Line2D(
            [], [], marker="s", linestyle="", markersize=10, markerfacecolor=colour, markeredgecolor=_INK,
            markeredgewidth=0.6,
        )  # fmt: skip
        sign = Line2D(
            [], [], marker=_SIGNS[name] if name in ("starved", "blocked") else "", linestyle="", markersize=5,
            color=_INK,
        )  # fmt: skip
        handles.append((square, sign))
    axes.legend(
        handles, [NAMES[name].split(":")[0] for name in STATE_LOOKS], loc="lower left", bbox_to_anchor=(0.0, 1.0),
        ncols=4, frameon=False, fontsize=8, borderaxespad=2.2, borderpad=0.0, handletextpad=0.3,
    )  # fmt: skip


Panel = tuple[str, Callable[["Axes"], "Axes"], float, str]
"""(name, what draws it, height in inches, caption) of one picture of a trace."""


def panels(trace: Trace) -> list[Panel]:
    """The pictures that show one launch: cores over time, the links of most interest, the fabric at a moment.

    In a launch that stopped they show the row and column of the first core that waited for good, and the fabric as it
    stood when nothing moved any more; otherwise the busiest ones, and the fabric when most words were under way.
    """
    (r, c), moment = _focus(trace)
    made: list[Panel] = []
    cores = trace.rows * trace.cols
    if cores <= _BARS:
        made.append(("cores", lambda axes: draw_cores(axes, trace), 1.6 + min(4.5, 0.085 * cores), "Cores over time."))
    else:
        made.append(("shares", lambda axes: draw_shares(axes, trace), 2.6, "Cores in each state over time."))
        text = f"Cores of row {r} over time."
        height = 1.6 + min(4.5, 0.085 * trace.cols)
        made.append(("cores", lambda axes: draw_cores(axes, trace, row=r, legend=False), height, text))
    totals = trace.hops.sum(axis=(0, 1, 2), dtype=np.int64)
    for port in sorted(_PORTS, key=lambda name: -totals[_PORTS[name]])[:2]:
        if not totals[_PORTS[port]]:
            continue
        line = {"row": r} if port in "EW" else {"col": c}
        line = line if cores > _BARS else {}
        made.append((f"links_{port}", _links_drawer(trace, port, line), 2.5, "Words on links: bright is busy."))
    height = 1.3 + 4.6 * min(1.2, max(0.3, trace.rows / trace.cols))
    made.append(("map", lambda axes: draw_link_map(axes, trace, moment), height, "The fabric at one moment."))
    return made


def _links_drawer(trace: Trace, port: str, line: dict[str, int]) -> Callable[[Axes], Axes]:
    return lambda axes: draw_links(axes, trace, port, row=line.get("row"), col=line.get("col"))


def _focus(trace: Trace) -> tuple[tuple[int, int], int]:
    """The core and the bin to look at."""
    first = trace.first_waiting(1)
    if first:
        return first[0][1][:2], trace.bins - 1
    words = trace.hops[..., :4].sum(axis=(0, 3), dtype=np.int64)
    busiest = np.unravel_index(int(words.argmax()), words.shape)
    return (int(busiest[0]), int(busiest[1])), int(trace.hops[..., :4].sum(axis=(1, 2, 3), dtype=np.int64).argmax())


def trace_figure(trace: Trace, *, bins: int = 240) -> Figure:
    """All pictures of a trace on one sheet.

    Args:
        trace: of a launch.
        bins: bins to show; neighbouring ones are added up.
    """
    from matplotlib.figure import Figure

    trace = trace.coarser(bins)
    parts = panels(trace)
    heights = [height for _, _, height, _ in parts]
    figure = Figure(figsize=(9.0, 0.5 + sum(heights)), layout="constrained")
    for axes, (_, draw, _, _) in zip(
        figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0], parts, strict=True
    ):
        draw(axes)
    figure.suptitle(trace.summary, fontsize=10, x=0.01, ha="left")
    return figure


def picture(trace: Trace, form: str) -> bytes:
    """`trace_figure` as "png" or "svg"; equal traces give equal bytes."""
    import matplotlib

    from yieldkit.report.figures import SETTINGS

    empty: dict[str, Any] = {
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "png": {"Software": None},
    }[form]
    with matplotlib.rc_context(SETTINGS):
        buffer = io.BytesIO()
        trace_figure(trace).savefig(buffer, format=form, dpi=130, metadata=empty)
    return buffer.getvalue()
