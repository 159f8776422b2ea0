"""One rule per manifestation code: observations in, a finding or nothing out.

The taxonomy says in which order the rules are asked; the first that answers decides. No rule knows of injected faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from yieldkit.diagnosis.baseline import Baseline
from yieldkit.diagnosis.nan import NanReading, read_nan
from yieldkit.diagnosis.rig import Placement, Rig, Wiring
from yieldkit.diagnosis.thresholds import Thresholds
from yieldkit.diagnosis.trend import Trend, read_trend
from yieldkit.diagnosis.verdict import SiteCandidate
from yieldkit.diagnosis.waiting import BLOCKED, HALTED, STARVED, find_cycle, wait_for
from yieldkit.emulator.symptoms import (
    COMPLETED,
    CORRUPTION_DETECTED,
    CRASH_DETECTED,
    REPAIRED,
    STALL_DETECTED,
    EventScan,
    HostEvent,
    Symptoms,
)

__all__ = ["RULES", "Case", "Finding", "Rule"]

_CORRECTED: Final = REPAIRED | {"crc_retry", "memoryx_corrected"}
_CORRECTABLE: Final = frozenset(("ecc",))
_HOST_TRAP: Final = "memoryx_uncorrectable"
_TRAPS: Final = frozenset(("parity", "crc_failed", "sram_parity", "ecc", "ecc_uncorrectable", _HOST_TRAP))
_SEQUENCE: Final = "sequence"
_CRASHES: Final = frozenset(("illegal_operation", "address"))
_OUTSIDE: Final = frozenset(("worker", "host_link", "memoryx", "swarmx", "dropped_tensor"))


@dataclass(frozen=True)
class Finding:
    """A rule's answer: the code (a NaN rule may also answer INCONCLUSIVE), how sure, why, and, if it knows, where.

    `sites` None leaves the localisation to the scan; an empty tuple says that no part is to blame.
    """

    code: str
    confidence: float
    evidence: tuple[str, ...]
    sites: tuple[SiteCandidate, ...] | None = None


@dataclass(frozen=True)
class Case:
    """Everything that the rules may look at, with what several of them need worked out once."""

    symptoms: Symptoms
    baseline: Baseline | None
    thresholds: Thresholds
    wiring: Wiring | None = None
    rig: Rig | None = None
    program: Any = None
    replays: int = 3

    @cached_property
    def stalled(self) -> bool:
        """Nothing moved any more."""
        return self.symptoms.status == STALL_DETECTED

    @cached_property
    def expected_cycles(self) -> int:
        """Cycles of a clean run, 0 when unknown."""
        return self.symptoms.expected_cycles or (self.baseline.cycles if self.baseline else 0)

    @cached_property
    def slowness(self) -> float:
        """Cycles of the run over those of a clean one, 0 when either is unknown."""
        expected = self.expected_cycles
        return self.symptoms.cycles / expected if expected > 0 else 0.0

    @cached_property
    def nan(self) -> NanReading | None:
        """Reading of the first non-finite value, None when all are finite."""
        return read_nan(self.symptoms, self.baseline, self.thresholds)

    @cached_property
    def elsewhere(self) -> tuple[int, int] | None:
        """(r, n): r of n replays on disjoint cores show non-finite values too; None without a rig."""
        if self.rig is None or self.replays < 1:
            return None
        seen = 0
        for index in range(self.replays):
            replay = self.rig.run(self.program, Placement("disjoint", index))
            seen += read_nan(replay, None, self.thresholds) is not None
        return seen, self.replays

    @cached_property
    def trend(self) -> Trend | None:
        """How the loss left the band, None when it did not."""
        return read_trend(self.symptoms, self.baseline, self.thresholds)

    @cached_property
    def gaps(self) -> int:
        """Links whose two ends counted differently."""
        keys = {(s.row, s.col, s.drow, s.dcol) for s in self.symptoms.link_mismatch if s.sent != s.received}
        return len(keys)

    @cached_property
    def changed_cores(self) -> int:
        """Cores whose control hashes differ from the image."""
        return len({(scan.row, scan.col) for scan in self.symptoms.config_mismatch})

    @cached_property
    def event_counts(self) -> Mapping[str, int]:
        """Events over all cores and the host's endpoints by kind."""
        counts: dict[str, int] = {}
        seen: tuple[EventScan | HostEvent, ...] = (*self.symptoms.events, *self.symptoms.host_events)
        for event in seen:
            if event.count > 0:
                counts[event.kind] = counts.get(event.kind, 0) + event.count
        return counts

    @cached_property
    def in_band(self) -> bool:
        """Completed, in time, finite, and inside the band as far as there is one."""
        run = self.symptoms
        return (
            run.status == COMPLETED
            and run.steps_done >= run.steps_planned
            and self.nan is None
            and self.trend is None
            and self.slowness < self.thresholds.slow_flag
        )


