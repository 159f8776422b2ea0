"""Where a program's rectangle lies on a booted fabric, and what a scan says in physical terms.

Only here do logical cores get physical names; no value depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.scan import LogicalScan
from yieldkit.emulator.symptoms import ConfigScan, CoreScan, EventScan, LinkScan, QueueScan
from yieldkit.errors import BadInput
from yieldkit.quantities import LinkKey, Site
from yieldkit.workloads.program import Program

__all__ = ["FabricView", "Placement", "link_pitches"]


class FabricView(Protocol):
    """What the emulator needs of a booted fabric."""

    @property
    def shape(self) -> tuple[int, int]:
        """Logical rows and columns."""
        ...

    @property
    def core_of(self) -> npt.NDArray[np.int32]:
        """int32[H, W, 2]: physical core of each logical one."""
        ...

    def logical_of(self, row: int, col: int) -> tuple[int, int] | None:
        """Logical core of a physical one, or None when it is bypassed."""
        ...

    def logical_link(self, key: LinkKey) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
        """The two (r, c, port) ends that a physical link joins, or None when no logical link uses it."""
        ...


@dataclass(frozen=True)
class Placement:
    """A rectangle of a program on a fabric.

    Attributes:
        fabric: booted fabric.
        rows, cols: the rectangle.
        origin: logical (row, column) of its north-west core.
    """

    fabric: FabricView
    rows: int
    cols: int
    origin: Site = (0, 0)

    @classmethod
    def of(cls, program: Program, fabric: FabricView, origin: Site = (0, 0)) -> Placement:
        """Place a program.

        Raises:
            BadInput: the rectangle leaves the fabric.
        """
        height, width = fabric.shape
        top, left = origin
        if top < 0 or left < 0 or top + program.rows > height or left + program.cols > width:
            raise BadInput(
                f"a {program.rows} x {program.cols} program at {origin} leaves the {height} x {width} fabric",
                cure="use a smaller rectangle or another origin",
            )
        return cls(fabric, program.rows, program.cols, origin)

    def physical(self, r: int, c: int) -> Site:
        """Physical core of the rectangle's (r, c)."""
        row, col = self.fabric.core_of[self.origin[0] + r, self.origin[1] + c]
        return int(row), int(col)

    def logical(self, row: int, col: int) -> Site | None:
        """(r, c) of a physical core, or None when it is bypassed or lies outside the rectangle."""
        found = self.fabric.logical_of(row, col)
        if found is None:
            return None
        return self._inside(found[0], found[1])

    def link_end(self, key: LinkKey) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
        """The two (r, c, port) ends of a physical link in the rectangle, or None when it carries nothing there."""
        ends = self.fabric.logical_link(key)
        if ends is None:
            return None
        first, second = (self._inside(r, c) for r, c, _ in ends)
        if first is None or second is None:
            return None
        return (*first, ends[0][2]), (*second, ends[1][2])

    def _inside(self, r: int, c: int) -> Site | None:
        r, c = r - self.origin[0], c - self.origin[1]
        return (r, c) if 0 <= r < self.rows and 0 <= c < self.cols else None

    def waiting(self, scan: LogicalScan) -> tuple[CoreScan, ...]:
        """Cores that had not finished, by physical site."""
        return tuple(CoreScan(*self.physical(r, c), state, task, colour) for r, c, state, task, colour in scan.waiting)

    def links(self, scan: LogicalScan) -> tuple[LinkScan, ...]:
        """Links whose ends disagree, by physical site."""
        found = []
        for r, c, port, colour, sent, received in scan.links:
            row, col = self.physical(r, c)
            drow, dcol = ((-1, 0), (0, 1), (1, 0), (0, -1))[port]
            there = self.physical(r + drow, c + dcol)
            found.append(LinkScan(row, col, there[0] - row, there[1] - col, colour, sent, received))
        return tuple(found)

    def config(self, scan: LogicalScan) -> tuple[ConfigScan, ...]:
        """Cores whose control words differ, by physical site."""
        return tuple(ConfigScan(*self.physical(r, c), kind) for r, c, kind in scan.config)

    def events(self, scan: LogicalScan) -> tuple[EventScan, ...]:
        """Events counted, by physical site."""
        return tuple(EventScan(*self.physical(r, c), kind, count) for r, c, kind, count in scan.events)

    def leftover(self, scan: LogicalScan) -> tuple[QueueScan, ...]:
        """Words left in queues, by physical site."""
        return tuple(
            QueueScan(*self.physical(r, c), port, colour, words) for r, c, port, colour, words in scan.leftover
        )


def link_pitches(placement: Placement) -> npt.NDArray[np.int32]:
    """Core pitches that the link behind each port spans on the repaired mesh.

    A link from (row, col) to (row', col') spans |row' - row| + |col' - col| pitches: wires run along rows and columns
    (assumption; a diagonal link laid straight would be shorter, and the published fabrics do not say). Ports that leave
    the rectangle count one pitch.

    Returns:
        int32[rows * cols, 4], ports N, E, S, W of the rectangle's cores in row-major order.
    """
    top, left = placement.origin
    rows, cols = placement.rows, placement.cols
    cores = placement.fabric.core_of[top : top + rows, left : left + cols].astype(np.int32)
    pitches = np.ones((rows, cols, 4), np.int32)
    down = np.abs(cores[1:] - cores[:-1]).sum(axis=2)
    right = np.abs(cores[:, 1:] - cores[:, :-1]).sum(axis=2)
    pitches[1:, :, 0] = pitches[:-1, :, 2] = down
    pitches[:, 1:, 3] = pitches[:, :-1, 1] = right
    return pitches.reshape(rows * cols, 4)
