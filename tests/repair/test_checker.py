"""The checker must catch every way in which a plan can be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yieldkit.faultmap import FaultMap
from yieldkit.repair import Level, RowShift, check_plan, plan_repair

FAULTS = FaultMap((5, 9), dead_cores=[(1, 3)], dead_routers=[(3, 6)], dead_links=[(2, 0, 1, 0)])
RULES = RowShift(spares=3)


@pytest.fixture(scope="module")
def plan():
    answer = plan_repair(FAULTS, RULES)
    assert check_plan(FAULTS, RULES, answer) == []
    return answer


def rules_broken(plan, core, rules=RULES, faults=FAULTS):
    return {v.rule for v in check_plan(faults, rules, replace(plan, core_of=np.asarray(core, np.int32)))}


def nominal(offset=0):
    core = np.empty((5, 6, 2), np.int32)
    core[:, :, 0] = np.arange(5)[:, None]
    core[:, :, 1] = np.arange(6) + offset
    return core


def test_dead_core_and_dead_router_in_use(plan):
    assert "core" in rules_broken(plan, nominal(1))


def test_two_logical_cores_on_one_physical(plan):
    core = plan.core_of.copy()
    core[0, 1] = core[0, 0]
    assert {"core", "row link"} <= rules_broken(plan, core)


def test_links_shared(plan):
    core = plan.core_of.copy()
    core[1] = core[0]
    assert {"core", "vertical link", "link sharing"} <= rules_broken(plan, core)


def test_reach_along_the_row_and_between_rows(plan):
    core = nominal()
    core[0, 3:, 1] += 2
    assert {"row link", "vertical link"} <= rules_broken(plan, core)
    assert "row link" not in rules_broken(plan, core, RowShift(spares=3, skip_reach=3))


def test_dead_link_in_use(plan):
    assert "dead link" in rules_broken(plan, nominal())


def test_site_outside_absent_or_beyond_the_edge(plan):
    core = plan.core_of.copy()
    core[0, 5, 1] = 9
    assert "core" in rules_broken(plan, core)
    edge = FaultMap((5, 9), spans=[[2, 9]] + [[0, 9]] * 4, absent=[(4, 4)])
    found = {str(v) for v in check_plan(edge, RULES, replace(plan, core_of=nominal()))}
    assert any("beyond the wafer's edge" in text for text in found)
    assert any("is absent" in text for text in found)


def test_outside_the_spares(plan):
    wide = FaultMap((5, 11))
    assert "spares" in {v.rule for v in check_plan(wide, RULES, replace(plan, core_of=nominal(0)))}
    assert "spares" not in {v.rule for v in check_plan(wide, RULES, replace(plan, core_of=nominal(1)))}


@pytest.mark.parametrize("name", ["missing_cores", "vertical_reach", "skip_reach", "dropped_lines", "skew"])
@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_objective_values(plan, name, change):
    def altered(level: Level) -> Level:
        return replace(level, value=level.value + change, bound=level.bound + change) if level.name == name else level

    wrong = replace(plan, levels=tuple(altered(level) for level in plan.levels))
    assert "objective" in {v.rule for v in check_plan(FAULTS, RULES, wrong)}


def test_missing_level_bound_above_value_and_status(plan):
    assert "objective" in {v.rule for v in check_plan(FAULTS, RULES, replace(plan, levels=plan.levels[:-1]))}
    last = plan.levels[-1]
    high = replace(plan, levels=(*plan.levels[:-1], replace(last, bound=last.value + 1)))
    assert {v.rule for v in check_plan(FAULTS, RULES, high)} == {"objective", "status"}
    low = replace(plan, levels=(*plan.levels[:-1], replace(last, bound=last.value - 1)))
    assert {v.rule for v in check_plan(FAULTS, RULES, low)} == {"status"}
    assert check_plan(FAULTS, RULES, replace(low, status="feasible")) == []
    assert {v.rule for v in check_plan(FAULTS, RULES, replace(plan, status="infeasible"))} == {"status"}
    assert {v.rule for v in check_plan(FAULTS, RULES, replace(plan, core_of=None))} == {"status"}
    none = replace(plan, core_of=None, status="infeasible")
    assert {v.rule for v in check_plan(FAULTS, RULES, none)} == {"status"}


def test_wrong_shape_and_lost_wafer(plan):
    assert {v.rule for v in check_plan(FAULTS, replace(RULES, logical_shape=(4, 6)), plan)} == {"shape"}
    killed = FaultMap((5, 9), wafer_killed=True)
    assert "wafer" in {v.rule for v in check_plan(killed, RULES, plan)}


def test_many_violations_are_counted_not_listed(plan):
    rows = [(r, c) for r in range(5) for c in range(9)]
    found = check_plan(FaultMap((5, 9), spans=[[0, 0]] * 5), RULES, plan)
    assert len(found) < len(rows)
    assert any("more of this kind" in v.text for v in found)
