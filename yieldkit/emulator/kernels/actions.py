"""What a core asks of its router, in order, from its tables alone: no value is read, no word moves."""

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.state import ADVANCE, N_COLOURS, RESET, T_DESCRIPTOR, T_INDEX, T_SRAM, T_TASK, binary

__all__ = ["trace_core"]

FETCH, SEND, CONTROL = 1, 2, 4


@njit(cache=True)
def _legal(opcode, register):
    """Whether the registers describe an operation that exists."""
    if opcode < 1 or opcode > 16:
        return False
    for operand in range(3 if binary(opcode) else 2):
        word = register[operand, 0]
        kind = (word >> np.uint32(14)) & np.uint32(3)
        if kind == 0 or (word >> np.uint32(16)) & np.uint32(3) == 3:
            return False
        if kind != 1 and (word >> np.uint32(18)) & np.uint32(31) >= N_COLOURS:
            return False
        if (operand == 0 and kind == 2) or (operand > 0 and kind == 3):
            return False
        if operand == 0 and kind == 3 and (opcode == 6 or opcode == 8):
            return False
    return True


@njit(cache=True)
def _ended(register, index, operand):
    for level in range(3):
        if register[operand, 1 + level] & np.uint32(0xFFFF) == 0:
            return True
    return index[operand, 2] >= np.int64(register[operand, 3] & np.uint32(0xFFFF))


@njit(cache=True)
def _step(register, index, operand):
    index[operand, 0] += 1
    for level in range(2):
        if index[operand, level] < np.int64(register[operand, 1 + level] & np.uint32(0xFFFF)):
            return
        index[operand, level] = 0
        index[operand, level + 1] += 1


@njit(cache=True)
def _address(register, index, operand):
    address = np.int64(register[operand, 0] & np.uint32(0x3FFF))
    for level in range(3):
        stride = np.int64(register[operand, 1 + level] >> np.uint32(16))
        if stride >= 32768:
            stride -= 65536
        address += index[operand, level] * stride
    return address


@njit(cache=True)
def _strike(hooks, executed, element, sram, register, task_register, index):
    for k in range(hooks.shape[0]):
        what = hooks[k, 2]
        due = hooks[k, 0] == executed and hooks[k, 1] == element
        if what == T_INDEX and hooks[k, 7] != 0 and element >= 0:
            due = hooks[k, 0] < executed or (hooks[k, 0] == executed and hooks[k, 1] <= element)
        if not due:
            continue
        a, b, mask, keep = hooks[k, 3], hooks[k, 4], np.uint32(hooks[k, 5]), np.uint32(hooks[k, 6])
        if what == T_SRAM:
            sram[a] = (sram[a] & keep) ^ mask
        elif what == T_DESCRIPTOR:
            register[a, b] = (register[a, b] & keep) ^ mask
        elif what == T_TASK:
            task_register[a] = (task_register[a] & keep) ^ mask
        elif what == T_INDEX:
            index[a, b] = ((index[a, b] & hooks[k, 6]) ^ hooks[k, 5]) & 0xFFFF


@njit(cache=True)
def _strike_loaded(hooks, executed, what, parts, register, task_register):
    """Strike registers just loaded where a fault from an earlier task on lasts."""
    for k in range(hooks.shape[0]):
        a, b, mask, keep = hooks[k, 3], hooks[k, 4], np.uint32(hooks[k, 5]), np.uint32(hooks[k, 6])
        if hooks[k, 2] != what or hooks[k, 7] == 0 or hooks[k, 0] >= executed or a >= parts:
            continue
        if what == T_DESCRIPTOR:
            register[a, b] = (register[a, b] & keep) ^ mask
        else:
            task_register[a] = (task_register[a] & keep) ^ mask


