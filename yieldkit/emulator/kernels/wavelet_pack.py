"""From the machine's state to the compact records that the wavelet executor runs on, and back."""

import numpy as np

from yieldkit.emulator.kernels.scalar import bits_f32
from yieldkit.emulator.kernels.state import N_COLOURS, READY, RUNNING, STARVED, compiled
from yieldkit.emulator.kernels.wavelet_core import commit
from yieldkit.emulator.kernels.wavelet_state import (
    ALONE,
    BESIDE,
    CELL,
    COLOUR_AT,
    CONTROL,
    CORE,
    COUNT_ONE,
    CURRENT,
    FROM_CORE,
    HAVE_ONE,
    LAST,
    LATE,
    NOW,
    POSITION_AT,
    QUEUES,
    QUEUES_AT,
    ROUTES,
    SLOT,
    SLOTS,
    SPAN,
    STAGE,
    STRUCK,
    TO_CORE,
    VALUE_A,
    VALUE_B,
    WAITS_ROOM,
    WAITS_SINCE,
    WAITS_WORD,
    act,
    drive,
    look_at,
    make_fit,
    queue_of,
    record_span,
    words_put,
)


@compiled
def reachable(state, host, neighbour, ports):
    """Fill `ports`, uint8[n, 24]: the queues (N, E, S, W, from and to the core: bits 0 to 5) that words may reach."""
    for core in range(state.route.shape[0]):
        for colour in range(N_COLOURS):
            tx = np.uint32(0)
            found = 0
            for position in range(4):
                word = state.route[core, colour, position]
                tx |= (word >> np.uint32(3)) & np.uint32(31)
                if word & np.uint32(7) == 5:
                    found |= 1 << FROM_CORE
            if tx >> np.uint32(4):
                found |= 1 << TO_CORE
            for port in range(6):
                if state.length[core, colour, port] != 0:
                    found |= 1 << port
            ports[core, colour] |= np.uint8(found)
            for side in range(4):
                if (tx >> np.uint32(side)) & np.uint32(1) and neighbour[core, side] >= 0:
                    ports[neighbour[core, side], colour] |= np.uint8(1 << ((side + 2) & 3))
    for line in range(host.in_core.shape[0]):
        ports[host.in_core[line], host.in_colour[line]] |= np.uint8(1 << host.in_port[line])


@compiled
def number_slots(net, ports):
    """Number the slots, those of a core side by side in one word of the bit sets; and their queues."""
    slots = np.int64(0)
    queues = np.int64(0)
    for core in range(ports.shape[0]):
        many = 0
        for colour in range(N_COLOURS):
            if ports[core, colour] != 0:
                many += 1
        if (slots & 63) + many > 64:
            while slots & 63:
                net.slot[slots * SLOT + CORE] = -1
                slots += 1
        for colour in range(N_COLOURS):
            if ports[core, colour] == 0:
                continue
            net.slot_of[core * N_COLOURS + colour] = slots
            at = slots * SLOT
            net.slot[at + CORE] = core
            net.slot[at + CURRENT] = colour << COLOUR_AT
            net.slot[at + QUEUES_AT] = queues
            place = 0
            for port in range(6):
                if (ports[core, colour] >> np.uint8(port)) & np.uint8(1):
                    net.slot[at + port] = place << 24
                    place += 1
                else:
                    net.slot[at + port] = ALONE << 24
            queues += place
            slots += 1
    net.tally[SLOTS] = slots
    net.tally[QUEUES] = queues
    return queues


