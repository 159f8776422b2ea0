"""What the tasks and routes of a launch move, in words: for the cycle model, which follows streams and moves no word.

Extents and routes alone say how many words every task sends and takes, and in which order a router passes them on; no
time is in it. A *run* is `blocks` blocks of `words` data words, each with a control word behind it (or one block
without). A *piece* is what a router moves, one after the other, from one port under one switch position.
"""

from typing import NamedTuple

import numpy as np

from yieldkit.emulator.kernels.state import ADVANCE, RESET, binary, compiled

UNIT = 1 << 16
"""Parts of a cycle that the cycle model counts in."""
FROM_COST = 8
"""Costs come in 1/256 cycle: shift to the left by this."""

# Task record: int64[tasks, TASK]
TASK = 12
START, TOTAL, TAIL, PER_WORD, IN_WORDS, IN_COLOUR, OUT_WORDS, OUT_COLOUR, BLOCKS, BLOCK_WORDS, MODE, STRANGE = range(12)

# Run record: int64[runs, RUN]
RUN = 4
R_BLOCKS, R_WORDS, R_CONTROL, R_NEXT = 0, 1, 2, 3

# Piece record: int64[pieces, PIECE]
PIECE = 6
P_PORT, P_TX, P_WORDS, P_BLOCK, P_CONTROL, P_NEXT = range(6)

DONE, MORE_ROOM, STUCK = 0, 1, 2


class Paths(NamedTuple):
    """Routers and words of a launch.

    route uint16[roles, 24, 4]; rank int32[roles, 24] number of a colour among those a role uses, or -1; role int32[n];
    first int64[n + 1] first slot of a core; core, colour int32[slots]; neighbour int64[n, 4]; queue int32[slots, 5, 2]
    first and last run that waits at a port; run int64[runs, 4]; piece int64[pieces, 6]; pieces int32[slots, 2] first
    and last piece; position uint8[slots]; tally int64[2] runs and pieces in use, 0 being none.
    """

    route: np.ndarray
    rank: np.ndarray
    role: np.ndarray
    first: np.ndarray
    core: np.ndarray
    colour: np.ndarray
    neighbour: np.ndarray
    queue: np.ndarray
    run: np.ndarray
    piece: np.ndarray
    pieces: np.ndarray
    position: np.ndarray
    tally: np.ndarray


@compiled
def _gcd(a, b):
    while b:
        a, b = b, a % b
    return a


@compiled
def _ends(n, e1, e2, e3):
    """Numbers from 1 to n that are multiples of one of three extents."""
    l12, l13, l23 = e1 // _gcd(e1, e2) * e2, e1 // _gcd(e1, e3) * e3, e2 // _gcd(e2, e3) * e3
    l123 = l12 // _gcd(l12, e3) * e3
    return n // e1 + n // e2 + n // e3 - n // l12 - n // l13 - n // l23 + n // l123


