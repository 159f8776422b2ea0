"""`yieldkit burnin`: campaigns from a TOML spec."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option
from yieldkit.cli.burnin_folders import compare, export, merge
from yieldkit.cli.burnin_screen import screen
from yieldkit.cli.burnin_strata import check, early_facts, fit_lines, outcomes, percent, weighted_outcomes
from yieldkit.errors import AnswerIsNo, BadFile, BadInput

if TYPE_CHECKING:
    from yieldkit.burnin.campaign import Campaign, CampaignRun

__all__ = ["benches_of", "command", "standing"]

_FOLDER = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path)


def _set_option(function: Callable[..., Any]) -> Callable[..., Any]:
    text = "Override a field of the spec, e.g. campaign.trials=500; repeatable."
    return click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help=text)(function)


def _bench_option(function: Callable[..., Any]) -> Callable[..., Any]:
    text = "Module that offers a further kind of bench; repeatable."
    return click.option("--bench", "benches", multiple=True, metavar="KIND=MODULE", help=text)(function)


def _jobs_option(function: Callable[..., Any]) -> Callable[..., Any]:
    text = "Worker processes; 1 runs in this one. Rows do not depend on it."
    return click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help=text)(function)


def _where_options(function: Callable[..., Any]) -> Callable[..., Any]:
    dask = "Address of a Dask scheduler whose workers do the work, or local:N to start N here; --jobs is then theirs."
    part = "Carry out the I-th of N parts only, e.g. one a machine; merge joins them."
    function = click.option("--part", default="", metavar="I/N", help=part)(function)
    return click.option("--dask", default="", metavar="ADDRESS", help=dask)(function)


@click.group()
def command() -> None:
    """Burn-in campaigns: inject faults into a workload, trial by trial, and count what they do.

    A run can be stopped, killed and resumed at any moment; trial K of a spec is the same on any number of workers.
    """


for _further in (check, compare, export, merge, outcomes, screen):
    command.add_command(_further)


@command.command()
@click.argument("spec", type=_FILE)
@click.option("--out", type=_FOLDER, required=True, help="Folder of the run; resumed when it holds one.")
@_jobs_option
@_where_options
@_set_option
@_bench_option
@json_option
def run(
    spec: Path,
    out: Path,
    jobs: int,
    dask: str,
    part: str,
    overrides: tuple[str, ...],
    benches: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the campaign of SPEC in a folder, or what is missing of it."""
    from yieldkit.burnin.campaign import Campaign

    campaign = Campaign.from_toml(spec, overrides=overrides, benches=benches_of(benches))
    _go(campaign, out, jobs, dask, part, as_json)


@command.command()
@click.argument("folder", type=_FOLDER)
@_jobs_option
@_where_options
@_set_option
@_bench_option
@json_option
def resume(
    folder: Path,
    jobs: int,
    dask: str,
    part: str,
    overrides: tuple[str, ...],
    benches: tuple[str, ...],
    as_json: bool,
) -> None:
    """Go on with the run in FOLDER; --set may raise its budget or change when it stops."""
    from yieldkit.burnin.campaign import CampaignRun

    kept = CampaignRun.load(folder, overrides=overrides, benches=benches_of(benches))
    _go(kept.campaign, folder, jobs, dask, part, as_json)


@command.command()
@click.argument("folder", type=_FOLDER)
@json_option
def status(folder: Path, as_json: bool) -> None:
    """Say where the run in FOLDER stands, also while it runs."""
    from yieldkit.burnin.campaign import CampaignRun

    facts, text = standing(CampaignRun.load(folder))
    emit(facts, text, as_json=as_json)


@command.command()
@click.argument("folder", type=_FOLDER)
@click.option("--trial", "k", type=click.IntRange(min=0), required=True, help="Number of the trial.")
@_bench_option
@json_option
def replay(folder: Path, k: int, benches: tuple[str, ...], as_json: bool) -> None:
    """Carry out one trial of the run in FOLDER again, alone, and compare it with its row. Exit 3 when they differ."""
    from yieldkit.burnin.campaign import CampaignRun
    from yieldkit.burnin.verdict import baseline_of, verdict_of

    kept = CampaignRun.load(folder, benches=benches_of(benches))
    outcome = kept.replay(k)
    try:
        verdict = verdict_of(outcome.record, baseline=baseline_of(kept.clean_observations))
    except BadInput as error:
        # Another bench may observe something else than the symptoms of the emulator.
        verdict, diagnosis = None, f"none: {error}"
    else:
        diagnosis = str(verdict)
    facts = {
        **outcome.record.to_dict(),
        "verdict": None if verdict is None else verdict.to_dict(),
        "equals_stored": outcome.equal,
        "stored": None if outcome.stored is None or outcome.equal else outcome.stored.to_dict(),
    }
    answer = {True: "equal to the stored row", False: "DIFFERENT from the stored row", None: "not stored yet"}
    shown = outcome.record.to_dict()
    lines = [f"trial {k}: {answer[outcome.equal]}", f"label: {outcome.record.label}"]
    for title, part in (
        ("injected", shown["truth"]),
        ("metrics", shown["metrics"]),
        ("observed", shown["observations"]),
    ):
        lines += [f"{title}:", *_fields(part)]
    lines.append(f"diagnosis: {diagnosis}")
    emit(facts, "\n".join(lines), as_json=as_json)
    if outcome.equal is False:
        raise AnswerIsNo(f"trial {k} is not what is stored in {folder}: other code, or a damaged store")


