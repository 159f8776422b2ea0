"""Laying a campaign out: rates, cells with trials to look at, typical losses, blind answers. Bounded for any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yieldkit.report.data import (
    AxisRate,
    CampaignSection,
    CellTrial,
    ConfusionSection,
    Fact,
    OutcomeCount,
    RateCell,
    TrialCurve,
    TrialRow,
)

if TYPE_CHECKING:
    from yieldkit.burnin import CampaignRun, Tally
    from yieldkit.burnin.chain import WaferChain

__all__ = ["Blind", "campaign_section", "confusion_section", "facts_of", "judge"]

JUDGED: Final = 4_000
"""Trials that are diagnosed and listed; of longer campaigns the first of each label."""
CELLS: Final = 1_500
"""Cells that are listed; where there are more, those with most trials."""
CELL_TRIALS: Final = 6_000
"""Trials listed in all cells together."""
EACH: Final = 5
"""Trials of one label listed in a cell, at most."""
_AXES: Final = ("site", "bit", "phase")


@dataclass(frozen=True)
class Blind:
    """Blind answers to a campaign's trials, one a record; of a long campaign some records only, in the order of k."""

    records: list[Any]
    verdicts: list[Any]
    tally: Tally


def facts_of(pairs: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> tuple[Fact, ...]:
    """Names and values as facts."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return tuple(Fact(name=str(n), value=v if isinstance(v, bool | int | float | str) else str(v)) for n, v in items)


def judge(run: CampaignRun) -> Blind:
    """Diagnose the trials of a run, or the first of each label where there are more than `JUDGED`."""
    from yieldkit.burnin import baseline_of, verdict_of
    from yieldkit.burnin.examples import some_trials

    tally = run.tally()
    if tally.n <= JUDGED:
        records = list(run.records())
    else:
        wanted = [{"label": label} for label in tally.labels]
        found = some_trials(run, wanted, each=max(JUDGED // len(wanted), 1))
        records = sorted((record for some in found for record in some), key=lambda record: record.k)
    baseline = baseline_of(run.clean_observations)
    return Blind(records, [verdict_of(record, baseline=baseline) for record in records], tally)


def campaign_section(run: CampaignRun, chain: WaferChain | None, blind: Blind) -> CampaignSection:
    """The section of a run.

    Args:
        run: the folder.
        chain: the wafer, for its protection.
        blind: what `judge` gives for the run.
    """
    from yieldkit.burnin.early_ends import early_ends
    from yieldkit.burnin.fit import protection_of

    tally, spec = blind.tally, run.campaign.spec
    protection = chain.wafer.machine.protection.model_dump() if chain is not None else dict(protection_of(spec))
    clean = run.clean_observations
    cells, left_out = _cells(run, tally)
    notes = []
    if len(blind.records) < tally.n:
        notes.append(f"{len(blind.records)} of {tally.n} trials are diagnosed and listed: the first of each outcome")
    if left_out:
        notes.append(f"{left_out} cells with few trials are left out of the table by site, bit and phase")
    if (early := early_ends(run)) is not None:
        notes.append(early.text)
    weighted = spec.strata is not None or bool(spec.faults.importance)
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
        facts=facts_of(facts),
        protection=facts_of(protection),
        outcomes=tuple(
            OutcomeCount(kind=kind, label=label, count=tally.count(kind=kind, label=label))
            for kind in tally.kinds
            for label in tally.by_label()
        ),
        golden=tuple(_number(value) for value in clean[0].get("loss", ())) if clean else (),
        curves=_curves(run),
        trials=_trials(run, blind),
        rates=_rates(run, tally),
        weighted=weighted,
        cells=cells,
        replay=_replay(run),
        notes=tuple(notes),
    )


def confusion_section(blind: Blind) -> ConfusionSection:
    """The referee's labels against the blind codes."""
    from yieldkit.diagnosis import confusion, load_taxonomy, recall_table

    taxonomy = load_taxonomy()
    labels, codes = [r.label for r in blind.records], [v.code for v in blind.verdicts]
    frame = confusion(labels, codes)
    recall = recall_table(labels, codes)
    note = "Rows: the referee, who knows the fault and the clean run. Columns: diagnosis, which sees symptoms only."
    if len(blind.records) < blind.tally.n:
        note += f" The first trials of each label, {len(blind.records)} of {blind.tally.n}."
    return ConfusionSection(
        labels=tuple(str(x) for x in frame.index),
        codes=tuple(str(x) for x in frame.columns),
        counts=tuple(tuple(int(v) for v in row) for row in frame.to_numpy()),
        right={str(label): taxonomy.right_answer(str(label)) for label in frame.index},
        needs={str(row.label): str(row.needs) for row in recall.itertuples() if row.needs},
        note=note,
    )


def _rates(run: CampaignRun, tally: Tally) -> tuple[AxisRate, ...]:
    """Rates of labels that were seen, over the whole and along each axis."""
    from yieldkit.burnin.outcomes import ALL_KINDS, outcome_rows
    from yieldkit.burnin.schedule import strata_of

    if not tally.cells:
        return ()
    strata = strata_of(run.campaign.spec, run.classes())
    found: list[AxisRate] = []
    for axis in _AXES:
        for row in outcome_rows(tally, by=axis, strata=strata):
            whole = row[axis] == ALL_KINDS
            if (whole and axis != _AXES[0]) or not row["count"]:
                continue
            found.append(
                AxisRate.model_validate(
                    {
                        "axis": ALL_KINDS if whole else axis,
                        "value": row[axis],
                        "low": row["wilson_low"],
                        "high": row["wilson_high"],
                        **{name: row[name] for name in ("label", "count", "n", "rate")},
                    }
                )
            )
    return tuple(found)


def _cells(run: CampaignRun, tally: Tally) -> tuple[tuple[RateCell, ...], int]:
    """Counts of every cell with the first of its trials, and how many cells are left out."""
    from yieldkit.burnin.examples import fault_words, some_trials

    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    for cell, count in tally.cells.items():
        inside = counts.setdefault((cell.site, cell.bit, cell.phase), {})
        inside[cell.label] = inside.get(cell.label, 0) + count
    by_trials = sorted(counts, key=lambda key: (-sum(counts[key].values()), key))
    shown = sorted(by_trials[:CELLS])
    order = {label: place for place, label in enumerate(tally.by_label())}
    kept = {key: sorted(counts[key].items(), key=lambda item: order[item[0]]) for key in shown}
    wanted = [
        {"site": site, "bit": bit, "phase": phase, "label": label}
        for (site, bit, phase), inside in kept.items()
        for label, _ in inside
    ]
    each = min(max(CELL_TRIALS // max(len(wanted), 1), 1), EACH)
    examples = iter(some_trials(run, wanted, each=each))
    cells = [
        RateCell(
            site=key[0],
            bit=key[1],
            phase=key[2],
            counts=tuple(inside),
            trials=tuple(
                CellTrial(trial=record.k, label=record.label, fault=fault_words(record.truth))
                for _ in inside
                for record in next(examples)
            ),
        )
        for key, inside in kept.items()
    ]
    return tuple(cells), len(by_trials) - len(shown)


def _curves(run: CampaignRun) -> tuple[TrialCurve, ...]:
    """Losses of the typical trial of each label; masked ones are the golden curve itself."""
    from yieldkit.burnin.examples import typical_trials

    return tuple(
        TrialCurve(trial=record.k, label=label, loss=tuple(_number(value) for value in loss))
        for label, record in typical_trials(run).items()
        if not label.startswith("MASKED") and (loss := record.observations.get("loss"))
    )


def _trials(run: CampaignRun, blind: Blind) -> tuple[TrialRow, ...]:
    from yieldkit.diagnosis import load_taxonomy

    taxonomy, replay = load_taxonomy(), _replay(run)
    rows = []
    for record, verdict in zip(blind.records, blind.verdicts, strict=True):
        truth = record.truth
        site = f"({truth.get('row')}, {truth.get('col')})"
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
                replay=f"{replay} {record.k}",
            )
        )
    return tuple(rows)


def _replay(run: CampaignRun) -> str:
    from yieldkit.burnin.runner import replay_command

    return replay_command(run.folder, run.campaign.benches)


def _number(value: Any) -> float | None:
    number = float(value)
    return number if number - number == 0 else None
