"""One launch after another on the reference machine and on the wavelet executor, compared in everything but time."""

from __future__ import annotations

import numpy as np

from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.plans import constant_array
from yieldkit.emulator.scan import quiescent_hash
from yieldkit.emulator.wavelet import WaveletMachine

__all__ = ["MODELS", "assert_equal_ends", "link_lengths", "pair", "run_pair"]

MODELS = ("ideal", "cs2", "cs3")


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


def link_lengths(rng, low, longest=7):
    """int32[n, 4] lengths of links, drawn at random."""
    return rng.integers(1, longest + 1, (low.program.rows * low.program.cols, 4)).astype(np.int32)


def pair(low, *, depth=4, timing=None, pitches=None, **protection):
    """The two machines, constants loaded."""
    machines = (
        Machine(low, queue_depth=depth, **protection),
        WaveletMachine(low, queue_depth=depth, timing=timing, link_pitches=pitches, **protection),
    )
    for machine in machines:
        for tensor in low.tensors.values():
            if tensor.values:
                machine.write(tensor.name, constant_array(tensor, low.program.rows, low.program.cols))
    return machines


def differing(one, other):
    """Names whose arrays differ in shape or in a bit."""
    names = set(one) ^ set(other)
    both = set(one) & set(other)
    return sorted(names | {n for n in both if one[n].shape != other[n].shape or (bits(one[n]) != bits(other[n])).any()})


def culprits(machine):
    return np.flatnonzero(machine.state.status == kernel.RUNAWAY).tolist()


def assert_equal_ends(one, other, first, second, what=None):
    """Results and final states are alike; after a runaway or an endless loop, only class and culprit."""
    assert first.completed == second.completed, what
    assert one.ended == other.ended, what
    assert culprits(one) == culprits(other), what
    if not one.ended or culprits(one):
        return
    assert first.missing == second.missing, what
    assert differing(first.outputs, second.outputs) == [], what
    assert differing(first.taps, second.taps) == [], what
    assert first.scan == second.scan, what
    assert quiescent_hash(one.state, one.wrong) == quiescent_hash(other.state, other.wrong), what
    assert sorted(one.surplus) == sorted(other.surplus), what
    for key, words in one.surplus.items():
        assert (words == other.surplus[key]).all(), what
    assert second.cycles is not None


def run_pair(low, streams, hooks=None, *, rounds=1, **options):
    """All launches `rounds` times over on both, until one does not complete; `hooks` is asked for each.

    Returns the results of the wavelet executor and its machine.
    """
    one, other = pair(low, **options)
    results = []
    for turn in range(rounds):
        for launch in low.launches:
            strikes = hooks(turn, launch) if hooks is not None else LaunchHooks()
            first, second = one.launch(launch, streams, strikes), other.launch(launch, streams, strikes)
            assert_equal_ends(one, other, first, second, (turn, launch.name, strikes))
            results.append(second)
            if not first.completed:
                return results, other
    return results, other
