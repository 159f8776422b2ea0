"""One core of the wavelet executor: the same tasks, operands and results as on the reference machine, with a clock.

Elements that talk to the fabric happen in a cycle of their own; a run of elements in memory is done at once and slept
through, since nothing outside a core can see into its SRAM. Between the elements of an inner loop only addresses step;
loop indices are brought up to date at its end.
"""

import numpy as np

from yieldkit.emulator.kernels.cells import note_read
from yieldkit.emulator.kernels.core import _end_task, _start_task, legal
from yieldkit.emulator.kernels.link_faults import enter
from yieldkit.emulator.kernels.scalar import bits_f32, canon, f32_bits
from yieldkit.emulator.kernels.state import (
    ADVANCE,
    BLOCKED,
    DATA,
    E_ADDRESS,
    E_ILLEGAL,
    READY,
    RESET,
    RUNAWAY,
    RUNNING,
    STARVED,
    binary,
    compute,
    decode,
    encode,
    exhausted,
    fused,
    halt,
    inlined,
)
from yieldkit.emulator.kernels.strikes import fire, word_to_send, work_on_memory
from yieldkit.emulator.kernels.wavelet_state import (
    AT_A,
    AT_B,
    AT_D,
    CELL,
    COLOUR_AT,
    CONTROL,
    COST,
    CURRENT,
    FIRST_A,
    FIRST_B,
    FLOW,
    FORMAT_A_AT,
    FORMAT_B_AT,
    FORMAT_D_AT,
    FRACTION,
    FROM_CORE,
    HOLD_A,
    HOLD_B,
    IN_A,
    IN_B,
    LAST,
    LEFT,
    MODE,
    NOW,
    OPCODE_AT,
    OUT_D,
    ROW_COST,
    RUN,
    SLOT,
    SLOT_A,
    SLOT_B,
    SLOT_D,
    STAGE,
    STEP_A,
    STEP_B,
    STEP_D,
    TAPPED,
    TO_CORE,
    TWO,
    VALUE_A,
    VALUE_B,
    WAITS_ROOM,
    WAITS_SINCE,
    WAITS_WORD,
    act,
    has_room,
    put,
    queue_of,
    record_span,
    slot_at,
    take,
)

WHOLE = 256
FAR = 1 << 29
GO, TASK_ENDED, STOPPED = 0, 1, 2


@fused
def commit(net, state, core):
    """Bring loop indices and counts up to date with the elements done since the run began."""
    cell = core * CELL
    done = net.cell[cell + RUN] - net.cell[cell + LEFT]
    if done == 0:
        return
    operands = 3 if net.cell[cell + FLOW] & TWO else 2
    for operand in range(operands):
        state.loop_index[core, operand, 0] += done
    state.element[core] += done
    state.elements[core] += done
    net.cell[cell + RUN] = np.int64(net.cell[cell + LEFT])


@fused
def _wrap(state, core, operands):
    """Carry inner loop indices that have come to their extents."""
    for operand in range(operands):
        for level in range(2):
            extent = np.int64(state.register[core, operand, 1 + level] & np.uint32(0xFFFF))
            if state.loop_index[core, operand, level] >= extent:
                state.loop_index[core, operand, level] = 0
                state.loop_index[core, operand, level + 1] += 1
            else:
                break


@fused
def _class(state, core):
    two = binary(state.task_register[core, 0] & np.uint32(0x3F))
    d = (state.register[core, 0, 0] >> np.uint32(14)) & np.uint32(3)
    a = (state.register[core, 1, 0] >> np.uint32(14)) & np.uint32(3)
    b = (state.register[core, 2, 0] >> np.uint32(14)) & np.uint32(3)
    number = np.int64(0)
    if a == 2 or (two and b == 2):
        number += 1
    if d == 3:
        number += 2
    return number


@fused
def _slowed(triggers, core, cost):
    """A cost on a core that may take longer than others."""
    if triggers.slow.shape[0] == 0:
        return cost
    return (cost * triggers.slow[core] + 128) >> 8


