"""Memory of the wavelet executor while a launch runs: one compact record a live (router, colour) and one a core.

A *slot* is a (core, colour) pair that words may reach; cores that never touch a colour cost nothing for it, and of its
six queues only those that words may reach stand side by side. Slots and cores are packed from `State` when a launch
begins and written back when nothing moves any more.

Time enters through the queues: every word carries the cycle from which it can be taken (ramp and link latencies), and
room that is made in a full queue counts from the next cycle on. So what happens in a cycle follows from its start,
whatever the order in which routers and cores are visited. Who is to act in a cycle stands in bit sets, one for each of
the cycles to come, so that memory is walked in order.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from yieldkit.emulator.kernels.state import N_COLOURS, fused, inlined

# Slot record: int32[slots, SLOT], one line of cache.
SLOT = 16
PORT = 0  # 6 words: head, words there << 8, places gone or taken << 16, place among the queues << 24
CURRENT = 6  # the selected route word and what else decides a move, see below
CORE = 7
BESIDE = 8  # slots of the neighbours N, E, S, W in this colour, or -1
SPAN = 12  # cycles on the links N, E, S, W, one byte each
ROUTES = 13  # 2 words: route words of positions 0 and 1, 2 and 3, 9 bits each
QUEUES_AT = 15  # number of the first of its queues that stand side by side
# Bits of CURRENT above the route word
POSITION_AT, COLOUR_AT = 9, 16
BLOCKED_HERE, STRUCK, LATE = 1 << 11, 1 << 12, 1 << 13
HAVE_ONE, COUNT_ONE = 1 << 8, 1 << 16
ALONE = 7
"""Place of a queue that stands by itself: nothing but a core gone astray fills it."""

# Core record: int32[n, CELL]
CELL = 32
LEFT, RUN, STAGE, FLOW, COST, FRACTION = 0, 1, 2, 3, 4, 5
SLOT_D, SLOT_A, SLOT_B = 6, 7, 8
AT_D, AT_A, AT_B, STEP_D, STEP_A, STEP_B = 9, 10, 11, 12, 13, 14
VALUE_A, VALUE_B, CONTROL, WAITS_WORD, WAITS_ROOM, WAITS_SINCE = 15, 16, 17, 18, 19, 20
ROW_COST, MODE, WAKE = 21, 22, 23
# Bits of FLOW
IN_A, IN_B, OUT_D, HOLD_A, HOLD_B, TWO, TAPPED, FIRST_A, FIRST_B = 1, 2, 4, 8, 16, 32, 64, 128, 256
OPCODE_AT, FORMAT_D_AT, FORMAT_A_AT, FORMAT_B_AT = 16, 24, 26, 28

# Counters: int64[TALLY]
TALLY = 16
NOW, FREED, EDGES, SLOTS, LAST, HOPS, RAMPS, HALF, QUEUES = 0, 1, 2, 4, 5, 6, 7, 8, 9

CORE_ROWS = 256
"""Cycles ahead for which a core can be noted down; one that sleeps longer is noted again."""
FROM_CORE, TO_CORE = 4, 5
MOST_CYCLES = 1 << 30
"""A word's time has 30 bits beside the word and its kind."""


