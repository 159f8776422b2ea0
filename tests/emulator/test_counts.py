"""The count interpreter gives the end state of the whole machine: cores, queues, counters, scan; at any size."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.counting import compare, differences, loaded
from tests.emulator.flip_table import flips_of
from tests.emulator.random_programs import random_program
from tests.emulator.test_equality import SHAPES
from tests.emulator.tiny import gemm_program
from yieldkit.emulator import counts
from yieldkit.emulator.counts import count_launch
from yieldkit.emulator.edge_runs import edge_runs
from yieldkit.emulator.hooks import LaunchHooks, LinkHook, RegisterHook, RouteHook, SramHook
from yieldkit.emulator.host_words import inputs_of, words_in
from yieldkit.emulator.kernels import counts as kernel
from yieldkit.emulator.kernels import machine
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import Gemm, StreamIn, StreamOut


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def drop(r, c, port, colour, nth):
    return LaunchHooks(links=(LinkHook(r, c, port, colour, nth, True, 0),))


def every_drop(low, streams, depth):
    """(hooks) for every word that crosses any link of the first launch."""
    whole = loaded(low, depth)
    whole.launch(low.launches[0], streams)
    for core, colour, port in np.argwhere(whole.state.sent[:, :, :4] > 0).tolist():
        for nth in range(int(whole.state.sent[core, colour, port])):
            yield drop(*divmod(core, low.program.cols), port, colour, nth)


@pytest.mark.parametrize(("size", "depth"), [((2, 3, 1), 1), ((2, 3, 1), 4), ((3, 3, 2), 2)])
def test_every_word_of_a_product_lost_in_turn(size, depth):
    rows, cols, tiles = size
    low, streams = gemm_program(rows, cols, tiles=tiles)
    ends = set()
    for hooks in every_drop(low, streams, depth):
        counted, result, differs = compare(low, low.launches[0], loaded(low, depth), streams, hooks, depth)
        assert counted is not None
        assert differs == [], hooks
        ends.add(result.completed)
    assert ends == {True, False}


def test_lost_words_of_links_that_number_their_words():
    low, streams = gemm_program(2, 3)
    seen = 0
    for hooks in every_drop(low, streams, 4):
        more = LaunchHooks(links=(*hooks.links, LinkHook(0, 0, 1, 1, 1, True, 0), LinkHook(0, 0, 1, 1, 2, True, 0)))
        for struck in (hooks, more):
            whole = loaded(low, sequence=True)
            counted, _, differs = compare(low, low.launches[0], whole, streams, struck, sequence=True)
            assert differs == [], struck
            seen += any(kind == "sequence" for _, _, kind, _ in counted.scan().events)
    assert seen > 100


def sweep(low, streams, core, depth):
    decided = undecided = 0
    for flip in flips_of(low, core):
        counted, _, differs = compare(low, low.launches[0], loaded(low, depth), streams, flip.hooks, depth)
        assert differs == [], flip
        decided, undecided = decided + (counted is not None), undecided + (counted is None)
    # Only a core that writes over its own tables is left to the machine.
    assert 0 < undecided < decided / 100
    return decided


def test_every_bit_of_a_core():
    low, streams = gemm_program(2, 3, m=1, kc=1, part=1, sram_words=256)
    assert sweep(low, streams, (0, 1), 4) > 1000


@pytest.mark.long
@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("core", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)])
def test_every_bit_of_every_role(core, depth):
    low, streams = gemm_program(3, 3, tiles=2)
    sweep(low, streams, core, depth)


def some_hooks(rng, low, launch, sent):
    """A lost word, or a flipped bit of tables, registers or routes."""
    rows, cols = low.program.rows, low.program.cols
    core = divmod(int(rng.integers(rows * cols)), cols)
    role = launch.roles[launch.role_of[core]]
    kind = rng.integers(5)
    crossed, live = np.argwhere(sent[:, :, :4] > 0), np.argwhere(role.routes != 0)
    if kind < 2 and len(crossed):
        number, colour, port = crossed[rng.integers(len(crossed))].tolist()
        return drop(*divmod(number, cols), port, colour, int(rng.integers(sent[number, colour, port])))
    if kind == 2 and role.n_tasks:
        address = launch.table_base + int(rng.integers(len(role.tables)))
        phase = int(rng.integers(len(launch.launch.phases)))
        return LaunchHooks(sram=(SramHook(*core, phase, address, 1 << int(rng.integers(32))),))
    if kind == 3 and role.n_tasks:
        operand = int(rng.integers(-1, 3))
        word = int(rng.integers(2 if operand < 0 else 4))
        task, element = int(rng.integers(role.n_tasks)), int(rng.integers(4))
        return LaunchHooks(registers=(RegisterHook(*core, task, element, operand, word, 1 << int(rng.integers(32))),))
    if len(live):
        colour, position = live[rng.integers(len(live))].tolist()
        return LaunchHooks(routes=(RouteHook(*core, 0, colour, position, 1 << int(rng.integers(9))),))
    return LaunchHooks()


def check(seed, shape, depth, phases, draws=4, **options):
    """Random faults in a random launch of a random program."""
    rng = np.random.default_rng(seed)
    program, streams = random_program(seed, *shape, "bf16", phases=phases)
    low = lower(program)
    number = int(rng.integers(len(low.launches)))
    launch = low.launches[number]

    def before():
        whole = loaded(low, depth)
        for other in low.launches[:number]:
            whole.launch(other, streams)
        return whole

    whole = before()
    counted, result, differs = compare(low, launch, whole, streams, None, depth)
    assert counted is not None
    assert (counted.completed, result.completed, differs) == (True, True, [])
    sent = whole.state.sent.copy()
    decided = 0
    for _ in range(draws):
        hooks = some_hooks(rng, low, launch, sent)
        counted, _, differs = compare(low, launch, before(), streams, hooks, depth, **options)
        assert differs == [], hooks
        decided += counted is not None
    # One in some thousands writes over its own tables, or goes round for ever.
    assert decided >= draws - 1


CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "shape": st.sampled_from(SHAPES),
    "depth": st.sampled_from([1, 2, 4, 8]),
    "phases": st.integers(2, 8),
}


@settings(deadline=None, derandomize=True, max_examples=150)
@given(**CASES)
def test_random_faults_in_random_programs(seed, shape, depth, phases):
    check(seed, shape, depth, phases)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(**CASES)
def test_greater_steps_change_nothing(seed, shape, depth, phases):
    check(seed, shape, depth, phases, steps=150)


@pytest.mark.long
@pytest.mark.parametrize("steps", [150, counts.STEPS])
@settings(deadline=None, derandomize=True, max_examples=4000)
@given(**CASES)
def test_random_faults_in_random_programs_many(steps, seed, shape, depth, phases):
    check(seed, shape, depth, phases, draws=12, steps=steps)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(SHAPES))
def test_edge_streams_as_runs(seed, shape):
    program, streams = random_program(seed, *shape, "bf16")
    for launch in program.launches:
        expected = {}
        for phase in inputs_of(launch):
            for item in words_in(program, phase, streams[phase.stream]):
                key = (item.r * program.cols + item.c, item.port, item.colour)
                expected.setdefault(key, []).extend(item.kinds.tolist())
        spelled = {
            key: [
                kind for words, last, times in runs for _ in range(times) for kind in [0] * words + [last] * (last > 0)
            ]
            for key, runs in edge_runs(program, launch).items()
        }
        assert spelled == {key: expected[key] for key in sorted(expected)}


def test_without_looking_for_circles_a_stall_would_be_missed():
    """The negative control of `count_gates`: a lost word that closes a circle through queues."""
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        program, streams = random_program(seed, 2, 3, "bf16", phases=6)
        low = lower(program)
        launch = low.launches[0]
        whole = loaded(low, 1)
        whole.launch(launch, streams)
        for _ in range(6):
            hooks = some_hooks(rng, low, launch, whole.state.sent)
            if not hooks.links:
                continue
            graph = counts._graph(low, launch, hooks, (), 1, 1 << 16)
            assert kernel.forward(graph, 1 << 40) == kernel.ENDED
            kernel.back(graph)
            largest = counts.counted(low, launch, graph, ())
            faulty = loaded(low, 1)
            result = faulty.launch(launch, streams, hooks)
            found += bool(differences(largest, faulty, result))
            assert differences(count_launch(low, launch, hooks, queue_depth=1), faulty, result) == []
    assert found > 0


def wafer_product(rows, cols):
    """Input, a streamed product and its output; one token and one feature a core."""
    b = ProgramBuilder("product", rows, cols, "bf16")
    x, y = b.tensor("x", (1, 1), dtype="bf16"), b.tensor("y", (1, 1))
    b.phase(StreamIn("x.in", x, "x", "scatter_row"))
    b.phase(Gemm("product", x, y, "w", 1))
    b.phase(StreamOut("y.out", y, "y", "gather_row"))
    b.launch("product")
    return lower(b.build({"kind": "none"}))


# A partial sum, a weight on its way down, and a result on its way back.
LOST = {"chain": (1, lambda c: 1 + c % 2, 5), "weights": (2, lambda c: 0, 7), "scatter": (3, lambda c: 3, 3)}


@pytest.mark.parametrize("what", sorted(LOST))
def test_stalls_grow_with_the_fabric_as_on_a_small_one(what):
    """At 40 x 40 against the whole machine; and the stall looks the same for a fabric of another size."""
    port, colour, nth = LOST[what]
    stalled = {}
    for side in (12, 40):
        low = wafer_product(side, side)
        rng = np.random.default_rng(1)
        streams = {
            "x": rng.integers(-4, 5, (side, side, 1, 1)).astype(np.float32),
            "w": rng.integers(-4, 5, (side, side)).astype(np.float32),
        }
        hooks = drop(side // 2, side // 2, port, colour(side // 2), nth)
        counted, result, differs = compare(low, low.launches[0], loaded(low), streams, hooks)
        assert not result.completed
        assert differs == []
        stalled[side] = float((counted.status == machine.RUNNING).mean())
    assert 0 < stalled[40] < 0.8
    assert abs(stalled[40] - stalled[12]) < 0.2


@pytest.mark.long
@pytest.mark.parametrize("what", sorted(LOST))
def test_a_stalled_wafer(what):
    """750 x 994 cores: every count agrees with its neighbours' counts and with why the cores wait."""
    port, colour, nth = LOST[what]
    low = wafer_product(750, 994)
    counted = count_launch(low, low.launches[0], drop(375, 497, port, colour(497), nth))
    assert counted is not None
    assert not counted.completed
    assert counted.missing
    assert (counted.length >= 0).all()
    assert (counted.length <= 4).all()
    waiting = counted.waiting()
    assert len(waiting) == int((counted.status == machine.RUNNING).sum()) > 0
    mismatches = counted.scan().links
    assert [link[:4] for link in mismatches] == [(375, 497, port, colour(497))]
    assert mismatches[0][4] - mismatches[0][5] == 1


@pytest.mark.long
def test_a_wafer_runs_clean_and_stalls_on_the_tensor_executor():
    low = wafer_product(750, 994)
    rng = np.random.default_rng(0)
    streams = {
        "x": rng.integers(-4, 5, (750, 994, 1, 1)).astype(np.float32),
        "w": rng.integers(-4, 5, (994, 994)).astype(np.float32),
    }
    executor = TensorExecutor(low)
    clean = executor.launch(low.launches[0], streams)
    assert clean.completed
    expected = np.einsum("rkab,kn->rn", streams["x"], streams["w"])
    assert (clean.outputs["y"].reshape(750, 994) == expected).all()
    port, colour, nth = LOST["chain"]
    result = executor.launch(low.launches[0], streams, drop(375, 497, port, colour(497), nth))
    assert not result.completed
    assert executor.settled == Counter(counts=1)
    assert {r for r, *_ in result.scan.waiting} == {375}
