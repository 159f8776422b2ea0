"""Intervals for a rate and for the difference of two: how far finite numbers of trials can be trusted."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yieldkit.errors import BadInput

__all__ = [
    "beta_interval",
    "clopper_pearson_interval",
    "difference_interval",
    "difference_test",
    "holm",
    "score_interval",
    "wilson_interval",
]

Interval = tuple[NDArray[np.float64], NDArray[np.float64]]


def wilson_interval(successes: ArrayLike, trials: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Two-sided Wilson score interval (Wilson, JASA 22, 1927): mean coverage near the nominal one.

    Args:
        successes: counts, array[...] of whole numbers.
        trials: numbers of trials, broadcast against `successes`; where it is 0 the interval is (0, 1).
        confidence: nominal coverage, between 0 and 1.

    Returns:
        (low, high), each array[...] of the broadcast shape; low is exactly 0 at no success, high exactly 1 at no
        failure.

    Raises:
        BadInput: a count is negative, not whole or above its number of trials, or the confidence is out of range.
    """
    x, n = _counts(successes, trials)
    low, high = score_interval(x / np.maximum(n, 1.0), n, confidence=confidence)
    return np.where(x == 0, 0.0, low), np.where(x == n, 1.0, high)


def score_interval(rate: ArrayLike, effective_n: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Wilson's interval for a rate and a number of trials that need not be whole.

    Args:
        rate: array[...] between 0 and 1.
        effective_n: array[...], at least 0; where it is 0 the interval is (0, 1).
        confidence: nominal coverage.

    Raises:
        BadInput: the confidence is out of range.
    """
    p, n = np.broadcast_arrays(np.asarray(rate, np.float64), np.asarray(effective_n, np.float64))
    z = NormalDist().inv_cdf(0.5 + _confidence(confidence) / 2.0)
    # Everything times n, so that no trial at all needs no case of its own.
    centre = (p * n + z * z / 2.0) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(np.maximum(p * (1.0 - p) * n + z * z / 4.0, 0.0))
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def clopper_pearson_interval(successes: ArrayLike, trials: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Two-sided Clopper-Pearson interval (Biometrika 26, 1934): coverage never below the nominal one.

    Args, returns and errors as in `wilson_interval`.
    """
    x, n = _counts(successes, trials)
    return beta_interval(x / np.maximum(n, 1.0), n, confidence=confidence)


def beta_interval(rate: ArrayLike, effective_n: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's interval for a rate and a number of trials that need not be whole.

    Args and errors as in `score_interval`.
    """
    from scipy.special import betaincinv

    p, n = np.broadcast_arrays(np.asarray(rate, np.float64), np.asarray(effective_n, np.float64))
    x = p * n
    tail = (1.0 - _confidence(confidence)) / 2.0
    # The quantiles of Beta(x, n - x + 1) and Beta(x + 1, n - x); the ends need no quantile and have no valid shape.
    none, every = (p <= 0) | (n <= 0), (p >= 1) | (n <= 0)
    low = np.where(none, 0.0, betaincinv(np.where(none, 1.0, x), np.maximum(n - x, 0.0) + 1.0, tail))
    high = np.where(every, 1.0, betaincinv(x + 1.0, np.where(every, 1.0, np.maximum(n - x, 1e-9)), 1.0 - tail))
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def difference_interval(
    rates: tuple[ArrayLike, ArrayLike], lows: tuple[ArrayLike, ArrayLike], highs: tuple[ArrayLike, ArrayLike]
) -> Interval:
    """Interval for the difference of two independent rates, second minus first, from the intervals of each.

    With Wilson's intervals this is Newcombe's hybrid score interval (method 10 of Statistics in Medicine 17, 1998,
    873-890); from other intervals it keeps about their coverage (Zou and Donner, Statistics in Medicine 27, 2008).

    Args:
        rates: the two rates, arrays[...].
        lows: lower bounds of the two.
        highs: upper bounds of the two.

    Returns:
        (low, high), each array[...] within -1 and 1.
    """
    (p, q), (p_low, q_low), (p_high, q_high) = (
        (np.asarray(first, np.float64), np.asarray(second, np.float64)) for first, second in (rates, lows, highs)
    )
    low = q - p - np.hypot(q - q_low, p_high - p)
    high = q - p + np.hypot(q_high - q, p - p_low)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def difference_test(
    rates: tuple[ArrayLike, ArrayLike], effective_n: tuple[ArrayLike, ArrayLike]
) -> NDArray[np.float64]:
    """Two-sided p-value of "both rates are the same": the score test, which is the chi-square test of the 2 x 2 table.

    Args:
        rates: the two rates, arrays[...].
        effective_n: numbers of trials of the two, or of simple random trials that know as much.

    Returns:
        array[...]; 1 where there is no trial or every trial came out alike.
    """
    (p, q), (n, m) = ((np.asarray(one, np.float64), np.asarray(two, np.float64)) for one, two in (rates, effective_n))
    some = (n > 0) & (m > 0)
    total = np.where(some, n + m, 1.0)
    pooled = (p * n + q * m) / total
    variance = pooled * (1.0 - pooled) * (1.0 / np.where(some, n, 1.0) + 1.0 / np.where(some, m, 1.0))
    sure = ~some | (variance <= 1e-300)
    z = np.abs(q - p) / np.sqrt(np.where(sure, 1.0, variance))
    from scipy.special import erfc

    return np.where(sure, 1.0, erfc(z / np.sqrt(2.0)))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for their number (Holm, Scandinavian Journal of Statistics 6, 1979).

    Rejecting where the adjusted value is at most alpha rejects any true hypothesis at all with probability at most
    alpha, however the tests depend on each other.

    Args:
        p_values: array[m].

    Returns:
        array[m], in the same order, at most 1.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _counts(successes: ArrayLike, trials: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    try:
        x, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise BadInput(f"successes and trials must be counts of matching shapes: {error}") from error
    wrong = ~((x >= 0) & (x <= n) & (x == np.floor(x)) & (n == np.floor(n)) & np.isfinite(n))
    if wrong.any():
        first = (float(x[wrong][0]), float(n[wrong][0]))
        raise BadInput("successes must be whole numbers between 0 and trials", value=first)
    return x, n


def _confidence(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise BadInput("confidence must lie between 0 and 1", value=confidence, cure="pass e.g. confidence=0.95")
    return float(confidence)
