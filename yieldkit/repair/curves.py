"""Yield as a function of what a designer or a process turns: the same wafers at every point of the curve."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.defects import CountLaw
from yieldkit.errors import BadInput
from yieldkit.repair.architecture import Architecture, MapDecider, decider_of, has_knob, never_hurts, turned
from yieldkit.repair.drawn import CountTable, DefectLaw, ListedWafer, drawn_map, seed_of
from yieldkit.repair.rounds import Tick, check_confidence, measured, whole_number

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.faultmap import FaultMap
    from yieldkit.wafer import WaferSpec

__all__ = ["KNOBS", "yield_curve"]

KNOBS: Final = {
    "S": "spares",
    "h": "skip_reach",
    "v": "vertical_reach",
    "R": "rows_dropped",
    "D0": "d0_per_cm2",
    "d0": "d0_per_cm2",
}
"""Short names of what a curve may turn."""

_REACHES: Final = ("skip_reach", "vertical_reach")
_MOST_POINTS: Final = 10_000


@dataclass(frozen=True, eq=False)
class _Grid:
    """Points of a curve: every architecture under every law, the last knob of each fastest."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    architectures: tuple[Architecture, ...]
    laws: tuple[Any, ...]
    chains: tuple[tuple[int, ...], ...]
    at: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _SameMaps:
    """Measure: int8[count, architectures], 1 repaired, 0 lost, -1 undecided, all on the maps of `repair_yield`.

    A chain is a tuple of architectures of which each allows all that the one before it does; it is bisected.
    """

    wafer: WaferSpec
    law: DefectLaw
    architectures: tuple[Architecture, ...]
    chains: tuple[tuple[int, ...], ...]
    seed: int

    def __call__(self, first: int, count: int) -> npt.NDArray[np.int8]:
        deciders = [decider_of(one, self.wafer) for one in self.architectures]
        out = np.zeros((count, len(deciders)), np.int8)
        for i in range(count):
            faults = drawn_map(self.wafer, self.law, self.seed, first + i)
            if not faults.wafer_killed:
                for chain in self.chains:
                    out[i, chain] = _along([deciders[a] for a in chain], faults)
        return out


def _along(deciders: list[MapDecider], faults: FaultMap) -> list[int]:
    """Answers of deciders that get no stricter: found by bisection, one by one where a limit is reached."""
    low, high = 0, len(deciders)
    while low < high:
        # Most wafers are repaired by the least or not by the most: the middle costs one question more than the ends.
        middle = (low + high) // 2
        answer = deciders[middle].decide(faults)
        if answer is None:
            return [{True: 1, False: 0, None: -1}[one.decide(faults)] for one in deciders]
        low, high = (low, middle) if answer else (middle + 1, high)
    return [0] * low + [1] * (len(deciders) - low)


@dataclass(frozen=True, eq=False)
class _SameLists:
    """Measure: int64[count, laws + architectures]: numbers of defects by law, then the most each architecture bears.

    A wafer is repaired at a point when its number of defects is at most the number that is borne: more defects on the
    same wafer never help, so a bisection over the numbers that occur is enough. An undecided map counts as lost.
    """

    wafer: WaferSpec
    tables: tuple[CountTable, ...]
    architectures: tuple[Architecture, ...]
    seed: int

    def __call__(self, first: int, count: int) -> npt.NDArray[np.int64]:
        deciders = [decider_of(one, self.wafer) for one in self.architectures]
        laws = len(self.tables)
        out = np.empty((count, laws + len(deciders)), np.int64)
        for i in range(count):
            listed = ListedWafer(self.wafer, self.seed, first + i, "repair.curve")
            uniform = listed.uniforms(1)[0]
            out[i, :laws] = [table.quantile(uniform) for table in self.tables]
            numbers = np.unique(out[i, :laws])
            maps: dict[int, FaultMap] = {}
            for a, decider in enumerate(deciders):
                low, high = 0, len(numbers)
                while low < high:
                    middle = (low + high) // 2
                    number = int(numbers[middle])
                    if number not in maps:
                        maps[number] = listed.map(number)
                    if not maps[number].wafer_killed and decider.decide(maps[number]) is True:
                        low = middle + 1
                    else:
                        high = middle
                out[i, laws + a] = numbers[low - 1] if low else -1
        return out


