"""`plan_lines`: the best choice of lines to bypass on one wafer, or the proof that there is none."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from yieldkit.repair.cover_curves import Curve, add_curves, curve_of, hull_bound, hull_of, split_point
from yieldkit.repair.linecover import Box, Limit, cheapest_cover, in_box, select_lines
from yieldkit.repair.lineplan import LinePlan
from yieldkit.repair.lines import Forced, Lines, Part, build, must_repair, parts_of, whole
from yieldkit.repair.plan import Level, Status

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.rules import LineSpares, Region

__all__ = ["Choice", "LineDecider", "choose_lines", "plan_lines"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

DETERMINISTIC_LIMIT = 10.0
"""For all CP-SAT solves of one choice together, in CP-SAT's own deterministic unit (a few seconds each)."""

_BY_CURVES = "must-repair, curves by part, CP-SAT selection"

_TABLE_ROWS = 256
"""Most rows for which a certificate by search lists the bound of each number of rows."""

_NO_SITES = np.empty((0, 2), np.int32)


@dataclass(frozen=True, eq=False)
class Choice:
    """Lines to bypass, or why there are none. `feasible` is None where the limit came first."""

    feasible: bool | None
    rows: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    cols: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    lines_bound: int = 0
    rows_bound: int = 0
    method: str = ""
    certificate: dict[str, Any] | None = None


def plan_lines(
    faults: FaultMap,
    rules: LineSpares,
    *,
    marginal: Literal["avoid", "keep"] = "avoid",
    deterministic_limit: float = DETERMINISTIC_LIMIT,
) -> LinePlan:
    """The plan of one wafer; `rules` with their logical shape. See `plan_repair` for what is minimised."""
    begin = time.perf_counter()
    region = rules.region(faults.shape)
    common: dict[str, Any] = {
        "rules": rules,
        "physical_shape": faults.shape,
        "faults_fingerprint": faults.fingerprint,
        "spec_fingerprint": faults.spec_fingerprint,
        "wafer_id": faults.wafer_id,
    }

    def finish(status: Status, levels: list[Level], **rest: Any) -> LinePlan:
        return LinePlan(status=status, levels=tuple(levels), seconds=time.perf_counter() - begin, **common, **rest)

    if faults.wafer_killed:
        text = "a global net of the wafer is hit: no part of it works"
        return finish("infeasible", [], certificate={"kind": "wafer_killed", "text": text})
    choice = choose_lines(faults, region, deterministic_limit=deterministic_limit)
    if not choice.feasible:
        return finish("unknown" if choice.feasible is None else "infeasible", [], certificate=choice.certificate)
    decided = time.perf_counter() - begin
    ranked = _by_risk(faults)
    if marginal == "avoid" and len(ranked):
        avoided = ranked[: _most_avoidable(faults, region, ranked, deterministic_limit)]
        choice = choose_lines(faults, region, avoid=avoided, deterministic_limit=deterministic_limit)
        if not choice.feasible:
            raise ArithmeticError("what was feasible stays so")
    row_map = _first_good(region.first_row, region.rows, choice.rows, region.height)
    col_map = _first_good(region.first_col, region.cols, choice.cols, region.width)
    total, n_rows = len(choice.rows) + len(choice.cols), len(choice.rows)
    rest = time.perf_counter() - begin - decided
    levels = [
        Level("missing_cores", 0, 0, decided, choice.method),
        Level("dropped_lines", total, choice.lines_bound, rest, choice.method),
        Level("dropped_rows", n_rows, choice.rows_bound, 0.0, choice.method),
    ]
    used = np.isin(ranked[:, 0], row_map) & np.isin(ranked[:, 1], col_map)
    return finish(
        "optimal" if all(level.proven for level in levels) else "feasible",
        levels,
        row_map=row_map,
        col_map=col_map,
        bypassed_rows=choice.rows.astype(np.int32),
        bypassed_cols=choice.cols.astype(np.int32),
        bypassed_marginal=_sorted(ranked[~used]),
        kept_marginal=_sorted(ranked[used]),
    )


