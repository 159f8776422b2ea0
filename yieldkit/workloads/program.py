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
columns (rows), starting with the first core's partial, where a phase declares no other method; inside a core an fp32
accumulator starts at +0. With `accumulation="bf16_blocked"` a matrix product does so for `block` steps of k only: the
sum of a block is added to a bf16 accumulator, rounded at each store, and partials travel between cores in bf16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from yieldkit.errors import BadFile, BadInput
from yieldkit.files import canonical_json, fingerprint, read_bytes, write_text
from yieldkit.workloads.gate import check_program, covers
from yieldkit.workloads.phases import (
    ACCUMULATIONS,
    ALU_OPS,
    DTYPES,
    METHODS,
    PHASE_KINDS,
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
    Launch,
    Permute,
    Phase,
    Reduce,
    Ref,
    Shift,
    StreamIn,
    StreamOut,
    Tensor,
    WGrad,
    instrs_of,
    launches_with_index,
    reads_of,
    tensors_of,
    written_by,
)

__all__ = [
    "ACCUMULATIONS",
    "ALU_OPS",
    "DTYPES",
    "METHODS",
    "PHASE_KINDS",
    "PROGRAM_VERSION",
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
    "Program",
    "Reduce",
    "Ref",
    "Shift",
    "StreamIn",
    "StreamOut",
    "Tensor",
    "WGrad",
    "covers",
    "instrs_of",
    "launches_with_index",
    "reads_of",
    "tensors_of",
    "written_by",
]

PROGRAM_VERSION: Final = 1


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
        accumulation: of matrix products, one of `ACCUMULATIONS`.
        block: steps of k in a block of "bf16_blocked", counted from each core's first; 0 with "fp32".
    """

    name: str
    rows: int
    cols: int
    dtype: str
    tensors: tuple[Tensor, ...]
    launches: tuple[Launch, ...]
    job: Mapping[str, Any] = field(default_factory=dict)
    accumulation: str = "fp32"
    block: int = 0

    def __post_init__(self) -> None:
        check_program(self)

    @cached_property
    def table(self) -> dict[str, Tensor]:
        """Tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """All phases in order."""
        return tuple(phase for launch in self.launches for phase in launch.phases)

    @property
    def sum_dtype(self) -> str:
        """Format in which the partials and totals of matrix products are kept and sent."""
        return "fp32" if self.accumulation == "fp32" else "bf16"

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint over everything in the program."""
        return fingerprint(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, readable by `from_dict`; what a later version added is left out where it says nothing new."""
        data: dict[str, Any] = {
            "version": PROGRAM_VERSION,
            "name": self.name,
            "rows": self.rows,
            "cols": self.cols,
            "dtype": self.dtype,
            "tensors": [{**asdict(t), "values": [_number(v) for v in t.values]} for t in self.tensors],
            "launches": [
                {"name": launch.name, "phases": [_plain(p) for p in launch.phases]} for launch in self.launches
            ],
            "job": dict(self.job),
        }
        if self.accumulation != "fp32":
            data |= {"accumulation": self.accumulation, "block": self.block}
        return data

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
                _is(str, data.get("accumulation", "fp32")), _is(int, data.get("block", 0)),
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


def _plain(phase: Phase) -> dict[str, Any]:
    data = {"kind": phase.kind, **asdict(phase)}
    if isinstance(phase, AllReduce) and phase.method == "chain":
        del data["method"]
    return data


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
    if cls is AllReduce:
        values.setdefault("method", "chain")
    if set(values) != {f.name for f in fields(cls)}:
        raise ValueError(f"phase {data.get('name')!r} has other fields than {cls.kind} needs")
    plain = {"str": str, "int": int, "bool": bool}
    for f in fields(cls):
        if f.type in plain:
            _is(plain[str(f.type)], values[f.name])
    if cls is Permute:
        values["to"] = _ints(values["to"])
    if "instrs" in values:
        values["instrs"] = tuple(_instr(item) for item in values["instrs"])
    if "start" in values:
        values["start"] = _instr(values["start"])
    phase: Phase = cls(**values)
    return phase
