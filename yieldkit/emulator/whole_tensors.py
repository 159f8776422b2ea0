"""Tensors as whole arrays, and phases run on them by their plans."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.kernels.table import run_table
from yieldkit.emulator.layouts import OUT, STREAM, SUM, Layout, Plan, Widen
from yieldkit.emulator.lowering import Lowered
from yieldkit.emulator.plans import plans_of
from yieldkit.errors import BadInput
from yieldkit.workloads.program import Gemm, Gemv, Phase, StreamIn, StreamOut, WGrad

__all__ = ["WholeTensors", "address_of", "dense"]

F32 = npt.NDArray[np.float32]


class WholeTensors:
    """The tensors of all cores, each one array, and the phases that work on them.

    Args:
        lowered: the program.
        threads: threads for matrix products; changes no bit.
        taps: keep the fp32 sums of every product for hashing.

    Attributes:
        arrays: tensors that are there, `[rows|1, cols|1, *dims]`.
        altered: constants that are no longer as loaded.
    """

    def __init__(self, lowered: Lowered, *, threads: int, taps: bool) -> None:
        if threads < 1:
            raise BadInput("threads must be at least 1", value=threads)
        self.lowered = lowered
        self.threads = threads
        self.keep_taps = taps
        self.arrays: dict[str, F32] = {}
        self.altered: frozenset[str] = frozenset()
        self._plans = plans_of(lowered)
        self._layout: dict[str, Layout] = {}
        self._addresses = np.zeros(len(self._plans.setting.number) + SUM + 1, np.int64)
        self._memory = np.empty(self._plans.room, np.float32)
        self._usual: dict[str, tuple[F32, int]] = {}
        self._sums = np.empty(0, np.float32)

    def _put(self, name: str, array: F32) -> None:
        self._provide(name, (array.shape[0], array.shape[1]), array, address_of(array))

    def _provide(self, name: str, layout: Layout, array: F32, address: int) -> None:
        self.arrays[name] = array
        self._layout[name] = layout
        self._addresses[self._plans.setting.number[name]] = address

    def _drop(self, name: str) -> None:
        if name in self.arrays:
            del self.arrays[name], self._layout[name]

    def _make(self, name: str, layout: Layout) -> None:
        """An array for what a phase writes: in the memory laid out beforehand, or of its own where copies differ."""
        if self._layout.get(name) == layout:
            return
        known = self._usual.get(name)
        if known is None or known[0].shape[:2] != layout:
            shape = (*layout, *self.lowered.tensors[name].dims)
            if name not in self._plans.place or layout != self._plans.setting.usual(name):
                self._put(name, np.empty(shape, np.float32))
                return
            start = self._plans.place[name]
            array = self._memory[start : start + math.prod(shape)].reshape(shape)
            known = self._usual[name] = (array, address_of(array))
        self._provide(name, layout, *known)

    def _widen(self, layouts: Mapping[str, Layout]) -> None:
        """Copies that come to differ: from here on every core has its own."""
        for name, layout in layouts.items():
            array = self.arrays[name]
            self._put(name, np.array(np.broadcast_to(array, (*layout, *array.shape[2:])), order="C"))

    def _plan(self, number: int, strides: tuple[int, ...]) -> Plan:
        while True:
            try:
                return self._plans.plan(number, self._layout, self.altered, (strides, self.keep_taps))
            except Widen as need:
                self._widen(need.layouts)

    def _run(
        self, number: int, phase: Phase, streams: Mapping[str, F32], outputs: dict[str, F32], taps: dict[str, F32]
    ) -> None:
        strides: tuple[int, ...] = ()
        stream = None
        if isinstance(phase, Gemm | StreamIn):
            # Kept until the end of the phase: only its address is handed on.
            stream = dense(streams[phase.stream])
            strides = tuple(stride // 4 for stride in stream.strides)
            self._addresses[STREAM] = address_of(stream)
        plan = self._plan(number, strides)
        for name, layout in plan.writes:
            self._make(name, layout)
        if plan.sums:
            sums = self._scratch(plan.sums)
            self._addresses[SUM] = address_of(sums)
            if self.keep_taps and isinstance(phase, Gemm | Gemv):
                taps[phase.name] = sums
        if plan.out and isinstance(phase, WGrad | StreamOut):
            out = outputs[phase.stream] = np.empty(plan.out, np.float32)
            self._addresses[OUT] = address_of(out)
        if plan.product is not None:
            self._multiply(plan.product)
        if plan.table is not None:
            run_table(plan.table, self._addresses, 0, 1)

    def _scratch(self, shape: tuple[int, ...]) -> F32:
        if self.keep_taps:
            return np.empty(shape, np.float32)
        size = int(np.prod(shape))
        if self._sums.size < size:
            self._sums = np.empty(size, np.float32)
        return self._sums[:size]

    def _multiply(self, table: npt.NDArray[np.int64]) -> None:
        if self.threads == 1:
            run_table(table, self._addresses, 0, 1)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            shares = range(self.threads)
            list(pool.map(lambda share: run_table(table, self._addresses, share, self.threads), shares))


def address_of(array: F32) -> int:
    """Where the words of an array lie."""
    return int(array.__array_interface__["data"][0])


def dense(array: F32) -> F32:
    """The array, or a copy without gaps; a transposed one stays as it is."""
    if array.dtype == np.float32 and (array.flags.c_contiguous or (array.ndim == 2 and array.flags.f_contiguous)):
        return array
    return np.ascontiguousarray(array, np.float32)
