"""A Program: what a rectangle of logical cores computes, as data.

A program is a list of launches; a launch is a list of phases; a phase works on tensors that are cut into blocks, one a
core. It holds no callables, saves to JSON and loads back, and declares its numerics (operand format, order of every
sum), so that the values it gives depend on nothing but itself, the rectangle and its tile map.

Blocks. The rectangle has `rows x cols` cores. A tensor has the same local shape `dims` on every core and says over
which axes of the rectangle its blocks differ::

    over = "rc"   a block of its own on every core
    over = "r"    one block a row, every core of the row holds a copy
    over = "c"    one block a column, every core of the column holds a copy
    over = ""     the same block everywhere

Order of sums. A reduced axis is always walked upwards. Across cores, partial sums are added in the order of logical
columns (rows), starting with the first core's partial; inside a core an fp32 accumulator starts at +0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from yieldkit.errors import BadFile, BadInput
from yieldkit.files import canonical_json, fingerprint, read_bytes, write_text

__all__ = [
    "ALU_OPS",
    "DTYPES",
    "PHASE_KINDS",
    "PROGRAM_VERSION",
    "REDUCING_OPS",
    "UNARY_OPS",
    "AllReduce",
    "ChainAccumulate",
    "Compute",
    "Gemm",
    "Gemv",
    "Instr",
    "Launch",
    "Phase",
    "Program",
    "Ref",
    "Shift",
    "StreamIn",
    "StreamOut",
    "Tensor",
    "WGrad",
]

PROGRAM_VERSION: Final = 1
DTYPES: Final = ("fp32", "bf16", "fp16")
UNARY_OPS: Final = frozenset({"mov", "exp", "log", "recip", "rsqrt", "sqrt", "sigmoid", "gelu"})
ALU_OPS: Final = (
    "mov", "add", "sub", "mul", "max", "mac", "eq", "select", "exp", "log", "recip", "rsqrt", "sqrt", "sigmoid",
    "gelu", "gelu_grad",
)  # fmt: skip
REDUCING_OPS: Final = frozenset({"add", "max", "mac"})
OVERS: Final = ("rc", "r", "c", "")


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
    """Add or take the maximum of `x` along rows ("row") or columns ("col") in logical order; every core gets `y`."""

    kind: ClassVar[str] = "all_reduce"
    name: str
    axis: str
    op: str
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


Phase = Compute | Gemm | WGrad | Gemv | AllReduce | ChainAccumulate | StreamIn | StreamOut | Shift
PHASE_KINDS: Final[Mapping[str, type[Any]]] = {
    cls.kind: cls for cls in (Compute, Gemm, WGrad, Gemv, AllReduce, ChainAccumulate, StreamIn, StreamOut, Shift)
}


@dataclass(frozen=True)
class Launch:
    """A chain of phases that the cores run without meeting; the host waits for its end and loads the next tables."""

    name: str
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class Program:
    """Launches over a rectangle, with the tensors they use and what MemoryX does with the streams.

    Attributes:
        name: for people.
        rows, cols: the rectangle of logical cores.
        dtype: operand format of matrix products ("bf16", "fp16", or "fp32" for gradient checks).
        tensors: all tensors.
        launches: in order; one pass over them is one step.
        job: what the host does around a step (kind "training", "decode", "forward" or "none", and its parameters).
    """

    name: str
    rows: int
    cols: int
    dtype: str
    tensors: tuple[Tensor, ...]
    launches: tuple[Launch, ...]
    job: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def table(self) -> dict[str, Tensor]:
        """Tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """All phases in order."""
        return tuple(phase for launch in self.launches for phase in launch.phases)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint over everything in the program."""
        return fingerprint(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, readable by `from_dict`."""
        return {
            "version": PROGRAM_VERSION,
            "name": self.name,
            "rows": self.rows,
            "cols": self.cols,
            "dtype": self.dtype,
            "tensors": [{**asdict(t), "values": [_number(v) for v in t.values]} for t in self.tensors],
            "launches": [
                {"name": launch.name, "phases": [{"kind": p.kind, **asdict(p)} for p in launch.phases]}
                for launch in self.launches
            ],
            "job": dict(self.job),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a program.

        Raises:
            BadInput: unknown version, kind or field, or a program that does not hold together.
        """
        if data.get("version") != PROGRAM_VERSION:
            raise BadInput(f"program version must be {PROGRAM_VERSION}", value=data.get("version"))
        try:
            tensors = tuple(
                Tensor(
                    _is(str, t["name"]), _is(str, t["dtype"]), _ints(t["dims"]), _is(str, t["over"]),
                    _is(bool, t["keep"]), tuple(float(v) for v in t["values"]),
                )
                for t in data["tensors"]
            )  # fmt: skip
            launches = tuple(
                Launch(_is(str, launch["name"]), tuple(_phase(p) for p in launch["phases"]))
                for launch in data["launches"]
            )
            return cls(
                _is(str, data["name"]), _is(int, data["rows"]), _is(int, data["cols"]), _is(str, data["dtype"]),
                tensors, launches, dict(data["job"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise BadInput(f"program cannot be read: {type(error).__name__}: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write the program as JSON, whole or not at all."""
        return write_text(path, canonical_json(self.to_dict()) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BadFile: not JSON, or not a program.
        """
        try:
            data = json.loads(read_bytes(path))
        except (ValueError, RecursionError) as error:
            raise BadFile(path, f"is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise BadFile(path, "does not hold a program", value=type(data).__name__)
        try:
            return cls.from_dict(data)
        except BadInput as error:
            raise BadFile(path, str(error)) from error

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{launch.name}</td><td>{len(launch.phases)}</td>"
            f"<td>{', '.join(dict.fromkeys(p.kind for p in launch.phases))}</td></tr>"
            for launch in self.launches
        )
        return (
            f"<b>{self.name}</b>: {self.rows} x {self.cols} cores, {self.dtype} operands, {self.fingerprint}"
            f"<table><tr><th>launch</th><th>phases</th><th>kinds</th></tr>{rows}</table>"
        )


def _number(value: float) -> float | str:
    return value if value - value == 0 else str(value)


def _is(kind: type[Any], value: Any) -> Any:
    """The value, which must be of exactly this type: 1.0 is no extent and True no number."""
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(_is(int, value) for value in values)


def _ref(data: Mapping[str, Any] | None) -> Ref | None:
    if data is None:
        return None
    axes = tuple(_is(str, axis) for axis in data["axes"])
    return Ref(_is(str, data["tensor"]), axes, _ints(data["strides"]), _is(int, data["offset"]))


def _instr(data: Mapping[str, Any]) -> Instr:
    d, a = _ref(data["d"]), _ref(data["a"])
    if d is None or a is None:
        raise ValueError("an instruction needs d and a")
    axes = tuple((_is(str, name), _is(int, extent)) for name, extent in data["axes"])
    return Instr(_is(str, data["op"]), axes, d, a, _ref(data["b"]))


def _phase(data: Mapping[str, Any]) -> Phase:
    cls = PHASE_KINDS.get(data["kind"])
    if cls is None:
        raise ValueError(f"unknown phase kind {data['kind']!r}")
    values = {name: value for name, value in data.items() if name != "kind"}
    if set(values) != {f.name for f in fields(cls)}:
        raise ValueError(f"phase {data.get('name')!r} has other fields than {cls.kind} needs")
    plain = {"str": str, "int": int, "bool": bool}
    for f in fields(cls):
        if f.type in plain:
            _is(plain[str(f.type)], values[f.name])
    if "instrs" in values:
        values["instrs"] = tuple(_instr(item) for item in values["instrs"])
    if "start" in values:
        values["start"] = _instr(values["start"])
    phase: Phase = cls(**values)
    return phase


def _check(program: Program) -> None:
    """The one gate: names exist, shapes agree, references stay inside their blocks."""
    if program.rows < 1 or program.cols < 1:
        raise BadInput("a program needs at least one row and one column", value=(program.rows, program.cols))
    if program.dtype not in DTYPES:
        raise BadInput(f"dtype must be one of {DTYPES}", value=program.dtype)
    table = program.table
    if len(table) != len(program.tensors):
        raise BadInput("tensor names must be unique")
    for tensor in program.tensors:
        _check_tensor(program, tensor)
    names = [launch.name for launch in program.launches]
    if len(set(names)) != len(names):
        raise BadInput("launch names must be unique", value=names)
    if not program.launches:
        raise BadInput("a program needs at least one launch")
    outputs: set[str] = set()
    for launch in program.launches:
        if not launch.phases:
            raise BadInput(f"launch {launch.name!r} has no phases")
        for phase in launch.phases:
            for name in tensors_of(phase):
                if name not in table:
                    raise BadInput(f"phase {phase.name!r} names an unknown tensor", value=name)
            for name in written_by(phase):
                if table[name].values:
                    raise BadInput(f"phase {phase.name!r}: a constant cannot be written", value=name)
            if isinstance(phase, WGrad | StreamOut):
                if phase.stream in outputs:
                    raise BadInput(f"phase {phase.name!r}: another phase fills the same stream", value=phase.stream)
                outputs.add(phase.stream)
            for instr in instrs_of(phase):
                _check_instr(phase.name, instr, table)
            _check_shapes(program, phase)


def _check_tensor(program: Program, tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES or tensor.over not in OVERS:
        raise BadInput(f"tensor {tensor.name!r}: dtype or over unknown", value=(tensor.dtype, tensor.over))
    if any(extent < 1 for extent in tensor.dims):
        raise BadInput(f"tensor {tensor.name!r}: dims must be positive", value=tensor.dims)
    if tensor.values:
        blocks = (program.rows if "r" in tensor.over else 1) * (program.cols if "c" in tensor.over else 1)
        if len(tensor.values) != blocks * tensor.size:
            raise BadInput(f"tensor {tensor.name!r}: needs {blocks * tensor.size} values", value=len(tensor.values))


def _check_instr(phase: str, instr: Instr, table: Mapping[str, Tensor]) -> None:
    if instr.op not in ALU_OPS:
        raise BadInput(f"phase {phase!r}: unknown operation", value=instr.op)
    if (instr.b is None) != (instr.op in UNARY_OPS):
        raise BadInput(f"phase {phase!r}: {instr.op} takes {1 if instr.op in UNARY_OPS else 2} operands")
    extents = dict(instr.axes)
    if len(extents) != len(instr.axes) or any(e < 1 for e in extents.values()):
        raise BadInput(f"phase {phase!r}: axes must be distinct with positive extents", value=instr.axes)
    for ref in (instr.d, instr.a, instr.b):
        if ref is None:
            continue
        if len(ref.axes) != len(ref.strides) or not set(ref.axes) <= set(extents):
            raise BadInput(f"phase {phase!r}: reference to {ref.tensor!r} has unknown axes", value=ref.axes)
        low = high = ref.offset
        for axis, stride in zip(ref.axes, ref.strides, strict=True):
            reach = stride * (extents[axis] - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        if low < 0 or high >= table[ref.tensor].size:
            raise BadInput(f"phase {phase!r}: reference leaves {ref.tensor!r}", value=(low, high))
    if instr.op == "mac" and table[instr.d.tensor].dtype != "fp32":
        raise BadInput(f"phase {phase!r}: a mac needs an fp32 accumulator", value=instr.d.tensor)
    reduced = [axis for axis, extent in instr.axes if extent > 1 and instr.d.stride(axis) == 0]
    target = _elements(instr.d, extents)
    if len(set(target)) != len(target):
        raise BadInput(f"phase {phase!r}: two steps of {instr.op} write the same element", value=instr.d)
    for ref in (instr.a, instr.b):
        if ref is not None and ref.tensor == instr.d.tensor and ref != instr.d:
            if not set(target).isdisjoint(_elements(ref, extents)):
                raise BadInput(f"phase {phase!r}: {instr.op} reads what it is writing, in another order", value=ref)
        elif ref == instr.d and reduced and (instr.op == "mac" or ref is instr.a):
            raise BadInput(f"phase {phase!r}: {instr.op} reads the sum it is adding to", value=ref)
    if reduced and not (instr.op == "mac" or (instr.op in REDUCING_OPS and instr.b == instr.d)):
        raise BadInput(f"phase {phase!r}: {instr.op} cannot reduce over {reduced}", cure="use b = d, or mac")


def _elements(ref: Ref, extents: Mapping[str, int]) -> list[int]:
    """Elements that a reference walks over, with repeats where two steps meet; axes without a stride count once."""
    elements = [ref.offset]
    for axis, stride in zip(ref.axes, ref.strides, strict=True):
        if stride:
            elements = [element + i * stride for element in elements for i in range(extents[axis])]
    return elements


def covers(instr: Instr, tensor: Tensor) -> bool:
    """Whether an instruction writes every element of its destination."""
    extents = dict(instr.axes)
    written = 1
    for axis, stride in zip(instr.d.axes, instr.d.strides, strict=True):
        written *= extents[axis] if stride else 1
    return instr.op != "select" and written == tensor.size


def _check_shapes(program: Program, phase: Phase) -> None:
    table = program.table
    problem = ""
    if isinstance(phase, Gemm | WGrad):
        x, y = table[phase.x], table[phase.y if isinstance(phase, Gemm) else phase.dy]
        if len(x.dims) != 2 or len(y.dims) != 2 or x.dims[0] != y.dims[0] or x.over != "rc" or y.over != "rc":
            problem = "x and y need dims (m, k) and (m, n) over 'rc'"
        elif phase.part < 1 or y.dims[1] % phase.part:
            problem = f"part must divide {y.dims[1]}"
        elif isinstance(phase, Gemm) and x == y:
            problem = "x and y must be distinct"
    elif isinstance(phase, Gemv):
        x, w, y = table[phase.x], table[phase.w], table[phase.y]
        if program.rows != program.cols:
            problem = "resident weights need a square rectangle"
        elif (len(x.dims), len(w.dims), len(y.dims)) != (2, 2, 2) or (x.over, w.over, y.over) != ("c", "rc", "c"):
            problem = "x and y need dims (b, k), (b, n) over 'c', w (k, n) over 'rc'"
        elif x.dims[1] != w.dims[0] or y.dims[1] != w.dims[1] or x.dims[0] != y.dims[0]:
            problem = "shapes of x, w and y do not agree"
    elif isinstance(phase, AllReduce):
        x, y = table[phase.x], table[phase.y]
        if phase.axis not in ("row", "col") or phase.op not in ("add", "max"):
            problem = "axis must be row or col, op add or max"
        elif x.dims != y.dims or x.dtype != "fp32" or y.dtype != "fp32":
            problem = "x and y need equal dims and fp32"
    elif isinstance(phase, ChainAccumulate):
        if table[phase.acc].dtype != "fp32" or any(i.d.tensor != phase.acc for i in (phase.start, *phase.instrs)):
            problem = "every instruction must write the fp32 accumulator"
        elif not covers(phase.start, table[phase.acc]) or reads_of(phase.start, phase.acc):
            problem = "start must write the whole accumulator and not read it"
    elif isinstance(phase, StreamIn):
        over = table[phase.tensor].over
        if phase.mode not in ("scatter_row", "multicast_row", "multicast_col"):
            problem = "unknown mode"
        elif (phase.mode == "multicast_row" and "c" in over) or (phase.mode == "multicast_col" and "r" in over):
            problem = f"a multicast cannot fill blocks that differ over {over!r}"
    elif isinstance(phase, StreamOut):
        if phase.mode not in ("gather_row", "last_col", "last_row", "reduce_col"):
            problem = "unknown mode"
        elif phase.mode == "reduce_col" and table[phase.tensor].dtype != "fp32":
            problem = "a sum over rows needs an fp32 tensor"
    elif isinstance(phase, Shift):
        x, y = table[phase.x], table[phase.y]
        if phase.direction not in ("N", "E", "S", "W") or x.dims != y.dims or x.dtype != y.dtype or x == y:
            problem = "direction must be N, E, S or W; x and y distinct with equal dims and dtype"
    if problem:
        raise BadInput(f"phase {phase.name!r} ({phase.kind}): {problem}")


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
    if isinstance(phase, Gemm | Gemv | AllReduce | Shift):
        names.append(phase.y)
    elif isinstance(phase, StreamIn):
        names.append(phase.tensor)
    return tuple(dict.fromkeys(names))


def launches_with_index(launches: Sequence[Launch]) -> Iterator[tuple[int, int, Phase]]:
    """(launch, phase, phase object) in order."""
    for i, launch in enumerate(launches):
        for j, phase in enumerate(launch.phases):
            yield i, j, phase