def _by_risk(faults: FaultMap) -> Int32:
    order = np.lexsort((faults.marginal_cores[:, 1], faults.marginal_cores[:, 0], -faults.marginal_risks))
    return np.asarray(faults.marginal_cores[order], np.int32)


def _sorted(sites: Int32) -> Int32:
    return sites[np.lexsort((sites[:, 1], sites[:, 0]))] if len(sites) else _NO_SITES


def _most_avoidable(faults: FaultMap, region: Region, ranked: Int32, limit: float) -> int:
    """Longest prefix of the ranked marginal cores that can be mapped out; adding one never helps, so bisect."""
    low, high = 0, len(ranked)
    while low < high:
        middle = high if low == 0 and high == len(ranked) else (low + high + 1) // 2
        if choose_lines(faults, region, avoid=ranked[:middle], deterministic_limit=limit).feasible:
            low = middle
        else:
            high = middle - 1
    return low


def _first_good(first: int, count: int, gone: Int64, wanted: int) -> Int32:
    """The first lines of the block that are not bypassed; those that are left over come last."""
    good = np.ones(count, np.bool_)
    good[gone - first] = False
    return (first + np.flatnonzero(good)[:wanted]).astype(np.int32)


@dataclass(frozen=True)
class LineDecider:
    """Decides maps under rules with their logical shape filled in."""

    rules: LineSpares

    def decide(self, faults: FaultMap) -> bool | None:
        """Whether a map can be repaired; None where a limit came first."""
        return not faults.wafer_killed and choose_lines(faults, self.rules.region(faults.shape)).feasible


def choose_lines(
    faults: FaultMap,
    region: Region,
    *,
    avoid: Int32 | None = None,
    deterministic_limit: float = DETERMINISTIC_LIMIT,
) -> Choice:
    """Fewest lines, then fewest rows, within the spares of the block.

    Lines without a choice first; then reasons that a person can check (a matching, a packing); then the curves of the
    parts, as far as minimum cuts give them. Where these leave a gap, the parts with one go into a CP-SAT model.
    """
    spare_rows, spare_cols = region.spare_rows, region.spare_cols
    lines = build(faults, region, budget_cols=spare_cols, avoid=avoid)
    forced = must_repair(lines, spare_rows, spare_cols)
    reason = (
        _no_by_matching(lines, None, spare_rows, spare_cols)
        or _no_by_force(forced, spare_rows, spare_cols)
        or _no_by_matching(forced.left, forced, forced.spare_rows, forced.spare_cols)
        or _no_by_packing(forced)
    )
    if reason is not None:
        return Choice(False, certificate=reason)
    spare_rows, spare_cols = forced.spare_rows, forced.spare_cols
    parts = parts_of(forced.left)
    free = Limit(0.0)
    curves = [curve_of(part, most_rows=spare_rows, most_cols=spare_cols, limit=free) for part in parts]
    summed, partial = add_curves(curves, spare_rows)
    box = _in_table(summed, spare_cols)
    if box.feasible and box.total == box.total_bound and box.rows == box.rows_bound:
        return _selected(forced, box, parts, curves, partial, deterministic_limit)
    hard = [k for k, curve in enumerate(curves) if not curve.proven]
    searched = [parts[k] for k in hard]
    easy = [k for k, curve in enumerate(curves) if curve.proven]
    easy_curves = [curves[k] for k in easy]
    table, easy_partial = add_curves(easy_curves, spare_rows)
    found = in_box(
        searched, table.high, spare_rows, spare_cols, Limit(deterministic_limit), least=_least_total(summed, spare_cols)
    )
    if found.feasible:
        return _selected(forced, found, [parts[k] for k in easy], easy_curves, easy_partial, deterministic_limit)
    if found.feasible is False:
        return Choice(False, certificate=_no_by_search(forced, searched, summed))
    if box.feasible:
        return _selected(forced, box, parts, curves, partial, deterministic_limit)
    text = f"undecided after {deterministic_limit:g} units of CP-SAT's deterministic time"
    return Choice(None, certificate={"kind": "limit", "text": text})


