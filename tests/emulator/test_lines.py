"""Reductions along lines by every method, all-gather, and the colours they take: values against NumPy, bit by bit."""

from __future__ import annotations

from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.random_programs import values
from tests.emulator.test_equality import bits, run_both
from yieldkit.emulator.channels import CHANNELS, FREE_CHANNELS, assign_colours, routes_of
from yieldkit.emulator.formats import round_to
from yieldkit.emulator.isa import COLOURS, POSITIONS
from yieldkit.emulator.lines import group_size, levels, stop_of
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import METHODS, AllGather, AllReduce, Launch, Program, Reduce, StreamIn, StreamOut

SIDES = [1, 2, 3, 4, 5, 6, 7, 8, 9]
DTYPES = ["bf16", "fp16", "fp32"]


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def apply(op, farther, nearer, dtype):
    """One step of a reduction on the host; a maximum keeps the farther operand where they compare equal."""
    if op == "add":
        return round_to((farther + nearer).astype(np.float32), dtype)
    result = np.where(nearer > farther, nearer, farther)
    return round_to(np.where(np.isnan(farther) | np.isnan(nearer), np.float32(np.nan), result), dtype)


def reduced(blocks, method, op, dtype):
    """`[P, ...]` reduced over its first axis in the declared order, written as recursion over contiguous parts."""
    size = len(blocks)
    if size == 1:
        return round_to(blocks[0], dtype)
    if method == "tree":
        # The nearest 2^n cores on one side, all that are farther on the other.
        near = 1 << ((size - 1).bit_length() - 1)
        return apply(
            op,
            reduced(blocks[: size - near], "tree", op, dtype),
            reduced(blocks[size - near :], "tree", op, dtype),
            dtype,
        )
    if method == "two_phase":
        group = next(s for s in range(1, size + 1) if s * s >= size)
        cuts = list(range(size, 0, -group))[::-1]
        blocks = [reduced(blocks[max(0, cut - group) : cut], "chain", op, dtype) for cut in cuts]
    total = round_to(blocks[0], dtype)
    for block in blocks[1:]:
        total = apply(op, total, block, dtype)
    return total


def line_program(rows, cols, dtype, size, phases, *, seed=0, specials=0.0, keep=()):
    """A program of `phases` on a tensor x, and the stream that feeds it; every tensor of `keep` streams out."""
    b = ProgramBuilder("lines", rows, cols, "bf16")
    b.tensor("x", (size,), dtype=dtype)
    b.phase(StreamIn("in", "x", "x", "scatter_row"))
    for phase in phases:
        gathers = isinstance(phase, AllGather)
        dims = ((cols if phase.axis == "row" else rows), size) if gathers else (size,)
        b.tensor(phase.y, dims, dtype=dtype)
        b.phase(phase)
    for name in dict.fromkeys([phase.y for phase in phases]):
        b.phase(StreamOut(f"{name}.out", name, f"{name}.out", "gather_row"))
    b.launch("all")
    x = values(np.random.default_rng(seed), (rows, cols, size), dtype, specials)
    return b.build({"kind": "none"}), {"x": x}


def both(program, streams):
    """Outputs, equal in every bit on both interpreters."""
    low = lower(program)
    results = [kind(low).launch(low.launches[0], streams) for kind in (ReferenceExecutor, TensorExecutor)]
    assert all(result.completed for result in results), results[0].scan
    for name, array in results[0].outputs.items():
        assert (bits(array) == bits(results[1].outputs[name])).all(), name
    return results[0].outputs


