"""Cores whose configuration something strikes, stepped through alone: the actions they would do, and where they stand.

Control reads no value, so a core's communications and their order follow from its tables and from what strikes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.isa import HEADER_WORDS
from yieldkit.emulator.kernels import cells, strikes
from yieldkit.emulator.kernels import counts_core as kernel
from yieldkit.emulator.kernels.machine import DONE, READY, T_SRAM, UNUSED, State, Triggers
from yieldkit.emulator.lowering import Lowered, LoweredLaunch, Role
from yieldkit.emulator.machine import RUNAWAY_FACTOR, clean_elements, new_state
from yieldkit.emulator.triggers import core_rows, new_triggers

__all__ = ["StruckCore", "struck_cores"]


@dataclass(frozen=True)
class StruckCore:
    """A core that something strikes.

    Attributes:
        number: in row-major order.
        role: what it is loaded with.
        routes: uint32[24, 4], its route words after what strikes them.
        log: uint8[actions], all communications it would do if words and room never lacked.
        task: int32[actions], tasks it had ended before each of them.
        golden: the same two arrays of a core that nothing strikes.
    """

    number: int
    role: Role
    routes: npt.NDArray[np.uint32]
    log: npt.NDArray[np.uint8]
    task: npt.NDArray[np.int32]
    golden: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]
    rows: tuple[tuple[int, ...], ...]
    budget: int
    sram_words: int
    table_base: int
    sram_code: str = "none"

    def state_after(self, actions: int) -> State:
        """State of the core, number 0 of one, after so many communications and with no more possible."""
        state, triggers = _one_core(self.role, self.sram_words, self.table_base), _triggers(self.rows, self.sram_code)
        state.route[0] = self.routes
        _strike(state, triggers, UNUSED)
        room = len(self.log) + 4
        log, task = np.zeros(room, np.uint8), np.zeros(room, np.int32)
        kernel.step_through(state, triggers, self.budget, HEADER_WORDS, self.table_base, log, task, actions)
        _strike(state, triggers, DONE)
        return state

    @cached_property
    def common(self) -> int:
        """Actions it does as a core that nothing strikes, before it does another or none."""
        size = min(len(self.log), len(self.golden[0]))
        differs = np.flatnonzero(self.log[:size] != self.golden[0][:size])
        return int(differs[0]) if len(differs) else size

    def end_of_task(self, action: int) -> int | None:
        """Action after the last of the task that action number `action` belongs to.

        None where a core that nothing strikes would talk in other colours in that task.
        """
        number = self.task[action]
        mine = np.flatnonzero(self.task == number)
        usual = self.golden[0][self.golden[1] == number]
        if set(self.log[mine].tolist()) != set(usual.tolist()):
            return None
        return int(mine[-1]) + 1


def struck_cores(
    lowered: Lowered, low: LoweredLaunch, hooks: LaunchHooks, *, sram_code: str = "none"
) -> tuple[StruckCore, ...] | None:
    """The cores whose tables, registers, loop indices or routes are struck; None where a value would decide what one of
    them does.
    """
    cols = low.role_of.shape[1]
    clean = clean_elements(low)
    rows: dict[int, list[tuple[int, ...]]] = {}
    routes: dict[int, npt.NDArray[np.uint32]] = {}
    tables = tuple(s for s in hooks.sram if s.address < HEADER_WORDS or s.address >= low.table_base)
    # What strikes values only changes nothing here.
    control = replace(hooks, sram=tables, operands=(), products=(), results=())
    for row in core_rows(low, control, lambda r, c: r * cols + c):
        rows.setdefault(row[0], []).append((0, *row[1:]))
    for h in hooks.routes:
        core = h.r * cols + h.c
        own = routes.setdefault(core, low.roles[low.role_of[h.r, h.c]].routes.copy())
        own[h.colour, h.position] = (own[h.colour, h.position] & np.uint32(h.keep)) ^ np.uint32(h.mask)
    found = []
    for core in sorted(rows.keys() | routes.keys()):
        number = int(low.role_of[divmod(core, cols)])
        role = low.roles[number]
        budget = RUNAWAY_FACTOR * int(clean[number]) + 1000
        own_rows = tuple(rows.get(core, ()))
        usual = _log(role, lowered.sram_words, low.table_base, (), budget, sram_code)
        logged = usual
        if own_rows:
            logged = _log(role, lowered.sram_words, low.table_base, own_rows, budget, sram_code)
        if logged is None or usual is None:
            return None
        own_routes = routes.get(core, role.routes)
        sizes = (lowered.sram_words, low.table_base)
        found.append(StruckCore(core, role, own_routes, *logged, usual, own_rows, budget, *sizes, sram_code))
    return tuple(found)


def _log(
    role: Role, sram_words: int, table_base: int, rows: Sequence[tuple[int, ...]], budget: int, sram_code: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]] | None:
    # An element communicates at most four times: two fetches, a word and a control word.
    log, task = np.zeros(4 * (budget + 1), np.uint8), np.zeros(4 * (budget + 1), np.int32)
    state, triggers = _one_core(role, sram_words, table_base), _triggers(rows, sram_code)
    _strike(state, triggers, UNUSED)
    actions = kernel.step_through(state, triggers, budget, HEADER_WORDS, table_base, log, task, len(log))
    return None if actions == kernel.UNDECIDED else (log[:actions].copy(), task[:actions].copy())


def _strike(state: State, triggers: Triggers, status: int) -> None:
    """Strike what waits for a task that never comes, as a machine does."""
    for row in triggers.core:
        _, executed, _, what, address, _, mask, keep, lasts = (int(v) for v in row[: strikes.LASTS + 1])
        if what == T_SRAM and state.status[0] == status and executed == state.executed[0]:
            cells.strike_cell(state, triggers, 0, address, mask, keep, bool(lasts))
            row[strikes.WHAT] = -1
            triggers.armed[0] -= 1


def _triggers(rows: Sequence[tuple[int, ...]], sram_code: str) -> Triggers:
    return new_triggers(rows, np.zeros((0, 6), np.int64), 1, sram_code)


def _one_core(role: Role, sram_words: int, table_base: int) -> State:
    """A machine of one core, loaded with a role's image."""
    state = new_state(1, sram_words, 1)
    state.sram[0, :HEADER_WORDS] = role.header
    state.sram[0, table_base : table_base + len(role.tables)] = role.tables
    header = int(role.header[0])
    state.status[0] = READY if header >> 31 else UNUSED
    state.task[0] = header & 0xFFF
    return state
