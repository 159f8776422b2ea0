"""Number formats of the machine on whole arrays: rounding to a format, and values to and from 32-bit words.

A 16-bit element sits in the low half of its word; the high half is ignored when it is read and 0 when it is stored.
Rounding is to nearest, ties to even; denormals are kept; every NaN becomes the canonical one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["CANONICAL_NAN", "decode_words", "encode_words", "round_to"]

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]

CANONICAL_NAN: Final = 0x7FC00000


def round_to(values: npt.ArrayLike, dtype: str) -> F32:
    """Round fp32 values to `dtype` ("fp32", "bf16", "fp16"); the result is kept as float32 of the same shape."""
    array = np.array(values, dtype=np.float32)
    bits = array.view(np.uint32)
    if dtype == "bf16":
        bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        # A NaN whose payload carried into the exponent is repaired below, from the values as they came.
        bits &= np.uint32(0xFFFF0000)
    elif dtype == "fp16":
        with np.errstate(over="ignore", under="ignore"):
            array = array.astype(np.float16).astype(np.float32)
    nan = np.isnan(np.asarray(values, dtype=np.float32))
    if nan.any():
        array.view(np.uint32)[nan] = CANONICAL_NAN
    return array


def encode_words(values: npt.ArrayLike, dtype: str) -> U32:
    """Words that hold `values` (which must be representable in `dtype`), flattened in C order."""
    array = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    if dtype == "fp32":
        return array.view(np.uint32).copy()
    if dtype == "bf16":
        return array.view(np.uint32) >> np.uint32(16)
    with np.errstate(over="ignore", under="ignore"):
        half = array.astype(np.float16)
    words = half.view(np.uint16).astype(np.uint32)
    nan = np.isnan(half)
    if nan.any():
        # As in the other formats a NaN keeps its bits: it may be the word that a fault left, and be struck again.
        bits = array.view(np.uint32)[nan]
        payload = (bits >> np.uint32(13)) & np.uint32(0x3FF)
        payload[payload == 0] = 0x200
        words[nan] = ((bits >> np.uint32(16)) & np.uint32(0x8000)) | np.uint32(0x7C00) | payload
    return words


def decode_words(words: npt.NDArray[Any], dtype: str) -> F32:
    """Values held by `words`, as float32 of the same shape; signalling NaNs keep their bits until they are stored."""
    array = np.ascontiguousarray(words, dtype=np.uint32)
    if dtype == "fp32":
        return array.view(np.float32).copy()
    if dtype == "bf16":
        return (array << np.uint32(16)).view(np.float32)
    with np.errstate(invalid="ignore"):
        return (array & np.uint32(0xFFFF)).astype(np.uint16).view(np.float16).astype(np.float32)
