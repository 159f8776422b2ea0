"""`replan_repair`: a new plan after a map-out in the field, which moves as few cores as possible."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from yieldkit.errors import BadInput
from yieldkit.repair.checker import Violation, check_plan
from yieldkit.repair.incremental_search import NODE_LIMIT, Found, search
from yieldkit.repair.plan import Level, RepairPlan, Status
from yieldkit.repair.problem import Int32, Problem
from yieldkit.repair.propagate import decide, explain
from yieldkit.repair.rules import RowShift

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.rules import Placement
    from yieldkit.wafer import WaferSpec

__all__ = ["check_replan", "moved_cores", "replan_repair", "row_shift"]


def replan_repair(
    faults: FaultMap, plan: RepairPlan, *, rules: RowShift | None = None, wafer: WaferSpec | None = None
) -> RepairPlan:
    """Plan the repair anew after failures in the field, moving as few logical cores as possible.

    Levels: missing cores (0: the full fabric or no plan), `moved_cores` (logical cores whose physical core is another
    one than in `plan`), then as in `plan_repair`: vertical reach, skip reach, dropped lines and skew, each the least
    that the fewest moves leave. Failures on sites that the plan does not use move nothing. Marginal cores are good
    cores here: a core that works is not moved.

    Args:
        faults: map of the wafer with the new failures.
        plan: the plan in use.
        rules: architecture; the plan's own when not given.
        wafer: kind of wafer, for rules without a logical shape; see `RowShift.placed`.

    Returns:
        a plan; where the fabric is lost, one with status "infeasible" and a certificate.

    Raises:
        BadInput: there is no plan in use, it is of another wafer, or it does not obey the rules even without faults.
    """
    begin = time.perf_counter()
    rules = row_shift(plan.rules if rules is None else rules).placed(faults, wafer)
    place = rules.placement(faults.shape)
    before = _columns(faults, plan, place)
    common: dict[str, Any] = {
        "rules": rules,
        "physical_shape": faults.shape,
        "faults_fingerprint": faults.fingerprint,
        "spec_fingerprint": faults.spec_fingerprint or plan.spec_fingerprint,
        "wafer_id": faults.wafer_id or plan.wafer_id,
    }

    def without_map(status: Status, certificate: dict[str, Any]) -> RepairPlan:
        seconds = time.perf_counter() - begin
        return RepairPlan(status, core_of=None, levels=(), certificate=certificate, seconds=seconds, **common)

    if faults.wafer_killed:
        text = "a global net of the wafer is hit: no part of it works"
        return without_map("infeasible", {"kind": "wafer_killed", "text": text})
    problem = Problem.build(faults, rules, place)
    old = np.asarray(before - np.arange(place.first_col, place.first_col + place.cols), np.int32)
    _check_obeys(problem, old)
    built = time.perf_counter()
    found = search(problem, old)
    if found.field is None:
        if found.feasible is None:
            return without_map("unknown", {"kind": "limit", "text": f"undecided after {NODE_LIMIT} branches"})
        failed = decide(problem).failed_at
        return without_map("infeasible", explain(problem, failed, first_row=place.first_row, first_col=place.first_col))
    levels = _levels(found, build_seconds=built - begin, search_seconds=time.perf_counter() - built)
    core_of = np.empty((place.rows, place.cols, 2), np.int32)
    core_of[:, :, 0] = np.arange(place.first_row, place.first_row + place.rows, dtype=np.int32)[:, None]
    core_of[:, :, 1] = found.field + np.arange(place.first_col, place.first_col + place.cols, dtype=np.int32)
    core_of.flags.writeable = False
    used = _uses(core_of, place, faults.marginal_cores)
    return RepairPlan(
        status="optimal" if all(level.proven for level in levels) else "feasible",
        core_of=core_of,
        levels=levels,
        seconds=time.perf_counter() - begin,
        bypassed_marginal=_in_order(faults.marginal_cores[~used]),
        kept_marginal=_in_order(faults.marginal_cores[used]),
        **common,
    )


def row_shift(rules: object) -> RowShift:
    """The rules, when they are row shift.

    Raises:
        BadInput: they are of another architecture.
    """
    if not isinstance(rules, RowShift):
        raise BadInput("this is made for row shift only", value=type(rules).__name__)
    return rules


def moved_cores(before: RepairPlan, after: RepairPlan) -> Int32:
    """int32[n, 2]: logical (row, col) of the cores that lie on another physical core than before.

    Raises:
        BadInput: a plan has no map, or the shapes differ.
    """
    if before.core_of is None or after.core_of is None:
        raise BadInput("only plans with a map can be compared", value=(before.status, after.status))
    if before.core_of.shape != after.core_of.shape:
        raise BadInput(f"the fabric was {before.logical_shape}", value=after.logical_shape)
    return np.argwhere((before.core_of != after.core_of).any(axis=2)).astype(np.int32)


def check_replan(faults: FaultMap, rules: RowShift, plan: RepairPlan, before: RepairPlan) -> list[Violation]:
    """`check_plan`, and that the plan moves as many cores against `before` as it says; no solver's code."""
    found = check_plan(faults, rules, plan)
    if plan.core_of is None:
        return found
    moved = len(moved_cores(before, plan))
    claimed = {level.name: level for level in plan.levels}.get("moved_cores")
    if claimed is None:
        found.append(Violation("objective", 0, 0, "the plan does not state moved_cores"))
    elif claimed.value != moved or claimed.bound > moved:
        text = f"moved_cores is {moved}, the plan says {claimed.value} with bound {claimed.bound}"
        found.append(Violation("objective", 0, 0, text))
    return found


