"""From `ReportData` to the rows, charts and pictures of the page; arithmetic stops at shares and intervals."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from yieldkit.report.cells import cell_groups, cell_rows, rate_tables
from yieldkit.report.numbers import percent, seconds
from yieldkit.report.packing import unpack

if TYPE_CHECKING:
    from yieldkit.report.data import CampaignSection, ConfusionSection, ReportData, WaferSection

__all__ = ["charts", "csv_link", "legend", "map_parts", "numeric", "sections", "shape", "tables"]

_STILL_WIDTH: Final = 1000
"""Width of the still picture's coordinate system; markers are sized in it."""


def sections(data: ReportData) -> list[tuple[str, str]]:
    """(id, title) of the sections that the page has."""
    every = [
        ("summary", "Summary", True),
        ("wafer", "Wafer", data.wafer is not None),
        ("defects", "Defects", data.defects is not None),
        ("yields", "Yield", data.yields is not None),
        ("repair", "Repair", data.repair is not None),
        ("training", "Training", data.training is not None),
        ("traces", "Over time", data.traces is not None),
        ("campaign", "Faults in use", data.campaign is not None),
        ("confusion", "Diagnosis", data.confusion is not None),
        ("tables", "Tables", bool(data.tables)),
        ("taxonomy", "Taxonomy", data.taxonomy is not None),
        ("provenance", "Repeat it", True),
    ]
    return [(name, title) for name, title, there in every if there]


