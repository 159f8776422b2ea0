"""The reference machine and the tensor executor agree in every bit: outputs, fp32 sums and what is left in SRAM."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.flip_table import schedules
from tests.emulator.random_programs import RandomProgram, random_program
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.plans import constant_array
from yieldkit.emulator.scan import quiescent_hash
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.workloads.program import Program

SHAPES = [
    (1, 1), (1, 2), (2, 1), (1, 4), (1, 7), (6, 1), (2, 5), (4, 1), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3),
    (4, 5),
]  # fmt: skip
CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "shape": st.sampled_from(SHAPES),
    "dtype": st.sampled_from(["bf16", "fp16", "fp32"]),
    "specials": st.sampled_from([0.0, 0.03, 0.4]),
}


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


def differing(one, other):
    """Names whose arrays differ in shape or in a bit."""
    names = set(one) ^ set(other)
    return sorted(
        names
        | {n for n in set(one) & set(other) if one[n].shape != other[n].shape or (bits(one[n]) != bits(other[n])).any()}
    )


def run_both(program, streams, *, threads=1, rounds=2):
    """All launches `rounds` times over on both; returns nothing, asserts everything."""
    low = lower(Program.from_dict(program.to_dict()))
    reference, tensor = ReferenceExecutor(low), TensorExecutor(low, threads=threads)
    for turn in range(rounds):
        for launch in low.launches:
            one, other = reference.launch(launch, streams), tensor.launch(launch, streams)
            assert one.completed, (turn, launch.name, one.missing, one.scan)
            assert other.completed
            assert differing(one.outputs, other.outputs) == [], (turn, launch.name)
            assert differing(one.taps, other.taps) == [], (turn, launch.name)
        assert reference.machine.is_golden(low.launches[0])
        left = [t.name for t in program.tensors if t.keep or t.values]
        assert [n for n in left if (bits(reference.read(n)) != bits(tensor.read(n))).any()] == [], turn
    assert tensor.handed_on == 0


def check(seed, shape, dtype, specials, phases=6, kinds=RandomProgram.KINDS):
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=phases, kinds=kinds)
    run_both(program, streams, threads=1 + seed % 2)


@settings(deadline=None, derandomize=True, max_examples=120)
@given(**CASES)
def test_mixed_phases(seed, shape, dtype, specials):
    check(seed, shape, dtype, specials)


@pytest.mark.parametrize("kind", sorted(set(RandomProgram.KINDS) - {"cut"}))
@settings(deadline=None, derandomize=True, max_examples=25)
@given(**CASES)
def test_each_kind_of_phase(kind, seed, shape, dtype, specials):
    if kind == "gemv":
        shape = (shape[0], shape[0])
    check(seed, shape, dtype, specials, phases=3, kinds=(kind, kind, "cut"))


@settings(deadline=None, derandomize=True, max_examples=25)
@given(**CASES)
def test_no_schedule_of_the_reference_changes_its_final_state(seed, shape, dtype, specials):
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=4)
    low = lower(program)
    ends = set()
    for order, burst in schedules(shape[0] * shape[1]):
        machine = Machine(low, order=order, burst=burst)
        for tensor in low.tensors.values():
            if tensor.values:
                machine.write(tensor.name, constant_array(tensor, *shape))
        for launch in low.launches:
            assert machine.launch(launch, streams).completed
        ends.add(quiescent_hash(machine.state))
    assert len(ends) == 1


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=6000)
@given(**CASES)
def test_mixed_phases_many(seed, shape, dtype, specials):
    check(seed, shape, dtype, specials, phases=10)
