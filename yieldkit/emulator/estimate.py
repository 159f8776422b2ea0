"""A rough figure of the cycles of a clean launch, at no cost: what symptoms carry where no clock has run.

A launch takes what its busiest core computes (one element a cycle) plus, for every phase that talks, the time for a
word to cross the rectangle: one cycle a hop and `2 T_R + 2` a core where a chain passes through the ramps. `timing`
works cycles out properly.
"""

from __future__ import annotations

import weakref
from typing import Final

from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import clean_elements
from yieldkit.workloads.program import AllReduce, ChainAccumulate, Compute, Gemm, Gemv, StreamOut, WGrad

__all__ = ["estimated_cycles"]

_RAMP_CYCLES: Final = 2
_KEPT: dict[int, int] = {}


def _launch(lowered: Lowered, low: LoweredLaunch) -> int:
    """Estimated cycles of one clean launch."""
    rows, cols = lowered.program.rows, lowered.program.cols
    busiest = int(clean_elements(low).max(initial=0))
    latency = 0
    for phase in low.launch.phases:
        if isinstance(phase, Compute):
            continue
        latency += rows + cols
        if isinstance(phase, Gemm | Gemv | AllReduce):
            latency += (cols if not isinstance(phase, AllReduce) or phase.axis == "row" else rows) * (
                2 * _RAMP_CYCLES + 2
            )
        elif isinstance(phase, WGrad | ChainAccumulate | StreamOut):
            latency += rows * (2 * _RAMP_CYCLES + 2)
    return busiest + latency


def estimated_cycles(lowered: Lowered) -> int:
    """Estimated cycles of one pass over all launches; kept as long as the program is."""
    key = id(lowered)
    if key not in _KEPT:
        _KEPT[key] = sum(_launch(lowered, low) for low in lowered.launches)
        weakref.finalize(lowered, _KEPT.pop, key, None)
    return _KEPT[key]
