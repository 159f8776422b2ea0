"""Every bit of a core's configuration flipped in turn: never a crash of ours, one final state whatever the schedule."""

import re
from collections import Counter

import numpy as np
import pytest

from tests.emulator.flip_table import (
    OUTCOMES,
    TARGET,
    WORDS,
    flips_of,
    markdown,
    outcome_of,
    run_flip,
    schedules,
    table,
)
from tests.emulator.tiny import gemm_program
from tests.emulator.wavelet_pairs import MODELS, assert_equal_ends, link_lengths, pair
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.hooks import LaunchHooks, SramHook
from yieldkit.emulator.machine import Machine


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def sweep(low, streams, core, depth=4, turns=2):
    """Outcome counts; asserts that all schedules end in one state and give the same words.

    The header is read when a launch begins, so a flip there needs a second one to show.
    """
    cores = low.program.rows * low.program.cols
    clean = run_flip(low, streams, None, depth=depth)[0]
    assert all(r.completed for r in clean)
    counts = Counter()
    for flip in flips_of(low, core):
        hashes, firsts = set(), None
        runs = 2 if flip.word == "header" else turns
        for order, burst in schedules(cores):
            results, state, machine = run_flip(low, streams, flip, order=order, burst=burst, depth=depth, turns=runs)
            hashes.add(state)
            if firsts is None:
                firsts = results
                counts[flip.word, outcome_of(results, machine, clean)] += 1
            for one, other in zip(firsts, results, strict=True):
                assert one.completed == other.completed
                assert one.scan == other.scan
                for name in one.outputs:
                    assert (one.outputs[name].view(np.uint32) == other.outputs[name].view(np.uint32)).all()
        assert len(hashes) == 1, flip
    return counts


def test_every_bit_of_a_core_under_five_schedules():
    low, streams = gemm_program(2, 3, m=1, kc=1, part=1, sram_words=256)
    counts = sweep(low, streams, (0, 1), turns=1)
    assert {word for word, _ in counts} == set(WORDS)
    totals = Counter({o: sum(n for (_, outcome), n in counts.items() if outcome == o) for o in OUTCOMES})
    for outcome in ("nothing", "wrong data", "stall", "halt", "leftover words"):
        assert totals[outcome] > 0, totals


def clocked_sweep(low, streams, core, depth=4, turns=2):
    """Every flip on the wavelet executor ends as on the reference machine; how many did so, by outcome.

    Links and costs change from flip to flip.
    """
    clean = run_flip(low, streams, None, depth=depth)[0]
    rng = np.random.default_rng([*core, depth])
    counts = Counter()
    for number, flip in enumerate(flips_of(low, core)):
        one, other = pair(
            low, depth=depth, timing=Timing.preset(MODELS[number % 3]), pitches=link_lengths(rng, low, 1 + number % 5)
        )
        runs = 2 if flip.word == "header" else turns
        results = []
        for turn in range(runs):
            hooks = flip.hooks if turn == 0 else LaunchHooks()
            first, second = (machine.launch(low.launches[0], streams, hooks) for machine in (one, other))
            assert_equal_ends(one, other, first, second, flip)
            results.append(second)
        counts[outcome_of(results, other, clean)] += 1
    return counts


def test_every_bit_of_a_core_on_the_wavelet_executor():
    low, streams = gemm_program(2, 3, m=1, kc=1, part=1, sram_words=256)
    counts = clocked_sweep(low, streams, (0, 1), turns=1)
    for outcome in ("nothing", "wrong data", "stall", "halt", "leftover words"):
        assert counts[outcome] > 0, counts


@pytest.mark.long
@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("core", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)])
def test_every_bit_of_every_role_on_the_wavelet_executor(core, depth):
    low, streams = gemm_program(3, 3, tiles=2)
    clocked_sweep(low, streams, core, depth)


@pytest.mark.long
@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("core", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)])
def test_every_bit_of_every_role_and_queue_depth(core, depth):
    low, streams = gemm_program(3, 3, tiles=2)
    sweep(low, streams, core, depth)


@pytest.mark.long
def test_the_documented_table_is_what_comes_out():
    low, streams = gemm_program(2, 3)
    text = TARGET.read_text()
    assert f"## Core (0, 0)\n\n{markdown(table(low, streams, [(0, 0)]))}\n" in text
    assert len(re.findall("^## Core", text, re.M)) == len(low.launches[0].roles)


def test_a_loop_of_empty_tasks_ends_as_a_runaway() -> None:
    """Two flips in one core: its first task has no elements and is followed by itself."""
    low, streams = gemm_program(2, 3)
    launch = low.launches[0]
    image = launch.roles[launch.role_of[0, 0]]
    number = int(image.tables[1]) & 0x3FF
    descriptor = 2 * image.n_tasks + 4 * number + 1
    extent, following = int(image.tables[descriptor]) & 0xFFFF, (int(image.tables[0]) >> 7) & 0xFFF
    hooks = LaunchHooks(
        sram=(
            SramHook(0, 0, 0, launch.table_base, following << 7),
            SramHook(0, 0, 0, launch.table_base + descriptor, extent),
        )
    )
    result = Machine(low).launch(launch, streams, hooks)
    assert not result.completed
    assert result.scan is not None
    assert (0, 0, "STALLED", 0, -1) in result.scan.waiting
