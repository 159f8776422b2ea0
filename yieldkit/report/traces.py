"""Traces in reports: a `Trace` as a view of `ReportData`, a view as pictures and tables, and files of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from yieldkit.emulator.trace import WAIT_WORDS, Trace
from yieldkit.errors import BadInput
from yieldkit.files import write_bytes
from yieldkit.report.data import Note, Provenance, ReportData, Summary, TraceSection, TraceView
from yieldkit.report.packing import pack, unpack

__all__ = ["trace_of", "trace_view", "view_parts", "write_trace", "write_trace_report"]

FORMS: Final = ("html", "npz", "png", "svg")
_BINS: Final = 160
"""Bins of a view in a report."""
_BUSIEST: Final = 20


def trace_view(trace: Trace, *, name: str, text: str = "") -> TraceView:
    """A trace as part of a report, in at most 160 bins.

    Args:
        trace: of a launch.
        name: what the run was.
        text: a sentence on what is to be seen.
    """
    trace = trace.coarser(_BINS)
    cores = np.stack([trace.busy, trace.starved, trace.blocked], axis=-1)
    return TraceView(
        name=name,
        text=text,
        launch=trace.launch,
        rows=trace.rows,
        cols=trace.cols,
        bins=trace.bins,
        bin_cycles=trace.bin_cycles,
        cycles=trace.cycles,
        completed=trace.completed,
        waiting=trace.waiting,
        hops=pack(trace.hops, "int32"),
        cores=pack(cores, "int32"),
    )


def trace_of(view: TraceView) -> Trace:
    """The trace that a view holds."""
    shape = (view.bins, view.rows, view.cols)
    size = view.bins * view.rows * view.cols
    hops = unpack(view.hops, (size, 5), "int32").astype(np.int32).reshape(*shape, 5)
    cores = unpack(view.cores, (size, 3), "int32").astype(np.int32).reshape(*shape, 3)
    return Trace(
        view.launch, view.rows, view.cols, view.bin_cycles, view.cycles, hops,
        cores[..., 0], cores[..., 1], cores[..., 2], completed=view.completed, waiting=view.waiting,
    )  # fmt: skip


def view_parts(view: TraceView, number: int) -> dict[str, Any]:
    """Pictures (SVG text, caption) and table rows of one view; `number` keeps its ids apart from other views'."""
    from yieldkit.report import figures
    from yieldkit.report.figures_trace import panels

    trace = trace_of(view)
    drawn = [
        (
            figures.render(
                draw, name=f"trace{number}-{name}", width=8.6, height=height, title=f"{view.name}: {caption}"
            ),
            caption,
        )
        for name, draw, height, caption in panels(trace)
    ]
    waiting = [
        (r, c, WAIT_WORDS[state], task, colour if colour >= 0 else None, cycle)
        for cycle, (r, c, state, task, colour) in trace.first_waiting(len(trace.waiting))
    ]
    return {
        "name": view.name,
        "text": view.text,
        "summary": trace.summary[0].upper() + trace.summary[1:],
        "figures": drawn,
        "waiting": waiting,
        "links": busiest_links(trace),
    }


def busiest_links(trace: Trace) -> list[tuple[int, int, str, int, float]]:
    """(row, column, port, words, words a cycle) of the links that carried most, busiest first."""
    words = trace.hops[..., :4].sum(axis=0, dtype=np.int64)
    order = np.argsort(-words.reshape(-1), kind="stable")[:_BUSIEST]
    rows = []
    for flat in order:
        r, c, port = (int(i) for i in np.unravel_index(int(flat), words.shape))
        count = int(words[r, c, port])
        if count:
            rows.append((r, c, "NESW"[port], count, round(count / max(1, trace.cycles), 4)))
    return rows


def write_trace_report(
    traces: Trace | Sequence[tuple[str, Trace]], path: str | Path, *, title: str = "", command: str = ""
) -> Path:
    """Write traces as one self-contained HTML page.

    Args:
        traces: a trace, or several with their names.
        path: the file to write.
        title: of the page.
        command: what reproduces it.

    Raises:
        BadInput: there is no trace.
        BadFile: the file cannot be written.
    """
    from yieldkit.report.write import write_report

    named = [(f"launch {traces.launch}", traces)] if isinstance(traces, Trace) else list(traces)
    if not named:
        raise BadInput("a trace report needs at least one trace")
    # As coarse as the pictures, so that all parts of the page name the same cycles.
    named = [(name, trace.coarser(_BINS)) for name, trace in named]
    data = ReportData(
        title=title or f"yieldkit: {named[0][1].summary}",
        summary=Summary(
            verdicts=tuple(
                Note(
                    text=trace.summary if trace.summary.startswith(name) else f"{name}: {trace.summary}",
                    status="good" if trace.completed else "bad",
                )
                for name, trace in named
            )
        ),
        traces=TraceSection(views=tuple(trace_view(trace, name=name) for name, trace in named)),
        provenance=Provenance(command=command),
    )
    return write_report(data, path)


def write_trace(trace: Trace, path: str | Path, *, command: str = "") -> Path:
    """Write a trace in the form that the name of the file asks for: .png or .svg picture, .html page, .npz data.

    Raises:
        BadInput: another ending.
        BadFile: the file cannot be written.
    """
    form = Path(path).suffix.lower().removeprefix(".")
    if form not in FORMS:
        raise BadInput("a trace is written as " + ", ".join(f".{name}" for name in FORMS), value=str(path))
    if form == "npz":
        return trace.save(path)
    if form == "html":
        return write_trace_report(trace, path, command=command)
    from yieldkit.report.figures_trace import picture

    return write_bytes(path, picture(trace, form))
