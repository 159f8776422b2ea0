"""`corrupt` on a running job: alike on all executors, at physical cores, and only what lasts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import yieldkit as yk
from tests.emulator.tiny import GPT, batches, perfect, tiny_gpt
from yieldkit.emulator import corrupt, corrupt_weights
from yieldkit.emulator.formats import encode_words
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.errors import BadInput
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.workloads import cg, gpt_decode

EXECUTORS = ("tensor", "reference", "wavelet")


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def decode():
    return lower(gpt_decode(side=2, prompts=[[1, 2], [3, 4]], **GPT))


def jobs_after(low, steps, **options):
    found = {}
    for executor in EXECUTORS:
        found[executor] = job = Job.start(low, executor=executor, **options)
        for _ in range(steps):
            job.run_step()
    return found


def same(low, steps, act, after, **options):
    """Does the same to a job of every executor and goes on; returns the tensor executor's answers and digests."""
    seen = []
    for job in jobs_after(low, steps, **options).values():
        answer = act(job)
        digests = []
        for _ in range(after):
            result = job.run_step()
            digests.append((result.digest, None if result.stopped is None else result.stopped[0].name))
            if result.stopped is not None:
                break
        seen.append((answer, digests))
    assert seen[0] == seen[1] == seen[2]
    return seen[0]


def test_a_resident_weight_is_another_from_then_on():
    low = decode()
    clean = same(low, 1, lambda job: None, 3)[1]
    address = low.address["w.l0.wq"] + 3
    answer, digests = same(low, 1, lambda job: corrupt(job, 1, 0, address, [2.5], dtype="bf16"), 3)
    assert answer.touched
    assert answer.core == (1, 0)
    assert answer.after == tuple(encode_words(np.array([2.5], np.float32), "bf16"))
    assert [one.name for one in answer.meaning] == ["w.l0.wq"]
    assert digests[0] != clean[0]

    # What was there, put back, undoes it.
    def twice(job):
        first = corrupt(job, 1, 0, address, [2.5], dtype="bf16")
        return corrupt(job, 1, 0, address, first.before)

    assert same(low, 1, twice, 3)[1] == clean


def test_it_is_what_the_fault_event_does():
    """A word overwritten between steps is the word struck before the first phase of the next."""
    low = decode()
    address = low.address["d0.kcache"]
    by_hand = same(low, 2, lambda job: corrupt(job, 0, 1, address, [0x4040]), 2)[1]
    placement = Placement.of(low.program, perfect())
    event = FaultEvent("sram", 0, 1, 2, "token", mask=0x4040, keep=0, address=address)
    job = Job.start(low)
    digests = [job.run_step(FaultPlan([event], placement)).digest for _ in range(4)]
    assert [digest for digest, _ in by_hand] == digests[2:]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_words_anywhere_alike_on_both_executors(data):
    low = data.draw(st.sampled_from([decode(), lower(cg(rows=2, cols=2, depth=3))]))
    r, c = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))
    base = low.launches[0].table_base
    top = max(low.address[name] + low.tensors[name].size for name in low.address)
    address = data.draw(st.one_of(st.integers(0, top), st.integers(base, base + 40)))
    words = data.draw(st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=3))
    steps = data.draw(st.integers(0, 2))
    seen = []
    for executor in ("tensor", "reference"):
        job = Job.start(low, executor=executor)
        for _ in range(steps):
            job.run_step()
        answer = corrupt(job, r, c, address, words)
        results = []
        for _ in range(2):
            result = job.run_step()
            stopped = None if result.stopped is None else (result.stopped[0].name, result.stopped[1].missing)
            results.append((result.digest, stopped))
            if stopped:
                break
        seen.append((answer, results))
    assert seen[0] == seen[1]


def test_tables_are_there_between_steps_only_where_they_stay():
    low = decode()
    base = low.launches[0].table_base
    # Before the first launch, and where every launch loads its own, there is nothing to strike.
    nothing = same(low, 0, lambda job: corrupt(job, 0, 0, base, [0]), 2)
    assert not nothing[0].touched
    assert nothing[1] == same(low, 0, lambda job: None, 2)[1]
    training = tiny_gpt()
    options = {"batches": batches(3)}
    answer, digests = same(
        training, 1, lambda job: corrupt(job, 0, 0, training.launches[0].table_base, [0]), 2, **options
    )
    assert not answer.touched
    assert answer.before == answer.after == (0,)
    assert digests == same(training, 1, lambda job: None, 2, **options)[1]
    # A resident task word: its image is what the role has, and without it the core halts.
    answer, digests = same(low, 1, lambda job: corrupt(job, 0, 0, base, [0]), 2)
    role = low.launches[0].roles[low.launches[0].role_of[0, 0]]
    assert answer.before == (int(role.tables[0]),)
    assert answer.meaning[0].kind == "task"
    assert digests[0][1] == "token"


def test_constants_and_the_zero():
    low = decode()
    clean = same(low, 1, lambda job: None, 2)[1]
    for name in ("k.eps", "k.inverse_width", "__zero"):
        address = low.address[name]
        answer, digests = same(low, 1, lambda job, a=address: corrupt(job, 1, 1, a, [3.0], dtype="fp32"), 2)
        assert answer.meaning[0].kind == "constant"
        assert digests != clean, name


