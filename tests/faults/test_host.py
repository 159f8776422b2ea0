"""Faults on the host's side: MemoryX with and without a code, words and whole tensors on the host's link."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.tiny import GPT, batches, gemm_program, perfect, tiny_gpt
from yieldkit.diagnosis import Baseline, diagnose
from yieldkit.emulator.counts import count_launch
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.host_faults import HostMemory, MemoryHook
from yieldkit.emulator.host_words import inputs_of, outputs_of
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run, run_job
from yieldkit.emulator.stalls import stall_of
from yieldkit.emulator.symptoms import HostEvent, Symptoms
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.errors import BadInput
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.workloads import cg, gpt_decode, stencil

EXECUTORS = ("tensor", "reference", "wavelet")
ALL = 0xFFFFFFFF


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def decode():
    return lower(gpt_decode(side=2, prompts=[[1, 2], [3, 4]], **GPT))


def options_of(low):
    return {"batches": batches(3)} if low.program.job["kind"] == "training" else {}


def on_all(low, events, steps, *, code="none"):
    """Results of all executors, which agree in everything but the clock; the tensor executor's is returned."""
    placement = Placement.of(low.program, perfect())
    seen = []
    for executor in EXECUTORS:
        job = Job.start(low, executor=executor, host_code=code, **options_of(low))
        result = run_job(job, placement, steps, faults=FaultPlan(events, placement))
        symptoms = {n: v for n, v in result.symptoms.to_dict().items() if n not in ("cycles", "expected_cycles")}
        stall = stall_of(result)
        if executor != "tensor":
            assert (stall is None) == (not result.symptoms.waiting), "only cores that wait make a stall of the wafer's"
        seen.append((result, symptoms, result.state_hash, result.step_digests))
    assert seen[0][1:] == seen[1][1:] == seen[2][1:], events
    return seen[0][0]


def memoryx(tensor, index, mask, *, step=1, part="weights", keep=ALL):
    return FaultEvent("memoryx", 0, 0, step, "", mask=mask, keep=keep, tensor=tensor, index=index, part=part)


# ---- MemoryX ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["weights", "first", "second"])
def test_an_unprotected_word_of_a_training_is_another_number_from_then_on(part):
    low = tiny_gpt()
    clean = on_all(low, [], 3)
    struck = on_all(low, [memoryx("l0.wq", 5, 1 << 29, part=part)], 3)
    assert struck.symptoms.status == "COMPLETED"
    assert struck.symptoms.host_events == ()
    assert struck.step_digests[0] == clean.step_digests[0]
    # A weight is streamed in the same step; a moment shows in the update, so one step later.
    assert (struck.step_digests[1] == clean.step_digests[1]) == (part != "weights")
    assert struck.step_digests[2] != clean.step_digests[2]
    # The oracle: a job whose memory is changed by hand between the steps.
    job = Job.start(low, **options_of(low))
    job.run_step()
    word = getattr(job.memoryx, part)["l0.wq"].reshape(-1)[5:6].view(np.uint32)
    word ^= np.uint32(1 << 29)
    job.run_step()
    job.run_step()
    assert job.memoryx.state_hash == struck.memoryx.state_hash


@pytest.mark.parametrize(("keep", "mask"), [(0, 0), (0, 0x3F800000), (ALL & ~(1 << 30), 1 << 30), (ALL & ~1, 0)])
def test_one_rule_gives_zero_value_and_stuck_bits(keep, mask):
    low = tiny_gpt()
    job = Job.start(low, **options_of(low))
    before = int(job.memoryx.weights["head"].reshape(-1).view(np.uint32)[3])
    job.memory.strike([MemoryHook("weights", "head", 3, keep, mask)])
    assert int(job.memoryx.weights["head"].reshape(-1).view(np.uint32)[3]) == (before & keep) ^ mask


