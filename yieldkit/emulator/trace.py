"""What the wavelet executor records over time for people to look at: links and cores, in bins of cycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Trace"]


@dataclass(frozen=True)
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
