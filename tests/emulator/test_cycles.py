"""The cycle model against what the wavelet executor measures: phases, random programs, whole steps, repaired meshes."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from tests.emulator.cycle_programs import KINDS, program_of, streams_of
from tests.emulator.cycle_table import BLOCKS, SHAPES, both, difference, differences
from tests.emulator.random_programs import random_program
from tests.emulator.tiny import GPT, tiny_gpt
from tests.repair.oracle import random_case
from yieldkit.emulator.cost import PRESETS, Timing
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement, link_pitches
from yieldkit.emulator.timing import launch_cycles, step_cycles
from yieldkit.fabric import Fabric
from yieldkit.repair import plan_repair
from yieldkit.workloads.decode import gpt_decode

WITHIN = 0.05


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def check(cases):
    beyond = [name for apart, name in cases if abs(apart) > WITHIN]
    assert not beyond


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_phase(kind):
    check(differences(kind, [(1, 4), (4, 1), (2, 3), (4, 4), (5, 8)], [1, 5, 12, 40]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_phase_on_links_of_other_lengths(kind):
    check(differences(kind, [(2, 3), (4, 4)], [2, 12, 40], longest=3))


def test_on_a_repaired_mesh():
    """Links that skip dead cores, as a repair plan lays them."""
    tried = 0
    for k in range(24):
        faults, rules = random_case(np.random.default_rng([31, k]))
        plan = plan_repair(faults, rules)
        if not plan.repaired:
            continue
        fabric = Fabric.boot(plan.firmware(wafer_id="T"), None)
        placement = Placement(fabric, *fabric.shape)
        pitches = link_pitches(placement)
        if pitches.max() == 1:
            continue
        for kind in (
            "gemm, four tiles",
            "all-reduce, two_phase, row",
            "reduce, tree, col",
            "shift W",
            "stream out, sums",
        ):
            lowered = lower(program_of(kind, *fabric.shape, 12))
            streams = streams_of(lowered.program)
            for preset in PRESETS:
                pair = both(lowered, lowered.launches[0], streams, Timing.preset(preset), pitches)
                assert abs(difference(*pair)) <= WITHIN, (k, kind, preset, pair)
                tried += 1
    assert tried >= 30


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_phase_on_more_shapes(kind):
    check(differences(kind, SHAPES, BLOCKS))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_training_step_and_a_decoding_step(preset):
    timing = Timing.preset(preset)
    for lowered in (tiny_gpt(), lower(gpt_decode(side=4, **GPT))):
        streams = streams_of(lowered.program)
        pairs = [both(lowered, low, streams, timing) for low in lowered.launches]
        measured, modelled = (sum(pair[side] for pair in pairs) for side in (0, 1))
        assert abs(difference(measured, modelled)) <= 0.03
        assert step_cycles(lowered, timing=timing) == modelled
        assert max(abs(difference(*pair)) for pair in pairs) <= 0.055


def test_random_programs():
    found = []
    shapes = [(1, 1), (1, 4), (4, 1), (2, 3), (3, 3), (4, 5), (6, 6)]
    for seed in range(60):
        program, streams = random_program(seed, *shapes[seed % len(shapes)], "bf16", phases=6)
        lowered = lower(program)
        timing = Timing.preset(PRESETS[seed % len(PRESETS)])
        found += [abs(difference(*both(lowered, low, streams, timing))) for low in lowered.launches]
    assert statistics.median(found) <= 0.01
    # One launch of several phases on the same links is off by 7.6 %.
    assert max(found) <= 0.08
    assert sum(apart > WITHIN for apart in found) <= 1


def test_more_words_cost_no_more_work_and_more_time():
    cycles = []
    for block in (10, 100, 1000):
        lowered = lower(program_of("all-reduce, chain, row", 1, 8, block))
        cycles.append(launch_cycles(lowered, lowered.launches[0]))
    # B + (P - 1)(2 T_R + 2) for the chain, B + P + 2 T_R for the way back: what is left does not depend on B.
    assert cycles[1] - cycles[0] == 2 * 90
    assert cycles[2] - cycles[1] == 2 * 900


def test_dearer_elements_and_longer_links_take_longer():
    lowered = lower(program_of("gemm, four tiles", 4, 4, 12))
    low = lowered.launches[0]
    plain = launch_cycles(lowered, low)
    assert launch_cycles(lowered, low, timing=Timing.preset("cs2")) > plain
    assert launch_cycles(lowered, low, link_pitches=np.full((16, 4), 3, np.int32)) > plain
