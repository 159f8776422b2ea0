"""Traces made by hand: words run east along every row; in one of them a core stops passing them on."""

from __future__ import annotations

import numpy as np

from yieldkit.emulator.trace import Trace
from yieldkit.quantities import EAST, RAMP

__all__ = ["clean_trace", "empty_trace", "stalled_trace"]


def empty_trace(rows: int, cols: int, bins: int, *, bin_cycles: int = 10, cycles: int | None = None) -> Trace:
    """Nobody does anything."""
    core = np.zeros((bins, rows, cols), np.int32)
    hops = np.zeros((bins, rows, cols, 5), np.int32)
    cycles = bins * bin_cycles if cycles is None else cycles
    return Trace("flow", rows, cols, bin_cycles, cycles, hops, core, core.copy(), core.copy())


def clean_trace(rows: int = 4, cols: int = 6, bins: int = 20) -> Trace:
    """Core c of each row starves until bin c, then passes words on for 8 bins and ends."""
    trace = empty_trace(rows, cols, bins)
    for c in range(cols):
        trace.starved[:c, :, c] = 10
        trace.busy[c : c + 8, :, c] = 10
        trace.hops[c : c + 8, :, c, RAMP] = 9
        if c < cols - 1:
            trace.hops[c : c + 8, :, c, EAST] = 9
    return trace


def stalled_trace(rows: int = 4, cols: int = 6, bins: int = 20, *, core: tuple[int, int] = (1, 3)) -> Trace:
    """Core `core` gets no word after bin 6: those before it on its row are blocked, those after it starve."""
    trace = clean_trace(rows, cols, bins)
    r, c = core
    trace.busy[6:, r] = trace.starved[6:, r] = trace.hops[6:, r] = 0
    trace.starved[6:, r, c:] = 10
    trace.blocked[6 + 1 :, r, :c] = 10
    trace.busy[6, r, :c] = 10
    trace.hops[6, r, :c, EAST] = 3
    waiting = tuple(
        (r, other, "INPUT_STARVATION" if other >= c else "WAITING_FOR_BUFFER", 2, 1) for other in range(cols)
    )
    return Trace(
        trace.launch, rows, cols, 10, 10 * bins, trace.hops, trace.busy, trace.starved, trace.blocked, False, waiting
    )
