"""`make bench`: every figure in one run, as a table and as JSON; `ratio` is value over peer_value."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yieldkit.files import write_text


def _emulator() -> list[dict[str, Any]]:
    from tests.bench.emulator import figures

    return figures()


def _counts() -> list[dict[str, Any]]:
    from tests.bench.counts import figures

    return figures()


def _wavelet() -> list[dict[str, Any]]:
    from tests.bench.wavelet import figures

    return figures()


def _cycles() -> list[dict[str, Any]]:
    from tests.bench.cycles import figures

    return figures()


def _repair() -> list[dict[str, Any]]:
    from tests.bench.repair import figures

    return figures()


def _sampling() -> list[dict[str, Any]]:
    from tests.defects.sampling_bench import figures

    return figures()


def _injections() -> list[dict[str, Any]]:
    from tests.bench.injections import figures

    return figures()


def _campaigns() -> list[dict[str, Any]]:
    from tests.bench.campaigns import figures

    return figures()


def _files() -> list[dict[str, Any]]:
    from tests.bench.files import figures

    return figures()


def _report() -> list[dict[str, Any]]:
    if shutil.which("chromium") is None:
        return [
            {"name": name, "value": None, "unit": unit, "peer": "not run: no Chromium", "peer_value": None,
             "ratio": None, "command": "python -m tests.report.size"}
            for name, unit in (("report_mb", "MB"), ("report_ready_s", "s"))
        ]  # fmt: skip
    from tests.report.size import measure

    return measure()


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "sampling": _sampling,
    "repair": _repair,
    "emulator": _emulator,
    "injections": _injections,
    "campaigns": _campaigns,
    "counts": _counts,
    "cycles": _cycles,
    "wavelet": _wavelet,
    "files": _files,
    "report": _report,
}


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--out", type=Path, default=Path("reports/bench.json"))
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="parts to measure; all by default")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows: list[dict[str, Any]] = []
    for name, part in PARTS.items():
        if options.only and name not in options.only:
            continue
        print(f"measuring {name} ...", file=sys.stderr)
        rows += part()
    for row in rows:
        # One rule for all: the ratio is value over peer_value, whatever the unit.
        if row["value"] is not None and row["peer_value"]:
            row["ratio"] = row["value"] / row["peer_value"]
    width = max(len(row["name"]) for row in rows)
    print(f"{'figure':<{width}}  {'value':>12}  {'unit':<10}  {'ratio':>8}  against")
    for row in rows:
        peer = row["peer"] or ""
        if row["peer_value"] is not None:
            peer += f" ({_text(row['peer_value'])})"
        print(f"{row['name']:<{width}}  {_text(row['value']):>12}  {row['unit']:<10}  {_text(row['ratio']):>8}  {peer}")
    print(write_text(options.out, json.dumps(rows, indent=2) + "\n"))


if __name__ == "__main__":
    main()
