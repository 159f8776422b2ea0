"""Coverage and width of the intervals of stratified campaigns, over simulated campaigns with a known truth.

`python -m tests.bench.coverage --set fixed --campaigns 2000 --seed 1`: a row a cell, summary lines at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from scipy import stats

from tests.reliability.simulated_campaigns import LEAST_EXPECTED, SETS, Cell, cells_of, simulate
from yieldkit.files import write_text
from yieldkit.reliability.designs import DesignRate, design_interval, design_rate
from yieldkit.reliability.proportions import clopper_pearson_interval, wilson_interval

NOMINAL: Final = 0.95
POINTS: Final = 0.02
WIDEST: Final = 1.25
PLAIN: Final = {"wilson": wilson_interval, "exact": clopper_pearson_interval}


class Figures(NamedTuple):
    """What the intervals of a cell do.

    Attributes:
        method: "wilson" or "exact".
        coverage: share of campaigns whose interval holds the truth.
        error: Monte Carlo standard error of that share.
        simple: coverage of the plain interval for simple samples of the same sizes, by summing the binomial law.
        matched: the same for simple samples that rest on as many events (`DesignRate.events`), over sizes near by.
        below: share of campaigns whose interval lies below the truth.
        width: mean width over that of simple samples.
        bias: of the rate, in its standard deviations.
        expected: trials with the label that simple samples would bring.
        told: the command `yieldkit burnin check` warns of the width beforehand.
        events: what the rate rests on in truth (`DesignRate.events`, by the true rates and the mean trials).
    """

    method: str
    coverage: float
    error: float
    simple: float
    matched: float
    below: float
    width: float
    bias: float
    expected: float
    told: bool
    events: float

    @property
    def group(self) -> str:
        """What is asked of the cell: everything, no width, or nothing."""
        if self.events < LEAST_EXPECTED:
            return "fewer than five events"
        return "told to be wide" if self.told else "all others"

    @property
    def highest(self) -> float:
        """Coverage allowed: Clopper and Pearson's own interval covers too much where little is expected."""
        return max(NOMINAL + POINTS, self.simple, self.matched) if self.method == "exact" else NOMINAL + POINTS

    def outside(self, errors: float = 0.0) -> str:
        """What is out of bounds by more than so many standard errors: "low", "high", "wide" or nothing.

        Where the design is told beforehand to be wide it may be, and cover more too; never less. Where fewer than five
        events decide, as with fewer than five hits in a simple sample, nothing is asked.
        """
        if self.events < LEAST_EXPECTED:
            return ""
        if self.coverage < NOMINAL - POINTS - errors * self.error:
            return "low"
        if self.told:
            return ""
        if self.coverage > self.highest + errors * self.error:
            return "high"
        return "wide" if self.width > WIDEST else ""


def figures(cell: Cell, n: Any, hits: Any) -> list[Figures]:
    """Figures of both methods over simulated campaigns."""
    truth = cell.population.truth
    found = design_rate(cell.population.frame, n, hits)
    sizes, times = np.unique(n.sum(axis=(-1, -2)), return_counts=True)
    events, true = float(np.median(found.events)), _events(cell, found)
    rows = []
    for method in PLAIN:
        low, high = design_interval(found, method=method)
        covered = float(((low <= truth) & (truth <= high)).mean())
        plain = np.average([_simple(method, int(size), truth) for size in sizes], axis=0, weights=times)
        # At least that of a cell on the upper bound: where nearly all are covered the share's own is too small.
        bound = NOMINAL + POINTS
        error = float(np.sqrt(max(covered * (1 - covered), bound * (1 - bound)) / len(low)))
        rows.append(Figures(
            method, covered, error, float(plain[0]), _matched(method, events, truth), float((high < truth).mean()),
            float((high - low).mean() / plain[1]), float((found.rate.mean() - truth) / found.rate.std()),
            float(truth * np.average(sizes, weights=times)), cell.width_factor > WIDEST, true,
        ))  # fmt: skip
    return rows


def _simple(method: str, n: int, truth: float) -> tuple[float, float]:
    """Coverage and mean width of a plain interval."""
    first, last = (int(bound) for bound in stats.binom.ppf([1e-12, 1 - 1e-12], n, truth))
    x = np.arange(first, last + 1)
    chance = stats.binom.pmf(x, n, truth)
    low, high = PLAIN[method](x, n)
    return float(chance[(low <= truth) & (truth <= high)].sum()), float((chance * (high - low)).sum())


def _events(cell: Cell, found: DesignRate) -> float:
    p = cell.population.rates.ravel()
    gain, reach = found.law.gain.mean(axis=0), found.law.reach.mean(axis=0)
    brought = gain * p * (1 - p)
    known = (brought * gain**2 / np.where(gain > 0, reach**2, 1.0)).sum()
    return float(brought.sum() ** 2 / known) if known > 0 else 0.0


