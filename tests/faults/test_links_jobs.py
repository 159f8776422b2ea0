"""Faults of links, queues and switches in whole jobs: named by physical site, equal on all executors."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.emulator.random_links import LINK_HOOKS, STEP, random_link_hooks
from tests.emulator.test_wavelet_runs import apart_from_time
from tests.emulator.tiny import batches, perfect, tiny_gpt
from tests.faults.test_both_executors import decode
from tests.repair.oracle import random_case
from yieldkit.burnin import Campaign
from yieldkit.burnin.referee import label_of
from yieldkit.diagnosis import diagnose
from yieldkit.emulator.hooks import LaunchHooks, LinkHook, QueueHook
from yieldkit.emulator.links import LINK_PROTECTIONS
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import check_protection, protection_options, run
from yieldkit.emulator.symptoms import Symptoms
from yieldkit.errors import BadInput, BadSpec
from yieldkit.fabric import Fabric
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.repair import plan_repair
from yieldkit.wafer import WaferSpec

ORIGIN = (1, 2)
EXECUTORS = ("tensor", "reference", "wavelet")


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


class Wafer:
    """A perfect fabric of a wafer with a protection: as much of its spec as is read."""

    def __init__(self, links="none", sram="none"):
        self.inner = perfect()
        self.spec = self.machine = self.protection = self
        self.links, self.sram = links, sram
        self.sram_words, self.queue_depth = 12_288, 4

    def __getattr__(self, name):
        return getattr(self.inner, name)


def event_of(hooks, placement, step, launch):
    """The one hook there is as an event at its physical site; None where a link leads out of the rectangle."""
    for kind in ("links", "queues", "switches"):
        for hook in getattr(hooks, kind):
            row, col = placement.physical(hook.r, hook.c)
            common = {"row": row, "col": col, "step": step, "launch": launch, "colour": hook.colour, "mask": hook.mask}
            if kind == "switches":
                return FaultEvent("switch", **common)
            common |= {"nth": hook.nth, "keep": hook.keep, "lasts": hook.lasts}
            if kind == "queues":
                return FaultEvent("queue", port=hook.port, **common)
            there = (hook.r + STEP[hook.port][0], hook.c + STEP[hook.port][1])
            if not (0 <= there[0] < placement.rows and 0 <= there[1] < placement.cols):
                return None
            far = placement.physical(*there)
            what = {"drop": hook.drop, "duplicate": hook.duplicate, "credit": hook.credit, "delay": hook.delay}
            place = "link_" + next((name for name, asked in what.items() if asked), "flip")
            return FaultEvent(place, drow=far[0] - row, dcol=far[1] - col, cycles=hook.delay, **common)
    return None


def draw(low, placement, steps, kind, seed):
    rng = np.random.default_rng([seed, LINK_HOOKS.index(kind)])
    while True:
        launch = low.launches[int(rng.integers(len(low.launches)))]
        hooks = random_link_hooks(rng, launch, 1, (kind,))
        event = event_of(hooks, placement, int(rng.integers(steps)), launch.name)
        if event is not None:
            # What the plan makes of the site is the hook again.
            assert FaultPlan([event], placement).hooks(event.step, launch) == hooks
            assert FaultEvent.from_dict(event.to_dict()) == event
            return event


def compare(low, placement, event, steps, links="none", **options):
    """The run of all executors, which have to agree."""
    plan = FaultPlan([event] if event is not None else [], placement)
    options |= {"steps": steps, "faults": plan, "origin": placement.origin}
    results = [run(low, Wafer(links), executor=name, **options) for name in EXECUTORS]
    for other in results[1:]:
        assert results[0].step_digests == other.step_digests, (event, links)
        assert results[0].state_hash == other.state_hash, (event, links)
        assert apart_from_time(results[0]) == apart_from_time(other), (event, links)
    return results[0]


def strike_many(low, placement, steps, seeds, **options):
    clean = compare(low, placement, None, steps, **options)
    found = Counter()
    for seed in seeds:
        for kind in LINK_HOOKS:
            links = LINK_PROTECTIONS[(seed + LINK_HOOKS.index(kind)) % 4]
            result = compare(low, placement, draw(low, placement, steps, kind, seed), steps, links, **options)
            same = result.state_hash == clean.state_hash
            found[kind, result.symptoms.status if result.symptoms.status != "COMPLETED" or not same else "same"] += 1
    return found


def test_training():
    low = tiny_gpt()
    found = strike_many(low, Placement.of(low.program, perfect(), ORIGIN), 2, range(1), batches=batches(2))
    assert found["dead", "STALL_DETECTED"] > 0
    assert found["delay", "same"] == 1


def test_decoding():
    low = decode()
    found = strike_many(low, Placement.of(low.program, perfect()), 3, range(3))
    assert found["dead", "STALL_DETECTED"] > 0
    assert found["delay", "same"] == 3


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_training_many(seed):
    low = tiny_gpt()
    seeds = range(1000 * seed, 1000 * seed + 20)
    found = strike_many(low, Placement.of(low.program, perfect(), ORIGIN), 2, seeds, batches=batches(2, seed))
    statuses = {status for _, status in found}
    assert statuses >= {"same", "COMPLETED", "STALL_DETECTED", "CORRUPTION_DETECTED"}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_decoding_many(seed):
    low = decode()
    strike_many(low, Placement.of(low.program, perfect()), 3, range(1000 * seed, 1000 * seed + 30))


def partial_sum(low, **fields):
    """A word of the first partial sums that go east, from the rectangle's north-west core."""
    launch = next(one for one in low.launches if "chain_east" in one.colours)
    colour = launch.colours["chain_east"][0]
    fields = {"mask": 1 << 30, "nth": 1, "step": 1, "drow": 0, "dcol": 1} | fields
    return FaultEvent("link_flip", *ORIGIN, launch=launch.name, colour=colour, **fields)


