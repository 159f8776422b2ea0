"""The count interpreter: the state in which a launch ends, from counts of words, at any size and without values.

It says of every core where it stands, of every queue how many words it holds, and of every link how many it carried,
as the reference machine would show them after running the whole rectangle. Its cost follows the number of cores, tasks
and stretches of words, not the words; SRAM and the values in queues are what it leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.count_gates import STEPS, settle, strange_slots
from yieldkit.emulator.count_roles import CountedRole, runs_of_log, takes_of_log
from yieldkit.emulator.counted import Counted, counted
from yieldkit.emulator.edge_runs import Runs, edge_runs
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.kernels import counts as kernel
from yieldkit.emulator.kernels import counts_build as build
from yieldkit.emulator.kernels import counts_state as layout
from yieldkit.emulator.kernels import link_faults
from yieldkit.emulator.link_events import events_follow
from yieldkit.emulator.links import LinkGuard, link_rows
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.struck_core import StruckCore, struck_cores

__all__ = ["count_launch"]

MOST_RUNS: Final = 1 << 28
I64 = npt.NDArray[np.int64]


def count_launch(
    lowered: Lowered,
    low: LoweredLaunch,
    hooks: LaunchHooks | None = None,
    *,
    queue_depth: int = 4,
    sequence: bool = False,
    guard: LinkGuard | str | None = None,
    sram_code: str = "none",
    steps: int = STEPS,
) -> Counted | None:
    """State in which a launch ends when it begins with empty queues and golden tables.

    Args:
        lowered: the program.
        low: the launch.
        hooks: what strikes during it; flips of values and of words on links change nothing here.
        queue_depth: words a queue holds.
        sequence: links number their words.
        guard: protection of links in full.
        sram_code: protection of SRAM.
        steps: looks at routers going on word by word, where a fault changes the order of things, before a greater step
            is taken; it changes the time this takes.

    Returns:
        the state, or None where counts do not decide it: a core that writes over its own tables, words that go round
        for ever, a check of links whose outcome hinges on values.
    """
    hooks = hooks or LaunchHooks()
    guard = LinkGuard.of(guard, sequence=sequence)
    struck = struck_cores(lowered, low, hooks, sram_code=sram_code)
    if struck is None or not events_follow(hooks, guard):
        return None
    runs = 9 * low.role_of.size + 4096
    while runs < MOST_RUNS:
        graph = _graph(lowered, low, hooks, struck, queue_depth, runs)
        most = 64 * (1 + int(graph.feed_end.sum())) * (low.role_of.size + 64) + (1 << 40)
        ended = kernel.forward(graph, most)
        if ended == kernel.ENDED:
            cols = low.role_of.shape[1]
            hooked = [(h.r * cols + h.c, h.colour) for h in hooks.routes]
            hooked += [(h.r * cols + h.c, h.colour) for h in hooks.switches]
            settled = settle(graph, struck, strange_slots(graph, struck, hooked), steps=steps)
            return None if settled is None else counted(lowered, low, settled, struck, hooks, guard)
        if ended == kernel.ENDLESS:
            return None
        runs *= 4
    return None


@dataclass(frozen=True)
class _Roles:
    """Roles of the launch, then one for each struck core."""

    number: npt.NDArray[np.int32]
    routes: npt.NDArray[np.uint32]
    takes: npt.NDArray[np.uint32]
    gives: npt.NDArray[np.uint32]
    task_first: npt.NDArray[np.int32]
    tasks: I64
    streams: list[dict[int, Runs]]


def _roles(low: LoweredLaunch, struck: Sequence[StruckCore]) -> _Roles:
    plain = [CountedRole.of(role) for role in low.roles]
    number = low.role_of.reshape(-1).astype(np.int32)
    routes = [role.routes for role in low.roles]
    takes, gives = [role.takes for role in plain], [role.gives for role in plain]
    streams = [role.streams for role in plain]
    for core in struck:
        number[core.number] = len(routes)
        routes.append(core.routes)
        sent = runs_of_log(core.log)
        takes.append(takes_of_log(core.log))
        gives.append(sum(1 << colour for colour in sent))
        streams.append(sent)
    lengths = [len(role.tasks) for role in plain] + [0] * len(struck)
    return _Roles(
        number,
        np.stack(routes).astype(np.uint32),
        np.array(takes, np.uint32),
        np.array(gives, np.uint32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        np.concatenate([role.tasks for role in plain] or [np.zeros((0, layout.TASK), np.int64)]),
        streams,
    )


def _graph(
    lowered: Lowered,
    low: LoweredLaunch,
    hooks: LaunchHooks,
    struck: Sequence[StruckCore],
    queue_depth: int,
    runs: int,
) -> layout.Graph:
    rows, cols = low.role_of.shape
    n = rows * cols
    roles = _roles(low, struck)
    feeds = edge_runs(lowered.program, low.launch, hooks.withheld)
    by_role = (roles.routes != 0).any(axis=2) @ (1 << np.arange(COLOURS, dtype=np.int64))
    live = (by_role.astype(np.uint32) | roles.takes | roles.gives)[roles.number]
    for fed, _, colour in feeds:
        live[fed] |= np.uint32(1 << colour)
    spread = live.copy()
    build.spread(roles.number, roles.routes, spread, cols)
    slots = build.count_bits(spread)
    slot_of = np.empty(n * COLOURS, np.int32)
    slot_core, slot_colour = np.empty(slots, np.int32), np.empty(slots, np.uint8)
    beside, route = np.empty((slots, 4), np.int32), np.empty((slots, 4), np.uint16)
    queues = build.fill_slots(roles.number, roles.routes, spread, cols, slot_of, slot_core, slot_colour, beside, route)
    queues += int(np.bitwise_count(roles.gives)[roles.number].sum()) + len(feeds)
    log_first = np.concatenate([[0], np.cumsum([len(core.log) for core in struck])]).astype(np.int64)
    special = np.full(n, -1, np.int32)
    for number, core in enumerate(struck):
        special[core.number] = number
    drop = _struck_links(hooks, slot_of, cols)
    struck_slots = np.zeros(slots, np.uint8)
    struck_slots[drop[:, layout.SLOT_OF]] = 1
    start = np.zeros(slots, np.uint8)
    for turned in hooks.switches:
        slot = slot_of[(turned.r * cols + turned.c) * COLOURS + turned.colour]
        if slot >= 0:
            start[slot] ^= np.uint8(turned.mask & 3)
    static = [(role, colour, stream) for role, own in enumerate(roles.streams) for colour, stream in own.items()]
    graph = layout.Graph(
        slot_of=slot_of,
        slot_core=slot_core,
        slot_colour=slot_colour,
        beside=beside,
        route=route,
        start=start,
        position=start.copy(),
        struck=struck_slots,
        queue_of=np.full((slots, 5), -1, np.int32),
        queue=np.empty((queues, layout.QUEUE), np.int32),
        run=np.empty((runs + sum(len(stream) for _, _, stream in static), layout.RUN), np.int32),
        into=np.zeros(slots, np.int32),
        fetched=np.zeros(slots, np.int32),
        role=roles.number,
        task_first=roles.task_first,
        task=roles.tasks,
        takes=roles.takes,
        gives=roles.gives,
        special=special,
        log_first=log_first,
        log=np.concatenate([core.log for core in struck] or [np.zeros(0, np.uint8)]),
        cap=np.full(len(struck), layout.UNBOUNDED, np.int64),
        gated=np.zeros(n, np.uint8),
        gate=np.zeros((0, 3), np.int64),
        slot_gate=np.zeros((0, 2), np.int64),
        place=np.zeros((n, 5), np.int64),
        drop=drop,
        feed_queue=np.zeros(len(feeds), np.int64),
        feed_end=np.zeros(len(feeds), np.int64),
        feed_of=np.full((slots, 4), -1, np.int32),
        first_slot=np.concatenate([[0], np.cumsum(np.bitwise_count(spread))]).astype(np.int32),
        mark_core=np.zeros(n, np.uint8),
        mark_slot=np.zeros(slots, np.uint8),
        dirty=np.zeros(n, np.uint8),
        scratch=np.zeros(128, np.int64),
        depth=queue_depth,
        tally=np.zeros(layout.TALLY, np.int64),
    )
    role_runs = np.full((len(roles.streams), COLOURS), -1, np.int64)
    for role, colour, stream in static:
        role_runs[role, colour] = _stored(graph, stream)
    build.open_queues(graph, role_runs, roles.gives)
    for number, ((fed, port, colour), stream) in enumerate(feeds.items()):
        slot = slot_of[fed * COLOURS + colour]
        queue = layout.new_queue(graph, slot, port)
        graph.queue[queue, layout.HEAD] = _stored(graph, stream)
        words = sum((count + (kind != 0)) * times for count, kind, times in stream)
        graph.queue[queue, layout.PUT] = graph.feed_end[number] = words
        graph.feed_queue[number], graph.feed_of[slot, port] = queue, number
    return graph


def _struck_links(hooks: LaunchHooks, slot_of: npt.NDArray[np.int32], cols: int) -> I64:
    """What strikes links and changes counts, as rows of the graph; two that lose the same word are one."""
    found: list[tuple[int, ...]] = []
    for number, row in enumerate(link_rows(hooks, cols, LinkGuard()).tolist()):
        what, lasts = row[link_faults.WHAT], row[link_faults.LASTS]
        slot = int(slot_of[row[link_faults.CORE] * COLOURS + row[link_faults.COLOUR]])
        if slot >= 0 and what in (link_faults.DROP, link_faults.DUPLICATE, link_faults.CREDIT):
            own = 0 if what == link_faults.DROP else number
            found.append((slot, row[link_faults.PORT], row[link_faults.NTH], what, lasts, own))
    rows = [(*place, 0, layout.UNBOUNDED, 0, what, lasts) for *place, what, lasts, _ in sorted(set(found))]
    return np.array(rows, np.int64).reshape(-1, layout.DROP_ROW)


def _stored(graph: layout.Graph, stream: Runs) -> int:
    """Number of the first of a stream's runs in the graph's memory."""
    first = int(graph.tally[layout.RUNS])
    for number, (words, kind, times) in enumerate(stream):
        graph.run[first + number] = (words, kind, times, first + number + 1 if number + 1 < len(stream) else -1)
    graph.tally[layout.RUNS] += len(stream)
    return first if stream else -1