@compiled
def pack(net, state, host, neighbour, spans, struck, start):
    """Fill the compact records from `State`; whoever may have something to do looks at cycle `start`."""
    depth = net.depth
    net.tally[NOW] = start
    net.tally[LAST] = start
    for slot in range(net.tally[SLOTS]):
        at = slot * SLOT
        core = np.int64(net.slot[at + CORE])
        if core < 0:
            continue
        colour = np.int64(net.slot[at + CURRENT]) >> COLOUR_AT
        for port in range(6):
            have = np.int64(state.length[core, colour, port])
            if have == 0:
                continue
            first = queue_of(net, slot, np.int64(net.slot[at + port]))
            net.slot[at + port] += have * (HAVE_ONE + COUNT_ONE)
            for k in range(have):
                place = (state.head[core, colour, port] + k) % depth
                net.queue[first + k] = (
                    np.uint64(state.queue[core, colour, port, place])
                    | (np.uint64(state.kind[core, colour, port, place]) << np.uint64(32))
                    | (np.uint64(start) << np.uint64(34))
                )
        position = np.int64(state.position[core, colour])
        for k in range(4):
            route = np.int64(state.route[core, colour, k] & np.uint32(0x1FF))
            net.slot[at + ROUTES + (k >> 1)] |= route << (9 * (k & 1))
            if k == position:
                net.slot[at + CURRENT] |= route | (position << POSITION_AT)
        if struck[core]:
            net.slot[at + CURRENT] |= STRUCK
        span = np.int64(0)
        for side in range(4):
            other = neighbour[core, side]
            net.slot[at + BESIDE + side] = -1
            if other >= 0:
                net.slot[at + BESIDE + side] = net.slot_of[other * N_COLOURS + colour]
            span |= np.int64(spans[core, side]) << (8 * side)
        net.slot[at + SPAN] = np.int32(span)
        look_at(net, slot, start)
    for core in range(net.turn.shape[0]):
        net.cell[core * CELL + WAITS_WORD] = -1
        net.cell[core * CELL + WAITS_ROOM] = -1
        if state.status[core] == READY:
            act(net, core, start)
    for line in range(net.line_slot.shape[0]):
        net.line_slot[line] = net.slot_of[host.in_core[line] * N_COLOURS + host.in_colour[line]]
        net.edge_in[net.line_slot[line] * 4 + net.line_side[line]] = 1 + line
    for port in range(net.port_mark.shape[0]):
        drive(net, port)


@compiled
def unpack(net, state, record, lossless):
    """Write the compact records back to `State` and close the waits that are still open in the record.

    `lossless`: no word was lost on a link, and none was checked for its number.
    """
    depth = net.depth
    for slot in range(net.tally[SLOTS]):
        at = slot * SLOT
        core = np.int64(net.slot[at + CORE])
        if core < 0:
            continue
        current = np.int64(net.slot[at + CURRENT])
        colour = current >> COLOUR_AT
        for port in range(6):
            queue = np.int64(net.slot[at + port])
            head, have = queue & 255, (queue >> 8) & 255
            if have == 0 and state.length[core, colour, port] == 0:
                continue
            first = queue_of(net, slot, queue)
            state.head[core, colour, port] = 0
            state.length[core, colour, port] = have
            for k in range(have):
                entry = net.queue[first + (head + k) % depth]
                state.queue[core, colour, port, k] = np.uint32(entry & np.uint64(0xFFFFFFFF))
                state.kind[core, colour, port, k] = np.uint8((entry >> np.uint64(32)) & np.uint64(3))
        if current & LATE:
            continue
        position = (current >> POSITION_AT) & 3
        if state.position[core, colour] != position:
            state.position[core, colour] = position
        if net.sunk[slot] != 0:
            state.sunk[core, colour] = net.sunk[slot]
        state.sent[core, colour, 4] = words_put(net, slot, TO_CORE)
        for side in range(4):
            received = words_put(net, slot, side)
            if received != 0:
                state.received[core, colour, side] = received
            beside = np.int64(net.slot[at + BESIDE + side])
            sent = np.int64(net.aside[slot * 4 + side])
            if beside >= 0:
                sent += words_put(net, beside, (side + 2) & 3)
                if lossless and state.numbered.shape[0] > 0:
                    state.numbered[core, colour, side] = received
            if sent != 0:
                state.sent[core, colour, side] = sent
    if record is not None:
        make_fit(record, net.tally[LAST])
    for core in range(net.turn.shape[0]):
        cell = core * CELL
        if state.status[core] == READY or state.status[core] == RUNNING or state.status[core] > 3:
            commit(net, state, core)
            state.stage[core] = net.cell[cell + STAGE]
            state.control[core] = net.cell[cell + CONTROL]
            state.value[core, 0] = bits_f32(np.uint32(net.cell[cell + VALUE_A]))
            state.value[core, 1] = bits_f32(np.uint32(net.cell[cell + VALUE_B]))
        if record is not None and state.status[core] == RUNNING and state.wait[core] != 0:
            since = np.int64(net.cell[cell + WAITS_SINCE])
            if state.wait[core] == STARVED:
                record_span(record, record.starved, core, since, net.tally[LAST])
            else:
                record_span(record, record.blocked, core, since, net.tally[LAST])
