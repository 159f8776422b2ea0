"""The fabric: logical to physical and back, for every core and every link."""

from __future__ import annotations

import numpy as np
import pytest

from tests.repair.oracle import random_case
from yieldkit.errors import BadInput
from yieldkit.fabric import Fabric
from yieldkit.faultmap import FaultMap
from yieldkit.quantities import EAST, NORTH, OPPOSITE, SOUTH, WEST
from yieldkit.repair import RowShift, plan_repair

STEP = {NORTH: (-1, 0), EAST: (0, 1), SOUTH: (1, 0), WEST: (0, -1)}


def walk(fabric, core):
    """Every core and port against the plain array of places."""
    height, width = fabric.shape
    seen = set()
    for r in range(height):
        for c in range(width):
            here = tuple(core[r, c].tolist())
            assert fabric.physical_of(r, c) == here
            assert fabric.logical_of(*here) == (r, c)
            for port, (dr, dc) in STEP.items():
                key = fabric.physical_link(r, c, port)
                if not (0 <= r + dr < height and 0 <= c + dc < width):
                    assert key is None
                    continue
                there = tuple(core[r + dr, c + dc].tolist())
                row, col, drow, dcol = key
                assert {(row, col), (row + drow, col + dcol)} == {here, there}
                assert drow > 0 or (drow == 0 and dcol > 0)
                ends = fabric.logical_link(key)
                assert set(ends) == {(r, c, port), (r + dr, c + dc, OPPOSITE[port])}
                assert core[ends[0][0], ends[0][1]].tolist() == [row, col]
                seen.add(key)
    return seen


def test_every_core_and_link_of_repaired_fabrics():
    walked = 0
    for k in range(120):
        faults, rules = random_case(np.random.default_rng([31, k]))
        plan = plan_repair(faults, rules)
        if not plan.repaired:
            continue
        fabric = Fabric.boot(plan.firmware(wafer_id="T"), None)
        assert (fabric.core_of == plan.core_of).all()
        links = walk(fabric, plan.core_of)
        assert not links & {tuple(x) for x in faults.dead_links.tolist()}
        used = {tuple(x) for x in plan.core_of.reshape(-1, 2).tolist()}
        for r in range(faults.shape[0]):
            for c in range(faults.shape[1]):
                assert (fabric.logical_of(r, c) is not None) == ((r, c) in used)
        walked += 1
    assert walked > 40


def test_bypassed_cores_and_unused_links_have_no_logical_place():
    plan = plan_repair(FaultMap((2, 4), dead_cores=[(0, 1)]), RowShift(spares=1))
    fabric = Fabric.boot(plan.firmware(wafer_id="T"), None)
    assert fabric.logical_of(0, 1) is None
    assert fabric.physical_link(0, 0, EAST) == (0, 0, 0, 2)
    assert fabric.logical_link((0, 0, 0, 2)) == ((0, 0, EAST), (0, 1, WEST))
    assert fabric.logical_link((0, 0, 0, 1)) is None
    assert fabric.logical_link((0, 0, 1, 2)) is None
    assert fabric.logical_link((5, 0, 0, 1)) is None
    assert fabric.logical_of(-1, 0) is None


def test_the_perfect_fabric_is_the_identity():
    fabric = Fabric.perfect(3, 5)
    assert fabric.shape == fabric.physical_shape == (3, 5)
    assert fabric.spec is None
    core = np.stack(np.meshgrid(np.arange(3), np.arange(5), indexing="ij"), axis=-1)
    assert (fabric.core_of == core).all()
    assert fabric.core_of.dtype == np.int32
    assert len(walk(fabric, fabric.core_of)) == 3 * 4 + 2 * 5
    assert Fabric.perfect(3, 5).image_fingerprint == fabric.image_fingerprint
    assert Fabric.perfect(5, 3).image_fingerprint != fabric.image_fingerprint


def test_the_map_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        Fabric.perfect(2, 2).core_of[0, 0, 0] = 1


def test_bad_questions():
    fabric = Fabric.perfect(2, 2)
    with pytest.raises(BadInput, match="no such core"):
        fabric.physical_of(2, 0)
    with pytest.raises(BadInput, match="port"):
        fabric.physical_link(0, 0, 4)
    with pytest.raises(BadInput):
        Fabric.perfect(0, 2)
