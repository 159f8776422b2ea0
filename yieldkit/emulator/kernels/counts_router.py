"""A router of the count interpreter: how far it comes with the words and the room there are."""

import numpy as np

from yieldkit.emulator.kernels.counts_state import (
    AT_RUN,
    AT_TIME,
    AT_WORD,
    CONTROL_MET,
    FREE,
    FROM_CORE,
    HEAD,
    KIND,
    LASTS,
    MOST,
    MOVED,
    NEXT,
    NTH,
    OWNER,
    PORT,
    PORT_OF,
    PUT,
    SEEN,
    SLOT_OF,
    TAKEN,
    TIMES,
    TO_CORE,
    UNBOUNDED,
    WHAT,
    WORDS,
    append,
    new_queue,
    wake_core,
    wake_slot,
)
from yieldkit.emulator.kernels.link_faults import CREDIT, DROP, DUPLICATE
from yieldkit.emulator.kernels.state import ADVANCE, RESET, compiled, inlined

# Places in the scratch memory
TOOK, RUN_AT, TIME_AT, WORD_AT, GAVE, SENT, LEFT_WAFER = 48, 56, 64, 72, 80, 88, 96


@inlined
def data_words(words, kind, word, count):
    """Data words among the `count` that follow word number `word` of runs of `words` and a control word."""
    if kind == 0:
        return count
    total = word + count
    rest = total % (words + 1)
    return total // (words + 1) * words + min(rest, words) - min(word, words)


@inlined
def words_for(words, kind, word, data):
    """Most words that follow word number `word` and hold no more than `data` data words."""
    if kind == 0:
        return data
    if words == 0:
        return UNBOUNDED
    total = min(word, words) + data
    return total // words * (words + 1) + total % words - word


@inlined
def _met(graph, k, slot, port, number):
    """Whether a row of what strikes links is for word `number` of a link."""
    if graph.drop[k, SLOT_OF] != slot or graph.drop[k, PORT_OF] != port:
        return False
    return graph.drop[k, NTH] == number or (graph.drop[k, LASTS] != 0 and number > graph.drop[k, NTH])


@compiled
def _arrivals(graph, slot, port, number):
    """How often word `number` of a link arrives."""
    times = np.int64(1)
    for k in range(graph.drop.shape[0]):
        if _met(graph, k, slot, port, number):
            if graph.drop[k, WHAT] == DROP:
                return np.int64(0)
            if graph.drop[k, WHAT] == DUPLICATE:
                times += 1
    return times


@compiled
def _came_by(graph, slot, port, control):
    """Count a word that leaves through a struck link, and remember where control words were struck."""
    for k in range(graph.drop.shape[0]):
        if graph.drop[k, SLOT_OF] == slot and graph.drop[k, PORT_OF] == port:
            if control and _met(graph, k, slot, port, graph.drop[k, SEEN]):
                graph.drop[k, CONTROL_MET] = 1
            graph.drop[k, SEEN] += 1


@compiled
def _places_lost(graph, slot, port, number):
    """Places that word `number` does not find any more in the queue behind a link."""
    lost = np.int64(0)
    for k in range(graph.drop.shape[0]):
        here = graph.drop[k, SLOT_OF] == slot and graph.drop[k, PORT_OF] == port
        if here and graph.drop[k, WHAT] == CREDIT and number >= graph.drop[k, NTH]:
            lost += number - graph.drop[k, NTH] + 1 if graph.drop[k, LASTS] != 0 else 1
    return lost


@compiled
def _give(graph, slot, port, words, kind, times):
    """Let runs come to the neighbour; False without room for them."""
    beside = np.int64(graph.beside[slot, port])
    if beside < 0 or (kind == 0 and words == 0) or times == 0:
        return True
    queue = new_queue(graph, beside, (port + 2) & 3)
    if queue < 0:
        return False
    wake_slot(graph, beside)
    if graph.struck[slot] & 1 == 0:
        return append(graph, queue, words, kind, times)
    seen = np.int64(0)
    for k in range(graph.drop.shape[0]):
        if graph.drop[k, SLOT_OF] == slot and graph.drop[k, PORT_OF] == port:
            seen = graph.drop[k, SEEN]
    for _ in range(times):
        for k in range(words + (1 if kind != 0 else 0)):
            again = _arrivals(graph, slot, port, seen)
            _came_by(graph, slot, port, k == words)
            seen += 1
            for _ in range(again):
                if k < words:
                    if not append(graph, queue, np.int64(1), np.int64(0), np.int64(1)):
                        return False
                elif not append(graph, queue, np.int64(0), kind, np.int64(1)):
                    return False
    return True


