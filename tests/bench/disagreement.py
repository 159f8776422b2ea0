"""How often the statistical exit names another outcome than the full-length run.

`python -m tests.bench.disagreement TRIALS [SEED]` runs trials to their exact ends, a third of them drawn as a campaign
draws, the others where rare outcomes come from (signs and exponents of what is computed with, and of gradients on their
way to MemoryX), and prints one table, with one-sided 95 % Clopper-Pearson bounds.
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
    """Faults: by turns as the campaign draws, of the hard classes alike, and in gradients."""
    hard = [fault for fault in bench.classes if fault.bit in HARD]
    rng = np.random.default_rng(bench.spec.campaign.seed)
    for k in range(trials):
        if k % 3 == 2:
            yield _of_gradient(bench, rng)
            continue
        fault = bench.strata.draw("", k).fault if k % 3 == 0 else hard[int(rng.integers(len(hard)))]
        yield bench.sampler.draw_in(fault.site, fault.bit, fault.phase, rng)


def _of_gradient(bench: EmulatorBench, rng: np.random.Generator) -> FaultEvent:
    """A top bit of a gradient on its way to MemoryX, where it goes into weights and moments."""
    program = bench.golden.lowered.program
    weights = bench.golden.states.state(0).weights
    sent = [item for item in program.job["outputs"] if item.get("form") == "matrix"]
    item = sent[int(rng.integers(len(sent)))]
    launch = next(
        one for one in program.launches if any(getattr(p, "stream", "") == item["stream"] for p in one.phases)
    )
    return FaultEvent(
        "stream",
        *(0, 0, int(rng.integers(bench.golden.steps)), launch.name),
        mask=1 << int(rng.choice([25, 26, 27, 28, 29, 30, 31])),
        tensor=item["stream"],
        index=int(rng.integers(weights[item["param"]].size)),
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
