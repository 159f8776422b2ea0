"""Faults in programs drawn at random: both executors agree on every launch, completed or not, in words and in scans."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.random_programs import random_program
from tests.emulator.test_equality import CASES, bits, differing
from tests.emulator.tiny import perfect
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.errors import BadInput
from yieldkit.faults import FAULT_KINDS, FaultPlan, FaultSampler


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def draw(low, kind, rng):
    placement = Placement.of(low.program, perfect())
    try:
        return FaultPlan([FaultSampler(low, placement, 1).draw(kind, rng)], placement)
    except BadInput:
        return None  # nothing of this kind exists there: a launch without links, without tensors


def strike(seed, shape, dtype, specials, kind, rounds=2):
    """Runs all launches twice with one fault in the first round; True when some launch did not complete."""
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=4)
    low = lower(program)
    plan = draw(low, kind, np.random.default_rng([seed, 1]))
    if plan is None:
        return False
    reference, tensor = ReferenceExecutor(low), TensorExecutor(low)
    for turn in range(rounds):
        for launch in low.launches:
            hooks = plan.hooks(turn, launch)
            one, other = (e.launch(launch, streams, hooks) for e in (reference, tensor))
            where = (plan.events, turn, launch.name)
            assert one.completed == other.completed, where
            assert one.missing == other.missing, where
            assert differing(one.outputs, other.outputs) == [], where
            assert differing(one.taps, other.taps) == [], where
            if other.scan is not None:
                assert one.scan == other.scan, where
            if not one.completed:
                return True
        kept = [t.name for t in program.tensors if t.keep or t.values]
        assert [n for n in kept if (bits(reference.read(n)) != bits(tensor.read(n))).any()] == [], plan.events
    return False


@settings(deadline=None, derandomize=True, max_examples=80)
@given(**CASES, kind=st.sampled_from(FAULT_KINDS))
def test_a_fault_in_any_program(seed, shape, dtype, specials, kind):
    strike(seed, shape, dtype, specials, kind)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=8000)
@given(**CASES, kind=st.sampled_from(FAULT_KINDS))
def test_a_fault_in_any_program_many(seed, shape, dtype, specials, kind):
    strike(seed, shape, dtype, specials, kind)