@fused
def _open_run(net, costs, state, triggers, taps, budget, core):
    """Prepare the elements up to the next end of an inner loop: GO, or the task is over, or the core stops."""
    if triggers is not None:
        if triggers.armed[core] > 0:
            fire(state, triggers, core, state.element[core])
    if not legal(state, core):
        halt(state, core, E_ILLEGAL)
        return STOPPED
    opcode = np.int64(state.task_register[core, 0] & np.uint32(0x3F))
    two = binary(opcode)
    if exhausted(state, core, 0) or exhausted(state, core, 1) or (two and exhausted(state, core, 2)):
        return TASK_ENDED
    most = budget[core] - state.elements[core]
    if most <= 0:
        state.status[core] = RUNAWAY
        return STOPPED
    cell = core * CELL
    flow = opcode << OPCODE_AT
    wide = 0
    for operand in range(3 if two else 2):
        word = state.register[core, operand, 0]
        inner = state.register[core, operand, 1]
        i0 = state.loop_index[core, operand, 0]
        # A flipped extent may lie below the index; the element in hand is still done, as element by element.
        most = min(most, max(np.int64(1), np.int64(inner & np.uint32(0xFFFF)) - i0))
        fmt = np.int64((word >> np.uint32(16)) & np.uint32(3))
        if fmt == 0:
            wide = 1
        if (word >> np.uint32(14)) & np.uint32(3) == 1:
            address = np.int64(word & np.uint32(0x3FFF))
            for level in range(3):
                stride = np.int64(state.register[core, operand, 1 + level] >> np.uint32(16))
                if stride >= 32768:
                    stride -= 65536
                address += state.loop_index[core, operand, level] * stride
                if level == 0:
                    net.cell[cell + STEP_D + operand] = stride
            # Far outside is outside: the first element halts the core.
            net.cell[cell + AT_D + operand] = min(max(address, -FAR), FAR)
        else:
            colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
            net.cell[cell + SLOT_D + operand] = slot_at(net, core, colour)
            hold = (word >> np.uint32(23)) & np.uint32(1) == 1
            if operand == 0:
                flow |= OUT_D
            elif operand == 1:
                flow |= IN_A | (HOLD_A if hold else 0) | (FIRST_A if i0 == 0 else 0)
            else:
                flow |= IN_B | (HOLD_B if hold else 0) | (FIRST_B if i0 == 0 else 0)
        if operand == 0:
            flow |= fmt << FORMAT_D_AT
        elif operand == 1:
            flow |= fmt << FORMAT_A_AT
        else:
            flow |= fmt << FORMAT_B_AT
    if two:
        flow |= TWO
    task = state.task[core]
    if task < taps.marked.shape[1] and taps.marked[taps.role[core], task] != 0:
        flow |= TAPPED
    number = _class(state, core)
    row_cost = np.int64(costs.row[opcode, number])
    if triggers is not None:
        if triggers.armed[core] > 0:
            # One element at a time; the inner loop ends, and costs what its end costs, where it would otherwise.
            if most > 1:
                row_cost = np.int64(0)
            most = np.int64(1)
    net.cell[cell + FLOW] = flow
    net.cell[cell + LEFT] = most
    net.cell[cell + RUN] = most
    cost = np.int64(costs.element[opcode, number, wide])
    if triggers is not None:
        cost = _slowed(triggers, core, cost)
        row_cost = _slowed(triggers, core, row_cost)
    net.cell[cell + COST] = cost
    net.cell[cell + ROW_COST] = row_cost
    mode = np.int64(0)
    if flow & OUT_D:
        mode = np.int64((state.register[core, 0, 0] >> np.uint32(24)) & np.uint32(3))
    net.cell[cell + MODE] = mode
    return GO


@fused
def _burst(sram, core, opcode, fmt_d, fmt_a, fmt_b, at_d, at_a, at_b, step_d, step_a, step_b, flow, va, vb, count):
    """`count` elements whose results stay in memory; fabric operands keep the value they hold."""
    in_a, in_b = flow & IN_A, flow & IN_B
    two = flow & TWO
    if opcode == 6 and fmt_d == 0:
        for _ in range(count):
            if not in_a:
                va = decode(sram[core, at_a], fmt_a)
            if not in_b:
                vb = decode(sram[core, at_b], fmt_b)
            product = np.float32(va * vb)
            sram[core, at_d] = f32_bits(canon(np.float32(bits_f32(sram[core, at_d]) + product)))
            at_d += step_d
            at_a += step_a
            at_b += step_b
        return
    for _ in range(count):
        if not in_a:
            va = decode(sram[core, at_a], fmt_a)
        if two and not in_b:
            vb = decode(sram[core, at_b], fmt_b)
        if opcode == 6:
            sram[core, at_d] = encode(compute(opcode, decode(sram[core, at_d], fmt_d), va, vb), fmt_d)
        elif opcode != 8 or vb != np.float32(0.0):
            sram[core, at_d] = encode(compute(opcode, np.float32(0.0), va, vb), fmt_d)
        at_d += step_d
        at_a += step_a
        at_b += step_b


