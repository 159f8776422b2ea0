"""Yields by sampling: closed forms, stopping, jobs, curves on the same wafers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.repair.oracle import best_skew
from tests.repair.wafers import AtMost, Even, FixedDead, grid_wafer, within_five_sigma
from yieldkit.defects import BoseEinstein, Murphy, NegativeBinomial, Poisson, Seeds
from yieldkit.errors import BadInput
from yieldkit.faultmap import FaultMap
from yieldkit.reliability.proportions import wilson_interval
from yieldkit.repair import ReticlePools, RowShift, repair_yield, single_spare_yield, yield_curve
from yieldkit.repair.curves import paired_change
from yieldkit.repair.drawn import CountTable, ListedWafer, drawn_map
from yieldkit.repair.rounds import boundaries
from yieldkit.wafer import WaferSpec

MINI = WaferSpec.preset("mini")
LAW = NegativeBinomial(d0_per_cm2=0.3, alpha=2.0)
RULES = RowShift.for_wafer(MINI)


# The closed form of one spare.


def test_the_closed_form_of_one_spare_has_the_golden_values():
    # C(850, F) 1181^F / C(850 * 1181, F); the two numbers were worked out independently, with exact integers.
    assert single_spare_yield(850, 1180, 20) == pytest.approx(0.7985, abs=5e-5)
    assert single_spare_yield(850, 1180, 50) == pytest.approx(0.2302, abs=5e-5)
    for rows, cols, faults in ((850, 1180, 20), (7, 3, 0), (7, 3, 1), (7, 3, 5), (7, 3, 8), (1, 1, 2)):
        exact = math.comb(rows, faults) * (cols + 1) ** faults / math.comb(rows * (cols + 1), faults)
        assert single_spare_yield(rows, cols, faults) == pytest.approx(exact, rel=1e-12)
    with pytest.raises(BadInput, match="more faults than sites"):
        single_spare_yield(2, 2, 7)


def one_spare(n):
    wafer = grid_wafer(85, 119, spares=1)
    got = repair_yield(wafer, FixedDead(9), RowShift.for_wafer(wafer), n=n, rng=5)
    exact = single_spare_yield(85, 118, 9)
    assert 0.3 < exact < 0.8
    assert within_five_sigma(got.repaired, n, exact)
    # Negative control: one fault more is another number.
    assert not within_five_sigma(got.repaired, n, single_spare_yield(85, 118, 11))


def test_sampling_gives_the_closed_form_of_one_spare():
    one_spare(2000)


@pytest.mark.long
def test_sampling_gives_the_closed_form_of_one_spare_at_length():
    one_spare(40_000)
    wafer = grid_wafer(850, 1181, spares=1)
    for faults in (20, 50):
        got = repair_yield(wafer, FixedDead(faults), RowShift.for_wafer(wafer), n=10_000, rng=6)
        assert within_five_sigma(got.repaired, got.n, single_spare_yield(850, 1180, faults))


# Stopping and jobs.


def test_a_run_stops_at_a_boundary_and_is_the_run_of_that_length():
    looks = boundaries(5000)
    assert looks[:3] == [500, 625, 781]
    assert looks[-1] == 5000
    got = repair_yield(MINI, LAW, RULES, n=5000, rng=1, half_width=0.03)
    assert got.n in looks
    assert got.half_width <= 0.03
    assert got == repair_yield(MINI, LAW, RULES, n=got.n, rng=1)
    before = looks[looks.index(got.n) - 1]
    assert repair_yield(MINI, LAW, RULES, n=before, rng=1).half_width > 0.03
    assert repair_yield(MINI, LAW, RULES, n=60, rng=1, half_width=0.001).n == 60


def test_jobs_chunks_and_order_change_nothing():
    seen = []
    alone = repair_yield(MINI, LAW, RULES, n=800, rng=3, half_width=0.035, progress=lambda *at: seen.append(at))
    assert seen[-1] == (alone.n, 800)
    assert alone == repair_yield(MINI, LAW, RULES, n=800, rng=3, half_width=0.035, jobs=2)
    one, two = (yield_curve(MINI, LAW, RULES, {"D0": [0.1, 0.3]}, n=300, rng=3, jobs=jobs) for jobs in (1, 2))
    assert one.equals(two)


def coverage(p, half_width, runs, most=20_000, seed=0, interval=wilson_interval):
    """(share of simulated runs whose interval holds the truth where it stopped, least such share of a fixed length)."""
    rng = np.random.default_rng(seed)
    looks = np.array(boundaries(most))
    steps = rng.binomial(np.diff(np.concatenate([[0], looks])), p, (runs, len(looks)))
    low, high = interval(np.cumsum(steps, axis=1), looks)
    stop = np.argmax((high - low <= 2 * half_width) | (looks == most), axis=1)
    at = np.arange(runs), stop
    holds = (low <= p) & (p <= high)
    reached = np.bincount(stop, minlength=len(looks)) > 0.01 * runs
    return float(holds[at].mean()), float(holds.mean(axis=0)[reached].min())


@pytest.mark.parametrize("p", [0.5, 0.8, 0.9, 0.97, 0.99, 0.998])
@pytest.mark.parametrize("half_width", [0.005, 0.01, 0.02])
def test_the_interval_of_a_stopped_run_covers(p, half_width):
    # Wilson's interval is too short itself where a loss or two are expected (0.92 at p = 0.998 and 500 wafers), so what
    # is judged is what stopping costs on top.
    stopped, fixed = coverage(p, half_width, 20_000)
    assert stopped > 0.915
    assert stopped > min(fixed, 0.95) - 0.012


def test_an_interval_that_stops_on_luck_does_not_cover():
    """The negative control: p plus or minus 1.96 standard errors has no width where no wafer was lost."""

    def plain(hits, n):
        p = hits / n
        half = 1.96 * np.sqrt(p * (1 - p) / n)
        return p - half, p + half

    assert coverage(0.998, 0.01, 20_000, interval=plain)[0] < 0.915


def test_bad_numbers_are_refused():
    for options in ({"n": 0}, {"n": 1.5}, {"confidence": 1.0}, {"half_width": 0.0}, {"half_width": 0.5}, {"jobs": 0}):
        with pytest.raises(BadInput):
            repair_yield(MINI, LAW, RULES, **options)
    with pytest.raises(BadInput, match="Generator"):
        repair_yield(MINI, LAW, RULES, rng=np.random.default_rng(1), jobs=2)
    with pytest.raises(BadInput, match="cannot decide"):
        repair_yield(MINI, LAW, "row shift")
    with pytest.raises(BadInput, match="by number"):
        yield_curve(MINI, LAW, RULES, {"S": [1]}, rng=np.random.default_rng(1))


# Wafers by number.


@pytest.mark.parametrize(
    "law",
    [
        LAW,
        Poisson(d0_per_cm2=0.2),
        Murphy(d0_per_cm2=0.2),
        Seeds(d0_per_cm2=0.2),
        BoseEinstein(d0_per_cm2=0.02, layers=5),
    ],
    ids=lambda law: law.name,
)
def test_counts_by_quantile_follow_the_law(law):
    table = CountTable(law, 20_000.0)
    assert table.pmf.sum() == pytest.approx(1.0, abs=1e-12)
    n = 100_000
    counts = table.quantile(np.random.default_rng(2).random(n))
    assert counts.mean() == pytest.approx(law.mean(area_mm2=20_000.0), rel=0.02)
    for k in (0, 5, 20, 40):
        assert within_five_sigma((counts == k).sum(), n, table.pmf[k])
    assert table.quantile(0.0) == np.flatnonzero(table.pmf > 0)[0]


def test_a_listed_wafer_with_more_defects_has_the_same_and_more():
    for wafer in (MINI, WaferSpec.preset("wse3")):
        listed = ListedWafer(wafer, 4, 17, "tests")
        long = listed.defects(200)
        radius = wafer.diameter_mm / 2
        assert (np.hypot(long.x_mm, long.y_mm) <= radius).all()
        before = set()
        for count in (0, 1, 7, 50, 200):
            short = listed.defects(count)
            assert len(short) == count
            assert (short.x_mm == long.x_mm[:count]).all()
            faults = listed.map(count)
            dead = {tuple(site) for site in faults.dead_cores.tolist()}
            assert before <= dead
            before = dead


def test_wafers_by_number_have_the_yield_of_the_plain_draw():
    n = 3000
    plain = repair_yield(MINI, LAW, RULES, n=n, rng=8)
    listed = yield_curve(MINI, LAW, RULES, {"D0": [0.3, 0.6]}, n=n, rng=8)
    p = (plain.repaired + listed["repaired"][0]) / (2 * n)
    spread = 5 * math.sqrt(2 * p * (1 - p) / n)
    assert abs(plain.value - listed["value"][0]) < spread
    # Negative control: twice the density is told apart.
    assert abs(plain.value - listed["value"][1]) > spread


# Curves.


def by_hand(wafer, law, rules, n, seed):
    out = []
    for k in range(n):
        faults = drawn_map(wafer, law, seed, k)
        out.append(not faults.wafer_killed and best_skew(faults, rules) is not None)
    return np.array(out)


def test_a_curve_over_spares_is_that_of_enumeration():
    wafer = grid_wafer(4, 7, spares=3)
    law = Poisson(d0_per_cm2=0.01)
    n = 60
    base = RowShift.for_wafer(wafer)
    table = yield_curve(wafer, law, base, {"S": [3, 0, 1, 2]}, n=n, rng=2)
    for _, row in table.iterrows():
        rules = RowShift(int(row["spares"]), 2, 1, (4, 4))
        assert row["repaired"] == by_hand(wafer, law, rules, n, 2).sum()
    assert table["repaired"].nunique() == 4


@pytest.mark.parametrize(
    "knob", [{"S": range(4)}, {"h": [1, 2]}, {"v": [0, 1]}, {"S": [1, 3], "h": [1, 2], "v": [0, 1]}]
)
def test_bisection_gives_the_answers_of_each_point_alone(knob):
    n = 150
    table = yield_curve(MINI, LAW, RULES, knob, n=n, rng=4)
    names = [name for name in table.columns if name in ("spares", "skip_reach", "vertical_reach")]
    for _, row in table.iterrows():
        values = {name: int(row[name]) for name in names}
        full = {"spares": RULES.spares, "skip_reach": 2, "vertical_reach": 1, **values}
        alone = RowShift(**full, logical_shape=MINI.logical_shape, first_row=1)
        got = repair_yield(MINI, LAW, alone, n=n, rng=4)
        assert row["repaired"] == got.repaired
        assert (row["low"], row["high"]) == (got.low, got.high)
    assert table["repaired"].nunique() > 1


def test_longer_links_than_the_wafer_has_can_be_dead_too():
    table = yield_curve(MINI, LAW, RULES, {"h": [2, 3]}, n=200, rng=4)
    longer = MINI.changed({"repair.skip_reach": 3})
    for reach, repaired in zip((2, 3), table["repaired"], strict=True):
        rules = RowShift(RULES.spares, reach, 1, MINI.logical_shape, 1)
        assert repair_yield(longer, LAW, rules, n=200, rng=4).repaired == repaired


def test_knobs_that_may_hurt_are_decided_one_by_one():
    wafer = grid_wafer(5, 5)
    table = yield_curve(wafer, Poisson(d0_per_cm2=0.01), Even(), {"shift": [0, 1, 2]}, n=300, rng=1)
    assert table["repaired"][0] == table["repaired"][2] == 300 - table["repaired"][1]
    gain = table["change"][2]
    assert table["change_low"][2] < gain < table["change_high"][2]


def test_curves_over_the_law_follow_the_closed_form():
    wafer = grid_wafer(300, 300)
    n = 400
    for law, knob in ((Poisson(d0_per_cm2=0.1), {"D0": [0.0, 0.005, 0.01, 0.02]}), (LAW, {"alpha": [0.3, 1.0, 5.0]})):
        if isinstance(law, NegativeBinomial):
            law = NegativeBinomial(d0_per_cm2=0.01, alpha=1.0)
        table = yield_curve(wafer, law, AtMost(3), knob, n=n, rng=7)
        for _, row in table.iterrows():
            name = table.columns[0]
            fields = {key: value for key, value in law.describe().items() if key != "law"} | {name: row[name]}
            point = type(law)(**fields)
            exact = point.pmf(np.arange(4), area_mm2=wafer.silicon_mm2).sum()
            assert within_five_sigma(row["repaired"], n, exact)
        if "D0" in knob:
            assert table["repaired"].is_monotonic_decreasing
            assert (table["change_high"].dropna() <= 0).all()


def test_a_grid_of_knobs_has_the_last_one_fastest():
    table = yield_curve(MINI, LAW, RULES, {"D0": [0.1, 0.4], "S": [1, 4]}, n=100, rng=1)
    assert list(zip(table["d0_per_cm2"], table["spares"], strict=True)) == [(0.1, 1), (0.1, 4), (0.4, 1), (0.4, 4)]
    assert table["change"].isna().tolist() == [True, False, True, False]
    assert table["change"][1] == pytest.approx(table["value"][1] - table["value"][0])
    # Each column of the grid is the curve alone.
    alone = yield_curve(MINI, LAW, RowShift(4, 2, 1, MINI.logical_shape, 1), {"D0": [0.1, 0.4]}, n=100, rng=1)
    assert alone["repaired"].tolist() == table["repaired"][table["spares"] == 4].tolist()


def test_paired_differences_cover_what_they_say():
    rng = np.random.default_rng(5)
    n, runs, gain, loss = 400, 2000, 0.05, 0.02
    hits = [0, 0]
    for one_way in (False, True):
        for _ in range(runs):
            u = rng.random(n)
            before = u < 0.5
            after = (u < 0.5 + gain) & ((u > loss) | one_way)
            value, low, high = paired_change(before, after, 0.95, one_way=one_way)
            assert low <= value <= high
            hits[one_way] += low <= gain - loss * (not one_way) <= high
    assert min(hits) > 0.93 * runs
    assert max(hits) < 0.985 * runs
    # On the same wafers the interval is far narrower than that of two independent rates.
    assert high - low < 0.7 * 2 * 1.96 * math.sqrt(2 * 0.25 / n)


@pytest.mark.parametrize(
    ("over", "what"),
    [
        ({}, "something to turn"),
        ({"S": []}, "no values"),
        ({"S": [1, 1]}, "twice"),
        ({"S": [1], "spares": [2]}, "twice"),
        ({"R": [0, 1]}, "neither row_shift nor the law|neither RowShift nor the law"),
        ({"layers": [1]}, "neither"),
        ({"h": [0]}, "skip_reach"),
        ({"v": [1.5]}, "vertical_reach"),
        ({"S": [99]}, "do not fit"),
        ({"D0": [-1.0]}, "d0_per_cm2"),
        ({"alpha": [0.0]}, "alpha"),
        ({"S": range(5), "D0": [0.001 * k for k in range(1, 2100)]}, "points"),
    ],
)
def test_curves_that_cannot_be_are_refused(over, what):
    with pytest.raises(BadInput, match=what):
        yield_curve(MINI, LAW, RULES, over, n=5)


# Pools of each reticle.


def test_pools_are_decided_as_by_enumeration_of_each_column_of_fields():
    rng = np.random.default_rng(6)
    seen = [0, 0]
    for _ in range(300):
        fields, width, height, spares = int(rng.integers(1, 4)), 4, 3, int(rng.integers(0, 3))
        pools = ReticlePools(width, spares, 2, int(rng.integers(0, 2)), height)
        shape = (height, fields * width)
        cells = rng.choice(shape[0] * shape[1], int(rng.integers(0, 6)), replace=False)
        links = [(1, int(rng.integers(0, shape[1])), 1, 0)] if rng.random() < 0.3 else []
        faults = FaultMap(shape, dead_cores=[(c // shape[1], c % shape[1]) for c in cells.tolist()], dead_links=links)
        truth = True
        for field in range(fields):
            inside = [(r, c - field * width) for r, c in faults.dead_cores.tolist() if c // width == field]
            own = [(r, c - field * width, a, b) for r, c, a, b in links if c // width == field]
            part = FaultMap((height, width), dead_cores=inside, dead_links=own)
            rules = RowShift(spares, 2, pools.vertical_reach, (height, width - spares))
            truth = truth and best_skew(part, rules) is not None
        assert pools.decider(FaultMap(shape)).decide(faults) is truth
        seen[truth] += 1
    assert min(seen) > 60


def test_pools_never_do_better_than_the_whole_row():
    """A plan of the pools is one of the row when joints reach; here at the yield's level, on the same wafers."""
    wafer = grid_wafer(40, 40)
    law = NegativeBinomial(d0_per_cm2=0.02, alpha=2.0)
    pooled = repair_yield(wafer, law, RowShift(4, 2, 1, (40, 36)), n=400, rng=1)
    split = repair_yield(wafer, law, ReticlePools(10, 1, 2, 1, 40), n=400, rng=1)
    assert pooled.repaired > split.repaired + 20


def test_pools_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="leave nothing"):
        ReticlePools(4, 4)
    with pytest.raises(BadInput, match="do not divide"):
        repair_yield(MINI, LAW, ReticlePools(7, 1, rows=20), n=1)
    wse3 = WaferSpec.preset("wse3")
    assert ReticlePools.for_wafer(wse3, spares=1).segment_cols == 66
