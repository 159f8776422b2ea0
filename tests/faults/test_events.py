"""Fault events: what is refused, the round trip, what a bypassed site does, and what the sampler draws."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.emulator.tiny import GPT, perfect, tiny_gpt
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.isa import OPCODES
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.errors import BadInput
from yieldkit.faults import FAULT_KINDS, PLACES, FaultEvent, FaultPlan, FaultSampler
from yieldkit.faults.host_places import HOST_PLACES
from yieldkit.faults.traffic import task_extents
from yieldkit.workloads.decode import gpt_decode

GOOD = FaultEvent("sram", 1, 2, 0, "embed", mask=8, address=40)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"place": "cosmic"}, "place"),
        ({"mask": 0}, "mask"),
        ({"mask": 1 << 39}, "mask"),
        ({"mask": 1 << 32, "place": "register"}, "mask"),
        ({"mask": 1 << 16, "place": "index"}, "mask"),
        ({"mask": 0, "keep": 0xFFFF, "place": "index"}, "mask"),
        ({"keep": 1 << 32}, "keep"),
        ({"keep": -1}, "keep"),
        ({"lasts": 1}, "lasts"),
        ({"factor": 2.0}, "factor"),
        ({"factor": 0.5, "place": "slow"}, "factor"),
        ({"factor": "2", "place": "slow"}, "factor"),
        ({"place": "operand"}, "operand"),
        ({"place": "index", "word": 3}, "word"),
        ({"place": "index", "operand": -1}, "operand"),
        ({"step": -1}, "step"),
        ({"address": 12_288}, "address"),
        ({"address": -1}, "address"),
        ({"colour": 24}, "colour"),
        ({"position": 4}, "position"),
        ({"operand": 3}, "operand"),
        ({"operand": -1, "word": 2}, "word"),
        ({"phase": -1}, "phase"),
        ({"task": -1}, "task"),
        ({"element": -1}, "element"),
        ({"nth": -1}, "nth"),
        ({"mask": 1.5}, "mask"),
        ({"row": "1"}, "row"),
        ({"place": "link_drop", "mask": 0}, "other end"),
        ({"place": "link_flip", "drow": 1, "mask": 0}, "mask"),
        ({"place": "route", "phase": 1}, "launch's start"),
    ],
)
def test_a_bad_event_is_refused_in_one_line(change, said):
    with pytest.raises(BadInput, match=said) as caught:
        replace(GOOD, **change)
    assert "\n" not in str(caught.value)


def test_events_survive_the_round_trip():
    for event in (
        GOOD,
        replace(GOOD, mask=0, keep=0, lasts=True),
        FaultEvent("slow", 3, 3, 1, "head", factor=1.5),
        FaultEvent("link_drop", 3, 3, 1, "head", drow=-1, dcol=0, colour=5, nth=9),
    ):
        assert FaultEvent.from_dict(event.to_dict()) == event
    with pytest.raises(BadInput):
        FaultEvent.from_dict({**GOOD.to_dict(), "surprise": 1})
    with pytest.raises(BadInput):
        FaultEvent.from_dict({"place": "sram"})
    with pytest.raises(BadInput):
        FaultEvent.from_dict({**GOOD.to_dict(), "mask": "x"})


def test_a_link_has_one_name_from_both_ends():
    assert FaultEvent("link_drop", 3, 3, 0, "x", drow=-1).link == (2, 3, 1, 0)
    assert FaultEvent("link_drop", 2, 3, 0, "x", drow=1).link == (2, 3, 1, 0)
    assert FaultEvent("link_drop", 2, 3, 0, "x", dcol=-1).link == (2, 2, 0, 1)
    assert GOOD.link is None


def test_sites_outside_the_rectangle_touch_nothing():
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect(), (2, 1))
    launch = low.launches[1]
    inside = FaultPlan([replace(GOOD, row=2, col=1, launch=launch.name)], placement)
    assert inside.hooks(0, launch).sram[0].r == 0
    assert not inside.hooks(1, launch)
    assert not inside.hooks(0, low.launches[0])
    for row, col in ((0, 0), (4, 1), (2, 5), (7, 7), (100, 3)):
        for place in set(PLACES) - set(HOST_PLACES):
            changes = place == "link_flip" or not place.startswith("link")
            event = FaultEvent(
                place, row, col, 0, launch.name, mask=int(changes), dcol=1, operand=1, lasts=True, cycles=1
            )
            hooks = FaultPlan([event], placement).hooks(0, launch)
            assert hooks == LaunchHooks()
            assert not hooks
    # A link that leaves the rectangle carries nothing there.
    border = FaultEvent("link_drop", 2, 4, 0, launch.name, dcol=1)
    assert not FaultPlan([border], placement).hooks(0, launch)


def test_a_phase_that_a_launch_lacks_is_refused():
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect())
    with pytest.raises(BadInput, match="phases"):
        FaultPlan([replace(GOOD, phase=40)], placement).hooks(0, low.launches[0])


@pytest.mark.parametrize("program", ["training", "decode"])
def test_the_sampler_draws_live_places_of_every_kind(program):
    low = tiny_gpt() if program == "training" else lower(gpt_decode(side=2, **GPT))
    placement = Placement.of(low.program, perfect(), (1, 1))
    sampler = FaultSampler(low, placement, 3)
    launches = {launch.name: launch for launch in low.launches}
    places, seen = Counter(), set()
    for seed in range(1200):
        kind = FAULT_KINDS[seed % len(FAULT_KINDS)] if seed < 300 else "config"
        event = sampler.draw(kind, np.random.default_rng(seed))
        assert event == sampler.draw(kind, np.random.default_rng(seed))
        launch = launches[event.launch]
        r, c = placement.logical(event.row, event.col)
        role = int(launch.role_of[r, c])
        image = launch.roles[role]
        places[kind, event.place] += 1
        seen.add((event.step, event.row, event.col))
        assert 0 <= event.step < 3
        assert event.mask.bit_count() == int(kind != "link_drop")
        meaning = low.meaning(launch.index, event.phase, role, event.address)
        if kind == "sram_data":
            assert meaning.kind == "tensor"
        elif kind == "accumulator":
            tasks = image.tables[: 2 * image.n_tasks].reshape(-1, 2)
            macs = (tasks[:, 0] & 0x3F) == OPCODES["mac"]
            assert macs[event.task] or not macs.any()
            assert event.element < task_extents(image.tables, image.n_tasks)[event.task]
        elif kind == "config":
            assert event.place in ("sram", "route", "register")
            if event.place == "sram":
                assert meaning.kind in ("header", "task", "descriptor")
            elif event.place == "route":
                assert image.routes[event.colour, event.position]
        else:
            port = {(-1, 0): 0, (0, 1): 1, (1, 0): 2, (0, -1): 3}[event.drow, event.dcol]
            sent = sampler.traffic[launch.index]
            assert event.nth < sent.over(r * low.program.cols + c, port)[event.colour]
            assert FaultPlan([event], placement).hooks(event.step, launch).links[0].port == port
    # Tables hold nearly all the bits, so a bit of a route word is rare.
    assert {place for _, place in places} >= {"sram", "register", "result", "link_flip", "link_drop"}
    assert program == "decode" or places["config", "route"] > 0
    assert len(seen) >= 12


def test_the_sampler_keeps_to_given_sites_and_refuses_unknown_kinds():
    low = tiny_gpt()
    placement = Placement.of(low.program, perfect())
    sampler = FaultSampler(low, placement, 1, sites=((1, 2),))
    for seed in range(30):
        event = sampler.draw(FAULT_KINDS[seed % 5], np.random.default_rng(seed))
        assert event.site == (1, 2)
    with pytest.raises(BadInput, match="kind"):
        sampler.draw("gremlin", np.random.default_rng(0))