def seen_with(links, **fields):
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect(), ORIGIN)
    event = partial_sum(low, **fields)
    clean = compare(low, placement, None, 3, batches=batches(3))
    return event, clean, compare(low, placement, event, 3, links, batches=batches(3))


def test_a_word_that_parity_sees_stops_the_job():
    event, clean, result = seen_with("parity")
    symptoms = result.symptoms
    assert symptoms.status == "CORRUPTION_DETECTED"
    assert symptoms.stalled_launch == event.launch
    (seen,) = symptoms.events
    assert (seen.row, seen.col, seen.kind, seen.count) == (ORIGIN[0], ORIGIN[1] + 1, "parity", 1)
    assert symptoms.steps_done == 1
    assert symptoms.loss == clean.symptoms.loss[:1]
    # The host takes nothing from the launch: its weights are those after the first step.
    assert result.memoryx.step == 1
    before = run(tiny_gpt(), perfect(), origin=ORIGIN, batches=batches(3), steps=1)
    assert result.memoryx.state_hash == before.memoryx.state_hash
    assert not set(result.outputs) & {phase.stream for phase in _outputs(event.launch)}
    assert diagnose(symptoms).code == "DUE_TRAP"
    assert Symptoms.from_dict(symptoms.to_dict()) == symptoms


def _outputs(name):
    low = tiny_gpt()
    return [p for p in next(x for x in low.launches if x.name == name).launch.phases if hasattr(p, "mode")]


def test_parity_lets_two_wrong_bits_pass():
    _, clean, result = seen_with("parity", mask=3 << 29)
    assert result.symptoms.status == "COMPLETED"
    assert not result.symptoms.events
    assert result.state_hash != clean.state_hash


def test_crc_repairs_what_strikes_once_and_sees_what_stays():
    _, clean, result = seen_with("crc")
    assert result.symptoms.status == "COMPLETED"
    assert [(e.kind, e.count) for e in result.symptoms.events] == [("crc", 1)]
    assert result.state_hash == clean.state_hash
    assert diagnose(result.symptoms).code == "CORRECTED"
    _, _, result = seen_with("crc", lasts=True)
    assert result.symptoms.status == "CORRUPTION_DETECTED"
    assert {e.kind for e in result.symptoms.events} == {"crc_failed"}
    assert diagnose(result.symptoms).code == "DUE_TRAP"


def test_without_a_check_the_word_goes_on_unseen():
    _, clean, result = seen_with("none")
    assert result.symptoms.status == "COMPLETED"
    assert not result.symptoms.events
    assert result.state_hash != clean.state_hash


def test_a_lost_word_stalls_whatever_parity_or_crc_say():
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect(), ORIGIN)
    event = replace(partial_sum(low), place="link_drop", mask=0)
    for links in LINK_PROTECTIONS:
        symptoms = compare(low, placement, event, 2, links, batches=batches(2)).symptoms
        assert symptoms.status == "STALL_DETECTED"
        assert [e.kind for e in symptoms.events] == (["sequence"] if links == "sequence" else [])
        assert diagnose(symptoms).code == "STALL_DROP"


def test_the_link_is_named_by_its_physical_ends():
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect(), ORIGIN)
    launch = low.launches[1]
    base = {"step": 0, "launch": launch.name, "colour": 1}
    for place, fields in (
        ("link_duplicate", {"duplicate": True}),
        ("link_credit", {"credit": True}),
        ("link_delay", {"delay": 7}),
        ("link_drop", {"drop": True}),
    ):
        event = FaultEvent(place, 1, 3, drow=0, dcol=-1, cycles=fields.get("delay", 0), nth=2, lasts=True, **base)
        hooks = FaultPlan([event], placement).hooks(0, launch)
        wanted = {"drop": False, "mask": 0, "lasts": True} | fields
        assert hooks == LaunchHooks(links=(LinkHook(0, 1, 3, 1, 2, **wanted),))
        # Beyond the rectangle, or between cores that no link joins.
        for away in ({"row": 0}, {"col": 2}, {"dcol": 2}):
            assert not FaultPlan([replace(event, **away)], placement).hooks(0, launch)
    queue = FaultEvent("queue", 2, 4, port=4, mask=5, keep=1, nth=3, **base)
    assert FaultPlan([queue], placement).hooks(0, launch) == LaunchHooks(queues=(QueueHook(1, 2, 4, 1, 3, 5, 1),))
    assert not FaultPlan([replace(queue, row=0)], placement).hooks(0, launch)


