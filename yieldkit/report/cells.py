"""Rates of a campaign by site, bit and phase as the page shows them: tables, and cells that open on their trials."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from yieldkit.report.numbers import percent

if TYPE_CHECKING:
    from yieldkit.report.data import AxisRate, CampaignSection, RateCell

__all__ = ["cell_groups", "cell_rows", "rate_tables"]

_TITLES: Final = {"all": "All", "site": "By site", "bit": "By bit", "phase": "By phase"}


def rate_tables(section: CampaignSection) -> list[dict[str, Any]]:
    """One table an axis: (title, rows); a row is (value, label, count, n, rate, low, high)."""
    made = []
    for axis, title in _TITLES.items():
        rows = [_rate_row(rate) for rate in section.rates if rate.axis == axis]
        if rows:
            made.append({"axis": axis, "title": title, "rows": rows})
    return made


def cell_rows(section: CampaignSection) -> list[tuple[Any, ...]]:
    """Every cell and label: (site, bit, phase, label, count, n, rate, low, high)."""
    return [
        (cell.site, cell.bit, cell.phase, label, count, n, *_interval(count, n, section.confidence))
        for cell in section.cells
        for n in (sum(count for _, count in cell.counts),)
        for label, count in cell.counts
    ]


def cell_groups(section: CampaignSection) -> list[dict[str, Any]]:
    """Cells of each site: what the site's table prints, and the trials behind every cell.

    A label that a cell has not seen shows its upper bound, because a zero has one.
    """
    labels = _labels(section.cells)
    numbers = {id(cell): number for number, cell in enumerate(section.cells)}
    groups = []
    for site, found in groupby(section.cells, key=lambda cell: cell.site):
        cells = list(found)
        shown = [label for label in labels if any(label in dict(cell.counts) for cell in cells)]
        groups.append(
            {
                "site": site,
                "n": sum(count for cell in cells for _, count in cell.counts),
                "labels": shown,
                "cells": [_cell(cell, numbers[id(cell)], shown, section.confidence) for cell in cells],
            }
        )
    return groups


def _cell(cell: RateCell, number: int, labels: Sequence[str], confidence: float) -> dict[str, Any]:
    counts = dict(cell.counts)
    targets = {label: f"cell-{number}-{place}" for place, label in enumerate(counts)}
    n = sum(counts.values())
    outcomes: list[dict[str, Any]] = []
    for label in labels:
        count = counts.get(label, 0)
        rate, low, high = _interval(count, n, confidence)
        outcomes.append(
            {"label": label, "count": count, "rate": rate, "low": low, "high": high, "target": targets.get(label)}
        )
    listed = [
        {
            "id": targets[label],
            "label": label,
            "trials": [trial for trial in cell.trials if trial.label == label],
            "count": count,
        }
        for label, count in cell.counts
    ]
    return {
        "id": f"cell-{number}",
        "name": " / ".join(part for part in (cell.bit, cell.phase) if part),
        "bit": cell.bit,
        "phase": cell.phase,
        "n": n,
        "outcomes": outcomes,
        "listed": listed,
        "shown": len(cell.trials),
    }


def _labels(cells: Sequence[RateCell]) -> list[str]:
    """All labels, the most frequent first, then by name."""
    totals: dict[str, int] = {}
    for cell in cells:
        for label, count in cell.counts:
            totals[label] = totals.get(label, 0) + count
    return sorted(totals, key=lambda label: (-totals[label], label))


def _rate_row(rate: AxisRate) -> tuple[Any, ...]:
    shown = (percent(value) for value in (rate.rate, rate.low, rate.high))
    return (rate.value, rate.label, rate.count, rate.n, *shown)


def _interval(count: int, n: int, confidence: float) -> tuple[str, str, str]:
    from yieldkit.reliability.proportions import wilson_interval

    low, high = wilson_interval(count, n, confidence=confidence)
    return percent(count / max(n, 1)), percent(float(low)), percent(float(high))