@compiled
def describe_tasks(words, count, element, start, row, control, out):
    """Fill `out`, int64[tasks, TASK], from one role's tables (uint32: tasks, then descriptors)."""
    for number in range(count):
        opcode = np.int64(words[2 * number] & np.uint32(0x3F))
        two = binary(np.uint32(opcode))
        operands = 3 if two else 2
        kind, wide, elements = 0, 0, np.int64(1) << 60
        inner_d, inner_a, inner_b = np.int64(1), np.int64(1), np.int64(1)
        taken, colour_in, colour_out, strange = np.int64(0), -1, -1, 0
        hold, hold_extent = False, np.int64(1)
        mode, outer, block = 0, np.int64(1), np.int64(1)
        for operand in range(operands):
            index = np.int64((words[2 * number + 1] >> np.uint32(10 * operand)) & np.uint32(0x3FF))
            at = 2 * count + 4 * index
            word = words[at]
            e1 = np.int64(words[at + 1] & np.uint32(0xFFFF))
            e2 = np.int64(words[at + 2] & np.uint32(0xFFFF))
            e3 = np.int64(words[at + 3] & np.uint32(0xFFFF))
            if operand == 0:
                inner_d = e1
            elif operand == 1:
                inner_a = inner_b = e1
            else:
                inner_b = e1
            elements = min(elements, e1 * e2 * e3)
            if (word >> np.uint32(16)) & np.uint32(3) == 0:
                wide = 1
            where = (word >> np.uint32(14)) & np.uint32(3)
            colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
            if where == 2:
                if colour_in >= 0:
                    strange = 1
                kind |= 1
                colour_in = colour
                hold = (word >> np.uint32(23)) & np.uint32(1) == 1
                hold_extent = e1
            elif where == 3:
                kind |= 2
                colour_out = colour
                mode = np.int64((word >> np.uint32(24)) & np.uint32(3))
                outer, block = e3, e1 * e2
        each = element[opcode, kind, wide]
        total = elements * each + _ends(elements, inner_d, inner_a, inner_b) * row[opcode, kind]
        tail = each + row[opcode, kind]
        sent = np.int64(0)
        if colour_in >= 0:
            taken = elements
            if hold:
                taken = (elements + hold_extent - 1) // hold_extent
                tail = min(hold_extent, elements) * each + row[opcode, kind]
        if colour_out >= 0:
            sent = elements
            if mode != 0:
                if mode != 3:
                    outer, block = 1, elements
                sent += outer
                total += outer * control
                tail = control
            if colour_in >= 0 and taken != sent:
                strange = 1
        moved = max(taken, sent)
        out[number, START] = start[opcode, kind] << FROM_COST
        out[number, TOTAL] = total << FROM_COST
        out[number, TAIL] = tail << FROM_COST
        out[number, PER_WORD] = ((total - tail) << FROM_COST) // (moved - 1) if moved > 1 else tail << FROM_COST
        out[number, IN_WORDS], out[number, IN_COLOUR] = taken, colour_in
        out[number, OUT_WORDS], out[number, OUT_COLOUR] = sent, colour_out
        out[number, BLOCKS], out[number, BLOCK_WORDS], out[number, MODE] = outer, block, mode
        if mode == 0:
            out[number, BLOCK_WORDS] = elements
        out[number, STRANGE] = strange


@compiled
def _append(paths, slot, port, blocks, words, control):
    """Put a run at the end of a port's queue; False when there is no room for more runs."""
    tail = np.int64(paths.queue[slot, port, 1])
    if tail:
        run = paths.run[tail]
        if run[R_CONTROL] == control:
            if control == 0:
                run[R_WORDS] += words
                return True
            if run[R_WORDS] == words:
                run[R_BLOCKS] += blocks
                return True
    number = paths.tally[0] + 1
    if number >= paths.run.shape[0]:
        return False
    paths.tally[0] = number
    paths.run[number, R_BLOCKS] = blocks
    paths.run[number, R_WORDS] = words
    paths.run[number, R_CONTROL] = control
    paths.run[number, R_NEXT] = 0
    if tail:
        paths.run[tail, R_NEXT] = number
    else:
        paths.queue[slot, port, 0] = number
    paths.queue[slot, port, 1] = number
    return True


@compiled
def _note(paths, slot, port, tx, blocks, words, control):
    """Append what a router moves; False when there is no room for more pieces."""
    size = blocks * (words + (1 if control else 0))
    tail = np.int64(paths.pieces[slot, 1])
    if tail:
        piece = paths.piece[tail]
        alike = piece[P_PORT] == port and piece[P_TX] == tx and (piece[P_CONTROL] != 0) == (control != 0)
        if alike and (control == 0 or piece[P_BLOCK] == words):
            piece[P_WORDS] += size
            return True
    number = paths.tally[1] + 1
    if number >= paths.piece.shape[0]:
        return False
    paths.tally[1] = number
    paths.piece[number, P_PORT], paths.piece[number, P_TX] = port, tx
    paths.piece[number, P_WORDS], paths.piece[number, P_BLOCK] = size, words
    paths.piece[number, P_CONTROL], paths.piece[number, P_NEXT] = 1 if control else 0, 0
    if tail:
        paths.piece[tail, P_NEXT] = number
    else:
        paths.pieces[slot, 0] = number
    paths.pieces[slot, 1] = number
    return True


