"""Faults of links, queues and switches on all executors, whatever protects the links: equal ends, in any schedule."""

from collections import Counter

import numpy as np
import pytest

from tests.emulator.random_links import LINK_HOOKS, random_link_hooks
from tests.emulator.random_programs import random_program
from tests.emulator.test_equality import bits, differing
from tests.emulator.test_wavelet import outcome
from tests.emulator.wavelet_pairs import link_lengths, run_pair
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.counts import count_launch
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.links import LINK_PROTECTIONS
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.scan import quiescent_hash
from yieldkit.emulator.stalls import classify
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.emulator.waitgraph import waits_of

SHAPES = ((1, 3), (2, 2), (3, 2), (3, 4), (4, 4))
DEPTHS = (1, 2, 4, 8)
STEPS = (0, 100, 1 << 21)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


class Case:
    """A random program with one or two faults of a kind in a launch of the first round."""

    def __init__(self, seed, kind):
        rng = self.rng = np.random.default_rng([seed, LINK_HOOKS.index(kind)])
        shape, dtype = SHAPES[int(rng.integers(len(SHAPES)))], str(rng.choice(["fp32", "bf16", "fp16"]))
        program, self.streams = random_program(seed, *shape, dtype, specials=0.03, phases=4)
        self.low = lower(program)
        self.depth, self.guard = int(rng.choice(DEPTHS)), str(rng.choice(LINK_PROTECTIONS))
        self.struck = self.low.launches[int(rng.integers(len(self.low.launches)))]
        self.faults = random_link_hooks(rng, self.struck, int(rng.integers(1, 3)), (kind,))
        self.where = (seed, kind, self.depth, self.guard, self.struck.name, self.faults)

    def hooks(self, turn, launch):
        return self.faults if turn == 0 and launch.name == self.struck.name else LaunchHooks()


def on_the_clock(case):
    results, _ = run_pair(
        case.low,
        case.streams,
        case.hooks,
        rounds=2,
        depth=case.depth,
        guard=case.guard,
        timing=Timing.preset(str(case.rng.choice(["ideal", "cs2"]))),
        pitches=link_lengths(case.rng, case.low),
    )
    return Counter(outcome(result) for result in results)


def on_tensors(case):
    """Both untimed executors, windows and counts included; how the struck launch ended and what settled it."""
    low, where = case.low, case.where
    one = ReferenceExecutor(low, queue_depth=case.depth, guard=case.guard)
    two = TensorExecutor(low, queue_depth=case.depth, guard=case.guard, window_from=1)
    found = Counter()
    for turn in range(2):
        for launch in low.launches:
            hooks = case.hooks(turn, launch)
            first, second = (executor.launch(launch, case.streams, hooks) for executor in (one, two))
            assert first.completed == second.completed, where
            assert first.missing == second.missing, where
            assert first.detected == second.detected, where
            assert differing(first.outputs, second.outputs) == [], where
            assert differing(first.taps, second.taps) == [], where
            if second.scan is not None and one.machine.ended:
                assert first.scan == second.scan, where
            if hooks:
                found[outcome(first)] += 1
                found.update(kind for _, _, kind, _ in first.scan.events)
                if one.machine.ended:
                    found["counted"] += counted(case, launch, hooks, first)
            if not first.completed:
                return found + two.settled
        kept = [tensor.name for tensor in low.program.tensors if tensor.keep or tensor.values]
        assert [name for name in kept if (bits(one.read(name)) != bits(two.read(name))).any()] == [], where
    return found + two.settled


def counted(case, launch, hooks, first):
    """Hold the count interpreter against a machine's result, by words and in steps; how often it knew."""
    known = 0
    for steps in STEPS:
        state = count_launch(case.low, launch, hooks, queue_depth=case.depth, guard=case.guard, steps=steps)
        if state is None:
            continue
        known += 1
        assert state.completed == first.completed, (case.where, steps)
        one, other = state.scan(), first.scan
        for name in ("waiting", "links", "config", "events", "leftover", "undrained"):
            assert getattr(one, name) == getattr(other, name), (case.where, steps, name)
    return known


def in_any_order(case, schedules):
    """The struck round under several schedules: one state that is reached."""
    n = case.low.program.rows * case.low.program.cols
    ends = set()
    for schedule in range(schedules):
        order = np.arange(n) if schedule == 0 else case.rng.permutation(n)
        burst = (4096, 1, 3, 7, 2)[schedule % 5]
        machine = Machine(case.low, queue_depth=case.depth, guard=case.guard, order=order, burst=burst)
        for launch in case.low.launches:
            result = machine.launch(launch, case.streams, case.hooks(0, launch))
            if not result.completed:
                break
        if machine.ended and not result.completed:
            # A machine at rest is never said to be still moving.
            assert not waits_of(machine, launch).moving, case.where
            assert classify(machine, launch, result).reason
        if machine.ended:
            ends.add((quiescent_hash(machine.state), result.completed, machine.host.out_word.tobytes()))
    assert len(ends) <= 1, case.where
    return len(ends)


@pytest.mark.parametrize("kind", LINK_HOOKS)
def test_every_kind(kind):
    found, clocked, orders = Counter(), Counter(), 0
    for seed in range(8):
        found += on_tensors(Case(seed, kind))
        clocked += on_the_clock(Case(100 + seed, kind))
        orders += in_any_order(Case(200 + seed, kind), 4)
    assert orders > 0
    stalls = {"drop", "dead", "doubling", "leak", "switch"}
    wanted = {"stall"} if kind in stalls else {"leftover"} if kind == "duplicate" else {"completed"}
    assert wanted <= set(found) | set(clocked), (found, clocked)
    assert found["counted"] > 0


@pytest.mark.long
@pytest.mark.parametrize("kind", LINK_HOOKS)
def test_every_kind_many(kind):
    for seed in range(1000, 1300):
        on_tensors(Case(seed, kind))
        on_the_clock(Case(seed, kind))
        in_any_order(Case(seed, kind), 7)


@pytest.mark.long
def test_several_kinds_at_once_many():
    for seed in range(2000, 2600):
        case = Case(seed, "flip")
        case.faults = random_link_hooks(case.rng, case.struck, 4)
        case.where = (seed, case.depth, case.guard, case.faults)
        on_tensors(case)
        on_the_clock(case)
        in_any_order(case, 5)


def test_several_kinds_at_once():
    for seed in range(10):
        case = Case(seed, "flip")
        case.faults = random_link_hooks(case.rng, case.struck, 4)
        case.where = (seed, case.depth, case.guard, case.faults)
        on_tensors(case)
        on_the_clock(case)
        in_any_order(case, 3)
