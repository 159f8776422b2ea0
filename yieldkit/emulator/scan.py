"""Reading the cores after a launch: wait states, counters, hashes and queues, still in logical coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.isa import HEADER_WORDS
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.lowering import LoweredLaunch
from yieldkit.files import fingerprint
from yieldkit.quantities import OPPOSITE

__all__ = ["DETECTED", "LogicalScan", "in_order", "scan_machine"]

WAITS: Final = {kernel.STARVED: "INPUT_STARVATION", kernel.BLOCKED: "WAITING_FOR_BUFFER"}
EVENTS: Final = (
    *("illegal_operation", "address", "sequence", "parity", "crc", "crc_failed"),
    *("sram_parity", "ecc_corrected", "ecc_uncorrectable"),
)
DETECTED: Final = frozenset(("sequence", "parity", "crc_failed", "sram_parity", "ecc_uncorrectable"))
"""Events of checks that saw a wrong word or a gap and could not repair it."""
PORTS: Final = ("N", "E", "S", "W", "ramp", "core")


@dataclass(frozen=True)
class LogicalScan:
    """What the scan shows, by logical core (r, c).

    Attributes:
        launch: name of the launch.
        waiting: (r, c, state, task, colour).
        links: (r, c, port, colour, sent, received) where the two ends differ.
        config: (r, c, kind) where control words differ from what was loaded.
        events: (r, c, kind, count).
        leftover: (r, c, port, colour, words) still in queues.
        undrained: MemoryX could not push all its words.
        state_hash: fingerprint of the whole quiescent state: SRAM, routes, switches, queues, registers, counters.
    """

    launch: str
    waiting: tuple[tuple[int, int, str, int, int], ...]
    links: tuple[tuple[int, int, int, int, int, int], ...]
    config: tuple[tuple[int, int, str], ...]
    events: tuple[tuple[int, int, str, int], ...]
    leftover: tuple[tuple[int, int, str, int, int], ...]
    undrained: bool
    state_hash: str


def scan_machine(
    state: kernel.State,
    neighbour: npt.NDArray[np.int64],
    low: LoweredLaunch,
    *,
    undrained: bool,
    wrong: Mapping[tuple[int, int], int] | None = None,
    hashed: bool = True,
) -> LogicalScan:
    """Read the cores as a technician's scan does; `wrong`: bits of struck words of protected SRAM, by (core, address),
    which a scan, reading through the code, sees in the hash only. `hashed` False leaves the hash empty.
    """
    cols = low.role_of.shape[1]

    def place(core: int | np.integer[Any]) -> tuple[int, int]:
        return int(core) // cols, int(core) % cols

    waiting = []
    for core in np.flatnonzero((state.status != kernel.DONE) & (state.status != kernel.UNUSED)):
        if state.status[core] == kernel.HALTED:
            what, colour = "HALTED", -1
        elif state.status[core] == kernel.RUNAWAY:
            what, colour = "STALLED", -1
        else:
            what, colour = WAITS.get(int(state.wait[core]), "STALLED"), int(state.wait_colour[core])
        waiting.append((*place(core), what, int(state.task[core]), colour))
    links = []
    for port in range(4):
        other = neighbour[:, port]
        there = np.flatnonzero(other >= 0)
        sent = state.sent[there, :, port]
        received = state.received[other[there], :, OPPOSITE[port]]
        for at, colour in np.argwhere(sent != received):
            row = (port, int(colour), int(sent[at, colour]), int(received[at, colour]))
            links.append((*place(there[at]), *row))
    events = [
        (*place(core), EVENTS[kind], int(state.events[core, kind])) for core, kind in np.argwhere(state.events > 0)
    ]
    leftover = [
        (*place(core), PORTS[port], int(colour), int(state.length[core, colour, port]))
        for core, colour, port in np.argwhere(state.length > 0)
    ]
    return LogicalScan(
        low.name,
        tuple(waiting),
        tuple(sorted(links)),
        config_differs(state, low),
        tuple(events),
        tuple(leftover),
        undrained,
        quiescent_hash(state, wrong) if hashed else "",
    )


def in_order(events: Iterable[tuple[int, int, str, int]]) -> tuple[tuple[int, int, str, int], ...]:
    """Events (r, c, kind, count) as a scan lists them."""
    return tuple(sorted(events, key=lambda event: (event[0], event[1], EVENTS.index(event[2]))))


def config_differs(state: kernel.State, low: LoweredLaunch) -> tuple[tuple[int, int, str], ...]:
    rows, cols = low.role_of.shape
    found = []
    for core in range(rows * cols):
        role = low.roles[low.role_of[divmod(core, cols)]]
        tables = state.sram[core, low.table_base : low.table_base + len(role.tables)]
        split = 2 * role.n_tasks
        differs = {
            "header": (state.sram[core, :HEADER_WORDS] != role.header).any(),
            "task": (tables[:split] != role.tables[:split]).any(),
            "descriptor": (tables[split:] != role.tables[split:]).any(),
            "route": (state.route[core] != role.routes).any(),
            "register": _register_differs(state, core, tables, split, role.n_tasks),
        }
        found += [(*divmod(core, cols), kind) for kind, wrong in differs.items() if wrong]
    return tuple(found)


def _register_differs(state: kernel.State, core: int, tables: npt.NDArray[np.uint32], split: int, n_tasks: int) -> bool:
    """Whether the running task's registers differ from the tables they were copied from."""
    if state.status[core] not in (kernel.RUNNING, kernel.HALTED) or not 0 <= state.task[core] < n_tasks:
        return False
    task = int(state.task[core])
    words = tables[2 * task : 2 * task + 2]
    if not state.task_register[core].any():
        return False
    if (state.task_register[core] != words).any():
        return True
    opcode = int(words[0]) & 0x3F
    for operand in range(3 if 2 <= opcode <= 8 or opcode == 16 else 2):
        number = (int(words[1]) >> (10 * operand)) & 0x3FF
        source = tables[split + 4 * number : split + 4 * number + 4]
        if len(source) == 4 and (state.register[core, operand] != source).any():
            return True
    return False


def quiescent_hash(state: kernel.State, wrong: Mapping[tuple[int, int], int] | None = None) -> str:
    """Fingerprint of everything in the cores once nothing moves; queues in logical order, not by buffer place."""
    depth = state.queue.shape[3]
    place = (state.head[..., None] + np.arange(depth)) % depth
    held = np.arange(depth) < state.length[..., None]
    words = np.where(held, np.take_along_axis(state.queue, place, axis=3), 0)
    kinds = np.where(held, np.take_along_axis(state.kind, place, axis=3), 0)
    running = np.isin(state.status, (kernel.RUNNING, kernel.HALTED, kernel.RUNAWAY))
    parts = (
        state.sram,
        state.route,
        state.position,
        words.astype(np.uint32),
        kinds.astype(np.uint8),
        state.length,
        state.status,
        state.task,
        state.executed,
        state.element,
        state.elements,
        state.sent,
        state.received,
        state.sunk,
        state.events,
        state.numbered,
        *tuple(
            np.where(running.reshape(-1, *((1,) * (part.ndim - 1))), part, 0)
            for part in (state.register, state.task_register, state.loop_index, state.stage, state.control)
        ),
    )
    # Of no bytes where no word is wrong.
    cells = np.array([(*key, bits) for key, bits in sorted((wrong or {}).items())], np.int64)
    return fingerprint(b"".join(np.ascontiguousarray(part).tobytes() for part in (*parts, cells)))
