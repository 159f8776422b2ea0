"""The inner loop of a core that no fault is going to strike: registers in locals, elements in the same order."""

import numpy as np

from yieldkit.emulator.kernels.scalar import bits_f32, canon, f32_bits
from yieldkit.emulator.kernels.state import (
    ADVANCE,
    BLOCKED,
    DATA,
    E_ADDRESS,
    FROM_CORE,
    RESET,
    RUNAWAY,
    STARVED,
    TO_CORE,
    binary,
    compiled,
    compute,
    decode,
    encode,
    halt,
    inlined,
    pop,
    push,
)

# How a visit ended: the core has to wait (or halted, or used its burst), or its task is done.
WAITING, ENDED = 0, 1


@inlined
def _loop(register, operand, level):
    word = register[operand, 1 + level]
    stride = np.int64(word >> np.uint32(16))
    if stride >= 32768:
        stride -= 65536
    return np.int64(word & np.uint32(0xFFFF)), stride


@compiled
def _stretch(sram, opcode, two, count, d, sd, fmt_d, memory_a, a, sa, fmt_a, memory_b, b, sb, fmt_b, va, vb):
    """`count` elements whose operands are in memory or held, in order; returns the last values of A and B."""
    if opcode == 6 and fmt_d == 0 and fmt_a < 2 and fmt_b < 2:
        shift_a, shift_b = np.uint32(16 * fmt_a), np.uint32(16 * fmt_b)
        for _ in range(count):
            if memory_a:
                va = bits_f32(np.uint32(sram[a] << shift_a))
                a += sa
            if memory_b:
                vb = bits_f32(np.uint32(sram[b] << shift_b))
                b += sb
            sram[d] = f32_bits(canon(np.float32(bits_f32(sram[d]) + np.float32(va * vb))))
            d += sd
        return va, vb
    for _ in range(count):
        if memory_a:
            va = decode(sram[a], fmt_a)
            a += sa
        if two and memory_b:
            vb = decode(sram[b], fmt_b)
            b += sb
        if opcode == 6:
            sram[d] = encode(compute(opcode, decode(sram[d], fmt_d), va, vb), fmt_d)
        elif opcode != 8 or vb != np.float32(0.0):
            sram[d] = encode(compute(opcode, np.float32(0.0), va, vb), fmt_d)
        d += sd
    return va, vb


