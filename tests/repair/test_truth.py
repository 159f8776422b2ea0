"""Plans against plain enumeration, HiGHS and CP-SAT on tiny fabrics."""

from __future__ import annotations

import numpy as np
import pytest

from tests.repair.oracle import highs_skew, lexicographic, random_case
from yieldkit.faultmap import FaultMap
from yieldkit.repair import RowShift, check_plan, plan_repair
from yieldkit.repair.exact import solve_exactly
from yieldkit.repair.problem import Problem
from yieldkit.repair.propagate import decide
from yieldkit.repair.skew import least_skew
from yieldkit.repair.skewcut import full_range, group_rows, min_cut


def levels(plan):
    if plan.core_of is None:
        return None
    return tuple(plan.level(name).value for name in ("vertical_reach", "skip_reach", "skew"))


def compare(seed, n):
    feasible = 0
    for k in range(n):
        faults, rules = random_case(np.random.default_rng([seed, k]))
        plan = plan_repair(faults, rules)
        want = lexicographic(faults, rules)
        assert check_plan(faults, rules, plan) == [], k
        assert levels(plan) == want, k
        assert plan.status == ("infeasible" if want is None else "optimal"), k
        assert plan.certificate is None if want else plan.certificate["text"], k
        feasible += want is not None
    return feasible


def test_every_level_equals_enumeration():
    assert compare(11, 1500) > 500


@pytest.mark.long
def test_every_level_equals_enumeration_long():
    assert compare(12, 30_000) > 10_000


def test_highs_and_cp_sat_agree_with_the_cut():
    seen = 0
    for k in range(60):
        faults, rules = random_case(np.random.default_rng([13, k]), max_rows=5, max_cols=6)
        problem = Problem.build(faults, rules, rules.placement(faults.shape))
        known = decide(problem).field
        want = highs_skew(faults, rules)
        field, bound, status = solve_exactly(problem)
        if want is None:
            assert known is None
            assert status == "INFEASIBLE"
            continue
        seen += 1
        ours = least_skew(problem, known)
        assert ours.value == ours.bound == want == bound == problem.cost(field)
    assert seen > 20


def test_a_band_holds_valid_plans_and_its_bound_is_one():
    """Without the exact route: every field satisfies everything and lies at or above the proven bound."""
    above = 0
    for k in range(200):
        faults, rules = random_case(np.random.default_rng([14, k]), max_rows=6, max_cols=7)
        problem = Problem.build(faults, rules, rules.placement(faults.shape))
        known = decide(problem).field
        if known is None or problem.v == 0:
            continue
        exact = least_skew(problem, known)
        band = least_skew(problem, known, full_graph_nodes=-1)
        assert problem.holds(band.field)
        assert not problem.broken_clauses(band.field)
        assert band.bound <= exact.value <= band.value, k
        above += band.value > exact.value
    assert above < 20


def test_the_band_is_near_the_minimum_of_middle_sized_maps():
    """48 x 64 with 6 to 9 dead cores: mean and worst ratio of the band to the whole graph, measured on these seeds."""
    ratios = []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        cells = rng.choice(48 * 68, 6 + seed % 4, replace=False)
        faults = FaultMap((48, 68), dead_cores=np.stack([cells // 68, cells % 68], axis=1))
        rules = RowShift(spares=4).placed(faults)
        problem = Problem.build(faults, rules, rules.placement(faults.shape))
        known = decide(problem).field
        assert known is not None
        whole = least_skew(problem, known)
        band = least_skew(problem, known, full_graph_nodes=0)
        assert whole.value == whole.bound
        assert band.bound <= whole.value <= band.value
        ratios.append(band.value / whole.value)
    assert np.mean(ratios) < 1.02
    assert max(ratios) < 1.15


def test_the_relaxed_cut_is_a_bound_and_the_strict_one_a_plan():
    for k in range(150):
        faults, rules = random_case(np.random.default_rng([15, k]), links=False, max_rows=6)
        problem = Problem.build(faults, rules, rules.placement(faults.shape))
        known = decide(problem).field
        if known is None or problem.v == 0:
            continue
        groups = group_rows(problem)
        x, _ = min_cut(problem, groups, *full_range(problem, groups), relaxed=True)
        assert x is not None
        exact = least_skew(problem, known)
        assert exact.value == exact.bound


def closed_form(height, width, n_faults):
    """P = C(H, F) (W+1)^F / C(H(W+1), F): no two faults share a row."""
    from math import exp, lgamma, log

    def choose(n, k):
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    return exp(choose(height, n_faults) + n_faults * log(width + 1) - choose(height * (width + 1), n_faults))


@pytest.mark.parametrize(("n_faults", "published"), [(20, 0.7985), (50, 0.2302)])
def test_one_spare_a_row_closed_form(n_faults, published):
    """S = 1: every row by itself (a vertical reach of 1 never binds), repaired iff no two faults share a row.

    Goldens for 850 x 1180: the formula above; checked here by the decision on drawn maps, 5 sigma, and with a wrong
    rule (S = 2) as the negative control.
    """
    height, width, n = 850, 1180, 300
    assert closed_form(height, width, n_faults) == pytest.approx(published, abs=5e-5)
    rng = np.random.default_rng(5)
    repaired = {1: 0, 2: 0}
    for _ in range(n):
        cells = rng.choice(height * (width + 1), n_faults, replace=False)
        for spares in repaired:
            sites = np.stack([cells // (width + 1), cells % (width + 1)], axis=1)
            faults = FaultMap((height, width + spares), dead_cores=sites)
            rules = RowShift(spares=spares).placed(faults)
            repaired[spares] += bool(decide(Problem.build(faults, rules, rules.placement(faults.shape))).feasible)
    tolerance = 5 * (n * published * (1 - published)) ** 0.5
    assert abs(repaired[1] - n * published) < tolerance
    assert abs(repaired[2] - n * published) > tolerance
