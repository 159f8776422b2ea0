"""`ReportData`: everything a report shows, as plain values in one versioned JSON document.

Whoever ran something fills it in; the report only lays it out. A section that is None is left out of the page.
Non-finite numbers of a curve are None ("not finite"); positions are `[row, col]`, row 0 north.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from yieldkit.emulator.trace import WAIT_WORDS
from yieldkit.errors import BadSpec
from yieldkit.files import read_bytes, write_bytes
from yieldkit.report.packing import unpack

__all__ = [
    "SCHEMA",
    "AxisRate",
    "CampaignSection",
    "CellTrial",
    "ConfusionSection",
    "DefectsSection",
    "Fact",
    "Headline",
    "Interval",
    "Level",
    "Line",
    "Mark",
    "Note",
    "OutcomeCount",
    "Provenance",
    "RateCell",
    "RepairSection",
    "ReportData",
    "SimulatedYield",
    "Summary",
    "Table",
    "TraceSection",
    "TraceView",
    "TrainingSection",
    "TrialCurve",
    "TrialRow",
    "WaferSection",
    "YieldLaw",
    "YieldSection",
]

SCHEMA: Final = 1

Scalar = bool | int | float | str | None


def _gap(value: Any) -> Any:
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_gap)]
Curve = tuple[Number, ...]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fact(_Part):
    """A name, a value and, where known, where the value comes from."""

    name: str
    value: Scalar
    note: str = ""


class Table(_Part):
    """A table that is printed and offered as CSV; every row has one value per column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {index} has {len(row)} values for {len(self.columns)} columns")
        return self


class Interval(_Part):
    """Both limits of a confidence interval, and its method, e.g. "Wilson, 95 %"."""

    low: float
    high: float
    method: str


class Headline(_Part):
    """One large number of the first page."""

    name: str
    value: str
    note: str = ""
    status: Literal["good", "bad", "warn", "plain"] = "plain"


class Note(_Part):
    """One verdict of the first page: a sentence that a manager can act on."""

    text: str
    status: Literal["good", "bad", "warn", "plain"] = "plain"


class Summary(_Part):
    """First page: what was run, what came out, the numbers to remember."""

    ran: tuple[str, ...] = ()
    verdicts: tuple[Note, ...] = ()
    headlines: tuple[Headline, ...] = ()


class Mark(_Part):
    """A site to point at on the wafer map, with the sentence shown when the pointer is over it.

    `drow`, `dcol` make it a link, from (row, col) to (row + drow, col + dcol).
    """

    kind: Literal["dead", "bypassed", "marginal", "absent", "blamed", "injected", "dead_link", "blamed_link"]
    row: int
    col: int
    drow: int = 0
    dcol: int = 0
    text: str = ""


