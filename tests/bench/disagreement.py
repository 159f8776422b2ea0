"""How often the statistical exit names another outcome than the full-length run, for every outcome of a training.

`python -m tests.bench.disagreement --seed SEED` runs full-length trials until each outcome that it has met is bounded
(one-sided 95 % Clopper-Pearson) by `--limit`, or cannot be with `--most` trials, or the budget is spent; then it prints
the table of docs/trials.md. A third of the trials is drawn as a campaign draws (all kinds of fault of the campaign
benchmark alike, one bit); the others come from families of faults (class of places x class of bits x model of the
fault, and within one launches or tensors), those that have led to an outcome that is still short, by Thompson's rule.
Trial k follows from the seed and
the trials before it. With `--save FILE` each trial is kept in a line, and a later call goes on from there.

`--only OUTCOME ...` bounds these outcomes alone, however rare: nothing is drawn as campaigns draw, and once one has
been met, most trials are faults next to those that led to it (another step, word or bit nearby; none of them twice).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from yieldkit.burnin import Campaign
from yieldkit.burnin.disagreement import ClassCount, Compared, Disagreement, compare_exit
from yieldkit.burnin.emulator_bench import EmulatorBench
from yieldkit.burnin.exits import Steady
from yieldkit.burnin.spec import SITES
from yieldkit.burnin.trial import FaultClass, open_bench
from yieldkit.faults import FAULT_KINDS, FaultEvent
from yieldkit.faults.models import apply_model
from yieldkit.rng import generator
from yieldkit.wafer import WaferSpec

__all__ = ["Arm", "Row", "Survey", "bench_of"]

MODELS = ("bit", "value", "stuck_1", "adjacent_4")
LIMIT = 0.01
CAMPAIGN_EVERY = 3
_CHOICES = 20
"""Faults of a family that are drawn for a trial; the one in the likeliest part of it is taken."""
_AKIN = {"SLOW_DEGRADE": ("LOW_ACCURACY",), "SHARP_SLOW_DEGRADE": ("SHARP_DEGRADE",)}
"""Where an outcome may be found that has not been met: next to what differs from it in whether the distance grows."""
_PRIOR = (0.06, 3.0)
"""Share of a family's trials with an outcome that is expected before any, and how many trials that is worth."""


class Arm(NamedTuple):
    """A family of faults."""

    site: str
    bit: str
    model: str


def part_of(event: FaultEvent) -> str:
    """The part of its family that a fault is in: a tensor of MemoryX or on the host's link, or else a launch."""
    return f"{event.part} {event.tensor}" if event.tensor else event.launch


def _keys(arm: Arm, part: str, step: int, job: int) -> tuple[Any, ...]:
    """A family, its part, and the part's faults of one step of one job."""
    return arm, (arm, part), (arm, part, step, job)


class Row(NamedTuple):
    """A trial: where its fault came from, and how it was named."""

    campaign: bool
    arm: Arm
    part: str
    step: int
    job: int
    trial: Compared
    event: FaultEvent | None = None


def bench_of(seed: int, kind: str = "gpt_training", *, protected: bool = True, **sizes: Any) -> EmulatorBench:
    """A bench of the wafer "mini" with faults in every class of places; unprotected, words of MemoryX have no code."""
    tables: dict[str, Any] = {
        "campaign": {"name": "exits", "seed": seed, "trials": 1},
        "wafer": {"preset": "mini"},
        "program": {"kind": kind, "seed": seed, **sizes},
        "faults": {"kinds": dict.fromkeys(FAULT_KINDS, 1)},
    }
    if protected:
        return _opened(tables)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bare.toml"
        path.write_text(WaferSpec.preset("mini").changed({"machine.protection.memoryx": "none"}).to_toml())
        return _opened({**tables, "wafer": {"spec": str(path)}})


def _opened(tables: dict[str, Any]) -> EmulatorBench:
    bench = open_bench(Campaign.from_tables(tables, source="exits").spec)
    assert isinstance(bench, EmulatorBench)
    return bench