@compiled
def _send(graph, slot, tx, words, kind, word, count):
    """Send `count` words, from word number `word` of a run on, to all targets; False without room for them."""
    whole = words + (1 if kind != 0 else 0)
    first = np.int64(0)
    if word > 0:
        first = min(count, whole - word)
    data = min(first, max(np.int64(0), words - word))
    ends = first > 0 and kind != 0 and word + first == whole
    times = (count - first) // whole
    rest = (count - first) % whole
    for port in range(4):
        if (tx >> port) & 1:
            # Without a first piece there is nothing to give, and that always works.
            if not _give(graph, slot, port, data, kind if ends else np.int64(0), np.int64(1 if first > 0 else 0)):
                return False
            if not _give(graph, slot, port, words, kind, times):
                return False
            if not _give(graph, slot, port, rest, np.int64(0), np.int64(1)):
                return False
    if tx & 16:
        into = data_words(words, kind, word, count)
        if into > 0:
            graph.into[slot] += into
            wake_core(graph, np.int64(graph.slot_core[slot]))
    return True


@compiled
def router_forward(graph, slot):
    """Let a router send what has come to it; False without room for the runs."""
    while True:
        position = np.int64(graph.position[slot])
        route = np.int64(graph.route[slot, position])
        rx = route & 7
        if rx == 0 or rx > 5:
            return True
        queue = np.int64(graph.queue_of[slot, rx - 1])
        if queue < 0:
            return True
        left = graph.queue[queue, PUT] - graph.queue[queue, TAKEN]
        if left <= 0:
            return True
        run = graph.queue[queue, AT_RUN]
        time, word = graph.queue[queue, AT_TIME], graph.queue[queue, AT_WORD]
        if run < 0:
            run = graph.queue[queue, HEAD]
        words, kind = np.int64(graph.run[run, WORDS]), np.int64(graph.run[run, KIND])
        whole = words + (1 if kind != 0 else 0)
        if word == whole:
            word = np.int64(0)
            time += 1
            if time == graph.run[run, TIMES]:
                time = np.int64(0)
                run = np.int64(graph.run[run, NEXT])
            graph.queue[queue, AT_RUN], graph.queue[queue, AT_TIME], graph.queue[queue, AT_WORD] = run, time, word
            continue
        last = (route >> 8) & 1 == 1
        plain = kind == 0 or (kind == ADVANCE and (last or position == 3)) or (kind == RESET and position == 0)
        count = min(left, ((np.int64(graph.run[run, TIMES]) - time) if plain else 1) * whole - word)
        graph.tally[MOVED] += count
        if not _send(graph, slot, (route >> 3) & 31, words, kind, word, count):
            return False
        graph.queue[queue, TAKEN] += count
        word += count
        if plain:
            time += (word - 1) // whole
            word = (word - 1) % whole + 1
        elif word == whole:
            graph.position[slot] = position + 1 if kind == ADVANCE else 0
        graph.queue[queue, AT_RUN], graph.queue[queue, AT_TIME], graph.queue[queue, AT_WORD] = run, time, word


@compiled
def _room(graph, slot, port, gave):
    """Words that the queue behind a port could still take."""
    beside = np.int64(graph.beside[slot, port])
    if beside < 0:
        return UNBOUNDED
    queue = np.int64(graph.queue_of[beside, (port + 2) & 3])
    taken = np.int64(0) if queue < 0 else graph.queue[queue, TAKEN]
    return taken + graph.depth - gave


@compiled
def _send_copies(graph, slot, tx, data):
    """Let the copies of a router's next word go over the links that double it; False where one lacks room."""
    scratch = graph.scratch
    all_sent = True
    for side in range(4):
        if not (tx >> side) & 1:
            continue
        number = scratch[SENT + side]
        for _ in range(_arrivals(graph, slot, side, number) - 1):
            if _room(graph, slot, side, scratch[GAVE + side]) <= _places_lost(graph, slot, side, number):
                all_sent = False
                break
            scratch[GAVE + side] += 1
            if data and graph.beside[slot, side] < 0:
                scratch[LEFT_WAFER + side] += 1
    return all_sent


