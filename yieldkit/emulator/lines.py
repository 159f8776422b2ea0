"""How a line of cores reduces: whom each core hears, in which order, and where it sends its result.

Cores of a line of P are counted from the last one, which keeps the result: q = P - 1 - place. Words travel towards it,
straight through the routers between sender and receiver.

::

    chain       q = 4 ──► 3 ──► 2 ──► 1 ──► 0              a colour by parity of the place

    tree        q = 4     3 ──► 2     1 ──► 0              level 0, a colour a level
                          2 ──────────────► 0    (of 2)    level 1
                4 ────────────────────────► 0              level 2

    two phase   q = 8 ──► 7 ──► 6   5 ──► 4 ──► 3   2 ──► 1 ──► 0     groups of 3: a chain in each
                                6 ────────────► 3 ────────────► 0     then their nearest cores
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from yieldkit.errors import BadInput

__all__ = ["Stop", "group_size", "levels", "stop_of"]


@dataclass(frozen=True)
class Stop:
    """What one core of a line does in a reduction; cores with equal stops can share an image.

    Attributes:
        receive: (channel, number of its colour) of every partial result that comes in, in the order of their use.
        send: the same for the result that goes out, None at the last core.
    """

    receive: tuple[tuple[str, int], ...]
    send: tuple[str, int] | None


def levels(size: int) -> int:
    """Levels of the binary tree over a line of `size` cores."""
    return (size - 1).bit_length()


def group_size(size: int) -> int:
    """Cores in a group of the two-phase reduction: the root of the line's length, rounded up."""
    return isqrt(size - 1) + 1


def stop_of(method: str, place: int, size: int) -> Stop:
    """What the core at `place` (0 first) of a line of `size` does; channels are "chain", "tree" and "leaders".

    Raises:
        BadInput: unknown method.
    """
    q = size - 1 - place
    if method == "chain":
        return _chain("chain", place, first=place == 0, last=q == 0)
    if method == "tree":
        low = (q & -q).bit_length() - 1 if q else levels(size)
        heard = tuple(("tree", level) for level in range(low) if q + (1 << level) < size)
        return Stop(heard, ("tree", low) if q else None)
    if method == "two_phase":
        group = group_size(size)
        inner = _chain("chain", place, first=q == size - 1 or q % group == group - 1, last=q % group == 0)
        if q % group:
            return inner
        number, count = q // group, -(-size // group)
        outer = _chain("leaders", count - 1 - number, first=number == count - 1, last=number == 0)
        return Stop(inner.receive + outer.receive, outer.send)
    raise BadInput("unknown method of reduction", value=method)


def _chain(channel: str, place: int, *, first: bool, last: bool) -> Stop:
    heard = () if first else ((channel, (place - 1) % 2),)
    return Stop(heard, None if last else (channel, place % 2))
