"""Cycles of the wavelet executor against closed forms: to the cycle under `ideal`, within bounds where they are bounds.

What is measured is a launch, from the host's go to its last event: the end of the cycle in which the last core works on
its last element, or the arrival of the last word.
"""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from yieldkit.emulator.calibration_programs import (
    multicast_cycles,
    multicast_program,
    stencil_cycles,
    stencil_program,
)
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.wavelet import WaveletMachine
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import AllReduce, Broadcast, Reduce

TABLES = Path(__file__).parent / "calibration"
RAMP = 2
IDEAL = Timing()


def cycles_of(program, timing=IDEAL, pitches=None):
    """Cycles of the only launch of a program that needs no input."""
    low = lower(program)
    machine = WaveletMachine(low, timing=timing, link_pitches=pitches)
    result = machine.launch(low.launches[0], {})
    assert result.completed
    assert result.cycles == machine.traffic.cycles
    return result.cycles


def line(kind, words, cores, **options):
    """A line of cores along a row with one phase; what it starts from is resident."""
    b = ProgramBuilder("line", 1, cores, "fp32")
    x, y = b.tensor("x", (words,), keep=True), b.tensor("y", (words,))
    if kind == "broadcast":
        b.phase(Broadcast("p", "row", x, y))
    elif kind == "reduce":
        b.phase(Reduce("p", "row", "add", x, y, **options))
    else:
        b.phase(AllReduce("p", "row", "add", x, y, **options))
    b.launch("line")
    return b.build({"kind": "none"})


def far_end(program, timing=IDEAL):
    """Cycle at which the core farthest from a multicast's root has done with its last word.

    The root goes on copying the block to its own place, which is no part of the multicast.
    """
    low = lower(program)
    result = WaveletMachine(low, timing=timing).launch(low.launches[0], {}, trace_bins=1 << 13)
    assert result.completed
    assert result.trace.bin_cycles == 1
    return result.trace.since(0, 0)


SIZES = [(words, cores) for words in (1, 2, 3, 7, 16, 40, 100) for cores in (2, 3, 4, 9, 16, 33)]


def test_a_chain_takes_its_closed_form_to_the_cycle():
    assert len(SIZES) > 40
    for words, cores in SIZES:
        expected = words + (cores - 1) * (2 * RAMP + 2)
        assert cycles_of(line("reduce", words, cores, method="chain")) == expected, (words, cores)


def test_a_multicast_takes_its_closed_form_to_the_cycle():
    for words, cores in SIZES:
        expected = words + cores + 2 * RAMP
        assert far_end(line("broadcast", words, cores)) == expected, (words, cores)
        assert multicast_cycles(words, cores, IDEAL) == expected


def test_an_all_reduce_by_chain_is_one_after_the_other():
    for words, cores in SIZES:
        chain = words + (cores - 1) * (2 * RAMP + 2)
        # The root sends its first sum out only when it has stored the last one.
        assert cycles_of(line("all_reduce", words, cores, method="chain")) == chain + words + cores + 2 * RAMP


@pytest.mark.parametrize("cores", [2, 4, 8, 16, 32, 64])
def test_a_tree_over_a_power_of_two_takes_the_documented_recursion(cores):
    for words in (1, 2, 5, 8, 16, 33, 64, 128):
        total = 2 * RAMP + 2
        for level in range(1, round(math.log2(cores))):
            total += max(words, 2 * RAMP + 1 + 2**level)
        assert cycles_of(line("reduce", words, cores, method="tree")) == total + words, words


def law(contention, energy, links, distance, depth):
    """T = max(C, E / N + L) + (2 T_R + 1) D (Luczynski et al., HPDC'24)."""
    return max(contention, energy / links + distance) + (2 * RAMP + 1) * depth


def tree_law(words, cores):
    levels = math.ceil(math.log2(cores))
    return law(words * levels, words * cores / 2 * levels, cores - 1, cores - 1, levels)