@compiled
def walk_router(graph, slot):
    """How far a router comes from its start, with what was sent to it and the room there is: counts in the scratch
    memory.

    Returns the position of its switch.
    """
    scratch = graph.scratch
    for k in range(TOOK, LEFT_WAFER + 8):
        scratch[k] = 0
    for port in range(5):
        scratch[RUN_AT + port] = -1
    position = np.int64(graph.start[slot])
    struck = graph.struck[slot] & 1 != 0
    most = UNBOUNDED
    if graph.struck[slot] & 2 and graph.tally[FREE] == 0:
        for k in range(graph.slot_gate.shape[0]):
            if graph.slot_gate[k, 0] == slot:
                most = graph.slot_gate[k, 1]
    if struck:
        for k in range(graph.drop.shape[0]):
            if graph.drop[k, SLOT_OF] == slot:
                graph.drop[k, SEEN] = 0
    while True:
        route = np.int64(graph.route[slot, position])
        port = (route & 7) - 1
        if port < 0 or port > 4:
            return position
        queue = np.int64(graph.queue_of[slot, port])
        if queue < 0:
            return position
        left = graph.queue[queue, PUT] - scratch[TOOK + port]
        if left <= 0:
            return position
        run, time, word = scratch[RUN_AT + port], scratch[TIME_AT + port], scratch[WORD_AT + port]
        if run < 0:
            run = graph.queue[queue, HEAD]
        words, kind = np.int64(graph.run[run, WORDS]), np.int64(graph.run[run, KIND])
        whole = words + (1 if kind != 0 else 0)
        if word == whole:
            word = np.int64(0)
            time += 1
            if time == graph.run[run, TIMES]:
                time = np.int64(0)
                run = np.int64(graph.run[run, NEXT])
            scratch[RUN_AT + port], scratch[TIME_AT + port], scratch[WORD_AT + port] = run, time, word
            continue
        last = (route >> 8) & 1 == 1
        plain = kind == 0 or (kind == ADVANCE and (last or position == 3)) or (kind == RESET and position == 0)
        count = min(left, ((np.int64(graph.run[run, TIMES]) - time) if plain else 1) * whole - word)
        tx = (route >> 3) & 31
        count = min(count, most)
        if struck:
            count = np.int64(1)
            for k in range(graph.drop.shape[0]):
                here = graph.drop[k, SLOT_OF] == slot and (tx >> graph.drop[k, PORT_OF]) & 1
                if here and graph.drop[k, SEEN] >= graph.drop[k, MOST]:
                    return position
            if count > most or not _send_copies(graph, slot, tx, kind == 0 or word < words):
                return position
        for side in range(4):
            if (tx >> side) & 1:
                room = _room(graph, slot, side, scratch[GAVE + side])
                if struck:
                    room -= _places_lost(graph, slot, side, scratch[SENT + side])
                count = min(count, room)
        if tx & 16:
            room = graph.fetched[slot] + graph.depth - scratch[GAVE + 4]
            count = min(count, words_for(words, kind, word, room))
        if count <= 0:
            return position
        for side in range(4):
            if (tx >> side) & 1:
                lost = False
                if struck:
                    lost = _arrivals(graph, slot, side, scratch[SENT + side]) == 0
                    _came_by(graph, slot, side, kind != 0 and word == words)
                scratch[SENT + side] += count
                if not lost:
                    scratch[GAVE + side] += count
                    if graph.beside[slot, side] < 0:
                        scratch[LEFT_WAFER + side] += data_words(words, kind, word, count)
        if tx & 16:
            scratch[GAVE + 4] += data_words(words, kind, word, count)
            scratch[SENT + 4] = scratch[GAVE + 4]
        if tx == 0:
            scratch[SENT + 5] += count
        scratch[TOOK + port] += count
        most -= count
        word += count
        if plain:
            time += (word - 1) // whole
            word = (word - 1) % whole + 1
        elif word == whole:
            position = position + 1 if kind == ADVANCE else np.int64(0)
        scratch[RUN_AT + port], scratch[TIME_AT + port], scratch[WORD_AT + port] = run, time, word


