"""The untimed reference machine: cores, queues and routers, word by word, from configuration words alone.

Each core sees its own SRAM and the words that arrived; each router sees its own queues and route words. There is no
clock: cores and routers are visited in a given order until nothing moves. One chain of tasks a core with blocking
operands makes a Kahn network, so the state in which nothing moves does not depend on that order.

Faults change words, registers or values at a place and a core-local time, or what a link or a queue does with its n-th
word; where none strikes, nothing looks for any.
"""

from typing import NamedTuple

import numpy as np

from yieldkit.emulator.kernels.core import run_core
from yieldkit.emulator.kernels.link_faults import MARK, copy_due, cross, enter, places_lost
from yieldkit.emulator.kernels.state import (
    ADVANCE,
    BLOCKED,
    DATA,
    DONE,
    FROM_CORE,
    HALTED,
    N_COLOURS,
    N_EVENTS,
    NOTHING,
    READY,
    RESET,
    RUNAWAY,
    RUNNING,
    STARVED,
    T_DESCRIPTOR,
    T_INDEX,
    T_OPERAND,
    T_PRODUCT,
    T_RESULT,
    T_SRAM,
    T_TASK,
    TO_CORE,
    UNUSED,
    Host,
    State,
    Taps,
    Triggers,
    check_number,
    compiled,
    inlined,
    pop,
    push,
)

__all__ = [
    "ADVANCE",
    "BLOCKED",
    "DATA",
    "DONE",
    "FROM_CORE",
    "HALTED",
    "N_EVENTS",
    "NOTHING",
    "READY",
    "RESET",
    "RUNAWAY",
    "RUNNING",
    "STARVED",
    "T_DESCRIPTOR",
    "T_INDEX",
    "T_OPERAND",
    "T_PRODUCT",
    "T_RESULT",
    "T_SRAM",
    "T_TASK",
    "UNUSED",
    "Host",
    "State",
    "Taps",
    "Triggers",
    "Work",
    "new_work",
    "run",
]


@compiled
def _feed(state, host, triggers, line, work):
    """Push words of an edge stream while there is room."""
    core, colour, port = host.in_core[line], host.in_colour[line], host.in_port[line]
    while host.in_next[line] < host.in_end[line] and state.length[core, colour, port] < state.queue.shape[3]:
        at = host.in_next[line]
        word = host.in_word[at]
        if triggers.link.shape[0] > 0:
            word = enter(triggers.link, core, port, colour, word)
        push(state, core, colour, port, word, host.in_kind[at])
        state.received[core, colour, port] += 1
        host.in_next[line] += 1
        _wake_router(work, core * N_COLOURS + colour)


class Work(NamedTuple):
    """Who may be able to go on: rings of cores and of routers (core * 24 + colour), each at most once in its ring.

    mark int8, ring int64 of one more than the marks, ends int64[2] (first, past the last); `stream` int64[n, 4, 24] is
    the edge stream that feeds a port, or -1.
    """

    core_mark: np.ndarray
    core_ring: np.ndarray
    core_ends: np.ndarray
    router_mark: np.ndarray
    router_ring: np.ndarray
    router_ends: np.ndarray
    stream: np.ndarray


def new_work(n: int) -> Work:
    """Empty rings for n cores."""
    return Work(
        np.zeros(n, np.int8),
        np.zeros(n + 1, np.int64),
        np.zeros(2, np.int64),
        np.zeros(n * N_COLOURS, np.int8),
        np.zeros(n * N_COLOURS + 1, np.int64),
        np.zeros(2, np.int64),
        np.full((n, 4, N_COLOURS), -1, np.int64),
    )


@inlined
def _wake(mark, ring, ends, number):
    if mark[number] == 0:
        mark[number] = 1
        ring[ends[1]] = number
        ends[1] = (ends[1] + 1) % ring.shape[0]


@inlined
def _wake_core(work, core):
    _wake(work.core_mark, work.core_ring, work.core_ends, core)


@inlined
def _wake_router(work, number):
    _wake(work.router_mark, work.router_ring, work.router_ends, number)


@inlined
def _next(mark, ring, ends):
    number = ring[ends[0]]
    ends[0] = (ends[0] + 1) % ring.shape[0]
    mark[number] = 0
    return number


@compiled
def _has_room(state, triggers, neighbour, core, colour, out):
    """Whether the queue behind a link can take the next word."""
    other = neighbour[core, out]
    if other < 0:
        return True
    depth = np.int64(state.queue.shape[3])
    if triggers.link.shape[0] > 0:
        depth -= places_lost(triggers.link, core, out, colour, state.sent[core, colour, out])
    return state.length[other, colour, (out + 2) % 4] < depth


