"""Row permutations and traffic: colours without conflict, no deadlock at any depth, and every word where it belongs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.test_equality import run_both
from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.permute import path_colours, permute_channel, permute_routes, permute_width, sends_first
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import AllReduce, Permute, Program, StreamIn, StreamOut
from yieldkit.workloads.traffic import (
    neighbour_traffic,
    offered_load,
    random_row_permutation,
    row_permutation_traffic,
    traffic_expected,
    traffic_streams,
)

PERMUTATIONS = st.integers(1, 14).flatmap(lambda n: st.permutations(range(n))).map(tuple)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(to=PERMUTATIONS)
def test_paths_of_one_colour_share_no_router_and_no_colour_is_wasted(to):
    colours = path_colours(to)
    users = {}
    meeting = [0] * len(to)
    for source, number in enumerate(colours):
        assert (number < 0) == (to[source] == source)
        if number >= 0:
            for c in range(min(source, to[source]), max(source, to[source]) + 1):
                assert (c, number) not in users
                users[c, number] = source
                meeting[c] += 1
    assert permute_width(permute_channel(to)) == max(meeting)
    # Following the route words from each source ends at its target.
    for source, number in enumerate(colours):
        if number < 0:
            continue
        c, port = source, 4
        for _ in range(len(to)):
            (word,) = permute_routes(permute_channel(to), c)[number]
            assert (word & 7) - 1 == port
            tx = word >> 3 & 31
            if tx == 16:
                break
            assert tx in (2, 8)
            c, port = (c + 1, 3) if tx == 2 else (c - 1, 1)
        assert c == to[source]


@settings(deadline=None, derandomize=True, max_examples=200)
@given(to=PERMUTATIONS)
def test_whoever_receives_first_has_a_partner_who_sends_first(to):
    first = sends_first(to)
    for source, target in enumerate(to):
        if source != target and not first[target]:
            assert first[source]


def outputs_of(executor, low, streams):
    outputs = {}
    for launch in low.launches:
        result = executor.launch(launch, streams)
        assert result.completed, (launch.name, result.missing, result.scan)
        outputs |= result.outputs
    return outputs


def check(program, depth=4):
    low = lower(Program.from_dict(program.to_dict()))
    streams = traffic_streams(program, seed=3)
    expected = traffic_expected(program, streams)
    for executor in (ReferenceExecutor(low, queue_depth=depth), TensorExecutor(low)):
        outputs = outputs_of(executor, low, streams)
        assert set(outputs) == set(expected)
        assert all(np.array_equal(outputs[name], expected[name]) for name in expected)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    to=st.integers(1, 9).flatmap(lambda n: st.permutations(range(n))),
    rows=st.integers(1, 3),
    words=st.integers(1, 40),
    rounds=st.integers(1, 4),
    load=st.sampled_from([0.5, 0.3, 0.05]),
    depth=st.sampled_from([1, 2, 4]),
)
def test_every_word_arrives_at_any_depth(to, rows, words, rounds, load, depth):
    program = row_permutation_traffic(rows=rows, cols=len(to), to=to, words=words, rounds=rounds, load=load)
    check(program, depth)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    directions=st.text("NESW", min_size=1, max_size=5),
    words=st.integers(1, 20),
    rounds=st.integers(1, 6),
    depth=st.sampled_from([1, 2, 4]),
)
def test_neighbours_get_what_was_sent(rows, cols, directions, words, rounds, depth):
    check(neighbour_traffic(rows=rows, cols=cols, directions=directions, words=words, rounds=rounds), depth)


def test_values_by_hand():
    program = row_permutation_traffic(rows=1, cols=3, to=(1, 2, 0), words=1, rounds=2, load=0.25)
    low = lower(program)
    outputs = outputs_of(TensorExecutor(low), low, {"in": np.array([[[1.0], [2.0], [3.0]]], np.float32)})
    assert outputs["pong"].ravel().tolist() == [3, 1, 2]
    assert outputs["ping"].ravel().tolist() == [2, 3, 1]
    # Two elements of work on what came in each round.
    assert outputs["worked"].ravel().tolist() == [10, 8, 6]


@pytest.mark.parametrize("load", [0.5, 0.25, 0.1, 0.01])
def test_the_load_is_the_one_asked_for(load):
    program = neighbour_traffic(rows=2, cols=2, load=load, words=8, rounds=3)
    assert offered_load(program) == pytest.approx(load, rel=0.01)
    assert ("work.0" in [phase.name for phase in program.phases]) == (load < 0.5)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    to=st.integers(1, 5).flatmap(lambda n: st.permutations(range(n))),
    over=st.sampled_from(["rc", "r", "c", ""]),
    dtype=st.sampled_from(["fp32", "bf16", "fp16"]),
)
def test_any_layout_and_format_in_company(seed, to, over, dtype):
    """Beside a reduction, whose channels have colours of their own, from any layout of what is sent."""
    rng = np.random.default_rng(seed)
    rows, cols = int(rng.integers(1, 4)), len(to)
    b = ProgramBuilder("p", rows, cols, dtype)
    x, y = b.tensor("x", (3,), over, dtype=dtype), b.tensor("y", (3,), dtype=dtype)
    z = b.tensor("z", (3,), dtype=dtype)
    s = b.tensor("s", (3,), dtype="fp32")
    b.phase(StreamIn("x.in", x, "x", "scatter_row"))
    b.phase(Permute("one", x, y, tuple(to)))
    b.phase(Permute("two", y, z, tuple(int(c) for c in rng.permutation(cols))))
    if dtype == "fp32":
        b.phase(AllReduce("sum", "row", "add", z, s))
        b.phase(StreamOut("s.out", s, "s", "gather_row"))
    b.phase(StreamOut("y.out", y, "y", "gather_row"))
    b.phase(StreamOut("z.out", z, "z", "gather_row"))
    b.launch("p")
    shape = (rows if "r" in over else 1, cols if "c" in over else 1, 3)
    streams = {"x": rng.integers(-9, 10, shape).astype(np.float32)}
    run_both(b.build({"kind": "none"}), streams)


def test_24_paths_may_meet_and_25_are_refused_in_one_line():
    def across(pairs):
        cols = 2 * pairs
        return row_permutation_traffic(rows=1, cols=cols, to=[(c + pairs) % cols for c in range(cols)], rounds=1)

    assert COLOURS == 24
    check(across(12))
    with pytest.raises(BadInput, match="needs 26 colours and a router has 24") as caught:
        lower(across(13))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_random_permutation_keeps_inside_its_stretches():
    to = random_row_permutation(70, reach=16, seed=5)
    assert sorted(to) == list(range(70))
    assert all(c // 16 == target // 16 for c, target in enumerate(to))
    assert permute_width(permute_channel(to)) <= 16
    assert to == random_row_permutation(70, reach=16, seed=5)
    lower(row_permutation_traffic(rows=2, cols=70, to=to, rounds=2))


@pytest.mark.parametrize(("call", "said"), [
    (lambda: neighbour_traffic(rows=0, cols=2), "rows must be at least 1, got 0"),
    (lambda: neighbour_traffic(rows=2, cols=2, words=0), "words must be at least 1"),
    (lambda: neighbour_traffic(rows=2, cols=2, rounds=0), "rounds must be at least 1"),
    (lambda: neighbour_traffic(rows=2, cols=2, load=0.6), "at most 0.5, got 0.6"),
    (lambda: neighbour_traffic(rows=2, cols=2, load=0), "above 0"),
    (lambda: neighbour_traffic(rows=2, cols=2, load=1e-7), "overflow"),
    (lambda: neighbour_traffic(rows=2, cols=2, directions="EQ"), "directions must be of N, E, S and W, got 'EQ'"),
    (lambda: neighbour_traffic(rows=2, cols=2, directions=""), "directions"),
    (lambda: row_permutation_traffic(rows=2, cols=3, to=(0, 0, 1)), "permutation of the 3 columns"),
    (lambda: row_permutation_traffic(rows=2, cols=3, to=(1, 0)), "permutation of the 3 columns"),
    (lambda: random_row_permutation(4, reach=0), "reach must be at least 1"),
])  # fmt: skip
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(BadInput, match=said):
        call()
