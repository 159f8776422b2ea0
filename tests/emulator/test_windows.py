"""A window gives what the whole gives: outputs, sums, scans, what is left in SRAM; and says so only when it does."""

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench import windows as bench
from tests.emulator.flip_table import flips_of
from tests.emulator.random_programs import random_program
from tests.emulator.test_equality import CASES, bits, differing
from tests.emulator.tiny import product
from yieldkit.emulator.actions import keeps_actions
from yieldkit.emulator.delegation import settle
from yieldkit.emulator.hooks import LaunchHooks, LinkHook, RegisterHook, ResultHook, RouteHook, SramHook
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import clean_elements
from yieldkit.emulator.scan import LogicalScan
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.emulator.windows import Box, Window
from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import Permute, Shift, StreamIn, StreamOut

SCANNED = ("launch", "waiting", "links", "config", "events", "leftover", "undrained")


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def same(one, other, hashes=True):
    """Whether two launches ended alike; scans with their hashes only where asked, for these need the whole."""
    assert one.completed == other.completed
    assert one.missing == other.missing
    assert differing(one.outputs, other.outputs) == []
    assert differing(one.taps, other.taps) == []
    if hashes:
        assert one.scan == other.scan
    assert [getattr(one.scan, n) for n in SCANNED] == [getattr(other.scan, n) for n in SCANNED]


def sweep(low, streams, core, every=1, depth=4):
    """Levels that settle the flips of one core, by kind of word and whether the launch completes."""
    levels = Counter()
    clean = ReferenceExecutor(low).launch(low.launches[0], streams)
    for number, flip in enumerate(flips_of(low, core)):
        reference = ReferenceExecutor(low, queue_depth=depth)
        tensor = TensorExecutor(low, queue_depth=depth, window_from=0)
        one, other = (e.launch(low.launches[0], streams, flip.hooks) for e in (reference, tensor))
        same(one, other, hashes=number % every == 0)
        (level,) = tensor.settled
        levels[level, one.completed and differing(one.outputs, clean.outputs) != []] += 1
        if one.completed:
            after, too = (e.launch(low.launches[1], streams) for e in (reference, tensor))
            assert differing(after.outputs, too.outputs) == [], flip
    return levels


def test_every_bit_of_a_core():
    levels = sweep(*product(2, 3, sram_words=256), (0, 1), every=16)
    # What changes nothing seen from outside stays in the core; wrong results reach the end of the row.
    assert levels["core", False] > 1000
    assert levels["core", True] == 0
    assert levels["row", True] > 50
    assert levels["whole", False] > 0


@pytest.mark.long
@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("core", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)])
def test_every_bit_of_every_role(core, depth):
    levels = sweep(*product(3, 3, 2, 2, 2, 2), core, every=4, depth=depth)
    # Flips of what nothing reads, and those that counts of words settle, need no window.
    assert {"core", "row", "whole"} <= {level for level, _ in levels} <= {"core", "row", "whole", "counts", "unread"}


@pytest.mark.long
def test_the_documented_table_is_what_comes_out():
    text = (Path(__file__).resolve().parents[2] / "docs" / "windows.md").read_text()
    assert bench.flips() in text


def draw(low, launch, rng, kind):
    """One hook of a kind, anywhere."""
    rows, cols = launch.role_of.shape
    r, c = int(rng.integers(rows)), int(rng.integers(cols))
    role = launch.roles[launch.role_of[r, c]]
    mask = 1 << int(rng.integers(32))
    task, element = int(rng.integers(max(1, role.n_tasks))), int(rng.integers(4))
    if kind == "table":
        address = int(launch.table_base + rng.integers(max(1, len(role.tables))))
        return LaunchHooks(sram=(SramHook(r, c, int(rng.integers(len(launch.launch.phases))), address, mask),))
    if kind == "word":
        used = max(base + low.tensors[name].size for name, base in launch.address.items())
        return LaunchHooks(
            sram=(SramHook(r, c, int(rng.integers(len(launch.launch.phases))), int(rng.integers(used)), mask),)
        )
    if kind == "route":
        live = np.argwhere(role.routes != 0).tolist() or [(0, 0)]
        colour, position = live[int(rng.integers(len(live)))]
        return LaunchHooks(routes=(RouteHook(r, c, 0, colour, position, 1 << int(rng.integers(10))),))
    if kind == "register":
        operand, word = int(rng.integers(-1, 3)), int(rng.integers(4))
        return LaunchHooks(registers=(RegisterHook(r, c, task, element, operand, word if operand >= 0 else 0, mask),))
    if kind == "result":
        return LaunchHooks(results=(ResultHook(r, c, task, element, mask),))
    live = [(p, k) for k in range(24) for p in range(4) if ((role.routes[k] >> (3 + p)) & 1).any()] or [(1, 0)]
    port, colour = live[int(rng.integers(len(live)))]
    return LaunchHooks(links=(LinkHook(r, c, port, colour, int(rng.integers(6)), kind == "drop", mask),))


