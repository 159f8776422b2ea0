"""`yieldkit diagnose`: symptoms in, verdict out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yieldkit.cli import emit, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["command"]


@click.command()
@click.argument("symptoms_file", metavar="SYMPTOMS.json", type=click.Path(path_type=Path))
@click.option("--baseline", "baseline_file", type=click.Path(path_type=Path), help="Clean runs of the same job, JSON.")
@click.option("--taxonomy", "taxonomy_file", type=click.Path(path_type=Path), help="TOML that extends the taxonomy.")
@json_option
def command(symptoms_file: Path, baseline_file: Path | None, taxonomy_file: Path | None, *, as_json: bool) -> None:
    """Classify the symptoms of a run, from observations only.

    SYMPTOMS.json is what `Symptoms.to_dict` writes; the baseline what `Baseline.to_dict` writes.
    """
    from yieldkit.diagnosis import Baseline, classify, load_taxonomy
    from yieldkit.emulator.symptoms import Symptoms

    symptoms = _read(symptoms_file, Symptoms.from_dict)
    baseline = None if baseline_file is None else _read(baseline_file, Baseline.from_dict)
    verdict = classify(symptoms, baseline=baseline, taxonomy=load_taxonomy(taxonomy_file))
    emit(verdict.to_dict(), str(verdict), as_json=as_json)


def _read(path: Path, build: Callable[[dict[str, Any]], Any]) -> Any:
    import json

    from yieldkit.errors import BadFile, BadInput
    from yieldkit.files import read_bytes

    try:
        data = json.loads(read_bytes(path, limit_bytes=1 << 30))
    except json.JSONDecodeError as error:
        raise BadFile(path, f"is not JSON: {error.msg}", where=f"line {error.lineno}") from error
    except UnicodeDecodeError as error:
        raise BadFile(path, "is not UTF-8 text", where=f"byte {error.start}") from error
    except RecursionError as error:
        raise BadFile(path, "is nested too deeply") from error
    if not isinstance(data, dict) or not data:
        raise BadFile(path, "must hold a JSON object with its fields", value=type(data).__name__)
    try:
        return build(data)
    except BadFile:
        raise
    except BadInput as error:
        raise BadFile(path, error.what, value=error.value, cure=error.cure) from error
