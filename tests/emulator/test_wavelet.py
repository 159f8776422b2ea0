"""The wavelet executor and the reference machine end in one state, whatever the links, costs and queues."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.random_programs import RandomProgram, random_program
from tests.emulator.test_equality import SHAPES
from tests.emulator.wavelet_pairs import MODELS, link_lengths, run_pair
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.lowering import lower
from yieldkit.workloads.program import Program

DEPTHS = (1, 2, 4, 8)
CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "shape": st.sampled_from(SHAPES),
    "dtype": st.sampled_from(["bf16", "fp16", "fp32"]),
    "specials": st.sampled_from([0.0, 0.03, 0.4]),
    "model": st.sampled_from(MODELS),
    "depth": st.sampled_from(DEPTHS),
}


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def check(seed, shape, dtype, specials, model, depth, phases=6, kinds=RandomProgram.KINDS, **numerics):
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=phases, kinds=kinds)
    low = lower(Program.from_dict({**program.to_dict(), **numerics}))
    pitches = link_lengths(np.random.default_rng(seed), low)
    results, _ = run_pair(low, streams, rounds=2, depth=depth, timing=Timing.preset(model), pitches=pitches)
    assert all(result.completed for result in results)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(**CASES)
def test_random_programs(seed, shape, dtype, specials, model, depth):
    check(seed, shape, dtype, specials, model, depth)
