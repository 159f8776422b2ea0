"""How many words go where in a clean launch, from the images alone: no values, no queues, no time.

Control never reads values and a colour's words never wait for another colour's once queues have room without end, so
what crosses a link is a list of (data words, control word) that follows from what cores and MemoryX send and from the
route words. Routers are gone through downstream, each once where the routes of a colour make no loop.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from yieldkit.emulator.disassembly import Chain
from yieldkit.emulator.isa import FABRIC_IN, FABRIC_OUT, POSITIONS
from yieldkit.emulator.kernels.machine import ADVANCE, DATA, RESET
from yieldkit.emulator.lowering import LoweredLaunch
from yieldkit.quantities import EAST, NORTH, OPPOSITE, PORT_NAMES, RAMP, SOUTH, WEST

__all__ = ["Flows", "count_words", "data_of", "joined", "mismatches", "words_of"]

Segment = tuple[int, int]
Site = tuple[int, int]
Port = tuple[int, int, int]
"""(core, port, colour)."""

_TURNS = 1 << 22
"""Lists handed on by routers before a launch is taken for an endless one."""


@dataclass
class Flows:
    """What a clean launch moves; cores are numbered by rows.

    Attributes:
        links: words through (core, port, colour), off the edge included.
        to_core: data words that come to a core in a colour, by (core, colour).
        taken: data words that its tasks take.
        stuck: words that no position of a router ever takes, by (core, port, colour).
        sunk: words that a router consumes, by (core, colour).
        endless: a (core, colour) that a loop of routes comes through, or None.
        moves: words over all links and ramps.
    """

    links: dict[Port, list[Segment]] = field(default_factory=dict)
    to_core: dict[Site, int] = field(default_factory=dict)
    taken: dict[Site, int] = field(default_factory=dict)
    stuck: dict[Port, int] = field(default_factory=dict)
    sunk: dict[Site, int] = field(default_factory=dict)
    endless: Site | None = None
    moves: int = 0


def words_of(segments: Sequence[Segment]) -> int:
    """Words of a list, control words included."""
    return sum(count + (control != DATA) for count, control in segments)


def data_of(segments: Sequence[Segment]) -> int:
    """Data words of a list."""
    return sum(count for count, _ in segments)


def joined(segments: Sequence[Segment]) -> list[Segment]:
    """The same words with as few segments as can be."""
    result: list[Segment] = []
    for count, control in segments:
        if result and result[-1][1] == DATA:
            result[-1] = (result[-1][0] + count, control)
        else:
            result.append((count, control))
    return result


def count_words(low: LoweredLaunch, chains: Sequence[Chain], streams: Mapping[Port, Sequence[Segment]]) -> Flows:
    """Words on every link of a launch.

    Args:
        low: the launch.
        chains: of each role.
        streams: what MemoryX pushes, by (core, port, colour).
    """
    lookup = low.role_of.reshape(-1).tolist()
    flows = Flows()
    sends: list[dict[int, list[Segment]]] = []
    takes: list[dict[int, int]] = []
    for chain in chains:
        own: dict[int, list[Segment]] = {}
        need: dict[int, int] = {}
        for task in chain.fabric:
            if task.operands[0].kind == FABRIC_OUT:
                own.setdefault(task.operands[0].colour, []).extend(task.sent())
            for operand in task.operands[1:]:
                if operand.kind == FABRIC_IN:
                    need[operand.colour] = need.get(operand.colour, 0) + task.taken(operand)
        sends.append({colour: joined(words) for colour, words in own.items()})
        takes.append(need)
    routes = [_Routes(role.routes) for role in low.roles]
    for core, role in enumerate(lookup):
        for colour, count in takes[role].items():
            flows.taken[core, colour] = count
    entering: dict[int, dict[tuple[int, int], list[Segment]]] = {}
    for core, role in enumerate(lookup):
        for colour, words in sends[role].items():
            entering.setdefault(colour, {})[core, RAMP] = list(words)
    for (core, port, colour), fed in streams.items():
        entering.setdefault(colour, {})[core, port] = joined(fed)
    for colour in sorted(entering):
        _Colour(colour, low.role_of.shape, [routes[role].colour(colour) for role in lookup], flows).run(
            entering[colour]
        )
    return flows


Position = tuple[int, tuple[int, ...], bool]
"""(port taken or -1, ports given to, last)."""


class _Routes:
    """Route words of a role by colour, read once."""

    def __init__(self, words: np.ndarray) -> None:
        self._words = words
        self._read: dict[int, tuple[Position, ...]] = {}

    def colour(self, colour: int) -> tuple[Position, ...]:
        if colour not in self._read:
            positions = []
            for word in self._words[colour].tolist():
                taken = (word & 7) - 1
                gives = tuple(port for port in range(5) if (word >> (3 + port)) & 1)
                positions.append((taken if 0 <= taken <= 4 else -1, gives, bool((word >> 8) & 1)))
            self._read[colour] = tuple(positions)
        return self._read[colour]


class _Colour:
    """All routers in one colour."""

    def __init__(self, colour: int, shape: tuple[int, ...], routes: list[tuple[Position, ...]], flows: Flows) -> None:
        self.colour, self.shape = colour, shape
        self.routes, self.flows = routes, flows
        self.position = [0] * len(routes)
        self.waiting: list[dict[int, list[Segment]]] = [{} for _ in routes]

    def run(self, entering: Mapping[tuple[int, int], list[Segment]]) -> None:
        """Hand on what enters until no router takes anything more."""
        rank = self._ranks()
        for (core, port), words in entering.items():
            self.waiting[core][port] = list(words)
        front = [(rank[core], core) for core in {core for core, _ in entering}]
        heapq.heapify(front)
        turns = 0
        while front:
            _, core = heapq.heappop(front)
            turns += 1
            for other in self._turn(core):
                heapq.heappush(front, (rank[other], other))
            if turns > _TURNS or (turns > 64 * len(self.routes) and self._too_many()):
                self.flows.endless = (core, self.colour)
                return
        for core, ports in enumerate(self.waiting):
            for port, left in ports.items():
                if left:
                    self.flows.stuck[core, port, self.colour] = words_of(left)

    def _too_many(self) -> bool:
        """Whether a link has carried far more words than all sources sent."""
        heaviest = max((len(words) for key, words in self.flows.links.items() if key[2] == self.colour), default=0)
        return heaviest > 64 * len(self.routes)

    def _ranks(self) -> list[int]:
        """Place of each router downstream; those on a loop come last, in order of their numbers."""
        n = len(self.routes)
        below: list[list[int]] = [[] for _ in range(n)]
        above = [0] * n
        for core, positions in enumerate(self.routes):
            for port in {port for _, gives, _ in positions for port in gives if port != RAMP}:
                other = _beyond(core, port, self.shape)
                if other >= 0 and any(taken == OPPOSITE[port] for taken, _, _ in self.routes[other]):
                    below[core].append(other)
                    above[other] += 1
        rank = [n + core for core in range(n)]
        front = [core for core in range(n) if not above[core]]
        place = 0
        while front:
            core = front.pop()
            rank[core] = place
            place += 1
            for other in below[core]:
                above[other] -= 1
                if not above[other]:
                    front.append(other)
        return rank

    def _turn(self, core: int) -> set[int]:
        """Run one router as far as its words go; returns who got some."""
        ports = self.waiting[core]
        positions = self.routes[core]
        woken: set[int] = set()
        while True:
            taken, gives, last = positions[self.position[core]]
            words = ports.get(taken)
            if not words:
                return woken
            at = self.position[core]
            batch, ports[taken] = _until_turn(words, at, last)
            self.position[core] = _turned(at, batch[-1][1], last)
            key = (core, self.colour)
            data = sum([count for count, _ in batch])
            everything = data + sum([1 for _, control in batch if control])
            if not gives:
                self.flows.sunk[key] = self.flows.sunk.get(key, 0) + everything
            for port in gives:
                if port == RAMP:
                    self.flows.to_core[key] = self.flows.to_core.get(key, 0) + data
                    self.flows.moves += data
                    continue
                self.flows.moves += everything
                self.flows.links.setdefault((core, port, self.colour), []).extend(batch)
                other = _beyond(core, port, self.shape)
                if other >= 0:
                    self.waiting[other].setdefault(OPPOSITE[port], []).extend(batch)
                    woken.add(other)


def _until_turn(words: list[Segment], position: int, last: bool) -> tuple[list[Segment], list[Segment]]:
    """Words up to the first control word that turns the switch, and the rest."""
    advances = not last and position < POSITIONS - 1
    if position or advances:
        for place, (_, control) in enumerate(words):
            if control and ((control == RESET and position) or (control == ADVANCE and advances)):
                return words[: place + 1], words[place + 1 :]
    return words, []


def _turned(position: int, control: int, last: bool) -> int:
    if control == RESET:
        return 0
    return position + 1 if control == ADVANCE and not last and position < POSITIONS - 1 else position


def mismatches(flows: Flows, low: LoweredLaunch, lists: Mapping[Port, int], row_of: Sequence[int]) -> Iterator[str]:
    """What does not come out even: words without a route first, then words too many or too few.

    Args:
        flows: what a clean launch moves.
        low: the launch, on the rows that were counted.
        lists: data words that MemoryX expects, by (core, port, colour).
        row_of: row of the whole rectangle that each counted row stands for.
    """
    cols = low.role_of.shape[1]

    def place(core: int) -> str:
        return f"({row_of[core // cols]}, {core % cols})"

    if flows.endless is not None:
        yield f"words of colour {flows.endless[1]} go round without end at core {place(flows.endless[0])}"
        return
    for (core, port, colour), words in sorted(flows.links.items()):
        other = _beyond(core, port, low.role_of.shape)
        if other < 0 and (core, port, colour) not in lists:
            where = f"{PORT_NAMES[port]} off the edge, where MemoryX takes none"
            yield f"core {place(core)} sends {words_of(words)} words of colour {colour} {where}"
        if other >= 0 and not _takes(low, other, OPPOSITE[port], colour):
            where = f"{PORT_NAMES[port]}, and core {place(other)} has no route for them"
            yield f"core {place(core)} sends {words_of(words)} words of colour {colour} {where}"
    for (core, colour), count in sorted(flows.sunk.items()):
        yield f"the router of core {place(core)} consumes {count} words of colour {colour}"
    for core, colour in sorted(flows.to_core.keys() | flows.taken.keys()):
        sent, taken = flows.to_core.get((core, colour), 0), flows.taken.get((core, colour), 0)
        if sent != taken:
            source = "" if sent else _unfed(flows, low, core, colour, place)
            yield f"core {place(core)} is sent {sent} words of colour {colour} and expects {taken}{source}"
    for (core, port, colour), count in sorted(lists.items()):
        sent = data_of(flows.links.get((core, port, colour), ()))
        if sent != count:
            where = f"core {place(core)} {PORT_NAMES[port]}"
            yield f"MemoryX is sent {sent} words of colour {colour} at {where} and expects {count}"
    for (core, port, colour), count in sorted(flows.stuck.items()):
        side = "its core" if port == RAMP else PORT_NAMES[port]
        yield f"the router of core {place(core)} never takes {count} words of colour {colour} from {side}"


def _takes(low: LoweredLaunch, core: int, port: int, colour: int) -> bool:
    """Whether some position of a router takes from a port."""
    words = low.roles[low.role_of.reshape(-1)[core]].routes[colour]
    return bool(((words & 7) == port + 1).any())


def _unfed(flows: Flows, low: LoweredLaunch, core: int, colour: int, place: Callable[[int], str]) -> str:
    """Where the words of a core that gets none should come from."""
    words = low.roles[low.role_of.reshape(-1)[core]].routes[colour].tolist()
    for word in words:
        port = (word & 7) - 1
        if word >> 7 & 1 and 0 <= port < 4:
            other = _beyond(core, port, low.role_of.shape)
            if other < 0:
                return f": its router takes them from {PORT_NAMES[port]}, where MemoryX sends none"
            return f": its router takes them from {PORT_NAMES[port]}, where core {place(other)} sends none"
    return ": its router brings it none of that colour"


def _beyond(core: int, port: int, shape: tuple[int, ...]) -> int:
    """Core reached through a port, or -1."""
    rows, cols = shape
    r, c = divmod(core, cols)
    r, c = r + (port == SOUTH) - (port == NORTH), c + (port == EAST) - (port == WEST)
    return r * cols + c if 0 <= r < rows and 0 <= c < cols else -1
