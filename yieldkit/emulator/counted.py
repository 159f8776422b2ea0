"""The state in which a launch ended, as the count interpreter found it: cores, queues and counters, no values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.host_words import expected_lists, outputs_of
from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.kernels import counts_state as layout
from yieldkit.emulator.kernels import machine
from yieldkit.emulator.kernels.counts_router import read_out
from yieldkit.emulator.link_events import by_link, events_of
from yieldkit.emulator.links import LinkGuard
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.scan import EVENTS, PORTS, WAITS, LogicalScan, config_differs
from yieldkit.emulator.struck_core import StruckCore

__all__ = ["Counted", "counted"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


def _order(event: tuple[int, int, str]) -> tuple[int, int, int]:
    return event[0], event[1], EVENTS.index(event[2])


@dataclass(frozen=True, eq=False)
class Counted:
    """Where everything stands when nothing moves any more; n cores in row-major order, s slots (core, colour).

    Attributes:
        launch: its name.
        rows, cols: rectangle.
        completed: every core ended its chain and MemoryX got every word it waits for.
        status: int8[n] of `kernels.machine`.
        task, executed: int32[n], task a core is in and tasks it has ended.
        element, elements: int64[n], elements of that task and of all.
        stage: int8[n], operands fetched of the present element; 3 where a control word waits.
        wait, wait_colour: int8[n], why a core waits (`kernels.machine`), and for which colour.
        slot_core, slot_colour: int32[s], uint8[s], slots in the order of cores and colours.
        position: uint8[s] of the switch.
        length: int32[s, 6] words in the queues N, E, S, W, from and to the core.
        sent: int32[s, 5] words sent N, E, S, W and to the core.
        received: int32[s, 4] words that came in through N, E, S, W.
        sunk: int32[s] words consumed.
        struck: state of each struck core, number 0 of one, without values.
        missing: (stream, words) that MemoryX still waits for.
        undrained: MemoryX could not push all its words.
        link_events: how often checks of links fired, by the core behind the link and kind.
    """

    launch: LoweredLaunch
    rows: int
    cols: int
    completed: bool
    status: npt.NDArray[np.int8]
    task: npt.NDArray[np.int32]
    executed: npt.NDArray[np.int32]
    element: I64
    elements: I64
    stage: npt.NDArray[np.int8]
    wait: npt.NDArray[np.int8]
    wait_colour: npt.NDArray[np.int8]
    slot_core: npt.NDArray[np.int32]
    slot_colour: npt.NDArray[np.uint8]
    position: npt.NDArray[np.uint8]
    length: I32
    sent: I32
    received: I32
    sunk: I32
    struck: Mapping[int, machine.State]
    missing: tuple[tuple[str, int], ...]
    undrained: bool
    link_events: Mapping[tuple[int, str], int]

    def waiting(self, most: int | None = None) -> tuple[tuple[int, int, str, int, int], ...]:
        """(r, c, state, task, colour) of the cores that have not ended, the first `most` of them."""
        found = []
        open_cores = np.flatnonzero((self.status != machine.DONE) & (self.status != machine.UNUSED))
        for core in open_cores[:most].tolist():
            what, colour = "STALLED", -1
            if self.status[core] == machine.HALTED:
                what = "HALTED"
            elif self.status[core] != machine.RUNAWAY:
                what, colour = WAITS.get(int(self.wait[core]), "STALLED"), int(self.wait_colour[core])
            found.append((*divmod(core, self.cols), what, int(self.task[core]), colour))
        return tuple(found)

    def scan(self) -> LogicalScan:
        """What the scan of a machine would show; its hash covers values and so is empty here."""
        links = []
        for slot, port in np.argwhere(self._behind() != self.sent[:, :4]).tolist():
            core, colour = int(self.slot_core[slot]), int(self.slot_colour[slot])
            r, c = divmod(core, self.cols)
            down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[port]
            if 0 <= r + down < self.rows and 0 <= c + right < self.cols:
                links.append((r, c, port, colour, int(self.sent[slot, port]), int(self._behind()[slot, port])))
        config = []
        counts = {(*divmod(core, self.cols), kind): count for (core, kind), count in self.link_events.items()}
        for core, state in sorted(self.struck.items()):
            r, c = divmod(core, self.cols)
            alone = replace(self.launch, role_of=self.launch.role_of[r : r + 1, c : c + 1])
            config += [(r, c, kind) for _, _, kind in config_differs(state, alone)]
            for kind, count in enumerate(state.events[0]):
                counts[r, c, EVENTS[kind]] = counts.get((r, c, EVENTS[kind]), 0) + int(count)
        leftover = [
            (*divmod(int(self.slot_core[slot]), self.cols), PORTS[port], int(self.slot_colour[slot]),
             int(self.length[slot, port]))
            for slot, port in np.argwhere(self.length > 0).tolist()
        ]  # fmt: skip
        return LogicalScan(
            self.launch.name,
            self.waiting(),
            tuple(sorted(links)),
            tuple(config),
            tuple((*key, counts[key]) for key in sorted(counts, key=_order) if counts[key]),
            tuple(leftover),
            self.undrained,
            "",
        )

    def _behind(self) -> I64:
        """int64[s, 4]: words that the neighbour behind each port received in this colour."""
        slot_of = np.full((self.rows * self.cols, COLOURS), -1, np.int64)
        slot_of[self.slot_core, self.slot_colour] = np.arange(len(self.slot_core))
        result = np.zeros((len(self.slot_core), 4), np.int64)
        r, c = np.divmod(self.slot_core.astype(np.int64), self.cols)
        for port, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
            there = (r + down >= 0) & (r + down < self.rows) & (c + right >= 0) & (c + right < self.cols)
            other = np.where(there, (r + down) * self.cols + c + right, 0)
            slot = np.where(there, slot_of[other, self.slot_colour], -1)
            result[:, port] = np.where(slot >= 0, self.received[slot, (port + 2) % 4], 0)
        return result


def counted(
    lowered: Lowered,
    low: LoweredLaunch,
    graph: layout.Graph,
    struck: Sequence[StruckCore],
    hooks: LaunchHooks | None = None,
    guard: LinkGuard | None = None,
) -> Counted:
    """Read a graph in which nothing moves any more."""
    slots = len(graph.slot_core)
    sent, left, length, received = (np.zeros((slots, ports), np.int32) for ports in (5, 4, 6, 4))
    sunk = np.zeros(slots, np.int32)
    read_out(graph, sent, sunk, left, length, received)
    cores = _cores(low, graph)
    states: dict[int, machine.State] = {}
    for number, core in enumerate(struck):
        actions = int(graph.place[core.number, 0])
        at_end = int(graph.log_first[number + 1] - graph.log_first[number]) == actions
        state = states[core.number] = core.state_after(len(core.log) + 1 if at_end else actions)
        for name in ("status", "task", "executed", "element", "elements", "stage", "wait", "wait_colour"):
            cores[name][core.number] = getattr(state, name)[0]
    missing, overflow = _missing(lowered, low, graph, left)
    undrained = bool((graph.queue[graph.feed_queue, layout.PUT] < graph.feed_end).any())
    ended = (cores["status"] == machine.DONE) | (cores["status"] == machine.UNUSED)
    return Counted(
        launch=low,
        rows=low.role_of.shape[0],
        cols=low.role_of.shape[1],
        completed=bool(ended.all()) and not missing and not undrained and not overflow,
        slot_core=graph.slot_core,
        slot_colour=graph.slot_colour,
        position=graph.position,
        length=length,
        sent=sent,
        received=received,
        sunk=sunk,
        struck=states,
        missing=missing,
        undrained=undrained,
        link_events=_link_events(
            graph, low.role_of.shape[1], sent, received, hooks or LaunchHooks(), guard or LinkGuard()
        ),
        **cores,
    )


def _cores(low: LoweredLaunch, graph: layout.Graph) -> dict[str, npt.NDArray[Any]]:
    """Arrays of `Counted` by name, for cores that follow their tables."""
    first = graph.task_first[graph.role].astype(np.int64)
    count = graph.task_first[graph.role + 1] - first
    started = np.array([int(role.header[0]) >> 31 for role in low.roles] + [0] * (len(graph.takes) - len(low.roles)))
    place = graph.place
    done = place[:, 0] >= count
    before = np.concatenate([[0], np.cumsum(graph.task[:, layout.ELEMENTS])])
    last = np.maximum(count - 1, 0)
    of_last = np.concatenate([graph.task[:, layout.ELEMENTS], [0]])[first + last]
    status = np.where(done, machine.DONE, machine.RUNNING)
    return {
        "status": np.where(started[graph.role] == 1, status, machine.UNUSED).astype(np.int8),
        "task": np.where(done, last, place[:, 0]).astype(np.int32),
        "executed": np.minimum(place[:, 0], count).astype(np.int32),
        "element": np.where(done, np.where(count > 0, of_last, 0), place[:, 1]),
        "elements": before[first + np.minimum(place[:, 0], count)] - before[first] + np.where(done, 0, place[:, 1]),
        "stage": np.where(done, 0, place[:, 2]).astype(np.int8),
        "wait": place[:, 3].astype(np.int8),
        "wait_colour": place[:, 4].astype(np.int8),
    }


def _link_events(
    graph: layout.Graph, cols: int, sent: I32, received: I32, hooks: LaunchHooks, guard: LinkGuard
) -> dict[tuple[int, str], int]:
    """What the checks of links have counted, by the core behind the link and kind."""
    found: dict[tuple[int, str], int] = {}
    for (r, c, port, colour), struck in by_link(hooks).items():
        slot = int(graph.slot_of[(r * cols + c) * COLOURS + colour])
        if slot < 0 or graph.beside[slot, port] < 0:
            continue
        beside = int(graph.beside[slot, port])
        seen = events_of(struck, guard, int(sent[slot, port]), int(received[beside, (port + 2) % 4]))
        for kind, count in seen.items():
            key = (int(graph.slot_core[beside]), kind)
            found[key] = found.get(key, 0) + count
    return {key: count for key, count in found.items() if count}


def _missing(
    lowered: Lowered, low: LoweredLaunch, graph: layout.Graph, left: I32
) -> tuple[tuple[tuple[str, int], ...], bool]:
    """(stream, words) that MemoryX lacks, and whether it got more than it has room for."""
    cols = low.role_of.shape[1]
    taken: dict[tuple[int, int, int], int] = {}
    missing: list[tuple[str, int]] = []
    there = {}
    for phase in outputs_of(low.launch):
        lack = 0
        for r, c, port, colour, count in expected_lists(lowered.program, phase):
            key = (r * cols + c, port, colour)
            slot = int(graph.slot_of[key[0] * COLOURS + colour])
            there[key] = int(left[slot, port]) if slot >= 0 else 0
            start = taken.get(key, 0)
            have = max(0, min(count, there[key] - start))
            lack += count - have
            taken[key] = start + have
        if lack:
            missing.append((phase.stream, lack))
    most = 2 * max(taken.values(), default=0) + 1024
    return tuple(missing), any(count > most for count in there.values())