@compiled
def run_plain(state, taps, budget, core, burst):
    """Go on with the running task of a core whose registers are legal.

    Returns (WAITING or ENDED, whether anything happened). What is fetched and not used yet, and a control word that
    could not be sent, stay in `value`, `stage` and `control`, as when elements are done one at a time.
    """
    register = state.register[core]
    sram = state.sram[core]
    words = sram.shape[0]
    depth = state.queue.shape[3]
    opcode = state.task_register[core, 0] & np.uint32(0x3F)
    two = binary(opcode)
    word_d, word_a, word_b = register[0, 0], register[1, 0], register[2, 0]
    fmt_d = (word_d >> np.uint32(16)) & np.uint32(3)
    fmt_a = (word_a >> np.uint32(16)) & np.uint32(3)
    fmt_b = (word_b >> np.uint32(16)) & np.uint32(3)
    memory_d = (word_d >> np.uint32(14)) & np.uint32(3) == 1
    memory_a = (word_a >> np.uint32(14)) & np.uint32(3) == 1
    memory_b = (word_b >> np.uint32(14)) & np.uint32(3) == 1
    colour_d = np.int64((word_d >> np.uint32(18)) & np.uint32(31))
    colour_a = np.int64((word_a >> np.uint32(18)) & np.uint32(31))
    colour_b = np.int64((word_b >> np.uint32(18)) & np.uint32(31))
    hold_a = (word_a >> np.uint32(23)) & np.uint32(1) == 1
    hold_b = (word_b >> np.uint32(23)) & np.uint32(1) == 1
    mode = np.int64((word_d >> np.uint32(24)) & np.uint32(3))
    if memory_d:
        mode = np.int64(0)
    base_d = np.int64(word_d & np.uint32(0x3FFF))
    base_a = np.int64(word_a & np.uint32(0x3FFF))
    base_b = np.int64(word_b & np.uint32(0x3FFF))
    ed0, sd0 = _loop(register, 0, 0)
    ed1, sd1 = _loop(register, 0, 1)
    ed2, sd2 = _loop(register, 0, 2)
    ea0, sa0 = _loop(register, 1, 0)
    ea1, sa1 = _loop(register, 1, 1)
    ea2, sa2 = _loop(register, 1, 2)
    eb0, sb0 = _loop(register, 2, 0)
    eb1, sb1 = _loop(register, 2, 1)
    eb2, sb2 = _loop(register, 2, 2)
    index = state.loop_index[core]
    d0, d1, d2 = index[0, 0], index[0, 1], index[0, 2]
    a0, a1, a2 = index[1, 0], index[1, 1], index[1, 2]
    b0, b1, b2 = index[2, 0], index[2, 1], index[2, 2]
    empty = ed0 == 0 or ed1 == 0 or ed2 == 0 or ea0 == 0 or ea1 == 0 or ea2 == 0
    if two:
        empty = empty or eb0 == 0 or eb1 == 0 or eb2 == 0
    stage = state.stage[core]
    control = state.control[core]
    va, vb = state.value[core, 0], state.value[core, 1]
    element, elements = state.element[core], state.elements[core]
    most = budget[core]
    task = state.task[core]
    tapped = task < taps.marked.shape[1] and taps.marked[taps.role[core], task] != 0
    moved = False
    end = WAITING
    done = 0
    while True:
        if stage == 0:
            if empty or d2 >= ed2 or a2 >= ea2 or (two and b2 >= eb2):
                end = ENDED
                break
            if elements >= most:
                state.status[core] = RUNAWAY
                moved = True
                break
            if done >= burst:
                break
            if (
                memory_d
                and not tapped
                and (memory_a or (hold_a and a0 != 0))
                and (not two or memory_b or (hold_b and b0 != 0))
            ):
                # To the end of the innermost loop that ends first there is nothing to wait for.
                count = min(ed0 - d0, ea0 - a0, burst - done, most - elements)
                if two:
                    count = min(count, eb0 - b0)
                at_d = base_d + d0 * sd0 + d1 * sd1 + d2 * sd2
                at_a = base_a + a0 * sa0 + a1 * sa1 + a2 * sa2
                at_b = base_b + b0 * sb0 + b1 * sb1 + b2 * sb2
                far = count - 1
                inside = min(at_d, at_d + far * sd0) >= 0 and max(at_d, at_d + far * sd0) < words
                if memory_a:
                    inside = inside and min(at_a, at_a + far * sa0) >= 0 and max(at_a, at_a + far * sa0) < words
                if two and memory_b:
                    inside = inside and min(at_b, at_b + far * sb0) >= 0 and max(at_b, at_b + far * sb0) < words
                if count > 1 and inside:
                    va, vb = _stretch(
                        sram, opcode, two, count, at_d, sd0, fmt_d, memory_a, at_a, sa0, fmt_a, memory_b, at_b, sb0,
                        fmt_b, va, vb,
                    )  # fmt: skip
                    element += count
                    elements += count
                    done += count
                    moved = True
                    d0 += count
                    if d0 >= ed0:
                        d0 = np.int64(0)
                        d1 += 1
                        if d1 >= ed1:
                            d1 = np.int64(0)
                            d2 += 1
                    a0 += count
                    if a0 >= ea0:
                        a0 = np.int64(0)
                        a1 += 1
                        if a1 >= ea1:
                            a1 = np.int64(0)
                            a2 += 1
                    if two:
                        b0 += count
                        if b0 >= eb0:
                            b0 = np.int64(0)
                            b1 += 1
                            if b1 >= eb1:
                                b1 = np.int64(0)
                                b2 += 1
                    continue
            if memory_a:
                at = base_a + a0 * sa0 + a1 * sa1 + a2 * sa2
                if at < 0 or at >= words:
                    halt(state, core, E_ADDRESS)
                    moved = True
                    break
                va = decode(sram[at], fmt_a)
            elif not (hold_a and a0 != 0):
                if state.length[core, colour_a, TO_CORE] == 0:
                    state.wait[core] = STARVED
                    state.wait_colour[core] = colour_a
                    break
                va = decode(pop(state, core, colour_a, TO_CORE), fmt_a)
            stage = 1
            moved = True
            if tapped:
                line = taps.logged[core]
                if line < taps.word.shape[0]:
                    taps.word[line, core] = f32_bits(canon(va))
                taps.logged[core] += 1
        if stage == 1:
            if two:
                if memory_b:
                    at = base_b + b0 * sb0 + b1 * sb1 + b2 * sb2
                    if at < 0 or at >= words:
                        halt(state, core, E_ADDRESS)
                        moved = True
                        break
                    vb = decode(sram[at], fmt_b)
                elif not (hold_b and b0 != 0):
                    if state.length[core, colour_b, TO_CORE] == 0:
                        state.wait[core] = STARVED
                        state.wait_colour[core] = colour_b
                        break
                    vb = decode(pop(state, core, colour_b, TO_CORE), fmt_b)
            stage = 2
            moved = True
        if stage == 2:
            if memory_d:
                at = base_d + d0 * sd0 + d1 * sd1 + d2 * sd2
                if at < 0 or at >= words:
                    halt(state, core, E_ADDRESS)
                    moved = True
                    break
                if opcode == 6:
                    sram[at] = encode(compute(opcode, decode(sram[at], fmt_d), va, vb), fmt_d)
                elif opcode != 8 or vb != np.float32(0.0):
                    sram[at] = encode(compute(opcode, np.float32(0.0), va, vb), fmt_d)
            else:
                if state.length[core, colour_d, FROM_CORE] >= depth:
                    state.wait[core] = BLOCKED
                    state.wait_colour[core] = colour_d
                    break
                result = encode(compute(opcode, np.float32(0.0), va, vb), fmt_d)
                push(state, core, colour_d, FROM_CORE, result, DATA)
            d0 += 1
            if d0 >= ed0:
                d0 = np.int64(0)
                d1 += 1
                if d1 >= ed1:
                    d1 = np.int64(0)
                    d2 += 1
            a0 += 1
            if a0 >= ea0:
                a0 = np.int64(0)
                a1 += 1
                if a1 >= ea1:
                    a1 = np.int64(0)
                    a2 += 1
            if two:
                b0 += 1
                if b0 >= eb0:
                    b0 = np.int64(0)
                    b1 += 1
                    if b1 >= eb1:
                        b1 = np.int64(0)
                        b2 += 1
            element += 1
            elements += 1
            done += 1
            moved = True
            control = np.int32(0)
            if mode != 0:
                if d2 >= ed2:
                    control = np.int32(ADVANCE) if mode == 2 else np.int32(RESET)
                elif mode == 3 and d0 == 0 and d1 == 0:
                    control = np.int32(ADVANCE)
            stage = 3
        if control != 0:
            if state.length[core, colour_d, FROM_CORE] >= depth:
                state.wait[core] = BLOCKED
                state.wait_colour[core] = colour_d
                break
            push(state, core, colour_d, FROM_CORE, np.uint32(0), control)
            control = np.int32(0)
            moved = True
        stage = 0
    index[0, 0], index[0, 1], index[0, 2] = d0, d1, d2
    index[1, 0], index[1, 1], index[1, 2] = a0, a1, a2
    if two:
        index[2, 0], index[2, 1], index[2, 2] = b0, b1, b2
    state.stage[core] = stage
    state.control[core] = control
    state.value[core, 0], state.value[core, 1] = va, vb
    state.element[core], state.elements[core] = element, elements
    return end, moved