KINDS = ("table", "word", "route", "register", "result", "flip", "drop")


def strike(seed, shape, dtype, specials, kinds, rounds=2):
    """All launches twice over, faults in the first round; levels that settled them."""
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=4)
    low = lower(program)
    rng = np.random.default_rng([seed, 3])
    depth = (2, 4, 8)[seed % 3]
    reference = ReferenceExecutor(low, queue_depth=depth)
    tensor = TensorExecutor(low, queue_depth=depth, window_from=0)
    for turn in range(rounds):
        for launch in low.launches:
            hooks = LaunchHooks()
            if turn == 0:
                for kind in kinds:
                    hooks = hooks + draw(low, launch, rng, kind)
            one, other = (e.launch(launch, streams, hooks) for e in (reference, tensor))
            if other.scan is not None:
                same(one, other, hashes=launch.index == 0)
            else:
                assert one.scan is None or not any(getattr(one.scan, name) for name in SCANNED[1:])
            assert one.completed == other.completed
            assert differing(one.outputs, other.outputs) == [], (hooks, turn, launch.name)
            assert differing(one.taps, other.taps) == [], (hooks, turn, launch.name)
            if not one.completed:
                return tensor.settled
        kept = [t.name for t in program.tensors if t.keep or t.values]
        assert [n for n in kept if (bits(reference.read(n)) != bits(tensor.read(n))).any()] == [], hooks
    return tensor.settled


def test_any_hook_in_any_program():
    levels = Counter()

    @settings(deadline=None, derandomize=True, max_examples=400)
    @given(**CASES, kind=st.sampled_from(KINDS))
    def one_fault(seed, shape, dtype, specials, kind):
        levels.update(strike(seed, shape, dtype, specials, (kind,)))

    one_fault()
    assert min(levels[level] for level in ("core", "row", "rows", "whole")) > 0, levels


@settings(deadline=None, derandomize=True, max_examples=60)
@given(**CASES, kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=3))
def test_several_hooks_at_once(seed, shape, dtype, specials, kinds):
    strike(seed, shape, dtype, specials, kinds)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=8000)
@given(**CASES, kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
def test_any_hooks_in_any_program_many(seed, shape, dtype, specials, kinds):
    strike(seed, shape, dtype, specials, kinds)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(**CASES, kind=st.sampled_from(["table", "register", "route", "drop"]), depth=st.sampled_from([1, 2, 4]))
def test_a_launch_with_its_own_actions_goes_through(seed, shape, dtype, specials, kind, depth):
    """What decides before a run that nobody waits for anything new is right about it, whatever the depth of queues."""
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=3)
    low = lower(program)
    rng = np.random.default_rng([seed, 4])
    reference, tensor = ReferenceExecutor(low, queue_depth=depth), TensorExecutor(low)
    clean = ReferenceExecutor(low, queue_depth=depth)
    for launch in low.launches:
        crossings, _ = tensor.traffic(launch, streams)
        hooks = draw(low, launch, rng, kind)
        assert keeps_actions(low, launch, LaunchHooks(), crossings)
        if not clean.launch(launch, streams).completed:
            assert depth == 1
            return
        keeps = keeps_actions(low, launch, hooks, crossings)
        result = reference.launch(launch, streams, hooks)
        if keeps:
            assert result.completed, hooks
            assert not result.scan.leftover, hooks
            assert not result.scan.links, hooks
        elif not result.completed or result.scan.leftover or result.scan.config:
            return


COUNTED = (
    "sram", "route", "position", "length", "status", "task", "executed", "element", "elements", "sent", "received",
    "sunk", "events",
)  # fmt: skip