def csv_link(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A data: address of the table as CSV.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_harmless(column) for column in columns])
    writer.writerows([[_harmless(value) for value in row] for row in rows])
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(buffer.getvalue().encode()).decode()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def numeric(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> list[bool]:
    """Per column, whether it holds numbers (or percentages) only, and so is set flush right."""
    return [_numeric(rows, column) for column in range(len(columns))]


def _numeric(rows: Sequence[Sequence[Any]], column: int) -> bool:
    values = [row[column] for row in rows if row[column] is not None]
    return bool(values) and all(
        (isinstance(value, int | float) and not isinstance(value, bool))
        or (isinstance(value, str) and value.endswith(" %") and value[0] in "<>0123456789")
        for value in values
    )


def shape(kind: Any, size: float, x: float = 0.0, y: float = 0.0) -> str:
    """SVG of a haloed marker at (x, y); `kind` has colour and shape."""
    if not kind.shape:
        return ""
    s = size
    paths = {
        "cross": f"M{x - s:g} {y - s:g}L{x + s:g} {y + s:g}M{x + s:g} {y - s:g}L{x - s:g} {y + s:g}",
        "diamond": f"M{x:g} {y - 1.2 * s:g}L{x + 1.2 * s:g} {y:g}L{x:g} {y + 1.2 * s:g}L{x - 1.2 * s:g} {y:g}Z",
        "triangle": f"M{x:g} {y - 1.15 * s:g}L{x + 1.1 * s:g} {y + 0.85 * s:g}L{x - 1.1 * s:g} {y + 0.85 * s:g}Z",
        "square": f"M{x - 0.9 * s:g} {y - 0.9 * s:g}h{1.8 * s:g}v{1.8 * s:g}h{-1.8 * s:g}Z",
        "bar": f"M{x - 1.6 * s:g} {y:g}h{3.2 * s:g}",
    }
    path = paths.get(kind.shape)
    if path is None:
        r = 1.5 * s if kind.shape == "ring" else 0.7 * s
        path = f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0Z"
    if kind.shape in ("cross", "ring", "bar"):
        wide, thin = 1.15 * s, 0.58 * s
        return _stroked(path, "#ffffff", wide) + _stroked(path, kind.colour, thin)
    filled = f'<path d="{path}" fill="{kind.colour}" stroke="#1b2026" stroke-width="{0.16 * s:g}"/>'
    return _stroked(path, "#ffffff", 0.6 * s) + filled


def _stroked(path: str, colour: str, width: float) -> str:
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-linecap="round"/>'


def map_parts(section: WaferSection) -> dict[str, Any]:
    """The still picture, its markers, the data of the script and the tables behind them."""
    from yieldkit.report.wafer_map import KINDS, STATES, markers, palette_png

    chosen, told = markers(section)
    kinds = {kind.id: kind for kind in KINDS}
    grid = unpack(section.states, (section.rows, section.cols), "uint8")
    counts = [int((grid == code).sum()) for code in range(len(STATES))]
    tall, wide = section.rows * section.pitch_mm[0], section.cols * section.pitch_mm[1]
    height = max(1, round(_STILL_WIDTH * tall / wide))
    step_x, step_y = _STILL_WIDTH / section.cols, height / section.rows
    size = max(6.0, min(0.26 * min(step_x, step_y), 16.0))
    overlay: list[str] = []
    for name, row, col, drow, dcol in chosen:
        x, y = (col + 0.5 + dcol / 2) * step_x, (row + 0.5 + drow / 2) * step_y
        kind = kinds[name]
        if kind.shape == "bar":
            half_x, half_y = (
                max(abs(dcol) * step_x / 2, 8.0 * bool(dcol)),
                max(abs(drow) * step_y / 2, 8.0 * bool(drow)),
            )
            sign_x, sign_y = (1 if dcol >= 0 else -1), (1 if drow >= 0 else -1)
            start, end = (x - sign_x * half_x, y - sign_y * half_y), (x + sign_x * half_x, y + sign_y * half_y)
            path = f"M{start[0]:g} {start[1]:g}L{end[0]:g} {end[1]:g}"
            overlay += [_stroked(path, "#ffffff", 8), _stroked(path, kind.colour, 4.5)]
        else:
            overlay.append(shape(kind, size, round(x, 2), round(y, 2)))
    texts: dict[tuple[str, int, int, int, int], str] = {
        (mark.kind, mark.row, mark.col, mark.drow, mark.dcol): mark.text for mark in section.marks
    }
    blob = {
        "rows": section.rows,
        "cols": section.cols,
        "states": len(STATES),
        "kinds": [{"id": kind.id, "name": kind.name, "colour": kind.colour, "shape": kind.shape} for kind in KINDS],
        "marks": [[*mark, texts.get(mark, "")] for mark in chosen],
        "runs": section.runs,
        "probe": [chosen[-1][1], chosen[-1][2]] if chosen else [section.rows // 2, section.cols // 2],
    }
    total = section.rows * section.cols
    return {
        "png": base64.b64encode(palette_png(section)).decode(),
        "width": _STILL_WIDTH,
        "height": height,
        "overlay": "".join(overlay),
        "json": json.dumps(blob, separators=(",", ":")).replace("<", "\\u003c"),
        "told": ", ".join(f"{count} {kind.name}" for kind, count in zip(STATES, counts, strict=True) if count),
        "table": [
            (kind.name, count, percent(count / total, digits=3)) for kind, count in zip(STATES, counts, strict=True)
        ],
        "listed": [
            (kinds[mark[0]].name, *mark[1:], texts.get(mark, ""))
            for mark in chosen
            if mark[0] not in ("absent", "bypassed")
        ],
        "counts": counts,
        "drawn": told,
        "live": True,
    }


def legend(section: WaferSection, parts: dict[str, Any]) -> list[dict[str, Any]]:
    """What the colours and markers mean, for those that occur."""
    from yieldkit.report.wafer_map import KINDS, STATES

    drawn = {name: (shown, total) for name, shown, total in parts["drawn"]}
    rows: list[dict[str, Any]] = []
    for code, kind in enumerate(KINDS):
        state = code < len(STATES)
        count = parts["counts"][code] if state else sum(mark.kind == kind.id for mark in section.marks)
        if not count:
            continue
        shown, total = drawn.get(kind.id, (0, 0))
        some = kind.shape and state and shown < total
        partial = f"{shown} that stand alone have a marker" if some and shown else ""
        visible = kind.shape if not state or shown else ""
        rows.append(
            {
                "name": kind.name,
                "colour": kind.colour,
                "shape": visible,
                "meaning": kind.meaning,
                "state": state,
                "total": count,
                "partial": partial,
            }
        )
    return rows


def charts(data: ReportData) -> dict[str, str]:
    """SVG of every chart that the data has values for."""
    from yieldkit.report import figures

    made: dict[str, str] = {}
    if data.yields is not None and (data.yields.laws or data.yields.simulated):
        points: list[tuple[str, float, float | None, float | None]] = [
            (law.name, law.value, None, None) for law in data.yields.laws
        ]
        points += [
            (item.name, item.successes / item.n, item.interval.low, item.interval.high)
            for item in data.yields.simulated
        ]
        made["yields"] = figures.render(
            lambda axes: figures.draw_yields(axes, points),
            name="yields",
            width=8.6,
            height=0.9 + 0.34 * len(points),
            title="Yield by closed forms and by simulation",
        )
    plan = data.repair
    if plan is not None and plan.displacement:
        field = unpack(plan.displacement, (plan.height, plan.width), "int16")
        made["displacement"] = figures.render(
            lambda axes: figures.draw_displacement(axes, field, aspect=_aspect(data)),
            name="displacement",
            width=6.4,
            height=5.2,
            title="Displacement of each logical core",
        )
    run = data.training
    if run is not None and run.loss:
        lines = [(line.name, line.value) for line in run.references]
        made["training"] = figures.render(
            lambda axes: figures.draw_training(
                axes, run.loss, references=lines, held_out=run.held_out, unit=f"loss, {run.unit}"
            ),
            name="training",
            width=8.6,
            height=3.6,
            title="Training loss per step",
        )
    trials = data.campaign
    if trials is not None and trials.outcomes:
        by_kind, labels = _by_kind(trials)
        made["outcomes"] = figures.render(
            lambda axes: figures.draw_outcomes(axes, by_kind, labels),
            name="outcomes",
            width=8.6,
            height=max(1.1 + 0.42 * len(by_kind), 0.5 + 0.2 * len(labels)),
            title="Outcomes by kind of fault",
        )
    if trials is not None and trials.curves:
        curves = [(f"{curve.label}, trial {curve.trial}", curve.loss) for curve in trials.curves]
        unit = f"loss, {run.unit}" if run is not None else "loss"
        made["losses"] = figures.render(
            lambda axes: figures.draw_losses(axes, trials.golden, curves, unit=unit),
            name="losses",
            width=8.6,
            height=3.6,
            title="Loss of typical trials beside the golden run",
        )
    return made


def _aspect(data: ReportData) -> float:
    return data.wafer.pitch_mm[0] / data.wafer.pitch_mm[1] if data.wafer is not None else 1.0


def _by_kind(section: CampaignSection) -> tuple[dict[str, dict[str, int]], list[str]]:
    by_kind: dict[str, dict[str, int]] = {}
    labels: list[str] = []
    for item in section.outcomes:
        counts = by_kind.setdefault(item.kind, {})
        counts[item.label] = counts.get(item.label, 0) + item.count
        if item.label not in labels:
            labels.append(item.label)
    return by_kind, labels


def tables(data: ReportData) -> dict[str, Any]:
    """Rows of every table of the page."""
    made: dict[str, Any] = {}
    if data.yields is not None:
        made["laws"] = [(law.name, law.formula, percent(law.value, digits=2)) for law in data.yields.laws]
        made["simulated"] = [
            (
                item.name,
                item.successes,
                item.n,
                percent(item.successes / item.n, digits=2),
                percent(item.interval.low, digits=2),
                percent(item.interval.high, digits=2),
                item.interval.method,
            )
            for item in data.yields.simulated
        ]
    if data.repair is not None:
        made["levels"] = [
            (
                level.name,
                level.value,
                level.bound,
                level.proven,
                None if level.seconds is None else seconds(level.seconds),
                level.method,
            )
            for level in data.repair.levels
        ]
        if data.repair.displacement:
            import numpy as np

            field = unpack(data.repair.displacement, (data.repair.height, data.repair.width), "int16")
            values, counts = np.unique(field, return_counts=True)
            made["displacement"] = [(int(value), int(count)) for value, count in zip(values, counts, strict=True)]
    if data.training is not None:
        held = dict(data.training.held_out)
        steps = range(max(len(data.training.loss), 1 + max(held, default=-1)))
        loss = data.training.loss
        made["loss"] = [(step, loss[step] if step < len(loss) else None, held.get(step)) for step in steps]
        made["references"] = [(line.name, line.value) for line in data.training.references]
    if data.campaign is not None:
        made["outcomes"] = _outcome_rows(data.campaign)
        curves = data.campaign.curves
        made["losses_columns"] = ["step", "golden", *(f"trial {curve.trial} {curve.label}" for curve in curves)]
        series = [data.campaign.golden, *(curve.loss for curve in curves)]
        made["losses"] = [
            (step, *(_at(values, step) for values in series)) for step in range(max(map(len, series), default=0))
        ]
        made["rates"] = rate_tables(data.campaign)
        made["cells"] = cell_groups(data.campaign)
        made["cells_csv"] = cell_rows(data.campaign)
        made["trials"] = [
            (row.trial, row.kind, row.site, row.step, row.label, row.code, row.right, row.evidence, row.replay)
            for row in data.campaign.trials
        ]
    if data.confusion is not None:
        made |= _confusion_rows(data.confusion)
    if data.taxonomy is not None:
        made |= _taxonomy_rows(data.taxonomy)
    return made


def _at(values: Sequence[float | None], step: int) -> float | str | None:
    if step >= len(values):
        return None
    value = values[step]
    return "not finite" if value is None else value


def _outcome_rows(section: CampaignSection) -> list[tuple[Any, ...]]:
    from yieldkit.reliability.proportions import wilson_interval

    by_kind, labels = _by_kind(section)
    rows: list[tuple[Any, ...]] = []
    for kind, counts in by_kind.items():
        n = sum(counts.values())
        for label in labels:
            k = counts.get(label, 0)
            if n and label in counts:
                low, high = wilson_interval(k, n, confidence=section.confidence)
                rows.append((kind, label, k, n, percent(k / n), percent(float(low)), percent(float(high))))
    return rows


def _confusion_rows(section: ConfusionSection) -> dict[str, Any]:
    from yieldkit.reliability.proportions import wilson_interval

    matrix: list[dict[str, Any]] = []
    recall: list[tuple[Any, ...]] = []
    for label, counts in zip(section.labels, section.counts, strict=True):
        n = sum(counts)
        good = section.right[label]
        right = sum(count for code, count in zip(section.codes, counts, strict=True) if code == good)
        cells = [
            {"count": count, "shade": 0 if not count else min(4, 1 + int(4 * count / n)), "right": code == good}
            for code, count in zip(section.codes, counts, strict=True)
        ]
        matrix.append({"label": label, "cells": cells, "n": n})
        if n:
            low, high = wilson_interval(right, n, confidence=section.confidence)
            shown = (percent(right / n), percent(float(low)), percent(float(high)))
            recall.append((label, good, right, n, *shown, section.needs.get(label, "")))
    matrix_csv = [(label, *counts) for label, counts in zip(section.labels, section.counts, strict=True)]
    return {"matrix": matrix, "matrix_csv": matrix_csv, "recall": recall}


def _taxonomy_rows(taxonomy: dict[str, Any]) -> dict[str, Any]:
    axes: dict[str, list[tuple[Any, ...]]] = {}
    manifestations: list[tuple[Any, ...]] = []
    for axis in taxonomy.get("axes", ()):
        entries = axis.get("entries", ())
        axes[axis["id"]] = [(item["id"], item["name"], item["definition"]) for item in entries]
        if axis["id"] == "manifestation":
            manifestations = [
                (
                    item["id"],
                    item.get("evidence", ""),
                    item.get("outcome_class", ""),
                    f"{item.get('immediate', '')} / {item.get('follow_up', '')}",
                    item.get("judge", ""),
                    item.get("diagnosed_as", "") + (f" (needs {item['needs']})" if item.get("needs") else ""),
                )
                for item in entries
            ]
    words = [
        (word["id"], word["kind"], word["meaning"], ", ".join(word.get("codes", ())))
        for word in taxonomy.get("words", ())
    ]
    return {"axes": axes, "manifestations": manifestations, "words": words}