@njit(cache=True)
def trace_core(sram, known, hooks, budget, actions, compares):
    """Follow a core through its chain of tasks.

    Args:
        sram: uint32[words], header and tables as they are when the launch begins; struck in place.
        known: bool[words], the words that hold them.
        hooks: int64[k, 8] rows (executed tasks, element or -1, what, a, b, mask, keep, lasts).
        budget: elements and tasks after which the core would be stopped.
        actions: uint8[n], filled, or compared with where `compares`.
        compares: whether the actions must be those given, neither more nor less.

    Returns:
        (number of actions, whether the core ends its chain without touching its tables, reading a word that is not
        known, or doing anything undefined; and, where `compares`, with these actions).
    """
    register, index = np.zeros((3, 4), np.uint32), np.zeros((3, 3), np.int64)
    task_register = np.zeros(2, np.uint32)
    words, n = sram.shape[0], 0
    task = np.int64(sram[0] & np.uint32(0xFFF))
    if sram[0] >> np.uint32(31) == 0:
        return n, not compares or actions.shape[0] == 0
    executed, elements = 0, 0
    found = np.zeros(4, np.uint8)
    while True:
        if executed >= budget:
            return n, False
        _strike(hooks, executed, -1, sram, register, task_register, index)
        at = np.int64(sram[1] & np.uint32(0x3FFF)) + 2 * task
        descriptors = np.int64((sram[1] >> np.uint32(14)) & np.uint32(0x3FFF))
        if at + 1 >= words or not known[at] or not known[at + 1]:
            return n, False
        task_register[0], task_register[1] = sram[at], sram[at + 1]
        _strike_loaded(hooks, executed, T_TASK, 2, register, task_register)
        opcode = task_register[0] & np.uint32(0x3F)
        if opcode < 1 or opcode > 16:
            return n, False
        for operand in range(3 if binary(opcode) else 2):
            place = descriptors + 4 * np.int64((task_register[1] >> np.uint32(10 * operand)) & np.uint32(0x3FF))
            if place + 3 >= words or not known[place] or not known[place + 3]:
                return n, False
            register[operand] = sram[place : place + 4]
        _strike_loaded(hooks, executed, T_DESCRIPTOR, 3 if binary(opcode) else 2, register, task_register)
        index[:] = 0
        element = 0
        while True:
            _strike(hooks, executed, element, sram, register, task_register, index)
            opcode = task_register[0] & np.uint32(0x3F)
            if not _legal(opcode, register):
                return n, False
            operands = 3 if binary(opcode) else 2
            over = False
            for operand in range(operands):
                over = over or _ended(register, index, operand)
            if over:
                break
            if elements >= budget:
                return n, False
            count = 0
            for number in range(operands):
                # Fetches first, then what is done with them.
                operand = number + 1 if number + 1 < operands else 0
                word = register[operand, 0]
                if (word >> np.uint32(14)) & np.uint32(3) == 1:
                    address = _address(register, index, operand)
                    if address < 0 or address >= words or (operand == 0 and known[address]):
                        return n, False
                elif operand == 0:
                    found[count] = SEND * 32 + np.uint8((word >> np.uint32(18)) & np.uint32(31))
                    count += 1
                elif (word >> np.uint32(23)) & np.uint32(1) == 0 or index[operand, 0] == 0:
                    found[count] = FETCH * 32 + np.uint8((word >> np.uint32(18)) & np.uint32(31))
                    count += 1
            for operand in range(operands):
                _step(register, index, operand)
            word = register[0, 0]
            mode = (word >> np.uint32(24)) & np.uint32(3)
            if (word >> np.uint32(14)) & np.uint32(3) == 3 and mode != 0:
                if _ended(register, index, 0):
                    found[count] = CONTROL * 32 + (ADVANCE if mode == 2 else RESET)
                    count += 1
                elif mode == 3 and index[0, 0] == 0 and index[0, 1] == 0:
                    found[count] = CONTROL * 32 + ADVANCE
                    count += 1
            for k in range(count):
                if n >= actions.shape[0]:
                    return n, False
                if compares and actions[n] != found[k]:
                    return n, False
                actions[n] = found[k]
                n += 1
            element += 1
            elements += 1
        executed += 1
        if (task_register[0] >> np.uint32(6)) & np.uint32(1) == 0:
            return n, not compares or n == actions.shape[0]
        task = np.int64((task_register[0] >> np.uint32(7)) & np.uint32(0xFFF))
