"""Fitting the presets of timing to published tables, and what is left over.

Two laws are fitted, each from the operations that the machine really does for it:

- multicast along a line: start of the launch and cycles a word, from the smallest measured times;
- a star stencil on a tile of `width x height` points with a radius: cycles of an iteration are those of the tasks of a
  core inside the rectangle (`stencil_program`), so their sum over operations of (start + elements x cost) is linear in
  the costs.

Rows of the stencil table contradict each other (on a WSE-3, radius 1, a tile of 4 x 4 takes fewer cycles than one of
1 x 1), so the fit makes the sum of relative errors smallest in which no row counts for more than `MOST`. Dense products
and single functions are compared, not fitted.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.calibration_programs import (
    multicast_cycles,
    stencil_cycles,
    stencil_operations,
    stencil_waits,
)
from yieldkit.emulator.cost import CONSTANTS, FAMILIES, FRACTION, Timing
from yieldkit.emulator.isa import OPCODES
from yieldkit.errors import BadFile
from yieldkit.files import read_bytes

__all__ = [
    "Calibration",
    "Residual",
    "calibrate",
    "largest_cycles",
    "median_error",
    "preset_text",
    "residual_page",
    "residuals_of",
]

RAMP_CYCLES: Final = 2
FASTEST: Final = {"element.move": 0.5}
"""Smallest cost of an element in cycles, 1 where nothing is said: a memory port of 64 bits moves two words a cycle."""

MOST: Final = 0.1
"""Relative error from which on a stencil counts as contradicting the others."""

STENCILS: Final = "stencil_vendor_simulator.csv"
MULTICAST: Final = "multicast_cs3_half.csv"
PRODUCTS: Final = "dense_gemm_wse2.csv"
FUNCTIONS: Final = "functions.csv"

SOURCES: Final = {
    STENCILS: "stencils under the vendor's simulator (third-party notes)",
    MULTICAST: "line multicast measured on a CS-3, smallest of 200 repetitions (third-party notes)",
    PRODUCTS: "dense fp32 GEMM on a WSE-2 build (SpMM_Cerebras repository)",
    FUNCTIONS: "single functions and small programs (vendor's simulator; Qwen3 prefill on a CS-3; wsFFT)",
}


@dataclass(frozen=True)
class Residual:
    """A published number beside the preset's.

    Attributes:
        preset: "cs2" or "cs3".
        table: file it comes from.
        setting: which row.
        published: cycles.
        model: cycles, or None where the source does not say what was computed.
        fitted: whether the row took part in the fit.
    """

    preset: str
    table: str
    setting: str
    published: float
    model: float | None
    fitted: bool

    @property
    def relative(self) -> float:
        """(model - published) / published; nan without a model."""
        return float("nan") if self.model is None else self.model / self.published - 1


@dataclass(frozen=True)
class Calibration:
    """What a fit gives.

    Attributes:
        constants: by preset, then by name of `CONSTANTS`: cycles.
        sources: where each constant comes from, same keys.
        residuals: every published number beside the preset's.
    """

    constants: Mapping[str, Mapping[str, float]]
    sources: Mapping[str, Mapping[str, str]]
    residuals: tuple[Residual, ...]

    def timing(self, preset: str) -> Timing:
        """The fitted preset."""
        return Timing.of(preset, self.constants[preset])


def median_error(residuals: Sequence[Residual], preset: str, table: str) -> float:
    """Median of the absolute relative residuals of a table's rows."""
    return float(np.median([abs(r.relative) for r in _rows(residuals, preset, table)]))


def largest_cycles(residuals: Sequence[Residual], preset: str, table: str) -> float:
    """Largest residual of a table's rows in cycles."""
    return max(abs(r.model - r.published) for r in _rows(residuals, preset, table) if r.model is not None)


def _rows(residuals: Sequence[Residual], preset: str, table: str) -> list[Residual]:
    return [r for r in residuals if (r.preset, r.table) == (preset, table) and r.model is not None]


