"""The remaining margin: exact on tiny wafers, a closed form for one spare, brackets for dead links, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from tests.repair.oracle import best_skew
from tests.repair.test_truth import closed_form
from yieldkit.errors import BadInput
from yieldkit.faultmap import FaultMap
from yieldkit.repair import RowShift, SpareMargin, plan_repair, spare_margin
from yieldkit.repair.margin import _Order, _Wafer, _weights
from yieldkit.rng import generator
from yieldkit.wafer import WaferSpec

ALL = {"dead_core": 2.0, "dead_link": 1.0, "dead_router": 1.0}


def orders(wafer, kinds, seed, n):
    for k in range(n):
        yield _Order(wafer, _weights(kinds), generator(seed, "repair.margin", k))


def test_the_last_survived_failure_by_enumeration():
    """Along each order the fabric is there after the last survived failure and lost with the next."""
    lost = 0
    for seed in range(40):
        rng = np.random.default_rng([41, seed])
        rules = RowShift(int(rng.integers(0, 3)), int(rng.integers(1, 3)), int(rng.integers(0, 2)), (3, 4))
        shape = (3, 4 + rules.spares)
        faults = FaultMap(shape, dead_cores=[(1, 2)] if seed % 3 == 0 else [])
        kinds = ALL if seed % 2 else "dead_core"
        margin = spare_margin(faults, rules, kinds=kinds, n=6, rng=seed)
        assert margin.gap == 0
        for k, order in enumerate(orders(_Wafer(faults, rules), kinds, seed, 6)):
            last = int(margin.survived[k])
            for failures, there in ((last, True), (last + 1, False)):
                if failures < 0 or order.need(failures) < failures:
                    continue
                cores, links = order.failures(failures)
                sites = np.unique(np.concatenate([faults.dead_cores, cores]), axis=0)
                worse = FaultMap(shape, dead_cores=sites, dead_links=links)
                assert (best_skew(worse, rules) is not None) == there, (seed, k)
                lost += not there
    assert lost > 150


def test_one_spare_a_row_has_a_closed_form():
    """S = 1: the fabric is there while no two failures share a row; 5 sigma, with S = 2 as the negative control."""
    height, width, n = 60, 80, 250
    one, two = (
        spare_margin(FaultMap((height, width + spares)), RowShift(spares, 2, 1, (height, width)), n=n, rng=5)
        for spares in (1, 2)
    )
    for k in (6, 9, 14):
        p = closed_form(height, width, k)
        tolerance = 5 * (n * p * (1 - p)) ** 0.5
        counts = [int((margin.survived >= k).sum()) for margin in (one, two)]
        assert abs(counts[0] - n * p) < tolerance
        assert abs(counts[1] - n * p) > tolerance


def test_dead_links_of_a_large_fabric_are_bracketed():
    wafer = WaferSpec.preset("wse3")
    faults = FaultMap.for_wafer(wafer, dead_cores=[(500, 300)])
    rules = RowShift.for_wafer(wafer)
    margin = spare_margin(faults, rules, kinds="dead_link", n=2, rng=3)
    assert (margin.lost > margin.survived).all()
    assert margin.gap > 0
    cores = spare_margin(faults, plan_repair(faults, rules), n=5, rng=3)
    assert cores.gap == 0
    share, low, high = margin.survival(int(margin.survived.min()))
    assert share == 1 > low
    assert high == 1


def test_a_bracket_holds_the_exact_answer(monkeypatch):
    from yieldkit.repair import margin as module

    wide = 0
    for seed in range(12):
        rules = RowShift(2, 2, 1, (8, 12))
        exact = spare_margin(FaultMap((8, 14)), rules, kinds="dead_link", n=5, rng=seed)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_BRANCHED", 0)
            rough = spare_margin(FaultMap((8, 14)), rules, kinds="dead_link", n=5, rng=seed)
        assert (rough.survived <= exact.survived).all()
        assert (exact.lost <= rough.lost).all()
        wide += int((rough.lost - rough.survived > 1).sum())
    assert wide > 10


def test_same_seed_same_margin_and_prefixes():
    rules = RowShift(2, 2, 1, (20, 30))
    faults = FaultMap((20, 32), dead_cores=[(3, 9)])
    margin = spare_margin(faults, rules, kinds=ALL, n=12, rng=7)
    again = spare_margin(faults, rules, kinds=ALL, n=6, rng=7)
    assert (margin.survived[:6] == again.survived).all()
    other = spare_margin(faults, rules, kinds=ALL, n=12, rng=8)
    assert (margin.survived != other.survived).any()
    short = spare_margin(faults, rules, kinds=ALL, n=12, rng=7, most=3)
    assert (short.survived == np.minimum(margin.survived, 3)).all()


def test_figures_tables_and_words():
    margin = SpareMargin({"dead_core": 1.0}, np.array([0, 2, 4, 4]), np.array([1, 3, 5, 7]), 0.95, 100)
    assert margin.mean == 2.5
    assert margin.gap == 0.5
    assert [margin.quantile(q) for q in (0, 0.5, 1)] == [0, 2, 4]
    assert margin.survival(3)[0] == 0.5
    frame = margin.to_frame()
    assert frame["share"].tolist() == [1.0, 0.75, 0.75, 0.5, 0.5, 0.0]
    assert (frame["low"] <= frame["share"]).all()
    assert (frame["share"] <= frame["high"]).all()
    assert "2.5 more on average" in margin.summary()
    assert "dead_core" in margin._repr_html_()
    assert margin.to_dict()["quantiles"]["0.5"] == 2
    with pytest.raises(BadInput):
        margin.quantile(2)


def test_a_wafer_lost_already_and_one_that_outlives_all():
    lost = spare_margin(FaultMap((3, 6), dead_cores=[(1, 1), (1, 4)]), RowShift(1), n=3)
    assert lost.survived.tolist() == [-1, -1, -1]
    assert lost.lost.tolist() == [0, 0, 0]
    assert lost.mean == 0
    # Columns beyond the fabric and its spares: their failures do no harm, and the order ends with the last core.
    killed = spare_margin(FaultMap((3, 6), wafer_killed=True), RowShift(1), n=2)
    assert killed.survived.tolist() == [-1, -1]


@pytest.mark.parametrize(
    "wrong",
    [{"kinds": "dead_sun"}, {"kinds": {}}, {"kinds": {"dead_core": -1}}, {"n": 0}, {"most": 0}, {"confidence": 1}],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(BadInput):
        spare_margin(FaultMap((3, 6)), RowShift(1), **wrong)


def test_a_wafer_without_a_good_core_is_refused():
    with pytest.raises(BadInput, match="no good core"):
        spare_margin(FaultMap((1, 2), dead_cores=[(0, 0), (0, 1)]), RowShift(1))
