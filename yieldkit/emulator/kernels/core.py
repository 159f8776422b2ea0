"""One core of the reference machine: tasks, operands and results, element by element.

A core runs until it has to wait. While faults are still to strike it, every element is checked for them; otherwise
`run_plain` does the same work on local copies of the registers.
"""

import numpy as np

from yieldkit.emulator.kernels.cells import note_read
from yieldkit.emulator.kernels.link_faults import enter
from yieldkit.emulator.kernels.plain import ENDED, WAITING, run_plain
from yieldkit.emulator.kernels.scalar import canon, f32_bits
from yieldkit.emulator.kernels.state import (
    ADVANCE,
    BLOCKED,
    DATA,
    DONE,
    E_ADDRESS,
    E_ILLEGAL,
    FROM_CORE,
    N_COLOURS,
    NOTHING,
    READY,
    RESET,
    RUNAWAY,
    RUNNING,
    STARVED,
    T_DESCRIPTOR,
    T_TASK,
    TO_CORE,
    address_of,
    advance,
    binary,
    compiled,
    compute,
    decode,
    encode,
    exhausted,
    fused,
    halt,
    pop,
    push,
)
from yieldkit.emulator.kernels.strikes import fire, quiet_elements, strike_loaded, word_to_send, work_on_memory


@fused
def _start_task(state, triggers, core):
    """Copy the task word and its descriptors into registers; halts on anything undefined."""
    words = state.sram.shape[1]
    if triggers.armed[core] > 0:
        fire(state, triggers, core, np.int64(-1))
        note_read(state, triggers, core, np.int64(1))
    table = np.int64(state.sram[core, 1] & np.uint32(0x3FFF))
    descriptors = np.int64((state.sram[core, 1] >> np.uint32(14)) & np.uint32(0x3FFF))
    at = table + 2 * np.int64(state.task[core])
    if at + 1 >= words:
        halt(state, core, E_ADDRESS)
        return
    state.task_register[core, 0] = state.sram[core, at]
    state.task_register[core, 1] = state.sram[core, at + 1]
    if triggers.armed[core] > 0:
        note_read(state, triggers, core, at)
        note_read(state, triggers, core, at + 1)
        strike_loaded(state, triggers, core, T_TASK, 2)
    opcode = state.task_register[core, 0] & np.uint32(0x3F)
    if opcode < 1 or opcode > 16:
        halt(state, core, E_ILLEGAL)
        return
    operands = 3 if binary(opcode) else 2
    for operand in range(operands):
        number = np.int64((state.task_register[core, 1] >> np.uint32(10 * operand)) & np.uint32(0x3FF))
        place = descriptors + 4 * number
        if place + 3 >= words:
            halt(state, core, E_ADDRESS)
            return
        for word in range(4):
            state.register[core, operand, word] = state.sram[core, place + word]
            if triggers.armed[core] > 0:
                note_read(state, triggers, core, place + word)
        for level in range(3):
            state.loop_index[core, operand, level] = 0
    if triggers.armed[core] > 0:
        strike_loaded(state, triggers, core, T_DESCRIPTOR, operands)
    state.stage[core] = 0
    state.control[core] = 0
    state.element[core] = 0
    state.status[core] = RUNNING


@fused
def legal(state, core):
    """Whether the registers describe an operation that exists."""
    opcode = state.task_register[core, 0] & np.uint32(0x3F)
    if opcode < 1 or opcode > 16:
        return False
    operands = 3 if binary(opcode) else 2
    for operand in range(operands):
        word = state.register[core, operand, 0]
        kind = (word >> np.uint32(14)) & np.uint32(3)
        fmt = (word >> np.uint32(16)) & np.uint32(3)
        colour = (word >> np.uint32(18)) & np.uint32(31)
        if kind == 0 or fmt == 3:
            return False
        if kind != 1 and colour >= N_COLOURS:
            return False
        if operand == 0 and kind == 2:
            return False
        if operand > 0 and kind == 3:
            return False
        if operand == 0 and kind == 3 and (opcode == 6 or opcode == 8):
            return False
    return True


@compiled
def _fetch(state, triggers, core, operand):
    """Fetch operand A (1) or B (2): 0 done, 1 wait, 2 halted."""
    word = state.register[core, operand, 0]
    fmt = (word >> np.uint32(16)) & np.uint32(3)
    if (word >> np.uint32(14)) & np.uint32(3) == 1:
        address = address_of(state, core, operand)
        if address < 0 or address >= state.sram.shape[1]:
            halt(state, core, E_ADDRESS)
            return 2
        note_read(state, triggers, core, address)
        state.value[core, operand - 1] = decode(state.sram[core, address], fmt)
        return 0
    if (word >> np.uint32(23)) & np.uint32(1) and state.loop_index[core, operand, 0] != 0:
        return 0
    colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
    if state.length[core, colour, TO_CORE] == 0:
        state.wait[core] = STARVED
        state.wait_colour[core] = colour
        return 1
    state.value[core, operand - 1] = decode(pop(state, core, colour, TO_CORE), fmt)
    return 0


@fused
def _end_task(state, core):
    state.executed[core] += 1
    word = state.task_register[core, 0]
    if (word >> np.uint32(6)) & np.uint32(1):
        state.task[core] = np.int32((word >> np.uint32(7)) & np.uint32(0xFFF))
        state.status[core] = READY
    else:
        state.status[core] = DONE


