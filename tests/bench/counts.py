"""Seconds for the whole stalled state of a wafer, from counts."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from tests.emulator.counting import loaded
from tests.emulator.test_counts import LOST, drop, wafer_product
from yieldkit.emulator.counts import count_launch

COMMAND = "python -m tests.bench.counts"
ROWS, COLS = 750, 994
SMALL = 40


def stalled_wafer(rows: int = ROWS, cols: int = COLS) -> float:
    """Seconds of the slowest of three stalls on a lowered product: a partial sum, a weight or a result is lost."""
    low = wafer_product(rows, cols)
    slowest = 0.0
    for port, colour, nth in LOST.values():
        hooks = drop(rows // 2, cols // 2, port, colour(cols // 2), nth)
        begin = time.perf_counter()
        counted = count_launch(low, low.launches[0], hooks)
        slowest = max(slowest, time.perf_counter() - begin)
        assert counted is not None
        assert not counted.completed
    return slowest


def whole_machine(side: int = SMALL) -> float:
    """Seconds the reference machine takes for one of those stalls, a square of `side` cores."""
    low = wafer_product(side, side)
    port, colour, nth = LOST["chain"]
    streams = {"x": np.ones((side, side, 1, 1), np.float32), "w": np.ones((side, side), np.float32)}
    machine = loaded(low)
    begin = time.perf_counter()
    machine.launch(low.launches[0], streams, drop(side // 2, side // 2, port, colour(side // 2), nth))
    return time.perf_counter() - begin


def figures() -> list[dict[str, Any]]:
    """All rows."""
    stalled_wafer(8, 8)
    whole_machine(8)
    return [
        {
            "name": "stall_wafer_s",
            "value": stalled_wafer(),
            "unit": "s",
            "peer": None,
            "peer_value": None,
            "ratio": None,
            "command": COMMAND,
        },
        {
            "name": f"stall_{SMALL}x{SMALL}_s",
            "value": stalled_wafer(SMALL, SMALL),
            "unit": "s",
            "peer": "the reference machine, word by word",
            "peer_value": whole_machine(),
            "ratio": None,
            "command": COMMAND,
        },
    ]


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
