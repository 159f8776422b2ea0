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

from yieldkit.diagnosis import Baseline, classify
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import Lowered, lower
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.placement import FabricView, Placement
from yieldkit.emulator.running import Telemetry, run, sram_words_of, symptoms_of
from yieldkit.emulator.symptoms import COMPLETED, Symptoms
from yieldkit.errors import BadInput
from yieldkit.faults import Environment, PersistentPlan, WeakPart, WeakParts, WeakPopulation
from yieldkit.faults.host_places import HOST_PLACES
from yieldkit.quantities import LinkKey, Site
from yieldkit.workloads.program import Program

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

_ANY: Final = "any"
_ALL: Final = "all"
_BENIGN: Final = "MASKED_OR_BENIGN"


@dataclass(frozen=True)
class ScreeningWorkload:
    """A workload to screen with.

    Attributes:
        name: what the table calls it.
        program: what runs.
        steps: of the run.
        weights: to begin with; None: the program's own.
        batches: (tokens, targets) of each step in place of the corpus.
        origin: logical core at the rectangle's north-west corner.
        clean_runs: clean runs behind the band of the loss; those after the first draw other batches (training only).
        executor: "tensor", or "wavelet", which has a clock and so sees a slow core.
    """

    name: str
    program: Program
    steps: int
    weights: Mapping[str, Any] | None = None
    batches: Sequence[tuple[Any, Any]] | None = None
    origin: Site = (0, 0)
    clean_runs: int = 3
    executor: str = "tensor"

    def __post_init__(self) -> None:
        if self.name in ("", _ANY):
            raise BadInput("a workload needs a name of its own", value=self.name)
        if self.steps < 1 or self.clean_runs < 1:
            raise BadInput("steps and clean_runs must be at least 1", value=(self.steps, self.clean_runs))

    @classmethod
    def of_kind(cls, kind: str, parameters: Mapping[str, Any], fabric: FabricView, *, executor: str = "tensor") -> Self:
        """A workload of one of the kinds of program that campaigns know, with its defaults where nothing is given.

        Args:
            kind: as in the program section of a campaign.
            parameters: as there.
            fabric: for the short training that a decoding or forward pass starts from.
            executor: as above.

        Raises:
            BadInput: unknown kind, or parameters that are unknown or do not fit.
        """
        from yieldkit.burnin.programs import KINDS, check_parameters, initial_weights, make_program, program_parameters

        if kind not in KINDS:
            raise BadInput("unknown kind of workload", value=kind, cure=f"known: {', '.join(KINDS)}")
        if problems := check_parameters(kind, parameters):
            raise BadInput(f"workload {kind}: " + "; ".join(f"{name} {what}" for name, what in problems))
        p = program_parameters(kind, parameters)
        weights = initial_weights(kind, p, fabric)
        return cls(
            kind,
            make_program(kind, p),
            int(p["steps"]),
            weights,
            clean_runs=int(p.get("clean_runs", 1)),
            executor=executor,
        )


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
        for work in [*works, *([_ANY] if len(works) > 1 else [])]:
            here = [row for row in of_kind if work in (row.workload, _ANY)]
            n = len({row.part for row in here})
            counts = {name: len({row.part for row in here if getattr(row, name)}) for name in ("changed", "seen")}
            cell: dict[str, Any] = {"kind": kind, "workload": work, "n": n}
            for name, count in counts.items():
                low, high = (float(end) for end in wilson_interval(count, n, confidence=confidence))
                cell |= {name: count, f"{name}_rate": count / n, f"{name}_low": low, f"{name}_high": high}
            for reason in REASONS:
                cell[reason] = pd.NA if work == _ANY else sum(row.reason == reason for row in here)
            codes = [row.code for row in here if row.code not in ("", _BENIGN)]
            cell["codes"] = ", ".join(f"{code} {codes.count(code)}" for code in sorted(set(codes)))
            table.append(cell)
    frame = pd.DataFrame(table)
    return frame.astype(dict.fromkeys(REASONS, "Int64")) if table else frame


@dataclass(frozen=True)
class _Clean:
    """A workload's clean run: what a trial is compared with, and where it can begin."""

    work: ScreeningWorkload
    lowered: Lowered
    placement: Placement
    options: Mapping[str, Any]
    first: MemoryX
    checkpoints: tuple[MemoryX, ...]
    symptoms: Symptoms
    digests: tuple[str, ...]
    state: str
    baseline: Baseline

    def start(self, step: int) -> Job:
        """The job before a step."""
        return Job.start(
            self.lowered,
            executor=self.work.executor,
            memoryx=self.checkpoints[step] if self.checkpoints else self.first,
            batches=self.work.batches,
            **self.options,
        )


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
        clean = _clean(work, fabric)
        for part in parts:
            row = ScreeningRow(part.number, part.kind, work.name, "dormant")
            if part.number in awake:
                plan = PersistentPlan([part.fault], clean.placement, clean.lowered, environment=environment, seed=seed)
                plan.check(clean.lowered)
                row = _screened(row, plan, clean)
            yield row


