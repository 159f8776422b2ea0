"""Launches of which only the struck phases run word by word end in every bit as those that run whole."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.hooks import LaunchHooks, LinkHook, SramHook
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.part_runs import Part, PartMachine, never_read, struck_part, struck_rows
from yieldkit.emulator.placement import Placement
from yieldkit.fabric import Fabric
from yieldkit.faults import FaultPlan, FaultSampler
from yieldkit.quantities import EAST, SOUTH
from yieldkit.rng import generator
from yieldkit.workloads.gpt import gpt_training
from yieldkit.workloads.program import Gemm

STEPS = 2


@cache
def setting():
    program = gpt_training(layers=1, width=16, heads=4, context=8, sequences=2, rows=2, cols=4)
    low = lower(program)
    placement = Placement.of(program, Fabric.perfect(2, 4))
    return low, placement, FaultSampler(low, placement, STEPS)


def steps_of(plan, *, parts):
    low, _, _ = setting()
    job = Job.start(low, taps=True, parts=parts)
    results = []
    for _ in range(STEPS):
        results.append(job.run_step(plan))
        if results[-1].stopped is not None:
            break
    return job, results


def seen(result):
    stopped = None if result.stopped is None else (result.stopped[0].name, result.stopped[1].missing)
    scans = [
        (scan.launch, scan.waiting, scan.links, scan.config, scan.events, scan.leftover, scan.undrained)
        for scan in result.scans
    ]
    return result.digest, stopped, scans, result.report


@pytest.mark.parametrize("kind", ["accumulator", "link_flip", "link_drop", "sram_code", "register", "route"])
def test_parts_give_what_whole_launches_give(kind):
    _, placement, sampler = setting()
    settled: Counter[str] = Counter()
    for k in range(14):
        plan = FaultPlan([sampler.draw(kind, generator(2, "tests.parts", k))], placement)
        with np.errstate(all="ignore"):
            mine, short = steps_of(plan, parts=True)
            other, long = steps_of(plan, parts=False)
        assert [repr(seen(result)) for result in short] == [repr(seen(result)) for result in long], plan.events
        assert mine.memoryx.state_hash == other.memoryx.state_hash
        assert (mine.executor.machine is None) == (other.executor.machine is None)
        if k < 3:
            assert [s.state_hash for r in short for s in r.scans] == [s.state_hash for r in long for s in r.scans]
        settled.update(mine.executor.settled)
        assert "part" not in other.executor.settled
        assert "unread" not in other.executor.settled
    usual = {"sram_code": "unread", "link_drop": "counts", "register": "core", "route": "core"}
    assert settled[usual.get(kind, "part")] >= 4


def differing(one, other):
    assert set(one) == set(other)
    return [name for name in one if (one[name].view(np.uint32) != other[name].view(np.uint32)).any()]


def test_what_counts_settle_is_there_in_every_bit_for_whoever_looks():
    low, placement, sampler = setting()
    looked = 0
    for k in range(20):
        plan = FaultPlan([sampler.draw("link_drop", generator(4, "tests.parts", k))], placement)
        mine, short = steps_of(plan, parts=True)
        other, long = steps_of(plan, parts=False)
        if not mine.executor.settled["counts"]:
            continue
        looked += 1
        assert mine.executor._machine is None
        first, second = short[-1].stopped[1], long[-1].stopped[1]
        assert first.scan == second.scan
        assert differing(first.outputs, second.outputs) == []
        assert differing(first.taps, second.taps) == []
        for name in low.launches[(short[-1].stopped[0].index + 1) % len(low.launches)].alive_at_start:
            assert (mine.executor.read(name).view(np.uint32) == other.executor.read(name).view(np.uint32)).all()
        for one, two in zip(mine.executor.machine.state, other.executor.machine.state, strict=True):
            assert one.shape == two.shape
        assert (mine.executor.machine.state.sram == other.executor.machine.state.sram).all()
        assert differing(deepcopy(first.taps), second.taps) == []
        if looked == 6:
            break
    assert looked == 6


@pytest.mark.parametrize(("kind", "least"), [("accumulator", 6), ("link_flip", 4)])
def test_rows_that_a_fault_cannot_touch_are_not_run(kind, least, monkeypatch):
    """And with the rows around them run too, nothing else comes out."""
    _, placement, sampler = setting()
    rows: list[int] = []
    launched = PartMachine.launch

    def launch(machine, *args):
        rows.append(machine.rows)
        return launched(machine, *args)

    monkeypatch.setattr(PartMachine, "launch", launch)
    for k in range(24):
        plan = FaultPlan([sampler.draw(kind, generator(5, "tests.parts", k))], placement)
        with np.errstate(all="ignore"):
            mine, short = steps_of(plan, parts=True)
            other, long = steps_of(plan, parts=False)
        assert [repr(seen(result)) for result in short] == [repr(seen(result)) for result in long], plan.events
        assert mine.memoryx.state_hash == other.memoryx.state_hash
    assert rows.count(1) >= least
    assert rows.count(2) >= 1


def test_a_word_that_goes_south_is_followed_through_the_rows_below():
    program = gpt_training(layers=1, width=8, heads=2, context=4, sequences=3, rows=3, cols=2)
    low = lower(program)
    launch = next(one for one in low.launches if any(isinstance(phase, Gemm) for phase in one.launch.phases))
    number = next(n for n, phase in enumerate(launch.launch.phases) if isinstance(phase, Gemm))
    flip = LinkHook(1, 0, SOUTH, COLOUR_OF["column_multicast"], 3, False, 1 << 14)
    assert struck_rows(low, launch, Part(number, number, LaunchHooks(links=(flip,)))) == (1, 2)
    east = replace(flip, port=EAST, colour=COLOUR_OF["chain_east"])
    assert struck_rows(low, launch, Part(number, number, LaunchHooks(links=(east,)))) == (1, 1)
    assert struck_rows(low, launch, Part(number, number, LaunchHooks(links=(replace(east, drop=True),)))) is None
    jobs = [Job.start(low, executor=name) for name in ("tensor", "reference")]
    ends = [job.run_step(_Once(launch.name, flip)) for job in jobs]
    clean = Job.start(low).run_step()
    assert ends[0].digest == ends[1].digest != clean.digest
    assert jobs[0].memoryx.state_hash == jobs[1].memoryx.state_hash
    assert jobs[0].executor.settled == Counter(part=1)


class _Once:
    def __init__(self, launch, hook):
        self.launch, self.hook = launch, hook

    def check(self, lowered):
        pass

    def hooks(self, step, low):
        return LaunchHooks(links=(self.hook,)) if low.name == self.launch else LaunchHooks()


def test_table_words_that_tasks_still_read_are_not_called_unread():
    low, _, _ = setting()
    launch = max(low.launches, key=lambda one: len(one.launch.phases))
    role = launch.roles[launch.role_of[0, 0]]
    phase = len(launch.launch.phases) // 2
    done, left = int(role.first_task[phase]) - 1, int(role.first_task[phase])

    def strike(task, mask, keep=0xFFFFFFFF, lasts=False):
        return LaunchHooks(sram=(SramHook(0, 0, phase, launch.table_base + 2 * task, mask, keep, lasts),))

    assert never_read(launch, strike(done, 1)) == (0, 0, "task")
    assert never_read(launch, strike(left, 1)) is None
    assert never_read(launch, strike(left, 1 << 25)) == (0, 0, "task")
    assert never_read(launch, strike(done, 1, lasts=True)) is None
    assert never_read(launch, strike(done, 0)) is None


def test_what_moves_addresses_or_lasts_is_left_to_the_whole_launch():
    low, placement, sampler = setting()
    for k in range(20):
        event = sampler.draw("register", generator(3, "tests.parts", k))
        launch = next(one for one in low.launches if one.name == event.launch)
        hooks = FaultPlan([event], placement).hooks(event.step, launch)
        assert struck_part(low, launch, hooks, 4) is None
