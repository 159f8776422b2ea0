"""Whole training and decode steps on the wavelet executor: the tensor executor's hashes, with measured cycles."""

import subprocess
import sys

import numpy as np
import pytest

from tests.emulator.tiny import batches, perfect, tiny_gpt
from tests.repair.oracle import random_case
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement, link_pitches
from yieldkit.emulator.running import run
from yieldkit.emulator.trace import Trace
from yieldkit.errors import BadInput
from yieldkit.fabric import Fabric
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.repair import plan_repair
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_training


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def apart_from_time(result):
    """Symptoms without the two that an executor without a clock can only estimate."""
    return {name: value for name, value in result.symptoms.to_dict().items() if "cycles" not in name}


def assert_same(one, other):
    assert one.step_digests == other.step_digests
    assert one.state_hash == other.state_hash
    assert apart_from_time(one) == apart_from_time(other)


def square_gpt(n, dtype="bf16"):
    """A one-layer GPT on n x n cores: a sequence a row, two features and a head a column."""
    sizes = {"layers": 1, "width": 2 * n, "heads": n, "vocabulary": 2 * n}
    rng = np.random.default_rng(n)
    tokens = [tuple(rng.integers(0, 2 * n, (2, n, 4))) for _ in range(2)]
    training = lower(gpt_training(rows=n, cols=n, context=4, sequences=n, dtype=dtype, **sizes))
    decode = lower(gpt_decode(side=n, prompts=[[1, 2], [3, 4]], context=n, sequences=2, dtype=dtype, **sizes))
    return training, tokens, decode


def check(n, steps=1, dtype="bf16", **options):
    training, tokens, decode = square_gpt(n, dtype)
    fabric = Fabric.perfect(n, n)
    for low, extra, many in ((training, {"batches": tokens}, steps), (decode, {}, 2)):
        one = run(low, fabric, steps=many, **extra)
        other = run(low, fabric, steps=many, executor="wavelet", **extra, **options)
        assert_same(one, other)
        assert other.cycles > 0
        assert other.symptoms.cycles == other.cycles


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_steps_on_8_by_8_cores(dtype):
    check(8, steps=2, dtype=dtype, timing="cs3")


@pytest.mark.long
@pytest.mark.parametrize("n", [16, 32, 64])
def test_steps_on_larger_fabrics(n):
    check(n)


def test_a_repaired_fabric_costs_cycles_and_no_bit():
    low = tiny_gpt()
    straight = run(low, perfect(), executor="wavelet", batches=batches(1))
    longer = 0
    for k in range(24):
        faults, rules = random_case(np.random.default_rng([31, k]))
        plan = plan_repair(faults, rules)
        if not plan.repaired:
            continue
        fabric = Fabric.boot(plan.firmware(wafer_id="T"), None)
        if fabric.shape[0] < 2 or fabric.shape[1] < 4:
            continue
        result = run(low, fabric, executor="wavelet", batches=batches(1))
        assert_same(run(low, fabric, batches=batches(1)), result)
        assert_same(run(low, fabric, executor="reference", batches=batches(1)), result)
        assert result.state_hash == straight.state_hash
        spans = link_pitches(Placement.of(low.program, fabric))
        if (spans == 1).all():
            assert result.cycles == straight.cycles
        else:
            assert result.cycles > straight.cycles
            longer += 1
    assert longer > 0


def test_cycles_are_those_of_the_launches_and_follow_the_timing():
    low = tiny_gpt()
    cycles = {}
    for timing in ("ideal", "cs2", Timing.preset("cs3")):
        result = run(low, perfect(), executor="wavelet", steps=2, batches=batches(2), timing=timing, trace=16)
        name = timing if isinstance(timing, str) else timing.name
        cycles[name] = result.cycles
        assert [t.launch for t in result.traces] == [launch.name for launch in low.launches]
        # Both steps take the same time: no value decides how long anything takes.
        assert 2 * sum(t.cycles for t in result.traces) == result.cycles
    assert cycles["ideal"] < cycles["cs3"] < cycles["cs2"]


