"""One and the same fault on the tensor and on the wavelet executor: equal hashes, equal symptoms, whatever it costs."""

from collections import Counter

import numpy as np
import pytest

from tests.emulator.test_wavelet_runs import assert_same
from tests.emulator.tiny import batches, perfect, tiny_gpt
from tests.faults.test_both_executors import decode, label
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.faults import FAULT_KINDS, FaultPlan, FaultSampler


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def draw_many(low, placement, steps, seeds, **options):
    sampler = FaultSampler(low, placement, steps)
    options |= {"steps": steps, "origin": placement.origin}
    clean = run(low, perfect(), **options)
    counts = Counter()
    for seed in seeds:
        for kind in FAULT_KINDS:
            event = sampler.draw(kind, np.random.default_rng([seed, FAULT_KINDS.index(kind)]))
            plan = FaultPlan([event], placement)
            one = run(low, perfect(), faults=plan, **options)
            other = run(low, perfect(), faults=plan, executor="wavelet", timing="cs2", **options)
            assert_same(one, other)
            counts[kind, label(other, clean)] += 1
    return counts


def test_training():
    low = tiny_gpt()
    counts = draw_many(low, Placement.of(low.program, perfect(), (1, 2)), 2, range(3), batches=batches(2))
    assert counts["link_drop", "STALL_DETECTED"] > 0
    assert counts["accumulator", "differs"] > 0


def test_decode():
    low = decode()
    counts = draw_many(low, Placement.of(low.program, perfect()), 3, range(4))
    assert counts["link_drop", "STALL_DETECTED"] > 0
    assert counts["sram_data", "differs"] > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_many(seed):
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect(), (1, 2))
    draw_many(low, placement, 2, range(1000 * seed, 1000 * seed + 40), batches=batches(2, seed))
    low = decode()
    draw_many(low, Placement.of(low.program, perfect()), 3, range(1000 * seed, 1000 * seed + 60))
