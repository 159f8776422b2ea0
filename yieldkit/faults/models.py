"""What a fault does to the word it strikes: one bit, several, stuck, zero, or any value.

The struck word becomes `(old & keep) ^ mask`, so a model is a pair of masks; `lasts` strikes again at every later
occasion in the launch, as a stuck cell does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from yieldkit.errors import BadInput
from yieldkit.faults.event import FaultEvent

__all__ = ["apply_model"]

_ALL = 0xFFFFFFFF


def apply_model(event: FaultEvent, model: str, width: int, rng: np.random.Generator) -> FaultEvent:
    """Turn the flip of one bit into another model of fault around that bit.

    Args:
        event: a flip of one bit; an event without a mask (a lost word) stays as it is.
        model: "bit"; "adjacent_N", the bit and those above it, going down at the word's end; "random_N", the bit and
            N - 1 others; "stuck_0", "stuck_1"; "zero", the whole word; "value", a uniformly drawn word.
        width: bits of the word that exist, from bit 0 up.
        rng: for random bits and values.

    Raises:
        BadInput: unknown model, or more bits than the word has.
    """
    if not event.mask or model == "bit":
        return event
    bit = event.mask.bit_length() - 1
    kind, _, number = model.partition("_")
    if kind in ("adjacent", "random") and number.isdigit():
        n = int(number)
        if n > width:
            raise BadInput(f"{model} needs {n} bits and the word has {width}")
        if kind == "adjacent":
            first = min(bit, width - n)
            return replace(event, mask=((1 << n) - 1) << first)
        others = [other for other in range(width) if other != bit]
        chosen = rng.choice(len(others), size=n - 1, replace=False)
        return replace(event, mask=event.mask | sum(1 << others[int(one)] for one in chosen))
    if model in ("stuck_0", "stuck_1"):
        stuck = event.mask if model == "stuck_1" else 0
        return replace(event, keep=_ALL & ~event.mask, mask=stuck, lasts=True)
    if model == "zero":
        return replace(event, keep=0, mask=0)
    if model == "value":
        return replace(event, keep=0, mask=int(rng.integers(1 << width)))
    raise BadInput("unknown model of fault", value=model)