def test_a_stalled_run_shows_in_its_last_trace(tmp_path):
    low = tiny_gpt()
    launch = next(one for one in low.launches if "chain_east" in one.colours)
    colour = launch.colours["chain_east"][0]
    event = FaultEvent("link_drop", 0, 0, 0, launch.name, drow=0, dcol=1, colour=colour, nth=1)
    plan = FaultPlan([event], Placement.of(low.program, perfect()))
    result = run(low, perfect(), executor="wavelet", faults=plan, batches=batches(1), trace=64)
    assert_same(run(low, perfect(), faults=plan, batches=batches(1)), result)
    assert result.symptoms.status == "STALL_DETECTED"
    trace = result.traces[-1]
    assert trace.launch == launch.name
    assert not trace.completed
    assert len(trace.waiting) == len(result.symptoms.waiting)
    loaded = Trace.load(trace.save(tmp_path / "trace.npz"))
    assert loaded.summary == trace.summary
    assert result.cycles == sum(t.cycles for t in result.traces)


def test_sequence_counters_of_a_wafer_are_acted_out():
    class Spec:
        """As much of a wafer spec as is read."""

        def __init__(self, links):
            self.machine = self
            self.protection = self
            self.sram, self.links = "none", links
            self.sram_words, self.queue_depth = 12_288, 4

    class Wafer:
        """A perfect fabric of a wafer with a protection."""

        def __init__(self, links):
            self.inner, self.spec = perfect(), Spec(links)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    low = tiny_gpt()
    launch = next(one for one in low.launches if "chain_east" in one.colours)
    event = FaultEvent("link_drop", 0, 0, 0, launch.name, drow=0, dcol=1, colour=launch.colours["chain_east"][0], nth=1)
    plan = FaultPlan([event], Placement.of(low.program, perfect()))
    seen = {}
    for executor in ("tensor", "reference", "wavelet"):
        result = run(low, Wafer("sequence"), executor=executor, faults=plan, batches=batches(1))
        seen[executor] = apart_from_time(result)
        assert [(e.row, e.col, e.kind) for e in result.symptoms.events] == [(0, 1, "sequence")]
    assert seen["tensor"] == seen["reference"] == seen["wavelet"]
    assert not run(low, perfect(), faults=plan, batches=batches(1)).symptoms.events


def test_what_the_clock_cannot_keep_is_refused():
    low = tiny_gpt()
    for wrong, said in (
        ({"timing": "cs9"}, "preset"), ({"trace": 1}, "two bins"), ({"timing": Timing(ramp_cycles=0)}, "ramp"),
        ({"timing": Timing(control=1)}, "one word a cycle"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            run(low, perfect(), executor="wavelet", batches=batches(1), **wrong)
    with pytest.raises(BadInput, match="only the wavelet executor"):
        run(low, perfect(), batches=batches(1), trace=8)
    with pytest.raises(BadInput, match="120 cycles"):
        Job.start(low, executor="wavelet", link_pitches=np.full((8, 4), 121, np.int32))
    with pytest.raises(BadInput, match="queue depth"):
        Job.start(low, executor="wavelet", queue_depth=128)


SPARSE = """
import resource
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.wavelet import WaveletMachine
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import Shift
b = ProgramBuilder("sparse", 512, 512, "fp32")
x, y = b.tensor("x", (4,), keep=True), b.tensor("y", (4,))
b.phase(Shift("east", x, y, "E"))
b.launch("sparse")
low = lower(b.build({"kind": "none"}), sram_words=200)
machine = WaveletMachine(low)
assert machine.launch(low.launches[0], {}).completed
print(machine.traffic.hops, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.long
def test_sparse_traffic_on_512_by_512_cores_needs_less_than_2_gb():
    done = subprocess.run([sys.executable, "-c", SPARSE], capture_output=True, text=True, check=True)
    hops, megabytes = (int(part) for part in done.stdout.split())
    assert hops == 512 * 511 * 4
    assert megabytes < 2000
