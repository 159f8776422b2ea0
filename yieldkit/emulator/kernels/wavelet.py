"""The wavelet executor's clock: routers, edge streams and cores, cycle by cycle, and only those that have work.

In a cycle every router moves at most one word over each of its outputs, colours taking turns; every edge port takes one
word; every core that is awake acts. Cycles in which nobody is awake are skipped.
"""

import numpy as np

from yieldkit.emulator.kernels.scalar import bits_f32
from yieldkit.emulator.kernels.state import ADVANCE, DATA, N_COLOURS, READY, RESET, RUNNING, STARVED, compiled
from yieldkit.emulator.kernels.wavelet_core import _spread, commit, step_core
from yieldkit.emulator.kernels.wavelet_state import (
    BESIDE,
    BLOCKED_HERE,
    CELL,
    COLOUR,
    CONTROL,
    CORE,
    CORES,
    EDGES,
    FLAGS,
    FREED,
    FROM_CORE,
    HOPS,
    LAST,
    MOST_CYCLES,
    NOW,
    PENDING,
    PORT,
    POSITION,
    RAMPS,
    ROUTE,
    ROUTERS,
    SENT,
    SLOT,
    SLOTS,
    SPAN,
    STAGE,
    STRUCK,
    SUNK,
    TO_CORE,
    VALUE_A,
    VALUE_B,
    WAITS_ROOM,
    WAITS_SINCE,
    WAITS_WORD,
    WHEEL,
    act,
    drive,
    look_at,
    lowest_bit,
    put,
    sleep_until,
    take,
)

QUIET, ENDLESS, TOO_LONG, MORE_SLOTS = 0, 1, 2, 3


@compiled
def _on_link(net, triggers, core, port, colour, sent, word):
    """Word as it leaves on a link, and whether it is lost."""
    lost = False
    for k in range(triggers.link.shape[0]):
        if (
            triggers.link[k, 0] == core
            and triggers.link[k, 1] == port
            and triggers.link[k, 2] == colour
            and triggers.link[k, 3] == sent
        ):
            word ^= np.uint32(triggers.link[k, 5])
            lost = lost or triggers.link[k, 4] == 1
    return word, lost


