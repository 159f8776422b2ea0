"""What MemoryX computes: sums in a fixed order and the Adam update, fp32 without contraction."""

import numpy as np
from numba import njit


@njit(cache=True)
def sum_squares(x):
    """Sum of squares of a flat float32 array in float64, from the first element on."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@njit(cache=True)
def total_of(x):
    """Sum of a flat float32 array in float64, from the first element on."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i])
    return total


@njit(cache=True)
def adam(weight, gradient, first, second, rate, beta1, beta2, eps, correction1, correction2):
    """One Adam update in place on flat float32 arrays; returns the sum of squares of the change, float64."""
    moved = 0.0
    rest1, rest2 = np.float32(np.float32(1.0) - beta1), np.float32(np.float32(1.0) - beta2)
    for i in range(weight.size):
        g = gradient[i]
        m = np.float32(np.float32(beta1 * first[i]) + np.float32(rest1 * g))
        squared = np.float32(g * g)
        v = np.float32(np.float32(beta2 * second[i]) + np.float32(rest2 * squared))
        first[i], second[i] = m, v
        down = np.float32(np.sqrt(np.float32(v * correction2)) + eps)
        step = np.float32(np.float32(rate * np.float32(m * correction1)) / down)
        weight[i] = np.float32(weight[i] - step)
        moved += np.float64(step) * np.float64(step)
    return moved


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
