"""The campaign part of the page: rates by class, cells down to their trials, typical losses, and a bound on it all."""

from __future__ import annotations

import html
import json
import re
from statistics import median_low

import pytest

from tests.burnin.specs import BENCHES, campaign
from tests.burnin.test_strata import stratified
from tests.report.browser import visit
from tests.report.sample import full
from yieldkit.burnin import outcome_table
from yieldkit.burnin.examples import fault_words, some_trials, typical_trials
from yieldkit.faults.event import PLACES
from yieldkit.reliability import wilson_interval
from yieldkit.report import ReportData, render_report, report_of, write_report
from yieldkit.report.cells import cell_groups, cell_rows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return stratified().run(tmp_path_factory.mktemp("cells") / "run")


@pytest.fixture(scope="module")
def data(run):
    return report_of(title="cells", campaign=run)


def test_rates_are_those_of_the_outcome_table(run, data):
    assert data.campaign.weighted
    for axis in ("site", "bit", "phase"):
        table = outcome_table(run, by=axis)
        expected = table[(table["count"] > 0) & (table[axis] != "all")]
        rates = [rate for rate in data.campaign.rates if rate.axis == axis]
        assert [(rate.value, rate.label, rate.count, rate.n) for rate in rates] == [
            (row[0], row[1], row[2], row[3]) for row in expected.itertuples(index=False)
        ]
        assert [rate.rate for rate in rates] == pytest.approx(list(expected["rate"]))
        assert [rate.high for rate in rates] == pytest.approx(list(expected["wilson_high"]))
    assert sum(rate.count for rate in data.campaign.rates if rate.axis == "all") == run.n


def test_cells_hold_every_trial_once_and_list_the_first_of_each(run, data):
    cells = {(cell.site, cell.bit, cell.phase): cell for cell in data.campaign.cells}
    records = list(run.records())
    assert sum(count for cell in cells.values() for _, count in cell.counts) == run.n
    for (site, bit, phase), cell in cells.items():
        inside = [one for one in records if (one.site, one.bit, one.phase) == (site, bit, phase)]
        for label, count in cell.counts:
            same = [one.k for one in inside if one.label == label]
            assert count == len(same)
            assert [trial.trial for trial in cell.trials if trial.label == label] == same[:5]
    rows = cell_rows(data.campaign)
    assert sum(row[4] for row in rows) == run.n
    site, bit, phase, label, count, n, rate, low, high = rows[0]
    bounds = wilson_interval(count, n)
    assert (rate, low, high) == tuple(
        f"{100 * value:.1f} %" if 0 < value < 1 else f"{100 * value:.0f} %"
        for value in (count / n, float(bounds[0]), float(bounds[1]))
    )


def test_typical_trials_are_the_median_of_their_label(run):
    typical = typical_trials(run, metrics=("final_loss",))
    losses = {}
    for record in run.records():
        loss = record.metrics["final_loss"]
        losses.setdefault(record.label, []).append((loss if loss == loss else float("inf"), record.k))
    assert {label: record.k for label, record in typical.items()} == {
        label: median_low(found)[1] for label, found in losses.items()
    }
    # Of several metrics, the first that a trial has.
    assert typical_trials(run, metrics=("absent", "final_loss")) == typical
    assert typical_trials(run, metrics=("absent",)) == {}


def test_curves_stand_beside_the_golden_one(run, data):
    shown = {curve.label: curve for curve in data.campaign.curves}
    typical = typical_trials(run)
    assert set(shown) == {label for label in typical if not label.startswith("MASKED")}
    for label, curve in shown.items():
        assert (curve.trial, len(curve.loss)) == (typical[label].k, len(typical[label].observations["loss"]))


