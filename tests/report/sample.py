"""A small report with every section, and a map of any size."""

from __future__ import annotations

from typing import Any

import numpy as np

from yieldkit.diagnosis import load_taxonomy
from yieldkit.report import (
    AxisRate,
    CampaignSection,
    CellTrial,
    ConfusionSection,
    DefectsSection,
    Fact,
    Headline,
    Interval,
    Level,
    Line,
    Mark,
    Note,
    OutcomeCount,
    Provenance,
    RateCell,
    RepairSection,
    ReportData,
    SimulatedYield,
    Summary,
    Table,
    TrainingSection,
    TrialCurve,
    TrialRow,
    WaferSection,
    YieldLaw,
    YieldSection,
    pack,
    site_states,
    wafer_section,
)

GOLDEN = tuple(5.0 - 0.05 * step for step in range(40))
LABELS = ("STALL_DROP", "SPIKE", "BENIGN")
CODES = ("STALL_DROP", "SPIKE", "MASKED_OR_BENIGN")


def shifted(
    rows: int, cols: int, width: int, dead: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A row-shift plan with the corners off the wafer: (present, core_of); a dead core is skipped."""
    y, x = np.mgrid[0:rows, 0:cols]
    corner = max(1, min(rows, cols) // 12)
    present = np.minimum(y, rows - 1 - y) / rows + np.minimum(x, cols - 1 - x) / cols >= corner / max(rows, cols)
    usable = present.copy()
    usable[dead[:, 0], dead[:, 1]] = False
    core_of = np.zeros((rows, width, 2), dtype=np.int32)
    for row in range(rows):
        sites = np.flatnonzero(usable[row])
        first = max(0, (len(sites) - width) // 2)
        core_of[row, :, 0] = row
        core_of[row, :, 1] = sites[first : first + width]
    return present, core_of


def wafer(rows: int = 22, cols: int = 22, width: int = 16, n_dead: int = 3, *, text: str = "") -> WaferSection:
    """A map with dead, marginal, bypassed, absent and blamed sites."""
    draw = np.random.Generator(np.random.Philox(5))
    lines = draw.choice(rows, n_dead, replace=False)
    dead = np.stack([lines, draw.integers(cols // 3, 2 * cols // 3, n_dead)], axis=1)
    present, core_of = shifted(rows, cols, width, dead)
    skipped = core_of[0, width // 2].copy()
    core_of[0, width // 2 :, 1] += 1  # a healthy core that is skipped
    states = site_states((rows, cols), present=present, dead=dead[1:], marginal=dead[:1], core_of=core_of)
    assert states[tuple(skipped)] == 3
    blamed = core_of[rows // 2, width // 3]
    marks = [
        Mark(kind="dead_link", row=2, col=cols // 2, dcol=1),
        Mark(kind="blamed_link", row=4, col=cols // 2, drow=1, text="sent 10, received 9"),
        Mark(kind="injected", row=6, col=cols // 2),
        Mark(kind="blamed", row=int(blamed[0]), col=int(blamed[1]), text=text or "route hash differs"),
    ]
    return wafer_section("W01", states, core_of=core_of, pitch_mm=(0.2, 0.25), marks=marks)


def full(section: WaferSection | None = None, *, text: str = "a sentence") -> ReportData:
    taxonomy = load_taxonomy()
    return ReportData(
        title=f"Wafer W01 {text}",
        subtitle=text,
        summary=Summary(
            ran=(text,),
            verdicts=(Note(text=text, status="good"), Note(text=text, status="bad")),
            headlines=(Headline(name=text, value="18 × 16", note=text, status="good"),),
        ),
        wafer=section or wafer(),
        defects=DefectsSection(
            facts=(Fact(name="law", value=text, note=text),),
            kinds=(("dead core", 3), (text, 1)),
            table=Table(title=text, columns=("x_mm", "layer"), rows=((1.5, text), (-2.0, "=1+1"))),
        ),
        yields=YieldSection(
            laws=(YieldLaw(name="Poisson", formula="exp(-A D)", value=1e-9),),
            simulated=(
                SimulatedYield(
                    name="row shift", successes=2999, n=3000, interval=Interval(low=0.998, high=0.9999, method=text)
                ),
            ),
        ),
        repair=RepairSection(
            status="optimal",
            facts=(Fact(name="rules", value=text),),
            levels=(Level(name="skip reach", value=1, bound=1, proven=True, seconds=0.012),),
            height=3,
            width=4,
            displacement=pack(np.arange(12).reshape(3, 4) - 2, "int16"),
        ),
        training=TrainingSection(
            loss=GOLDEN,
            held_out=((0, 5.1), (39, 3.2)),
            references=(Line(name="bigram", value=3.6), Line(name="trigram", value=3.55)),
            prompt="The ",
            sample=text,
        ),
        campaign=CampaignSection(
            facts=(Fact(name="trials", value=303),),
            protection=(Fact(name="links", value="none"),),
            outcomes=(
                OutcomeCount(kind="link drop", label="STALL_DROP", count=100),
                OutcomeCount(kind="weight bit", label="BENIGN", count=5),
                OutcomeCount(kind="weight bit", label="SPIKE", count=95),
            ),
            golden=GOLDEN,
            curves=(TrialCurve(trial=4, label="NAN_HW", loss=(*GOLDEN[:20], *[float("nan")] * 20)),),
            trials=(
                TrialRow(
                    trial=4,
                    kind="weight bit",
                    site=text,
                    step=3,
                    label="SPIKE",
                    code="SPIKE",
                    right=True,
                    evidence=text,
                    replay="yieldkit burnin replay spec.toml --trial 4",
                ),
            ),
            rates=(
                AxisRate(axis="all", value="all", label="SPIKE", count=95, n=303, rate=0.31, low=0.26, high=0.37),
                AxisRate(axis="site", value=text, label="SPIKE", count=95, n=100, rate=0.95, low=0.888, high=0.979),
            ),
            weighted=True,
            cells=(
                RateCell(
                    site=text,
                    bit="sign",
                    phase="forward.early",
                    counts=(("SPIKE", 95), ("BENIGN", 5)),
                    trials=(
                        CellTrial(trial=4, label="SPIKE", fault=text),
                        CellTrial(trial=9, label="SPIKE", fault="SRAM word 3: bit 31 flipped"),
                        CellTrial(trial=5, label="BENIGN"),
                    ),
                ),
                RateCell(site=text, bit="unused", phase="head", counts=(("BENIGN", 7),)),
            ),
            replay="yieldkit burnin replay runs/a --trial",
            notes=(text,),
        ),
        confusion=ConfusionSection(
            labels=LABELS,
            codes=CODES,
            counts=((100, 0, 0), (0, 90, 5), (0, 0, 5)),
            right={label: taxonomy.right_answer(label) for label in LABELS},
            note=text,
        ),
        taxonomy=taxonomy.to_dict(),
        provenance=Provenance(
            command=f"yieldkit demo --seed 7 {text}",
            seeds=(Fact(name="defects", value=7),),
            versions=(Fact(name="yieldkit", value="0.1.0"),),
            fingerprints=(Fact(name="wafer", value="0123456789abcdef"),),
        ),
        tables=(Table(title=text, columns=("a",), rows=((None,), (True,))),),
    )
