"""Sampling rate: WSE-3 wafers at some 46 defects each, against a plain loop over wafers in NumPy."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from yieldkit.defects import Poisson
from yieldkit.wafer import WaferSpec


def _plain_loop(n: int, width: float, height: float, mean: float) -> float:
    """Wafers a second when each is drawn by its own calls."""
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    for _ in range(n):
        k = rng.poisson(mean)
        rng.uniform(-width / 2, width / 2, k)
        rng.uniform(-height / 2, height / 2, k)
        rng.random(k) ** -0.5
    return n / (time.perf_counter() - start)


def figures(n: int = 100_000) -> list[dict[str, Any]]:
    """The row of the bench table."""
    wafer, law = WaferSpec.preset("wse3"), Poisson(d0_per_cm2=0.1)
    start = time.perf_counter()
    batch = law.sample_wafers(wafer, n, rng=1)
    rate = n / (time.perf_counter() - start)
    assert len(batch) == n
    peer = _plain_loop(5000, *wafer.array_mm, law.mean(area_mm2=wafer.silicon_mm2))
    return [
        {
            "name": "sample_wafers_per_s",
            "value": rate,
            "unit": "wafers/s",
            "peer": "NumPy, a loop over wafers",
            "peer_value": peer,
            "ratio": rate / peer,
            "command": "python -m tests.defects.sampling_bench",
        }
    ]


if __name__ == "__main__":
    import json
    import sys

    json.dump(figures(), sys.stdout, indent=2)
