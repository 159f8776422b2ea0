"""The campaign spec: what a campaign tests, as one frozen value."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from yieldkit.burnin.programs import KINDS

__all__ = [
    "AXES",
    "BITS",
    "FAULT_KINDS",
    "FILE_FIELDS",
    "KIND_GROUPS",
    "MODELS",
    "PHASES",
    "PROGRAM_KINDS",
    "RATE_GROUPS",
    "SITES",
    "UNITS",
    "CampaignSection",
    "CampaignSpec",
    "DefectsSection",
    "FaultsSection",
    "ProgramSection",
    "RepairSection",
    "StopSection",
    "StrataSection",
    "TrialsSection",
    "WaferSection",
    "model_bits",
]

PROGRAM_KINDS: Final = tuple(sorted(KINDS))
SITES: Final = (
    "accumulator", "index", "link_credit", "link_delay", "link_drop", "link_duplicate", "link_flip", "memoryx_moments",
    "memoryx_weights", "operand", "product", "queue", "register", "result", "route", "route_empty", "slow",
    "sram_activations", "sram_code", "sram_free", "sram_gradients", "sram_kv", "sram_other", "sram_weights", "stream",
    "stream_drop", "switch",
)  # fmt: skip
"""Classes of places, each a kind of fault of its own."""
KIND_GROUPS: Final = {
    "config": ("register", "route", "sram_code"),
    "sram_data": ("sram_activations", "sram_gradients", "sram_kv", "sram_weights"),
}
"""Kinds of fault that stand for several classes of places."""
FAULT_KINDS: Final = tuple(sorted((*SITES, *KIND_GROUPS)))
BITS: Final = (
    "check", "exponent_msb", "exponent_rest", "live", "mantissa_high", "mantissa_low", "sign", "unused", "whole",
)  # fmt: skip
PASSES: Final = ("backward", "forward", "head", "token")
THIRDS: Final = ("early", "late", "middle")
PHASES: Final = tuple(sorted((*PASSES, *(f"{one}.{third}" for one in PASSES for third in THIRDS))))
"""Classes of moments: the kind of the launch and, in training, the third of the run."""
MODELS: Final = ("adjacent_2", "bit", "random_2", "stuck_0", "stuck_1", "value", "zero")
"""What is done to the struck bit; adjacent_N and random_N strike N bits of the word, for N from 2 to 32."""
RATE_GROUPS: Final = {
    "link": tuple(name for name in SITES if name.startswith("link_")),
    "memoryx": ("memoryx_moments", "memoryx_weights"),
    "sram": tuple(name for name in SITES if name.startswith("sram_")),
}
"""Names that give one raw rate to several classes of places; a class's own entry comes first."""
_OTHER_UNITS: Final = {
    **dict.fromkeys(("accumulator", "operand", "product", "queue", "result", "slow"), "core"),
    **dict.fromkeys(("link_credit", "link_delay", "link_drop", "link_duplicate", "link_flip"), "link"),
    **dict.fromkeys(("memoryx_moments", "memoryx_weights"), "host_bit"),
    **dict.fromkeys(("stream", "stream_drop"), "host"),
}
UNITS: Final = {name: _OTHER_UNITS.get(name, "bit") for name in SITES}
"""What a raw rate counts, by class of places; the rate of bits is given by the Mbit, 2^20 of them."""
AXES: Final = ("site", "bit", "phase")
FILE_FIELDS: Final = (("wafer", "spec"), ("wafer", "defects", "klarf"))
"""Fields that name a file: relative paths start at the folder of the TOML file; the content enters the fingerprint."""

Scalar = bool | int | float | str
Positive = Annotated[float, Field(gt=0)]


def model_bits(name: str) -> int:
    """N of the model adjacent_N or random_N, 0 for any other."""
    kind, _, number = name.partition("_")
    wanted = kind in ("adjacent", "random") and number.isascii() and number.isdigit() and len(number) <= len("32")
    return int(number) if wanted and str(int(number)) == number and int(number) in range(2, 33) else 0


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
    bypassed ones included. `options` belong to the bench. `models` are what is done to the struck bit, with weights (a
    flip of it, if there are none). `importance` has factors by class of places, bits or moments: draws come that much
    more often there, and weigh that much less.
    """

    kinds: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]
    sites: Literal["used", "all"] = "used"
    options: dict[str, Scalar] = {}
    models: dict[str, Annotated[float, Field(ge=0)]] = {}
    importance: dict[str, Positive] = {}

    @field_validator("kinds", "models", "importance")
    @classmethod
    def _sorted(cls, weights: dict[str, float]) -> dict[str, float]:
        return dict(sorted(weights.items()))


class StrataSection(_Section):
    """Strata and how many trials each gets; without the table faults are drawn by kind alone.

    Attributes:
        by: what strata are told apart by; every combination that the program has is a stratum.
        floor: trials in every stratum before any other gets more.
        allocation: of the trials above the floor: by population, or for the smallest variance of the target's rate.
        target: a label, or labels that count as one, for "neyman".
        mix: share of the trials of "neyman" that goes by population all the same.
    """

    by: Annotated[tuple[Literal["site", "bit", "phase"], ...], Field(min_length=1)] = AXES
    floor: Annotated[int, Field(ge=0, le=10**6)] = 4
    allocation: Literal["proportional", "neyman"] = "proportional"
    target: Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    mix: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def targets(self) -> tuple[str, ...]:
        """Labels of the target."""
        return (self.target,) if isinstance(self.target, str) else self.target or ()


class TrialsSection(_Section):
    """How trials end, and how many of them are checked.

    Attributes:
        exit: "exact": early only where the rest is known; "statistical": also once the loss has stayed near the clean
            run's (training; see docs/trials.md for how often that is wrong).
        long_way: share of the trials that are also run from the first step to the last, word by word where struck, and
            compared; a difference is an error in yieldkit.
    """

    exit: Literal["exact", "statistical"] = "exact"
    long_way: Annotated[float, Field(ge=0, le=1)] = 0.0


class CampaignSpec(_Section):
    """A whole campaign. File fields hold absolute paths once it is loaded.

    `rates` are raw rates of faults by class of places, in the units of `yieldkit.burnin.fit`; they turn rates of
    outcomes into failures in time and alter no trial.
    """

    campaign: CampaignSection
    wafer: WaferSection
    program: ProgramSection
    faults: FaultsSection
    strata: StrataSection | None = None
    trials: TrialsSection | None = None
    rates: dict[str, Annotated[float, Field(ge=0)]] | None = None

    def tables(self) -> dict[str, Any]:
        """Nested plain tables without the fields that are absent."""
        tables: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return tables
