"""Failures in time by class of outcome: raw rates of faults, times what there is to strike, times what comes of it.

1 FIT is one failure in 1e9 device-hours. A raw rate is given in FIT by the Mbit (2^20 bits) for what stores, by the
core for a datapath, by the directed link, and once for the link to MemoryX. What is struck is the rectangle that the
program runs on, each tensor and table for the time that it lives. Raw rates are the spec's: none is built in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from yieldkit.burnin.campaign import CampaignRun
from yieldkit.burnin.outcomes import domain_rate, simple_rate
from yieldkit.burnin.schedule import strata_of
from yieldkit.burnin.spec import RATE_GROUPS, UNITS, CampaignSpec
from yieldkit.burnin.trial import FaultClass
from yieldkit.errors import BadInput
from yieldkit.reliability.designs import design_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALL_SITES", "fit_rows", "fit_table", "protection_of", "raw_rate_of", "without_rate"]

ALL_SITES: Final = "all"
_MBIT: Final = float(1 << 20)
_UNIT_NAMES: Final = {"bit": "Mbit", "host_bit": "Mbit"}
_COLUMNS: Final = (
    *("site", "label", "raw_fit", "unit", "units", "n", "rate", "rate_low", "rate_high"),
    *("fit", "fit_low", "fit_high"),
)


def raw_rate_of(spec: CampaignSpec, site: str) -> float | None:
    """Raw rate of a class of places: its own entry, or that of the group it is in; None where the spec has neither."""
    rates = spec.rates or {}
    if site in rates:
        return rates[site]
    return next((rates[group] for group, members in RATE_GROUPS.items() if site in members and group in rates), None)


def fit_rows(run: CampaignRun, *, confidence: float = 0.95) -> list[dict[str, Any]]:
    """The rows of `fit_table` as plain values."""
    spec, classes, tally = run.campaign.spec, run.classes(), run.tally()
    if not spec.rates:
        raise BadInput("the spec has no raw rates", cure="give a table [rates], e.g. sram = 100.0 (FIT per Mbit)")
    strata = strata_of(spec, classes)
    rows = []
    for site in dict.fromkeys(one.site for one in classes):
        raw = raw_rate_of(spec, site)
        if raw is None:
            continue
        number = math.fsum(one.units for one in classes if one.site == site)
        unit = _UNIT_NAMES.get(UNITS[site], UNITS[site])
        units = number / _MBIT if unit == "Mbit" else number
        cells = {cell: count for cell, count in tally.cells.items() if cell.site == site}
        for label in tally.by_label():
            if strata is None:
                rate = simple_rate(cells, label)
            else:
                rate = domain_rate(strata, cells, [label], _at(site))
            low, high = (float(bound) for bound in design_interval(rate, method="exact", confidence=confidence))
            share = float(rate.rate)
            rows.append({
                "site": site, "label": label, "raw_fit": raw, "unit": unit,
                "units": units, "n": sum(cells.values()), "rate": share, "rate_low": low, "rate_high": high,
                "fit": raw * units * share, "fit_low": raw * units * low, "fit_high": raw * units * high,
            })  # fmt: skip
    return [*_totals(rows), *rows]


def without_rate(run: CampaignRun) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes of places that have trials and no raw rate, and those that have a raw rate and no trials."""
    spec = run.campaign.spec
    sampled = dict.fromkeys(one.site for one in run.classes())
    rated = [site for site in UNITS if raw_rate_of(spec, site) is not None]
    return tuple(site for site in sampled if site not in rated), tuple(site for site in rated if site not in sampled)


def fit_table(run: CampaignRun, *, confidence: float = 0.95) -> pd.DataFrame:
    """Failures in time of a run, by class of places and label.

    Args:
        run: a run whose spec has a table `[rates]`; what has no rate there is left out.
        confidence: of the intervals.

    Returns:
        one row a class of places and label, the sums over classes ("all") first. Columns: site, label, raw_fit (FIT by
        the unit), unit ("Mbit", "core", "link" or "host"), units, n, rate and its Clopper-Pearson bounds, fit, fit_low,
        fit_high. The bounds of sums add the distances of each class's bounds in squares (Zou and Donner, Statistics in
        Medicine 27, 2008), since classes are sampled independently; raw rates count as exact.

    Raises:
        BadInput: the spec has no raw rates.
    """
    import pandas as pd

    return pd.DataFrame(fit_rows(run, confidence=confidence), columns=list(_COLUMNS))


def protection_of(spec: CampaignSpec) -> Mapping[str, Any]:
    """Protection of the campaign's wafer, which every rate of outcomes hinges on."""
    from yieldkit.wafer import WaferSpec

    section = spec.wafer
    wafer = WaferSpec.from_toml(section.spec) if section.spec else WaferSpec.preset(section.preset or "")
    return wafer.machine.protection.model_dump()


def _at(site: str) -> Callable[[FaultClass], bool]:
    return lambda one: one.site == site


def _totals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    totals = []
    for label in dict.fromkeys(row["label"] for row in rows):
        parts = [row for row in rows if row["label"] == label]
        fit = math.fsum(row["fit"] for row in parts)
        below = math.sqrt(math.fsum((row["fit"] - row["fit_low"]) ** 2 for row in parts))
        above = math.sqrt(math.fsum((row["fit_high"] - row["fit"]) ** 2 for row in parts))
        # What is struck in all, whatever comes of it: the rate of a label is its part of that.
        struck = math.fsum(row["raw_fit"] * row["units"] for row in parts)
        share = struck or 1.0
        totals.append({
            "site": ALL_SITES, "label": label, "raw_fit": struck, "unit": "", "units": 1.0,
            "n": sum(row["n"] for row in parts), "rate": fit / share, "rate_low": max(fit - below, 0.0) / share,
            "rate_high": min(fit + above, struck) / share, "fit": fit, "fit_low": max(fit - below, 0.0),
            "fit_high": min(fit + above, struck),
        })  # fmt: skip
    return totals
