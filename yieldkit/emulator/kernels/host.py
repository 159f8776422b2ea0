"""What MemoryX computes: sums in a fixed order and the Adam update, fp32 without contraction."""

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.scalar import canon, round_bf16, round_fp16

_CHUNK = 1024


@njit(cache=True)
def total_of(x):
    """Sum of a flat float32 array in float64, from the first element on."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i])
    return total


@njit(cache=True, error_model="numpy")
def rounded(x, fmt):
    """A flat float32 array rounded to a format, 0 fp32, 1 bfloat16, 2 binary16; NaNs canonical."""
    out = np.empty_like(x)
    if fmt == 1:
        for i in range(x.size):
            out[i] = round_bf16(x[i])
    elif fmt == 2:
        for i in range(x.size):
            out[i] = round_fp16(x[i])
    else:
        for i in range(x.size):
            out[i] = canon(x[i])
    return out


@njit(error_model="numpy", inline="always")
def _mix(x, y, share, rest, squared):
    """X = share x + rest y, or share x + rest y^2."""
    if squared:
        for i in range(x.size):
            x[i] = np.float32(share * x[i]) + np.float32(rest * np.float32(y[i] * y[i]))
    else:
        for i in range(x.size):
            x[i] = np.float32(share * x[i]) + np.float32(rest * y[i])


@njit(cache=True, error_model="numpy")
def adam(weight, gradient, first, second, rate, beta1, beta2, eps, correction1, correction2):
    """One Adam update in place on flat float32 arrays; returns (gradient, change) sums of squares, float64.

    Both are taken from the first element on.
    """
    squares, moved = 0.0, 0.0
    rest1, rest2 = np.float32(np.float32(1.0) - beta1), np.float32(np.float32(1.0) - beta2)
    step = np.empty(_CHUNK, np.float32)
    # Few arrays a loop: then the compiler takes vectors.
    for start in range(0, weight.size, _CHUNK):
        stop = min(start + _CHUNK, weight.size)
        w, g, m, v = weight[start:stop], gradient[start:stop], first[start:stop], second[start:stop]
        _mix(m, g, beta1, rest1, False)
        _mix(v, g, beta2, rest2, True)
        for i in range(w.size):
            down = np.float32(np.sqrt(np.float32(v[i] * correction2)) + eps)
            step[i] = np.float32(np.float32(rate * np.float32(m[i] * correction1)) / down)
        for i in range(w.size):
            w[i] = np.float32(w[i] - step[i])
        for i in range(w.size):
            squares += np.float64(g[i]) * np.float64(g[i])
            moved += np.float64(step[i]) * np.float64(step[i])
    return squares, moved


@njit(cache=True)
def gather_rows(table, positions, tokens):
    """float32[n, T, d]: table[token] + positions[t] for tokens int64[n, T]."""
    n, length = tokens.shape
    width = table.shape[1]
    out = np.empty((n, length, width), np.float32)
    for i in range(n):
        for t in range(length):
            for f in range(width):
                out[i, t, f] = np.float32(table[tokens[i, t], f] + positions[t, f])
    return out


@njit(cache=True)
def scatter_rows(gradient, tokens, table, positions):
    """Add gradient[n, T, d] onto table[token] and positions[t], sequence by sequence, in place."""
    n, length, width = gradient.shape
    for i in range(n):
        for t in range(length):
            for f in range(width):
                table[tokens[i, t], f] = np.float32(table[tokens[i, t], f] + gradient[i, t, f])
                positions[t, f] = np.float32(positions[t, f] + gradient[i, t, f])