def _matched(method: str, events: float, truth: float) -> float:
    sizes = np.unique((events / (truth * (1 - truth)) * np.linspace(0.8, 1.2, 9)).astype(int) + 1)
    return float(np.mean([_simple(method, int(size), truth)[0] for size in sizes]))


def measure(cells: list[Cell], *, campaigns: int, seed: int, quiet: bool = False) -> list[tuple[Cell, list[Figures]]]:
    """Figures of all cells; progress goes to stderr."""
    rows = []
    for number, cell in enumerate(cells):
        rows.append((cell, figures(cell, *simulate(cell, campaigns=campaigns, seed=seed + number))))
        if not quiet:
            print(f"\r{number + 1}/{len(cells)} cells", end="", file=sys.stderr, flush=True)
    if not quiet:
        print(file=sys.stderr)
    return rows


def table(rows: list[tuple[Cell, list[Figures]]], *, errors: float, marked: bool = False) -> list[str]:
    """A line a cell and method; "<<" where out of bounds, "?" where noise may be the cause, or what is not asked."""
    lines = [
        f"{'population':<30} {'H':>4} {'n':>6} {'floor':>6} {'mix':>4} {'hits':>6} {'events':>6} {'method':<7}"
        f" {'cover %':>8} {'se':>5} {'simple':>7} {'width':>6} {'bias':>6}"
    ]
    for cell, both in rows:
        for one in both:
            sure, maybe = one.outside(errors), one.outside()
            mark = (
                f" << {sure}"
                if sure
                else f" ? {maybe}"
                if maybe
                else ""
                if one.group == "all others"
                else f" ({one.group})"
            )
            if marked and not maybe:
                continue
            lines.append(
                f"{cell.population.name:<30} {len(cell.population.shares):>4} {cell.design.n:>6}"
                f" {100 * cell.floor_share:>5.0f}% {cell.design.mix:>4} {one.expected:>6.0f} {one.events:>6.0f}"
                f" {one.method:<7}"
                f" {100 * one.coverage:>8.2f} {100 * one.error:>5.2f} {100 * one.simple:>7.2f} {one.width:>6.2f}"
                f" {one.bias:>6.2f}{mark}"
            )
    return lines


def summary(rows: list[tuple[Cell, list[Figures]]], *, errors: float) -> list[str]:
    """Ranges by method, of cells whose width is not told beforehand and of those where it is."""
    lines = []
    for place, method in enumerate(PLAIN):
        for group in ("all others", "told to be wide", "fewer than five events"):
            each = [both[place] for _, both in rows if both[place].group == group]
            if not each:
                continue
            cover = sorted(100 * one.coverage for one in each)
            simple = [100 * one.simple for one in each]
            width = sorted(one.width for one in each)
            out, sure = (sum(bool(one.outside(k)) for one in each) for k in (0.0, errors))
            lines.append(
                f"{method}, {group}: {len(each)} cells,"
                f" coverage {cover[0]:.1f} to {cover[-1]:.1f} % (mean {np.mean(cover):.1f} %;"
                f" simple samples {min(simple):.1f} to {max(simple):.1f} %), widths {width[0]:.2f} to {width[-1]:.2f}"
                f" (median {np.median(width):.2f}), bias at most {max(abs(one.bias) for one in each):.2f} sd;"
                f" out of bounds {out}, by more than {errors:g} standard errors {sure}"
            )
    return lines


def plain_rows(rows: list[tuple[Cell, list[Figures]]]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {"population": cell.population.name, "strata": len(cell.population.shares), **cell.design._asdict(),
         "n": cell.design.n, "floor_share": cell.floor_share, "width_factor": cell.width_factor,
         "truth": cell.population.truth, **one._asdict(),
         "outside": one.outside()}
        for cell, both in rows for one in both
    ]  # fmt: skip


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=["fixed", *SETS], action="append", help="populations; fixed by default")
    parser.add_argument("--campaigns", type=int, default=2000, help="simulated campaigns a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="populations whose name is this; all by default")
    parser.add_argument("--errors", type=float, default=3.0, help="standard errors beyond which a cell is out for sure")
    parser.add_argument("--marked", action="store_true", help="print cells out of bounds only")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    every = []
    for name in options.set or ["fixed"]:
        cells = [one for one in cells_of(name) if not options.only or one.population.name in options.only]
        rows = measure(cells, campaigns=options.campaigns, seed=options.seed)
        print("\n".join([f"{name}:", *table(rows, errors=options.errors, marked=options.marked)]))
        print("\n".join(summary(rows, errors=options.errors)), flush=True)
        every += [{"set": name, **row} for row in plain_rows(rows)]
    if options.json:
        print(write_text(options.json, json.dumps(every, indent=2) + "\n"))


if __name__ == "__main__":
    main()
