"""Bins, prices, and silicon sold against dies of the same wafers; the studies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.repair.oracle import best_skew
from tests.repair.wafers import AtMost, grid_wafer, within_five_sigma
from yieldkit.defects import NegativeBinomial, Poisson
from yieldkit.errors import BadInput
from yieldkit.repair import FabricBin, RowShift, bin_yields, repair_yield, silicon_sold
from yieldkit.repair.bins import die_places
from yieldkit.repair.drawn import drawn_defects, drawn_map
from yieldkit.repair.studies import STUDIES, whole_rectangle
from yieldkit.wafer import WaferSpec

MINI = WaferSpec.preset("mini")
LAW = NegativeBinomial(d0_per_cm2=0.8, alpha=2.0)
RULES = RowShift.for_wafer(MINI)
TABLE = [FabricBin("standard", 20, 18, 10.0), FabricBin("tall", 20, 16, 6.0), FabricBin("small", 10, 16, 2.0, (1, 11))]


def test_each_wafer_goes_into_its_first_bin():
    wafer = grid_wafer(4, 7, spares=2)
    law = Poisson(d0_per_cm2=0.03)
    bins = [FabricBin("a", 4, 5), FabricBin("b", 4, 4), FabricBin("c", 2, 4, first_rows=(0, 2))]
    n = 80
    got = bin_yields(wafer, law, RowShift.for_wafer(wafer), bins, n=n, rng=3)
    counts = [0, 0, 0, 0]
    for k in range(n):
        faults = drawn_map(wafer, law, 3, k)
        for b, one in enumerate(bins):
            rules = [RowShift(7 - one.cols, 2, 1, (one.rows, one.cols), first) for first in one.first_rows or (0,)]
            if any(best_skew(faults, rule) is not None for rule in rules):
                counts[b] += 1
                break
        else:
            counts[3] += 1
    assert got.counts.tolist() == counts
    assert min(counts) > 0


def test_the_first_bin_is_the_yield_and_the_table_adds_up():
    got = bin_yields(MINI, LAW, RULES, TABLE, n=300, rng=2)
    plain = repair_yield(MINI, LAW, RULES, n=300, rng=2)
    table = got.to_frame()
    assert got.counts[0] == plain.repaired
    assert (table["low"][0], table["high"][0]) == (plain.low, plain.high)
    assert table["count"].sum() == got.n == 300
    assert table["up_to"].iloc[-1] == 1.0
    value, low, high = got.mean_price()
    assert value == pytest.approx((table["price"] * table["share"]).sum())
    assert low < value < high
    assert bin_yields(MINI, LAW, RULES, TABLE, n=300, rng=2, jobs=2).counts.tolist() == got.counts.tolist()
    assert "mean price" in got._repr_html_()


def test_bins_that_cannot_be_are_refused():
    for bins, what in (
        ([], "no bins"),
        ([TABLE[0], TABLE[0]], "one name"),
        ([FabricBin("wide", 20, 99)], "larger than"),
        ([FabricBin("low", 20, 18, 1.0, (20,))], "do not fit"),
    ):
        with pytest.raises(BadInput, match=what):
            bin_yields(MINI, LAW, RULES, bins, n=5)
    with pytest.raises(BadInput, match="logical_shape"):
        bin_yields(MINI, LAW, AtMost(3), TABLE, n=5)
    for wrong in ({"rows": 0}, {"cols": 1.5}, {"price": math.nan}, {"price": -1.0}, {"first_rows": (-1,)}):
        with pytest.raises(BadInput):
            FabricBin(**{"name": "x", "rows": 2, "cols": 2, **wrong})


def test_dies_lie_on_the_silicon_and_beside_each_other():
    for wafer, area in ((MINI, 100.0), (MINI, 2000.0), (WaferSpec.preset("wse3"), 815.0), (grid_wafer(9, 9), 40_000.0)):
        corners, side = die_places(wafer, area)
        assert side * side == pytest.approx(area)
        width, height = wafer.array_mm
        radius = wafer.diameter_mm / 2 + 1e-6
        for dx in (0, side):
            for dy in (0, side):
                x, y = corners[:, 0] + dx, corners[:, 1] + dy
                assert (np.hypot(x, y) <= radius).all()
                assert (np.abs(x) <= width / 2 + 1e-6).all()
                assert (np.abs(y) <= height / 2 + 1e-6).all()
        cells = np.round((corners - corners.min(axis=0)) / side, 6)
        assert (cells == np.round(cells)).all()
        assert len(np.unique(cells, axis=0)) == len(corners) > 0
    assert len(die_places(grid_wafer(9, 9), 100.0)[0]) == 400
    assert len(die_places(grid_wafer(9, 9), 50_000.0)[0]) == 0
    for wrong in (0.0, -1.0, math.nan, 1e-3):
        with pytest.raises(BadInput):
            die_places(MINI, wrong)


def test_dies_have_the_classical_yield_of_the_same_law():
    """Every defect kills on this wafer, so a die's yield is the law's closed form; the fabric bears nothing or all."""
    wafer = grid_wafer(300, 300)
    law = NegativeBinomial(d0_per_cm2=0.1, alpha=1.5)
    n = 400
    table = silicon_sold(wafer, law, AtMost(0), dies_mm2=(400.0, 100.0), n=n, rng=4)
    for row, area in ((1, 400.0), (2, 100.0)):
        exact = law.yield_(area_mm2=area) * table["most"][row]
        spread = (table["high"][row] - table["low"][row]) / 3.92
        assert abs(table["share"][row] - exact) < 5 * spread
        assert abs(table["share"][row] - Poisson(d0_per_cm2=0.1).yield_(area_mm2=area)) > 5 * spread or area == 100.0
    whole = law.yield_(area_mm2=wafer.silicon_mm2)
    assert within_five_sigma(round(table["share"][0] * n / table["most"][0]), n, whole)
    assert table["less"][1] == pytest.approx(table["share"][0] - table["share"][1])


def test_a_die_is_lost_by_what_kills_on_it():
    n = 40
    table = silicon_sold(MINI, LAW, RULES, dies_mm2=(900.0,), n=n, rng=6)
    corners, side = die_places(MINI, 900.0)
    sold = 0
    for k in range(n):
        faults = drawn_defects(MINI, LAW, 6, k)
        assert faults == drawn_map(MINI, LAW, 6, k)
        bad = set()
        for one in faults.outcomes:
            if one.effect not in ("none", "marginal core", "off edge link"):
                inside = (corners[:, 0] <= one.x_mm) & (one.x_mm < corners[:, 0] + side)
                inside &= (corners[:, 1] <= one.y_mm) & (one.y_mm < corners[:, 1] + side)
                bad |= set(np.flatnonzero(inside).tolist())
        sold += (len(corners) - len(bad)) * 900.0
    assert table["share"][1] == pytest.approx(sold / n / MINI.silicon_mm2)


def test_wafers_that_sell_as_a_smaller_fabric_count_its_cores():
    alone = silicon_sold(MINI, LAW, RULES, dies_mm2=(), n=200, rng=2)
    more = silicon_sold(MINI, LAW, RULES, dies_mm2=(), bins=TABLE, n=200, rng=2)
    bins = bin_yields(MINI, LAW, RULES, TABLE, n=200, rng=2).to_frame()
    cores = (bins["share"] * bins["rows"] * bins["cols"]).sum()
    assert more["share"][0] == pytest.approx(cores * MINI.core_area_mm2 / MINI.silicon_mm2)
    assert more["share"][0] > alone["share"][0]


def test_the_whole_rectangle_has_every_site():
    for name in ("mini", "wse3"):
        wafer = WaferSpec.preset(name)
        flat = whole_rectangle(wafer)
        assert flat.physical_cores == flat.shape[0] * flat.shape[1]
        assert flat.silicon_mm2 == pytest.approx(flat.array_mm[0] * flat.array_mm[1])


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_studies_give_tables(name):
    options = {"spares": {"spares": (0, 1)}, "pools": {"per_row": (1, 2)}, "reach": {"spares": 2, "runs": (1, 2)}}
    table = STUDIES[name](MINI, n=40, rng=1, **options.get(name, {}))
    value = "share" if name == "silicon" else "value"
    assert len(table) > 1
    assert table[value].between(0, 1).all()
    assert (table["low"] <= table[value]).all()
    again = STUDIES[name](MINI, n=40, rng=1, **options.get(name, {}))
    assert table.equals(again)