def test_stops_are_a_tree_that_takes_every_core_once():
    for method in METHODS:
        for size in range(1, 70):
            stops = [stop_of(method, place, size) for place in range(size)]
            assert [stop.send is None for stop in stops] == [False] * (size - 1) + [True]
            assert sum(len(stop.receive) for stop in stops) == size - 1
            assert all(len(set(stop.receive)) == len(stop.receive) for stop in stops)
    assert [levels(p) for p in (1, 2, 3, 4, 5, 8, 9, 64)] == [0, 1, 2, 2, 3, 3, 4, 6]
    assert [group_size(p) for p in (1, 2, 4, 5, 9, 10, 994)] == [1, 2, 2, 3, 3, 4, 32]
    assert all(group_size(p) == isqrt(p - 1) + 1 for p in range(1, 2000))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    rows=st.sampled_from(SIDES), cols=st.sampled_from(SIDES), axis=st.sampled_from(["row", "col"]),
    op=st.sampled_from(["add", "max"]), method=st.sampled_from(METHODS), dtype=st.sampled_from(DTYPES),
    size=st.integers(1, 9), specials=st.sampled_from([0.0, 0.1, 0.5]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_values_are_those_of_the_declared_order(rows, cols, axis, op, method, dtype, size, specials, seed):
    phases = [Reduce("r", axis, op, "x", "last", method), AllReduce("a", axis, op, "x", "all", method)]
    program, streams = line_program(rows, cols, dtype, size, phases, seed=seed, specials=specials)
    outputs = both(program, streams)
    x = streams["x"]
    lined = np.moveaxis(x, 1 if axis == "row" else 0, 0)
    result = np.expand_dims(reduced(lined, method, op, dtype), 1 if axis == "row" else 0)
    assert (bits(outputs["all.out"]) == bits(np.broadcast_to(result, x.shape))).all()
    expected = np.zeros_like(x)
    where = (slice(None), slice(-1, None)) if axis == "row" else (slice(-1, None),)
    expected[where] = result
    assert (bits(outputs["last.out"]) == bits(expected)).all()


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    rows=st.sampled_from(SIDES), cols=st.sampled_from(SIDES), axis=st.sampled_from(["row", "col"]),
    dtype=st.sampled_from(DTYPES), size=st.integers(1, 6), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_all_gather_gives_every_core_the_blocks_of_its_line(rows, cols, axis, dtype, size, seed):
    phases = [AllGather("g", axis, "x", "y"), AllGather("h", "col" if axis == "row" else "row", "x", "z")]
    program, streams = line_program(rows, cols, dtype, size, phases, seed=seed, specials=0.2)
    outputs = both(program, streams)
    x = round_to(streams["x"], dtype)
    along_row = np.broadcast_to(x[:, None], (rows, cols, cols, size))
    along_col = np.broadcast_to(x.transpose(1, 0, 2)[None], (rows, cols, rows, size))
    first, second = (along_row, along_col) if axis == "row" else (along_col, along_row)
    assert (bits(outputs["y.out"]) == bits(first)).all()
    assert (bits(outputs["z.out"]) == bits(second)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [13, 17, 31])
def test_long_lines(method, size):
    phases = [Reduce("r", "row", "add", "x", "last", method), AllReduce("a", "row", "add", "x", "all", method)]
    program, streams = line_program(1, size, "fp32", 6, phases)
    outputs = both(program, streams)
    expected = reduced(streams["x"].transpose(1, 0, 2), method, "add", "fp32")
    assert (bits(outputs["all.out"]) == bits(np.broadcast_to(expected[:, None], (1, size, 6)))).all()
    assert (bits(outputs["last.out"][:, -1]) == bits(expected)).all()


def test_methods_differ_in_their_order_and_in_nothing_else():
    results = {}
    for method in METHODS:
        program, streams = line_program(1, 9, "fp32", 64, [AllReduce("a", "row", "add", "x", "y", method)])
        results[method] = both(program, streams)["y.out"]
    chain = results.pop("chain")
    for other in results.values():
        assert (bits(other) != bits(chain)).any()
        np.testing.assert_allclose(other, chain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_final_state_does_not_depend_on_the_schedule(method):
    phases = [AllReduce("a", "row", "add", "x", "y", method), Reduce("r", "col", "max", "y", "z", method)]
    program, streams = line_program(5, 6, "fp32", 9, [*phases, AllGather("g", "col", "x", "w")])
    low = lower(program)
    hashes = set()
    for seed, burst in ((0, 4096), (1, 1), (2, 3), (3, 7), (4, 4096)):
        order = np.random.default_rng(seed).permutation(30)
        machine = Machine(low, order=order, burst=burst)
        result = machine.launch(low.launches[0], streams)
        assert result.completed
        assert machine.is_golden(low.launches[0])
        hashes.add(machine.state.sram.tobytes() + machine.state.sent.tobytes() + machine.state.received.tobytes())
    assert len(hashes) == 1


def test_chain_is_the_default_and_changes_no_saved_program():
    program, _ = line_program(2, 3, "fp32", 2, [AllReduce("a", "row", "add", "x", "y")])
    phases = program.to_dict()["launches"][0]["phases"]
    assert "method" not in next(p for p in phases if p["kind"] == "all_reduce")
    assert "accumulation" not in program.to_dict()
    again = Program.from_dict(program.to_dict())
    assert again == program
    for method in ("tree", "two_phase"):
        other, _ = line_program(2, 3, "fp32", 2, [AllReduce("a", "row", "add", "x", "y", method)])
        assert Program.from_dict(other.to_dict()) == other
        assert other.fingerprint != program.fingerprint


def test_colours_are_distinct_and_within_the_router():
    names = [*CHANNELS, "leaders_east"]
    colours = assign_colours(names, 5, 5, "l")
    taken = [colour for own in colours.values() for colour in own]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(range(COLOURS))
    assert colours["column_multicast"] == (0,)
    assert colours["leaders_east"] == (21, 22)
    for channel in FREE_CHANNELS:
        for rows, cols in ((1, 1), (1, 5), (7, 6), (8, 9)):
            own = assign_colours([channel], rows, cols, "l")[channel]
            for r in range(rows):
                for c in range(cols):
                    words = routes_of(channel, r, c, rows, cols, own)
                    assert set(words) <= set(own)
                    assert all(0 < len(positions) <= POSITIONS for positions in words.values())


def test_too_many_colours_are_refused_with_the_channels_named():
    phases = [
        AllReduce(f"{axis}{method}", axis, "add", "x", f"y{axis}{method}", method)
        for axis in ("row", "col")
        for method in METHODS
    ]
    program, _ = line_program(2, 512, "fp32", 1, phases[:3])
    assert sum(len(own) for own in lower(program).launches[0].colours.values()) == 2 + 1 + 9 + 2 + 2
    program, _ = line_program(512, 512, "fp32", 1, phases)
    with pytest.raises(BadInput, match=r"launch 'all' needs 30 colours and a router has 24: .*tree_east 9") as caught:
        lower(program)
    assert "\n" not in str(caught.value)


def test_roles_do_not_grow_with_the_fabric():
    counts = []
    for side in (16, 32):
        phases = [AllReduce("a", "row", "add", "x", "y", "tree"), AllReduce("b", "col", "add", "x", "z", "two_phase")]
        program, _ = line_program(side, side, "fp32", 1, phases)
        counts.append(len(lower(program).launches[0].roles))
    assert counts[1] < 1.5 * counts[0] < 150


def test_roles_stand_for_every_core_of_their_class():
    """Each core's routes are what its own place asks for, though roles are shared."""
    phases = [
        AllReduce("a", "row", "add", "x", "y", "tree"), AllReduce("b", "col", "add", "x", "z", "tree"),
        Reduce("c", "row", "add", "x", "v", "two_phase"), Reduce("d", "col", "max", "x", "w", "two_phase"),
    ]  # fmt: skip
    for rows, cols in ((7, 11), (9, 4), (1, 13)):
        program, _ = line_program(rows, cols, "fp32", 1, phases)
        launch = lower(program).launches[0]
        for r in range(rows):
            for c in range(cols):
                table = np.zeros((COLOURS, POSITIONS), np.uint32)
                for channel, own in launch.colours.items():
                    for colour, words in routes_of(channel, r, c, rows, cols, own).items():
                        table[colour, : len(words)] = words
                assert (launch.roles[launch.role_of[r, c]].routes == table).all(), (r, c)


@pytest.mark.parametrize("twice", [1, 2])
def test_what_is_left_in_sram_is_equal_too(twice):
    tensors = line_program(3, 5, "fp32", 3, [Reduce("r", "row", "add", "x", "y", "tree")])[0]
    kept = tuple(
        tensors.table[n] if n == "x" else type(tensors.table[n])(n, "fp32", (3,), "rc", True) for n in ("x", "y")
    )
    phases = tensors.launches[0].phases
    program = Program("p", 3, 5, "bf16", kept, (Launch("all", phases),), {"kind": "none"})
    streams = {"x": values(np.random.default_rng(1), (3, 5, 3), "fp32", 0.0)}
    run_both(program, streams, rounds=twice)
