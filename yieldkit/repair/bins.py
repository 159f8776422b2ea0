"""What wafers sell as: bins of smaller fabrics, and the silicon that is sold, against dies cut from the same wafers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.repair.architecture import Architecture, MapDecider, decider_of, has_knob
from yieldkit.repair.drawn import DefectLaw, drawn_defects, drawn_map, seed_of
from yieldkit.repair.rounds import Tick, check_confidence, measured, whole_number
from yieldkit.repair.rules import RowShift

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.faultmap import FaultMap
    from yieldkit.wafer import WaferSpec

__all__ = ["BinYields", "FabricBin", "bin_yields", "die_places", "silicon_sold"]

_HARMLESS: Final = ("none", "marginal core", "off edge link")


@dataclass(frozen=True, slots=True)
class FabricBin:
    """One line of a bin table: a fabric that a wafer can be sold as.

    Args:
        name: of the product.
        rows, cols: of its logical fabric.
        price: what it sells for, in any unit.
        first_rows: physical rows that its row 0 may lie on, tried in this order; centred on the standard fabric when
            empty.

    Raises:
        BadInput: a number is out of range.
    """

    name: str
    rows: int
    cols: int
    price: float = 1.0
    first_rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        whole_number("rows", self.rows, 1)
        whole_number("cols", self.cols, 1)
        for row in self.first_rows:
            whole_number("first_rows", row, 0)
        if not (math.isfinite(self.price) and self.price >= 0):
            raise BadInput(f"the price of bin {self.name} must be a number of at least 0", value=self.price)


@dataclass(frozen=True, eq=False)
class BinYields:
    """How sampled wafers fall into bins.

    Attributes:
        bins: in the order in which they were tried.
        counts: int64[bins + 1], wafers in each; the last number is of those that fit in none.
        confidence: of the intervals, each for itself.
    """

    bins: tuple[FabricBin, ...]
    counts: npt.NDArray[np.int64]
    confidence: float

    @property
    def n(self) -> int:
        """Wafers."""
        return int(self.counts.sum())

    def mean_price(self) -> tuple[float, float, float]:
        """Mean price of a wafer, sold or not, with its interval by the normal law of means: (value, low, high)."""
        prices = np.array([*(one.price for one in self.bins), 0.0])
        return _mean_interval(np.repeat(prices, self.counts), self.confidence)

    def to_frame(self) -> pd.DataFrame:
        """One row a bin and one for wafers in none: share, and share at least as good, with Wilson's intervals."""
        import pandas as pd

        from yieldkit.reliability.proportions import wilson_interval

        low, high = wilson_interval(self.counts, self.n, confidence=self.confidence)
        up_to = np.cumsum(self.counts)
        up_low, up_high = wilson_interval(up_to, self.n, confidence=self.confidence)
        facts = [(one.name, one.rows, one.cols, one.price) for one in self.bins] + [("none", 0, 0, 0.0)]
        table = pd.DataFrame(facts, columns=["name", "rows", "cols", "price"])
        table["count"], table["share"], table["low"], table["high"] = self.counts, self.counts / self.n, low, high
        table["up_to"], table["up_to_low"], table["up_to_high"] = up_to / self.n, up_low, up_high
        return table

    def _repr_html_(self) -> str:
        value, low, high = self.mean_price()
        shown = self.to_frame().to_html(index=False, float_format="{:.4f}".format, border=0)
        return f"<p>{escape(f'{self.n} wafers, mean price {value:.4g} ({low:.4g} to {high:.4g})')}</p>{shown}"


@dataclass(frozen=True, eq=False)
class _Binned:
    """Measure: int64[count], the bin of each wafer, or the number of bins."""

    wafer: WaferSpec
    law: DefectLaw
    architectures: tuple[tuple[Architecture, ...], ...]
    seed: int

    def __call__(self, first: int, count: int) -> npt.NDArray[np.int64]:
        deciders = _deciders(self.architectures, self.wafer)
        maps = (drawn_map(self.wafer, self.law, self.seed, first + i) for i in range(count))
        return np.array([_bin_of(faults, deciders) for faults in maps], np.int64)


def _deciders(architectures: tuple[tuple[Architecture, ...], ...], wafer: WaferSpec) -> list[list[MapDecider]]:
    return [[decider_of(one, wafer) for one in several] for several in architectures]


def _bin_of(faults: FaultMap, deciders: list[list[MapDecider]]) -> int:
    if not faults.wafer_killed:
        for b, several in enumerate(deciders):
            if any(one.decide(faults) is True for one in several):
                return b
    return len(deciders)


