"""The wavelet executor's clock: routers, edge streams and cores, cycle by cycle, and only those that have work.

In a cycle every router moves at most one word over each of its outputs, colours taking turns; every edge port takes one
word; every core that is awake acts. Cycles in which nobody is awake are skipped.
"""

import numpy as np

from yieldkit.emulator.kernels.link_faults import MARK, copy_due, cross, enter, held_until, hold, places_lost
from yieldkit.emulator.kernels.state import ADVANCE, DATA, N_COLOURS, RESET, check_number, compiled, fused
from yieldkit.emulator.kernels.wavelet_core import step_core
from yieldkit.emulator.kernels.wavelet_state import (
    BESIDE,
    BLOCKED_HERE,
    CELL,
    COLOUR_AT,
    CORE,
    CORE_ROWS,
    COUNT_ONE,
    CURRENT,
    EDGES,
    FREED,
    FROM_CORE,
    HALF,
    HAVE_ONE,
    HOPS,
    LAST,
    NOW,
    POSITION_AT,
    RAMPS,
    ROUTES,
    SLOT,
    SPAN,
    STRUCK,
    TO_CORE,
    WAITS_ROOM,
    WAKE,
    act,
    drive,
    look_at,
    lowest_bit,
    note_core,
    put,
    queue_of,
    record_hop,
    words_put,
)

QUIET, ENDLESS, TOO_LONG = 0, 1, 2


@fused
def _sent(net, slot, side):
    """Words that have gone over a link."""
    sent = np.int64(net.aside[slot * 4 + side])
    beside = np.int64(net.slot[slot * SLOT + BESIDE + side])
    if beside >= 0:
        sent += words_put(net, beside, (side + 2) & 3)
    return sent


@compiled
def lose_places(net, link, slot, side, number):
    """Take the places that word `number` is the first not to find from the queue behind a link.

    They count as taken for good. It is done as the word before leaves, so that no one's turn in a cycle matters.
    """
    beside = np.int64(net.slot[slot * SLOT + BESIDE + side])
    if beside < 0:
        return
    core, colour = np.int64(net.slot[slot * SLOT + CORE]), np.int64(net.slot[slot * SLOT + CURRENT]) >> COLOUR_AT
    at = beside * SLOT + ((side + 2) & 3)
    before = places_lost(link, core, side, colour, number - 1) if number > 0 else np.int64(0)
    for _ in range(places_lost(link, core, side, colour, number) - before):
        # Once as many are gone as there were, more make no difference.
        if ((net.slot[at] >> 16) & 255) < 2 * net.depth:
            net.slot[at] += COUNT_ONE


@fused
def _leave(net, state, host, triggers, slot, side, colour, word, kind, copy):
    """Put a word on a link, or hand it over the edge; a `copy` goes before the word itself and has its number."""
    now = net.tally[NOW]
    at = slot * SLOT
    beside = np.int64(net.slot[at + BESIDE + side])
    other = (side + 2) & 3
    net.tally[HOPS] += 1
    ready = now + ((net.slot[at + SPAN] >> (8 * side)) & 255)
    if ready > net.tally[LAST]:
        net.tally[LAST] = ready
    if triggers is not None:
        sent = _sent(net, slot, side)
        router = np.int64(-1)
        if beside >= 0:
            router = np.int64(net.slot[beside * SLOT + CORE])
        if net.slot[at + CURRENT] & STRUCK:
            core = np.int64(net.slot[at + CORE])
            word, lost, cycles = cross(state.events, triggers.link, core, side, colour, sent, router, word)
            if cycles > 0:
                ready += cycles
                net.tally[LAST] = max(net.tally[LAST], ready)
                hold(triggers.link, core, side, colour, now + 1 + cycles)
            if lost:
                net.aside[slot * 4 + side] += 1
                lose_places(net, triggers.link, slot, side, sent + 1)
                return
        if beside >= 0:
            check_number(state, router, colour, other, sent)
            if net.slot[beside * SLOT + CURRENT] & STRUCK:
                word = enter(triggers.link, router, other, colour, word)
    if beside >= 0:
        put(net, beside, other, word, kind, ready)
        if triggers is not None:
            if copy:
                # It came in behind the link, but only the word itself counts as sent.
                net.aside[slot * 4 + side] -= 1
            elif net.slot[at + CURRENT] & STRUCK:
                lose_places(net, triggers.link, slot, side, sent + 1)
        return
    if not copy:
        net.aside[slot * 4 + side] += 1
    line = np.int64(host.out_of[net.slot[at + CORE], side, colour])
    if line >= 0 and kind == DATA:
        place = host.out_count[line]
        if place < host.out_word.shape[1]:
            host.out_word[line, place] = word
        host.out_count[line] += 1


