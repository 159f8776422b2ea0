"""Flip every bit of one core's configuration, one at a time, and see what follows; `main` writes docs/outcomes.md.

The program is one streamed matrix product with its input and output on 2 x 3 cores (`tests.emulator.tiny`). A bit is
flipped before the core's first task; the launch then runs twice, the second time from the tables as the first one left
them, so that the header, which is read when a launch begins, has its turn. Everything follows from the configuration
alone: nothing in the emulator asks what was flipped.

    python -m tests.emulator.flip_table
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.emulator.tiny import gemm_program
from yieldkit.emulator.hooks import LaunchHooks, RouteHook, SramHook
from yieldkit.emulator.isa import SRAM_WORDS
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.scan import quiescent_hash

OUTCOMES = ("nothing", "wrong data", "stall", "halt", "runaway", "leftover words")
WORDS = ("header", "task", "descriptor", "route")
TARGET = Path(__file__).resolve().parents[2] / "docs" / "outcomes.md"


@dataclass(frozen=True)
class Flip:
    """One bit of a core's configuration: the kind of word, which one, which bit, and the hooks that flip it."""

    word: str
    number: int
    bit: int
    hooks: LaunchHooks


def flips_of(low, core):
    """Every bit of the header, tasks, descriptors and live route words of a core, in that order."""
    launch = low.launches[0]
    image = launch.roles[launch.role_of[core]]
    places = [("header", n, n) for n in range(2)]
    split = 2 * image.n_tasks
    for n in range(len(image.tables)):
        places.append(("task" if n < split else "descriptor", n if n < split else n - split, launch.table_base + n))
    for word, number, address in places:
        for bit in range(32):
            yield Flip(word, number, bit, LaunchHooks(sram=(SramHook(*core, 0, address, 1 << bit),)))
    for colour, position in np.argwhere(image.routes != 0).tolist():
        for bit in range(9):
            hook = RouteHook(*core, 0, colour, position, 1 << bit)
            yield Flip("route", 4 * colour + position, bit, LaunchHooks(routes=(hook,)))


def schedules(cores):
    """Five orders and bursts in which the cores may be visited."""
    rng = np.random.default_rng(11)
    up = np.arange(cores)
    return [(up, 4096), (up[::-1].copy(), 1), (rng.permutation(cores), 3), (rng.permutation(cores), 7), (up, 1)]


def run_flip(low, streams, flip, *, order=None, burst=4096, depth=4, turns=2):
    """The launch `turns` times, the flip in the first; returns (results, hash of the final state, machine)."""
    machine = Machine(low, queue_depth=depth, order=order, burst=burst)
    results = [
        machine.launch(low.launches[0], streams, flip.hooks if flip is not None and turn == 0 else None)
        for turn in range(turns)
    ]
    scan = results[-1].scan
    return results, scan.state_hash if scan is not None else quiescent_hash(machine.state), machine


def outcome_of(results, machine, clean):
    """What the first run shows; where that is nothing, what the second one shows."""
    for result, golden in zip(results, clean, strict=False):
        outcome = _one_run(result, machine, golden)
        if outcome != "nothing":
            return outcome
    return "leftover words" if machine.surplus else "nothing"


def _one_run(result, machine, golden):
    states = {state for _, _, state, _, _ in result.scan.waiting} if result.scan is not None else set()
    if "HALTED" in states:
        return "halt"
    if not result.completed:
        return "runaway" if (machine.state.status == kernel.RUNAWAY).any() else "stall"
    for name, array in golden.outputs.items():
        if (result.outputs[name].view(np.uint32) != array.view(np.uint32)).any():
            return "wrong data"
    return "leftover words" if result.scan is not None and result.scan.leftover else "nothing"


def table(low, streams, cores, depth=4):
    """Counter of (kind of word, outcome) over every bit of the cores."""
    clean = run_flip(low, streams, None, depth=depth)[0]
    counts = Counter()
    for core in cores:
        for flip in flips_of(low, core):
            results, _, machine = run_flip(low, streams, flip, depth=depth)
            counts[flip.word, outcome_of(results, machine, clean)] += 1
    return counts


def markdown(counts):
    """The table in Markdown, one row a kind of word."""
    lines = ["| word | bits | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for word in (*WORDS, "all"):
        row = [sum(n for (w, o), n in counts.items() if o == outcome and word in (w, "all")) for outcome in OUTCOMES]
        lines.append(f"| {word} | {sum(row)} | " + " | ".join(str(n) for n in row) + " |")
    return "\n".join(lines)


TEXT = """# What a flipped bit of the configuration does

Every bit of a core's configuration flipped in turn, one at a time, on the reference machine: a streamed matrix product
with its input and output (`x` 2 x 2 a core, two output features a column, bf16) on {rows} x {cols} cores, queues of
{depth} words. The launch runs twice, the flip strikes before the core's first task of the first run, and tables stay
as they are in between; the outcome is that of the first run or, where it shows nothing, of the second. Nothing in the
emulator asks what was flipped: the outcomes follow from the configuration words alone. The first that fits of:

- *halt*: a core stopped on an illegal operation or address;
- *runaway*: a core ran {factor} times its work and was stopped;
- *stall*: nothing moves, and words are missing or a chain has not ended;
- *wrong data*: all went through, an output differs;
- *leftover words*: outputs are right, words lie in queues;
- *nothing*. Unused bits are counted: they exist.

{blocks}
Made by `python -m tests.emulator.flip_table`; `tests/emulator/test_flips.py` holds the table of the corner core and
that every final state is the same under five schedules.
"""


def main(argv=None):
    parser = argparse.ArgumentParser(description="Write docs/outcomes.md.")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args(argv)
    rows, cols, depth = 2, 3, 4
    low, streams = gemm_program(rows, cols)
    roles = {}
    for r in range(rows):
        for c in range(cols):
            roles.setdefault(int(low.launches[0].role_of[r, c]), (r, c))
    blocks, total = "", Counter()
    for core in roles.values():
        counts = table(low, streams, [core], depth)
        total += counts
        blocks += f"## Core {core}\n\n{markdown(counts)}\n\n"
    blocks += f"## All {len(roles)} roles\n\n{markdown(total)}\n\n"
    from yieldkit.emulator.machine import RUNAWAY_FACTOR

    assert low.sram_words == SRAM_WORDS
    arguments.out.write_text(TEXT.format(rows=rows, cols=cols, depth=depth, factor=RUNAWAY_FACTOR, blocks=blocks))


if __name__ == "__main__":
    main()
