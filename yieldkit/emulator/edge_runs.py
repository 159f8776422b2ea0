"""What MemoryX feeds a launch, as runs of data and control words without their values."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.host_words import inputs_of
from yieldkit.emulator.kernels.machine import ADVANCE, DATA, RESET
from yieldkit.quantities import NORTH, WEST
from yieldkit.workloads.program import Gemm, Launch, Program

__all__ = ["Run", "Runs", "edge_runs", "fed_runs", "join_runs"]

Run = tuple[int, int, int]
"""(data words, control word after them or 0, how often)."""
Runs = list[Run]


def join_runs(runs: Runs, run: Run) -> None:
    """Append a run to a stream; what belongs to the run before goes on there."""
    words, kind, times = run
    if kind == DATA:
        words, times = words * times, 1
        if words == 0:
            return
    if times == 0:
        return
    if runs and runs[-1][1] == DATA:
        open_words = runs.pop()[0]
        runs.append((open_words + words, kind, 1))
        if times > 1:
            runs.append((words, kind, times - 1))
    elif runs and runs[-1][:2] == (words, kind):
        runs[-1] = (words, kind, runs[-1][2] + times)
    else:
        runs.append((words, kind, times))


def edge_runs(program: Program, launch: Launch, withheld: Collection[str] = ()) -> dict[tuple[int, int, int], Runs]:
    """Streams of a launch by (core, port, colour), cores in row-major order; what `words_in` pushes, without values.

    Streams in `withheld` are not pushed.
    """
    streams: dict[tuple[int, int, int], Runs] = {}
    for r, c, port, colour, runs in fed_runs(program, launch, withheld):
        stream = streams.setdefault((r * program.cols + c, port, colour), [])
        for run in runs:
            join_runs(stream, run)
    return dict(sorted(streams.items()))


def fed_runs(
    program: Program, launch: Launch, withheld: Collection[str] = ()
) -> Iterator[tuple[int, int, int, int, Runs]]:
    """(r, c, port, colour, runs) of what MemoryX pushes, phase by phase."""
    rows, cols, table = program.rows, program.cols, program.table
    for phase in inputs_of(launch):
        if phase.stream in withheld:
            continue
        if isinstance(phase, Gemm):
            words = table[phase.x].dims[1] * cols * table[phase.y].dims[1]
            for c in range(cols):
                yield 0, c, NORTH, COLOUR_OF["column_multicast"], [(words, DATA, 1)]
            continue
        size = table[phase.tensor].size
        if phase.mode == "multicast_col":
            for c in range(cols):
                yield 0, c, NORTH, COLOUR_OF["column_multicast"], [(size, DATA, 1)]
            continue
        for r in range(rows):
            if phase.mode == "multicast_row":
                yield r, 0, WEST, COLOUR_OF["stream_multicast_row"], [(size, DATA, 1)]
            else:
                runs = [(size, ADVANCE, cols - 1), (size, RESET, 1)] if cols > 1 else [(size, RESET, 1)]
                yield r, 0, WEST, COLOUR_OF["stream_scatter"], runs
