"""Permutations along rows: colours for the paths of words, their routes, and the tasks of the cores at their ends.

A path from column a to column b keeps one colour on all routers from a to b, both ends included. A router has one
receiving port per colour, so paths of one colour share no router; paths are intervals, and giving each the lowest
colour that is free at its left end needs no more colours than paths meet at a router::

    to = 2, 0, 1, 4, 3      c=0 ──0──────► c=2        c=3 ──0──► c=4
                            c=0 ◄──1── c=1            c=3 ◄──1── c=4
                                       c=1 ◄──2── c=2

Cores send and receive one after the other. Around each cycle of the permutation every second core receives first, so a
core that receives first gets its words from one that sends first, and no circle of cores waits for itself, whatever the
depth of the queues.
"""

from __future__ import annotations

import heapq
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from yieldkit.emulator.isa import route_word
from yieldkit.quantities import EAST, RAMP, WEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yieldkit.emulator.code import CoreCode
    from yieldkit.workloads.program import Permute, Program

__all__ = [
    "emit_permute",
    "is_permute",
    "path_colours",
    "permute_channel",
    "permute_routes",
    "permute_width",
    "sends_first",
]

_PREFIX: Final = "permute "


def permute_channel(to: Sequence[int]) -> str:
    """Name of the channel of a permutation; phases of one permutation share it."""
    return _PREFIX + " ".join(map(str, to))


def is_permute(channel: str) -> bool:
    """Whether a channel carries a permutation."""
    return channel.startswith(_PREFIX)


@lru_cache(maxsize=256)
def _map_of(channel: str) -> tuple[int, ...]:
    return tuple(int(part) for part in channel.removeprefix(_PREFIX).split())


@lru_cache(maxsize=256)
def path_colours(to: tuple[int, ...]) -> tuple[int, ...]:
    """Number of the colour of the path that begins at each column, from 0 up; -1 where words stay on their core."""
    colours = [-1] * len(to)
    ends: list[tuple[int, int]] = []
    free: list[int] = []
    made = 0
    for low, high, source in sorted((min(c, to[c]), max(c, to[c]), c) for c in range(len(to)) if to[c] != c):
        while ends and ends[0][0] < low:
            heapq.heappush(free, heapq.heappop(ends)[1])
        if free:
            colours[source] = heapq.heappop(free)
        else:
            colours[source], made = made, made + 1
        heapq.heappush(ends, (high, colours[source]))
    return tuple(colours)


def permute_width(channel: str) -> int:
    """Colours that a permutation needs."""
    return max(path_colours(_map_of(channel)), default=-1) + 1


def permute_routes(channel: str, c: int) -> dict[int, list[int]]:
    """Route words of the core at column c by number of colour."""
    to = _map_of(channel)
    routes: dict[int, list[int]] = {}
    for source, number in enumerate(path_colours(to)):
        target = to[source]
        if number < 0 or not min(source, target) <= c <= max(source, target):
            continue
        behind, ahead = (WEST, EAST) if target > source else (EAST, WEST)
        rx = RAMP if c == source else behind
        routes[number] = [route_word(rx, [RAMP if c == target else ahead])]
    return routes


@lru_cache(maxsize=256)
def sends_first(to: tuple[int, ...]) -> tuple[bool, ...]:
    """Whether the core at each column sends before it receives."""
    first = [True] * len(to)
    seen = [False] * len(to)
    for start in range(len(to)):
        c, place = start, 0
        while not seen[c]:
            seen[c], first[c] = True, place % 2 == 0
            c, place = to[c], place + 1
    return tuple(first)


def emit_permute(code: CoreCode, program: Program, phase: Permute, colours: Sequence[int]) -> None:
    """Append the tasks of a permutation for the core of `code`; `colours` are those of its channel."""
    tensor = program.table[phase.x]
    x, y = code.memory(phase.x, [(tensor.size, 1)]), code.memory(phase.y, [(tensor.size, 1)])
    numbers = path_colours(phase.to)
    if phase.to[code.c] == code.c:
        code.task("mov", y, x)
        return
    source = phase.to.index(code.c)
    out = code.send(colours[numbers[code.c]], tensor.dtype, [tensor.size])
    into = code.receive(colours[numbers[source]], tensor.dtype, [tensor.size])
    pairs = [(out, x), (y, into)]
    for d, a in pairs if sends_first(phase.to)[code.c] else pairs[::-1]:
        code.task("mov", d, a)
