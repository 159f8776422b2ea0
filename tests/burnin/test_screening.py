"""Screening: every reason for staying hidden, shortcuts against whole runs, counts that add up."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import yieldkit as yk
from yieldkit.burnin.screening import (
    REASONS,
    Screening,
    ScreeningWorkload,
    parts_of_each_kind,
    screen,
    screening_table,
)
from yieldkit.burnin.screening_runs import run_clean, run_part
from yieldkit.emulator.running import run
from yieldkit.errors import BadInput
from yieldkit.faults import (
    Condition,
    Environment,
    Exposure,
    FaultEvent,
    PersistentFault,
    PersistentPlan,
    RateLaw,
    WeakPart,
    WeakParts,
    WeakPopulation,
)
from yieldkit.reliability import wilson_interval

WAFER = yk.WaferSpec.preset("mini")
SMALL = {"layers": 1, "width": 8, "heads": 2, "context": 4, "sequences": 2, "steps": 4}
HOT = Environment(358.15, 0.75, 1000.0)


@cache
def fabric():
    plan = yk.plan_repair(yk.FaultMap.for_wafer(WAFER), yk.RowShift.for_wafer(WAFER), wafer=WAFER)
    return yk.Fabric.boot(yk.FirmwareImage.from_plan(plan, wafer=WAFER, wafer_id="W01"), WAFER)


@cache
def workloads():
    training = {**SMALL, "rows": 2, "cols": 2, "clean_runs": 2}
    decode = {**SMALL, "side": 2, "prompt": 2, "trained_steps": 2}
    return (
        ScreeningWorkload.of_kind("gpt_training", training, fabric()),
        ScreeningWorkload.of_kind("gpt_decode", decode, fabric()),
    )


@cache
def clean(number):
    return run_clean(workloads()[number], fabric())


def core(r=0, c=1):
    row, col = fabric().core_of[r, c]
    return {"row": int(row), "col": int(col), "step": 0, "launch": ""}


def part(event, number=0, onset=0.0, **persistence):
    return WeakPart(number, "made", PersistentFault(event, **persistence), onset)


def half_used_word():
    """SRAM address that is read and only ever holds bf16, whose high half is ignored when it is read."""
    lowered, exposure = clean(0).lowered, Exposure(clean(0).lowered, clean(0).placement)
    for address in range(2, lowered.launches[0].table_base):
        event = FaultEvent("sram", **core(), address=address, mask=1)
        reads = sum(exposure.occasions(event, "read", low).count for low in lowered.launches)
        held = {
            lowered.tensors[name].dtype
            for name, base in lowered.address.items()
            if base <= address < base + lowered.tensors[name].size
        }
        if reads and held == {"bf16"}:
            return address
    raise AssertionError("every word holds fp32 at some time")


def one_of_each_reason():
    result = FaultEvent("result", **core(), mask=1 << 14)
    stuck = {"mask": 0, "keep": 0}
    yield "", part(result)
    yield "dormant", part(result, onset=1e9)
    yield "bypassed", part(FaultEvent("result", **core(5, 5), mask=1 << 14))
    yield "unused", part(FaultEvent("sram", **core(), address=9000, **stuck))
    yield "condition", part(result, condition=Condition(above_k=400.0))
    yield "quiet", part(result, persistence="intermittent", rate=RateLaw(1e-12))
    high = {"mask": 1 << 20, "keep": 0xFFFFFFFF & ~(1 << 20)}
    yield "masked", part(FaultEvent("sram", **core(), address=half_used_word(), **high))


def test_every_reason_has_its_part():
    expected, parts = zip(*one_of_each_reason(), strict=True)
    assert set(expected) == {"", *REASONS}
    parts = WeakParts(tuple(replace(one, number=number) for number, one in enumerate(parts)))
    rows = screen(parts, workloads()[:1], fabric(), environment=HOT).rows
    assert [row.reason for row in rows] == list(expected)
    assert rows[0].changed
    assert (rows[0].first_step, rows[0].strikes > 100) == (0, True)
    assert all(not row.changed and not row.seen for row in rows[1:])
    assert all((row.strikes == 0) == (row.reason != "masked") for row in rows[1:])


def seen_by(symptoms):
    facts = symptoms.to_dict()
    # A rough figure from the tables, which counts all steps in either case.
    return {name: value for name, value in facts.items() if name not in ("cycles",)}


@pytest.mark.parametrize("number", [0, 1], ids=["training", "decode"])
def test_shortcuts_give_what_the_whole_run_gives(number):
    golden = clean(number)
    work = golden.work
    population = WeakPopulation(0.0, 0.0)
    parts = parts_of_each_kind(population, fabric(), workloads(), n=7, rng=5)
    whole = run(golden.lowered, fabric(), steps=work.steps, weights=work.weights)
    tried = different = later = 0
    for one in parts:
        plan = PersistentPlan([one.fault], golden.placement, golden.lowered, environment=HOT, seed=3)
        struck = [step for step in range(work.steps) if any(plan.events(step, low) for low in golden.lowered.launches)]
        if not struck:
            continue
        symptoms, changed = run_part(plan, golden, struck)
        result = run(golden.lowered, fabric(), steps=work.steps, weights=work.weights, faults=plan)
        assert seen_by(symptoms) == seen_by(result.symptoms), one
        assert changed == (result.state_hash != whole.state_hash or result.symptoms.status != "COMPLETED"), one
        tried, different = tried + 1, different + changed
        later += struck[0] > 0 or len(struck) < work.steps - struck[0]
    assert tried > 12
    assert 3 < different < tried
    assert later > 0


@cache
def screened():
    parts = parts_of_each_kind(WeakPopulation(0.0, 0.0), fabric(), workloads(), n=6, rng=1)
    return parts, screen(parts, workloads(), fabric(), environment=HOT, seed=2)


def test_rows_do_not_depend_on_the_company():
    parts, all_of_it = screened()
    some = WeakParts(parts.parts[::-3], parts.wafer)
    again = screen(some, workloads()[::-1], fabric(), environment=HOT, seed=2)
    assert set(again.rows) <= set(all_of_it.rows)
    assert len(again.rows) == 2 * len(some)
    assert Screening.from_dict(all_of_it.to_dict()) == all_of_it
    other = screen(parts, workloads()[1:], fabric(), environment=HOT, seed=3)
    assert not set(other.rows) <= set(all_of_it.rows)


def test_the_table_adds_up():
    parts, screening = screened()
    table = screening_table(screening)
    frame = screening.to_frame()
    kinds = list(dict.fromkeys(part.kind for part in parts))
    assert list(dict.fromkeys(table["kind"])) == [*kinds, "all"]
    single = table[table["workload"] != "any"]
    exposed = frame[frame["reason"] == ""].groupby(["kind", "workload"]).size()
    for row in single[single["kind"] != "all"].itertuples():
        assert row.n == 6
        hidden = sum(int(getattr(row, reason)) for reason in REASONS)
        assert hidden + int(exposed.get((row.kind, row.workload), 0)) == row.n
        low, high = wilson_interval(row.changed, row.n)
        assert (row.changed_low, row.changed_high) == pytest.approx((float(low), float(high)))
    for kind in kinds:
        rows = table[table["kind"] == kind].set_index("workload")
        both = frame[(frame["kind"] == kind) & frame["changed"]]["part"].nunique()
        assert rows.loc["any", "changed"] == both >= rows["changed"].drop("any").max()
    total = table[table["kind"] == "all"].set_index("workload")
    assert total.loc["gpt_training", "changed"] == frame.query("changed and workload == 'gpt_training'").shape[0]
    assert total["changed"].min() > 0
    # Golden compare finds more than an operator without one.
    assert (total["seen"] < total["changed"]).all()


def test_parts_lie_on_the_cores_and_links_of_the_workloads():
    parts = parts_of_each_kind(WeakPopulation(0.0, 0.0), fabric(), workloads(), n=30, kinds=["slow_core", "link_bit"])
    sites = {tuple(int(v) for v in fabric().core_of[r, c]) for r in range(2) for c in range(2)}
    assert {one.site for one in parts if one.link is None} == sites
    ends = {(one.link[:2], tuple(np.add(one.link[:2], one.link[2:]).tolist())) for one in parts if one.link}
    assert len(ends) == 4
    assert all(first in sites and second in sites for first, second in ends)


def test_what_cannot_be_is_refused():
    parts = WeakParts(())
    with pytest.raises(BadInput, match="differ"):
        screen(parts, [workloads()[0]] * 2, fabric())
    with pytest.raises(BadInput, match="unknown kind"):
        ScreeningWorkload.of_kind("chess", {}, fabric())
    with pytest.raises(BadInput, match="no such parameter"):
        ScreeningWorkload.of_kind("gpt_training", {"colour": 1}, fabric())
    with pytest.raises(BadInput, match="name of its own"):
        replace(workloads()[0], name="any")
    with pytest.raises(BadInput, match="has none"):
        parts_of_each_kind(WeakPopulation(0.0, 0.0), yk.Fabric.perfect(4, 4), workloads(), n=1)


def test_a_machine_with_a_clock_sees_a_slow_core():
    work = replace(workloads()[1], executor="wavelet", steps=2)
    slow = WeakParts((part(FaultEvent("slow", **core(), factor=3.0)),))
    timed, untimed = (screen(slow, [one], fabric(), environment=HOT).rows[0] for one in (work, workloads()[1]))
    assert (timed.seen, timed.code, timed.changed) == (True, "SLOW", False)
    assert (untimed.reason, untimed.changed) == ("masked", False)
