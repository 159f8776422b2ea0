"""The wavelet executor and the reference machine end in one state, whatever the links, costs and queues."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.random_hooks import HOOKS, random_hooks
from tests.emulator.random_programs import RandomProgram, random_program
from tests.emulator.test_equality import SHAPES
from tests.emulator.wavelet_pairs import MODELS, link_lengths, run_pair
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.hooks import LaunchHooks, LinkHook
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.scan import quiescent_hash
from yieldkit.quantities import WEST
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import Broadcast, Program
from yieldkit.workloads.traffic import row_permutation_traffic, traffic_expected, traffic_streams

DEPTHS = (1, 2, 4, 8)
CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "shape": st.sampled_from(SHAPES),
    "dtype": st.sampled_from(["bf16", "fp16", "fp32"]),
    "specials": st.sampled_from([0.0, 0.03, 0.4]),
    "model": st.sampled_from(MODELS),
    "depth": st.sampled_from(DEPTHS),
}


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def check(seed, shape, dtype, specials, model, depth, phases=6, kinds=RandomProgram.KINDS, **numerics):
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=phases, kinds=kinds)
    low = lower(Program.from_dict({**program.to_dict(), **numerics}))
    pitches = link_lengths(np.random.default_rng(seed), low)
    results, _ = run_pair(low, streams, rounds=2, depth=depth, timing=Timing.preset(model), pitches=pitches)
    assert all(result.completed for result in results)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(**CASES)
def test_random_programs(seed, shape, dtype, specials, model, depth):
    check(seed, shape, dtype, specials, model, depth)


@pytest.mark.parametrize("kind", ["gemm", "wgrad", "gemv"])
@settings(deadline=None, derandomize=True, max_examples=8)
@given(block=st.integers(1, 5), **CASES)
def test_blocked_accumulation(kind, block, seed, shape, dtype, specials, model, depth):
    if kind == "gemv":
        shape = (shape[0], shape[0])
    check(seed, shape, dtype, specials, model, depth, phases=2, kinds=(kind,), accumulation="bf16_blocked", block=block)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(
    to=st.integers(1, 9).flatmap(lambda n: st.permutations(range(n))),
    rows=st.integers(1, 3),
    words=st.integers(1, 14),
    load=st.sampled_from([0.1, 0.5]),
    seed=CASES["seed"],
    model=CASES["model"],
    depth=CASES["depth"],
)
def test_row_permutations(to, rows, words, load, seed, model, depth):
    program = row_permutation_traffic(rows=rows, cols=len(to), to=to, words=words, rounds=3, load=load)
    low, streams = lower(program), traffic_streams(program, seed=seed)
    pitches = link_lengths(np.random.default_rng(seed), low)
    results, _ = run_pair(low, streams, depth=depth, timing=Timing.preset(model), pitches=pitches)
    assert results[-1].completed
    for name, wanted in traffic_expected(program, streams).items():
        assert (results[-1].outputs[name] == wanted).all()


def test_time_changes_no_state():
    """One program with every kind of cost: cycles differ, and nothing else does."""
    program, streams = random_program(7, 3, 4, "bf16", specials=0.03, phases=10)
    low = lower(program)
    ends, cycles = {}, set()
    for depth in DEPTHS:
        for model in MODELS:
            for longest in (1, 7):
                pitches = link_lengths(np.random.default_rng(3), low, longest)
                results, machine = run_pair(low, streams, depth=depth, timing=Timing.preset(model), pitches=pitches)
                assert all(result.completed for result in results)
                ends.setdefault(depth, set()).add(quiescent_hash(machine.state))
                ends.setdefault("sram", set()).add(machine.state.sram.tobytes())
                cycles.add(sum(result.cycles for result in results))
    # The room of a queue is part of the hash, the words in it are none.
    assert [len(found) for found in ends.values()] == [1] * (1 + len(DEPTHS))
    assert len(cycles) > len(MODELS) * len(DEPTHS)


def outcome(result):
    """Word for how a launch ended."""
    if result.completed:
        return "leftover" if result.scan is not None and result.scan.leftover else "completed"
    states = {wait[2] for wait in result.scan.waiting}
    return "halt" if "HALTED" in states else "runaway" if "STALLED" in states else "stall"


def strike(seed, shape, dtype, model, depth, kinds, count=1, phases=4, rounds=2, sequence=False):
    """A random program with faults in one launch of the first round; how the launches ended."""
    program, streams = random_program(seed, *shape, dtype, specials=0.03, phases=phases)
    low = lower(program)
    rng = np.random.default_rng(seed)
    struck = low.launches[int(rng.integers(len(low.launches)))].name
    hooks = random_hooks(rng, low, next(x for x in low.launches if x.name == struck), count, kinds)
    results, _ = run_pair(
        low,
        streams,
        lambda turn, launch: hooks if turn == 0 and launch.name == struck else LaunchHooks(),
        rounds=rounds,
        depth=depth,
        timing=Timing.preset(model),
        pitches=link_lengths(rng, low),
        sequence=sequence,
    )
    return Counter(outcome(result) for result in results)


FAULTS = {name: CASES[name] for name in ("seed", "dtype", "model", "depth")}
FAULTS["shape"] = st.sampled_from([(1, 3), (2, 2), (3, 2), (3, 4)])


@pytest.mark.parametrize("kind", HOOKS)
def test_every_kind_of_fault(kind):
    found = Counter()

    @settings(deadline=None, derandomize=True, max_examples=80)
    @given(**FAULTS)
    def draw(seed, shape, dtype, model, depth):
        found.update(strike(seed, shape, dtype, model, depth, (kind,)))

    draw()
    wanted = {"table": {"stall", "halt"}, "drop": {"stall"}, "route": {"stall"}, "register": {"stall", "halt"}}
    assert wanted.get(kind, {"completed"}) <= set(found), found


@settings(deadline=None, derandomize=True, max_examples=40)
@given(sequence=st.booleans(), **FAULTS)
def test_several_faults_at_once(seed, shape, dtype, model, depth, sequence):
    strike(seed, shape, dtype, model, depth, HOOKS, count=3, sequence=sequence)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=3000)
@given(**CASES)
def test_random_programs_many(seed, shape, dtype, specials, model, depth):
    check(seed, shape, dtype, specials, model, depth, phases=10)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=6000)
@given(sequence=st.booleans(), count=st.integers(1, 4), **FAULTS)
def test_faults_many(seed, shape, dtype, model, depth, sequence, count):
    strike(seed, shape, dtype, model, depth, HOOKS, count=count, phases=6, sequence=sequence)


@pytest.mark.parametrize(
    ("dropped", "events"), [((2,), 1), ((0,), 1), ((2, 3), 1), ((1, 4), 2), ((5,), 0), ((4, 5), 0), ((), 0)]
)
def test_a_sequence_counter_sees_a_gap_at_the_next_word(dropped, events):
    """Six words from the last core to the others; a gap shows once, where the next word comes, at the end never."""
    b = ProgramBuilder("line", 1, 3, "fp32")
    b.phase(Broadcast("p", "row", b.tensor("x", (6,), keep=True), b.tensor("y", (6,))))
    b.launch("line")
    low = lower(b.build({"kind": "none"}))
    (colour,) = low.launches[0].colours["row_multicast_west"]
    hooks = LaunchHooks(links=tuple(LinkHook(0, 2, WEST, colour, nth, True, 0) for nth in dropped))
    for sequence in (True, False):
        (result,), _ = run_pair(low, {}, lambda *_: hooks, sequence=sequence)
        assert result.completed == (not dropped)
        seen = result.scan.events if result.scan is not None else ()
        assert seen == (((0, 1, "sequence", events),) if sequence and events else ())
