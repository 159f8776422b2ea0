"""Trials as a table, CSV or Parquet: a column a fact, written chunk by chunk, so that memory does not grow with n."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from yieldkit.burnin.campaign import CampaignRun
from yieldkit.burnin.store import STORE_NAME, Store
from yieldkit.burnin.trial import TrialRow
from yieldkit.errors import BadInput
from yieldkit.files import canonical_json, writing

__all__ = ["Exported", "export_columns", "export_csv", "export_parquet"]

_OWN: Final[Mapping[str, str]] = {
    "k": "int",
    "kind": "text",
    "label": "text",
    "site": "text",
    "bit": "text",
    "phase": "text",
    "model": "text",
    "weight": "float",
}
_PARTS: Final[Mapping[str, str]] = {"truth": "truth", "observations": "seen", "metrics": "metric"}
_BATCH_ROWS: Final = 4096


@dataclass(frozen=True)
class Exported:
    """Rows written, and the columns with their types: "int", "float", "bool", "text", or "json" (lists, mixtures)."""

    rows: int
    columns: Mapping[str, str]


def export_columns(run: CampaignRun) -> dict[str, str]:
    """Columns of the table of a run, and their types.

    First what every trial has, then `truth.*`, `seen.*` and `metric.*`, each in the order of names. Metrics are
    floating-point numbers. Another fact has the one type that all of its values have; where these are lists, tables or
    of several types, it is written as JSON text.
    """
    with Store.reader(run.folder / STORE_NAME) as store:
        found = store.fact_types()
    columns = dict(_OWN)
    for part, prefix in _PARTS.items():
        for name, types in sorted(found.get(part, {}).items()):
            columns[f"{prefix}.{name}"] = "float" if part == "metrics" else _type_of(types)
    return columns


def export_csv(
    run: CampaignRun, target: str | Path | IO[str], *, columns: Sequence[str] = (), labels: Sequence[str] = ()
) -> Exported:
    """Write trials as CSV, in the order of k: absent facts are empty, NaN is `nan`.

    Args:
        run: the run.
        target: a file, written whole or not at all, or an open text stream.
        columns: names, or beginnings with a star ("metric.*"); all when empty.
        labels: only trials with one of these labels; all when empty.

    Raises:
        BadInput: there is no such column or label.
        BadFile: the run is damaged, or the file cannot be written.
    """
    chosen = _chosen(run, columns, labels)
    if not isinstance(target, str | Path):
        return Exported(_to_csv(run, target, chosen, labels), chosen)
    with writing(target) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", newline="", write_through=False)
        rows = _to_csv(run, text, chosen, labels)
        text.flush()
        text.detach()
    return Exported(rows, chosen)


def export_parquet(
    run: CampaignRun, target: str | Path, *, columns: Sequence[str] = (), labels: Sequence[str] = ()
) -> Exported:
    """Write trials as Parquet, in the order of k: absent facts are null. The fingerprints are in the file's metadata.

    Arguments and errors as in `export_csv`; another BadInput where pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput(
            "Parquet needs pyarrow, which is not installed", cure="pip install 'yieldkit[parquet]'"
        ) from error
    chosen = _chosen(run, columns, labels)
    types = {"int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    schema = pyarrow.schema(
        [(name, types.get(kind, pyarrow.string())) for name, kind in chosen.items()],
        metadata={"yieldkit.fingerprint": run.fingerprint, "yieldkit.task_fingerprint": run.task_fingerprint},
    )
    rows = 0
    with writing(target) as raw, pyarrow.parquet.ParquetWriter(raw, schema, compression="zstd") as writer:
        for batch in _batches(run, chosen, labels):
            writer.write_table(pyarrow.table(list(map(list, zip(*batch, strict=True))), schema=schema))
            rows += len(batch)
    return Exported(rows, chosen)


def _to_csv(run: CampaignRun, stream: IO[str], chosen: Mapping[str, str], labels: Sequence[str]) -> int:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(chosen)
    rows = 0
    for batch in _batches(run, chosen, labels):
        writer.writerows([_csv_value(value) for value in row] for row in batch)
        rows += len(batch)
    return rows


def _csv_value(value: Any) -> Any:
    return ("true" if value else "false") if isinstance(value, bool) else value


def _batches(run: CampaignRun, chosen: Mapping[str, str], labels: Sequence[str]) -> Iterator[list[list[Any]]]:
    wanted = [(*_home(name), kind) for name, kind in chosen.items()]
    parts = {part for part, _, _ in wanted} - {""}
    batch: list[list[Any]] = []
    with Store.reader(run.folder / STORE_NAME) as store:
        for row in store.rows():
            if labels and row.label not in labels:
                continue
            batch.append(_values(row, wanted, parts))
            if len(batch) == _BATCH_ROWS:
                yield batch
                batch = []
    if batch:
        yield batch


def _values(row: TrialRow, wanted: Sequence[tuple[str, str, str]], parts: set[str]) -> list[Any]:
    facts = {part: json.loads(getattr(row, part)) for part in parts}
    return [_cell(facts[part].get(name), kind) if part else getattr(row, name) for part, name, kind in wanted]


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "json":
        return value if isinstance(value, str) else canonical_json(value)
    # Records hold non-finite numbers as text.
    return float(value) if kind == "float" else value


def _home(column: str) -> tuple[str, str]:
    if column in _OWN:
        return "", column
    prefix, _, name = column.partition(".")
    return {short: part for part, short in _PARTS.items()}[prefix], name


def _type_of(types: frozenset[str]) -> str:
    types -= {"null"}
    for kind, members in (
        ("int", {"integer"}),
        ("float", {"integer", "real"}),
        ("bool", {"true", "false"}),
        ("text", {"text"}),
    ):
        if types <= members:
            return kind if types else "text"
    return "json"


def _chosen(run: CampaignRun, columns: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    known = export_columns(run)
    seen = run.tally().labels
    for label in labels:
        if label not in seen:
            raise BadInput("no trial has this label", value=label, cure=f"labels here: {', '.join(seen) or 'none'}")
    if not columns:
        return known
    chosen: dict[str, str] = {}
    for column in columns:
        if column.endswith("*"):
            found = [name for name in known if name.startswith(column[:-1])]
        else:
            found = [column] if column in known else []
        if not found:
            close = difflib.get_close_matches(column, known, n=1)
            cure = f"did you mean {close[0]}?" if close else f"columns here: {', '.join(known)}"
            raise BadInput("there is no such column", value=column, cure=cure)
        chosen |= {name: known[name] for name in found}
    return chosen
