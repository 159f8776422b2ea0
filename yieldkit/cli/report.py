"""`yieldkit report`: report data in, one HTML file out."""

from __future__ import annotations

from pathlib import Path

import click

from yieldkit.cli import emit, json_option

__all__ = ["command"]


@click.command()
@click.argument("data_file", metavar="DATA.json", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@json_option
def command(data_file: Path, out: Path, *, as_json: bool) -> None:
    """Lay out report data as one self-contained HTML file."""
    from yieldkit.report.data import ReportData
    from yieldkit.report.write import write_report

    data = ReportData.load(data_file)
    path = write_report(data, out)
    size = path.stat().st_size
    emit({"path": str(path), "bytes": size, "title": data.title}, f"{path} ({size / 1e6:.2f} MB)", as_json=as_json)
