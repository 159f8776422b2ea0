"""Core faults in whole jobs: named by physical site, equal on all executors, under every protection of SRAM."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest

from tests.emulator.flip_table import schedules
from tests.emulator.random_hooks import CORE_HOOKS, random_hooks, with_model
from tests.emulator.random_programs import random_program
from tests.emulator.test_wavelet_runs import apart_from_time
from tests.emulator.tiny import batches, perfect, tiny_gpt
from tests.faults.test_both_executors import decode
from tests.faults.test_core import CODES, struck_codewords
from tests.faults.test_links_jobs import Wafer
from yieldkit.emulator.hooks import LaunchHooks, SlowHook
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.plans import constant_array
from yieldkit.emulator.running import run
from yieldkit.emulator.scan import quiescent_hash
from yieldkit.errors import BadInput
from yieldkit.fabric import Fabric
from yieldkit.faultmap import FaultMap
from yieldkit.faults import PLACES, FaultEvent, FaultPlan
from yieldkit.repair import RowShift, plan_repair

ORIGIN = (1, 2)
PLACE_OF = {
    "sram": "sram", "routes": "route", "registers": "register", "results": "result", "operands": "operand",
    "products": "product", "indices": "index", "slow": "slow",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def event_of(hooks, placement, step, launch):
    """The one hook there is, as an event at its physical site."""
    for kind, place in PLACE_OF.items():
        for hook in getattr(hooks, kind):
            row, col = placement.physical(hook.r, hook.c)
            values = {"word" if name == "level" else name: value for name, value in vars(hook).items()}
            known = {field.name for field in fields(FaultEvent)}
            return FaultEvent(
                place, row, col, step, launch, **{name: value for name, value in values.items() if name in known}
            )
    raise AssertionError(hooks)


def draw(rng, low, placement, kind, code, steps):
    launch = low.launches[int(rng.integers(len(low.launches)))]
    hooks = struck_codewords(rng, with_model(rng, random_hooks(rng, low, launch, 1, (kind,))), code)
    return event_of(hooks, placement, int(rng.integers(steps)), launch.name)


def compare(low, event, code, steps, *, wavelet=True, **options):
    """Runs one event on the executors, asserts that they agree, and returns the tensor executor's result."""
    plan = FaultPlan([event], Placement.of(low.program, Wafer(sram=code), ORIGIN))
    executors = ("tensor", "reference", "wavelet") if wavelet else ("tensor", "reference")
    results, scans = {}, {}
    for executor in executors:
        mine = scans[executor] = []

        def keep(step, result, mine=mine):
            if result.stopped is not None:
                mine.append(result.stopped[1].scan)

        options |= {"steps": steps, "faults": plan, "origin": ORIGIN, "progress": keep}
        results[executor] = run(low, Wafer(sram=code), executor=executor, **options)
    one = results["tensor"]
    for executor in executors[1:]:
        other = results[executor]
        assert one.step_digests == other.step_digests, (event, code)
        assert one.state_hash == other.state_hash, (event, code)
        assert apart_from_time(one) == apart_from_time(other), (event, code)
        assert scans["tensor"] == scans[executor], (event, code)
    return one


def many(low, steps, seeds, **options):
    placement = Placement.of(low.program, perfect(), ORIGIN)
    seen = Counter()
    for seed in seeds:
        rng = np.random.default_rng([seed, 9])
        kind, code = CORE_HOOKS[seed % len(CORE_HOOKS)], CODES[int(rng.integers(3))]
        result = compare(low, draw(rng, low, placement, kind, code, steps), code, steps, **options)
        seen[result.symptoms.status] += 1
        seen.update(event.kind for event in result.symptoms.events)
    return seen


def test_training():
    seen = many(tiny_gpt(), 2, range(18), batches=batches(2), wavelet=False)
    assert seen["COMPLETED"] >= 6
    assert len(seen) >= 3


def test_decode():
    seen = many(decode(), 3, range(100, 118))
    assert seen["COMPLETED"] >= 6
    assert len(seen) >= 3


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_training_many(seed):
    many(tiny_gpt(), 2, range(1000 * seed, 1000 * seed + 90), batches=batches(2, seed))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_decode_many(seed):
    many(decode(), 3, range(1000 * seed, 1000 * seed + 120))


# A word of the KV cache: written in an earlier step, read in every later one.


def cached(mask, **changes):
    low = decode()
    address = low.address["d0.kcache"]
    event = FaultEvent(
        "sram", *ORIGIN, 0, "token", mask=mask, address=address, phase=len(low.launches[0].launch.phases) - 1
    )
    return low, replace(event, **changes)