@dataclass(frozen=True)
class Stencil:
    """A row of the stencil table: a tile of `width x height` points, a radius, cycles an iteration."""

    width: int
    height: int
    radius: int
    cycles: float

    @property
    def setting(self) -> str:
        """For people."""
        return f"{self.width}x{self.height} radius {self.radius}"


def calibrate(folder: str | Path) -> Calibration:
    """Fit the presets to the tables in a folder.

    Raises:
        BadFile: a table is missing or cannot be read.
    """
    place = Path(folder)
    base, word = _line_law(_multicasts(place / MULTICAST))
    constants: dict[str, dict[str, float]] = {}
    sources: dict[str, dict[str, str]] = {}
    for preset, stencils in _stencils(place / STENCILS).items():
        known = {
            "ramp_cycles": float(RAMP_CYCLES),
            "pitch_cycles": 1.0,
            "control": 1.0,
            "row": 0.0,
            "element.send": word,
            "element.receive": 1.0,
            "start.receive": 0.0,
        }
        fitted = _fit_stencils(stencils, known)
        known |= fitted
        # What `multicast_cycles` needs to give the law's value for one word and one core.
        overhead = 1 + 2 * RAMP_CYCLES + known["element.receive"] + known["start.send"]
        known["launch_cycles"] = float(max(0, round(base + word - overhead)))
        known["start.function"], known["element.function"] = known["start.accumulate"], 8.0
        constants[preset] = {name: known[name] for name in CONSTANTS}
        sources[preset] = _sources(preset, fitted)
    return Calibration(constants, sources, residuals_of(place, {p: Timing.of(p, c) for p, c in constants.items()}))


def residuals_of(folder: str | Path, presets: Mapping[str, Timing]) -> tuple[Residual, ...]:
    """Every published number of the tables beside what the presets "cs2" and "cs3" give.

    Raises:
        BadFile: a table is missing or cannot be read.
    """
    place = Path(folder)
    found: list[Residual] = []
    for preset, rows in _stencils(place / STENCILS).items():
        timing = presets[preset]
        for row in rows:
            model = stencil_cycles(row.width, row.height, row.radius, timing)
            found.append(Residual(preset, STENCILS, row.setting, row.cycles, model, True))
    for words, cores, cycles in _multicasts(place / MULTICAST):
        model = multicast_cycles(words, cores, presets["cs3"])
        found.append(Residual("cs3", MULTICAST, f"{4 * words} bytes, {cores} cores", cycles, model, True))
    for preset, timing in presets.items():
        found += _compared(place, preset, timing)
    return tuple(found)