@compiled
def _struck_links(net, state, host, triggers, record, slot, need, word, kind):
    """What links do before they carry a word: free ones send its copies.

    Returns a mask of the outputs that this takes in this cycle, or -1 where nothing keeps the word itself from going.
    """
    now = net.tally[NOW]
    at = slot * SLOT
    core, colour = np.int64(net.slot[at + CORE]), np.int64(net.slot[at + CURRENT]) >> COLOUR_AT
    free_from = held_until(triggers.link, core, need, colour)
    if free_from > now:
        look_at(net, slot, free_from)
        return np.int64(0)
    used = np.int64(0)
    waits = False
    for side in range(4):
        if not (need >> side) & 1:
            continue
        number = _sent(net, slot, side)
        row = copy_due(triggers.link, core, side, colour, number)
        if row < 0:
            continue
        beside = np.int64(net.slot[at + BESIDE + side])
        if beside >= 0 and ((net.slot[beside * SLOT + ((side + 2) & 3)] >> 16) & 255) >= net.depth:
            waits = True
            continue
        if record is not None:
            record_hop(record, core, side, now)
        _leave(net, state, host, triggers, slot, side, colour, word, kind, True)
        triggers.link[row, MARK] = number
        used |= 1 << side
    if used != 0:
        look_at(net, slot, now + 1)
        return used
    if waits:
        net.slot[at + CURRENT] |= BLOCKED_HERE
        return np.int64(0)
    return np.int64(-1)


