"""The checker of plans by lines must catch every way in which one can be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yieldkit.faultmap import FaultMap
from yieldkit.repair import Level, LineSpares, RowShift, check_plan, plan_repair

FAULTS = FaultMap((8, 9), dead_cores=[(1, 3)], dead_routers=[(5, 6)], dead_links=[(3, 0, 1, 0)], absent=[(6, 3)])
RULES = LineSpares(3, 2)


@pytest.fixture(scope="module")
def plan():
    answer = plan_repair(FAULTS, RULES)
    assert check_plan(FAULTS, RULES, answer) == []
    assert answer.bypassed_cols.tolist() == [3, 6]
    assert answer.bypassed_rows.tolist() in ([3], [4])
    return answer


def broken(plan, rules=RULES, faults=FAULTS, **changes):
    arrays = {name: np.asarray(value, np.int32) for name, value in changes.items()}
    return {v.rule for v in check_plan(faults, rules, replace(plan, **arrays))}


def rows(*lines):
    return {"row_map": lines}


def test_order_block_and_lines_used_twice(plan):
    good = plan.row_map.tolist()
    assert "order" in broken(plan, row_map=[good[1], good[0], *good[2:]])
    assert "order" in broken(plan, row_map=[good[0], good[0], *good[2:]])
    assert "block" in broken(plan, row_map=[*good[:-1], 8])
    assert "block" in broken(plan, bypassed_rows=[3, 11])
    assert "bypass" in broken(plan, bypassed_rows=[3, 3])
    assert "bypass" in broken(plan, bypassed_rows=[good[0]])


def test_more_lines_than_allowed(plan):
    assert "budget" in broken(plan, rules=LineSpares(0, 2, plan.logical_shape), bypassed_rows=[3, 4, 7])
    assert "budget" in broken(plan, bypassed_cols=[0, 3, 6], col_map=[1, 2, 4, 5, 7, 8, 8])


def test_a_fault_in_use_and_one_that_no_line_covers(plan):
    # Column 3 is used again: the dead core in row 1 and the absent site in row 6 lie on used lines.
    found = broken(plan, col_map=[0, 1, 2, 3, 4, 5, 7], bypassed_cols=[6])
    assert {"core"} <= found
    # Not used, but not bypassed either: the dead core at (1, 3) is on a line that counts as a spare.
    shifted = FAULTS.with_faults(dead_cores=[(7, 8)])
    assert "cover" in broken(plan, faults=shifted)


def test_dead_link_in_use_and_uncovered(plan):
    other = FAULTS.with_faults(dead_links=[(0, 0, 0, 1)])
    assert "dead link" in broken(plan, faults=other)
    spare = FAULTS.with_faults(dead_links=[(6, 8, 1, 0)])
    assert "cover" in broken(plan, faults=spare) or "dead link" in broken(plan, faults=spare)
    # Links of other lengths do not exist here.
    assert broken(plan, faults=FAULTS.with_faults(dead_links=[(0, 0, 0, 2), (0, 0, 1, 1)])) == set()


def test_a_link_over_a_line_that_is_not_bypassed(plan):
    good = plan.row_map.tolist()
    assert "link" in broken(plan, row_map=[*good[:-1], 7])


def test_beyond_the_wafers_edge(plan):
    span = np.tile([0, 9], (8, 1))
    span[0] = [1, 9]
    edge = FaultMap((8, 9), spans=span)
    found = {str(v) for v in check_plan(edge, RULES, plan)}
    assert any("absent sites in use" in text for text in found)


@pytest.mark.parametrize("name", ["missing_cores", "dropped_lines", "dropped_rows"])
@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_objective_values(plan, name, change):
    def altered(level: Level) -> Level:
        return replace(level, value=level.value + change, bound=level.bound + change) if level.name == name else level

    wrong = replace(plan, levels=tuple(altered(level) for level in plan.levels))
    assert "objective" in {v.rule for v in check_plan(FAULTS, RULES, wrong)}


def test_status_shape_kind_and_lost_wafer(plan):
    def rules_of(**changes):
        return {v.rule for v in check_plan(FAULTS, RULES, replace(plan, **changes))}

    assert rules_of(status="infeasible") == {"status"}
    assert rules_of(row_map=None) == {"status"}
    assert rules_of(row_map=None, status="infeasible") == {"status"}
    assert rules_of(row_map=plan.row_map[:-1]) == {"shape"}
    assert "wafer" in broken(plan, faults=FaultMap((8, 9), wafer_killed=True))
    shift = plan_repair(FaultMap((8, 9)), RowShift(spares=2))
    assert {v.rule for v in check_plan(FAULTS, RULES, shift)} == {"rules"}


def test_a_map_of_cores_that_says_something_else(plan):
    wrong = replace(plan)
    core = wrong.core_of.copy()
    core[0, 0, 1] += 1
    object.__setattr__(wrong, "core_of", core)
    assert {v.rule for v in check_plan(FAULTS, RULES, wrong)} == {"core"}


def test_false_reasons_are_refused():
    sites = [(0, 0), (1, 1), (2, 2), (3, 3)]
    faults = FaultMap((6, 6), dead_cores=sites)
    rules = LineSpares(1, 2)
    plan = plan_repair(faults, rules)
    assert plan.certificate["kind"] == "matching"
    assert check_plan(faults, rules, plan) == []
    facts = plan.certificate
    listed = facts["faults"]
    for wrong in (
        {"faults": listed[:-1]},
        {"faults": [*listed[:-1], listed[0]]},
        {"faults": [*listed[:-1], [5, 5, 1]]},
        {"faults": [*listed[:-1], [99, 0, 1]]},
        {"faults": [*listed, [3, 3, -1]]},
        {"kind": "must_repair", "forced": []},
        {"forced": [{"line": "row", "index": 0, "across": 2}]},
    ):
        found = check_plan(faults, rules, replace(plan, certificate={**facts, **wrong}))
        assert {v.rule for v in found} == {"certificate"}, wrong


def test_forced_lines_are_replayed():
    faults = FaultMap((6, 9), dead_cores=[(r, c) for r in (1, 3) for c in range(5)])
    rules = LineSpares(1, 2)
    plan = plan_repair(faults, rules)
    assert check_plan(faults, rules, plan) == []
    forced = [{"line": "row", "index": r, "across": 2, "faults": 5} for r in (1, 3)]
    good = replace(plan, certificate={"kind": "must_repair", "forced": forced})
    assert check_plan(faults, rules, good) == []
    for steps in (
        forced[:1],
        [forced[0], forced[0]],
        [forced[0], {**forced[1], "index": 2}],
        [{**forced[0], "index": 6}],
    ):
        wrong = replace(plan, certificate={"kind": "must_repair", "forced": steps})
        assert {v.rule for v in check_plan(faults, rules, wrong)} == {"certificate"}