@compiled
def core_runs(paths, tasks, task_at, task_count):
    """Queue what every core sends; False when there is no room."""
    for core in range(paths.role.shape[0]):
        role = np.int64(paths.role[core])
        for k in range(task_count[role]):
            task = tasks[task_at[role] + k]
            if task[OUT_COLOUR] < 0:
                continue
            slot = paths.first[core] + paths.rank[role, task[OUT_COLOUR]]
            blocks, words, mode = task[BLOCKS], task[BLOCK_WORDS], task[MODE]
            good = True
            if mode == 0:
                good = _append(paths, slot, 4, 1, words, 0)
            elif mode == 1:
                good = _append(paths, slot, 4, 1, words, RESET)
            elif mode == 2:
                good = _append(paths, slot, 4, 1, words, ADVANCE)
            else:
                if blocks > 1:
                    good = _append(paths, slot, 4, blocks - 1, words, ADVANCE)
                good = good and _append(paths, slot, 4, 1, words, RESET)
            if not good:
                return False
    return True


@compiled
def line_runs(paths, lines):
    """Queue what MemoryX pushes: `lines` int64[k, 5] of slot, port, blocks, words, control."""
    for k in range(lines.shape[0]):
        if not _append(paths, lines[k, 0], lines[k, 1], lines[k, 2], lines[k, 3], lines[k, 4]):
            return False
    return True


@compiled
def _pass_on(paths, slot, marked):
    """Let a router move all that waits for it; False when there was no room."""
    core = np.int64(paths.core[slot])
    colour = np.int64(paths.colour[slot])
    role = np.int64(paths.role[core])
    while True:
        route = np.int64(paths.route[role, colour, paths.position[slot]])
        rx = route & 7
        if rx == 0 or rx > 5:
            return True
        port = rx - 1
        head = np.int64(paths.queue[slot, port, 0])
        if head == 0:
            return True
        tx = (route >> 3) & 31
        blocks, words, control = paths.run[head, R_BLOCKS], paths.run[head, R_WORDS], paths.run[head, R_CONTROL]
        acts = False
        if control == ADVANCE:
            acts = not (route >> 8) & 1 and paths.position[slot] < 3
        elif control == RESET:
            acts = paths.position[slot] != 0
        if acts:
            blocks = 1
        if not _note(paths, slot, port, tx, blocks, words, control):
            return False
        for side in range(4):
            if (tx >> side) & 1:
                other = paths.neighbour[core, side]
                if other >= 0 and paths.rank[paths.role[other], colour] >= 0:
                    beside = paths.first[other] + paths.rank[paths.role[other], colour]
                    if not _append(paths, beside, (side + 2) & 3, blocks, words, control):
                        return False
                    marked[beside] = True
        if acts:
            paths.position[slot] = paths.position[slot] + 1 if control == ADVANCE else 0
        paths.run[head, R_BLOCKS] -= blocks
        if paths.run[head, R_BLOCKS] == 0:
            paths.queue[slot, port, 0] = paths.run[head, R_NEXT]
            if paths.run[head, R_NEXT] == 0:
                paths.queue[slot, port, 1] = 0


@compiled
def find_pieces(paths, marked):
    """Work out what every router moves, in order; False when there is no room. `marked` is bool[slots], all False."""
    slots = paths.core.shape[0]
    for slot in range(slots):
        for port in range(5):
            marked[slot] = marked[slot] or paths.queue[slot, port, 0] != 0
    # Words run along lines: going through the slots in both directions finds each router in its turn.
    again = True
    while again:
        again = False
        for slot in range(slots):
            if marked[slot]:
                again = True
                marked[slot] = False
                if not _pass_on(paths, slot, marked):
                    return False
        for slot in range(slots - 1, -1, -1):
            if marked[slot]:
                marked[slot] = False
                if not _pass_on(paths, slot, marked):
                    return False
    return True
