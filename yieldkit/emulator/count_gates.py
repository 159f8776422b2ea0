"""The second pass of the count interpreter where a fault changes the order of things.

Cutting everybody down from the first pass ends in the largest state that agrees with all words and rooms. It is the
state that is reached unless a circle of processes hold each other up there: each would go on if the others did. A clean
program has no such circles, so one must pass through something that a fault made different:

- a core that is stepped through, after it has left what a golden core does;
- a fetch that takes a word of a later stream, since an earlier word was lost, or came to another place;
- a router that switches at other words than it would, or whose route words were struck.

Those are let go on only as far as a state that is known to be reached provides for: a struck core by what is there and
by the room there is, then to the end of its task; a fetch over the end of a stream when the word lies in the queue.
Where control words show that blocks of several senders follow each other in one fetch, it gets just the words that lie
there, and the router moves just what it can there and then. So each round adds what is reached, and when nothing is
left to let go, the state is the one that is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.kernels import counts as kernel
from yieldkit.emulator.kernels import counts_state as layout
from yieldkit.emulator.kernels.counts_router import moves
from yieldkit.emulator.kernels.counts_tables import reach
from yieldkit.emulator.struck_core import StruckCore

__all__ = ["settle"]

_MOST_WORK: Final = 1 << 25
"""Cores looked at in all rounds, from which on the state counts as not decided by counts."""
_MOST_ROUNDS: Final = 1 << 14


@dataclass
class _Gate:
    """A core's fetches of a colour: how many it may do now, and the ends of its streams, None where they are mixed."""

    core: int
    colour: int
    slot: int
    ends: list[int] | None
    most: int = 0

    def open_past(self, fetched: int, there: int) -> None:
        """Let it fetch up to the word before the next end of a stream, or the words that are there."""
        if self.ends is None:
            self.most = there
            return
        ahead = [end for end in self.ends if end - 1 >= fetched]
        self.most = ahead[0] - 1 if ahead else layout.UNBOUNDED


@dataclass
class _RouterGate:
    """Words that a router may move now."""

    slot: int
    most: int = 0