class Net(NamedTuple):
    """Queues, routers, who is to act when, and the clock.

    slot int32[24 n * 16]; queue uint64[(queues + 24 n) * (depth + 1)]: word, kind << 32, cycle << 34, and at the end of
    each queue how many words were ever put into it; slot_of int32[n * 24]; aside int32[24 n * 4]: words that left
    through a port and came into no queue; sunk int32[24 n]; edge_in int32[24 n * 4]: 1 + the stream that feeds a port,
    or 0; slot_due uint64[rows, 24 n / 64] and core_due uint64[256, n / 64]: bits of those who act in a cycle, by the
    cycle's low bits, with how many in slot_count and core_count; group int32[64]; turn uint8[n] colour that goes first;
    freed int64[24 n * 6]: list of slot * 8 + port; cell int32[n * 32]; tally int64[16]; edge_list int32[2, ports] who
    pushes in this and the next cycle; port_first, port_end, port_turn, port_mark int32[ports]: the streams of an edge
    port; line_slot, line_side and line_port int32[streams]: where a stream enters.
    """

    slot: np.ndarray
    queue: np.ndarray
    slot_of: np.ndarray
    aside: np.ndarray
    sunk: np.ndarray
    edge_in: np.ndarray
    slot_due: np.ndarray
    slot_count: np.ndarray
    core_due: np.ndarray
    core_count: np.ndarray
    group: np.ndarray
    turn: np.ndarray
    freed: np.ndarray
    cell: np.ndarray
    tally: np.ndarray
    edge_list: np.ndarray
    port_first: np.ndarray
    port_end: np.ndarray
    port_turn: np.ndarray
    port_mark: np.ndarray
    line_slot: np.ndarray
    line_side: np.ndarray
    line_port: np.ndarray
    depth: int
    ramp: int


class Costs(NamedTuple):
    """Cycle costs in 1/256: element int64[opcodes, 4, 2], start and row int64[opcodes, 4], control."""

    element: np.ndarray
    start: np.ndarray
    row: np.ndarray
    control: int


class Record(NamedTuple):
    """What is recorded over time, in an even number of bins that double their width whenever time runs past the last.

    width int64[1] cycles of a bin; hops int32[bins, n, 5]; busy, starved, blocked int32[bins, n].
    """

    width: np.ndarray
    hops: np.ndarray
    busy: np.ndarray
    starved: np.ndarray
    blocked: np.ndarray


