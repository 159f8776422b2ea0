"""Which workload exposes which weak part: every weak part alone, under every workload, and what could be seen of it.

A part is exposed by a workload where its fault changes any bit that the job keeps (which takes a golden run to compare
with) or where blind diagnosis says more than "masked or benign" (which takes no golden run, only the band of clean
ones). A part that is not exposed has the reason beside it. The machine decides all of it; nothing here is drawn but the
occasions of intermittent faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

from yieldkit.burnin.screening_runs import ANY_WORKLOAD, Clean, ScreeningWorkload, run_clean, run_part
from yieldkit.diagnosis import classify
from yieldkit.emulator.placement import FabricView, Placement
from yieldkit.emulator.symptoms import COMPLETED
from yieldkit.errors import BadInput
from yieldkit.faults import Environment, PersistentPlan, WeakPart, WeakParts, WeakPopulation
from yieldkit.quantities import LinkKey, Site

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.fabric import Fabric
    from yieldkit.faults.weak_parts import Stress

__all__ = [
    "REASONS",
    "Screening",
    "ScreeningRow",
    "ScreeningWorkload",
    "parts_of_each_kind",
    "screen",
    "screening_table",
]

REASONS: Final = ("dormant", "bypassed", "unused", "condition", "quiet", "masked")
"""Why a part was not exposed, the first that holds: it has not begun to fail; its site is bypassed or outside the
rectangle; nothing of the workload passes it; its thresholds were not met; it met its occasions and struck at none of
them; it struck, and nothing came of it."""

_ALL: Final = "all"
_BENIGN: Final = "MASKED_OR_BENIGN"


@dataclass(frozen=True)
class ScreeningRow:
    """One part under one workload.

    Attributes:
        part: its number.
        kind: its kind.
        workload: name.
        reason: why it was not exposed, one of `REASONS`; "" where it was.
        changed: a bit that the job keeps differs from the golden run, or the run did not complete.
        seen: diagnosis says more than masked or benign, without golden run.
        code: what it says; "" where nothing struck.
        strikes: events in the run, before a stall cut it short.
        first_step: step of the first one, or None.
    """

    part: int
    kind: str
    workload: str
    reason: str
    changed: bool = False
    seen: bool = False
    code: str = ""
    strikes: int = 0
    first_step: int | None = None


@dataclass(frozen=True)
class Screening:
    """Every part under every workload.

    Attributes:
        rows: by workload, then by part.
        environment: that all of it ran in.
        seed: of the draws.
    """

    rows: tuple[ScreeningRow, ...]
    environment: Environment = field(default_factory=Environment)
    seed: int = 0

    def to_frame(self) -> pd.DataFrame:
        """One row a part and workload."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows], columns=[item.name for item in fields(ScreeningRow)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "environment": self.environment.to_dict(),
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: unknown, missing or wrong fields.
        """
        try:
            rows = tuple(ScreeningRow(**row) for row in data["rows"])
            return cls(rows, Environment.from_dict(data["environment"]), int(data["seed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"screening cannot be read: {error}") from error


def parts_of_each_kind(
    population: WeakPopulation,
    fabric: Fabric,
    workloads: Sequence[ScreeningWorkload],
    *,
    n: int,
    kinds: Sequence[str] | None = None,
    rng: int = 0,
) -> WeakParts:
    """Draw n weak parts of every kind on the cores and links that the workloads lie on.

    Args:
        population: for its mechanisms and lives; its fractions do not enter.
        fabric: booted from a wafer.
        workloads: their rectangles together are drawn from.
        n: parts of each kind.
        kinds: names; None: those with a weight in the population.
        rng: seed.

    Raises:
        BadInput: the fabric has no wafer, a rectangle leaves it, or a kind is unknown.
    """
    if fabric.spec is None:
        raise BadInput("weak parts are those of a wafer, and this fabric has none")
    sites: dict[Site, None] = {}
    links: dict[LinkKey, None] = {}
    for work in workloads:
        placement = Placement.of(work.program, fabric, work.origin)
        for r in range(placement.rows):
            for c in range(placement.cols):
                sites[placement.physical(r, c)] = None
                for port, inside in ((1, c + 1 < placement.cols), (2, r + 1 < placement.rows)):
                    key = fabric.physical_link(work.origin[0] + r, work.origin[1] + c, port) if inside else None
                    if key is not None:
                        links[key] = None
    chosen = [name for name, weight in population.kinds.items() if weight > 0] if kinds is None else list(kinds)
    drawn: list[WeakPart] = []
    for kind in chosen:
        parts = population.sample_at(kind, n, fabric.spec, sites=sorted(sites), links=sorted(links), rng=rng)
        drawn += [replace(part, number=len(drawn) + index) for index, part in enumerate(parts)]
    return WeakParts(tuple(drawn), fabric.spec.fingerprint)


def screen(
    parts: WeakParts,
    workloads: Sequence[ScreeningWorkload],
    fabric: FabricView,
    *,
    environment: Environment | None = None,
    stress: Stress = (),
    seed: int = 0,
    progress: Callable[[ScreeningRow], None] | None = None,
) -> Screening:
    """Run every workload with every weak part alone.

    Args:
        parts: weak parts of the wafer.
        workloads: with names that differ.
        fabric: booted.
        environment: temperature, voltage and age during the runs.
        stress: earlier exposure, see `WeakParts.faults`.
        seed: of the occasions of intermittent faults.
        progress: called after each part and workload.

    Returns:
        the rows; the same for the same arguments on every machine.

    Raises:
        BadInput: two workloads have one name, a rectangle leaves the fabric, or a fault does not fit the machine.
    """
    environment = environment or Environment()
    names = [work.name for work in workloads]
    if len(set(names)) < len(names):
        raise BadInput("workloads must have names that differ", value=names)
    rows = []
    for row in _rows(parts, workloads, fabric, environment, stress, seed):
        rows.append(row)
        if progress is not None:
            progress(row)
    return Screening(tuple(rows), environment, seed)


def screening_table(screening: Screening, *, confidence: float = 0.95) -> pd.DataFrame:
    """Share of the parts of each kind that each workload exposes, with why the others stay hidden.

    Args:
        screening: from `screen`.
        confidence: of the two-sided Wilson intervals, each on its own.

    Returns:
        a row for every kind and workload; the kind "all" comes last, and the workload "any" counts a part that at least
        one of them exposes. Columns: kind, workload, n, changed, changed_rate, changed_low, changed_high (golden
        compare), seen, seen_rate, seen_low, seen_high (diagnosis without golden run), the `REASONS` with how many parts
        each explains (empty for "any"), codes.

    Raises:
        BadInput: the confidence is out of range.
    """
    import pandas as pd

    from yieldkit.reliability import wilson_interval

    rows = screening.rows
    works = list(dict.fromkeys(row.workload for row in rows))
    kinds = list(dict.fromkeys(row.kind for row in rows))
    table = []
    for kind in [*kinds, *([_ALL] if len(kinds) > 1 else [])]:
        of_kind = [row for row in rows if kind in (row.kind, _ALL)]
        for work in [*works, *([ANY_WORKLOAD] if len(works) > 1 else [])]:
            here = [row for row in of_kind if work in (row.workload, ANY_WORKLOAD)]
            n = len({row.part for row in here})
            counts = {name: len({row.part for row in here if getattr(row, name)}) for name in ("changed", "seen")}
            cell: dict[str, Any] = {"kind": kind, "workload": work, "n": n}
            for name, count in counts.items():
                low, high = (float(end) for end in wilson_interval(count, n, confidence=confidence))
                cell |= {name: count, f"{name}_rate": count / n, f"{name}_low": low, f"{name}_high": high}
            for reason in REASONS:
                cell[reason] = pd.NA if work == ANY_WORKLOAD else sum(row.reason == reason for row in here)
            codes = [row.code for row in here if row.code not in ("", _BENIGN)]
            cell["codes"] = ", ".join(f"{code} {codes.count(code)}" for code in sorted(set(codes)))
            table.append(cell)
    frame = pd.DataFrame(table)
    return frame.astype(dict.fromkeys(REASONS, "Int64")) if table else frame


def _rows(
    parts: WeakParts,
    workloads: Sequence[ScreeningWorkload],
    fabric: FabricView,
    environment: Environment,
    stress: Stress,
    seed: int,
) -> Iterator[ScreeningRow]:
    awake = {part.number for part in parts.active(environment, stress=stress)}
    for work in workloads:
        clean = run_clean(work, fabric)
        for part in parts:
            row = ScreeningRow(part.number, part.kind, work.name, "dormant")
            if part.number in awake:
                plan = PersistentPlan([part.fault], clean.placement, clean.lowered, environment=environment, seed=seed)
                plan.check(clean.lowered)
                row = _screened(row, plan, clean)
            yield row


def _screened(row: ScreeningRow, plan: PersistentPlan, clean: Clean) -> ScreeningRow:
    fault = plan.faults[0]
    if not plan.exposure.touches(fault.event):
        return replace(row, reason="bypassed")
    lows = [low for low in clean.lowered.launches if fault.event.launch in ("", low.name)]
    used = [low for low in lows if plan.exposure.occasions(fault.event, fault.kind_of_occasion, low).count]
    if not used:
        return replace(row, reason="unused")
    if not any(fault.condition.met(**plan.conditions(fault, low)) for low in used):
        return replace(row, reason="condition")
    events = {step: sum(plan.strikes(fault, step, low) for low in lows) for step in range(clean.work.steps)}
    struck = [step for step, count in events.items() if count]
    if not struck:
        return replace(row, reason="quiet")
    symptoms, changed = run_part(plan, clean, struck)
    code = classify(symptoms, baseline=clean.baseline).code
    seen = code != _BENIGN
    done = symptoms.steps_done + (symptoms.status != COMPLETED)
    strikes = sum(count for step, count in events.items() if step < done)
    reason = "" if changed or seen else "masked"
    return replace(row, reason=reason, changed=changed, seen=seen, code=code, strikes=strikes, first_step=struck[0])
