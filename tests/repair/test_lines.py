"""Line spares against plain enumeration, HiGHS and CP-SAT; golden pairs, invariances, limits, files."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import yieldkit.repair.cover_curves as curves_module
from tests.repair.lines_oracle import cp_sat_fewest, curve, highs_fewest, pareto, random_lines, region
from yieldkit.errors import BadFile, BadInput
from yieldkit.fabric import Fabric, FirmwareImage
from yieldkit.faultmap import FaultMap
from yieldkit.repair import LinePlan, LineSpares, RepairPlan, check_plan, plan_repair, repair_frontier
from yieldkit.repair.linecover import Limit, fewest_cols
from yieldkit.repair.lines import build, parts_of, whole
from yieldkit.repair.linesolve import plan_lines
from yieldkit.wafer import WaferSpec


def drawn(rows, cols, n, seed):
    cells = np.random.default_rng(seed).choice(rows * cols, n, replace=False)
    return FaultMap((rows, cols), dead_cores=np.stack([cells // cols, cells % cols], axis=1))


def clustered(size, n, clusters, spread, seed):
    rng = np.random.default_rng(seed)
    centre = rng.integers(0, size, (clusters, 2))
    sites = centre[rng.integers(0, clusters, n)] + np.rint(rng.normal(0, spread, (n, 2))).astype(int)
    return FaultMap((size, size), dead_cores=np.unique(np.clip(sites, 0, size - 1), axis=0))


def values(plan):
    return (plan.level("dropped_lines").value, plan.level("dropped_rows").value) if plan.repaired else None


def test_the_five_faults_of_a_published_exhaustive_solver():
    faults = FaultMap((10, 10), dead_cores=[(1, 7), (1, 8), (2, 1), (3, 5), (3, 7)])
    found = repair_frontier(faults)
    assert sorted(found.pairs, reverse=True) == [(3, 0), (2, 1), (1, 3), (0, 4)]
    assert found.proven
    assert found.allows(2, 1)
    assert not found.allows(2, 0)
    for rows in range(5):
        for cols in range(6):
            plan = plan_repair(faults, LineSpares(rows, cols))
            assert plan.repaired == found.allows(rows, cols)
            assert check_plan(faults, plan.rules, plan) == []


def compare(seed, n, most):
    """Every point of the frontier, feasibility and both levels of a plan, against every subset of lines."""
    seen = Counter()
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        faults = random_lines(rng, most=most)
        rows, cols = faults.shape
        found = repair_frontier(faults)
        assert found.pairs == pareto(curve(faults, range(rows), range(cols))), k
        assert found.proven, k
        spare_rows, spare_cols = int(rng.integers(0, rows)), int(rng.integers(0, cols))
        shape = (int(rng.integers(1, rows - spare_rows + 1)), int(rng.integers(1, cols - spare_cols + 1)))
        rules = LineSpares(spare_rows, spare_cols, shape if rng.random() < 0.5 else None)
        plan = plan_repair(faults, rules)
        assert check_plan(faults, rules, plan) == [], k
        block_rows, block_cols = region(faults, plan.rules)
        height, width = plan.logical_shape
        budget = min(spare_rows, len(block_rows) - height), min(spare_cols, len(block_cols) - width)
        fits = [
            (r + c, r) for r, c in enumerate(curve(faults, block_rows, block_cols)) if r <= budget[0] and c <= budget[1]
        ]
        assert values(plan) == min(fits, default=None), k
        assert plan.status == ("optimal" if fits else "infeasible"), k
        seen[plan.certificate["kind"] if plan.certificate else "plan"] += 1
    return seen


def test_everything_equals_enumeration():
    seen = compare(41, 1500, 5)
    assert min(seen[kind] for kind in ("plan", "matching", "must_repair", "search")) > 10


def test_everything_equals_enumeration_by_the_route_of_large_parts(monkeypatch):
    monkeypatch.setattr(curves_module, "_ENUMERATED", 0)
    monkeypatch.setattr(curves_module, "_tree", None)
    monkeypatch.setattr(curves_module, "easy_curve", lambda part: None)
    seen = compare(42, 400, 5)
    assert min(seen[kind] for kind in ("plan", "matching", "must_repair")) > 10


@pytest.mark.long
def test_everything_equals_enumeration_long():
    assert compare(43, 20_000, 6)["plan"] > 3000


def test_trees_and_enumeration_and_cuts_give_one_curve():
    """Parts of 11 to 14 lines a side by all the routes that take them."""
    trees = 0
    for k in range(30):
        faults = drawn(14, 14, 14, [44, k])
        lines = build(faults, LineSpares(1, 1).placed(faults).region(faults.shape), budget_cols=14)
        for part in parts_of(lines):
            easy = curves_module.easy_curve(part)
            cuts = [fewest_cols(part, r, 0, len(part.cols) + 1, Limit(5.0)) for r in range(len(easy.high))]
            assert [low for low, _ in cuts] == [high for _, high in cuts] == easy.high.tolist()
            if len(part.pairs) == len(part.rows) + len(part.cols) - 1:
                trees += 1
                assert curves_module._tree(part).tolist() == easy.high.tolist()
    assert trees > 30


def test_highs_and_cp_sat_agree_on_middle_sized_maps():
    seen = Counter()
    for k in range(24):
        size, n = [(24, 40), (32, 70), (40, 60)][k % 3]
        faults = drawn(size, size, n, [45, k])
        rng = np.random.default_rng([46, k])
        points = repair_frontier(faults).points
        point = points[int(rng.integers(len(points)))]
        for rows, cols in ((point.rows, point.cols), (point.rows, point.cols - 1), (point.rows + 2, point.cols + 1)):
            if not (0 <= cols < size and rows < size):
                continue
            plan = plan_repair(faults, LineSpares(rows, cols))
            want = highs_fewest(faults, rows, cols)
            assert (values(plan) or (None,))[0] == want == cp_sat_fewest(faults, rows, cols)[0]
            assert check_plan(faults, plan.rules, plan) == []
            assert plan.status == ("infeasible" if want is None else "optimal")
            seen[plan.certificate["kind"] if plan.certificate else "plan"] += 1
    assert seen["plan"] > 20
    assert sum(seen.values()) - seen["plan"] > 10


def test_a_packing_proves_what_a_matching_cannot():
    """Rows of three bad sites each: few disjoint sites, but every row costs one spare row or three spare columns."""
    sites = [(r, 3 * r + c) for r in range(6) for c in range(3)]
    faults = FaultMap((6, 18), dead_cores=sites)
    plan = plan_repair(faults, LineSpares(2, 5))
    assert plan.certificate["kind"] in ("packing", "matching")
    plan = plan_repair(faults, LineSpares(3, 8))
    assert plan.certificate["kind"] == "packing"
    assert check_plan(faults, plan.rules, plan) == []
    weaker = {**plan.certificate, "faults": plan.certificate["faults"][1:]}
    assert {v.rule for v in check_plan(faults, plan.rules, replace(plan, certificate=weaker))} == {"certificate"}
    assert plan_repair(faults, LineSpares(3, 9)).status == "optimal"


def test_64_lines_with_200_faults_are_proven():
    """The trap: without an LP a CP-SAT of few workers does not prove these; all points of the frontier are proven."""
    faults = drawn(64, 64, 200, 1)
    found = repair_frontier(faults)
    assert found.proven
    middle = min(found, key=lambda point: abs(point.rows - point.cols))
    plan = plan_repair(faults, LineSpares(middle.rows, middle.cols))
    assert plan.status == "optimal"
    assert plan.objective == plan.bound == highs_fewest(faults, middle.rows, middle.cols)
    none = plan_repair(faults, LineSpares(middle.rows, middle.cols - 1))
    assert none.status == "infeasible"
    facts = none.certificate
    if facts["kind"] == "search":
        assert len(facts["by_rows"]) == facts["spare_rows"] + 1
        assert all(entry["cols"] >= facts["least_cols"] > facts["spare_cols"] for entry in facts["by_rows"])


def turned(faults):
    return FaultMap(
        faults.shape[::-1],
        dead_cores=faults.dead_cores[:, ::-1],
        dead_routers=faults.dead_routers[:, ::-1],
        dead_links=faults.dead_links[:, [1, 0, 3, 2]],
        absent=faults.absent[:, ::-1],
    )


def mirrored(faults):
    cols = faults.shape[1]

    def flip(sites):
        return [(r, cols - 1 - c) for r, c in sites.tolist()]

    return FaultMap(
        faults.shape,
        dead_cores=flip(faults.dead_cores),
        dead_routers=flip(faults.dead_routers),
        absent=flip(faults.absent),
        dead_links=[(r, cols - 1 - c, dr, -dc) for r, c, dr, dc in faults.dead_links.tolist()],
    )


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(0, 10**6))
def test_turning_and_mirroring_change_nothing(seed):
    faults = random_lines(np.random.default_rng([47, seed]), most=8, spans=False)
    pairs = repair_frontier(faults).pairs
    assert sorted((c, r) for r, c in repair_frontier(turned(faults)).pairs) == pairs
    assert repair_frontier(mirrored(faults)).pairs == pairs
    rows, cols = faults.shape[0] // 2, faults.shape[1] // 3
    plan, other = plan_repair(faults, LineSpares(rows, cols)), plan_repair(turned(faults), LineSpares(cols, rows))
    assert plan.objective == other.objective
    assert plan.status == other.status


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(0, 10**6))
def test_a_spare_never_hurts_and_a_fault_never_helps(seed):
    rng = np.random.default_rng([48, seed])
    faults = random_lines(rng, most=8)
    rows, cols = faults.shape
    spare_rows, spare_cols = int(rng.integers(0, rows)), int(rng.integers(0, cols))
    rules = LineSpares(spare_rows, spare_cols, (rows - spare_rows, cols - spare_cols))

    def cost(fault_map, given):
        plan = plan_repair(fault_map, given)
        assert check_plan(fault_map, given, plan) == []
        return values(plan)[0] if plan.repaired else rows + cols

    before = cost(faults, rules)
    if spare_rows + 1 < rows:
        assert cost(faults, LineSpares(spare_rows + 1, spare_cols)) <= before
    if spare_cols + 1 < cols:
        assert cost(faults, LineSpares(spare_rows, spare_cols + 1)) <= before
    good = [(r, c) for r in range(rows) for c in range(cols) if faults.state(r, c).value == "good"]
    if good:
        worse = faults.with_faults(dead_cores=[good[int(rng.integers(len(good)))]])
        assert cost(worse, rules) >= before


def test_capped_frontiers_are_cut_from_the_whole():
    faults = drawn(30, 30, 60, 6)
    pairs = repair_frontier(faults).pairs
    some = repair_frontier(faults, most_rows=14, most_cols=16).pairs
    assert some == [(r, c) for r, c in pairs if r <= 14 and c <= 16]
    with pytest.raises(BadInput, match="most_rows"):
        repair_frontier(faults, most_rows=-1)
    assert repair_frontier(FaultMap((5, 5), wafer_killed=True)).pairs == []
    assert repair_frontier(FaultMap((5, 5))).pairs == [(0, 0)]
    frame = repair_frontier(faults).to_frame()
    assert list(zip(frame["rows"], frame["cols"], strict=True)) == pairs
    assert frame["proven"].all()


def test_limits_give_a_plan_with_its_bound_and_never_hang():
    faults = drawn(128, 128, 600, 1)
    rules = LineSpares(75, 75).placed(faults)
    plan = plan_lines(faults, rules, deterministic_limit=1e-6)
    again = plan_lines(faults, rules, deterministic_limit=1e-6)
    assert plan.status in ("feasible", "unknown")
    assert plan.fingerprint == again.fingerprint
    assert check_plan(faults, rules, plan) == []
    if plan.repaired:
        assert plan.bound < plan.objective
    else:
        assert plan.certificate["kind"] == "limit"
    found = repair_frontier(faults, deterministic_limit=0.0)
    assert not found.proven
    assert all(point.cols_bound <= point.cols for point in found)


def test_results_are_the_same_on_every_run():
    for faults in (drawn(64, 64, 200, 2), clustered(512, 300, 6, 12, 3)):
        point = repair_frontier(faults).points
        middle = point[len(point) // 2]
        rules = LineSpares(middle.rows, middle.cols)
        assert plan_repair(faults, rules).fingerprint == plan_repair(faults, rules).fingerprint


@pytest.mark.parametrize("kind", ["uniform", "clustered"])
def test_8192_lines_with_2000_faults_cost_by_the_fault(kind):
    faults = drawn(8192, 8192, 2000, 1) if kind == "uniform" else clustered(8192, 2000, 20, 30, 1)
    plan = plan_repair(faults, LineSpares(1000, 1000))
    assert plan.status == "optimal"
    assert check_plan(faults, plan.rules, plan) == []
    # The map of every core is made only when it is asked for.
    assert "core_of" not in vars(plan)
    assert plan.repaired
    assert len(plan.row_map) == 7192
    rows, cols = plan.spare_lines
    assert len(rows) + len(cols) + plan.objective == 2000
    lines = build(faults, plan.region, budget_cols=1000)
    part = whole(lines)
    assert len(part.pairs) == len(faults.dead_cores)


def test_by_hand_with_links_idle_lines_and_maps():
    faults = FaultMap((5, 6), dead_cores=[(1, 2)], dead_links=[(3, 4, 1, 0), (0, 0, 0, 2)])
    rules = LineSpares(2, 2)
    plan = plan_repair(faults, rules)
    assert isinstance(plan, LinePlan)
    # Two columns cost as many lines as two rows; the tie goes to fewer rows. The longer link is no link here.
    assert values(plan) == (2, 0)
    assert plan.bypassed_cols.tolist() == [2, 4]
    assert plan.col_map.tolist() == [0, 1, 3, 5]
    assert plan.row_map.tolist() == [0, 1, 2]
    assert [x.tolist() for x in plan.spare_lines] == [[3, 4], []]
    assert plan.core_of.shape == (3, 4, 2)
    assert plan.core_of[2, 3].tolist() == [2, 5]
    assert plan.stretched_links == 2 * 3
    assert plan.core_of is plan.core_of
    with pytest.raises(AttributeError):
        _ = plan.nothing
    assert "optimal" in plan._repr_html_()
    assert "dropped lines" in plan.summary()
    assert repr(plan) == "RepairPlan(optimal, 3x4, objective=2, bound=2)"


def test_marginal_cores_are_avoided_by_risk_while_spares_last():
    faults = FaultMap((6, 6), dead_cores=[(0, 0)], marginal_cores=[(2, 2, 0.9), (3, 3, 0.5), (4, 4, 0.1)])
    rules = LineSpares(1, 2)
    plan = plan_repair(faults, rules)
    assert plan.bypassed_marginal.tolist() == [[2, 2], [3, 3]]
    assert plan.kept_marginal.tolist() == [[4, 4]]
    kept = plan_repair(faults, rules, marginal="keep")
    assert values(kept) == (1, 0)
    assert check_plan(faults, rules, plan) == check_plan(faults, rules, kept) == []


def test_a_wafers_edge_and_holes_count_as_faults():
    wafer = WaferSpec.preset("mini")
    faults = FaultMap.for_wafer(wafer)
    rules = LineSpares.for_wafer(wafer)
    assert (rules.rows, rules.cols) == (2, 4)
    plan = plan_repair(faults, rules)
    assert check_plan(faults, rules, plan) == []
    small = LineSpares(6, 6)
    plan = plan_repair(faults, small, logical_shape=(12, 12))
    assert plan.repaired
    assert check_plan(faults, plan.rules, plan) == []
    # A row that hardly exists: its absent sites are not listed one by one.
    span = np.tile([0, 400], (50, 1))
    span[10] = [390, 400]
    clipped = FaultMap((50, 400), spans=span)
    plan = plan_repair(clipped, LineSpares(1, 3))
    assert plan.bypassed_rows.tolist() == [10]
    assert plan_repair(clipped, LineSpares(0, 3)).certificate["kind"] in ("must_repair", "matching")
    assert check_plan(clipped, LineSpares(0, 3), plan_repair(clipped, LineSpares(0, 3))) == []


def test_files_round_trip_and_refuse_damage(tmp_path):
    faults = FaultMap((8, 9), dead_cores=[(1, 3), (4, 5)], marginal_cores=[(2, 2, 0.5)], wafer_id="W01")
    plan = plan_repair(faults, LineSpares(2, 3))
    path = plan.save(tmp_path / "plan.json")
    for cls in (RepairPlan, LinePlan):
        again = cls.load(path)
        assert isinstance(again, LinePlan)
        assert again.fingerprint == plan.fingerprint
        assert again.levels == plan.levels
        assert (again.core_of == plan.core_of).all()
    facts = json.loads(path.read_text())
    for wrong in (
        {"version": 2},
        {"lines": {**facts["lines"], "row_map": [[0, 1]]}},
        {"lines": {**facts["lines"], "col_map": [[0, -1], [3, 7]]}},
        {"lines": {"row_map": []}},
        {"rules": {"architecture": "magic"}},
        {"rules": {**facts["rules"], "architecture": "row_shift"}},
    ):
        path.write_text(json.dumps({**facts, **wrong}))
        with pytest.raises(BadFile):
            RepairPlan.load(path)
    none = plan_repair(faults, LineSpares(0, 0))
    assert RepairPlan.load(none.save(path)).certificate == none.certificate


def test_the_image_ships_columns_and_refuses_rows_in_between():
    faults = FaultMap((8, 9), dead_cores=[(1, 3), (4, 5)], wafer_id="W01")
    plan = plan_repair(faults, LineSpares(0, 2))
    image = FirmwareImage.from_bytes(plan.firmware().data)
    assert (image.skip_reach, image.vertical_reach, image.first_row) == (2, 0, 0)
    assert (image.columns == plan.col_map).all()
    wafer = WaferSpec.preset("mini")
    on_wafer = FaultMap.for_wafer(wafer, dead_cores=[(10, 6)], wafer_id="W02")
    block = LineSpares(0, 4, (10, 10), 5, 4)
    shipped = plan_repair(on_wafer, block)
    assert shipped.repaired
    fabric = Fabric.boot(FirmwareImage.from_bytes(shipped.firmware().data), wafer, wafer_id="W02")
    assert (fabric.core_of == shipped.core_of).all()
    middle = plan_repair(faults, LineSpares(2, 0))
    with pytest.raises(BadInput, match="between two used ones"):
        middle.firmware()
    with pytest.raises(BadInput, match="no map to ship"):
        plan_repair(faults, LineSpares(0, 0)).firmware()


@pytest.mark.parametrize("wrong", [(-1, 0), (0, 1.5), (True, 0), (0, 0, (0, 3)), (0, 0, (3, 3), -1)])
def test_rules_refuse_nonsense(wrong):
    with pytest.raises(BadInput):
        LineSpares(*wrong)


def test_rules_refuse_a_fabric_that_does_not_fit():
    with pytest.raises(BadInput, match="do not fit"):
        plan_repair(FaultMap((4, 6)), LineSpares(1, 1, (4, 7)))
    with pytest.raises(BadInput, match="leaves no fabric"):
        plan_repair(FaultMap((4, 6)), LineSpares(4, 1))
    with pytest.raises(BadInput, match="another wafer"):
        plan_repair(FaultMap.for_wafer(WaferSpec.preset("mini")), LineSpares(1, 1), wafer=WaferSpec.preset("wse1"))


def test_a_lost_wafer_is_a_result():
    plan = plan_repair(FaultMap((4, 6), wafer_killed=True), LineSpares(1, 1))
    assert plan.certificate["kind"] == "wafer_killed"
    assert check_plan(FaultMap((4, 6), wafer_killed=True), LineSpares(1, 1), plan) == []
    assert {v.rule for v in check_plan(FaultMap((4, 6)), LineSpares(1, 1), plan)} == {"certificate"}


def test_yield_with_line_spares_counts_the_same_wafers():
    from yieldkit.defects import Poisson
    from yieldkit.repair import repair_yield

    wafer = WaferSpec.preset("mini")
    few, many = (repair_yield(wafer, Poisson(d0_per_cm2=0.3), LineSpares(n, n, (12, 12)), n=60, rng=3) for n in (1, 4))
    assert few.perfect == many.perfect
    assert few.repaired <= many.repaired
    assert many.repaired > 0
