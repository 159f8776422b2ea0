"""One launch for each kind of phase and for each way it can run, on any rectangle and with any block."""

from __future__ import annotations

import numpy as np

from yieldkit.emulator.host_words import input_shape, inputs_of
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.program import (
    METHODS,
    AllGather,
    AllReduce,
    Broadcast,
    ChainAccumulate,
    Gemm,
    Gemv,
    Instr,
    Permute,
    Reduce,
    Shift,
    StreamIn,
    StreamOut,
    WGrad,
)

AXES = ("row", "col")


def _x(b, block, dtype="fp32"):
    return b.tensor("x", (block,), dtype=dtype)


def _compute(b, block):
    _x(b, block)
    b.tensor("y", (block,))
    axes = (("i", block),)
    b.compute("c", Instr("mov", axes, at("x", i=1), b.constant("one", 1.0)))
    b.compute(
        "d",
        Instr("mul", axes, at("y", i=1), at("x", i=1), at("x", i=1)),
        Instr("exp", axes, at("y", i=1), at("y", i=1)),
    )


def _gemm(tiles, accumulate=False):
    def write(b, block):
        m, kc, part = max(1, block // 4), max(1, block // 2), 2
        b.tensor("x", (m, kc), dtype=b.dtype, keep=True)
        b.tensor("y", (m, part * tiles), keep=accumulate)
        b.phase(Gemm("product", "x", "y", "w", part, accumulate))

    return write


def _wgrad(tiles):
    def write(b, block):
        m, kc, part = max(1, block // 4), max(1, block // 3), 2
        b.tensor("x", (m, kc), dtype=b.dtype, keep=True)
        b.tensor("dy", (m, part * tiles), dtype=b.dtype, keep=True)
        b.phase(WGrad("gradient", "x", "dy", "dw", part))

    return write


def _gemv(b, block):
    kc = max(1, block // 2)
    b.tensor("x", (1, kc), "c", dtype=b.dtype, keep=True)
    b.tensor("w", (kc, block), dtype=b.dtype, keep=True)
    b.tensor("y", (1, block), "c")
    b.phase(Gemv("product", "x", "w", "y"))


def _line(kind, axis, method=None):
    def write(b, block):
        b.tensor("x", (block,), keep=True)
        size = b.cols if axis == "row" else b.rows
        if kind is AllGather:
            b.tensor("y", (size, block))
            b.phase(AllGather("g", axis, "x", "y"))
        elif kind is Broadcast:
            b.tensor("y", (block,))
            b.phase(Broadcast("b", axis, "x", "y"))
        else:
            b.tensor("y", (block,))
            b.phase(kind("r", axis, "add", "x", "y", method))

    return write


def _chain_accumulate(b, block):
    b.tensor("x", (block,), keep=True)
    b.tensor("acc", (block,), "c")
    axes = (("i", block),)
    whole = at("acc", i=1)
    start = Instr("mov", axes, whole, b.constant("zero", 0.0))
    b.phase(ChainAccumulate("a", "acc", start, (Instr("add", axes, whole, at("x", i=1), whole),)))


def _stream_in(mode, over):
    def write(b, block):
        b.tensor("x", (block,), over, keep=True)
        b.phase(StreamIn("in", "x", "x", mode))

    return write


def _stream_out(mode):
    def write(b, block):
        b.tensor("x", (block,), keep=True)
        b.phase(StreamOut("out", "x", "x", mode))

    return write


def _shift(direction):
    def write(b, block):
        b.tensor("x", (block,), keep=True)
        b.tensor("y", (block,), keep=True)
        b.phase(Shift("s", "x", "y", direction))

    return write


def _permute(kind):
    def write(b, block):
        b.tensor("x", (block,), keep=True)
        b.tensor("y", (block,))
        n = b.cols
        to = {
            "turn": [(c + 1) % n for c in range(n)],
            "mirror": [n - 1 - c for c in range(n)],
            "random": np.random.default_rng(n).permutation(n).tolist(),
        }[kind]
        b.phase(Permute("p", "x", "y", tuple(int(c) for c in to)))

    return write


def _halo(b, block):
    for name in ("x", "n", "e", "s", "w"):
        b.tensor(name, (block,), keep=True)
    b.halo("h", "x", north="n", east="e", south="s", west="w")


def _barrier(b, block):
    b.barrier("b")


KINDS = {
    "compute": _compute,
    "gemm, one tile": _gemm(1),
    "gemm, four tiles": _gemm(4),
    "gemm, accumulating": _gemm(2, True),
    "weight gradient, one tile": _wgrad(1),
    "weight gradient, three tiles": _wgrad(3),
    "gemv": _gemv,
    **{f"all-reduce, {method}, {axis}": _line(AllReduce, axis, method) for method in METHODS for axis in AXES},
    **{f"reduce, {method}, {axis}": _line(Reduce, axis, method) for method in METHODS for axis in AXES},
    **{f"all-gather, {axis}": _line(AllGather, axis) for axis in AXES},
    **{f"broadcast, {axis}": _line(Broadcast, axis) for axis in AXES},
    "chain accumulate": _chain_accumulate,
    "stream in, a block a core": _stream_in("scatter_row", "rc"),
    "stream in, a block a row": _stream_in("multicast_row", "r"),
    "stream in, a block a column": _stream_in("multicast_col", "c"),
    "stream out, a block a core": _stream_out("gather_row"),
    "stream out, last column": _stream_out("last_col"),
    "stream out, last row": _stream_out("last_row"),
    "stream out, sums": _stream_out("reduce_col"),
    **{f"shift {direction}": _shift(direction) for direction in "NESW"},
    "permute, turn by one": _permute("turn"),
    "permute, mirror": _permute("mirror"),
    "permute, random": _permute("random"),
    "halo exchange": _halo,
    "barrier": _barrier,
}
"""Kinds of phase by name; each writes itself into a builder, for a block of a size."""


def program_of(kind, rows, cols, block, dtype="bf16"):
    """A program of one launch, or None where the rectangle does not allow the kind."""
    if kind == "gemv" and rows != cols:
        return None
    if kind.startswith("all-gather") and block * max(rows, cols) > 4000:
        return None
    if kind.startswith("permute") and cols > 20:
        return None
    b = ProgramBuilder(kind, rows, cols, dtype)
    KINDS[kind](b, block)
    b.launch("all")
    return b.build({"kind": "none"})


def streams_of(program):
    """Zeros for every stream of a program; no cycle depends on a value."""
    return {
        phase.stream: np.zeros(input_shape(program, phase), np.float32)
        for launch in program.launches
        for phase in inputs_of(launch)
    }
