"""`repair_frontier`: every trade of spare rows for spare columns that a fault map allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yieldkit.errors import BadInput
from yieldkit.repair.cover_curves import add_curves, curve_of
from yieldkit.repair.linecover import Limit
from yieldkit.repair.lines import build, parts_of
from yieldkit.repair.rules import Region

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.faultmap import FaultMap

__all__ = ["Frontier", "FrontierPoint", "repair_frontier"]


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """`rows` and `cols` bypassed cover every fault; with these rows `cols_bound` columns or more are needed."""

    rows: int
    cols: int
    cols_bound: int

    @property
    def proven(self) -> bool:
        """Whether no column could be spared."""
        return self.cols == self.cols_bound


@dataclass(frozen=True, slots=True)
class Frontier:
    """The minimal pairs (rows, columns), rows rising: with fewer of one, more of the other are needed.

    Attributes:
        points: the pairs with their bounds.
        method: how they were found.
        proven: whether the frontier is exact: no pair is missing and none can be improved.
    """

    points: tuple[FrontierPoint, ...]
    method: str
    proven: bool

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(rows, columns) of every point."""
        return [(point.rows, point.cols) for point in self.points]

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FrontierPoint]:
        return iter(self.points)

    def allows(self, rows: int, cols: int) -> bool:
        """Whether so many spare rows and columns are enough (by the covers that were found)."""
        return any(point.rows <= rows and point.cols <= cols for point in self.points)

    def to_frame(self) -> pd.DataFrame:
        """One row a point: rows, cols, lines, cols_bound, proven."""
        import pandas as pd

        names = ["rows", "cols", "lines", "cols_bound", "proven"]
        facts = [(p.rows, p.cols, p.rows + p.cols, p.cols_bound, p.proven) for p in self.points]
        return pd.DataFrame(facts, columns=names)


def repair_frontier(
    faults: FaultMap,
    *,
    most_rows: int | None = None,
    most_cols: int | None = None,
    deterministic_limit: float = 10.0,
) -> Frontier:
    """All minimal pairs (rows, columns) of whole lines that cover every fault of the map's whole grid.

    It costs by the fault, not by the core. A fault is a dead or absent core, a dead router, or a dead link between
    neighbours, as for `LineSpares`; marginal cores are good.

    Args:
        faults: map of the wafer; one that is lost to a global net has no pair.
        most_rows: leave out pairs with more rows.
        most_cols: leave out pairs with more columns.
        deterministic_limit: for all CP-SAT solves together, in CP-SAT's deterministic unit; points that it leaves open
            have a bound below their columns. The same on every machine.

    Raises:
        BadInput: a number is negative.
    """
    for name, value in (("most_rows", most_rows), ("most_cols", most_cols)):
        if value is not None and value < 0:
            raise BadInput(f"{name} must not be negative", value=value)
    if not deterministic_limit >= 0:
        raise BadInput("deterministic_limit must not be negative", value=deterministic_limit)
    if faults.wafer_killed:
        return Frontier((), "a global net of the wafer is hit", True)
    rows, cols = faults.shape
    lines = build(faults, Region(rows, cols, 0, 0, rows, cols), budget_cols=cols)
    limit = Limit(deterministic_limit)
    curves = [curve_of(part, most_rows=most_rows, most_cols=most_cols, limit=limit) for part in parts_of(lines)]
    total, _ = add_curves(curves, most_rows)
    # A pair is minimal where the next row less costs a column more.
    fewer = np.flatnonzero(np.diff(total.high, prepend=total.high[0] + 1) < 0)
    points = tuple(
        FrontierPoint(r, int(total.high[r]), int(total.low[r]))
        for r in fewer.tolist()
        if most_cols is None or total.high[r] <= most_cols
    )
    open_ = total.low < total.high
    if most_cols is not None:
        open_ &= total.low <= most_cols
    proven = not open_.any()
    return Frontier(points, "parts enumerated, by dynamic programming, by minimum cuts and by CP-SAT", proven)
