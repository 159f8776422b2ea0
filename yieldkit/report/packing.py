"""Arrays as text: zlib, then base64, so that a million sites fit into a JSON document."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["pack", "unpack"]


Packed = Literal["uint8", "int16", "int32"]


def pack(values: npt.ArrayLike, dtype: Packed) -> str:
    """Pack an integer array, C order, little-endian; equal arrays give equal text."""
    array = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def unpack(text: str, shape: tuple[int, int], dtype: Packed, *, limit: int | None = None) -> npt.NDArray[Any]:
    """Undo `pack`.

    Raises:
        ValueError: the text is damaged, of another size, or holds values above `limit`.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    wanted = shape[0] * shape[1] * kind.itemsize
    try:
        engine = zlib.decompressobj()
        data = engine.decompress(base64.b64decode(text, validate=True), wanted + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"packed array cannot be read: {error}") from error
    if len(data) != wanted:
        raise ValueError(f"packed array does not hold {shape[0]} x {shape[1]} values of {dtype}")
    array = np.frombuffer(data, dtype=kind).reshape(shape)
    if limit is not None and array.size and int(array.max()) > limit:
        raise ValueError(f"packed array holds {int(array.max())}, the largest code is {limit}")
    return array