@compiled
def _route(net, host, triggers, record, core, colours, half):
    """Let a router move what it can of the given colours in this cycle."""
    now = net.tally[NOW]
    depth = net.depth
    used = 0
    turn = np.uint32(net.turn[core])
    # Colours from `turn` on go first, then the lower ones.
    low = colours & ((np.uint32(1) << turn) - np.uint32(1))
    high = colours ^ low
    contended = colours & (colours - np.uint32(1)) != 0
    moved = False
    while True:
        if high != 0:
            colour = lowest_bit(high)
            high &= high - np.uint32(1)
        elif low != 0:
            colour = lowest_bit(low)
            low &= low - np.uint32(1)
        else:
            break
        slot = np.int64(net.slot_of[core * N_COLOURS + colour])
        at = slot * SLOT
        route = net.slot[at + ROUTE + net.slot[at + POSITION]]
        rx = route & 7
        if rx == 0 or rx > 5:
            continue
        port = np.int64(rx) - 1
        queue = net.slot[at + PORT + port]
        if (queue >> 8) & 255 == 0:
            continue
        entry = net.queue[(slot * 6 + port) * depth + (queue & 255)]
        ready = np.int64(entry >> np.uint64(34))
        if ready > now:
            sleep_until(net, net.turn.shape[0] + slot, ready)
            continue
        kind = np.int64(entry >> np.uint64(32)) & 3
        tx = (route >> 3) & 31
        if kind != DATA:
            need = tx & 15
        else:
            need = tx
        if used & need:
            look_at(net, half, core, colour)
            continue
        room = True
        for side in range(4):
            if (need >> side) & 1:
                beside = np.int64(net.slot[at + BESIDE + side])
                if beside >= 0 and (net.slot[beside * SLOT + PORT + ((side + 2) & 3)] >> 16) >= depth:
                    room = False
        if need & 16 and (net.slot[at + PORT + TO_CORE] >> 16) >= depth:
            room = False
        if not room:
            net.slot[at + FLAGS] |= BLOCKED_HERE
            continue
        used |= need
        take(net, slot, port)
        word = np.uint32(entry & np.uint64(0xFFFFFFFF))
        if tx == 0:
            net.slot[at + SUNK] += 1
        if need & 15:
            spans = net.slot[at + SPAN]
            for side in range(4):
                if (need >> side) & 1:
                    carried = word
                    lost = False
                    if triggers is not None:
                        if net.slot[at + FLAGS] & STRUCK:
                            carried, lost = _on_link(
                                net, triggers, core, side, colour, net.slot[at + SENT + side], word
                            )
                    net.slot[at + SENT + side] += 1
                    net.tally[HOPS] += 1
                    if record is not None:
                        record.hops[min(now // record.bin_cycles, record.hops.shape[0] - 1), core, side] += 1
                    span = (spans >> (8 * side)) & 255
                    if now + span > net.tally[LAST]:
                        net.tally[LAST] = now + span
                    if lost:
                        continue
                    beside = np.int64(net.slot[at + BESIDE + side])
                    if beside >= 0:
                        put(net, beside, (side + 2) & 3, carried, kind, now + span, half)
                    else:
                        line = np.int64(net.edge_out[slot * 4 + side])
                        if line >= 0 and kind == DATA:
                            place = host.out_count[line]
                            if place < host.out_word.shape[1]:
                                host.out_word[line, place] = carried
                            host.out_count[line] += 1
        if need & 16:
            net.slot[at + SENT + 4] += 1
            net.tally[RAMPS] += 1
            if record is not None:
                record.hops[min(now // record.bin_cycles, record.hops.shape[0] - 1), core, 4] += 1
            put(net, slot, TO_CORE, word, kind, now + net.ramp, half)
        again = (queue >> 8) & 255 > 1
        if kind == ADVANCE:
            if not (route >> 8) & 1 and net.slot[at + POSITION] < 3:
                net.slot[at + POSITION] += 1
                again = True
        elif kind == RESET:
            if net.slot[at + POSITION] != 0:
                net.slot[at + POSITION] = 0
                again = True
        if again:
            look_at(net, half, core, colour)
        if contended and not moved:
            moved = True
            net.turn[core] = (colour + 1) % N_COLOURS


@compiled
def _feed(net, host, port, half):
    """Let an edge port take one word from MemoryX, its colours taking turns."""
    first, end = net.port_first[port], net.port_end[port]
    count = end - first
    turn = net.port_turn[port]
    more = False
    pushed = False
    for k in range(count):
        line = first + (turn + k) % count
        if host.in_next[line] >= host.in_end[line]:
            continue
        slot = np.int64(net.line_slot[line])
        side = np.int64(net.line_side[line])
        if (net.slot[slot * SLOT + PORT + side] >> 16) >= net.depth:
            continue
        if pushed:
            more = True
            break
        at = host.in_next[line]
        put(net, slot, side, host.in_word[at], np.int64(host.in_kind[at]), net.tally[NOW] + 1, half)
        host.in_next[line] += 1
        net.port_turn[port] = (line - first + 1) % count
        pushed = True
        if host.in_next[line] < host.in_end[line]:
            more = True
    if pushed:
        net.tally[LAST] = max(net.tally[LAST], net.tally[NOW] + 1)
    if more:
        drive(net, half, port)


@compiled
def _release(net, half):
    """Make the room of this cycle's taken words count, and wake who waited for it."""
    for k in range(net.tally[FREED]):
        slot = np.int64(net.freed[k]) >> 3
        port = np.int64(net.freed[k]) & 7
        at = slot * SLOT
        was_full = (net.slot[at + PORT + port] >> 16) >= net.depth
        net.slot[at + PORT + port] -= 1 << 16
        if not was_full:
            continue
        core = np.int64(net.slot[at + CORE])
        if port < 4:
            beside = np.int64(net.slot[at + BESIDE + port])
            if beside >= 0:
                there = beside * SLOT
                if net.slot[there + FLAGS] & BLOCKED_HERE:
                    net.slot[there + FLAGS] &= ~BLOCKED_HERE
                    look_at(net, half, np.int64(net.slot[there + CORE]), net.slot[there + COLOUR])
            elif net.edge_in[slot * 4 + port] >= 0:
                drive(net, half, net.line_port[net.edge_in[slot * 4 + port]])
        elif port == FROM_CORE:
            if net.cell[core * CELL + WAITS_ROOM] == slot:
                net.cell[core * CELL + WAITS_ROOM] = -1
                act(net, half, core)
        elif net.slot[at + FLAGS] & BLOCKED_HERE:
            net.slot[at + FLAGS] &= ~BLOCKED_HERE
            look_at(net, half, core, net.slot[at + COLOUR])
    net.tally[FREED] = 0


@compiled
def _wake(net, half):
    """Put those whose time has come on the lists of this cycle."""
    n = net.turn.shape[0]
    now = net.tally[NOW]
    place = now & (WHEEL - 1)
    number = np.int64(net.wheel[place])
    net.wheel[place] = -1
    while number >= 0:
        following = np.int64(net.wheel_next[number])
        if net.wheel_time[number] == now:
            net.tally[PENDING] -= 1
            if number < n:
                act(net, half, number)
            else:
                at = (number - n) * SLOT
                look_at(net, half, np.int64(net.slot[at + CORE]), net.slot[at + COLOUR])
        else:
            net.wheel_next[number] = net.wheel[place]
            net.wheel[place] = number
        number = following


@compiled
def _next_cycle(net):
    """First cycle after now at which somebody on the wheel wakes."""
    now = net.tally[NOW]
    for k in range(1, WHEEL + 1):
        number = np.int64(net.wheel[(now + k) & (WHEEL - 1)])
        while number >= 0:
            if net.wheel_time[number] == now + k:
                return now + k
            number = np.int64(net.wheel_next[number])
    best = np.int64(MOST_CYCLES)
    for place in range(WHEEL):
        number = np.int64(net.wheel[place])
        while number >= 0:
            best = min(best, net.wheel_time[number])
            number = np.int64(net.wheel_next[number])
    return best


@compiled
def run_cycles(net, costs, state, host, triggers, taps, budget, record, most_hops, most_cycles, half):
    """Run until nothing moves: QUIET, or ENDLESS (words go round for ever), TOO_LONG, MORE_SLOTS (call again with more).

    `half` is which of the two lists is the present cycle's; returns (outcome, half).
    """
    n = net.turn.shape[0]
    ports = net.port_mark.shape[0]
    while True:
        if net.slot.shape[0] // SLOT - net.tally[SLOTS] < n:
            return MORE_SLOTS, half
        other = 1 - half
        if net.tally[PENDING] > 0:
            _wake(net, half)
        for k in range(net.tally[EDGES + half]):
            net.port_mark[net.edge_list[half * ports + k]] = 0
        for k in range(net.tally[EDGES + half]):
            _feed(net, host, np.int64(net.edge_list[half * ports + k]), other)
        net.tally[EDGES + half] = 0
        for k in range(net.tally[ROUTERS + half]):
            core = np.int64(net.router_list[half * n + k])
            colours = net.mask[half * n + core]
            net.mask[half * n + core] = 0
            _route(net, host, triggers, record, core, colours, other)
        net.tally[ROUTERS + half] = 0
        for k in range(net.tally[CORES + half]):
            core = np.int64(net.core_list[half * n + k])
            step_core(net, costs, state, triggers, taps, budget, record, core, other)
        net.tally[CORES + half] = 0
        if net.tally[FREED] > 0:
            _release(net, other)
        half = other
        if net.tally[HOPS] + net.tally[RAMPS] > most_hops:
            return ENDLESS, half
        if net.tally[ROUTERS + half] + net.tally[CORES + half] + net.tally[EDGES + half] > 0:
            net.tally[NOW] += 1
        elif net.tally[PENDING] > 0:
            net.tally[NOW] = _next_cycle(net)
        else:
            return QUIET, half
        if net.tally[NOW] >= most_cycles:
            return TOO_LONG, half


@compiled
def live_colours(route, length, position, live):
    """Mark in `live`, uint32[n], the colours of which a router has a route, a word or a switch that is not at 0."""
    for core in range(route.shape[0]):
        for colour in range(N_COLOURS):
            found = position[core, colour] != 0
            for k in range(4):
                found = found or route[core, colour, k] != 0
            for port in range(6):
                found = found or length[core, colour, port] != 0
            if found:
                live[core] |= np.uint32(1) << np.uint32(colour)


@compiled
def spread_live(route, live, neighbour, extra):
    """Add to `extra` the colours that a neighbour's routes may send to a router."""
    for core in range(route.shape[0]):
        for colour in range(N_COLOURS):
            if (live[core] >> np.uint32(colour)) & np.uint32(1):
                tx = np.uint32(0)
                for k in range(4):
                    tx |= (route[core, colour, k] >> np.uint32(3)) & np.uint32(15)
                for side in range(4):
                    other = neighbour[core, side]
                    if (tx >> np.uint32(side)) & np.uint32(1) and other >= 0:
                        extra[other] |= np.uint32(1) << np.uint32(colour)


@compiled
def pack(net, state, host, live, neighbour, spans, struck, start):
    """Fill the compact records from `State`; every router that holds or may move something looks at cycle `start`."""
    n = net.turn.shape[0]
    depth = net.depth
    slot = 0
    for core in range(n):
        for colour in range(N_COLOURS):
            net.slot_of[core * N_COLOURS + colour] = -1
            if (live[core] >> np.uint32(colour)) & np.uint32(1):
                net.slot_of[core * N_COLOURS + colour] = slot
                slot += 1
    net.tally[SLOTS] = slot
    net.tally[NOW] = start
    net.tally[LAST] = start
    for core in range(n):
        for colour in range(N_COLOURS):
            slot = np.int64(net.slot_of[core * N_COLOURS + colour])
            if slot < 0:
                continue
            at = slot * SLOT
            for port in range(6):
                have = state.length[core, colour, port]
                net.slot[at + PORT + port] = have << 8 | have << 16
                for k in range(have):
                    place = (state.head[core, colour, port] + k) % depth
                    net.queue[(slot * 6 + port) * depth + k] = (
                        np.uint64(state.queue[core, colour, port, place])
                        | (np.uint64(state.kind[core, colour, port, place]) << np.uint64(32))
                        | (np.uint64(start) << np.uint64(34))
                    )
            for k in range(4):
                net.slot[at + ROUTE + k] = np.int32(state.route[core, colour, k] & np.uint32(0x1FF))
            net.slot[at + POSITION] = state.position[core, colour]
            net.slot[at + CORE] = core
            net.slot[at + COLOUR] = colour
            span = np.int64(0)
            for side in range(4):
                other = neighbour[core, side]
                net.slot[at + BESIDE + side] = -1
                if other >= 0:
                    net.slot[at + BESIDE + side] = net.slot_of[other * N_COLOURS + colour]
                net.edge_out[slot * 4 + side] = host.out_of[core, side, colour] if other < 0 else -1
                net.edge_in[slot * 4 + side] = -1
                span |= np.int64(spans[core, side]) << (8 * side)
            net.slot[at + SPAN] = np.int32(span)
            net.slot[at + FLAGS] = STRUCK if struck[core] else 0
            for k in range(6):
                net.slot[at + SENT + k] = 0
            look_at(net, 0, core, colour)
    for core in range(n):
        cell = core * CELL
        for k in range(CELL):
            net.cell[cell + k] = 0
        net.cell[cell + WAITS_WORD] = -1
        net.cell[cell + WAITS_ROOM] = -1
        if state.status[core] == READY:
            act(net, 0, core)
    for line in range(net.line_slot.shape[0]):
        net.line_slot[line] = net.slot_of[host.in_core[line] * N_COLOURS + host.in_colour[line]]
        net.edge_in[net.line_slot[line] * 4 + net.line_side[line]] = line
    for port in range(net.port_mark.shape[0]):
        drive(net, 0, port)


@compiled
def unpack(net, state, record, neighbour):
    """Write the compact records back to `State` and close the waits that are still open in the record."""
    depth = net.depth
    for slot in range(net.tally[SLOTS]):
        at = slot * SLOT
        core, colour = net.slot[at + CORE], net.slot[at + COLOUR]
        for port in range(6):
            queue = net.slot[at + PORT + port]
            head, have = queue & 255, (queue >> 8) & 255
            state.head[core, colour, port] = 0
            state.length[core, colour, port] = have
            for k in range(have):
                entry = net.queue[(slot * 6 + port) * depth + (head + k) % depth]
                state.queue[core, colour, port, k] = np.uint32(entry & np.uint64(0xFFFFFFFF))
                state.kind[core, colour, port, k] = np.uint8((entry >> np.uint64(32)) & np.uint64(3))
        state.position[core, colour] = net.slot[at + POSITION]
        for k in range(5):
            state.sent[core, colour, k] = net.slot[at + SENT + k]
        state.sunk[core, colour] = net.slot[at + SUNK]
        for side in range(4):
            beside = np.int64(net.slot[at + BESIDE + side])
            if beside >= 0:
                state.received[core, colour, side] = net.slot[beside * SLOT + SENT + ((side + 2) & 3)]
    for core in range(net.turn.shape[0]):
        if state.status[core] == READY or state.status[core] == RUNNING or state.status[core] > 3:
            commit(net, state, core)
            cell = core * CELL
            state.stage[core] = net.cell[cell + STAGE]
            state.control[core] = net.cell[cell + CONTROL]
            state.value[core, 0] = bits_f32(np.uint32(net.cell[cell + VALUE_A]))
            state.value[core, 1] = bits_f32(np.uint32(net.cell[cell + VALUE_B]))
        if record is not None and state.status[core] == RUNNING and state.wait[core] != 0:
            since = net.cell[core * CELL + WAITS_SINCE]
            if state.wait[core] == STARVED:
                _spread(record.starved, record.bin_cycles, core, since, net.tally[LAST])
            else:
                _spread(record.blocked, record.bin_cycles, core, since, net.tally[LAST])
