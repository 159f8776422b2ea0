"""Drawing defects: how many, where, how large. Blocks of wafers at a time, each block with a generator of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from yieldkit.defects.defects import DefectBatch
from yieldkit.errors import BadInput
from yieldkit.rng import Seed, generator

if TYPE_CHECKING:
    from yieldkit.defects.laws import CountLaw
    from yieldkit.wafer import ProcessSpec, WaferSpec

__all__ = ["BLOCK", "draw_sizes", "draw_wafers", "iter_blocks", "sample_many", "sizes_at"]

BLOCK: Final = 2048
"""Wafers drawn from one generator: wafer k is in block k // BLOCK, so drawing it again costs one block."""

_MOST: Final = 200_000_000
"""Defects expected in one block above which the arrays would not fit in memory."""


def draw_wafers(law: CountLaw, wafer: WaferSpec, n: int, rng: np.random.Generator) -> DefectBatch:
    """Draw n wafers from one generator.

    Places are drawn over the rectangle of fields and dropped outside the wafer's edge; thinning leaves the law as is.
    """
    width, height = wafer.array_mm
    mean = law.mean(area_mm2=width * height)
    if mean * n > _MOST:
        raise BadInput("the density asks for too many defects", value=law.d0_per_cm2, cure=f"{mean:.3g} on each wafer")
    counts = rng.poisson(law.rates(rng, n) * mean)
    total = int(counts.sum())
    x = (rng.random(total) - 0.5) * width
    y = (rng.random(total) - 0.5) * height
    size = draw_sizes(wafer.process, rng, total)
    layer = rng.integers(1, law.n_layers + 1, total, dtype=np.int16) if law.n_layers > 1 else np.zeros(total, np.int16)
    radius = wafer.diameter_mm / 2 - wafer.edge_exclusion_mm
    if width**2 + height**2 > 4 * radius**2:
        kept = x * x + y * y <= radius * radius
        owner = np.repeat(np.arange(n), counts)[kept]
        counts = np.bincount(owner, minlength=n)
        x, y, size, layer = x[kept], y[kept], size[kept], layer[kept]
    return DefectBatch(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=x,
        y_mm=y,
        size_um=size,
        layer=layer,
        source=f"sampled, {law.name} law",
    )


def draw_sizes(process: ProcessSpec, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Sizes in µm, density proportional to size^-exponent from the smallest size up."""
    return sizes_at(process, rng.random(n))


def sizes_at(process: ProcessSpec, uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sizes in µm at uniform numbers in [0, 1), by the inverse of the distribution."""
    tail = 1.0 - uniform
    if process.size_exponent == 3.0:
        return np.asarray(process.smallest_size_um / np.sqrt(tail))
    return np.asarray(process.smallest_size_um * tail ** (-1.0 / (process.size_exponent - 1.0)))


def iter_blocks(law: CountLaw, wafer: WaferSpec, n: int, rng: Seed, first: int) -> Iterator[DefectBatch]:
    """Wafers first..first + n - 1, a block at a time."""
    for name, value, low in (("n", n, 1), ("first", first, 0)):
        if isinstance(value, bool) or int(value) != value or value < low:
            raise BadInput(f"{name} must be an integer of at least {low}", value=value)
    shared = isinstance(rng, np.random.Generator)
    if shared and first:
        raise BadInput("first needs a seed: a Generator has no place to start from", value=first, cure="pass rng=7")
    last = first + n
    for block in range(first // BLOCK, (last + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        # A shared generator draws no more than is asked; a seeded block is always drawn whole.
        drawn = draw_wafers(
            law, wafer, min(BLOCK, last - start) if shared else BLOCK, generator(rng, "defects.wafers", block)
        )
        yield drawn.part(max(first - start, 0), min(last - start, BLOCK))


def sample_many(law: CountLaw, wafer: WaferSpec, n: int, rng: Seed, first: int) -> DefectBatch:
    """All blocks of `iter_blocks` in one batch."""
    return DefectBatch.joined(list(iter_blocks(law, wafer, n, rng, first)))