Rule = Callable[[Case], Finding | None]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[kind]} x {kind}" for kind in sorted(counts))


def corrected(case: Case) -> Finding | None:
    counts = case.event_counts
    if not counts or not set(counts) <= _CORRECTED | _CORRECTABLE or not case.in_band:
        return None
    return Finding(
        "CORRECTED", 0.95, (f"corrections counted: {_listed(counts)}; run completed with every metric in band",)
    )


def due_trap(case: Case) -> Finding | None:
    fired = {kind: count for kind, count in case.event_counts.items() if kind in _TRAPS}
    if not case.stalled and _SEQUENCE in case.event_counts:
        fired[_SEQUENCE] = case.event_counts[_SEQUENCE]
    if fired:
        line = f"checks fired without repair: {_listed(fired)}"
        # What the host's memory has lost is no core's fault.
        return Finding("DUE_TRAP", 0.95, (line,), sites=() if set(fired) == {_HOST_TRAP} else None)
    if case.symptoms.status == CORRUPTION_DETECTED:
        return Finding("DUE_TRAP", 0.85, ("the host stopped for a check that fired, and no event says which",))
    return None


def stall_drop(case: Case) -> Finding | None:
    gaps, sequence = case.gaps, case.event_counts.get(_SEQUENCE, 0)
    if not case.stalled or case.changed_cores or not (gaps or sequence):
        return None
    lines = [_stall_line(case)]
    if gaps:
        worst = max(case.symptoms.link_mismatch, key=lambda scan: abs(scan.sent - scan.received))
        lines.append(
            f"{gaps} link{'s' if gaps > 1 else ''} with unlike counts; largest: colour {worst.colour}, "
            f"sent {worst.sent}, received {worst.received}"
        )
    if sequence:
        lines.append(f"sequence counters fired {sequence} times")
    lines.append("control hashes of all cores equal the image")
    return Finding("STALL_DROP", 0.97 if gaps == 1 else 0.85, tuple(lines))


def stall_ctrl(case: Case) -> Finding | None:
    if not case.stalled or not case.changed_cores:
        return None
    kinds = sorted({scan.kind for scan in case.symptoms.config_mismatch})
    many = case.changed_cores > 1
    line = f"{case.changed_cores} core{'s' if many else ''} with control words unlike the image: {', '.join(kinds)}"
    return Finding("STALL_CTRL", 0.85 if many else 0.97, (_stall_line(case), line))


def stall_deadlock(case: Case) -> Finding | None:
    if not case.stalled or case.gaps or case.changed_cores:
        return None
    if any(core.state == HALTED for core in case.symptoms.waiting):
        return None
    cycle = find_cycle(wait_for(case.symptoms, case.wiring))
    if not cycle:
        return None
    shown = " -> ".join(f"({row}, {col})" for row, col in cycle[:6]) + (" ..." if len(cycle) > 6 else "")
    basis = "routes of the image" if case.wiring is not None else "queues of the scan"
    return Finding(
        "STALL_DEADLOCK",
        0.95 if case.wiring is not None else 0.8,
        (
            _stall_line(case),
            f"wait-for graph has a cycle of {len(cycle)} cores: {shown} (edges from the {basis})",
            "counts of all links agree and control hashes equal the image",
        ),
        sites=(),
    )