def _selected(
    forced: Forced, box: Box, parts: list[Part], curves: list[Curve], partial: list[Int64], limit: float
) -> Choice:
    """The lines of a box: those that have no choice, those that a search took, and OR-tools' pick for the parts."""
    picked = select_lines(parts, split_point(curves, partial, box.table_rows), Limit(limit))
    if picked is None:
        text = f"no lines were selected within {limit:g} units of CP-SAT's deterministic time"
        return Choice(None, certificate={"kind": "limit", "text": text})
    rows = np.sort(np.concatenate([forced.rows, box.row_lines, picked[0]]))
    cols = np.sort(np.concatenate([forced.cols, box.col_lines, picked[1]]))
    n_forced = len(forced.rows) + len(forced.cols)
    if len(rows) != len(forced.rows) + box.rows or len(rows) + len(cols) != n_forced + box.total:
        raise ArithmeticError("the lines selected are not as many as the curves say")
    bounds = n_forced + box.total_bound, len(forced.rows) + box.rows_bound
    method = "must-repair, curves by part, CP-SAT search" if len(box.row_lines) + len(box.col_lines) else _BY_CURVES
    return Choice(True, rows, cols, *bounds, method)


def _least_total(curve: Curve, spare_cols: int) -> int:
    """Lower bound of rows and columns together, within their budgets."""
    fits = np.flatnonzero(curve.low <= spare_cols)
    return int((fits + curve.low[fits]).min(initial=len(curve.low) + spare_cols))


def _in_table(curve: Curve, spare_cols: int) -> Box:
    """Fewest lines, then fewest rows, on a curve that holds only numbers of rows within their budget."""
    rows = np.arange(len(curve.high))
    fits = np.flatnonzero(curve.high <= spare_cols)
    if not len(fits):
        return Box(None)
    best = int(fits[np.argmin((rows + curve.high)[fits])])
    total = best + int(curve.high[best])
    may = np.flatnonzero((curve.low <= spare_cols) & (rows + curve.low <= total))
    return Box(True, total, min(_least_total(curve, spare_cols), total), best, int(may[0]), best)


# Reasons why there is no plan