class WaferSection(_Part):
    """The map of the wafer. Build it with `wafer_section`, which packs arrays.

    Attributes:
        name: wafer id or preset.
        rows: physical rows.
        cols: physical columns.
        pitch_mm: height and width of a core, for the shape of the picture.
        states: uint8[rows, cols] packed by `pack`: 0 absent, 1 used, 2 spare, 3 bypassed, 4 marginal, 5 dead.
        runs: per physical row, (col, length, logical row, first logical col) of each stretch of consecutive logical
            columns; empty without a plan.
        marks: sites that get a marker besides those that the states give.
        facts: what is known of the wafer.
    """

    name: str
    rows: int = Field(gt=0)
    cols: int = Field(gt=0)
    states: str
    pitch_mm: tuple[float, float] = (1.0, 1.0)
    runs: tuple[tuple[tuple[int, int, int, int], ...], ...] = ()
    marks: tuple[Mark, ...] = ()
    facts: tuple[Fact, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unpack(self.states, (self.rows, self.cols), "uint8", limit=5)
        if self.runs and len(self.runs) != self.rows:
            raise ValueError(f"runs has {len(self.runs)} rows, the wafer {self.rows}")
        if not all(math.isfinite(side) and side > 0 for side in self.pitch_mm):
            raise ValueError("pitch_mm must be positive")
        for mark in self.marks:
            if not (0 <= mark.row < self.rows and 0 <= mark.col < self.cols):
                raise ValueError(f"mark at ({mark.row}, {mark.col}) is not on the wafer")
        return self


class DefectsSection(_Part):
    """Where the defects come from and what they did."""

    facts: tuple[Fact, ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()
    table: Table | None = None


class YieldLaw(_Part):
    """A closed form and its value for this wafer."""

    name: str
    formula: str
    value: float = Field(ge=0, le=1)


class SimulatedYield(_Part):
    """A simulated yield: successes of n, with its interval."""

    name: str
    successes: int = Field(ge=0)
    n: int = Field(gt=0)
    interval: Interval


class YieldSection(_Part):
    """Closed forms beside simulated yields."""

    laws: tuple[YieldLaw, ...] = ()
    simulated: tuple[SimulatedYield, ...] = ()
    facts: tuple[Fact, ...] = ()


class Level(_Part):
    """One objective of the repair, in order of importance."""

    name: str
    value: float | None = None
    bound: float | None = None
    proven: bool = False
    seconds: float | None = None
    method: str = ""


class RepairSection(_Part):
    """The plan.

    `displacement` is int16[height, width] packed by `pack`: physical minus nominal column of each logical core.
    """

    status: str
    facts: tuple[Fact, ...] = ()
    levels: tuple[Level, ...] = ()
    height: int = 0
    width: int = 0
    displacement: str = ""
    violations: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.displacement:
            unpack(self.displacement, (self.height, self.width), "int16")
        return self


class Line(_Part):
    """A horizontal reference line."""

    name: str
    value: float


class TrainingSection(_Part):
    """The clean run: losses per step against the tables that a model has to beat, and a sample of what it writes."""

    loss: Curve = ()
    unit: str = "nats per byte"
    held_out: tuple[tuple[int, float], ...] = ()
    references: tuple[Line, ...] = ()
    facts: tuple[Fact, ...] = ()
    prompt: str = ""
    sample: str = ""


class TraceView(_Part):
    """One launch over time. Build it with `trace_view`, which packs a `Trace`.

    Attributes:
        name: what the run was, e.g. "clean".
        text: a sentence on what is to be seen; may be empty.
        launch, rows, cols, bin_cycles, cycles, completed, waiting: as in `Trace`.
        bins: number of bins.
        hops: int32[bins * rows * cols, 5] packed by `pack`.
        cores: int32[bins * rows * cols, 3] packed by `pack`: cycles busy, starved, blocked.
    """

    name: str
    text: str = ""
    launch: str
    rows: int = Field(gt=0)
    cols: int = Field(gt=0)
    bins: int = Field(gt=0)
    bin_cycles: int = Field(gt=0)
    cycles: int = Field(ge=0)
    completed: bool
    waiting: tuple[tuple[int, int, str, int, int], ...] = ()
    hops: str
    cores: str

    @model_validator(mode="after")
    def _fits(self) -> Self:
        size = self.bins * self.rows * self.cols
        for text, columns in ((self.hops, 5), (self.cores, 3)):
            if unpack(text, (size, columns), "int32").min() < 0:
                raise ValueError("a trace has no negative numbers")
        if not (self.bins - 1) * self.bin_cycles <= self.cycles <= self.bins * self.bin_cycles:
            raise ValueError(f"{self.bins} bins of {self.bin_cycles} cycles do not cover {self.cycles} cycles")
        for r, c, state, _, _ in self.waiting:
            if not (0 <= r < self.rows and 0 <= c < self.cols) or state not in WAIT_WORDS:
                raise ValueError(f"core ({r}, {c}) cannot wait as {state}")
        return self


class TraceSection(_Part):
    """Launches over time: links and cores, so that a stall can be seen."""

    views: tuple[TraceView, ...]


class OutcomeCount(_Part):
    """How many trials of one kind of fault ended with one label of the referee."""

    kind: str
    label: str
    count: int = Field(ge=0)


class TrialCurve(_Part):
    """Loss of one trial, drawn beside the golden one."""

    trial: int
    label: str
    loss: Curve


class TrialRow(_Part):
    """One trial: what was injected, what the referee and the blind diagnosis say, and how to see it again."""

    trial: int
    kind: str
    site: str = ""
    step: int | None = None
    label: str = ""
    code: str = ""
    right: bool | None = None
    evidence: str = ""
    replay: str = ""


class AxisRate(_Part):
    """Rate of one label in one class of places, bits or moments, with its interval; the axis "all" is the whole."""

    axis: Literal["all", "site", "bit", "phase"]
    value: str
    label: str
    count: int = Field(ge=0)
    n: int = Field(ge=0)
    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class CellTrial(_Part):
    """A trial to look at, with its fault in words."""

    trial: int = Field(ge=0)
    label: str
    fault: str = ""


class RateCell(_Part):
    """Outcomes of the trials of one site, bit and phase, and some of these trials."""

    site: str
    bit: str
    phase: str
    counts: tuple[tuple[str, int], ...]
    trials: tuple[CellTrial, ...] = ()


class CampaignSection(_Part):
    """A campaign of injected faults, with the protection that its rates hinge on.

    `rates` are those of `outcome_table`, weighted where the campaign has a design; a cell's own rates are its counts.
    `replay` is the command that repeats a trial, less its number. `notes` say what was left out.
    """

    facts: tuple[Fact, ...] = ()
    protection: tuple[Fact, ...] = ()
    outcomes: tuple[OutcomeCount, ...] = ()
    confidence: float = Field(default=0.95, gt=0, lt=1)
    golden: Curve = ()
    curves: tuple[TrialCurve, ...] = ()
    trials: tuple[TrialRow, ...] = ()
    rates: tuple[AxisRate, ...] = ()
    weighted: bool = False
    cells: tuple[RateCell, ...] = ()
    replay: str = ""
    notes: tuple[str, ...] = ()


class ConfusionSection(_Part):
    """Blind codes against the referee's labels: counts[label][code]; `right` maps a label to the code that is right."""

    labels: tuple[str, ...]
    codes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    right: dict[str, str]
    needs: dict[str, str] = Field(default_factory=dict)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    note: str = ""

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if len(self.counts) != len(self.labels) or any(len(row) != len(self.codes) for row in self.counts):
            raise ValueError("counts needs one row per label and one column per code")
        if any(count < 0 for row in self.counts for count in row):
            raise ValueError("counts must not be negative")
        missing = [label for label in self.labels if label not in self.right]
        if missing:
            raise ValueError(f"right lacks {', '.join(missing)}")
        return self


class Provenance(_Part):
    """Everything needed to run it again."""

    command: str = ""
    seeds: tuple[Fact, ...] = ()
    versions: tuple[Fact, ...] = ()
    fingerprints: tuple[Fact, ...] = ()
    sources: tuple[Fact, ...] = ()
    date: str = ""


class ReportData(_Part):
    """A whole report; `taxonomy` is `Taxonomy.to_dict()`."""

    schema_version: Literal[1] = SCHEMA
    title: str
    subtitle: str = ""
    summary: Summary = Summary()
    wafer: WaferSection | None = None
    defects: DefectsSection | None = None
    yields: YieldSection | None = None
    repair: RepairSection | None = None
    training: TrainingSection | None = None
    traces: TraceSection | None = None
    campaign: CampaignSection | None = None
    confusion: ConfusionSection | None = None
    taxonomy: dict[str, Any] | None = None
    provenance: Provenance = Provenance()
    tables: tuple[Table, ...] = ()

    def to_json(self) -> str:
        """The document as JSON text, sections without content left out."""
        return self.model_dump_json(exclude_none=False, indent=1)

    def save(self, path: str | Path) -> Path:
        """Write the JSON document."""
        return write_bytes(path, self.to_json().encode())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "report data") -> Self:
        """Check plain values.

        Raises:
            BadSpec: with the path of every wrong field.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _spec(source, error) from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BadFile: the file cannot be read.
            BadSpec: it is not JSON, or with the path of every wrong field.
        """
        raw = read_bytes(path, limit_bytes=1 << 30)
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            raise _spec(str(path), error) from error


def _spec(source: str, error: ValidationError) -> BadSpec:
    problems = [
        (".".join(str(part) for part in item["loc"]) or "document", item["msg"])
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return BadSpec(source, problems[:20])
