"""Which window settles a launch that something strikes, and when what it gives is what the whole gives.

A window is the struck core, then its row (the rows from the first to the last struck core), then the rows from there to
the edge towards which something else went out than in the clean launch, then the whole rectangle, which is always
right. A window is believed when every chain in it ended, all that was to come in was taken, nothing is left in its
queues, and every link of its border carried the golden words in their order, control words counted.

Why that is enough. Put together, the window's run and the clean run of everything else agree in every link between
them: each core and router does what it would do with just these words. What could still be wrong is *when*: golden
words are there from the start, and what goes out always finds room where the neighbour listens, where in the whole a
word may wait for another one which comes later, for ever. So one of three things must hold as well.

1. Who talks to whom, and in which order, is as in the clean launch (`actions`). Then every core and router waits for
   the same things as there, and as nothing waits for ever there, nothing does here, whatever the depth of queues.
2. The border has no circles. Every link on which a word crosses makes one, because the word goes one way and the room
   it frees goes the other: a core that sends on two colours in the wrong order can be stopped by a full queue while its
   neighbour waits for the other colour, though both get all their words, in order, when there is always room. So the
   border has no circles only if no word crosses it, in the clean launch or in this one. (That is so in launches that
   work along rows only.)

3. The count interpreter, which sees all cores and queues of their depth, lost places included, says that the launch
   goes through (`counts`), no word is lost or doubled and no control word crosses the border, whose place among the
   others the comparison does not see. Then all words come through in the end, and which they are depends on no time.

Where none holds, the whole rectangle is run; also where a chain did not end, because a larger window would hardly end
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.actions import keeps_actions
from yieldkit.emulator.crossings import Crossings
from yieldkit.emulator.formats import decode_words, encode_words
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.host_words import expected_lists, join_outputs, outputs_of
from yieldkit.emulator.links import LinkGuard
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.scan import LogicalScan
from yieldkit.emulator.windows import Box, Window
from yieldkit.quantities import NORTH, SOUTH
from yieldkit.workloads.program import Gemm, Gemv, StreamOut

__all__ = ["WindowScan", "patched_outputs", "patched_sums", "settle"]

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]


def settle(
    lowered: Lowered,
    low: LoweredLaunch,
    hooks: LaunchHooks,
    crossings: Crossings,
    arrays: Mapping[str, F32],
    queue_depth: int,
    *,
    through: bool = False,
    guard: LinkGuard | None = None,
    sram_code: str = "none",
) -> tuple[str, Window] | None:
    """The smallest window that can be believed, after its run, and how far it reached: "core", "row" or "rows".

    Args:
        lowered: the program.
        low: the launch.
        hooks: what strikes.
        crossings: golden traffic of the launch.
        arrays: tensors at its start, `[rows|1, cols|1, *dims]`.
        queue_depth: words a queue holds.
        through: the launch is known to go through, with nothing lost on a link and nothing left in queues.
        guard: protection of links.
        sram_code: protection of SRAM.

    Returns:
        None where only the whole rectangle can tell.
    """
    rows, cols = low.role_of.shape
    if hooks.withheld:
        return None
    struck = {(h.r, h.c) for kind in fields(hooks) for h in getattr(hooks, kind.name)}
    if not struck:
        return None
    top, bottom = min(r for r, _ in struck), max(r for r, _ in struck)
    box = Box(top, bottom, 0, cols - 1)
    if len(struck) == 1:
        ((_, c),) = struck
        box = Box(top, bottom, c, c)
    keeps = keeps_actions(lowered, low, hooks, crossings, sram_code=sram_code)
    while box != Box(0, rows - 1, 0, cols - 1):
        differs: set[int] = set()
        if keeps or (through and box.plain(crossings)) or box.quiet(crossings):
            window = Window(lowered, low, box, crossings, arrays, queue_depth, guard=guard, sram_code=sram_code)
            if not window.play(hooks):
                return None
            differs = window.differs_at()
            if not differs:
                return _level(box, cols), window
        if (box.left, box.right) != (0, cols - 1):
            box = Box(top, bottom, 0, cols - 1)
        elif differs:
            box = Box(0 if NORTH in differs else box.top, rows - 1 if SOUTH in differs else box.bottom, 0, cols - 1)
        else:
            return None
    return None


def _level(box: Box, cols: int) -> str:
    if len(box.cores) == 1:
        return "core"
    return "row" if box.top == box.bottom else "rows"


def patched_outputs(lowered: Lowered, low: LoweredLaunch, window: Window, outputs: Mapping[str, F32]) -> dict[str, F32]:
    """Outputs of the clean launch with what the window sent to MemoryX in place of what its cores would have sent."""
    program, taken = lowered.program, window.taken()
    start = dict.fromkeys(taken, 0)
    result = dict(outputs)
    for phase in outputs_of(low.launch):
        dtype = lowered.tensors[phase.tensor].dtype if isinstance(phase, StreamOut) else program.sum_dtype
        one = encode_words(np.ones(1, np.float32), dtype)[0]
        words: list[U32] = []
        marks: list[U32] = []
        for *key, count in expected_lists(program, phase):
            place = (key[0], key[1], key[2], key[3])
            mine = place in taken
            words.append(taken[place][start[place] : start[place] + count] if mine else np.zeros(count, np.uint32))
            marks.append(np.full(count, one if mine else 0, np.uint32))
            if mine:
                start[place] += count
        ours = join_outputs(program, phase, marks) != 0
        if ours.any():
            result[phase.stream] = np.where(ours, join_outputs(program, phase, words), outputs[phase.stream])
    return result


def patched_sums(lowered: Lowered, low: LoweredLaunch, window: Window, taps: Mapping[str, F32]) -> dict[str, F32]:
    """Finished sums of the clean launch with those that the window's cores have logged; `taps` is altered in place."""
    table, cols = lowered.program.table, lowered.program.cols
    for r, logged in window.sums().items():
        words, start = decode_words(logged, "fp32"), 0
        for phase in low.launch.phases:
            if not isinstance(phase, Gemm | Gemv):
                continue
            m, n = table[phase.y].dims
            if isinstance(phase, Gemv):
                taps[phase.name][r] = words[start : start + m * n].reshape(n, m).T
                start += m * n
                continue
            # tile, block from the last column but one down to 0 and then the last, feature, token
            blocks = words[start : start + m * n * cols].reshape(n // phase.part, cols, phase.part, m)
            order = [cols - 2 - c for c in range(cols - 1)] + [cols - 1]
            taps[phase.name][r] = blocks[:, order].transpose(1, 3, 0, 2).reshape(cols, m, n)
            start += m * n * cols
    return dict(taps)


class WindowScan(LogicalScan):
    """What a scan of the whole rectangle shows after a launch that a window has settled.

    Outside the window there is nothing to show. The hash of the state is over every core, so it is worked out by a run
    of the whole when it is asked for, once.
    """

    def __init__(self, seen: LogicalScan, state_hash: Callable[[], str]) -> None:
        for field in fields(LogicalScan):
            if field.name != "state_hash":
                object.__setattr__(self, field.name, getattr(seen, field.name))
        object.__setattr__(self, "_work_out", state_hash)

    def __getattr__(self, name: str) -> Any:
        if name != "state_hash":
            raise AttributeError(name)
        value = self.__dict__["_work_out"]()
        self.__dict__["state_hash"] = value
        self.__dict__.pop("_work_out")
        return value

    def _all(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(LogicalScan))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LogicalScan):
            return NotImplemented
        mine: Sequence[str] = [field.name for field in fields(LogicalScan)]
        return all(getattr(self, name) == getattr(other, name) for name in mine)

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return LogicalScan, self._all()
