"""Struck words of SRAM: which of their bits are wrong, what a read of them gives, and cells that are stuck.

SRAM itself holds what a read hands out, so words that nothing has struck cost nothing. A struck word has a row in the
table of cells, and there alone stand its wrong bits, check bits included: a read looks there for what the code notices,
a store wipes it out with new check bits. A read writes nothing back: a wrong word stays wrong until it is stored.
"""

import numpy as np

from yieldkit.emulator.kernels.state import E_ECC, E_ECC_FAILED, E_SRAM_PARITY, compiled
from yieldkit.emulator.secded import CHECK_BITS, CODES, COLUMNS, CORRECTED, DETECTED

PARITY, SECDED = CODES.index("parity"), CODES.index("secded")
# Columns of the table of cells
CELL_CORE, CELL_ADDRESS, CELL_PATTERN, CELL_KEEP, CELL_MASK, CELL_STUCK = 0, 1, 2, 3, 4, 5
CELL_COLUMNS = 6
BITS = 32 + CHECK_BITS
DATA = (1 << 32) - 1
CHECKS = ((1 << CHECK_BITS) - 1) << 32


@compiled
def read_of(pattern, code):
    """Bits that are wrong in what a read hands out, and what the code notices; `secded.read_pattern` for one word."""
    wrong = pattern & DATA
    if code == PARITY:
        odd = 0
        for bit in range(33):
            odd ^= (pattern >> bit) & 1
        return wrong, DETECTED * odd
    if code != SECDED or pattern == 0:
        return wrong, 0
    syndrome = 0
    for bit in range(BITS):
        if (pattern >> bit) & 1:
            syndrome ^= COLUMNS[bit]
    if syndrome == 0:
        return wrong, 0
    for bit in range(BITS):
        if COLUMNS[bit] == syndrome:
            if bit < 32:
                wrong ^= 1 << bit
            return wrong, CORRECTED
    return wrong, DETECTED


@compiled
def _find(triggers, core, address):
    for k in range(triggers.cell.shape[0]):
        if triggers.cell[k, CELL_CORE] == core and triggers.cell[k, CELL_ADDRESS] == address:
            return k
    return -1


@compiled
def _set_pattern(triggers, core, k, pattern):
    """A core with a struck word does its elements one at a time."""
    before = triggers.cell[k, CELL_PATTERN]
    if before == 0 and pattern != 0:
        triggers.armed[core] += 1
    if before != 0 and pattern == 0:
        triggers.armed[core] -= 1
    triggers.cell[k, CELL_PATTERN] = pattern


@compiled
def strike_cell(state, triggers, core, address, mask, keep, lasts):
    """Strike a word of SRAM: what it holds now and, where it lasts, what is stored in it from now on."""
    k = _find(triggers, core, address)
    if k < 0:
        state.sram[core, address] = (state.sram[core, address] & np.uint32(keep)) ^ np.uint32(mask & DATA)
        return
    pattern = triggers.cell[k, CELL_PATTERN]
    meant = np.int64(state.sram[core, address]) ^ read_of(pattern, triggers.code)[0]
    struck = ((meant ^ (pattern & DATA)) & keep) ^ (mask & DATA)
    _hold(state, triggers, core, k, meant, (meant ^ struck) | ((pattern ^ mask) & CHECKS))
    if lasts:
        # Two cells in one: the second acts on what the first leaves.
        triggers.cell[k, CELL_MASK] = (triggers.cell[k, CELL_MASK] & (keep | CHECKS)) ^ mask
        triggers.cell[k, CELL_KEEP] &= keep
        if triggers.cell[k, CELL_STUCK] == 0:
            triggers.cell[k, CELL_STUCK] = 1
            triggers.armed[core] += 1


@compiled
def _hold(state, triggers, core, k, meant, pattern):
    """Let a cell hold a word with some bits wrong."""
    if triggers.code == 0:
        state.sram[core, triggers.cell[k, CELL_ADDRESS]] = np.uint32(meant ^ (pattern & DATA))
        return
    _set_pattern(triggers, core, k, pattern)
    state.sram[core, triggers.cell[k, CELL_ADDRESS]] = np.uint32(meant ^ read_of(pattern, triggers.code)[0])


@compiled
def store(state, triggers, core, address, word):
    """A core that is being struck stores a word, with new check bits."""
    k = _find(triggers, core, address)
    if k < 0:
        state.sram[core, address] = word
        return
    meant = np.int64(word)
    pattern = np.int64(0)
    if triggers.cell[k, CELL_STUCK]:
        mask = triggers.cell[k, CELL_MASK]
        pattern = (meant ^ ((meant & triggers.cell[k, CELL_KEEP]) ^ (mask & DATA))) | (mask & CHECKS)
    _hold(state, triggers, core, k, meant, pattern)


@compiled
def note_read(state, triggers, core, address):
    """Count what the code notices as a core reads a word."""
    if triggers.code == 0:
        return
    k = _find(triggers, core, address)
    if k < 0:
        return
    seen = read_of(triggers.cell[k, CELL_PATTERN], triggers.code)[1]
    if seen == CORRECTED:
        state.events[core, E_ECC] += 1
    elif seen == DETECTED:
        state.events[core, E_SRAM_PARITY if triggers.code == PARITY else E_ECC_FAILED] += 1
