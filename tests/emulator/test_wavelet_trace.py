"""Traces of the wavelet executor: what is in them adds up, they survive a file, and runs repeat to the cycle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.random_hooks import HOOKS, random_hooks
from tests.emulator.random_programs import random_program
from tests.emulator.wavelet_pairs import MODELS, link_lengths, pair
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.trace import Trace
from yieldkit.workloads.traffic import neighbour_traffic, traffic_streams

PARTS = ("hops", "busy", "starved", "blocked")


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def launches(low, streams, *, bins, hooks=None, **options):
    """Results of every launch with its trace, until one does not complete; and the machine."""
    machine = pair(low, **options)[1]
    results = []
    for launch in low.launches:
        results.append(machine.launch(launch, streams, hooks, trace_bins=bins))
        if not results[-1].completed:
            break
    return results, machine


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1, 1), (1, 4), (3, 2), (4, 4)]),
    bins=st.sampled_from([2, 7, 64, 1 << 12]),
    model=st.sampled_from(MODELS),
    struck=st.booleans(),
)
def test_traces_are_whole_and_repeat(tmp_path_factory, seed, shape, bins, model, struck):
    program, streams = random_program(seed, *shape, "bf16", specials=0.03, phases=4)
    low = lower(program)
    rng = np.random.default_rng(seed)
    hooks = random_hooks(rng, low, low.launches[0], 2, HOOKS) if struck else None
    options = {"bins": bins, "hooks": hooks, "timing": Timing.preset(model), "pitches": link_lengths(rng, low)}
    results, machine = launches(low, streams, **options)
    again = launches(low, streams, **options)[0]
    for number, (result, other) in enumerate(zip(results, again, strict=True)):
        trace = result.trace
        assert result.cycles == other.cycles == trace.cycles
        assert trace.bins <= bins
        assert trace.bins > bins // 2 or trace.bin_cycles == 1
        for part in PARTS:
            assert (getattr(trace, part) == getattr(other.trace, part)).all()
        loaded = Trace.load(trace.save(tmp_path_factory.mktemp("trace") / f"{number}.npz"))
        assert loaded.waiting == trace.waiting
        assert (loaded.completed, loaded.cycles) == (result.completed, result.cycles)
    # Every word that left a router is in the trace once.
    assert results[-1].trace.hops.sum() == machine.state.sent.sum()
    assert results[-1].trace.hops.sum() == machine.traffic.hops + machine.traffic.ramps


def test_bins_only_add_up_what_finer_bins_show():
    program, streams = random_program(11, 3, 4, "bf16", phases=6)
    low = lower(program)
    fine = launches(low, streams, bins=1 << 13)[0]
    for bins in (2, 8, 50):
        for one, other in zip(fine, launches(low, streams, bins=bins)[0], strict=True):
            assert one.trace.bin_cycles == 1
            width = other.trace.bin_cycles
            starts = np.arange(0, one.trace.bins, width)
            for part in PARTS:
                assert (np.add.reduceat(getattr(one.trace, part), starts, axis=0) == getattr(other.trace, part)).all()


def test_a_core_is_never_two_things_at_once():
    program, streams = random_program(12, 3, 4, "bf16", phases=6)
    for result in launches(lower(program), streams, bins=1 << 13)[0]:
        trace = result.trace
        assert ((trace.busy + trace.starved + trace.blocked) <= 1).all()
        # A link carries a word a cycle at most.
        assert (trace.hops <= 1).all()


@pytest.mark.parametrize(("there", "back"), [("E", "W"), ("S", "N"), ("ES", "WN"), ("SE", "NW")])
@pytest.mark.parametrize("model", MODELS)
def test_the_order_of_visits_changes_no_cycle(there, back, model):
    """Cores are visited in one order; traffic the other way round meets it from the other end.

    Both ways the colours that meet at a core stand in one order, so that they take the same turns.
    """
    rows, cols = 5, 7
    rng = np.random.default_rng(2)
    pitches = link_lengths(rng, lower(neighbour_traffic(rows=rows, cols=cols))).reshape(rows, cols, 4)
    turned = pitches[::-1, ::-1][..., [2, 3, 0, 1]]
    traces = []
    for directions, lengths in ((there, pitches), (back, turned)):
        program = neighbour_traffic(rows=rows, cols=cols, words=9, rounds=8, load=0.4, directions=directions)
        machine = pair(lower(program), timing=Timing.preset(model), pitches=lengths.reshape(-1, 4))[1]
        results = [
            machine.launch(launch, traffic_streams(program), trace_bins=1 << 12) for launch in machine.lowered.launches
        ]
        traces.append(results[1].trace)
    one, other = traces
    assert one.cycles == other.cycles
    assert one.hops.sum() > 0
    for part in PARTS[1:]:
        assert (getattr(one, part) == getattr(other, part)[:, ::-1, ::-1]).all()
    assert (one.hops == other.hops[:, ::-1, ::-1][..., [2, 3, 0, 1, 4]]).all()
