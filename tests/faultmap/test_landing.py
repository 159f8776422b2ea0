"""Defects to faults: shares, kill ratios and effects against the spec, with checks that can fail."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from yieldkit.defects import Defects, Poisson
from yieldkit.faultmap import FaultMap
from yieldkit.faultmap.landing import kill_probability, land, links_of_site
from yieldkit.faultmap.outcome import EFFECTS
from yieldkit.wafer import WaferSpec
from yieldkit.wafer.spec import AREA_KINDS

WSE3 = WaferSpec.preset("wse3")


def _within_five_sigma(hits: float, n: int, p: float) -> bool:
    return abs(hits - n * p) <= 5 * math.sqrt(n * p * (1 - p)) + 1e-9


def _only(wafer: WaferSpec, kind: str, *, kill_ratio: float = 1.0, marginal: float = 0.0) -> WaferSpec:
    """The wafer with one kind of circuit on the whole area."""
    changes: dict[str, object] = {"areas.marginal_probability": marginal}
    for other in AREA_KINDS:
        changes[f"areas.{other}.fraction"] = 1.0 if other == kind else 0.0
        changes[f"areas.{other}.kill_ratio"] = kill_ratio
    return wafer.changed(changes)


def _at(wafer: WaferSpec, *sites: tuple[int, int], size_um: float = 1.0) -> Defects:
    return Defects.at([wafer.xy_mm(*site) for site in sites], size_um=size_um)


def test_shares_of_the_area_are_shares_of_the_defects() -> None:
    n = 40_000
    places = Defects.at(np.zeros((n, 2)) + WSE3.xy_mm(600, 400), size_um=1.0)
    landed = Counter(outcome.landed_on for outcome in land(WSE3, places, 1).outcomes)
    left = 1.0
    for kind in AREA_KINDS:
        share = getattr(WSE3.areas, kind).fraction
        left -= share
        assert _within_five_sigma(landed[kind], n, share), kind
    assert _within_five_sigma(landed["insensitive area"], n, left)
    # Negative control: the shares of two kinds exchanged.
    assert not _within_five_sigma(landed["router"], n, WSE3.areas.link.fraction)


def test_kills_follow_the_size() -> None:
    ratio, n = 0.2, 20_000
    wafer = _only(WSE3, "core_logic", kill_ratio=ratio)
    reference = wafer.process.reference_size_um
    for factor, chance in ((1.0, ratio), (1.5, 2.25 * ratio), (2.0, 4 * ratio), (3.0, 1.0), (0.5, ratio / 4)):
        size = factor * reference
        assert kill_probability(wafer, "core_logic", np.array([size]))[0] == pytest.approx(chance)
        places = Defects.at(np.zeros((n, 2)) + wafer.xy_mm(600, 400), size_um=size)
        dead = sum(outcome.effect == "dead core" for outcome in land(wafer, places, 2).outcomes)
        assert _within_five_sigma(dead, n, chance)
        assert not _within_five_sigma(dead, n, 0.8 * chance)


def test_unknown_sizes_are_drawn_by_the_process() -> None:
    # With sizes as x^-3 above the reference size, the mean of min(1, k s^2) is k (1 + ln 1/k).
    ratio, n = 0.3, 40_000
    wafer = _only(WSE3, "core_logic", kill_ratio=ratio)
    assert wafer.process.size_exponent == 3
    assert wafer.process.smallest_size_um == wafer.process.reference_size_um
    places = Defects.at(np.zeros((n, 2)) + wafer.xy_mm(600, 400))
    outcomes = land(wafer, places, 3).outcomes
    dead = sum(outcome.effect == "dead core" for outcome in outcomes)
    assert _within_five_sigma(dead, n, ratio * (1 + math.log(1 / ratio)))
    assert all(outcome.size_um >= wafer.process.smallest_size_um for outcome in outcomes)


@pytest.mark.parametrize(
    ("kind", "effect"),
    [
        ("core_logic", "dead core"),
        ("core_sram", "dead core"),
        ("router", "dead router"),
        ("link", "dead link"),
        ("power_region", "dead region"),
        ("global_nets", "wafer lost"),
    ],
)
def test_each_circuit_has_its_effect(kind: str, effect: str) -> None:
    wafer = _only(WSE3, kind)
    faults = FaultMap.from_defects(wafer, _at(wafer, (600, 400)), rng=4, wafer_id="W07")
    assert [outcome.effect for outcome in faults.outcomes] == [effect]
    assert [outcome.landed_on for outcome in faults.outcomes] == [kind]
    assert (faults.outcomes[0].row, faults.outcomes[0].col) == (600, 400)
    assert faults.wafer_killed == (kind == "global_nets")
    assert faults.dead_cores.tolist() == {
        "core_logic": [[600, 400]],
        "core_sram": [[600, 400]],
        "power_region": [[row, 400] for row in range(600, 608)],
    }.get(kind, [])
    assert faults.dead_routers.tolist() == ([[600, 400]] if kind == "router" else [])
    assert len(faults.dead_links) == (kind == "link")
    assert faults.effects() == {effect: 1}
    assert faults.wafer_id == "W07"


def test_links_of_a_site_are_those_of_the_spec() -> None:
    assert links_of_site(WSE3) == [(0, 1), (0, 2), (1, -1), (1, 0), (1, 1)]
    wafer = _only(WSE3, "link")
    n = 10_000
    places = Defects.at(np.zeros((n, 2)) + wafer.xy_mm(600, 400), size_um=1.0)
    assert {tuple(link[2:]) for link in land(wafer, places, 5).dead_links} == set(links_of_site(WSE3))


def test_links_that_lead_off_the_wafer_have_no_effect() -> None:
    wafer = _only(WSE3, "link")
    last = wafer.shape[1] - 1
    faults = FaultMap.from_defects(wafer, _at(wafer, *[(600, last)] * 60), rng=6)
    assert {outcome.effect for outcome in faults.outcomes} == {"dead link", "off edge link"}
    assert set(map(tuple, faults.dead_links[:, 2:].tolist())) == {(1, -1), (1, 0)}


def test_a_miss_may_leave_the_core_marginal() -> None:
    n = 5000
    wafer = _only(WSE3, "core_logic", kill_ratio=0.25, marginal=0.4)
    rng = np.random.Generator(np.random.Philox(7))
    sites = [(int(r), int(c)) for r, c in zip(rng.integers(20, 1200, n), rng.integers(20, 770, n), strict=True)]
    faults = FaultMap.from_defects(wafer, _at(wafer, *sites, size_um=wafer.process.reference_size_um), rng=8)
    count = Counter(outcome.effect for outcome in faults.outcomes)
    on_core = n - sum(outcome.landed_on == "no core" for outcome in faults.outcomes)
    assert _within_five_sigma(count["marginal core"], on_core, 0.75 * 0.4)
    assert set(faults.marginal_risks.tolist()) == {0.25}


def test_a_core_that_dies_is_not_marginal() -> None:
    wafer = _only(WSE3, "core_logic", kill_ratio=0.5, marginal=1.0)
    faults = FaultMap.from_defects(wafer, _at(wafer, *[(600, 400)] * 20, size_um=0.02), rng=9)
    assert set(faults.effects()) == {"marginal core", "dead core"}
    assert faults.dead_cores.tolist() == [[600, 400]]
    assert len(faults.marginal_cores) == 0


def test_defects_beside_the_cores_do_nothing() -> None:
    mini = WaferSpec.preset("mini")
    places = Defects.at([(0, 149.0), mini.xy_mm(0, 0), mini.xy_mm(10, 10)], size_um=100.0)
    faults = FaultMap.from_defects(mini, places, rng=1)
    assert [(o.row, o.col, o.landed_on, o.effect) for o in faults.outcomes] == [(-1, -1, "no core", "none")] * 3
    assert faults.n_faults == 0


def test_one_more_defect_changes_none_before_it() -> None:
    sites = [(600 + i, 300 + i) for i in range(30)]
    fewer = FaultMap.from_defects(WSE3, _at(WSE3, *sites[:-1]), rng=10)
    more = FaultMap.from_defects(WSE3, _at(WSE3, *sites), rng=10)
    assert more.outcomes[:-1] == fewer.outcomes


def test_same_seed_same_map_and_effects_add_up() -> None:
    law = Poisson(d0_per_cm2=0.1)
    for seed in range(20):
        defects = law.sample(WSE3, rng=seed)
        a, b = (FaultMap.from_defects(WSE3, defects, rng=seed) for _ in range(2))
        assert a == b
        assert a.outcomes == b.outcomes
        assert sum(a.effects().values()) == len(defects) == len(a.outcomes_frame())
        assert set(a.effects()) <= set(EFFECTS)
        for outcome in a.outcomes:
            if outcome.effect == "dead core":
                assert a.state(outcome.row, outcome.col) == "dead"


def test_notes_say_how_the_defects_were_laid() -> None:
    faults = FaultMap.from_defects(WSE3, Poisson(d0_per_cm2=0.1).sample(WSE3, rng=1), rng=1)
    assert faults.notes == ("defects: sampled, poisson law",)


def test_a_map_without_outcomes_has_the_same_faults() -> None:
    law = Poisson(d0_per_cm2=3.0)
    for wafer in (WSE3, WaferSpec.preset("mini"), _only(WSE3, "power_region"), _only(WSE3, "router", marginal=1.0)):
        kinds = Counter()
        for seed in range(15):
            defects = law.sample(wafer, rng=seed)
            whole = FaultMap.from_defects(wafer, defects, rng=seed, wafer_id="W1")
            bare = FaultMap.from_defects(wafer, defects, rng=seed, wafer_id="W1", outcomes=False)
            assert bare == whole
            assert bare.fingerprint == whole.fingerprint
            for name in ("dead_cores", "dead_links", "dead_routers", "marginal_cores", "marginal_risks"):
                ours, other = getattr(bare, name), getattr(whole, name)
                assert ours.dtype == other.dtype
                assert not ours.flags.writeable
                assert (ours == other).all()
            assert not bare.outcomes
            kinds.update(whole.effects())
        assert kinds
