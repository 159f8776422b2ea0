"""Links and ramps that several colours of a router share: who moves when, in order of time.

Of many words a colour moves parts at the pace that the others leave it; few words move one by one, colours taking turns
as in the machine: the turn goes on to the colour after the one that moved first in a cycle, over whichever link.
"""

import numpy as np

from yieldkit.emulator.kernels.state import N_COLOURS, compiled, inlined
from yieldkit.emulator.kernels.stream_tasks import (
    P_PORT,
    P_TX,
)
from yieldkit.emulator.kernels.stretches import (
    ALL,
    BEGAN,
    CALLS,
    COLOUR,
    CORE,
    FIRST,
    LEAST,
    NEXT_TURN,
    NOW,
    ONE,
    OWN,
    PARTS,
    PIECE,
    QUEUES,
    SHARE,
    SHARED,
    SHORT,
    TIME,
    TURN,
    TURNED,
    USED_LINKS,
    WAITING,
    WHOLE,
)

CYCLES = 24
"""Cycles of a router's turns that are gone through to find what they leave a colour."""


@inlined
def _before(f, one, other):
    """Order on the heap: of equal times the one called first, so that rows do not depend on each other."""
    if f.order[one] != f.order[other]:
        return f.order[one] < f.order[other]
    return f.called[one] < f.called[other]


@compiled
def at_time(f, slot, time):
    """Have a router move words of a shared link at a time, in order of time."""
    if f.key[slot] != 0 and f.key[slot] <= time:
        return
    top = f.tally[WAITING]
    if top >= f.order.shape[0]:
        f.tally[SHORT] = 1
        return
    f.key[slot] = time
    f.tally[WAITING] = top + 1
    f.waiting[top] = slot
    f.tally[CALLS] += 1
    f.called[top] = f.tally[CALLS]
    f.order[top] = time
    # A heap: the earliest at its root.
    while top > 0:
        above = (top - 1) >> 1
        if not _before(f, top, above):
            break
        f.order[above], f.order[top] = f.order[top], f.order[above]
        f.waiting[above], f.waiting[top] = f.waiting[top], f.waiting[above]
        f.called[above], f.called[top] = f.called[top], f.called[above]
        top = above


@compiled
def earliest(f):
    """The router that is to move next on a shared link, or -1; sets the time."""
    while f.tally[WAITING] > 0:
        f.tally[WAITING] -= 1
        top = f.tally[WAITING]
        slot, time = np.int64(f.waiting[0]), f.order[0]
        f.waiting[0], f.order[0], f.called[0] = f.waiting[top], f.order[top], f.called[top]
        at = 0
        while True:
            below = 2 * at + 1
            if below >= top:
                break
            if below + 1 < top and _before(f, below + 1, below):
                below += 1
            if not _before(f, below, at):
                break
            f.order[below], f.order[at] = f.order[at], f.order[below]
            f.waiting[below], f.waiting[at] = f.waiting[at], f.waiting[below]
            f.called[below], f.called[at] = f.called[at], f.called[below]
            at = below
        # Whoever was called again for an earlier time has moved.
        if f.key[slot] == time:
            f.key[slot] = 0
            f.tally[NOW] = time
            return slot
    return np.int64(-1)


@inlined
def _meet(f, slot, other):
    """Whether two colours of a router may take turns: those of one phase, and on small rectangles all."""
    return f.tally[ALL] != 0 or (f.meets[f.slot[slot, COLOUR]] >> f.slot[other, COLOUR]) & 1 != 0


@inlined
def _moving(f, other, time):
    """Whether the words that a colour moved last are under way."""
    return f.slot[other, BEGAN] <= time < f.slot[other, TIME]


@inlined
def _ready(f, other, time):
    """Whether a colour has a word to move and room for it."""
    number = f.slot[other, PIECE]
    if number == 0:
        return False
    there = np.int64(f.head[other * QUEUES + f.piece[number, P_PORT]])
    room = np.int64(f.head[other * QUEUES + OWN])
    return there != 0 and room != 0 and max(f.pool[there, FIRST], f.pool[room, FIRST]) <= time


@inlined
def _place(f, core, slot, time):
    """Place of a colour in the order of its router in a cycle."""
    turn = f.cell[core, TURN]
    if f.cell[core, TURNED] < time & WHOLE:
        turn = f.cell[core, NEXT_TURN]
    return (f.slot[slot, COLOUR] - turn) % N_COLOURS


@compiled
def contended(f, slot):
    """Whether another colour may want the links of a slot's next word."""
    s = f.slot
    core = s[slot, CORE]
    tx = f.piece[s[slot, PIECE], P_TX] & s[slot, SHARED]
    for other in range(f.first[core], f.first[core + 1]):
        if other != slot and s[other, SHARED] & tx and s[other, PIECE] and _meet(f, slot, other):
            return True
    return False


