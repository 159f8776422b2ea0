"""What differs between two firmware images: rows whose runs change and the cores that move with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yieldkit.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.fabric.image import FirmwareImage

__all__ = ["ImageChanges", "RowChange", "changes_between"]


@dataclass(frozen=True, slots=True)
class RowChange:
    """Logical rows `first_row` to `last_row` that change alike.

    Attributes:
        first_row, last_row: logical rows, both included.
        shifts: (first column, last column, columns moved to the east) of each stretch of logical columns that moves.
        before, after: runs of the row: physical column of logical column 0, then (logical column, sites spanned) of
            each link from its western neighbour that spans more than one.
    """

    first_row: int
    last_row: int
    shifts: tuple[tuple[int, int, int], ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def moved(self) -> int:
        """Logical cores that move, over all these rows."""
        return (self.last_row - self.first_row + 1) * sum(b - a + 1 for a, b, _ in self.shifts)

    def __str__(self) -> str:
        one = self.first_row == self.last_row
        rows = f"row {self.first_row}" if one else f"rows {self.first_row} to {self.last_row}"
        parts = ", ".join(f"columns {a} to {b} by {shift:+d}" for a, b, shift in self.shifts)
        return f"{rows}: {self.moved} cores move: {parts}"


@dataclass(frozen=True, eq=False)
class ImageChanges:
    """All changes from one image to another, in the order of the rows.

    Attributes:
        rows: rows that change; rows next to each other that change alike are one entry.
        header: name -> (before, after) of what differs besides: reaches used.
        bytes_before, bytes_after: sizes of the files.
    """

    rows: tuple[RowChange, ...]
    header: dict[str, tuple[Any, Any]]
    bytes_before: int
    bytes_after: int

    @property
    def same(self) -> bool:
        """Whether the maps are alike."""
        return not self.rows

    @property
    def moved(self) -> int:
        """Logical cores whose physical core changes."""
        return sum(change.moved for change in self.rows)

    @property
    def n_rows(self) -> int:
        """Rows that change."""
        return sum(change.last_row - change.first_row + 1 for change in self.rows)

    @property
    def first(self) -> tuple[int, int] | None:
        """Logical (row, col) of the first core that moves, None when none does."""
        return (self.rows[0].first_row, self.rows[0].shifts[0][0]) if self.rows else None

    @property
    def last(self) -> tuple[int, int] | None:
        """Logical (row, col) of the last core that moves, None when none does."""
        return (self.rows[-1].last_row, self.rows[-1].shifts[-1][1]) if self.rows else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "same": self.same,
            "moved": self.moved,
            "n_rows": self.n_rows,
            "first": None if self.first is None else list(self.first),
            "last": None if self.last is None else list(self.last),
            "header": {name: list(pair) for name, pair in self.header.items()},
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "rows": [
                {
                    "first_row": x.first_row,
                    "last_row": x.last_row,
                    "moved": x.moved,
                    "shifts": [list(s) for s in x.shifts],
                    "before": list(x.before),
                    "after": list(x.after),
                }
                for x in self.rows
            ],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a stretch: first_row, last_row, first_col, last_col, shift."""
        import pandas as pd

        rows = [(x.first_row, x.last_row, *shift) for x in self.rows for shift in x.shifts]
        return pd.DataFrame(rows, columns=["first_row", "last_row", "first_col", "last_col", "shift"])

    def summary(self, *, limit: int = 40) -> str:
        """Text for people; at most `limit` rows one by one."""
        if self.same:
            return "same map: 0 cores move"
        lines = [f"{self.moved} cores move in {self.n_rows} rows, first at {self.first}, last at {self.last}"]
        lines += [f"{name}: {before} before, {after} after" for name, (before, after) in self.header.items()]
        lines += [str(change) for change in self.rows[:limit]]
        if len(self.rows) > limit:
            lines.append(f"and {len(self.rows) - limit} more such entries")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"ImageChanges({self.moved} cores move in {self.n_rows} rows)"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.summary())}</pre>"


def changes_between(before: FirmwareImage, after: FirmwareImage) -> ImageChanges:
    """What changes from one image to another of the same wafer; `before.diff(after)` is the same call.

    Raises:
        BadInput: they are for different wafers or fabrics.
    """
    for name in ("wafer_id", "spec_fingerprint", "physical_shape", "logical_shape", "first_row"):
        if getattr(before, name) != getattr(after, name):
            raise BadInput(f"the images differ in {name}: {getattr(before, name)} before", value=getattr(after, name))
    names = ("skip_reach", "vertical_reach")
    header = {n: (getattr(before, n), getattr(after, n)) for n in names if getattr(before, n) != getattr(after, n)}
    return ImageChanges(tuple(_rows(before, after)), header, before.nbytes, after.nbytes)


def _rows(before: FirmwareImage, after: FirmwareImage) -> Iterator[RowChange]:
    ends_a, ends_b = np.cumsum(before.group_sizes), np.cumsum(after.group_sizes)
    ends = np.union1d(ends_a, ends_b)
    start = 0
    for end in ends.tolist():
        a = before.columns[int(np.searchsorted(ends_a, start, side="right"))]
        b = after.columns[int(np.searchsorted(ends_b, start, side="right"))]
        shift = b - a
        if shift.any():
            edges = np.concatenate([[0], np.flatnonzero(np.diff(shift)) + 1, [len(shift)]])
            stretches = tuple(
                (int(u), int(v) - 1, int(shift[u]))
                for u, v in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
                if shift[u]
            )
            yield RowChange(start, end - 1, stretches, _runs(a), _runs(b))
        start = end


def _runs(line: np.ndarray[Any, np.dtype[np.int32]]) -> tuple[int, ...]:
    step = np.diff(line)
    at = np.flatnonzero(step != 1)
    return (int(line[0]), *np.column_stack([at + 1, step[at]]).ravel().tolist())
