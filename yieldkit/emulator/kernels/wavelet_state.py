"""Memory of the wavelet executor while a launch runs: one compact record a live (router, colour) and one a core.

A *slot* is a (core, colour) pair that some route, word or operand uses; cores that never touch a colour cost nothing
for it. Slots and cores are packed from `State` when a launch begins and written back when nothing moves any more.

Time enters through the queues: every word carries the cycle from which it can be taken (ramp and link latencies), and
room that is made in a cycle counts from the next one on. So what happens in a cycle follows from its start, whatever
the order in which routers and cores are visited.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from yieldkit.emulator.kernels.state import N_COLOURS, compiled, inlined

# Slot record: int32[slots, SLOT]
SLOT = 32
PORT = 0  # 6 words: head, words visible to the consumer << 8, words that count against the depth << 16
ROUTE = 6  # 4 route words
POSITION = 10
CORE = 11
COLOUR = 12
BESIDE = 13  # slots of the neighbours N, E, S, W in this colour, or -1
SENT = 17  # 5 counters
SUNK = 22
SPAN = 23  # cycles on the links N, E, S, W, one byte each
FLAGS = 24
BLOCKED_HERE, STRUCK = 1, 2

# Core record: int64[n, CELL]
CELL = 40
LEFT, RUN, STAGE, FLOW, COST, FRACTION = 0, 1, 2, 3, 4, 5
SLOT_D, SLOT_A, SLOT_B = 6, 7, 8
AT_D, AT_A, AT_B, STEP_D, STEP_A, STEP_B = 9, 10, 11, 12, 13, 14
VALUE_A, VALUE_B, CONTROL, WAITS_WORD, WAITS_ROOM, WAITS_SINCE = 15, 16, 17, 18, 19, 20
ROW_COST, MODE = 21, 22
# Bits of FLOW
IN_A, IN_B, OUT_D, HOLD_A, HOLD_B, TWO, TAPPED, FIRST_A, FIRST_B = 1, 2, 4, 8, 16, 32, 64, 128, 256
OPCODE_AT, FORMAT_D_AT, FORMAT_A_AT, FORMAT_B_AT = 16, 24, 26, 28

# Counters and list lengths: int64[TALLY]
TALLY = 16
NOW, PENDING, ROUTERS, CORES, FREED, EDGES, SLOTS, LAST, HOPS, RAMPS = 0, 1, 2, 4, 6, 7, 9, 10, 11, 12

WHEEL = 1024
FROM_CORE, TO_CORE = 4, 5
WORD_BITS, KIND_BITS = 32, 2
MOST_CYCLES = 1 << 30
"""A word's time has 30 bits beside the word and its kind."""


class Net(NamedTuple):
    """Queues, routers, lists of who may act, and the clock.

    slot int32[slots * 32]; queue uint64[slots * 6 * depth]: word, kind << 32, cycle << 34; slot_of int32[n * 24];
    edge_out, edge_in int32[slots * 4]: list or stream of an edge port, or -1; mask uint32[2 * n] colours of a router to
    look at in this and the next cycle, router_list, core_list, edge_list int32[2, n or ports] who may act; turn
    uint8[n] colour that goes first; freed int64 list of slot * 8 + port; wheel int32[1024], wheel_next int32[n + slots]
    and wheel_time int64[n + slots]: sleepers, cores first and then slots; cell int64[n * 40]; tally int64[16];
    port_first, port_end, port_turn, port_mark int32[ports]: the streams of an edge port; line_slot, line_side, line_port
    int32[streams]: where a stream enters.
    """

    slot: np.ndarray
    queue: np.ndarray
    slot_of: np.ndarray
    edge_out: np.ndarray
    edge_in: np.ndarray
    mask: np.ndarray
    router_list: np.ndarray
    core_list: np.ndarray
    edge_list: np.ndarray
    turn: np.ndarray
    freed: np.ndarray
    wheel: np.ndarray
    wheel_next: np.ndarray
    wheel_time: np.ndarray
    cell: np.ndarray
    tally: np.ndarray
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
    """What is recorded over time, or arrays of no bins: hops int32[bins, n, 5]; busy, starved, blocked int32[bins, n]."""

    bin_cycles: int
    hops: np.ndarray
    busy: np.ndarray
    starved: np.ndarray
    blocked: np.ndarray


