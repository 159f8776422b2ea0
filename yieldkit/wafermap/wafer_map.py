"""`WaferMap`: what inspection or test saw on one wafer, whatever the format of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DefectTable", "Notch", "WaferMap"]

Floats = npt.NDArray[np.float64]
Notch = Literal["down", "up", "left", "right"]


@dataclass(frozen=True, eq=False)
class DefectTable:
    """The defect list of one wafer, n defects.

    Attributes:
        x_mm: float64[n], from the wafer's centre, to the east as the wafer lay in the tool; `y_mm` to the north.
        die: int32[n, 2], (x index, y index) of the die.
        size_um: float64[n], larger side of the box around the defect; NaN where the file has none.
        columns: every numeric column of the file by its name there, float64[n] each.
    """

    x_mm: Floats
    y_mm: Floats
    die: npt.NDArray[np.int32]
    size_um: Floats
    columns: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x_mm)

    def to_frame(self) -> pd.DataFrame:
        """One row a defect: place, die, size, then the columns of the file."""
        import pandas as pd

        return pd.DataFrame(
            {
                "x_mm": self.x_mm,
                "y_mm": self.y_mm,
                "die_x": self.die[:, 0],
                "die_y": self.die[:, 1],
                "size_um": self.size_um,
                **self.columns,
            }
        )


@dataclass(frozen=True, eq=False)
class WaferMap:
    """Dies and defects of one wafer.

    Attributes:
        wafer_id: as in the file; `lot_id`, `device`, `step` and `slot` likewise, empty where the file has none.
        diameter_mm: of the inspected wafer.
        die_pitch_mm: (width, height) of a die, scribe line included.
        n_dies: dies inspected.
        dies: int32[m, 2], (x index, y index) of the inspected dies, sorted; empty where the file only counts them.
        defects: the defect list.
        notch: where the notch or flat lay; `mirrored` when x is counted from the other side.
        source: the file's name.
        notes: what the file says against itself.
    """

    wafer_id: str
    diameter_mm: float
    die_pitch_mm: tuple[float, float]
    n_dies: int
    dies: npt.NDArray[np.int32]
    defects: DefectTable
    lot_id: str = ""
    device: str = ""
    step: str = ""
    slot: str = ""
    notch: Notch = "down"
    mirrored: bool = False
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def bad_dies(self) -> npt.NDArray[np.int32]:
        """int32[k, 2]: dies with at least one defect, sorted."""
        return np.unique(self.defects.die, axis=0) if len(self.defects) else np.empty((0, 2), np.int32)

    @property
    def n_bad(self) -> int:
        """Dies with at least one defect."""
        return len(self.bad_dies)

    @property
    def n_good(self) -> int:
        """Inspected dies without a defect."""
        return self.n_dies - self.n_bad

    @property
    def die_area_mm2(self) -> float:
        """Area of one die, scribe line included."""
        return self.die_pitch_mm[0] * self.die_pitch_mm[1]

    @property
    def die_yield(self) -> float | None:
        """Share of inspected dies without a defect; None when no die was inspected."""
        return self.n_good / self.n_dies if self.n_dies else None

    def upright(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Places turned so that the notch is down and x runs to the east."""
        if self.mirrored:
            x = -x
        if self.notch == "up":
            return -x, -y
        if self.notch == "left":
            return -y, x
        if self.notch == "right":
            return y, -x
        return x, y

    def to_frame(self) -> pd.DataFrame:
        """One row a die: die_x, die_y, n_defects, good. Dies that the file does not list are left out."""
        import pandas as pd

        known = np.unique(np.concatenate([self.dies, self.bad_dies]), axis=0)
        frame = pd.DataFrame({"die_x": known[:, 0], "die_y": known[:, 1]})
        hits = pd.DataFrame(self.defects.die, columns=["die_x", "die_y"]).value_counts().rename("n_defects")
        frame = frame.join(hits, on=["die_x", "die_y"])
        frame["n_defects"] = frame["n_defects"].fillna(0).astype(np.int64)
        frame["good"] = frame["n_defects"] == 0
        return frame

    def summary(self) -> dict[str, Any]:
        """The counts of the wafer as plain values."""
        return {
            "source": self.source,
            "lot_id": self.lot_id,
            "wafer_id": self.wafer_id,
            "device": self.device,
            "step": self.step,
            "slot": self.slot,
            "diameter_mm": self.diameter_mm,
            "die_pitch_mm": list(self.die_pitch_mm),
            "die_area_cm2": self.die_area_mm2 / 100,
            "n_dies": self.n_dies,
            "n_good": self.n_good,
            "n_bad": self.n_bad,
            "n_defects": len(self.defects),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        return (
            f"WaferMap({self.source} wafer {self.wafer_id}: {self.n_dies} dies, {self.n_bad} bad, "
            f"{len(self.defects)} defects)"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(key.replace('_', ' '))}</th><td>{escape(str(value))}</td></tr>"
            for key, value in self.summary().items()
        )
        return f"<table><caption>WaferMap</caption>{rows}</table>"
