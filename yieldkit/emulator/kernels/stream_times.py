"""Cycle model: when the words of every stream move, by stretches of words that follow each other at an even pace.

Two kinds of news travel. *Arrivals* go with the words: so many words, the first one there from a cycle on, one every so
many cycles. *Room* goes against them: a core that begins a task promises to take all its words from a cycle on at the
pace of the task; a router promises as soon as all its targets have. Who knows both for a word knows when it moves, so
every stretch is worked out once. A promise cannot know how late the words will come; it carries the pace and how far
the words may run ahead of it, which bounds who sends them::

    core that sends  ── arrivals ──►  router  ── arrivals ──►  router  ── arrivals ──►  core that takes
                     ◄──── room ────          ◄──── room ────          ◄──── room ────

Times and paces are whole numbers of 1/65536 cycle.
"""

import numpy as np

from yieldkit.emulator.kernels.shared_links import (
    _meet,
    _share,
    at_time,
    contended,
    earliest,
    own_turn,
    turn_on,
)
from yieldkit.emulator.kernels.state import compiled
from yieldkit.emulator.kernels.stream_tasks import (
    IN_COLOUR,
    IN_WORDS,
    OUT_COLOUR,
    OUT_WORDS,
    P_BLOCK,
    P_CONTROL,
    P_NEXT,
    P_PORT,
    P_TX,
    P_WORDS,
    PER_WORD,
    START,
    TAIL,
    TOTAL,
)
from yieldkit.emulator.kernels.stretches import (
    ALL,
    ALLOWED,
    BEGAN,
    BEGUN,
    BESIDE,
    C_DONE,
    C_GRANTED,
    C_PROMISE,
    C_TIME,
    CORE,
    COUNT,
    DEPTH,
    DIRTY,
    FIRST,
    FROM_CORE,
    GAP,
    GRANTED,
    JOINT,
    L_LEFT,
    L_PORT,
    L_SLOT,
    L_TIME,
    LAST,
    LEAD,
    LEFT,
    LINE,
    LOCAL,
    MOVED,
    NEARBY,
    NOW,
    ONE,
    OWN,
    PACE,
    PARTS,
    PIECE,
    PROMISE,
    PROMISED,
    QUEUES,
    RAMP,
    ROLE,
    SHARE,
    SHARED,
    SHORT,
    SPAN,
    TASK,
    TIME,
    TO_CORE,
    TOP,
    USED_LINKS,
    WHOLE,
    _data,
    _free,
    _latency,
    _pace,
    backlog,
    call,
    drop,
    even,
    forget,
    push,
    remember,
)


