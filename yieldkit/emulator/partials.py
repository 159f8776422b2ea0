"""Partial sums of a clean launch: what each core on a line has added up when it hands its sum on.

They follow from the tensors at the start of a phase, in the machine's order and rounding, and no word is moved. A line
is worked out once, from its first core to the last one asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.collectives import Reduction
from yieldkit.emulator.formats import round_to
from yieldkit.emulator.isa import FORMATS, OPCODES
from yieldkit.emulator.kernels.instr import run_instr
from yieldkit.emulator.lines import group_size, stop_of
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.workloads.program import ChainAccumulate, Gemm, Gemv, Instr, StreamOut, WGrad, tensors_of

__all__ = ["CleanLaunch", "Partials"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CleanLaunch:
    """A launch as it goes when nothing strikes.

    Attributes:
        lowered: the program.
        low: the launch.
        streams: arrays that feed it, by stream.
        held: for each of its phases the tensors it touches as they are when it begins, `[rows|1, cols|1, *dims]`;
            what is not there yet may be missing.
    """

    lowered: Lowered
    low: LoweredLaunch
    streams: Mapping[str, F32]
    held: Sequence[Mapping[str, F32]]

    def blocks(self, number: int, name: str) -> F32:
        """A tensor at the start of phase `number`, `[rows, cols, *dims]` (a view)."""
        program = self.lowered.program
        array = self.held[number].get(name)
        if array is None:
            array = np.zeros((1, 1, *self.lowered.tensors[name].dims), np.float32)
        return np.broadcast_to(array, (program.rows, program.cols, *array.shape[2:]))


class Partials:
    """Partial sums by phase and line.

    Args:
        clean: the launch.
    """

    def __init__(self, clean: CleanLaunch) -> None:
        self.clean = clean
        self.program = clean.lowered.program
        self.phases = clean.low.launch.phases
        self._known: dict[tuple[Any, ...], F32] = {}

    def product(self, number: int, r: int) -> F32:
        """Sums of a gemm along row r, `[cols, tiles, features, m]`: after column c, features of all columns."""
        key = ("product", number, r)
        if key not in self._known:
            self._known[key] = self._product(number, r)
        return self._known[key]

    def _product(self, number: int, r: int) -> F32:
        phase = self.phases[number]
        assert isinstance(phase, Gemm)
        table, cols, part = self.program.table, self.program.cols, phase.part
        (m, kc), nc = table[phase.x].dims, table[phase.y].dims[1]
        x = self.clean.blocks(number, phase.x)[r]
        weights = np.asarray(self.clean.streams[phase.stream], np.float32).reshape(cols, kc, cols, nc // part, part)
        w = weights.transpose(0, 1, 3, 2, 4).reshape(cols, kc, nc // part, cols * part)
        shape = (cols, nc // part, cols * part, m)
        own = self._summed(lambda k: np.multiply(w[:, k, :, :, None], x[:, None, None, :, k]), kc, shape)
        return self._along(own)

    def gradient(self, number: int, c: int, last: int) -> F32:
        """Sums of a weight gradient down column c, `[rows, tiles, cols, part, k]`: after row r, for r up to `last`."""
        return self._column("gradient", number, c, last, self._gradient)

    def _gradient(self, number: int, c: int, last: int) -> F32:
        phase = self.phases[number]
        assert isinstance(phase, WGrad)
        table, cols, part = self.program.table, self.program.cols, phase.part
        (m, kc), nc = table[phase.x].dims, table[phase.dy].dims[1]
        x = self.clean.blocks(number, phase.x)[: last + 1, c]
        dy = self.clean.blocks(number, phase.dy)[: last + 1].reshape(last + 1, cols, m, nc // part, part)
        dy = dy.transpose(0, 2, 3, 1, 4)
        shape = (last + 1, nc // part, cols, part, kc)
        own = self._summed(lambda t: np.multiply(dy[:, t, ..., None], x[:, t][:, None, None, None]), m, shape)
        return self._along(own)

    def vector(self, number: int, r: int) -> F32:
        """Sums of a gemv along row r, `[cols, n, b]`: after column c."""
        key = ("vector", number, r)
        if key not in self._known:
            phase = self.phases[number]
            assert isinstance(phase, Gemv)
            (b, kc), n = self.program.table[phase.x].dims, self.program.table[phase.w].dims[1]
            x = self.clean.blocks(number, phase.x)[r]
            w = self.clean.blocks(number, phase.w)[r]
            shape = (self.program.cols, n, b)
            own = self._summed(lambda k: np.multiply(w[:, k, :, None], x[:, None, :, k]), kc, shape)
            self._known[key] = self._along(own)
        return self._known[key]

    def _summed(self, step: Callable[[int], F32], steps: int, shape: tuple[int, ...]) -> F32:
        """Each core's own sum over k ascending, with the totals over blocks where the program has them."""
        block = self.program.block or steps
        total = np.zeros(shape, np.float32)
        for first in range(0, steps, block):
            acc = np.zeros(shape, np.float32)
            for k in range(first, min(first + block, steps)):
                acc += step(k)
            if not self.program.block:
                return acc
            total = round_to(acc if first == 0 else total + acc, self.program.sum_dtype)
        return total

    def _along(self, own: F32) -> F32:
        """Sums over the first axis from the first core on, each rounded to the format in which it is handed on."""
        sums = np.empty_like(own)
        sums[0] = round_to(own[0], self.program.sum_dtype)
        for place in range(1, len(own)):
            sums[place] = round_to(sums[place - 1] + own[place], self.program.sum_dtype)
        return sums

    def _column(self, what: str, number: int, c: int, last: int, work_out: Callable[[int, int, int], F32]) -> F32:
        """A column down to row `last` at least; one that was worked out farther down serves too."""
        known: F32 | None = self._known.get((what, number, c))
        if known is None or len(known) <= last:
            known = self._known[what, number, c] = work_out(number, c, last)
        return known

    def stream_sum(self, number: int, c: int, last: int) -> F32:
        """Sums of a stream out that reduces down column c, `[rows, words]`: after row r, for r up to `last`."""
        return self._column("stream_sum", number, c, last, self._stream_sum)

    def _stream_sum(self, number: int, c: int, last: int) -> F32:
        phase = self.phases[number]
        assert isinstance(phase, StreamOut)
        own = self.clean.blocks(number, phase.tensor)[: last + 1, c].reshape(last + 1, -1)
        sums = np.empty(own.shape, np.float32)
        sums[0] = round_to(own[0], "fp32")
        for place in range(1, len(own)):
            sums[place] = round_to(sums[place - 1] + own[place], "fp32")
        return sums

    def accumulated(self, number: int, c: int, last: int) -> F32:
        """The accumulator handed down column c, `[rows, words]`: after row r, for r up to `last`."""
        return self._column("accumulated", number, c, last, self._accumulated)

    def _accumulated(self, number: int, c: int, last: int) -> F32:
        phase = self.phases[number]
        assert isinstance(phase, ChainAccumulate)
        names = tensors_of(phase)
        columns = {name: self.clean.blocks(number, name)[:, c] for name in names}
        size = self.clean.lowered.tensors[phase.acc].size
        sums = np.empty((last + 1, size), np.float32)
        for r in range(last + 1):
            blocks = {name: np.array(columns[name][r], np.float32).reshape(-1) for name in names}
            if r == 0:
                self._instr(phase.start, blocks)
            else:
                blocks[phase.acc] = sums[r - 1].copy()
            for instr in phase.instrs:
                self._instr(instr, blocks)
            sums[r] = round_to(blocks[phase.acc], "fp32")
        return sums

    def _instr(self, instr: Instr, blocks: Mapping[str, F32]) -> None:
        refs = [instr.d, instr.a, instr.b or instr.a]
        strides = [[ref.stride(axis) for axis, _ in instr.axes] for ref in refs]
        run_instr(
            OPCODES[instr.op],
            np.array([extent for _, extent in instr.axes], np.int64),
            np.array(strides, np.int64).reshape(3, -1),
            np.array([ref.offset for ref in refs], np.int64),
            *(blocks[ref.tensor] for ref in refs),
            FORMATS[self.clean.lowered.tensors[instr.d.tensor].dtype],
        )

    def reduced(self, number: int, line: int) -> F32:
        """What each core of a line has when it has heard everyone it hears, `[places, words]`."""
        key = ("reduced", number, line)
        if key not in self._known:
            phase = self.phases[number]
            assert isinstance(phase, Reduction)
            tensor = self.program.table[phase.x]
            blocks = self.clean.blocks(number, phase.x)
            own = blocks[line] if phase.axis == "row" else blocks[:, line]
            sums = np.array(own, np.float32).reshape(len(own), -1)
            for place in range(len(own)):
                sums[place] = round_to(sums[place], tensor.dtype)
                for channel, level in stop_of(phase.method, place, len(own)).receive:
                    distance = {"chain": 1, "tree": 1 << level, "leaders": group_size(len(own))}[channel]
                    sums[place] = round_to(_combine(phase.op, sums[place - distance], sums[place]), tensor.dtype)
            self._known[key] = sums
        return self._known[key]


def _combine(op: str, before: F32, own: F32) -> F32:
    if op == "add":
        return np.asarray(before + own, np.float32)
    nan = np.isnan(before) | np.isnan(own)
    return np.where(nan, np.float32(np.nan), np.where(own > before, own, before))
