"""`yieldkit burnin merge`, `export` and `compare`: what is done with the folders of runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option
from yieldkit.cli.burnin_strata import percent, table
from yieldkit.errors import BadInput

if TYPE_CHECKING:
    from yieldkit.burnin.compare import Comparison

__all__ = ["compare", "export", "merge"]

_FOLDER = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("folders", type=_FOLDER, nargs=-1, required=True, metavar="FOLDER...")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the joined run; one that is there is added to.")
@json_option
def merge(folders: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Join runs of one campaign, such as its parts, into one that can be gone on with.

    A trial that two of them have must be the same in both. The order of the folders does not matter.
    """
    from yieldkit.burnin.merge import merge_runs
    from yieldkit.cli.burnin import standing

    joined = merge_runs(folders, out)
    facts, text = standing(joined.run)
    last = f"{joined.added} trials added, {joined.shared} were in more than one folder"
    emit({**facts, "added": joined.added, "shared": joined.shared}, f"{text}\n{last}", as_json=as_json)


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, allow_dash=True), help="File, - for stdout.")
@click.option("--parquet", "parquet_file", type=_FILE, help="File; needs pyarrow.")
@click.option("--columns", metavar="A,B.*", default="", help="Only these columns, in this order; * ends a beginning.")
@click.option("--label", "labels", multiple=True, help="Only trials with this label; repeatable.")
@json_option
def export(
    folder: Path,
    csv_file: Path | None,
    parquet_file: Path | None,
    columns: str,
    labels: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write the trials of the run in FOLDER as a table; lists become JSON text."""
    from yieldkit.burnin.campaign import CampaignRun
    from yieldkit.burnin.export import export_csv, export_parquet

    if csv_file is None and parquet_file is None:
        raise BadInput("nowhere to write to", cure="give --csv FILE, --parquet FILE or both")
    kept = CampaignRun.load(folder)
    only = [name.strip() for name in columns.split(",") if name.strip()]
    files: dict[str, Any] = {}
    written = None
    if csv_file is not None:
        stdout = str(csv_file) == "-"
        target = sys.stdout if stdout else csv_file
        written = export_csv(kept, target, columns=only, labels=labels)
        files |= {} if stdout else {"file": str(csv_file)}
    if parquet_file is not None:
        written = export_parquet(kept, parquet_file, columns=only, labels=labels)
        files["parquet" if files else "file"] = str(parquet_file)
    if written is not None and files:
        facts = {"rows": written.rows, "columns": list(written.columns), **files}
        emit(facts, f"{written.rows} trials written to {' and '.join(files.values())}", as_json=as_json)


@click.command()
@click.argument("a", type=_FOLDER)
@click.argument("b", type=_FOLDER)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@json_option
def compare(a: Path, b: Path, confidence: float, as_json: bool) -> None:
    """Compare the outcome rates of the runs in folders A and B: differences B - A, and what differs in their specs."""
    from yieldkit.burnin.campaign import CampaignRun
    from yieldkit.burnin.compare import compare_runs

    found = compare_runs(CampaignRun.load(a), CampaignRun.load(b), confidence=confidence)
    emit(found.to_dict(), "\n".join(_comparison(found)), as_json=as_json)


def _comparison(found: Comparison) -> list[str]:
    lines = [f"{side}: {folder}, {n} trials" for side, folder, n in zip("ab", found.folders, found.n, strict=True)]
    lines.append("the specs differ in:" if found.fields else "the specs are the same")
    lines += [f"  {one.field}: {_value(one.a)} -> {_value(one.b)}" for one in found.fields]
    if found.same_task is False:
        lines.append("what the benches built (program, image, golden run) differs")
    seen = [row for row in found.rows if row["count_a"] or row["count_b"]]
    lines += table(
        (found.by, "label", "a", "b", "b - a", "interval", "p", "p (Holm)"),
        [
            (
                row["group"],
                row["label"],
                *(f"{percent(row[f'rate_{side}'])} ({row[f'count_{side}']}/{row[f'n_{side}']})" for side in "ab"),
                _points(row["difference"]),
                f"[{_points(row['difference_low'])}, {_points(row['difference_high'])}]",
                _p(row["p"]),
                _p(row["p_holm"]),
            )
            for row in seen
        ],
    )
    for side, groups in found.groups_of_one.items():
        if groups:
            lines.append(f"only in {side}: {', '.join(groups)}")
    lines.append(
        f"differences in percentage points with Newcombe's interval of {100 * found.confidence:g} %, each on its own; "
        "p of the score test, and adjusted for the number of labels"
    )
    if any(found.weighted):
        which = " and ".join(side for side, weighted in zip("ab", found.weighted, strict=True) if weighted)
        lines.append(f"rates of {which} are weighted by the design, and not count/n")
    return lines


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def _value(value: Any) -> str:
    return "absent" if value is None else str(value)
