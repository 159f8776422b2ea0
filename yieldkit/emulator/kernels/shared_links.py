"""Links and ramps that several colours of a router share: who moves when, in order of time.

Of many words a colour moves parts at the pace that the others leave it; few words move one by one, those first that
have waited longest.
"""

import numpy as np

from yieldkit.emulator.kernels.state import compiled, inlined
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
    NOW,
    ONE,
    OWN,
    PARTS,
    PIECE,
    QUEUES,
    READY,
    SHARE,
    SHARED,
    SHORT,
    TIME,
    USED_LINKS,
    WAITING,
    WHOLE,
)


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
                # Words move one a cycle; those that have waited longer go first.
                there = np.int64(f.head[slot * QUEUES + f.piece[s[slot, PIECE], P_PORT]])
                waited = (time - max(s[slot, READY], f.pool[there, FIRST])) // ONE
                waited = min(np.int64(31), max(np.int64(0), waited))
                later = (time & WHOLE) + ONE + ONE // 2 - waited * (ONE // 64)
                return np.int64(0), np.int64(0), np.int64(0), later
            if s[other, TIME] > time and s[other, BEGAN] <= time:
                taken += s[other, SHARE]
                free = min(free, s[other, TIME])
                coming = True
                continue
        number = s[other, PIECE]
        if number == 0:
            continue
        coming = True
        if f.piece[number, P_TX] & tx == 0:
            continue
        there = np.int64(f.head[other * QUEUES + f.piece[number, P_PORT]])
        room = np.int64(f.head[other * QUEUES + OWN])
        if there and room and max(f.pool[there, FIRST], f.pool[room, FIRST]) <= time:
            waiting += 1
    if taken > ONE - LEAST:
        return np.int64(0), np.int64(0), np.int64(0), free
    if not coming:
        return ONE, count, ONE, np.int64(0)
    pace = (ONE * ONE * waiting) // (ONE - taken)
    if taken == 0 and count < 2 * PARTS:
        # Few words move one by one, those first that have waited longest.
        return ONE, np.int64(1), pace, np.int64(0)
    return pace, max(np.int64(1), count // PARTS), pace, np.int64(0)