def bin_yields(
    wafer: WaferSpec,
    law: DefectLaw,
    architecture: Architecture,
    bins: Sequence[FabricBin],
    *,
    n: int = 1000,
    rng: int = 0,
    confidence: float = 0.95,
    jobs: int = 1,
    progress: Tick | None = None,
) -> BinYields:
    """Which share of wafers sells as which fabric: each wafer goes into the first bin whose fabric it can present.

    The wafers are those of `repair_yield` with the same seed. Under row shift a bin uses all physical columns beyond
    its own as spares, so a smaller fabric has more of them.

    Args:
        wafer: kind of wafer.
        law: defect law.
        architecture: rules of repair, with a field `logical_shape` that the bins set.
        bins: the table, best first.
        n: wafers.
        rng: seed.
        confidence: of the intervals.
        jobs: worker processes.
        progress: called with (wafers done, wafers).

    Raises:
        BadInput: there is no bin, a name is given twice, a fabric does not fit, or the architecture has no such field.
    """
    whole_number("n", n, 1)
    check_confidence(confidence)
    bins = tuple(bins)
    if not bins:
        raise BadInput("there are no bins")
    names = [one.name for one in bins]
    if len(set(names)) < len(names):
        raise BadInput("two bins have one name", value=names)
    architectures = tuple(_of_bin(one, architecture, wafer) for one in bins)
    _deciders(architectures, wafer)
    found = measured(_Binned(wafer, law, architectures, seed_of(rng)), [n], jobs=jobs, progress=progress)
    return BinYields(bins, np.bincount(found, minlength=len(bins) + 1), confidence)