@compiled
def _promise(f, slot):
    """Promise room for words of a piece as far as all targets have; True when it is promised whole."""
    s = f.slot
    number = s[slot, PROMISED]
    size = f.piece[number, P_WORDS]
    tx = f.piece[number, P_TX]
    port = f.piece[number, P_PORT]
    block, control = f.piece[number, P_BLOCK], f.piece[number, P_CONTROL]
    ramp = f.tally[RAMP]
    pool = f.pool
    any_promise = False
    while s[slot, GRANTED] < size:
        before = s[slot, GRANTED]
        count = size - before
        bounds = 0
        if s[slot, JOINT]:
            # How fast words will get away is not known for long.
            under_way = before - s[slot, MOVED] if s[slot, PIECE] == number else before
            count = min(count, max(np.int64(1), (size - before) // PARTS) - under_way)
            if count <= 0:
                break
        pace, lead = ONE, np.int64(1) << 40
        ready = True
        for side in range(4):
            if (tx >> side) & 1:
                other = s[slot, BESIDE + side]
                if other >= 0:
                    head = np.int64(f.head[other * QUEUES + 6 + ((side + 2) & 3)])
                    if head == 0:
                        ready = False
                        break
                    count = min(count, pool[head, COUNT])
                    f.bound[2 * bounds], f.bound[2 * bounds + 1] = pool[head, FIRST], pool[head, GAP]
                    bounds += 1
                    p, x = _pace(f, head, s[slot, SPAN + side])
                    if p > pace or (p == pace and x < lead):
                        pace, lead = p, x
        if not ready:
            break
        data_before = _data(before, block, control)
        if tx & 16:
            head = np.int64(f.head[slot * QUEUES + 6 + TO_CORE])
            if head == 0:
                # Control words do not enter the core.
                if not (control and before % (block + 1) == block):
                    break
                count = np.int64(1)
            else:
                most = data_before + pool[head, COUNT]
                if control:
                    most += most // block
                if most <= before:
                    most = before + 1
                count = min(count, most - before)
                first, gap = pool[head, FIRST], pool[head, GAP]
                p, x = _pace(f, head, ramp)
                if control:
                    gap = gap * block // (block + 1)
                    p = p * block // (block + 1)
                f.bound[2 * bounds], f.bound[2 * bounds + 1] = first, gap
                bounds += 1
                if p > pace or (p == pace and x < lead):
                    pace, lead = p, x
        n, first, gap, last, _ = even(f, bounds, s[slot, PROMISE], ONE, count, 0, 0, 0)
        s[slot, PROMISE] = last + ONE
        s[slot, GRANTED] = before + n
        for side in range(4):
            if (tx >> side) & 1 and s[slot, BESIDE + side] >= 0:
                drop(f, s[slot, BESIDE + side] * QUEUES + 6 + ((side + 2) & 3), n)
        if tx & 16:
            entering = _data(before + n, block, control) - data_before
            if entering:
                drop(f, slot * QUEUES + 6 + TO_CORE, entering)
        push(f, slot * QUEUES + OWN, n, first, gap, pace, lead)
        if s[slot, JOINT] and s[slot, PIECE] == number:
            # The later of two lines, at both ends.
            allowed = (s[slot, TIME] + (before - s[slot, MOVED]) * s[slot, ALLOWED]) & WHOLE
            end = max(first + (n - 1) * gap, allowed + (n - 1) * s[slot, ALLOWED])
            first = max(first, allowed)
            if n > 1:
                gap = -((first - end) // (n - 1))
        push(f, slot * QUEUES + 6 + port, n, first + ONE, gap, pace, _free(f, pace, lead, _latency(f, slot, port)))
        any_promise = True
    if any_promise:
        if port == FROM_CORE:
            call(f, f.slot.shape[0] + s[slot, CORE])
        elif s[slot, BESIDE + port] >= 0:
            call(f, s[slot, BESIDE + port])
        elif s[slot, LINE] >= 0:
            call(f, f.slot.shape[0] + f.cell.shape[0] + s[slot, LINE])
    return s[slot, GRANTED] == size


@compiled
def _move(f, slot):
    """Move words of the present piece as far as they are there and have room; whether any moved."""
    s = f.slot
    number = s[slot, PIECE]
    tx = f.piece[number, P_TX]
    port = f.piece[number, P_PORT]
    block, control = f.piece[number, P_BLOCK], f.piece[number, P_CONTROL]
    ramp = f.tally[RAMP]
    pool = f.pool
    arrivals, own = slot * QUEUES + port, slot * QUEUES + OWN
    moved = False
    while f.head[arrivals] and f.head[own] and s[slot, MOVED] < f.piece[number, P_WORDS]:
        there, room = np.int64(f.head[arrivals]), np.int64(f.head[own])
        count = min(pool[there, COUNT], pool[room, COUNT], f.piece[number, P_WORDS] - s[slot, MOVED])
        pace, expected = ONE, ONE
        if s[slot, SHARED]:
            time = max(s[slot, TIME], pool[there, FIRST], pool[room, FIRST], f.tally[NOW])
            if time & WHOLE > f.tally[NOW] & WHOLE:
                at_time(f, slot, (time & WHOLE) + ONE // 2)
                break
            if contended(f, slot):
                asked = own_turn(f, slot, time)
                if asked > f.tally[NOW]:
                    at_time(f, slot, asked)
                    break
            pace, count, expected, later = _share(f, slot, time, count)
            if pace == 0:
                at_time(f, slot, later)
                break
            turn_on(f, slot, time)
            s[slot, TIME] = max(s[slot, TIME], time & WHOLE)
        f.bound[0], f.bound[1] = pool[there, FIRST], pool[there, GAP]
        f.bound[2], f.bound[3] = pool[room, FIRST], pool[room, GAP]
        ahead = backlog(f, slot, pace, pool[room, PACE], pool[room, LEAD])
        n, first, gap, last, behind = even(f, 2, s[slot, TIME], pace, count, ahead, pool[room, PACE], pool[room, LEAD])
        remember(f, slot, n, first, gap, pool[room, PACE], behind)
        s[slot, TIME] = last + pace
        s[slot, ALLOWED], s[slot, BEGAN] = expected, first
        s[slot, USED_LINKS] = tx
        s[slot, SHARE] = (ONE * ONE) // max(gap, pace)
        drop(f, arrivals, n)
        drop(f, own, n)
        before = s[slot, MOVED]
        s[slot, MOVED] = before + n
        moved = True
        for side in range(4):
            if (tx >> side) & 1:
                span = s[slot, SPAN + side] * ONE
                f.tally[LAST] = max(f.tally[LAST], last + span)
                other = s[slot, BESIDE + side]
                if other >= 0:
                    push(f, other * QUEUES + ((side + 2) & 3), n, first + span, gap, 0, 0)
        if tx & 16:
            data_before = _data(before, block, control)
            entering = _data(before + n, block, control) - data_before
            if entering:
                # Data words before the first and after the last of them may be control words.
                to_first, to_last = np.int64(0), n - 1
                if control:
                    if before % (block + 1) == block:
                        to_first = 1
                    if (before + n) % (block + 1) == 0:
                        to_last = n - 2
                step = gap
                if entering > 1:
                    step = -(((to_first - to_last) * gap) // (entering - 1))
                push(f, slot * QUEUES + TO_CORE, entering, first + to_first * gap + ramp * ONE, step, 0, 0)
    if moved:
        for side in range(4):
            if (tx >> side) & 1 and s[slot, BESIDE + side] >= 0:
                call(f, s[slot, BESIDE + side])
        if tx & 16:
            call(f, f.slot.shape[0] + s[slot, CORE])
    return moved


@compiled
def router(f, slot):
    """Let a router promise and move what it can."""
    s = f.slot
    while s[slot, PIECE]:
        while s[slot, PROMISED] and _promise(f, slot):
            # What comes through the same port next cannot come sooner; another port has to wait for the switch.
            following = f.piece[s[slot, PROMISED], P_NEXT]
            if following and f.piece[following, P_PORT] != f.piece[s[slot, PROMISED], P_PORT]:
                break
            s[slot, PROMISED], s[slot, GRANTED] = following, 0
        moved = _move(f, slot)
        number = s[slot, PIECE]
        if s[slot, MOVED] < f.piece[number, P_WORDS]:
            if moved and s[slot, SHARED]:
                continue
            return
        if s[slot, PROMISED] == number:
            s[slot, PROMISED], s[slot, GRANTED] = f.piece[number, P_NEXT], 0
            s[slot, PROMISE] = max(s[slot, PROMISE], s[slot, TIME] & WHOLE)
        s[slot, PIECE] = f.piece[number, P_NEXT]
        s[slot, MOVED] = 0


@compiled
def _core_promise(f, core, slot_in, slot_out):
    """Promise to take words as far as there is room for the results."""
    c = f.cell
    task = c[core, TASK]
    pool = f.pool
    room = slot_out * QUEUES + 6 + FROM_CORE
    promised = False
    while c[core, C_GRANTED] < f.task[task, IN_WORDS] and f.head[room]:
        head = np.int64(f.head[room])
        count = min(pool[head, COUNT], f.task[task, IN_WORDS] - c[core, C_GRANTED])
        f.bound[0], f.bound[1] = pool[head, FIRST], pool[head, GAP]
        own = f.task[task, PER_WORD]
        pace, lead = _pace(f, head, 1 + f.tally[RAMP])
        if pace <= own:
            pace, lead = own, np.int64(0)
        n, first, gap, last, _ = even(f, 1, c[core, C_PROMISE], own, count, 0, 0, 0)
        c[core, C_PROMISE] = last + own
        c[core, C_GRANTED] += n
        drop(f, room, n)
        push(f, f.slot.shape[0] * QUEUES + core, n, first, gap, pace, lead)
        push(f, slot_in * QUEUES + 6 + TO_CORE, n, first + ONE, gap, pace, _free(f, pace, lead, f.tally[RAMP]))
        promised = True
    if promised:
        call(f, slot_in)


@compiled
def core_acts(f, core):
    """Let a core go on with its tasks as far as words and room are known."""
    c = f.cell
    pool = f.pool
    role = c[core, ROLE]
    slots = f.slot.shape[0]
    while c[core, LEFT] > 0:
        task = c[core, TASK]
        taken, sent = f.task[task, IN_WORDS], f.task[task, OUT_WORDS]
        own = f.task[task, PER_WORD]
        slot_in, slot_out = np.int64(0), np.int64(0)
        if taken:
            slot_in = f.first[core] + f.rank[role, f.task[task, IN_COLOUR]]
        if sent:
            slot_out = f.first[core] + f.rank[role, f.task[task, OUT_COLOUR]]
        if not c[core, BEGUN]:
            c[core, BEGUN] = 1
            c[core, C_DONE], c[core, C_GRANTED] = 0, 0
            c[core, C_TIME] += f.task[task, START]
            c[core, C_PROMISE] = c[core, C_TIME]
            forget(f, slots + core)
            if taken and not sent:
                push(
                    f, slot_in * QUEUES + 6 + TO_CORE, taken, (c[core, C_TIME] & WHOLE) + ONE, own, own,
                    _free(f, own, np.int64(0), f.tally[RAMP]),
                )  # fmt: skip
                call(f, slot_in)
        if not taken and not sent:
            c[core, C_TIME] += f.task[task, TOTAL]
        elif not sent:
            queue = slot_in * QUEUES + TO_CORE
            while c[core, C_DONE] < taken and f.head[queue]:
                head = np.int64(f.head[queue])
                count = min(pool[head, COUNT], taken - c[core, C_DONE])
                f.bound[0], f.bound[1] = pool[head, FIRST], pool[head, GAP]
                n, _, _, last, _ = even(f, 1, c[core, C_TIME], own, count, 0, 0, 0)
                c[core, C_TIME] = last + own
                c[core, C_DONE] += n
                drop(f, queue, n)
            if c[core, C_DONE] < taken:
                return
        else:
            room = slot_out * QUEUES + 6 + FROM_CORE
            arrivals = slot_out * QUEUES + FROM_CORE
            bounds = 1
            if taken:
                _core_promise(f, core, slot_in, slot_out)
                room = slots * QUEUES + core
                bounds = 2
            queue = slot_in * QUEUES + TO_CORE
            moved = False
            while c[core, C_DONE] < sent and f.head[room] and (not taken or f.head[queue]):
                head = np.int64(f.head[room])
                count = min(pool[head, COUNT], sent - c[core, C_DONE])
                f.bound[0], f.bound[1] = pool[head, FIRST], pool[head, GAP]
                if taken:
                    there = np.int64(f.head[queue])
                    count = min(count, pool[there, COUNT])
                    f.bound[2], f.bound[3] = pool[there, FIRST], pool[there, GAP]
                    pace, lead = pool[head, PACE], pool[head, LEAD]
                else:
                    pace, lead = _pace(f, head, 1 + f.tally[RAMP])
                ahead = backlog(f, slots + core, own, pace, lead)
                n, first, gap, last, behind = even(f, bounds, c[core, C_TIME], own, count, ahead, pace, lead)
                remember(f, slots + core, n, first, gap, pace, behind)
                c[core, C_TIME] = last + own
                c[core, C_DONE] += n
                drop(f, room, n)
                if taken:
                    drop(f, queue, n)
                push(f, arrivals, n, first + (1 + f.tally[RAMP]) * ONE, gap, 0, 0)
                moved = True
            if moved:
                call(f, slot_out)
            if c[core, C_DONE] < sent:
                return
        if taken or sent:
            c[core, C_TIME] += f.task[task, TAIL] - own
        f.tally[LAST] = max(f.tally[LAST], c[core, C_TIME])
        c[core, BEGUN] = 0
        c[core, TASK] += 1
        c[core, LEFT] -= 1


@compiled
def line_feeds(f, line):
    """Let MemoryX push words as far as room is known."""
    at = f.line
    pool = f.pool
    slot, port = at[line, L_SLOT], at[line, L_PORT]
    room = slot * QUEUES + 6 + port
    number = f.slot.shape[0] + f.cell.shape[0] + line
    moved = False
    while at[line, L_LEFT] > 0 and f.head[room]:
        head = np.int64(f.head[room])
        count = min(pool[head, COUNT], at[line, L_LEFT])
        f.bound[0], f.bound[1] = pool[head, FIRST], pool[head, GAP]
        pace, lead = _pace(f, head, np.int64(1))
        ahead = backlog(f, number, ONE, pace, lead)
        n, first, gap, last, behind = even(f, 1, at[line, L_TIME], ONE, count, ahead, pace, lead)
        remember(f, number, n, first, gap, pace, behind)
        at[line, L_TIME] = last + ONE
        at[line, L_LEFT] -= n
        drop(f, room, n)
        push(f, slot * QUEUES + port, n, first + ONE, gap, 0, 0)
        f.tally[LAST] = max(f.tally[LAST], last + ONE)
        moved = True
    if moved:
        call(f, slot)


@compiled
def _find_shared(f):
    """Note for every slot the links that a colour uses too which meets its own."""
    s = f.slot
    for core in range(f.cell.shape[0]):
        for slot in range(f.first[core], f.first[core + 1]):
            number = s[slot, PIECE]
            s[slot, SHARED] = 0
            while number:
                s[slot, SHARED] |= f.piece[number, P_TX]
                number = f.piece[number, P_NEXT]
        for slot in range(f.first[core], f.first[core + 1]):
            # A ramp holds up no more than the few words of a queue: on large rectangles that weighs little.
            used = s[slot, SHARED] & (31 if f.tally[ALL] else 15)
            for other in range(f.first[core], f.first[core + 1]):
                if other != slot and _meet(f, slot, other):
                    s[slot, SHARED] |= (used & s[other, SHARED]) << 5
                    s[slot, JOINT] |= used & s[other, SHARED]
        for slot in range(f.first[core], f.first[core + 1]):
            s[slot, SHARED] >>= 5


@compiled
def prepare(f, launch):
    """Every queue has room at the start, at cycle `launch`; everybody looks once."""
    slots, cores = f.slot.shape[0], f.cell.shape[0]
    depth = f.tally[DEPTH]
    _find_shared(f)
    for slot in range(slots):
        for port in range(6):
            # Only queues that are used need a stretch.
            used = False
            number = f.slot[slot, PIECE]
            while number and not used:
                if port == TO_CORE:
                    used = f.piece[number, P_TX] & 16 != 0
                else:
                    used = f.piece[number, P_PORT] == port
                number = f.piece[number, P_NEXT]
            if used:
                push(f, slot * QUEUES + 6 + port, depth, launch, 0, 0, np.int64(1) << 40)
        f.slot[slot, TIME] = launch
        f.slot[slot, BEGAN] = -ONE
        f.slot[slot, PROMISED] = f.slot[slot, PIECE]
        f.slot[slot, PROMISE] = launch
    for core in range(cores):
        f.cell[core, C_TIME] = launch
    for line in range(f.line.shape[0]):
        f.line[line, L_TIME] = launch
    for number in range(slots + cores + f.line.shape[0] - 1, -1, -1):
        call(f, number)
    f.tally[LAST] = launch


@compiled
def _visit(f, core):
    """Let a core and its router do all they can."""
    slots, cores = f.slot.shape[0], f.cell.shape[0]
    f.marked_core[core] = True
    again = True
    while again:
        again = False
        if f.marked[slots + core]:
            f.marked[slots + core] = False
            core_acts(f, core)
        for slot in range(f.first[core], f.first[core + 1]):
            if f.marked[slot]:
                f.marked[slot] = False
                router(f, slot)
                again = True
            line = f.slot[slot, LINE]
            if line >= 0 and f.marked[slots + cores + line]:
                f.marked[slots + cores + line] = False
                line_feeds(f, line)
                again = True
        again = again or f.marked[slots + core]
    f.marked_core[core] = False
    f.tally[DIRTY] -= 1


@compiled
def follow(f):
    """Work until nobody has anything to do; False when the pool is too small."""
    cores = f.cell.shape[0]
    while True:
        # News runs along lines of cores: in one direction or the other it finds every core in its way in order.
        while f.tally[DIRTY] > 0:
            for core in range(cores):
                if f.marked_core[core]:
                    _visit(f, core)
            for core in range(cores - 1, -1, -1):
                if f.marked_core[core]:
                    _visit(f, core)
            if f.tally[SHORT]:
                return False
        slot = earliest(f)
        if slot < 0:
            return True
        f.tally[LOCAL], f.tally[TOP] = 1, 0
        call(f, slot)
        left = NEARBY
        while f.tally[TOP] > 0 and left > 0:
            f.tally[TOP] -= 1
            _visit(f, np.int64(f.stack[f.tally[TOP]]))
            left -= 1
        f.tally[LOCAL] = 0