def stall_livelock(case: Case) -> Finding | None:
    if not case.stalled or case.slowness < case.thresholds.slow_cut or not case.symptoms.stalled_launch:
        return None
    if any(core.state in (STARVED, BLOCKED, HALTED) for core in case.symptoms.waiting):
        return None
    launch = case.symptoms.stalled_launch
    line = f"no core waits, yet {launch} is not done after {case.slowness:.1f} x the clean cycles"
    return Finding("STALL_LIVELOCK", 0.8, (line,))


def infrastructure(case: Case) -> Finding | None:
    run = case.symptoms
    outside = {kind: count for kind, count in case.event_counts.items() if kind in _OUTSIDE}
    if outside:
        return Finding("INFRASTRUCTURE", 0.95, (f"reported lost: {_listed(outside)}",), sites=())
    clean = not (case.gaps or case.changed_cores or case.event_counts)
    if case.stalled and clean and not run.waiting and run.host_missing:
        words = sum(missing for _, missing in run.host_missing)
        line = f"every core has finished, counts and hashes are clean, and the host still waits for {words} words"
        return Finding("INFRASTRUCTURE", 0.85, (line,), sites=())
    if run.status == COMPLETED and run.steps_done < run.steps_planned and case.nan is None and clean:
        line = f"ended after {run.steps_done} of {run.steps_planned} steps without a stall, a crash or a NaN"
        return Finding("INFRASTRUCTURE", 0.8, (line,), sites=())
    return None


def slow(case: Case) -> Finding | None:
    limits = case.thresholds
    run = case.symptoms
    cut = case.stalled and case.slowness >= limits.slow_cut and not run.stalled_launch and not run.waiting
    if not cut and (run.status != COMPLETED or case.slowness < limits.slow_flag):
        return None
    how = "cut" if cut else "finished"
    ratio = f"{case.slowness:.2f} x the clean {case.expected_cycles}"
    line = f"{how} after {run.cycles} cycles, {ratio} (flag at {limits.slow_flag:g} x)"
    return Finding("SLOW", 0.95, (line,))


def crash(case: Case) -> Finding | None:
    fired = {kind: count for kind, count in case.event_counts.items() if kind in _CRASHES}
    halted = sum(core.state == HALTED for core in case.symptoms.waiting)
    if case.symptoms.status != CRASH_DETECTED and not fired and not halted:
        return None
    lines = [f"status {case.symptoms.status}, {halted} halted core{'' if halted == 1 else 's'}"]
    if fired:
        lines.append(f"counted: {_listed(fired)}")
    if case.changed_cores:
        lines.append(f"{case.changed_cores} core(s) with control words unlike the image")
    return Finding("CRASH", 0.97 if fired or halted else 0.85, tuple(lines))


def nan_hw(case: Case) -> Finding | None:
    """A NaN that stays after healthy norms; replays on other cores overrule the norms, as runs repeat in every bit."""
    reading = case.nan
    if reading is None or reading.left:
        return None
    replayed = case.elsewhere
    lines = list(reading.lines)
    if replayed is not None:
        r, n = replayed
        lines.append(f"non-finite in {r} of {n} replays on disjoint cores")
        if 2 * r == n:
            return Finding("INCONCLUSIVE", 0.5, (*lines, "replays disagree with no majority"))
        return Finding("NAN_HW", 0.99, tuple(lines)) if 2 * r < n else None
    if reading.verdict == "healthy":
        return Finding("NAN_HW", 0.9, tuple(lines))
    return Finding("INCONCLUSIVE", 0.5, tuple(lines)) if reading.verdict == "unknown" else None


def nan_model(case: Case) -> Finding | None:
    reading = case.nan
    if reading is None or reading.left:
        return None
    lines = reading.lines
    if case.elsewhere is not None:
        r, n = case.elsewhere
        return Finding("NAN_MODEL", 0.99, (*lines, f"non-finite in {r} of {n} replays on disjoint cores"), sites=())
    return Finding("NAN_MODEL", 0.9, lines, sites=())


