"""Launches of which only the struck phases run word by word end in every bit as those that run whole."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from yieldkit.emulator.hooks import LaunchHooks, SramHook
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.part_runs import never_read, struck_part
from yieldkit.emulator.placement import Placement
from yieldkit.fabric import Fabric
from yieldkit.faults import FaultPlan, FaultSampler
from yieldkit.rng import generator
from yieldkit.workloads.gpt import gpt_training

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


@pytest.mark.parametrize("kind", ["accumulator", "link_flip", "link_drop", "sram_code"])
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
    assert settled[{"sram_code": "unread", "link_drop": "counts"}.get(kind, "part")] >= 4


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
