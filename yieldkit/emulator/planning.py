"""What every plan of a phase needs: the layouts of the arrays it meets, and where they end up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.isa import FORMATS
from yieldkit.emulator.kernels import table as rows_of
from yieldkit.emulator.layouts import Layout, Plan, Setting, Widen
from yieldkit.emulator.vector import Rows, group, put

__all__ = ["Planner", "table_of"]


class Planner:
    """Makes one plan.

    Args:
        setting: the program.
        layout: of the arrays that exist.
        zeros: constants that hold +0 only.
    """

    def __init__(self, setting: Setting, layout: Mapping[str, Layout], zeros: frozenset[str]) -> None:
        self.setting, self.alive = setting, layout
        self.full: Layout = (setting.rows, setting.cols)
        self.tensors = setting.tensors
        self.zeros = zeros
        self.writes: dict[str, Layout] = {}
        self.fills: list[str] = []

    def layout(self, name: str) -> Layout:
        """Layout of an array in this phase; one that does not exist yet is made, as zeros."""
        if name in self.writes:
            return self.writes[name]
        if name not in self.alive:
            self.writes[name] = self.setting.usual(name)
            self.fills.append(name)
            return self.writes[name]
        return self.alive[name]

    def written(self, name: str, layout: Layout) -> None:
        """The phase writes all of a tensor, in a layout of its own."""
        self.writes[name] = layout

    def fmt(self, name: str) -> int:
        """Number of a tensor's format."""
        return FORMATS[self.tensors[name].dtype]

    def number(self, name: str) -> int:
        """Index of a tensor in the list of addresses."""
        return self.setting.number[name]

    def strides(self, name: str, layout: Layout | None = None) -> tuple[int, int]:
        """Words from one row, and one column, of blocks to the next."""
        rows, cols = layout or self.layout(name)
        size = self.tensors[name].size
        return (size * cols if rows > 1 else 0, size if cols > 1 else 0)

    def plan(self, rows: Rows, **parts: Any) -> Plan:
        """The plan that runs `rows`, after zeros where an array is made and not wholly written."""
        first: Rows = []
        for name in self.fills:
            r, c = self.writes[name]
            row = put(
                rows_of.FILL,
                (rows_of.OPERAND, (self.number(name),) * 4),
                (rows_of.SHAPE, (r * c * self.tensors[name].size,)),
            )
            first += group([row])
        return Plan(tuple(self.writes.items()), table_of(first + rows), **parts)

    def of_its_own(self, name: str) -> None:
        """Every core has a block of its own, since some are written and others stay."""
        if self.layout(name) != self.full:
            if name not in self.writes:
                raise Widen({name: self.full})
            self.writes[name] = self.full


def table_of(rows: Rows) -> npt.NDArray[np.int64] | None:
    """Rows as an array, None where there are none."""
    return np.array(rows, np.int64) if rows else None
