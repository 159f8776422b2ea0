"""Cycles of a clean launch, worked out from its tables and routes without moving a word.

The wavelet executor measures what this model works out. Streams are followed as stretches of words at an even pace
(`kernels.stream_times`), so the work grows with cores and tasks and not with words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.code import channels_of
from yieldkit.emulator.cost import Timing
from yieldkit.emulator.edge_runs import fed_runs
from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.kernels import stream_tasks as words
from yieldkit.emulator.kernels import stream_times as times
from yieldkit.emulator.kernels import stretches
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.triggers import SLOW_ONE
from yieldkit.errors import BadInput
from yieldkit.workloads.program import Program

__all__ = ["launch_cycles", "step_cycles"]

I64 = npt.NDArray[np.int64]
SMALL: Final = 4096
"""On rectangles of so many cores all colours of a router take turns on links and ramp; on larger ones, where the few
words that different phases have under way at a time weigh little, only those of one phase."""


def launch_cycles(
    lowered: Lowered,
    low: LoweredLaunch,
    *,
    timing: Timing | None = None,
    link_pitches: npt.NDArray[np.int32] | None = None,
    queue_depth: int = 4,
    slow: Mapping[int, float] | None = None,
) -> int:
    """Cycles of one clean launch.

    Args:
        lowered: the program.
        low: one of its launches.
        timing: what things cost; the preset "ideal" when None.
        link_pitches: int[n, 4], core pitches that the links through N, E, S, W span; 1 everywhere when None.
        queue_depth: words a queue holds.
        slow: cycles of slow cores (numbered in row-major order) over their usual ones.

    Raises:
        BadInput: the launch does not come to an end.
    """
    timing = timing or Timing()
    low, factors = _with_slow_roles(low, slow or {})
    program = lowered.program
    n = program.rows * program.cols
    tasks, task_at, task_count = _tasks(low, timing, factors)
    paths = _paths(lowered, low)
    lines = _lines(low, program, paths)
    paths = _pieces(paths, tasks, task_at, task_count, lines)
    slots = len(paths.core)
    pitches = np.ones((n, 4), np.int64) if link_pitches is None else np.asarray(link_pitches, np.int64).reshape(n, 4)
    spans = pitches * timing.pitch_cycles
    fed = [(slot, port, total) for (slot, port), total in _fed(lines).items()]
    meets = _meets(program, low)
    pool = 8 * slots + 4 * n + 1024
    while True:
        flow = _flow(paths, tasks, task_at, task_count, spans, fed, meets, pool, timing.ramp_cycles, queue_depth)
        times.prepare(flow, np.int64(timing.launch_cycles) * stretches.ONE)
        if times.follow(flow):
            break
        pool *= 2
    if flow.cell[:, stretches.LEFT].any() or flow.line[:, stretches.L_LEFT].any():
        raise BadInput(
            f"launch {low.name!r} does not come to an end with queues of this depth", value=queue_depth,
            cure="use deeper queues",
        )  # fmt: skip
    return -(-int(flow.tally[stretches.LAST]) // stretches.ONE)


def step_cycles(
    lowered: Lowered,
    *,
    timing: Timing | None = None,
    link_pitches: npt.NDArray[np.int32] | None = None,
    queue_depth: int = 4,
) -> int:
    """Cycles of one pass over all launches; arguments as for `launch_cycles`."""
    return sum(
        launch_cycles(lowered, low, timing=timing, link_pitches=link_pitches, queue_depth=queue_depth)
        for low in lowered.launches
    )


def _with_slow_roles(low: LoweredLaunch, slow: Mapping[int, float]) -> tuple[LoweredLaunch, list[int]]:
    """The launch with a role for each slow core, and the factor of every role, in 1/256 as the clock takes it."""
    roles, role_of = list(low.roles), low.role_of.copy()
    factors = [SLOW_ONE] * len(roles)
    for core, factor in slow.items():
        number = int(role_of.flat[core])
        role_of.flat[core] = len(roles)
        roles.append(roles[number])
        factors.append(round(factor * SLOW_ONE))
    return (replace(low, roles=tuple(roles), role_of=role_of) if slow else low), factors


def _tasks(low: LoweredLaunch, timing: Timing, factors: Sequence[int]) -> tuple[I64, I64, I64]:
    """Records of all roles' tasks, and where each role's begin and how many they are."""
    count = np.array([role.n_tasks for role in low.roles], np.int64)
    at = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)
    records = np.zeros((int(count.sum()) + 1, words.TASK), np.int64)
    for number, role in enumerate(low.roles):
        element, start, row, control = (
            (cost * factors[number] + SLOW_ONE // 2) // SLOW_ONE
            for cost in (timing.element_array, timing.start_array, timing.row_array, np.array(timing.control))
        )
        costs = element, start, row, np.int64(control)
        if role.n_tasks:
            words.describe_tasks(role.tables, role.n_tasks, *costs, records[at[number] :])
    if records[:, words.STRANGE].any():
        raise BadInput(
            f"launch {low.name!r} has a task with two streams in, or that sends another number than it takes"
        )
    return records, at, count


def _paths(lowered: Lowered, low: LoweredLaunch) -> words.Paths:
    rows, cols = lowered.program.rows, lowered.program.cols
    n = rows * cols
    route = np.array([role.routes & 0x1FF for role in low.roles], np.uint16)
    used = (route != 0).any(axis=2)
    rank = np.where(used, np.cumsum(used, axis=1) - 1, -1).astype(np.int32)
    role = low.role_of.reshape(-1).astype(np.int32)
    width = used.sum(axis=1)[role]
    first = np.concatenate([[0], np.cumsum(width)]).astype(np.int64)
    slots = int(first[-1])
    core = np.repeat(np.arange(n, dtype=np.int64), width)
    colour_of = np.array([np.pad(np.flatnonzero(u), (0, COLOURS - u.sum())) for u in used], np.int32)
    colour = colour_of[role[core], np.arange(slots) - first[core]] if slots else np.zeros(0, np.int32)
    number = np.arange(n).reshape(rows, cols)
    neighbour = np.full((rows, cols, 4), -1, np.int64)
    neighbour[1:, :, 0] = number[:-1]
    neighbour[:, :-1, 1] = number[:, 1:]
    neighbour[:-1, :, 2] = number[1:]
    neighbour[:, 1:, 3] = number[:, :-1]
    return words.Paths(
        route, rank, role, first, core, colour, neighbour.reshape(n, 4),
        np.zeros((slots, 5, 2), np.int32), np.zeros((0, words.RUN), np.int64), np.zeros((0, words.PIECE), np.int64),
        np.zeros((slots, 2), np.int32), np.zeros(slots, np.uint8), np.zeros(2, np.int64),
    )  # fmt: skip


def _lines(low: LoweredLaunch, program: Program, paths: words.Paths) -> I64:
    """int64[k, 5]: slot, port, blocks, words, control of what MemoryX pushes, in order."""
    found = []
    for r, c, port, colour, runs in fed_runs(program, low.launch):
        core = r * program.cols + c
        slot = int(paths.first[core]) + int(paths.rank[paths.role[core], colour])
        found += [(slot, port, times, size, control) for size, control, times in runs]
    return np.array(found, np.int64).reshape(-1, 5)


def _meets(program: Program, low: LoweredLaunch) -> I64:
    """int64[24]: for each colour a mask of those that move in the same phase as it does."""
    meets = np.zeros(COLOURS, np.int64)
    for phase in low.launch.phases:
        mine = {colour for channel in channels_of(program, phase) for colour in low.colours[channel]}
        for colour in mine:
            meets[colour] |= sum(1 << other for other in mine)
    return meets


def _fed(lines: I64) -> dict[tuple[int, int], int]:
    """Words by slot and port, control words included."""
    fed: dict[tuple[int, int], int] = {}
    for slot, port, blocks, size, control in lines.tolist():
        fed[slot, port] = fed.get((slot, port), 0) + blocks * (size + (control != 0))
    return fed


def _pieces(paths: words.Paths, tasks: I64, task_at: I64, task_count: I64, lines: I64) -> words.Paths:
    """The same paths with what every router moves."""
    slots = len(paths.core)
    room = 4 * slots + int(task_count[paths.role].sum()) + len(lines) + 64
    while True:
        tried = paths._replace(
            queue=np.zeros_like(paths.queue), run=np.zeros((room, words.RUN), np.int64),
            piece=np.zeros((room, words.PIECE), np.int64), pieces=np.zeros_like(paths.pieces),
            position=np.zeros_like(paths.position), tally=np.zeros(2, np.int64),
        )  # fmt: skip
        if (
            words.core_runs(tried, tasks, task_at, task_count)
            and words.line_runs(tried, lines)
            and words.find_pieces(tried, np.zeros(slots, np.bool_))
        ):
            return tried
        room *= 2


def _flow(
    paths: words.Paths,
    tasks: I64,
    task_at: I64,
    task_count: I64,
    spans: I64,
    fed: list[tuple[int, int, int]],
    meets: I64,
    pool: int,
    ramp: int,
    depth: int,
) -> stretches.Flow:
    slots, n = len(paths.core), len(paths.role)
    slot = np.zeros((slots, stretches.SLOT), np.int64)
    slot[:, stretches.CORE], slot[:, stretches.COLOUR] = paths.core, paths.colour
    slot[:, stretches.PIECE] = paths.pieces[:, 0]
    slot[:, stretches.LINE] = -1
    for side in range(4):
        other = paths.neighbour[paths.core, side]
        rank = paths.rank[paths.role[other], paths.colour]
        slot[:, stretches.BESIDE + side] = np.where((other >= 0) & (rank >= 0), paths.first[other] + rank, -1)
        slot[:, stretches.SPAN + side] = spans[paths.core, side]
    cell = np.zeros((n, stretches.CELL), np.int64)
    cell[:, stretches.TASK], cell[:, stretches.LEFT] = task_at[paths.role], task_count[paths.role]
    cell[:, stretches.ROLE] = paths.role
    line = np.zeros((len(fed), stretches.LINE_RECORD), np.int64)
    for number, (at, port, total) in enumerate(fed):
        line[number, stretches.L_SLOT], line[number, stretches.L_PORT], line[number, stretches.L_LEFT] = at, port, total
        slot[at, stretches.LINE] = number
    tally = np.zeros(16, np.int64)
    tally[stretches.USED] = 1
    tally[stretches.RAMP], tally[stretches.DEPTH] = ramp, depth
    tally[stretches.ALL] = n <= SMALL
    queues = slots * stretches.QUEUES + n
    work = slots + n + len(fed)
    return stretches.Flow(
        pool=np.zeros((pool, stretches.STRETCH), np.int64),
        head=np.zeros(queues, np.int32),
        tail=np.zeros(queues, np.int32),
        slot=slot,
        cell=cell,
        line=line,
        stack=np.zeros(n + 1, np.int32),
        waiting=np.zeros(4 * slots + 64, np.int32),
        called=np.zeros(4 * slots + 64, np.int64),
        order=np.zeros(4 * slots + 64, np.int64),
        marked=np.zeros(work, np.bool_),
        marked_core=np.zeros(n, np.bool_),
        tally=tally,
        task=tasks,
        rank=paths.rank,
        first=paths.first,
        piece=paths.piece,
        bound=np.zeros(16, np.int64),
        past=np.zeros((work, stretches.PAST), np.int64),
        meets=meets,
        key=np.zeros(slots, np.int64),
        rate=np.zeros(2 * COLOURS, np.int64),
    )