@command.command()
@click.argument("target", type=click.Path(path_type=Path, allow_dash=True), default="campaign.toml")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@json_option
def init(target: Path, force: bool, as_json: bool) -> None:
    """Write a commented example spec to TARGET (- for stdout)."""
    from yieldkit.burnin.example import EXAMPLE_SPEC
    from yieldkit.files import write_text

    if str(target) == "-":
        click.echo(EXAMPLE_SPEC, nl=False)
        return
    if target.exists() and not force:
        raise BadFile(target, "exists already", cure="choose another name, or use --force")
    write_text(target, EXAMPLE_SPEC)
    emit(
        {"file": str(target)}, f"{target} written; run it with: yieldkit burnin run {target} --out DIR", as_json=as_json
    )


def _go(campaign: Campaign, folder: Path, jobs: int, dask: str, part: str, as_json: bool) -> None:
    from yieldkit.burnin.campaign import CampaignRun
    from yieldkit.burnin.progress import show_progress
    from yieldkit.burnin.stopping import stop_on_signals

    added = 0
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        make_executor, options = None, ""
        if dask:
            from yieldkit.burnin.dask_workers import dask_crew

            crew = stack.enter_context(dask_crew(dask))
            make_executor, options = crew.make_executor, f"--dask {dask}"
            jobs = crew.workers if jobs == 1 else jobs
        steps = campaign.iter_run(folder, jobs=jobs, make_executor=make_executor, stop=stop, part=part, options=options)
        for step in show_progress(steps, stream=sys.stderr):
            added = step.added
    facts, text = standing(CampaignRun.load(folder, benches=campaign.benches))
    emit({**facts, "added": added}, f"{text}\n{added} trials added", as_json=as_json)


def standing(run: CampaignRun) -> tuple[dict[str, Any], str]:
    """Where a run stands, as facts and as text."""
    from yieldkit.burnin.early_ends import early_ends
    from yieldkit.burnin.fit import fit_rows, protection_of
    from yieldkit.burnin.outcomes import ALL_KINDS
    from yieldkit.burnin.progress import clock

    (decision, finished), tally, running = run.standing(), run.tally(), run.running
    state = "running" if running else ("finished" if finished else "can be resumed")
    pulse = run.pulse
    outcomes = weighted_outcomes(run)
    spec = run.campaign.spec
    fit = fit_rows(run) if spec.rates and tally.cells else []
    protection = dict(protection_of(spec))
    early = early_ends(run)
    eta = None if pulse is None or not pulse.added else (decision.limit - tally.n) / pulse.rate_per_s
    facts = {
        "folder": str(run.folder),
        "name": run.campaign.spec.campaign.name,
        "seed": run.campaign.spec.campaign.seed,
        "fingerprint": run.fingerprint,
        "task_fingerprint": run.task_fingerprint,
        "versions": run.versions,
        "state": state,
        "trials": tally.n,
        "limit": decision.limit,
        "limit_is_final": decision.final,
        "reason": decision.reason,
        "rate_per_s": None if pulse is None else pulse.rate_per_s,
        "eta_s": eta,
        "last_commit_s": None if pulse is None else pulse.age_s,
        "outcomes": outcomes,
        "fit": fit,
        "protection": protection,
    } | early_facts(early)
    why = {"budget": "the budget", "half_width": "the interval is narrow enough", "": "the next decision"}
    lines = [
        f"{facts['name']} (seed {facts['seed']}, {facts['fingerprint']}) in {run.folder}: {state}",
        f"{tally.n} of {decision.limit} trials ({why[decision.reason]})",
    ]
    if pulse is not None and eta is not None:
        lines.append(f"{pulse.rate_per_s:.3g} trials/s, {clock(eta)} left; last commit {pulse.age_s:.0f} s ago")
    rows = [row for row in outcomes if row["kind"] == ALL_KINDS]
    width = max((len(row["label"]) for row in rows), default=0)
    for row in rows:
        rate, low, high = (percent(row[name]) for name in ("rate", "wilson_low", "wilson_high"))
        lines.append(f"  {row['label']:<{width}}  {row['count']:>7}  {rate:>8}  [{low}, {high}]")
    if rows:
        weighted = ", weighted by the design" if spec.strata is not None or spec.faults.importance else ""
        lines.append(f"  n = {tally.n}; in brackets the 95 % Wilson interval{weighted}")
        lines.append("  protection: " + ", ".join(f"{name} {value}" for name, value in protection.items()))
        lines += [f"  {early.text}"] if early else []
    if fit:
        lines += ["failures in time:", *fit_lines([row for row in fit if row["site"] == "all"])]
    return facts, "\n".join(lines)


def _fields(part: dict[str, Any]) -> list[str]:
    width = max((len(name) for name in part), default=0)
    return [f"  {name:<{width}}  {value}" for name, value in part.items()]


def benches_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """Kinds of bench and their modules from KIND=MODULE."""
    benches = {}
    for pair in pairs:
        kind, equals, module = pair.partition("=")
        if not (kind and equals and module):
            raise BadInput("--bench must read KIND=MODULE", value=pair)
        benches[kind] = module
    return benches
