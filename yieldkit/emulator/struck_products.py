"""One struck value in a product with streamed weights: which sum comes out otherwise, and which word of the result.

A product adds its fp32 terms in one fixed order, k ascending on each core and then from the first core of the row to
the last. A value that is struck on its way is one term or one sum of that order, or, for a weight between two rows, a
term of one column of the result in the rows below; so what follows from it is added up here as the cores would, and no
word is moved. The clean sums are added up first and compared with the clean run's; where they are others, or where
what comes out is not a number (of which bits count), nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.formats import decode_words, encode_words, round_to
from yieldkit.emulator.hooks import LinkHook, ProductHook, ResultHook
from yieldkit.emulator.lowering import Lowered
from yieldkit.workloads.program import Gemm

__all__ = ["Changed", "Place", "place_of", "strike_product", "strike_weight", "weight_of"]

F32 = npt.NDArray[np.float32]
_EAST: Final = 1
_SOUTH: Final = 2


@dataclass(frozen=True)
class Place:
    """Where a product is struck.

    Attributes:
        row: of the rectangle.
        core: column of the core whose value is struck.
        block: column of the core that keeps the element of the result.
        token, feature: the element there.
        step: for "mac" and "product" the k on the struck core; -1 for the zero that the sum starts from.
        what: "product", "mac" (the sum after a step), "partial" (the sum that the core hands on), "sum" (the finished
            sum on its way to its core) or "stored" (the word of the result).
    """

    row: int
    core: int
    block: int
    token: int
    feature: int
    step: int
    what: str


@dataclass(frozen=True)
class Changed:
    """What comes out of a struck product: the sum as logged, and the word of the result."""

    total: np.float32
    word: int


def place_of(lowered: Lowered, phase: Gemm, hook: ResultHook | ProductHook | LinkHook) -> Place | None:
    """The value that a hook strikes, with its task or word counted from the phase's start; None where this cannot say.

    Args:
        lowered: the program.
        phase: the product.
        hook: what strikes once.
    """
    program = lowered.program
    (m, _), nc = program.table[phase.x].dims, program.table[phase.y].dims[1]
    kc, cols, part = program.table[phase.x].dims[1], program.cols, phase.part
    width, tiles = cols * part, nc // part
    if program.block or program.sum_dtype != "fp32" or hook.lasts:
        return None

    def at(tile: int, f: int, t: int, step: int, what: str) -> Place | None:
        if not (0 <= tile < tiles and 0 <= f < width):
            return None
        return Place(hook.r, hook.c, f // part, t, tile * part + f % part, step, what)

    last = hook.c == cols - 1
    if isinstance(hook, LinkHook):
        colour = COLOUR_OF["chain_east"] + hook.c % 2
        if hook.drop or hook.duplicate or hook.credit or hook.delay or (hook.port, hook.colour) != (_EAST, colour):
            return None
        tile, element = divmod(hook.nth, width * m)
        return at(tile, element // m, element % m, kc, "partial")
    names = ["zero", "mac", *(["partial"] if cols > 1 else []), *(["sum"] if last and cols > 1 else []), "stored"]
    tile, number = divmod(hook.task, len(names))
    what, element = names[number], hook.element
    if isinstance(hook, ProductHook):
        what = "product" if what == "mac" else ""
    if what in ("zero", "partial") and element < width * m:
        step, kind = (-1, "mac") if what == "zero" else (kc, "partial")
        return at(tile, element // m, element % m, step, kind)
    if what in ("mac", "product") and element < width * m * kc:
        step, inside = divmod(element, width * m)
        return at(tile, inside // m, inside % m, step, what)
    if what == "sum" and element < (width - part) * m:
        back, inside = divmod(element, part * m)
        return at(tile, (cols - 2 - back) * part + inside // m, inside % m, kc, "sum")
    if what == "stored" and element < part * m:
        return at(tile, hook.c * part + element // m, element % m, kc, "stored")
    return None


def strike_product(
    lowered: Lowered,
    phase: Gemm,
    place: Place,
    keep: int,
    mask: int,
    x: F32,
    weights: F32,
    clean: np.float32,
    before: np.float32,
) -> Changed | None:
    """What comes out of a product in which one word becomes `(old & keep) ^ mask`; None where this cannot say.

    Args:
        lowered: the program.
        phase: the product.
        place: the struck value.
        keep: bits of the word that stay.
        mask: bits that are then XORed.
        x: what the struck row's cores multiply, [cols, m, kc].
        weights: the streamed matrix.
        clean: the sum that the clean run has there.
        before: the element of the result as it was before the phase.
    """
    table, cols = lowered.program.table, lowered.program.cols
    kc, nc = table[phase.x].dims[1], table[phase.y].dims[1]
    column = np.ascontiguousarray(weights[:, place.block * nc + place.feature], np.float32).reshape(cols, kc)
    terms = np.zeros((cols, kc + 1), np.float32)
    terms[:, 1:] = column * x[:, place.token, :]
    own = np.add.accumulate(terms, axis=1)[:, -1]
    if _along(own).view(np.uint32) != clean.view(np.uint32):
        return None

    def struck(value: np.float32) -> np.float32:
        return np.float32(_struck(value, "fp32", keep, mask))

    total = clean
    line = terms[place.core].copy()
    if place.what == "product":
        line[place.step + 1] = struck(line[place.step + 1])
        own[place.core] = np.add.accumulate(line)[-1]
        total = _along(own)
    elif place.what == "mac":
        sums = np.add.accumulate(line)
        line[place.step + 1] = struck(sums[place.step + 1])
        own[place.core] = np.add.accumulate(line[place.step + 1 :])[-1]
        total = _along(own)
    elif place.what == "partial":
        handed_on = struck(_along(own[: place.core + 1]))
        total = _along(np.concatenate([[handed_on], own[place.core + 1 :]]).astype(np.float32))
    delivered = struck(total) if place.what == "sum" else total
    dtype = table[phase.y].dtype
    result = round_to(np.array([delivered + before if phase.accumulate else delivered], np.float32), dtype)
    word = int(encode_words(result, dtype)[0])
    if place.what == "stored":
        word = (word & keep) ^ mask
    if np.isnan(total) or np.isnan(decode_words(np.array([word], np.uint32), dtype)[0]) or np.isnan(result[0]):
        return None
    return Changed(total, word)


def weight_of(lowered: Lowered, phase: Gemm, hook: LinkHook) -> Place | None:
    """The weight that a hook strikes on its way to the next row, its word counted from the phase's start; or None.

    `row` is the last row that has it as it was, `core` the column, `step` its k there; `token` says nothing.
    """
    program = lowered.program
    kc, nc = program.table[phase.x].dims[1], program.table[phase.y].dims[1]
    width = program.cols * phase.part
    changed = hook.drop or hook.duplicate or hook.credit or hook.delay or hook.lasts
    if program.block or program.sum_dtype != "fp32" or changed:
        return None
    if (hook.port, hook.colour) != (_SOUTH, COLOUR_OF["column_multicast"]) or hook.r + 1 >= program.rows:
        return None
    tile, inside = divmod(hook.nth, width * kc)
    step, f = divmod(inside, width)
    if tile >= nc // phase.part:
        return None
    return Place(hook.r, hook.c, f // phase.part, 0, tile * phase.part + f % phase.part, step, "weight")


def strike_weight(
    lowered: Lowered,
    phase: Gemm,
    place: Place,
    keep: int,
    mask: int,
    x: F32,
    weights: F32,
    clean: F32,
    before: F32,
) -> tuple[F32, F32] | None:
    """Sums and result of the rows that get a struck weight; None where this cannot say.

    Args:
        lowered: the program.
        phase: the product.
        place: as `weight_of` has it.
        keep: bits of the word that stay.
        mask: bits that are then XORed.
        x: what the cores of these rows multiply, [rows, cols, m, kc].
        weights: the streamed matrix.
        clean: sums that the clean run has there, [rows, m].
        before: elements of the result as they were before the phase, [rows, m].

    Returns:
        sums and elements, float32[rows, m] each.
    """
    table, cols = lowered.program.table, lowered.program.cols
    kc, nc = table[phase.x].dims[1], table[phase.y].dims[1]
    column = np.ascontiguousarray(weights[:, place.block * nc + place.feature], np.float32).reshape(cols, kc)
    terms = np.zeros((*clean.shape, cols, kc + 1), np.float32)
    # [rows, cols, m, kc] to [rows, m, cols, kc]
    inputs = x.transpose(0, 2, 1, 3)
    terms[..., 1:] = column * inputs
    own = np.add.accumulate(terms, axis=-1)[..., -1]
    if (np.add.accumulate(own, axis=-1)[..., -1].view(np.uint32) != clean.view(np.uint32)).any():
        return None
    struck = _struck(column[place.core, place.step], lowered.program.dtype, keep, mask)
    line = terms[..., place.core, :]
    line[..., place.step + 1] = struck * inputs[..., place.core, place.step]
    own[..., place.core] = np.add.accumulate(line, axis=-1)[..., -1]
    totals = np.ascontiguousarray(np.add.accumulate(own, axis=-1)[..., -1])
    result = round_to(totals + before if phase.accumulate else totals, table[phase.y].dtype)
    return None if np.isnan(totals).any() or np.isnan(result).any() else (totals, result)


def _along(own: F32) -> np.float32:
    return np.float32(np.add.accumulate(own)[-1])


def _struck(value: np.float32, dtype: str, keep: int, mask: int) -> np.float32:
    word = (encode_words(np.array([value], np.float32), dtype) & np.uint32(keep)) ^ np.uint32(mask)
    return np.float32(decode_words(word, dtype)[0])