def test_secded_corrects_one_bit_in_every_step_until_the_word_is_stored_again():
    low, event = cached(1 << 14)
    clean = run(low, Wafer(sram="secded"), steps=3)
    result = compare(low, event, "secded", 3)
    assert result.symptoms.status == "COMPLETED"
    assert result.state_hash == clean.state_hash
    assert [(e.row, e.col, e.kind) for e in result.symptoms.events][:1] == [(*ORIGIN, "ecc_corrected")]
    # Nothing is read between the strike and the end of that step: steps 1 and 2 see it.
    counts = []

    def count(step, result):
        events = [event for scan in result.scans for event in scan.events]
        counts.append(sum(times for *_, kind, times in events if kind == "ecc_corrected"))

    plan = FaultPlan([event], Placement.of(low.program, perfect(), ORIGIN))
    run(low, Wafer(sram="secded"), steps=3, faults=plan, origin=ORIGIN, progress=count)
    assert counts[0] == 0
    assert counts[1] == counts[2] > 0
    # The same strike on an unprotected wafer changes what comes out.
    assert compare(low, event, "none", 3).state_hash != clean.state_hash


def test_a_word_that_stays_wrong_is_followed_in_windows_launch_after_launch():
    low, event = cached(1 << 14)
    plan = FaultPlan([event], Placement.of(low.program, perfect(), ORIGIN))
    jobs = {
        "reference": Job.start(low, executor="reference", sram_code="secded"),
        "tensor": Job.start(low, executor="tensor", sram_code="secded", window_from=1),
    }
    tensor = jobs["tensor"].executor
    for step in range(3):
        one, other = (job.run_step(plan) for job in jobs.values())
        assert one.digest == other.digest
        assert one.scans == other.scans
        assert tensor.machine is None
        assert next(iter(tensor.wrong.values()))[0] == 1 << 14
        assert tensor.settled["core"] == step + 1
    # What the host stores has check bits of its own.
    tensor.write("d0.kcache", tensor.read("d0.kcache"))
    assert not tensor.wrong
    assert not jobs["tensor"].run_step(plan).scans


@pytest.mark.parametrize(
    ("code", "mask", "kind"),
    [("parity", 1 << 14, "sram_parity"), ("parity", 1 << 32, "sram_parity"), ("secded", 3, "ecc_uncorrectable")],
)
def test_what_cannot_be_corrected_stops_the_job(code, mask, kind):
    low, event = cached(mask)
    clean = run(low, Wafer(sram=code), steps=3)
    result = compare(low, event, code, 3)
    assert result.symptoms.status == "CORRUPTION_DETECTED"
    assert result.symptoms.steps_done == 1
    assert {e.kind for e in result.symptoms.events} == {kind}
    assert result.step_digests[0] == clean.step_digests[0]
    assert len(result.job.tokens) == 1


@pytest.mark.parametrize(("code", "mask"), [("parity", 3), ("secded", 1 << 35), ("secded", 1 << 4)])
def test_what_nobody_sees_or_is_corrected_goes_on(code, mask):
    low, event = cached(mask)
    result = compare(low, event, code, 3)
    assert result.symptoms.status == "COMPLETED"
    assert {e.kind for e in result.symptoms.events} == ({"ecc_corrected"} if code == "secded" else set())


def test_two_single_strikes_on_one_word_add_up():
    """Nothing is scrubbed: the second bit meets the first, and both are there when the word is read."""
    low, event = cached(1)
    plan = FaultPlan([event, replace(event, mask=2)], Placement.of(low.program, perfect(), ORIGIN))
    for executor in ("tensor", "reference", "wavelet"):
        result = run(low, Wafer(sram="secded"), steps=3, faults=plan, origin=ORIGIN, executor=executor)
        assert result.symptoms.status == "CORRUPTION_DETECTED"
        assert {e.kind for e in result.symptoms.events} == {"ecc_uncorrectable"}


def test_bits_that_a_wafer_lacks_are_refused():
    low, event = cached(1 << 33)
    placement = Placement.of(low.program, Wafer(sram="secded"), ORIGIN)
    FaultPlan([event], placement).check(low)
    for code in ("none", "parity"):
        with pytest.raises(BadInput, match="bits"):
            run(low, Wafer(sram=code), faults=FaultPlan([event], replace(placement, fabric=Wafer(sram=code))))


def test_a_stuck_cell_holds_its_bit_through_every_store():
    """The accumulator's cell: once struck, each mac stores with the bit at 0."""
    low, streams = random_case()
    machine, launch, address = loaded(low)
    hooks = FaultEvent("sram", 0, 0, 0, launch.name, mask=0, keep=0xFFFFFFFF ^ 0x3F800000, address=address, lasts=True)
    placement = Placement.of(low.program, perfect())
    machine.launch(launch, streams, FaultPlan([hooks], placement).hooks(0, launch))
    assert machine.state.sram[0, address] & 0x3F800000 == 0
    once, *_ = loaded(low)
    once.launch(launch, streams, FaultPlan([replace(hooks, lasts=False)], placement).hooks(0, launch))
    assert once.state.sram[0, address] & 0x3F800000 != 0


def random_case():
    program, streams = random_program(3, 1, 2, "fp32", specials=0.0, phases=3)
    return lower(program), streams