def _screened(row: ScreeningRow, plan: PersistentPlan, clean: _Clean) -> ScreeningRow:
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
    symptoms, changed = _trial(plan, clean, struck)
    code = classify(symptoms, baseline=clean.baseline).code
    seen = code != _BENIGN
    done = symptoms.steps_done + (symptoms.status != COMPLETED)
    strikes = sum(count for step, count in events.items() if step < done)
    reason = "" if changed or seen else "masked"
    return replace(row, reason=reason, changed=changed, seen=seen, code=code, strikes=strikes, first_step=struck[0])


def _trial(plan: PersistentPlan, clean: _Clean, struck: Sequence[int]) -> tuple[Symptoms, bool]:
    """Run a workload with a plan: its symptoms, and whether anything differs from the clean run.

    Where there are checkpoints, cores keep nothing from step to step: steps before the first strike, and those between
    a state that is golden again and the next strike, are those of the clean run, bit for bit.
    """
    steps, golden = clean.work.steps, clean.symptoms
    on_host = plan.faults[0].event.place in HOST_PLACES
    telemetry = Telemetry()
    step = struck[0] if clean.checkpoints else 0
    _fill(telemetry, clean, 0, step)
    job = clean.start(step)
    state = ""
    while step < steps:
        result = job.run_step(plan)
        telemetry.add(job, result)
        step += 1
        state = job.memoryx.state_hash
        if result.stopped is not None:
            break
        # What the host's memory holds wrong need not show in its values yet.
        pristine = bool(clean.checkpoints) and getattr(job.executor, "pristine", False) and not on_host
        if pristine and step < steps and state == clean.checkpoints[step].state_hash:
            after = next((one for one in struck if one >= step), steps)
            _fill(telemetry, clean, step, after)
            if after == steps:
                state = clean.state
            elif after > step:
                job = clean.start(after)
            step = after
    symptoms = symptoms_of(job, clean.placement, steps, telemetry)
    same = (tuple(telemetry.digests), state, symptoms.status) == (clean.digests, clean.state, golden.status)
    return symptoms, not same


def _fill(telemetry: Telemetry, clean: _Clean, start: int, stop: int) -> None:
    golden = clean.symptoms
    telemetry.loss += golden.loss[start:stop]
    telemetry.grad_norm += golden.grad_norm[start:stop]
    telemetry.update_norm += golden.update_norm[start:stop]
    telemetry.digests += clean.digests[start:stop]
    bad = golden.nonfinite_step
    if bad is not None and start <= bad < stop and telemetry.nonfinite is None:
        telemetry.nonfinite = (bad, golden.nonfinite_channel)


def _clean(work: ScreeningWorkload, fabric: FabricView) -> _Clean:
    lowered = lower(work.program, sram_words=sram_words_of(fabric))
    placement = Placement.of(work.program, fabric, work.origin)
    options = _options(fabric, work.executor)
    # With a clock a run is not cut: its cycles are those of all its steps.
    keeps = work.program.job.get("kind") == "training" and work.executor == "tensor"
    job = Job.start(lowered, executor=work.executor, weights=work.weights, batches=work.batches, **options)
    first = job.memoryx.copy()
    checkpoints = [first] if keeps else []
    telemetry = Telemetry()
    for _ in range(work.steps):
        result = job.run_step()
        telemetry.add(job, result)
        if result.stopped is not None:
            raise BadInput(f"workload {work.name!r} does not complete on a clean machine", value=result.stopped[0].name)
        if keeps:
            checkpoints.append(job.memoryx.copy())
    symptoms = symptoms_of(job, placement, work.steps, telemetry)
    runs = [symptoms, *_varied(work, lowered, fabric, symptoms)]
    # Without its tokens the baseline has nothing of a golden run to compare with.
    baseline = replace(Baseline.from_runs(runs), tokens=())
    state = job.memoryx.state_hash
    return _Clean(
        work,
        lowered,
        placement,
        options,
        first,
        tuple(checkpoints),
        symptoms,
        tuple(telemetry.digests),
        state,
        baseline,
    )


def _varied(work: ScreeningWorkload, lowered: Lowered, fabric: FabricView, clean: Symptoms) -> Iterator[Symptoms]:
    """Clean runs with other batches of the corpus: they widen the band of the loss."""
    job = work.program.job
    if job.get("kind") != "training" or work.batches is not None:
        return
    for number in range(1, work.clean_runs):
        other = replace(work.program, job={**job, "seed": int(job["seed"]) + 1_000 * number})
        again = replace(lowered, program=other)
        result = run(
            again,
            fabric,
            steps=work.steps,
            origin=work.origin,
            weights=work.weights,
            taps=False,
            executor=work.executor,
        )
        yield replace(result.symptoms, program=clean.program)


def _options(fabric: FabricView, executor: str) -> dict[str, Any]:
    """Of the executor, as the wafer's spec has them."""
    machine = getattr(getattr(fabric, "spec", None), "machine", None)
    options: dict[str, Any] = {"taps": True} if executor == "tensor" else {}
    if machine is not None:
        options |= {
            "queue_depth": int(machine.queue_depth),
            "sequence": machine.protection.links == "sequence",
            "sram_code": str(machine.protection.sram),
            "host_code": str(machine.protection.memoryx),
        }
    return options