def test_every_word_and_counter_of_a_window():
    """Not only results: SRAM to the last word, and what each router has counted, are those of the whole."""
    seen = Counter()

    @settings(deadline=None, derandomize=True, max_examples=150)
    @given(**CASES, kind=st.sampled_from(KINDS))
    def one_fault(seed, shape, dtype, specials, kind):
        program, streams = random_program(seed, *shape, dtype, specials=specials, phases=3)
        low = lower(program)
        rng = np.random.default_rng([seed, 5])
        reference, tensor = ReferenceExecutor(low), TensorExecutor(low)
        target = low.launches[seed % len(low.launches)]
        for launch in low.launches[: target.index]:
            assert all(e.launch(launch, streams).completed for e in (reference, tensor))
        arrays = {name: array.copy() for name, array in tensor.arrays.items()}
        hooks = draw(low, target, rng, kind)
        crossings, _ = tensor.traffic(target, streams)
        settled = settle(low, target, hooks, crossings, arrays, 4)
        completed = reference.launch(target, streams, hooks).completed
        if settled is None:
            return
        assert completed, hooks
        level, window = settled
        seen[level] += 1
        cores = [r * shape[1] + c for r, c in window.cores]
        for name in COUNTED:
            mine, whole = getattr(window.state, name)[: window.inside], getattr(reference.machine.state, name)
            assert (mine == whole[cores]).all(), (hooks, target.name, name)

    one_fault()
    assert min(seen[level] for level in ("core", "row", "rows")) > 0, seen


def two_sends(rows, words):
    """Core (r, 0) sends `words` words to its neighbour on one colour and then on another; the last task comes back."""
    b = ProgramBuilder("two", rows, 2, "fp32")
    names = [b.tensor(name, (words,)) for name in ("x", "y", "u", "v")]
    b.phase(StreamIn("x.in", names[0], "x", "scatter_row"))
    b.phase(StreamIn("u.in", names[2], "u", "scatter_row"))
    b.launch("load")
    b.phase(Shift("shift", names[0], names[1], "E"))
    b.phase(Permute("swap", names[2], names[3], (1, 0)))
    b.launch("send")
    b.phase(StreamOut("y.out", names[1], "y", "gather_row"))
    b.phase(StreamOut("v.out", names[3], "v", "gather_row"))
    b.launch("out")
    rng = np.random.default_rng(3)
    streams = {name: rng.normal(size=(rows, 2, words)).astype(np.float32) for name in ("x", "u")}
    return lower(b.build({"kind": "none"})), streams


def swapped(launch):
    """Hooks that make core (0, 0) run its first two tasks in the other order."""
    image = launch.roles[launch.role_of[0, 0]]
    mask = int(image.tables[1] ^ image.tables[3])
    assert mask
    return LaunchHooks(sram=tuple(SramHook(0, 0, 0, launch.table_base + n, mask) for n in (1, 3)))


def test_equal_words_in_another_order_of_colours_are_not_believed():
    """The neighbour waits for one colour while the other fills its queues: only the whole shows that."""
    low, streams = two_sends(1, 20)
    reference, tensor = ReferenceExecutor(low), TensorExecutor(low, window_from=0, parts=False)
    for executor in (reference, tensor):
        assert executor.launch(low.launches[0], streams).completed
    launch, hooks = low.launches[1], swapped(low.launches[1])
    arrays = {name: array.copy() for name, array in tensor.arrays.items()}
    crossings, _ = tensor.traffic(launch, streams)
    window = Window(low, launch, Box(0, 0, 0, 0), crossings, arrays, 4)
    # Words, their order on every link and the end of the chain are as they should be.
    assert window.play(hooks)
    assert window.differs_at() == set()
    assert settle(low, launch, hooks, crossings, arrays, 4) is None
    for name, array in arrays.items():
        tensor.write(name, array)
    one, other = (e.launch(launch, streams, hooks) for e in (reference, tensor))
    assert not one.completed
    same(one, other)
    assert tensor.settled == Counter(whole=1)