def test_secded_corrects_one_bit_and_says_so():
    low = tiny_gpt()
    clean = on_all(low, [], 3)
    for bit in (0, 15, 22, 31):
        struck = on_all(low, [memoryx("l0.w1", 7, 1 << bit)], 3, code="secded")
        assert struck.state_hash == clean.state_hash
        assert struck.step_digests == clean.step_digests
        assert struck.symptoms.host_events == (HostEvent("MemoryX", "memoryx_corrected", "l0.w1", 1),)
    assert diagnose(struck.symptoms, baseline=Baseline.from_runs([clean.symptoms])).code == "CORRECTED"


def test_secded_sees_two_bits_and_the_host_stops_before_the_step():
    low = tiny_gpt()
    clean = on_all(low, [], 3)
    struck = on_all(low, [memoryx("l0.w1", 7, 0b101, part="second")], 3, code="secded")
    seen = struck.symptoms
    assert seen.status == "CORRUPTION_DETECTED"
    assert seen.steps_done == 1
    assert seen.host_events == (HostEvent("MemoryX", "memoryx_uncorrectable", "l0.w1", 1),)
    assert struck.step_digests[0] == clean.step_digests[0]
    for part in ("events", "waiting", "config_mismatch", "link_mismatch", "host_missing", "leftover"):
        assert getattr(seen, part) == ()
    verdict = diagnose(seen, baseline=Baseline.from_runs([clean.symptoms]))
    assert verdict.code == "DUE_TRAP"
    assert not verdict.site_candidates
    with pytest.raises(BadInput, match="half way"):
        struck.job.checkpoint()
    # It is still wrong when it is read again.
    again = struck.job.run_step()
    assert again.host_events == seen.host_events
    assert again.report is None
    assert stall_of(struck) is None


@settings(max_examples=60, deadline=None)
@given(mask=st.integers(1, ALL), keep=st.sampled_from([ALL, ALL, 0, 0xFFFF0000]), index=st.integers(0, 63))
def test_any_pattern_acts_as_the_code_says(mask, keep, index):
    """Against the code itself on the stored word: encode, strike, decode."""
    from yieldkit.emulator.secded import CORRECTED, DETECTED, check_bits
    from yieldkit.emulator.secded import decode as read

    host = MemoryX.initial(tiny_gpt().program)
    words = host.weights["l0.wq"].reshape(-1).view(np.uint32)
    stored = words[index : index + 1].copy()
    checks = check_bits(stored)
    struck = (stored & np.uint32(keep)) ^ np.uint32(mask)
    wanted, seen = read(struck, checks)
    memory = HostMemory(host, "secded")
    memory.strike([MemoryHook("weights", "l0.wq", index, keep, mask)])
    assert words[index] == stored[0], "nothing has read it yet"
    kinds = [event.kind for event in memory.read(None)]
    assert kinds == {0: [], CORRECTED: ["memoryx_corrected"], DETECTED: ["memoryx_uncorrectable"]}[int(seen[0])]
    if seen[0] != DETECTED:
        assert words[index] == wanted[0]
        assert memory.read(None) == ()


def test_three_bits_may_pass_for_one():
    host = MemoryX.initial(tiny_gpt().program)
    found = set()
    for high in range(2, 32):
        memory = HostMemory(host.copy(), "secded")
        memory.strike([MemoryHook("weights", "l0.wq", 0, ALL, 0b11 | 1 << high)])
        kind = memory.read(None)[0].kind
        same = memory.memoryx.state_hash == host.state_hash
        found.add((kind, same))
    assert ("memoryx_corrected", False) in found
    assert ("memoryx_corrected", True) not in found


def test_two_strikes_on_one_word_add_up():
    low = tiny_gpt()
    events = [memoryx("l0.w1", 7, 1, step=0), memoryx("l0.w1", 7, 2, step=0)]
    assert on_all(low, events, 2, code="secded").symptoms.status == "CORRUPTION_DETECTED"
    back = [memoryx("l0.w1", 7, 1, step=0), memoryx("l0.w1", 7, 1, step=0)]
    assert on_all(low, back, 2, code="secded").symptoms.host_events == ()
    # Read in between: each is corrected alone.
    apart = [memoryx("l0.w1", 7, 1, step=0), memoryx("l0.w1", 7, 2, step=1)]
    assert on_all(low, apart, 2, code="secded").symptoms.host_events == (
        HostEvent("MemoryX", "memoryx_corrected", "l0.w1", 2),
    )


