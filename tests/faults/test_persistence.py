"""Transient, intermittent and permanent faults: what they strike, that draws need no history, and physical sites."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.emulator.tiny import batches, perfect, tiny_gpt
from tests.faults.test_control import fabric, program, victim
from yieldkit.emulator.machine import clean_elements
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.errors import BadInput
from yieldkit.faults import (
    Condition,
    Environment,
    Exposure,
    FaultEvent,
    FaultPlan,
    PersistentFault,
    PersistentPlan,
    RateLaw,
)
from yieldkit.faults.host_places import words_of_memoryx
from yieldkit.workloads.program import StreamIn

STEPS = 3
RESULT = FaultEvent("result", 1, 2, 0, "", mask=1 << 12)
WORD = FaultEvent("link_flip", 1, 1, 0, "", mask=1 << 13, dcol=1)
CELL = FaultEvent("sram", 1, 2, 0, "", address=40, mask=1 << 14, keep=0xFFFFFFFF & ~(1 << 14))
SURE = RateLaw(1e3)


def placed():
    return Placement.of(tiny_gpt().program, perfect())


def plan(*faults, **options):
    return PersistentPlan(faults, placed(), tiny_gpt(), **options)


def busiest():
    """The launch with the most elements."""
    return max(tiny_gpt().launches, key=lambda low: clean_elements(low).max())


def outcome(source=None, executor="tensor", steps=STEPS, **options):
    options.setdefault("batches", batches(STEPS))
    result = run(tiny_gpt(), perfect(), steps=steps, faults=source, executor=executor, **options)
    return result.state_hash, result.symptoms.status, result.step_digests


def every_event(fault, steps=STEPS):
    """One event an occasion, in every launch of every step."""
    exposure = Exposure(tiny_gpt(), placed())
    for step in range(steps):
        for low in tiny_gpt().launches:
            occasions = exposure.occasions(fault, "word" if fault.link else "element", low)
            for k in range(occasions.count):
                yield replace(fault, step=step, launch=low.name, **occasions.at(k))


@pytest.mark.parametrize("event", [RESULT, WORD], ids=["datapath", "link"])
def test_a_permanent_fault_strikes_at_every_occasion(event):
    permanent = outcome(plan(PersistentFault(event)), steps=1)
    assert permanent == outcome(FaultPlan(every_event(event, 1), placed()), steps=1)
    assert permanent == outcome(plan(PersistentFault(event, "intermittent", SURE)), steps=1)
    assert permanent != outcome(steps=1)
    once = next(every_event(event))
    assert permanent != outcome(FaultPlan([once], placed()), steps=1)


def test_both_executors_agree_on_persistent_faults():
    half = RateLaw(0.02)
    faults = [
        PersistentFault(replace(RESULT, col=3), "intermittent", half),
        PersistentFault(CELL),
        PersistentFault(replace(WORD, mask=1 << 3), "intermittent", half),
    ]
    source = plan(*faults, seed=3)
    assert any(source.events(0, low) for low in tiny_gpt().launches)
    assert outcome(source)[:2] == outcome(source, "reference")[:2]


def test_a_stuck_cell_is_stuck_in_every_launch_and_an_upset_one_is_not_permanent():
    stuck = plan(PersistentFault(CELL))
    for step in (0, 7):
        for low in tiny_gpt().launches:
            (event,) = stuck.events(step, low)
            assert (event.step, event.launch, event.phase, event.lasts) == (step, low.name, 0, True)
    for wrong in (replace(CELL, keep=0xFFFFFFFF), FaultEvent("route", 0, 0, 0, "", mask=1)):
        with pytest.raises(BadInput, match="stuck"):
            PersistentFault(wrong)
    PersistentFault(replace(CELL, mask=0))


def test_the_number_of_strikes_is_binomial():
    chance = 0.01
    source = plan(PersistentFault(RESULT, "intermittent", RateLaw(-math.log1p(-chance))), seed=5)
    low = busiest()
    each = source.exposure.occasions(RESULT, "element", low).count
    steps = 300
    counts = [len(source.events(step, low)) for step in range(steps)]
    n = each * steps
    spread = 5 * math.sqrt(n * chance * (1 - chance))
    assert abs(sum(counts) - n * chance) <= spread
    assert abs(sum(counts) - n * chance * 1.2) > spread  # a rate that is a fifth off would show
    variance = each * chance * (1 - chance)
    assert abs(np.var(counts) / variance - 1) <= 5 * math.sqrt(2 / steps)
    # Occasions are struck alike: the halves of the launch get the same share.
    order = {tuple(source.exposure.occasions(RESULT, "element", low).at(k).values()): k for k in range(each)}
    places = [order[e.task, e.element] for step in range(steps) for e in source.events(step, low)]
    first = sum(2 * place < each for place in places)
    share = math.ceil(each / 2) / each
    assert abs(first - len(places) * share) <= 5 * math.sqrt(len(places) * share * (1 - share))


def test_draws_need_no_history_and_do_not_depend_on_the_company():
    mine = PersistentFault(RESULT, "intermittent", RateLaw(0.05))
    other = PersistentFault(replace(RESULT, col=3), "intermittent", RateLaw(0.05))
    alone, together = plan(mine, seed=2), plan(other, mine, seed=2)
    lows = tiny_gpt().launches
    forward = {(step, low.name): alone.events(step, low) for step in range(6) for low in lows}
    for step in reversed(range(6)):
        for low in reversed(lows):
            fresh = plan(mine, seed=2).events(step, low)
            assert forward[step, low.name] == fresh
            assert together.events_of(mine, step, low) == fresh
    assert len(set(forward.values())) > 6
    assert any(plan(mine, seed=3).events(step, low) != forward[step, low.name] for step in range(6) for low in lows)
    assert [e.element for e in plan(mine).events(0, lows[0])] != [e.element for e in plan(other).events(0, lows[0])]


def test_a_run_resumed_at_any_step_is_the_run():
    source = plan(PersistentFault(RESULT, "intermittent", RateLaw(0.01)), PersistentFault(CELL), seed=9)
    digests = outcome(source)[2]
    assert digests != outcome()[2]
    for cut in (1, 2):
        head = run(tiny_gpt(), perfect(), steps=cut, faults=source, batches=batches(STEPS))
        again = plan(*source.faults, seed=9)
        assert digests[cut:] == outcome(again, steps=STEPS - cut, memoryx=head.memoryx)[2]


def test_conditions_are_those_of_the_physical_site():
    grid = np.full((8, 8), 300.0)
    grid[1, 2] = 360.0
    hot = Condition(above_k=350.0)
    low = busiest()
    here, there = PersistentFault(RESULT, condition=hot), PersistentFault(replace(RESULT, col=3), condition=hot)
    source = plan(here, there, environment=Environment(grid))
    assert {event.col for event in source.events(0, low)} == {2}
    law = RateLaw(1e-3, activation_ev=0.7)
    warm = plan(PersistentFault(RESULT, "intermittent", law), environment=Environment(grid), seed=1)
    cool = plan(PersistentFault(RESULT, "intermittent", law), environment=Environment(300.0), seed=1)
    strikes = [sum(len(one.events(step, low)) for step in range(20)) for one in (warm, cool)]
    assert strikes[0] > 20 * max(1, strikes[1])
    busy = plan(PersistentFault(RESULT, condition=Condition(above_activity=1.1)))
    assert not any(busy.events(0, low) for low in tiny_gpt().launches)


def test_steps_and_launches_limit_a_fault():
    name = tiny_gpt().launches[1].name
    source = plan(PersistentFault(replace(RESULT, launch=name), first_step=1, last_step=2))
    struck = {(s, low.name) for s in range(5) for low in tiny_gpt().launches if source.events(s, low)}
    assert struck == {(1, name), (2, name)}


def test_a_transient_fault_strikes_once():
    given = replace(RESULT, step=1, launch="head", task=1, element=0)
    drawn = PersistentFault(replace(RESULT, step=1), "transient")
    for source in (plan(PersistentFault(given, "transient")), plan(drawn, seed=4)):
        events = [event for step in range(4) for low in tiny_gpt().launches for event in source.events(step, low)]
        assert [event.step for event in events] == [1]
    assert plan(PersistentFault(given, "transient")).events(
        1, tiny_gpt().launches[[low.name for low in tiny_gpt().launches].index("head")]
    ) == (given,)
    # Over seeds, launches are struck as often as they have occasions.
    exposure = Exposure(tiny_gpt(), placed())
    counts = np.array([exposure.occasions(RESULT, "element", low).count for low in tiny_gpt().launches])
    n = 300
    found = np.zeros(len(counts))
    for seed in range(n):
        source = plan(drawn, seed=seed)
        source.exposure = exposure
        found += [len(source.events(1, low)) for low in tiny_gpt().launches]
    share = counts / counts.sum()
    assert found.sum() == n
    assert (np.abs(found - n * share) <= 5 * np.sqrt(n * share * (1 - share))).all()
    assert (np.abs(found - n / len(counts)) > 5 * np.sqrt(n * share * (1 - share))).any()


def site_faults():
    """A fault of every place at the victim of `test_control`, none of which waits for a condition."""
    row, col = victim()
    there = tuple(int(v) for v in fabric().core_of[3, 6])
    link = {"drow": there[0] - row, "dcol": there[1] - col}
    stuck = {"mask": 0, "keep": 0}
    often = RateLaw(0.5)
    for place, more in (
        ("result", {"mask": 1 << 14}),
        ("operand", {"mask": 1 << 14, "operand": 1}),
        ("product", {"mask": 1 << 30}),
        ("index", {"mask": 1, "operand": 1}),
        ("register", {"mask": 1 << 2, "operand": 0}),
        ("link_flip", {"mask": 1 << 14, **link}),
        ("link_drop", link),
        ("link_duplicate", link),
        ("link_credit", link),
    ):
        event = FaultEvent(place, row, col, 0, "", **more)
        yield PersistentFault(event)
        yield PersistentFault(event, "intermittent", often)
        yield PersistentFault(event, "transient")
    yield PersistentFault(FaultEvent("sram", row, col, 0, "", address=0, **stuck))
    yield PersistentFault(FaultEvent("route", row, col, 0, "", colour=0, **stuck))
    yield PersistentFault(FaultEvent("slow", row, col, 0, "", factor=2.0))
    yield PersistentFault(FaultEvent("queue", row, col, 0, "", port=0, colour=0, mask=1 << 14))
    yield PersistentFault(FaultEvent("switch", row, col, 0, "", mask=1), "intermittent", SURE)


@pytest.mark.parametrize("kind", ["training", "decode"])
def test_a_bypassed_site_is_never_touched(kind):
    low = program(kind)
    used, repaired = fabric(), fabric((victim(),))
    here, gone = (Placement.of(low.program, one, (2, 3)) for one in (used, repaired))
    away = Placement.of(low.program, used, (10, 9))
    for fault in site_faults():
        struck = [PersistentPlan([fault], place, low, seed=1) for place in (here, gone, away)]
        for source in struck:
            source.check(low)
        hooks = [[source.hooks(0, launch) for launch in low.launches] for source in struck]
        assert any(hooks[0]), fault.event.place
        assert not any(hooks[1]), fault.event.place
        assert not any(hooks[2]), fault.event.place


def test_a_permanently_lost_place_of_a_queue_is_lost_once_and_words_last_in_every_colour():
    low = busiest()
    lost = plan(PersistentFault(replace(WORD, place="link_credit", mask=0))).events(0, low)
    flips = plan(PersistentFault(WORD)).events(0, low)
    colours = sorted(event.colour for event in flips)
    assert len(colours) > 1
    assert colours == sorted({event.colour for event in lost})
    assert all(event.lasts and event.nth == 0 for event in flips)
    assert not any(event.lasts for event in lost)


def test_a_queue_meets_the_words_that_enter_it():
    here = Exposure(tiny_gpt(), placed())
    for low in tiny_gpt().launches:
        for colour in range(24):
            # From the west neighbour: what leaves it to the east.
            flip = here.occasions(replace(WORD, mask=1), "word", low)
            sent = sum(size for fields, _, size in flip.groups if dict(fields)["colour"] == colour)
            queue = FaultEvent("queue", 1, 2, 0, "", port=3, colour=colour, mask=1)
            assert here.occasions(queue, "word", low).count == sent
    # Into the core and out of it: as many as the machine's core takes and sends in that colour.
    low = busiest()
    counts = {
        port: sum(
            here.occasions(FaultEvent("queue", 1, 2, 0, "", port=port, colour=c, mask=1), "word", low).count
            for c in range(24)
        )
        for port in (4, 5)
    }
    assert all(counts.values())


def test_faults_of_the_host_are_struck_every_step():
    sizes = words_of_memoryx(tiny_gpt().program)
    name = next(name for name, size in sizes.items() if size > 8)
    stuck = FaultEvent("memoryx", 0, 0, 0, "", tensor=name, index=3, part="weights", keep=0, mask=0x3F000000)
    source = plan(PersistentFault(stuck))
    source.check(tiny_gpt())
    assert [len(source.memory_hooks(step)) for step in range(4)] == [1] * 4
    events = [replace(stuck, step=step) for step in range(STEPS)]
    assert outcome(source) == outcome(FaultPlan(events, placed())) != outcome()
    stream = next(p.stream for low in tiny_gpt().launches for p in low.launch.phases if isinstance(p, StreamIn))
    drop = plan(PersistentFault(FaultEvent("stream_drop", 0, 0, 0, "", tensor=stream), "intermittent", RateLaw(0.3)))
    hits = [sum(len(drop.stream_hooks(step, low)) for low in tiny_gpt().launches) for step in range(60)]
    assert 5 < sum(hits) < 40
    with pytest.raises(BadInput, match="stuck"):
        PersistentFault(replace(stuck, keep=0xFFFFFFFF))


def test_faults_survive_the_round_trip():
    for fault in site_faults():
        again = PersistentFault.from_dict(fault.to_dict())
        assert again == fault
        assert again.key == fault.key
    fault = PersistentFault(RESULT, "intermittent", SURE, Condition(above_k=300.0), "launch", 2, 9)
    assert PersistentFault.from_dict(fault.to_dict()) == fault
    for wrong in ({}, {**fault.to_dict(), "x": 1}, {**fault.to_dict(), "first_step": "a"}):
        with pytest.raises(BadInput):
            PersistentFault.from_dict(wrong)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PersistentFault(RESULT, "often"), "persistence"),
        (lambda: PersistentFault(RESULT, "intermittent"), "rate"),
        (lambda: PersistentFault(RESULT, "permanent", SURE), "rate"),
        (lambda: PersistentFault(RESULT, "transient", None, Condition(above_k=1.0)), "condition"),
        (lambda: PersistentFault(replace(RESULT, lasts=True)), "lasts"),
        (lambda: PersistentFault(RESULT, occasion="noon"), "occasion"),
        (lambda: PersistentFault(RESULT, first_step=3, last_step=2), "first_step"),
        (lambda: plan(PersistentFault(RESULT), PersistentFault(RESULT)), "twice"),
        (lambda: plan(PersistentFault(RESULT)).check(program("decode")), "another program"),
        (lambda: plan(PersistentFault(replace(RESULT, launch="noon"))).check(tiny_gpt()), "unknown launch"),
        (
            lambda: plan(PersistentFault(RESULT), environment=Environment(np.ones((1, 9)))).check(tiny_gpt()),
            "no value for the site",
        ),
        (lambda: plan(PersistentFault(RESULT, occasion="read")).check(tiny_gpt()), "no occasions of this kind"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, said):
    with pytest.raises(BadInput, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
