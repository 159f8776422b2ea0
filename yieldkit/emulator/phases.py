"""Phases on whole tensors: what each of them writes, in which layout, and the table of operations that does it.

A plan depends on the phase and on the layouts of the arrays it meets; `plans` keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yieldkit.emulator.kernels import table as rows_of
from yieldkit.emulator.layouts import OUT, STREAM, SUM, Layout, Plan, Setting, Widen
from yieldkit.emulator.line_plans import plan_all_gather, plan_all_reduce, plan_broadcast, plan_reduce
from yieldkit.emulator.planning import Planner, table_of
from yieldkit.emulator.vector import Blocks, Rows, Unit, copy_row, covers, group, instruction_rows, put, unit_rows
from yieldkit.workloads.program import (
    AllGather,
    AllReduce,
    Broadcast,
    ChainAccumulate,
    Compute,
    Gemm,
    Gemv,
    Permute,
    Phase,
    Reduce,
    Shift,
    StreamIn,
    StreamOut,
    WGrad,
    instrs_of,
    tensors_of,
)

__all__ = ["plan_of"]


def plan_of(
    phase: Phase,
    setting: Setting,
    layout: Mapping[str, Layout],
    zeros: frozenset[str],
    strides: tuple[int, ...],
    sums: bool,
) -> Plan:
    """The plan of a phase.

    Args:
        phase: what to plan.
        setting: the program.
        layout: of the arrays that exist.
        zeros: constants that hold +0 only.
        strides: of the streamed operand, in elements.
        sums: whether the fp32 sums of products are kept.

    Raises:
        Widen: some array must first have a block for every core.
    """
    return _Compiler(setting, layout, zeros).compile(phase, strides, sums)


class _Compiler(Planner):
    """Makes one plan."""

    def compile(self, phase: Phase, strides: tuple[int, ...], sums: bool) -> Plan:
        if isinstance(phase, Compute):
            return self._compute(phase)
        if isinstance(phase, Gemm):
            return self._gemm(phase, strides, sums)
        if isinstance(phase, WGrad):
            return self._weight_gradient(phase)
        if isinstance(phase, Gemv):
            return self._gemv(phase)
        if isinstance(phase, AllReduce):
            return plan_all_reduce(self, phase)
        if isinstance(phase, Reduce):
            return plan_reduce(self, phase)
        if isinstance(phase, AllGather):
            return plan_all_gather(self, phase)
        if isinstance(phase, Broadcast):
            return plan_broadcast(self, phase)
        if isinstance(phase, ChainAccumulate):
            return self._chain_accumulate(phase)
        if isinstance(phase, StreamIn):
            return self._stream_in(phase)
        if isinstance(phase, StreamOut):
            return self._stream_out(phase)
        if isinstance(phase, Permute):
            return self._permute(phase)
        return self._shift(phase)

    def _blocks(self, names: Any) -> Blocks:
        layout = {name: self.layout(name) for name in names}
        return Blocks(self.tensors, self.setting.number, layout, self.zeros)

    def _compute(self, phase: Compute) -> Plan:
        for instr in phase.instrs:
            for ref in (instr.a, instr.b):
                if ref is not None:
                    self.layout(ref.tensor)
            name = instr.d.tensor
            self.layout(name)
            if (
                name in self.fills
                and covers(instr, self.tensors[name].size)
                and instr.op not in ("mac", "select")
                and not any(ref is not None and ref.tensor == name for ref in (instr.a, instr.b))
                and not any(e > 1 and instr.d.stride(axis) == 0 for axis, e in instr.axes)
                and name not in self._touched(phase, instr)
            ):
                self.fills.remove(name)
        self._widen(phase, {})
        blocks = self._blocks(tensors_of(phase))
        return self.plan(instruction_rows(phase.instrs, blocks))

    @staticmethod
    def _touched(phase: Compute, until: Any) -> set[str]:
        """Tensors that instructions before `until` use."""
        names: set[str] = set()
        for instr in phase.instrs:
            if instr is until:
                break
            names |= {ref.tensor for ref in (instr.d, instr.a, instr.b) if ref is not None}
        return names

    def _widen(self, phase: Phase, least: dict[str, Layout]) -> None:
        """Layouts of destinations must be as wide as those of all their operands."""
        wide: dict[str, Layout] = {}
        changed = True
        while changed:
            changed = False
            for instr in instrs_of(phase):
                names = [ref.tensor for ref in (instr.d, instr.a, instr.b) if ref is not None]
                layouts = [wide.get(name) or self.layout(name) for name in names]
                need = (max(r for r, _ in layouts), max(c for _, c in layouts))
                if least:
                    need = (1, need[1])
                if need != layouts[0]:
                    wide[names[0]] = need
                    changed = True
        for name in [name for name in wide if name in self.writes]:
            self.writes[name] = wide.pop(name)
        if wide:
            raise Widen(wide)

    def _chain_accumulate(self, phase: ChainAccumulate) -> Plan:
        acc = phase.acc
        self.written(acc, (1, self.setting.usual(acc)[1]))
        self.fills.append(acc)
        for name in tensors_of(phase):
            self.layout(name)
        self._widen(phase, {acc: self.writes[acc]})
        blocks = self._blocks(tensors_of(phase))
        body = [row for instr in phase.instrs for row in unit_rows(Unit(instr), blocks, 1)]
        return self.plan(group(unit_rows(Unit(phase.start), blocks, 1)) + group(body, self.setting.rows))

    def _product_row(
        self,
        numbers: tuple[int, int, int],
        axes: list[tuple[list[int], list[int]]],
        k_tile: int,
        fuses: bool,
        lengths: tuple[int, int],
    ) -> list[int]:
        flat: list[int] = []
        for shape, strides in axes:
            flat += [*shape, *(4 * stride for stride in strides)]
        return put(
            rows_of.PRODUCT,
            (rows_of.OPERAND, (*numbers, numbers[0])),
            (rows_of.PRODUCT_AXES, flat),
            (rows_of.K_TILE, (k_tile, fuses, 0, lengths[0], 0, lengths[1])),
            (rows_of.BLOCK, (self.setting.block,)),
        )

    def _words(self, name: str) -> int:
        rows, cols = self.layout(name)
        return rows * cols * self.tensors[name].size

    def _narrow(self, *names: str) -> bool:
        """Whether products of these operands may turn out exact."""
        return self.setting.dtype != "fp32" and all(self.tensors[name].dtype != "fp32" for name in names)

    def _gemm(self, phase: Gemm, weights: tuple[int, ...], sums: bool) -> Plan:
        m, kc = self.tensors[phase.x].dims
        nc = self.tensors[phase.y].dims[1]
        rows, cols = self.full
        fmt = self.fmt(phase.y)
        xr, xc = self.strides(phase.x)
        if phase.accumulate and self.layout(phase.y) != self.full:
            if phase.y not in self.writes:
                raise Widen({phase.y: self.full})
            self.writes[phase.y] = self.full
        direct = not (sums or phase.accumulate or fmt)
        total = self.number(phase.y) if direct else SUM
        row = self._product_row(
            (total, self.number(phase.x), STREAM),
            [
                ([1, 1, rows, m, cols, kc], [0, 0, xr, kc, xc, 1]),
                ([1, 1, 1, cols * kc, 1, cols * nc], [0, 0, 0, weights[0], 0, weights[1]]),
                ([1, 1, rows, m, cols, nc], [0, 0, cols * m * nc, nc, m * nc, 1]),
            ],
            kc,
            self._narrow(phase.x),
            (self._words(phase.x), cols * kc * cols * nc),
        )
        if not phase.accumulate:
            self.written(phase.y, self.full)
        after: Rows = []
        if not direct:
            y = self.number(phase.y)
            numbers = (y, SUM, y) if phase.accumulate else (y, SUM, SUM)
            copy = copy_row("add" if phase.accumulate else "mov", fmt, numbers, [(rows * cols * m * nc, (1, 1, 1))])
            after = group([copy])
        plan = self.plan(after, product=table_of(group([row])), sums=() if direct else (rows, cols, m, nc))
        return plan

    def _weight_gradient(self, phase: WGrad) -> Plan:
        m, kc = self.tensors[phase.x].dims
        nc = self.tensors[phase.dy].dims[1]
        rows, cols = self.full
        (xr, xc), (yr, yc) = self.strides(phase.x), self.strides(phase.dy)
        row = self._product_row(
            (OUT, self.number(phase.x), self.number(phase.dy)),
            [
                ([1, 1, cols, kc, rows, m], [0, 0, xc, 1, xr, kc]),
                ([1, 1, rows, m, cols, nc], [0, 0, yr, nc, yc, 1]),
                ([1, 1, 1, cols * kc, 1, cols * nc], [0, 0, 0, cols * nc, 0, 1]),
            ],
            m,
            self._narrow(phase.x, phase.dy),
            (self._words(phase.x), self._words(phase.dy)),
        )
        return self.plan([], product=table_of(group([row])), out=(cols * kc, cols * nc))

    def _gemv(self, phase: Gemv) -> Plan:
        b, kc = self.tensors[phase.x].dims
        n = self.tensors[phase.w].dims[1]
        rows, cols = self.full
        (xr, xc), (wr, wc) = self.strides(phase.x), self.strides(phase.w)
        row = self._product_row(
            (SUM, self.number(phase.x), self.number(phase.w)),
            [
                ([rows, 1, 1, b, cols, kc], [xr, 0, 0, kc, xc, 1]),
                ([rows, 1, cols, kc, 1, n], [wr, 0, wc, n, 0, 1]),
                ([rows, 1, 1, b, 1, n], [b * n, 0, 0, n, 0, 1]),
            ],
            kc,
            self._narrow(phase.x, phase.w),
            (self._words(phase.x), self._words(phase.w)),
        )
        y, block = self.number(phase.y), rows * b * n
        if phase.y != phase.x:
            self.written(phase.y, (1, cols))
        elif self.layout(phase.y)[1] != cols:
            raise Widen({phase.y: (self.layout(phase.y)[0], cols)})
        copies = self.layout(phase.y)[0]
        copy = copy_row("mov", self.fmt(phase.y), (y, SUM, SUM), [(copies, (block, 0, 0)), (block, (1, 1, 1))])
        return self.plan(group([copy]), product=table_of(group([row])), sums=(rows, b, n))

    def _stream_in(self, phase: StreamIn) -> Plan:
        name = phase.tensor
        self.written(name, self.setting.usual(name))
        number = self.number(name)
        return self.plan(
            group([copy_row("mov", self.fmt(name), (number, STREAM, STREAM), [(self._words(name), (1, 1, 1))])])
        )

    def _stream_out(self, phase: StreamOut) -> Plan:
        name = phase.tensor
        tensor, (rows, cols) = self.tensors[name], self.full
        xr, xc = self.strides(name)
        if phase.mode == "reduce_col":
            size = tensor.size
            loops = [(cols, (size, xc, 0)), (size, (1, 1, 0))]
            number = self.number(name)
            table = group([copy_row("mov", 0, (OUT, number, number), loops)])
            sums = [(e, (s[0], s[0], s[1])) for e, s in loops]
            row = copy_row("add", 0, (OUT, OUT, number), sums, offsets=(0, 0, xr), steps=(0, 0, xr))
            return self.plan(table + (group([row], rows - 1) if rows > 1 else []), out=(1, cols, *tensor.dims))
        offset = 0
        if phase.mode == "last_col":
            offset, cols = xc * (cols - 1), 1
        elif phase.mode == "last_row":
            offset, rows = xr * (rows - 1), 1
        size = tensor.size
        loops = [(rows, (cols * size, xr, 0)), (cols, (size, xc, 0)), (size, (1, 1, 0))]
        row = copy_row("mov", 0, (OUT, self.number(name), OUT), loops, offsets=(0, offset, 0))
        return self.plan(group([row]), out=(rows, cols, *tensor.dims))

    def _permute(self, phase: Permute) -> Plan:
        size, rows = self.tensors[phase.x].size, self.full[0]
        (xr, xc), x = self.strides(phase.x), self.number(phase.x)
        self.written(phase.y, self.full)
        (yr, yc), y = self.strides(phase.y), self.number(phase.y)
        loops = [(rows, (yr, xr, 0)), (size, (1, 1, 0))]
        copies = [
            copy_row("mov", self.fmt(phase.y), (y, x, x), loops, offsets=(yc * target, xc * column, 0))
            for column, target in enumerate(phase.to)
        ]
        return self.plan(group(copies))

    def _shift(self, phase: Shift) -> Plan:
        rows, cols = self.full
        size = self.tensors[phase.x].size
        self.of_its_own(phase.y)
        (xr, xc), (yr, yc) = self.strides(phase.x), self.strides(phase.y)
        down, right = {"E": (0, 1), "W": (0, -1), "S": (1, 0), "N": (-1, 0)}[phase.direction]
        count = (rows - abs(down), cols - abs(right))
        if not all(count):
            return self.plan([])
        d = max(down, 0) * yr + max(right, 0) * yc
        a = max(-down, 0) * xr + max(-right, 0) * xc
        y, x = self.number(phase.y), self.number(phase.x)
        loops = [(count[0], (yr, xr, 0)), (count[1], (yc, xc, 0)), (size, (1, 1, 0))]
        return self.plan(group([copy_row("mov", self.fmt(phase.y), (y, x, x), loops, offsets=(d, a, 0))]))
