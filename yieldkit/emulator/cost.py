"""What things cost in cycles: one table that the wavelet executor and the cycle model of the tensor executor share.

Costs are whole numbers of 1/256 cycle, so that sums are exact and the same on every machine. The preset `ideal` has one
cycle for everything and reproduces the closed forms of the literature; `cs2` and `cs3` are fitted to published tables
by `calibration.py`, which writes their constants, each with its source, to `timing_presets.toml` beside this file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.isa import OPCODES
from yieldkit.errors import BadFile, BadInput
from yieldkit.files import read_bytes

__all__ = ["CLASSES", "CONSTANTS", "FAMILIES", "FRACTION", "PRESETS", "Timing", "cost_class"]

PRESETS: Final = ("ideal", "cs2", "cs3")

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "move": ("mov",),
    "arithmetic": ("add", "sub", "mul", "max", "eq", "select"),
    "accumulate": ("mac",),
    "function": ("exp", "log", "recip", "rsqrt", "sqrt", "sigmoid", "gelu", "gelu_grad"),
}
"""Operations that share their costs in a fitted preset."""

CONSTANTS: Final = (
    "launch_cycles",
    "ramp_cycles",
    "pitch_cycles",
    "control",
    "row",
    *(f"{kind}.{part}" for kind in ("start", "element") for part in (*FAMILIES, "send", "receive")),
)
"""Names of the constants of a fitted preset, cycles each; the costs of an operation follow from them."""

FRACTION: Final = 256
"""Parts of a cycle that costs are counted in."""

CLASSES: Final = ("memory", "fabric in", "fabric out", "fabric in and out")
N_OPCODES: Final = 1 + len(OPCODES)


def cost_class(kind_d: int, kind_a: int, kind_b: int) -> int:
    """Column of the cost table for operands of these kinds (1 memory, 2 fabric in, 3 fabric out; b 0 when absent)."""
    return int(2 in (kind_a, kind_b)) | (int(kind_d == 3) << 1)


def _flat(value: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    return tuple(tuple((value, value) for _ in CLASSES) for _ in range(N_OPCODES))


def _flat_start(value: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(value for _ in CLASSES) for _ in range(N_OPCODES))


@dataclass(frozen=True, repr=False)
class Timing:
    """Cycle costs of a machine.

    Attributes:
        name: of the preset.
        ramp_cycles: T_R, latency between a core and its router, each way.
        pitch_cycles: cycles a word needs on a link for each core pitch that the link spans.
        element: cost of one element in 1/256 cycle, `[opcode][class][wide]`; class as `CLASSES`, wide 1 when an operand
            is fp32 and 0 when all are 16 bits.
        start: cost of starting a task before its first element in 1/256 cycle, `[opcode][class]`.
        row: cost of every step of a loop but the innermost in 1/256 cycle, `[opcode][class]`, on top of `element`.
        control: cost of sending a control word in 1/256 cycle.
        launch_cycles: cycles between the host's go and the first task.
    """

    name: str = "ideal"
    ramp_cycles: int = 2
    pitch_cycles: int = 1
    element: tuple[tuple[tuple[int, int], ...], ...] = _flat(FRACTION)
    start: tuple[tuple[int, ...], ...] = _flat_start(0)
    row: tuple[tuple[int, ...], ...] = _flat_start(0)
    control: int = FRACTION
    launch_cycles: int = 0

    def __repr__(self) -> str:
        return f"Timing({self.name!r})"

    @property
    def element_array(self) -> npt.NDArray[np.int64]:
        """int64[opcodes, classes, 2]."""
        return np.array(self.element, np.int64)

    @property
    def start_array(self) -> npt.NDArray[np.int64]:
        """int64[opcodes, classes]."""
        return np.array(self.start, np.int64)

    @property
    def row_array(self) -> npt.NDArray[np.int64]:
        """int64[opcodes, classes]."""
        return np.array(self.row, np.int64)

    @classmethod
    def of(cls, name: str, constants: Mapping[str, float]) -> Self:
        """Timing from the constants of `CONSTANTS`, in cycles.

        An operation on streams is as slow as its slowest part: its own cost, that of sending or that of receiving.
        """

        def parts(value: float) -> int:
            return round(value * FRACTION)

        family = {op: group for group, ops in FAMILIES.items() for op in ops}
        element: list[tuple[tuple[int, int], ...]] = [tuple((FRACTION, FRACTION) for _ in CLASSES)]
        start: list[tuple[int, ...]] = [tuple(0 for _ in CLASSES)]
        for op in OPCODES:
            costs, starts = [], []
            for number in range(len(CLASSES)):
                # A move through the fabric is nothing but sending or receiving.
                names = [] if op == "mov" and number else [family[op]]
                names += ["receive"] * (number & 1) + ["send"] * (number >> 1)
                costs.append(parts(max(constants[f"element.{part}"] for part in names)))
                starts.append(parts(max(constants[f"start.{part}"] for part in names)))
            element.append(tuple((cost, cost) for cost in costs))
            start.append(tuple(starts))
        return cls(
            name=name,
            ramp_cycles=round(constants["ramp_cycles"]),
            pitch_cycles=round(constants["pitch_cycles"]),
            element=tuple(element),
            start=tuple(start),
            row=_flat_start(parts(constants["row"])),
            control=parts(constants["control"]),
            launch_cycles=round(constants["launch_cycles"]),
        )

    @classmethod
    def preset(cls, name: str, *, file: str | Path | None = None) -> Timing:
        """A preset: "ideal", "cs2" or "cs3", or another from a file that `yieldkit emulate calibrate` wrote.

        Raises:
            BadInput: there is no such preset.
            BadFile: the file cannot be read or lacks a constant.
        """
        if name == "ideal":
            return cls()
        if file is None:
            return _packaged(name)
        return cls.of(name, _constants(read_bytes(file), str(file), name))


@cache
def _packaged(name: str) -> Timing:
    data = resources.files("yieldkit.emulator").joinpath("timing_presets.toml").read_bytes()
    return Timing.of(name, _constants(data, "timing_presets.toml", name))


def _constants(data: bytes, source: str, name: str) -> dict[str, float]:
    try:
        tables: dict[str, Any] = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadFile(source, f"is not TOML: {error}") from error
    if not isinstance(tables.get(name), dict):
        known = ", ".join(["ideal", *(key for key, value in tables.items() if isinstance(value, dict))])
        raise BadInput("there is no such preset of timing", value=name, cure=f"there are: {known}")
    found: dict[str, float] = {}
    for key in CONSTANTS:
        entry = tables[name].get(key)
        value = entry.get("value") if isinstance(entry, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise BadFile(source, f"preset {name!r} needs {key!r} = {{ value = CYCLES, source = TEXT }}", value=entry)
        found[key] = float(value)
    return found