def test_a_row_whose_border_is_quiet_may_talk_in_any_order():
    """And a core alone where counts say that all words come through."""
    low, streams = two_sends(2, 3)
    reference, tensor = ReferenceExecutor(low), TensorExecutor(low, window_from=0)
    for launch in low.launches:
        hooks = swapped(launch) if launch.name == "send" else None
        if hooks:
            beside = TensorExecutor(low)
            for name in launch.alive_at_start:
                beside.write(name, tensor.arrays[name].copy())
            arrays = {name: array.copy() for name, array in beside.arrays.items()}
            crossings, _ = beside.traffic(launch, streams)
            assert settle(low, launch, hooks, crossings, arrays, 4)[0] == "row"
        one, other = (e.launch(launch, streams, hooks) for e in (reference, tensor))
        assert one.completed
        if hooks:
            same(one, other)
        assert differing(one.outputs, other.outputs) == []
    assert tensor.settled == Counter(core=1)


def test_an_endless_loop_is_no_clean_end():
    """A core that runs its budget out talks to nobody on the way; the whole is run."""
    low, streams = product(2, 3, sram_words=256)
    launch = low.launches[0]
    image = launch.roles[launch.role_of[0, 1]]
    assert clean_elements(launch)[launch.role_of[0, 1]] > 0
    last = image.n_tasks - 1
    hooks = LaunchHooks(sram=(SramHook(0, 1, 0, launch.table_base + 2 * last, 1 << 6 | last << 7),))
    reference, tensor = ReferenceExecutor(low), TensorExecutor(low, window_from=0, parts=False)
    same(*(e.launch(launch, streams, hooks) for e in (reference, tensor)))
    assert tensor.settled == Counter(whole=1)


@pytest.mark.parametrize("word", ["weight", "partial sum", "result"])
def test_a_stall_of_a_rectangle_too_large_for_the_machine(word):
    """The scan from counts is that of the whole but for its hash, which covers values."""
    low, streams = product(6, 5)
    hook = {
        "weight": LinkHook(2, 3, 2, 0, 1, True, 0),
        "partial sum": LinkHook(2, 2, 1, 1, 1, True, 0),
        "result": LinkHook(2, 3, 3, 3, 0, True, 0),
    }[word]
    reference, tensor = ReferenceExecutor(low), TensorExecutor(low, window_from=0, largest_bytes=1 << 20)
    one, other = (e.launch(low.launches[0], streams, LaunchHooks(links=(hook,))) for e in (reference, tensor))
    assert not one.completed
    assert not other.completed
    assert one.missing == other.missing
    assert [getattr(one.scan, n) for n in SCANNED] == [getattr(other.scan, n) for n in SCANNED]
    assert other.scan.state_hash == ""
    assert tensor.settled == Counter(counts=1)


def test_values_that_reach_over_all_rows_are_refused_where_the_whole_is_too_large():
    low, streams = product(6, 5)
    tensor = TensorExecutor(low, window_from=0, largest_bytes=1 << 20)
    with pytest.raises(BadInput, match="6 x 5 cores word by word takes more than 1 MiB"):
        tensor.launch(low.launches[0], streams, LaunchHooks(links=(LinkHook(0, 2, 2, 0, 1, False, 1 << 14),)))


def test_small_rectangles_are_run_whole():
    """By the size of the rectangle alone, never by what struck."""
    for side, level in ((2, "whole"), (8, "core")):
        low, streams = product(side, side, sram_words=512)
        launch = low.launches[0]
        hooks = LaunchHooks(sram=(SramHook(0, 0, 0, launch.table_base, 1 << 31),))
        tensor = TensorExecutor(low, parts=False)
        same(tensor.launch(launch, streams, hooks), ReferenceExecutor(low).launch(launch, streams, hooks))
        assert tensor.settled == Counter({level: 1})


def test_the_scan_of_a_window_can_be_copied():
    low, streams = product(2, 3, sram_words=256)
    hooks = LaunchHooks(sram=(SramHook(1, 1, 0, low.launches[0].table_base, 1 << 31),))
    tensor = TensorExecutor(low, window_from=0, parts=False)
    scan = tensor.launch(low.launches[0], streams, hooks).scan
    assert tensor.settled == Counter(core=1)
    copied = deepcopy(scan)
    assert type(copied) is LogicalScan
    assert copied == scan
    assert hash(scan) == hash(deepcopy(scan))
    assert scan != replace(copied, state_hash="")
