"""What a worker process does: build the bench once, then carry out ranges of trials."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yieldkit.burnin.spec import CampaignSpec
from yieldkit.burnin.store import Allocation
from yieldkit.burnin.strata import Shown, Strata
from yieldkit.burnin.trial import Bench, FaultClass, TrialRecord, TrialRow, open_bench
from yieldkit.errors import AnswerIsNo, BadInput, YieldkitError

__all__ = ["ChunkResult", "prepare_process", "run_chunk", "run_trial_alone", "same_bench"]

_PARENT_POLL_SECONDS = 1.0
_cached: dict[tuple[str, str], Bench] = {}
_strata_of: dict[int, Strata] = {}
_one_chunk = threading.Lock()


@dataclass(frozen=True)
class ChunkResult:
    """Trials start..stop-1, or what came instead: a refusal (one line), a failure (a traceback), a death.

    A refusal is either bad input or, with `answer_is_no`, a sound question whose answer is no.
    """

    start: int
    stop: int
    rows: tuple[TrialRow, ...] = ()
    task_fingerprint: str = ""
    clean_observations: tuple[Mapping[str, Any], ...] = ()
    refusal: str = ""
    answer_is_no: bool = False
    failure: str = ""
    killed: bool = False
    classes: tuple[FaultClass, ...] = ()
    allocation: tuple[int, Allocation] | None = None


def same_bench(spec_text: str, benches: Mapping[str, str]) -> Bench:
    """The bench of a spec (JSON text), built on the first call in this process; only the last one is kept."""
    key = (spec_text, repr(sorted(benches.items())))
    if key not in _cached:
        _cached.clear()
        _strata_of.clear()
        _cached[key] = open_bench(CampaignSpec.model_validate_json(spec_text), benches)
    return _cached[key]


def run_chunk(
    spec_text: str, benches: Mapping[str, str], start: int, stop: int, shown: Shown = ()
) -> ChunkResult:  # fmt: skip
    """Carry out trials start..stop-1, all of one round; other threads wait, since a bench serves one trial at a time.

    Errors travel back as text: an exception that cannot be rebuilt on the other side would take the whole pool down.

    Args:
        spec_text: the spec as JSON.
        benches: further kinds of bench.
        start: first trial.
        stop: behind the last one.
        shown: what complete rounds have shown, see `Strata.shown`.
    """
    with _one_chunk:
        return _run_chunk(spec_text, benches, start, stop, shown)


def _run_chunk(spec_text: str, benches: Mapping[str, str], start: int, stop: int, shown: Shown) -> ChunkResult:
    k = -1
    allocation: tuple[int, Allocation] | None = None
    try:
        bench = same_bench(spec_text, benches)
        strata = _strata(bench, spec_text)
        rows = []
        if strata is not None:
            number = start // strata.spec.campaign.round
            allocation = number, strata.plan(number, shown)
            order = strata.order(*allocation)
        for k in range(start, stop):
            record = bench.trial(k) if strata is None else _stratified(bench, strata, k, order)
            if record.k != k:
                raise ValueError(f"the bench answered with trial {record.k}")
            rows.append(record.to_row())
    except YieldkitError as error:
        where = f"trial {k}: " if k >= 0 else ""
        return ChunkResult(start, stop, refusal=f"{where}{error}", answer_is_no=isinstance(error, AnswerIsNo))
    except Exception:
        where = f"trial {k}" if k >= 0 else "building the bench"
        return ChunkResult(start, stop, failure=f"{where}:\n{traceback.format_exc()}")
    return ChunkResult(
        start,
        stop,
        tuple(rows),
        bench.task_fingerprint,
        tuple(getattr(bench, "clean_observations", ())),
        classes=tuple(getattr(bench, "classes", ())),
        allocation=allocation,
    )


def run_trial_alone(
    spec_text: str, benches: Mapping[str, str], k: int, allocation: Mapping[tuple[int, str], int] | None = None
) -> TrialRecord:
    """Carry out one trial in this process.

    Args:
        spec_text: the spec as JSON.
        benches: further kinds of bench.
        k: number of the trial.
        allocation: of its round, where that was decided by rounds before.

    Raises:
        BadInput: the round's allocation is needed and not given.
    """
    bench = same_bench(spec_text, benches)
    strata = _strata(bench, spec_text)
    if strata is None:
        return bench.trial(k)
    number = k // strata.spec.campaign.round
    if allocation is None:
        if strata.waits and number:
            raise BadInput(
                f"trial {k} lies in round {number}, and what it gets is decided by the rounds before it",
                cure="replay it from the folder of a run that has come to that round",
            )
        allocation = strata.plan(number)
    return _stratified(bench, strata, k, strata.order(number, allocation))


def _strata(bench: Bench, spec_text: str) -> Strata | None:
    """The strata of a campaign that has any; built once a bench."""
    found = _strata_of.get(id(bench))
    if found is None:
        spec = CampaignSpec.model_validate_json(spec_text)
        if spec.strata is None:
            return None
        if not hasattr(bench, "trial_of"):
            raise BadInput(f"bench {spec.campaign.bench!r} has no strata", cure="leave the table [strata] out")
        found = Strata.of(spec, bench.classes)  # type: ignore[attr-defined]
        _strata_of.clear()
        _strata_of[id(bench)] = found
    return found


def _stratified(bench: Any, strata: Strata, k: int, order: Sequence[Sequence[str]]) -> TrialRecord:
    draw = strata.draw(strata.stratum_of(k, order), k)
    record: TrialRecord = bench.trial_of(k, draw.fault)
    site, bit, phase = draw.fault[:3]
    return replace(record, site=site, bit=bit, phase=phase, weight=draw.weight)


def prepare_process(parent: int) -> None:
    """Make a worker process leave stopping to its parent, and leave with it.

    A signal to the whole process group must not cut the chunk that the parent waits for; a parent killed outright must
    not leave workers behind.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="yieldkit-parent-watch", daemon=True).start()
