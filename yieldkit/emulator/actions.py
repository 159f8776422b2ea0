"""Whether what strikes a launch can change who talks to whom, and in which order: decided before anything runs.

A core's actions are the fetches and sends that it asks of its router, by colour, and the control words. In a clean
launch nothing that a core reads can change them, so they follow from tables. They may still be followed when a table,
a register or a route word is struck, as long as no store can reach a table. Where all cores keep their actions, all
routers keep the switch positions and ports that they use, and no word is lost, the launch goes through as the clean one
does, whatever the values and the depth of queues: the two differ in nothing that any core or router waits for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.crossings import Crossings, switched
from yieldkit.emulator.hooks import ALL_BITS, LaunchHooks, LinkHook
from yieldkit.emulator.isa import HEADER_WORDS
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.kernels.actions import trace_core
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import RUNAWAY_FACTOR, clean_elements
from yieldkit.emulator.secded import read_pattern
from yieldkit.quantities import EAST, NORTH, SOUTH, WEST

__all__ = ["in_tables", "keeps_actions"]

_MOST_ACTIONS = 4  # of one element: two fetches, a send, a control word


def in_tables(low: LoweredLaunch, address: int) -> bool:
    """Whether a word of SRAM is of the header or the tables."""
    return address < HEADER_WORDS or address >= low.table_base


def keeps_actions(
    lowered: Lowered, low: LoweredLaunch, hooks: LaunchHooks, crossings: Crossings, *, sram_code: str = "none"
) -> bool:
    """Whether every core and router does what it does in the clean launch, in the same order.

    Args:
        lowered: the program.
        low: the launch.
        hooks: what strikes.
        crossings: golden traffic of the launch.
        sram_code: protection of SRAM.
    """
    struck = {(h.r, h.c) for h in hooks.sram if in_tables(low, h.address)}
    struck |= {(h.r, h.c) for h in hooks.registers} | {(h.r, h.c) for h in hooks.indices}
    return bool(
        all(_core_keeps(lowered, low, hooks, r, c, sram_code) for r, c in struck)
        and all(_router_keeps(low, hooks, crossings, *key) for key in {(h.r, h.c, h.colour) for h in hooks.routes})
        and not any(crossings.through(h.r, h.c, h.colour) for h in hooks.switches if h.mask & 3)
        and not any(_is_missed(low, crossings, hook) for hook in hooks.links)
    )


def _is_missed(low: LoweredLaunch, crossings: Crossings, hook: LinkHook) -> bool:
    """Whether a word is lost that somebody waits for, or comes twice, or room is lost.

    At the edge nobody takes a control word, and there is always room.
    """
    kinds = crossings.on(hook.r, hook.c, hook.port, hook.colour)[1]
    struck = kinds[hook.nth :] if hook.lasts else kinds[hook.nth : hook.nth + 1]
    if not len(struck) or not (hook.drop or hook.duplicate or hook.credit):
        return False
    if _inside(low, hook.r, hook.c, hook.port):
        return True
    return not hook.credit and bool((struck == kernel.DATA).any())


def _inside(low: LoweredLaunch, r: int, c: int, port: int) -> bool:
    """Whether a link leads to a core."""
    rows, cols = low.role_of.shape
    return bool({NORTH: r > 0, EAST: c < cols - 1, SOUTH: r < rows - 1, WEST: c > 0}[port])


def _core_keeps(lowered: Lowered, low: LoweredLaunch, hooks: LaunchHooks, r: int, c: int, sram_code: str) -> bool:
    number = int(low.role_of[r, c])
    role = low.roles[number]
    elements = int(clean_elements(low)[number])
    budget = RUNAWAY_FACTOR * elements + 1000
    known = np.zeros(lowered.sram_words, np.bool_)
    known[:HEADER_WORDS] = True
    known[low.table_base :] = True

    def image() -> npt.NDArray[np.uint32]:
        sram = np.zeros(lowered.sram_words, np.uint32)
        sram[:HEADER_WORDS] = role.header
        sram[low.table_base : low.table_base + len(role.tables)] = role.tables
        return sram

    actions = np.zeros(_MOST_ACTIONS * elements, np.uint8)
    count, _ = trace_core(image(), known, np.zeros((0, 8), np.int64), budget, actions, False)
    rows: list[tuple[int, ...]] = [
        (task, -1, kernel.T_SRAM, address, 0, word, 0, 0)
        for task, address, word in _words_read(low, hooks, r, c, image(), sram_code)
    ]
    for g in hooks.registers:
        if (g.r, g.c) == (r, c):
            what, a, b = (kernel.T_TASK, g.word, 0) if g.operand < 0 else (kernel.T_DESCRIPTOR, g.operand, g.word)
            rows.append((g.task, g.element, what, a, b, g.mask, g.keep, int(g.lasts)))
    for i in hooks.indices:
        if (i.r, i.c) == (r, c):
            rows.append((i.task, i.element, kernel.T_INDEX, i.operand, i.level, i.mask, i.keep, int(i.lasts)))
    return bool(trace_core(image(), known, np.array(rows, np.int64), budget, actions[:count], True)[1])


def _words_read(
    low: LoweredLaunch, hooks: LaunchHooks, r: int, c: int, image: npt.NDArray[np.uint32], sram_code: str
) -> list[tuple[int, int, int]]:
    """(tasks run before, address, word): what reads of struck words of the tables give from there on, in order.

    Nothing is stored in the tables of a core that keeps its actions, so a stuck cell is struck once.
    """
    first = low.roles[int(low.role_of[r, c])].first_task
    wrong: dict[int, int] = {}
    found = []
    mine = [h for h in hooks.sram if (h.r, h.c) == (r, c) and in_tables(low, h.address)]
    for h in sorted(mine, key=lambda h: int(first[h.phase])):
        loaded, before = int(image[h.address]), wrong.get(h.address, 0)
        struck = ((loaded ^ (before & ALL_BITS)) & h.keep) ^ (h.mask & ALL_BITS)
        now = wrong[h.address] = (loaded ^ struck) | ((before ^ h.mask) & ~ALL_BITS)
        seen = int(read_pattern(np.array([now], np.uint64), sram_code)[0][0])
        found.append((int(first[h.phase]), h.address, loaded ^ seen))
    return found


def _router_keeps(low: LoweredLaunch, hooks: LaunchHooks, crossings: Crossings, r: int, c: int, colour: int) -> bool:
    """Whether all words that come through meet the same ports, and the switch turns as it should."""
    was = low.roles[low.role_of[r, c]].routes[colour].tolist()
    now = list(was)
    for h in hooks.routes:
        if (h.r, h.c, h.colour) == (r, c, colour):
            now[h.position] = (now[h.position] & h.keep) ^ h.mask
    for position, (_, kinds) in crossings.through(r, c, colour):
        if (was[position] ^ now[position]) & 0xFF:
            return False
        if kinds[-1] != kernel.DATA and switched(was[position], position, int(kinds[-1])) != switched(
            now[position], position, int(kinds[-1])
        ):
            return False
    return True