@inlined
def _inside(words, at, step, count):
    end = at + step * (count - 1)
    return at >= 0 and at < words and end >= 0 and end < words


@inlined
def _head(net, slot):
    """Cycle from which a core can take the first word of a slot that has one."""
    state = np.int64(net.slot[slot * SLOT + TO_CORE])
    return np.int64(net.queue[queue_of(net, slot, state) + (state & 255)] >> np.uint64(34))


@inlined
def _has_word(net, slot):
    return (net.slot[slot * SLOT + TO_CORE] >> 8) & 255 != 0


@fused
def _wait(net, state, core, slot, why):
    """Stop until a word comes (STARVED) or there is room (BLOCKED)."""
    cell = core * CELL
    state.wait[core] = why
    state.wait_colour[core] = net.slot[slot * SLOT + CURRENT] >> COLOUR_AT
    net.cell[cell + WAITS_SINCE] = net.tally[NOW]
    if why == BLOCKED:
        net.cell[cell + WAITS_ROOM] = slot
    elif _has_word(net, slot):
        act(net, core, _head(net, slot))
    else:
        net.cell[cell + WAITS_WORD] = slot


@inlined
def _there(net, slot):
    """Whether the core can take a word of a slot now."""
    return _has_word(net, slot) and _head(net, slot) <= net.tally[NOW]