@pytest.mark.parametrize(
    ("place", "fields", "said"),
    [
        ("link_duplicate", {"mask": 1}, "mask"),
        ("link_credit", {"mask": 1}, "mask"),
        ("link_delay", {}, "cycles"),
        ("link_delay", {"cycles": 1 << 20}, "cycles"),
        ("queue", {}, "mask"),
        ("queue", {"mask": 1, "port": 6}, "port"),
        ("queue", {"mask": 1, "keep": -1}, "keep"),
        ("queue", {"mask": 1, "lasts": 1}, "lasts"),
        ("switch", {"mask": 4}, "mask"),
        ("switch", {}, "mask"),
    ],
)
def test_what_no_event_can_say(place, fields, said):
    with pytest.raises(BadInput, match=said):
        FaultEvent(place, 0, 0, 0, "x", drow=1, **fields)


def test_the_referee_names_what_checks_have_done():
    class Clean:
        """As much of a golden run as the referee reads for these."""

    for links, fields, label in (("parity", {}, "DUE_TRAP"), ("crc", {}, "CORRECTED"), ("none", {}, None)):
        event, clean, result = seen_with(links, **fields)
        golden = Clean()
        golden.result, golden.steps, golden.baseline = clean, 3, None
        if label is not None:
            assert label_of(golden, result, event, (0, 0), tiny_gpt()) == label


def test_protections_of_links_are_acted_out():
    for links in LINK_PROTECTIONS:
        check_protection(Wafer(links))
        assert protection_options(Wafer(links))["guard"].kind == links


def test_framing_that_is_not_acted_out_is_refused_with_what_to_set(tmp_path):
    wafer = WaferSpec.preset("mini").changed({"machine.protection.framing": "delimited"})
    with pytest.raises(BadInput, match=r'machine\.protection\.framing.*delimited.*set it to "counted"'):
        check_protection(wafer)
    check_protection(WaferSpec.preset("mini"))
    path = tmp_path / "wafer.toml"
    path.write_text(wafer.to_toml())
    tables = {
        "campaign": {"name": "framing", "seed": 1, "trials": 1},
        "wafer": {"spec": str(path)},
        "program": {"kind": "gpt_training"},
        "faults": {"kinds": {"sram_data": 1}},
    }
    with pytest.raises(BadSpec, match=r"wafer\.spec.*framing"):
        Campaign.from_tables(tables, source="test")


def test_on_a_repaired_fabric_only_the_links_in_use_are_struck():
    """Every pair of physical cores in reach of a link: what joins two neighbours of the program is struck there."""
    low = tiny_gpt()
    launch = low.launches[1]
    bypassed = 0
    for k in range(24):
        faults, rules = random_case(np.random.default_rng([31, k]))
        repair = plan_repair(faults, rules)
        if not repair.repaired:
            continue
        fabric = Fabric.boot(repair.firmware(wafer_id="T"), None)
        if fabric.shape[0] < 2 or fabric.shape[1] < 4:
            continue
        placement = Placement.of(low.program, fabric)
        wanted = {}
        for r, c in np.ndindex(2, 4):
            for port, (down, right) in enumerate(STEP):
                if 0 <= r + down < 2 and 0 <= c + right < 4:
                    wanted[placement.physical(r, c), placement.physical(r + down, c + right)] = (r, c, port)
        sites = [(row, col) for row in range(8) for col in range(8)]
        near = [(a, b) for a in sites for b in sites if a != b and abs(a[0] - b[0]) <= 2 and abs(a[1] - b[1]) <= 3]
        for a, b in near:
            event = FaultEvent("link_duplicate", *a, 0, launch.name, drow=b[0] - a[0], dcol=b[1] - a[1], colour=1)
            found = FaultPlan([event], placement).hooks(0, launch).links
            assert [(h.r, h.c, h.port) for h in found] == ([wanted[a, b]] if (a, b) in wanted else []), (k, a, b)
        used = {placement.physical(r, c) for r, c in np.ndindex(2, 4)}
        for site in sites:
            for event in (
                FaultEvent("queue", *site, 0, launch.name, mask=1, colour=1),
                FaultEvent("switch", *site, 0, launch.name, mask=1, colour=1),
            ):
                assert bool(FaultPlan([event], placement).hooks(0, launch)) == (site in used)
        assert set(wanted) <= set(near)
        bypassed += any(abs(a[0] - b[0]) + abs(a[1] - b[1]) > 1 for a, b in wanted)
    assert bypassed > 0
