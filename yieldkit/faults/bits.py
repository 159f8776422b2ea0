"""Classes of the bits of a 32-bit word, by what the word holds.

Values: sign, highest exponent bit, the rest of the exponent, upper and lower half of the mantissa. Configuration: the
bits of live fields, and those that nothing reads. Check bits of a protected word are a class of their own. What has no
bits (a lost word, a slow core) has one class, "whole".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["BIT_CLASSES", "CHECK", "LAYOUTS", "WHOLE", "descriptor_layout", "header_layout", "task_layout"]

WHOLE: Final = "whole"
CHECK: Final = "check"
BIT_CLASSES: Final = (
    "sign", "exponent_msb", "exponent_rest", "mantissa_high", "mantissa_low", "live", "unused", CHECK, WHOLE,
)  # fmt: skip


def _float(exponent: int, mantissa: int) -> dict[str, tuple[int, ...]]:
    """Bits of a binary floating-point format in the low end of the word; the upper half of the mantissa is larger."""
    top = exponent + mantissa
    half = mantissa // 2
    classes = {
        "sign": (top,),
        "exponent_msb": (top - 1,),
        "exponent_rest": tuple(range(mantissa, top - 1)),
        "mantissa_high": tuple(range(half, mantissa)),
        "mantissa_low": tuple(range(half)),
        "unused": tuple(range(top + 1, 32)),
    }
    return {name: bits for name, bits in classes.items() if bits}


def _fields(*live: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Live fields as (first, last) bit; the others are unused."""
    bits = tuple(bit for first, last in live for bit in range(first, last + 1))
    classes = {"live": bits, "unused": tuple(bit for bit in range(32) if bit not in bits)}
    return {name: found for name, found in classes.items() if found}


# The fields of configuration words are those of docs/machine.md and `yieldkit.emulator.isa`.
LAYOUTS: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {
    "fp32": _float(8, 23),
    "bf16": _float(8, 7),
    "fp16": _float(5, 10),
    "header_0": _fields((0, 11), (31, 31)),
    "header_1": _fields((0, 27)),
    "task_0": _fields((0, 18)),
    "task_1": _fields((0, 29)),
    "descriptor_0": _fields((0, 25)),
    "loop": _fields((0, 31)),
    "route": _fields((0, 8)),
    "position": {"live": (0, 1)},
    "idle_position": {"unused": (0, 1)},
    "index": {"live": tuple(range(16))},
    "plain": _fields((0, 31)),
    "free": {"unused": tuple(range(32))},
    WHOLE: {WHOLE: (0,)},
}
"""Bits of every class, by layout of the word."""


def header_layout(word: int) -> str:
    """Layout of a header word."""
    return f"header_{word}"


def task_layout(word: int) -> str:
    """Layout of word 0 or 1 of a task."""
    return f"task_{word}"


def descriptor_layout(word: int) -> str:
    """Layout of word 0..3 of a descriptor."""
    return "loop" if word else "descriptor_0"
