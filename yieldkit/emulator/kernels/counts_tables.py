"""A core of the count interpreter: how far its tables, or the log of what it would do, let it come."""

import numpy as np

from yieldkit.emulator.kernels.counts_state import (
    CAPPED,
    COLOUR_A,
    COLOUR_B,
    COLOUR_D,
    ELEMENTS,
    FROM_CORE,
    HOLD_A,
    HOLD_B,
    PLANE,
    PUT,
    TAKEN,
    UNBOUNDED,
    wake_slot,
)
from yieldkit.emulator.kernels.state import BLOCKED, N_COLOURS, NOTHING, STARVED, compiled

# Places in the scratch memory: words fetched and sent by colour
IN, OUT = 0, 24


@compiled
def _available(graph, core, colour):
    """Words of a colour that a core may fetch in all."""
    slot = np.int64(graph.slot_of[core * N_COLOURS + colour])
    if slot < 0:
        return np.int64(0)
    words = graph.into[slot]
    if graph.gated[core] != 0:
        for k in range(graph.gate.shape[0]):
            if graph.gate[k, 0] == core and graph.gate[k, 1] == colour:
                words = min(words, graph.gate[k, 2])
    return words


@compiled
def _free(graph, core, colour, bounded):
    """Words of a colour that a core may send in all."""
    slot = np.int64(graph.slot_of[core * N_COLOURS + colour])
    if not bounded:
        return UNBOUNDED
    queue = np.int64(graph.queue_of[slot, FROM_CORE])
    taken = np.int64(0) if queue < 0 else graph.queue[queue, TAKEN]
    return taken + graph.depth


@compiled
def _follow_log(graph, core, bounded):
    """How far a core comes that is stepped through: actions done, counted by colour in the scratch memory."""
    scratch = graph.scratch
    number = np.int64(graph.special[core])
    first = graph.log_first[number]
    end = min(graph.log_first[number + 1], first + graph.cap[number])
    at = first
    while at < end:
        action = np.int64(graph.log[at])
        colour = action & 31
        if action < 32:
            if scratch[IN + colour] >= _available(graph, core, colour):
                break
            scratch[IN + colour] += 1
        else:
            if scratch[OUT + colour] >= _free(graph, core, colour, bounded):
                break
            scratch[OUT + colour] += 1
        at += 1
    graph.place[core, 0] = at - first


@compiled
def _stand(graph, core, task, element, stage, wait, colour):
    place = graph.place
    place[core, 0], place[core, 1], place[core, 2], place[core, 3], place[core, 4] = task, element, stage, wait, colour


@compiled
def _follow_tables(graph, core, bounded):
    """How far a core comes by its tables: where it stands, and words by colour in the scratch memory."""
    scratch, task = graph.scratch, graph.task
    role = np.int64(graph.role[core])
    first, end = np.int64(graph.task_first[role]), np.int64(graph.task_first[role + 1])
    for number in range(first, end):
        elements = task[number, ELEMENTS]
        if elements == 0:
            continue
        a, b, d = task[number, COLOUR_A], task[number, COLOUR_B], task[number, COLOUR_D]
        hold_a, hold_b = task[number, HOLD_A], task[number, HOLD_B]
        plane, capped = task[number, PLANE], task[number, CAPPED]
        most_a = most_b = most_d = elements
        if a >= 0:
            most_a = (_available(graph, core, a) - scratch[IN + a]) * hold_a
        if b >= 0:
            most_b = (_available(graph, core, b) - scratch[IN + b]) * hold_b
        room = np.int64(0)
        if d >= 0:
            # Data words, with a control word after each plane but the last, and one at the end where `capped`.
            room = _free(graph, core, d, bounded) - scratch[OUT + d]
            most_d = room
            if plane > 0:
                most_d = room - room // (plane + 1)
        done = min(elements, most_a, most_b, most_d)
        if done == elements:
            if a >= 0:
                scratch[IN + a] += (elements + hold_a - 1) // hold_a
            if b >= 0:
                scratch[IN + b] += (elements + hold_b - 1) // hold_b
            if d >= 0:
                between = (elements - 1) // plane if plane > 0 else np.int64(0)
                sent = elements + between
                scratch[OUT + d] += sent
                if capped != 0:
                    if room <= sent:
                        _stand(graph, core, number - first, elements, 3, BLOCKED, d)
                        return
                    scratch[OUT + d] += 1
            continue
        # Element number `done` is the one that waits.
        if a >= 0:
            scratch[IN + a] += (done + hold_a - 1) // hold_a
        if b >= 0:
            scratch[IN + b] += (done + hold_b - 1) // hold_b
        if d >= 0:
            between = (done - 1) // plane if plane > 0 and done > 0 else np.int64(0)
            if plane > 0 and done > 0 and done % plane == 0:
                scratch[OUT + d] += done + between
                if room == done + between:
                    _stand(graph, core, number - first, done, 3, BLOCKED, d)
                    return
                scratch[OUT + d] += 1
            else:
                scratch[OUT + d] += done + between
        if a >= 0 and done % hold_a == 0:
            if done == most_a:
                _stand(graph, core, number - first, done, 0, STARVED, a)
                return
            scratch[IN + a] += 1
        if b >= 0 and done % hold_b == 0:
            if done == most_b:
                _stand(graph, core, number - first, done, 1, STARVED, b)
                return
            scratch[IN + b] += 1
        _stand(graph, core, number - first, done, 2, BLOCKED, d)
        return
    _stand(graph, core, end - first, 0, 0, NOTHING, 0)


@compiled
def go_on(graph, core, bounded):
    """Let a core go as far as it can, and wake whom that concerns."""
    scratch = graph.scratch
    for k in range(48):
        scratch[k] = 0
    if graph.special[core] >= 0:
        _follow_log(graph, core, bounded)
    else:
        _follow_tables(graph, core, bounded)
    role = np.int64(graph.role[core])
    either = graph.takes[role] | graph.gives[role]
    for colour in range(N_COLOURS):
        if (either >> np.uint32(colour)) & np.uint32(1) == 0:
            continue
        slot = np.int64(graph.slot_of[core * N_COLOURS + colour])
        if scratch[IN + colour] != graph.fetched[slot]:
            graph.fetched[slot] = scratch[IN + colour]
            if bounded:
                wake_slot(graph, slot)
        queue = np.int64(graph.queue_of[slot, FROM_CORE])
        if queue >= 0 and graph.queue[queue, PUT] != scratch[OUT + colour]:
            graph.queue[queue, PUT] = scratch[OUT + colour]
            wake_slot(graph, slot)
