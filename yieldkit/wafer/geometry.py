"""Where the cores are: spans of rows inside the wafer's edge, holes, millimetres to cores and back.

Grid `[row, col]`, row 0 north. Millimetres from the wafer's centre, x to the east, y to the north. The rectangle of
fields is centred on the wafer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from yieldkit.wafer.parts import Hole, ReticleSpec

__all__ = ["clipped_area", "hole_sites", "row_spans"]

_TOLERANCE = 1e-9
"""Relative slack for sites that touch the edge exactly, so that rounding does not decide."""


def row_spans(reticle: ReticleSpec, radius_mm: float) -> npt.NDArray[np.int32]:
    """First and past-the-last site of each row that lies wholly inside the circle.

    A site is there when the corner farthest from the centre is within `radius_mm`; the far corners of a row of equal
    rectangles make that a run, so two numbers a row say it all.

    Returns:
        int32[rows, 2], read-only; an empty row is (0, 0).
    """
    rows, cols = reticle.rows * reticle.core_rows, reticle.cols * reticle.core_cols
    width = reticle.field_width_mm / reticle.core_cols
    height = reticle.field_height_mm / reticle.core_rows
    edges = (rows / 2 - np.arange(rows + 1)) * height
    far_y = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
    limit = radius_mm * (1 + _TOLERANCE)
    half_chord = np.sqrt(np.maximum(limit**2 - far_y**2, 0.0))
    first = np.ceil(cols / 2 - half_chord / width)
    first = np.clip(first, 0, None).astype(np.int64)
    spans = np.stack([first, cols - first], axis=1)
    spans[(far_y > limit) | (spans[:, 0] >= spans[:, 1])] = 0
    out = spans.astype(np.int32)
    out.setflags(write=False)
    return out


def hole_sites(holes: Sequence[Hole], spans: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Sites taken by the holes, inside the spans only: int32[n, 2] sorted by (row, col), read-only."""
    found = {
        (row, col)
        for hole in holes
        for row in range(hole.row, min(hole.row + hole.rows, len(spans)))
        for col in range(max(hole.col, int(spans[row, 0])), min(hole.col + hole.cols, int(spans[row, 1])))
    }
    out = np.array(sorted(found), dtype=np.int32).reshape(-1, 2)
    out.setflags(write=False)
    return out


def clipped_area(width: float, height: float, radius: float) -> float:
    """Area of a centred width x height rectangle inside a circle."""
    half_w, half_h = min(width / 2, radius), min(height / 2, radius)
    # Up to y = flat the rectangle's side is inside the circle; above it the arc bounds the quarter.
    flat = min(math.sqrt(max(radius**2 - half_w**2, 0.0)), half_h)

    def arc(y: float) -> float:
        return 0.5 * (y * math.sqrt(max(radius**2 - y**2, 0.0)) + radius**2 * math.asin(min(y / radius, 1.0)))

    return 4 * (half_w * flat + arc(half_h) - arc(flat))
