"""Who waits for whom when nothing moves any more, as far as a scan tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yieldkit.diagnosis.rig import Wiring
from yieldkit.emulator.symptoms import CoreScan, Symptoms
from yieldkit.quantities import Site

__all__ = ["BLOCKED", "HALTED", "STARVED", "find_cycle", "frontier", "wait_for"]

STARVED = "INPUT_STARVATION"
BLOCKED = "WAITING_FOR_BUFFER"
HALTED = "HALTED"

_NEIGHBOURS = ((-1, 0), (0, 1), (1, 0), (0, -1))
_FACING = {(-1, 0): "S", (0, 1): "W", (1, 0): "N", (0, -1): "E"}
"""Input port, at the neighbour in that direction, of words that come from here."""


def wait_for(symptoms: Symptoms, wiring: Wiring | None = None) -> dict[Site, tuple[Site, ...]]:
    """The wait-for graph over the cores that have not finished: an edge leads to the core that is waited for.

    With `wiring` the edges are those of the loaded routes. Without it they are what the scan alone supports: a core
    that waits for a buffer waits for each neighbour whose queue of that colour, on the side that faces it, still holds
    words; a starved core waits for the neighbours that cannot send. Two neighbours that both starve are not linked, as
    a scan does not say which of them should feed the other.
    """
    waiting = {(core.row, core.col): core for core in symptoms.waiting}
    full = {(queue.row, queue.col, queue.port, queue.colour) for queue in symptoms.leftover if queue.words > 0}
    stuck = {site for site, core in waiting.items() if core.state in (BLOCKED, HALTED)}
    graph: dict[Site, tuple[Site, ...]] = {}
    for site, core in waiting.items():
        if wiring is not None:
            found = _wired(core, wiring)
        elif core.state == BLOCKED:
            found = [
                (site[0] + step[0], site[1] + step[1])
                for step in _NEIGHBOURS
                if (site[0] + step[0], site[1] + step[1], _FACING[step], core.colour) in full
            ]
        elif core.state == STARVED and stuck:
            found = [other for step in _NEIGHBOURS if (other := (site[0] + step[0], site[1] + step[1])) in stuck]
        else:
            found = []
        graph[site] = tuple(sorted(set(found))) if found else ()
    return graph


def _wired(core: CoreScan, wiring: Wiring) -> list[Site]:
    if core.state == STARVED:
        return list(wiring.sources(core.row, core.col, core.colour))
    if core.state == BLOCKED:
        return list(wiring.sinks(core.row, core.col, core.colour))
    return []


def find_cycle(graph: Mapping[Site, Sequence[Site]]) -> tuple[Site, ...]:
    """One cycle of the graph, from its smallest core, or an empty tuple; depth first in the order of sites."""
    white, grey, black = 0, 1, 2
    colour = dict.fromkeys(graph, white)
    for start in sorted(graph):
        if colour[start] != white:
            continue
        path: list[Site] = [start]
        places = [0]
        colour[start] = grey
        while path:
            targets = graph[path[-1]]
            if places[-1] == len(targets):
                colour[path.pop()] = black
                places.pop()
                continue
            nxt = targets[places[-1]]
            places[-1] += 1
            state = colour.get(nxt, black)
            if state == grey:
                loop = path[path.index(nxt) :]
                first = loop.index(min(loop))
                return tuple(loop[first:] + loop[:first])
            if state == white:
                colour[nxt] = grey
                path.append(nxt)
                places.append(0)
    return ()


def frontier(symptoms: Symptoms, wiring: Wiring | None = None) -> tuple[CoreScan, ...]:
    """The cores at which the trouble began, as far as the scan tells, most likely first.

    Halted cores come first; then cores that wait for a core which is not waiting itself (it has finished, and what
    it owed never came); among those the ones in the earliest task, since later tasks starve in consequence.
    """
    waiting = {(core.row, core.col): core for core in symptoms.waiting}
    graph = wait_for(symptoms, wiring)

    def rank(core: CoreScan) -> tuple[int, int]:
        if core.state == HALTED:
            return 0, core.task
        owed = not any(target in waiting for target in graph[(core.row, core.col)])
        return (1 if owed else 2), core.task

    ranks = [rank(core) for core in symptoms.waiting]
    best = min(ranks, default=None)
    first = [core for core, its in zip(symptoms.waiting, ranks, strict=True) if its == best]
    return tuple(sorted(first, key=lambda core: (core.row, core.col)))