@compiled
def run_core(state, triggers, taps, budget, core, burst):
    """Run a core until it blocks, ends or has done `burst` elements; returns whether anything happened."""
    moved = False
    done = 0
    while True:
        status = state.status[core]
        if status == READY:
            # Tasks without elements in a loop would never come to the check of elements.
            if state.executed[core] >= budget[core]:
                state.status[core] = RUNAWAY
                return True
            _start_task(state, triggers, core)
            moved = True
            continue
        if status != RUNNING:
            return moved
        if done >= burst:
            return moved
        state.wait[core] = NOTHING
        quiet = quiet_elements(triggers, core, np.int64(state.executed[core]), np.int64(state.element[core]))
        if quiet > 0:
            if not legal(state, core):
                halt(state, core, E_ILLEGAL)
                return True
            before = state.elements[core]
            limit = min(quiet, burst - done)
            end, stirred = run_plain(state, taps, budget, core, limit)
            moved |= stirred
            if end == WAITING and (limit == burst - done or state.elements[core] - before < limit):
                return moved
            ran = state.elements[core] - before
            # What strikes behind the last element strikes before the task ends.
            if end == ENDED and ran < quiet:
                _end_task(state, core)
                moved = True
            done += ran
            continue
        if state.stage[core] == 0:
            if triggers.armed[core] > 0:
                fire(state, triggers, core, state.element[core])
            if not legal(state, core):
                halt(state, core, E_ILLEGAL)
                return True
            opcode = state.task_register[core, 0] & np.uint32(0x3F)
            two = binary(opcode)
            if exhausted(state, core, 0) or exhausted(state, core, 1) or (two and exhausted(state, core, 2)):
                _end_task(state, core)
                moved = True
                continue
            if state.elements[core] >= budget[core]:
                state.status[core] = RUNAWAY
                return True
        opcode = state.task_register[core, 0] & np.uint32(0x3F)
        two = binary(opcode)
        if state.stage[core] == 0:
            got = _fetch(state, triggers, core, 1)
            if got == 2:
                return True
            if got == 1:
                return moved
            state.stage[core] = 1
            moved = True
            if state.task[core] < taps.marked.shape[1] and taps.marked[taps.role[core], state.task[core]]:
                at = taps.logged[core]
                if at < taps.word.shape[0]:
                    taps.word[at, core] = f32_bits(canon(state.value[core, 0]))
                taps.logged[core] += 1
        if state.stage[core] == 1:
            if two:
                got = _fetch(state, triggers, core, 2)
                if got == 2:
                    return True
                if got == 1:
                    return moved
            state.stage[core] = 2
            moved = True
        word = state.register[core, 0, 0]
        fmt = (word >> np.uint32(16)) & np.uint32(3)
        if state.stage[core] == 2:
            a, b = state.value[core, 0], state.value[core, 1]
            if (word >> np.uint32(14)) & np.uint32(3) == 1:
                address = address_of(state, core, 0)
                if address < 0 or address >= state.sram.shape[1]:
                    halt(state, core, E_ADDRESS)
                    return True
                if triggers.armed[core] > 0:
                    work_on_memory(state, triggers, core, opcode, a, b, address, fmt)
                elif opcode != 8 or b != np.float32(0.0):
                    old = np.float32(0.0)
                    if opcode == 6:
                        old = decode(state.sram[core, address], fmt)
                    state.sram[core, address] = encode(compute(opcode, old, a, b), fmt)
            else:
                colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
                if state.length[core, colour, FROM_CORE] >= state.queue.shape[3]:
                    state.wait[core] = BLOCKED
                    state.wait_colour[core] = colour
                    return moved
                if triggers.armed[core] > 0:
                    result = word_to_send(state, triggers, core, opcode, a, b, fmt)
                    result = enter(triggers.link, core, FROM_CORE, colour, result)
                else:
                    result = encode(compute(opcode, np.float32(0.0), a, b), fmt)
                push(state, core, colour, FROM_CORE, result, DATA)
            advance(state, core, 0)
            advance(state, core, 1)
            if two:
                advance(state, core, 2)
            state.element[core] += 1
            state.elements[core] += 1
            done += 1
            moved = True
            state.control[core] = 0
            mode = (word >> np.uint32(24)) & np.uint32(3)
            if (word >> np.uint32(14)) & np.uint32(3) == 3 and mode != 0:
                if exhausted(state, core, 0):
                    state.control[core] = ADVANCE if mode == 2 else RESET
                elif mode == 3 and state.loop_index[core, 0, 0] == 0 and state.loop_index[core, 0, 1] == 0:
                    state.control[core] = ADVANCE
            state.stage[core] = 3
        if state.stage[core] == 3:
            if state.control[core] != 0:
                colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
                if state.length[core, colour, FROM_CORE] >= state.queue.shape[3]:
                    state.wait[core] = BLOCKED
                    state.wait_colour[core] = colour
                    return moved
                word = np.uint32(0)
                if triggers.armed[core] > 0:
                    word = enter(triggers.link, core, FROM_CORE, colour, word)
                push(state, core, colour, FROM_CORE, word, state.control[core])
                state.control[core] = 0
                moved = True
            state.stage[core] = 0
