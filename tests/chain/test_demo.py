"""`yieldkit demo`, from a wafer's defects to its report, at a small size; the same on the defects of real files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.cli.kit import call, contents
from tests.real_data import real_data
from tests.report.browser import visit
from yieldkit.burnin import CampaignRun
from yieldkit.burnin.verdict import baseline_of, verdict_of
from yieldkit.fabric import Fabric, FirmwareImage
from yieldkit.faultmap import FaultMap
from yieldkit.repair import RepairPlan, check_plan
from yieldkit.report import ReportData
from yieldkit.wafer import WaferSpec
from yieldkit.workloads import Program

ROOT = Path(__file__).parents[2]
SECTIONS = (
    *("summary", "wafer", "defects", "yields", "repair", "training", "campaign", "confusion", "taxonomy"),
    "provenance",
)
PLACES = {
    "scale": "defects of a 200 mm wafer on a 300 mm wafer, scaled by 1.5",
    "keep": "defects of a 200 mm wafer on a 300 mm wafer, left at their place",
}
SMALL = ("--steps", 3, "--trials", 2, "--jobs", 1)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    return folder, call("demo", "--steps", 6, "--trials", 6, "--jobs", 1, "--out", folder)


def facts_of(items) -> dict[str, object]:
    return {item.name: item.value for item in items}


def test_it_ends_well_with_the_path_of_its_report(demo):
    folder, answer = demo
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.splitlines()[-1] == str(folder / "report.html")
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        *("report.html", "report.json", "faults.json", "plan.json", "firmware.bin", "program.json")
    }


def test_the_report_opens_and_has_every_section(demo, tmp_path):
    folder, _ = demo
    seen = visit(folder / "report.html", tmp_path)
    assert seen.console == ()
    for name in SECTIONS:
        assert f'<section id="{name}"' in seen.dom
    assert "http://" not in seen.dom.replace("http://www.w3.org/", "")


def test_the_report_says_what_the_store_says(demo):
    folder, _ = demo
    data = ReportData.load(folder / "report.json")
    (home,) = folder.glob("campaign-*")
    run = CampaignRun.load(home)
    records = list(run.records())
    assert data.campaign is not None
    assert facts_of(data.campaign.facts)["trials"] == run.n == len(records) == 6
    counted = Counter((record.kind, record.label) for record in records)
    shown = {(one.kind, one.label): one.count for one in data.campaign.outcomes if one.count and one.kind != "all"}
    assert shown == counted
    assert [one.trial for one in data.campaign.trials] == [record.k for record in records]
    assert [one.label for one in data.campaign.trials] == [record.label for record in records]
    baseline = baseline_of(run.clean_observations)
    codes = [verdict_of(record, baseline=baseline).code for record in records]
    assert [one.code for one in data.campaign.trials] == codes
    assert list(data.campaign.golden) == pytest.approx(run.clean_observations[0]["loss"])
    assert data.confusion is not None
    places = {(label, code): 0 for label in data.confusion.labels for code in data.confusion.codes}
    for label, line in zip(data.confusion.labels, data.confusion.counts, strict=True):
        for code, count in zip(data.confusion.codes, line, strict=True):
            places[label, code] = count
    assert {pair: n for pair, n in places.items() if n} == Counter(zip([r.label for r in records], codes, strict=True))


def test_the_files_beside_it_are_one_chain(demo):
    folder, answer = demo
    wafer = WaferSpec.preset("mini")
    faults = FaultMap.load(folder / "faults.json", wafer=wafer)
    plan = RepairPlan.load(folder / "plan.json")
    assert check_plan(faults, plan.rules, plan) == []
    fabric = Fabric.boot(FirmwareImage.load(folder / "firmware.bin"), wafer, wafer_id="W01")
    assert np.array_equal(fabric.core_of, plan.core_of)
    data = ReportData.load(folder / "report.json")
    assert data.wafer is not None
    assert data.repair is not None
    assert (data.repair.status, data.repair.height, data.repair.width) == (plan.status, *fabric.shape)
    assert len(faults.dead_cores) == facts_of(data.defects.facts)["dead_cores"]
    assert f"{len(faults.dead_cores)} dead cores" in answer.out
    program = Program.load(folder / "program.json")
    assert (program.rows, program.cols) == (16, 16)
    assert program.fingerprint in str(data.provenance.fingerprints)
    assert len(data.training.loss) == 6
    assert f"{data.training.held_out[-1][1]:.3f} nats/byte" in answer.out
    # Six steps teach something, if not much.
    assert data.training.held_out[-1][1] < data.training.held_out[0][1] < np.log(256)


def test_a_second_run_in_the_folder_adds_nothing(demo):
    folder, first = demo
    before = contents(folder)
    again = call("demo", "--steps", 6, "--trials", 6, "--jobs", 1, "--out", folder, "--json")
    assert (again.status, again.err) == (0, "")
    facts = again.facts
    assert (facts["trials"], facts["status"], facts["report"]) == (6, "optimal", str(folder / "report.html"))
    after = contents(folder)
    assert set(after) == set(before)
    same = [name for name in after if after[name] == before[name]]
    # Seconds of the solver stand in the plan and in the report; all else is the same to the byte.
    assert {name for name in after if name not in same} <= {"plan.json", "report.json", "report.html"}
    assert f"{facts['held_out_loss']:.3f} nats/byte" in first.out
    one, two = (json.loads(part["report.json"]) for part in (before, after))
    for name in ("training", "campaign", "confusion", "defects", "yields", "wafer"):
        assert one[name] == two[name], name


def test_a_hopeless_wafer_gets_its_report_and_exit_3(tmp_path):
    answer = call("demo", "--d0", 3, "--out", tmp_path / "out", *SMALL)
    assert (answer.status, answer.err.count("\n")) == (3, 1)
    assert answer.err.startswith("yieldkit: the wafer cannot be repaired: infeasible")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "infeasible" in page
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def chain_of(folder: Path, path: Path, wafer_id: str, place: str):
    # With this seed each of these wafers can be repaired on the small preset.
    which = ("--defects", path, "--wafer-id", wafer_id, "--place", place, "--seed", 2)
    answer = call("demo", *which, "--out", folder, *SMALL)
    assert (answer.status, answer.err) == (0, ""), answer
    data = ReportData.load(folder / "report.json")
    visited = visit(folder / "report.html", folder)
    assert visited.console == ()
    return answer, data, visited.dom


@pytest.mark.parametrize("which", ["A1-scale", pytest.param("A2-keep", marks=pytest.mark.long)])
def test_the_defects_of_a_file(tmp_path, which):
    wafer_id, _, place = which.partition("-")
    answer, data, page = chain_of(tmp_path, ROOT / "data" / "two-wafers.klarf", wafer_id, place)
    assert data.wafer.name == wafer_id
    assert wafer_id in page
    for said in (f"two-wafers.klarf, wafer {wafer_id}", PLACES[place]):
        assert said in answer.out
        assert said in page


@pytest.mark.parametrize("place", ["scale", pytest.param("keep", marks=pytest.mark.long)])
def test_the_defects_of_a_real_file_of_a_smaller_wafer(tmp_path, place):
    path = real_data("klarf/QUU_NUU.000")
    answer, _, page = chain_of(tmp_path, path, "02", place)
    for said in ("QUU_NUU.000, wafer 02", PLACES[place]):
        assert said in answer.out
        assert said in page


def test_a_wafer_must_be_chosen_where_a_file_has_several(tmp_path):
    answer = call("demo", "--defects", ROOT / "data" / "two-wafers.klarf", "--out", tmp_path / "out", *SMALL)
    assert (answer.status, answer.err.count("\n")) == (2, 1)
    assert "A1, A2" in answer.err
    assert not (tmp_path / "out").exists()
