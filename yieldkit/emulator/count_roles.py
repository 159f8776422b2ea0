"""What a role's tables say about words: elements and colours of its tasks, and the streams it sends."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.edge_runs import Run, Runs, join_runs
from yieldkit.emulator.isa import CONTROL_ADVANCE, CONTROL_EACH, CONTROL_NONE, FABRIC_IN, FABRIC_OUT
from yieldkit.emulator.kernels.counts_state import TASK
from yieldkit.emulator.kernels.machine import ADVANCE, DATA, RESET
from yieldkit.emulator.lowering import Role

__all__ = ["CountedRole", "operand_extents", "runs_of_log", "takes_of_log"]

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CountedRole:
    """A role as the count interpreter sees it.

    Attributes:
        tasks: int64[tasks, TASK].
        takes, gives: masks of the colours it fetches and sends.
        streams: runs it sends by colour.
    """

    tasks: I64
    takes: int
    gives: int
    streams: dict[int, Runs]

    @classmethod
    def of(cls, role: Role) -> CountedRole:
        """Read the tables of a role, once for as long as it lives; an unstarted one has no tasks."""
        key = id(role)
        if key not in _KEPT:
            _KEPT[key] = cls._read(role)
            weakref.finalize(role, _KEPT.pop, key, None)
        return _KEPT[key]

    @classmethod
    def _read(cls, role: Role) -> CountedRole:
        tasks, takes, gives = np.zeros((role.n_tasks, TASK), np.int64), 0, 0
        streams: dict[int, Runs] = {}
        for number in range(role.n_tasks):
            descriptors = _descriptors(role, number)
            elements = min(_elements(d) for d in descriptors)
            row = [elements, -1, 1, -1, 1, -1, 0, 0]
            for operand, d in enumerate(descriptors):
                kind, colour = (d[0] >> 14) & 3, (d[0] >> 18) & 31
                if operand and kind == FABRIC_IN:
                    takes |= 1 << colour
                    row[2 * operand - 1] = colour
                    row[2 * operand] = (d[1] & 0xFFFF) if (d[0] >> 23) & 1 else 1
                elif not operand and kind == FABRIC_OUT:
                    gives |= 1 << colour
                    row[5] = colour
                    row[6], last = _controls(d, elements)
                    row[7] = int(last != DATA)
                    for run in _runs(elements, row[6], last):
                        join_runs(streams.setdefault(colour, []), run)
            tasks[number] = row
        return cls(tasks, takes, gives, streams)


_KEPT: dict[int, CountedRole] = {}


def _descriptors(role: Role, number: int) -> list[list[int]]:
    word, operands = (int(w) for w in role.tables[2 * number : 2 * number + 2])
    opcode = word & 0x3F
    table = role.tables[2 * role.n_tasks :].reshape(-1, 4)
    count = 3 if 2 <= opcode <= 8 or opcode == 16 else 2
    return [[int(w) for w in table[operands >> (10 * k) & 0x3FF]] for k in range(count)]


def operand_extents(role: Role, number: int) -> list[tuple[int, int, int]]:
    """Extents, innermost first, of the operands D, A and B (where there is one) of a task."""
    return [(d[1] & 0xFFFF, d[2] & 0xFFFF, d[3] & 0xFFFF) for d in _descriptors(role, number)]


def _elements(d: list[int]) -> int:
    return (d[1] & 0xFFFF) * (d[2] & 0xFFFF) * (d[3] & 0xFFFF)


def _controls(d: list[int], elements: int) -> tuple[int, int]:
    """Elements of a plane that an ADVANCE follows (0: none), and the control word after the last element."""
    mode, plane = (d[0] >> 24) & 3, (d[1] & 0xFFFF) * (d[2] & 0xFFFF)
    if mode == CONTROL_NONE:
        return 0, DATA
    if elements == _elements(d):
        return (plane if mode == CONTROL_EACH else 0), (ADVANCE if mode == CONTROL_ADVANCE else RESET)
    if mode == CONTROL_EACH:
        return plane, (ADVANCE if elements % plane == 0 else DATA)
    return 0, DATA


def _runs(elements: int, plane: int, last: int) -> list[Run]:
    full = (elements - 1) // plane if plane and elements else 0
    return [(plane, ADVANCE, full), (elements - full * plane, last, 1)] if elements else []


def runs_of_log(log: npt.NDArray[np.uint8]) -> dict[int, Runs]:
    """Runs by colour that a core sends whose actions were logged one by one."""
    streams: dict[int, Runs] = {}
    sends = log[log >= 32]
    for colour in dict.fromkeys((sends & 31).tolist()):
        kinds = sends[(sends & 31) == colour] >> 5
        ends = np.flatnonzero(kinds != 1)
        words = np.diff(ends, prepend=-1) - 1
        # One run for every stretch of blocks that are alike.
        first = np.flatnonzero(np.diff(words, prepend=-1) | np.diff(kinds[ends].astype(np.int64), prepend=-1))
        times = np.diff(first, append=len(ends))
        streams[colour] = [
            (int(words[at]), ADVANCE if kinds[ends[at]] == 2 else RESET, int(many))
            for at, many in zip(first, times, strict=True)
        ]
        left = len(kinds) - (int(ends[-1]) + 1 if len(ends) else 0)
        join_runs(streams[colour], (left, DATA, 1))
    return streams


def takes_of_log(log: npt.NDArray[np.uint8]) -> int:
    """Mask of the colours that a logged core fetches."""
    mask = 0
    for colour in np.unique(log[log < 32]).tolist():
        mask |= 1 << colour
    return mask
