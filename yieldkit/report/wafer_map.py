"""The wafer map: states of sites from arrays, the palette picture, markers that do not vanish at fit zoom."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.report.data import Fact, Mark, WaferSection
from yieldkit.report.packing import pack, unpack

__all__ = ["KINDS", "MARKER_LIMIT", "STATES", "Kind", "markers", "palette_png", "site_states", "wafer_section"]

ABSENT: Final = 0
USED: Final = 1
SPARE: Final = 2
BYPASSED: Final = 3
MARGINAL: Final = 4
DEAD: Final = 5

MARKER_LIMIT: Final = 3000
"""Most markers drawn per state; beyond it only sites that stand alone get one, since patches show by themselves."""


@dataclass(frozen=True)
class Kind:
    """How one state or mark looks: Okabe-Ito colour and a shape of its own."""

    id: str
    name: str
    colour: str
    shape: str
    meaning: str


STATES: Final = (
    Kind("absent", "absent", "#bdbdbd", "dot", "off the wafer's edge or in a hole for power and cooling"),
    Kind("used", "used", "#d4e6f3", "", "carries a logical core"),
    Kind("spare", "spare", "#f4f1dc", "", "healthy and not needed"),
    Kind("bypassed", "bypassed", "#e69f00", "diamond", "healthy, skipped by the plan"),
    Kind("marginal", "marginal", "#cc79a7", "triangle", "works slower, hotter or only sometimes; mapped out by policy"),
    Kind("dead", "dead", "#d55e00", "cross", "does not work; mapped out"),
)
KINDS: Final = (
    *STATES,
    Kind("blamed", "blamed", "#0072b2", "ring", "core that diagnosis points at"),
    Kind(
        "injected", "injected", "#009e73", "square", "core that a fault was injected into (known to the referee only)"
    ),
    Kind("dead_link", "dead link", "#d55e00", "bar", "link that does not work"),
    Kind("blamed_link", "blamed link", "#0072b2", "bar", "link that diagnosis points at"),
)


def site_states(
    shape: tuple[int, int],
    *,
    present: npt.ArrayLike | None = None,
    dead: npt.ArrayLike = (),
    marginal: npt.ArrayLike = (),
    core_of: npt.ArrayLike | None = None,
) -> npt.NDArray[np.uint8]:
    """States of all sites.

    A healthy site that carries no logical core is bypassed when it lies between the first and the last used site of its
    row, spare otherwise. Dead and marginal sites keep that state whatever the plan does with them.

    Args:
        shape: physical rows and columns.
        present: bool[rows, cols], False off the wafer and in holes; all present if None.
        dead: int[n, 2], rows and columns.
        marginal: int[n, 2].
        core_of: int[height, width, 2], logical to physical; without it every healthy site counts as used.

    Returns:
        uint8[rows, cols], see `STATES`.
    """
    states = np.full(shape, USED, dtype=np.uint8)
    if core_of is not None:
        where = np.asarray(core_of, dtype=np.int64).reshape(-1, 2)
        used = np.zeros(shape, dtype=bool)
        used[where[:, 0], where[:, 1]] = True
        inside = np.logical_or.accumulate(used, axis=1) & np.logical_or.accumulate(used[:, ::-1], axis=1)[:, ::-1]
        states[~used] = SPARE
        states[~used & inside] = BYPASSED
    for code, sites in ((MARGINAL, marginal), (DEAD, dead)):
        listed = np.asarray(sites, dtype=np.int64).reshape(-1, 2)
        states[listed[:, 0], listed[:, 1]] = code
    if present is not None:
        states[~np.asarray(present, dtype=bool)] = ABSENT
    return states


def wafer_section(
    name: str,
    states: npt.NDArray[np.uint8],
    *,
    core_of: npt.ArrayLike | None = None,
    pitch_mm: tuple[float, float] = (1.0, 1.0),
    marks: Iterable[Mark] = (),
    facts: Iterable[Fact] = (),
) -> WaferSection:
    """Pack the map of a wafer.

    Args:
        name: wafer id or preset.
        states: uint8[rows, cols] as of `site_states`.
        core_of: int[height, width, 2], logical to physical, for the coordinates shown under the pointer.
        pitch_mm: height and width of a core.
        marks: blamed and injected sites, dead and blamed links.
        facts: what else is known.

    Raises:
        BadInput: `states` is not a grid of known codes.
    """
    grid = np.asarray(states)
    if grid.ndim != 2 or grid.size == 0 or int(grid.max()) >= len(STATES):
        raise BadInput("states must be a grid of site states", value=grid.shape, cure="build it with site_states")
    rows, cols = grid.shape
    return WaferSection(
        name=name,
        rows=rows,
        cols=cols,
        states=pack(grid, "uint8"),
        pitch_mm=pitch_mm,
        runs=() if core_of is None else _runs(np.asarray(core_of), (rows, cols)),
        marks=tuple(marks),
        facts=tuple(facts),
    )


def _runs(core_of: npt.NDArray[Any], shape: tuple[int, int]) -> tuple[tuple[tuple[int, int, int, int], ...], ...]:
    """Stretches of each physical row along which the logical column goes up by one."""
    height, width = core_of.shape[:2]
    logical = np.full((*shape, 2), -1, dtype=np.int64)
    rows, cols = np.indices((height, width))
    logical[core_of[..., 0], core_of[..., 1]] = np.stack([rows, cols], axis=-1)
    found: list[tuple[tuple[int, int, int, int], ...]] = []
    for line in logical:
        held = np.flatnonzero(line[:, 0] >= 0)
        if held.size == 0:
            found.append(())
            continue
        values = line[held]
        breaks = (np.diff(held) != 1) | (np.diff(values[:, 0]) != 0) | (np.diff(values[:, 1]) != 1)
        starts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
        lengths = np.diff(np.append(starts, held.size))
        found.append(
            tuple(
                (int(held[start]), int(length), int(values[start, 0]), int(values[start, 1]))
                for start, length in zip(starts, lengths, strict=True)
            )
        )
    return tuple(found)


def palette_png(section: WaferSection) -> bytes:
    """The map as a PNG with one pixel per site and the colours of `STATES`; equal maps give equal bytes."""
    grid = unpack(section.states, (section.rows, section.cols), "uint8")
    lines = np.concatenate([np.zeros((section.rows, 1), dtype=np.uint8), grid], axis=1)
    header = struct.pack(">IIBBBBB", section.cols, section.rows, 8, 3, 0, 0, 0)
    palette = b"".join(bytes.fromhex(kind.colour[1:]) for kind in STATES)
    body = _chunk(b"IHDR", header) + _chunk(b"PLTE", palette)
    return b"\x89PNG\r\n\x1a\n" + body + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def markers(section: WaferSection) -> tuple[list[tuple[str, int, int, int, int]], list[tuple[str, int, int]]]:
    """Which sites get a marker.

    Returns:
        markers, (kind, row, col, drow, dcol), those of the states first and the section's own marks on top; and per
        state that has markers (kind, sites marked, sites there are), so that the legend can say when not all are drawn.
    """
    grid = unpack(section.states, (section.rows, section.cols), "uint8")
    chosen: list[tuple[str, int, int, int, int]] = []
    told: list[tuple[str, int, int]] = []
    for code, kind in enumerate(STATES):
        if not kind.shape:
            continue
        mask = grid == code
        total = int(mask.sum())
        if total == 0:
            continue
        sites = np.argwhere(mask & ~_touching(mask)) if code == ABSENT or total > MARKER_LIMIT else np.argwhere(mask)
        sites = sites[:MARKER_LIMIT]
        chosen += [(kind.id, int(row), int(col), 0, 0) for row, col in sites]
        told.append((kind.id, len(sites), total))
    given: Sequence[Mark] = section.marks
    chosen += [(mark.kind, mark.row, mark.col, mark.drow, mark.dcol) for mark in given]
    return chosen, told


def _touching(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    return near