@compiled
def router_to_bounds(graph, slot):
    """Put a router to where words and room let it come, and wake those whom that concerns."""
    graph.position[slot] = walk_router(graph, slot)
    scratch = graph.scratch
    core = np.int64(graph.slot_core[slot])
    for port in range(5):
        queue = np.int64(graph.queue_of[slot, port])
        if queue >= 0 and scratch[TOOK + port] != graph.queue[queue, TAKEN]:
            graph.queue[queue, TAKEN] = scratch[TOOK + port]
            wake_sender(graph, queue)
        if port < 4:
            beside = np.int64(graph.beside[slot, port])
            if beside >= 0:
                queue = np.int64(graph.queue_of[beside, (port + 2) & 3])
                if queue >= 0 and scratch[GAVE + port] != graph.queue[queue, PUT]:
                    graph.queue[queue, PUT] = scratch[GAVE + port]
                    wake_slot(graph, beside)
    if scratch[GAVE + 4] != graph.into[slot]:
        graph.into[slot] = scratch[GAVE + 4]
        wake_core(graph, core)


@compiled
def wake_sender(graph, queue):
    """Have whoever fills a queue looked at; MemoryX fills what room there is at once."""
    slot, port = graph.queue[queue, OWNER], graph.queue[queue, PORT]
    if port == FROM_CORE:
        wake_core(graph, np.int64(graph.slot_core[slot]))
    elif graph.beside[slot, port] >= 0:
        wake_slot(graph, np.int64(graph.beside[slot, port]))
    elif graph.feed_of[slot, port] >= 0:
        feed = np.int64(graph.feed_of[slot, port])
        most = min(graph.feed_end[feed], graph.queue[queue, TAKEN] + graph.depth)
        if most != graph.queue[queue, PUT]:
            graph.queue[queue, PUT] = most
            wake_slot(graph, slot)


@compiled
def moves(graph, slot, free):
    """Words that a router has moved; with `free`, that it could with the words and the room there are, whatever its
    gate.
    """
    graph.tally[FREE] = 1 if free else 0
    walk_router(graph, slot)
    graph.tally[FREE] = 0
    total = np.int64(0)
    for port in range(5):
        total += graph.scratch[TOOK + port]
    return total


@compiled
def read_out(graph, sent, sunk, left, length, received):
    """Fill int32 arrays at the end: sent [s, 5], sunk [s], left [s, 4] data words over the border, length [s, 6] and
    received [s, 4].
    """
    for slot in range(graph.slot_core.shape[0]):
        for port in range(5):
            queue = np.int64(graph.queue_of[slot, port])
            if queue >= 0:
                length[slot, port] = graph.queue[queue, PUT] - graph.queue[queue, TAKEN]
                if port < 4:
                    received[slot, port] = graph.queue[queue, PUT]
        length[slot, TO_CORE] = graph.into[slot] - graph.fetched[slot]
        route = np.int64(graph.route[slot, 0])
        later = graph.route[slot, 1] | graph.route[slot, 2] | graph.route[slot, 3]
        if later == 0 and graph.struck[slot] == 0 and graph.start[slot] == 0:
            # One position only: words went one way.
            rx, tx = route & 7, (route >> 3) & 31
            queue = np.int64(graph.queue_of[slot, rx - 1]) if 0 < rx < 6 else np.int64(-1)
            inner = graph.beside[slot, 0] >= 0 or not tx & 1
            inner = inner and (graph.beside[slot, 1] >= 0 or not tx & 2)
            inner = inner and (graph.beside[slot, 2] >= 0 or not tx & 4)
            inner = inner and (graph.beside[slot, 3] >= 0 or not tx & 8)
            if queue < 0:
                continue
            if inner:
                for port in range(4):
                    if (tx >> port) & 1:
                        sent[slot, port] = graph.queue[queue, TAKEN]
                sent[slot, 4] = graph.into[slot]
                if tx == 0:
                    sunk[slot] = graph.queue[queue, TAKEN]
                continue
        walk_router(graph, slot)
        for port in range(5):
            sent[slot, port] = graph.scratch[SENT + port]
        for port in range(4):
            left[slot, port] = graph.scratch[LEFT_WAFER + port]
        sunk[slot] = graph.scratch[SENT + 5]
