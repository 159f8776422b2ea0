"""`FaultMap`: canonical arrays, states, refusals, memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.errors import BadInput
from yieldkit.faultmap import FaultMap, SiteState
from yieldkit.rng import generator
from yieldkit.wafer import WaferSpec

MINI = WaferSpec.preset("mini")


def test_arrays_are_sorted_typed_and_read_only() -> None:
    faults = FaultMap(
        (4, 5),
        dead_cores=[(3, 1), (0, 4)],
        dead_links=[(2, 2, -1, 0), (0, 0, 0, 1)],
        dead_routers=np.array([[1, 1]]),
        marginal_cores=[(2, 3, 0.5), (0, 1, 0.25)],
    )
    assert faults.dead_cores.tolist() == [[0, 4], [3, 1]]
    assert faults.dead_links.tolist() == [[0, 0, 0, 1], [1, 2, 1, 0]]
    assert faults.dead_routers.tolist() == [[1, 1]]
    assert faults.marginal_cores.tolist() == [[0, 1], [2, 3]]
    assert faults.marginal_risks.tolist() == [0.25, 0.5]
    assert faults.spans.tolist() == [[0, 5]] * 4
    assert faults.unusable_cores.tolist() == [[0, 4], [1, 1], [3, 1]]
    assert faults.n_faults == 5
    for array, width in ((faults.dead_cores, 2), (faults.dead_links, 4), (faults.absent, 2), (faults.spans, 2)):
        assert array.dtype == np.int32
        assert array.shape[1] == width
        assert not array.flags.writeable


def test_states() -> None:
    faults = FaultMap.for_wafer(
        MINI, dead_cores=[(5, 5)], dead_routers=[(6, 6)], marginal_cores=[(7, 7, 0.1)], wafer_id="W01"
    )
    assert faults.state(5, 5) is SiteState.DEAD
    assert faults.state(6, 6) is SiteState.DEAD
    assert faults.state(7, 7) is SiteState.MARGINAL
    assert faults.state(8, 8) is SiteState.GOOD
    # Clipped corner, hole, off the grid.
    assert [faults.state(*site) for site in ((0, 0), (10, 10), (-1, 5), (5, 22))] == [SiteState.ABSENT] * 4
    assert faults.n_present == MINI.physical_cores
    assert faults.spec_fingerprint == MINI.fingerprint
    assert "W01" in faults._repr_html_()


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.data())
def test_order_of_the_arguments_does_not_matter(data: st.DataObject) -> None:
    present = np.argwhere(MINI.present_mask()).tolist()
    chosen = [tuple(site) for site in data.draw(st.lists(st.sampled_from(present), unique_by=tuple, max_size=12))]
    cut = data.draw(st.integers(0, len(chosen)))
    dead, marginal = chosen[:cut], [(*site, 0.5) for site in chosen[cut:]]
    a = FaultMap.for_wafer(MINI, dead_cores=dead, marginal_cores=marginal)
    b = FaultMap.for_wafer(MINI, dead_cores=dead[::-1], marginal_cores=marginal[::-1])
    assert a == b
    assert a.fingerprint == b.fingerprint
    assert hash(a) == hash(b)
    found = {(r, c): a.state(r, c) for r in range(22) for c in range(22)}
    assert {site for site, state in found.items() if state == "dead"} == set(dead)
    assert {site for site, state in found.items() if state == "absent"} == {
        (r, c) for r in range(22) for c in range(22) if not MINI.is_present(r, c)
    }
    assert len(a.to_frame()) == len(chosen)


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"dead_cores": [(5, 5), (0, 0)]}, r"dead_cores\[1\] lies outside the wafer, got \(0, 0\)"),
        ({"dead_cores": [(22, 0)]}, r"dead_cores\[0\] lies outside the wafer"),
        ({"dead_cores": [(5, -1)]}, r"dead_cores\[0\] lies outside the wafer"),
        ({"dead_routers": [(10, 10)]}, r"dead_routers\[0\] is an absent site \(in a hole\), got \(10, 10\)"),
        ({"dead_cores": [(5, 5), (6, 6), (5, 5)]}, r"dead_cores\[2\] appears twice, got \(5, 5\)"),
        ({"dead_cores": [(5, 5, 5)]}, r"dead_cores\[0\] must be 2 integers"),
        ({"dead_cores": [(5, 1.5)]}, r"dead_cores\[0\] must be 2 integers"),
        ({"dead_cores": [(True, 1)]}, r"dead_cores\[0\] must be 2 integers"),
        ({"dead_cores": [7]}, r"dead_cores\[0\] must be 2 integers"),
        ({"dead_cores": 7}, "dead_cores must be a list of 2 integers each"),
        ({"dead_cores": [(1 << 40, 1)]}, r"dead_cores\[0\] must be 2 integers"),
        ({"dead_cores": np.array([[1 << 40, 1]])}, "too large"),
        ({"dead_links": [(5, 5, 0, 0)]}, r"dead_links\[0\] joins a core to itself"),
        ({"dead_links": [(10, 9, 0, 1)]}, r"dead_links\[0\] has an end outside the wafer or in a hole"),
        ({"dead_links": [(0, 2, 0, -1)]}, r"dead_links\[0\] has an end outside"),
        ({"dead_links": [(5, 5, 0, 1), (5, 6, 0, -1)]}, r"dead_links\[1\] appears twice, got \(5, 5, 0, 1\)"),
        ({"marginal_cores": [(5, 5, 1.5)]}, r"marginal_cores\[0\] must be \(row, col, risk\) with risk in 0..1"),
        ({"marginal_cores": [(5, 5)]}, r"marginal_cores\[0\] must be"),
        ({"marginal_cores": [(5, 5, "x")]}, r"marginal_cores\[0\] must be"),
        ({"marginal_cores": [(5, 5, 0.1)], "dead_cores": [(5, 5)]}, r"marginal_cores\[0\] is also dead"),
    ],
)
def test_what_cannot_be_is_refused(faults: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        FaultMap.for_wafer(MINI, **faults)


@pytest.mark.parametrize("shape", [(0, 5), (5,), "ab", (5, 2_000_000), (2.5, 3), 7])
def test_wrong_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(BadInput, match="shape must be"):
        FaultMap(shape)


def test_wrong_spans_are_refused() -> None:
    with pytest.raises(BadInput, match="one entry for each of the 2 rows"):
        FaultMap((2, 3), spans=[(0, 3)])
    with pytest.raises(BadInput, match=r"spans\[1\] must be 0 <= start <= stop <= 3"):
        FaultMap((2, 3), spans=[(0, 3), (2, 4)])


def test_more_faults_keep_the_old_ones() -> None:
    before = FaultMap.for_wafer(MINI, dead_cores=[(5, 5)], marginal_cores=[(7, 7, 0.2), (8, 8, 0.2)], wafer_id="W")
    after = before.with_faults(
        dead_cores=[(5, 5), (7, 7)], dead_links=[(5, 6, 0, -1)], marginal_cores=[(8, 8, 0.6), (9, 9, 0.1)]
    )
    assert after.dead_cores.tolist() == [[5, 5], [7, 7]]
    assert after.dead_links.tolist() == [[5, 5, 0, 1]]
    assert after.marginal_cores.tolist() == [[8, 8], [9, 9]]
    assert after.marginal_risks.tolist() == [0.6, 0.1]
    assert (after.wafer_id, after.spec_fingerprint) == ("W", MINI.fingerprint)
    assert before.dead_cores.tolist() == [[5, 5]]
    assert after != before
    with pytest.raises(BadInput, match="outside the wafer"):
        before.with_faults(dead_cores=[(0, 0)])


def test_memory_is_by_the_fault_and_the_row_not_by_the_core() -> None:
    wafer = WaferSpec.preset("wse3")
    rng = generator(1, "test")
    sites = {(int(r), int(c)) for r, c in zip(rng.integers(20, 1200, 60), rng.integers(20, 770, 60), strict=True)}
    dead = [site for site in sorted(sites) if wafer.is_present(*site)][:50]
    FaultMap.for_wafer(wafer, dead_cores=dead)
    tracemalloc.start()
    faults = FaultMap.for_wafer(wafer, dead_cores=dead)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Spans (two numbers a row) are shared with the spec; a million cores of one byte each would be 970 KB.
    assert len(faults.dead_cores) == 50
    assert faults.nbytes < 16_384
    assert held < 8_192
    assert peak < 100_000
    assert faults.spans is wafer.spans


def test_large_maps_are_fine() -> None:
    rng = generator(2, "test")
    flat = rng.choice(1225 * 700, 20_000, replace=False)
    sites = np.stack([flat // 700, 40 + flat % 700], axis=1)
    wafer = WaferSpec.preset("wse3")
    sites = sites[wafer.present_mask()[sites[:, 0], sites[:, 1]]]
    faults = FaultMap.for_wafer(wafer, dead_cores=sites)
    assert len(faults.dead_cores) == len(sites)
