"""Slots of a rectangle and their neighbours, from the routes of the roles."""

import numpy as np

from yieldkit.emulator.kernels.state import N_COLOURS, compiled


@compiled
def spread(role, routes, live, cols):
    """Mark in `live`, uint32[n], the colours that routes of a core's neighbours may send to it; `routes` by role."""
    n = role.shape[0]
    rows = n // cols
    for core in range(n):
        for colour in range(N_COLOURS):
            tx = np.int64(0)
            for k in range(4):
                tx |= np.int64(routes[role[core], colour, k]) >> 3 & 15
            if tx == 0:
                continue
            r, c = core // cols, core % cols
            bit = np.uint32(1) << np.uint32(colour)
            if tx & 1 and r > 0:
                live[core - cols] |= bit
            if tx & 2 and c < cols - 1:
                live[core + 1] |= bit
            if tx & 4 and r < rows - 1:
                live[core + cols] |= bit
            if tx & 8 and c > 0:
                live[core - 1] |= bit


@compiled
def count_bits(live):
    """Number of marks."""
    total = 0
    for core in range(live.shape[0]):
        word = live[core]
        while word != np.uint32(0):
            word &= word - np.uint32(1)
            total += 1
    return total


@compiled
def fill_slots(role, routes, live, cols, slot_of, slot_core, slot_colour, beside, route):
    """Number the slots, write their routes and find their neighbours; returns the queues that may come up."""
    n = role.shape[0]
    rows = n // cols
    slot = 0
    for core in range(n):
        for colour in range(N_COLOURS):
            slot_of[core * N_COLOURS + colour] = -1
            if (live[core] >> np.uint32(colour)) & np.uint32(1):
                slot_of[core * N_COLOURS + colour] = slot
                slot_core[slot] = core
                slot_colour[slot] = colour
                for k in range(4):
                    route[slot, k] = np.uint16(routes[role[core], colour, k] & np.uint32(0x1FF))
                slot += 1
    queues = 0
    for slot in range(slot_core.shape[0]):
        core, colour = np.int64(slot_core[slot]), np.int64(slot_colour[slot])
        r, c = core // cols, core % cols
        for side in range(4):
            other = np.int64(-1)
            if side == 0 and r > 0:
                other = core - cols
            elif side == 1 and c < cols - 1:
                other = core + 1
            elif side == 2 and r < rows - 1:
                other = core + cols
            elif side == 3 and c > 0:
                other = core - 1
            beside[slot, side] = slot_of[other * N_COLOURS + colour] if other >= 0 else -1
            if beside[slot, side] >= 0:
                for k in range(4):
                    if (np.int64(route[slot, k]) >> (3 + side)) & 1:
                        queues += 1
                        break
    return queues


@compiled
def open_queues(graph, role_runs, gives):
    """Make the queues from cores, each with its role's stream: `role_runs` int64[roles, 24] first run or -1."""
    for core in range(graph.role.shape[0]):
        role = graph.role[core]
        if gives[role] == np.uint32(0):
            continue
        for colour in range(N_COLOURS):
            if (gives[role] >> np.uint32(colour)) & np.uint32(1):
                slot = np.int64(graph.slot_of[core * N_COLOURS + colour])
                number = graph.tally[0]
                graph.tally[0] += 1
                graph.queue_of[slot, 4] = number
                for k in range(graph.queue.shape[1]):
                    graph.queue[number, k] = 0
                graph.queue[number, 2] = role_runs[role, colour]
                graph.queue[number, 3] = -1
                graph.queue[number, 4] = -1
                graph.queue[number, 7] = slot
                graph.queue[number, 8] = 4
