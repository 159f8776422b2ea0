"""Traces as data: what is derived from them, and their files."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.traces import clean_trace, empty_trace, stalled_trace
from yieldkit.emulator.trace import CORE_STATES, Trace
from yieldkit.errors import BadFile, BadInput

FIELDS = ("launch", "rows", "cols", "bin_cycles", "cycles", "completed", "waiting")
ARRAYS = ("hops", "busy", "starved", "blocked")


def same(one, other):
    return all(getattr(one, f) == getattr(other, f) for f in FIELDS) and all(
        np.array_equal(getattr(one, a), getattr(other, a)) for a in ARRAYS
    )


def test_states_by_hand():
    trace = empty_trace(1, 4, 2, cycles=14)
    trace.busy[:, 0, 0] = 6, 1
    trace.starved[:, 0, 0] = 4, 3
    trace.blocked[:, 0, 1] = 5, 4
    trace.busy[:, 0, 1] = 5, 0
    trace.busy[0, 0, 2] = 4
    names = [[CORE_STATES[s] for s in row] for row in trace.states[:, 0]]
    # The second bin is 4 cycles long; where work and waiting are equal the wait shows.
    assert names == [["busy", "blocked", "idle", "idle"], ["starved", "blocked", "idle", "idle"]]
    assert trace.edges.tolist() == [0, 10, 14]
    trace.hops[1, 0, 3, 1] = 3
    assert trace.occupancy[1, 0, 3, 1] == 0.75


def test_the_first_to_stop_comes_first_and_those_that_never_worked_last():
    trace = stalled_trace(2, 6)
    assert [wait[:2] for _, wait in trace.first_waiting(9)] == [(1, 3), (1, 4), (1, 5), (1, 0), (1, 1), (1, 2)]
    assert trace.first_waiting(1)[0][0] == 60
    assert trace.since(1, 0) == 70
    assert trace.summary.startswith(
        "launch flow: nothing moves after cycle 200; 6 of 12 cores wait, the first is (1, 3)"
    )
    assert clean_trace().summary == "launch flow: 24 cores ended after 200 cycles"
    deaf = stalled_trace(2, 9, core=(0, 1))
    assert deaf.first_waiting(9)[-1][1][:2] == (0, 8)
    assert deaf.since(0, 8) == 0


@settings(deadline=None, derandomize=True, max_examples=40)
@given(bins=st.integers(1, 30), wanted=st.integers(1, 40), seed=st.integers(0, 99))
def test_coarser_bins_keep_every_sum(bins, wanted, seed):
    rng = np.random.default_rng(seed)
    trace = empty_trace(2, 3, bins, cycles=10 * bins - int(rng.integers(0, 10)))
    for name in ARRAYS:
        array = getattr(trace, name)
        array[:] = rng.integers(0, 3, array.shape)
    coarse = trace.coarser(wanted)
    assert coarse.bins <= max(1, wanted)
    assert coarse.cycles == trace.cycles
    for name in ARRAYS:
        assert np.array_equal(getattr(coarse, name).sum(axis=0), getattr(trace, name).sum(axis=0))
    assert coarse.edges[-1] == trace.edges[-1]
    assert (np.diff(coarse.edges) > 0).all()
    words = (coarse.occupancy * np.diff(coarse.edges)[:, None, None, None]).sum()
    assert words == pytest.approx(trace.hops.sum())


def test_at_least_one_bin():
    with pytest.raises(BadInput, match="at least one bin"):
        clean_trace().coarser(0)


def test_a_file_gives_the_trace_back_and_equal_traces_equal_bytes(tmp_path):
    for trace in (clean_trace(), stalled_trace()):
        path = trace.save(tmp_path / "a.npz")
        assert same(Trace.load(path), trace)
        assert trace.save(tmp_path / "b.npz").read_bytes() == path.read_bytes()


def rewritten(tmp_path, *, drop=(), facts=None, **arrays):
    """A file of the stalled trace with something changed."""
    with np.load(stalled_trace().save(tmp_path / "good.npz")) as archive:
        parts = {name: archive[name] for name in archive.files}
    said = {**json.loads(str(parts["facts"])), **(facts or {})}
    parts = {**parts, **arrays, "facts": np.array(json.dumps(said))}
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, **{name: part for name, part in parts.items() if name not in drop})
    return path


HOPS = stalled_trace().hops
BUSY = stalled_trace().busy


@pytest.mark.parametrize(("change", "said"), [
    ({"drop": ("busy",)}, "other fields"),
    ({"drop": ("facts",)}, "KeyError"),
    ({"extra": BUSY}, "other fields"),
    ({"facts": {"version": 2}}, "version must be 1"),
    ({"facts": {"cycles": "many"}}, "cycles must be of type int"),
    ({"facts": {"completed": 1}}, "completed must be of type bool"),
    ({"facts": {"completed": True}}, "wait in a launch that completed"),
    ({"facts": {"cycles": 999}}, "do not cover"),
    ({"facts": {"bin_cycles": 0}}, "do not cover"),
    ({"facts": {"waiting": [[0, 0, "BORED", 1, 1]]}}, "a waiting core is"),
    ({"facts": {"waiting": [[9, 0, "HALTED", 1, 1]]}}, "a waiting core is"),
    ({"facts": {"waiting": [7]}}, "a waiting core is"),
    ({"hops": HOPS[..., :4]}, "shape"),
    ({"hops": HOPS[0]}, "shape"),
    ({"busy": BUSY.astype(np.int64)}, "wrong shape or type"),
    ({"busy": BUSY[:3]}, "wrong shape or type"),
    ({"busy": BUSY - 1}, "not be negative"),
    ({"busy": BUSY + 1}, "more cycles than its bin"),
    ({"busy": np.array([None], dtype=object)}, "is not a trace"),
])  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line(tmp_path, change, said):
    with pytest.raises(BadFile, match=said) as caught:
        Trace.load(rewritten(tmp_path, **change))
    assert "\n" not in str(caught.value)


def test_damaged_bytes_are_a_bad_file_or_the_same_trace(tmp_path):
    raw = stalled_trace().save(tmp_path / "good.npz").read_bytes()
    rng = np.random.default_rng(3)
    path = tmp_path / "bad.npz"
    for number in range(120):
        data = bytearray(raw)
        for _ in range(3):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(data) if number % 4 else raw[: int(rng.integers(len(raw)))])
        try:
            Trace.load(path)
        except BadFile:
            continue
