"""Studies of redundancy that a designer asks for first; each gives a table, and `docs/studies.md` shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yieldkit.defects import CountLaw, NegativeBinomial
from yieldkit.errors import BadInput
from yieldkit.repair.bins import silicon_sold
from yieldkit.repair.curves import yield_curve
from yieldkit.repair.pools import ReticlePools
from yieldkit.repair.rules import RowShift
from yieldkit.repair.yields import repair_yield

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.wafer import WaferSpec

__all__ = [
    "STUDIES",
    "pool_study",
    "reach_study",
    "silicon_study",
    "spare_study",
    "whole_rectangle",
]

ALPHA: Final = 2.0
"""Clustering of the studies' default law (assumption)."""


def whole_rectangle(wafer: WaferSpec) -> WaferSpec:
    """The wafer without holes and with its corners: every row has all its sites, and only defects have an effect."""
    width, height = wafer.array_mm
    diameter = math.hypot(width, height) * (1 + 1e-6) + 2 * wafer.edge_exclusion_mm
    return wafer.changed({"holes": [], "diameter_mm": max(wafer.diameter_mm, diameter)})


def _law(wafer: WaferSpec, law: CountLaw | None) -> CountLaw:
    return law if law is not None else NegativeBinomial(d0_per_cm2=wafer.process.d0_per_cm2, alpha=ALPHA)


def spare_study(
    wafer: WaferSpec,
    *,
    law: CountLaw | None = None,
    spares: Iterable[int] = (0, 1, 2, 3, 4, 8, 12),
    d0_per_cm2: Iterable[float] = (0.05, 0.1, 0.2, 0.4),
    n: int = 1000,
    rng: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """How many spares a row needs for its defects, and for holes and clipped corners on top.

    The columns of `yield_curve` for two wafers: `wafer` "rectangle" has neither holes nor clipped corners, "as it is"
    is the wafer itself, whose holes use up `spare_columns_of_holes` columns before the first defect. `spare_share` is
    the share of a row that is spare.
    """
    import pandas as pd

    tables = []
    plain = whole_rectangle(wafer)
    deepest = max(
        (int((wafer.hole_sites[:, 0] == row).sum()) for row in set(wafer.hole_sites[:, 0].tolist())), default=0
    )
    for name, one, more in (("rectangle", plain, 0), ("as it is", wafer, deepest)):
        most = one.spares_per_row
        values = sorted({min(s + more, most) for s in spares})
        knobs: Mapping[str, Iterable[Any]] = {"d0_per_cm2": list(d0_per_cm2), "spares": values}
        table = yield_curve(one, _law(one, law), RowShift.for_wafer(one), knobs, n=n, rng=rng, jobs=jobs)
        table.insert(0, "wafer", name)
        table.insert(1, "spare_columns_of_holes", more)
        table["spare_share"] = table["spares"] / (table["spares"] + one.logical.cols)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def pool_study(
    wafer: WaferSpec,
    *,
    law: CountLaw | None = None,
    per_row: Iterable[int] = (1, 2, 3, 6, 12, 24, 36),
    n: int = 1000,
    rng: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """Spares that the whole row shares against the same number given to the fields, on the wafer's whole rectangle.

    Both give up as many columns: the fabric is what a row has besides its spares. Fields get equal shares, so only
    multiples of the number of fields have a row for `pools` "each field"; see `ReticlePools` for what is assumed.
    """
    import pandas as pd

    flat = whole_rectangle(wafer)
    fields, width = flat.reticle.cols, flat.shape[1]
    drawn = _law(flat, law)
    rows = []
    for total in per_row:
        if not 0 <= total < width:
            raise BadInput(f"spares of a row must lie between 0 and {width - 1}", value=total)
        base = RowShift.for_wafer(flat)
        kinds: list[tuple[str, Any]] = [
            ("whole row", replace(base, spares=total, logical_shape=(flat.logical.rows, width - total)))
        ]
        if total % fields == 0:
            kinds.append(("each field", ReticlePools.for_wafer(flat, spares=total // fields)))
        for name, architecture in kinds:
            got = repair_yield(flat, drawn, architecture, n=n, rng=rng, jobs=jobs)
            rows.append((name, total, total / width, got.n, got.repaired, got.value, got.low, got.high))
    columns = ["pools", "spares_per_row", "spare_share", "n", "repaired", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def reach_study(
    wafer: WaferSpec,
    *,
    d0_per_cm2: float | None = None,
    alphas: Iterable[float] = (0.5, 2.0, 10.0),
    runs: Iterable[int] = (1, 2, 3),
    skip_reach: Iterable[int] = (2, 3, 4),
    vertical_reach: Iterable[int] = (0, 1, 2),
    spares: int = 12,
    n: int = 1000,
    rng: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """What longer links buy: yield over reaches for clustering `alpha` and for defects that kill runs of cores.

    A run is the width in cores of a power region, one defect in which kills it all; the wafer's whole rectangle is
    used, with `spares` spare columns in a row.
    """
    import pandas as pd

    flat = whole_rectangle(wafer)
    density = flat.process.d0_per_cm2 if d0_per_cm2 is None else d0_per_cm2
    base = RowShift.for_wafer(flat)
    shape = (flat.logical.rows, flat.shape[1] - spares)
    architecture = replace(base, spares=spares, logical_shape=shape)
    tables = []
    for run in runs:
        wide = flat.changed({"areas.power_region_cols": run})
        for alpha in alphas:
            law = NegativeBinomial(d0_per_cm2=density, alpha=alpha)
            knobs: Mapping[str, Iterable[Any]] = {"vertical_reach": vertical_reach, "skip_reach": skip_reach}
            table = yield_curve(wide, law, architecture, knobs, n=n, rng=rng, jobs=jobs)
            table.insert(0, "run", run)
            table.insert(1, "alpha", alpha)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def silicon_study(
    wafer: WaferSpec,
    *,
    law: CountLaw | None = None,
    dies_mm2: Iterable[float] = (815.0, 400.0, 100.0),
    n: int = 1000,
    rng: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """Good silicon: one repaired fabric against dies cut from the same wafers; see `silicon_sold`."""
    return silicon_sold(wafer, _law(wafer, law), RowShift.for_wafer(wafer), dies_mm2=dies_mm2, n=n, rng=rng, jobs=jobs)


STUDIES: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {"spares": spare_study, "pools": pool_study, "reach": reach_study, "silicon": silicon_study}
)
"""Studies by the name that `yieldkit repair study` knows them by."""