@compiled
def _deliver(state, host, triggers, neighbour, work, core, colour, out, word, kind):
    """Let the next word of a link arrive, behind it or over the edge, if it does arrive."""
    other = neighbour[core, out]
    number = state.sent[core, colour, out]
    if triggers.link.shape[0] > 0:
        word, lost, _ = cross(state.events, triggers.link, core, out, colour, number, other, word)
        if lost:
            return
    if other >= 0:
        port = (out + 2) % 4
        check_number(state, other, colour, port, number)
        if triggers.link.shape[0] > 0:
            word = enter(triggers.link, other, port, colour, word)
        push(state, other, colour, port, word, kind)
        state.received[other, colour, port] += 1
        _wake_router(work, other * N_COLOURS + colour)
        return
    line = host.out_of[core, out, colour]
    if line >= 0 and kind == DATA:
        at = host.out_count[line]
        if at < host.out_word.shape[1]:
            host.out_word[line, at] = word
        host.out_count[line] += 1


@compiled
def _send_copies(state, host, triggers, neighbour, work, core, colour, route, word, kind):
    """Send the copies of a word that go over links before it; False as long as one of them lacks room."""
    all_sent = True
    for out in range(4):
        while (route >> np.uint32(3 + out)) & np.uint32(1):
            number = state.sent[core, colour, out]
            row = copy_due(triggers.link, core, out, colour, number)
            if row < 0:
                break
            if not _has_room(state, triggers, neighbour, core, colour, out):
                all_sent = False
                break
            _deliver(state, host, triggers, neighbour, work, core, colour, out, word, kind)
            triggers.link[row, MARK] = number
    return all_sent


@compiled
def _run_router(state, host, triggers, neighbour, work, core, colour):
    """Move words of one colour through one router until its head has to wait; returns how many."""
    depth = state.queue.shape[3]
    moved = 0
    while True:
        route = state.route[core, colour, state.position[core, colour]]
        rx = route & np.uint32(7)
        if rx == 0 or rx > 5:
            return moved
        port = np.int64(rx) - 1
        if state.length[core, colour, port] == 0:
            return moved
        place = state.head[core, colour, port]
        kind = state.kind[core, colour, port, place]
        if triggers.link.shape[0] > 0:
            word = state.queue[core, colour, port, place]
            if not _send_copies(state, host, triggers, neighbour, work, core, colour, route, word, kind):
                return moved
        for out in range(4):
            leaves = (route >> np.uint32(3 + out)) & np.uint32(1)
            if leaves and not _has_room(state, triggers, neighbour, core, colour, out):
                return moved
        if (route >> np.uint32(7)) & np.uint32(1) and kind == DATA and state.length[core, colour, TO_CORE] >= depth:
            return moved
        word = pop(state, core, colour, port)
        if port == FROM_CORE:
            _wake_core(work, core)
        elif neighbour[core, port] >= 0:
            _wake_router(work, neighbour[core, port] * N_COLOURS + colour)
        elif work.stream[core, port, colour] >= 0:
            _feed(state, host, triggers, work.stream[core, port, colour], work)
        if (route >> np.uint32(3)) & np.uint32(31) == 0:
            state.sunk[core, colour] += 1
        for out in range(4):
            if (route >> np.uint32(3 + out)) & np.uint32(1):
                _deliver(state, host, triggers, neighbour, work, core, colour, out, word, kind)
                state.sent[core, colour, out] += 1
        if (route >> np.uint32(7)) & np.uint32(1) and kind == DATA:
            if triggers.link.shape[0] > 0:
                word = enter(triggers.link, core, TO_CORE, colour, word)
            push(state, core, colour, TO_CORE, word, kind)
            state.sent[core, colour, 4] += 1
            _wake_core(work, core)
        if kind == ADVANCE:
            if not (route >> np.uint32(8)) & np.uint32(1) and state.position[core, colour] < 3:
                state.position[core, colour] += 1
        elif kind == RESET:
            state.position[core, colour] = 0
        moved += 1


@compiled
def run(state, host, triggers, taps, neighbour, work, budget, order, burst, most_hops):
    """Run until nothing moves; the order of visits and the burst change nothing in the state that is reached.

    Returns False when words have moved `most_hops` times without an end (a loop of routes).
    """
    for core in order:
        _wake_core(work, core)
        for colour in range(N_COLOURS):
            _wake_router(work, core * N_COLOURS + colour)
    for line in range(host.in_core.shape[0]):
        work.stream[host.in_core[line], host.in_port[line], host.in_colour[line]] = line
        _feed(state, host, triggers, line, work)
    hops = 0
    while True:
        while work.router_ends[0] != work.router_ends[1]:
            number = _next(work.router_mark, work.router_ring, work.router_ends)
            hops += _run_router(state, host, triggers, neighbour, work, number // N_COLOURS, number % N_COLOURS)
            if hops > most_hops:
                return False
        if work.core_ends[0] == work.core_ends[1]:
            return True
        core = _next(work.core_mark, work.core_ring, work.core_ends)
        alive = state.status[core] == READY or state.status[core] == RUNNING
        if alive and run_core(state, triggers, taps, budget, core, burst):
            # It may have taken words from, or given words to, any of its routers; and its burst may be used up.
            for colour in range(N_COLOURS):
                for port in range(5):
                    if state.length[core, colour, port] > 0:
                        _wake_router(work, core * N_COLOURS + colour)
            _wake_core(work, core)
