"""Least displacements of a row-shifted fabric by plain sweeps: slow, short, and apart from the code it checks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yieldkit.wafer import WaferSpec


def least_shift(wafer: WaferSpec, dead: list[tuple[int, int]] | None = None) -> npt.NDArray[np.int64] | None:
    """d[H, W], the smallest displacement of every logical core, or None where the fabric does not fit."""
    present = wafer.present_mask()
    for site in dead or ():
        present[site] = False
    height, width = wafer.logical_shape
    first = wafer.logical.first_row
    rows, cols = wafer.shape
    reach, v = wafer.repair.skip_reach - 1, wafer.repair.vertical_reach
    next_present = np.full((rows, cols + 1), cols + 1)
    for col in range(cols - 1, -1, -1):
        next_present[:, col] = np.where(present[:, col], col, next_present[:, col + 1])
    used = next_present[first : first + height]
    column = np.arange(width)
    d = np.zeros((height, width), np.int64)
    while True:
        before = d.copy()
        at = column + d
        if (at > cols).any():
            return None
        d = np.take_along_axis(used, np.minimum(at, cols), axis=1) - column
        d = np.maximum.accumulate(d, axis=1)
        ramp = reach * column
        d = np.maximum.accumulate((d - ramp)[:, ::-1], axis=1)[:, ::-1] + ramp
        slope = v * np.arange(height)[:, None]
        d = np.maximum.accumulate(d + slope, axis=0) - slope
        d = np.maximum.accumulate((d - slope)[::-1], axis=0)[::-1] + slope
        if (column + d >= cols).any():
            return None
        if (d == before).all():
            return d
