"""A progress bar with the time left, for people at a terminal; nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

from yieldkit.burnin.runner import Progress

__all__ = ["clock", "show_progress"]


def show_progress(steps: Iterable[Progress], *, stream: TextIO | None = None) -> Iterator[Progress]:
    """Pass the steps of a run through, drawing a bar on `stream` (stderr) when it is a terminal."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield from steps
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    columns = (
        TextColumn("trials"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=11)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    )
    with Bar(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("trials", total=None, note="")
        for step in steps:
            bar.update(task, completed=step.done, total=step.limit, note=_note(step))
            yield step


def _note(step: Progress) -> str:
    top = ", ".join(f"{label} {count}" for label, count in list(step.tally.by_label().items())[:3])
    eta = "" if step.eta_s is None or step.finished else f"{clock(step.eta_s)} left, {step.rate_per_s:.3g}/s  "
    return eta + top


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, like 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
