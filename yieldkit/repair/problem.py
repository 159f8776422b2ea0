"""A fault map and rules as the arrays that the solvers work on (the checker does not use them)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yieldkit.repair.kernels import BAD, DIRECT, LEAN_LEFT, LEAN_RIGHT, SKIP

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.rules import Placement, RowShift

__all__ = ["Clause", "Problem", "Unit"]

Int32 = npt.NDArray[np.int32]

Clause = tuple[int, int, int, int]
"""(row a, position a, row b, position b): the two sites may not be logical neighbours; not a lattice constraint."""

Unit = tuple[int, int, int, bool]
"""(row, column, value, at least): d[row, column] >= value when the last is true, else <= value."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Row shift on arrays.

    Attributes:
        height, width, spares, h, v: of the logical fabric and the rules.
        low, high: int32[H], displacement range of each row; empty rows of the range are `low > high`.
        mark_row: int32[H], index into `marks` or -1.
        marks: uint8[n, W + S], bits of `kernels` by position.
        clauses: dead links that are not lattice constraints at this reach.
        dead_links: int32[m, 4] in (row, position, drow, dcol), all that lie in the region.
        missing: row -> text, rows whose span cannot hold the fabric at all.
    """

    height: int
    width: int
    spares: int
    h: int
    v: int
    low: Int32
    high: Int32
    mark_row: Int32
    marks: npt.NDArray[np.uint8]
    clauses: tuple[Clause, ...]
    dead_links: Int32

    @classmethod
    def build(cls, faults: FaultMap, rules: RowShift, place: Placement, *, avoid: Int32 | None = None) -> Problem:
        """Cut the region of the fabric out of the map; `avoid` are further sites not to be used."""
        height, width, spares = place.rows, place.cols, rules.spares
        span = faults.spans[place.first_row : place.first_row + height].astype(np.int32) - place.first_col
        low = np.clip(span[:, 0], 0, None).astype(np.int32)
        high = np.minimum(span[:, 1] - width, spares).astype(np.int32)
        sites = [faults.dead_cores, faults.dead_routers, faults.absent]
        if avoid is not None:
            sites.append(avoid)
        bad = np.concatenate([np.asarray(s, np.int32).reshape(-1, 2) for s in sites])
        bad = bad - np.array([place.first_row, place.first_col], np.int32)
        keep = (bad[:, 0] >= 0) & (bad[:, 0] < height) & (bad[:, 1] >= 0) & (bad[:, 1] < width + spares)
        bad = bad[keep]
        links = np.asarray(faults.dead_links, np.int32).reshape(-1, 4).copy()
        links[:, 0] -= place.first_row
        links[:, 1] -= place.first_col
        end = links[:, :2] + links[:, 2:]
        keep = (links[:, 0] >= 0) & (end[:, 0] < height)
        keep &= (links[:, 1] >= 0) & (links[:, 1] < width + spares) & (end[:, 1] >= 0) & (end[:, 1] < width + spares)
        links = links[keep]
        rows = np.unique(np.concatenate([bad[:, 0], links[:, 0]]))
        mark_row = np.full(height, -1, np.int32)
        mark_row[rows] = np.arange(len(rows), dtype=np.int32)
        marks = np.zeros((max(len(rows), 1), width + spares), np.uint8)
        marks[mark_row[bad[:, 0]], bad[:, 1]] |= BAD
        base = cls(height, width, spares, rules.skip_reach, rules.vertical_reach, low, high, mark_row, marks, (), links)
        return base.at_reach(rules.skip_reach, rules.vertical_reach)

    def at_reach(self, h: int, v: int) -> Problem:
        """The same problem with shorter links: sorts dead links into lattice marks and clauses."""
        marks = self.marks & np.uint8(BAD)
        clauses: list[Clause] = []
        for row, pos, drow, dcol in self.dead_links.tolist():
            m = self.mark_row[row]
            if drow == 0:
                if dcol > h:
                    continue
                if dcol == 1:
                    marks[m, pos] |= DIRECT
                if dcol == h:
                    marks[m, pos] |= SKIP
                elif dcol != 1:
                    clauses.append((row, pos, row, pos + dcol))
            elif drow == 1 and abs(dcol) <= v:
                if dcol == v:
                    marks[m, pos] |= LEAN_RIGHT
                elif dcol == -v:
                    marks[m, pos] |= LEAN_LEFT
                else:
                    clauses.append((row, pos, row + 1, pos + dcol))
        return replace(self, h=h, v=v, marks=marks, clauses=tuple(clauses))

    def collapsed(self) -> Problem:
        """For v = 0, where every row has the same displacements: one row with the faults of all of them."""
        marks = np.zeros((1, self.width + self.spares), np.uint8)
        for m in self.mark_row[self.mark_row >= 0].tolist():
            marks[0] |= self.marks[m]
        # At v = 0 a dead link straight down means that no row may use its column.
        straight = (marks[0] & LEAN_RIGHT) > 0
        marks[0] &= np.uint8(BAD | DIRECT | SKIP)
        marks[0, straight] |= BAD
        return replace(
            self,
            height=1,
            low=np.array([self.low.max()], np.int32),
            high=np.array([self.high.min()], np.int32),
            mark_row=np.zeros(1, np.int32),
            marks=marks,
            clauses=tuple((0, a, 0, b) for row, a, other, b in self.clauses if row == other),
        )

    def bypassing(self, sites: Iterable[Sequence[int]]) -> Problem:
        """The same problem with further sites, (row, position), that are not to be used."""
        rows = self.mark_row.copy()
        marks = list(self.marks)
        for row, position in sites:
            if rows[row] < 0:
                rows[row] = len(marks)
                marks.append(np.zeros(self.width + self.spares, np.uint8))
            line = marks[rows[row]] = marks[rows[row]].copy()
            line[position] |= BAD
        return replace(self, mark_row=rows, marks=np.stack(marks))

    def restricted(self, low: int, high: int) -> Problem:
        """The same problem with displacements from `low` to `high` only, renumbered from 0."""
        return replace(
            self,
            spares=high - low,
            low=np.clip(self.low - low, 0, None).astype(np.int32),
            high=np.minimum(self.high, high).astype(np.int32) - low,
            marks=self.marks[:, low : self.width + high],
            clauses=tuple((a, b - low, c, d - low) for a, b, c, d in self.clauses),
            dead_links=self.dead_links - np.array([0, low, 0, 0], np.int32),
        )

    def cost(self, d: Int32) -> int:
        """Total skew of a field: steps along the rows plus shifts between rows."""
        wide = d.astype(np.int64)
        return int((wide[:, -1] - wide[:, 0]).sum() + np.abs(np.diff(wide, axis=0)).sum())

    def broken_clauses(self, d: Int32) -> list[tuple[Clause, int, int]]:
        """Clauses that a field breaks, each with the logical columns of its two ends."""
        out = []
        for clause in self.clauses:
            ra, pa, rb, pb = clause
            ca, cb = _column_at(d[ra], pa), _column_at(d[rb], pb)
            if ca >= 0 and cb >= 0 and (ca == cb if ra != rb else cb == ca + 1):
                out.append((clause, ca, cb))
        return out

    def holds(self, d: Int32) -> bool:
        """Whether a field satisfies every constraint but the clauses (a guard behind restricted models)."""
        if (d < self.low[:, None]).any() or (d > self.high[:, None]).any():
            return False
        step = np.diff(d, axis=1)
        down = np.diff(d, axis=0)
        if (step < 0).any() or (step > self.h - 1).any() or (np.abs(down) > self.v).any():
            return False
        rows = np.flatnonzero(self.mark_row >= 0)
        if not len(rows):
            return True
        col = np.arange(self.width)
        flags = self.marks[self.mark_row[rows][:, None], d[rows] + col]
        if (flags & BAD).any() or ((flags[:, :-1] & DIRECT > 0) & (step[rows] == 0)).any():
            return False
        if ((flags[:, :-1] & SKIP > 0) & (step[rows] == self.h - 1)).any():
            return False
        inner = rows < self.height - 1
        below = down[rows[inner]]
        flags = flags[inner]
        return not (
            ((flags & LEAN_RIGHT) > 0) & (below == self.v) | ((flags & LEAN_LEFT) > 0) & (below == -self.v)
        ).any()


def _column_at(row: Int32, position: int) -> int:
    """Logical column on a physical position, or -1; physical positions rise strictly along a row."""
    place = row + np.arange(len(row))
    c = int(np.searchsorted(place, position))
    return c if c < len(row) and place[c] == position else -1
