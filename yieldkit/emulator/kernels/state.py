"""State of the reference machine and the small operations on it: queues, words and values, one element's arithmetic."""

from typing import NamedTuple

import numpy as np
from numba import njit

from yieldkit.emulator.kernels.scalar import (
    bf16_bits,
    bits_bf16,
    bits_f32,
    bits_fp16,
    canon,
    exp32,
    f32_bits,
    fp16_bits,
    gelu32,
    gelu_grad32,
    log32,
    recip32,
    rsqrt32,
    sigmoid32,
    sqrt32,
)

# Nothing is allocated in these functions; without counting references their calls cost a third.
compiled = njit(cache=True, _nrt=False)
inlined = njit(cache=True, inline="always", _nrt=False)
# Passing tuples of arrays by value costs more than what most of these functions do: their code is put in place.
fused = njit(cache=True, forceinline=True, _nrt=False)

# Core status
UNUSED, READY, RUNNING, DONE, HALTED, RUNAWAY = 0, 1, 2, 3, 4, 5
# What a core waits for
NOTHING, STARVED, BLOCKED = 0, 1, 2
# Control words
DATA, ADVANCE, RESET = 0, 1, 2
# Triggers
T_SRAM, T_DESCRIPTOR, T_TASK, T_RESULT, T_OPERAND, T_PRODUCT, T_INDEX = range(7)
# Events
E_ILLEGAL, E_ADDRESS, E_SEQUENCE, E_PARITY, E_CRC, E_CRC_FAILED, E_SRAM_PARITY, E_ECC, E_ECC_FAILED = range(9)
N_EVENTS = 9

N_COLOURS = 24
FROM_CORE = 4
TO_CORE = 5


class State(NamedTuple):
    """Everything that changes while the machine runs; n cores in row-major order.

    sram uint32[n, words]; route uint32[n, 24, 4]; position uint8[n, 24]; queue uint32[n, 24, 6, depth] with kind uint8
    of the same shape, head and length int32[n, 24, 6] (ports N, E, S, W, from the core, to the core); status, task,
    executed, wait, wait_colour int32[n]; register uint32[n, 3, 4] descriptors D, A, B; task_register uint32[n, 2];
    loop_index int64[n, 3, 3], innermost first; stage int32[n]; control int32[n]; value float32[n, 2] fetched
    operands; element int64[n] elements of the current task; elements int64[n] of all tasks; sent int64[n, 24, 5] words
    sent by port (4: to the core); received int64[n, 24, 4]; sunk int64[n, 24]; events int64[n, 9]; numbered
    int64[n, 24, 4] number that the next word from a neighbour should have, or of no cores where links number no words.
    """

    sram: np.ndarray
    route: np.ndarray
    position: np.ndarray
    queue: np.ndarray
    kind: np.ndarray
    head: np.ndarray
    length: np.ndarray
    status: np.ndarray
    task: np.ndarray
    executed: np.ndarray
    wait: np.ndarray
    wait_colour: np.ndarray
    register: np.ndarray
    task_register: np.ndarray
    loop_index: np.ndarray
    stage: np.ndarray
    control: np.ndarray
    value: np.ndarray
    element: np.ndarray
    elements: np.ndarray
    sent: np.ndarray
    received: np.ndarray
    sunk: np.ndarray
    events: np.ndarray
    numbered: np.ndarray


class Host(NamedTuple):
    """Edge streams: words MemoryX pushes and lists it fills.

    in_core, in_port, in_colour, in_next, in_end int64[streams] over in_word uint32 and in_kind uint8; out_of
    int32[n, 4, 24] gives the list of an edge port or -1; out_count int64[lists], out_word uint32[lists, capacity].
    """

    in_core: np.ndarray
    in_port: np.ndarray
    in_colour: np.ndarray
    in_next: np.ndarray
    in_end: np.ndarray
    in_word: np.ndarray
    in_kind: np.ndarray
    out_of: np.ndarray
    out_count: np.ndarray
    out_word: np.ndarray


class Triggers(NamedTuple):
    """Faults: int64[k, 11] rows (core, executed tasks, element or -1, what, a, b, mask, keep, lasts, last struck task
    and element) and int64[l, 6] link rows (core, port, colour, word number, drop, mask).

    `armed` int32[n] counts the rows that still wait for each core, its struck words and its stuck cells: a core that
    has any does its elements one at a time. `cell` int64[m, 6] are words of SRAM that are struck or may be (core,
    address, wrong bits, keep, mask, stuck), see `cells`; `code` is the protection of SRAM, a number in `secded.CODES`.
    `slow` int64[n], or of no cores: cycles of each core over the usual ones, in 1/256.
    """

    core: np.ndarray
    link: np.ndarray
    armed: np.ndarray
    cell: np.ndarray
    code: int
    slow: np.ndarray