def nan_short(case: Case) -> Finding | None:
    reading = case.nan
    return Finding("NAN_SHORT", 0.95, reading.lines) if reading is not None and reading.left else None


def _trend_rule(code: str) -> Rule:
    def rule(case: Case) -> Finding | None:
        trend = case.trend
        return Finding(code, trend.confidence, trend.lines) if trend is not None and trend.code == code else None

    return rule


def sdc_bits(case: Case) -> Finding | None:
    """The optional channel: needs the tokens of a clean run in the baseline."""
    golden = case.baseline.tokens if case.baseline is not None else ()
    if not golden or not case.in_band or case.symptoms.tokens == golden:
        return None
    seen = case.symptoms.tokens
    pairs = list(zip(seen, golden, strict=False))
    differ = sum(a != b for a, b in pairs) + abs(len(seen) - len(golden))
    first = next((index for index, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return Finding("SDC_BITS", 0.99, (f"{differ} of {len(golden)} tokens differ from a clean run, first at {first}",))


def masked_or_benign(case: Case) -> Finding | None:
    if not case.in_band:
        return None
    run = case.symptoms
    lines = [f"completed {run.steps_done} of {run.steps_planned} steps, every value finite"]
    if case.slowness:
        lines.append(f"{case.slowness:.3f} x the clean cycles")
    banded = case.baseline is not None and bool(case.baseline.loss) and bool(run.loss)
    if banded and case.baseline is not None:
        steps = min(len(run.loss), len(case.baseline.loss))
        worst = max(
            abs(run.loss[step] - case.baseline.loss[step]) / case.baseline.half_width[step] for step in range(steps)
        )
        lines.append(f"loss within {worst:.3f} half widths of the clean band over {steps} steps")
    elif run.loss:
        lines.append("no band of clean runs was given, so a changed loss would go unseen")
    if case.changed_cores:
        lines.append(f"control words of {case.changed_cores} core(s) differ from the image: reload before the next run")
    if case.gaps:
        lines.append(f"{case.gaps} link(s) with unlike counts, without effect on the result")
    return Finding("MASKED_OR_BENIGN", 0.9 if banded or not run.loss else 0.5, tuple(lines))


def inconclusive(case: Case) -> Finding | None:
    line = f"status {case.symptoms.status}; no rule of the taxonomy matches what was seen"
    if case.stalled:
        line = f"{_stall_line(case)}; counts and hashes are clean and the scan shows no cycle"
    return Finding("INCONCLUSIVE", 0.5, (line,))


def _stall_line(case: Case) -> str:
    run = case.symptoms
    starved = sum(core.state == STARVED for core in run.waiting)
    blocked = sum(core.state == BLOCKED for core in run.waiting)
    where = f" in {run.stalled_launch}" if run.stalled_launch else ""
    return f"no progress{where}: {starved} cores starved, {blocked} waiting for a buffer"


RULES: Final[Mapping[str, Rule]] = {
    "CORRECTED": corrected,
    "DUE_TRAP": due_trap,
    "STALL_DROP": stall_drop,
    "STALL_CTRL": stall_ctrl,
    "STALL_DEADLOCK": stall_deadlock,
    "STALL_LIVELOCK": stall_livelock,
    "INFRASTRUCTURE": infrastructure,
    "SLOW": slow,
    "CRASH": crash,
    "NAN_HW": nan_hw,
    "NAN_MODEL": nan_model,
    "NAN_SHORT": nan_short,
    "SPIKE": _trend_rule("SPIKE"),
    "SHARP_SLOW_DEGRADE": _trend_rule("SHARP_SLOW_DEGRADE"),
    "SHARP_DEGRADE": _trend_rule("SHARP_DEGRADE"),
    "SLOW_DEGRADE": _trend_rule("SLOW_DEGRADE"),
    "LOW_ACCURACY": _trend_rule("LOW_ACCURACY"),
    "SDC_BITS": sdc_bits,
    "MASKED_OR_BENIGN": masked_or_benign,
    "INCONCLUSIVE": inconclusive,
}
