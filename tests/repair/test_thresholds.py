"""The decision by thresholds: the answers of the full propagation and of enumeration, at a cost that follows faults."""

from __future__ import annotations

import numpy as np
import pytest

from tests.repair.oracle import best_skew, random_case
from yieldkit.errors import BadInput
from yieldkit.faultmap import FaultMap
from yieldkit.repair import RowShift
from yieldkit.repair.problem import Problem
from yieldkit.repair.propagate import decide
from yieldkit.repair.thresholds import Decider
from yieldkit.wafer import WaferSpec


def full(faults, rules):
    return decide(Problem.build(faults, rules, rules.placement(faults.shape))).feasible


def compare(seeds, *, truth=False, **sizes):
    """(repairable, not) among random cases; one decider serves each map and the same wafer with fewer faults."""
    seen = [0, 0]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        faults, rules = random_case(rng, **sizes)
        decider = Decider(rules, faults)
        fewer = FaultMap(
            faults.shape, spans=faults.spans, absent=faults.absent, dead_cores=faults.dead_cores[::2],
            dead_links=faults.dead_links[::2],
        )  # fmt: skip
        for one in (faults, fewer, faults):
            found = decider.decide(one)
            assert found == full(one, rules), (seed, rules)
            if truth:
                assert found == (best_skew(one, rules) is not None), (seed, rules)
            seen[not found] += 1
    return seen


def test_tiny_maps_are_decided_as_by_enumeration():
    repairable, lost = compare(range(500), truth=True)
    assert repairable > 300
    assert lost > 300


def test_larger_maps_are_decided_as_by_the_full_propagation():
    repairable, lost = compare(range(1000, 1400), max_rows=30, max_cols=30)
    assert repairable > 100
    assert lost > 100


@pytest.mark.long
def test_ten_thousand_maps_are_decided_as_by_the_full_propagation():
    rng = np.random.default_rng(8)
    seen = [0, 0]
    for case in range(50):
        height, width, spares = int(rng.integers(20, 80)), int(rng.integers(20, 80)), int(rng.integers(1, 6))
        rules = RowShift(spares, int(rng.integers(1, 4)), int(rng.integers(1, 4)), (height, width))
        shape = (height, width + spares)
        bare = FaultMap(shape)
        decider = Decider(rules, bare)
        for _ in range(200):
            sites = rng.choice(height * (width + spares), int(rng.integers(1, height * spares)), replace=False)
            cells = np.stack([sites // shape[1], sites % shape[1]], axis=1)
            links = [
                (r, c, 1, int(rng.integers(-1, 2))) if rng.random() < 0.5 else (r, c, 0, int(rng.integers(1, 3)))
                for r, c in rng.integers(2, np.array(shape) - 2, (int(rng.integers(0, 4)), 2)).tolist()
            ]
            faults = FaultMap(shape, dead_cores=cells, dead_links=sorted(set(links)))
            found = decider.decide(faults)
            assert found == full(faults, rules), case
            seen[not found] += 1
    assert min(seen) > 1000
    assert sum(seen) == 10_000


def test_a_large_wafer_is_decided_as_by_the_full_propagation():
    wafer = WaferSpec.preset("wse3")
    bare = FaultMap.for_wafer(wafer)
    rules = RowShift.for_wafer(wafer)
    decider = Decider(rules, bare)
    present = np.argwhere(wafer.present_mask())
    rng = np.random.default_rng(3)
    answers = []
    for n in (1, 46, 46, 400, 2_000, 20_000):
        faults = FaultMap.for_wafer(wafer, dead_cores=present[rng.choice(len(present), n, replace=False)])
        answers.append(decider.decide(faults))
        assert answers[-1] == full(faults, rules)
    assert {True, False} <= set(answers)


def test_a_row_far_from_faults_is_not_looked_at():
    """What is put back after a map are the rows that were lowered: a few around its faults."""
    rules = RowShift(3, 2, 1, (1000, 200))
    decider = Decider(rules, FaultMap((1000, 203)))
    thresholds = decider._thresholds
    assert decider.decide(FaultMap((1000, 203), dead_cores=[(500, 100), (500, 120), (700, 9)]))
    assert np.array_equal(thresholds, decider._ground.base)
    assert not decider._touched[:1000].any()
    assert 2 <= len(set(decider._touched[1000:1010].tolist())) <= 8


def test_a_hopeless_link_is_found_among_many_that_are_not():
    """Alone it is refused at once; behind fifteen links that can be had in two ways the plain branching gives up."""
    rules = RowShift(1, 2, 1, (40, 20))
    spans = [[0, 21]] * 38 + [[0, 20]] * 2
    fine = [(2 * k, 10, 1, 0) for k in range(15)]
    hopeless = (38, 5, 1, 0)
    decider = Decider(rules, FaultMap((40, 21), spans=spans))
    for links, answer in ((fine, True), ([hopeless], False), ([*fine, hopeless], False)):
        faults = FaultMap((40, 21), spans=spans, dead_links=links)
        assert decider.decide(faults) is answer
        assert full(faults, rules) in (answer, None)
    assert full(faults, rules) is None


def test_other_wafers_and_lost_ones():
    rules = RowShift(1, 2, 1, (4, 5))
    decider = Decider(rules, FaultMap((4, 6)))
    assert decider.decide(FaultMap((4, 6), wafer_killed=True)) is False
    other = FaultMap((4, 6), spans=[[0, 5], [0, 6], [0, 6], [0, 6]], dead_cores=[(0, 2)])
    assert decider.decide(other) is False
    assert decider.decide(FaultMap((4, 6), dead_cores=[(0, 2)])) is True
    narrow = FaultMap((4, 6), spans=[[0, 4], [0, 6], [0, 6], [0, 6]])
    assert Decider(rules, narrow).decide(narrow) is False
    with pytest.raises(BadInput, match="do not fit"):
        Decider(RowShift(1, 2, 1, (4, 9)), FaultMap((4, 6)))


def test_dead_links_without_branching_are_answered_or_left_open():
    """`branch=False` never says anything else than the truth, and leaves few maps with dead links open."""
    seen = {True: 0, False: 0, None: 0}
    for seed in range(1500):
        faults, rules = random_case(np.random.default_rng([44, seed]))
        answer = Decider(rules, faults).decide(faults, branch=False)
        if answer is not None:
            assert answer == (best_skew(faults, rules) is not None), seed
        seen[answer] += len(faults.dead_links) > 0
    assert min(seen[True], seen[False]) > 150
    assert seen[None] < 60