def _multicasts(path: Path) -> list[tuple[int, int, float]]:
    """(words, cores, smallest cycles) of the rows that give a smallest time."""
    rows = _table(path, ("K_bytes", "N_pes", "cycles_min"))
    return [(int(r["K_bytes"]) // 4, int(r["N_pes"]), float(r["cycles_min"])) for r in rows if r["cycles_min"]]


def _line_law(rows: Sequence[tuple[int, int, float]]) -> tuple[float, float]:
    """(a, b) of cycles = a + b words + (cores - 1), least absolute deviations; two cycles off counts as wrong."""
    words = np.array([[1.0, n] for n, _, _ in rows])
    rest = np.array([cycles - (p - 1) for _, p, cycles in rows])
    a, b = _least_absolute(words, rest, [0.0, 0.0], 2.0)
    return a, round(b * FRACTION) / FRACTION


def _fit_stencils(rows: Sequence[Stencil], known: Mapping[str, float]) -> dict[str, float]:
    """Costs that the stencils decide, from the operations their program does."""
    free = [
        *(f"{kind}.{group}" for kind in ("start", "element") for group in ("move", "arithmetic", "accumulate")),
        "start.send",
    ]
    family = {OPCODES[op]: group for group, ops in FAMILIES.items() for op in ops}
    matrix, rest = [], []
    for row in rows:
        counts = stencil_operations(row.width, row.height, row.radius)
        use = dict.fromkeys([*free, "element.send", "element.receive"], 0.0)
        for opcode, column in np.argwhere(counts[0]):
            group = ("", "receive", "send")[column] if column else family[int(opcode)]
            if group != "receive":
                use[f"start.{group}"] += counts[0, opcode, column]
            use[f"element.{group}"] += counts[1, opcode, column]
        matrix.append([use[name] / row.cycles for name in free])
        ramps = round(known["ramp_cycles"])
        fixed = stencil_waits(row.width, row.height, row.radius, ramps, known["element.send"], known["element.receive"])
        fixed += sum(use[name] * known[name] for name in ("element.send", "element.receive"))
        rest.append(1 - fixed / row.cycles)
    least = [0.0 if name.startswith("start") else FASTEST.get(name, 1.0) for name in free]
    values = _least_absolute(np.array(matrix), np.array(rest), least, MOST)
    return {name: round(value * FRACTION) / FRACTION for name, value in zip(free, values, strict=True)}


def _least_absolute(
    matrix: npt.NDArray[np.float64], rest: npt.NDArray[np.float64], least: list[float], most: float
) -> list[float]:
    """X >= `least` that makes the sum of min(|matrix x - rest|, most) smallest, as a mixed-integer program."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    m, n = matrix.shape
    slack = np.eye(m)
    # Unknowns: x, whether a row is met, its error. A row that is not met may be wrong by `far` and counts `most`.
    far = 5.0 * float(np.abs(rest).max())
    found = milp(
        np.r_[np.zeros(n), np.full(m, -most), np.ones(m)],
        constraints=LinearConstraint(
            np.block([[matrix, far * slack, -slack], [-matrix, far * slack, -slack]]),
            np.full(2 * m, -np.inf),
            np.r_[rest + far, -rest + far],
        ),
        bounds=Bounds(np.r_[least, np.zeros(2 * m)], np.r_[np.full(n, np.inf), np.ones(m), np.full(m, np.inf)]),
        integrality=np.r_[np.zeros(n), np.ones(m), np.zeros(m)],
    )
    if found.x is None:
        raise BadFile("the tables", f"cannot be fitted: {found.message}")
    return [float(value) for value in found.x[:n]]


def _stencils(path: Path) -> dict[str, list[Stencil]]:
    """Distinct rows by preset; a row with one value is of a WSE-3, as the rows it shares with the others show."""
    found: dict[str, dict[Stencil, None]] = {"cs2": {}, "cs3": {}}
    for row in _table(path, ("tile", "radius", "wse2_or_wse3", "wse3")):
        width, height = (int(side) for side in row["tile"].split("x"))
        values = {"cs2": row["wse2_or_wse3"], "cs3": row["wse3"]} if row["wse3"] else {"cs3": row["wse2_or_wse3"]}
        for preset, cycles in values.items():
            found[preset][Stencil(width, height, int(row["radius"]), float(cycles))] = None
    return {preset: list(rows) for preset, rows in found.items()}


def _compared(place: Path, preset: str, timing: Timing) -> list[Residual]:
    """Rows that are compared with the preset and not fitted."""
    found = []
    mac, wide = OPCODES["mac"], 1
    element = timing.element_array[mac, 0, wide] / FRACTION
    start = timing.start_array[mac, 0] / FRACTION
    if preset == "cs2":
        for row in _table(place / PRODUCTS, ("width", "height", "N", "K", "M", "avg_cycles")):
            cols, rows_, n, k, m = (int(row[name]) for name in ("width", "height", "N", "K", "M"))
            # Vectors of M elements, one multiply-add for every (n, k) of the core's share.
            share = n * k // (cols * rows_)
            found.append(
                Residual(
                    preset,
                    PRODUCTS,
                    f"{n} x {k} x {m} on {cols} x {rows_} cores",
                    float(row["avg_cycles"]),
                    share * (start + m * element),
                    False,
                )
            )
    for row in _table(place / FUNCTIONS, ("source", "setting", "value", "unit")):
        if ("WSE-2" in row["source"] or "CS-2" in row["source"]) != (preset == "cs2") and "wsFFT" not in row["source"]:
            continue
        if row["unit"] != "cycles" or ("wsFFT" in row["source"] and preset == "cs3"):
            continue
        model: float | None = None
        if row["source"].startswith("SUMMA") and row["setting"] == "compute":
            # Four steps of a 14 x 14 x 14 product, vectors of 14.
            model = 4 * 14 * 14 * (start + 14 * element)
        elif row["source"].startswith("SUMMA"):
            # Four broadcasts of 392 words among 4 cores, one after the other.
            model = 4 * (multicast_cycles(392, 4, timing) - timing.launch_cycles)
        found.append(
            Residual(preset, FUNCTIONS, f"{row['source']}: {row['setting']}", float(row["value"]), model, False)
        )
    return found


def _sources(preset: str, fitted: Mapping[str, float]) -> dict[str, str]:
    other = "" if preset == "cs3" else "; assumption: as on the CS-3"
    law = f"fit to {MULTICAST}: {SOURCES[MULTICAST]}{other}"
    found = {
        "launch_cycles": law,
        "element.send": law,
        "ramp_cycles": "assumption: about two cycles each way",
        "pitch_cycles": f"one cycle a hop in {MULTICAST}{other}",
        "control": "assumption: a control word is one word",
        "row": "assumption: inner loops cost nothing extra; the stencils leave no room for it",
        "element.receive": "assumption: the ramp gives a word a cycle",
        "start.receive": "assumption: hidden by the wait for the first word",
        "start.function": "assumption: as for accumulate",
        "element.function": "assumption: a polynomial of about eight operations",
    }
    for name in fitted:
        found[name] = f"fit to {STENCILS}: {SOURCES[STENCILS]}"
    return found


def preset_text(result: Calibration) -> str:
    """The constants as TOML, each with its source; what `Timing.preset` reads."""
    lines = [
        "# Written by `yieldkit emulate calibrate`: constants of the fitted presets, in cycles, each with its source."
    ]
    for preset, values in result.constants.items():
        lines += ["", f"[{preset}]"]
        for name, value in values.items():
            source = json.dumps(result.sources[preset][name])
            lines.append(f"{json.dumps(name)} = {{ value = {value!r}, source = {source} }}")
    return "\n".join(lines) + "\n"


def residual_table(residuals: Sequence[Residual]) -> str:
    """The residuals as Markdown, one table for each published one."""
    lines: list[str] = []
    keys = dict.fromkeys((r.table, r.preset) for r in residuals)
    for table, preset in sorted(keys):
        rows = [r for r in residuals if (r.table, r.preset) == (table, preset)]
        known = [abs(r.relative) for r in rows if r.model is not None]
        use = "fitted" if rows[0].fitted else "compared, not fitted"
        lines += [f"## `{preset}`: {SOURCES[table]}", "", f"`{table}`, {use}; {len(rows)} rows."]
        if known:
            lines.append(f"Median error {100 * float(np.median(known)):.1f} %, largest {100 * max(known):.1f} %.")
        lines += ["", "| row | published | model | error |", "|---|---:|---:|---:|"]
        for r in rows:
            model = "(size not published)" if r.model is None else f"{r.model:.0f}"
            error = "" if r.model is None else f"{100 * r.relative:+.1f} %"
            lines.append(f"| {r.setting} | {r.published:.0f} | {model} | {error} |")
        lines.append("")
    return "\n".join(lines)


def residual_page(residuals: Sequence[Residual]) -> str:
    """The page `docs/timing-residuals.md`."""
    head = (
        "# Presets of timing beside the published tables\n\n"
        "Written by `yieldkit emulate calibrate --tables FOLDER --residuals FILE`; what the presets are is in\n"
        "[timing.md](timing.md). Cycles, and the error relative to the published number.\n\n"
    )
    return head + residual_table(residuals).rstrip() + "\n"


def _table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file with at least these columns; a missing last field is empty."""
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFile(path, "is not UTF-8 text", where=f"byte {error.start}") from error
    reader = csv.DictReader(io.StringIO(text))
    lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking:
        raise BadFile(path, f"has no column {lacking[0]!r}", value=reader.fieldnames)
    return [{name: (row[name] or "").strip() for name in columns} for row in reader]
