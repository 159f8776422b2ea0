"""What a core sends in each phase of a clean launch, by colour: words and control words, from tensors alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.code import channels_of
from yieldkit.emulator.collectives import Reduction, along, tree_order
from yieldkit.emulator.formats import encode_words, round_to
from yieldkit.emulator.kernels.machine import ADVANCE, DATA, RESET
from yieldkit.emulator.lines import Stop, stop_of
from yieldkit.emulator.partials import CleanLaunch, Partials
from yieldkit.emulator.permute import path_colours, permute_channel
from yieldkit.workloads.program import (
    AllGather,
    AllReduce,
    Broadcast,
    ChainAccumulate,
    Gemm,
    Gemv,
    Permute,
    Shift,
    StreamOut,
    WGrad,
)

__all__ = ["NO_WORDS", "Sends", "Words", "joined"]

F32 = npt.NDArray[np.float32]
Words = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]
"""Words and, for each, whether it is data, ADVANCE or RESET."""

_Sent = Iterator[tuple[int, Callable[[], Words]]]
"""Colours, and the words on them for those who ask: partial sums cost something."""

_STEP: Final = {"E": ("chain_east", 1), "S": ("chain_south", 1), "W": ("shift_west", -1), "N": ("shift_north", -1)}


class Sends:
    """Words that leave the cores of a clean launch for their routers.

    Args:
        clean: the launch.
    """

    def __init__(self, clean: CleanLaunch) -> None:
        self.clean = clean
        self.partials = Partials(clean)
        self.program = clean.lowered.program
        self.rows, self.cols = self.program.rows, self.program.cols
        self._uses: dict[int, list[int]] = {}
        for number, phase in enumerate(clean.low.launch.phases):
            for channel in channels_of(self.program, phase):
                for colour in clean.low.colours[channel]:
                    self._uses.setdefault(colour, []).append(number)

    def of(self, r: int, c: int, colour: int) -> Words:
        """All that core (r, c) sends in a colour during the launch."""
        parts = []
        with np.errstate(all="ignore"):
            for number in self._uses.get(colour, ()):
                parts += [words() for mine, words in self._phase(number, r, c) if mine == colour]
        return joined(parts)

    def _phase(self, number: int, r: int, c: int) -> _Sent:
        phase = self.clean.low.launch.phases[number]
        if isinstance(phase, Gemm):
            yield from self._gemm(number, phase, r, c)
        elif isinstance(phase, WGrad):
            yield from self._weight_gradient(number, phase, r, c)
        elif isinstance(phase, Gemv):
            yield from self._gemv(number, r, c)
        elif isinstance(phase, Reduction):
            yield from self._reduction(number, phase, r, c)
        elif isinstance(phase, AllGather):
            yield from self._all_gather(number, phase, r, c)
        elif isinstance(phase, Broadcast):
            if self._is_last(phase.axis, r, c) and self._size(phase.axis) > 1:
                yield _back(phase.axis), lambda: self._block(number, phase.x, r, c)
        elif isinstance(phase, ChainAccumulate):
            yield from self._chain_accumulate(number, r, c)
        elif isinstance(phase, StreamOut):
            yield from self._stream_out(number, phase, r, c)
        elif isinstance(phase, Permute):
            if phase.to[c] != c:
                colour = self.clean.low.colours[permute_channel(phase.to)][path_colours(phase.to)[c]]
                yield colour, lambda: self._block(number, phase.x, r, c)
        elif isinstance(phase, Shift):
            channel, step = _STEP[phase.direction]
            place, size = (c, self.cols) if phase.direction in "EW" else (r, self.rows)
            if 0 <= place + step < size:
                yield COLOUR_OF[channel] + place % 2, lambda: self._block(number, phase.x, r, c)

    def _size(self, axis: str) -> int:
        return self.cols if axis == "row" else self.rows

    def _is_last(self, axis: str, r: int, c: int) -> bool:
        return (c if axis == "row" else r) == self._size(axis) - 1

    def _block(self, number: int, name: str, r: int, c: int, control: int = DATA) -> Words:
        """A core's block of a tensor as it stands when the phase begins."""
        return _sent(self.clean.blocks(number, name)[r, c], self.clean.lowered.tensors[name].dtype, control)

    def _gemm(self, number: int, phase: Gemm, r: int, c: int) -> _Sent:
        last, dtype = self.cols - 1, self.program.sum_dtype
        if c < last:
            yield COLOUR_OF["chain_east"] + c % 2, lambda: _sent(self.partials.product(number, r)[c], dtype)
        elif last > 0:
            yield COLOUR_OF["scatter_west"], lambda: self._scattered(number, r)

    def _scattered(self, number: int, r: int) -> Words:
        """Results of a gemm from the last core to the others, nearest first, a control word after each block."""
        sums, last = self.partials.product(number, r)[-1], self.cols - 1
        blocks = sums.reshape(len(sums), self.cols, -1)[:, last - 1 :: -1]
        words = np.zeros((len(sums), last, blocks.shape[2] + 1), np.uint32)
        kinds = np.zeros(words.shape, np.uint8)
        words[..., :-1] = encode_words(blocks, self.program.sum_dtype).reshape(blocks.shape)
        kinds[..., -1] = ADVANCE
        kinds[:, -1, -1] = RESET
        return words.reshape(-1), kinds.reshape(-1)

    def _weight_gradient(self, number: int, phase: WGrad, r: int, c: int) -> _Sent:
        last = self.cols - 1
        if c < last:
            control = RESET if c == 0 else ADVANCE
            yield COLOUR_OF["all_gather_east"], lambda: self._exchanged(number, phase, r, c, -1, control)
        if c > 0:
            back = RESET if c == last else ADVANCE
            yield COLOUR_OF["all_gather_west"], lambda: self._exchanged(number, phase, r, c, 1, back)
        yield self._down(r), lambda: _sent(self.partials.gradient(number, c, r)[r], self.program.sum_dtype)

    def _exchanged(self, number: int, phase: WGrad, r: int, c: int, step: int, control: int) -> Words:
        """Blocks of dy as they go along the row, features upwards (step 1) or downwards (-1)."""
        (m, _), nc = self.program.table[phase.x].dims, self.program.table[phase.dy].dims[1]
        dy, block = self.clean.blocks(number, phase.dy)[r, c], self.program.block or m
        return joined(
            [
                _sent(part[:, ::step].T, self.program.table[phase.dy].dtype, control)
                for feature in range(0, nc, phase.part)
                for token in range(0, m, block)
                for part in (dy[token : token + block, feature : feature + phase.part],)
            ]
        )

    def _down(self, r: int) -> int:
        """Colour of a partial sum that goes down a column, and off the edge at its end."""
        return COLOUR_OF["chain_south"] + r % 2 if r < self.rows - 1 else COLOUR_OF["edge_out_south"]

    def _gemv(self, number: int, r: int, c: int) -> _Sent:
        last, dtype = self.cols - 1, self.program.sum_dtype

        def sums(place: int) -> Words:
            return _sent(self.partials.vector(number, r)[place], dtype)

        if c < last:
            yield COLOUR_OF["chain_east"] + c % 2, lambda: sums(c)
        elif r != last:
            yield COLOUR_OF["diagonal_west"], lambda: sums(last)
        if r == c and self.rows > 1:
            yield COLOUR_OF["diagonal_column"], lambda: sums(last)

    def _reduction(self, number: int, phase: Reduction, r: int, c: int) -> _Sent:
        place, line = (c, r) if phase.axis == "row" else (r, c)
        size = self._size(phase.axis)
        stop = stop_of(phase.method, place, size)
        if stop.send is not None:
            channel, colour = stop.send
            mine = self.clean.low.colours[along(channel, phase.axis)][colour]
            yield mine, lambda: self._result(number, phase, line, place, stop)
        elif isinstance(phase, AllReduce) and size > 1:
            yield _back(phase.axis), lambda: self._result(number, phase, line, place, stop)

    def _result(self, number: int, phase: Reduction, line: int, place: int, stop: Stop) -> Words:
        sums, tensor = self.partials.reduced(number, line)[place], self.program.table[phase.x]
        if phase.method == "tree" and stop.send is not None:
            sums = np.concatenate([sums[start : start + n] for start, n in tree_order(stop, tensor.size)])
        return _sent(sums, tensor.dtype)

    def _all_gather(self, number: int, phase: AllGather, r: int, c: int) -> _Sent:
        row = phase.axis == "row"
        place, size = (c, self.cols) if row else (r, self.rows)
        up, down = self.clean.low.colours["all_gather" if row else "all_gather_column"]
        if place < size - 1:
            yield up, lambda: self._block(number, phase.x, r, c, RESET if place == 0 else ADVANCE)
        if place > 0:
            yield down, lambda: self._block(number, phase.x, r, c, RESET if place == size - 1 else ADVANCE)

    def _chain_accumulate(self, number: int, r: int, c: int) -> _Sent:
        if self.rows > 1:
            colour = COLOUR_OF["chain_south"] + r % 2 if r < self.rows - 1 else COLOUR_OF["column_multicast_north"]
            yield colour, lambda: _sent(self.partials.accumulated(number, c, r)[r], "fp32")

    def _stream_out(self, number: int, phase: StreamOut, r: int, c: int) -> _Sent:
        if phase.mode == "reduce_col":
            yield self._down(r), lambda: _sent(self.partials.stream_sum(number, c, r)[r], "fp32")
        elif phase.mode == "gather_row":
            control = RESET if c == 0 else ADVANCE
            yield COLOUR_OF["gather_out"], lambda: self._block(number, phase.tensor, r, c, control)
        elif phase.mode == "last_row" and r == self.rows - 1:
            yield COLOUR_OF["edge_out_south"], lambda: self._block(number, phase.tensor, r, c)
        elif phase.mode == "last_col" and c == self.cols - 1:
            yield COLOUR_OF["edge_out_east"], lambda: self._block(number, phase.tensor, r, c)


def _back(axis: str) -> int:
    """Colour on which the last core of a line gives the others what it has."""
    return COLOUR_OF["row_multicast_west" if axis == "row" else "column_multicast_north"]


def _sent(values: F32, dtype: str, control: int = DATA) -> Words:
    """Values as a core sends them, and the control word that follows."""
    words = encode_words(round_to(values, dtype), dtype)
    kinds = np.zeros(len(words), np.uint8)
    if control == DATA:
        return words, kinds
    return np.append(words, np.uint32(0)), np.append(kinds, np.uint8(control))


def joined(parts: list[Words]) -> Words:
    """Words of several stretches in a row."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return NO_WORDS
    return np.concatenate([words for words, _ in parts]), np.concatenate([kinds for _, kinds in parts])


NO_WORDS: Final[Words] = (np.zeros(0, np.uint32), np.zeros(0, np.uint8))
