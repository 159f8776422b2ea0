"""`Defects`: the defects of one wafer, sampled or read; `DefectBatch`: of many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.wafer import WaferSpec
    from yieldkit.wafermap import WaferMap

__all__ = ["DefectBatch", "Defects"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Defects:
    """The defects of one wafer.

    Attributes:
        x_mm: float64[n], from the wafer's centre, to the east; `y_mm` to the north.
        size_um: float64[n]; NaN where the size is not known (it is then drawn by the wafer's process).
        layer: int16[n]; 0 where no layer is given.
        source: where the defects are from.
        notes: what was done to them on the way, for reports.
    """

    x_mm: Floats
    y_mm: Floats
    size_um: Floats
    layer: npt.NDArray[np.int16]
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.x_mm)
        if not len(self.y_mm) == len(self.size_um) == len(self.layer) == n:
            raise BadInput("x_mm, y_mm, size_um and layer must have one length")
        if not (np.isfinite(self.x_mm).all() and np.isfinite(self.y_mm).all()):
            raise BadInput("x_mm and y_mm must be finite")
        if bool((self.size_um <= 0).any()):
            raise BadInput("size_um must be positive, or NaN where it is not known", value=float(self.size_um.min()))

    @classmethod
    def at(
        cls, places: Sequence[Sequence[float]], *, size_um: float = float("nan"), source: str = "by hand"
    ) -> Defects:
        """Defects at given (x_mm, y_mm), all of one size."""
        xy = np.asarray(places, np.float64).reshape(-1, 2)
        n = len(xy)
        return cls(xy[:, 0].copy(), xy[:, 1].copy(), np.full(n, float(size_um)), np.zeros(n, np.int16), source)

    @classmethod
    def from_wafer_map(
        cls,
        wmap: WaferMap,
        wafer: WaferSpec,
        *,
        place: Literal["keep", "scale"] = "keep",
        sizes: Literal["law", "file"] = "law",
    ) -> Defects:
        """Lay the defects of an inspected wafer over another wafer.

        Args:
            wmap: a map with a defect list.
            wafer: the wafer they are laid over.
            place: "keep" leaves each defect at its distance from the centre; "scale" stretches the inspected wafer to
                the size of the other.
            sizes: "law" takes the sizes as unknown, so that they are drawn by the wafer's process: optical inspection
                reports whole pixels of some µm, far above the size of a killing defect. "file" takes the larger side
                of the box in the file as the size.

        Returns:
            the defects, turned so that the notch is down; `notes` say what was done.

        Raises:
            BadInput: the map has no defect list, or an option is not one of the above.
        """
        if place not in ("keep", "scale"):
            raise BadInput("place must be 'keep' or 'scale'", value=place)
        if sizes not in ("law", "file"):
            raise BadInput("sizes must be 'law' or 'file'", value=sizes)
        table = wmap.defects
        x, y = wmap.upright(table.x_mm, table.y_mm)
        ratio = wafer.diameter_mm / wmap.diameter_mm
        if place == "scale":
            x, y = x * ratio, y * ratio
        size = table.size_um if sizes == "file" else np.full(len(x), np.nan)
        sized = f"a {wmap.diameter_mm:g} mm wafer on a {wafer.diameter_mm:g} mm wafer"
        how = f"scaled by {ratio:.4g}" if place == "scale" else "left at their place"
        known = "sizes as in the file" if sizes == "file" else "sizes drawn by the process of the spec"
        return cls(
            x.copy(),
            y.copy(),
            np.where(size > 0, size, np.nan),
            np.zeros(len(x), np.int16),
            source=f"{wmap.source}, wafer {wmap.wafer_id}",
            notes=(f"defects of {sized}, {how}; {known}", *wmap.notes),
        )

    def __len__(self) -> int:
        return len(self.x_mm)

    def to_frame(self) -> pd.DataFrame:
        """One row a defect: x_mm, y_mm, size_um, layer."""
        import pandas as pd

        return pd.DataFrame({"x_mm": self.x_mm, "y_mm": self.y_mm, "size_um": self.size_um, "layer": self.layer})

    def __repr__(self) -> str:
        return f"Defects({len(self)}, {self.source})"

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        shown = self.to_frame().head(20).to_html(float_format="{:.4g}".format, border=0)
        return f"<p><b>{len(self)} defects</b>, {escape(self.source)}</p>{notes}{shown}"


@dataclass(frozen=True, eq=False)
class DefectBatch:
    """The defects of n wafers in one set of arrays; wafer i owns offsets[i]:offsets[i + 1].

    Attributes:
        offsets: int64[n + 1].
        x_mm: float64[total]; `y_mm`, `size_um` and `layer` likewise, as in `Defects`.
        source: where the defects are from.
    """

    offsets: npt.NDArray[np.int64]
    x_mm: Floats
    y_mm: Floats
    size_um: Floats
    layer: npt.NDArray[np.int16]
    source: str = ""

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64[n]: defects of each wafer."""
        return np.diff(self.offsets)

    def wafer(self, i: int) -> Defects:
        """The defects of wafer i of this batch."""
        if not 0 <= i < len(self):
            raise BadInput(f"the batch has wafers 0 to {len(self) - 1}", value=i)
        s = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return Defects(self.x_mm[s], self.y_mm[s], self.size_um[s], self.layer[s], self.source)

    def part(self, start: int, stop: int) -> DefectBatch:
        """Wafers start to stop - 1 as a batch of their own."""
        s = slice(int(self.offsets[start]), int(self.offsets[stop]))
        offsets = self.offsets[start : stop + 1] - self.offsets[start]
        return DefectBatch(offsets, self.x_mm[s], self.y_mm[s], self.size_um[s], self.layer[s], self.source)

    @staticmethod
    def joined(batches: Sequence[DefectBatch]) -> DefectBatch:
        """Batches one after the other."""
        counts = np.concatenate([b.counts for b in batches])
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(b, name) for b in batches]) for name in ("x_mm", "y_mm", "size_um", "layer")
        }
        return DefectBatch(offsets=np.concatenate([[0], np.cumsum(counts)]), source=batches[0].source, **columns)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Defects]:
        return (self.wafer(i) for i in range(len(self)))
