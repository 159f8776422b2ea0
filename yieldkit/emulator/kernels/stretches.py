"""Memory of the cycle model: stretches of words that follow each other at an even pace, in queues, and who has work.

Times and paces are whole numbers of 1/65536 cycle.
"""

from typing import NamedTuple

import numpy as np

from yieldkit.emulator.kernels.state import compiled, inlined

ONE = 1 << 16
WHOLE = ~(ONE - 1)

# Stretch record: int64[stretches, STRETCH]. LEAD is how far a sender may run ahead of PACE, in time.
STRETCH = 6
COUNT, FIRST, GAP, PACE, LEAD, NEXT = range(6)
# Slot record: int64[slots, SLOT]
SLOT = 24
CORE, COLOUR, PIECE, MOVED, GRANTED, TIME, PROMISE, SHARED, LINE = range(9)
BESIDE = 9  # slots of the neighbours in this colour, or -1
SPAN = 13  # cycles of the links
SHARE = 17  # share of a link that the last words took, in 1/65536
PROMISED = 18  # the piece that room is promised for
BEGAN = 20  # when the last words of a shared link began to move
USED_LINKS = 21  # and over which
JOINT = 22  # links on which room is promised only as colours take turns
ALLOWED = 19  # pace that the other colours of shared links left for the last words
# Core record: int64[n, CELL]
CELL = 11
TASK, LEFT, BEGUN, C_TIME, C_DONE, C_GRANTED, C_PROMISE, ROLE = range(8)
# Colour that goes first until a cycle in which words moved, that cycle, and who goes first from then on.
TURN, TURNED, NEXT_TURN = 8, 9, 10
# Line record: int64[lines, LINE_RECORD]
LINE_RECORD = 4
L_SLOT, L_PORT, L_LEFT, L_TIME = range(4)
# What a sender remembers of the words it sent: int64[slots + cores + lines, PAST]. When the taker would be through with
# the last one at PAST_PACE; how many; and of the last two even stretches the first word, its time and the gap.
PAST = 9
AHEAD, PAST_PACE, SENT, WORD_0, TIME_0, GAP_0, WORD_1, TIME_1, GAP_1 = range(9)
# Queues of a slot: arrivals and room by port N, E, S, W, from the core, to the core; promises of the router itself.
QUEUES = 13
OWN = 12
TO_CORE, FROM_CORE = 5, 4
# Counters
FREE, USED, LAST, TOP, RAMP, DEPTH, SHORT, NOW, WAITING, LOCAL, DIRTY, CALLS, ALL = range(13)
NEARBY = 64
"""Cores that are visited one after the other for a single movement before all are gone through."""
LEAST = ONE // 8
"""Of a shared link less than this is not worth beginning with."""
PARTS = 32
"""Words that others may join on a link move in parts, so many times fewer than there are."""
MERGED, PART = ONE // 2, 9
"""Stretches that differ from a straight line by less than half a cycle, or 1/512 of the time so far, become one."""


class Flow(NamedTuple):
    """Everything that changes.

    pool int64[stretches, 6]; head, tail int32[queues]; slot, cell, line int64 records; stack int32 and marked bool of
    who has work: slots, then cores, then lines; tally int64[8]; task int64[tasks, 12] and rank int32[roles, 24] with
    first int64[n] as in `Paths`; piece int64[pieces, 6]; bound int64[16] and rate int64[48] scratch.
    """

    pool: np.ndarray
    head: np.ndarray
    tail: np.ndarray
    slot: np.ndarray
    cell: np.ndarray
    line: np.ndarray
    stack: np.ndarray
    waiting: np.ndarray
    called: np.ndarray
    order: np.ndarray
    marked: np.ndarray
    marked_core: np.ndarray
    tally: np.ndarray
    task: np.ndarray
    rank: np.ndarray
    first: np.ndarray
    piece: np.ndarray
    bound: np.ndarray
    past: np.ndarray
    meets: np.ndarray
    key: np.ndarray
    rate: np.ndarray


@compiled
def call(f, number):
    """Have a slot, core or line looked at."""
    if f.marked[number]:
        return
    f.marked[number] = True
    slots, cores = f.slot.shape[0], f.cell.shape[0]
    if number < slots:
        core = f.slot[number, CORE]
    elif number < slots + cores:
        core = np.int64(number - slots)
    else:
        core = f.slot[f.line[number - slots - cores, L_SLOT], CORE]
    if not f.marked_core[core]:
        f.marked_core[core] = True
        f.tally[DIRTY] += 1
        if f.tally[LOCAL]:
            f.stack[f.tally[TOP]] = core
            f.tally[TOP] += 1


