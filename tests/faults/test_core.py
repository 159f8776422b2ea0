"""What strikes a core, at every place, by every model and under every protection: the three executors agree in words,
events, scans and final states.
"""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.emulator.random_hooks import CORE_HOOKS, random_hooks, with_model
from tests.emulator.random_programs import random_program
from tests.emulator.test_equality import CASES, bits, differing
from tests.emulator.wavelet_pairs import assert_equal_ends, pair
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.tensor import TensorExecutor

CODES = ("none", "parity", "secded")
WIDTH = {"none": 32, "parity": 33, "secded": 39}


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def struck_codewords(rng, hooks, code):
    """The same hooks with some of the strikes on check bits, or on several bits of a word."""

    def other(hook):
        if code == "none" or hook.keep != 0xFFFFFFFF or rng.random() < 0.4:
            return hook
        mask = 0
        for bit in rng.choice(WIDTH[code], int(rng.integers(1, 4)), replace=False):
            mask |= 1 << int(bit)
        return hook.__class__(**{**vars(hook), "mask": mask})

    rest = {name: getattr(hooks, name) for name in vars(hooks) if name != "sram"}
    return LaunchHooks(sram=tuple(other(hook) for hook in hooks.sram), **rest)


def strike(seed, shape, dtype, specials, kind, code, *, windows=True, count=1, rounds=2):
    """All launches twice over with strikes in one of the first round; what was seen, counted."""
    program, streams = random_program(seed, *shape, dtype, specials=specials, phases=4)
    low = lower(program)
    rng = np.random.default_rng([seed, 2])
    chosen = low.launches[int(rng.integers(len(low.launches)))]
    hooks = with_model(rng, random_hooks(rng, low, chosen, count, (kind,) if kind else CORE_HOOKS))
    hooks = struck_codewords(rng, hooks, code)
    tensor = TensorExecutor(low, window_from=1 if windows else 1 << 20, sram_code=code)
    reference, wavelet = pair(low, timing=None, sram_code=code)
    seen = Counter()
    for turn in range(rounds):
        for launch in low.launches:
            strikes = hooks if turn == 0 and launch is chosen else LaunchHooks()
            where = (hooks, turn, launch.name)
            one, other, third = (e.launch(launch, streams, strikes) for e in (reference, tensor, wavelet))
            assert_equal_ends(reference, wavelet, one, third, where)
            assert one.completed == other.completed, where
            assert one.missing == other.missing, where
            assert differing(one.outputs, other.outputs) == [], where
            assert differing(one.taps, other.taps) == [], where
            assert one.detected == other.detected, where
            if other.scan is not None:
                assert one.scan == other.scan, where
            else:
                assert one.scan is None or not (one.scan.events or one.scan.config or one.scan.leftover), where
            seen.update(kind for *_, kind, _ in (one.scan.events if one.scan else ()))
            if not one.completed or one.detected:
                seen["detected" if one.detected else "stopped"] += 1
                return seen + tensor.settled
        kept = [t.name for t in program.tensors if t.keep or t.values]
        assert [n for n in kept if (bits(reference.read(n)) != bits(tensor.read(n))).any()] == [], hooks
        assert set(tensor.wrong) == set() or tensor.machine is None
    return seen + tensor.settled


KINDS = {"kind": st.sampled_from(CORE_HOOKS), "code": st.sampled_from(CODES), "windows": st.booleans()}


# The header's word is stuck at 0, so tasks are read from where values lie, of which counts of words know nothing.
TASKS_AMONG_VALUES = {"seed": 201373755, "shape": (1, 4), "dtype": "bf16", "specials": 0.0, "kind": "table"}


@settings(deadline=None, derandomize=True, max_examples=60)
@example(**TASKS_AMONG_VALUES, code="none", windows=False)
@given(**CASES, **KINDS)
def test_one_strike_in_any_program(seed, shape, dtype, specials, kind, code, windows):
    strike(seed, shape, dtype, specials, kind, code, windows=windows)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(**CASES, code=st.sampled_from(CODES), count=st.integers(2, 4), windows=st.booleans())
def test_several_strikes_in_any_program(seed, shape, dtype, specials, code, count, windows):
    strike(seed, shape, dtype, specials, None, code, count=count, windows=windows)


def test_the_strikes_are_felt():
    """Otherwise the comparisons above might compare launches that nothing has struck."""
    seen = Counter()
    for seed in range(48):
        code = CODES[seed % 3]
        seen += strike(seed, (2, 3), "bf16", 0.0, CORE_HOOKS[seed % 4], code, windows=seed % 2 == 0)
    for what in ("core", "whole", "stopped", "detected", "ecc_corrected", "sram_parity"):
        assert seen[what] > 0, seen


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=6000)
@given(**CASES, **KINDS)
def test_one_strike_in_any_program_many(seed, shape, dtype, specials, kind, code, windows):
    strike(seed, shape, dtype, specials, kind, code, windows=windows)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=3000)
@given(**CASES, code=st.sampled_from(CODES), count=st.integers(2, 6), windows=st.booleans())
def test_several_strikes_in_any_program_many(seed, shape, dtype, specials, code, count, windows):
    strike(seed, shape, dtype, specials, None, code, count=count, windows=windows)