def two_phase_law(words, cores):
    """Chains in groups of S from the last core on, then a chain of the G groups' nearest cores."""
    size = math.isqrt(cores - 1) + 1
    groups = -(-cores // size)
    hops = words * (cores - groups) + words * (groups - 1) * size
    return law(2 * words, hops, cores - 1, cores - 1, size - 1 + groups - 1)


def line_law(words, cores, depth):
    """Each word over every link, through `depth` cores."""
    return law(words, words * (cores - 1), cores - 1, cores - 1, depth)


def test_trees_come_within_5_per_cent_of_their_bound():
    """From 128 words on; below, words of the next level overlap those of the last and the bound is not reached."""
    sizes = [(words, cores) for words in (128, 150, 200, 256, 300, 400, 512, 1000) for cores in (4, 8, 16, 32, 64, 128)]
    assert len(sizes) > 40
    for words, cores in sizes:
        levels = math.log2(cores)
        bound = max(words * levels, words / 2 * levels + cores - 1) + (2 * RAMP + 1) * levels
        taken = cycles_of(line("reduce", words, cores, method="tree"))
        assert 0.95 * bound < taken <= bound, (words, cores)
        assert abs(taken - tree_law(words, cores)) < 0.05 * tree_law(words, cores)


def test_the_law_of_collectives_holds_within_5_per_cent():
    """Two phases from 16 words a core of the line on: shorter ones wait for the groups."""
    for words, cores in SIZES:
        assert line_law(words, cores, cores - 1) == words + (cores - 1) * (2 * RAMP + 2)
        assert line_law(words, cores, 1) == words + cores + 2 * RAMP
    for cores in (4, 6, 9, 12, 16, 25, 30, 64, 100):
        for words in (16 * cores, 20 * cores, 1600 if cores > 30 else 40 * cores):
            taken = cycles_of(line("reduce", words, cores, method="two_phase"))
            assert abs(taken / two_phase_law(words, cores) - 1) < 0.05, (words, cores)
    for method, reduction in (("tree", tree_law), ("two_phase", two_phase_law)):
        for cores in (4, 8, 16, 32):
            words = 16 * cores + 64
            expected = reduction(words, cores) + line_law(words, cores, 1)
            taken = cycles_of(line("all_reduce", words, cores, method=method))
            assert abs(taken / expected - 1) < 0.05, (method, cores)


def test_longer_links_cost_their_pitches():
    """A chain waits for a word on every link, a multicast's words follow each other over all of them."""
    rng = np.random.default_rng(5)
    for cores, words in ((2, 1), (5, 40), (17, 16)):
        pitches = np.ones((cores, 4), np.int32)
        lengths = rng.integers(1, 8, cores - 1)
        pitches[:-1, 1] = pitches[1:, 3] = lengths
        extra = int((lengths - 1).sum())
        # A long link is full of words that count against the queue behind it: four places, so a word each L + 1 cycles.
        first = 1 + (cores - 1) * (2 * RAMP + 2)
        assert cycles_of(line("reduce", 1, cores, method="chain"), pitches=pitches) == first + extra
        slowest = max(1.0, (int(lengths.max()) + 1) / 4)
        taken = cycles_of(line("reduce", words, cores, method="chain"), pitches=pitches)
        assert abs(taken - (first + extra + (words - 1) * slowest)) <= 4 * slowest


def rows_of(name):
    return list(csv.DictReader((TABLES / name).read_text().splitlines()))


def test_the_calibrated_multicast_meets_the_measured_one_within_two_cycles():
    met = 0
    for row in rows_of("multicast_cs3_half.csv"):
        words, cores = int(row["K_bytes"]) // 4, int(row["N_pes"])
        if cores == 1 or not row["cycles_min"]:
            continue
        taken = far_end(multicast_program(words, cores), Timing.preset("cs3"))
        assert abs(taken - float(row["cycles_min"])) <= 2
        # A trace counts whole cycles.
        assert 0 <= multicast_cycles(words, cores, Timing.preset("cs3")) - taken < 1
        met += 1
    assert met >= 6


def stencils(largest):
    """Distinct (width, height, radius) of the published rows with at most `largest` points."""
    found = set()
    for row in rows_of("stencil_vendor_simulator.csv"):
        width, height = (int(side) for side in row["tile"].split("x"))
        if width * height <= largest:
            found.add((width, height, int(row["radius"])))
    return sorted(found)


def iteration(tile, timing):
    """Cycles of an iteration on 5 x 5 cores, where the innermost have neighbours that work as much as they do."""
    short, long = (cycles_of(stencil_program(*tile, iterations=n, rows=5, cols=5), timing) for n in (2, 4))
    return (long - short) / 2


@pytest.mark.parametrize("preset", ["ideal", "cs2", "cs3"])
def test_the_model_of_a_stencil_is_met_within_two_per_cent(preset):
    timing = Timing.preset(preset)
    assert len(stencils(50)) > 10
    for tile in stencils(50):
        assert abs(iteration(tile, timing) / stencil_cycles(*tile, timing) - 1) < 0.02, tile


@pytest.mark.long
@pytest.mark.parametrize("preset", ["ideal", "cs2", "cs3"])
def test_the_model_of_larger_stencils_is_met_too(preset):
    timing = Timing.preset(preset)
    for tile in set(stencils(1300)) - set(stencils(50)):
        assert abs(iteration(tile, timing) / stencil_cycles(*tile, timing) - 1) < 0.02, tile
