"""What strikes links and router queues: words changed, lost, doubled or held up, places lost, and what a link's check
makes of them.

Everything goes by the number of a word on its link or in its queue since the launch began, never by time, so both
machines that move words do the same and their final state depends on no schedule.
"""

import numpy as np

from yieldkit.emulator.kernels.state import E_CRC, E_CRC_FAILED, E_PARITY, compiled

# Row: int64[ROW]. MARK changes while the machine runs: the cycle from which a held-up link is free, the last word whose
# copy has gone over the link (-1: none), or how many words have entered a queue.
ROW = 12
CORE, PORT, COLOUR, NTH, WHAT, KEEP, MASK, LASTS, GUARD, RESENDS, COST, MARK = range(12)
CHANGE, DROP, DUPLICATE, CREDIT, DELAY, QUEUE = range(6)
NO_GUARD, PARITY, CRC = 0, 1, 2


@compiled
def _here(link, k, core, port, colour):
    return link[k, CORE] == core and link[k, PORT] == port and link[k, COLOUR] == colour


@compiled
def _strikes(link, k, number):
    return link[k, NTH] == number or (link[k, LASTS] != 0 and number > link[k, NTH])


@compiled
def _changed(link, k, word):
    return (word & np.uint32(link[k, KEEP])) ^ np.uint32(link[k, MASK])


@compiled
def _odd(word):
    word ^= word >> np.uint32(16)
    word ^= word >> np.uint32(8)
    word ^= word >> np.uint32(4)
    word ^= word >> np.uint32(2)
    word ^= word >> np.uint32(1)
    return word & np.uint32(1) != np.uint32(0)


@compiled
def cross(events, link, core, port, colour, number, other, word):
    """Word `number` as it comes out of a link, whether it is lost, and the cycles that the link is held up.

    Router `other` (-1: none) counts what the link's check sees. A link with CRC sends a changed word again; only what
    lasts strikes it then.
    """
    first = again = word
    lost = False
    cycles = np.int64(0)
    guard = resends = cost = np.int64(0)
    for k in range(link.shape[0]):
        if not _here(link, k, core, port, colour) or not _strikes(link, k, number):
            continue
        what = link[k, WHAT]
        if what == CHANGE:
            first = _changed(link, k, first)
            if link[k, LASTS] != 0:
                again = _changed(link, k, again)
            guard, resends, cost = link[k, GUARD], link[k, RESENDS], link[k, COST]
        elif what == DROP:
            lost = True
        elif what == DELAY:
            cycles += link[k, COST]
    if lost or first == word or other < 0 or guard == NO_GUARD:
        return first, lost, cycles
    if guard == PARITY:
        if _odd(first ^ word):
            events[other, E_PARITY] += 1
        return first, lost, cycles
    if again == word:
        events[other, E_CRC] += 1
        return again, lost, cycles + cost
    events[other, E_CRC_FAILED] += 1
    return again, lost, cycles + resends * cost


@compiled
def copy_due(link, core, port, colour, number):
    """Row of a copy that has to go over the link before word `number`, or -1; a lost word is not doubled."""
    due = -1
    for k in range(link.shape[0]):
        if _here(link, k, core, port, colour) and _strikes(link, k, number):
            if link[k, WHAT] == DROP:
                return -1
            if link[k, WHAT] == DUPLICATE and link[k, MARK] != number and due < 0:
                due = k
    return due


@compiled
def places_lost(link, core, port, colour, number):
    """Places of the queue behind a link that word `number` does not find any more."""
    lost = np.int64(0)
    for k in range(link.shape[0]):
        if link[k, WHAT] == CREDIT and _here(link, k, core, port, colour) and number >= link[k, NTH]:
            lost += number - link[k, NTH] + 1 if link[k, LASTS] != 0 else 1
    return lost


@compiled
def enter(link, core, port, colour, word):
    """A word as it stands in the queue that it enters."""
    for k in range(link.shape[0]):
        if link[k, WHAT] == QUEUE and _here(link, k, core, port, colour):
            if _strikes(link, k, link[k, MARK]):
                word = _changed(link, k, word)
            link[k, MARK] += 1
    return word


@compiled
def hold(link, core, port, colour, cycle):
    """Have a link carry no word of a colour before a cycle."""
    for k in range(link.shape[0]):
        if (link[k, WHAT] == CHANGE or link[k, WHAT] == DELAY) and _here(link, k, core, port, colour):
            link[k, MARK] = cycle


@compiled
def held_until(link, core, ports, colour):
    """Cycle from which all links of a mask of ports carry words of a colour again."""
    cycle = np.int64(0)
    for k in range(link.shape[0]):
        here = link[k, CORE] == core and link[k, COLOUR] == colour and (ports >> link[k, PORT]) & 1
        if here and (link[k, WHAT] == CHANGE or link[k, WHAT] == DELAY):
            cycle = max(cycle, link[k, MARK])
    return cycle
