"""Programs drawn at random, with the arrays that feed them: every kind of phase, any shapes, layouts and values.

Blocks that differ between cores in every way a layout allows, numbers that overflow, vanish or are no numbers, and
references in any order of axes, so that whatever two interpreters could do differently has a chance to show.
"""

from __future__ import annotations

import numpy as np

from yieldkit.emulator.channels import assign_colours
from yieldkit.emulator.code import channels_of
from yieldkit.emulator.formats import round_to
from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import (
    ALU_OPS,
    DTYPES,
    METHODS,
    REDUCING_OPS,
    UNARY_OPS,
    AllGather,
    AllReduce,
    Broadcast,
    ChainAccumulate,
    Compute,
    Gemm,
    Gemv,
    Instr,
    Reduce,
    Ref,
    Shift,
    StreamIn,
    StreamOut,
    WGrad,
)

SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 1.2e-38, 3.3e38, -3e38, 65504.0, 6e-8, 1e19, -1e-20, 1.0],
    np.float32,
)
IN_MODES = {
    "rc": ("scatter_row",),
    "r": ("scatter_row", "multicast_row"),
    "c": ("scatter_row", "multicast_col"),
    "": ("scatter_row", "multicast_row", "multicast_col"),
}


def values(rng, shape, dtype, specials):
    """Numbers of many sizes, a share `specials` of them special."""
    scale = 2.0 ** rng.integers(-4, 5, size=shape)
    array = (rng.normal(size=shape) * scale).astype(np.float32)
    chosen = rng.random(shape) < specials
    array[chosen] = rng.choice(SPECIAL, size=int(chosen.sum()))
    with np.errstate(all="ignore"):
        return round_to(array, dtype)