class Taps(NamedTuple):
    """Log of the A operands of marked tasks: `marked` uint8[roles, tasks], `role` int32[n], `word` uint32[capacity, n],
    `logged` int64[n].
    """

    marked: np.ndarray
    role: np.ndarray
    word: np.ndarray
    logged: np.ndarray


@inlined
def push(state, core, colour, port, word, kind):
    """Append a word to a queue that has room."""
    depth = state.queue.shape[3]
    place = (state.head[core, colour, port] + state.length[core, colour, port]) % depth
    state.queue[core, colour, port, place] = word
    state.kind[core, colour, port, place] = kind
    state.length[core, colour, port] += 1


@inlined
def pop(state, core, colour, port):
    """Take the first word of a queue that has one."""
    depth = state.queue.shape[3]
    place = state.head[core, colour, port]
    state.head[core, colour, port] = (place + 1) % depth
    state.length[core, colour, port] -= 1
    return state.queue[core, colour, port, place]


@fused
def decode(word, fmt):
    """Value of a word in a format."""
    if fmt == 0:
        return bits_f32(word)
    if fmt == 1:
        return bits_bf16(word)
    return bits_fp16(word)


@fused
def encode(value, fmt):
    """Word that holds a value after rounding to the format; a NaN becomes canonical."""
    if fmt == 0:
        return f32_bits(canon(value))
    if fmt == 1:
        return bf16_bits(value)
    return fp16_bits(value)


@compiled
def compute(opcode, d, a, b):
    """Result of one element; `d` is read by mac only."""
    if opcode == 1 or opcode == 8:
        return a
    if opcode == 2:
        return np.float32(a + b)
    if opcode == 3:
        return np.float32(a - b)
    if opcode == 4:
        return np.float32(a * b)
    if opcode == 5:
        if a != a or b != b:
            return np.float32(np.nan)
        return b if b > a else a
    if opcode == 6:
        product = np.float32(a * b)
        return np.float32(d + product)
    if opcode == 7:
        return np.float32(1.0) if a == b else np.float32(0.0)
    if opcode == 9:
        return exp32(a)
    if opcode == 10:
        return log32(a)
    if opcode == 11:
        return recip32(a)
    if opcode == 12:
        return rsqrt32(a)
    if opcode == 13:
        return sqrt32(a)
    if opcode == 14:
        return sigmoid32(a)
    if opcode == 15:
        return gelu32(a)
    return np.float32(a * gelu_grad32(b))


@fused
def binary(opcode):
    """Whether an operation has a second operand."""
    return 2 <= opcode <= 8 or opcode == 16


@fused
def exhausted(state, core, operand):
    """Whether an operand has no element left."""
    for level in range(3):
        extent = state.register[core, operand, 1 + level] & np.uint32(0xFFFF)
        if extent == 0:
            return True
    return state.loop_index[core, operand, 2] >= np.int64(state.register[core, operand, 3] & np.uint32(0xFFFF))


@fused
def advance(state, core, operand):
    """Step an operand to its next element."""
    state.loop_index[core, operand, 0] += 1
    for level in range(2):
        if state.loop_index[core, operand, level] >= np.int64(
            state.register[core, operand, 1 + level] & np.uint32(0xFFFF)
        ):
            state.loop_index[core, operand, level] = 0
            state.loop_index[core, operand, level + 1] += 1
        else:
            return


@fused
def address_of(state, core, operand):
    """SRAM address of an operand's present element; it may lie outside."""
    address = np.int64(state.register[core, operand, 0] & np.uint32(0x3FFF))
    for level in range(3):
        stride = np.int64(state.register[core, operand, 1 + level] >> np.uint32(16))
        if stride >= 32768:
            stride -= 65536
        address += state.loop_index[core, operand, level] * stride
    return address


@inlined
def check_number(state, core, colour, port, number):
    """Compare the number that a word from a neighbour carries with the one that should come next."""
    if state.numbered.shape[0] > 0:
        if state.numbered[core, colour, port] != number:
            state.events[core, E_SEQUENCE] += 1
        state.numbered[core, colour, port] = number + 1


@fused
def halt(state, core, event):
    """Stop a core and count why."""
    state.status[core] = HALTED
    state.events[core, event] += 1
