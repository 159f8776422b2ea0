"""Programs whose cycles are published: a star stencil on a tile, and a multicast along a line; and their cycles.

The stencil exchanges its halo first: for each of the four directions copy the edge out, send it, receive the
neighbour's and copy it in, in pieces that the queues between two cores can hold. Then the sum: radius 1 is the mean of
four neighbours (three additions and a product), a larger radius a weighted sum of 4 r + 1 points.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.cost import CLASSES, FRACTION, Timing, cost_class
from yieldkit.emulator.isa import OPCODES
from yieldkit.emulator.lowering import Role, lower
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.program import Broadcast, Instr, Program, Ref, Shift

__all__ = [
    "multicast_cycles",
    "multicast_program",
    "stencil_cycles",
    "stencil_operations",
    "stencil_program",
    "stencil_waits",
]

PIECE: Final = 12
"""Words of a halo piece: three queues of depth 4 lie between two cores, so all cores can send before any receives."""


def stencil_program(
    width: int, height: int, radius: int, *, iterations: int = 1, rows: int = 3, cols: int = 3
) -> Program:
    """A star stencil as a program: halo exchange in pieces, then the sum over the points of the star.

    Args:
        width: points of a core's tile along a row.
        height: points of a core's tile along a column.
        radius: reach of the star; at most the tile's sides.
        iterations: how often; every second one goes back from the result to the source.
        rows: of the rectangle of cores.
        cols: of the rectangle of cores.
    """
    b = ProgramBuilder("stencil", rows, cols, "fp32")
    pitch = width + 2 * radius
    padded = (height + 2 * radius, pitch)
    states = [b.tensor("u", padded), b.tensor("v", padded) if iterations > 1 else b.tensor("v", (height, width))]
    b.compute("zero", Instr("mov", (("i", padded[0] * pitch),), at("u", i=1), b.constant("k.zero", 0.0)))
    if iterations > 1:
        b.compute("zero.v", Instr("mov", (("i", padded[0] * pitch),), at("v", i=1), b.constant("k.zero", 0.0)))
    for turn in range(iterations):
        source, target = states[turn % 2], states[1 - turn % 2]
        _halo(b, f"{turn}", source, width, height, radius)
        inside = (radius * pitch + radius, pitch) if iterations > 1 else (0, width)
        _star(b, f"{turn}.star", source, at(target, inside[0], y=inside[1], x=1), width, height, radius)
    b.launch("stencil")
    return b.build({"kind": "none"})


def _halo(b: ProgramBuilder, name: str, u: str, width: int, height: int, radius: int) -> None:
    pitch = width + 2 * radius
    for number, (direction, n, m, here, there) in enumerate(_pieces(width, height, radius)):
        sent, got = b.tensor(f"sent{n * m}", (n * m,)), b.tensor(f"got{n * m}", (n * m,))
        axes = (("y", n), ("x", m))
        step = f"{name}.{direction}{number}"
        b.compute(f"{step}.out", Instr("mov", axes, at(sent, y=m, x=1), at(u, here, y=pitch, x=1)))
        b.phase(Shift(step, sent, got, direction))
        b.compute(f"{step}.in", Instr("mov", axes, at(u, there, y=pitch, x=1), at(got, y=m, x=1)))


def _pieces(width: int, height: int, radius: int) -> Iterator[tuple[str, int, int, int, int]]:
    """Pieces of the halo: direction, rows, columns, where in the padded tile they lie before and after the exchange."""
    pitch, r = width + 2 * radius, radius
    # Direction, first corner sent and first corner received (row, column of the padded tile), size of the strip.
    strips = (
        ("N", (r, r), (r + height, r), (r, width)),
        ("S", (height, r), (0, r), (r, width)),
        ("W", (r, r), (r, r + width), (height, r)),
        ("E", (r, width), (r, 0), (height, r)),
    )
    for direction, out, into, (high, wide) in strips:
        across = min(wide, PIECE)
        down = min(high, PIECE // across)
        for i in range(0, high, down):
            for j in range(0, wide, across):
                here, there = ((corner[0] + i) * pitch + corner[1] + j for corner in (out, into))
                yield direction, min(down, high - i), min(across, wide - j), here, there


def _star(b: ProgramBuilder, name: str, u: str, out: Ref, width: int, height: int, radius: int) -> None:
    pitch = width + 2 * radius
    axes = (("y", height), ("x", width))

    def point(down: int, right: int) -> Ref:
        return at(u, (radius + down) * pitch + radius + right, y=pitch, x=1)

    if radius == 1:
        b.compute(
            name,
            Instr("add", axes, out, point(-1, 0), point(1, 0)),
            Instr("add", axes, out, out, point(0, -1)),
            Instr("add", axes, out, out, point(0, 1)),
            Instr("mul", axes, out, out, b.constant("k.quarter", 0.25)),
        )
        return
    weights = [b.constant(f"k.weight{d}", 0.5 / (1 + 4 * d)) for d in range(radius + 1)]
    instrs = [Instr("mul", axes, out, point(0, 0), weights[0])]
    for d in range(1, radius + 1):
        for down, right in ((-d, 0), (d, 0), (0, -d), (0, d)):
            instrs.append(Instr("mac", axes, out, point(down, right), weights[d]))
    b.compute(name, *instrs)


def multicast_program(words: int, cores: int) -> Program:
    """A line of cores to which the last one sends `words` words."""
    b = ProgramBuilder("multicast", 1, cores, "fp32")
    x, y = b.tensor("x", (words,), keep=True), b.tensor("y", (words,))
    b.phase(Broadcast("multicast", "row", x, y))
    b.launch("multicast")
    return b.build({"kind": "none"})


def multicast_cycles(words: int, cores: int, timing: Timing) -> float:
    """Cycles until the last of a line of cores has the last word; the closed form of the wavelet executor."""
    out, into = (OPCODES["mov"], 2), (OPCODES["mov"], 1)
    send = timing.element_array[(*out, 1)] / FRACTION
    receive = timing.element_array[(*into, 1)] / FRACTION
    hops = timing.pitch_cycles * (cores - 1)
    start = timing.launch_cycles + timing.start_array[out] / FRACTION
    return float(start + (words - 1) * send + 1 + 2 * timing.ramp_cycles + hops + receive)


def stencil_cycles(width: int, height: int, radius: int, timing: Timing) -> float:
    """Cycles an iteration takes on a core inside the rectangle: its tasks, and the waits for the neighbours' words."""
    counts = stencil_operations(width, height, radius)
    work = float((timing.start_array * counts[0] + timing.element_array[:, :, 1] * counts[1]).sum() / FRACTION)
    move = timing.element_array[OPCODES["mov"], :, 1] / FRACTION
    return work + stencil_waits(width, height, radius, timing.ramp_cycles, float(move[2]), float(move[1]))


