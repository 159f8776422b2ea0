"""Trials of one pass over a program at the cost of what a fault changes: from the struck phase on, changed lines only.

A clean pass is kept whole: every array that a phase writes, each in memory of its own. A trial starts there, at the
struck phase; phases that read nothing changed are passed over, those that read changed lines do these lines, and lines
that come out as in the clean pass are clean again, bit for bit. When nothing changed is left to be read, the trial is
over. What comes out is what the whole pass would have given (`kernels.replay`).

The clean pass may be shared: it lies in one read-only array, of which each user has a copy to work on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.formats import decode_words, encode_words
from yieldkit.emulator.hooks import SramHook
from yieldkit.emulator.isa import FORMATS
from yieldkit.emulator.kernels import replay as kernel
from yieldkit.emulator.kernels import table as rows_of
from yieldkit.emulator.kernels.line_product import LINES, PANEL
from yieldkit.emulator.layouts import OUT, STREAM, SUM, Plan
from yieldkit.emulator.line_tables import line_table, lines_of
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.emulator.whole_tensors import address_of, dense
from yieldkit.errors import BadInput
from yieldkit.workloads.program import (
    AllReduce,
    Compute,
    Gemm,
    Gemv,
    Phase,
    StreamIn,
    StreamOut,
    WGrad,
    tensors_of,
    written_by,
)

__all__ = ["OUTCOME", "Outcome", "Replay", "Strike"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
OUTCOME: Final = 5
_ALIGNED: Final = 16


@dataclass(frozen=True)
class Strike:
    """A word of the pass that is changed: `row` is what `kernels.replay` reads."""

    row: tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Outcome:
    """How a trial of one pass ended.

    Attributes:
        last_phase: the last phase that did anything, -1 where none had to.
        phases: phases that were run.
        changed: output arrays that differ from the clean pass.
        words: their words that differ.
        nonfinite: non-finite words among their changed lines.
        outputs: streams that differ, by name.
        sums: fp32 sums of products that differ, by phase, where they are kept.
    """

    last_phase: int
    phases: int
    changed: int
    words: int
    nonfinite: int
    outputs: Mapping[str, F32] = field(default_factory=dict)
    sums: Mapping[str, F32] = field(default_factory=dict)


@dataclass
class _Version:
    """An array of the clean pass: where it lies, and who reads it last."""

    name: str
    offset: int
    shape: tuple[int, ...]
    lines: int
    last: int = -1
    out: str = ""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def row(self) -> list[int]:
        rows, cols = self.shape[:2]
        return [self.offset, rows, cols, self.lines, self.size // (rows * cols * self.lines), self.last, bool(self.out)]


class Replay:
    """The clean pass of a program, and trials of it.

    Args:
        lowered: a program none of whose tensors but constants live from pass to pass.
        feeds: by launch, the arrays of its input streams.
        sums: keep the fp32 sums of products, as a hash of all results needs them.

    Raises:
        BadInput: the program keeps tensors, or does something this cannot follow; the long way remains.
    """

    def __init__(self, lowered: Lowered, feeds: Sequence[Mapping[str, F32]], *, sums: bool = False) -> None:
        kept = [tensor.name for tensor in lowered.tensors.values() if tensor.keep and not tensor.values]
        if kept:
            raise BadInput("a pass cannot be replayed whose tensors live on", value=kept)
        self.lowered = lowered
        self._sums = sums
        products = [phase for phase in lowered.program.phases if isinstance(phase, Gemm)]
        # Products are cut by tokens, be there only one.
        self._in_products = {name for phase in products for name in (phase.x, phase.y)}
        self._versions: list[_Version] = []
        self._arrays: list[tuple[int, F32]] = []
        self._current: dict[str, int] = {}
        self._at: list[dict[str, int]] = []
        self._streams: dict[tuple[int, str], int] = {}
        self._products: list[list[int]] = []
        self._weights: list[F32] = []
        self._product_of: dict[int, int] = {}
        self._steps: list[list[int]] = []
        self._reads: list[tuple[int, int]] = []
        self._writes: list[list[int]] = []
        self._tables: list[tuple[I64, I64, I64, I64]] = []
        self._rows = 0
        self._packed = 0
        self._top = 0
        self._locals: list[dict[int, int]] = []
        self.outputs: dict[str, int] = {}
        self.taps: dict[str, int] = {}
        self._record(feeds)
        self._finish()

    # The clean pass

    def _record(self, feeds: Sequence[Mapping[str, F32]]) -> None:
        cores = TensorExecutor(self.lowered, taps=True)
        for name in cores._plans.constants:
            self._current[name] = self._keep(name, cores.arrays[name])
        number = 0
        for low, streams in zip(self.lowered.launches, feeds, strict=True):
            for phase in low.launch.phases:
                self._at.append(dict(self._current))
                self._phase(cores, number, phase, streams)
                for name in cores._plans.dead[number]:
                    cores._drop(name)
                    self._current.pop(name, None)
                number += 1
        self._at.append(dict(self._current))

    def _keep(self, name: str, array: F32, *, lines: int = 0) -> int:
        """Give an array memory of its own."""
        offset = -(-self._top // _ALIGNED) * _ALIGNED
        if not lines and name in self._in_products:
            lines = array.shape[2]
        elif not lines:
            # The first index that says anything: a changed line should be little of an array.
            lines = next((extent for extent in array.shape[2:] if extent > 1), 1)
        version = _Version(name, offset, array.shape if array.ndim > 1 else (1, 1, *array.shape), lines)
        self._top = offset + array.size
        self._versions.append(version)
        self._arrays.append((offset, np.array(array, np.float32).reshape(-1)))
        return len(self._versions) - 1

    def _phase(self, cores: TensorExecutor, number: int, phase: Phase, streams: Mapping[str, F32]) -> None:
        before = dict(self._current)
        stream: F32 | None = None
        strides: tuple[int, ...] = ()
        local: dict[int, int] = {}
        if isinstance(phase, Gemm | StreamIn):
            stream = dense(streams[phase.stream])
            strides = tuple(stride // 4 for stride in stream.strides)
            flat = stream if stream.flags.c_contiguous else stream.T
            if isinstance(phase, StreamIn):
                local[STREAM] = self._streams[number, phase.stream] = self._keep(phase.stream, flat)
        layouts = {name: cores._layout.get(name) for name in tensors_of(phase)}
        plan = cores._plan(number, strides)
        for name, layout in layouts.items():
            if layout is not None and name in before and cores._layout[name] != layout:
                raise BadInput("copies come to differ in a clean pass", value=name)
        outputs: dict[str, F32] = {}
        taps: dict[str, F32] = {}
        cores._run(number, phase, streams, outputs, taps)
        written = [name for name in written_by(phase) if name in cores.arrays]
        writes: list[list[int]] = []
        numbers = self.number
        for name in tensors_of(phase):
            if name in before:
                local[numbers[name]] = before[name]
        for name in written:
            if name in self.lowered.tensors and self.lowered.tensors[name].values:
                raise BadInput("a constant is written", value=name)
            old = before.get(name, -1)
            new = self._keep(name, cores.arrays[name])
            if old >= 0 and self._versions[old].shape != self._versions[new].shape:
                raise BadInput("copies come to differ in a clean pass", value=name)
            self._current[name] = local[numbers[name]] = new
            writes.append([new, old if old >= 0 and _goes_on(phase, name, self.lowered) else -1, 0])
        for name, array in outputs.items():
            new = self._keep(name, array.reshape(1, 1, *array.shape) if isinstance(phase, WGrad) else array)
            self._versions[new].out = name
            self.outputs[name] = local[OUT] = new
            writes.append([new, -1, 1])
        total = -1
        if plan.sums:
            tap = taps.get(phase.name)
            shape = plan.sums if len(plan.sums) == 4 else (1, 1, 1, int(np.prod(plan.sums)))
            kept = np.zeros(shape, np.float32) if tap is None else tap.reshape(shape)
            total = self._keep(f"sums of {phase.name}", kept)
            local[SUM] = total
            if tap is not None and self._sums:
                self._versions[total].out = phase.name
                self.taps[phase.name] = total
                writes.append([total, -1, 1])
        self._add_step(number, phase, plan, before, writes, local, stream, total)

    @property
    def number(self) -> Mapping[str, int]:
        """Index of each tensor in a table's list of addresses."""
        from yieldkit.emulator.plans import plans_of

        return plans_of(self.lowered).setting.number

    def _add_step(
        self,
        number: int,
        phase: Phase,
        plan: Plan,
        before: Mapping[str, int],
        writes: list[list[int]],
        local: dict[int, int],
        stream: F32 | None,
        total: int,
    ) -> None:
        from yieldkit.emulator.plans import plans_of

        plans, tensors = plans_of(self.lowered), self.lowered.tensors
        step = [0, self._rows, 0, -1, 1, 1, len(self._reads), 0, len(self._writes), 0]
        read = [name for name in tensors_of(phase) if name in before and not tensors[name].values]
        olds = {old for _, old, _ in writes if old >= 0}
        # What is written anew without being read does not matter before.
        fresh = {self._versions[new].name for new, old, _ in writes if old < 0}
        read = [name for name in read if name not in fresh or _reads(phase, name)]
        same: dict[str, bool] = {}
        table: tuple[I64, I64, I64, I64] | None = None
        if isinstance(phase, Compute) and not _fills(plan.table):
            ends = {name for name in plans.dead[number] if name not in before}
            inside = frozenset(ends & set(written_by(phase)))
            lines = lines_of(phase, tensors, inside) if set(written_by(phase)) - inside else None
            if lines is not None:
                shapes = {name: self._versions[local[self.number[name]]].shape for name in tensors_of(phase)}
                layout = {name: (shape[0], shape[1]) for name, shape in shapes.items()}
                rows = {layout[name][0] for name in written_by(phase)}
                made = None
                if len(rows) == 1:
                    made = line_table(phase, lines, tensors, self.number, layout, plans.zeros)
                if made is not None:
                    table = made.base, made.by_count, made.by_line, made.by_row
                    step[kernel.S_LINED], step[kernel.S_LINES], step[kernel.S_ROWS] = 1, lines.count, rows.pop()
                    same = dict(lines.same)
                    same |= {self._versions[old].name: same.get(self._versions[old].name, True) for old in olds}
        elif isinstance(phase, Gemm) and not plans.setting.block and stream is not None:
            table = self._gemm(number, phase, step, local, stream, total)
            same = {phase.x: True, phase.y: True}
        elif (isinstance(phase, AllReduce) and phase.axis == "row") or (
            isinstance(phase, StreamOut) and phase.mode in ("gather_row", "last_col")
        ):
            name = phase.x if isinstance(phase, AllReduce) else phase.tensor
            version = self._versions[before[name]]
            step[kernel.S_LINES], step[kernel.S_ROWS] = version.lines, version.shape[0]
            same = {name: True}
        if table is None:
            whole = [part for part in (plan.product, plan.table) if part is not None]
            rows_ = np.concatenate(whole) if whole else np.zeros((0, rows_of.WIDTH), np.int64)
            table = rows_, np.zeros_like(rows_), np.zeros_like(rows_), np.zeros_like(rows_)
            if isinstance(phase, Gemm) and stream is not None:
                flat = stream if stream.flags.c_contiguous else stream.T
                local[STREAM] = self._streams[number, phase.stream] = self._keep(phase.stream, flat)
        step[kernel.S_COUNT] = len(table[0])
        self._rows += len(table[0])
        self._tables.append(table)
        for name in read:
            self._reads.append((before[name], int(same.get(name, False))))
            self._versions[before[name]].last = number
        for old in olds:
            self._versions[old].last = number
        if (number, getattr(phase, "stream", "")) in self._streams:
            fed = self._streams[number, getattr(phase, "stream", "")]
            self._reads.append((fed, 0))
            self._versions[fed].last = number
        self._writes += writes
        step[kernel.S_READS_END], step[kernel.S_WRITES_END] = len(self._reads), len(self._writes)
        self._steps.append(step)
        self._locals.append(local)

    def _gemm(
        self, number: int, phase: Gemm, step: list[int], local: dict[int, int], stream: F32, total: int
    ) -> tuple[I64, I64, I64, I64]:
        tensors = self.lowered.tensors
        x = self._versions[local[self.number[phase.x]]]
        y = self._versions[local[self.number[phase.y]]]
        lines, kc = tensors[phase.x].dims
        nc = tensors[phase.y].dims[1]
        depth, columns = stream.shape
        panels = -(-columns // PANEL)
        packed = np.zeros((panels, depth, PANEL), np.float32)
        for panel in range(panels):
            part = stream[:, panel * PANEL : (panel + 1) * PANEL]
            packed[panel, :, : part.shape[1]] = part
        step[kernel.S_LINED], step[kernel.S_LINES], step[kernel.S_ROWS] = 1, lines, y.shape[0]
        step[kernel.S_PRODUCT] = len(self._products)
        self._product_of[number] = len(self._products)
        tiles = depth // kc
        if x.shape[1] != tiles:
            raise BadInput("a product whose operand is alike on several columns", value=phase.name)
        sums = total if self._sums else -1
        fmt = FORMATS[tensors[phase.y].dtype]
        self._products.append(
            [self._versions.index(x), kc, tiles, self._packed, columns, self._versions.index(y), nc, sums, fmt,
             int(phase.accumulate), lines]
        )  # fmt: skip
        self._weights.append(packed.reshape(-1))
        self._packed += packed.size
        none = np.zeros((0, rows_of.WIDTH), np.int64)
        return none, none, none, none

    def _finish(self) -> None:
        """Arrays that the compiled loop reads, and memory to work in."""
        count = max(1, len(self._steps))
        writes = [
            [new, old, int(bool(self._versions[new].out) or self._versions[new].last > step)]
            for step, (first, end) in enumerate((s[kernel.S_WRITES], s[kernel.S_WRITES_END]) for s in self._steps)
            for new, old, _ in self._writes[first:end]
        ]
        self._t_steps = np.array(self._steps, np.int64).reshape(count, -1)
        self._t_reads = np.array(self._reads, np.int64).reshape(-1, 2)
        self._t_writes = np.array(writes, np.int64).reshape(-1, 3)
        self._t_versions = np.array([version.row() for version in self._versions], np.int64)
        self._t_products = np.array(self._products or [[0] * 11], np.int64)
        self._t_rows = tuple(np.concatenate([table[k] for table in self._tables]) for k in range(4))
        # A block of lines may read past the last of a tensor: never used, but there.
        room = LINES * max([1, *(row[kernel.P_KC] for row in self._products)])
        golden = np.zeros(self._top + room, np.float32)
        for offset, array in self._arrays:
            golden[offset : offset + array.size] = array
        packed = np.concatenate(self._weights) if self._weights else np.zeros(1, np.float32)
        self._arrays, self._weights = [], []
        self.golden, self.packed_golden = golden, packed
        self.golden.flags.writeable = self.packed_golden.flags.writeable = False
        self.work, self._packed_work = golden.copy(), packed.copy()
        addresses = np.zeros((count, max(self.number.values(), default=2) + 1), np.int64)
        for step, local in enumerate(self._locals):
            for index, place in local.items():
                addresses[step, index] = address_of(self.work) + 4 * self._versions[place].offset
        self._t_addresses = addresses
        longest = max((len(table[0]) for table in self._tables), default=1)
        self._box, self._wrote, self._stale = (np.zeros((len(self._versions), 4), np.int64) for _ in range(3))
        self._touched = np.zeros(len(self._versions), np.int64)
        self._scratch = np.zeros((max(1, longest), rows_of.WIDTH), np.int64)
        self._room = np.zeros(LINES * PANEL, np.float32)

    # Trials

    def word(self, phase: int, name: str, core: tuple[int, int], index: int, keep: int, mask: int) -> Strike | None:
        """Strike word `index` of a core's block of a tensor before a phase, counted over the program.

        Args:
            phase: number of the phase.
            name: tensor.
            core: row and column in the rectangle.
            index: element of the block.
            keep: bits of the word that stay, of the word as SRAM holds it.
            mask: bits that are then XORed.

        Returns:
            the strike; None where this cannot follow it: constants, and words of which other cores have copies.
        """
        at = self._at[phase].get(name)
        if self.lowered.tensors[name].values:
            return None
        if at is None:
            writer = next((p for p in list(self.lowered.program.phases)[phase:] if name in tensors_of(p)), None)
            unread = writer is None or not (_reads(writer, name) or _goes_on(writer, name, self.lowered))
            return Strike((kernel.WORD, len(self._steps), 0, 0, 0xFFFFFFFF, 0)) if unread else None
        version = self._versions[at]
        rows, cols = version.shape[:2]
        program = self.lowered.program
        if (rows, cols) != (program.rows, program.cols):
            return None
        size = version.size // (rows * cols)
        element = (core[0] * cols + core[1]) * size + index
        dtype = self.lowered.tensors[name].dtype
        value = self.golden[version.offset + element : version.offset + element + 1]
        word = (encode_words(value, dtype) & np.uint32(keep)) ^ np.uint32(mask)
        new = int(decode_words(word, dtype).view(np.uint32)[0])
        return Strike((kernel.WORD, phase, at, element, 0, new))

    def weight(self, phase: int, k: int, n: int, keep: int, mask: int) -> Strike | None:
        """Strike element (k, n) of the matrix that streams in at a phase, as `word`; its bits are those of fp32."""
        product = self._product_of.get(phase)
        if product is None:
            return None
        row = self._products[product]
        depth = row[kernel.P_KC] * row[kernel.P_TILES]
        element = (n // PANEL * depth + k) * PANEL + n % PANEL
        return Strike((kernel.WEIGHT, phase, product, element, keep, mask))

    def weights_shape(self, phase: int) -> tuple[int, int]:
        """Rows and columns of the matrix that streams in at a phase."""
        row = self._products[self._product_of[phase]]
        return row[kernel.P_KC] * row[kernel.P_TILES], row[kernel.P_COLUMNS]

    def of_hook(self, low: LoweredLaunch, hook: SramHook) -> Strike | None:
        """The strike of a word of SRAM, None where this cannot follow it."""
        meaning = self.lowered.meaning(low.index, hook.phase, int(low.role_of[hook.r, hook.c]), hook.address)
        if meaning.kind != "tensor":
            return None
        first = sum(len(other.launch.phases) for other in self.lowered.launches[: low.index])
        keep = int(getattr(hook, "keep", 0xFFFFFFFF))
        return self.word(first + hook.phase, meaning.name, (hook.r, hook.c), meaning.index, keep, hook.mask)

    def run(self, strikes: Sequence[Strike] | I64) -> I64:
        """Carry out trials, each from the clean pass: int64[n, OUTCOME], columns as in `kernels.replay`."""
        if isinstance(strikes, np.ndarray):
            events = strikes
        else:
            events = np.array([strike.row for strike in strikes], np.int64).reshape(-1, 6)
        outcomes = np.zeros((len(events), OUTCOME), np.int64)
        kernel.run_events(
            events, self.golden, self.work, self._packed_work, self.packed_golden, *self._fixed(), outcomes
        )
        return outcomes

    def _fixed(self) -> tuple[Any, ...]:
        return (
            self._t_steps, self._t_reads, self._t_writes, self._t_versions, *self._t_rows, self._t_addresses,
            self._t_products, self._box, self._wrote, self._stale, self._touched, self._scratch, self._room, PANEL,
        )  # fmt: skip

    def trial_of_rows(self, phase: int, name: str, first: int, blocks: F32) -> Outcome | None:
        """Carry out a trial in which rows of cores hold other blocks of a tensor when a phase begins.

        Args:
            phase: number of the phase, counted over the program.
            name: tensor; one that a phase before has written.
            first: row of the first block.
            blocks: [rows, cols, *dims], numbers that the tensor's format holds.

        Returns:
            what came out; None where cores share their copies of the tensor.
        """
        at = self._at[phase].get(name)
        version = None if at is None else self._versions[at]
        if at is None or version is None or version.shape[0] != self.lowered.program.rows:
            return None
        if version.shape[1:] != blocks.shape[1:] or first + len(blocks) > version.shape[0]:
            raise BadInput("blocks of another shape", value=blocks.shape)
        place = version.offset + first * (version.size // version.shape[0])
        self.work[place : place + blocks.size] = blocks.reshape(-1)
        return self.trial(Strike((kernel.BLOCK, phase, at, 0, first, first + len(blocks))))

    def trial(self, strike: Strike) -> Outcome:
        """Carry out one trial and keep what came out of it."""
        event = np.array(strike.row, np.int64)
        outcome = np.zeros(OUTCOME, np.int64)
        count = kernel.run_event(event, self.golden, self.work, self._packed_work, *self._fixed(), outcome)
        last, phases, changed, nonfinite, words = (int(value) for value in outcome)
        struck = {at for at in self._touched[:count].tolist() if self._box[at, 0] < self._box[at, 1]}
        outputs = {name: self._come_to(at) for name, at in self.outputs.items() if at in struck}
        sums = {name: self._come_to(at) for name, at in self.taps.items() if at in struck}
        kernel.settle(
            event, count, self.golden, self.work, self._packed_work, self.packed_golden, self._t_versions,
            self._t_products, self._box, self._wrote, self._stale, self._touched,
        )  # fmt: skip
        return Outcome(last, phases, changed, words, nonfinite, outputs, sums)

    def clean(self, version: int) -> F32:
        """An array of the clean pass, one of `outputs` or `taps`, read-only."""
        v = self._versions[version]
        return self.golden[v.offset : v.offset + v.size].reshape(v.shape)

    def found(self, phase: int, name: str) -> F32 | None:
        """A tensor that the clean pass has when a phase begins, counted over the program; None where it has none."""
        version = self._at[phase].get(name)
        return None if version is None else self.clean(version)

    def output(self, name: str) -> F32:
        """An output stream of the clean pass."""
        return self._array(self.golden, self.outputs[name])

    def _come_to(self, version: int) -> F32:
        """What a version has come to in a trial: outside what differs the clean pass, where `work` may be stale."""
        v, (r0, r1, lo, hi) = self._versions[version], self._box[version]
        array = self._array(self.golden, version)
        lines = (v.shape[0], v.shape[1], v.lines, -1)
        mine = self.work[v.offset : v.offset + v.size].reshape(lines)
        array.reshape(lines)[r0:r1, :, lo:hi] = mine[r0:r1, :, lo:hi]
        return array

    def _array(self, memory: F32, version: int) -> F32:
        v = self._versions[version]
        return memory[v.offset : v.offset + v.size].reshape(v.shape).copy()

    @property
    def nbytes(self) -> int:
        """Memory of the clean pass."""
        return int(self.golden.nbytes + self.packed_golden.nbytes)


def _fills(table: I64 | None) -> bool:
    return table is not None and bool((table[:, rows_of.KIND] == rows_of.FILL).any())


def _reads(phase: Phase, name: str) -> bool:
    """Whether a phase reads what a tensor held before."""
    if isinstance(phase, Compute):
        for instr in phase.instrs:
            if any(ref is not None and ref.tensor == name for ref in (instr.a, instr.b)):
                return True
            if instr.d.tensor == name:
                return instr.op in ("mac", "select")
        return False
    if isinstance(phase, Gemm):
        return name == phase.x or (name == phase.y and phase.accumulate)
    return not isinstance(phase, StreamIn)


def _goes_on(phase: Phase, name: str, lowered: Lowered) -> bool:
    """Whether some of what a tensor held before is still there, or read, after a phase that writes it."""
    from yieldkit.emulator.vector import covers

    if isinstance(phase, Compute):
        if _reads(phase, name):
            return True
        first = next(instr for instr in phase.instrs if instr.d.tensor == name)
        return not covers(first, lowered.tensors[name].size)
    if isinstance(phase, Gemm):
        return phase.accumulate and name == phase.y
    return not isinstance(phase, StreamIn | AllReduce | Gemv)