def test_a_long_campaign_shows_some_of_each_and_says_so(run, monkeypatch):
    monkeypatch.setattr("yieldkit.report.campaign.JUDGED", 40)
    monkeypatch.setattr("yieldkit.report.campaign.CELLS", 3)
    monkeypatch.setattr("yieldkit.report.campaign.CELL_TRIALS", 10)
    data = report_of(title="long", campaign=run)
    labels = run.tally().labels
    assert len(data.campaign.trials) <= 40
    assert {row.label for row in data.campaign.trials} == set(labels)
    assert len(data.campaign.cells) == 3
    counts = {}
    for record in run.records():
        key = (record.site, record.bit, record.phase)
        counts[key] = counts.get(key, 0) + 1
    shown = {(cell.site, cell.bit, cell.phase): sum(n for _, n in cell.counts) for cell in data.campaign.cells}
    assert sorted(shown.values(), reverse=True) == sorted(counts.values(), reverse=True)[:3]
    assert sum(len(cell.trials) for cell in data.campaign.cells) <= 10
    assert any("of 320 trials are diagnosed and listed" in note for note in data.campaign.notes)
    assert any("cells with few trials are left out" in note for note in data.campaign.notes)
    assert sum(map(sum, data.confusion.counts)) == len(data.campaign.trials)
    # What is counted is still everything.
    assert sum(rate.count for rate in data.campaign.rates if rate.axis == "all") == 320
    values = {line.name: line.value for line in data.summary.headlines}
    assert values["bit-exact after a fault"].endswith("of 320 trials")
    text = render_report(data)
    assert "the first" in text
    assert all(note in html.unescape(text) for note in data.campaign.notes)


def test_campaigns_without_classes_have_no_cells(tmp_path):
    run = campaign("campaign.trials=8").run(tmp_path)
    data = report_of(title="plain", campaign=run)
    if not run.tally().cells:
        assert (data.campaign.cells, data.campaign.rates) == ((), ())
    assert len(data.campaign.trials) == 8


def test_the_document_reads_back(data, tmp_path):
    assert ReportData.load(data.save(tmp_path / "r.json")) == data


def test_replay_commands_name_the_folder_the_bench_and_the_trial(run, data):
    assert data.campaign.replay.startswith(f"yieldkit burnin replay {run.folder}")
    assert data.campaign.replay.endswith(f"--bench counting={BENCHES['counting']} --trial")
    text = html.unescape(render_report(data))
    for cell in data.campaign.cells:
        for trial in cell.trials:
            assert f"<code>{data.campaign.replay} {trial.trial}</code>" in text


def test_links_of_counts_lead_to_their_trials(data):
    text = render_report(data)
    ids = set(re.findall(r'<tbody id="(cell-[\d-]+)"', text))
    links = re.findall(r'href="#(cell-[\d-]+)"', text)
    assert sorted(links) == sorted(ids)
    assert len(links) == sum(len(cell.counts) for cell in data.campaign.cells)
    for group in cell_groups(data.campaign):
        assert group["n"] == sum(cell["n"] for cell in group["cells"])


CLICK = """
<script>
window.addEventListener("load", function () {
  const link = document.querySelector("a[href^='#cell-']"), id = link.hash.slice(1);
  function closed() {
    let count = 0;
    for (let part = document.getElementById(id); part; part = part.parentElement) {
      if (part.tagName === "DETAILS" && !part.open) { count += 1; }
    }
    return count;
  }
  const before = closed();
  link.click();
  setTimeout(function () {
    const part = document.getElementById(id), button = part.querySelector("button.copy");
    button.click();
    setTimeout(function () {
      const chosen = String(window.getSelection());
      document.body.dataset.seen = JSON.stringify([before, closed(), button.textContent, chosen]);
    }, 300);
  }, 300);
});
</script>
"""


