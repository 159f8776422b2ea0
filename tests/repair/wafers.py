"""Wafers, laws and architectures for tests of yields, simple enough for a closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from yieldkit.defects import Defects
from yieldkit.rng import generator
from yieldkit.wafer import WaferSpec
from yieldkit.wafer.spec import AREA_KINDS


def grid_wafer(rows, cols, *, spares=0, skip_reach=2, vertical_reach=1):
    """A whole grid of square cores without holes or clipped corners, on which every defect kills one core."""
    mini = WaferSpec.preset("mini")
    changes = {
        "holes": [],
        "diameter_mm": 300.0,
        "reticle": {
            "rows": 1,
            "cols": 1,
            "field_width_mm": 200.0 * cols / max(rows, cols),
            "field_height_mm": 200.0 * rows / max(rows, cols),
            "core_rows": rows,
            "core_cols": cols,
        },
        "enabled_cores": rows * (cols - spares),
        "logical": {"rows": rows, "cols": cols - spares, "first_row": 0},
        "repair": {"skip_reach": skip_reach, "vertical_reach": vertical_reach},
        "areas.power_region_rows": 1,
        "areas.power_region_cols": 1,
        "areas.marginal_probability": 0.0,
    }
    data = mini.model_dump(mode="json")
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        section = data
        for parent in parents:
            section = section[parent]
        section[leaf] = value
    for kind in AREA_KINDS:
        data["areas"][kind] = {"fraction": 1.0 if kind == "core_logic" else 0.0, "kill_ratio": 1.0}
    return WaferSpec.from_dict({**data, "name": f"grid{rows}x{cols}"})


@dataclass(frozen=True)
class FixedDead:
    """Exactly `count` dead cores, all sets of sites alike likely."""

    count: int

    def sample(self, wafer, *, rng):
        rows, cols = wafer.shape
        cells = generator(rng, "tests.fixed").choice(rows * cols, self.count, replace=False)
        return Defects.at([wafer.xy_mm(cell // cols, cell % cols) for cell in cells.tolist()], size_um=1.0)


@dataclass(frozen=True)
class AtMost:
    """An architecture that bears up to `most` dead cores, wherever they are."""

    most: int
    never_hurts: ClassVar[tuple[str, ...]] = ("most",)

    def decider(self, like):
        return self

    def decide(self, faults):
        return len(faults.dead_cores) <= self.most


@dataclass(frozen=True)
class Even:
    """Not monotone in `shift`: whether the number of dead cores plus `shift` is even."""

    shift: int = 0

    def decider(self, like):
        return self

    def decide(self, faults):
        return (len(faults.dead_cores) + self.shift) % 2 == 0


def within_five_sigma(hits, n, p):
    return abs(hits - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1e-9