def test_a_word_that_decoding_does_not_read_stays_wrong_unseen():
    low = decode()
    width = GPT["width"]
    clean = on_all(low, [], 3)
    # Resident weights were read at the start; of the embeddings only the rows of a step's symbols are.
    for event, reads in (
        (memoryx("l0.wq", 0, 1 << 30), 0),
        (memoryx("wte", 31 * width, 1 << 30), 0),
        (memoryx("wte", 2 * width, 1 << 30), 1),
        (memoryx("wpe", 2 * width + 1, 1 << 30), 1),
        (memoryx("wpe", 0, 1 << 30), 0),
    ):
        result = on_all(low, [event], 3, code="secded")
        assert result.step_digests == clean.step_digests
        assert sum(seen.count for seen in result.symptoms.host_events) == reads, event
        bare = on_all(low, [event], 3)
        assert (bare.step_digests != clean.step_digests) == bool(reads), event
    assert 31 not in clean.tokens


def test_saving_reads_everything():
    low = decode()
    job = Job.start(low, host_code="secded")
    job.run_step()
    before = job.checkpoint().state_hash
    job.memory.strike([MemoryHook("weights", "l0.wq", 0, ALL, 1 << 30)])
    assert job.checkpoint().state_hash == before
    assert not job.memory.wrong
    job.memory.strike([MemoryHook("weights", "l0.wq", 0, ALL, 3)])
    with pytest.raises(BadInput, match="cannot correct"):
        job.checkpoint()


def test_the_wafers_spec_decides_the_code():
    class Wafer:
        def __init__(self, code):
            parts = {"sram": "none", "links": "none", "memoryx": code}
            protection = type("Protection", (), parts)()
            machine = type("Machine", (), {"protection": protection, "sram_words": 12_288, "queue_depth": 4})()
            self.spec = type("Spec", (), {"machine": machine})()

        def __getattr__(self, name):
            return getattr(perfect(), name)

    low = tiny_gpt()
    plan = FaultPlan([memoryx("head", 0, 1 << 20, step=0)], Placement.of(low.program, perfect()))
    kinds = {}
    for code in ("none", "secded"):
        result = run(low, Wafer(code), faults=plan, batches=batches(1))
        kinds[code] = [event.kind for event in result.symptoms.host_events]
    assert kinds == {"none": [], "secded": ["memoryx_corrected"]}


# ---- words on the host's link -----------------------------------------------------------------------------------


def stream(low, tensor, index, mask, *, step=0, keep=ALL, place="stream"):
    launch = next(
        one.name
        for one in low.launches
        if tensor in {p.stream for p in (*inputs_of(one.launch), *outputs_of(one.launch))}
    )
    return FaultEvent(place, 0, 0, step, launch, mask=mask, keep=keep, tensor=tensor, index=index)


def streams_of(low):
    """(stream, direction) of a whole step."""
    for one in low.launches:
        yield from ((p.stream, "in") for p in inputs_of(one.launch))
        yield from ((p.stream, "out") for p in outputs_of(one.launch))


def test_every_stream_of_a_training_can_be_struck_and_shows():
    low = tiny_gpt()
    clean = on_all(low, [], 1)
    effects = {"in": 0, "out": 0}
    for name, direction in streams_of(low):
        struck = on_all(low, [stream(low, name, 1, 1 << 14)], 1)
        assert struck.symptoms.status == "COMPLETED"
        assert struck.symptoms.host_events == (), "no code is on the host's link"
        effects[direction] += struck.step_digests != clean.step_digests
    assert effects["in"] > 10
    assert effects["out"] > 10