def _columns(faults: FaultMap, plan: RepairPlan, place: Placement) -> Int32:
    """Physical columns int32[H, W] of the plan in use."""
    if plan.core_of is None:
        raise BadInput("the plan in use has no map: its status is", value=plan.status)
    if plan.physical_shape != faults.shape:
        raise BadInput(f"the plan in use is for {plan.physical_shape} sites", value=faults.shape)
    for what, theirs, ours in (
        ("kind of wafer", plan.spec_fingerprint, faults.spec_fingerprint),
        ("wafer", plan.wafer_id, faults.wafer_id),
    ):
        if theirs and ours and theirs != ours:
            raise BadInput(f"the plan in use is of another {what}, {theirs}", value=ours)
    if plan.core_of.shape[:2] != (place.rows, place.cols) or int(plan.core_of[0, 0, 0]) != place.first_row:
        raise BadInput("the plan in use has another fabric than the rules", value=plan.core_of.shape[:2])
    return np.ascontiguousarray(plan.core_of[:, :, 1])


def _check_obeys(problem: Problem, old: Int32) -> None:
    """Ranges and reaches, which no new failure changes."""
    step, down = np.diff(old, axis=1), np.diff(old, axis=0)
    wrong = (
        (old[:, 0] < problem.low).any()
        or (old[:, -1] > problem.high).any()
        or int(step.min(initial=0)) < 0
        or int(step.max(initial=0)) > problem.h - 1
        or int(down.max(initial=0)) > problem.v
        or int(down.min(initial=0)) < -problem.v
    )
    if wrong:
        raise BadInput(
            "the plan in use does not obey the rules, even without faults",
            value=f"spares {problem.spares}, reaches {problem.h} and {problem.v}",
            cure="pass the rules it was made with",
        )


def _levels(found: Found, *, build_seconds: float, search_seconds: float) -> tuple[Level, ...]:
    """One level each; a level's bound is that of the search as long as all levels before it are proven."""
    names = ("moved_cores", "vertical_reach", "skip_reach", "skew")
    rest = max(search_seconds - found.move_seconds, 0.0)
    first = found.method if found.value[0] == 0 else "minimum cut over the new faults"
    out = {"missing_cores": Level("missing_cores", 0, 0, build_seconds, first)}
    for i, name in enumerate(names):
        known = found.bound[:i] == found.value[:i]
        bound = found.bound[i] if known else (0, 0, 1, 0)[i]
        seconds = found.move_seconds if i == 0 else rest if name == "skew" else 0.0
        out[name] = Level(name, found.value[i], min(bound, found.value[i]), seconds, found.method if i else first)
    out["dropped_lines"] = Level("dropped_lines", 0, 0, 0.0, "none under row shift")
    order = ("missing_cores", "moved_cores", "vertical_reach", "skip_reach", "dropped_lines", "skew")
    return tuple(out[name] for name in order)


def _uses(core_of: Int32, place: Placement, sites: Int32) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each site carries a logical core."""
    used = np.zeros(len(sites), np.bool_)
    for k, (row, col) in enumerate(sites.tolist()):
        r = row - place.first_row
        if 0 <= r < place.rows:
            c = int(np.searchsorted(core_of[r, :, 1], col))
            used[k] = c < place.cols and int(core_of[r, c, 1]) == col
    return used


def _in_order(sites: Int32) -> Int32:
    return np.array(sorted(map(tuple, sites.tolist())), np.int32).reshape(-1, 2)
