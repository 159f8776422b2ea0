"""Plans after a map-out against enumeration and HiGHS, and what they promise at wafer size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.repair.oracle import best_moves, highs_skew, random_case
from tests.repair.test_plan import mirrored, wafer_map
from yieldkit.errors import BadInput
from yieldkit.faultmap import FaultMap
from yieldkit.repair import (
    Level,
    RepairPlan,
    RowShift,
    check_plan,
    check_replan,
    incremental_cut,
    moved_cores,
    plan_repair,
    replan_repair,
)
from yieldkit.repair.incremental_search import search
from yieldkit.repair.problem import Problem

LEVELS = ("moved_cores", "vertical_reach", "skip_reach", "skew")


def values(plan):
    return None if plan.core_of is None else tuple(plan.level(name).value for name in LEVELS)


def before_and_after(rng, **sizes):
    """(rules, plan in use, map with more failures), the plan made for about 40 % of the faults; None without one."""
    faults, rules = random_case(rng, **sizes)

    def some(rows):
        return rows[rng.random(len(rows)) < 0.4]

    before = FaultMap(
        faults.shape,
        dead_cores=some(faults.dead_cores),
        dead_routers=some(faults.dead_routers),
        dead_links=some(faults.dead_links),
        absent=faults.absent,
        spans=faults.spans,
    )
    plan = plan_repair(before, rules)
    return (rules, plan, faults) if plan.repaired else None


def compare(seed, n, **sizes):
    """Every level against enumeration; returns how many were lost, moved nothing, moved something."""
    seen = [0, 0, 0]
    for k in range(n):
        case = before_and_after(np.random.default_rng([seed, k]), **sizes)
        if case is None:
            continue
        rules, plan, faults = case
        after = replan_repair(faults, plan)
        want = best_moves(faults, rules, plan.core_of[:, :, 1].tolist())
        assert check_replan(faults, rules, after, plan) == [], k
        assert values(after) == want, k
        assert after.status == ("infeasible" if want is None else "optimal"), k
        assert (after.certificate is None) == (want is not None), k
        seen[0 if want is None else 1 if want[0] == 0 else 2] += 1
    return seen


def test_every_level_equals_enumeration():
    assert min(compare(31, 2000)) > 200


@pytest.mark.long
def test_every_level_equals_enumeration_long():
    assert min(compare(32, 30_000)) > 4000
    assert min(compare(33, 1500, max_rows=6, max_cols=6)) > 100


def test_dead_links_without_branching():
    """With the branching cut off at once: the count is still the minimum, and the other bounds hold."""
    hard = 0
    for k in range(1500):
        case = before_and_after(np.random.default_rng([34, k]), max_rows=5)
        if case is None:
            continue
        rules, plan, faults = case
        place = rules.placement(faults.shape)
        problem = Problem.build(faults, rules, place)
        if not problem.clauses:
            continue
        old = (plan.core_of[:, :, 1] - np.arange(place.cols) - place.first_col).astype(np.int32)
        found = search(problem, old, node_limit=1)
        want = best_moves(faults, rules, plan.core_of[:, :, 1].tolist())
        assert found.feasible == (want is not None), k
        if want is None:
            continue
        hard += found.method.startswith("CP-SAT")
        assert problem.holds(found.field), k
        assert not problem.broken_clauses(found.field), k
        assert found.value[0] == found.bound[0] == want[0], k
        assert found.bound <= want <= found.value, k
    assert hard > 10


def test_highs_counts_the_same_moves_on_middle_sized_maps():
    moved = []
    for seed in range(12):
        rng = np.random.default_rng([35, seed])
        rules = RowShift(3, 2, 1, (10, 13))
        sites = rng.permutation(10 * 16)[:9]
        cells = np.stack([sites // 16, sites % 16], axis=1)
        plan = plan_repair(FaultMap((10, 16), dead_cores=cells[:3]), rules)
        links = [(2, 5, 1, 0), (6, 7, 0, 1), (7, 9, 1, 1)] if seed % 2 else []
        faults = FaultMap((10, 16), dead_cores=cells, dead_links=links)
        if not plan.repaired:
            continue
        old = plan.core_of[:, :, 1] - np.arange(13)
        after = replan_repair(faults, plan)
        want = highs_skew(faults, rules, old=old)
        assert (values(after) or (None,))[0] == want
        if want is not None:
            assert after.status == "optimal"
            moved.append(want)
    assert len(moved) > 6
    assert max(moved) > 10


def test_invariances():
    """Mirrored maps move as many; a further failure never fewer; one on an unused site none."""
    compared = 0
    for k in range(600):
        rng = np.random.default_rng([36, k])
        case = before_and_after(rng)
        if case is None:
            continue
        rules, plan, faults = case
        after = replan_repair(faults, plan)
        width, cols = rules.logical_shape[1], faults.shape[1]
        if (cols - width - rules.spares) % 2 == 0:
            core = plan.core_of[:, ::-1].copy()
            core[:, :, 1] = cols - 1 - core[:, :, 1]
            other = replan_repair(mirrored(faults), replace(plan, core_of=core))
            assert values(other) == values(after), k
        used = {tuple(site) for site in plan.core_of.reshape(-1, 2).tolist()}
        good = [
            (r, c)
            for r in range(faults.shape[0])
            for c in range(*faults.spans[r].tolist())
            if faults.state(r, c).value == "good"
        ]
        if good and after.repaired:
            worse = replan_repair(faults.with_faults(dead_cores=[good[int(rng.integers(len(good)))]]), plan)
            assert not worse.repaired or values(worse) >= values(after), k
            compared += 1
        idle = [site for site in good if site not in used]
        if idle and check_plan(faults, rules, plan) == []:
            same = replan_repair(faults.with_faults(dead_cores=idle), plan)
            assert (same.core_of == plan.core_of).all(), k
            assert same.level("moved_cores").value == 0, k
            assert same.status == "optimal", k
    assert compared > 100


@pytest.fixture(scope="module")
def wse3():
    wafer, faults = wafer_map(50, 4)
    rules = RowShift.for_wafer(wafer)
    return faults, rules, plan_repair(faults, rules)


@pytest.mark.parametrize("n", [1, 5, 40])
def test_a_whole_wafer_is_planned_anew_and_proven(wse3, n):
    faults, rules, plan = wse3
    rng = np.random.default_rng(n)
    used = plan.core_of.reshape(-1, 2)
    worse = faults.with_faults(dead_cores=used[rng.choice(len(used), n, replace=False)])
    after = replan_repair(worse, plan)
    assert check_replan(worse, rules, after, plan) == []
    assert after.status == "optimal"
    assert n <= after.level("moved_cores").value == len(moved_cores(plan, after)) < 2000 * n
    # A plan from scratch is no better at moves.
    again = plan_repair(worse, rules)
    assert len(moved_cores(plan, again)) > after.level("moved_cores").value
    assert replan_repair(worse, plan).fingerprint == after.fingerprint


def test_dead_links_of_a_whole_wafer(wse3):
    faults, rules, plan = wse3
    rng = np.random.default_rng(2)
    links = []
    for r, c in zip(rng.integers(0, 1169, 12).tolist(), rng.integers(0, 754, 12).tolist(), strict=True):
        here = plan.core_of[r, c]
        there = plan.core_of[r + 1, c] if rng.random() < 0.7 else plan.core_of[r, c + 1]
        links.append((*here.tolist(), *(there - here).tolist()))
    for n in (3, 12):
        worse = faults.with_faults(dead_links=links[:n])
        after = replan_repair(worse, plan)
        assert check_replan(worse, rules, after, plan) == []
        assert after.level("moved_cores").proven
        assert after.level("vertical_reach").proven


def test_a_graph_that_is_too_large_still_has_the_fewest_moves(wse3, monkeypatch):
    faults, rules, plan = wse3
    worse = faults.with_faults(dead_cores=[plan.core_of[300, 300], plan.core_of[700, 20]])
    exact = replan_repair(worse, plan)
    monkeypatch.setattr(incremental_cut, "LARGEST_GRAPH", 0)
    rough = replan_repair(worse, plan)
    assert check_replan(worse, rules, rough, plan) == []
    assert rough.level("moved_cores").proven
    assert values(rough)[0] == values(exact)[0]
    assert rough.level("skew").bound <= values(exact)[3] <= values(rough)[3]


def test_rows_that_move_together():
    """Vertical reach 0: one dead core moves all rows, and the count says so."""
    rules = RowShift(2, 2, 0, (4, 6))
    plan = plan_repair(FaultMap((4, 8)), rules)
    worse = FaultMap((4, 8), dead_cores=[plan.core_of[1, 4]])
    after = replan_repair(worse, plan)
    assert check_replan(worse, rules, after, plan) == []
    assert values(after) == (8, 0, 2, 4)
    assert values(after) == best_moves(worse, rules, plan.core_of[:, :, 1].tolist())


def test_a_lost_fabric_has_a_reason():
    rules = RowShift(1, 2, 1, (3, 6))
    plan = plan_repair(FaultMap((3, 7), dead_cores=[(1, 2)]), rules)
    worse = FaultMap((3, 7), dead_cores=[(1, 2), (1, 5)])
    after = replan_repair(worse, plan)
    assert after.status == "infeasible"
    assert "row 1" in after.certificate["text"]
    assert check_replan(worse, rules, after, plan) == []
    assert replan_repair(FaultMap((3, 7), wafer_killed=True), plan).certificate["kind"] == "wafer_killed"


def test_marginal_cores_stay_in_use():
    rules = RowShift(1, 2, 1, (3, 6))
    plan = plan_repair(FaultMap((3, 7)), rules)
    used = plan.core_of[1, 1].tolist()
    after = replan_repair(FaultMap((3, 7), marginal_cores=[(*used, 0.5)]), plan)
    assert (after.core_of == plan.core_of).all()
    assert after.kept_marginal.tolist() == [used]


def test_the_count_is_checked():
    rules = RowShift(1, 2, 1, (3, 6))
    plan = plan_repair(FaultMap((3, 7)), rules)
    worse = FaultMap((3, 7), dead_cores=[plan.core_of[1, 2]])
    after = replan_repair(worse, plan)
    assert check_replan(worse, rules, after, plan) == []
    wrong = tuple(Level(x.name, 0, 0, 0, "") if x.name == "moved_cores" else x for x in after.levels)
    assert {v.rule for v in check_replan(worse, rules, replace(after, levels=wrong), plan)} == {"objective"}
    assert {v.rule for v in check_replan(worse, rules, plan_repair(worse, rules), plan)} == {"objective"}


def test_plans_that_do_not_belong_are_refused():
    rules = RowShift(2, 2, 1, (4, 6))
    faults = FaultMap((4, 8), dead_cores=[(1, 3)], wafer_id="W01")
    plan = plan_repair(faults, rules)
    none = RepairPlan("infeasible", rules, None, (), {"text": ""}, physical_shape=(4, 8))
    for wrong_map, wrong_plan, more, text in (
        (faults, none, {}, "no map"),
        (faults, replace(plan, rules="lines"), {}, "row shift only"),
        (FaultMap((4, 9)), plan, {}, "sites"),
        (FaultMap((4, 8), wafer_id="W02"), plan, {}, "another wafer"),
        (faults, plan, {"rules": replace(rules, logical_shape=(3, 6))}, "another fabric"),
        (faults, plan, {"rules": replace(rules, skip_reach=1)}, "does not obey"),
        (FaultMap((4, 8), spans=[[3, 8]] * 4), plan, {}, "does not obey"),
    ):
        with pytest.raises(BadInput, match=text):
            replan_repair(wrong_map, wrong_plan, **more)
    with pytest.raises(BadInput, match="with a map"):
        moved_cores(plan, none)
    with pytest.raises(BadInput, match="fabric"):
        moved_cores(plan, plan_repair(FaultMap((3, 8)), RowShift(2)))
