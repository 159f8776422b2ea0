"""`yieldkit burnin check` and `outcomes`: what a campaign would sample, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option

if TYPE_CHECKING:
    from yieldkit.burnin.campaign import CampaignRun
    from yieldkit.burnin.early_ends import EarlyEnds

__all__ = ["check", "early_facts", "fit_lines", "outcomes", "percent", "table", "weighted_outcomes"]

_FILE = click.Path(path_type=Path)
_BENCH = click.option(
    "--bench", "benches", multiple=True, metavar="KIND=MODULE", help="Module that offers a further kind of bench."
)


@click.command()
@click.argument("spec", type=_FILE)
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a field of the spec.")
@_BENCH
@json_option
def check(spec: Path, overrides: tuple[str, ...], benches: tuple[str, ...], as_json: bool) -> None:
    """Check SPEC and print its strata: population, share, and the trials planned for each; nothing is run."""
    from yieldkit.burnin.campaign import Campaign
    from yieldkit.burnin.survey import survey_of
    from yieldkit.cli.burnin import benches_of

    campaign = Campaign.from_toml(spec, overrides=overrides, benches=benches_of(benches))
    survey = survey_of(campaign)
    rows = list(survey.rows)
    facts = {
        "name": campaign.spec.campaign.name,
        "fingerprint": campaign.fingerprint,
        "strata": rows,
        "by": list(survey.by),
        "first_round": campaign.spec.campaign.round,
        "budget": campaign.spec.campaign.trials,
        "notes": list(survey.notes),
    }
    lines = [f"{facts['name']} ({facts['fingerprint']}): {len(rows)} strata by {', '.join(survey.by) or 'nothing'}"]
    lines += table(
        ("stratum", "population", "share", "first round", "budget"),
        [(r["stratum"], r["population"], percent(r["share"]), r["first_round"], _or_later(r["budget"])) for r in rows],
    )
    emit(facts, "\n".join([*lines, *survey.notes]), as_json=as_json)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--by", type=click.Choice(["kind", "site", "bit", "phase", "model"]), default="kind", show_default=True,
    help="What the rows are told apart by.",
)  # fmt: skip
@click.option("--live", is_flag=True, help="Leave out bits that nothing reads: rates per live bit.")
@click.option("--fit", is_flag=True, help="Failures in time by class of places, from the raw rates of the spec.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@json_option
def outcomes(folder: Path, by: str, live: bool, fit: bool, confidence: float, as_json: bool) -> None:
    """Rates of the outcomes of the run in FOLDER with their intervals, weighted by its design."""
    from yieldkit.burnin.campaign import CampaignRun
    from yieldkit.burnin.early_ends import early_ends
    from yieldkit.burnin.fit import fit_rows, protection_of, without_rate
    from yieldkit.burnin.outcomes import FEW_EVENTS

    run = CampaignRun.load(folder)
    protection = dict(protection_of(run.campaign.spec))
    rows = fit_rows(run, confidence=confidence) if fit else weighted_outcomes(run, by, confidence, live=live)
    early = early_ends(run)
    facts: dict[str, Any] = {"folder": str(folder), "trials": run.n, "protection": protection, "rows": rows}
    facts |= early_facts(early)
    lines = [f"{folder}: {facts['trials']} trials; protection: {_protection(protection)}"]
    lines += [early.text] if early else []
    if fit:
        lines += fit_lines(rows)
        unrated, unsampled = without_rate(run)
        facts |= {"without_raw_rate": list(unrated), "without_trials": list(unsampled)}
        if unrated:
            lines.append(f"left out, no raw rate: {', '.join(unrated)}")
        if unsampled:
            lines.append(f"left out, no trials (or not in the program): {', '.join(unsampled)}")
    else:
        shown = [row for row in rows if row["count"]]
        lines += table(
            (by, "label", "count", "n", "rate", "Wilson", "exact"),
            [
                (
                    row[by], row["label"], row["count"], row["n"], percent(row["rate"]),
                    *(f"[{percent(row[f'{m}_low'])}, {percent(row[f'{m}_high'])}]" for m in ("wilson", "exact")),
                )
                for row in shown
            ],
        )  # fmt: skip
        lines.append(f"intervals of {100 * confidence:g} %, each on its own; labels never seen are in --json")
        few = [f"{row[by]} {row['label']}" for row in shown if row["events"] < FEW_EVENTS and row["count"] < row["n"]]
        if few:
            lines.append(
                f"fewer than {FEW_EVENTS:g} events decide these, their intervals may not hold {100 * confidence:g} %:"
                f" {', '.join(few)}"
            )
    emit(facts, "\n".join(lines), as_json=as_json)


def early_facts(early: EarlyEnds | None) -> dict[str, Any]:
    """What the statistical exit did to a campaign, for --json; nothing where it has exact exits."""
    if early is None:
        return {}
    return {"statistical_exit": {"ended": early.ended, "bound": early.bound, "kind": early.kind, "text": early.text}}


def weighted_outcomes(
    run: CampaignRun, by: str = "kind", confidence: float = 0.95, *, live: bool = False
) -> list[dict[str, Any]]:
    """Rows of the outcome table of a run."""
    from yieldkit.burnin.outcomes import outcome_rows
    from yieldkit.burnin.schedule import strata_of

    strata = strata_of(run.campaign.spec, run.classes())
    return outcome_rows(run.tally(), by=by, confidence=confidence, strata=strata, live=live)


def fit_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Failures in time as text; labels that a class of places never showed are left out."""
    shown = [
        (
            row["site"], row["label"], f"{row['raw_fit']:.4g}" + (f" per {row['unit']}" if row["unit"] else ""),
            f"{row['units']:.4g}", percent(row["rate"]), f"{row['fit']:.3g}",
            f"[{row['fit_low']:.3g}, {row['fit_high']:.3g}]",
        )
        for row in rows
        if row["fit"] > 0
    ]  # fmt: skip
    return table(("site", "label", "raw FIT", "units", "rate", "FIT", "interval"), shown)


def percent(rate: float) -> str:
    """Two significant places below a percent; 0 % and 100 % only when it is exactly that."""
    text = f"{100 * rate:.2f} %"
    if text == "0.00 %" and rate > 0:
        return "<0.01 %"
    return ">99.99 %" if text == "100.00 %" and rate < 1 else text


def _or_later(n: int | None) -> str:
    return "by results" if n is None else str(n)


def _protection(protection: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in protection.items())


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table, columns aligned."""
    cells = [[str(value) for value in row] for row in (head, *rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