def stencil_waits(width: int, height: int, radius: int, ramp_cycles: int, send: float, receive: float) -> float:
    """Cycles of an iteration in which a core waits for words of its neighbours, all of them sending at the same time.

    A piece of k words is sent in k `send` cycles; the neighbour's first word comes `2 T_R + 2` after it was sent, and
    the last one k - 1 words later.
    """
    latency = 2 * ramp_cycles + 2
    pieces = [n * m for _, n, m, _, _ in _pieces(width, height, radius)]
    return float(sum(max(0.0, latency - send - (k - 1) * receive) for k in pieces))


@cache
def stencil_operations(width: int, height: int, radius: int) -> npt.NDArray[np.int64]:
    """int64[2, opcodes, classes]: tasks and elements of an iteration on a core inside the rectangle."""
    low = lower(stencil_program(width, height, radius)).launches[0]
    role = low.roles[low.role_of[1, 1]]
    return _operations(role, int(role.first_task[1]))


def _operations(role: Role, first: int) -> npt.NDArray[np.int64]:
    """int64[2, opcodes, classes]: tasks from number `first` on, and their elements."""
    found = np.zeros((2, 1 + len(OPCODES), len(CLASSES)), np.int64)
    tasks = role.tables[: 2 * role.n_tasks].reshape(-1, 2)[first:]
    descriptors = role.tables[2 * role.n_tasks :].reshape(-1, 4)
    kinds = ((descriptors[:, 0] >> 14) & 3).astype(np.int64)
    extents = (descriptors[:, 1:] & 0xFFFF).astype(np.int64).prod(axis=1)
    for word, operands in tasks.tolist():
        opcode, d, a, b = word & 0x3F, operands & 0x3FF, operands >> 10 & 0x3FF, operands >> 20 & 0x3FF
        two = 2 <= opcode <= 8 or opcode == 16
        column = cost_class(int(kinds[d]), int(kinds[a]), int(kinds[b]) if two else 0)
        found[0, opcode, column] += 1
        found[1, opcode, column] += extents[d]
    return found
