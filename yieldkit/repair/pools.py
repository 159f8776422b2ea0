"""Spare pools of each reticle: every field's part of a row has spares of its own and has to give its own columns."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.repair.rounds import whole_number
from yieldkit.repair.rules import RowShift
from yieldkit.repair.thresholds import Decider

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.wafer import WaferSpec

__all__ = ["PoolDecider", "ReticlePools"]


@dataclass(frozen=True, slots=True)
class ReticlePools:
    """Row shift inside each field: a row is cut into segments of `segment_cols` sites with `spares` spares each.

    Segments side by side do not help each other: each gives ``segment_cols - spares`` columns, with the rules of
    `RowShift` inside it and towards the rows above and below. Assumption: the links that join two segments across a
    scribe line reach whichever cores are at their ends, and are never dead; so the segments are independent of each
    other along a row, and the decision is that of row shift on each column of fields.

    Args:
        segment_cols: sites of a row in one field.
        spares: spare sites of a segment.
        skip_reach, vertical_reach: as in `RowShift`, within a column of fields.
        rows: logical rows; `first_row` the physical row of the first.

    Raises:
        BadInput: a number is out of range, or no column is left.
    """

    segment_cols: int
    spares: int
    skip_reach: int = 2
    vertical_reach: int = 1
    rows: int = 1
    first_row: int = 0

    kind: ClassVar[str] = "reticle_pools"
    never_hurts: ClassVar[tuple[str, ...]] = ("skip_reach", "vertical_reach")

    def __post_init__(self) -> None:
        whole_number("segment_cols", self.segment_cols, 1)
        whole_number("rows", self.rows, 1)
        if not whole_number("spares", self.spares, 0) < self.segment_cols:
            raise BadInput(f"spares leave nothing of {self.segment_cols} sites", value=self.spares)
        self._rules()

    @classmethod
    def for_wafer(cls, wafer: WaferSpec, *, spares: int) -> ReticlePools:
        """Pools of the wafer's own fields, with its reaches and its logical rows."""
        return cls(
            wafer.reticle.core_cols,
            spares,
            wafer.repair.skip_reach,
            wafer.repair.vertical_reach,
            wafer.logical.rows,
            wafer.logical.first_row,
        )

    def _rules(self) -> RowShift:
        shape = (self.rows, self.segment_cols - self.spares)
        return RowShift(self.spares, self.skip_reach, self.vertical_reach, shape, self.first_row)

    def decider(self, like: FaultMap) -> PoolDecider:
        """The decision on maps of one kind of wafer.

        Raises:
            BadInput: the rows of sites do not divide into segments.
        """
        return PoolDecider(self, like)


class PoolDecider:
    """Decides maps under `ReticlePools`: one decision of row shift for each column of fields that has a fault."""

    def __init__(self, pools: ReticlePools, like: FaultMap) -> None:
        if like.shape[1] % pools.segment_cols:
            raise BadInput(
                f"rows of {like.shape[1]} sites do not divide into segments of {pools.segment_cols}",
                cure="take the columns of one field",
            )
        self.width = pools.segment_cols
        rules = pools._rules()
        self._bare = [self._bare_part(like, start) for start in range(0, like.shape[1], self.width)]
        self._deciders = [Decider(rules, part) for part in self._bare]
        self.possible = all(one.decide(part) is True for one, part in zip(self._deciders, self._bare, strict=True))

    def decide(self, faults: FaultMap) -> bool | None:
        """Whether every column of fields can be repaired."""
        if faults.wafer_killed or not self.possible:
            return False
        struck = [array[:, 1] // self.width for array in (faults.dead_cores, faults.dead_routers, faults.dead_links)]
        unknown = False
        for segment in np.unique(np.concatenate(struck)).tolist():
            answer = self._deciders[segment].decide(self._part(faults, segment))
            if answer is False:
                return False
            unknown |= answer is None
        return None if unknown else True

    def _bare_part(self, whole: FaultMap, start: int) -> FaultMap:
        """One column of fields without a fault."""
        from yieldkit.faultmap import FaultMap

        stop = start + self.width
        spans = np.clip(whole.spans, start, stop) - start
        spans[spans[:, 0] >= spans[:, 1]] = 0
        return FaultMap((whole.shape[0], self.width), spans=spans, absent=_inside(whole.absent, start, stop))

    def _part(self, whole: FaultMap, segment: int) -> FaultMap:
        """The map of one column of fields; links across its sides are left out."""
        # A copy of the bare map with other arrays: they are parts of sorted and checked ones.
        part = copy.copy(self._bare[segment])
        start, stop = segment * self.width, (segment + 1) * self.width
        part.dead_cores = _inside(whole.dead_cores, start, stop)
        part.dead_routers = _inside(whole.dead_routers, start, stop)
        part.dead_links = _inside(whole.dead_links, start, stop)
        return part


def _inside(sites: npt.NDArray[np.int32], start: int, stop: int) -> npt.NDArray[np.int32]:
    """Sites or links of which all lies in some columns, counted from the first of these."""
    keep = (sites[:, 1] >= start) & (sites[:, 1] < stop)
    if sites.shape[1] == 4:
        end = sites[:, 1] + sites[:, 3]
        keep &= (end >= start) & (end < stop)
    kept = sites[keep]
    kept[:, 1] -= start
    return kept