@fused
def step_core(net, costs, state, triggers, taps, budget, record, core):
    """Let a core act in this cycle; it puts itself on the list or to sleep for when it can go on."""
    cell = core * CELL
    now = net.tally[NOW]
    if state.wait[core] != 0:
        if record is not None:
            if state.wait[core] == STARVED:
                record_span(record, record.starved, core, net.cell[cell + WAITS_SINCE], now)
            else:
                record_span(record, record.blocked, core, net.cell[cell + WAITS_SINCE], now)
        state.wait[core] = 0
    spent = np.int64(net.cell[cell + FRACTION])
    before = spent
    sram = state.sram
    words = sram.shape[1]
    awake = True
    while awake:
        if state.status[core] == READY:
            if state.executed[core] >= budget[core]:
                state.status[core] = RUNAWAY
                break
            if triggers is not None:
                _start_task(state, triggers, core)
            else:
                _start_plain(state, core)
            if state.status[core] != RUNNING:
                break
            net.cell[cell + LEFT] = 0
            net.cell[cell + RUN] = 0
            net.cell[cell + STAGE] = 0
            start = np.int64(costs.start[np.int64(state.task_register[core, 0] & np.uint32(0x3F)), _class(state, core)])
            if triggers is not None:
                start = _slowed(triggers, core, start)
            spent += start
        if state.status[core] != RUNNING:
            break
        stage = np.int64(net.cell[cell + STAGE])
        if stage == 0 and net.cell[cell + LEFT] == 0:
            got = _open_run(net, costs, state, triggers, taps, budget, core)
            if got == TASK_ENDED:
                _end_task(state, core)
                continue
            if got == STOPPED:
                break
        flow = np.int64(net.cell[cell + FLOW])
        left = np.int64(net.cell[cell + LEFT])
        cost = np.int64(net.cell[cell + COST])
        opcode = (flow >> OPCODE_AT) & 63
        fmt_d, fmt_a, fmt_b = (flow >> FORMAT_D_AT) & 3, (flow >> FORMAT_A_AT) & 3, (flow >> FORMAT_B_AT) & 3
        at_d = np.int64(net.cell[cell + AT_D])
        at_a = np.int64(net.cell[cell + AT_A])
        at_b = np.int64(net.cell[cell + AT_B])
        step_d = np.int64(net.cell[cell + STEP_D])
        step_a = np.int64(net.cell[cell + STEP_A])
        step_b = np.int64(net.cell[cell + STEP_B])
        va = bits_f32(np.uint32(net.cell[cell + VALUE_A]))
        vb = bits_f32(np.uint32(net.cell[cell + VALUE_B]))
        while left > 0:
            first = left == net.cell[cell + RUN]
            fetch_a = flow & IN_A and (not flow & HOLD_A or (first and flow & FIRST_A))
            fetch_b = flow & IN_B and (not flow & HOLD_B or (first and flow & FIRST_B))
            if stage == 0 and not fetch_a and not fetch_b and not flow & (OUT_D | TAPPED):
                if (
                    (triggers is None or left > 1)
                    and _inside(words, at_d, step_d, left)
                    and (flow & IN_A or _inside(words, at_a, step_a, left))
                    and (not flow & TWO or flow & IN_B or _inside(words, at_b, step_b, left))
                ):
                    _burst(
                        sram, core, opcode, fmt_d, fmt_a, fmt_b, at_d, at_a, at_b, step_d, step_a, step_b, flow, va,
                        vb, left,
                    )  # fmt: skip
                    spent += cost * left
                    left = 0
                    break
            if stage == 0:
                if fetch_a:
                    if spent >= WHOLE:
                        awake = False
                        break
                    if not _there(net, np.int64(net.cell[cell + SLOT_A])):
                        _wait(net, state, core, np.int64(net.cell[cell + SLOT_A]), STARVED)
                        awake = False
                        break
                    va = decode(
                        np.uint32(take(net, np.int64(net.cell[cell + SLOT_A]), TO_CORE) & np.uint64(0xFFFFFFFF)), fmt_a
                    )
                elif not flow & IN_A:
                    if at_a < 0 or at_a >= words:
                        halt(state, core, E_ADDRESS)
                        awake = False
                        break
                    if triggers is not None:
                        if triggers.armed[core] > 0:
                            note_read(state, triggers, core, at_a)
                    va = decode(sram[core, at_a], fmt_a)
                stage = 1
                if flow & TAPPED:
                    line = taps.logged[core]
                    if line < taps.word.shape[0]:
                        taps.word[line, core] = f32_bits(canon(va))
                    taps.logged[core] += 1
            if stage == 1:
                if fetch_b:
                    if spent >= WHOLE:
                        awake = False
                        break
                    if not _there(net, np.int64(net.cell[cell + SLOT_B])):
                        _wait(net, state, core, np.int64(net.cell[cell + SLOT_B]), STARVED)
                        awake = False
                        break
                    vb = decode(
                        np.uint32(take(net, np.int64(net.cell[cell + SLOT_B]), TO_CORE) & np.uint64(0xFFFFFFFF)), fmt_b
                    )
                elif flow & TWO and not flow & IN_B:
                    if at_b < 0 or at_b >= words:
                        halt(state, core, E_ADDRESS)
                        awake = False
                        break
                    if triggers is not None:
                        if triggers.armed[core] > 0:
                            note_read(state, triggers, core, at_b)
                    vb = decode(sram[core, at_b], fmt_b)
                stage = 2
            if stage == 2:
                if flow & OUT_D:
                    if spent >= WHOLE:
                        awake = False
                        break
                    slot = np.int64(net.cell[cell + SLOT_D])
                    if not has_room(net, slot, FROM_CORE):
                        _wait(net, state, core, slot, BLOCKED)
                        awake = False
                        break
                    result = encode(compute(opcode, np.float32(0.0), va, vb), fmt_d)
                    if triggers is not None:
                        if triggers.armed[core] > 0:
                            result = word_to_send(state, triggers, core, opcode, va, vb, fmt_d)
                    # The element itself takes a cycle, and the ramp its latency.
                    if triggers is not None:
                        if triggers.link.shape[0] > 0:
                            colour = np.int64(net.slot[slot * SLOT + CURRENT]) >> COLOUR_AT
                            result = enter(triggers.link, core, FROM_CORE, colour, result)
                    put(net, slot, FROM_CORE, result, DATA, now + 1 + net.ramp)
                else:
                    if at_d < 0 or at_d >= words:
                        halt(state, core, E_ADDRESS)
                        awake = False
                        break
                    plain = True
                    if triggers is not None:
                        if triggers.armed[core] > 0:
                            plain = False
                            work_on_memory(state, triggers, core, opcode, va, vb, at_d, fmt_d)
                    if plain and (opcode != 8 or vb != np.float32(0.0)):
                        old = np.float32(0.0)
                        if opcode == 6:
                            old = decode(sram[core, at_d], fmt_d)
                        sram[core, at_d] = encode(compute(opcode, old, va, vb), fmt_d)
                at_d += step_d
                at_a += step_a
                at_b += step_b
                left -= 1
                spent += cost
                stage = 0
                if left == 0:
                    break
        net.cell[cell + AT_D], net.cell[cell + AT_A], net.cell[cell + AT_B] = at_d, at_a, at_b
        net.cell[cell + VALUE_A], net.cell[cell + VALUE_B] = np.int64(f32_bits(va)), np.int64(f32_bits(vb))
        net.cell[cell + LEFT] = left
        net.cell[cell + STAGE] = stage
        if left == 0 and stage == 0:
            _close_run(net, state, core)
            spent += net.cell[cell + ROW_COST]
        if net.cell[cell + STAGE] == 3 and awake:
            if spent >= WHOLE:
                awake = False
            elif not has_room(net, np.int64(net.cell[cell + SLOT_D]), FROM_CORE):
                _wait(net, state, core, np.int64(net.cell[cell + SLOT_D]), BLOCKED)
                awake = False
            else:
                kind = np.int64(net.cell[cell + CONTROL])
                slot = np.int64(net.cell[cell + SLOT_D])
                word = np.uint32(0)
                if triggers is not None:
                    if triggers.link.shape[0] > 0:
                        colour = np.int64(net.slot[slot * SLOT + CURRENT]) >> COLOUR_AT
                        word = enter(triggers.link, core, FROM_CORE, colour, word)
                put(net, slot, FROM_CORE, word, kind, now + 1 + net.ramp)
                net.cell[cell + CONTROL] = 0
                net.cell[cell + STAGE] = 0
                control = np.int64(costs.control)
                if triggers is not None:
                    control = _slowed(triggers, core, control)
                spent += control
    whole = spent >> 8
    net.cell[cell + FRACTION] = spent & 255
    if spent > before:
        # A part of a cycle that has begun counts for the end of the launch.
        end = now + ((spent + 255) >> 8)
        net.tally[LAST] = max(net.tally[LAST], end)
        if record is not None:
            record_span(record, record.busy, core, now, now + whole)
    if state.status[core] == RUNNING and state.wait[core] == 0:
        act(net, core, now + max(whole, 1))


