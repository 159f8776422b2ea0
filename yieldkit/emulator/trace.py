"""What the wavelet executor records over time for people to look at: links and cores, in bins of cycles."""

from __future__ import annotations

import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadFile, BadInput
from yieldkit.files import read_bytes, write_bytes

__all__ = ["CORE_STATES", "WAIT_WORDS", "Trace", "Wait"]

CORE_STATES: Final = ("busy", "starved", "blocked", "idle")
"""What a core mostly did in a bin; idle has ended, halted or never started."""
VERSION: Final = 1
WAIT_WORDS: Final = {
    "INPUT_STARVATION": "starved",
    "WAITING_FOR_BUFFER": "blocked",
    "HALTED": "halted",
    "STALLED": "stalled",
}
"""Wait states of a scan in the words of a trace."""
_ARRAYS: Final = {"hops": 5, "busy": 0, "starved": 0, "blocked": 0}
_LARGEST: Final = 1 << 28
"""Elements of the largest array that is read from a file."""
_DAMAGED: Final = (
    KeyError, ValueError, OSError, EOFError, MemoryError, RecursionError, RuntimeError, NotImplementedError,
    SyntaxError, zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
"""What a damaged archive or array header can raise."""

Wait = tuple[int, int, str, int, int]
"""(row, column, wait state, task, colour or -1), as the scan of a stalled launch lists its cores."""


class _Ended(Protocol):
    """The part of a launch's result that says how it ended."""

    @property
    def completed(self) -> bool: ...

    @property
    def scan(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Trace:
    """Occupancy over time of one launch.

    Attributes:
        launch: name of the launch.
        rows, cols: rectangle.
        bin_cycles: cycles a bin covers.
        cycles: cycles the launch took, to the last event.
        hops: int32[bins, rows, cols, 5], words that left core (r, c) through N, E, S, W and to the core, begun in the
            bin.
        busy: int32[bins, rows, cols], cycles the core worked.
        starved: int32[bins, rows, cols], cycles it waited for a word.
        blocked: int32[bins, rows, cols], cycles it waited for room to send. A core that is neither has ended, halted or
            never started.
        completed: whether the launch ended as it should; `with_end` fills it in.
        waiting: cores that had not ended when nothing moved any more.
    """

    launch: str
    rows: int
    cols: int
    bin_cycles: int
    cycles: int
    hops: npt.NDArray[np.int32]
    busy: npt.NDArray[np.int32]
    starved: npt.NDArray[np.int32]
    blocked: npt.NDArray[np.int32]
    completed: bool = True
    waiting: tuple[Wait, ...] = ()

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.hops)

    @property
    def edges(self) -> npt.NDArray[np.int64]:
        """int64[bins + 1], cycles at which bins begin; the last one ends with the launch."""
        edges = np.arange(self.bins + 1, dtype=np.int64) * self.bin_cycles
        edges[-1] = max(min(int(edges[-1]), self.cycles), int(edges[-2]) + 1)
        return edges

    @property
    def occupancy(self) -> npt.NDArray[np.float64]:
        """float64[bins, rows, cols, 5], words a cycle on each link."""
        occupancy: npt.NDArray[np.float64] = self.hops / np.diff(self.edges)[:, None, None, None]
        return occupancy

    @property
    def states(self) -> npt.NDArray[np.int8]:
        """int8[bins, rows, cols], index into `CORE_STATES` of what took most of the bin.

        Of equals a wait comes first, so that a stall is not hidden by the work before it.
        """
        length = np.diff(self.edges)[:, None, None]
        rest = length - self.busy - self.starved - self.blocked
        order = np.array([2, 1, 0, 3], np.int8)
        parts = np.stack([self.blocked, self.starved, self.busy, rest])
        states: npt.NDArray[np.int8] = order[parts.argmax(axis=0)]
        return states

    def with_end(self, result: _Ended) -> Trace:
        """The trace with what the launch's result says of its end."""
        waiting = () if result.completed or result.scan is None else tuple(result.scan.waiting)
        return replace(self, completed=bool(result.completed), waiting=waiting)

    def coarser(self, bins: int) -> Trace:
        """The trace in at most `bins` bins, neighbouring ones added up.

        Raises:
            BadInput: fewer than one bin.
        """
        if bins < 1:
            raise BadInput("a trace needs at least one bin", value=bins)
        step = -(-self.bins // bins)
        starts = np.arange(0, self.bins, step)
        parts: dict[str, Any] = {name: np.add.reduceat(getattr(self, name), starts, axis=0) for name in _ARRAYS}
        return replace(self, bin_cycles=step * self.bin_cycles, **parts)

    def since(self, r: int, c: int) -> int:
        """Cycle at which core (r, c) last did anything, to the width of a bin; 0 if it never worked."""
        active = np.flatnonzero(self.busy[:, r, c])
        if not active.size:
            return 0
        last = int(active[-1])
        return int(self.edges[last]) + int(self.busy[last, r, c])

    def first_waiting(self, count: int = 3) -> list[tuple[int, Wait]]:
        """(cycle, wait) of the cores that were the first to stop for good, earliest first.

        Cores that never worked come last: they wait for what stopped before it reached them.
        """
        ever = self.busy.sum(axis=0) > 0
        ordered = sorted((not ever[wait[0], wait[1]], self.since(wait[0], wait[1]), wait) for wait in self.waiting)
        return [(cycle, wait) for _, cycle, wait in ordered[:count]]

    @property
    def summary(self) -> str:
        """One sentence on how the launch ended."""
        cores = self.rows * self.cols
        if self.completed:
            return f"launch {self.launch}: {cores} cores ended after {self.cycles} cycles"
        if not self.waiting:
            return f"launch {self.launch}: nothing moves after cycle {self.cycles}; all cores ended, words are missing"
        cycle, (r, c, state, _, _) = self.first_waiting(1)[0]
        return (
            f"launch {self.launch}: nothing moves after cycle {self.cycles}; {len(self.waiting)} of {cores} cores "
            f"wait, the first is ({r}, {c}), {WAIT_WORDS[state]} since cycle {cycle}"
        )

    def save(self, path: str | Path) -> Path:
        """Write the trace as an .npz of plain arrays, whole or not at all; equal traces give equal bytes."""
        facts = {
            "version": VERSION, "launch": self.launch, "bin_cycles": self.bin_cycles, "cycles": self.cycles,
            "completed": self.completed, "waiting": [list(wait) for wait in self.waiting],
        }  # fmt: skip
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(buffer, facts=np.array(json.dumps(facts, sort_keys=True)), **arrays)
        return write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BadFile: not a trace, damaged, or its numbers contradict each other.
        """
        raw = read_bytes(path)
        try:
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                largest = max((item.file_size for item in archive.infolist()), default=0)
            if largest > 4 * _LARGEST + (1 << 16):
                raise BadFile(path, "holds an array too large for a trace", value=largest)
            with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
            facts = json.loads(str(found.pop("facts")))
        except _DAMAGED as error:
            raise BadFile(path, f"is not a trace: {type(error).__name__}: {error}") from error
        return cls(**_checked(path, facts, found))


def _checked(path: str | Path, facts: Any, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    wanted = {"version": int, "launch": str, "bin_cycles": int, "cycles": int, "completed": bool, "waiting": list}
    if not isinstance(facts, dict) or set(facts) != set(wanted) or set(arrays) != set(_ARRAYS):
        raise BadFile(path, "is not a trace: other fields", cure="write it with `yieldkit emulate run --trace`")
    for name, kind in wanted.items():
        if type(facts[name]) is not kind:
            raise BadFile(path, f"{name} must be of type {kind.__name__}", value=facts[name])
    if facts.pop("version") != VERSION:
        raise BadFile(path, f"trace version must be {VERSION}")
    hops = arrays["hops"]
    if hops.ndim != 4 or hops.shape[3] != 5 or not hops.size:
        raise BadFile(path, "hops must have the shape [bins, rows, cols, 5]", value=hops.shape)
    bins, rows, cols, _ = hops.shape
    for name, array in arrays.items():
        if array.dtype != np.int32 or array.shape != (hops.shape if _ARRAYS[name] else hops.shape[:3]):
            raise BadFile(path, f"{name} has the wrong shape or type", value=(array.shape, str(array.dtype)))
        if array.min() < 0:
            raise BadFile(path, f"{name} must not be negative", value=int(array.min()))
    width, cycles = facts["bin_cycles"], facts["cycles"]
    if width < 1 or not (bins - 1) * width <= cycles <= bins * width:
        raise BadFile(path, f"{bins} bins of {width} cycles do not cover the launch", value=cycles)
    sums = arrays["busy"].astype(np.int64) + arrays["starved"] + arrays["blocked"]
    if sums.max() > width:
        raise BadFile(path, "a core has more cycles than its bin", value=int(sums.max()))
    facts["waiting"] = tuple(_wait(path, item, rows, cols) for item in facts["waiting"])
    if facts["completed"] and facts["waiting"]:
        raise BadFile(path, "cores wait in a launch that completed", value=facts["waiting"][0])
    return {**facts, **arrays, "rows": rows, "cols": cols}


def _wait(path: str | Path, item: Any, rows: int, cols: int) -> Wait:
    good = (
        isinstance(item, Sequence)
        and len(item) == 5
        and all(type(item[place]) is int for place in (0, 1, 3, 4))
        and item[2] in WAIT_WORDS
        and 0 <= item[0] < rows
        and 0 <= item[1] < cols
    )
    if not good:
        raise BadFile(path, "a waiting core is (row, column, state, task, colour)", value=item)
    return (item[0], item[1], item[2], item[3], item[4])
