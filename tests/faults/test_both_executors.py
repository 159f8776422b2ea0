"""One and the same fault on both executors: equal hashes, equal symptoms, equal quiescent states."""

from collections import Counter

import numpy as np
import pytest

from tests.emulator.tiny import GPT, batches, perfect, tiny_gpt
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.faults import FAULT_KINDS, FaultEvent, FaultPlan, FaultSampler
from yieldkit.workloads.decode import gpt_decode


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def compare(low, placement, events, steps, **options):
    """Runs both, asserts that they agree in everything, and returns the tensor executor's result."""
    plan = FaultPlan(events, placement)
    results, scans = {}, {"tensor": [], "reference": []}
    for executor in scans:

        def keep(step, result, mine=scans[executor]):
            if result.stopped is not None:
                mine.append(result.stopped[1].scan)

        options |= {"steps": steps, "faults": plan, "origin": placement.origin, "progress": keep}
        results[executor] = run(low, perfect(), executor=executor, **options)
    one, other = results["tensor"], results["reference"]
    assert one.step_digests == other.step_digests, events
    assert one.state_hash == other.state_hash, events
    assert one.symptoms.to_dict() == other.symptoms.to_dict(), events
    assert scans["tensor"] == scans["reference"], events
    assert len(scans["tensor"]) == int(one.symptoms.status != "COMPLETED")
    return one


def label(result, clean):
    symptoms = result.symptoms
    if symptoms.status != "COMPLETED":
        return symptoms.status
    if result.state_hash == clean.state_hash:
        return "same"
    return "nonfinite" if symptoms.nonfinite_step is not None else "differs"


def draw_many(low, placement, steps, seeds, **options):
    sampler = FaultSampler(low, placement, steps)
    clean = compare(low, placement, [], steps, **options)
    counts = Counter()
    for seed in seeds:
        for kind in FAULT_KINDS:
            event = sampler.draw(kind, np.random.default_rng([seed, FAULT_KINDS.index(kind)]))
            counts[kind, label(compare(low, placement, [event], steps, **options), clean)] += 1
    return counts


def decode():
    return lower(gpt_decode(side=2, prompts=[[1, 2], [3, 4]], **GPT))


def test_training():
    low = tiny_gpt()
    counts = draw_many(low, Placement.of(low.program, perfect(), (1, 2)), 2, range(6), batches=batches(2))
    assert counts["link_drop", "STALL_DETECTED"] > 0
    assert counts["sram_data", "differs"] > 0
    assert counts["accumulator", "differs"] > 0
    assert counts["config", "same"] > 0


def test_decode():
    low = decode()
    counts = draw_many(low, Placement.of(low.program, perfect()), 3, range(12))
    assert counts["link_drop", "STALL_DETECTED"] > 0
    assert counts["sram_data", "differs"] > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_training_many(seed):
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect(), (1, 2))
    draw_many(low, placement, 2, range(1000 * seed, 1000 * seed + 40), batches=batches(2, seed))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_decode_many(seed):
    low = decode()
    draw_many(low, Placement.of(low.program, perfect()), 3, range(1000 * seed, 1000 * seed + 60))


@pytest.mark.parametrize("address", ["first task", "table base", "descriptor base"])
def test_a_core_that_never_starts_shows_nothing_of_earlier_launches(address):
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect())
    launch = low.launches[2]
    word, mask = {
        "first task": (launch.table_base, 0x3F ^ 1), "table base": (1, 1 << 13), "descriptor base": (1, 1 << 27),
    }[address]  # fmt: skip
    event = FaultEvent("sram", 1, 1, 1, launch.name, mask=mask, address=word)
    result = compare(low, placement, [event], 2, batches=batches(2))
    assert result.symptoms.status == "CRASH_DETECTED"


def test_a_flip_after_a_cores_last_task_lasts_to_the_next_step():
    low = decode()
    placement = Placement.of(low.program, perfect())
    last = len(low.launches[0].launch.phases) - 1
    clean = compare(low, placement, [], 3)
    event = FaultEvent("sram", 0, 1, 0, "token", mask=1 << 14, phase=last, address=low.address["d0.kcache"])
    result = compare(low, placement, [event], 3)
    assert result.step_digests[0] == clean.step_digests[0]
    assert result.step_digests[1] != clean.step_digests[1]


def test_the_word_that_a_fault_leaves_behind_is_followed_over_launches():
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect())
    rng = np.random.default_rng(8)
    sampler = FaultSampler(low, placement, 2)
    for _ in range(4):
        events = [sampler.draw(kind, rng) for kind in ("sram_data", "accumulator", "link_flip")]
        compare(low, placement, events, 2, batches=batches(2))
