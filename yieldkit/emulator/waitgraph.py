"""Who waits for whom once nothing moves, and what kind of stall that is.

The graph is read from what a machine can show: wait states, queues, switch positions, route words, counters, MemoryX's
lists, and the images that were loaded. Its nodes are cores, queues and MemoryX's streams and lists; an edge says that
one cannot go on before the other does::

    core    ──word──►  its queue from the router     a starved core
    core    ──room──►  its queue to the router       a blocked core
    queue   ──word──►  the queue or core that feeds it, as the present switch positions go
    queue   ──room──►  the full queue that its head must enter; the core that must take its words
    queue   ──switch─► the selected queue, through which the control word must come that turns the switch

Every edge is a necessary condition, so that a cycle is a deadlock whatever else there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.host_words import expected_lists, outputs_of
from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.kernels.state import FROM_CORE, TO_CORE
from yieldkit.emulator.lowering import LoweredLaunch
from yieldkit.emulator.machine import Machine
from yieldkit.quantities import OPPOSITE, RAMP

__all__ = ["ENDS", "End", "Node", "Reading", "Wait", "Waits", "golden_routes", "takes_of", "waits_of"]

ENDS: Final = {
    "ended": "has ended its chain of tasks",
    "never started": "never started",
    "halted": "has halted",
    "runaway": "was stopped: it ran far more elements than its tasks have",
    "running": "was still running when the machine was stopped",
    "moving": "could still move when the machine was stopped",
    "no route": "is selected at no position of its router",
    "no source": "is fed by a router that takes words from nowhere",
    "unfed": "is fed by no position of the router behind it",
    "exhausted": "has no words left",
    "no stream": "is at the edge, where MemoryX has no stream",
    "no credit": "must send over a link that knows of no place behind it any more, though the queue there is not full",
}
"""Why a chain of waiting goes no further."""
_STOPPED: Final = {
    kernel.UNUSED: "never started",
    kernel.DONE: "ended",
    kernel.HALTED: "halted",
    kernel.RUNAWAY: "runaway",
}


@dataclass(frozen=True, order=True)
class Node:
    """A core (`kind` "core"), a queue of a router ("queue"), a stream that MemoryX pushes or a list it fills.

    Attributes:
        kind: "core", "queue", "stream" or "list".
        r, c: core.
        port: 0..3 = N, E, S, W; of a queue also 4 from the core, 5 to the core; -1 for a core.
        colour: -1 for a core.
    """

    kind: str
    r: int
    c: int
    port: int = -1
    colour: int = -1


@dataclass(frozen=True, order=True)
class Wait:
    """`who` cannot go on before `what` does: it needs a "word", "room", or a "switch" to turn."""

    who: Node
    what: Node
    needs: str


@dataclass(frozen=True, order=True)
class End:
    """Where a chain of waiting ends, and why (a key of `ENDS`)."""

    node: Node
    reason: str


@dataclass(frozen=True)
class Waits:
    """The graph.

    Attributes:
        roots: what should have gone on: cores, streams with words left, lists that lack words.
        edges: everything that these wait for, directly or not; sorted.
        ends: where chains end; sorted.
        moving: queues and cores that could still move (none once nothing moves).
    """

    roots: tuple[Node, ...]
    edges: tuple[Wait, ...]
    ends: tuple[End, ...]
    moving: tuple[Node, ...] = ()

    def out(self) -> dict[Node, list[Wait]]:
        """Edges by who waits."""
        table: dict[Node, list[Wait]] = {}
        for edge in self.edges:
            table.setdefault(edge.who, []).append(edge)
        return table


def waits_of(machine: Machine, low: LoweredLaunch) -> Waits:
    """The wait-for graph of a machine after a launch.

    Args:
        machine: after `launch(low, ...)`.
        low: the launch.
    """
    return Reading(machine, low).graph()


class Reading:
    """State of a machine after a launch, in the words of the graph."""

    def __init__(self, machine: Machine, low: LoweredLaunch) -> None:
        self.state = machine.state
        self.low = low
        self.rows, self.cols = machine.rows, machine.cols
        self.neighbour = machine.neighbour
        self.depth = machine.state.queue.shape[3]
        self.places = machine.places
        self.streams, self.lists = _memoryx(machine, low)
        route = self.state.route
        # Port taken at each position, -1 for none, and where it sends to.
        self.takes = takes_of(route)
        self.gives = ((route[..., None] >> np.arange(3, 8, dtype=np.uint32)) & 1).astype(bool)

    def core(self, node: Node) -> int:
        """Number of the core that a node belongs to."""
        return node.r * self.cols + node.c

    def queue(self, core: int, port: int, colour: int) -> Node:
        """Node of a queue."""
        return Node("queue", *divmod(core, self.cols), port, colour)

    def graph(self) -> Waits:
        """Everything that can be reached from what should have gone on."""
        roots = tuple(sorted(self._roots()))
        edges: set[Wait] = set()
        ends: set[End] = set()
        seen = set(roots)
        front = list(roots)
        while front:
            node = front.pop()
            for item in self._explain(node):
                if isinstance(item, End):
                    ends.add(item)
                    continue
                edges.add(item)
                if item.what not in seen:
                    seen.add(item.what)
                    front.append(item.what)
        return Waits(roots, tuple(sorted(edges)), tuple(sorted(ends)), tuple(sorted(self._moving())))

    def _roots(self) -> Iterator[Node]:
        status = self.state.status
        for core in np.flatnonzero((status != kernel.DONE) & (status != kernel.UNUSED)).tolist():
            yield Node("core", *divmod(core, self.cols))
        for (core, port, colour), left in self.streams.items():
            if left > 0:
                yield Node("stream", *divmod(core, self.cols), port, colour)
        for (core, port, colour), (got, expected) in self.lists.items():
            if got < expected:
                yield Node("list", *divmod(core, self.cols), port, colour)

    def _moving(self) -> Iterator[Node]:
        """What could still move: nothing, unless the machine was stopped."""
        for core, colour, port in np.argwhere(self.state.length[:, :, :TO_CORE] > 0).tolist():
            node = self.queue(core, port, colour)
            if any(isinstance(item, End) and item.reason == "moving" for item in self._explain(node)):
                yield node
        alive = (self.state.status == kernel.READY) | (self.state.status == kernel.RUNNING)
        for core in np.flatnonzero(alive).tolist():
            node = Node("core", *divmod(core, self.cols))
            if any(isinstance(item, End) for item in self._explain(node)):
                yield node

    def _explain(self, node: Node) -> Iterable[Wait | End]:
        core = self.core(node)
        if node.kind == "core":
            return [self._core(node, core)]
        if node.kind == "stream":
            left = self.streams.get((core, node.port, node.colour))
            if left is None:
                return [End(node, "no stream")]
            if not left:
                return [End(node, "exhausted")]
            if self.state.length[core, node.colour, node.port] < self.depth:
                return [End(node, "moving")]
            return [Wait(node, self.queue(core, node.port, node.colour), "room")]
        if node.kind == "list":
            return [self._fed(node, core, node.port, node.colour)]
        if self.state.length[core, node.colour, node.port] > 0:
            return self._held(node, core)
        return [self._empty(node, core)]

    def _core(self, node: Node, core: int) -> Wait | End:
        status = int(self.state.status[core])
        if status in _STOPPED:
            return End(node, _STOPPED[status])
        colour = int(self.state.wait_colour[core])
        wait = int(self.state.wait[core])
        if wait == kernel.STARVED and self.state.length[core, colour, TO_CORE] == 0:
            return Wait(node, self.queue(core, TO_CORE, colour), "word")
        if wait == kernel.BLOCKED and self.state.length[core, colour, FROM_CORE] >= self.depth:
            return Wait(node, self.queue(core, FROM_CORE, colour), "room")
        return End(node, "running")

    def _held(self, node: Node, core: int) -> list[Wait | End]:
        """Why the head of a queue does not move."""
        state, colour = self.state, node.colour
        if node.port == TO_CORE:
            return [Wait(node, Node("core", node.r, node.c), "room")]
        position = int(state.position[core, colour])
        taken = int(self.takes[core, colour, position])
        if taken != node.port:
            if node.port not in self.takes[core, colour]:
                return [End(node, "no route")]
            if taken < 0:
                return [End(node, "no source")]
            return [Wait(node, self.queue(core, taken, colour), "switch")]
        full: list[Wait | End] = []
        gives = self.gives[core, colour, position]
        for out in np.flatnonzero(gives[:4]).tolist():
            other = int(self.neighbour[core, out])
            if other < 0:
                continue
            places = self.places(core, out, colour)
            if places <= 0 and state.length[other, colour, OPPOSITE[out]] < self.depth:
                full.append(End(node, "no credit"))
            elif state.length[other, colour, OPPOSITE[out]] >= places:
                full.append(Wait(node, self.queue(other, OPPOSITE[out], colour), "room"))
        control = state.kind[core, colour, node.port, state.head[core, colour, node.port]] != kernel.DATA
        if gives[RAMP] and not control and state.length[core, colour, TO_CORE] >= self.depth:
            full.append(Wait(node, self.queue(core, TO_CORE, colour), "room"))
        return full or [End(node, "moving")]

    def _empty(self, node: Node, core: int) -> Wait | End:
        """Where the words of an empty queue should come from."""
        if node.port == FROM_CORE:
            return Wait(node, Node("core", node.r, node.c), "word")
        if node.port == TO_CORE:
            return self._fed(node, core, RAMP, node.colour)
        other = int(self.neighbour[core, node.port])
        if other >= 0:
            return self._fed(node, other, OPPOSITE[node.port], node.colour)
        return Wait(node, Node("stream", node.r, node.c, node.port, node.colour), "word")

    def _fed(self, node: Node, core: int, out: int, colour: int) -> Wait | End:
        """What `node`, which the router of `core` feeds through `out`, waits for."""
        position = int(self.state.position[core, colour])
        taken = int(self.takes[core, colour, position])
        here = bool(self.gives[core, colour, position, out]) and taken >= 0
        elsewhere = self.gives[core, colour, :, out] & (self.takes[core, colour] >= 0)
        if not elsewhere.any():
            return End(node, "unfed")
        if taken < 0:
            return End(node, "no source")
        return Wait(node, self.queue(core, taken, colour), "word" if here else "switch")


def takes_of(route: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """int64 of the shape of `route`: port that each route word takes from, -1 for none."""
    rx = (route & np.uint32(7)).astype(np.int64)
    takes: npt.NDArray[np.int64] = np.where((rx >= 1) & (rx <= 5), rx - 1, -1)
    return takes


def golden_routes(low: LoweredLaunch) -> npt.NDArray[np.uint32]:
    """uint32[n, 24, 4]: route words that each core was loaded with."""
    if not low.roles:
        return np.zeros((low.role_of.size, COLOURS, 4), np.uint32)
    return np.stack([role.routes for role in low.roles])[low.role_of.reshape(-1)]


Key = tuple[int, int, int]


def _memoryx(machine: Machine, low: LoweredLaunch) -> tuple[Mapping[Key, int], Mapping[Key, tuple[int, int]]]:
    """Words left of every stream, and (got, expected) of every list, by (core, port, colour)."""
    host: Any = machine.host
    streams = {
        (int(core), int(port), int(colour)): int(end - following)
        for core, port, colour, following, end in zip(
            host.in_core, host.in_port, host.in_colour, host.in_next, host.in_end, strict=True
        )
    }
    expected: dict[Key, int] = {}
    for phase in outputs_of(low.launch):
        for r, c, port, colour, count in expected_lists(machine.lowered.program, phase):
            key = (r * machine.cols + c, port, colour)
            expected[key] = expected.get(key, 0) + count
    return streams, {key: (int(host.out_count[host.out_of[key]]), count) for key, count in expected.items()}
