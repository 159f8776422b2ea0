"""`yieldkit report`: report data, the folder of a campaign or a trace in, one HTML file out."""

from __future__ import annotations

from pathlib import Path

import click

from yieldkit.cli import emit, json_option

__all__ = ["command"]


@click.command()
@click.argument("source", metavar="DATA.json|RUN_DIR|TRACE.npz", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="Write the page to this file.",
)
@json_option
def command(source: Path, out: Path, *, as_json: bool) -> None:
    """Lay out report data, a campaign's run, or the trace of a launch, as one self-contained HTML file."""
    from yieldkit.burnin import CampaignRun
    from yieldkit.report.data import ReportData
    from yieldkit.report.write import write_report

    if source.suffix == ".npz":
        from yieldkit.emulator.trace import Trace
        from yieldkit.report.traces import write_trace_report

        path = write_trace_report(Trace.load(source), out, command=f"yieldkit report {source.name} --out {out.name}")
    else:
        path = write_report(CampaignRun.load(source) if source.is_dir() else ReportData.load(source), out)
    size = path.stat().st_size
    emit({"path": str(path), "bytes": size, "source": str(source)}, f"{path} ({size / 1e6:.2f} MB)", as_json=as_json)