@intrinsic
def lowest_bit(typingctx, x):
    """Number of the lowest set bit of a uint32 that is not 0."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.cttz(args[0], ir.Constant(ir.IntType(1), 1)), ir.IntType(64))

    return types.int64(types.uint32), codegen


@inlined
def sleep_until(net, number, cycle):
    """Wake a core, or slot `n + slot`, at a cycle to come."""
    place = cycle & (WHEEL - 1)
    net.wheel_time[number] = cycle
    net.wheel_next[number] = net.wheel[place]
    net.wheel[place] = number
    net.tally[PENDING] += 1


@inlined
def look_at(net, half, core, colour):
    """Have a router look at a colour in the cycle that `half` stands for."""
    n = net.turn.shape[0]
    before = net.mask[half * n + core]
    if before == np.uint32(0):
        net.router_list[half * n + net.tally[ROUTERS + half]] = core
        net.tally[ROUTERS + half] += 1
    net.mask[half * n + core] = before | (np.uint32(1) << np.uint32(colour))


@inlined
def act(net, half, core):
    """Have a core act in the cycle that `half` stands for."""
    n = net.turn.shape[0]
    net.core_list[half * n + net.tally[CORES + half]] = core
    net.tally[CORES + half] += 1


@inlined
def drive(net, half, port):
    """Have an edge port push in the cycle that `half` stands for."""
    if net.port_mark[port] == 0:
        net.port_mark[port] = 1
        net.edge_list[half * net.port_mark.shape[0] + net.tally[EDGES + half]] = port
        net.tally[EDGES + half] += 1


@compiled
def put(net, slot, port, word, kind, ready, half):
    """Append a word to a queue that has room, and see to it that its consumer looks when it can be taken.

    `half` is the list of the next cycle.
    """
    at = slot * SLOT
    state = net.slot[at + PORT + port]
    head, have = state & 255, (state >> 8) & 255
    place = head + have
    if place >= net.depth:
        place -= net.depth
    net.queue[(slot * 6 + port) * net.depth + place] = (
        np.uint64(word) | (np.uint64(kind) << np.uint64(32)) | (np.uint64(ready) << np.uint64(34))
    )
    net.slot[at + PORT + port] = state + (1 << 8) + (1 << 16)
    if have != 0:
        return
    core = np.int64(net.slot[at + CORE])
    if port == TO_CORE:
        cell = core * CELL
        if net.cell[cell + WAITS_WORD] == slot:
            net.cell[cell + WAITS_WORD] = -1
            if ready == net.tally[NOW] + 1:
                act(net, half, core)
            else:
                sleep_until(net, core, ready)
        return
    route = net.slot[at + ROUTE + net.slot[at + POSITION]]
    if (route & 7) == port + 1:
        if ready == net.tally[NOW] + 1:
            look_at(net, half, core, net.slot[at + COLOUR])
        else:
            sleep_until(net, net.turn.shape[0] + slot, ready)


@inlined
def has_room(net, slot, port):
    """Whether a queue could take a word at the start of this cycle."""
    return (net.slot[slot * SLOT + PORT + port] >> 16) < net.depth


@inlined
def take(net, slot, port):
    """Take the first word of a queue that has one; its room counts from the next cycle on."""
    at = slot * SLOT + PORT + port
    state = net.slot[at]
    head = state & 255
    entry = net.queue[(slot * 6 + port) * net.depth + head]
    following = head + 1
    if following == net.depth:
        following = 0
    net.slot[at] = state - (1 << 8) - head + following
    net.freed[net.tally[FREED]] = slot * 8 + port
    net.tally[FREED] += 1
    return entry


@compiled
def new_slot(net, core, colour):
    """Slot of a (core, colour) that nothing has touched so far; spare ones are kept for this."""
    slot = net.tally[SLOTS]
    net.tally[SLOTS] += 1
    net.slot_of[core * N_COLOURS + colour] = slot
    at = slot * SLOT
    for k in range(SLOT):
        net.slot[at + k] = 0
    net.slot[at + CORE] = core
    net.slot[at + COLOUR] = colour
    for side in range(4):
        net.slot[at + BESIDE + side] = -1
        net.edge_out[slot * 4 + side] = -1
        net.edge_in[slot * 4 + side] = -1
    return np.int64(slot)


@inlined
def slot_at(net, core, colour):
    """Slot of a (core, colour), made when it is the first touch."""
    found = np.int64(net.slot_of[core * N_COLOURS + colour])
    if found < 0:
        found = new_slot(net, core, colour)
    return found
