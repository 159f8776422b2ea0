"""`WaferSpec`: everything about a kind of wafer that does not change from wafer to wafer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from html import escape
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from yieldkit.errors import BadInput, BadSpec
from yieldkit.files import fingerprint
from yieldkit.wafer.geometry import clipped_area, hole_sites, row_spans
from yieldkit.wafer.parts import (
    AreaSpec,
    Hole,
    LogicalSpec,
    MachineSpec,
    ProcessSpec,
    ProtectionSpec,
    RepairSpec,
    ReticleSpec,
    Section,
)
from yieldkit.wafer.toml_text import did_you_mean, read_toml, to_toml, validate

__all__ = ["WaferSpec", "preset_names"]

_PRESETS = resources.files("yieldkit.wafer") / "presets"


def preset_names() -> tuple[str, ...]:
    """Names that `WaferSpec.preset` takes, sorted."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in _PRESETS.iterdir() if p.name.endswith(".toml")))


class WaferSpec(Section):
    """A kind of wafer: geometry, fields, cores, spares, links, protection, areas. Frozen.

    Three counts are kept apart: `physical_cores` (sites that are there), `enabled_cores` (what the vendor sells) and
    `logical_cores` (the standard fabric). A site off the wafer's edge or in a hole is *absent*, not dead.

    Attributes:
        name: of the kind of wafer.
        diameter_mm: of the wafer; `edge_exclusion_mm` is taken off all around.
        reticle: grid of fields and cores in a field.
        holes: rectangles of absent sites.
        enabled_cores: cores that are switched on in the product.
        logical: the standard fabric.
        repair: reach of the redundant links.
        machine: core, router and edge, with `machine.protection`.
        areas: what a defect can land on and whether it kills.
        process: node, density and sizes of defects.
        sources: dotted path of a field -> where its number is from, or a text with the word "assumption".
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    diameter_mm: Annotated[float, Field(gt=0, le=1000)]
    edge_exclusion_mm: Annotated[float, Field(ge=0)] = 0.0
    enabled_cores: Annotated[int, Field(ge=1)]
    reticle: ReticleSpec
    logical: LogicalSpec
    repair: RepairSpec
    areas: AreaSpec
    process: ProcessSpec
    machine: MachineSpec = MachineSpec()
    holes: tuple[Hole, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def preset(cls, name: str) -> WaferSpec:
        """Load a preset: see `preset_names()`.

        Raises:
            BadInput: there is no preset of that name; says which are meant.
        """
        if name not in preset_names():
            raise BadInput(
                "there is no wafer preset of this name",
                value=name,
                cure=did_you_mean(name, preset_names(), listed=True),
            )
        source = f"preset {name}"
        return validate(cls, read_toml(_PRESETS.joinpath(f"{name}.toml").read_bytes(), source), source)

    @classmethod
    def from_toml(cls, path: str | Path) -> WaferSpec:
        """Read a spec file.

        Raises:
            BadFile: the file cannot be read or is not TOML.
            BadSpec: names every wrong field by its path.
        """
        from yieldkit.files import read_bytes

        return validate(cls, read_toml(read_bytes(path, limit_bytes=16 << 20), str(path)), str(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "wafer spec") -> WaferSpec:
        """Build a spec from nested plain values, with the same checks as `from_toml`."""
        return validate(cls, data, source)

    def changed(self, changes: Mapping[str, object]) -> WaferSpec:
        """A copy with fields replaced by path, checked anew: ``changed({"machine.protection.sram": "parity"})``."""
        data = self.model_dump(mode="json")
        for path, value in changes.items():
            *parents, leaf = path.split(".")
            section: Any = data
            for parent in parents:
                section = section.get(parent) if isinstance(section, dict) else None
            if not isinstance(section, dict):
                raise BadSpec(self.name, [(path, "there is no such field")])
            section[leaf] = value
        return validate(type(self), data, self.name)

    def to_toml(self) -> str:
        """The spec as TOML that `from_toml` reads back to an equal spec."""
        return to_toml(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _fits_together(self) -> WaferSpec:
        problems = self._contradictions()
        if problems:
            raise BadSpec(self.name, problems)
        return self

    def _contradictions(self) -> list[tuple[str, str]]:
        """Fields that are fine alone and wrong together, as (path, what)."""
        found: list[tuple[str, str]] = []
        rows, cols = self.shape
        if rows * cols > 100_000_000:
            return [("reticle", f"{rows} x {cols} core sites are more than 100 million")]
        if 2 * self.edge_exclusion_mm >= self.diameter_mm:
            return [("edge_exclusion_mm", "leaves nothing of the wafer")]
        for i, hole in enumerate(self.holes):
            if hole.row + hole.rows > rows or hole.col + hole.cols > cols:
                found.append((f"holes[{i}]", f"does not lie inside the {rows} x {cols} grid of sites"))
        if self.logical.first_row + self.logical.rows > rows:
            needed = self.logical.first_row + self.logical.rows
            found.append(("logical.rows", f"needs {needed} physical rows (first_row included), the wafer has {rows}"))
        if self.logical.cols > cols:
            found.append(("logical.cols", f"{self.logical.cols} columns are more than the {cols} physical ones"))
        if not found:
            used = slice(self.logical.first_row, self.logical.first_row + self.logical.rows)
            widths = self.sites_per_row[used]
            worst = int(np.argmin(widths))
            if widths[worst] < self.logical.cols:
                row = worst + self.logical.first_row
                found.append(("logical.cols", f"row {row} has only {widths[worst]} sites inside the wafer's edge"))
            if self.enabled_cores > self.physical_cores:
                found.append(("enabled_cores", f"more than the {self.physical_cores} physical cores"))
        total = sum(getattr(self.areas, kind).fraction for kind in AREA_KINDS)
        if total > 1 + 1e-9:
            found.append(("areas", f"fractions add up to {total:.6g}, more than 1"))
        if self.areas.power_region_rows > rows or self.areas.power_region_cols > cols:
            found.append(("areas.power_region_rows", f"the region is larger than the {rows} x {cols} grid of sites"))
        if self.process.reference_size_um < self.process.smallest_size_um:
            found.append(("process.reference_size_um", "is below smallest_size_um"))
        if self.machine.sram_words % self.machine.banks:
            found.append(("machine.banks", f"{self.machine.sram_words} words do not divide into {self.machine.banks}"))
        return found

    # Counts and spares

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the grid of core sites, absent ones included."""
        return self.reticle.rows * self.reticle.core_rows, self.reticle.cols * self.reticle.core_cols

    @cached_property
    def spans(self) -> npt.NDArray[np.int32]:
        """int32[rows, 2]: first and past-the-last site inside the wafer's edge, by row. Holes are not taken off."""
        return row_spans(self.reticle, self.diameter_mm / 2 - self.edge_exclusion_mm)

    @cached_property
    def hole_sites(self) -> npt.NDArray[np.int32]:
        """int32[n, 2]: sites taken by holes, sorted by (row, col)."""
        return hole_sites(self.holes, self.spans)

    @cached_property
    def _hole_set(self) -> frozenset[tuple[int, int]]:
        return frozenset((row, col) for row, col in self.hole_sites.tolist())

    @cached_property
    def _hole_keys(self) -> npt.NDArray[np.int64]:
        """Holes as row * columns + column, sorted, for searching."""
        return self.hole_sites[:, 0].astype(np.int64) * self.shape[1] + self.hole_sites[:, 1]

    @cached_property
    def sites_per_row(self) -> npt.NDArray[np.int32]:
        """int32[rows]: sites present in each row."""
        taken = np.bincount(self.hole_sites[:, 0], minlength=self.shape[0])
        return np.asarray(self.spans[:, 1] - self.spans[:, 0] - taken, dtype=np.int32)

    @property
    def physical_cores(self) -> int:
        """Core sites that are there."""
        return int(self.sites_per_row.sum())

    @property
    def logical_shape(self) -> tuple[int, int]:
        """(H, W) of the standard fabric."""
        return self.logical.rows, self.logical.cols

    @property
    def logical_cores(self) -> int:
        """Cores of the standard fabric."""
        return self.logical.rows * self.logical.cols

    @property
    def spares_per_row(self) -> int:
        """Physical minus logical columns: the largest displacement a full row allows."""
        return self.shape[1] - self.logical.cols

    @property
    def spare_rows(self) -> int:
        """Physical minus logical rows."""
        return self.shape[0] - self.logical.rows

    @property
    def protection(self) -> ProtectionSpec:
        """Short for `machine.protection`."""
        return self.machine.protection

    # Places

    @property
    def core_pitch_mm(self) -> tuple[float, float]:
        """(width, height) of one core site."""
        return (
            self.reticle.field_width_mm / self.reticle.core_cols,
            self.reticle.field_height_mm / self.reticle.core_rows,
        )

    @property
    def core_area_mm2(self) -> float:
        """Area of one core site."""
        width, height = self.core_pitch_mm
        return width * height

    @property
    def array_mm(self) -> tuple[float, float]:
        """(width, height) of the rectangle of fields, clipped corners and holes included."""
        return self.reticle.cols * self.reticle.field_width_mm, self.reticle.rows * self.reticle.field_height_mm

    @property
    def silicon_mm2(self) -> float:
        """Area of the rectangle of fields inside the wafer's edge; holes are not taken off."""
        return clipped_area(*self.array_mm, self.diameter_mm / 2 - self.edge_exclusion_mm)

    def is_present(self, row: int, col: int) -> bool:
        """Whether there is a core site at (row, col): inside the wafer's edge and not in a hole."""
        if not 0 <= row < self.shape[0] or not self.spans[row, 0] <= col < self.spans[row, 1]:
            return False
        return (int(row), int(col)) not in self._hole_set

    def present_mask(self) -> npt.NDArray[np.bool_]:
        """bool[rows, cols], made anew on each call: True where there is a core site."""
        col = np.arange(self.shape[1])
        mask = (col >= self.spans[:, :1]) & (col < self.spans[:, 1:])
        mask[self.hole_sites[:, 0], self.hole_sites[:, 1]] = False
        return np.asarray(mask)

    def xy_mm(self, row: float, col: float) -> tuple[float, float]:
        """Centre of the site at (row, col), in mm from the wafer's centre."""
        width, height = self.core_pitch_mm
        rows, cols = self.shape
        return (col + 0.5 - cols / 2) * width, (rows / 2 - row - 0.5) * height

    def core_at_mm(self, x: float, y: float) -> tuple[int, int] | None:
        """The site at a place, or None where there is none (off the array, clipped, in a hole)."""
        row, col = (int(i[0]) for i in self.cores_at_mm(np.array([x]), np.array([y])))
        return (row, col) if row >= 0 else None

    def cores_at_mm(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Sites at many places: (row int32[n], col int32[n]), both -1 where there is none."""
        width, height = self.core_pitch_mm
        rows, cols = self.shape
        row = np.floor(rows / 2 - y / height)
        col = np.floor(x / width + cols / 2)
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        row = np.where(inside, row, 0).astype(np.int32)
        col = np.where(inside, col, 0).astype(np.int32)
        inside &= (col >= self.spans[row, 0]) & (col < self.spans[row, 1])
        if len(self._hole_keys):
            keys = row.astype(np.int64) * cols + col
            inside &= self._hole_keys[np.searchsorted(self._hole_keys, keys) % len(self._hole_keys)] != keys
        return np.where(inside, row, -1).astype(np.int32), np.where(inside, col, -1).astype(np.int32)

    def reticle_of(self, row: int, col: int) -> tuple[int, int]:
        """(row, col) of the exposure field that prints the site."""
        rows, cols = self.shape
        if not (0 <= row < rows and 0 <= col < cols):
            raise BadInput(f"the site lies outside the {rows} x {cols} grid", value=(row, col))
        return row // self.reticle.core_rows, col // self.reticle.core_cols

    # Identity

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over every field but `name` and `sources`: equal for wafers that behave alike."""
        return fingerprint({"wafer-spec": 1, **self.model_dump(mode="json", exclude={"name", "sources"})})

    def __eq__(self, other: object) -> bool:
        # Fields only: the cached arrays beside them are no part of the value, and arrays have no truth value.
        return isinstance(other, WaferSpec) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.fingerprint))

    def source_of(self, path: str) -> str:
        """Where the number of a field is from: the entry of `sources` for it or for the nearest section above it."""
        parts = path.split(".")
        for end in range(len(parts), 0, -1):
            if (text := self.sources.get(".".join(parts[:end]))) is not None:
                return text
        return "given by the user"

    def summary(self) -> dict[str, Any]:
        """The facts that a person asks for first, as plain values."""
        rows, cols = self.shape
        width, height = self.core_pitch_mm
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "diameter_mm": self.diameter_mm,
            "array_mm": list(self.array_mm),
            "fields": [self.reticle.rows, self.reticle.cols],
            "core_pitch_mm": [width, height],
            "physical_shape": [rows, cols],
            "physical_cores": self.physical_cores,
            "absent_sites": rows * cols - self.physical_cores,
            "hole_sites": len(self.hole_sites),
            "enabled_cores": self.enabled_cores,
            "logical_shape": list(self.logical_shape),
            "logical_cores": self.logical_cores,
            "spares_per_row": self.spares_per_row,
            "spare_rows": self.spare_rows,
            "skip_reach": self.repair.skip_reach,
            "vertical_reach": self.repair.vertical_reach,
            "protection": self.protection.model_dump(mode="json"),
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(key.replace('_', ' '))}</th><td>{escape(str(value))}</td></tr>"
            for key, value in self.summary().items()
        )
        return f"<table><caption>WaferSpec {escape(self.name)}</caption>{rows}</table>"


AREA_KINDS = ("core_logic", "core_sram", "router", "link", "power_region", "global_nets")
"""Kinds of circuit that a defect can land on, in the order in which areas are laid out for drawing."""