@intrinsic
def lowest_bit(typingctx, x):
    """Number of the lowest set bit of a uint64 that is not 0."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@inlined
def look_at(net, slot, cycle):
    """Have a router look at a slot in a cycle to come."""
    row = cycle & (net.slot_due.shape[0] - 1)
    bit = np.uint64(1) << np.uint64(slot & 63)
    before = net.slot_due[row, slot >> 6]
    if before & bit == 0:
        net.slot_due[row, slot >> 6] = before | bit
        net.slot_count[row] += 1


@inlined
def note_core(net, core, cycle):
    """Note a core down for a cycle less than `CORE_ROWS` ahead."""
    row = cycle & (CORE_ROWS - 1)
    bit = np.uint64(1) << np.uint64(core & 63)
    before = net.core_due[row, core >> 6]
    if before & bit == 0:
        net.core_due[row, core >> 6] = before | bit
        net.core_count[row] += 1


@inlined
def act(net, core, cycle):
    """Have a core act in a cycle to come."""
    net.cell[core * CELL + WAKE] = cycle
    note_core(net, core, min(cycle, net.tally[NOW] + CORE_ROWS - 1))


@inlined
def drive(net, port):
    """Have an edge port push in the next cycle."""
    if net.port_mark[port] == 0:
        net.port_mark[port] = 1
        half = 1 - net.tally[HALF]
        net.edge_list[half, net.tally[EDGES + half]] = port
        net.tally[EDGES + half] += 1


@inlined
def queue_of(net, slot, state):
    """Where the queue begins whose port word is `state`."""
    place = np.int64((state >> 24) & 7)
    number = np.int64(net.slot[slot * SLOT + QUEUES_AT]) + place
    if place == ALONE:
        number = net.tally[QUEUES] + slot
    return number * (net.depth + 1)


@inlined
def words_put(net, slot, port):
    """Words that a router or the edge ever put into a queue."""
    state = np.int64(net.slot[slot * SLOT + port])
    count = np.int64(0)
    if (state >> 24) & 7 != ALONE:
        count = np.int64(net.queue[queue_of(net, slot, state) + net.depth])
    return count


@fused
def put(net, slot, port, word, kind, ready):
    """Append a word to a queue that has room, and see to it that its consumer looks when it can be taken."""
    at = slot * SLOT
    state = np.int64(net.slot[at + port])
    have = (state >> 8) & 255
    place = (state & 255) + have
    if place >= net.depth:
        place -= net.depth
    first = queue_of(net, slot, state)
    net.queue[first + place] = (
        np.uint64(word) | (np.uint64(kind) << np.uint64(32)) | (np.uint64(ready) << np.uint64(34))
    )
    net.queue[first + net.depth] += np.uint64(1)
    net.slot[at + port] = state + (HAVE_ONE + COUNT_ONE)
    if have != 0:
        return
    if port == TO_CORE:
        core = np.int64(net.slot[at + CORE])
        if net.cell[core * CELL + WAITS_WORD] == slot:
            net.cell[core * CELL + WAITS_WORD] = -1
            act(net, core, ready)
    elif (net.slot[at + CURRENT] & 7) == port + 1:
        look_at(net, slot, ready)


@inlined
def has_room(net, slot, port):
    """Whether a queue could take a word at the start of this cycle."""
    return ((net.slot[slot * SLOT + port] >> 16) & 255) < net.depth


@inlined
def take(net, slot, port):
    """Take the first word of a queue that has one.

    Only where the queue is full does anyone wait for room; there it counts from the next cycle on.
    """
    at = slot * SLOT + port
    state = np.int64(net.slot[at])
    head = state & 255
    entry = net.queue[queue_of(net, slot, state) + head]
    following = head + 1
    if following == net.depth:
        following = 0
    state += following - head - HAVE_ONE
    if ((state >> 16) & 255) == net.depth:
        net.freed[net.tally[FREED]] = slot * 8 + port
        net.tally[FREED] += 1
    else:
        state -= COUNT_ONE
    net.slot[at] = state
    return entry


@fused
def slot_at(net, core, colour):
    """Slot of a (core, colour), made when it is the first touch.

    A core gone astray comes here; no route word of its router has anything to do with the colour.
    """
    slot = np.int64(net.slot_of[core * N_COLOURS + colour])
    if slot < 0:
        slot = net.tally[SLOTS]
        net.tally[SLOTS] += 1
        net.slot_of[core * N_COLOURS + colour] = slot
        at = slot * SLOT
        for port in range(6):
            net.slot[at + port] = ALONE << 24
        net.slot[at + CURRENT] = LATE | (colour << COLOUR_AT)
        net.slot[at + CORE] = core
        for side in range(4):
            net.slot[at + BESIDE + side] = -1
    return slot


@fused
def make_fit(record, end):
    """Double the width of the bins until the cycles before `end` lie in them."""
    bins = record.busy.shape[0]
    while end > bins * record.width[0]:
        for k in range(bins // 2):
            for core in range(record.busy.shape[1]):
                record.busy[k, core] = record.busy[2 * k, core] + record.busy[2 * k + 1, core]
                record.starved[k, core] = record.starved[2 * k, core] + record.starved[2 * k + 1, core]
                record.blocked[k, core] = record.blocked[2 * k, core] + record.blocked[2 * k + 1, core]
                for port in range(5):
                    record.hops[k, core, port] = record.hops[2 * k, core, port] + record.hops[2 * k + 1, core, port]
        record.hops[bins // 2 :] = 0
        record.busy[bins // 2 :] = 0
        record.starved[bins // 2 :] = 0
        record.blocked[bins // 2 :] = 0
        record.width[0] *= 2


@fused
def record_hop(record, core, port, now):
    """A word leaves a router."""
    make_fit(record, now + 1)
    record.hops[now // record.width[0], core, port] += 1


@fused
def record_span(record, bins, core, first, end):
    """Add the cycles from `first` to `end` to the bins they lie in."""
    if end <= first:
        return
    make_fit(record, end)
    width = record.width[0]
    while first < end:
        stop = min(end, (first // width + 1) * width)
        bins[first // width, core] += stop - first
        first = stop
