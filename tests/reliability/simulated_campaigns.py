"""Simulated campaigns with a known truth: populations of strata, designs, and many campaigns of each at once.

Four sets of populations. `fixed` is ten hand-made ones at three sizes. The others are drawn from broad laws, each by a
seed of its own: `develop` is what methods are worked out on, `fresh` and `final` are only looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from yieldkit.burnin.schedule import LEAST_EVENTS
from yieldkit.reliability.designs import Frame, allocate, design_interval, design_rate, plan_round, width_factor
from yieldkit.rng import generator

F64 = npt.NDArray[np.float64]

SETS: Final = {"develop": 101, "fresh": 202, "final": 404}
"""Seeds of the drawn sets."""

LEAST_EXPECTED: Final = 5.0
"""Trials with the label that a simple sample of the same size would bring; with fewer no interval holds its word."""


class Population(NamedTuple):
    """Strata, each of one or more classes of faults that a draw may favour.

    Attributes:
        name: for tables.
        shares: [H, C] share of the population in each class.
        rates: [H, C] rate of the label.
        boosts: [H, C] factor of importance.
    """

    name: str
    shares: F64
    rates: F64
    boosts: F64

    @classmethod
    def plain(cls, name: str, weights: F64, rates: F64) -> Population:
        """Strata of one class each."""
        return cls(name, weights[:, None], rates[:, None], np.ones((len(weights), 1)))

    @property
    def truth(self) -> float:
        """Rate of the label in the population."""
        return float(np.sum(self.shares * self.rates) / self.shares.sum())

    @property
    def weights(self) -> F64:
        """[H] shares of the strata."""
        return np.asarray(self.shares.sum(axis=-1))

    @property
    def chances(self) -> F64:
        """[H, C] of the classes in a draw inside their stratum."""
        boosted = self.shares * self.boosts
        return np.asarray(boosted / boosted.sum(axis=-1, keepdims=True))

    @property
    def draw_weights(self) -> F64:
        """[H, C] of a draw: how much likelier its class is under a uniform draw inside the stratum."""
        return np.asarray(self.shares / self.weights[:, None] / self.chances)

    @property
    def frame(self) -> Frame:
        """As the design sees it."""
        strata, classes = self.shares.shape
        return Frame(self.shares.ravel(), np.repeat(np.arange(strata), classes), self.chances.ravel())


class Design(NamedTuple):
    """How trials are given out; `stop` is a half-width, or None where the budget decides."""

    rounds: int
    size: int
    floor: int
    mix: float
    stop: float | None = None

    @property
    def n(self) -> int:
        """Budget."""
        return self.rounds * self.size


class Cell(NamedTuple):
    """A population and a design."""

    population: Population
    design: Design

    @property
    def floor_share(self) -> float:
        """Part of the budget that the floor takes."""
        return 2 * ((self.design.floor + 1) // 2) * len(self.population.shares) / self.design.n

    @property
    def width_factor(self) -> float:
        """What `yieldkit burnin check` tells beforehand: widths for an evenly spread label, trials by population."""
        one, design = self.population, self.design
        base = (one.shares * one.boosts).sum(axis=-1)
        nothing = np.zeros(len(base), np.int64)
        half = allocate(one.weights, nothing, design.n // 2, floor=(design.floor + 1) // 2, shares=base)
        return float(width_factor(one.frame, 2 * half))


def fixed_populations() -> Iterator[Population]:
    """What a campaign may meet, rare outcomes included."""
    rng = generator(11, "tests.populations")
    uneven = np.sort(np.maximum(rng.dirichlet(np.full(24, 0.5)), 1e-5))[::-1]
    uneven = uneven / uneven.sum()
    many = np.maximum(rng.dirichlet(np.full(120, 0.4)), 1e-6)
    many = many / many.sum()
    third = np.where(rng.random(24) < 0.3, 0.3, 0.0)
    hot = np.full(24, 0.001)
    hot[3] = 0.4
    yield Population.plain("alike", uneven, np.full(24, 0.1))
    yield Population.plain("alike and common", uneven, np.full(24, 0.6))
    yield Population.plain("alike and rare", uneven, np.full(24, 0.01))
    yield Population.plain("spread", uneven, rng.beta(0.3, 2.0, 24))
    yield Population.plain("skew", uneven, rng.beta(0.1, 3.0, 24))
    yield Population.plain("a third of them", uneven, third)
    yield Population.plain("one hot", uneven, hot)
    yield Population.plain("one hot among unlikely ones", uneven, np.where(hot > 0.1, 0.4, 0.01))
    yield Population.plain("four", np.array([0.7, 0.2, 0.08, 0.02]), np.array([0.02, 0.1, 0.3, 0.9]))
    yield Population.plain("many", many, rng.beta(0.1, 1.0, 120))


def fixed_cells() -> Iterator[Cell]:
    """The hand-made populations at three sizes, by population and by Neyman."""
    for population in fixed_populations():
        for mix in (1.0, 0.5):
            for rounds, size, floor in ((10, 64, 4), (20, 100, 8), (16, 400, 8)):
                yield Cell(population, Design(rounds, size, floor, mix))


def drawn_cells(seed: int, *, populations: int = 48) -> Iterator[Cell]:
    """Populations from broad laws, each with a size of its own, by population and by Neyman.

    Two to 200 strata of Dirichlet shares (concentration 0.2 to 5); rates from a beta law with any mean and spread, some
    with a part of the strata at zero, some low but for one to three hot strata; label rates of 0.5 % to 60 %. A sixth
    have importance inside strata (factors 3 to 30 on classes of 2 % to 30 %, where the label is more, less or as
    frequent), a sixth stop by half-width.
    """
    for number in range(populations):
        rng = generator(seed, "tests.coverage.population", number)
        while True:
            cell = _drawn(rng, number)
            n = cell.design.n
            if 0.005 <= cell.population.truth <= 0.6 and cell.population.truth * n >= LEAST_EXPECTED:
                break
        yield cell
        yield Cell(cell.population, cell.design._replace(mix=0.5))


def _drawn(rng: np.random.Generator, number: int) -> Cell:
    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    strata = round(between(2, 200))
    weights = np.maximum(rng.dirichlet(np.full(strata, between(0.2, 5))), 1e-6)
    weights = weights / weights.sum()
    kind = ("beta", "beta", "zeros", "hot")[number % 4]
    mean, certainty = between(0.005, 0.6), between(0.2, 30)
    rates = np.clip(rng.beta(mean * certainty, (1 - mean) * certainty, strata), 0.0, 1.0)
    if kind == "zeros":
        rates = rates * (rng.random(strata) < rng.uniform(0.2, 0.8))
    elif kind == "hot":
        rates = np.full(strata, between(0.0005, 0.03))
        hot = rng.choice(strata, size=min(strata, int(rng.integers(1, 4))), replace=False)
        rates[hot] = rng.uniform(0.2, 0.95, len(hot))
    rounds = int(rng.integers(5, 21))
    floor = int(rng.choice([2, 4, 8]))
    size = 2 * round(between(400, 10_000) / rounds / 2)
    stop = None
    population = Population.plain(f"{kind} {number}", weights, rates)
    if number % 6 == 4:
        population = _boosted(rng, population, between(3, 30))
    elif number % 6 == 5:
        truth = population.truth
        # Met by a simple sample of 30 % to 70 % of the budget.
        stop = 1.96 * float(np.sqrt(truth * (1 - truth) / (rng.uniform(0.3, 0.7) * rounds * size)))
        population = population._replace(name=f"{population.name} stop")
    return Cell(population, Design(rounds, size, floor, 1.0, stop))


def _boosted(rng: np.random.Generator, one: Population, factor: float) -> Population:
    part = rng.uniform(0.02, 0.3, len(one.shares))
    # How much more frequent the label is in what is boosted; the stratum's rate stays as far as 1 allows.
    liking = float(np.exp(rng.uniform(np.log(0.5), np.log(20))))
    rate = one.rates[:, 0]
    inside = np.minimum(rate * liking / (part * liking + 1 - part), 1.0)
    outside = np.clip((rate - part * inside) / (1 - part), 0.0, 1.0)
    shares = one.shares * np.stack([part, 1 - part], axis=-1)
    boosts = np.broadcast_to([factor, 1.0], shares.shape)
    return Population(f"{one.name} weights", shares, np.stack([inside, outside], axis=-1), boosts)


def cells_of(name: str) -> list[Cell]:
    """The cells of a set by name: "fixed" or one of `SETS`."""
    return list(fixed_cells() if name == "fixed" else drawn_cells(SETS[name]))


def simulate(cell: Cell, *, campaigns: int, seed: int) -> tuple[F64, F64]:
    """Campaigns by rounds: trials and hits by group, [campaigns, 2, H * C]; with a stop rule each ends at its round."""
    population, design = cell
    rng = generator(seed, "tests.designs")
    factor, weights, frame = population.draw_weights, population.weights, population.frame
    base = (population.shares * population.boosts).sum(axis=-1)
    chances = population.chances
    n, hits = (np.zeros((campaigns, 2, *chances.shape), np.int64) for _ in range(2))
    going = np.arange(campaigns)
    for _ in range(design.rounds):
        trials = n[going].sum(axis=-1)
        # As `Strata` counts them: hits by their weights, at most as many as trials.
        found = np.minimum((hits[going] * factor).sum(axis=-1), trials)
        sizes = design.size // 2, design.size - design.size // 2
        plan = plan_round(weights, base, (trials, found), sizes, floor=design.floor, mix=design.mix)
        drawn = plan[..., None]
        if chances.shape[-1] > 1:
            drawn = rng.multinomial(plan, np.broadcast_to(chances, (*plan.shape, chances.shape[-1])))
        n[going] += drawn
        hits[going] += rng.binomial(drawn, population.rates)
        if design.stop is not None:
            rate = design_rate(frame, *(a[going].reshape(len(going), 2, -1) for a in (n, hits)))
            low, high = design_interval(rate)
            going = going[((high - low) / 2 > design.stop) | (rate.events < LEAST_EVENTS)]
            if not len(going):
                break
    return n.reshape(campaigns, 2, -1), hits.reshape(campaigns, 2, -1)