def _of_bin(one: FabricBin, architecture: Architecture, wafer: WaferSpec) -> tuple[Architecture, ...]:
    if not has_knob(architecture, "logical_shape"):
        raise BadInput("bins need an architecture with a field logical_shape", value=architecture)
    shape = (one.rows, one.cols)
    if not isinstance(architecture, RowShift):
        return (replace(architecture, logical_shape=shape),)  # type: ignore[type-var]
    if one.cols > wafer.shape[1] or one.rows > wafer.shape[0]:
        raise BadInput(
            f"bin {one.name} is larger than the wafer's {wafer.shape[0]} x {wafer.shape[1]} sites", value=shape
        )
    standard = wafer.logical
    centred = min(max(standard.first_row + (standard.rows - one.rows) // 2, 0), wafer.shape[0] - one.rows)
    spares = wafer.shape[1] - one.cols
    return tuple(
        replace(architecture, logical_shape=shape, spares=spares, first_row=row) for row in one.first_rows or (centred,)
    )


def die_places(wafer: WaferSpec, die_mm2: float) -> tuple[npt.NDArray[np.float64], float]:
    """Square dies of an area on the wafer: (float64[n, 2] of their south-west corners in mm, their side in mm).

    A centred grid without scribe lines, over the silicon that defects are sampled on; of grids with a die or a corner
    in the centre the one with more dies is taken. A die is there when all of it lies on the silicon.
    """
    if not (math.isfinite(die_mm2) and die_mm2 > 0):
        raise BadInput("die_mm2 must be a positive number", value=die_mm2)
    side = math.sqrt(die_mm2)
    width, height = wafer.array_mm
    radius = wafer.diameter_mm / 2 - wafer.edge_exclusion_mm
    if width * height / die_mm2 > 5_000_000:
        raise BadInput("dies of this area would be more than five million", value=die_mm2)
    best = np.empty((0, 2))
    slack = 1e-9 * radius
    for shift_x in (0.0, 0.5):
        for shift_y in (0.0, 0.5):
            xs = (np.arange(-math.ceil(width / side) - 1, math.ceil(width / side) + 1) + shift_x) * side
            ys = (np.arange(-math.ceil(height / side) - 1, math.ceil(height / side) + 1) + shift_y) * side
            xs = xs[(xs >= -width / 2 - slack) & (xs + side <= width / 2 + slack)]
            ys = ys[(ys >= -height / 2 - slack) & (ys + side <= height / 2 + slack)]
            x, y = (grid.ravel() for grid in np.meshgrid(xs, ys))
            far = np.hypot(np.maximum(np.abs(x), np.abs(x + side)), np.maximum(np.abs(y), np.abs(y + side)))
            kept = far <= radius + slack
            if kept.sum() > len(best):
                best = np.column_stack([x[kept], y[kept]])
    return best, side


@dataclass(frozen=True, eq=False)
class _Sold:
    """Measure: float64[count, 1 + dies], mm² sold of each wafer as one fabric and as dies of each size."""

    wafer: WaferSpec
    law: DefectLaw
    architectures: tuple[tuple[Architecture, ...], ...]
    fabrics_mm2: tuple[float, ...]
    dies_mm2: tuple[float, ...]
    seed: int

    def __call__(self, first: int, count: int) -> npt.NDArray[np.float64]:
        deciders = _deciders(self.architectures, self.wafer)
        grids = [_DieGrid(self.wafer, area) for area in self.dies_mm2]
        worth = [*self.fabrics_mm2, 0.0]
        out = np.empty((count, 1 + len(grids)))
        for i in range(count):
            faults = drawn_defects(self.wafer, self.law, self.seed, first + i)
            out[i, 0] = worth[_bin_of(faults, deciders)]
            killing = [o for o in faults.outcomes if o.effect not in _HARMLESS]
            places = np.array([(o.x_mm, o.y_mm) for o in killing]).reshape(-1, 2)
            out[i, 1:] = [grid.good(places) * grid.area for grid in grids]
        return out


class _DieGrid:
    """Dies of one size; counts those without a killing defect."""

    def __init__(self, wafer: WaferSpec, area: float) -> None:
        corners, self.side = die_places(wafer, area)
        self.area = area
        self.total = len(corners)
        self.origin = corners.min(axis=0) if self.total else np.zeros(2)
        self.cells = {(c, r) for c, r in self._cell(corners + self.side / 2).tolist()}

    def _cell(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        return np.asarray(np.floor((places - self.origin) / self.side), np.int64)

    def good(self, killing: npt.NDArray[np.float64]) -> int:
        """Dies left when those that a defect at one of the places falls on are bad."""
        return self.total - len({(c, r) for c, r in self._cell(killing).tolist()} & self.cells)


def silicon_sold(
    wafer: WaferSpec,
    law: DefectLaw,
    architecture: Architecture,
    *,
    dies_mm2: Iterable[float] = (815.0, 400.0, 100.0),
    bins: Sequence[FabricBin] = (),
    n: int = 1000,
    rng: int = 0,
    confidence: float = 0.95,
    jobs: int = 1,
    progress: Tick | None = None,
) -> pd.DataFrame:
    """Share of the wafer's silicon that is sold: as one fabric with repair, and as dies cut from the same wafers.

    The same defects are judged twice. A die is lost when a defect falls on it that kills anything: what a defect lands
    on, and whether it kills there, is the same for both. Dies have no redundancy beyond what the kill ratios of the
    spec hold (assumption), no scribe lines and no edge exclusion of their own, which favours them. Wafers sold as a
    fabric count its cores' area; spares and what lies beyond count as not sold.

    Args:
        wafer: kind of wafer.
        law: defect law.
        architecture: rules of repair.
        dies_mm2: areas of square dies.
        bins: fabrics that a wafer may be sold as, best first; the standard fabric alone when empty.
        n: wafers, at least 2.
        rng: seed.
        confidence: of the intervals.
        jobs: worker processes.
        progress: called with (wafers done, wafers).

    Returns:
        One row a product: `product`, `die_mm2` (NaN for the fabric), `dies` on a wafer, `share` of the silicon sold
        with `low`, `high`, the `most` it can be without a defect, and `less`, `less_low`, `less_high`: the fabric's
        share minus this one on the same wafers.
    """
    import pandas as pd

    whole_number("n", n, 2)
    check_confidence(confidence)
    areas = tuple(float(area) for area in dies_mm2)
    rows, cols = wafer.logical_shape
    table = tuple(bins) or (FabricBin("standard", rows, cols),)
    if bins:
        architectures = tuple(_of_bin(one, architecture, wafer) for one in table)
    else:
        architectures = ((architecture,),)
    _deciders(architectures, wafer)
    grids = [_DieGrid(wafer, area) for area in areas]
    fabrics = tuple(one.rows * one.cols * wafer.core_area_mm2 for one in table)
    measure = _Sold(wafer, law, architectures, fabrics, areas, seed_of(rng))
    shares = measured(measure, [n], jobs=jobs, progress=progress) / wafer.silicon_mm2
    out = []
    for column in range(shares.shape[1]):
        area, dies, most = math.nan, 1, max(fabrics)
        if column:
            area, dies = areas[column - 1], grids[column - 1].total
            most = dies * area
        product = "one fabric" if column == 0 else f"dies of {area:g} mm²"
        less = _mean_interval(shares[:, 0] - shares[:, column], confidence)
        share = _mean_interval(shares[:, column], confidence)
        out.append((product, area, dies, *share, most / wafer.silicon_mm2, *less))
    columns = ["product", "die_mm2", "dies", "share", "low", "high", "most", "less", "less_low", "less_high"]
    return pd.DataFrame(out, columns=columns)


def _mean_interval(values: npt.NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    from scipy.special import stdtrit

    n = len(values)
    mean = float(values.mean())
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return mean, mean - half, mean + half
