"""Many wafers in chunks, on one process or several, with the same answer; stopped at round boundaries only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["FIRST_ROUND", "Measure", "Tick", "boundaries", "check_confidence", "measured", "whole_number"]

Measure: TypeAlias = "Callable[[int, int], npt.NDArray[Any]]"
"""(first wafer, number of wafers) -> array[number, ...], a row for each wafer, fixed by its number alone."""

Tick: TypeAlias = Callable[[int, int], None]
"""Called with (wafers done, most wafers)."""

FIRST_ROUND: Final = 500
"""Wafers before the first look. A look at fewer would stop on luck: see `tests/repair/test_yields.py` on coverage."""

_GROWTH: Final = 1.25
_CHUNK: Final = 250


def boundaries(most: int) -> list[int]:
    """Numbers of wafers at which a run may stop: 500, then a quarter more each time, and `most` at the end."""
    found = [min(FIRST_ROUND, most)]
    while found[-1] < most:
        found.append(min(most, int(found[-1] * _GROWTH)))
    return found


def measured(
    measure: Measure,
    looks: list[int],
    *,
    jobs: int = 1,
    enough: Callable[[npt.NDArray[Any]], bool] | None = None,
    progress: Tick | None = None,
) -> npt.NDArray[Any]:
    """Measure wafers 0, 1, ... up to the first of the `looks` where `enough` says so, or the last one.

    Chunks and jobs only share out the work: which wafers are measured is decided at the looks, from all before them.
    """
    whole_number("jobs", jobs, 1)
    parts: list[npt.NDArray[Any]] = []
    done = 0
    with _workers(jobs if looks[-1] > _CHUNK else 1) as pool:
        for look in looks:
            chunks = [(first, min(_CHUNK, look - first)) for first in range(done, look, _CHUNK)]
            for part in _in_order(pool, measure, chunks):
                parts.append(part)
                done += len(part)
                if progress is not None:
                    progress(done, looks[-1])
            if enough is not None and look < looks[-1]:
                parts = [np.concatenate(parts)]
                if enough(parts[0]):
                    break
    return np.concatenate(parts)


def _in_order(pool: Executor | None, measure: Measure, chunks: list[tuple[int, int]]) -> Iterator[npt.NDArray[Any]]:
    if pool is None:
        yield from (measure(*chunk) for chunk in chunks)
    else:
        yield from pool.map(measure, *zip(*chunks, strict=True))


@contextmanager
def _workers(jobs: int) -> Iterator[Executor | None]:
    if jobs == 1:
        yield None
        return
    from loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(max_workers=jobs)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def whole_number(name: str, value: object, least: int) -> int:
    """Refuse what is not an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise BadInput(f"{name} must be an integer of at least {least}", value=value)
    return int(value)


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence."""
    if not 0 < confidence < 1:
        raise BadInput("confidence must lie between 0 and 1", value=confidence)
