"""What kind of stall it is, from the wait-for graph and from counters and images, and who is to blame for it.

Exactly one class is named; the first that fits of::

    LIVELOCK       words or a core go on without end: a loop of routes, a runaway core
    MISROUTE       words lie, were sent or were sunk where the loaded image has no route for their colour
    LOST_WAVELET   a link that somebody waits behind counts fewer words received than sent
    LOST_CREDIT    a link has lost all places of the queue behind it, which is not full
    CYCLIC_WAIT    cores and queues wait for each other in a ring
    DEAD_CONSUMER  words wait for a core that has halted, ended or never started, or for a router without a route
    MISROUTE       somebody waits for words behind a router whose route differs from its image
    STARVATION     the producer has ended its chain, or the edge stream is exhausted, and all counters agree
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.kernels.state import FROM_CORE, TO_CORE
from yieldkit.emulator.lowering import LoweredLaunch
from yieldkit.emulator.machine import LaunchResult, Machine
from yieldkit.emulator.scan import scan_machine
from yieldkit.emulator.symptoms import CORRUPTION_DETECTED
from yieldkit.emulator.waitgraph import End, Node, Reading, Wait, Waits, golden_routes, takes_of
from yieldkit.quantities import OPPOSITE, PORT_NAMES, RAMP

if TYPE_CHECKING:
    from yieldkit.emulator.running import RunResult

__all__ = ["STALL_CLASSES", "Stall", "classify", "machine_of", "stall_of"]

STALL_CLASSES: Final = (
    "CYCLIC_WAIT",
    "DEAD_CONSUMER",
    "MISROUTE",
    "LOST_WAVELET",
    "LOST_CREDIT",
    "STARVATION",
    "LIVELOCK",
)


@dataclass(frozen=True)
class Stall:
    """A stall of a launch.

    Attributes:
        launch: its name.
        kind: one of `STALL_CLASSES`.
        culprit: core, queue, stream or list that the reason is about.
        reason: one sentence.
        evidence: what else shows it, a sentence each.
        cycle: of a CYCLIC_WAIT, the waits around the ring; the smallest core comes first.
        waits: the whole graph.
    """

    launch: str
    kind: str
    culprit: Node
    reason: str
    evidence: tuple[str, ...]
    cycle: tuple[Wait, ...]
    waits: Waits

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "launch": self.launch,
            "class": self.kind,
            "culprit": _plain(self.culprit),
            "reason": self.reason,
            "evidence": list(self.evidence),
            "cycle": [_plain_wait(wait) for wait in self.cycle],
            "roots": [_plain(node) for node in self.waits.roots],
            "waits": [_plain_wait(wait) for wait in self.waits.edges],
            "ends": [{"node": _plain(end.node), "reason": end.reason} for end in self.waits.ends],
            "moving": [_plain(node) for node in self.waits.moving],
        }


def classify(machine: Machine, low: LoweredLaunch, result: LaunchResult) -> Stall | None:
    """Class and culprit of a stalled launch; None where the launch completed.

    It reads the machine's state, counters, images and MemoryX's lists; what was injected it does not see.

    Args:
        machine: reference machine or wavelet executor, as the launch left it.
        low: the launch.
        result: how it ended.
    """
    if result.completed:
        return None
    case = _Case(machine, low)
    for rule in (_livelock, _misroute, _lost, _no_credit, _cyclic, _dead, _changed_route, _starved):
        found = rule(case)
        if found is not None:
            kind, culprit, reason, evidence, cycle = found
            changed = [] if result.scan is None else result.scan.config
            near = {(node.r, node.c) for node in (culprit, *case.touched)}
            notes = [f"core ({r}, {c}): {what} words differ from the image" for r, c, what in changed if (r, c) in near]
            return Stall(low.name, kind, culprit, reason, (*evidence, *notes), cycle, case.waits)
    raise AssertionError("every stall has a class")


def machine_of(run: RunResult) -> Machine | None:
    """The machine whose cores a run left behind; None where an executor kept none."""
    return getattr(run.job.executor, "machine", None)


def stall_of(run: RunResult) -> Stall | None:
    """Class and culprit of a run's stall or crash; None where it completed or no machine is left to read."""
    machine = machine_of(run)
    if machine is None or not run.symptoms.stalled_launch or _only_the_host_stopped(run):
        return None
    low = next(low for low in run.job.lowered.launches if low.name == run.symptoms.stalled_launch)
    scan = scan_machine(machine.state, machine.neighbour, low, undrained=False)
    return classify(machine, low, LaunchResult(False, {}, {}, scan=scan))


