"""`LinePlan`: a repair by whole lines, kept as two short arrays and not as a map of every core."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.repair.plan import RepairPlan, plain_fields
from yieldkit.repair.rules import LineSpares, Region

__all__ = ["LinePlan"]

Int32 = npt.NDArray[np.int32]


def _no_lines() -> Int32:
    return np.empty(0, np.int32)


@dataclass(frozen=True, eq=False, repr=False)
class LinePlan(RepairPlan):
    """Which physical row each logical row is, and which column each column.

    Attributes:
        core_of: int32[H, W, 2] as in every plan, made from the two maps when it is first asked for.
        row_map: int32[H], physical row of each logical row; None without a plan. `col_map` likewise, int32[W].
        bypassed_rows: int32[n], physical rows taken out because of faults; `bypassed_cols` likewise. Lines of the
            block that are neither used nor bypassed are healthy spares that are left over.
    """

    core_of: Int32 | None = field(init=False, repr=False)
    row_map: Int32 | None = None
    col_map: Int32 | None = None
    bypassed_rows: Int32 = field(default_factory=_no_lines)
    bypassed_cols: Int32 = field(default_factory=_no_lines)

    def __getattr__(self, name: str) -> Any:
        # Reached only where the attribute does not exist yet: 8192 x 8192 cores are 512 MB that few callers need.
        if name != "core_of":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        core_of = None
        if self.row_map is not None and self.col_map is not None:
            core_of = np.empty((len(self.row_map), len(self.col_map), 2), np.int32)
            core_of[:, :, 0] = self.row_map[:, None]
            core_of[:, :, 1] = self.col_map
            core_of.flags.writeable = False
        object.__setattr__(self, "core_of", core_of)
        return core_of

    @property
    def repaired(self) -> bool:
        """Whether there is a plan."""
        return self.row_map is not None and self.col_map is not None

    @property
    def region(self) -> Region:
        """The block of lines that the fabric and its spares lie on."""
        if not isinstance(self.rules, LineSpares):
            raise BadInput("a plan by lines needs the rules LineSpares", value=type(self.rules).__name__)
        return self.rules.region(self.physical_shape)

    @property
    def spare_lines(self) -> tuple[Int32, Int32]:
        """Physical (rows, columns) of the block that are good and left over: the spares for later faults."""
        region = self.region
        rows = np.arange(region.first_row, region.first_row + region.rows, dtype=np.int32)
        cols = np.arange(region.first_col, region.first_col + region.cols, dtype=np.int32)
        if self.row_map is None or self.col_map is None:
            return _no_lines(), _no_lines()
        taken_rows = np.concatenate([self.row_map, self.bypassed_rows])
        taken_cols = np.concatenate([self.col_map, self.bypassed_cols])
        return np.setdiff1d(rows, taken_rows), np.setdiff1d(cols, taken_cols)

    @property
    def objective(self) -> int | None:
        """Lines dropped; None without a plan."""
        return self.level("dropped_lines").value if self.repaired and self.levels else None

    @property
    def bound(self) -> int | None:
        """Proven lower bound of the lines dropped."""
        return self.level("dropped_lines").bound if self.repaired and self.levels else None

    @property
    def stretched_links(self) -> int:
        """Logical links that pass over a bypassed line."""
        if self.row_map is None or self.col_map is None:
            return 0
        over_rows = int(np.count_nonzero(np.diff(self.row_map) != 1))
        over_cols = int(np.count_nonzero(np.diff(self.col_map) != 1))
        return over_rows * len(self.col_map) + over_cols * len(self.row_map)

    def column_groups(self) -> tuple[int, list[tuple[int, list[int]]], Int32]:
        """(first row, runs, columns) for the firmware image, which knows rows in a run only.

        Raises:
            BadInput: a row between two used ones is bypassed, or a link passes over more sites than the image can say.
        """
        if self.row_map is None or self.col_map is None:
            raise BadInput("there is no map to ship: the plan's status is", value=self.status)
        if (np.diff(self.row_map) != 1).any():
            raise BadInput(
                "the firmware image has no form for a row bypassed between two used ones",
                value=self.bypassed_rows.tolist(),
                cure="ship the plan's file, which has the row and column maps",
            )
        step = np.diff(self.col_map)
        if step.max(initial=1) > 255:
            raise BadInput("a link of the firmware image spans at most 255 sites", value=int(step.max()))
        at = np.flatnonzero(step != 1)
        runs = [int(self.col_map[0])]
        for c in at.tolist():
            runs += [c + 1, int(step[c])]
        return int(self.row_map[0]), [(len(self.row_map), runs)], self.col_map[None, :]

    @property
    def reaches(self) -> tuple[int, int]:
        """(sites that the longest link along a row spans, columns aside between rows: 0)."""
        longest = 1 if self.col_map is None else int(np.diff(self.col_map).max(initial=1))
        return longest, 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values; both maps as runs [[first line, number of lines], ...]."""
        lines = None
        if self.row_map is not None and self.col_map is not None:
            lines = {
                "row_map": _runs(self.row_map),
                "col_map": _runs(self.col_map),
                "bypassed_rows": self.bypassed_rows.tolist(),
                "bypassed_cols": self.bypassed_cols.tolist(),
            }
        return {**self._facts(), "rows": None, "lines": lines}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> LinePlan:
        """The inverse of `to_dict`.

        Raises:
            BadInput: the maps do not fit the rules.
        """
        common = plain_fields(facts)
        rules = common["rules"]
        if not isinstance(rules, LineSpares) or rules.logical_shape is None:
            raise BadInput("rules must be line_spares with a logical_shape")
        maps: dict[str, Any] = {}
        lines = facts["lines"]
        if lines is not None:
            for name, count in zip(("row_map", "col_map"), rules.logical_shape, strict=True):
                maps[name] = _from_runs(name, lines[name], count)
            for name in ("bypassed_rows", "bypassed_cols"):
                maps[name] = np.array(lines[name], np.int32).reshape(-1)
        return cls(**common, **maps)


def _runs(lines: Int32) -> list[list[int]]:
    starts = np.concatenate([[0], np.flatnonzero(np.diff(lines) != 1) + 1, [len(lines)]]).tolist()
    return [[int(lines[a]), b - a] for a, b in itertools.pairwise(starts)]


def _from_runs(name: str, runs: list[list[int]], count: int) -> Int32:
    total = sum(int(n) for _, n in runs)
    if total != count or any(int(n) < 1 or not 0 <= int(first) <= 1_000_000 for first, n in runs):
        raise BadInput(f"runs of {name} must add up to {count} lines", value=total)
    return np.concatenate([np.arange(int(first), int(first) + int(n), dtype=np.int32) for first, n in runs])
