"""The second pass of the count interpreter where a fault changes the order of things.

Cutting everybody down from the first pass ends in the largest state that agrees with all words and rooms. It is the
state that is reached unless a circle of processes hold each other up there: each would go on if the others did. A clean
program has no such circles, so one must pass through something that a fault made different:

- a core that is stepped through, after it has left what a golden core does;
- a fetch that takes a word of a later stream, since an earlier word was lost, or came to another place;
- a router that switches at other words than it would, or whose route words were struck.

So we cut everybody as if none of these could go on, which gives a state that is surely reached, and go on from there
word by word. Where that would take too long (most of a wafer may still have most of its words to move), they are let go
on in greater steps, and all others after them: a struck core to the end of its task, a fetch to the next count at which
it may be one of another stream or block (the words of one block come from one sender, who waits for none of their
receivers).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.kernels import counts as kernel
from yieldkit.emulator.kernels import counts_state as layout
from yieldkit.emulator.kernels import link_faults
from yieldkit.emulator.kernels.counts_router import moves
from yieldkit.emulator.kernels.machine import RESET
from yieldkit.emulator.struck_core import StruckCore

__all__ = ["STEPS", "Strange", "settle", "strange_slots"]

STEPS: Final = 1 << 21
"""Looks at routers going on word by word, before a greater step is taken."""
_MOST_WORK: Final = 1 << 25
"""Cores looked at in all rounds, from which on the state counts as not decided by counts."""
_MOST_ROUNDS: Final = 1 << 10


@dataclass
class _Gate:
    """A core's fetches of a colour: how many it may do now, and the counts at which a fetch may be one of another
    block.
    """

    core: int
    colour: int
    slot: int
    stops: list[int]
    most: int = 0

    def open_past(self, fetched: int) -> None:
        """Let it fetch up to the next such count."""
        ahead = [stop for stop in self.stops if stop >= fetched]
        self.most = ahead[0] if ahead else layout.UNBOUNDED


@dataclass(frozen=True)
class Strange:
    """Slots that words come to in another order than golden.

    Attributes:
        words: all of them.
        switching: those whose router may switch at other words, or does other things.
        hooked: those whose own route words or switches were struck.
        held: those before a link that doubles words or has lost places, and those that words come to behind the first.
        shift: how many words too few and too many may have come.
    """

    words: tuple[int, ...]
    switching: tuple[int, ...]
    hooked: tuple[int, ...]
    held: tuple[int, ...] = ()
    shift: tuple[int, int] = (1, 0)


@dataclass
class _RouterGate:
    """Words that a router may move now."""

    slot: int
    most: int = 0


def settle(
    graph: layout.Graph, struck: Sequence[StruckCore], strange: Strange, *, steps: int = STEPS
) -> layout.Graph | None:
    """Cut everybody to what words and room allow.

    Args:
        graph: after the first pass.
        struck: cores that are stepped through, in the order of the graph.
        strange: where words come in another order.
        steps: looks at routers going on word by word, before a greater step is taken.

    Returns:
        the graph with its end state, or None where it takes too long to tell.
    """
    gates, routers = _gates(graph, strange)
    top = _counts(graph)
    kernel.back(graph)
    late = [core for number, core in enumerate(struck) if graph.place[core.number, 0] > core.common]
    if not gates and not routers and not late:
        return graph
    largest = _counts(graph)
    for number, core in enumerate(struck):
        graph.cap[number] = core.common
    # As long as no word comes after the lost ones, none comes twice or lacks a place, and no struck router moves, all
    # is as in a clean run cut short.
    graph.drop[:, layout.MOST] = graph.drop[:, layout.NTH] + (graph.drop[:, layout.WHAT] == link_faults.DROP)
    graph = _with_gates(graph, [], [gate for gate in routers if gate.slot in strange.hooked])
    kernel.back(_restored(graph, top))
    graph.drop[:, layout.MOST] = layout.UNBOUNDED
    rounds = min(_MOST_ROUNDS, _MOST_WORK // max(1, len(graph.dirty)))
    # How many words too many have come is not known where every one comes twice.
    doubled = (graph.drop[:, layout.WHAT] == link_faults.DUPLICATE) & (graph.drop[:, layout.LASTS] != 0)
    for _ in range(1 if doubled.any() else rounds):
        if _same(graph, largest) or _goes_on(graph, struck, gates, routers, steps):
            return graph
        for gate in gates:
            gate.open_past(int(graph.fetched[gate.slot]))
        for router in routers:
            router.most = int(moves(graph, router.slot, True))
        for number, core in enumerate(struck):
            done = int(graph.place[core.number, 0])
            graph.cap[number] = max(done, core.end_of_task(max(0, done - 1)) or 0)
        graph = _with_gates(graph, gates, routers)
        kernel.back(_restored(graph, top))
    return None


def _goes_on(
    graph: layout.Graph,
    struck: Sequence[StruckCore],
    gates: Sequence[_Gate],
    routers: Sequence[_RouterGate],
    steps: int,
) -> bool:
    """Go on word by word, with all gates open; whether the end was reached within `steps`."""
    for gate in gates:
        graph.mark_core[gate.core] = graph.dirty[gate.core] = 1
    for slot in (*(router.slot for router in routers), *np.flatnonzero(graph.struck).tolist()):
        graph.mark_slot[slot] = graph.dirty[graph.slot_core[slot]] = 1
    for number, core in enumerate(struck):
        graph.cap[number] = layout.UNBOUNDED
        graph.mark_core[core.number] = graph.dirty[core.number] = 1
    free = _with_gates(graph, [], [])
    if kernel.onward(free, steps) == kernel.ENDED:
        return True
    for part in (free.mark_core, free.mark_slot, free.dirty):
        part[:] = 0
    return False


def _gates(graph: layout.Graph, strange: Strange) -> tuple[list[_Gate], list[_RouterGate]]:
    """Gates for all cores that strange words may come to, and for routers that may switch at them."""
    ends: dict[tuple[int, int], list[int]] = {}
    gates = []
    for slot in sorted(_downstream(graph, strange.words)):
        core, colour = int(graph.slot_core[slot]), int(graph.slot_colour[slot])
        role = int(graph.role[core])
        if graph.special[core] >= 0 or not (int(graph.takes[role]) >> colour) & 1:
            continue
        if (role, colour) not in ends:
            ends[role, colour] = _stream_ends(graph, role, colour)
        early, late = strange.shift
        stops = {max(0, end + shift) for end in ends[role, colour] for shift in range(-early, late + 1)}
        if _mixed(graph, slot):
            stops |= set(_block_ends(graph, slot))
        gates.append(_Gate(core, colour, slot, sorted(stops)))
    switching = {slot for slot in _downstream(graph, strange.switching) if _mixed(graph, slot)}
    return gates, [_RouterGate(slot) for slot in sorted(switching | set(strange.hooked) | set(strange.held))]


def _downstream(graph: layout.Graph, slots: Sequence[int]) -> set[int]:
    """Slots that words may come to from these, and these themselves."""
    seen, ahead = set(slots), list(slots)
    while ahead:
        slot = ahead.pop()
        tx = int(np.bitwise_or.reduce(graph.route[slot]))
        for port in range(4):
            beside = int(graph.beside[slot, port])
            if (tx >> (3 + port)) & 1 and beside >= 0 and beside not in seen:
                seen.add(beside)
                ahead.append(beside)
    return seen


def _mixed(graph: layout.Graph, slot: int) -> bool:
    """Whether control words come to a router."""
    for queue in graph.queue_of[slot].tolist():
        run = int(graph.queue[queue, layout.HEAD]) if queue >= 0 else -1
        while run >= 0:
            if graph.run[run, layout.KIND]:
                return True
            run = int(graph.run[run, layout.NEXT])
    return False


def _block_ends(graph: layout.Graph, slot: int) -> list[int]:
    """Data words that have come into the core at each control word that passes its router."""
    position, into = int(graph.start[slot]), 0
    ends: list[int] = []
    ahead = {port: _runs(graph, int(queue)) for port, queue in enumerate(graph.queue_of[slot]) if queue >= 0}
    while True:
        route = int(graph.route[slot, position])
        run = next(ahead.get((route & 7) - 1, iter(())), None)
        if run is None:
            return ends
        words, kind = run
        if (route >> 7) & 1:
            into += words
        if kind:
            ends.append(into)
            if kind == RESET:
                position = 0
            elif not (route >> 8) & 1 and position < 3:
                position += 1


def _runs(graph: layout.Graph, queue: int) -> Iterator[tuple[int, int]]:
    """(data words, control word) of the stream of a queue, one by one."""
    left, run = int(graph.queue[queue, layout.PUT]), int(graph.queue[queue, layout.HEAD])
    while run >= 0 and left > 0:
        words, kind, times, following = graph.run[run].tolist()
        for _ in range(times):
            if left <= 0:
                return
            yield min(words, left), kind if left > words else 0
            left -= words + (kind != 0)
        run = following


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


def strange_slots(graph: layout.Graph, struck: Sequence[StruckCore], hooked: Sequence[tuple[int, int]]) -> Strange:
    """Where words come in another order than golden; `hooked` are the (core, colour) of struck route words."""
    own = [int(graph.slot_of[core * COLOURS + colour]) for core, colour in hooked]
    words, switching = list(own), list(own)
    held: list[int] = []
    for row in graph.drop.tolist():
        slot, beside = row[layout.SLOT_OF], int(graph.beside[row[layout.SLOT_OF], row[layout.PORT_OF]])
        if beside < 0:
            continue
        if row[layout.WHAT] != link_faults.DROP:
            held.append(slot)
        if row[layout.WHAT] == link_faults.CREDIT:
            continue
        words.append(beside)
        if row[layout.CONTROL_MET]:
            switching.append(beside)
        if row[layout.WHAT] == link_faults.DUPLICATE:
            held += _downstream(graph, [beside])
    for core in struck:
        golden, mine = _sent(core.golden[0]), _sent(core.log)
        for colour in golden.keys() | mine.keys():
            if golden.get(colour) != mine.get(colour):
                words.append(int(graph.slot_of[core.number * COLOURS + colour]))
                if max(golden.get(colour, b"") + mine.get(colour, b"")) > 1:
                    switching.append(words[-1])
    found = [tuple(slot for slot in dict.fromkeys(slots) if slot >= 0) for slots in (words, switching, own, held)]
    once = graph.drop[graph.drop[:, layout.LASTS] == 0, layout.WHAT]
    shift = max(1, int((once == link_faults.DROP).sum())), int((once == link_faults.DUPLICATE).sum())
    return Strange(found[0], found[1], found[2], found[3], shift)


def _sent(log: npt.NDArray[np.uint8]) -> dict[int, bytes]:
    """Kinds of the words a core sends, in order, by colour."""
    kinds, colours = log >> 5, log & 31
    return {int(c): kinds[(colours == c) & (kinds > 0)].tobytes() for c in np.unique(colours[kinds > 0])}
