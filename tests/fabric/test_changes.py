"""What differs between two images, by hand and against the maps themselves."""

from __future__ import annotations

import numpy as np
import pytest

from yieldkit.errors import BadInput
from yieldkit.fabric import FirmwareImage
from yieldkit.faultmap import FaultMap
from yieldkit.repair import RowShift, moved_cores, plan_repair, replan_repair


def image(columns, sizes, wafer_id="W01", physical=(4, 8)):
    lines = np.array(columns, np.int32)
    return FirmwareImage(wafer_id, "", (4, lines.shape[1]), physical, 0, 2, 1, np.array(sizes, np.int64), lines)


def test_by_hand():
    before = image([[0, 1, 2, 3], [0, 1, 3, 4]], [2, 2])
    after = image([[0, 1, 2, 3], [1, 2, 3, 5], [0, 1, 3, 4]], [1, 2, 1])
    changes = before.diff(after)
    assert [(x.first_row, x.last_row, x.shifts) for x in changes.rows] == [
        (1, 1, ((0, 2, 1), (3, 3, 2))),
        (2, 2, ((0, 1, 1), (3, 3, 1))),
    ]
    assert changes.rows[0].before == (0,)
    assert changes.rows[0].after == (1, 3, 2)
    assert (changes.moved, changes.n_rows, changes.first, changes.last) == (7, 2, (1, 0), (2, 3))
    assert str(changes.rows[1]) == "row 2: 3 cores move: columns 0 to 1 by +1, columns 3 to 3 by +1"
    assert len(changes.to_frame()) == 4
    assert changes.to_dict()["rows"][1]["moved"] == 3
    assert "first at (1, 0), last at (2, 3)" in changes.summary()
    assert "and 1 more" in changes.summary(limit=1)
    assert "7 cores" in repr(changes)
    assert "row 2" in changes._repr_html_()


def test_the_same_image():
    one = image([[0, 1, 2, 3]], [4])
    changes = one.diff(one)
    assert changes.same
    assert (changes.moved, changes.first, changes.last) == (0, None, None)
    assert changes.summary() == "same map: 0 cores move"


def test_other_wafers_are_refused():
    one = image([[0, 1, 2, 3]], [4])
    with pytest.raises(BadInput, match="wafer_id"):
        one.diff(image([[0, 1, 2, 3]], [4], wafer_id="W02"))
    with pytest.raises(BadInput, match="physical_shape"):
        one.diff(image([[0, 1, 2, 3]], [4], physical=(4, 9)))


def test_it_counts_what_the_plans_count():
    rng = np.random.default_rng(3)
    compared = 0
    for _ in range(30):
        sites = rng.permutation(20 * 28)[:14]
        cells = np.stack([sites // 28, sites % 28], axis=1)
        first = FaultMap((20, 28), dead_cores=cells[:7], wafer_id="W01")
        plan = plan_repair(first, RowShift(4))
        worse = FaultMap((20, 28), dead_cores=cells, wafer_id="W01")
        if not plan.repaired:
            continue
        after = replan_repair(worse, plan)
        if not after.repaired:
            continue
        moved = moved_cores(plan, after)
        changes = plan.firmware().diff(after.firmware())
        assert changes.moved == len(moved)
        assert changes.n_rows == len(np.unique(moved[:, 0]))
        compared += len(moved) > 0
        if len(moved):
            assert changes.first == tuple(moved[0].tolist())
            assert changes.last == tuple(moved[-1].tolist())
    assert compared > 15
