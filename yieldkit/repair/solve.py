"""`plan_repair`: the best map of one wafer, level by level, or the proof that there is none."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from yieldkit.errors import BadInput
from yieldkit.repair.plan import Level, RepairPlan, Status
from yieldkit.repair.problem import Int32, Problem
from yieldkit.repair.propagate import Decision, decide, explain
from yieldkit.repair.rules import LineSpares

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.rules import RowShift, Rules
    from yieldkit.wafer import WaferSpec

__all__ = ["plan_repair"]

_NO_SITES = np.empty((0, 2), np.int32)


def plan_repair(
    faults: FaultMap,
    rules: Rules,
    *,
    wafer: WaferSpec | None = None,
    logical_shape: tuple[int, int] | None = None,
    marginal: Literal["avoid", "keep"] = "avoid",
) -> RepairPlan:
    """Plan the repair of one wafer.

    Levels, each minimised without giving up one before it: missing cores (0: the full fabric or no plan), the smallest
    vertical reach used, the smallest skip reach used, dropped lines (0 under row shift), and the skew: the sum over all
    links along the rows of the sites they pass over, plus the sum over all links between rows of the columns they are
    aside. At skip reach 2 and vertical reach 1 the skew is the number of links that are not nominal.

    With `LineSpares` the levels are missing cores, dropped lines (bypassed rows and columns together) and dropped rows:
    of the choices with the fewest lines one with the fewest rows. The plan is a `LinePlan`.

    Args:
        faults: map of the wafer.
        rules: the architecture.
        wafer: where the logical shape comes from when neither `logical_shape` nor the rules give it; see
            `RowShift.placed`.
        logical_shape: (rows, cols) of the fabric wanted, instead of the rules' own.
        marginal: "avoid" maps marginal cores out as long as a full fabric remains, the riskiest first (ties by row
            and column); "keep" treats them as good.

    Returns:
        a plan; a wafer that cannot be repaired is one with status "infeasible" and a certificate.

    Raises:
        BadInput: the fabric does not fit on the wafer's grid, or the map is of another wafer.
    """
    begin = time.perf_counter()
    if marginal not in ("avoid", "keep"):
        raise BadInput("marginal must be 'avoid' or 'keep'", value=marginal)
    if logical_shape is not None:
        rules = replace(rules, logical_shape=logical_shape)
    if isinstance(rules, LineSpares):
        from yieldkit.repair.linesolve import plan_lines

        return plan_lines(faults, rules.placed(faults, wafer), marginal=marginal)
    rules = rules.placed(faults, wafer)
    place = rules.placement(faults.shape)
    common: dict[str, Any] = {
        "rules": rules,
        "physical_shape": faults.shape,
        "faults_fingerprint": faults.fingerprint,
        "spec_fingerprint": faults.spec_fingerprint,
        "wafer_id": faults.wafer_id,
    }

    def finish(status: Status, levels: list[Level], **rest: Any) -> RepairPlan:
        seconds = time.perf_counter() - begin
        return RepairPlan(
            status=status, levels=tuple(levels), seconds=seconds, core_of=rest.pop("core_of", None), **common, **rest
        )

    if faults.wafer_killed:
        text = "a global net of the wafer is hit: no part of it works"
        return finish("infeasible", [], certificate={"kind": "wafer_killed", "text": text})
    problem = Problem.build(faults, rules, place)
    first = decide(problem)
    if first.feasible is None:
        return finish("unknown", [], certificate={"kind": "limit", "text": f"undecided after {first.nodes} branches"})
    if not first.feasible:
        why = explain(problem, first.failed_at, first_row=place.first_row, first_col=place.first_col)
        return finish("infeasible", [], certificate=why)
    avoided, kept = _NO_SITES, _NO_SITES
    if len(faults.marginal_cores):
        order = np.lexsort((faults.marginal_cores[:, 1], faults.marginal_cores[:, 0], -faults.marginal_risks))
        ranked = np.asarray(faults.marginal_cores[order], np.int32)
        n = _most_avoidable(faults, rules, ranked) if marginal == "avoid" else 0
        avoided, kept = ranked[:n], ranked[n:]
        if n:
            problem = Problem.build(faults, rules, place, avoid=avoided)
            first = decide(problem)
    levels = [Level("missing_cores", 0, 0, time.perf_counter() - begin, "propagation")]
    problem, field = _smallest_reaches(problem, first, levels)
    levels.append(Level("dropped_lines", 0, 0, 0.0, "none under row shift"))
    started = time.perf_counter()
    from yieldkit.repair.skew import least_skew

    skew = least_skew(problem, field)
    levels[1:3] = [_as_used(level, skew.field) for level in levels[1:3]]
    levels.append(Level("skew", skew.value, skew.bound, time.perf_counter() - started, skew.method))
    core_of = np.empty((place.rows, place.cols, 2), np.int32)
    core_of[:, :, 0] = np.arange(place.first_row, place.first_row + place.rows, dtype=np.int32)[:, None]
    core_of[:, :, 1] = skew.field + np.arange(place.first_col, place.first_col + place.cols, dtype=np.int32)
    core_of.flags.writeable = False
    used = {(r, c) for r, c in kept.tolist() if _is_used(core_of, place.first_row, r, c)}
    idle = [site for site in kept.tolist() if tuple(site) not in used]
    status: Status = "optimal" if all(level.proven for level in levels) else "feasible"
    return finish(
        status,
        levels,
        core_of=core_of,
        bypassed_marginal=_sorted_sites([*avoided.tolist(), *idle]),
        kept_marginal=_sorted_sites(sorted(used)),
    )


def _most_avoidable(faults: FaultMap, rules: RowShift, ranked: Int32) -> int:
    """Longest prefix of the ranked marginal cores that can be mapped out; adding one never helps, so bisect."""
    place = rules.placement(faults.shape)
    low, high = 0, len(ranked)
    while low < high:
        middle = high if low == 0 and high == len(ranked) else (low + high + 1) // 2
        if decide(Problem.build(faults, rules, place, avoid=ranked[:middle])).feasible:
            low = middle
        else:
            high = middle - 1
    return low


def _smallest_reaches(problem: Problem, first: Decision, levels: list[Level]) -> tuple[Problem, Int32]:
    """Lower the vertical reach, then the skip reach, as far as there is a plan; appends both levels."""
    if first.field is None:
        raise ArithmeticError("a feasible decision comes with a field")
    field = first.field
    for name, most, least in (("vertical_reach", problem.v, 0), ("skip_reach", problem.h, 1)):
        started = time.perf_counter()
        undecided: int | None = None
        value = most
        for reach in range(least, most):
            tighter = (
                problem.at_reach(problem.h, reach) if name == "vertical_reach" else problem.at_reach(reach, problem.v)
            )
            answer = decide(tighter)
            if answer.field is not None:
                problem, field, value = tighter, answer.field, reach
                break
            if answer.feasible is None and undecided is None:
                undecided = reach
        # What a field really uses may be less than what it was allowed.
        bound = value if undecided is None else undecided
        levels.append(Level(name, value, bound, time.perf_counter() - started, "propagation"))
    return problem, field


def _as_used(level: Level, field: Int32) -> Level:
    """A reach as the field uses it; below what was allowed only where a smaller reach was left undecided."""
    if level.name == "vertical_reach":
        used = int(np.abs(np.diff(field, axis=0)).max(initial=0))
    else:
        used = int(np.diff(field, axis=1).max(initial=0)) + 1
    return replace(level, value=used, bound=min(level.bound, used))


def _is_used(core_of: Int32, first_row: int, row: int, col: int) -> bool:
    r = row - first_row
    if not 0 <= r < core_of.shape[0]:
        return False
    c = int(np.searchsorted(core_of[r, :, 1], col))
    return c < core_of.shape[1] and int(core_of[r, c, 1]) == col


def _sorted_sites(sites: list[Any]) -> Int32:
    return np.array(sorted(map(tuple, sites)), np.int32).reshape(-1, 2)