def test_a_word_is_struck_in_the_format_of_the_link():
    """In bf16 the low half of the 32-bit word is the value: bit 14 doubles the exponent, bit 30 is not there."""
    low = tiny_gpt()
    clean = on_all(low, [], 2)
    assert on_all(low, [stream(low, "f0.q.gemm", 0, 1 << 30)], 2).state_hash == clean.state_hash
    assert on_all(low, [stream(low, "f0.q.gemm", 0, 1 << 14)], 2).state_hash != clean.state_hash
    # MemoryX keeps what it sent: struck in a job that trains nothing, the next step is clean again.
    program = stencil(rows=2, cols=2, depth=2)
    two = lower(program)
    struck, clean = (on_all(two, events, 2) for events in ([stream(two, "field", 0, 1 << 20)], []))
    assert struck.step_digests[0] != clean.step_digests[0]
    assert struck.step_digests[1] == clean.step_digests[1]


def test_words_that_leave_are_struck_after_the_wafer():
    program = stencil(rows=2, cols=3, depth=4)
    low = lower(program)
    clean = on_all(low, [], 1)
    struck = on_all(low, [stream(low, "image", 13, 1 << 31)], 1)
    differs = clean.outputs["image"].view(np.uint32) ^ struck.outputs["image"].view(np.uint32)
    assert np.flatnonzero(differs).tolist() == [13]
    assert differs.reshape(-1)[13] == 1 << 31
    fed = on_all(low, [stream(low, "field", 13, 0, keep=0)], 1)
    # The word is 0 for its own core and for what it sends to its neighbours.
    changed = np.argwhere(fed.outputs["image"] != clean.outputs["image"])
    place = np.array(np.unravel_index(13, (2, 3, 4)))
    assert 1 < len(changed) <= 7
    assert (np.abs(changed - place).sum(axis=1) <= 1).all()


# ---- whole tensors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny_gpt, decode], ids=["training", "decode"])
def test_every_tensor_that_never_comes_stalls_the_job_alike_everywhere(make):
    low = make()
    baseline = Baseline.from_runs([on_all(low, [], 3).symptoms])
    for name, direction in list(streams_of(low)):
        result = on_all(low, [stream(low, name, 0, 0, step=1, place="stream_drop")], 3)
        seen = result.symptoms
        assert seen.status == "STALL_DETECTED", name
        assert seen.steps_done == 1
        assert [(e.endpoint, e.kind, e.name) for e in seen.host_events] == [("SwarmX", "dropped_tensor", name)]
        assert seen.config_mismatch == seen.link_mismatch == seen.events == ()
        if direction == "out":
            assert seen.waiting == ()
            assert dict(seen.host_missing) == {name: seen.host_events[0].count}
            assert stall_of(result) is None
        else:
            assert {core.state for core in seen.waiting} <= {"INPUT_STARVATION", "WAITING_FOR_BUFFER"}
            assert seen.waiting
            assert stall_of(result) is not None
        verdict = diagnose(seen, baseline=baseline)
        assert verdict.code == "INFRASTRUCTURE", name
        assert not verdict.site_candidates
        assert Symptoms.from_dict(seen.to_dict()) == seen


def test_counts_say_the_same_of_a_launch_without_a_stream():
    low, arrays = gemm_program(rows=4, cols=4, tiles=2)
    launch = low.launches[0]
    for name in ("x", "w"):
        hooks = LaunchHooks(withheld=(name,))
        whole = TensorExecutor(low, window_from=10_000).launch(launch, arrays, hooks)
        counted = count_launch(low, launch, hooks)
        assert not whole.completed
        assert not counted.completed
        scan = counted.scan()
        for part in ("waiting", "links", "config", "events", "leftover", "undrained"):
            assert getattr(whole.scan, part) == getattr(scan, part), (name, part)
        assert counted.missing == whole.missing
        far = TensorExecutor(low, window_from=1, largest_bytes=0)
        assert far.launch(launch, arrays, hooks).scan.waiting == whole.scan.waiting
        assert far.settled == {"counts": 1}