@dataclass
class Survey:
    """Trials of a seed, one after the other.

    Attributes:
        seed: of all draws.
        kind: of program.
        jobs: clean runs (other weights, other batches) that trials take by turns.
        sizes: of the program, where they are not the usual ones.
        steady: the exit.
        only: outcomes to be bounded; all that are met where there are none.
    """

    seed: int
    kind: str = "gpt_training"
    jobs: int = 3
    sizes: dict[str, Any] = field(default_factory=dict)
    steady: Steady = field(default_factory=Steady)
    only: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    _counts: dict[str, ClassCount] = field(default_factory=dict, repr=False)
    _seen: dict[Any, dict[str, int]] = field(default_factory=dict, repr=False)
    _met: dict[str, list[Row]] = field(default_factory=dict, repr=False)
    _done: set[Any] = field(default_factory=set, repr=False)

    @cached_property
    def benches(self) -> list[EmulatorBench]:
        """As a campaign has it."""
        return [bench_of(1_000 * self.seed + j, self.kind, **self.sizes) for j in range(self.jobs)]

    @cached_property
    def bare(self) -> list[EmulatorBench]:
        """The same jobs on a wafer without a code over MemoryX, for faults in weights and moments."""
        return [bench_of(1_000 * self.seed + j, self.kind, protected=False, **self.sizes) for j in range(self.jobs)]

    @cached_property
    def classes(self) -> dict[Arm, list[FaultClass]]:
        """Classes of faults of every family; models other than a flip are for words that hold values."""
        found: dict[Arm, list[FaultClass]] = {}
        sampler = self.benches[0].sampler
        for one in sampler.populations(SITES):
            for model in MODELS if one.bit in ("exponent_rest", "sign", "mantissa_high") else MODELS[:1]:
                if model == "value" and one.bit != "sign":
                    continue  # any bit of the word leads to the same
                found.setdefault(Arm(one.site, one.bit, model), []).append(FaultClass(*one, units=0.0))
        return found

    @cached_property
    def arms(self) -> list[Arm]:
        """Families of faults, sorted."""
        return sorted(self.classes)

    def counts(self) -> Disagreement:
        """By outcome."""
        return Disagreement(dict(sorted(self._counts.items())))

    def short(self, limit: float, most: int) -> list[str]:
        """Outcomes that were met, or are wanted, and are not bounded yet, but may be."""
        counts = {name: self._counts.get(name, ClassCount()) for name in self.only or self._counts}
        return [n for n, count in sorted(counts.items()) if count.upper() > limit and count.trials < most]

    def step(self, k: int, *, limit: float = LIMIT, most: int = 1_000) -> Row:
        """Carry out trial k."""
        rng = generator(self.seed, "bench.disagreement", k)
        job = k % self.jobs
        bench = self.benches[job]
        campaign = k % CAMPAIGN_EVERY == 0 and not self.only
        near = self._near(rng, self.short(limit, most)) if self.only else None
        if near is not None:
            arm, job, event = near
            bench = (self.bare if arm.site.startswith("memoryx") else self.benches)[job]
        elif campaign:
            one = bench.strata.draw("", k).fault
            arm = Arm(one.site, one.bit, "bit")
            event = bench.sampler.draw_in(one.site, one.bit, one.phase, rng)
        else:
            short = self.short(limit, most)
            label = short[int(rng.integers(len(short)))] if short else ""
            arm = self.arms[self._likely([(arm,) for arm in self.arms], label, rng)]
            bench = self.bare[job] if arm.site.startswith("memoryx") else bench
            choices = [self._draw(bench, arm, rng) for _ in range(_CHOICES)]
            event = choices[self._likely([_keys(arm, part_of(one), one.step, job) for one in choices], label, rng)]
        trial = compare_exit(bench.golden, event, queue_depth=bench.queue_depth, steady=self.steady)
        return self.take(Row(campaign, arm, part_of(event), event.step, job, trial, event))

    def _near(self, rng: np.random.Generator, short: list[str]) -> tuple[Arm, int, FaultEvent] | None:
        """A fault next to one that has led to an outcome, three times in four; None where there is no new one."""
        label = short[int(rng.integers(len(short)))] if short else ""
        met = self._met.get(label) or [row for name in _AKIN.get(label, ()) for row in self._met.get(name, [])]
        if not met or rng.random() < 1 / 4:
            return None
        for _ in range(_CHOICES):
            row = met[int(rng.integers(len(met)))]
            event = row.event
            assert event is not None
            golden = (self.bare if row.arm.site.startswith("memoryx") else self.benches)[row.job].golden
            step = int(np.clip(event.step + rng.integers(-3, 4), 0, golden.steps - 1))
            changed = {"step": step}
            if event.place == "memoryx":
                size = golden.states.state(0).weights[event.tensor].size
                changed["index"] = int((event.index + rng.integers(-8, 9)) % size)
                shift = int(rng.integers(-1, 2))
                mask = event.mask << 1 if shift > 0 else event.mask >> 1 if shift < 0 else event.mask
                changed["mask"] = mask if 0 < mask <= 0xFFFFFFFF else event.mask
            other = replace(event, **changed)
            if (row.job, other) not in self._done:
                return row.arm, row.job, other
        return None

    def _draw(self, bench: EmulatorBench, arm: Arm, rng: np.random.Generator) -> FaultEvent:
        """A fault of a family, uniformly."""
        inside = self.classes[arm]
        weights = np.array([one.population for one in inside], np.float64)
        site, bit, phase = inside[int(rng.choice(len(inside), p=weights / weights.sum()))][:3]
        return apply_model(bench.sampler.draw_in(site, bit, phase, rng), arm.model, rng)[0]

    def _likely(self, families: list[tuple[Any, ...]], label: str, rng: np.random.Generator) -> int:
        """Thompson's rule: the family whose share of an outcome, drawn from what is known of it, is largest.

        Each family comes as itself after those that it is a part of, whose shares are what is expected of it at first.
        """
        shares = []
        for family in families:
            expected, weight = _PRIOR
            for key in family:
                seen = self._seen.get(key, {})
                hits, trials = seen.get(label, 0), seen.get("", 0)
                a, b = expected * weight + hits, (1 - expected) * weight + trials - hits
                expected = a / (a + b)
            shares.append(rng.beta(a, b))
        return int(np.argmax(shares))

    def take(self, row: Row) -> Row:
        """Count a trial."""
        self.rows.append(row)
        label = row.trial.label
        if row.event is not None:
            self._done.add((row.job, row.event))
        if row.event is not None and self.only:
            self._met.setdefault(label, []).append(row)
        for name, count in row.trial.counted.by_label.items():
            self._counts[name] = self._counts.get(name, ClassCount()) + count
        for key in _keys(row.arm, row.part, row.step, row.job):
            seen = self._seen.setdefault(key, {})
            for name in (label, ""):
                seen[name] = seen.get(name, 0) + 1
        return row

    def until(self, trials: int, *, limit: float = LIMIT, most: int = 1_000, least: int = 0) -> Iterator[Row]:
        """Trials up to number `trials`, or after `least` of them until no outcome is short."""
        for k in range(len(self.rows), trials):
            if k >= least and not self.short(limit, most):
                return
            yield self.step(k, limit=limit, most=most)

    def part(self, *, campaign: bool) -> Disagreement:
        """Counts of the trials drawn as campaigns draw, or of the others."""
        total = Disagreement()
        for row in self.rows:
            if row.campaign == campaign:
                total += row.trial.counted
        return total

    def text(self) -> str:
        """Tables: by outcome, and by class of places."""
        every = self.part(campaign=True) + self.part(campaign=False)
        plain = self.part(campaign=True)
        lines = [
            "| outcome of the full run | trials | ended early | named otherwise | at most | families "
            "| as campaigns draw | named otherwise | at most |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        families: dict[str, set[Any]] = {}
        for row in self.rows:
            families.setdefault(row.trial.label, set()).add((row.arm, row.part))
        for label, count in every.by_label.items():
            own = plain.by_label.get(label, ClassCount())
            cells = [label, *_cells(count), len(families[label]), own.trials, own.wrong]
            cells += [_percent(own.upper()) if own.trials else ""]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines += [
            "",
            "| class of places | trials | not BENIGN | ended early | named otherwise |",
            "|---|---|---|---|---|",
        ]
        sites: dict[str, list[int]] = {}
        for row in self.rows:
            cell = sites.setdefault(row.arm.site, [0, 0, 0, 0])
            trial = row.trial
            for place, true in enumerate((True, trial.label != "BENIGN", trial.ended, trial.named != trial.label)):
                cell[place] += true
        lines += [f"| {site} | " + " | ".join(map(str, cell)) + " |" for site, cell in sorted(sites.items())]
        ended = plain.ended
        share = 100 * plain.steps[0] / max(plain.steps[1], 1)
        lines += [
            "",
            f"As campaigns draw, {ended.wrong} of {ended.trials} trials that end early are named otherwise: at most "
            f"{_percent(ended.upper())}. They run {share:.0f} % of the steps that trials to exact ends run.",
        ]
        return "\n".join(lines)


def _cells(count: ClassCount) -> list[Any]:
    return [count.trials, count.ended, count.wrong, _percent(count.upper())]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _load(survey: Survey, path: Path) -> None:
    for line in path.read_text().splitlines():
        campaign, arm, part, step, job, event, label, named, steps = json.loads(line)
        trial = Compared(label, named, tuple(steps))
        survey.take(Row(campaign, Arm(*arm), part, step, job, trial, FaultEvent.from_dict(event)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.disagreement")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=60_000, help="budget of trials")
    parser.add_argument("--least", type=int, default=3_000, help="trials that are run in any case")
    parser.add_argument("--limit", type=float, default=LIMIT, help="bound that each outcome has to reach")
    parser.add_argument("--most", type=int, default=1_000, help="trials of an outcome after which it has failed")
    parser.add_argument("--kind", default="gpt_training", help="of program")
    parser.add_argument("--jobs", type=int, default=3, help="clean runs with weights of their own")
    parser.add_argument("--minutes", type=float, default=1e9, help="budget of time")
    parser.add_argument("--only", nargs="+", default=[], metavar="OUTCOME", help="outcomes to bound, however rare")
    parser.add_argument("--save", type=Path, help="file of one line a trial, gone on with if there is one")
    options = parser.parse_args()
    survey = Survey(options.seed, options.kind, options.jobs, only=tuple(options.only))
    if options.save and options.save.exists():
        _load(survey, options.save)
    begin, last = time.monotonic(), 0.0
    first = len(survey.rows)
    with np.errstate(all="ignore"):
        for row in survey.until(options.trials, limit=options.limit, most=options.most, least=options.least):
            if options.save:
                with options.save.open("a") as file:
                    event = row.event.to_dict() if row.event is not None else {}
                    file.write(json.dumps([*row[:5], event, *row.trial]) + "\n")
            spent = time.monotonic() - begin
            if spent - last > 20:
                last = spent
                _tell(survey, options, spent / (len(survey.rows) - first))
            if spent > 60 * options.minutes:
                break
    print(survey.text())


def _tell(survey: Survey, options: argparse.Namespace, per_trial_s: float) -> None:
    """A line of progress: counts of what is short, and the time until the budget of trials is spent."""
    done = len(survey.rows)
    wanting = {
        name: survey._counts.get(name, ClassCount()).trials for name in survey.short(options.limit, options.most)
    }
    met = {name: count.wrong for name, count in sorted(survey._counts.items()) if count.wrong}
    left = per_trial_s * (options.trials - done) / 60
    print(
        f"{done} trials, {per_trial_s:.3f} s each, at most {left:.0f} min; short: {wanting}; otherwise: {met}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    main()