def test_armed_words_strike_streamed_weights_in_the_next_step_only():
    low = tiny_gpt()
    options = {"batches": batches(4)}
    clean = same(low, 1, lambda job: None, 3, **options)[1]
    launch = low.launches[1]
    # A gain that has just been streamed in: SRAM holds it for some phases, and nothing at that place between steps.
    phase = 1
    held = {name: start for start, _, kind, name in low.words_in_use(1, phase, int(launch.role_of[1, 2]))}
    address = held[launch.launch.phases[0].tensor]
    answer, digests = same(
        low,
        1,
        lambda job: corrupt(job, 1, 2, address, [9.0], dtype="fp32", launch=launch.name, phase=phase),
        3,
        **options,
    )
    assert answer.armed == (launch.name, phase)
    assert answer.touched
    assert answer.before == ()
    assert digests[0] != clean[0]
    event = FaultEvent("sram", 1, 2, 1, launch.name, mask=0x41100000, keep=0, address=address, phase=phase)
    job = Job.start(low, **options)
    plan = FaultPlan([event], Placement.of(low.program, perfect()))
    assert [job.run_step(plan).digest for _ in range(4)][1:] == [digest for digest, _ in digests]


class Moved:
    """A fabric of 3 x 4 logical cores on 3 x 5 physical ones whose column 1 is bypassed."""

    shape = (3, 4)
    core_of = np.array([[(r, c + (c > 0)) for c in range(4)] for r in range(3)], np.int32)

    def logical_of(self, row, col):
        return None if col == 1 or not (0 <= row < 3 and 0 <= col < 5) else (row, col - (col > 1))

    def logical_link(self, key):
        return None


def test_physical_cores_are_looked_up():
    program = cg(rows=2, cols=3, depth=2)
    low = lower(program)
    result = yk.run(low, Moved(), steps=2, origin=(1, 0))
    x = low.address["x"]
    bypassed = yk.corrupt(result, 1, 1, x, [1])
    outside = yk.corrupt(result, 0, 0, x, [1])
    for answer in (bypassed, outside, yk.corrupt(result, 99, 99, x, [1], launch="iterate")):
        assert answer.core is None
        assert not answer.touched
        assert answer.before == ()
    assert not result.job.armed
    before = result.job.executor.read("x").copy()
    answer = yk.corrupt(result, 2, 3, x + 1, [7.5], dtype="fp32")
    assert answer.core == (1, 2)
    after = result.job.executor.read("x")
    assert after[1, 2, 1] == 7.5
    assert (after != before).sum() == 1
    assert np.array(answer.before, np.uint32).view(np.float32)[0] == before[1, 2, 1]


def test_random_resident_words():
    low = decode()
    found = {}
    for executor in ("tensor", "reference"):
        job = Job.start(low, executor=executor)
        job.run_step()
        before = {name: job.executor.read(name).copy() for name in low.tensors if name.startswith("w.")}
        found[executor] = corrupt_weights(job, 12, 5)
        changed = sum(
            int((job.executor.read(name).view(np.uint32) != was.view(np.uint32)).sum()) for name, was in before.items()
        )
        # A random word may be the one that was there; 16 bits make that unlikely.
        assert 10 <= changed <= 12
        assert (job.executor.read("d0.kcache") == Job.start(low).executor.read("d0.kcache")).all() == (job.step == 0)
    assert found["tensor"] == found["reference"]
    places = {(one.row, one.col, one.address) for one in found["tensor"]}
    assert len(places) == 12
    assert all(one.meaning[0].name.startswith("w.") for one in found["tensor"])
    assert corrupt_weights(Job.start(low), 12, 6) != found["tensor"]


def test_draws_are_uniform_over_resident_words():
    """Words of each tensor at n p ± 5 sqrt(n p (1 - p)); the negative control draws from one tensor only."""
    low = decode()
    job = Job.start(low)
    sizes = {str(i["tensor"]): low.tensors[i["tensor"]].size for i in low.program.job["resident"]}
    total, n = 4 * sum(sizes.values()), 1500
    found = corrupt_weights(job, n, 1)
    for name, size in sizes.items():
        p = 4 * size / total
        count = sum(one.meaning[0].name == name for one in found)
        assert abs(count - n * p) <= 5 * (n * p * (1 - p)) ** 0.5, name
    name = max(sizes, key=sizes.get)
    only = corrupt_weights(job, 100, 1, tensors=[name])
    p = 4 * sizes[name] / total
    assert abs(100 - 100 * p) > 5 * (100 * p * (1 - p)) ** 0.5
    assert {one.meaning[0].name for one in only} == {name}


def test_what_is_refused():
    low = decode()
    job = Job.start(low)
    for values, options, match in (
        ([], {}, "at least one"),
        ([1 << 32], {}, "32 bits"),
        ([-1], {}, "32 bits"),
        ([1.5], {}, "give dtype"),
        ([1.0], {"dtype": "fp8"}, "dtype"),
        ([1], {"launch": "nowhere"}, "unknown launch"),
        ([1], {"launch": "token", "phase": 10**4}, "phases"),
    ):
        with pytest.raises(BadInput, match=match):
            corrupt(job, 0, 0, 10, values, **options)
    with pytest.raises(BadInput, match="words of SRAM"):
        corrupt(job, 0, 0, low.sram_words - 1, [1, 2])
    with pytest.raises(BadInput, match="no resident weights"):
        corrupt_weights(Job.start(tiny_gpt()), 1, 0)
    with pytest.raises(BadInput, match="kept from step to step"):
        corrupt_weights(job, 1, 0, tensors=["x"])
    with pytest.raises(BadInput, match="resident words"):
        corrupt_weights(job, 10**6, 0)
    job.run_step()
    corrupt(job, 0, 0, low.launches[0].table_base, [0])
    assert job.run_step().stopped is not None
    with pytest.raises(BadInput, match="half way"):
        corrupt(job, 0, 0, 10, [1])
