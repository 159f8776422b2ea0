"""Training and decode steps of a GPT under faults: windows give every step that the reference machine gives."""

from collections import Counter

import numpy as np
import pytest

from tests.emulator.test_crossings import compare
from tests.emulator.test_windows import KINDS, draw, same
from tests.emulator.tiny import GPT, batches, perfect, tiny_gpt
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.faults import FAULT_KINDS, FaultPlan, FaultSampler
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_training


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


class Kept:
    """The executor of a job, with what each launch gave."""

    def __init__(self, executor):
        self.executor, self.results = executor, []

    def launch(self, low, streams, hooks=None):
        self.results.append(self.executor.launch(low, streams, hooks))
        return self.results[-1]

    def __getattr__(self, name):
        return getattr(self.executor, name)


class Once:
    """Hooks that strike one launch of the first step."""

    def __init__(self, launch, hooks):
        self.launch, self.drawn = launch, hooks

    def hooks(self, step, low):
        return self.drawn if step == 0 and low.index == self.launch else LaunchHooks()


def strike(low, faults, steps, options):
    """Steps under faults on both executors; the levels that settled them."""
    jobs = [Job.start(low, executor=name, **options) for name in ("reference", "tensor")]
    jobs[1].executor.window_from = 0
    for job in jobs:
        job.executor = Kept(job.executor)
    for _ in range(steps):
        one, other = (job.run_step(faults) for job in jobs)
        assert one.digest == other.digest
        assert jobs[0].memoryx.state_hash == jobs[1].memoryx.state_hash
        if one.stopped is not None:
            break
    for one, other in zip(*(job.executor.results for job in jobs), strict=True):
        if other.scan is not None:
            same(one, other, hashes=not one.completed)
    return jobs[1].executor.settled


def draw_many(low, seeds, steps, **options):
    placement = Placement.of(low.program, perfect())
    sampler, levels = FaultSampler(low, placement, steps), Counter()
    for seed in seeds:
        for kind in FAULT_KINDS:
            event = sampler.draw(kind, np.random.default_rng([seed, FAULT_KINDS.index(kind)]))
            levels.update(strike(low, FaultPlan([event], placement), steps, options))
    return levels


def draw_hooks(low, seeds, steps, **options):
    """Registers, results and words on links struck anywhere, which leaves no table struck."""
    levels = Counter()
    for seed in seeds:
        for kind in ("register", "result", "flip"):
            rng = np.random.default_rng([seed, KINDS.index(kind)])
            launch = low.launches[int(rng.integers(len(low.launches)))]
            levels.update(strike(low, Once(launch.index, draw(low, launch, rng, kind)), steps, options))
    return levels


def training(rows, cols):
    return lower(gpt_training(rows=rows, cols=cols, **GPT | {"sequences": rows}))


def drawn(seed, steps, sequences=4):
    """Batches of random tokens."""
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(0, GPT["vocabulary"], (2, sequences, GPT["context"]))) for _ in range(steps)]


def decode(side=2):
    return lower(gpt_decode(side=side, prompts=[[1, 2], [3, 4]], **GPT))


def test_training():
    low = training(4, 2)
    levels = draw_many(low, range(5), 1, batches=drawn(0, 1)) + draw_hooks(low, range(5), 1, batches=drawn(0, 1))
    assert min(levels[level] for level in ("core", "row", "rows", "whole")) > 0, levels


def test_decode():
    """In a token's one launch wrong values reach every core, and a struck table stays for the next token."""
    levels = draw_many(decode(), range(4), 2) + draw_hooks(decode(4), range(8), 2)
    assert min(levels[level] for level in ("core", "whole")) > 0, levels


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(3, 2), (4, 2), (4, 4)])
def test_training_many(shape, seed):
    levels = draw_many(training(*shape), range(100 * seed, 100 * seed + 25), 2, batches=drawn(seed, 2, shape[0]))
    assert min(levels[level] for level in ("core", "row", "rows", "whole")) > 0, levels


@pytest.mark.long
def test_decode_many():
    draw_many(decode(), range(200), 3)
    draw_hooks(decode(4), range(100), 3)


def test_golden_traffic_of_a_training_step():
    """Streams of a step as MemoryX makes them, all launches, every link."""
    low = tiny_gpt()
    job = Job.start(low, batches=batches(1))
    tokens, targets = batches(1)[0]
    streams = {}
    for launch in low.launches:
        streams |= job.memoryx.streams(launch.launch, tokens, targets)
    assert compare(low, streams) > 10_000
