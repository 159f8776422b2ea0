"""How often the statistical exit names another outcome than the full-length run.

`python -m tests.bench.disagreement TRIALS [SEED]` runs trials to their exact ends, a third of them drawn as a campaign
draws, the others where rare outcomes come from (signs and exponents of what is computed with, and of MemoryX's weights
and moments), and prints one table, with one-sided 95 % Clopper-Pearson bounds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from yieldkit.burnin import Campaign
from yieldkit.burnin.disagreement import Disagreement, measure_disagreement
from yieldkit.burnin.emulator_bench import EmulatorBench
from yieldkit.burnin.trial import open_bench
from yieldkit.faults import FaultEvent

__all__ = ["bench_of", "measured"]

DATA = ("accumulator", "link_flip", "sram_data")
HARD = ("exponent_msb", "exponent_rest", "sign")


def bench_of(seed: int, steps: int = 48) -> EmulatorBench:
    """A bench whose faults change values."""
    tables: dict[str, Any] = {
        "campaign": {"name": "exits", "seed": seed, "trials": 1},
        "wafer": {"preset": "mini"},
        "program": {"kind": "gpt_training", "steps": steps},
        "faults": {"kinds": dict.fromkeys(DATA, 1)},
    }
    bench = open_bench(Campaign.from_tables(tables, source="exits").spec)
    assert isinstance(bench, EmulatorBench)
    return bench


def drawn(bench: EmulatorBench, trials: int) -> Iterator[FaultEvent]:
    """Faults: by turns as the campaign draws, of the hard classes alike, and in MemoryX's words."""
    hard = [fault for fault in bench.classes if fault.bit in HARD]
    rng = np.random.default_rng(bench.spec.campaign.seed)
    for k in range(trials):
        if k % 3 == 2:
            yield _of_memoryx(bench, rng)
            continue
        fault = bench.strata.draw("", k).fault if k % 3 == 0 else hard[int(rng.integers(len(hard)))]
        yield bench.sampler.draw_in(fault.site, fault.bit, fault.phase, rng)


def _of_memoryx(bench: EmulatorBench, rng: np.random.Generator) -> FaultEvent:
    """A top bit of a weight or moment, uniformly over words: such a fault stays."""
    weights = bench.golden.states.state(0).weights
    names = list(weights)
    sizes = np.array([weights[name].size for name in names], np.float64)
    name = names[int(rng.choice(len(names), p=sizes / sizes.sum()))]
    return FaultEvent(
        "memoryx",
        *(0, 0, int(rng.integers(bench.golden.steps)), ""),
        mask=1 << int(rng.choice([25, 26, 27, 28, 29, 30, 31])),
        tensor=name,
        index=int(rng.integers(weights[name].size)),
        part=str(rng.choice(["weights", "weights", "first", "second"])),
    )


def measured(trials: int, seed: int) -> Disagreement:
    """Counts by outcome."""
    bench = bench_of(seed)
    with np.errstate(all="ignore"):
        return measure_disagreement(bench.golden, drawn(bench, trials), queue_depth=bench.queue_depth)


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    found = measured(trials, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(found.text())
    print(f"steps run: {found.steps[0]} with the exit, {found.steps[1]} to the exact ends")


if __name__ == "__main__":
    main()
