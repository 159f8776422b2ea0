"""Parts of a launch on the machine that moves words: only the phases that a fault can touch.

In a clean launch nothing is left in queues or switches between two phases: cores may be in different phases at one
moment, but what they end in does not depend on the moments, so the state in which every core stands between the same
two phases is one that the launch may pass through. A fault that changes values only is therefore followed from the
start of its phase to the end of it; a lost word from the start of its phase to where the launch comes to rest; and a
table word that no task reads any more is followed without the machine.

None of this holds for what may make a core read from other addresses: there words count that hold nothing any more.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.formats import decode_words
from yieldkit.emulator.hooks import LaunchHooks, LinkHook, OperandHook, ProductHook, ResultHook, SramHook
from yieldkit.emulator.host_words import input_shape, inputs_of
from yieldkit.emulator.isa import HEADER_WORDS
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.lowering import Lowered, LoweredLaunch, Role
from yieldkit.emulator.machine import Machine
from yieldkit.quantities import NORTH, SOUTH
from yieldkit.workloads.program import Gemm, Launch

__all__ = [
    "Part",
    "PartMachine",
    "links_from_start",
    "logged_from_start",
    "never_read",
    "part_of",
    "shifted",
    "streams_of",
    "struck_part",
    "struck_rows",
]

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
_HAS_NEXT: Final = np.uint32(1 << 6)
_BINARY: Final = frozenset((*range(2, 9), 16))
"""Opcodes that take B."""
_UNUSED: Final = {("task", 0): 0xFFF80000, ("task", 1): 0xC0000000, ("descriptor", 0): 0xFC000000}
"""Bits of table words that nothing reads (docs/machine.md)."""

CoreHook = ResultHook | ProductHook | OperandHook


@dataclass(frozen=True)
class Part:
    """Phases `first` to `last` of a launch, and what strikes them, with times counted from their start."""

    first: int
    last: int
    hooks: LaunchHooks


@dataclass(frozen=True)
class _Counts:
    """Words of each phase of a launch that leave through every (core, colour, port): int64[phases, n, 24, 5]."""

    sent: I64


_KEPT: dict[int, dict[tuple[int, int, int], LoweredLaunch]] = {}
_COUNTED: dict[int, dict[int, _Counts]] = {}


def part_of(lowered: Lowered, low: LoweredLaunch, first: int, last: int, alive: tuple[str, ...]) -> LoweredLaunch:
    """Phases `first` to `last` as a launch of their own, whose cores hold the tensors `alive` as it begins."""
    parts = _kept(lowered)
    key = (low.index, first, last)
    if key not in parts:
        phases = low.launch.phases[first : last + 1]
        roles = tuple(_role(role, first, last) for role in low.roles)
        name = f"{low.tables_id}/{first}-{last}"
        parts[key] = replace(low, launch=Launch(low.name, phases), roles=roles, tables_id=name)
    return replace(parts[key], alive_at_start=alive)


def _kept(lowered: Lowered) -> dict[tuple[int, int, int], LoweredLaunch]:
    key = id(lowered)
    if key not in _KEPT:
        _KEPT[key], _COUNTED[key] = {}, {}
        weakref.finalize(lowered, _KEPT.pop, key, None)
        weakref.finalize(lowered, _COUNTED.pop, key, None)
    return _KEPT[key]


def _role(role: Role, first: int, last: int) -> Role:
    """A role that begins with the first task of a phase and ends with the last one of another."""
    begin, end = int(role.first_task[first]), int(role.first_task[last + 1])
    header, tables = role.header.copy(), role.tables.copy()
    if begin == end:
        header[:] = 0
    else:
        header[0] = (header[0] & ~np.uint32(0xFFF)) | np.uint32(begin)
        tables[2 * (end - 1)] &= ~_HAS_NEXT
    return replace(role, header=header, tables=tables)


def counts_of(lowered: Lowered, low: LoweredLaunch, queue_depth: int) -> _Counts:
    """Words of each phase of a clean launch; counted once, on a machine, since values do not matter."""
    _kept(lowered)
    counted = _COUNTED[id(lowered)]
    if low.index not in counted:
        zeros = {fed.stream: np.zeros(input_shape(lowered.program, fed), np.float32) for fed in inputs_of(low.launch)}
        sent = []
        machine = Machine(lowered, queue_depth=queue_depth)
        for number in range(len(low.launch.phases)):
            machine.launch(part_of(lowered, low, number, number, ()), zeros)
            sent.append(machine.state.sent.copy())
        counted[low.index] = _Counts(np.array(sent))
    return counted[low.index]


def struck_part(lowered: Lowered, low: LoweredLaunch, hooks: LaunchHooks, queue_depth: int) -> Part | None:
    """The phases that must run on the machine, None where only the whole launch will do."""
    strikes: list[CoreHook | LinkHook] = [*hooks.results, *hooks.products, *hooks.operands, *hooks.links]
    alone = LaunchHooks(results=hooks.results, products=hooks.products, operands=hooks.operands, links=hooks.links)
    if len(strikes) != 1 or hooks != alone or getattr(strikes[0], "lasts", False):
        return None
    (hook,) = strikes
    if isinstance(hook, LinkHook):
        return _link_part(lowered, low, hook, queue_depth)
    starts = low.roles[low.role_of[hook.r, hook.c]].first_task
    if not 0 <= hook.task < starts[-1]:
        return None
    phase = int(np.searchsorted(starts, hook.task, side="right")) - 1
    moved = replace(hook, task=hook.task - int(starts[phase]))
    if isinstance(moved, ResultHook):
        return Part(phase, phase, LaunchHooks(results=(moved,)))
    if isinstance(moved, ProductHook):
        return Part(phase, phase, LaunchHooks(products=(moved,)))
    return Part(phase, phase, LaunchHooks(operands=(moved,)))


def _link_part(lowered: Lowered, low: LoweredLaunch, hook: LinkHook, queue_depth: int) -> Part | None:
    if hook.duplicate or hook.credit or hook.delay:
        # What comes after the struck word differs in number, or in the room it finds.
        return None
    core = hook.r * lowered.program.cols + hook.c
    ends = np.cumsum(counts_of(lowered, low, queue_depth).sent[:, core, hook.colour, hook.port])
    if hook.nth >= ends[-1]:
        return None
    phase = int(np.searchsorted(ends, hook.nth, side="right"))
    before = int(ends[phase - 1]) if phase else 0
    last = len(low.launch.phases) - 1 if hook.drop else phase
    return Part(phase, last, LaunchHooks(links=(replace(hook, nth=hook.nth - before),)))


def struck_rows(lowered: Lowered, low: LoweredLaunch, part: Part) -> tuple[int, int] | None:
    """First and last row that a fault in a part can touch, where the rows before and after need not run; or None.

    In a product every row works for itself: what it takes from the north is what MemoryX sends, and it hands that on as
    it comes. So a fault stays in its row, or goes south with the streamed words.
    """
    if part.first != part.last or not isinstance(low.launch.phases[part.first], Gemm):
        return None
    if part.hooks.links:
        (hook,) = part.hooks.links
        if hook.drop or hook.port == NORTH:
            return None
        return hook.r, lowered.program.rows - 1 if hook.port == SOUTH else hook.r
    struck: list[CoreHook] = [*part.hooks.results, *part.hooks.products, *part.hooks.operands]
    return struck[0].r, struck[0].r


def shifted(hooks: LaunchHooks, rows: int) -> LaunchHooks:
    """Hooks on cores so many rows farther north."""
    return LaunchHooks(
        results=tuple(replace(hook, r=hook.r - rows) for hook in hooks.results),
        products=tuple(replace(hook, r=hook.r - rows) for hook in hooks.products),
        operands=tuple(replace(hook, r=hook.r - rows) for hook in hooks.operands),
        links=tuple(replace(hook, r=hook.r - rows) for hook in hooks.links),
    )


def never_read(low: LoweredLaunch, hooks: LaunchHooks) -> tuple[int, int, str] | None:
    """Core and kind of a table word struck when no task will read it again, or in bits nothing reads; or None."""
    if len(hooks.sram) != 1 or hooks != LaunchHooks(sram=hooks.sram):
        return None
    (hook,) = hooks.sram
    role = low.roles[low.role_of[hook.r, hook.c]]
    inside = hook.address - low.table_base
    if hook.lasts or role.n_tasks == 0 or hook.address < HEADER_WORDS or not 0 <= inside < len(role.tables):
        return None
    old = int(role.tables[inside])
    changed = old ^ ((old & hook.keep) ^ hook.mask)
    if not changed:
        return None
    kind = "task" if inside < 2 * role.n_tasks else "descriptor"
    word = inside % 2 if kind == "task" else (inside - 2 * role.n_tasks) % 4
    if changed & ~_UNUSED.get((kind, word), 0) and _read_later(role, hook, inside):
        return None
    return hook.r, hook.c, kind


def _read_later(role: Role, hook: SramHook, inside: int) -> bool:
    """Whether a task from the struck phase on loads word `inside` of the tables."""
    begin = int(role.first_task[hook.phase])
    if inside < 2 * role.n_tasks:
        return inside // 2 >= begin
    number = (inside - 2 * role.n_tasks) // 4
    tasks = role.tables[2 * begin : 2 * role.n_tasks].reshape(-1, 2)
    for first, second in tasks:
        operands = 3 if int(first) & 0x3F in _BINARY else 2
        if any((int(second) >> (10 * operand)) & 0x3FF == number for operand in range(operands)):
            return True
    return False


def streams_of(part: LoweredLaunch, streams: Mapping[str, F32]) -> dict[str, F32]:
    """What MemoryX feeds a part with."""
    return {fed.stream: streams[fed.stream] for fed in inputs_of(part.launch)}


def links_from_start(
    lowered: Lowered,
    low: LoweredLaunch,
    part: Part,
    links: tuple[tuple[int, int, int, int, int, int], ...],
    queue_depth: int,
) -> tuple[tuple[int, int, int, int, int, int], ...]:
    """Rows of `LogicalScan.links` of a part with the words of the phases before it."""
    sent = counts_of(lowered, low, queue_depth).sent[: part.first].sum(axis=0)
    cols = lowered.program.cols
    rows = []
    for r, c, port, colour, out, into in links:
        # In a clean launch both ends count alike.
        before = int(sent[r * cols + c, colour, port])
        rows.append((r, c, port, colour, out + before, into + before))
    return tuple(rows)


class PartMachine(Machine):
    """A machine that keeps what its last launch logged, for launches that end in the middle of a product."""

    log: kernel.Taps

    def _tapped(self, low: LoweredLaunch, taps: kernel.Taps) -> dict[str, F32]:
        self.log = taps
        return super()._tapped(low, taps)


def logged_from_start(
    lowered: Lowered, low: LoweredLaunch, part: Part, sums: Mapping[str, F32], machine: PartMachine
) -> F32:
    """The sums that a launch logs which ends in the middle, row by row, with those of the phases before the part."""
    rows, cols = lowered.program.rows, lowered.program.cols
    before = []
    for phase in low.launch.phases[: part.first]:
        if isinstance(phase, Gemm):
            _, _, m, n = sums[phase.name].shape
            ordered = sums[phase.name].reshape(rows, cols, m, n // phase.part, phase.part).transpose(3, 1, 4, 2, 0)
            blocks = np.empty_like(ordered)
            # A core logs the blocks of the columns to the west from the nearest on, and its own last.
            blocks[:, [cols - 2 - c for c in range(cols - 1)] + [cols - 1]] = ordered
            before.append(blocks.reshape(-1, rows))
    words = machine.log.word.reshape(-1, rows, cols)[:, :, cols - 1]
    counts = np.minimum(machine.log.logged.reshape(rows, cols)[:, cols - 1], len(words))
    found = []
    for r in range(rows):
        found += [block[:, r] for block in before] + [decode_words(words[: counts[r], r], "fp32")]
    return np.concatenate(found)
