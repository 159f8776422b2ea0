"""What strikes a core at a time of its own: registers and loop indices before an element, values within it.

A struck word becomes `(old & keep) ^ mask`, whatever it is; nothing here asks what kind of fault that is.
"""

import numpy as np

from yieldkit.emulator.kernels.cells import note_read, store, strike_cell
from yieldkit.emulator.kernels.scalar import bits_f32, canon, f32_bits
from yieldkit.emulator.kernels.state import (
    T_DESCRIPTOR,
    T_INDEX,
    T_OPERAND,
    T_PRODUCT,
    T_RESULT,
    T_SRAM,
    T_TASK,
    binary,
    compiled,
    compute,
    decode,
    encode,
)

# Columns of a row of `Triggers.core`
AT_CORE, AT_TASK, AT_ELEMENT, WHAT, PART, WORD, MASK, KEEP, LASTS, LAST_TASK, LAST_ELEMENT = range(11)
COLUMNS = 11
_NEVER = np.int64(1) << np.int64(62)
ONCE, FROM_HERE, BEGUN = 0, 1, 2
"""Values of `LASTS`: a fault that lasts has begun once its moment has come."""


@compiled
def _is_due(row, executed, element):
    """Whether a row that strikes within elements strikes this one."""
    if row[LASTS] != ONCE:
        return row[AT_TASK] < executed or (row[AT_TASK] == executed and row[AT_ELEMENT] <= element)
    return row[AT_TASK] == executed and row[AT_ELEMENT] == element


@compiled
def quiet_elements(triggers, core, executed, element):
    """Elements of the running task up to the next one that may be struck; 0 where elements must be done one by one.

    Only faults that strike once are foreseen; what lasts, words that are watched and the like arm a core for good.
    """
    quiet = _NEVER
    if triggers.armed[core] == 0:
        return quiet
    waiting = 0
    for k in range(triggers.core.shape[0]):
        row = triggers.core[k]
        if row[AT_CORE] != core or row[WHAT] < 0:
            continue
        if row[LASTS] != ONCE:
            return np.int64(0)
        waiting += 1
        if row[AT_TASK] == executed and row[AT_ELEMENT] >= element:
            quiet = min(quiet, row[AT_ELEMENT] - element)
    return quiet if waiting == triggers.armed[core] else np.int64(0)


@compiled
def _strike(state, triggers, core, row):
    mask, keep = np.uint32(row[MASK] & 0xFFFFFFFF), np.uint32(row[KEEP])
    part, word = row[PART], row[WORD]
    if row[WHAT] == T_SRAM:
        strike_cell(state, triggers, core, part, row[MASK], row[KEEP], row[LASTS] != ONCE)
    elif row[WHAT] == T_DESCRIPTOR:
        state.register[core, part, word] = (state.register[core, part, word] & keep) ^ mask
    elif row[WHAT] == T_TASK:
        state.task_register[core, part] = (state.task_register[core, part] & keep) ^ mask
    else:
        old = state.loop_index[core, part, word]
        state.loop_index[core, part, word] = ((old & row[KEEP]) ^ row[MASK]) & 0xFFFF


@compiled
def fire(state, triggers, core, element):
    """Strike what of a core is due before an element, or before a task (-1): SRAM, registers, loop indices."""
    executed = np.int64(state.executed[core])
    for k in range(triggers.core.shape[0]):
        row = triggers.core[k]
        what = row[WHAT]
        within = what in (T_RESULT, T_OPERAND, T_PRODUCT)
        if row[AT_CORE] != core or what < 0 or within:
            continue
        if what == T_INDEX and row[LASTS] != ONCE:
            # A core may look at an element again after waiting for its words.
            again = row[LAST_TASK] == executed and row[LAST_ELEMENT] == element
            if element >= 0 and not again and _is_due(row, executed, element):
                row[LAST_TASK], row[LAST_ELEMENT] = executed, element
                _strike(state, triggers, core, row)
            continue
        if row[AT_TASK] != executed or row[AT_ELEMENT] != element or row[LASTS] == BEGUN:
            continue
        _strike(state, triggers, core, row)
        if row[LASTS] != ONCE and what != T_SRAM:
            row[LASTS] = BEGUN
        else:
            row[WHAT] = -1
            triggers.armed[core] -= 1


@compiled
def strike_loaded(state, triggers, core, what, parts):
    """Strike the first `parts` registers of a kind, into which a task has just been loaded, where a fault from an
    earlier task on lasts.
    """
    for k in range(triggers.core.shape[0]):
        row = triggers.core[k]
        lasts = row[AT_CORE] == core and row[WHAT] == what and row[LASTS] != ONCE
        if lasts and row[PART] < parts and row[AT_TASK] < state.executed[core]:
            _strike(state, triggers, core, row)


@compiled
def _struck(state, triggers, core, what, part, word):
    """A word within the present element, struck by what is due."""
    for k in range(triggers.core.shape[0]):
        row = triggers.core[k]
        if row[AT_CORE] != core or row[WHAT] != what or row[PART] != part:
            continue
        if _is_due(row, np.int64(state.executed[core]), state.element[core]):
            word = (word & np.uint32(row[KEEP])) ^ np.uint32(row[MASK] & 0xFFFFFFFF)
            if row[LASTS] == ONCE:
                row[WHAT] = -1
                triggers.armed[core] -= 1
    return word


@compiled
def _operand_of(state, triggers, core, operand, value):
    """Value of operand A (1) or B (2) as it comes into the present element."""
    fmt = (state.register[core, operand, 0] >> np.uint32(16)) & np.uint32(3)
    word = encode(value, fmt)
    struck = _struck(state, triggers, core, T_OPERAND, operand, word)
    return value if struck == word else decode(struck, fmt)


@compiled
def _result_of(state, triggers, core, opcode, d, a, b, fmt):
    """Word that the present element gives."""
    if opcode == 6:
        product = np.float32(a * b)
        word = f32_bits(canon(product))
        struck = _struck(state, triggers, core, T_PRODUCT, 0, word)
        if struck != word:
            product = bits_f32(struck)
        word = encode(np.float32(d + product), fmt)
    else:
        word = encode(compute(opcode, d, a, b), fmt)
    return _struck(state, triggers, core, T_RESULT, 0, word)


@compiled
def work_on_memory(state, triggers, core, opcode, a, b, address, fmt):
    """Compute the present element of a core that is being struck, and store its result."""
    a = _operand_of(state, triggers, core, 1, a)
    if binary(opcode):
        b = _operand_of(state, triggers, core, 2, b)
    if opcode == 8 and b == np.float32(0.0):
        return
    d = np.float32(0.0)
    if opcode == 6:
        note_read(state, triggers, core, address)
        d = decode(state.sram[core, address], fmt)
    store(state, triggers, core, address, _result_of(state, triggers, core, opcode, d, a, b, fmt))


@compiled
def word_to_send(state, triggers, core, opcode, a, b, fmt):
    """The word that the present element of a core that is being struck puts on the fabric."""
    a = _operand_of(state, triggers, core, 1, a)
    if binary(opcode):
        b = _operand_of(state, triggers, core, 2, b)
    return _result_of(state, triggers, core, opcode, np.float32(0.0), a, b, fmt)
