"""Laying results out as `ReportData`: a wafer chain, a training run, a campaign. Only counts are made here."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yieldkit.report.campaign import Blind, campaign_section, confusion_section, facts_of, judge
from yieldkit.report.data import (
    DefectsSection,
    Headline,
    Interval,
    Level,
    Line,
    Mark,
    Note,
    Provenance,
    RepairSection,
    ReportData,
    SimulatedYield,
    Summary,
    Table,
    TraceSection,
    TraceView,
    TrainingSection,
    WaferSection,
    YieldLaw,
    YieldSection,
)
from yieldkit.report.packing import pack
from yieldkit.report.wafer_map import site_states, wafer_section
from yieldkit.version import __version__

if TYPE_CHECKING:
    from yieldkit.burnin import CampaignRun
    from yieldkit.burnin.chain import WaferChain
    from yieldkit.emulator.training import TrainingOutcome

__all__ = ["YieldResult", "report_of"]

_PACKAGES: Final = ("numpy", "scipy", "pandas", "ortools", "numba")


@dataclass(frozen=True)
class YieldResult:
    """Yields to show: closed forms (name, formula, value), simulated (name, successes, n, low, high, method)."""

    laws: Sequence[tuple[str, str, float]] = ()
    simulated: Sequence[tuple[str, int, int, float, float, str]] = ()
    facts: Sequence[tuple[str, Any]] = ()


def report_of(
    *,
    title: str,
    chain: WaferChain | None = None,
    yields: YieldResult | None = None,
    training: TrainingOutcome | None = None,
    traces: Sequence[TraceView] = (),
    campaign: CampaignRun | None = None,
    command: str = "",
    date: str = "",
    subtitle: str = "",
) -> ReportData:
    """Lay out whatever there is; what is None is left out of the page.

    Args:
        title: of the report.
        chain: a wafer from defects to a booted fabric.
        yields: closed-form and simulated yields.
        training: a training run on the fabric.
        traces: launches over time, each made by `trace_view`.
        campaign: a campaign's run folder.
        command: what reproduces the report.
        date: printed as given; none by default, so that equal results give equal bytes.
        subtitle: one line under the title.
    """
    from yieldkit.diagnosis import load_taxonomy

    blind = judge(campaign) if campaign is not None else None
    return ReportData(
        title=title,
        subtitle=subtitle,
        summary=_summary(chain, yields, training, blind),
        wafer=_wafer(chain, blind) if chain is not None else None,
        defects=_defects(chain) if chain is not None and chain.defects is not None else None,
        yields=_yields(yields) if yields is not None else None,
        repair=_repair(chain) if chain is not None else None,
        training=_training(training) if training is not None else None,
        traces=TraceSection(views=tuple(traces)) if traces else None,
        campaign=campaign_section(campaign, chain, blind) if campaign is not None and blind is not None else None,
        confusion=confusion_section(blind) if blind is not None and blind.records else None,
        taxonomy=load_taxonomy().to_dict() if campaign is not None else None,
        provenance=_provenance(chain, training, campaign, command, date),
    )


def _wafer(chain: WaferChain, blind: Blind | None) -> WaferSection:
    wafer, faults = chain.wafer, chain.faults
    core_of = chain.plan.core_of
    present = wafer.present_mask()
    states = site_states(
        wafer.shape, present=present, dead=faults.unusable_cores, marginal=faults.marginal_cores, core_of=core_of
    )
    marks = [
        Mark(kind="dead_link", row=int(r), col=int(c), drow=int(dr), dcol=int(dc), text="dead link")
        for r, c, dr, dc in faults.dead_links
    ]
    marks += _blamed(blind) if blind is not None else []
    height_mm, width_mm = wafer.core_pitch_mm[1], wafer.core_pitch_mm[0]
    facts = [
        ("wafer", faults.wafer_id or wafer.name),
        ("spec", f"{wafer.name} ({wafer.fingerprint})"),
        ("physical cores", wafer.physical_cores),
        ("enabled cores", wafer.enabled_cores),
        ("logical fabric", f"{wafer.logical_shape[0]} x {wafer.logical_shape[1]} = {wafer.logical_cores} cores"),
        ("spares per row", wafer.spares_per_row),
        *((f"note {number + 1}", note) for number, note in enumerate(faults.notes)),
    ]
    return wafer_section(
        faults.wafer_id or wafer.name,
        states,
        core_of=core_of,
        pitch_mm=(height_mm, width_mm),
        marks=marks,
        facts=facts_of(facts),
    )


def _blamed(blind: Blind) -> list[Mark]:
    """Parts that diagnosis points at, with how often; the injected sites beside them."""
    cores: dict[tuple[int, int], int] = {}
    links: dict[tuple[int, int, int, int], int] = {}
    for verdict in blind.verdicts:
        for site in verdict.site_candidates[:1]:
            if site.kind == "core":
                cores[site.row, site.col] = cores.get((site.row, site.col), 0) + 1
            else:
                key = (site.row, site.col, site.drow, site.dcol)
                links[key] = links.get(key, 0) + 1
    marks = [
        Mark(kind="blamed", row=r, col=c, text=f"first suspect in {count} trial(s)")
        for (r, c), count in sorted(cores.items())
    ]
    return marks + [
        Mark(kind="blamed_link", row=r, col=c, drow=dr, dcol=dc, text=f"first suspect in {count} trial(s)")
        for (r, c, dr, dc), count in sorted(links.items())
    ]


def _defects(chain: WaferChain) -> DefectsSection:
    frame = chain.faults.outcomes_frame()
    shown = frame.head(200)
    table = Table(
        title="Defects and what each did",
        columns=tuple(str(name) for name in shown.columns),
        rows=tuple(tuple(_scalar(value) for value in row) for row in shown.itertuples(index=False)),
        note="" if len(frame) <= len(shown) else f"first {len(shown)} of {len(frame)}",
    )
    return DefectsSection(
        facts=facts_of([("defects", len(frame)), *((n, c) for n, c in chain.faults.counts().items())]),
        kinds=tuple((str(name), int(count)) for name, count in chain.faults.effects().items()),
        table=table,
    )


def _scalar(value: Any) -> bool | int | float | str | None:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return round(value, 4) if value - value == 0 else None
    return value if isinstance(value, bool | int | str) or value is None else str(value)


def _yields(result: YieldResult) -> YieldSection:
    return YieldSection(
        laws=tuple(YieldLaw(name=name, formula=formula, value=value) for name, formula, value in result.laws),
        simulated=tuple(
            SimulatedYield(name=name, successes=k, n=n, interval=Interval(low=low, high=high, method=method))
            for name, k, n, low, high, method in result.simulated
        ),
        facts=facts_of(result.facts),
    )


def _repair(chain: WaferChain) -> RepairSection:
    plan = chain.plan
    levels = tuple(
        Level(
            name=level.name,
            value=level.value,
            bound=level.bound,
            proven=level.proven,
            seconds=round(level.seconds, 3),
            method=level.method,
        )
        for level in plan.levels
    )
    facts = [("summary", plan.summary()), ("rules", repr(chain.rules))]
    if chain.image is not None:
        facts.append(("firmware image", f"{chain.image.nbytes:,} bytes, {chain.image.fingerprint}"))
    section: dict[str, Any] = {"status": plan.status, "facts": facts_of(facts), "levels": levels}
    if plan.core_of is not None:
        height, width = plan.core_of.shape[:2]
        first = plan.core_of[:, :, 1].min()
        moved = (plan.core_of[:, :, 1] - np.arange(width) - first).astype(np.int16)
        section |= {"height": height, "width": width, "displacement": pack(moved, "int16")}
    return RepairSection(**section, violations=chain.violations)


def _training(outcome: TrainingOutcome) -> TrainingSection:
    return TrainingSection(
        loss=outcome.loss,
        held_out=outcome.held_out,
        references=(Line(name="bigram table", value=outcome.bigram), Line(name="trigram table", value=outcome.trigram)),
        facts=facts_of(outcome.facts),
        prompt=outcome.prompt,
        sample=outcome.sample,
    )


def _summary(
    chain: WaferChain | None, yields: YieldResult | None, training: TrainingOutcome | None, blind: Blind | None
) -> Summary:
    ran: list[str] = []
    verdicts: list[Note] = []
    headlines: list[Headline] = []
    if chain is not None:
        counts = chain.faults.counts()
        ran.append(f"wafer {chain.faults.wafer_id or chain.wafer.name}: " + ", ".join(
            f"{value} {name.replace('_', ' ')}" for name, value in counts.items() if value))  # fmt: skip
        good = chain.fabric is not None
        height, width = chain.wafer.logical_shape
        text = f"the standard fabric of {height} x {width} cores is there, the plan is {chain.plan.status} and checked"
        verdicts.append(Note(text=text if good else chain.plan.summary(), status="good" if good else "bad"))
        headlines.append(Headline(name="repair", value=chain.plan.status, status="good" if good else "bad"))
    if yields is not None and yields.simulated:
        name, k, n, low, high, _ = yields.simulated[0]
        headlines.append(
            Headline(name=name, value=f"{k} of {n} wafers", note=f"95 %: {100 * low:.1f} to {100 * high:.1f} %")
        )
    if training is not None and training.held_out:
        step, loss = training.held_out[-1]
        ran.append(f"training: {len(training.loss)} steps of a GPT with {training.facts[5][1]:,} parameters")
        better = loss < training.bigram
        verdicts.append(
            Note(
                text=f"held-out loss {loss:.3f} nats per byte after step {step}; a bigram table has "
                f"{training.bigram:.3f}, a trigram table {training.trigram:.3f}",
                status="good" if better else "warn",
            )
        )
        headlines.append(Headline(name="held-out loss", value=f"{loss:.3f} nats/byte", status="plain"))
    if blind is not None and blind.records:
        from yieldkit.diagnosis import load_taxonomy

        taxonomy = load_taxonomy()
        right = sum(
            v.code == taxonomy.right_answer(r.label) for r, v in zip(blind.records, blind.verdicts, strict=True)
        )
        masked = sum(blind.tally.count(label=label) for label in blind.tally.labels if label.startswith("MASKED"))
        n, judged = blind.tally.n, len(blind.records)
        ran.append(f"campaign: {n} trials, one injected fault each")
        headlines.append(Headline(name="bit-exact after a fault", value=f"{masked} of {n} trials"))
        note = "" if judged == n else f"of {n}: the first of each outcome"
        headlines.append(Headline(name="blind diagnosis right", value=f"{right} of {judged} trials", note=note))
    return Summary(ran=tuple(ran), verdicts=tuple(verdicts), headlines=tuple(headlines))


def _provenance(
    chain: WaferChain | None,
    training: TrainingOutcome | None,
    campaign: CampaignRun | None,
    command: str,
    date: str,
) -> Provenance:
    seeds: list[tuple[str, Any]] = []
    prints: list[tuple[str, Any]] = []
    if chain is not None:
        prints += [("wafer spec", chain.wafer.fingerprint), ("fault map", chain.faults.fingerprint)]
        if chain.image is not None:
            prints.append(("firmware image", chain.image.fingerprint))
    if training is not None:
        seeds.append(("training", training.program.job["seed"]))
        prints += [("training program", training.program.fingerprint), ("final state", training.result.state_hash)]
    if campaign is not None:
        seeds.append(("campaign", campaign.campaign.spec.campaign.seed))
        prints += [("campaign", campaign.fingerprint), ("task", campaign.task_fingerprint)]
    versions = [("yieldkit", __version__), ("python", platform.python_version())]
    versions += [(name, metadata.version(name)) for name in _PACKAGES]
    return Provenance(
        command=command,
        seeds=facts_of(seeds),
        versions=facts_of(versions),
        fingerprints=facts_of(prints),
        date=date,
    )
