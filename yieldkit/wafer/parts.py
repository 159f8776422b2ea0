"""The sections of a wafer specification: plain frozen models with their limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AreaSpec",
    "Hole",
    "LogicalSpec",
    "MachineSpec",
    "ProcessSpec",
    "ProtectionSpec",
    "RepairSpec",
    "ReticleSpec",
    "Section",
    "TargetSpec",
]

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Index = Annotated[int, Field(ge=0, le=1_000_000)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Frozen, refuses unknown fields, infinities and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReticleSpec(Section):
    """The grid of exposure fields and the cores in one field; it is centred on the wafer.

    `field_width_mm` and `field_height_mm` are the steps of the grid, scribe line included: fields are stitched across
    it, so that the mesh of cores goes on from field to field.
    """

    rows: Count
    cols: Count
    field_width_mm: Positive
    field_height_mm: Positive
    core_rows: Count
    core_cols: Count


class Hole(Section):
    """A rectangle of sites that are not there, cut out for a power or cooling connector."""

    row: Index
    col: Index
    rows: Count = 1
    cols: Count = 1


class LogicalSpec(Section):
    """The standard fabric that programs see; `first_row` is the physical row of its row 0."""

    rows: Count
    cols: Count
    first_row: Index = 0


class RepairSpec(Section):
    """Reach of the redundant links.

    `skip_reach` h: a link reaches at most h sites along the row, so a row may pass over h - 1 sites in a run.
    `vertical_reach` v: logical neighbours in adjacent rows may be displaced by at most v columns.
    Spares are derived by the wafer (`WaferSpec.spares_per_row`), never typed.
    """

    skip_reach: Annotated[int, Field(ge=1, le=64)]
    vertical_reach: Annotated[int, Field(ge=0, le=64)]


class ProtectionSpec(Section):
    """What guards the state and the words; outcome rates hinge on it."""

    sram: Literal["none", "parity", "secded"] = "none"
    links: Literal["none", "parity", "crc", "sequence"] = "none"
    memoryx: Literal["none", "secded"] = "secded"
    framing: Literal["counted", "delimited"] = "counted"


class MachineSpec(Section):
    """One core, its router and the wafer's edge: sizes and clocks that programs and timing depend on."""

    sram_words: Annotated[int, Field(ge=64, le=1 << 14)] = 12_288
    banks: Annotated[int, Field(ge=1, le=64)] = 8
    colours: Annotated[int, Field(ge=1, le=32)] = 24
    switch_positions: Annotated[int, Field(ge=1, le=16)] = 4
    queue_depth: Annotated[int, Field(ge=1, le=64)] = 4
    ramp_cycles: Annotated[int, Field(ge=0, le=64)] = 2
    clock_hz: Positive = 0.85e9
    io_bytes_per_s: Positive = 150e9
    protection: ProtectionSpec = ProtectionSpec()


class TargetSpec(Section):
    """One kind of circuit: its share of the core's area, and the chance that a defect of reference size there kills."""

    fraction: Fraction
    kill_ratio: Fraction


class AreaSpec(Section):
    """What a defect can land on. Shares of the area of one core; what is left over is not sensitive.

    The kill ratio holds at the process's reference size and grows with the defect's size as the critical area does.
    """

    core_logic: TargetSpec
    core_sram: TargetSpec
    router: TargetSpec
    link: TargetSpec
    power_region: TargetSpec
    global_nets: TargetSpec
    power_region_rows: Count
    power_region_cols: Count
    marginal_probability: Fraction


class ProcessSpec(Section):
    """The process: node, defect density, and defect sizes (density proportional to size^-size_exponent)."""

    node_nm: Positive
    d0_per_cm2: Annotated[float, Field(ge=0)]
    smallest_size_um: Positive
    reference_size_um: Positive
    size_exponent: Annotated[float, Field(gt=1, le=10)]
