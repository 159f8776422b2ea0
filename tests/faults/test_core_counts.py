"""The count interpreter and the trace of actions under every model of fault: what they decide, the machine does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.counting import compare
from tests.emulator.random_hooks import random_hooks, with_model
from tests.emulator.random_programs import random_program
from tests.faults.test_core import CODES, struck_codewords
from tests.faults.test_core_oracle import loaded
from yieldkit.emulator.actions import keeps_actions
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.tensor import TensorExecutor

SHAPES = [(1, 2), (2, 1), (2, 2), (2, 3), (1, 5)]
KINDS = ("table", "register", "index", "route")


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def check(seed, shape, kind, code, count):
    """Whether counts decided the struck launch, and whether it was known to go as the clean one does."""
    program, streams = random_program(seed, *shape, "bf16", phases=4)
    low = lower(program)
    rng = np.random.default_rng([seed, 6])
    number = int(rng.integers(len(low.launches)))
    launch = low.launches[number]
    hooks = struck_codewords(rng, with_model(rng, random_hooks(rng, low, launch, count, (kind,))), code)
    machine = loaded(low, code)
    for other in low.launches[:number]:
        machine.launch(other, streams)
    counted, result, differs = compare(low, launch, machine, streams, hooks, 4, sram_code=code)
    assert differs == [], hooks
    tensor = TensorExecutor(low)
    for other in low.launches[:number]:
        tensor.launch(other, streams)
    keeps = keeps_actions(low, launch, hooks, tensor.traffic(launch, streams)[0], sram_code=code)
    assert result.completed or not keeps, hooks
    assert counted is None or counted.completed or not keeps, hooks
    return counted is not None, keeps


CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "shape": st.sampled_from(SHAPES),
    "kind": st.sampled_from(KINDS),
    "code": st.sampled_from(CODES),
    "count": st.integers(1, 3),
}


@settings(deadline=None, derandomize=True, max_examples=40)
@given(**CASES)
def test_counts_of_struck_cores(seed, shape, kind, code, count):
    check(seed, shape, kind, code, count)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=4000)
@given(**CASES)
def test_counts_of_struck_cores_many(seed, shape, kind, code, count):
    check(seed, shape, kind, code, count)


def test_most_are_decided():
    found = [check(seed, (2, 2), KINDS[seed % 4], CODES[seed % 3], 1) for seed in range(24)]
    assert sum(decided for decided, _ in found) >= 22
    assert 4 <= sum(keeps for _, keeps in found) <= 22
