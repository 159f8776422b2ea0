"""Figures of repair and boot: `figures()` measures them; run alone with `python -m tests.bench.repair`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from yieldkit.defects import NegativeBinomial
from yieldkit.fabric import Fabric, FirmwareImage
from yieldkit.faultmap import FaultMap
from yieldkit.repair import (
    LineSpares,
    RepairPlan,
    RowShift,
    check_plan,
    check_replan,
    moved_cores,
    plan_repair,
    repair_frontier,
    repair_yield,
    replan_repair,
)
from yieldkit.repair.exact import solve_exactly
from yieldkit.repair.problem import Problem
from yieldkit.repair.propagate import decide
from yieldkit.repair.skew import least_skew
from yieldkit.repair.thresholds import Decider
from yieldkit.wafer import WaferSpec

COMMAND = "python -m tests.bench.repair"
ROWS, COLS, SPARES = 1180, 850, 4
YIELD_MAPS = 2000


def dead_cores(rows: int, cols: int, n: int, seed: int) -> FaultMap:
    """A grid with `n` dead cores drawn without replacement."""
    cells = np.random.default_rng(seed).choice(rows * cols, n, replace=False)
    return FaultMap((rows, cols), dead_cores=np.stack([cells // cols, cells % cols], axis=1))


def dead_of(wafer: WaferSpec, present: Any, n: int, seed: int) -> FaultMap:
    """A map of a wafer with `n` dead cores."""
    sites = present[np.random.default_rng(seed).choice(len(present), n, replace=False)]
    return FaultMap.for_wafer(wafer, dead_cores=sites)


def fastest(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """(seconds of the fastest of some runs, result of the last)."""
    times, result = [], None
    for _ in range(repeats):
        begin = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - begin)
    return min(times), result


def row(name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None) -> dict[str, Any]:
    """One figure; the ratio is above 1 where we are faster than the peer."""
    ratio = None if peer_value is None else value / peer_value if "/s" in unit else peer_value / value
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": peer or None,
        "peer_value": peer_value,
        "ratio": ratio,
        "command": COMMAND,
    }


def figures() -> list[dict[str, Any]]:
    """Decision, plan, peers, boot and image size; everything compiled is warm."""
    plan_repair(dead_cores(6, 9, 2, 1), RowShift(spares=2))
    rules = RowShift(spares=SPARES)
    fifty = dead_cores(ROWS, COLS + SPARES, 50, 1)
    placed = rules.placed(fifty)
    problem = Problem.build(fifty, placed, placed.placement(fifty.shape))
    decide_s, _ = fastest(lambda: decide(problem))
    hundred = dead_cores(ROWS, COLS + SPARES, 100, 2)

    def plan_and_check() -> bool:
        plan = plan_repair(hundred, rules)
        return plan.repaired and not check_plan(hundred, rules, plan)

    plan_s, holds = fastest(plan_and_check, 1)
    if not holds:
        raise ArithmeticError("the plan of the benchmark does not hold")
    wafer = WaferSpec.preset("wse3")
    present = np.argwhere(wafer.present_mask())
    sites = present[np.random.default_rng(4).choice(len(present), 50, replace=False)]
    wse3 = FaultMap.for_wafer(wafer, dead_cores=sites, wafer_id="W01")
    wse3_rules = RowShift.for_wafer(wafer)
    wse3_s, plan = fastest(lambda: plan_repair(wse3, wse3_rules), 1)
    check_s, _ = fastest(lambda: check_plan(wse3, wse3_rules, plan))
    maps = [dead_of(wafer, present, 46, seed) for seed in range(200)]
    decider = Decider(wse3_rules, wse3)
    full = [Problem.build(one, wse3_rules, wse3_rules.placement(one.shape)) for one in maps[:20]]
    sparse_s, answers = fastest(lambda: [decider.decide(one) for one in maps])
    full_s, same = fastest(lambda: [decide(one).feasible for one in full])
    if answers[:20] != same:
        raise ArithmeticError("both decisions of the benchmark should agree")
    incremental_s, scratch_s, moved, scratch_moved = incremental(wse3, wse3_rules, plan)
    law = NegativeBinomial(d0_per_cm2=wafer.process.d0_per_cm2, alpha=2.0)
    yield_s, _ = fastest(lambda: repair_yield(wafer, law, wse3_rules, n=YIELD_MAPS, rng=7))
    data = plan.firmware().data
    boot_s, _ = fastest(lambda: Fabric.boot(FirmwareImage.from_bytes(data), wafer).core_of)
    return [
        row("decide_1m_s", decide_s, f"s, {ROWS} x {COLS}, 50 dead cores"),
        row(
            "decide_maps_per_s",
            len(maps) / sparse_s,
            "maps/s, WSE-3 preset, 46 dead cores",
            "the full propagation",
            len(full) / full_s,
        ),
        row("yield_maps_per_s", YIELD_MAPS / yield_s, "maps/s drawn and decided, WSE-3 preset, 0.1 defects/cm²"),
        row("plan_1m_100_s", plan_s, f"s with check, {ROWS} x {COLS}, 100 dead cores"),
        row("plan_wse3_50_s", wse3_s + check_s, "s with check, WSE-3 preset, 50 dead cores"),
        row(
            "incremental_1m_s",
            incremental_s,
            "s, WSE-3 preset, 50 dead cores, worst of 1 to 5 new ones in use, all levels proven",
            "a plan from scratch",
            scratch_s,
        ),
        row(
            "incremental_moved", moved, "cores moved after 5 new ones, same wafer", "a plan from scratch", scratch_moved
        ),
        *peers(),
        *line_figures(),
        row("boot_1m_s", boot_s, "s from bytes to the whole logical-to-physical map, WSE-3 preset"),
        row("image_bytes", float(len(data)), "bytes, WSE-3 preset, 50 dead cores"),
    ]


def incremental(faults: FaultMap, rules: RowShift, plan: RepairPlan) -> tuple[float, float, float, float]:
    """(seconds of the slowest new plan after 1 to 5 failures on cores in use, of a plan from scratch after 5; and the
    cores that both move after 5).
    """
    used = plan.core_of.reshape(-1, 2)
    slowest = 0.0
    worse = faults
    for n in range(1, 6):
        fresh = used[np.random.default_rng([5, n]).choice(len(used), n, replace=False)]
        worse = faults.with_faults(dead_cores=fresh)
        seconds, after = fastest(lambda worse=worse: replan_repair(worse, plan))
        if after.status != "optimal" or check_replan(worse, rules, after, plan):
            raise ArithmeticError("a new plan of the benchmark is not proven or does not hold")
        slowest = max(slowest, seconds)
    scratch_s, scratch = fastest(lambda: plan_repair(worse, rules), 1)
    return slowest, scratch_s, float(len(moved_cores(plan, after))), float(len(moved_cores(plan, scratch)))


def peers() -> list[dict[str, Any]]:
    """Least skew of one 20 x 24 map with 8 dead cores by this package, CP-SAT and HiGHS; all three agree."""
    from tests.repair.oracle import highs_skew

    faults = dead_cores(20, 26, 8, 7)
    rules = RowShift(spares=2).placed(faults)
    problem = Problem.build(faults, rules, rules.placement(faults.shape))

    def ours() -> int:
        known = decide(problem).field
        if known is None:
            raise ArithmeticError("the map of the benchmark can be repaired")
        return least_skew(problem, known).value

    our_s, value = fastest(ours)
    cp_sat_s, (_, bound, status) = fastest(lambda: solve_exactly(problem), 1)
    highs_s, highs = fastest(lambda: highs_skew(faults, rules), 1)
    if not value == bound == highs:
        raise ArithmeticError(f"solvers disagree: {value}, CP-SAT {bound} ({status}), HiGHS {highs}")
    unit = "s, 20 x 24, 8 dead cores, proven"
    return [
        row("plan_vs_cpsat", our_s, unit, "CP-SAT, one worker, plain model", cp_sat_s),
        row("plan_vs_highs", our_s, unit, "HiGHS by scipy.optimize.milp", highs_s),
    ]


def line_maps(size: int = 8192, n: int = 2000) -> dict[str, FaultMap]:
    """Maps for line spares: faults anywhere, and faults in 20 clusters with a standard deviation of 30 lines."""
    rng = np.random.default_rng(1)
    centre = rng.integers(0, size, (20, 2))
    sites = centre[rng.integers(0, 20, n)] + np.rint(rng.normal(0, 30, (n, 2))).astype(np.int64)
    clusters = FaultMap((size, size), dead_cores=np.unique(np.clip(sites, 0, size - 1), axis=0))
    return {"": dead_cores(size, size, n, 1), "_clustered": clusters}


def line_figures() -> list[dict[str, Any]]:
    """Whole-line repair of 8192 x 8192 sites with 2,000 faults, 1,000 spare lines each way; all solvers agree."""
    from tests.repair.lines_oracle import cp_sat_fewest, highs_fewest

    rules = LineSpares(1000, 1000)
    plan_repair(dead_cores(64, 64, 200, 1), LineSpares(32, 32))
    rows = []
    for kind, faults in line_maps().items():

        def plan_and_check(faults: FaultMap = faults) -> int | None:
            plan = plan_repair(faults, rules)
            if check_plan(faults, rules, plan) or not plan.proven:
                raise ArithmeticError("the plan of the benchmark does not hold or is not proven")
            return plan.objective

        our_s, value = fastest(plan_and_check)
        frontier_s, frontier = fastest(lambda faults=faults: repair_frontier(faults), 1)
        highs_s, highs = fastest(lambda faults=faults: highs_fewest(faults, 1000, 1000), 1)
        cp_sat_s, cp_sat = fastest(lambda faults=faults: cp_sat_fewest(faults, 1000, 1000), 1)
        if not (value == highs == cp_sat[0] and cp_sat[1] == "OPTIMAL" and frontier.proven):
            raise ArithmeticError(f"solvers disagree: {value}, HiGHS {highs}, CP-SAT {cp_sat}")
        unit = f"s with check, 8192 x 8192, {len(faults.dead_cores)} dead cores{kind.replace('_', ', ')}, proven"
        rows += [
            row(f"line_spares{kind}_8192_2000_s", our_s, unit),
            row(f"line_spares{kind}_vs_highs", our_s, unit, "HiGHS by scipy.optimize.milp", highs_s),
            row(f"line_spares{kind}_vs_cpsat", our_s, unit, "CP-SAT, one worker with an LP, plain model", cp_sat_s),
            row(f"line_frontier{kind}_8192_2000_s", frontier_s, f"s, all {len(frontier)} minimal pairs, proven"),
        ]
    return rows


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
