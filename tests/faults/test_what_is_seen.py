"""What a stall, a crash and a NaN look like from outside: status, places, counters and channels."""

import numpy as np
import pytest

from tests.emulator.tiny import GPT, batches, perfect, tiny_gpt
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.emulator.symptoms import Symptoms
from yieldkit.faults import FaultEvent, FaultPlan, FaultSampler
from yieldkit.workloads.decode import gpt_decode

ORIGIN = (1, 2)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def see(event, executor="tensor"):
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect(), ORIGIN)
    plan = FaultPlan([event] if event is not None else [], placement)
    return run(low, perfect(), steps=2, origin=ORIGIN, faults=plan, executor=executor, batches=batches(2)).symptoms


@pytest.mark.parametrize("executor", ["tensor", "reference"])
def test_a_lost_word_is_found_between_two_counters(executor):
    low = tiny_gpt()
    sampler = FaultSampler(low, Placement.of(low.program, perfect(), ORIGIN), 2)
    for seed in range(12):
        event = sampler.draw("link_drop", np.random.default_rng(seed))
        seen = see(event, executor)
        assert seen.status == "STALL_DETECTED"
        assert seen.stalled_launch == event.launch
        assert seen.steps_done == event.step
        assert len(seen.loss) == event.step
        (link,) = seen.link_mismatch
        assert (link.row, link.col, link.drow, link.dcol) == (event.row, event.col, event.drow, event.dcol)
        assert link.colour == event.colour
        assert link.sent == link.received + 1
        assert seen.waiting or seen.host_missing
        assert {core.state for core in seen.waiting} <= {"INPUT_STARVATION", "WAITING_FOR_BUFFER"}
        assert not seen.config_mismatch
        assert not seen.events
        assert seen.cycles < seen.expected_cycles
        assert Symptoms.from_dict(seen.to_dict()).to_dict() == seen.to_dict()


def test_an_undefined_operation_halts_its_core():
    low = tiny_gpt()
    launch = low.launches[3]
    for mask in (0x20, 1):  # a move becomes 33 or 0, and neither is an operation
        event = FaultEvent("sram", 2, 4, 1, launch.name, mask=mask, address=launch.table_base)
        seen = see(event)
        assert seen.status == "CRASH_DETECTED"
        assert seen.stalled_launch == launch.name
        halted = [core for core in seen.waiting if core.state == "HALTED"]
        assert [(core.row, core.col) for core in halted] == [(2, 4)]
        (illegal,) = seen.events
        assert (illegal.row, illegal.col, illegal.kind, illegal.count) == (2, 4, "illegal_operation", 1)
        assert {(c.row, c.col, c.kind) for c in seen.config_mismatch} >= {(2, 4, "task")}


def test_an_address_outside_sram_is_an_event():
    low = tiny_gpt()
    launch = low.launches[1]
    image = launch.roles[launch.role_of[0, 1]]
    number = int(image.tables[1]) & 0x3FF
    base = int(image.tables[2 * image.n_tasks + 4 * number]) & 0x3FFF
    event = FaultEvent(
        "register", 1, 3, 0, launch.name, mask=base ^ 0x3FFF, task=0, element=0, operand=0, word=0
    )  # fmt: skip
    for executor in ("tensor", "reference"):
        seen = see(event, executor)
        assert seen.status == "CRASH_DETECTED"
        (crossed,) = seen.events
        assert (crossed.row, crossed.col, crossed.kind) == (1, 3, "address")
        assert (1, 3, "register") in {(c.row, c.col, c.kind) for c in seen.config_mismatch}


@pytest.mark.parametrize(
    ("constant", "launch", "channel"), [("k.eps", "head", "loss"), ("k.share", "head", "gradient")]
)
def test_a_nan_ends_in_its_channel(constant, launch, channel):
    """A constant's word is known, so a mask makes a NaN of it; the share is used in the backward pass only."""
    low = tiny_gpt()
    word = int(np.float32(low.tensors[constant].values[0]).view(np.uint32))
    event = FaultEvent("sram", *ORIGIN, 1, launch, mask=word ^ 0x7FC00000, address=low.address[constant])
    for executor in ("tensor", "reference"):
        seen = see(event, executor)
        assert seen.status == "COMPLETED"
        assert (seen.nonfinite_step, seen.nonfinite_channel) == (1, channel)
        assert np.isfinite(seen.loss[0])
        assert np.isfinite(seen.loss[1]) == (channel != "loss")
    assert see(None).nonfinite_step is None


def test_a_nan_weight_is_seen_at_once():
    weights = {n: w.copy() for n, w in MemoryX.initial(tiny_gpt().program).weights.items()}
    weights["l0.w1"][3, 5] = np.nan
    hashes = set()
    for executor in ("tensor", "reference"):
        result = run(tiny_gpt(), perfect(), steps=1, weights=weights, executor=executor, batches=batches(1))
        assert (result.symptoms.nonfinite_step, result.symptoms.nonfinite_channel) == (0, "loss")
        hashes.add(result.state_hash)
    assert len(hashes) == 1


def test_a_nan_in_a_resident_weight_is_seen_in_the_logits():
    low = lower(gpt_decode(side=2, prompts=[[1], [2]], **GPT))
    weight = low.tensors["w.l0.w1"]
    assert weight.dtype == "bf16"
    resident = Job.start(low).executor.read("w.l0.w1")[0, 0].reshape(-1)[0]
    mask = (int(resident.view(np.uint32)) >> 16) ^ 0x7FC0
    event = FaultEvent("sram", 0, 0, 1, "token", mask=mask, address=low.address["w.l0.w1"])
    plan = FaultPlan([event], Placement.of(low.program, perfect()))
    for executor in ("tensor", "reference"):
        seen = run(low, perfect(), steps=3, faults=plan, executor=executor).symptoms
        assert seen.status == "COMPLETED"
        assert (seen.nonfinite_step, seen.nonfinite_channel) == (1, "logits")
        assert seen.logit_nonfinite > 0
