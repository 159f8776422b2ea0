"""The parts of a Program: tensors, references, vector operations, phases, launches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

__all__ = [
    "ACCUMULATIONS",
    "ALU_OPS",
    "DTYPES",
    "METHODS",
    "OVERS",
    "PHASE_KINDS",
    "REDUCING_OPS",
    "UNARY_OPS",
    "AllGather",
    "AllReduce",
    "Broadcast",
    "ChainAccumulate",
    "Compute",
    "Gemm",
    "Gemv",
    "Instr",
    "Launch",
    "Permute",
    "Phase",
    "Reduce",
    "Ref",
    "Shift",
    "StreamIn",
    "StreamOut",
    "Tensor",
    "WGrad",
    "instrs_of",
    "launches_with_index",
    "reads_of",
    "tensors_of",
    "written_by",
]

DTYPES: Final = ("fp32", "bf16", "fp16")
UNARY_OPS: Final = frozenset({"mov", "exp", "log", "recip", "rsqrt", "sqrt", "sigmoid", "gelu"})
ALU_OPS: Final = (
    "mov", "add", "sub", "mul", "max", "mac", "eq", "select", "exp", "log", "recip", "rsqrt", "sqrt", "sigmoid",
    "gelu", "gelu_grad",
)  # fmt: skip
REDUCING_OPS: Final = frozenset({"add", "max", "mac"})
OVERS: Final = ("rc", "r", "c", "")
METHODS: Final = ("chain", "tree", "two_phase")
"""How a line of cores reduces: one after the other; pairwise; in groups of about the root of its length."""
ACCUMULATIONS: Final = ("fp32", "bf16_blocked")
"""Accumulators of matrix products: fp32 throughout, or fp32 inside a block of k and bf16 from block to block."""


@dataclass(frozen=True)
class Tensor:
    """A tensor in the SRAM of the cores.

    Attributes:
        name: unique in the program.
        dtype: "fp32", "bf16" or "fp16"; one element takes one 32-bit word.
        dims: local shape of a core's block.
        over: "rc", "r", "c" or "": the axes of the rectangle over which blocks differ.
        keep: lives through all launches and from step to step (a KV cache, resident weights).
        values: constant contents, `[rows|1][cols|1][*dims]` flattened; empty for a variable.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    over: str = "rc"
    keep: bool = False
    values: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Words of one core's block."""
        size = 1
        for extent in self.dims:
            size *= extent
        return size


@dataclass(frozen=True)
class Ref:
    """An affine reference into a block: element = offset + sum of index(axis) * stride(axis)."""

    tensor: str
    axes: tuple[str, ...] = ()
    strides: tuple[int, ...] = ()
    offset: int = 0

    def stride(self, axis: str) -> int:
        """Elements to step when `axis` advances by one; 0 if the reference does not depend on it."""
        return self.strides[self.axes.index(axis)] if axis in self.axes else 0


@dataclass(frozen=True)
class Instr:
    """One vector operation over a nest of loops, the same on every core.

    Attributes:
        op: one of `ALU_OPS`. `d = a` (mov), `a + b` (add), ..., `d + a*b` (mac, multiply then add), `d = a if b != 0`
            (select), `a * gelu'(b)` (gelu_grad).
        axes: loops, outermost first, as (name, extent).
        d, a, b: destination and operands; `b` is None for unary operations.
    """

    op: str
    axes: tuple[tuple[str, int], ...]
    d: Ref
    a: Ref
    b: Ref | None = None


@dataclass(frozen=True)
class Compute:
    """Vector operations on each core's own blocks."""

    kind: ClassVar[str] = "compute"
    name: str
    instrs: tuple[Instr, ...]


@dataclass(frozen=True)
class Gemm:
    """`y[m, n] = sum over k of x[m, k] W[k, n]`, W streamed from MemoryX.

    Rows of x lie over the rows of the rectangle, k and n over its columns; `x` has dims (m, k/cols), `y` (m, n/cols).
    W enters at the north edge and is multicast down the columns; partials chain eastward; the result is scattered back.
    `part` features a column are done at a time so that the accumulators fit. `accumulate` adds to y instead of storing.
    """

    kind: ClassVar[str] = "gemm"
    name: str
    x: str
    y: str
    stream: str
    part: int
    accumulate: bool = False


@dataclass(frozen=True)
class WGrad:
    """`dW[k, n] = sum over rows and their tokens of x[m, k] dy[m, n]`, streamed out to MemoryX at the south edge."""

    kind: ClassVar[str] = "wgrad"
    name: str
    x: str
    dy: str
    stream: str
    part: int


@dataclass(frozen=True)
class Gemv:
    """`y[b, n] = sum over k of x[b, k] W[k, n]` with W resident: n over rows, k over columns; a square rectangle.

    `x` has dims (b, k/cols), the same on every row; `w` dims (k/cols, n/rows); `y` (b, n/cols), the same on every row.
    Partials chain eastward; the last column returns row r's result to column r, which multicasts it along the column.
    """

    kind: ClassVar[str] = "gemv"
    name: str
    x: str
    w: str
    y: str


@dataclass(frozen=True)
class AllReduce:
    """Add or take the maximum of `x` along rows ("row") or columns ("col"); every core gets `y`.

    `method` is one of `METHODS` and decides the order (see `Reduce`); the last core then multicasts the result back.
    """

    kind: ClassVar[str] = "all_reduce"
    name: str
    axis: str
    op: str
    x: str
    y: str
    method: str = "chain"


