"""SECDED and parity over words of 32 bits.

The SECDED code is a (39, 32) code with columns of odd weight (M. Y. Hsiao, "A class of optimal minimum
odd-weight-column SEC-DED codes", IBM Journal of Research and Development 14, 1970): 7 check bits, whose columns are the
unit vectors, and 32 of the 35 columns of weight 3 for the data. The three left out are chosen so that the rows are of
near equal weight (14 or 13 data bits each), as the paper asks for speed. The sum of two columns has even weight and so
is neither zero nor a column: the distance is 4. One wrong bit is corrected, two are detected, three are detected or
taken for one.

A word with its check bits is a pattern of 33 or 39 bits: data in bits 0 to 31, check bits from 32 up. Codes are linear,
so what a read gives depends only on which bits are wrong: `read_pattern` needs no data, and a memory with struck words
costs room by the struck word.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "CHECK_BITS",
    "CLEAN",
    "CODES",
    "COLUMNS",
    "CORRECTED",
    "DETECTED",
    "check_bits",
    "decode",
    "parity_bit",
    "read_pattern",
    "syndrome_of",
    "word_bits",
]

DATA_BITS: Final = 32
CHECK_BITS: Final = 7
CLEAN, CORRECTED, DETECTED = 0, 1, 2
CODES: Final = ("none", "parity", "secded")
"""Protections of a memory, by the name they have in a wafer spec."""

_LEFT_OUT: Final = ((0, 1, 2), (3, 4, 5), (0, 3, 6))
_WEIGHT_THREE = tuple(
    sum(1 << row for row in rows) for rows in combinations(range(CHECK_BITS), 3) if rows not in _LEFT_OUT
)
COLUMNS: Final = (*_WEIGHT_THREE, *(1 << row for row in range(CHECK_BITS)))
"""Columns of the check matrix as numbers of 7 bits: of data bits 0 to 31, then of check bits 0 to 6."""

_BIT_OF = np.full(1 << CHECK_BITS, -1, np.int64)
_BIT_OF[list(COLUMNS)] = np.arange(len(COLUMNS))
# Bits of the data that go into each check bit.
_ROWS = tuple(
    np.uint32(sum(1 << bit for bit in range(DATA_BITS) if COLUMNS[bit] >> row & 1)) for row in range(CHECK_BITS)
)


def word_bits(code: str) -> int:
    """Bits that a word takes in a memory with this protection: 32, 33 with parity, 39 with SECDED."""
    return DATA_BITS + {"none": 0, "parity": 1, "secded": CHECK_BITS}[code]


def check_bits(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """SECDED check bits of words, uint8 of the same shape."""
    words = np.asarray(words, np.uint32)
    found = np.zeros(words.shape, np.uint8)
    for row, mask in enumerate(_ROWS):
        found |= (np.bitwise_count(words & mask) & np.uint8(1)) << np.uint8(row)
    return found


def parity_bit(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Even-parity bit of words, uint8 of the same shape."""
    return np.bitwise_count(np.asarray(words, np.uint32)) & np.uint8(1)


def syndrome_of(patterns: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """SECDED syndrome of patterns of 39 bits, uint8 of the same shape: 0 where no wrong bit is seen."""
    patterns = np.asarray(patterns, np.uint64)
    data = (patterns & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return check_bits(data) ^ (patterns >> np.uint64(DATA_BITS)).astype(np.uint8)


def decode(
    words: npt.NDArray[np.uint32], checks: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Words as a SECDED memory hands them out, and what it noticed.

    Args:
        words: data as stored, uint32 of any shape.
        checks: check bits as stored, uint8 of the same shape.

    Returns:
        (words, uint32; CLEAN, CORRECTED or DETECTED for each, uint8). A detected word is handed out as stored.
    """
    words = np.asarray(words, np.uint32)
    syndrome = check_bits(words) ^ np.asarray(checks, np.uint8)
    bit = _BIT_OF[syndrome]
    fixed = (bit >= 0) & (bit < DATA_BITS)
    flip = np.where(fixed, np.uint32(1) << np.where(fixed, bit, 0).astype(np.uint32), np.uint32(0))
    seen = np.where(syndrome == 0, CLEAN, np.where(bit >= 0, CORRECTED, DETECTED)).astype(np.uint8)
    return words ^ flip.astype(np.uint32), seen


def read_pattern(patterns: npt.NDArray[np.uint64], code: str) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """What reads of words with these wrong bits give, under a protection.

    Args:
        patterns: wrong bits, uint64 of any shape: data bits 0 to 31, check bits from 32 up.
        code: "none", "parity" or "secded".

    Returns:
        (bits that are wrong in what is handed out, uint32; CLEAN, CORRECTED or DETECTED, uint8).
    """
    patterns = np.asarray(patterns, np.uint64)
    data = (patterns & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    if code == "none":
        return data, np.zeros(data.shape, np.uint8)
    checks = (patterns >> np.uint64(DATA_BITS)).astype(np.uint8)
    if code == "parity":
        odd = parity_bit(data) ^ (checks & np.uint8(1))
        return data, np.where(odd, DETECTED, CLEAN).astype(np.uint8)
    return decode(data, checks)
