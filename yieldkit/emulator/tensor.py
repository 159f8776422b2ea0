"""The tensor executor: whole tensors at a time, in exactly the order of sums that the machine keeps.

What it follows itself: phases of untouched configuration, with any values in SRAM (flipped ones included). What
strikes a configuration word, a register, a result on its way or a link is handed, a launch at a time, to the reference
machine, which runs it from the state at the launch's start; after a launch whose control state is as it should be, the
tensors are read back and the fast way goes on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.formats import CANONICAL_NAN, decode_words, encode_words, round_to
from yieldkit.emulator.hooks import LaunchHooks, SramHook
from yieldkit.emulator.host_words import check_input, inputs_of
from yieldkit.emulator.kernels.matmul import blocks_matmul, blocks_weight_gradient, split_product
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import LaunchResult, Machine
from yieldkit.emulator.vector import run_instr
from yieldkit.errors import BadInput
from yieldkit.workloads.program import (
    AllReduce,
    ChainAccumulate,
    Compute,
    Gemm,
    Gemv,
    Phase,
    Shift,
    StreamIn,
    StreamOut,
    Tensor,
    WGrad,
)

__all__ = ["ReferenceExecutor", "TensorExecutor"]

F32 = npt.NDArray[np.float32]


class ReferenceExecutor:
    """Every launch on the reference machine.

    Args:
        lowered: the program.
        queue_depth: words a queue holds.
    """

    def __init__(self, lowered: Lowered, *, queue_depth: int = 4, threads: int = 1) -> None:
        self.machine = Machine(lowered, queue_depth=queue_depth)
        self.lowered = lowered
        for tensor in lowered.tensors.values():
            if tensor.values:
                self.write(tensor.name, constant_array(tensor, lowered.program.rows, lowered.program.cols))

    def write(self, name: str, array: F32) -> None:
        """Put a tensor into SRAM (resident weights, constants)."""
        self.machine.write(name, array)

    def read(self, name: str) -> F32:
        """A tensor as `[rows, cols, *dims]`."""
        return self.machine.read(name)

    @property
    def pristine(self) -> bool:
        """Never known here without comparing all of SRAM."""
        return False

    def launch(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks | None = None) -> LaunchResult:
        """Run one launch."""
        return self.machine.launch(low, streams, hooks)


class TensorExecutor:
    """Launches on whole tensors, handing on what it does not follow.

    Args:
        lowered: the program.
        queue_depth: words a queue holds, for the launches that are handed on.
        threads: threads for matrix products; changes no bit.
        taps: keep the fp32 sums of every product for hashing.
    """

    def __init__(self, lowered: Lowered, *, queue_depth: int = 4, threads: int = 1, taps: bool = True) -> None:
        self.lowered = lowered
        self.program = lowered.program
        self.rows, self.cols = self.program.rows, self.program.cols
        self.queue_depth = queue_depth
        self.threads = threads
        self.keep_taps = taps
        self.arrays: dict[str, F32] = {}
        self.machine: Machine | None = None
        self.handed_on = 0
        for tensor in lowered.tensors.values():
            if tensor.values:
                self.write(tensor.name, constant_array(tensor, self.rows, self.cols))
            elif tensor.keep:
                self.write(tensor.name, np.zeros((1, 1, *tensor.dims), np.float32))

    def write(self, name: str, array: F32) -> None:
        """Put a tensor into the cores."""
        self.arrays[name] = self._full(name, array)

    def read(self, name: str) -> F32:
        """A tensor as `[rows, cols, *dims]`, copies spelled out."""
        array = self.arrays[name]
        return np.array(np.broadcast_to(array, (self.rows, self.cols, *array.shape[2:])), order="C")

    def launch(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks | None = None) -> LaunchResult:
        """Run one launch, here or on the reference machine."""
        hooks = hooks or LaunchHooks()
        if self.machine is not None or not self._follows(low, hooks):
            return self._hand_on(low, streams, hooks)
        for fed in inputs_of(low.launch):
            check_input(self.program, fed, streams[fed.stream])
        outputs: dict[str, F32] = {}
        taps: dict[str, F32] = {}
        first = sum(len(other.launch.phases) for other in self.lowered.launches[: low.index])
        for number, phase in enumerate(low.launch.phases):
            for hook in hooks.sram:
                if hook.phase == number:
                    self._flip(low, hook)
            self._run(phase, streams, outputs, taps)
            self._drop_dead(first + number)
        return LaunchResult(True, outputs, taps)

    def _follows(self, low: LoweredLaunch, hooks: LaunchHooks) -> bool:
        if hooks.routes or hooks.registers or hooks.results or hooks.links:
            return False
        for hook in hooks.sram:
            meaning = self.lowered.meaning(low.index, hook.phase, int(low.role_of[hook.r, hook.c]), hook.address)
            if meaning.kind in ("header", "task", "descriptor"):
                return False
        return True

    def _hand_on(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks) -> LaunchResult:
        self.handed_on += 1
        if self.machine is None:
            self.machine = Machine(self.lowered, queue_depth=self.queue_depth)
            for name in low.alive_at_start:
                if name in self.arrays:
                    self.machine.write(name, self.arrays[name])
        result = self.machine.launch(low, streams, hooks)
        following = self.lowered.launches[(low.index + 1) % len(self.lowered.launches)]
        self.arrays = {
            name: _compact(self.machine.read(name), self.lowered.tensors[name].over)
            for name in self._alive_after(low, following)
        }
        if result.completed and self.machine.is_golden(following):
            self.machine = None
        return result

    @property
    def pristine(self) -> bool:
        """Whether the cores hold nothing from before but the constants, as loaded."""
        if self.machine is not None:
            return False
        for tensor in self.lowered.tensors.values():
            if tensor.keep and not tensor.values:
                return False
            if tensor.values:
                loaded = constant_array(tensor, self.rows, self.cols)
                if not np.array_equal(self.arrays[tensor.name].view(np.uint32), loaded.view(np.uint32)):
                    return False
        return True

    def _alive_after(self, low: LoweredLaunch, following: LoweredLaunch) -> list[str]:
        if following.index > low.index:
            return list(following.alive_at_start)
        return [name for name in following.alive_at_start if self._lasts(name)]

    def _lasts(self, name: str) -> bool:
        tensor = self.lowered.tensors[name]
        return tensor.keep or bool(tensor.values)

    def _drop_dead(self, now: int) -> None:
        for name in [n for n in self.arrays if self.lowered.life[n][1] <= now and not self._lasts(n)]:
            del self.arrays[name]

    def _flip(self, low: LoweredLaunch, hook: SramHook) -> None:
        """XOR a word of SRAM; a word that holds nothing live, or an ignored high half, changes no value."""
        meaning = self.lowered.meaning(low.index, hook.phase, int(low.role_of[hook.r, hook.c]), hook.address)
        if meaning.kind not in ("tensor", "constant") or meaning.name not in self.arrays:
            return
        array = self.read(meaning.name)
        dtype = self.lowered.tensors[meaning.name].dtype
        block = array[hook.r, hook.c].reshape(-1)
        word = encode_words(block[meaning.index : meaning.index + 1], dtype) ^ np.uint32(hook.mask)
        block[meaning.index : meaning.index + 1] = decode_words(word, dtype)
        self.arrays[meaning.name] = array

    def _get(self, name: str) -> F32:
        array = self.arrays.get(name)
        if array is None:
            tensor = self.lowered.tensors[name]
            rows = self.rows if "r" in tensor.over else 1
            cols = self.cols if "c" in tensor.over else 1
            array = np.zeros((rows, cols, *tensor.dims), np.float32)
            self.arrays[name] = array
        return array

    def _full(self, name: str, array: F32) -> F32:
        dims = self.lowered.tensors[name].dims
        if array.shape[2:] != dims or array.shape[0] not in (1, self.rows) or array.shape[1] not in (1, self.cols):
            raise BadInput(f"tensor {name!r} needs blocks of shape {dims}", value=array.shape)
        return np.array(array, np.float32, order="C")

    def _put(self, name: str, array: F32) -> None:
        self.arrays[name] = array

    def _exact(self, *names: str) -> bool:
        return self.program.dtype != "fp32" and all(self.lowered.tensors[name].dtype != "fp32" for name in names)

    def _blocks(self, name: str) -> F32:
        array = self._get(name)
        return np.broadcast_to(array, (self.rows, self.cols, *array.shape[2:]))

    def _store(self, name: str, total: F32, *, accumulate: bool = False) -> None:
        if accumulate:
            total = np.add(total, self._blocks(name), dtype=np.float32)
        self._put(name, _stored(total, self.lowered.tensors[name].dtype))

    def _run(self, phase: Phase, streams: Mapping[str, F32], outputs: dict[str, F32], taps: dict[str, F32]) -> None:
        if isinstance(phase, Compute):
            for instr in phase.instrs:
                run_instr(instr, self._get, self._put, self.lowered.tensors)
        elif isinstance(phase, Gemm):
            x = self._blocks(phase.x)
            weights = streams[phase.stream]
            total = blocks_matmul(x, weights, self.cols, exact_products=self._exact(phase.x), threads=self.threads)
            if self.keep_taps:
                taps[phase.name] = total
            self._store(phase.y, total, accumulate=phase.accumulate)
        elif isinstance(phase, WGrad):
            exact = self._exact(phase.x, phase.dy)
            outputs[phase.stream] = blocks_weight_gradient(
                self._blocks(phase.x), self._blocks(phase.dy), exact_products=exact, threads=self.threads
            )
        elif isinstance(phase, Gemv):
            self._gemv(phase, taps)
        elif isinstance(phase, AllReduce):
            array = self._get(phase.x)
            axis = 1 if phase.axis == "row" else 0
            size = self.cols if phase.axis == "row" else self.rows
            self._put(phase.y, _chain(array, axis, size, phase.op))
        elif isinstance(phase, ChainAccumulate):
            self._chain_accumulate(phase)
        elif isinstance(phase, StreamIn):
            self._put(phase.tensor, self._full(phase.tensor, streams[phase.stream]))
        elif isinstance(phase, StreamOut):
            outputs[phase.stream] = self._stream_out(phase)
        else:
            self._shift(phase)

    def _gemv(self, phase: Gemv, taps: dict[str, F32]) -> None:
        w = self._blocks(phase.w)
        x = self._blocks(phase.x)
        b, n = x.shape[2], w.shape[3]
        total = np.empty((self.rows, b, n), np.float32)
        split_product(
            x.transpose(0, 2, 1, 3)[:, None, None],
            w[:, None, :, :, None, :],
            total[:, None, None, :, None, :],
            k_tile=x.shape[3],
            exact_products=self._exact(phase.x, phase.w),
        )
        if self.keep_taps:
            taps[phase.name] = total
        self._put(phase.y, _stored(total[None], self.lowered.tensors[phase.y].dtype))

    def _chain_accumulate(self, phase: ChainAccumulate) -> None:
        self.arrays.pop(phase.acc, None)
        carried: F32 | None = None
        for r in range(self.rows):
            local: dict[str, F32] = {}
            if carried is not None:
                local[phase.acc] = carried

            def get(name: str, row: int = r, local: dict[str, F32] = local) -> F32:
                if name not in local:
                    array = self._get(name)
                    local[name] = np.ascontiguousarray(array[row : row + 1] if array.shape[0] > 1 else array)
                    if name == phase.acc:
                        local[name] = np.zeros((1, *array.shape[1:]), np.float32)
                return local[name]

            for instr in (phase.start, *phase.instrs) if r == 0 else phase.instrs:
                run_instr(instr, get, local.__setitem__, self.lowered.tensors)
            carried = get(phase.acc)
        if carried is not None:
            self._put(phase.acc, carried)

    def _stream_out(self, phase: StreamOut) -> F32:
        blocks = self._blocks(phase.tensor)
        if phase.mode == "reduce_col":
            return _chain(np.broadcast_to(self._get(phase.tensor), blocks.shape), 0, self.rows, "add")
        if phase.mode == "last_col":
            return _stored(blocks[:, -1:], "fp32")
        if phase.mode == "last_row":
            return _stored(blocks[-1:], "fp32")
        return _stored(blocks, "fp32")

    def _shift(self, phase: Shift) -> None:
        x, y = self._blocks(phase.x), np.array(self._blocks(phase.y))
        if phase.direction == "E":
            y[:, 1:] = x[:, :-1]
        elif phase.direction == "W":
            y[:, :-1] = x[:, 1:]
        elif phase.direction == "S":
            y[1:] = x[:-1]
        else:
            y[:-1] = x[1:]
        self._put(phase.y, _stored(y, self.lowered.tensors[phase.y].dtype))


def constant_array(tensor: Tensor, rows: int, cols: int) -> F32:
    """Contents of a constant tensor, `[rows|1, cols|1, *dims]`, rounded to its format."""
    shape = (rows if "r" in tensor.over else 1, cols if "c" in tensor.over else 1, *tensor.dims)
    return round_to(np.array(tensor.values, np.float32).reshape(shape), tensor.dtype)


def _compact(array: F32, over: str) -> F32:
    """One copy of what every core of a row (column) holds alike, where the tensor is laid out that way."""
    for axis, letter in ((0, "r"), (1, "c")):
        if letter not in over:
            first = array.take([0], axis=axis)
            if (array.view(np.uint32) == first.view(np.uint32)).all():
                array = first
    return np.ascontiguousarray(array)


def _stored(values: F32, dtype: str) -> F32:
    """Values as a store leaves them: rounded, NaNs canonical; a C-contiguous array of its own."""
    return np.ascontiguousarray(round_to(values, dtype))


def _chain(array: F32, axis: int, size: int, op: str) -> F32:
    """Partials added (or compared) from the first core on; the result keeps `axis` with extent 1."""
    many = array.shape[axis] > 1

    def part(index: int) -> F32:
        return array[(slice(None),) * axis + (slice(index, index + 1) if many else slice(0, 1),)]

    total = np.array(part(0))
    with np.errstate(invalid="ignore", over="ignore"):
        for index in range(1, size):
            other = part(index)
            if op == "add":
                total = np.add(total, other, dtype=np.float32)
            else:
                larger = np.where(other > total, other, total)
                total = np.where(np.isnan(total) | np.isnan(other), np.float32(np.nan), larger)
    total.view(np.uint32)[np.isnan(total)] = CANONICAL_NAN
    return np.ascontiguousarray(total)
