"""Sequences side by side: every way their operands may lie gives what one sequence after the other gives."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from yieldkit.emulator.kernels.spans import ADD, ADJACENT, APART, LANES, MAC, MAX, SEQUENTIAL, chains

SPECIAL = np.array(
    [0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x7F800001, 0x00000001, 0x80000001],
    np.uint32,
).view(np.float32)


@njit
def run(key, values, a_at, b_at, count, a_step, b_step):
    at = (values.ctypes.data, a_at.ctypes.data, b_at.ctypes.data)
    chains(key, np.int64(at[0]), np.int64(at[1]), np.int64(at[2]), count, a_step, b_step)


def alone(op, value, a, b):
    """One sequence, step by step."""
    for x, y in zip(a, b, strict=True):
        if op == MAC:
            value = np.float32(value + np.float32(x * y))
        elif op == ADD:
            value = np.float32(x + value)
        elif np.isnan(x) or np.isnan(value):
            value = np.float32(np.nan)
        else:
            value = value if value > x else x
    return value


def canonical(values):
    bits = np.asarray(values, np.float32).view(np.uint32).copy()
    bits[np.isnan(values)] = 0x7FC00000
    return bits


def drawn(rng, shape, share):
    values = rng.normal(size=shape).astype(np.float32)
    struck = rng.random(shape) < share
    values[struck] = rng.choice(SPECIAL if share < 1 else SPECIAL[:2], size=int(struck.sum()))
    return values


@pytest.mark.parametrize("op", [ADD, MAX, MAC])
@pytest.mark.parametrize("along", [APART, ADJACENT, SEQUENTIAL])
def test_sequences_side_by_side_are_each_as_alone(op, along):
    rng = np.random.default_rng(op * 4 + along)
    seen = set()
    for share in (0.0, 0.02, 0.3, 1.0):
        for count in (0, 1, 7, 8, 9, 16, 37):
            a, b = (drawn(rng, (LANES, count), share) for _ in range(2))
            values = drawn(rng, LANES, share)
            with np.errstate(all="ignore"):
                expected = canonical([alone(op, values[i], a[i], b[i]) for i in range(LANES)])
            step = {SEQUENTIAL: 1, ADJACENT: LANES, APART: 3}[along]
            memory = np.zeros((2, 4 * LANES * max(count, 1)), np.float32)
            lanes = np.arange(LANES) * {SEQUENTIAL: count + 2, ADJACENT: 1, APART: 3 * count + 1}[along]
            for which, operand in enumerate((a, b)):
                for i in range(LANES):
                    memory[which, lanes[i] + step * np.arange(count)] = operand[i]
            at = [np.int64(memory[which].ctypes.data) + 4 * lanes for which in (0, 1)]
            run(op * 4 + along, values, at[0], at[1], count, step, step)
            assert np.array_equal(canonical(values), expected), (share, count)
            seen |= set(expected.tolist())
    # Infinities, NaN and both zeros have been results: the comparison above has met them.
    assert {0x7F800000, 0x7FC00000, 0, 0x80000000} <= seen