def yield_curve(
    wafer: WaferSpec,
    law: DefectLaw,
    architecture: Architecture,
    over: Mapping[str, Iterable[Any]],
    *,
    n: int = 1000,
    rng: int = 0,
    confidence: float = 0.95,
    jobs: int = 1,
    progress: Tick | None = None,
) -> pd.DataFrame:
    """Yield over one or several knobs, every point on the same `n` wafers.

    Fields of the architecture leave the maps as they are: those of `repair_yield` with the same seed. Parameters of the
    law change the number of defects: wafer k has the same list of defects at every point, and more or fewer of them.
    Where a knob can only help, a map is decided by bisection. Maps of curves over reaches are drawn on a wafer that has
    the longest links asked for, so that these can be dead too.

    Args:
        wafer: kind of wafer.
        law: defect law; a `CountLaw` for its parameters to be turned.
        architecture: rules of repair.
        over: name -> values; fields of the architecture (S, h, v, R for spares, skip_reach, vertical_reach,
            rows_dropped) or of the law (D0, alpha). Of several, the last varies fastest.
        n: wafers.
        rng: seed.
        confidence: of all intervals, each for itself.
        jobs: worker processes; the table is the same with any number.
        progress: called with (wafers done, wafers).

    Returns:
        One row a point: the knobs, `n`, `repaired`, `undecided`, `value`, `low`, `high` (Wilson), and against the
        row before along the last knob `change`, `change_low`, `change_high`, the paired difference on the same wafers.

    Raises:
        BadInput: no value, a value given twice, a knob that neither the architecture nor the law has, or a bad number.
    """
    import pandas as pd

    whole_number("n", n, 1)
    check_confidence(confidence)
    seed = seed_of(rng)
    knobs = _knobs(over)
    wafer = _with_longest_links(wafer, knobs)
    grid = _grid(law, architecture, knobs)
    # Here what does not fit is refused before any work.
    for one in grid.architectures:
        decider_of(one, wafer)
    if len(grid.laws) == 0:
        same_maps = _SameMaps(wafer, law, grid.architectures, grid.chains, seed)
        answers = measured(same_maps, [n], jobs=jobs, progress=progress)
    else:
        tables = tuple(CountTable(one, wafer.silicon_mm2) for one in grid.laws)
        same_lists = _SameLists(wafer, tables, grid.architectures, seed)
        found = measured(same_lists, [n], jobs=jobs, progress=progress)
        numbers, borne = found[:, : len(tables)], found[:, len(tables) :]
        answers = (numbers[:, grid.at[:, 1]] <= borne[:, grid.at[:, 0]]).astype(np.int8)
        grid = replace(grid, at=np.column_stack([np.arange(len(grid.rows)), grid.at[:, 1]]))
    points = answers[:, grid.at[:, 0]]
    table = pd.DataFrame(list(grid.rows), columns=list(grid.names))
    return _with_intervals(
        table, points, confidence, _one_way(grid.names[-1], architecture), len(knobs[grid.names[-1]])
    )


