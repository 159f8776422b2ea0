"""How the arrays of a program lie, and what a plan of a phase is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.workloads.program import Tensor

__all__ = ["FIRST_TENSOR", "OUT", "STREAM", "SUM", "Layout", "Plan", "Setting", "Widen", "compact_blocks"]

F32 = npt.NDArray[np.float32]
Layout = tuple[int, int]
"""Rows and columns of blocks of an array: all of the rectangle's, or 1 where the copies agree."""
I64 = npt.NDArray[np.int64]

STREAM, OUT, SUM = 0, 1, 2
"""Indices in the list of addresses: the array that streams in, the one that goes out, the sums of a product."""
FIRST_TENSOR: Final = 3


class Widen(Exception):
    """Tensors whose copies come to differ between cores, with the layouts they need."""

    def __init__(self, layouts: dict[str, Layout]) -> None:
        super().__init__(layouts)
        self.layouts = layouts


@dataclass(frozen=True)
class Plan:
    """How to run a phase.

    Attributes:
        writes: arrays to provide, with their layouts; all of their words are written.
        table: rows to run.
        product: rows of a product, run before `table`, whose lines may be shared out among threads.
        sums: shape of fp32 sums that `table` goes on from, () where there are none.
        out: shape of what streams out.
    """

    writes: tuple[tuple[str, Layout], ...]
    table: I64 | None
    product: I64 | None = None
    sums: tuple[int, ...] = ()
    out: tuple[int, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What plans need to know of a program.

    Attributes:
        rows, cols: the rectangle.
        dtype: operand format of products.
        tensors: by name.
        number: index of each tensor in the list of addresses.
        block: steps of k to a block of bf16 accumulation, 0 for fp32 throughout.
    """

    rows: int
    cols: int
    dtype: str
    tensors: Mapping[str, Tensor]
    number: Mapping[str, int]
    block: int = 0

    def usual(self, name: str) -> Layout:
        """Layout of a tensor whose copies agree."""
        over = self.tensors[name].over
        return (self.rows if "r" in over else 1, self.cols if "c" in over else 1)


def compact_blocks(array: F32, over: str) -> F32:
    """One copy of what every core of a row (column) holds alike, where the tensor is laid out that way.

    Args:
        array: float32[rows, cols, *dims].
        over: axes of the rectangle over which the tensor's blocks differ.
    """
    for axis, letter in ((0, "r"), (1, "c")):
        if letter not in over:
            first = array.take([0], axis=axis)
            if (array.view(np.uint32) == first.view(np.uint32)).all():
                array = first
    return np.ascontiguousarray(array)
