"""Laying results out as `ReportData`: a wafer chain, a training run, a campaign. Only counts are made here."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yieldkit.report.data import (
    CampaignSection,
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
    RepairSection,
    ReportData,
    SimulatedYield,
    Summary,
    Table,
    TraceSection,
    TraceView,
    TrainingSection,
    TrialCurve,
    TrialRow,
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
_CURVES_A_CLASS: Final = 2


@dataclass(frozen=True)
class YieldResult:
    """Yields to show: closed forms (name, formula, value), simulated (name, successes, n, low, high, method)."""

    laws: Sequence[tuple[str, str, float]] = ()
    simulated: Sequence[tuple[str, int, int, float, float, str]] = ()
    facts: Sequence[tuple[str, Any]] = ()


@dataclass(frozen=True)
class _Blind:
    """Blind answers to a campaign's trials, one a record."""

    records: list[Any]
    verdicts: list[Any] = field(default_factory=list)


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

    blind = _judge(campaign) if campaign is not None else None
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
        campaign=_campaign(campaign, chain, blind) if campaign is not None and blind is not None else None,
        confusion=_confusion(blind) if blind is not None and blind.records else None,
        taxonomy=load_taxonomy().to_dict() if campaign is not None else None,
        provenance=_provenance(chain, training, campaign, command, date),
    )


def _judge(run: CampaignRun) -> _Blind:
    from yieldkit.burnin import baseline_of, verdict_of

    baseline = baseline_of(run.clean_observations)
    records = list(run.records())
    return _Blind(records, [verdict_of(record, baseline=baseline) for record in records])


def _facts(pairs: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> tuple[Fact, ...]:
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return tuple(Fact(name=str(n), value=v if isinstance(v, bool | int | float | str) else str(v)) for n, v in items)


def _wafer(chain: WaferChain, blind: _Blind | None) -> WaferSection:
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
        facts=_facts(facts),
    )


def _blamed(blind: _Blind) -> list[Mark]:
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
        facts=_facts([("defects", len(frame)), *((n, c) for n, c in chain.faults.counts().items())]),
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
        facts=_facts(result.facts),
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
    section: dict[str, Any] = {"status": plan.status, "facts": _facts(facts), "levels": levels}
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
        facts=_facts(outcome.facts),
        prompt=outcome.prompt,
        sample=outcome.sample,
    )


def _campaign(run: CampaignRun, chain: WaferChain | None, blind: _Blind) -> CampaignSection:
    from yieldkit.diagnosis import load_taxonomy

    taxonomy = load_taxonomy()
    tally = run.tally()
    outcomes = tuple(
        OutcomeCount(kind=kind, label=label, count=tally.count(kind=kind, label=label))
        for kind in tally.kinds
        for label in tally.by_label()
    )
    clean = run.clean_observations
    golden = tuple(_number(v) for v in clean[0]["loss"]) if clean else ()
    curves: list[TrialCurve] = []
    taken: dict[str, int] = {}
    rows: list[TrialRow] = []
    for record, verdict in zip(blind.records, blind.verdicts, strict=True):
        loss = record.observations.get("loss", ())
        if loss and not record.label.startswith("MASKED") and taken.get(record.label, 0) < _CURVES_A_CLASS:
            taken[record.label] = taken.get(record.label, 0) + 1
            curves.append(TrialCurve(trial=record.k, label=record.label, loss=tuple(_number(v) for v in loss)))
        truth = record.truth
        site = f"({truth['row']}, {truth['col']})"
        if truth.get("drow") or truth.get("dcol"):
            site += f" to ({truth['row'] + truth['drow']}, {truth['col'] + truth['dcol']})"
        rows.append(
            TrialRow(
                trial=record.k,
                kind=record.kind,
                site=site,
                step=truth.get("step"),
                label=record.label,
                code=verdict.code,
                right=verdict.code == taxonomy.right_answer(record.label),
                evidence="; ".join(verdict.evidence[:2]),
                replay=f"yieldkit burnin replay {run.folder} --trial {record.k}",
            )
        )
    protection: tuple[Fact, ...] = ()
    if chain is not None:
        protection = _facts(chain.wafer.machine.protection.model_dump())
    spec = run.campaign.spec
    facts = [
        ("campaign", spec.campaign.name),
        ("trials", tally.n),
        ("stopped by", run.decision.reason or "the budget"),
        ("program", spec.program.kind),
        ("faults", ", ".join(f"{name} {weight:g}" for name, weight in spec.faults.kinds.items())),
        ("sites", spec.faults.sites),
        ("one fault a trial", "transient, at a random step, launch, site and bit"),
    ]
    return CampaignSection(
        facts=_facts(facts),
        protection=protection,
        outcomes=outcomes,
        golden=golden,
        curves=tuple(curves),
        trials=tuple(rows),
    )


def _number(value: Any) -> float | None:
    number = float(value)
    return number if number - number == 0 else None


def _confusion(blind: _Blind) -> ConfusionSection:
    from yieldkit.diagnosis import confusion, load_taxonomy, recall_table

    taxonomy = load_taxonomy()
    labels, codes = [r.label for r in blind.records], [v.code for v in blind.verdicts]
    frame = confusion(labels, codes)
    recall = recall_table(labels, codes)
    return ConfusionSection(
        labels=tuple(str(x) for x in frame.index),
        codes=tuple(str(x) for x in frame.columns),
        counts=tuple(tuple(int(v) for v in row) for row in frame.to_numpy()),
        right={str(label): taxonomy.right_answer(str(label)) for label in frame.index},
        needs={str(row.label): str(row.needs) for row in recall.itertuples() if row.needs},
        note="Rows: the referee, who knows the fault and the clean run. Columns: diagnosis, which sees symptoms only.",
    )


def _summary(
    chain: WaferChain | None, yields: YieldResult | None, training: TrainingOutcome | None, blind: _Blind | None
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
        masked = sum(r.label.startswith("MASKED") for r in blind.records)
        n = len(blind.records)
        ran.append(f"campaign: {n} trials, one injected fault each")
        headlines.append(Headline(name="bit-exact after a fault", value=f"{masked} of {n} trials"))
        headlines.append(Headline(name="blind diagnosis right", value=f"{right} of {n} trials"))
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
        seeds=_facts(seeds),
        versions=_facts(versions),
        fingerprints=_facts(prints),
        date=date,
    )
