"""Sampling designs: how many trials each stratum gets, and what a design-weighted rate and its intervals are.

Arrays in, arrays out; the last axis is that of the strata, all others are free (simulated campaigns, labels).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = []
