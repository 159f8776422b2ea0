"""The written specification of a plan by whole lines: checks it against the fault map without any solver's code.

It reads the two maps, the bypassed lines and the fault map only; it costs by the line and the fault, not by the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yieldkit.repair.checker import Violation, compare_levels
from yieldkit.repair.lineplan import LinePlan

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.plan import RepairPlan
    from yieldkit.repair.rules import LineSpares, Region

__all__ = ["check_lines"]

_SHOWN = 20

Int64 = npt.NDArray[np.int64]


def check_lines(faults: FaultMap, rules: LineSpares, plan: RepairPlan) -> list[Violation]:
    """Everything that is wrong with a plan by whole lines, or with its reason why there is none.

    Rules: logical rows and columns lie on physical ones of the block in rising order, so that every logical core has a
    physical core of its own; that core is present and good. At most `rows` rows and `cols` columns are bypassed, none
    of them used. Every dead or absent site of the block lies on a bypassed line, every dead link between neighbours has
    an end on one. A logical link passes over bypassed lines only; good lines that are left over come after the last
    used one. No logical link is a dead physical link. The counts are those that the plan states.
    """
    found: list[Violation] = []
    if not isinstance(plan, LinePlan):
        return [Violation("rules", 0, 0, "the plan is not one by whole lines")]
    if not plan.repaired:
        if plan.status in ("optimal", "feasible"):
            found.append(Violation("status", 0, 0, f"status is {plan.status} but there is no map"))
        if plan.status == "infeasible":
            if plan.certificate is None:
                found.append(Violation("status", 0, 0, "infeasible without a certificate"))
            else:
                _check_reason(found, faults, rules, plan)
        return found
    if plan.status not in ("optimal", "feasible"):
        found.append(Violation("status", 0, 0, f"status is {plan.status} but there is a map"))
    if faults.wafer_killed:
        found.append(Violation("wafer", 0, 0, "the wafer is lost to a global net, so no plan holds"))
    row_map, col_map = np.asarray(plan.row_map), np.asarray(plan.col_map)
    wanted = rules.logical_shape or plan.rules.logical_shape
    if row_map.ndim != 1 or col_map.ndim != 1 or (len(row_map), len(col_map)) != wanted:
        text = f"the maps have {row_map.shape} rows and {col_map.shape} columns, the fabric is {wanted}"
        return [*found, Violation("shape", 0, 0, text)]
    region = _with_shape(rules, wanted).region(faults.shape)
    row_map, col_map = row_map.astype(np.int64), col_map.astype(np.int64)
    rows, cols = np.unique(plan.bypassed_rows).astype(np.int64), np.unique(plan.bypassed_cols).astype(np.int64)
    sound = _check_axis(found, "row", row_map, rows, plan.bypassed_rows, region.first_row, region.rows, rules.rows)
    sound &= _check_axis(found, "col", col_map, cols, plan.bypassed_cols, region.first_col, region.cols, rules.cols)
    if not sound:
        return found
    _check_sites(found, faults, region, row_map, col_map, rows, cols)
    _check_links(found, faults, region, row_map, col_map, rows, cols)
    counted = {"missing_cores": 0, "dropped_lines": len(rows) + len(cols), "dropped_rows": len(rows)}
    compare_levels(found, plan, counted)
    if "core_of" in vars(plan):
        core = np.asarray(plan.core_of)
        same = core.shape == (*wanted, 2) and (core[:, :, 0] == row_map[:, None]).all() and (core[:, :, 1] == col_map)
        if not np.all(same):
            found.append(Violation("core", 0, 0, "core_of is not what the row and column maps say"))
    return found


def _with_shape(rules: LineSpares, shape: tuple[int, int]) -> LineSpares:
    from dataclasses import replace

    return replace(rules, logical_shape=shape)


def _check_axis(
    found: list[Violation],
    axis: str,
    lines: Int64,
    bypassed: Int64,
    claimed: npt.NDArray[np.int32],
    first: int,
    count: int,
    spares: int,
) -> bool:
    """Order, block, budget and gaps of one direction; False when the rest of the checks makes no sense."""

    def complain(rule: str, at: int, text: str) -> None:
        found.append(Violation(rule, at if axis == "row" else 0, at if axis == "col" else 0, text))

    before = len(found)
    wrong = np.flatnonzero(np.diff(lines) <= 0)
    if len(wrong):
        complain("order", int(wrong[0]) + 1, f"physical {axis} {int(lines[wrong[0] + 1])} comes after a later one")
    outside = np.flatnonzero((lines < first) | (lines >= first + count))
    if len(outside):
        at = int(outside[0])
        complain("block", at, f"physical {axis} {int(lines[at])} is outside {first} to {first + count - 1}")
    strange = bypassed[(bypassed < first) | (bypassed >= first + count)]
    if len(strange):
        complain("block", 0, f"bypassed {axis} {int(strange[0])} is outside {first} to {first + count - 1}")
    if len(bypassed) != len(claimed):
        complain("bypass", 0, f"a bypassed {axis} is listed twice")
    if len(bypassed) > spares:
        complain("budget", 0, f"{len(bypassed)} bypassed {axis}s, at most {spares} are allowed")
    both = np.intersect1d(lines, bypassed)
    if len(both):
        complain("bypass", int(np.searchsorted(lines, both[0])), f"physical {axis} {int(both[0])} is bypassed and used")
    if len(found) > before:
        return False
    # What lies between two used lines must be bypassed; what is good and left over lies behind the last one.
    between = np.setdiff1d(np.arange(first, int(lines[-1])), np.concatenate([lines, bypassed]))
    if len(between):
        at = int(np.searchsorted(lines, between[0]))
        complain("link", at, f"a link passes over physical {axis} {int(between[0])}, which is not bypassed")
    return True


def _check_sites(
    found: list[Violation],
    faults: FaultMap,
    region: Region,
    row_map: Int64,
    col_map: Int64,
    rows: Int64,
    cols: Int64,
) -> None:
    """Dead and absent sites: none in use, and each of the block on a bypassed line."""
    listed = 0
    for what, given in (("dead", faults.dead_cores), ("absent", faults.absent), ("dead (router)", faults.dead_routers)):
        sites = np.asarray(given, np.int64).reshape(-1, 2)
        used = np.isin(sites[:, 0], row_map) & np.isin(sites[:, 1], col_map)
        inside = (sites[:, 0] >= region.first_row) & (sites[:, 0] < region.first_row + region.rows)
        inside &= (sites[:, 1] >= region.first_col) & (sites[:, 1] < region.first_col + region.cols)
        bare = inside & ~np.isin(sites[:, 0], rows) & ~np.isin(sites[:, 1], cols)
        for i in np.flatnonzero(used | bare).tolist():
            r, c = sites[i].tolist()
            listed += 1
            if listed <= _SHOWN:
                place = int(np.searchsorted(row_map, r)), int(np.searchsorted(col_map, c))
                if used[i]:
                    found.append(Violation("core", *place, f"physical core {(r, c)} is {what}"))
                else:
                    found.append(Violation("cover", *place, f"no bypassed line covers {(r, c)}, which is {what}"))
    if listed > _SHOWN:
        found.append(Violation("core", 0, 0, f"and {listed - _SHOWN} more of this kind"))
    # Beyond the wafer's edge: the outermost columns that are not bypassed, in the rows that are not.
    open_rows = np.setdiff1d(np.arange(region.first_row, region.first_row + region.rows), rows)
    open_cols = np.setdiff1d(np.arange(region.first_col, region.first_col + region.cols), cols)
    if not len(open_rows) or not len(open_cols):
        return
    span = np.asarray(faults.spans, np.int64)[open_rows]
    beyond = np.flatnonzero((open_cols[0] < span[:, 0]) | (open_cols[-1] >= span[:, 1]))
    for i in beyond[:_SHOWN].tolist():
        r = int(open_rows[i])
        side = "west" if open_cols[0] < span[i, 0] else "east"
        text = f"physical row {r} ends before the {side} end of the columns that are not bypassed"
        found.append(Violation("core", int(np.searchsorted(row_map, r)), 0, f"{text}: absent sites in use"))


def _check_links(
    found: list[Violation],
    faults: FaultMap,
    region: Region,
    row_map: Int64,
    col_map: Int64,
    rows: Int64,
    cols: Int64,
) -> None:
    """Dead links between neighbours: none in use, and each of the block with an end on a bypassed line."""
    rows_used, cols_used = set(row_map.tolist()), set(col_map.tolist())
    rows_gone, cols_gone = set(rows.tolist()), set(cols.tolist())
    for r, c, dr, dc in np.asarray(faults.dead_links).reshape(-1, 4).tolist():
        if abs(dr) + abs(dc) != 1:
            continue  # no such link in this architecture
        ends = ((r, c), (r + dr, c + dc))
        if not all(
            region.first_row <= a < region.first_row + region.rows
            and region.first_col <= b < region.first_col + region.cols
            for a, b in ends
        ):
            continue
        place = int(np.searchsorted(row_map, r)), int(np.searchsorted(col_map, c))
        if all(a in rows_used and b in cols_used for a, b in ends):
            found.append(Violation("dead link", *place, f"uses the dead physical link {(r, c, dr, dc)}"))
        elif not any(a in rows_gone or b in cols_gone for a, b in ends):
            found.append(Violation("cover", *place, f"no bypassed line meets an end of the dead link {(r, c, dr, dc)}"))


# The reason why there is no plan


def _check_reason(found: list[Violation], faults: FaultMap, rules: LineSpares, plan: LinePlan) -> None:
    """Replay a certificate on the map; one by search can only be repeated, not replayed."""

    def complain(text: str) -> None:
        found.append(Violation("certificate", 0, 0, text))

    facts: dict[str, Any] = plan.certificate or {}
    kind = facts.get("kind")
    if kind == "wafer_killed":
        if not faults.wafer_killed:
            complain("no global net is hit")
        return
    if kind not in ("must_repair", "matching", "packing"):
        return
    region = _with_shape(rules, plan.logical_shape).region(faults.shape)
    sites = np.concatenate([faults.dead_cores, faults.absent, faults.dead_routers]).astype(np.int64)
    bad = {(r, c) for r, c in sites.tolist()}
    gone: list[set[int]] = [set(), set()]
    left = [min(rules.rows, region.spare_rows), min(rules.cols, region.spare_cols)]
    for step in facts.get("forced", []):
        axis = 0 if step["line"] == "row" else 1
        index = int(step["index"])
        first, count = ((region.first_row, region.rows), (region.first_col, region.cols))[axis]
        if not first <= index < first + count:
            complain(f"{step['line']} {index} is outside the block")
            return
        if index in gone[axis]:
            complain(f"{step['line']} {index} is forced twice")
            return
        needed = left[1 - axis]
        if _bad_on_line(sites, faults, region, axis, index, gone[1 - axis]) <= needed:
            complain(f"{step['line']} {index} need not be bypassed: its faults fit {needed} lines across")
            return
        gone[axis].add(index)
        left[axis] -= 1
    if kind == "must_repair":
        if min(left) >= 0:
            complain("the forced lines are within the spares")
        return
    weights = (int(facts.get("row_weight", 1)), int(facts.get("col_weight", 1)))
    sums: tuple[dict[int, int], dict[int, int]] = ({}, {})
    total = 0
    for r, c, amount in facts["faults"]:
        outside = not (
            region.first_row <= r < region.first_row + region.rows
            and region.first_col <= c < region.first_col + region.cols
        )
        if outside or not _is_bad(bad, faults, r, c) or amount < 0 or r in gone[0] or c in gone[1]:
            complain(f"site {(r, c)} is no fault that is left")
            return
        sums[0][r] = sums[0].get(r, 0) + amount
        sums[1][c] = sums[1].get(c, 0) + amount
        total += amount
    for axis in (0, 1):
        if max(sums[axis].values(), default=0) > weights[axis]:
            complain(f"the amounts on one {('row', 'column')[axis]} exceed {weights[axis]}")
    if total <= weights[0] * left[0] + weights[1] * left[1]:
        complain(f"a total of {total} does not exceed what the spares that are left can cover")


def _is_bad(bad: set[tuple[int, int]], faults: FaultMap, row: int, col: int) -> bool:
    return (row, col) in bad or not faults.spans[row, 0] <= col < faults.spans[row, 1]


def _bad_on_line(sites: Int64, faults: FaultMap, region: Region, axis: int, index: int, gone: set[int]) -> int:
    """Bad sites of the block on one line that no bypassed line across covers."""
    first, count = ((region.first_col, region.cols), (region.first_row, region.rows))[axis]
    across = np.arange(first, first + count)
    span = np.asarray(faults.spans, np.int64)
    if axis == 0:
        beyond = (across < span[index, 0]) | (across >= span[index, 1])
    else:
        beyond = (index < span[across, 0]) | (index >= span[across, 1])
    listed = sites[sites[:, axis] == index, 1 - axis]
    listed = listed[(listed >= first) & (listed < first + count)]
    bad = np.union1d(across[beyond], listed)
    return len(np.setdiff1d(bad, np.array(sorted(gone), np.int64)))
