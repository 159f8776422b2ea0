"""Stratified and importance-weighted rates: the formulas again by hand, and simulated campaigns with their controls."""

from __future__ import annotations

import numpy as np
import pytest

from yieldkit.reliability.designs import (
    Moments,
    design_interval,
    design_rate,
    plan_round,
)
from yieldkit.reliability.proportions import clopper_pearson_interval, wilson_interval
from yieldkit.rng import generator

NOMINAL = 0.95


def populations():
    """(name, weights, rates): what a campaign may meet, rare outcomes included."""
    rng = generator(11, "tests.populations")
    uneven = np.sort(np.maximum(rng.dirichlet(np.full(24, 0.5)), 1e-5))[::-1]
    uneven = uneven / uneven.sum()
    many = np.maximum(rng.dirichlet(np.full(120, 0.4)), 1e-6)
    many = many / many.sum()
    third = np.where(rng.random(24) < 0.3, 0.3, 0.0)
    hot = np.full(24, 0.001)
    hot[3] = 0.4
    yield "alike", uneven, np.full(24, 0.1)
    yield "alike and common", uneven, np.full(24, 0.6)
    yield "alike and rare", uneven, np.full(24, 0.01)
    yield "spread", uneven, rng.beta(0.3, 2.0, 24)
    yield "skew", uneven, rng.beta(0.1, 3.0, 24)
    yield "a third of them", uneven, third
    yield "one hot", uneven, hot
    yield "one hot among unlikely ones", uneven, np.where(hot > 0.1, 0.4, 0.01)
    yield "four", np.array([0.7, 0.2, 0.08, 0.02]), np.array([0.02, 0.1, 0.3, 0.9])
    yield "many", many, rng.beta(0.1, 1.0, 120)


def simulate(weights, rates, *, rounds, size, floor, mix, campaigns, seed, stop=None):
    """Campaigns by rounds; returns trials and hits [campaigns, 2, H]. With `stop` each ends at its own round."""
    rng = generator(seed, "tests.designs")
    n = np.zeros((campaigns, 2, len(weights)), np.int64)
    hits = np.zeros_like(n)
    going = np.ones(campaigns, bool)
    for _ in range(rounds):
        plan = plan_round(weights, weights, (n, hits), (size // 2, size // 2), floor=floor, mix=mix)
        plan = plan * going[:, None, None]
        hits = hits + rng.binomial(plan, rates)
        n = n + plan
        if stop is not None:
            low, high = design_interval(design_rate(weights, Moments.plain(n, hits)))
            going &= (high - low) / 2 > stop
    return n, hits


def figures(weights, rates, n, hits, *, method, seed=5):
    """Coverage, mean width over that of simple random samples of the same size, and the bias over the deviation."""
    truth = float(np.sum(weights * rates))
    found = design_rate(weights, Moments.plain(n, hits))
    low, high = design_interval(found, method=method)
    covered = float(((low <= truth) & (truth <= high)).mean())
    total = n.sum(axis=(-1, -2))
    drawn = generator(seed, "tests.simple").binomial(total, truth)
    plain = {"wilson": wilson_interval, "exact": clopper_pearson_interval}[method](drawn, total)
    simple = float(((plain[0] <= truth) & (truth <= plain[1])).mean())
    width = float((high - low).mean() / (plain[1] - plain[0]).mean())
    bias = float((found.rate.mean() - truth) / found.rate.std())
    return covered, width, bias, simple, truth * float(total.mean())


@pytest.mark.parametrize("method", ["wilson", "exact"])
def test_small_print(method):
    for name, weights, rates in populations():
        for mix in (1.0, 0.25):
            for rounds, size, floor in ((10, 64, 4), (20, 100, 8), (16, 400, 8)):
                n, hits = simulate(
                    weights, rates, rounds=rounds, size=size, floor=floor, mix=mix, campaigns=2000, seed=1
                )
                print(
                    f"{name:28} {method} mix {mix} n {rounds * size}",
                    "cov {:.3f} width {:.2f} bias {:+.2f} simple {:.3f} np {:.0f}".format(
                        *figures(weights, rates, n, hits, method=method)
                    ),
                )
