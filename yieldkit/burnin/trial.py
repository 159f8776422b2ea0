"""One trial and the bench that carries it out: the only door between a campaign and what it tests."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, cast

from yieldkit.errors import BadInput
from yieldkit.files import canonical_json

if TYPE_CHECKING:
    from yieldkit.burnin.spec import CampaignSpec

__all__ = [
    "BENCHES",
    "SEMANTICS",
    "Bench",
    "BenchModule",
    "FaultClass",
    "TrialRecord",
    "TrialRow",
    "bench_module",
    "open_bench",
]

SEMANTICS: Final = 3
"""Version of the rules by which (spec, seed, k) becomes a record; it is part of every fingerprint."""

BENCHES: Final[Mapping[str, str]] = {"emulator": "yieldkit.burnin.emulator_bench"}
"""The module behind each kind of bench; others are given by the caller, see `open_bench`."""


class FaultClass(NamedTuple):
    """Everything that could be struck and that a campaign does not tell apart: the finest cell of its strata.

    Attributes:
        site: class of the place, e.g. "sram_weights".
        bit: class of the bit, e.g. "exponent_msb"; "unused" for bits that nothing reads.
        phase: class of the moment, e.g. "backward.late".
        population: (place, moment, bit) triples in it, each as likely as any other under a uniform raw rate.
        units: what a raw rate counts, on the average over the run: bits of what stores, cores of a datapath, directed
            links; classes of one place share its cores or links by population.
    """

    site: str
    bit: str
    phase: str
    population: int
    units: float = 0.0


class TrialRow(NamedTuple):
    """A trial as the store keeps it; truth, observations and metrics are canonical JSON."""

    k: int
    kind: str
    label: str
    truth: str
    observations: str
    metrics: str
    site: str = ""
    bit: str = ""
    phase: str = ""
    model: str = ""
    weight: float = 1.0


_PLAIN: Final = frozenset({str, int, bool, type(None)})
_CLASS_FIELDS: Final = ("site", "bit", "phase", "model")


@dataclass(frozen=True)
class TrialRecord:
    """What is kept of trial `k`: nothing in it depends on the worker, the hour or the machine.

    Attributes:
        k: number of the trial.
        truth: the injected fault, plain JSON: `kind`, physical site, when and which bit, logical core or bypassed.
        label: the referee's word for the outcome.
        observations: what could be seen from outside, as `Symptoms.to_dict` writes it.
        metrics: flat numbers of the referee (final loss, difference to the golden run, ...); may be non-finite.
        site, bit, phase: the fault's class, see `FaultClass`; "" where the bench has none.
        model: what was done to the bit ("bit", "stuck0", ...), "" where the bench has none.
        weight: how much more often a uniform draw inside the trial's stratum would have come to this fault than the
            draw that was made (1 unless bits are drawn by importance).
    """

    k: int
    truth: Mapping[str, Any]
    label: str
    observations: Mapping[str, Any]
    metrics: Mapping[str, float]
    site: str = ""
    bit: str = ""
    phase: str = ""
    model: str = ""
    weight: float = 1.0

    @property
    def kind(self) -> str:
        """The kind of the injected fault, or "none"."""
        return str(self.truth.get("kind", "none"))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; non-finite numbers become "nan", "inf" and "-inf"."""
        return {
            "k": int(self.k),
            "truth": _plain(self.truth),
            "label": str(self.label),
            "site": str(self.site),
            "bit": str(self.bit),
            "phase": str(self.phase),
            "model": str(self.model),
            "weight": float(self.weight),
            "observations": _plain(self.observations),
            "metrics": _plain(self.metrics),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote; metrics are numbers again."""
        metrics = {name: float(value) if isinstance(value, str) else value for name, value in data["metrics"].items()}
        words: dict[str, Any] = {name: str(data.get(name, "")) for name in _CLASS_FIELDS}
        words["weight"] = float(data.get("weight", 1.0))
        return cls(int(data["k"]), data["truth"], str(data["label"]), data["observations"], metrics, **words)

    def to_row(self) -> TrialRow:
        """What the store keeps: canonical JSON texts.

        Raises:
            TypeError: something in the record is not JSON.
        """
        plain = self.to_dict()
        truth, observations, metrics = (canonical_json(plain[name]) for name in ("truth", "observations", "metrics"))
        rest = {name: plain[name] for name in (*_CLASS_FIELDS, "weight")}
        return TrialRow(plain["k"], self.kind, plain["label"], truth, observations, metrics, **rest)

    @classmethod
    def from_row(cls, row: TrialRow) -> Self:
        """Rebuild what `to_row` wrote."""
        parts = {name: json.loads(getattr(row, name)) for name in ("truth", "observations", "metrics")}
        return cls.from_dict({**row._asdict(), **parts})

    def text(self) -> str:
        """Canonical JSON: two records are the same trial's exactly when their texts are equal (NaN included)."""
        return canonical_json(self.to_dict())


class Bench(Protocol):
    """Golden state and machinery of one campaign, built once in every worker process.

    `task_fingerprint` names everything built (program, image, golden hashes) that could change a trial. `trial(k)` is
    a pure function of the spec, its seed and k: the order of calls, the process and the number of workers do not enter.
    A bench may also have `clean_observations`, a sequence of `Symptoms.to_dict()` of clean runs: what monitoring would
    know of the job beforehand. It is kept with the run and handed to diagnosis.

    For strata a bench has `classes`, a sequence of `FaultClass`, and `trial_of(k, fault)`, which carries out trial `k`
    with a fault of that class.
    """

    @property
    def task_fingerprint(self) -> str:
        """Hexadecimal digest of everything built."""
        ...

    def trial(self, k: int) -> TrialRecord:
        """Carry out trial `k`."""
        ...


class BenchModule(Protocol):
    """A module that offers a kind of bench.

    `check_spec` reads the raw, still unvalidated tables of a spec and returns (path of the field, what is wrong) for
    whatever only this bench can judge; it must be quick and must not trust the data. `open_bench` may take long.
    """

    def check_spec(self, tables: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Name every field that is wrong."""
        ...

    def open_bench(self, spec: CampaignSpec) -> Bench:
        """Build the bench of a valid spec whose file paths are absolute."""
        ...


def bench_module(kind: str, benches: Mapping[str, str] | None = None) -> BenchModule:
    """Import the module of a kind of bench.

    Args:
        kind: the `bench` of a spec.
        benches: kinds and importable module names in addition to (or instead of) the built-in ones; worker processes
            must be able to import them.

    Raises:
        BadInput: the kind is unknown, or its module does not exist or is not a bench.
    """
    known = {**BENCHES, **(benches or {})}
    if kind not in known:
        raise BadInput("unknown bench", value=kind, cure=f"known: {', '.join(sorted(known))}")
    name = known[kind]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        what = f"bench {kind!r}: module {name} cannot be imported"
        raise BadInput(what, cure="check the name and the path") from error
    missing = [part for part in ("check_spec", "open_bench") if not callable(getattr(module, part, None))]
    if missing:
        raise BadInput(f"bench {kind!r}: module {name} has no {' and no '.join(missing)}")
    return cast(BenchModule, module)


def open_bench(spec: CampaignSpec, benches: Mapping[str, str] | None = None) -> Bench:
    """Build the bench that `spec.campaign.bench` names; see `bench_module` for `benches` and errors."""
    return bench_module(spec.campaign.bench, benches).open_bench(spec)


def _plain(value: Any) -> Any:
    exact = type(value)
    if exact in _PLAIN:
        return value
    if exact is float:
        return value if math.isfinite(value) else str(value)
    if exact is dict or isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return list(value) if set(map(type, value)) <= _PLAIN else [_plain(item) for item in value]
    if isinstance(value, float):
        # A subclass such as numpy's float64 must print as a plain number.
        return _plain(float(value))
    return _plain(value.item()) if hasattr(value, "item") else value