class RandomProgram:
    """Draws phases one by one; `finish` gives the program, `streams` what feeds it."""

    KINDS = (
        "compute", "compute", "compute", "gemm", "wgrad", "gemv", "all_reduce", "chain_accumulate", "stream_out",
        "shift", "broadcast", "cut", "reduce", "all_gather",
    )  # fmt: skip

    def __init__(self, rng, rows, cols, dtype, specials=0.0):
        self.rng, self.rows, self.cols, self.dtype, self.specials = rng, rows, cols, dtype, specials
        self.b = ProgramBuilder("random", rows, cols, dtype)
        self.streams = {}
        self.number = 0
        self.written = []

    def phase(self, phase):
        """Append a phase; to a launch of its own where the present one has no colours left for it."""
        names = dict.fromkeys(c for p in [*self.b.phases, phase] for c in channels_of(self.b, p))
        try:
            assign_colours(names, self.rows, self.cols, "random")
        except BadInput:
            self._cut()
        self.b.phase(phase)

    def name(self, stem):
        self.number += 1
        return f"{stem}{self.number}"

    def some_dtype(self):
        return str(self.rng.choice([*DTYPES, self.dtype, "fp32"]))

    def extent(self, high=4):
        return int(self.rng.integers(1, high + 1))

    def declare(self, dims, dtype, over):
        return self.b.tensor(self.name("t"), dims, over, dtype=dtype, keep=bool(self.rng.random() < 0.2))

    def source(self, dims, dtype, over=None, *, constant=True):
        """A tensor filled from a stream, or a constant."""
        rng = self.rng
        over = str(rng.choice(["rc", "r", "c", ""])) if over is None else over
        shape = (self.rows if "r" in over else 1, self.cols if "c" in over else 1, *dims)
        array = values(rng, shape, dtype, self.specials)
        if constant and over != "rc" and rng.random() < 0.2:
            return self.b.tensor(self.name("k"), dims, over, dtype=dtype, values=array.reshape(-1).tolist())
        tensor = self.declare(dims, dtype, over)
        stream = self.name("in")
        self.phase(StreamIn(self.name("p"), tensor, stream, str(rng.choice(IN_MODES[over]))))
        self.streams[stream] = array
        self.written.append(tensor)
        return tensor

    def add(self, kind):
        getattr(self, "_" + kind)()

    def finish(self):
        for tensor in self.rng.permutation(self.written)[:4]:
            self.out(str(tensor))
        if not self.b.phases:
            self.out(self.source((2,), self.dtype, "rc"), "gather_row")
        self.b.launch(self.name("launch"))
        return self.b.build({"kind": "none"})

    def _cut(self):
        if self.b.phases:
            self.b.launch(self.name("launch"))

    def out(self, tensor, mode=None):
        modes = ["gather_row", "last_col", "last_row"]
        if self.b.tensors[tensor].dtype == "fp32":
            modes.append("reduce_col")
        mode = mode or str(self.rng.choice(modes))
        self.phase(StreamOut(self.name("p"), tensor, self.name("out"), mode))

    def _stream_out(self):
        if self.written:
            self.out(str(self.rng.choice(self.written)))

    def target(self, dims, dtype):
        return self.source(dims, dtype, constant=False)

    def layout(self, axes, tensor_dtype, source):
        """A reference over some of `axes`, in any order and with gaps, to a tensor made for it."""
        rng = self.rng
        order = [axes[i] for i in rng.permutation(len(axes))]
        strides, step = {}, 1
        for name, extent in order:
            strides[name] = step
            step = step * extent + int(rng.random() < 0.15)
        reach = sum(strides[n] * (e - 1) for n, e in axes)
        offset = int(rng.integers(0, 2))
        tensor = source((reach + 1 + offset,), tensor_dtype)
        for name, extent in axes:
            if extent > 1 and rng.random() < 0.15:
                offset, strides[name] = offset + strides[name] * (extent - 1), -strides[name]
        return Ref(tensor, tuple(strides), tuple(strides.values()), offset)

    def operand(self, axes, d):
        """Any operand: broadcast over some axes, Toeplitz over two, its own layout, or the destination itself."""
        rng = self.rng
        if d is not None and rng.random() < 0.2:
            return d
        used = [a for a in axes if rng.random() < 0.75]
        dtype = self.some_dtype()
        if len(used) >= 2 and rng.random() < 0.2:
            (i, n), (j, m) = used[0], used[1]
            return Ref(self.source((n + m - 1,), dtype), (i, j), (-1, 1), n - 1)
        return self.layout(used, dtype, self.source)

    def instr(self, op=None, d=None, axes=None):
        rng = self.rng
        op = op or str(rng.choice(ALU_OPS))
        if axes is None:
            axes = [(f"a{i}", self.extent(3)) for i in range(int(rng.integers(1, 6)))]
        kept = list(axes)
        if op in REDUCING_OPS and rng.random() < 0.7:
            kept = [a for a in axes if rng.random() < 0.5] or axes[:1]
        if d is None:
            d = self.layout(kept, "fp32" if op == "mac" else self.some_dtype(), self.target)
        reduces = any(e > 1 and d.stride(n) == 0 for n, e in axes)
        first = []
        if op == "mac" and rng.random() < 0.6:
            zero = Ref(self.b.tensor("zero", (1,), "", values=(0.0,)))
            size = self.b.tensors[d.tensor].size
            first = [Instr("mov", (("e", size),), Ref(d.tensor, ("e",), (1,)), zero)]
        same = None if reduces else d
        a = self.operand(axes, same)
        b = None if op in UNARY_OPS else d if reduces and op != "mac" else self.operand(axes, same)
        return [*first, Instr(op, tuple(axes), d, a, b)]

    def _compute(self):
        instrs = []
        for _ in range(int(self.rng.integers(1, 4))):
            instrs += self.instr()
        self.phase(Compute(self.name("c"), tuple(instrs)))

    def divisor(self, n):
        return int(self.rng.choice([p for p in range(1, n + 1) if n % p == 0]))

    def operand_dtype(self):
        return self.dtype if self.rng.random() < 0.8 else self.some_dtype()

    def _gemm(self):
        m, kc, nc = self.extent(5), self.extent(), self.extent(6)
        x = self.source((m, kc), self.operand_dtype(), "rc")
        accumulate = bool(self.rng.random() < 0.4)
        if accumulate:
            y = self.source((m, nc), self.some_dtype(), "rc")
        else:
            y = self.declare((m, nc), self.some_dtype(), "rc")
            self.written.append(y)
        stream = self.name("w")
        self.streams[stream] = values(self.rng, (self.cols * kc, self.cols * nc), self.dtype, self.specials)
        self.phase(Gemm(self.name("g"), x, y, stream, self.divisor(nc), accumulate))

    def _wgrad(self):
        m, kc, nc = self.extent(5), self.extent(), self.extent(6)
        x = self.source((m, kc), self.operand_dtype(), "rc")
        dy = self.source((m, nc), self.operand_dtype(), "rc")
        self.phase(WGrad(self.name("d"), x, dy, self.name("dw"), self.divisor(nc)))

    def _gemv(self):
        if self.rows != self.cols:
            return
        b, kc, nr = self.extent(3), self.extent(), self.extent()
        x = self.source((b, kc), self.operand_dtype(), "c")
        w = self.source((kc, nr), self.operand_dtype(), "rc")
        y = self.declare((b, nr), self.some_dtype(), "c")
        self.phase(Gemv(self.name("v"), x, w, y))
        self.written.append(y)

    def _all_reduce(self):
        axis, op, method = (str(self.rng.choice(among)) for among in (["row", "col"], ["add", "max"], METHODS))
        dims, dtype = (self.extent(6),), self.some_dtype()
        x = self.source(dims, dtype)
        y = x if self.rng.random() < 0.2 and x.startswith("t") else self.declare(dims, dtype, "rc")
        self.phase(AllReduce(self.name("r"), axis, op, x, y, method))
        self.written.append(y)

    def _reduce(self):
        axis, op, method = (str(self.rng.choice(among)) for among in (["row", "col"], ["add", "max"], METHODS))
        dims, dtype = (self.extent(6),), self.some_dtype()
        x = self.source(dims, dtype)
        y = x
        if self.rng.random() < 0.8 or not x.startswith("t"):
            y = self.target(dims, dtype) if self.rng.random() < 0.5 else self.declare(dims, dtype, "rc")
        self.phase(Reduce(self.name("h"), axis, op, x, y, method))
        self.written.append(y)

    def _all_gather(self):
        axis, dtype, size = str(self.rng.choice(["row", "col"])), self.some_dtype(), self.extent(4)
        x = self.source((size,), dtype)
        y = self.declare((self.cols if axis == "row" else self.rows, size), dtype, "rc")
        self.phase(AllGather(self.name("l"), axis, x, y))
        self.written.append(y)

    def _chain_accumulate(self):
        size = self.extent(6)
        acc = self.declare((size,), "fp32", str(self.rng.choice(["c", "rc"])))
        whole = Ref(acc, ("i",), (1,))
        start = Instr("mov", (("i", size),), whole, self.layout([("i", size)], self.some_dtype(), self.source))
        instrs = []
        for _ in range(int(self.rng.integers(1, 3))):
            axes = [("i", size), ("j", self.extent(3))]
            op = str(self.rng.choice(sorted(REDUCING_OPS)))
            a = self.operand(axes, None)
            instrs.append(Instr(op, tuple(axes), whole, a, self.operand(axes, None) if op == "mac" else whole))
        self.phase(ChainAccumulate(self.name("a"), acc, start, tuple(instrs)))
        self.written.append(acc)

    def _broadcast(self):
        dims, dtype = (self.extent(5),), self.some_dtype()
        x = self.source(dims, dtype)
        y = self.declare(dims, dtype, str(self.rng.choice(["rc", "r", "c"])))
        self.phase(Broadcast(self.name("b"), str(self.rng.choice(["row", "col"])), x, y))
        self.written.append(y)

    def _shift(self):
        dims, dtype = (self.extent(5),), self.some_dtype()
        x = self.source(dims, dtype)
        y = self.source(dims, dtype, "rc")
        self.phase(Shift(self.name("s"), x, y, str(self.rng.choice(list("NESW")))))


def random_program(seed, rows, cols, dtype, *, specials=0.0, phases=6, kinds=RandomProgram.KINDS):
    """A program and its input arrays by stream."""
    writer = RandomProgram(np.random.default_rng(seed), rows, cols, dtype, specials)
    for _ in range(phases):
        writer.add(str(writer.rng.choice(kinds)))
    return writer.finish(), writer.streams
