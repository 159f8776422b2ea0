"""The written specification of a plan: checks it against the fault map without any solver's code.

It reads `core_of` and the fault map only, asks of every logical core and link whether the wafer has it, and recomputes
each level of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yieldkit.repair.rules import LineSpares

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.plan import RepairPlan
    from yieldkit.repair.rules import RowShift, Rules

__all__ = ["Violation", "check_plan", "compare_levels"]

_SHOWN = 20
"""Violations of one kind that are listed one by one; the rest are counted in a last entry."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: its name, the logical (row, col) it was seen at, and a text."""

    rule: str
    row: int
    col: int
    text: str

    def __str__(self) -> str:
        return f"{self.rule} at logical ({self.row}, {self.col}): {self.text}"


def check_plan(faults: FaultMap, rules: Rules, plan: RepairPlan) -> list[Violation]:
    """Everything that is wrong with a plan; an empty list when it holds.

    Rules of row shift: each logical core lies on one good, present physical core of its own; each link between logical
    neighbours is an existing good physical link (along the row 1 to `skip_reach` sites; between adjacent physical rows
    at most `vertical_reach` columns aside); no physical link is used twice; the displacement stays within the spares;
    the plan's status, values and bounds agree with what is counted here. Marginal cores are good cores.
    Line spares: see `yieldkit.repair.linecheck.check_lines`.

    Args:
        faults: map of the wafer.
        rules: architecture that the plan must obey; where it leaves the logical shape open, the plan's counts.
        plan: the plan; without a map (infeasible, unknown) only its status is checked.
    """
    if isinstance(rules, LineSpares):
        from yieldkit.repair.linecheck import check_lines

        return check_lines(faults, rules, plan)
    return _check_shift(faults, rules, plan)


def _check_shift(faults: FaultMap, rules: RowShift, plan: RepairPlan) -> list[Violation]:
    found: list[Violation] = []
    if plan.core_of is None:
        if plan.status in ("optimal", "feasible"):
            found.append(Violation("status", 0, 0, f"status is {plan.status} but there is no map"))
        if plan.status == "infeasible" and plan.certificate is None:
            found.append(Violation("status", 0, 0, "infeasible without a certificate"))
        return found
    core = np.asarray(plan.core_of)
    if plan.status not in ("optimal", "feasible"):
        found.append(Violation("status", 0, 0, f"status is {plan.status} but there is a map"))
    if faults.wafer_killed:
        found.append(Violation("wafer", 0, 0, "the wafer is lost to a global net, so no plan holds"))
    wanted = rules.logical_shape or plan.rules.logical_shape
    if core.ndim != 3 or core.shape[2] != 2 or core.dtype.kind not in "iu" or core.shape[:2] != wanted:
        found.append(Violation("shape", 0, 0, f"core_of is {core.dtype}{core.shape}, the fabric is {wanted}"))
        return found
    row, col = core[:, :, 0].astype(np.int64), core[:, :, 1].astype(np.int64)
    n_rows, n_cols = faults.shape
    outside = (row < 0) | (row >= n_rows) | (col < 0) | (col >= n_cols)
    _list(found, "core", outside, row, col, "physical site {0} is outside the wafer")
    if outside.any():
        return found
    absent = (col < faults.spans[row, 0]) | (col >= faults.spans[row, 1])
    _list(found, "core", absent, row, col, "physical site {0} is beyond the wafer's edge")
    owner = _owners(found, faults, row, col)
    _check_links(found, faults, rules, row, col, owner)
    _check_spares(found, rules, faults, col)
    _check_levels(found, plan, row, col)
    return found


def _list(
    found: list[Violation],
    rule: str,
    wrong: npt.NDArray[np.bool_],
    row: npt.NDArray[np.int64],
    col: npt.NDArray[np.int64],
    text: str,
) -> None:
    where = np.argwhere(wrong)
    for r, c in where[:_SHOWN].tolist():
        found.append(Violation(rule, r, c, text.format((int(row[r, c]), int(col[r, c])))))
    if len(where) > _SHOWN:
        r, c = where[_SHOWN].tolist()
        found.append(Violation(rule, r, c, f"and {len(where) - _SHOWN} more of this kind"))