def _only_the_host_stopped(run: RunResult) -> bool:
    """Whether the cores are done: a check fired, or a tensor was lost on the host's link after it had left."""
    seen = run.symptoms
    lost = {event.name for event in seen.host_events if event.kind == "dropped_tensor"}
    gone = bool(seen.host_missing) and {stream for stream, _ in seen.host_missing} <= lost
    return seen.status == CORRUPTION_DETECTED or (gone and not seen.waiting)


Found = tuple[str, Node, str, tuple[str, ...], tuple[Wait, ...]]


class _Case:
    """A stalled machine with its graph, and what several rules look at."""

    def __init__(self, machine: Machine, low: LoweredLaunch) -> None:
        self.read = Reading(machine, low)
        self.state = machine.state
        self.low = low
        self.machine = machine
        self.waits = self.read.graph()
        self.out = self.waits.out()
        image = golden_routes(low)
        self.image_takes = takes_of(image)
        self.image_gives = ((image[..., None] >> np.arange(3, 8, dtype=np.uint32)) & 1).astype(bool)
        self.changed = (image != self.state.route).any(axis=2)
        touched = {edge.who for edge in self.waits.edges} | {edge.what for edge in self.waits.edges}
        self.touched = sorted(touched | set(self.waits.roots))

    def place(self, core: int) -> tuple[int, int]:
        r, c = divmod(core, self.read.cols)
        return r, c

    def how_often(self, ends: Sequence[End]) -> dict[End, int]:
        """Roots whose chains of waiting come to each end."""
        back: dict[Node, list[Node]] = {}
        for edge in self.waits.edges:
            back.setdefault(edge.what, []).append(edge.who)
        roots = set(self.waits.roots)
        counts = {}
        for end in ends:
            seen, front = {end.node}, [end.node]
            while front:
                for node in back.get(front.pop(), ()):
                    if node not in seen:
                        seen.add(node)
                        front.append(node)
            counts[end] = len(seen & roots)
        return counts

    def main_end(self, ends: Sequence[End]) -> End:
        """The end that most of what should have gone on comes to; of equals the first core."""
        counts = self.how_often(ends)
        return min(ends, key=lambda end: (-counts[end], end))


def name_of(node: Node) -> str:
    """A node in words."""
    place = f"({node.r}, {node.c})"
    if node.kind == "core":
        return f"core {place}"
    if node.kind == "stream":
        return f"MemoryX's stream into {place} from {PORT_NAMES[node.port]} in colour {node.colour}"
    if node.kind == "list":
        return f"MemoryX's list of {place} {PORT_NAMES[node.port]} in colour {node.colour}"
    side = {FROM_CORE: "from its core", TO_CORE: "to its core"}.get(node.port) or f"from {PORT_NAMES[node.port]}"
    return f"queue at {place} {side} in colour {node.colour}"


def _livelock(case: _Case) -> Found | None:
    runaway = np.flatnonzero(case.state.status == kernel.RUNAWAY).tolist()
    if not runaway and not case.waits.moving:
        return None
    if runaway:
        core = runaway[0]
        node = Node("core", *case.place(core))
        reason = f"{name_of(node)} has done {int(case.state.elements[core])} elements and {ENDLESS}"
        return "LIVELOCK", node, reason, _more("core runs away", runaway[1:], case), ()
    loop = _loop(case)
    if loop:
        node = loop[0]
        around = " to ".join(f"({n.r}, {n.c})" for n in [*loop, loop[0]])
        reason = f"words of colour {node.colour} go round without end, from {around}"
        return "LIVELOCK", node, reason, tuple(_route_notes(case, loop)), ()
    node = case.waits.moving[0]
    return "LIVELOCK", node, f"{name_of(node)} still moves after more words than the launch has", (), ()


