"""Randomness enters here only: a seed, a purpose and indices give a generator of their own.

Two draws with different purposes or indices are independent, so adding one never shifts another, and trial `k` can be
drawn alone, on any worker.
"""

from __future__ import annotations

import hashlib

import numpy as np

from yieldkit.errors import BadInput

__all__ = ["Seed", "generator"]

Seed = int | np.random.Generator


def generator(seed: Seed, purpose: str, *indices: int) -> np.random.Generator:
    """Make the generator that belongs to `(seed, purpose, *indices)`.

    Args:
        seed: a non-negative int; or a Generator, which is returned as it is (the caller then owns the order of draws).
        purpose: what the numbers are for, e.g. ``"defects.positions"``.
        *indices: trial, wafer or step numbers.

    Returns:
        a Philox generator; the same arguments give the same stream on every machine.

    Raises:
        BadInput: the seed is neither a non-negative int nor a Generator.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or int(seed) != seed or seed < 0:
        raise BadInput("rng must be a non-negative int or a numpy Generator", value=seed, cure="pass e.g. rng=7")
    tag = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    entropy = [int(seed), tag, *(int(i) for i in indices)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
