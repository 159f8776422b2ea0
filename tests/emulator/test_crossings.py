"""Golden traffic from tensors alone: word for word what a launch puts on every link and ramp."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.emulator.kahn import play
from tests.emulator.random_programs import RandomProgram, random_program
from tests.emulator.test_equality import CASES
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.quantities import RAMP


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


@settings(deadline=None, derandomize=True, max_examples=25)
@given(**CASES)
def test_mixed_phases(seed, shape, dtype, specials):
    check(seed, shape, dtype, specials)


@pytest.mark.parametrize("kind", sorted(set(RandomProgram.KINDS) - {"cut"}))
@settings(deadline=None, derandomize=True, max_examples=6)
@given(**CASES)
def test_each_kind_of_phase(kind, seed, shape, dtype, specials):
    if kind == "gemv":
        shape = (shape[0], shape[0])
    check(seed, shape, dtype, specials, phases=2, kinds=(kind,))
