"""One struck core, element by element and without values: in which order it fetches and sends, and where it ends."""

import numpy as np

from yieldkit.emulator.kernels.core import _end_task, _start_task, legal
from yieldkit.emulator.kernels.state import (
    ADVANCE,
    BLOCKED,
    E_ADDRESS,
    E_ILLEGAL,
    NOTHING,
    READY,
    RESET,
    RUNAWAY,
    RUNNING,
    STARVED,
    address_of,
    advance,
    binary,
    compiled,
    exhausted,
    halt,
)
from yieldkit.emulator.kernels.strikes import fire

FETCHED, SENT, SENT_ADVANCE, SENT_RESET = 0, 1, 2, 3
"""Actions in a log: `action << 5 | colour`."""

UNDECIDED = -1
"""The core writes over its own tables, or reads a task or a descriptor where values lie: what it does next depends on
values.
"""


@compiled
def _among_values(state, core, lowest, protected):
    """Whether a word of the task that was started just now, or the task word itself, came from where values lie."""
    word = state.sram[core, 1]
    table = np.int64(word & np.uint32(0x3FFF))
    descriptors = np.int64((word >> np.uint32(14)) & np.uint32(0x3FFF))
    at = table + 2 * np.int64(state.task[core])
    if at < protected and at + 1 >= lowest:
        return True
    opcode = state.task_register[core, 0] & np.uint32(0x3F)
    if opcode < 1 or opcode > 16:
        return False
    for operand in range(3 if binary(opcode) else 2):
        number = np.int64((state.task_register[core, 1] >> np.uint32(10 * operand)) & np.uint32(0x3FF))
        place = descriptors + 4 * number
        if place < protected and place + 3 >= lowest:
            return True
    return False


@compiled
def step_through(state, triggers, budget, lowest, protected, log, task, most):
    """Run core 0 of `state` for `most` communications, or until it ends; returns how many there were, or UNDECIDED.

    SRAM below `lowest` and from `protected` on holds header and tables. `log` uint8[most] and `task` int32[most] take
    the actions and the tasks run before each.
    """
    core = 0
    actions = 0
    while True:
        if state.status[core] == READY:
            if state.executed[core] >= budget:
                state.status[core] = RUNAWAY
                return actions
            _start_task(state, triggers, core)
            if _among_values(state, core, lowest, protected):
                return UNDECIDED
            continue
        if state.status[core] != RUNNING:
            return actions
        state.wait[core] = NOTHING
        if state.stage[core] == 0:
            if triggers.armed[core] > 0:
                fire(state, triggers, core, state.element[core])
            if not legal(state, core):
                halt(state, core, E_ILLEGAL)
                return actions
            two = binary(state.task_register[core, 0] & np.uint32(0x3F))
            if exhausted(state, core, 0) or exhausted(state, core, 1) or (two and exhausted(state, core, 2)):
                _end_task(state, core)
                continue
            if state.elements[core] >= budget:
                state.status[core] = RUNAWAY
                return actions
        opcode = state.task_register[core, 0] & np.uint32(0x3F)
        while state.stage[core] < 2:
            operand = state.stage[core] + 1
            if operand == 1 or binary(opcode):
                word = state.register[core, operand, 0]
                if (word >> np.uint32(14)) & np.uint32(3) == 1:
                    address = address_of(state, core, operand)
                    if address < 0 or address >= state.sram.shape[1]:
                        halt(state, core, E_ADDRESS)
                        return actions
                elif not ((word >> np.uint32(23)) & np.uint32(1) and state.loop_index[core, operand, 0] != 0):
                    colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
                    if actions == most:
                        state.wait[core] = STARVED
                        state.wait_colour[core] = colour
                        return actions
                    log[actions] = (FETCHED << 5) | colour
                    task[actions] = state.executed[core]
                    actions += 1
            state.stage[core] += 1
        word = state.register[core, 0, 0]
        colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
        fabric = (word >> np.uint32(14)) & np.uint32(3) == 3
        if state.stage[core] == 2:
            if fabric:
                if actions == most:
                    state.wait[core] = BLOCKED
                    state.wait_colour[core] = colour
                    return actions
                log[actions] = (SENT << 5) | colour
                task[actions] = state.executed[core]
                actions += 1
            else:
                address = address_of(state, core, 0)
                if address < 0 or address >= state.sram.shape[1]:
                    halt(state, core, E_ADDRESS)
                    return actions
                if address < lowest or address >= protected:
                    return UNDECIDED
            for operand in range(3 if binary(opcode) else 2):
                advance(state, core, operand)
            state.element[core] += 1
            state.elements[core] += 1
            state.control[core] = 0
            mode = (word >> np.uint32(24)) & np.uint32(3)
            if fabric and mode != 0:
                if exhausted(state, core, 0):
                    state.control[core] = ADVANCE if mode == 2 else RESET
                elif mode == 3 and state.loop_index[core, 0, 0] == 0 and state.loop_index[core, 0, 1] == 0:
                    state.control[core] = ADVANCE
            state.stage[core] = 3
        if state.control[core] != 0:
            if actions == most:
                state.wait[core] = BLOCKED
                state.wait_colour[core] = colour
                return actions
            log[actions] = ((SENT_ADVANCE if state.control[core] == ADVANCE else SENT_RESET) << 5) | colour
            task[actions] = state.executed[core]
            actions += 1
            state.control[core] = 0
        state.stage[core] = 0