def _knobs(over: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    knobs: dict[str, list[Any]] = {}
    for name, values in over.items():
        full = KNOBS.get(name, name)
        listed = list(values)
        if not listed:
            raise BadInput(f"the curve has no values of {full}")
        if len(set(listed)) < len(listed):
            raise BadInput(f"a value of {full} is given twice", value=listed)
        if full in knobs:
            raise BadInput(f"{full} is given twice")
        knobs[full] = listed
    if not knobs:
        raise BadInput("the curve needs something to turn", cure="e.g. {'spares': range(8)}")
    if np.prod([float(len(values)) for values in knobs.values()]) > _MOST_POINTS:
        raise BadInput(f"the curve has more than {_MOST_POINTS:,} points")
    return knobs


def _with_longest_links(wafer: WaferSpec, knobs: Mapping[str, list[Any]]) -> WaferSpec:
    changes: dict[str, object] = {}
    for name in _REACHES:
        longest = max((whole_number(name, value, 0) for value in knobs.get(name, ())), default=0)
        if longest > getattr(wafer.repair, name):
            changes[f"repair.{name}"] = longest
    return wafer.changed(changes) if changes else wafer


def _grid(law: DefectLaw, architecture: Architecture, knobs: dict[str, list[Any]]) -> _Grid:
    of_law = [f.name for f in fields(law)] if isinstance(law, CountLaw) else []
    ours = [name for name in knobs if has_knob(architecture, name)]
    theirs = [name for name in knobs if name not in ours and name in of_law]
    for name in knobs:
        if name not in ours and name not in theirs:
            kind = getattr(architecture, "kind", type(architecture).__name__)
            raise BadInput(
                f"neither {kind} nor the law has a field to turn", value=name, cure=_what_there_is(architecture, of_law)
            )
    architectures = [
        turned(architecture, dict(zip(ours, values, strict=True)))
        for values in itertools.product(*(knobs[k] for k in ours))
    ]
    laws: list[Any] = []
    if theirs:
        for values in itertools.product(*(knobs[k] for k in theirs)):
            laws.append(replace(law, **dict(zip(theirs, values, strict=True))))  # type: ignore[type-var]
    rows, at = [], []
    for values in itertools.product(*knobs.values()):
        point = dict(zip(knobs, values, strict=True))
        rows.append(values)
        at.append((_number(point, knobs, ours), _number(point, knobs, theirs)))
    return _Grid(
        tuple(knobs), tuple(rows), tuple(architectures), tuple(laws), _chains(architecture, knobs, ours), np.array(at)
    )


def _what_there_is(architecture: Architecture, of_law: list[str]) -> str:
    own = [name for name in ("spares", *_REACHES, "rows", "cols", "rows_dropped") if has_knob(architecture, name)]
    return f"there are {', '.join([*own, *of_law])}"


def _number(point: Mapping[str, Any], knobs: Mapping[str, list[Any]], names: list[str]) -> int:
    number = 0
    for name in names:
        number = number * len(knobs[name]) + knobs[name].index(point[name])
    return number


def _chains(architecture: Architecture, knobs: Mapping[str, list[Any]], ours: list[str]) -> tuple[tuple[int, ...], ...]:
    """Architectures in runs along one knob that never hurts, from its smallest value up; single ones without it."""
    sizes = [len(knobs[name]) for name in ours]
    numbers = np.arange(int(np.prod(sizes))).reshape(sizes)
    helpful = [i for i, name in enumerate(ours) if name in never_hurts(architecture)]
    if not helpful:
        return tuple((int(a),) for a in numbers.ravel())
    axis = max(helpful, key=lambda i: sizes[i])
    order = sorted(range(sizes[axis]), key=lambda j: knobs[ours[axis]][j])
    runs = np.moveaxis(np.take(numbers, order, axis=axis), axis, -1).reshape(-1, sizes[axis])
    return tuple(tuple(int(a) for a in run) for run in runs)


def _one_way(name: str, architecture: Architecture) -> bool:
    """Whether a wafer can only be gained, or only be lost, from one value of a knob to the next."""
    return name == "d0_per_cm2" or name in never_hurts(architecture)


def _with_intervals(
    table: pd.DataFrame, answers: npt.NDArray[np.int8], confidence: float, one_way: bool, stride: int
) -> pd.DataFrame:
    from yieldkit.reliability.proportions import wilson_interval

    n = len(answers)
    repaired = (answers == 1).sum(axis=0)
    low, high = wilson_interval(repaired, n, confidence=confidence)
    table["n"], table["repaired"], table["undecided"] = n, repaired, (answers == -1).sum(axis=0)
    table["value"], table["low"], table["high"] = repaired / n, low, high
    change = np.full((len(table), 3), np.nan)
    for row in range(len(table)):
        if row % stride:
            change[row] = paired_change(answers[:, row - 1] == 1, answers[:, row] == 1, confidence, one_way=one_way)
    table["change"], table["change_low"], table["change_high"] = change.T
    return table


def paired_change(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], confidence: float, *, one_way: bool
) -> tuple[float, float, float]:
    """Difference of two rates on the same wafers, with its interval.

    Where a wafer can only be gained (or only lost), the difference is a rate itself and has Wilson's interval.
    Otherwise half a wafer is added to each cell of the 2 x 2 table (Agresti and Min, Statistics in Medicine 24, 2005).
    """
    from statistics import NormalDist

    from yieldkit.reliability.proportions import wilson_interval

    n, gained, lost = len(before), int((~before & after).sum()), int((before & ~after).sum())
    value = (gained - lost) / n
    if one_way and min(gained, lost) == 0:
        low, high = (float(end) for end in wilson_interval(gained + lost, n, confidence=confidence))
        return (value, low, high) if lost == 0 else (value, -high, -low)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    total, up, down = n + 2.0, gained + 0.5, lost + 0.5
    centre = (up - down) / total
    half = z * float(np.sqrt(max((up + down) - (up - down) ** 2 / total, 0.0))) / total
    return value, max(centre - half, -1.0), min(centre + half, 1.0)
