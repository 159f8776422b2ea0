"""Unsigned numbers in as few bytes as they need (LEB128: seven bits a byte, low first, high bit for "more follows")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["pack", "unpack", "unzigzag", "zigzag"]

_LONGEST = 5


def pack(numbers: Iterable[int]) -> bytes:
    """Bytes of non-negative numbers below 2**32."""
    out = bytearray()
    for number in numbers:
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)


def unpack(data: bytes) -> Iterator[int]:
    """The numbers of `data` in order.

    Raises:
        ValueError: a number is longer than five bytes or not in its shortest form.
        EOFError: the data ends inside a number.
    """
    at = 0
    while at < len(data):
        value = shift = 0
        first = at
        for _ in range(_LONGEST):
            if at >= len(data):
                raise EOFError("the data ends inside a number")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            raise ValueError("a number is longer than five bytes")
        if byte == 0 and at > first + 1:
            raise ValueError("a number is not in its shortest form")
        yield value


def zigzag(number: int) -> int:
    """0, -1, 1, -2, 2, ... -> 0, 1, 2, 3, 4, ..."""
    return 2 * number if number >= 0 else -2 * number - 1


def unzigzag(number: int) -> int:
    """The inverse of `zigzag`."""
    return number >> 1 if number % 2 == 0 else -((number + 1) >> 1)
