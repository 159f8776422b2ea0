"""From defects to faults: what each defect lands on, and whether it kills.

A defect at a core site lands on one kind of circuit with the chance of that kind's share of the core's area. It kills
with probability `min(1, kill_ratio * (size / reference_size)^2)`: the critical area of a defect grows with its area,
and the kill ratio of the spec holds at the reference size (assumption; Stapper's critical areas grow between the first
and the second power). A miss on core logic, core SRAM or the router leaves the core marginal with the spec's
probability, with the kill probability as its risk.

A kill does this. Core logic or SRAM: the core. Router: the router, and the core with it. Link: one of the links that
belong to the site, all alike likely. Power region: every core of the region. Global nets: the wafer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from yieldkit.defects.sampling import sizes_at
from yieldkit.faultmap.outcome import DefectOutcome
from yieldkit.rng import Seed, generator
from yieldkit.wafer.spec import AREA_KINDS

if TYPE_CHECKING:
    from yieldkit.defects import Defects
    from yieldkit.wafer import WaferSpec

__all__ = ["Landed", "kill_probability", "land", "links_of_site"]

_LEAVES_MARGINAL: Final = frozenset({"core_logic", "core_sram", "router"})
_INSENSITIVE: Final = "insensitive area"


@dataclass
class Landed:
    """Faults found so far."""

    dead_cores: set[tuple[int, int]] = field(default_factory=set)
    dead_routers: set[tuple[int, int]] = field(default_factory=set)
    dead_links: set[tuple[int, int, int, int]] = field(default_factory=set)
    risks: dict[tuple[int, int], float] = field(default_factory=dict)
    wafer_killed: bool = False
    outcomes: list[DefectOutcome] = field(default_factory=list)


def links_of_site(wafer: WaferSpec) -> list[tuple[int, int]]:
    """(drow, dcol) of the links that belong to a site, its end being the one with the smaller (row, col).

    Along the row up to the skip reach, then to the next row up to the vertical reach on both sides.
    """
    along = [(0, step) for step in range(1, wafer.repair.skip_reach + 1)]
    reach = wafer.repair.vertical_reach
    return along + [(1, step) for step in range(-reach, reach + 1)]


def kill_probability(wafer: WaferSpec, kind: str, size_um: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Chance that a defect of a size kills the circuit of a kind that it lands on; float64[n]."""
    ratio = getattr(wafer.areas, kind).kill_ratio
    return np.asarray(np.minimum(1.0, ratio * (size_um / wafer.process.reference_size_um) ** 2))


def land(wafer: WaferSpec, defects: Defects, rng: Seed, *, outcomes: bool = True) -> Landed:
    """Decide what every defect does. Defect i uses the i-th five numbers, so adding defects at the end changes none.

    Without `outcomes` only the faults are worked out, and defects that do nothing cost next to nothing.
    """
    draw = generator(rng, "faultmap.landing").random((len(defects), 5))
    row, col = wafer.cores_at_mm(defects.x_mm, defects.y_mm)
    size = np.where(np.isnan(defects.size_um), sizes_at(wafer.process, draw[:, 1]), defects.size_um)
    shares = np.cumsum([getattr(wafer.areas, kind).fraction for kind in AREA_KINDS])
    kind_index = np.searchsorted(shares, draw[:, 0], side="right")
    ratios = np.array([*(getattr(wafer.areas, kind).kill_ratio for kind in AREA_KINDS), 0.0])
    chance = np.minimum(1.0, ratios[kind_index] * (size / wafer.process.reference_size_um) ** 2)
    landed = Landed()
    some: npt.NDArray[np.intp] | range = range(len(defects))
    if not outcomes:
        weak = draw[:, 4] < wafer.areas.marginal_probability
        some = np.flatnonzero((row >= 0) & (kind_index < len(AREA_KINDS)) & ((draw[:, 2] < chance) | weak))
    for i in some:
        site = int(row[i]), int(col[i])
        if site[0] < 0:
            kind, effect = "no core", "none"
        elif kind_index[i] == len(AREA_KINDS):
            kind, effect = _INSENSITIVE, "none"
        else:
            kind = AREA_KINDS[kind_index[i]]
            effect = _effect(landed, wafer, site, kind, float(chance[i]), draw[i])
        if not outcomes:
            continue
        landed.outcomes.append(
            DefectOutcome(int(i), float(defects.x_mm[i]), float(defects.y_mm[i]), float(size[i]), *site, kind, effect)
        )
    for site in landed.dead_cores | landed.dead_routers:
        landed.risks.pop(site, None)
    return landed


def _effect(
    landed: Landed,
    wafer: WaferSpec,
    site: tuple[int, int],
    kind: str,
    chance: float,
    draw: npt.NDArray[np.float64],
) -> str:
    """Enter the effect of one defect on a circuit into `landed` and name it."""
    if draw[2] >= chance:
        if kind in _LEAVES_MARGINAL and draw[4] < wafer.areas.marginal_probability:
            landed.risks[site] = max(chance, landed.risks.get(site, 0.0))
            return "marginal core"
        return "none"
    if kind == "router":
        landed.dead_routers.add(site)
        return "dead router"
    if kind == "link":
        links = links_of_site(wafer)
        drow, dcol = links[int(draw[3] * len(links))]
        if not wafer.is_present(site[0] + drow, site[1] + dcol):
            return "off edge link"
        landed.dead_links.add((*site, drow, dcol))
        return "dead link"
    if kind == "power_region":
        height, width = wafer.areas.power_region_rows, wafer.areas.power_region_cols
        top, left = site[0] // height * height, site[1] // width * width
        landed.dead_cores.update(
            (r, c) for r in range(top, top + height) for c in range(left, left + width) if wafer.is_present(r, c)
        )
        return "dead region"
    if kind == "global_nets":
        landed.wafer_killed = True
        return "wafer lost"
    landed.dead_cores.add(site)
    return "dead core"
