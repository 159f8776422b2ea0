"""Scoring a trained classifier on images that training never draws, by the forward program on the same fabric."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import FabricView
from yieldkit.emulator.running import run, sram_words_of
from yieldkit.errors import BadInput
from yieldkit.workloads.cnn import CnnShape, cnn_forward
from yieldkit.workloads.images import ImageSet
from yieldkit.workloads.mlp import MlpShape, mlp_forward

__all__ = ["held_out_accuracy"]


def held_out_accuracy(
    fabric: FabricView,
    shape: CnnShape | MlpShape,
    weights: Mapping[str, npt.NDArray[np.float32]],
    *,
    rows: int,
    cols: int,
    dtype: str = "bf16",
    images: int = 512,
) -> tuple[float, float]:
    """Share of the first held-out images that get their own label, and their mean loss in nats.

    Args:
        fabric: booted fabric.
        shape: sizes of the model and of a batch.
        weights: by name, as MemoryX holds them.
        rows: rows of the rectangle.
        cols: its columns.
        dtype: operand format.
        images: how many, a multiple of the samples of a batch.

    Raises:
        BadInput: the images are no whole batches, or the run did not end.
    """
    if images < 1 or images % shape.samples:
        raise BadInput(f"images must be a positive multiple of {shape.samples}, the samples of a batch", value=images)
    pixels, labels = ImageSet(shape.side, shape.classes, shape.noise).held_out(images)
    n = shape.samples
    batches = [(pixels[i : i + n], labels[i : i + n]) for i in range(0, images, n)]
    if isinstance(shape, CnnShape):
        program = cnn_forward(shape, rows=rows, cols=cols, dtype=dtype)
    else:
        program = mlp_forward(shape, rows=rows, cols=cols, dtype=dtype)
    lowered = lower(program, sram_words=sram_words_of(fabric))
    result = run(lowered, fabric, steps=len(batches), weights=weights, batches=batches, taps=False)
    if result.symptoms.steps_done < len(batches):
        raise BadInput("the forward pass did not end", value=result.symptoms.status)
    found = result.tokens.T.reshape(-1)
    return float(np.mean(found == labels)), float(np.mean(result.losses))