@dataclass(frozen=True)
class Reduce:
    """Add ("add") or take the maximum ("max") of `x` along rows or columns; the last core gets `y`, others keep theirs.

    Let q = 0, 1, ... count the cores of a line of P from its last one. Everywhere the operand from the farther core,
    which is the lower one in logical order, comes first, and every partial result is rounded to the format of `x`.

    "chain": the first core's value, then op with the next, up to the last.
    "tree": at level l = 0, 1, ... core q = 2^l, 3·2^l, 5·2^l, ... hands its result to core q - 2^l, for any P.
    "two_phase": groups of S = ceil(sqrt(P)) cores, counted from the last core on (the farthest group may be smaller);
    a chain inside each group ends at its nearest core, then a chain of these results ends at the last core.
    """

    kind: ClassVar[str] = "reduce"
    name: str
    axis: str
    op: str
    x: str
    y: str
    method: str = "chain"


@dataclass(frozen=True)
class AllGather:
    """Every core of a row ("row") or column ("col") gets the blocks of all of them, in logical order.

    `y` has the dims of `x` behind a leading one, the length of the line.
    """

    kind: ClassVar[str] = "all_gather"
    name: str
    axis: str
    x: str
    y: str


@dataclass(frozen=True)
class Broadcast:
    """The last column's `x` to every core of its row ("row"), or the last row's to every core of its column ("col")."""

    kind: ClassVar[str] = "broadcast"
    name: str
    axis: str
    x: str
    y: str


@dataclass(frozen=True)
class ChainAccumulate:
    """An accumulator that travels down the columns: each core goes on from what its northern neighbour sent.

    `start` fills `acc` on the first row; each row then applies `instrs`; the last row multicasts the result back.
    So a sum over positions that are spread over rows has the order it would have on one core.
    """

    kind: ClassVar[str] = "chain_accumulate"
    name: str
    acc: str
    start: Instr
    instrs: tuple[Instr, ...]


@dataclass(frozen=True)
class StreamIn:
    """Words from MemoryX into a tensor.

    mode "scatter_row": from the west edge, one block a core; "multicast_row": from the west edge, one block a row;
    "multicast_col": from the north edge, one block a column.
    """

    kind: ClassVar[str] = "stream_in"
    name: str
    tensor: str
    stream: str
    mode: str


@dataclass(frozen=True)
class StreamOut:
    """Words of a tensor to MemoryX.

    mode "gather_row": every core's block, at the east edge; "last_col": the last column's blocks, at the east edge;
    "last_row": the last row's blocks, at the south edge; "reduce_col": blocks added along the rows in logical order, at
    the south edge.
    """

    kind: ClassVar[str] = "stream_out"
    name: str
    tensor: str
    stream: str
    mode: str


@dataclass(frozen=True)
class Shift:
    """Each core sends `x` to its neighbour ("N", "E", "S", "W") and receives into `y`; at the edge `y` stays."""

    kind: ClassVar[str] = "shift"
    name: str
    x: str
    y: str
    direction: str


@dataclass(frozen=True)
class Permute:
    """The core at column c of every row sends `x` to the core at column `to[c]` of its row, which receives it as `y`.

    Words cross the routers of the columns between. A router has 24 colours, which bounds how many paths may meet.
    """

    kind: ClassVar[str] = "permute"
    name: str
    x: str
    y: str
    to: tuple[int, ...]


Phase = (
    Compute
    | Gemm
    | WGrad
    | Gemv
    | AllReduce
    | Reduce
    | AllGather
    | Broadcast
    | ChainAccumulate
    | StreamIn
    | StreamOut
    | Shift
    | Permute
)
PHASE_KINDS: Final[Mapping[str, type[Any]]] = {
    cls.kind: cls
    for cls in (
        Compute, Gemm, WGrad, Gemv, AllReduce, Reduce, AllGather, Broadcast, ChainAccumulate, StreamIn, StreamOut,
        Shift, Permute,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """A chain of phases that the cores run without meeting; the host waits for its end and loads the next tables."""

    name: str
    phases: tuple[Phase, ...]


def instrs_of(phase: Phase) -> tuple[Instr, ...]:
    """The vector operations written out in a phase."""
    if isinstance(phase, Compute):
        return phase.instrs
    if isinstance(phase, ChainAccumulate):
        return (phase.start, *phase.instrs)
    return ()


def reads_of(instr: Instr, name: str) -> bool:
    """Whether an instruction reads tensor `name`, as an operand or as the accumulator it adds to."""
    operands = {ref.tensor for ref in (instr.a, instr.b) if ref is not None}
    return name in operands or (instr.op == "mac" and name == instr.d.tensor)


def tensors_of(phase: Phase) -> tuple[str, ...]:
    """Names of the tensors a phase touches, without repeats."""
    names: list[str] = []
    for instr in instrs_of(phase):
        names += [ref.tensor for ref in (instr.d, instr.a, instr.b) if ref is not None]
    for attribute in ("x", "y", "dy", "w", "acc", "tensor"):
        value = getattr(phase, attribute, None)
        if isinstance(value, str):
            names.append(value)
    return tuple(dict.fromkeys(names))


def written_by(phase: Phase) -> tuple[str, ...]:
    """Names of the tensors a phase writes."""
    names = [instr.d.tensor for instr in instrs_of(phase)]
    if isinstance(phase, Gemm | Gemv | AllReduce | Reduce | AllGather | Broadcast | Shift | Permute):
        names.append(phase.y)
    elif isinstance(phase, StreamIn):
        names.append(phase.tensor)
    return tuple(dict.fromkeys(names))


def launches_with_index(launches: Sequence[Launch]) -> Iterator[tuple[int, int, Phase]]:
    """(launch, phase, phase object) in order."""
    for i, launch in enumerate(launches):
        for j, phase in enumerate(launch.phases):
            yield i, j, phase
