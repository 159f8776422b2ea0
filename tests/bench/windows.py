"""Windows: where the flips of a small product settle, and what a struck launch of a GPT costs with and without them.

`python -m tests.bench.windows flips`, or rows and columns of the rectangle and how many faults of each kind to draw.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from tests.emulator.flip_table import flips_of
from tests.emulator.tiny import product
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import Lowered, lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.fabric import Fabric
from yieldkit.faults import FAULT_KINDS, FaultPlan, FaultSampler
from yieldkit.workloads.gpt import GptShape, gpt_training

LEVELS = ("core", "row", "rows", "whole")
NEVER = 1 << 62


def flips() -> str:
    """Markdown: level by kind of word, over every configuration bit of every role of a product on 3 x 3 cores."""
    low, streams = product(3, 3, 2, 2, 2, 2)
    counts: Counter[tuple[str, str, bool]] = Counter()
    roles = low.launches[0].role_of
    cores = [(r, c) for r, c in np.ndindex(roles.shape) if (roles.ravel() == roles[r, c]).argmax() == 3 * r + c]
    for core in cores:
        for flip in flips_of(low, core):
            executor = TensorExecutor(low, window_from=0)
            result = executor.launch(low.launches[0], streams, flip.hooks)
            (level,) = executor.settled
            counts[flip.word, level, result.completed] += 1
    lines = ["| word | bits | unread | core | row | counts | whole, completes | whole, does not |", "|" + 8 * "---|"]
    for word in ("header", "task", "descriptor", "route", "all"):
        among = {key: n for key, n in counts.items() if word in (key[0], "all")}

        def share(level: str, done: bool | None = None, among: Any = among) -> int:
            return sum(n for (_, where, d), n in among.items() if where == level and done in (None, d))

        row = [sum(among.values()), *(share(level) for level in ("unread", "core", "row", "counts"))]
        row += [share("whole", True), share("whole", False)]
        lines.append(f"| {word} | " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def shape_of(rows: int, cols: int) -> GptShape:
    """One layer that fits the rectangle."""
    big = rows > 8
    return GptShape(layers=1, width=64, heads=max(8, cols), context=32 if big else 16, sequences=32 if big else 8)


def launches(rows: int, cols: int) -> tuple[Lowered, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """A training step: tensors and streams at the start of each launch."""
    low = lower(gpt_training(shape_of(rows, cols), rows=rows, cols=cols))
    job = Job.start(low, taps=False)
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    cores = job.executor
    assert isinstance(cores, TensorExecutor)
    plain = cores.launch

    def launch(low: Any, streams: Any, hooks: Any = None) -> Any:
        fed = {name: np.array(array) for name, array in streams.items()}
        kept.append(({name: array.copy() for name, array in cores.arrays.items()}, fed))
        return plain(low, streams, hooks)

    cores.launch = launch  # type: ignore[method-assign]
    job.run_step()
    return low, kept


def timed(rows: int, cols: int, draws: int) -> str:
    """Markdown: seconds a struck launch takes by the level that settled it, and where the faults settled."""
    low, kept = launches(rows, cols)
    placement = Placement.of(low.program, Fabric.perfect(rows, cols))
    sampler = FaultSampler(low, placement, 1)
    seconds: dict[tuple[str, bool], list[tuple[float, float]]] = defaultdict(list)
    for number, kind in enumerate(FAULT_KINDS):
        for seed in range(draws):
            plan = FaultPlan([sampler.draw(kind, np.random.default_rng([seed, number]))], placement)
            for launch in low.launches:
                hooks = plan.hooks(0, launch)
                if not hooks:
                    continue
                took, level, completed = [], "", False
                for least in (0, NEVER):
                    executor = TensorExecutor(low, taps=False, window_from=least)
                    for name, array in kept[launch.index][0].items():
                        executor.write(name, array)
                    begin = time.perf_counter()
                    completed = executor.launch(launch, kept[launch.index][1], hooks).completed
                    took.append(time.perf_counter() - begin)
                    level = level or next(iter(executor.settled), "")
                if level:
                    seconds[level, completed].append((took[0], took[1]))
    lines = ["| settled by | completes | launches | with windows | the whole at once |", "|---|---|---|---|---|"]
    total: list[tuple[float, float]] = []
    for level in LEVELS:
        for completed in (True, False):
            each = seconds[level, completed]
            total += each
            if each:
                lines.append(_line(level, "yes" if completed else "no", each))
    return "\n".join([*lines, _line("all", "", total)])


def _line(level: str, completed: str, each: list[tuple[float, float]]) -> str:
    mine, whole = (statistics.mean(pair[k] for pair in each) for k in (0, 1))
    return f"| {level} | {completed} | {len(each)} | {mine:.3f} s | {whole:.3f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", help='"flips", or rows, columns and draws')
    what = parser.parse_args().what
    with np.errstate(all="ignore"):
        print(flips() if what == ["flips"] else timed(*map(int, what)))


if __name__ == "__main__":
    main()