def _owners(
    found: list[Violation], faults: FaultMap, row: npt.NDArray[np.int64], col: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Logical core (flat) on each physical site (flat), -1 where there is none; complains of bad and shared sites."""
    n_rows, n_cols = faults.shape
    flat = (row * n_cols + col).ravel()
    owner = np.full(n_rows * n_cols, -1, np.int64)
    owner[flat] = np.arange(flat.size)
    shared = (owner[flat] != np.arange(flat.size)).reshape(row.shape)
    _list(found, "core", shared, row, col, "physical core {0} has another logical core too")
    width = row.shape[1]
    for what, sites in (("dead", faults.dead_cores), ("absent", faults.absent), ("dead (router)", faults.dead_routers)):
        for r, c in np.asarray(sites).reshape(-1, 2).tolist():
            used = int(owner[r * n_cols + c])
            if used >= 0:
                found.append(Violation("core", used // width, used % width, f"physical core {(r, c)} is {what}"))
    return owner


def _check_links(
    found: list[Violation],
    faults: FaultMap,
    rules: RowShift,
    row: npt.NDArray[np.int64],
    col: npt.NDArray[np.int64],
    owner: npt.NDArray[np.int64],
) -> None:
    along_row, along_col = np.diff(row, axis=1), np.diff(col, axis=1)
    wrong = (along_row != 0) | (along_col < 1) | (along_col > rules.skip_reach)
    _list(found, "row link", wrong, row[:, 1:], col[:, 1:], "no link of the row's reach ends at {0}")
    down_row, down_col = np.diff(row, axis=0), np.diff(col, axis=0)
    wrong = (down_row != 1) | (np.abs(down_col) > rules.vertical_reach)
    _list(found, "vertical link", wrong, row[1:], col[1:], "no link of the vertical reach ends at {0}")
    height, width = row.shape
    n_rows, n_cols = faults.shape
    for r, c, dr, dc in np.asarray(faults.dead_links).reshape(-1, 4).tolist():
        if not (0 <= r + dr < n_rows and 0 <= c + dc < n_cols):
            continue
        a, b = int(owner[r * n_cols + c]), int(owner[(r + dr) * n_cols + c + dc])
        if a < 0 or b < 0:
            continue
        (ar, ac), (br, bc) = divmod(a, width), divmod(b, width)
        if abs(ar - br) + abs(ac - bc) == 1:
            found.append(Violation("dead link", ar, ac, f"uses the dead physical link {(r, c, dr, dc)}"))
    # A link is the pair of its ends. With every physical core in one logical place, two logical links share a physical
    # one only if they join the same two logical cores; so sharing needs to be searched for only where cores are shared.
    if np.count_nonzero(owner >= 0) == height * width:
        return
    flat = row * n_cols + col
    ends = [np.stack([flat[:, :-1].ravel(), flat[:, 1:].ravel()]), np.stack([flat[:-1].ravel(), flat[1:].ravel()])]
    pairs = np.sort(np.concatenate(ends, axis=1), axis=0)
    _, count = np.unique(pairs, axis=1, return_counts=True)
    if (count > 1).any():
        found.append(
            Violation("link sharing", 0, 0, f"{int((count > 1).sum())} physical links are used more than once")
        )


def _check_spares(found: list[Violation], rules: RowShift, faults: FaultMap, col: npt.NDArray[np.int64]) -> None:
    """All cores lie in one block of columns as wide as the fabric and its spares, centred on the wafer."""
    width = col.shape[1]
    first = (faults.shape[1] - width - rules.spares) // 2
    last = first + width + rules.spares - 1
    wrong = (col < first) | (col > last)
    if wrong.any():
        r, c = np.argwhere(wrong)[0].tolist()
        text = f"physical column {int(col[r, c])} is outside the fabric and its spares, columns {first} to {last}"
        found.append(Violation("spares", r, c, text))


def _check_levels(
    found: list[Violation], plan: RepairPlan, row: npt.NDArray[np.int64], col: npt.NDArray[np.int64]
) -> None:
    along, down = np.diff(col, axis=1), np.diff(col, axis=0)
    counted = {
        "missing_cores": 0,
        "vertical_reach": int(np.abs(down).max(initial=0)),
        "skip_reach": int(along.max(initial=1)),
        "dropped_lines": int((np.diff(row[:, 0]) - 1).sum()) if len(row) > 1 else 0,
        "skew": int((along - 1).sum() + np.abs(down).sum()),
    }
    compare_levels(found, plan, counted)


def compare_levels(found: list[Violation], plan: RepairPlan, counted: dict[str, int]) -> None:
    """Complain where the plan's levels and status do not agree with what was counted."""
    claimed = {level.name: level for level in plan.levels}
    for name, value in counted.items():
        if name not in claimed:
            found.append(Violation("objective", 0, 0, f"the plan does not state {name}"))
            continue
        level = claimed[name]
        if level.value != value:
            found.append(Violation("objective", 0, 0, f"{name} is {value}, the plan says {level.value}"))
        if level.bound > value:
            found.append(Violation("objective", 0, 0, f"the bound {level.bound} of {name} is above its value {value}"))
    if plan.status == "optimal" and not all(level.bound == level.value for level in plan.levels):
        found.append(Violation("status", 0, 0, "optimal, but a level is not at its bound"))