@compiled
def own_turn(f, slot, time):
    """When in a cycle a colour is asked, those before it in turn having moved."""
    return (time & WHOLE) + ONE // 2 + (_place(f, f.slot[slot, CORE], slot, time) + 1) * (ONE // 64)


@compiled
def turn_on(f, slot, time):
    """A colour moves in a cycle: if it is the first to do so of several, the turn goes on to the colour after it."""
    core = f.slot[slot, CORE]
    if f.cell[core, TURNED] >= time & WHOLE:
        return
    first, least, many = slot, _place(f, core, slot, time), False
    for other in range(f.first[core], f.first[core + 1]):
        if other == slot:
            continue
        if f.slot[other, SHARED] == 0 and _moving(f, other, time):
            many = True
            place = _place(f, core, other, time)
            if place < least:
                first, least = other, place
        elif _ready(f, other, (time & WHOLE) + ONE - 1):
            many = True
    if many:
        f.cell[core, TURN] = f.cell[core, NEXT_TURN]
        f.cell[core, TURNED] = time & WHOLE
        f.cell[core, NEXT_TURN] = (f.slot[first, COLOUR] + 1) % N_COLOURS


@compiled
def _fair(f, slot, time):
    """What a router's turns leave a colour of its links, in 1/65536: some cycles of them, with who is there now."""
    s = f.slot
    core = s[slot, CORE]
    begin, end = f.first[core], f.first[core + 1]
    for other in range(begin, end):
        rate = np.int64(0)
        if other == slot:
            rate = ONE
        elif _moving(f, other, time):
            rate = s[other, SHARE]
        elif s[other, SHARED] and _ready(f, other, time):
            rate = ONE
        f.rate[2 * (other - begin)], f.rate[2 * (other - begin) + 1] = rate, rate
    turn, moved = np.int64(0), np.int64(0)
    for cycle in range(2 * CYCLES):
        used, first = np.int64(0), np.int64(-1)
        many = 0
        for k in range(begin, end):
            if f.rate[2 * (k - begin) + 1] >= ONE:
                many += 1
        start = begin
        while start < end and s[start, COLOUR] < turn:
            start += 1
        for k in range(end - begin):
            other = start + k
            if other >= end:
                other -= end - begin
            place = 2 * (other - begin)
            if f.rate[place + 1] < ONE:
                f.rate[place + 1] += f.rate[place]
                continue
            tx = f.piece[s[other, PIECE], P_TX]
            if _moving(f, other, time):
                tx = s[other, USED_LINKS]
            if used & tx:
                continue
            used |= tx
            f.rate[place + 1] += f.rate[place] - ONE
            if first < 0:
                first = other
            if other == slot and cycle >= CYCLES:
                moved += 1
        if first >= 0 and many > 1:
            turn = (s[first, COLOUR] + 1) % N_COLOURS
    return max(np.int64(1), moved) * ONE // CYCLES


@compiled
def _share(f, slot, time, count):
    """What a colour gets of the links and the ramp that it shares: (pace, words, pace to be expected, 0), or zeros and
    when to look again.
    """
    s = f.slot
    core = s[slot, CORE]
    tx = f.piece[s[slot, PIECE], P_TX] & s[slot, SHARED]
    taken, waiting, coming = np.int64(0), 1, False
    free = np.int64(1) << 62
    for other in range(f.first[core], f.first[core + 1]):
        if other == slot or s[other, SHARED] & tx == 0 or not _meet(f, slot, other):
            continue
        if s[other, USED_LINKS] & tx:
            if s[other, BEGAN] & WHOLE == time & WHOLE:
                # Words move one a cycle.
                return np.int64(0), np.int64(0), np.int64(0), (time & WHOLE) + ONE + ONE // 2
            if s[other, TIME] > time and s[other, BEGAN] <= time:
                taken += s[other, SHARE]
                free = min(free, s[other, TIME])
                coming = True
                continue
        number = s[other, PIECE]
        if number == 0:
            continue
        coming = True
        if f.piece[number, P_TX] & tx and _ready(f, other, time):
            waiting += 1
    if taken > ONE - LEAST:
        return np.int64(0), np.int64(0), np.int64(0), free
    if not coming:
        return ONE, count, ONE, np.int64(0)
    pace = (ONE * ONE) // (ONE - taken)
    if waiting > 1:
        pace = max(pace, (ONE * ONE) // _fair(f, slot, time))
    if taken == 0 and count < 2 * PARTS:
        # Few words move one by one.
        return ONE, np.int64(1), pace, np.int64(0)
    return pace, max(np.int64(1), count // PARTS), pace, np.int64(0)
