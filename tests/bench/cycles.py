"""Seconds that the cycle model takes for a launch on a whole wafer."""

from __future__ import annotations

import json
import time
from typing import Any

from yieldkit.emulator.lowering import lower
from yieldkit.emulator.timing import launch_cycles
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import Gemm, StreamIn, StreamOut

COMMAND = "python -m tests.bench.cycles"
ROWS, COLS = 750, 994


def figures() -> list[dict[str, Any]]:
    """One row: a product with its operand streamed in and its result out, on 750 x 994 cores, once compiled."""
    seconds = 0.0
    for rows, cols in ((2, 3), (ROWS, COLS)):
        b = ProgramBuilder("product", rows, cols, "bf16")
        b.tensor("x", (1, 8), dtype="bf16")
        b.tensor("y", (1, 1))
        b.phase(StreamIn("in", "x", "x", "scatter_row"))
        b.phase(Gemm("product", "x", "y", "w", 1))
        b.phase(StreamOut("out", "y", "y", "gather_row"))
        b.launch("all")
        lowered = lower(b.build({"kind": "none"}))
        begin = time.perf_counter()
        launch_cycles(lowered, lowered.launches[0])
        seconds = time.perf_counter() - begin
    empty = {"peer": None, "peer_value": None, "ratio": None}
    return [{"name": "wafer_launch_cycles_s", "value": seconds, "unit": "s", **empty, "command": COMMAND}]


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