@fused
def _move(net, state, host, triggers, record, slot, used):
    """Let a router move the first word of a slot if it can; `used` and the return value are masks of busy outputs."""
    now = net.tally[NOW]
    at = slot * SLOT
    current = np.int64(net.slot[at + CURRENT])
    rx = current & 7
    if rx == 0 or rx > 5:
        return used
    port = rx - 1
    queue = np.int64(net.slot[at + port])
    have = (queue >> 8) & 255
    if have == 0:
        return used
    tx = (current >> 3) & 31
    if used & tx & 15:
        # The word, if it can be taken at all, has to wait for an output.
        look_at(net, slot, now + 1)
        return used
    first = queue_of(net, slot, queue)
    head = queue & 255
    entry = net.queue[first + head]
    ready = np.int64(entry >> np.uint64(34))
    if ready > now:
        look_at(net, slot, ready)
        return used
    kind = np.int64(entry >> np.uint64(32)) & 3
    need = tx
    if kind != DATA:
        need = tx & 15
    if used & need:
        look_at(net, slot, now + 1)
        return used
    if triggers is not None:
        if current & STRUCK:
            taken_by = _struck_links(
                net, state, host, triggers, record, slot, need, np.uint32(entry & np.uint64(0xFFFFFFFF)), kind
            )
            if taken_by >= 0:
                return used | taken_by
    room = True
    if need & 16 and ((net.slot[at + TO_CORE] >> 16) & 255) >= net.depth:
        room = False
    sides = np.uint64(need & 15)
    while sides != 0:
        side = lowest_bit(sides)
        sides &= sides - np.uint64(1)
        beside = np.int64(net.slot[at + BESIDE + side])
        if beside >= 0 and ((net.slot[beside * SLOT + ((side + 2) & 3)] >> 16) & 255) >= net.depth:
            room = False
    if not room:
        net.slot[at + CURRENT] = current | BLOCKED_HERE
        return used
    taken = head + 1
    if taken == net.depth:
        taken = 0
    queue += taken - head - HAVE_ONE
    full = ((queue >> 16) & 255) == net.depth
    if triggers is not None:
        # Lost places count too, and there may be more of them than there were.
        full = ((queue >> 16) & 255) >= net.depth
    if full:
        # Room in a full queue counts from the next cycle on.
        net.freed[net.tally[FREED]] = slot * 8 + port
        net.tally[FREED] += 1
    else:
        queue -= COUNT_ONE
    net.slot[at + port] = queue
    word = np.uint32(entry & np.uint64(0xFFFFFFFF))
    core = np.int64(net.slot[at + CORE])
    colour = current >> COLOUR_AT
    if tx == 0:
        net.sunk[slot] += 1
        net.tally[LAST] = max(net.tally[LAST], now + 1)
    if need & 16:
        net.tally[RAMPS] += 1
        if now + net.ramp > net.tally[LAST]:
            net.tally[LAST] = now + net.ramp
        if record is not None:
            record_hop(record, core, 4, now)
        if triggers is not None:
            entering = word
            if current & STRUCK:
                entering = enter(triggers.link, core, TO_CORE, colour, word)
            put(net, slot, TO_CORE, entering, kind, now + net.ramp)
        else:
            put(net, slot, TO_CORE, word, kind, now + net.ramp)
    sides = np.uint64(need & 15)
    while sides != 0:
        side = lowest_bit(sides)
        sides &= sides - np.uint64(1)
        if record is not None:
            record_hop(record, core, side, now)
        _leave(net, state, host, triggers, slot, side, colour, word, kind, False)
    if kind != DATA:
        position = (current >> POSITION_AT) & 3
        if kind == RESET:
            position = 0
        elif kind == ADVANCE and not (current >> 8) & 1 and position < 3:
            position += 1
        route = (net.slot[at + ROUTES + (position >> 1)] >> (9 * (position & 1))) & 511
        net.slot[at + CURRENT] = (current & ~2047) | route | (position << POSITION_AT)
        look_at(net, slot, now + 1)
    elif have > 1:
        ready = np.int64(net.queue[first + taken] >> np.uint64(34))
        look_at(net, slot, max(ready, now + 1))
    return used | need


@fused
def _routers(net, state, host, triggers, record):
    """Let every router that has work move what it can in this cycle."""
    rows = net.slot_due.shape[0]
    row = net.tally[NOW] & (rows - 1)
    left = net.slot_count[row]
    net.slot_count[row] = 0
    place = 0
    while left > 0:
        bits = net.slot_due[row, place]
        net.slot_due[row, place] = np.uint64(0)
        while bits != 0:
            # Slots of one core stand side by side; they take turns with the outputs.
            slot = place * 64 + lowest_bit(bits)
            core = np.int64(net.slot[slot * SLOT + CORE])
            many = 0
            while True:
                net.group[many] = slot
                many += 1
                bits &= bits - np.uint64(1)
                if bits == 0:
                    break
                slot = place * 64 + lowest_bit(bits)
                if net.slot[slot * SLOT + CORE] != core:
                    break
            left -= many
            start = 0
            if many > 1:
                while start < many:
                    if net.slot[np.int64(net.group[start]) * SLOT + CURRENT] >> COLOUR_AT >= net.turn[core]:
                        break
                    start += 1
            used = np.int64(0)
            for k in range(many):
                number = start + k
                if number >= many:
                    number -= many
                slot = np.int64(net.group[number])
                before = used
                used = _move(net, state, host, triggers, record, slot, used)
                if before == 0 and used != 0 and many > 1:
                    net.turn[core] = ((net.slot[slot * SLOT + CURRENT] >> COLOUR_AT) + 1) % N_COLOURS
        place += 1


