"""The untimed reference machine: cores, queues and routers, word by word, from configuration words alone.

Each core sees its own SRAM and the words that arrived; each router sees its own queues and route words. There is no
clock: cores and routers are visited in a given order until nothing moves. One chain of tasks a core with blocking
operands makes a Kahn network, so the state in which nothing moves does not depend on that order.

Faults are XORs on words, registers or values at a place and a core-local time, or a word lost on a link; nothing below
asks what kind of fault there was.
"""

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

# Core status
UNUSED, READY, RUNNING, DONE, HALTED, RUNAWAY = 0, 1, 2, 3, 4, 5
# What a core waits for
NOTHING, STARVED, BLOCKED = 0, 1, 2
# Control words
DATA, ADVANCE, RESET = 0, 1, 2
# Triggers
T_SRAM, T_ROUTE, T_DESCRIPTOR, T_TASK, T_RESULT = 0, 1, 2, 3, 4
# Events
E_ILLEGAL, E_ADDRESS = 0, 1

_COLOURS = 24
_RAMP_IN = 4
_TO_CORE = 5


class State(NamedTuple):
    """Everything that changes while the machine runs; n cores in row-major order.

    sram uint32[n, words]; route uint32[n, 24, 4]; position uint8[n, 24]; queue uint32[n, 24, 6, depth] with kind uint8
    of the same shape, head and length int32[n, 24, 6] (ports N, E, S, W, from the core, to the core); status, task,
    executed, wait, wait_colour int32[n]; register uint32[n, 3, 4] descriptors D, A, B; task_register uint32[n, 2];
    loop_index int64[n, 3, 3], innermost first; stage int32[n]; control int32[n]; value float32[n, 2] fetched
    operands; element int64[n] elements of the current task; elements int64[n] of all tasks; sent int64[n, 24, 5] words
    sent by port (4: to the core); received int64[n, 24, 4]; sunk int64[n, 24]; events int64[n, 2].
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
    """Faults: int64[k, 7] rows (core, executed tasks, element or -1, what, a, b, mask) and int64[l, 6] link rows
    (core, port, colour, word number, drop, mask); `armed` int32[n] counts the rows that still wait for each core.
    """

    core: np.ndarray
    link: np.ndarray
    armed: np.ndarray


class Taps(NamedTuple):
    """Log of the A operands of marked tasks: `marked` uint8[roles, tasks], `role` int32[n], `word` uint32[capacity, n],
    `logged` int64[n].
    """

    marked: np.ndarray
    role: np.ndarray
    word: np.ndarray
    logged: np.ndarray


@njit(cache=True, inline="always")
def _push(state, core, colour, port, word, kind):
    depth = state.queue.shape[3]
    place = (state.head[core, colour, port] + state.length[core, colour, port]) % depth
    state.queue[core, colour, port, place] = word
    state.kind[core, colour, port, place] = kind
    state.length[core, colour, port] += 1


@njit(cache=True, inline="always")
def _pop(state, core, colour, port):
    depth = state.queue.shape[3]
    place = state.head[core, colour, port]
    state.head[core, colour, port] = (place + 1) % depth
    state.length[core, colour, port] -= 1
    return state.queue[core, colour, port, place]


@njit(cache=True)
def decode(word, fmt):
    """Value of a word in a format."""
    if fmt == 0:
        return bits_f32(word)
    if fmt == 1:
        return bits_bf16(word)
    return bits_fp16(word)


@njit(cache=True)
def encode(value, fmt):
    """Word that holds a value after rounding to the format; a NaN becomes canonical."""
    if fmt == 0:
        return f32_bits(canon(value))
    if fmt == 1:
        return bf16_bits(value)
    return fp16_bits(value)


@njit(cache=True)
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


@njit(cache=True)
def _binary(opcode):
    return 2 <= opcode <= 8 or opcode == 16


@njit(cache=True)
def _exhausted(state, core, operand):
    for level in range(3):
        extent = state.register[core, operand, 1 + level] & np.uint32(0xFFFF)
        if extent == 0:
            return True
    return state.loop_index[core, operand, 2] >= np.int64(state.register[core, operand, 3] & np.uint32(0xFFFF))


@njit(cache=True)
def _advance(state, core, operand):
    state.loop_index[core, operand, 0] += 1
    for level in range(2):
        if state.loop_index[core, operand, level] >= np.int64(
            state.register[core, operand, 1 + level] & np.uint32(0xFFFF)
        ):
            state.loop_index[core, operand, level] = 0
            state.loop_index[core, operand, level + 1] += 1
        else:
            return


@njit(cache=True)
def _address(state, core, operand):
    address = np.int64(state.register[core, operand, 0] & np.uint32(0x3FFF))
    for level in range(3):
        stride = np.int64(state.register[core, operand, 1 + level] >> np.uint32(16))
        if stride >= 32768:
            stride -= 65536
        address += state.loop_index[core, operand, level] * stride
    return address


@njit(cache=True)
def _halt(state, core, event):
    state.status[core] = HALTED
    state.events[core, event] += 1


@njit(cache=True)
def _fire(state, triggers, core, at_element):
    """Apply the triggers of this core whose time has come."""
    for k in range(triggers.core.shape[0]):
        if triggers.core[k, 0] != core or triggers.core[k, 1] != state.executed[core]:
            continue
        what = triggers.core[k, 3]
        if what == T_RESULT or what < 0 or triggers.core[k, 2] != at_element:
            continue
        a, b = triggers.core[k, 4], triggers.core[k, 5]
        mask = np.uint32(triggers.core[k, 6])
        if what == T_SRAM:
            state.sram[core, a] ^= mask
        elif what == T_ROUTE:
            state.route[core, a, b] ^= mask
        elif what == T_DESCRIPTOR:
            state.register[core, a, b] ^= mask
        else:
            state.task_register[core, a] ^= mask
        triggers.core[k, 3] = -1
        triggers.armed[core] -= 1


@njit(cache=True)
def _result_mask(state, triggers, core):
    mask = np.uint32(0)
    for k in range(triggers.core.shape[0]):
        if (
            triggers.core[k, 0] == core
            and triggers.core[k, 3] == T_RESULT
            and triggers.core[k, 1] == state.executed[core]
            and triggers.core[k, 2] == state.element[core]
        ):
            mask ^= np.uint32(triggers.core[k, 6])
            triggers.core[k, 3] = -1
            triggers.armed[core] -= 1
    return mask


@njit(cache=True)
def _start_task(state, triggers, core):
    """Copy the task word and its descriptors into registers; halts on anything undefined."""
    words = state.sram.shape[1]
    if triggers.armed[core] > 0:
        _fire(state, triggers, core, np.int64(-1))
    table = np.int64(state.sram[core, 1] & np.uint32(0x3FFF))
    descriptors = np.int64((state.sram[core, 1] >> np.uint32(14)) & np.uint32(0x3FFF))
    at = table + 2 * np.int64(state.task[core])
    if at + 1 >= words:
        _halt(state, core, E_ADDRESS)
        return
    state.task_register[core, 0] = state.sram[core, at]
    state.task_register[core, 1] = state.sram[core, at + 1]
    opcode = state.task_register[core, 0] & np.uint32(0x3F)
    if opcode < 1 or opcode > 16:
        _halt(state, core, E_ILLEGAL)
        return
    operands = 3 if _binary(opcode) else 2
    for operand in range(operands):
        number = np.int64((state.task_register[core, 1] >> np.uint32(10 * operand)) & np.uint32(0x3FF))
        place = descriptors + 4 * number
        if place + 3 >= words:
            _halt(state, core, E_ADDRESS)
            return
        for word in range(4):
            state.register[core, operand, word] = state.sram[core, place + word]
        for level in range(3):
            state.loop_index[core, operand, level] = 0
    state.stage[core] = 0
    state.control[core] = 0
    state.element[core] = 0
    state.status[core] = RUNNING


@njit(cache=True)
def _legal(state, core):
    """Whether the registers describe an operation that exists."""
    opcode = state.task_register[core, 0] & np.uint32(0x3F)
    if opcode < 1 or opcode > 16:
        return False
    operands = 3 if _binary(opcode) else 2
    for operand in range(operands):
        word = state.register[core, operand, 0]
        kind = (word >> np.uint32(14)) & np.uint32(3)
        fmt = (word >> np.uint32(16)) & np.uint32(3)
        colour = (word >> np.uint32(18)) & np.uint32(31)
        if kind == 0 or fmt == 3:
            return False
        if kind != 1 and colour >= _COLOURS:
            return False
        if operand == 0 and kind == 2:
            return False
        if operand > 0 and kind == 3:
            return False
        if operand == 0 and kind == 3 and (opcode == 6 or opcode == 8):
            return False
    return True


@njit(cache=True)
def _fetch(state, core, operand):
    """Fetch operand A (1) or B (2): 0 done, 1 wait, 2 halted."""
    word = state.register[core, operand, 0]
    fmt = (word >> np.uint32(16)) & np.uint32(3)
    if (word >> np.uint32(14)) & np.uint32(3) == 1:
        address = _address(state, core, operand)
        if address < 0 or address >= state.sram.shape[1]:
            _halt(state, core, E_ADDRESS)
            return 2
        state.value[core, operand - 1] = decode(state.sram[core, address], fmt)
        return 0
    if (word >> np.uint32(23)) & np.uint32(1) and state.loop_index[core, operand, 0] != 0:
        return 0
    colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
    if state.length[core, colour, _TO_CORE] == 0:
        state.wait[core] = STARVED
        state.wait_colour[core] = colour
        return 1
    state.value[core, operand - 1] = decode(_pop(state, core, colour, _TO_CORE), fmt)
    return 0


@njit(cache=True)
def _end_task(state, core):
    state.executed[core] += 1
    word = state.task_register[core, 0]
    if (word >> np.uint32(6)) & np.uint32(1):
        state.task[core] = np.int32((word >> np.uint32(7)) & np.uint32(0xFFF))
        state.status[core] = READY
    else:
        state.status[core] = DONE


@njit(cache=True)
def _fast_mac(state, core, limit):
    """Run the inner loop of a multiply-accumulate with operand A held or in memory, all fetched from memory.

    Does exactly what element-by-element execution does for the rest of the innermost loop; returns elements done, or 0
    when the case is not this plain one.
    """
    word_d, word_a, word_b = state.register[core, 0, 0], state.register[core, 1, 0], state.register[core, 2, 0]
    inner = np.int64(state.register[core, 0, 1] & np.uint32(0xFFFF))
    if inner != np.int64(state.register[core, 1, 1] & np.uint32(0xFFFF)):
        return 0
    if inner != np.int64(state.register[core, 2, 1] & np.uint32(0xFFFF)):
        return 0
    at = state.loop_index[core, 0, 0]
    if at != state.loop_index[core, 1, 0] or at != state.loop_index[core, 2, 0]:
        return 0
    if (word_d >> np.uint32(14)) & np.uint32(15) != 1 or (word_b >> np.uint32(14)) & np.uint32(3) != 1:
        return 0
    memory_a = (word_a >> np.uint32(14)) & np.uint32(3) == 1
    if not memory_a and (at == 0 or not (word_a >> np.uint32(23)) & np.uint32(1)):
        return 0
    # The last element of the loop is left to the general path, which carries into the outer loops.
    count = min(inner - at - 1, limit)
    if count <= 0:
        return 0
    fmt_a = (word_a >> np.uint32(16)) & np.uint32(3)
    fmt_b = (word_b >> np.uint32(16)) & np.uint32(3)
    d, b = _address(state, core, 0), _address(state, core, 2)
    step_d = np.int64(np.int16(state.register[core, 0, 1] >> np.uint32(16)))
    step_a = np.int64(np.int16(state.register[core, 1, 1] >> np.uint32(16)))
    step_b = np.int64(np.int16(state.register[core, 2, 1] >> np.uint32(16)))
    words = state.sram.shape[1]
    for low, step in ((d, step_d), (b, step_b)):
        high = low + step * (count - 1)
        if low < 0 or low >= words or high < 0 or high >= words:
            return 0
    a = np.int64(0)
    if memory_a:
        a = _address(state, core, 1)
        high = a + step_a * (count - 1)
        if a < 0 or a >= words or high < 0 or high >= words:
            return 0
    held = state.value[core, 0]
    sram = state.sram[core]
    for _ in range(count):
        if memory_a:
            held = decode(sram[a], fmt_a)
            a += step_a
        other = decode(sram[b], fmt_b)
        b += step_b
        product = np.float32(held * other)
        sram[d] = f32_bits(canon(np.float32(bits_f32(sram[d]) + product)))
        d += step_d
    state.value[core, 0] = held
    for operand in range(3):
        state.loop_index[core, operand, 0] += count
    state.element[core] += count
    state.elements[core] += count
    return count


@njit(cache=True)
def _run_core(state, triggers, taps, budget, core, burst):
    """Run a core until it blocks, ends or has done `burst` elements; returns whether anything happened."""
    moved = False
    done = 0
    while True:
        status = state.status[core]
        if status == READY:
            _start_task(state, triggers, core)
            moved = True
            continue
        if status != RUNNING:
            return moved
        if done >= burst:
            return moved
        state.wait[core] = NOTHING
        if state.stage[core] == 0:
            if triggers.armed[core] > 0:
                _fire(state, triggers, core, state.element[core])
            if not _legal(state, core):
                _halt(state, core, E_ILLEGAL)
                return True
            opcode = state.task_register[core, 0] & np.uint32(0x3F)
            binary = _binary(opcode)
            if _exhausted(state, core, 0) or _exhausted(state, core, 1) or (binary and _exhausted(state, core, 2)):
                _end_task(state, core)
                moved = True
                continue
            if state.elements[core] >= budget[core]:
                state.status[core] = RUNAWAY
                return True
            if opcode == 6 and triggers.armed[core] == 0:
                run = _fast_mac(state, core, min(np.int64(burst - done), budget[core] - state.elements[core]))
                if run > 0:
                    done += run
                    moved = True
                    continue
        opcode = state.task_register[core, 0] & np.uint32(0x3F)
        binary = _binary(opcode)
        if state.stage[core] == 0:
            got = _fetch(state, core, 1)
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
            if binary:
                got = _fetch(state, core, 2)
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
                address = _address(state, core, 0)
                if address < 0 or address >= state.sram.shape[1]:
                    _halt(state, core, E_ADDRESS)
                    return True
                if opcode != 8 or b != np.float32(0.0):
                    old = np.float32(0.0)
                    if opcode == 6:
                        old = decode(state.sram[core, address], fmt)
                    result = encode(compute(opcode, old, a, b), fmt)
                    if triggers.armed[core] > 0:
                        result ^= _result_mask(state, triggers, core)
                    state.sram[core, address] = result
            else:
                colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
                if state.length[core, colour, _RAMP_IN] >= state.queue.shape[3]:
                    state.wait[core] = BLOCKED
                    state.wait_colour[core] = colour
                    return moved
                result = encode(compute(opcode, np.float32(0.0), a, b), fmt)
                if triggers.armed[core] > 0:
                    result ^= _result_mask(state, triggers, core)
                _push(state, core, colour, _RAMP_IN, result, DATA)
            _advance(state, core, 0)
            _advance(state, core, 1)
            if binary:
                _advance(state, core, 2)
            state.element[core] += 1
            state.elements[core] += 1
            done += 1
            moved = True
            state.control[core] = 0
            mode = (word >> np.uint32(24)) & np.uint32(3)
            if (word >> np.uint32(14)) & np.uint32(3) == 3 and mode != 0:
                if _exhausted(state, core, 0):
                    state.control[core] = ADVANCE if mode == 2 else RESET
                elif mode == 3 and state.loop_index[core, 0, 0] == 0 and state.loop_index[core, 0, 1] == 0:
                    state.control[core] = ADVANCE
            state.stage[core] = 3
        if state.stage[core] == 3:
            if state.control[core] != 0:
                colour = np.int64((word >> np.uint32(18)) & np.uint32(31))
                if state.length[core, colour, _RAMP_IN] >= state.queue.shape[3]:
                    state.wait[core] = BLOCKED
                    state.wait_colour[core] = colour
                    return moved
                _push(state, core, colour, _RAMP_IN, np.uint32(0), state.control[core])
                state.control[core] = 0
                moved = True
            state.stage[core] = 0


@njit(cache=True)
def _on_link(state, triggers, core, port, colour, word):
    """Word as it leaves on a link, and whether it is lost."""
    lost = False
    if triggers.link.shape[0] > 0:
        for k in range(triggers.link.shape[0]):
            if (
                triggers.link[k, 0] == core
                and triggers.link[k, 1] == port
                and triggers.link[k, 2] == colour
                and triggers.link[k, 3] == state.sent[core, colour, port]
            ):
                word ^= np.uint32(triggers.link[k, 5])
                lost = lost or triggers.link[k, 4] == 1
    return word, lost


@njit(cache=True)
def _run_router(state, host, triggers, neighbour, core, colour):
    """Move words of one colour through one router until its head has to wait; returns whether anything moved."""
    depth = state.queue.shape[3]
    moved = False
    while True:
        route = state.route[core, colour, state.position[core, colour]]
        rx = route & np.uint32(7)
        if rx == 0 or rx > 5:
            return moved
        port = np.int64(rx) - 1
        if state.length[core, colour, port] == 0:
            return moved
        place = state.head[core, colour, port]
        kind = state.kind[core, colour, port, place]
        for out in range(4):
            if (route >> np.uint32(3 + out)) & np.uint32(1):
                other = neighbour[core, out]
                if other >= 0 and state.length[other, colour, (out + 2) % 4] >= depth:
                    return moved
        if (route >> np.uint32(7)) & np.uint32(1) and kind == DATA and state.length[core, colour, _TO_CORE] >= depth:
            return moved
        word = _pop(state, core, colour, port)
        if (route >> np.uint32(3)) & np.uint32(31) == 0:
            state.sunk[core, colour] += 1
        for out in range(4):
            if (route >> np.uint32(3 + out)) & np.uint32(1):
                carried, lost = _on_link(state, triggers, core, out, colour, word)
                state.sent[core, colour, out] += 1
                other = neighbour[core, out]
                if lost:
                    continue
                if other >= 0:
                    _push(state, other, colour, (out + 2) % 4, carried, kind)
                    state.received[other, colour, (out + 2) % 4] += 1
                else:
                    line = host.out_of[core, out, colour]
                    if line >= 0 and kind == DATA:
                        at = host.out_count[line]
                        if at < host.out_word.shape[1]:
                            host.out_word[line, at] = carried
                        host.out_count[line] += 1
        if (route >> np.uint32(7)) & np.uint32(1) and kind == DATA:
            _push(state, core, colour, _TO_CORE, word, kind)
            state.sent[core, colour, 4] += 1
        if kind == ADVANCE:
            if not (route >> np.uint32(8)) & np.uint32(1) and state.position[core, colour] < 3:
                state.position[core, colour] += 1
        elif kind == RESET:
            state.position[core, colour] = 0
        moved = True


@njit(cache=True)
def run(state, host, triggers, taps, neighbour, budget, order, burst):
    """Run until nothing moves; the order of visits and the burst change nothing in the state that is reached."""
    depth = state.queue.shape[3]
    n = state.status.shape[0]
    live = np.zeros((n, _COLOURS), np.uint8)
    # A trigger may give any colour a route later, so its core's colours are all watched.
    for core in range(n):
        for colour in range(_COLOURS):
            for position in range(4):
                if state.route[core, colour, position] != 0 or triggers.armed[core] > 0:
                    live[core, colour] = 1
    while True:
        moved = False
        for stream in range(host.in_core.shape[0]):
            core, colour, port = host.in_core[stream], host.in_colour[stream], host.in_port[stream]
            while host.in_next[stream] < host.in_end[stream] and state.length[core, colour, port] < depth:
                at = host.in_next[stream]
                _push(state, core, colour, port, host.in_word[at], host.in_kind[at])
                state.received[core, colour, port] += 1
                host.in_next[stream] += 1
                moved = True
        for core in order:
            if state.status[core] == READY or state.status[core] == RUNNING:
                moved |= _run_core(state, triggers, taps, budget, core, burst)
        for core in order:
            for colour in range(_COLOURS):
                if live[core, colour]:
                    moved |= _run_router(state, host, triggers, neighbour, core, colour)
        if not moved:
            return
