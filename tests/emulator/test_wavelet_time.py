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
