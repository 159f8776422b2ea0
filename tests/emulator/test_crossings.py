"""Golden traffic from tensors alone: word for word what a launch puts on every link and ramp."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.kahn import play
from tests.emulator.random_programs import RandomProgram, random_program
from tests.emulator.test_equality import CASES
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.quantities import RAMP
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import Permute, StreamIn, StreamOut


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def compare(low, streams, rounds=1):
    """Every word of every launch; returns how many."""
    tensor, reference = TensorExecutor(low), ReferenceExecutor(low)
    words = 0
    for _ in range(rounds):
        for launch in low.launches:
            loaded = Machine(low)
            loaded.state.sram[:] = reference.machine.state.sram
            loaded.load(launch)
            sram = loaded.state.sram.reshape(*launch.role_of.shape, -1)
            seen = play(low, launch.index, sram, streams)
            crossings, result = tensor.traffic(launch, streams)
            assert result.completed
            assert reference.launch(launch, streams).completed
            for r, c in np.ndindex(launch.role_of.shape):
                for port in range(RAMP + 1):
                    told = crossings.crossing(r, c, port)
                    mine = {colour: seen[r, c, port, colour] for colour in range(24) if (r, c, port, colour) in seen}
                    if port == RAMP:
                        assert {n: w.tolist() for n, w in crossings.delivered(r, c).items()} == {
                            n: w.tolist() for n, (w, _) in told.items()
                        }
                    assert set(told) == set(mine), (launch.name, r, c, port)
                    for colour, (expected, kinds) in mine.items():
                        where = (launch.name, r, c, port, colour)
                        assert told[colour][0].tolist() == expected.tolist(), where
                        assert told[colour][1].tolist() == kinds.tolist(), where
                        words += len(kinds)
    return words


def check(seed, shape, dtype, specials, phases=4, kinds=RandomProgram.KINDS):
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=phases, kinds=kinds)
    return compare(lower(program), streams)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(**CASES)
def test_mixed_phases(seed, shape, dtype, specials):
    check(seed, shape, dtype, specials)


@pytest.mark.parametrize("kind", sorted(set(RandomProgram.KINDS) - {"cut"}))
@settings(deadline=None, derandomize=True, max_examples=15)
@given(**CASES)
def test_each_kind_of_phase(kind, seed, shape, dtype, specials):
    if kind == "gemv":
        shape = (shape[0], shape[0])
    check(seed, shape, dtype, specials, phases=2, kinds=(kind,))


@pytest.mark.parametrize("to", [(1, 0), (2, 0, 1, 4, 3), (3, 2, 1, 0)])
def test_permutations(to):
    cols = len(to)
    b = ProgramBuilder("permute", 2, cols, "fp32")
    x, y = b.tensor("x", (3,)), b.tensor("y", (3,))
    b.phase(StreamIn("in", x, "x", "scatter_row"))
    b.phase(Permute("permute", x, y, to))
    b.phase(StreamOut("out", y, "y", "gather_row"))
    b.launch("all")
    stream = np.random.default_rng(1).normal(size=(2, cols, 3)).astype(np.float32)
    assert compare(lower(b.build({"kind": "none"})), {"x": stream}) > 0


@settings(deadline=None, derandomize=True, max_examples=15)
@given(**CASES, block=st.integers(1, 6))
def test_blocked_sums(seed, shape, dtype, specials, block):
    writer = RandomProgram(np.random.default_rng(seed), *shape, dtype, specials)
    writer.b.accumulation, writer.b.block = "bf16_blocked", block
    for kind in ("gemm", "wgrad", *(("gemv",) if shape[0] == shape[1] else ())):
        writer.add(kind)
    assert compare(lower(writer.finish()), writer.streams) > 0


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=2000)
@given(**CASES)
def test_mixed_phases_many(seed, shape, dtype, specials):
    check(seed, shape, dtype, specials, phases=8)
