"""The numbers that the rules compare with, in one place, so that a report can print them."""

from __future__ import annotations

from dataclasses import dataclass

from yieldkit.errors import BadInput

__all__ = ["Thresholds"]


@dataclass(frozen=True)
class Thresholds:
    """Limits of the rules. The NaN and SLOW numbers are the taxonomy's, the loss numbers are this toolkit's.

    Attributes:
        slow_flag: a run is slow from this multiple of the clean cycles.
        slow_cut: it is cut at this multiple.
        nan_window: reference for a NaN at step t: gradient norms of steps t - nan_window[0] .. t - nan_window[1].
        nan_growth: the norm is healthy while the steps after that window stay within this multiple of its median.
        nan_history: completed steps needed before t.
        out_once: one step this many half widths from the band's centre is a departure.
        out_twice: two steps in a row this many half widths away are one too.
        jump: half widths, reached within two steps of the departure, that make it sharp.
        settle: steps at the end whose mean distance decides whether the loss has returned (below 1 half width).
        growth: the distance grows when the last third lies this factor, and one half width, above the first third.
    """

    slow_flag: float = 1.5
    slow_cut: float = 10.0
    nan_window: tuple[int, int] = (40, 8)
    nan_growth: float = 3.0
    nan_history: int = 20
    out_once: float = 2.0
    out_twice: float = 1.0
    jump: float = 4.0
    settle: int = 5
    growth: float = 1.5

    def __post_init__(self) -> None:
        first, last = self.nan_window
        if not 0 < last < first:
            raise BadInput("nan_window must be (far, near) with far > near > 0", value=self.nan_window)
        if self.nan_history <= last:
            raise BadInput("nan_history must exceed the near end of nan_window", value=self.nan_history)
        for name in ("slow_flag", "slow_cut", "nan_growth", "out_once", "out_twice", "jump", "growth"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} must be positive", value=getattr(self, name))
        if self.settle < 1:
            raise BadInput("settle must be at least 1", value=self.settle)
