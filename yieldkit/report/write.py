"""`write_report`: one HTML file that is complete in itself."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from yieldkit.errors import BadInput
from yieldkit.files import write_bytes
from yieldkit.report.data import ReportData, Table, TraceSection
from yieldkit.version import __version__

__all__ = ["render_report", "write_report"]

_OPEN_ROWS = 25


def write_report(data: Any, path: str | Path) -> Path:
    """Write the report as one self-contained HTML file, whole or not at all.

    Args:
        data: a `ReportData`, the folder of a campaign's run as `CampaignRun`, or anything with a method
            `report_data()` that gives a `ReportData`.
        path: the file to write.

    Returns:
        the path written.

    Raises:
        BadInput: `data` is neither.
        BadFile: the file cannot be written.
    """
    if not isinstance(data, ReportData):
        make = getattr(data, "report_data", None)
        made = make() if callable(make) else _campaign(data)
        if not isinstance(made, ReportData):
            raise BadInput("write_report needs a ReportData or something with report_data()", value=type(data).__name__)
        data = made
    return write_bytes(path, render_report(data).encode())


def _campaign(run: Any) -> ReportData | None:
    """Report data of a campaign's run; its wafer is carried through the chain once more, which is deterministic."""
    from yieldkit.burnin import CampaignRun

    if not isinstance(run, CampaignRun):
        return None
    from yieldkit.burnin.chain import build_chain
    from yieldkit.report.assemble import report_of

    spec = run.campaign.spec
    return report_of(
        title=f"yieldkit: campaign {spec.campaign.name}",
        subtitle=f"{spec.program.kind} on wafer {spec.wafer.id}",
        chain=build_chain(spec.wafer, seed=spec.campaign.seed),
        campaign=run,
        command=f"yieldkit report {run.folder}",
    )


def render_report(data: ReportData) -> str:
    """The page as text; equal data give equal text."""
    import jinja2
    from markupsafe import Markup

    from yieldkit.report import layout
    from yieldkit.report.numbers import scalar

    page = resources.files("yieldkit.report").joinpath("page")
    style = page.joinpath("style.css").read_text(encoding="utf-8")
    scripts = {"map.js": data.wafer is not None, "trials.js": data.campaign is not None and bool(data.campaign.cells)}
    script = "".join(page.joinpath(name).read_text(encoding="utf-8") for name, wanted in scripts.items() if wanted)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: page.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        scalar=scalar,
        numeric=layout.numeric,
        csv_link=layout.csv_link,
        shape=lambda kind, size: Markup(layout.shape(_Kind(kind), size)),
    )
    parts = environment.get_template("parts.html.j2").module

    def long_table(name: str, table: Table) -> Markup:
        inner = Markup(parts.grid(name, list(table.columns), table.rows, wide=()))  # type: ignore[attr-defined]
        note = Markup("<p class='note'>{}</p>").format(table.note) if table.note else Markup("")
        opened = Markup(" open") if len(table.rows) <= _OPEN_ROWS else Markup("")
        head = Markup("<details{}><summary>{}, {} rows</summary>").format(opened, table.title, len(table.rows))
        return head + note + inner + Markup("</details>")

    wafer: dict[str, Any] = {}
    signs: list[dict[str, Any]] = []
    if data.wafer is not None:
        wafer = layout.map_parts(data.wafer)
        signs = layout.legend(data.wafer, wafer)
        # The picture has one pixel per core; the cores' pitch gives its shape.
        style += f".map .still {{ aspect-ratio: {wafer['width']} / {wafer['height']}; }}\n"
        wafer |= {"json": Markup(wafer["json"]), "overlay": Markup(wafer["overlay"])}
    figures = {"yields": "", "displacement": "", "training": "", "outcomes": "", "losses": ""}
    return environment.get_template("report.html.j2").render(
        data=data,
        sections=layout.sections(data),
        map=wafer,
        legend=signs,
        charts={name: Markup(text) for name, text in (figures | layout.charts(data)).items()},
        rows=layout.tables(data),
        traces=[] if data.traces is None else _traces(data.traces),
        long_table=long_table,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        version=__version__,
    )


def _traces(section: TraceSection) -> list[dict[str, Any]]:
    from markupsafe import Markup

    from yieldkit.report.traces import view_parts

    parts = [view_parts(view, number) for number, view in enumerate(section.views, 1)]
    return [{**part, "figures": [(Markup(svg), caption) for svg, caption in part["figures"]]} for part in parts]


class _Kind:
    """A legend row as `layout.shape` wants it."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.colour: str = row["colour"]
        self.shape: str = row["shape"]


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