@fused
def _feed(net, host, triggers, port):
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
        if ((net.slot[slot * SLOT + side] >> 16) & 255) >= net.depth:
            continue
        if pushed:
            more = True
            break
        at = host.in_next[line]
        word = host.in_word[at]
        if triggers is not None:
            current = np.int64(net.slot[slot * SLOT + CURRENT])
            if current & STRUCK:
                word = enter(triggers.link, np.int64(net.slot[slot * SLOT + CORE]), side, current >> COLOUR_AT, word)
        put(net, slot, side, word, np.int64(host.in_kind[at]), net.tally[NOW] + 1)
        host.in_next[line] += 1
        net.port_turn[port] = (line - first + 1) % count
        pushed = True
        if host.in_next[line] < host.in_end[line]:
            more = True
    if pushed:
        net.tally[LAST] = max(net.tally[LAST], net.tally[NOW] + 1)
    if more:
        drive(net, port)


@fused
def _release(net):
    """Make the room of this cycle's words from full queues count, and wake who waited for it."""
    following = net.tally[NOW] + 1
    for k in range(net.tally[FREED]):
        slot = np.int64(net.freed[k]) >> 3
        port = np.int64(net.freed[k]) & 7
        at = slot * SLOT
        net.slot[at + port] -= COUNT_ONE
        waiting = slot
        if port < 4:
            waiting = np.int64(net.slot[at + BESIDE + port])
            if waiting < 0:
                if net.edge_in[slot * 4 + port] > 0:
                    drive(net, np.int64(net.line_port[net.edge_in[slot * 4 + port] - 1]))
                continue
        elif port == FROM_CORE:
            core = np.int64(net.slot[at + CORE])
            if net.cell[core * CELL + WAITS_ROOM] == slot:
                net.cell[core * CELL + WAITS_ROOM] = -1
                act(net, core, following)
            continue
        if net.slot[waiting * SLOT + CURRENT] & BLOCKED_HERE:
            net.slot[waiting * SLOT + CURRENT] &= ~BLOCKED_HERE
            look_at(net, waiting, following)
    net.tally[FREED] = 0


@fused
def _cores(net, costs, state, triggers, taps, budget, record):
    """Let every core that is awake act."""
    now = net.tally[NOW]
    row = now & (CORE_ROWS - 1)
    left = net.core_count[row]
    net.core_count[row] = 0
    place = 0
    while left > 0:
        bits = net.core_due[row, place]
        net.core_due[row, place] = np.uint64(0)
        while bits != 0:
            core = place * 64 + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            left -= 1
            wake = np.int64(net.cell[core * CELL + WAKE])
            if wake > now:
                note_core(net, core, min(wake, now + CORE_ROWS - 1))
            else:
                step_core(net, costs, state, triggers, taps, budget, record, core)
        place += 1


@compiled
def run_cycles(net, costs, state, host, triggers, taps, budget, record, most_hops, most_cycles):
    """Run until nothing moves: QUIET; or ENDLESS (words go round for ever) or TOO_LONG."""
    rows = net.slot_due.shape[0]
    ports = net.port_mark.shape[0]
    while True:
        now = net.tally[NOW]
        half = net.tally[HALF]
        for k in range(net.tally[EDGES + half]):
            net.port_mark[net.edge_list[half, k]] = 0
        for k in range(net.tally[EDGES + half]):
            _feed(net, host, triggers, np.int64(net.edge_list[half, k]))
        net.tally[EDGES + half] = 0
        if net.slot_count[now & (rows - 1)] > 0:
            _routers(net, state, host, triggers, record)
        if net.core_count[now & (CORE_ROWS - 1)] > 0:
            _cores(net, costs, state, triggers, taps, budget, record)
        if net.tally[FREED] > 0:
            _release(net)
        net.tally[HALF] = 1 - half
        if net.tally[HOPS] + net.tally[RAMPS] > most_hops:
            return ENDLESS
        step = 1
        if ports == 0 or net.tally[EDGES + 1 - half] == 0:
            longest = max(rows, CORE_ROWS)
            while step < longest:
                if step < rows and net.slot_count[(now + step) & (rows - 1)] > 0:
                    break
                if step < CORE_ROWS and net.core_count[(now + step) & (CORE_ROWS - 1)] > 0:
                    break
                step += 1
            if step == longest:
                return QUIET
        net.tally[NOW] = now + step
        if now + step >= most_cycles:
            return TOO_LONG
