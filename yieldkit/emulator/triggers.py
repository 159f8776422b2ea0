"""What strikes the cores of a launch, as the machines that move words read it: rows of `kernels.state.Triggers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.hooks import ALL_BITS, LaunchHooks
from yieldkit.emulator.kernels import cells, strikes
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.lowering import LoweredLaunch
from yieldkit.emulator.secded import CODES

__all__ = ["SLOW_ONE", "core_rows", "new_triggers"]

SLOW_ONE: Final = 256
"""The factor 1 of a slow core, as the clock counts it."""


def core_rows(low: LoweredLaunch, hooks: LaunchHooks, number: Callable[[int, int], int]) -> list[tuple[int, ...]]:
    """Rows of `Triggers.core` for what strikes cores, numbered by `number(r, c)`."""

    def begin(r: int, c: int, phase: int) -> int:
        return int(low.roles[low.role_of[r, c]].first_task[phase])

    rows: list[tuple[int, ...]] = []
    for s in hooks.sram:
        at = (number(s.r, s.c), begin(s.r, s.c, s.phase), -1)
        rows.append((*at, kernel.T_SRAM, s.address, 0, s.mask, s.keep, int(s.lasts)))
    for g in hooks.registers:
        what, a, b = (kernel.T_TASK, g.word, 0) if g.operand < 0 else (kernel.T_DESCRIPTOR, g.operand, g.word)
        rows.append((number(g.r, g.c), g.task, g.element, what, a, b, g.mask, g.keep, int(g.lasts)))
    for i in hooks.indices:
        at = (number(i.r, i.c), i.task, i.element)
        rows.append((*at, kernel.T_INDEX, i.operand, i.level, i.mask, i.keep, int(i.lasts)))
    for o in hooks.operands:
        at = (number(o.r, o.c), o.task, o.element)
        rows.append((*at, kernel.T_OPERAND, o.operand, 0, o.mask, o.keep, int(o.lasts)))
    for what, items in ((kernel.T_PRODUCT, hooks.products), (kernel.T_RESULT, hooks.results)):
        for h in items:
            rows.append((number(h.r, h.c), h.task, h.element, what, 0, 0, h.mask, h.keep, int(h.lasts)))
    # Task and element in which a fault that lasts struck last: none yet.
    return [(*row, -1, -1) for row in rows]


def new_triggers(
    rows: Sequence[tuple[int, ...]],
    link_rows: npt.NDArray[np.int64],
    n: int,
    sram_code: str,
    *,
    wrong: Mapping[tuple[int, int], int] | None = None,
    slow: Mapping[int, float] | None = None,
) -> kernel.Triggers:
    """What strikes a machine of n cores.

    Args:
        rows: of cores.
        link_rows: of links.
        n: cores.
        sram_code: protection of SRAM.
        wrong: wrong bits of words of SRAM that have been struck before, by (core, address).
        slow: cycles of slow cores over their usual ones.
    """
    core = np.array(rows, np.int64).reshape(-1, strikes.COLUMNS)
    armed = np.bincount(core[:, strikes.AT_CORE], minlength=n).astype(np.int32)
    cell: dict[tuple[int, int], int] = dict(wrong or {})
    for row in rows:
        if row[strikes.WHAT] == kernel.T_SRAM and (row[strikes.LASTS] or sram_code != "none"):
            cell.setdefault((row[strikes.AT_CORE], row[strikes.PART]), 0)
    table = np.array([(*key, bits, ALL_BITS, 0, 0) for key, bits in cell.items()], np.int64)
    table = table.reshape(-1, cells.CELL_COLUMNS)
    np.add.at(armed, table[table[:, cells.CELL_PATTERN] != 0, cells.CELL_CORE], 1)
    factor = np.full(n if slow else 0, SLOW_ONE, np.int64)
    for number, times in (slow or {}).items():
        factor[number] = round(times * SLOW_ONE)
    return kernel.Triggers(core, link_rows, armed, table, CODES.index(sram_code), factor)