def _matching(lines: Lines) -> tuple[Part, Int64]:
    """All clauses as a part, and the indices of its pairs in a largest matching: sites of which no two share a line."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    part = whole(lines)
    if not len(part.pairs):
        return part, np.empty(0, np.int64)
    row, col = part.pairs[:, 0], part.pairs[:, 1]
    graph = coo_array((np.ones(len(row), np.int8), (row, col)), shape=(len(part.rows), len(part.cols))).tocsr()
    mate = maximum_bipartite_matching(graph, perm_type="column")
    return part, np.flatnonzero(mate[row] == col)


def _no_by_matching(lines: Lines, forced: Forced | None, spare_rows: int, spare_cols: int) -> dict[str, Any] | None:
    if min(spare_rows, spare_cols) < 0:
        return None
    part, matched = _matching(lines)
    if len(matched) <= spare_rows + spare_cols:
        return None
    shown = matched[: spare_rows + spare_cols + 1]
    sites = [[int(part.rows[r]), int(part.cols[c]), 1] for r, c in part.pairs[shown].tolist()]
    steps = [] if forced is None else list(forced.steps)
    after = f" left after {len(steps)} lines without a choice" if steps else ""
    text = (
        f"{len(sites)} bad sites of which no two share a row or a column, for {spare_rows} + {spare_cols} spare lines"
        f"{after}; the first are {[tuple(s[:2]) for s in sites[:3]]}"
    )
    return {"kind": "matching", "faults": sites, "forced": steps, "text": text}


def _no_by_force(forced: Forced, spare_rows: int, spare_cols: int) -> dict[str, Any] | None:
    if not forced.fails:
        return None
    axis = "row" if forced.spare_rows < 0 else "col"
    own = [step for step in forced.steps if step["line"] == axis]
    word, across = ("rows", "columns") if axis == "row" else ("columns", "rows")
    first = own[0]
    spares = spare_rows if axis == "row" else spare_cols
    text = (
        f"{len(own)} {word} have more bad sites than {across} can be spent on them, and only {spares} can be bypassed; "
        f"the first is {axis} {first['index']}, for {first['across']} {across}"
    )
    return {"kind": "must_repair", "forced": list(forced.steps), "text": text}


def _no_by_packing(forced: Forced) -> dict[str, Any] | None:
    """A price a for rows and b for columns at which the spares left cannot pay for any cover.

    The proof is a flow: amounts on the bad sites, at most a on a row and b on a column, that add up to more than the
    spares are worth. By the linear program's duality there is one whenever its bound says no.
    """
    part = whole(forced.left)
    if not len(part.pairs):
        return None
    some_rows, at_row = np.unique(part.pairs[:, 0], return_inverse=True)
    some_cols, at_col = np.unique(part.pairs[:, 1], return_inverse=True)
    pairs = np.stack([at_row, at_col], axis=1)
    n_rows, n_cols = len(some_rows), len(some_cols)
    spare_rows, spare_cols = forced.spare_rows, forced.spare_cols
    left, right = (0, n_cols), (n_rows, 0)
    if spare_rows >= n_rows or spare_cols >= n_cols:
        return None
    while True:
        shared = gcd(left[1] - right[1], right[0] - left[0])
        a, b = (left[1] - right[1]) // shared, (right[0] - left[0]) // shared
        cut = cheapest_cover(pairs, n_rows, n_cols, a, b)
        worth = a * spare_rows + b * spare_cols
        if cut.cost > worth:
            some = np.flatnonzero(cut.flow)
            sites = [
                [int(part.rows[some_rows[r]]), int(part.cols[some_cols[c]]), int(cut.flow[k])]
                for k, (r, c) in zip(some.tolist(), pairs[some].tolist(), strict=True)
            ]
            text = (
                f"amounts on {len(sites)} bad sites, at most {a} on any row and {b} on any column, add up to "
                f"{cut.cost}; {spare_rows} spare rows and {spare_cols} spare columns cover at most {worth}"
            )
            return {
                "kind": "packing",
                "row_weight": a,
                "col_weight": b,
                "faults": sites,
                "forced": list(forced.steps),
                "text": text,
            }
        if cut.cost == a * left[0] + b * left[1]:
            return None
        if cut.point[0] <= spare_rows:
            left = cut.point
        else:
            right = cut.point
        if left[0] == spare_rows:
            # The hull's corner itself is at the budget: it fits, or the price of its edge would have said no.
            return None


def _no_by_search(forced: Forced, hard: list[Part], curve: Curve) -> dict[str, Any]:
    """A lower bound of the columns for these rows, by the means that proved it, and for each number of rows."""
    spare_rows, spare_cols = forced.spare_rows, forced.spare_cols
    part = whole(forced.left)
    method = "CP-SAT, one worker, linearization_level=2" if hard else "every part enumerated or by dynamic programming"
    least = max(spare_cols + 1, int(curve.low[-1]))
    facts: dict[str, Any] = {
        "kind": "search",
        "spare_rows": spare_rows,
        "least_cols": least,
        "spare_cols": spare_cols,
        "method": method,
        "forced": list(forced.steps),
        "text": (
            f"with {spare_rows} rows, and so with fewer, at least {least} columns are needed and {spare_cols} are left "
            f"({method}); the linear program alone does not show it"
        ),
    }
    if spare_rows <= _TABLE_ROWS and len(part.pairs):
        some_rows, at_row = np.unique(part.pairs[:, 0], return_inverse=True)
        some_cols, at_col = np.unique(part.pairs[:, 1], return_inverse=True)
        corners, _ = hull_of(np.stack([at_row, at_col], axis=1), len(some_rows), len(some_cols))
        bound = hull_bound(corners)[: spare_rows + 1].tolist()
        facts["by_rows"] = [
            {"rows": r, "cols": max(c, least), "by": "linear program" if c >= least else method}
            for r, c in enumerate(bound)
        ]
    return facts
