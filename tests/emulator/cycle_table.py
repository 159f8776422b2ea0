"""Cycles of the model against those that the wavelet executor measures, by kind of phase: the table of docs/timing.md.

python -m tests.emulator.cycle_table
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator

import numpy as np

from tests.emulator.cycle_programs import KINDS, program_of, streams_of
from yieldkit.emulator.cost import PRESETS, Timing
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.timing import launch_cycles
from yieldkit.emulator.wavelet import WaveletMachine

SHAPES = ((1, 4), (4, 1), (1, 16), (16, 1), (2, 3), (4, 4), (5, 8), (16, 16))
BLOCKS = (1, 2, 5, 12, 40)
SHORT, SLACK = 40, 2
"""Below so many cycles an absolute difference of up to two counts as none."""


def difference(measured: int, modelled: int) -> float:
    """Relative difference; 0 for a short launch within the slack."""
    apart = modelled - measured
    if measured < SHORT and abs(apart) <= SLACK:
        return 0.0
    return apart / measured


def both(lowered, low, streams, timing, pitches=None) -> tuple[int, int]:
    """(Measured, modelled) cycles of a launch."""
    result = WaveletMachine(lowered, timing=timing, link_pitches=pitches).launch(low, streams)
    assert result.completed
    assert result.cycles is not None
    return result.cycles, launch_cycles(lowered, low, timing=timing, link_pitches=pitches)


def differences(
    kind: str, shapes: Iterable[tuple[int, int]], blocks: Iterable[int], *, longest: int = 1, presets=PRESETS
) -> Iterator[tuple[float, str]]:
    """Relative difference and a name for every case; links of up to `longest` pitches, drawn for each shape."""
    for rows, cols in shapes:
        for block in blocks:
            program = program_of(kind, rows, cols, block)
            if program is None:
                continue
            lowered = lower(program)
            pitches = None
            if longest > 1:
                rng = np.random.default_rng(rows * 100 + cols)
                pitches = rng.integers(1, longest + 1, (rows * cols, 4)).astype(np.int32)
            for preset in presets:
                timing = Timing.preset(preset)
                pair = both(lowered, lowered.launches[0], streams_of(program), timing, pitches)
                yield difference(*pair), f"{kind} {rows}x{cols} block {block} {preset} {pair}"


def main() -> None:
    """Print the table as Markdown."""
    print("| phase | launches | median | worst | of which |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        found = list(differences(kind, SHAPES, BLOCKS))
        worst = max(found, key=lambda item: abs(item[0]))
        middle = statistics.median(abs(d) for d, _ in found)
        case = worst[1].removeprefix(kind).strip() if worst[0] else ""
        print(f"| {kind} | {len(found)} | {middle:.2%} | {abs(worst[0]):.2%} | {case} |")


if __name__ == "__main__":
    main()
