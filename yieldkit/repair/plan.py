"""`RepairPlan`: the answer for one wafer, with what is proven about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadFile, BadInput
from yieldkit.files import canonical_json, fingerprint, read_bytes, write_text
from yieldkit.repair.rules import RowShift, Rules, rules_from_dict

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.wafer import WaferSpec

__all__ = ["Level", "RepairPlan", "Status", "plain_fields", "row_runs", "runs_to_columns"]

Status = Literal["optimal", "feasible", "infeasible", "unknown"]
_STATUSES: Final = ("optimal", "feasible", "infeasible", "unknown")
PLAN_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Level:
    """One objective of the lexicographic order: its value, the proven lower bound and how it was found."""

    name: str
    value: int
    bound: int
    seconds: float
    method: str

    @property
    def proven(self) -> bool:
        """Whether the value meets the bound."""
        return self.value == self.bound


@dataclass(frozen=True, eq=False)
class RepairPlan:
    """Which physical core each logical core is.

    Attributes:
        status: "optimal" (every level proven), "feasible" (a plan that holds, some level not proven), "infeasible"
            (proven that there is none; see `certificate`) or "unknown" (a limit was reached first).
        rules: the architecture, its logical shape filled in.
        core_of: int32[H, W, 2], logical (row, col) -> physical (row, col); None without a plan.
        levels: objectives in their order; each is minimised without giving up any level before it.
        certificate: for "infeasible", why, in a form that a person can check on the map.
        seconds: time spent in planning.
        physical_shape: (rows, cols) of the wafer's sites.
        bypassed_marginal: int32[n, 2], marginal cores that the plan does not use.
        kept_marginal: int32[n, 2], marginal cores that it does use.
        faults_fingerprint, spec_fingerprint, wafer_id: what the plan is for.
    """

    status: Status
    rules: Rules
    core_of: npt.NDArray[np.int32] | None
    levels: tuple[Level, ...]
    certificate: dict[str, Any] | None = None
    seconds: float = 0.0
    physical_shape: tuple[int, int] = (0, 0)
    bypassed_marginal: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 2), np.int32))
    kept_marginal: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 2), np.int32))
    faults_fingerprint: str = ""
    spec_fingerprint: str = ""
    wafer_id: str = ""

    # The folder above registers here how a plan becomes a firmware image; this one may not import it.
    firmware_maker: ClassVar[Callable[..., Any] | None] = None

    @property
    def objective(self) -> int | None:
        """Value of the last level, the total skew; None without a plan."""
        return self.levels[-1].value if self.repaired and self.levels else None

    @property
    def bound(self) -> int | None:
        """Proven lower bound of the last level."""
        return self.levels[-1].bound if self.repaired and self.levels else None

    @property
    def proven(self) -> bool:
        """Whether nothing is left to prove: every level is at its bound, or there is provably no plan."""
        return self.status in ("optimal", "infeasible")

    @property
    def repaired(self) -> bool:
        """Whether there is a plan."""
        return self.core_of is not None

    @property
    def logical_shape(self) -> tuple[int, int]:
        """(H, W) of the fabric asked for."""
        if self.rules.logical_shape is None:
            raise BadInput("the plan's rules have no logical shape")
        return self.rules.logical_shape

    @property
    def stretched_links(self) -> int:
        """Logical links that are not on a nominal one: a skip along the row, or a shift between two rows."""
        if self.core_of is None:
            return 0
        col = self.core_of[:, :, 1]
        return int(np.count_nonzero(np.diff(col, axis=1) != 1) + np.count_nonzero(np.diff(col, axis=0)))

    def column_groups(self) -> tuple[int, list[tuple[int, list[int]]], npt.NDArray[np.int32]]:
        """(first row, runs as in `row_runs`, int32[groups, W] columns): what the firmware image is made of.

        Raises:
            BadInput: there is no map, or the image has no form for it.
        """
        if self.core_of is None:
            raise BadInput("there is no map to ship: the plan's status is", value=self.status)
        groups = row_runs(self.core_of[:, :, 1])
        starts = np.cumsum([0, *(n for n, _ in groups[:-1])])
        return int(self.core_of[0, 0, 0]), groups, np.ascontiguousarray(self.core_of[starts, :, 1])

    @property
    def reaches(self) -> tuple[int, int]:
        """(skip reach, vertical reach) that the map uses."""
        return self.level("skip_reach").value, self.level("vertical_reach").value

    def level(self, name: str) -> Level:
        """The level of that name.

        Raises:
            BadInput: there is none.
        """
        for level in self.levels:
            if level.name == name:
                return level
        raise BadInput("the plan has no such level", value=name)

    def firmware(self, *, wafer_id: str | None = None, wafer: WaferSpec | None = None) -> Any:
        """The `FirmwareImage` that ships this plan; see `yieldkit.fabric.FirmwareImage.from_plan`.

        Raises:
            BadInput: there is no plan to ship.
        """
        if RepairPlan.firmware_maker is None:
            # By name, not by an import statement: the image format lives in a higher folder, which registers itself.
            import importlib

            importlib.import_module("yieldkit.fabric.image")
        maker = RepairPlan.firmware_maker
        if maker is None:
            raise BadInput("no firmware format is registered", cure="import yieldkit.fabric")
        return maker(self, wafer_id=wafer_id, wafer=wafer)

    # Tables and files

    def to_frame(self) -> pd.DataFrame:
        """One row a level: name, value, bound, proven, seconds, method."""
        import pandas as pd

        return pd.DataFrame([_level_facts(level) for level in self.levels])

    def to_dict(self) -> dict[str, Any]:
        """Plain values; rows of the map as runs (see `row_runs`), equal rows in a row counted once."""
        rows: list[list[Any]] | None = None
        if self.core_of is not None:
            rows = [[count, runs] for count, runs in row_runs(self.core_of[:, :, 1])]
        return {**self._facts(), "rows": rows}

    def _facts(self) -> dict[str, Any]:
        """Plain values of all but the map."""
        return {
            "format": "yieldkit-repair-plan",
            "version": PLAN_VERSION,
            "status": self.status,
            "rules": self.rules.to_dict(),
            "physical_shape": list(self.physical_shape),
            "levels": [_level_facts(level) for level in self.levels],
            "certificate": self.certificate,
            "seconds": self.seconds,
            "bypassed_marginal": self.bypassed_marginal.tolist(),
            "kept_marginal": self.kept_marginal.tolist(),
            "faults_fingerprint": self.faults_fingerprint,
            "spec_fingerprint": self.spec_fingerprint,
            "wafer_id": self.wafer_id,
        }

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the plan without its times: equal for equal plans."""
        facts = self.to_dict()
        del facts["seconds"]
        for level in facts["levels"]:
            del level["seconds"]
        return fingerprint(facts)

    def save(self, path: str | Path) -> Path:
        """Write the plan as JSON, whole or not at all."""
        return write_text(path, canonical_json(self.to_dict()) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> RepairPlan:
        """Read a plan.

        Raises:
            BadFile: not a plan of a known version, or not whole.
        """
        data = read_bytes(path, limit_bytes=256 << 20)
        try:
            facts = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadFile(path, f"is not JSON: {error}") from None
        if not isinstance(facts, dict) or facts.get("format") != "yieldkit-repair-plan":
            raise BadFile(path, "is not a repair plan", cure="it is written by `yieldkit repair plan --out`")
        if facts.get("version") != PLAN_VERSION:
            raise BadFile(path, f"plan version must be {PLAN_VERSION}", value=facts.get("version"))
        try:
            # Each kind of rules has its kind of map; the class that was asked for does not matter.
            if rules_from_dict(facts["rules"]).kind == "line_spares":
                from yieldkit.repair.lineplan import LinePlan

                return LinePlan.from_dict(facts)
            return RepairPlan.from_dict(facts)
        except BadInput as error:
            raise BadFile(path, str(error)) from None
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise BadFile(path, f"is not a whole repair plan: {type(error).__name__} {error}") from None

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> RepairPlan:
        """The inverse of `to_dict`."""
        common = plain_fields(facts)
        rules = common["rules"]
        if not isinstance(rules, RowShift) or rules.logical_shape is None:
            raise BadInput("rules must be row_shift with a logical_shape")
        height, width = rules.logical_shape
        if height * width > 100_000_000:
            raise BadInput("the logical fabric has more than 100 million cores", value=[height, width])
        core_of = None
        if facts["rows"] is not None:
            col = runs_to_columns([(int(n), runs) for n, runs in facts["rows"]], height, width)
            core_of = np.empty((height, width, 2), np.int32)
            core_of[:, :, 0] = np.arange(rules.first_row, rules.first_row + height, dtype=np.int32)[:, None]
            core_of[:, :, 1] = col
        return cls(core_of=core_of, **common)

    # Showing

    def summary(self) -> str:
        """A few lines for people."""
        height, width = self.logical_shape
        lines = [f"{self.status}: {height} x {width} fabric, {self.seconds:.3f} s"]
        for level in self.levels:
            state = "proven" if level.proven else f"bound {level.bound}"
            lines.append(f"  {level.name.replace('_', ' '):18} {level.value:>9} ({state})")
        if self.certificate:
            lines.append(f"  why not: {self.certificate.get('text', '')}")
        if len(self.kept_marginal):
            lines.append(f"  marginal cores in use: {len(self.kept_marginal)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        height, width = self.logical_shape
        return f"RepairPlan({self.status}, {height}x{width}, objective={self.objective}, bound={self.bound})"

    def _repr_html_(self) -> str:
        height, width = self.logical_shape
        head = "".join(f"<th>{name}</th>" for name in ("level", "value", "bound", "proven", "seconds", "method"))
        body = "".join(
            f"<tr><td>{escape(x.name)}</td><td>{x.value}</td><td>{x.bound}</td><td>{'yes' if x.proven else 'no'}</td>"
            f"<td>{x.seconds:.3f}</td><td>{escape(x.method)}</td></tr>"
            for x in self.levels
        )
        why = f"<p>{escape(str(self.certificate.get('text', '')))}</p>" if self.certificate else ""
        return (
            f"<table><caption>Repair plan, {height} x {width}: {escape(self.status)}</caption>"
            f"<tr>{head}</tr>{body}</table>{why}"
        )


def _level_facts(level: Level) -> dict[str, Any]:
    return {
        "name": level.name,
        "value": level.value,
        "bound": level.bound,
        "proven": level.proven,
        "seconds": level.seconds,
        "method": level.method,
    }


def plain_fields(facts: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a plan from what `to_dict` gave, all but its map.

    Raises:
        BadInput: an unknown status or architecture.
    """
    rules = rules_from_dict(facts["rules"])
    if facts["status"] not in _STATUSES:
        raise BadInput("status is unknown", value=facts["status"])
    levels = tuple(
        Level(str(x["name"]), int(x["value"]), int(x["bound"]), float(x["seconds"]), str(x["method"]))
        for x in facts["levels"]
    )
    shape = facts["physical_shape"]
    return {
        "status": facts["status"],
        "rules": rules,
        "levels": levels,
        "certificate": facts["certificate"],
        "seconds": float(facts["seconds"]),
        "physical_shape": (int(shape[0]), int(shape[1])),
        "bypassed_marginal": np.array(facts["bypassed_marginal"], np.int32).reshape(-1, 2),
        "kept_marginal": np.array(facts["kept_marginal"], np.int32).reshape(-1, 2),
        "faults_fingerprint": str(facts["faults_fingerprint"]),
        "spec_fingerprint": str(facts["spec_fingerprint"]),
        "wafer_id": str(facts["wafer_id"]),
    }


def row_runs(col: npt.NDArray[np.int32]) -> list[tuple[int, list[int]]]:
    """Physical columns int32[H, W] as runs: pairs (number of equal rows, runs of the row).

    The runs of a row are ``[first, c1, j1, c2, j2, ...]``: the physical column of logical column 0, then at each
    logical column c the number of sites j >= 2 that the link from c - 1 to c spans; all other links span 1.
    """
    same = (col[1:] == col[:-1]).all(axis=1)
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1, [len(col)]])
    out: list[tuple[int, list[int]]] = []
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        step = np.diff(col[begin])
        at = np.flatnonzero(step != 1)
        runs = [int(col[begin, 0])]
        for c in at.tolist():
            runs += [c + 1, int(step[c])]
        out.append((end - begin, runs))
    return out


def runs_to_columns(rows: list[tuple[int, list[int]]], height: int, width: int) -> npt.NDArray[np.int32]:
    """The inverse of `row_runs`: int32[height, width].

    Raises:
        BadInput: runs do not fit the shape.
    """
    counts = np.array([n for n, _ in rows], np.int64)
    if (counts < 1).any() or counts.sum() != height:
        raise BadInput(f"rows must add up to {height}", value=int(counts.sum()))
    step = np.ones((len(rows), width), np.int32)
    for i, (_, runs) in enumerate(rows):
        array = np.array(runs, np.int64)
        at, jump = array[1::2], array[2::2]
        if len(array) % 2 != 1 or (at < 1).any() or (at >= width).any() or (np.diff(at) <= 0).any():
            raise BadInput(f"runs of row group {i} do not fit {width} columns", value=runs)
        if (np.abs(array) >= 1 << 30).any():
            raise BadInput(f"runs of row group {i} are out of range", value=runs)
        step[i, 0] = array[0]
        step[i, at] = jump
    columns = np.cumsum(step, axis=1, dtype=np.int32)
    return np.repeat(columns, counts, axis=0)
