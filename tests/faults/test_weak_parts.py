"""Weak parts: how many, where and when, their ages under stress, files, and what they do once they fail."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

import yieldkit as yk
from tests.emulator.tiny import tiny_gpt
from yieldkit.emulator.placement import Placement
from yieldkit.errors import BadFile, BadInput
from yieldkit.faultmap.landing import links_of_site
from yieldkit.faults import (
    MECHANISMS,
    MEEKER_SHAPE,
    Ageing,
    Environment,
    FaultEvent,
    Mechanism,
    PersistentFault,
    PersistentPlan,
    WeakPart,
    WeakParts,
    WeakPopulation,
)

WAFER = yk.WaferSpec.preset("mini")
PRESENT = WAFER.present_mask()
N_CORES = int(PRESENT.sum())


def all_links():
    """Every physical link of the wafer, by a walk over the sites."""
    return [
        (row, col, drow, dcol)
        for row, col in np.argwhere(PRESENT).tolist()
        for drow, dcol in links_of_site(WAFER)
        if WAFER.is_present(row + drow, col + dcol)
    ]


def drawn(population, n):
    return [population.sample(WAFER, rng=seed) for seed in range(n)]


def test_numbers_of_cores_and_links_are_those_of_the_fractions():
    population = WeakPopulation(0.004, 0.001)
    links = len(all_links())
    wafers = drawn(population, 400)
    counts = np.array([sum(part.link is None for part in parts) for parts in wafers])
    expected = {"core": 0.004 * N_CORES, "link": 0.001 * links}
    found = {"core": counts.sum(), "link": sum(len(parts) for parts in wafers) - counts.sum()}
    for name, mean in expected.items():
        total = 400 * mean
        assert abs(found[name] - total) <= 5 * math.sqrt(total), name
        assert abs(found[name] - 1.25 * total) > 5 * math.sqrt(total), name  # control: a quarter more would show
    # Poisson: the variance of the count is its mean.
    assert abs(counts.var() / counts.mean() - 1) <= 5 * math.sqrt(2 / 400)


def test_a_count_law_clusters_weak_parts_by_wafer():
    law = yk.NegativeBinomial(d0_per_cm2=0.0, alpha=0.5)
    sizes = np.array([len(parts) for parts in drawn(WeakPopulation(0.01, 0.0, clustering=law), 400)])
    mean = 0.01 * N_CORES
    assert abs(sizes.mean() - mean) <= 5 * math.sqrt((mean + mean**2 / 0.5) / 400)
    # Negative binomial: variance m + m²/alpha.
    assert sizes.var() > 3 * sizes.mean()


def test_places_are_uniform_over_what_the_wafer_has():
    population = WeakPopulation(0.02, 0.01)
    cores, links = Counter(), Counter()
    wafers = drawn(population, 300)
    for parts in wafers:
        keys = [part.link or part.site for part in parts]
        assert len(set(keys)) == len(keys)
        for part in parts:
            (cores if part.link is None else links)[part.link or part.site] += 1
    known = set(all_links())
    assert set(links) <= known
    assert all(WAFER.is_present(*site) for site in cores)
    halves = [sum(n for (row, _), n in cores.items() if (row < 11) == north) for north in (True, False)]
    share = PRESENT[:11].sum() / N_CORES
    assert abs(halves[0] - sum(halves) * share) <= 5 * math.sqrt(sum(halves) * share * (1 - share))
    along = sum(n for (_, _, drow, _), n in links.items() if drow == 0)
    share = sum(key[2] == 0 for key in known) / len(known)
    total = sum(links.values())
    assert abs(along - total * share) <= 5 * math.sqrt(total * share * (1 - share))
    assert abs(along - 1.3 * total * share) > 5 * math.sqrt(total * share * (1 - share))  # control
    # Both ways over a link are as likely.
    ways = [part.fault.event for parts in wafers for part in parts if part.link is not None]
    forward = sum((event.drow, event.dcol) > (0, 0) for event in ways)
    assert abs(forward - len(ways) / 2) <= 5 * math.sqrt(len(ways) / 4)


def test_an_intensity_says_where():
    intensity = np.zeros(WAFER.shape)
    intensity[5, :] = 1.0
    intensity[6, :] = 3.0
    parts = [part for one in drawn(WeakPopulation(0.02, 0.01, intensity=intensity), 60) for part in one]
    rows = Counter(part.site[0] for part in parts if part.link is None)
    assert set(rows) == {5, 6}
    assert rows[6] > 1.8 * rows[5]
    assert {(part.link or (0,))[0] for part in parts if part.link} == {5, 6}
    with pytest.raises(BadInput, match="shape"):
        WeakPopulation(0.1, 0.0, intensity=np.ones((2, 2))).sample(WAFER, rng=0)


def test_ages_at_failure_have_the_shape_of_infant_mortality():
    population = WeakPopulation(0.03, 0.01)
    ages = np.array([part.onset_hours for parts in drawn(population, 150) for part in parts])
    assert len(ages) > 2000
    assert stats.kstest(ages, "weibull_min", (MEEKER_SHAPE, 0, 1000.0)).pvalue > 1e-3
    assert stats.kstest(ages, "weibull_min", (0.6, 0, 1000.0)).pvalue < 1e-6  # control: another shape
    # Over all cores: the limited failure population.
    failed = sum(part.link is None and part.onset_hours <= 100.0 for one in drawn(population, 150) for part in one)
    expected = 150 * N_CORES * float(population.core_life.cdf(100.0))
    assert abs(failed - expected) <= 5 * math.sqrt(expected)


def test_kinds_have_their_weights_among_cores_and_among_links():
    kinds = {"stuck_cell": 3.0, "datapath_bit": 1.0, "link_drop": 1.0, "link_bit": 0.0}
    parts = [part for one in drawn(WeakPopulation(0.02, 0.01, kinds=kinds), 150) for part in one]
    count = Counter(part.kind for part in parts)
    assert set(count) == {"stuck_cell", "datapath_bit", "link_drop"}
    cores = count["stuck_cell"] + count["datapath_bit"]
    assert abs(count["stuck_cell"] - 0.75 * cores) <= 5 * math.sqrt(cores * 0.75 * 0.25)
    assert all((part.link is not None) == (part.kind == "link_drop") for part in parts)


def test_the_same_seed_gives_the_same_parts():
    population = WeakPopulation(0.01, 0.01)
    assert population.sample(WAFER, rng=3) == population.sample(WAFER, rng=3)
    assert population.sample(WAFER, rng=3) != population.sample(WAFER, rng=4)
    sites, links = [(5, 5), (5, 6)], [(5, 5, 0, 1)]
    one = population.sample_at("stuck_cell", 5, WAFER, sites=sites, links=links, rng=1)
    more = population.sample_at("stuck_cell", 9, WAFER, sites=sites, links=links, rng=1)
    assert more.parts[:5] == one.parts
    assert {part.site for part in more} <= set(sites)


@pytest.mark.parametrize("kind", MECHANISMS)
def test_every_kind_makes_faults_that_a_plan_takes(kind):
    program, fabric = tiny_gpt(), yk.Fabric.perfect(8, 8)
    placement = Placement.of(program.program, fabric)
    sites, links = [(0, 0), (1, 2)], [(0, 0, 0, 1), (0, 2, 1, 0)]
    parts = WeakPopulation(0.1, 0.1).sample_at(kind, 30, WAFER, sites=sites, links=links, rng=2)
    where = Environment(380.0, 0.7, 1e9)
    faults = list({fault.key: fault for fault in parts.faults(where)}.values())
    assert len(faults) > 1
    plan = PersistentPlan(faults, placement, program, environment=where, seed=1)
    plan.check(program)
    counts = [plan.strikes(fault, 0, low) for fault in faults for low in program.launches]
    assert sum(counts) > 0
    struck = [event for low in program.launches for event in plan.events(0, low)][:1000]
    assert {event.place for event in struck} == {MECHANISMS[kind].place}
    assert all(MECHANISMS[kind].source for kind in MECHANISMS)


def part_of(onset=100.0, **ageing):
    event = FaultEvent("result", 1, 2, 0, "", mask=1)
    return WeakPart(0, "datapath_bit", PersistentFault(event), onset, Ageing(**ageing))


def test_stress_ages_a_part_by_its_acceleration():
    parts = WeakParts((part_of(activation_ev=0.7),))
    use = Environment(age_hours=99.0)
    assert not parts.faults(use)
    assert len(parts.faults(Environment(age_hours=100.0))) == 1
    # 55 to 125 °C at 0.7 eV is 77.6454: 1 h 18 min at 125 °C are worth 101 h.
    hot = Environment(398.15)
    assert parts.parts[0].age(use, [(hot, 1.3)]) == pytest.approx(99 + 1.3 * 77.6454, rel=1e-6)
    assert len(parts.faults(Environment(), stress=[(hot, 1.3)])) == 1
    assert not parts.faults(Environment(), stress=[(hot, 1.28)])
    # By site: a cool core of a hot wafer is not aged.
    grid = np.full((3, 3), 398.15)
    grid[1, 2] = 328.15
    assert not parts.faults(Environment(), stress=[(Environment(grid), 99.0)])
    with pytest.raises(BadInput, match="hours of stress"):
        parts.faults(use, stress=[(hot, -1.0)])


def test_parts_survive_files_and_tables(tmp_path):
    parts = WeakPopulation(0.02, 0.01).sample(WAFER, rng=8)
    path = parts.save(tmp_path / "weak.json")
    assert WeakParts.load(path) == parts
    frame = parts.to_frame()
    assert list(frame["kind"]) == [part.kind for part in parts]
    assert frame.loc[frame["drow"].eq(0) & frame["dcol"].eq(0), "kind"].map(lambda k: not MECHANISMS[k].on_link).all()
    data = json.loads(path.read_text())
    for change in (
        {"format": "x"}, {"version": 2}, {"parts": 3}, {"parts": [{}]}, {"parts": [data["parts"][0]] * 2}, {"wafer": 1},
    ):  # fmt: skip
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(BadFile, match=r"weak\.json") as caught:
            WeakParts.load(path)
        assert "\n" not in str(caught.value)
    for text in ("[]", "{", "[" * 5000):
        path.write_text(text)
        with pytest.raises(BadFile):
            WeakParts.load(path)


def test_memory_goes_by_the_part():
    wafer = yk.WaferSpec.preset("wse3")
    parts = WeakPopulation(1e-5, 1e-6).sample(wafer, rng=1)
    assert 0 < len(parts) < 60
    assert len(json.dumps(parts.to_dict())) < 2000 * len(parts)
    assert all(wafer.is_present(*part.site) for part in parts)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: WeakPopulation(-0.1, 0), "core_fraction"),
        (lambda: WeakPopulation(0, 2), "link_fraction"),
        (lambda: WeakPopulation(0.1, 0, shape=0), "shape"),
        (lambda: WeakPopulation(0.1, 0, kinds={"ghost": 1}), "unknown kind"),
        (lambda: WeakPopulation(0.1, 0, kinds={"link_drop": 1}), "no kind of weak core"),
        (lambda: WeakPopulation(0, 0.1, kinds={"stuck_cell": 1}), "no kind of weak link"),
        (lambda: WeakPopulation(0.1, 0, kinds={"stuck_cell": -1}), "weight"),
        (lambda: WeakPopulation(0, 0).sample_at("ghost", 1, WAFER, sites=[], links=[], rng=0), "unknown kind"),
        (lambda: WeakPopulation(0, 0).sample_at("link_drop", 1, WAFER, sites=[(1, 1)], links=[], rng=0), "no link"),
        (lambda: Mechanism("x", "cosmic", "flip", "permanent"), "place"),
        (lambda: Mechanism("x", "sram", "melt", "permanent"), "model"),
        (lambda: Mechanism("x", "sram", "flip", "transient"), "intermittent or permanent"),
        (lambda: Mechanism("x", "sram", "flip", "intermittent"), "per_occasion"),
        (lambda: Mechanism("x", "sram", "stuck", "permanent", above_k=(3, 1)), "above_k"),
        (lambda: WeakParts((part_of(), part_of())), "differ"),
        (lambda: part_of(-1.0), "onset_hours"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(BadInput, match=said):
        make()


def test_mechanisms_survive_the_round_trip():
    for mechanism in MECHANISMS.values():
        assert Mechanism.from_dict(json.loads(json.dumps(mechanism.to_dict()))) == mechanism