@compiled
def backlog(f, number, own, pace, lead):
    """When the taker will be through with all that was sent, at `pace`."""
    past = f.past
    ahead = past[number, AHEAD]
    if pace > own and past[number, PAST_PACE] != pace:
        sent = past[number, SENT]
        since = max(np.int64(0), sent + lead // -pace)
        for k in range(2):
            first = past[number, WORD_0 + 3 * k]
            word = max(first, since)
            end = past[number, WORD_1] if k == 0 else sent
            if word < end:
                time = past[number, TIME_0 + 3 * k] + (word - first) * past[number, GAP_0 + 3 * k]
                ahead = max(ahead, time + (sent - word) * pace)
    return ahead


@compiled
def remember(f, number, words, first, gap, pace, ahead):
    """Note what was sent."""
    past = f.past
    past[number, AHEAD], past[number, PAST_PACE] = ahead, pace
    sent = past[number, SENT]
    even_on = past[number, TIME_1] + (sent - past[number, WORD_1]) * past[number, GAP_1]
    if sent == past[number, WORD_1] or abs(even_on - first) > ONE or abs(past[number, GAP_1] - gap) > ONE // 8:
        for k in range(3):
            past[number, WORD_0 + k] = past[number, WORD_1 + k]
        past[number, WORD_1], past[number, TIME_1], past[number, GAP_1] = sent, first, gap
    past[number, SENT] = sent + words


@inlined
def forget(f, number):
    """What comes next goes to another taker."""
    for k in range(PAST):
        f.past[number, k] = 0


@compiled
def push(f, queue, count, first, gap, pace, lead):
    """Append a stretch to a queue, or lengthen the last one when it goes on evenly."""
    pool = f.pool
    tail = np.int64(f.tail[queue])
    if tail and pool[tail, PACE] == pace:
        have = pool[tail, COUNT]
        begin = pool[tail, FIRST]
        # Rounded up, so that the last word is not before its cycle.
        through = -((begin - first - (count - 1) * gap) // (have + count - 1))
        most = max(np.int64(MERGED), first >> PART)
        if abs(begin + have * through - first) <= most and abs((have - 1) * (through - pool[tail, GAP])) <= most:
            pool[tail, COUNT] = have + count
            pool[tail, GAP] = through
            pool[tail, LEAD] = min(pool[tail, LEAD], lead)
            return
    number = f.tally[FREE]
    if number:
        f.tally[FREE] = pool[number, NEXT]
    else:
        number = f.tally[USED]
        if number >= pool.shape[0]:
            f.tally[SHORT] = 1
            return
        f.tally[USED] += 1
    pool[number, COUNT] = count
    pool[number, FIRST] = first
    pool[number, GAP] = gap
    pool[number, PACE] = pace
    pool[number, LEAD] = lead
    pool[number, NEXT] = 0
    if tail:
        pool[tail, NEXT] = number
    else:
        f.head[queue] = number
    f.tail[queue] = number


@compiled
def drop(f, queue, count):
    """Take words off the first stretch of a queue."""
    pool = f.pool
    head = np.int64(f.head[queue])
    pool[head, COUNT] -= count
    pool[head, FIRST] += count * pool[head, GAP]
    if pool[head, COUNT] == 0:
        f.head[queue] = pool[head, NEXT]
        if pool[head, NEXT] == 0:
            f.tail[queue] = 0
        pool[head, NEXT] = f.tally[FREE]
        f.tally[FREE] = head


@compiled
def even(f, bounds, time, own, count, ahead, pace, lead):
    """Longest stretch of words, of `count` at most, that move at an even pace.

    Args:
        f: the flow.
        bounds: lines in `f.bound` (first, gap) that no word may be before.
        time: when the mover can go on; a part of a cycle that is over is kept.
        own: its own pace.
        count: words there are.
        ahead: when the taker behind it would be through with its last word, at `pace`.
        pace: of that taker.
        lead: how far words may run ahead of it.

    Returns:
        (words, first event, pace of the events, time of the mover's last word, new `ahead`).
    """
    bound = f.bound
    begin = time & WHOLE
    held = pace > own
    for k in range(bounds):
        begin = max(begin, bound[2 * k] & WHOLE)
    if held:
        begin = max(begin, (ahead - lead) & WHOLE)
    at = begin | (time & (ONE - 1))
    step = own
    for k in range(bounds):
        if bound[2 * k] & WHOLE >= begin:
            step = max(step, bound[2 * k + 1])
    fresh = max(ahead, at)
    if held and (fresh - lead) & WHOLE >= begin:
        step = max(step, pace)
    n = count
    for k in range(bounds):
        if bound[2 * k + 1] > step:
            n = min(n, max(at - bound[2 * k], np.int64(0)) // (bound[2 * k + 1] - step) + 1)
    if held and pace > step:
        n = min(n, max(at - fresh + lead, np.int64(0)) // (pace - step) + 1)
    last = at + (n - 1) * step
    if step != own:
        last = (begin + (n - 1) * step) & WHOLE | (time & (ONE - 1))
    gap = step
    if n > 1:
        # Rounded up, so that the last word is not before its cycle.
        gap = -((begin - (last & WHOLE)) // (n - 1))
    behind = np.int64(0)
    if pace > 0:
        behind = max(fresh + (n - 1) * pace, last) + pace
    return n, begin, gap, last, behind


@inlined
def _pace(f, stretch, latency):
    """(Pace, lead) of the room in a stretch for a sender whose words take `latency` cycles to the queue."""
    depth = f.tally[DEPTH]
    loop = ((latency + 1) * ONE) // depth
    pace, lead = f.pool[stretch, PACE], f.pool[stretch, LEAD]
    if loop > pace and loop > ONE:
        return loop, (loop - ONE) * (depth - 1)
    return pace, lead


@inlined
def _free(f, pace, lead, latency):
    """How far a sender may run ahead when a queue lies between it and a taker of this pace and lead."""
    return lead + max(np.int64(0), f.tally[DEPTH] * pace - (latency + 1) * ONE)


@inlined
def _data(words, block, control):
    """Data words among the first `words` of a piece."""
    if control:
        return words - words // (block + 1)
    return words


@inlined
def _latency(f, slot, port):
    """Cycles of a word to the queue of a port of a slot."""
    if port == FROM_CORE:
        return 1 + f.tally[RAMP]
    if port == TO_CORE:
        return f.tally[RAMP]
    if f.slot[slot, BESIDE + port] < 0:
        return np.int64(1)
    return f.slot[f.slot[slot, BESIDE + port], SPAN + ((port + 2) & 3)]