def loaded(low):
    """A machine with its constants, its first launch, and a word that core (0, 0) stores to in it."""
    machine = Machine(low)
    for tensor in low.tensors.values():
        if tensor.values:
            machine.write(tensor.name, constant_array(tensor, low.program.rows, low.program.cols))
    launch = low.launches[0]
    role = launch.roles[launch.role_of[0, 0]]
    split = 2 * role.n_tasks
    for task in range(role.n_tasks - 1, -1, -1):
        at = split + 4 * (int(role.tables[2 * task + 1]) & 0x3FF)
        if int(role.tables[at]) >> 14 & 3 == 1 and int(role.tables[at]) >> 16 & 3 == 0:
            return machine, launch, int(role.tables[at]) & 0x3FFF
    raise AssertionError("no task stores an fp32 word")


def test_a_slow_core_costs_time_and_changes_nothing():
    low = tiny_gpt()
    options = {"steps": 2, "origin": ORIGIN, "batches": batches(2)}
    event = FaultEvent("slow", 1, 3, 1, low.launches[2].name, factor=8.0)
    plan = FaultPlan([event], Placement.of(low.program, perfect(), ORIGIN))
    for timing in ("ideal", "cs2"):
        clean = run(low, Wafer(), executor="wavelet", timing=timing, **options)
        slow = run(low, Wafer(), executor="wavelet", timing=timing, faults=plan, **options)
        assert slow.state_hash == clean.state_hash
        assert slow.symptoms.cycles > clean.symptoms.cycles
        assert slow.symptoms.expected_cycles == clean.symptoms.expected_cycles
        tensor = run(low, Wafer(), timing=timing, faults=plan, **options)
        assert tensor.state_hash == clean.state_hash
        assert tensor.job.executor.handed_on == 0
        # The cycle model follows the slow core, within what it is good for on the whole.
        more = tensor.cycles - run(low, Wafer(), timing=timing, **options).cycles
        assert abs(tensor.cycles - slow.cycles) <= 0.05 * slow.cycles
        assert abs(more - (slow.cycles - clean.cycles)) <= 0.1 * (slow.cycles - clean.cycles)


@pytest.mark.parametrize("place", ["result", "operand", "sram"])
def test_strikes_on_values_cost_no_cycles(place):
    """A core that is being struck does its elements one at a time; the clock must not show it."""
    low = tiny_gpt()
    launch = low.launches[2]
    event = FaultEvent(
        place, 1, 2, 0, launch.name, mask=1, operand=1, address=low.launches[2].table_base - 1, lasts=True
    )
    plan = FaultPlan([event], Placement.of(low.program, perfect(), ORIGIN))
    options = {"origin": ORIGIN, "batches": batches(1), "executor": "wavelet", "timing": "cs2"}
    clean = run(low, Wafer(), **options)
    struck = run(low, Wafer(), faults=plan, **options)
    assert struck.symptoms.cycles == clean.symptoms.cycles
    assert (struck.state_hash == clean.state_hash) == (place == "sram")


def test_a_bypassed_cores_fault_touches_nothing():
    faults = FaultMap((2, 6), dead_cores=[(0, 2)])
    repaired = plan_repair(faults, RowShift(1, 2, 1, (2, 4), 0))
    assert repaired.repaired
    fabric = Fabric.boot(repaired.firmware(wafer_id="T"), None)
    bypassed = [site for site in np.ndindex(2, 6) if fabric.logical_of(*site) is None]
    assert (0, 2) in bypassed
    low = tiny_gpt()
    launch = low.launches[2]
    placement = Placement.of(low.program, fabric)
    clean = run(low, fabric, batches=batches(1))
    places = [place for place in PLACES if place in PLACE_OF.values() or place in ("queue", "switch")]
    events = [
        FaultEvent(
            place,
            *site,
            0,
            launch.name,
            mask=int(place != "slow"),
            operand=1,
            keep=0xFFFFFFFF,
            factor=9.0 if place == "slow" else 1.0,
        )
        for site in bypassed
        for place in places
    ]
    plan = FaultPlan(events, placement)
    assert plan.hooks(0, launch) == LaunchHooks()
    assert run(low, fabric, faults=plan, batches=batches(1)).state_hash == clean.state_hash
    # The core that took over its place is struck under its own name.
    there = placement.physical(0, 2)
    assert FaultPlan(
        [replace(events[-1], place="slow", mask=0, factor=2.0, row=there[0], col=there[1])], placement
    ).hooks(0, launch) == LaunchHooks(slow=(SlowHook(0, 2, 2.0),))


@pytest.mark.parametrize("seed", range(8))
def test_the_final_state_depends_on_no_schedule(seed):
    program, streams = random_program(seed + 50, 2, 3, "bf16", specials=0.0, phases=4)
    low = lower(program)
    launch = low.launches[0]
    rng = np.random.default_rng([seed, 4])
    code = CODES[seed % 3]
    hooks = struck_codewords(rng, with_model(rng, random_hooks(rng, low, launch, 4, CORE_HOOKS)), code)
    ends = set()
    for order, burst in schedules(6):
        machine = Machine(low, order=order, burst=burst, sram_code=code)
        for tensor in low.tensors.values():
            if tensor.values:
                machine.write(tensor.name, constant_array(tensor, 2, 3))
        machine.launch(launch, streams, hooks)
        if not machine.ended or (machine.state.status == 5).any():
            return
        ends.add(quiescent_hash(machine.state, machine.wrong))
    assert len(ends) == 1
