"""What a fault does to the word it strikes: one bit, several, stuck, zero, or any value.

The struck word becomes `(old & keep) ^ mask`, so a model is a pair of masks; `lasts` strikes again at every later
occasion in the launch, as a stuck cell does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from yieldkit.errors import BadInput
from yieldkit.faults.event import FaultEvent

__all__ = ["apply_model"]

_ALL: Final = 0xFFFFFFFF
_WIDTHS: Final = {"index": 16, "switch": 2}
_OTHERS: Final = ("bit", "stuck_0", "stuck_1", "value", "zero")


def apply_model(event: FaultEvent, model: str, rng: np.random.Generator) -> tuple[FaultEvent, str]:
    """Turn the flip of one bit into another model of fault around that bit.

    Args:
        event: a flip of one bit; an event without a mask (a lost word) stays as it is.
        model: "bit"; "adjacent_N", the bit and those above it, going down at the word's end; "random_N", the bit and
            N - 1 others; "stuck_0", "stuck_1"; "zero", the whole word; "value", a uniformly drawn word.
        rng: for random bits and values.

    Returns:
        the event and the model that it has: "" without a bit, and "bit" where the place knows flips only (a switch, the
        check bits of a word). More bits than the word has are all of them.

    Raises:
        BadInput: unknown model.
    """
    if not event.mask:
        return event, ""
    bit = event.mask.bit_length() - 1
    width = _WIDTHS.get(event.place, 32)
    kind, _, number = model.partition("_")
    several = kind in ("adjacent", "random") and number.isdigit()
    if not several and model not in _OTHERS:
        raise BadInput("unknown model of fault", value=model)
    if model == "bit" or bit >= width or (event.place == "switch" and not several):
        return event, "bit"
    if several:
        n = min(int(number), width)
        if kind == "adjacent":
            return replace(event, mask=((1 << n) - 1) << min(bit, width - n)), model
        others = [other for other in range(width) if other != bit]
        chosen = rng.choice(len(others), size=n - 1, replace=False)
        return replace(event, mask=event.mask | sum(1 << others[int(one)] for one in chosen)), model
    if model == "value":
        return replace(event, keep=0, mask=int(rng.integers(1 << width))), model
    if model == "zero":
        return replace(event, keep=0, mask=0), model
    stuck = event.mask if model == "stuck_1" else 0
    return replace(event, keep=_ALL & ~event.mask, mask=stuck, lasts=True), model