def test_a_tensor_that_the_cores_never_sent_is_not_called_lost():
    """An earlier stall in the same launch: nothing was there to lose."""
    low, _ = gemm_program(rows=2, cols=2)
    program = low.program
    placement = Placement.of(program, perfect())
    launch = low.launches[0].name
    stops = FaultEvent("sram", 0, 0, 0, launch, mask=0x3F, address=low.launches[0].table_base)
    drop = FaultEvent("stream_drop", 0, 0, 0, launch, tensor="y")
    plan = FaultPlan([stops, drop], placement)
    from yieldkit.emulator.host_faults import lost_streams, struck_outputs

    _, arrays = gemm_program(rows=2, cols=2)
    result = TensorExecutor(low).launch(low.launches[0], arrays, plan.hooks(0, low.launches[0]))
    assert not result.completed
    hooks = plan.stream_hooks(0, low.launches[0])
    sent = 2 * 2 * 2 * 2 - dict(result.missing)["y"]
    events = lost_streams(program, low.launches[0].launch, result, hooks)
    assert events == ((HostEvent("SwarmX", "dropped_tensor", "y", sent),) if sent else ())
    assert dict(struck_outputs(program, low.launches[0].launch, result, hooks).missing)["y"] == 16


# ---- the events -------------------------------------------------------------------------------------------------


def test_events_are_plain_data():
    for event in (memoryx("wte", 3, 1), FaultEvent("stream_drop", 0, 0, 1, "embed", tensor="embed.in")):
        assert FaultEvent.from_dict(event.to_dict()) == event
        assert event.link is None


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"place": "memoryx", "tensor": "wte", "mask": 1}, "part"),
        ({"place": "memoryx", "part": "weights", "mask": 1}, "needs a tensor"),
        ({"place": "memoryx", "part": "weights", "tensor": "wte"}, "mask"),
        ({"place": "memoryx", "part": "weights", "tensor": 3, "mask": 1}, "name"),
        ({"place": "memoryx", "part": "weights", "tensor": "wte", "mask": 1, "index": -1}, "index"),
        ({"place": "stream", "part": "weights", "tensor": "x", "mask": 1}, "only a fault of MemoryX"),
        ({"place": "stream", "mask": 1}, "stream"),
        ({"place": "sram", "mask": 1, "tensor": "x"}, "has no tensor"),
    ],
)
def test_events_that_make_no_sense(fields, match):
    with pytest.raises(BadInput, match=match):
        FaultEvent(row=0, col=0, step=0, launch="", **fields)


def test_events_from_a_file(tmp_path):
    from tests.cli.kit import call

    program = tmp_path / "cg.json"
    assert call("emulate", "program", "cg", "--rows", 2, "--cols", 2, "--depth", 2, "--out", program).status == 0
    events = tmp_path / "events.json"
    for event, status, said in (
        (memoryx("rhs", 3, 1 << 30), 0, "COMPLETED"),
        (
            FaultEvent("stream_drop", 0, 0, 1, "iterate", tensor="residual"),
            0,
            "SwarmX: dropped_tensor, residual, 2 words",
        ),
        (memoryx("rhs", 3, 1, step=9), 2, "3 steps"),
        (memoryx("nothing", 3, 1), 2, "unknown parameter"),
    ):
        events.write_text(json.dumps([event.to_dict()]))
        answer = call("emulate", "run", program, "--perfect", "2x2", "--steps", 3, "--fault", events)
        assert answer.status == status, answer
        assert said in answer.out + answer.err


def test_events_that_the_program_cannot_meet():
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect())
    launch = low.launches[0].name
    for event, match in (
        (memoryx("nothing", 0, 1), "unknown parameter"),
        (memoryx("wte", 10**6, 1), "below"),
        (FaultEvent("stream", 0, 0, 0, "nowhere", mask=1, tensor="embed.in"), "unknown launch"),
        (FaultEvent("stream", 0, 0, 0, launch, mask=1, tensor="nothing"), "no stream"),
        (FaultEvent("stream", 0, 0, 0, launch, mask=1, tensor="embed.in", index=10**6), "below"),
    ):
        with pytest.raises(BadInput, match=match):
            FaultPlan([event], placement).check(low)
    with pytest.raises(BadInput, match="moments"):
        FaultPlan([memoryx("wte", 0, 1, part="first")], placement).check(decode())
    program = cg(rows=2, cols=2, depth=2)
    FaultPlan([memoryx("rhs", 7, 1)], placement).check(lower(program))
    with pytest.raises(BadInput, match="must be one of"):
        Job.start(low, host_code="parity")