def test_a_click_on_a_count_opens_its_trials_and_the_command_can_be_copied(tmp_path):
    path = write_report(full(), tmp_path / "r.html")
    assert visit(path, tmp_path).console == ()
    text = re.sub(r"<meta http-equiv[^>]*>", "", path.read_text(encoding="utf-8"))
    path.write_text(text.replace("</body>", f"{CLICK}</body>"), encoding="utf-8")
    seen = visit(path, tmp_path, wait_ms=3000)
    assert seen.console == ()
    before, after, word, chosen = json.loads(html.unescape(seen.attribute("data-seen")))
    assert (before, after) == (2, 0)
    # Where the clipboard is out of reach, as it is here, the command is at least selected.
    assert chosen == "yieldkit burnin replay runs/a --trial 4"
    assert word in ("copied", "copy", "selected")


FLIP = {"place": "sram", "row": 3, "col": 4, "step": 7, "launch": "b0", "address": 12}


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        ({**FLIP, "mask": 1 << 5}, "SRAM word 12: bit 5 flipped; core (3, 4); step 7, launch b0"),
        ({**FLIP, "mask": 0b1010}, "SRAM word 12: bits 1, 3 flipped; core (3, 4); step 7, launch b0"),
        ({**FLIP, "keep": 0, "mask": 0}, "SRAM word 12: replaced by 0; core (3, 4); step 7, launch b0"),
        ({**FLIP, "keep": 0, "mask": 255}, "SRAM word 12: replaced by 0x000000ff; core (3, 4); step 7, launch b0"),
        (
            {**FLIP, "keep": 0xFFFFFFFE, "mask": 1, "lasts": True},
            "SRAM word 12: bit 0 held at 1; core (3, 4); step 7, launch b0, lasting",
        ),
        ({**FLIP, "keep": 0xFFFFFFFE, "mask": 0}, "SRAM word 12: bit 0 held at 0; core (3, 4); step 7, launch b0"),
        (
            {"place": "link_drop", "row": 1, "col": 2, "drow": 0, "dcol": 1, "step": 0, "launch": "x", "colour": 3},
            "word 0 of colour 3 dropped; link (1, 2) to (1, 3); step 0, launch x",
        ),
        (
            {**FLIP, "place": "queue", "colour": 2, "nth": 7, "port": 4, "mask": 1},
            "word 7 of colour 2 in the queue of words from the core: bit 0 flipped; core (3, 4); step 7, launch b0",
        ),
        (
            {**FLIP, "place": "switch", "colour": 5, "mask": 2},
            "switch of colour 5: bit 1 flipped; core (3, 4); step 7, launch b0",
        ),
        (
            {"place": "memoryx", "tensor": "w", "part": "first", "index": 9, "mask": 2, "step": 4, "launch": ""},
            "first of w, word 9: bit 1 flipped; step 4",
        ),
        ({**FLIP, "place": "slow", "factor": 8.0}, "core 8 times slower; core (3, 4); step 7, launch b0"),
        (
            {**FLIP, "mask": 1, "bypassed": True},
            "SRAM word 12: bit 0 flipped; core (3, 4), bypassed; step 7, launch b0",
        ),
        ({"kind": "odd", "row": 1, "note": ""}, "kind odd, row 1"),
    ],
)
def test_faults_in_words(truth, words):
    assert fault_words(truth) == words


def test_trials_are_found_by_what_they_have(run):
    found = some_trials(run, [{"label": "BENIGN"}, {"label": "BENIGN", "bit": "sign"}, {"label": "NONE"}], each=3)
    for wanted, records in zip(({}, {"bit": "sign"}, None), found, strict=True):
        expected = [
            one.k
            for one in run.records()
            if wanted is not None and one.label == "BENIGN" and wanted.get("bit") in (None, one.bit)
        ]
        assert [record.k for record in records] == expected[:3]


def test_every_place_of_faults_has_words():
    for place in PLACES:
        words = fault_words({**FLIP, "place": place, "mask": 0 if place in ("slow", "link_drop") else 1})
        assert place == "register" or "_" not in words
        assert not words.startswith(place.replace("_", " ") + ", word")