ENDLESS: Final = "comes to no end: its tasks do not hold so many"


def _more(what: str, cores: Sequence[int], case: _Case) -> tuple[str, ...]:
    return tuple(f"{what}: {case.place(core)}" for core in cores)


def _loop(case: _Case) -> list[Node]:
    """Queues of a loop of routes that holds words, smallest first."""
    read, state = case.read, case.state
    moving = {(read.core(n), n.port, n.colour) for n in case.waits.moving if n.kind == "queue"}
    best: list[Node] = []
    for start in sorted(moving):
        trail: list[tuple[int, int, int]] = []
        seen: dict[tuple[int, int, int], int] = {}
        at: tuple[int, int, int] | None = start
        while at is not None and at not in seen:
            seen[at] = len(trail)
            trail.append(at)
            at = next(iter(_onward(read, state, at)), None)
        if at is not None:
            ring = [read.queue(*item) for item in trail[seen[at] :]]
            first = ring.index(min(ring))
            ring = ring[first:] + ring[:first]
            best = min(best, ring) if best else ring
    return best


def _onward(read: Reading, state: kernel.State, at: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """Queues beyond links that take what a queue's router sends now, and would send it on."""
    core, port, colour = at
    position = int(state.position[core, colour])
    if read.takes[core, colour, position] != port:
        return
    for out in np.flatnonzero(read.gives[core, colour, position, :4]).tolist():
        other = int(read.neighbour[core, out])
        if other >= 0 and read.takes[other, colour, int(state.position[other, colour])] == OPPOSITE[out]:
            yield other, OPPOSITE[out], colour


def _route_notes(case: _Case, nodes: Sequence[Node]) -> Iterator[str]:
    """Routers among those of `nodes` whose route words are not those of the image."""
    places = {(case.read.core(node), node.colour) for node in nodes if node.kind in ("queue", "list")}
    for core, colour in sorted(places):
        if case.changed[core, colour]:
            yield f"the router of {case.place(core)} has other route words in colour {colour} than its image"


def _misroute(case: _Case) -> Found | None:
    state = case.state
    gives = np.logical_or.reduce(case.image_gives, axis=2)
    found: list[tuple[Node, str]] = []
    for core, colour, port in np.argwhere((state.sent > 0) & ~gives).tolist():
        count = int(state.sent[core, colour, port])
        r, c = case.place(core)
        node = Node("queue", r, c, TO_CORE, colour) if port == RAMP else Node("core", r, c)
        where = "to its core" if port == RAMP else f"through {PORT_NAMES[port]}"
        found.append((node, f"the router of ({r}, {c}) sent {count} words of colour {colour} {where}"))
    idle = np.logical_not(case.image_gives.any(axis=3))
    sinks = np.logical_and(case.image_takes >= 0, idle).any(axis=2)
    for core, colour in np.argwhere((state.sunk > 0) & ~sinks).tolist():
        r, c = case.place(core)
        text = f"the router of ({r}, {c}) consumed {int(state.sunk[core, colour])} words of colour {colour}"
        found.append((Node("core", r, c), text))
    lie = np.zeros(state.length.shape, np.bool_)
    lie[state.length > 0] = True
    for port in range(5):
        lie[:, :, port] &= ~(case.image_takes == port).any(axis=2)
    lie[:, :, TO_CORE] &= ~gives[:, :, RAMP]
    for core, colour, port in np.argwhere(lie).tolist():
        node = case.read.queue(core, port, colour)
        found.append((node, f"{int(state.length[core, colour, port])} words lie in the {name_of(node)}"))
    if not found:
        return None
    reason = f"{found[0][1]}, where the image has no route"
    return "MISROUTE", found[0][0], reason, tuple(text for _, text in found[1:]), ()


def _lost(case: _Case) -> Found | None:
    state, read = case.state, case.read
    found: list[tuple[Node, str]] = []
    for node in case.touched:
        core = read.core(node)
        if node.kind == "queue" and node.port < 4 and read.neighbour[core, node.port] >= 0:
            other = int(read.neighbour[core, node.port])
            sent = int(state.sent[other, node.colour, OPPOSITE[node.port]])
            received = int(state.received[core, node.colour, node.port])
            if sent != received:
                link = f"the link from {case.place(other)} to ({node.r}, {node.c})"
                found.append((node, f"{link} was sent {sent} words of colour {node.colour} and gave {received}"))
        if node.kind == "list":
            sent = int(state.sent[core, node.colour, node.port])
            got, expected = read.lists[core, node.port, node.colour]
            if sent >= expected > got:
                found.append((node, f"{sent} words left for {name_of(node)}, which got {got} of {expected}"))
    if not found:
        return None
    return "LOST_WAVELET", found[0][0], found[0][1], tuple(text for _, text in found[1:]), ()


def _no_credit(case: _Case) -> Found | None:
    ends = [end for end in case.waits.ends if end.reason == "no credit"]
    if not ends:
        return None
    end = case.main_end(ends)
    return "LOST_CREDIT", end.node, end_text(end), tuple(end_text(other) for other in ends if other != end), ()


def _cyclic(case: _Case) -> Found | None:
    ring = _ring(case)
    if not ring:
        return None
    return "CYCLIC_WAIT", ring[0].who, ring_text(ring), tuple(_route_notes(case, [w.who for w in ring])), tuple(ring)


def _ring(case: _Case) -> list[Wait]:
    """A shortest cycle through the first node that lies on one."""
    for start in _looping(case):
        before: dict[Node, Wait] = {}
        front = [start]
        while front and start not in before:
            following: list[Node] = []
            for node in front:
                for wait in case.out.get(node, ()):
                    if wait.what not in before:
                        before[wait.what] = wait
                        following.append(wait.what)
            front = following
        if start in before:
            ring = [before[start]]
            while ring[-1].who != start:
                ring.append(before[ring[-1].who])
            return ring[::-1]
    return []


def _looping(case: _Case) -> list[Node]:
    """Nodes that lie on a cycle or behind one, cores first: what is left when ends are taken off again and again."""
    degree = {node: len(case.out.get(node, ())) for node in case.touched}
    back: dict[Node, list[Node]] = {}
    for edge in case.waits.edges:
        back.setdefault(edge.what, []).append(edge.who)
    front = [node for node, count in degree.items() if not count]
    while front:
        for node in back.get(front.pop(), ()):
            degree[node] -= 1
            if not degree[node]:
                front.append(node)
    return sorted(node for node, count in degree.items() if count)


def ring_text(ring: Sequence[Wait]) -> str:
    """A cycle core by core and colour by colour; queue by queue where it has no core."""
    cores = [at for at, wait in enumerate(ring) if wait.who.kind == "core"]
    if not cores:
        return ", which waits for the ".join(name_of(node) for node in [wait.who for wait in [*ring, ring[0]]])
    parts = []
    for place, at in enumerate(cores):
        wait = ring[at]
        following = ring[cores[(place + 1) % len(cores)]].who
        text = f"waits for {'room in' if wait.needs == 'room' else 'a word of'} colour {wait.what.colour}"
        parts.append(f"{text} {'towards' if wait.needs == 'room' else 'from'} {name_of(following)}")
    return f"{name_of(ring[cores[0]].who)} " + ", which ".join(parts)


def _dead(case: _Case) -> Found | None:
    for_room = {edge.what for edge in case.waits.edges if edge.needs == "room"}
    ends = []
    for end in case.waits.ends:
        stopped = end.reason in ("ended", "never started")
        started = end.node.kind == "core" and case.low.roles[case.low.role_of[end.node.r, end.node.c]].header[0] >> 31
        if (
            (end.reason == "halted")
            or (end.reason == "never started" and started)
            or (stopped and end.node in for_room)
            or (end.reason in ("no route", "no source") and _length(case, end.node) > 0)
        ):
            ends.append(end)
    if not ends:
        return None
    end = case.main_end(ends)
    reason = end_text(end)
    if end.node.kind == "core":
        core = case.read.core(end.node)
        held = [int(colour) for colour in np.flatnonzero(case.state.length[core, :, TO_CORE])]
        if held:
            reason += "; words for it lie in colour " + ", ".join(map(str, held))
    rest = tuple(end_text(other) for other in ends if other != end)
    return "DEAD_CONSUMER", end.node, reason, (*rest, *_route_notes(case, [end.node])), ()


def _length(case: _Case, node: Node) -> int:
    if node.kind != "queue":
        return 0
    return int(case.state.length[case.read.core(node), node.colour, node.port])


def end_text(end: End) -> str:
    """Where a chain ends, in words."""
    from yieldkit.emulator.waitgraph import ENDS

    return f"{name_of(end.node)} {ENDS[end.reason]}"


def _changed_route(case: _Case) -> Found | None:
    """Somebody starves behind a router that routes otherwise than its image."""
    found: list[tuple[int, int, Node]] = []
    for edge in case.waits.edges:
        if edge.needs != "room":
            found += _router_behind(case, edge.who)
    for end in case.waits.ends:
        found += _router_behind(case, end.node)
    if not found:
        return None
    core, _, node = min(found)
    place = case.place(core)
    reason = f"the {name_of(node)} waits for the router of {place}, which has other route words than its image"
    return "MISROUTE", Node("core", *place), reason.replace("the MemoryX", "MemoryX"), (), ()


def _router_behind(case: _Case, node: Node) -> Iterator[tuple[int, int, Node]]:
    """The router that feeds an empty queue or a list, where its routes are not those of the image."""
    core = case.read.core(node)
    if node.kind == "queue" and node.port < 4:
        core = int(case.read.neighbour[core, node.port])
    elif node.kind == "core" or node.kind == "stream" or node.port == FROM_CORE:
        return
    if core >= 0 and case.changed[core, node.colour]:
        yield core, node.colour, node


def _starved(case: _Case) -> Found:
    if not case.waits.ends:
        # No chain at all: every core has ended, but MemoryX was sent more words than the launch has.
        node = min(
            (Node("list", *case.place(core), port, colour) for core, port, colour in case.read.lists),
            default=Node("core", 0, 0),
        )
        return "LIVELOCK", node, "MemoryX was sent more words than it has room for", (), ()
    counts = case.how_often(case.waits.ends)
    end = case.main_end(case.waits.ends)
    rest = tuple(f"{end_text(other)} ({counts[other]} wait)" for other in case.waits.ends if other != end)
    first = next((edge.who for edge in case.waits.edges if edge.what == end.node), None)
    reason = end_text(end) + (f", and {_waiter(case, end)}" if first is not None else "")
    return "STARVATION", end.node, reason, rest, ()


def _waiter(case: _Case, end: End) -> str:
    """The nearest core or list that waits for an end."""
    back: dict[Node, list[Node]] = {}
    for edge in case.waits.edges:
        back.setdefault(edge.what, []).append(edge.who)
    roots = set(case.waits.roots)
    seen, front = {end.node}, [end.node]
    while front:
        following = []
        for node in front:
            for who in back.get(node, ()):
                if who in roots:
                    return f"{name_of(who)} waits for it"
                if who not in seen:
                    seen.add(who)
                    following.append(who)
        front = following
    return "words lack"


def _plain(node: Node) -> dict[str, Any]:
    return {"kind": node.kind, "core": [node.r, node.c], "port": node.port, "colour": node.colour}


def _plain_wait(wait: Wait) -> dict[str, Any]:
    return {"who": _plain(wait.who), "what": _plain(wait.what), "needs": wait.needs}
