"""What strikes a core, against a model in plain Python with real codewords: words in SRAM and events, core by core."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.kahn import play
from tests.emulator.random_hooks import CORE_HOOKS, random_hooks, with_model
from tests.emulator.random_programs import random_program
from tests.emulator.struck_kahn import StruckCore
from tests.emulator.test_equality import CASES
from tests.faults.test_core import CODES, struck_codewords
from yieldkit.emulator.isa import SRAM_WORDS
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.plans import constant_array
from yieldkit.emulator.scan import EVENTS

SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4)]
SEEN = ("sram_parity", "ecc_corrected", "ecc_uncorrectable")
KINDS = tuple(kind for kind in CORE_HOOKS if kind not in ("route", "slow"))


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def loaded(low, code):
    machine = Machine(low, sram_code=code)
    for tensor in low.tensors.values():
        if tensor.values:
            machine.write(tensor.name, constant_array(tensor, low.program.rows, low.program.cols))
    return machine


def compare(seed, shape, dtype, specials, kinds, code, count):
    """Whether the struck launch went through, so that there was something to compare."""
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=3)
    low = lower(program)
    rng = np.random.default_rng([seed, 3])
    index = int(rng.integers(len(low.launches)))
    hooks = struck_codewords(rng, with_model(rng, random_hooks(rng, low, low.launches[index], count, kinds)), code)
    machine = loaded(low, code)
    for launch in low.launches[:index]:
        machine.launch(launch, streams)
    launch = low.launches[index]
    machine.load(launch)
    before = machine.state.sram.reshape(*shape, -1).copy()
    result = machine.launch(launch, streams, hooks)
    if not result.completed or machine.state.length.any():
        return False
    cores = {}

    def make(place, words, inbox, send):
        first = launch.roles[launch.role_of[place]].first_task
        cores[place] = StruckCore(place, words, inbox, send, hooks, first, code)
        return cores[place]

    play(low, index, before, streams, make)
    after = machine.state.sram.reshape(*shape, -1)
    events = machine.state.events.reshape(*shape, -1)
    for place, core in cores.items():
        # Reading what the model holds counts nothing.
        given = np.array([core.memory.look(address)[0] for address in range(after.shape[2])], np.uint32)
        assert np.flatnonzero(given != after[place]).tolist() == [], hooks
        counted = {kind: int(events[place][EVENTS.index(kind)]) for kind in SEEN}
        assert {kind: core.memory.events[kind] for kind in SEEN} == counted, hooks
    return True


OPTIONS = {**CASES, "shape": st.sampled_from(SHAPES), "code": st.sampled_from(CODES), "count": st.integers(1, 3)}


@settings(deadline=None, derandomize=True, max_examples=25)
@given(**OPTIONS, kind=st.sampled_from(KINDS))
def test_words_and_events(seed, shape, dtype, specials, kind, code, count):
    compare(seed, shape, dtype, specials, (kind,), code, count)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=3000)
@given(**OPTIONS, kind=st.sampled_from(KINDS))
def test_words_and_events_many(seed, shape, dtype, specials, kind, code, count):
    compare(seed, shape, dtype, specials, (kind,), code, count)


def test_the_model_meets_every_event_and_every_place():
    """Otherwise the comparison above might compare launches that nothing has struck."""
    done = [compare(seed, (1, 2), "fp32", 0.0, (KINDS[seed % len(KINDS)],), "secded", 2) for seed in range(24)]
    assert sum(done) >= 16
    assert SRAM_WORDS == 12_288