def settle(
    graph: layout.Graph,
    struck: Sequence[StruckCore],
    strange: Sequence[int],
    hooked: Sequence[tuple[int, int]] = (),
) -> layout.Graph | None:
    """Cut everybody to what words and room allow.

    Args:
        graph: after the first pass.
        struck: cores that are stepped through, in the order of the graph.
        strange: slots that words come to in another order than golden.
        hooked: (core, colour) whose route words were struck.

    Returns:
        the graph with its end state, or None where it takes too long to tell.
    """
    top = _counts(graph)
    kernel.back(graph)
    own = [int(graph.slot_of[core * COLOURS + colour]) for core, colour in hooked]
    gates, routers = _gates(graph, [*strange, *own], own)
    late = [core for number, core in enumerate(struck) if graph.place[core.number, 0] > core.common]
    if not gates and not routers and not late:
        return graph
    largest = _counts(graph)
    for number, core in enumerate(struck):
        graph.cap[number] = core.common
    # As long as no word comes after the lost ones, and no struck router moves, all is as in a clean run cut short.
    graph.drop[:, 4] = graph.drop[:, 2] + 1
    graph = _with_gates(graph, [], [gate for gate in routers if gate.slot in own])
    kernel.back(_restored(graph, top))
    graph.drop[:, 4] = layout.UNBOUNDED
    for gate in gates:
        gate.open_past(int(graph.fetched[gate.slot]), int(graph.into[gate.slot]))
    for router in routers:
        router.most = int(moves(graph, router.slot, True))
    rounds = min(_MOST_ROUNDS, _MOST_WORK // max(1, len(graph.dirty)))
    for _ in range(rounds):
        graph = _with_gates(graph, gates, routers)
        kernel.back(_restored(graph, top))
        if _same(graph, largest) or not _let_go(graph, struck, gates, routers):
            return graph
    return None


def _let_go(
    graph: layout.Graph, struck: Sequence[StruckCore], gates: Sequence[_Gate], routers: Sequence[_RouterGate]
) -> bool:
    """Let go on what the present state provides for; False when there is nothing."""
    changed = False
    for gate in gates:
        fetched, there = int(graph.fetched[gate.slot]), int(graph.into[gate.slot])
        if fetched == gate.most and there > fetched:
            gate.open_past(fetched + 1, there)
            changed = True
    for router in routers:
        able = int(moves(graph, router.slot, True))
        if able > moves(graph, router.slot, False):
            router.most = able
            changed = True
    for number, core in enumerate(struck):
        done = int(graph.place[core.number, 0])
        able = int(reach(graph, core.number))
        if able > done:
            end = core.end_of_task(able - 1)
            graph.cap[number] = max(able, end or 0)
            changed = True
    return changed


def _gates(graph: layout.Graph, strange: Sequence[int], own: Sequence[int]) -> tuple[list[_Gate], list[_RouterGate]]:
    """Gates for all cores that strange words may come to, and for routers on their way that may switch at them."""
    seen, ahead = set(strange), list(strange)
    while ahead:
        slot = ahead.pop()
        tx = int(np.bitwise_or.reduce(graph.route[slot]))
        for port in range(4):
            beside = int(graph.beside[slot, port])
            if (tx >> (3 + port)) & 1 and beside >= 0 and beside not in seen:
                seen.add(beside)
                ahead.append(beside)
    ends: dict[tuple[int, int], list[int]] = {}
    gates = []
    mixed = {slot for slot in seen if _mixed(graph, slot)}
    for slot in sorted(seen):
        core, colour = int(graph.slot_core[slot]), int(graph.slot_colour[slot])
        role = int(graph.role[core])
        if graph.special[core] < 0 and (int(graph.takes[role]) >> colour) & 1:
            if (role, colour) not in ends:
                ends[role, colour] = _stream_ends(graph, role, colour)
            gates.append(_Gate(core, colour, slot, None if slot in mixed else ends[role, colour]))
    return gates, [_RouterGate(slot) for slot in sorted(mixed | set(own))]


def _mixed(graph: layout.Graph, slot: int) -> bool:
    """Whether control words come to a router."""
    for queue in graph.queue_of[slot].tolist():
        run = int(graph.queue[queue, layout.HEAD]) if queue >= 0 else -1
        while run >= 0:
            if graph.run[run, layout.KIND]:
                return True
            run = int(graph.run[run, layout.NEXT])
    return False


def _stream_ends(graph: layout.Graph, role: int, colour: int) -> list[int]:
    """Words of a colour that a role has fetched at the end of each task that fetches it."""
    total, ends = 0, []
    for task in graph.task[graph.task_first[role] : graph.task_first[role + 1]]:
        elements = int(task[layout.ELEMENTS])
        for at, hold in ((layout.COLOUR_A, layout.HOLD_A), (layout.COLOUR_B, layout.HOLD_B)):
            if task[at] == colour and elements:
                total += -(-elements // int(task[hold]))
                ends.append(total)
    return ends


def _with_gates(graph: layout.Graph, gates: Sequence[_Gate], routers: Sequence[_RouterGate]) -> layout.Graph:
    gated = np.zeros_like(graph.gated)
    gated[[gate.core for gate in gates]] = 1
    graph.struck[:] &= 1
    graph.struck[[router.slot for router in routers]] |= 2
    rows = np.array([(gate.core, gate.colour, gate.most) for gate in gates], np.int64).reshape(-1, 3)
    lines = np.array([(router.slot, router.most) for router in routers], np.int64).reshape(-1, 2)
    return graph._replace(gated=gated, gate=rows, slot_gate=lines)


_Counts = tuple[npt.NDArray[Any], ...]


def _parts(graph: layout.Graph) -> _Counts:
    """Views of all that says how far somebody has come."""
    used = graph.queue[: graph.tally[layout.QUEUES], : layout.TAKEN + 1]
    return used, graph.into, graph.fetched, graph.position, graph.place


def _counts(graph: layout.Graph) -> _Counts:
    return tuple(part.copy() for part in _parts(graph))


def _restored(graph: layout.Graph, counts: _Counts) -> layout.Graph:
    """The graph after the first pass again, with everybody to be looked at whom gates and caps concern."""
    for part, kept in zip(_parts(graph), counts, strict=True):
        part[:] = kept
    for core in np.flatnonzero(graph.gated | (graph.special >= 0)).tolist():
        graph.mark_core[core] = graph.dirty[core] = 1
    return graph


def _same(graph: layout.Graph, counts: _Counts) -> bool:
    return all(bool((part == kept).all()) for part, kept in zip(_parts(graph)[:3], counts, strict=False))


def strange_slots(graph: layout.Graph, struck: Sequence[StruckCore]) -> list[int]:
    """Slots that words come to in another order than golden."""
    found = []
    for slot, port in graph.drop[:, :2].tolist():
        if graph.beside[slot, port] >= 0:
            found.append(int(graph.beside[slot, port]))
    for core in struck:
        golden, mine = _sent(core.golden[0]), _sent(core.log)
        for colour in golden.keys() | mine.keys():
            if golden.get(colour) != mine.get(colour):
                found.append(int(graph.slot_of[core.number * COLOURS + colour]))
    return [slot for slot in dict.fromkeys(found) if slot >= 0]


def _sent(log: npt.NDArray[np.uint8]) -> dict[int, bytes]:
    """Kinds of the words a core sends, in order, by colour."""
    kinds, colours = log >> 5, log & 31
    return {int(c): kinds[(colours == c) & (kinds > 0)].tobytes() for c in np.unique(colours[kinds > 0])}
