"""Link lengths of placements on repaired fabrics, against a walk from core to core."""

from __future__ import annotations

import numpy as np

from tests.repair.oracle import random_case
from yieldkit.emulator.placement import Placement, link_pitches
from yieldkit.fabric import Fabric
from yieldkit.repair import plan_repair

STEP = ((-1, 0), (0, 1), (1, 0), (0, -1))


def walked(placement):
    """int32[rows, cols, 4]: distance between the physical sites of logical neighbours, one pair at a time."""
    rows, cols = placement.rows, placement.cols
    found = np.ones((rows, cols, 4), np.int32)
    for r in range(rows):
        for c in range(cols):
            for port, (dr, dc) in enumerate(STEP):
                if 0 <= r + dr < rows and 0 <= c + dc < cols:
                    here, there = placement.physical(r, c), placement.physical(r + dr, c + dc)
                    found[r, c, port] = abs(here[0] - there[0]) + abs(here[1] - there[1])
    return found


def test_every_link_of_a_perfect_fabric_spans_one_pitch():
    pitches = link_pitches(Placement(Fabric.perfect(7, 9), 4, 5, (2, 3)))
    assert pitches.shape == (20, 4)
    assert pitches.dtype == np.int32
    assert (pitches == 1).all()


def test_links_of_repaired_fabrics_span_the_cores_they_skip():
    longest = 1
    for k in range(24):
        faults, rules = random_case(np.random.default_rng([31, k]))
        plan = plan_repair(faults, rules)
        if not plan.repaired:
            continue
        fabric = Fabric.boot(plan.firmware(wafer_id="T"), None)
        height, width = fabric.shape
        origin = (k % 2 if height > 1 else 0, k % 3 if width > 2 else 0)
        placement = Placement(fabric, height - origin[0], width - origin[1], origin)
        pitches = link_pitches(placement).reshape(placement.rows, placement.cols, 4)
        assert (pitches == walked(placement)).all()
        longest = max(longest, int(pitches.max()))
    assert longest > 1
