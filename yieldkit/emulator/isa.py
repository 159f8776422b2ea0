"""The configuration words of a core, bit by bit. Lowering writes them, every interpreter reads them.

Route word, one per (colour, position)::

    bits 0-2   rx     0 none, 1 N, 2 E, 3 S, 4 W, 5 ramp; 6 and 7 are read as none
    bits 3-7   tx     mask: 8 N, 16 E, 32 S, 64 W, 128 ramp (to the core)
    bit  8     last   ADVANCE does nothing at this position
    bits 9-31  unused

SRAM words 0 and 1 are the header::

    word 0     bits 0-11 first task, bits 12-30 unused, bit 31 start
    word 1     bits 0-13 address of the task table, bits 14-27 address of the descriptor table, bits 28-31 unused

Task, two words::

    word 0     bits 0-5 opcode, bit 6 has-next, bits 7-18 next task, bits 19-31 unused
    word 1     bits 0-9 descriptor D, bits 10-19 A, bits 20-29 B, bits 30-31 unused

Descriptor, four words::

    word 0     bits 0-13 base address, bits 14-15 kind (1 memory, 2 fabric in, 3 fabric out; 0 is undefined),
               bits 16-17 format (0 fp32, 1 bf16, 2 fp16; 3 is undefined), bits 18-22 colour (24-31 are undefined),
               bit 23 hold, bits 24-25 control, bits 26-31 unused
    words 1-3  one loop each, innermost first: bits 0-15 extent, bits 16-31 signed stride in words

Control of a fabric-out descriptor: 0 none; 1 a RESET after the last element; 2 an ADVANCE after the last element;
3 an ADVANCE after each outermost iteration but the last, which is followed by a RESET.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from yieldkit.errors import BadInput

__all__ = [
    "COLOURS",
    "CONTROL_ADVANCE",
    "CONTROL_EACH",
    "CONTROL_NONE",
    "CONTROL_RESET",
    "FABRIC_IN",
    "FABRIC_OUT",
    "FORMATS",
    "HEADER_WORDS",
    "MEMORY",
    "OPCODES",
    "POSITIONS",
    "SRAM_WORDS",
    "descriptor_words",
    "header_words",
    "route_word",
    "task_words",
]

SRAM_WORDS: Final = 12_288
ADDRESS_BITS: Final = 14
COLOURS: Final = 24
POSITIONS: Final = 4
HEADER_WORDS: Final = 2
TASK_WORDS: Final = 2
DESCRIPTOR_WORDS: Final = 4
MAX_TASKS: Final = 1 << 12
MAX_DESCRIPTORS: Final = 1 << 10
MAX_EXTENT: Final = (1 << 16) - 1

MEMORY: Final = 1
FABRIC_IN: Final = 2
FABRIC_OUT: Final = 3

CONTROL_NONE: Final = 0
CONTROL_RESET: Final = 1
CONTROL_ADVANCE: Final = 2
CONTROL_EACH: Final = 3

FORMATS: Final = {"fp32": 0, "bf16": 1, "fp16": 2}

# Opcode 0 is undefined on purpose: a zeroed task word halts the core.
OPCODES: Final = {
    "mov": 1,
    "add": 2,
    "sub": 3,
    "mul": 4,
    "max": 5,
    "mac": 6,
    "eq": 7,
    "select": 8,
    "exp": 9,
    "log": 10,
    "recip": 11,
    "rsqrt": 12,
    "sqrt": 13,
    "sigmoid": 14,
    "gelu": 15,
    "gelu_grad": 16,
}

RX_NONE: Final = 0


def route_word(rx: int, tx: Sequence[int], *, last: bool = True) -> int:
    """Route word: receive from port `rx` (0..4 = N, E, S, W, ramp), send to the ports in `tx`."""
    word = rx + 1
    for port in tx:
        word |= 1 << (3 + port)
    return word | (int(last) << 8)


def header_words(first_task: int, task_base: int, descriptor_base: int) -> list[int]:
    """The two header words of a core that starts at `first_task`."""
    return [first_task | (1 << 31), task_base | (descriptor_base << ADDRESS_BITS)]


def task_words(opcode: int, d: int, a: int, b: int, following: int | None) -> list[int]:
    """The two words of a task; `following` is the next task or None at the end of the chain."""
    word = opcode
    if following is not None:
        word |= (1 << 6) | (following << 7)
    return [word, d | (a << 10) | (b << 20)]


def descriptor_words(
    kind: int,
    fmt: int,
    loops: Sequence[tuple[int, int]],
    *,
    base: int = 0,
    colour: int = 0,
    hold: bool = False,
    control: int = CONTROL_NONE,
) -> list[int]:
    """The four words of a descriptor.

    Args:
        kind: MEMORY, FABRIC_IN or FABRIC_OUT.
        fmt: 0 fp32, 1 bf16, 2 fp16.
        loops: up to three (extent, stride), innermost first; missing ones are (1, 0).
        base: SRAM address of the first element.
        colour: of a fabric descriptor.
        hold: fetch a fabric word only when the inner index is 0.
        control: control words that a fabric-out descriptor emits.

    Raises:
        BadInput: an extent or stride needs more than 16 bits.
    """
    first = base | (kind << 14) | (fmt << 16) | (colour << 18) | (int(hold) << 23) | (control << 24)
    words = [first]
    for extent, stride in [*loops, (1, 0), (1, 0), (1, 0)][:3]:
        if not 0 < extent <= MAX_EXTENT or not -(1 << 15) <= stride < 1 << 15:
            raise BadInput("a loop does not fit the descriptor", value=(extent, stride), cure="use smaller blocks")
        words.append(extent | ((stride & 0xFFFF) << 16))
    return words