@fused
def _close_run(net, state, core):
    """The end of an inner loop: indices, and the control word that may be due."""
    commit(net, state, core)
    cell = core * CELL
    _wrap(state, core, 3 if net.cell[cell + FLOW] & TWO else 2)
    mode = net.cell[cell + MODE]
    if mode != 0:
        control = 0
        if exhausted(state, core, 0):
            control = ADVANCE if mode == 2 else RESET
        elif mode == 3 and state.loop_index[core, 0, 0] == 0 and state.loop_index[core, 0, 1] == 0:
            control = ADVANCE
        if control != 0:
            net.cell[cell + CONTROL] = control
            net.cell[cell + STAGE] = 3


@fused
def _start_plain(state, core):
    """`_start_task` of a core that nothing is going to strike."""
    words = state.sram.shape[1]
    table = np.int64(state.sram[core, 1] & np.uint32(0x3FFF))
    descriptors = np.int64((state.sram[core, 1] >> np.uint32(14)) & np.uint32(0x3FFF))
    at = table + 2 * np.int64(state.task[core])
    if at + 1 >= words:
        halt(state, core, E_ADDRESS)
        return
    state.task_register[core, 0] = state.sram[core, at]
    state.task_register[core, 1] = state.sram[core, at + 1]
    opcode = state.task_register[core, 0] & np.uint32(0x3F)
    if opcode < 1 or opcode > 16:
        halt(state, core, E_ILLEGAL)
        return
    for operand in range(3 if binary(opcode) else 2):
        number = np.int64((state.task_register[core, 1] >> np.uint32(10 * operand)) & np.uint32(0x3FF))
        place = descriptors + 4 * number
        if place + 3 >= words:
            halt(state, core, E_ADDRESS)
            return
        for word in range(4):
            state.register[core, operand, word] = state.sram[core, place + word]
        for level in range(3):
            state.loop_index[core, operand, level] = 0
    state.stage[core] = 0
    state.control[core] = 0
    state.element[core] = 0
    state.status[core] = RUNNING
