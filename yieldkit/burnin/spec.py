"""The campaign spec: what a campaign tests, as one frozen value."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from yieldkit.burnin.programs import KINDS

__all__ = [
    "FAULT_KINDS",
    "FILE_FIELDS",
    "PROGRAM_KINDS",
    "CampaignSection",
    "CampaignSpec",
    "DefectsSection",
    "FaultsSection",
    "ProgramSection",
    "RepairSection",
    "StopSection",
    "WaferSection",
]

PROGRAM_KINDS: Final = tuple(sorted(KINDS))
FAULT_KINDS: Final = ("accumulator", "config", "link_drop", "link_flip", "sram_data")
FILE_FIELDS: Final = (("wafer", "spec"), ("wafer", "defects", "klarf"))
"""Fields that name a file: relative paths start at the folder of the TOML file; the content enters the fingerprint."""

Scalar = bool | int | float | str
Positive = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class StopSection(_Section):
    """Stop early, at the end of a round, when the interval of one label's rate is narrow enough."""

    label: Annotated[str, Field(min_length=1)]
    half_width: Annotated[float, Field(gt=0, lt=0.5)]
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


class CampaignSection(_Section):
    """Name, seed and budget. `trials`, `round`, `chunk` and `stop` may change between runs of one campaign."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    trials: Annotated[int, Field(ge=1, le=10**9)]
    round: Annotated[int, Field(ge=1)] = 64
    chunk: Annotated[int, Field(ge=1)] = 8
    bench: Annotated[str, Field(min_length=1)] = "emulator"
    stop: StopSection | None = None


class DefectsSection(_Section):
    """Defects from a law, drawn with `seed` (the campaign's if absent), or those of one wafer of a KLARF file."""

    law: Literal["poisson", "negative_binomial"] | None = None
    d0_per_cm2: Annotated[float, Field(ge=0)] | None = None
    alpha: Positive | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    klarf: Annotated[str, Field(min_length=1)] | None = None
    wafer_id: str | None = None
    place: Literal["as_is", "scaled"] | None = None


class RepairSection(_Section):
    """Repair rules; what is absent comes from the wafer's own spec."""

    rule: Literal["row_shift"] = "row_shift"
    spares: Annotated[int, Field(ge=0)] | None = None
    skip_reach: Annotated[int, Field(ge=1)] | None = None
    vertical_reach: Annotated[int, Field(ge=0)] | None = None


class WaferSection(_Section):
    """A preset or a wafer spec file, its defects (none: a perfect wafer) and its repair."""

    preset: Annotated[str, Field(min_length=1)] | None = None
    spec: Annotated[str, Field(min_length=1)] | None = None
    id: Annotated[str, Field(min_length=1, max_length=64)] = "W01"
    defects: DefectsSection | None = None
    repair: RepairSection = RepairSection()


class ProgramSection(BaseModel):
    """The workload: its kind and parameters of its own, which the bench checks."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    kind: Annotated[str, Field(min_length=1)]

    @property
    def parameters(self) -> dict[str, Scalar]:
        """Everything but the kind, sorted by name."""
        return dict(sorted((self.__pydantic_extra__ or {}).items()))


class FaultsSection(_Section):
    """Kinds of fault with their weights (sorted by name, so that draws do not depend on the order of writing).

    `sites` "used" draws among physical cores and links that the plan uses, "all" among every one that is present,
    bypassed ones included. `options` belong to the bench.
    """

    kinds: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]
    sites: Literal["used", "all"] = "used"
    options: dict[str, Scalar] = {}

    @field_validator("kinds")
    @classmethod
    def _sorted(cls, kinds: dict[str, float]) -> dict[str, float]:
        return dict(sorted(kinds.items()))


class CampaignSpec(_Section):
    """A whole campaign. File fields hold absolute paths once it is loaded."""

    campaign: CampaignSection
    wafer: WaferSection
    program: ProgramSection
    faults: FaultsSection

    def tables(self) -> dict[str, Any]:
        """Nested plain tables without the fields that are absent."""
        tables: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return tables
