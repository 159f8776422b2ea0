"""One physical fault on two maps: it shows on the map that uses its core and not on the map that bypasses it."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.fabric import Fabric, FirmwareImage
from yieldkit.faultmap import FaultMap
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.repair import RowShift, plan_repair
from yieldkit.wafer import WaferSpec
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_training

GPT = {"layers": 1, "width": 16, "heads": 4, "context": 4, "sequences": 4, "vocabulary": 32}
WAFER = WaferSpec.preset("mini")
STEPS = 2


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


@cache
def fabric(dead=()):
    """The real chain: map, plan, firmware, boot."""
    faults = FaultMap.for_wafer(WAFER, dead_cores=list(dead))
    plan = plan_repair(faults, RowShift.for_wafer(WAFER))
    image = FirmwareImage.from_plan(plan, wafer_id="W01", wafer=WAFER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "W01.image"
        image.save(path)
        return Fabric.boot(FirmwareImage.load(path), WAFER, wafer_id="W01")


@cache
def program(kind):
    if kind == "training":
        return lower(gpt_training(rows=4, cols=4, **GPT))
    return lower(gpt_decode(side=4, prompts=[[1, 2]] * 4, **GPT))


def run_on(booted, kind, events=(), executor="tensor"):
    low = program(kind)
    placement = Placement.of(low.program, booted, (2, 3))
    options = {"batches": batches_of(kind), "steps": STEPS, "origin": (2, 3), "executor": executor}
    return run(low, booted, faults=FaultPlan(events, placement), **options)


def batches_of(kind):
    if kind == "decode":
        return None
    rng = np.random.default_rng(2)
    return [tuple(rng.integers(0, 32, (2, 4, 4))) for _ in range(STEPS)]


def victim():
    """A physical core inside the rectangle on map A."""
    row, col = fabric().core_of[2 + 1, 3 + 2]
    return int(row), int(col)


def events(kind):
    """One fault of every kind at that core: a weight or activation bit in use, a config bit, and so on."""
    low = program(kind)
    row, col = victim()
    if kind == "decode":
        data = ("token", 1, low.address["w.l0.wq"])
    else:
        data = ("f0.attention", 4, low.address["x"])
    launch = low.launches[[x.name for x in low.launches].index(data[0])]
    common = {"row": row, "col": col, "step": 0, "launch": data[0]}
    yield "sram", FaultEvent("sram", **common, mask=1 << 14, phase=data[1], address=data[2])
    yield "task word", FaultEvent("sram", **common, mask=1 << 5, address=launch.table_base)
    yield "route", FaultEvent("route", **common, mask=1 << 7, colour=1 if kind == "decode" else 0, position=0)
    yield "register", FaultEvent("register", **common, mask=1 << 1, task=2, element=0, operand=1, word=0)
    yield "link drop", FaultEvent("link_drop", **common, dcol=link_step(), colour=1, nth=0)


def link_step():
    """Columns from the victim to the core east of it on map A."""
    return int(fabric().core_of[3, 6, 1] - fabric().core_of[3, 5, 1])


@pytest.mark.parametrize("kind", ["training", "decode"])
def test_values_do_not_depend_on_the_map(kind):
    repaired = fabric((victim(),))
    assert repaired.logical_of(*victim()) is None
    assert fabric().logical_of(*victim()) == (3, 5)
    assert (repaired.core_of != fabric().core_of).any()
    hashes = {run_on(f, kind, executor=e).state_hash for f in (fabric(), repaired) for e in ("tensor", "reference")}
    assert len(hashes) == 1


@pytest.mark.parametrize("executor", ["tensor", "reference"])
@pytest.mark.parametrize("kind", ["training", "decode"])
def test_a_fault_shows_only_where_its_core_is_used(kind, executor):
    clean = run_on(fabric(), kind).state_hash
    repaired = fabric((victim(),))
    for name, event in events(kind):
        with_core = run_on(fabric(), kind, [event], executor)
        without = run_on(repaired, kind, [event], executor)
        assert without.state_hash == clean, name
        assert without.symptoms.status == "COMPLETED"
        assert not without.symptoms.link_mismatch
        assert not without.symptoms.config_mismatch
        if name == "register":
            continue  # may hit an operand that the task does not use
        assert with_core.state_hash != clean, name
