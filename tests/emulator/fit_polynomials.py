"""Fits the polynomial coefficients of yieldkit/emulator/kernels/scalar.py.

Lawson's weighted least squares in float64 (converges to the minimax polynomial), then each coefficient is rounded to
float32, the highest order first, and the lower ones refitted, so that rounding costs as little as it can.
Run `python -m tests.emulator.fit_polynomials` to print them; a test compares them with the ones in use.
"""

from __future__ import annotations

import numpy as np


def _minimax(z: np.ndarray, target: np.ndarray, weight: np.ndarray, powers: list[int]) -> np.ndarray:
    basis = np.stack([z**p for p in powers], axis=1)
    emphasis = np.ones_like(z)
    solution = np.zeros(len(powers))
    best, best_error = solution, np.inf
    for _ in range(60):
        scale = weight * np.sqrt(emphasis)
        solution = np.linalg.lstsq(basis * scale[:, None], target * scale, rcond=None)[0]
        error = np.abs(basis @ solution - target) * weight
        if error.max() < best_error:
            best, best_error = solution, error.max()
        emphasis *= error / error.max() + 1e-12
        emphasis /= emphasis.max()
    return best


def _fit(z: np.ndarray, target: np.ndarray, weight: np.ndarray, degree: int) -> list[float]:
    """Coefficients c[0..degree], float32 values, of sum c[i] z^i with least weighted error."""
    fixed: dict[int, float] = {}
    left = target.copy()
    for power in range(degree, -1, -1):
        powers = [p for p in range(degree + 1) if p not in fixed]
        value = float(np.float32(_minimax(z, left, weight, powers)[powers.index(power)]))
        fixed[power] = value
        left = left - value * z**power
    return [fixed[p] for p in range(degree + 1)]


def _nodes(low: float, high: float, count: int = 1501) -> np.ndarray:
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(count) + 0.5) / count)


def _series(z: np.ndarray, term: list[float]) -> np.ndarray:
    total = np.zeros_like(z)
    for value in reversed(term):
        total = total * z + value
    return total


def fit_all() -> dict[str, list[float]]:
    """The coefficient lists by name, lowest order first."""
    from math import factorial, log, pi

    out = {}
    # exp(r) = 1 + r + r^2 q(r), |r| <= ln2/2 and a little for the rounding of n.
    r = _nodes(-0.5 * log(2) - 0.001, 0.5 * log(2) + 0.001)
    out["EXP"] = _fit(r, _series(r, [1 / factorial(i + 2) for i in range(20)]), r * r / np.exp(r), 4)
    # log((1 + s) / (1 - s)) = 2 s + s z l(z), z = s^2, s = (m - 1) / (m + 1), m in [sqrt(1/2), sqrt(2)].
    z = _nodes(0.0, ((2**0.5 - 1) / (2**0.5 + 1)) ** 2 * 1.001)
    out["LOG"] = _fit(z, _series(z, [2 / (2 * i + 3) for i in range(20)]), z, 3)
    # sin r = r + r^3 s(r^2), cos r = 1 - r^2/2 + r^4 c(r^2), |r| <= pi/4.
    z = _nodes(0.0, (pi / 4) ** 2 * 1.001)
    out["SIN"] = _fit(z, _series(z, [(-1) ** (i + 1) / factorial(2 * i + 3) for i in range(15)]), z, 3)
    out["COS"] = _fit(z, _series(z, [(-1) ** i / factorial(2 * i + 4) for i in range(15)]), z * z, 3)
    return out


if __name__ == "__main__":
    for name, values in fit_all().items():
        print(name, [float(np.float32(v)).hex() for v in values], values)
