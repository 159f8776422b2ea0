"""What a worker process does: build the bench once, then carry out ranges of trials."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yieldkit.burnin.spec import CampaignSpec
from yieldkit.burnin.trial import Bench, TrialRow, open_bench
from yieldkit.errors import AnswerIsNo, YieldkitError

__all__ = ["ChunkResult", "prepare_process", "run_chunk", "same_bench"]

_PARENT_POLL_SECONDS = 1.0
_cached: dict[tuple[str, str], Bench] = {}
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


def same_bench(spec_text: str, benches: Mapping[str, str]) -> Bench:
    """The bench of a spec (JSON text), built on the first call in this process; only the last one is kept."""
    key = (spec_text, repr(sorted(benches.items())))
    if key not in _cached:
        _cached.clear()
        _cached[key] = open_bench(CampaignSpec.model_validate_json(spec_text), benches)
    return _cached[key]


def run_chunk(spec_text: str, benches: Mapping[str, str], start: int, stop: int) -> ChunkResult:
    """Carry out trials start..stop-1; other threads of the process wait, since a bench serves one trial at a time.

    Errors travel back as text: an exception that cannot be rebuilt on the other side would take the whole pool down.
    """
    with _one_chunk:
        return _run_chunk(spec_text, benches, start, stop)


def _run_chunk(spec_text: str, benches: Mapping[str, str], start: int, stop: int) -> ChunkResult:
    k = -1
    try:
        bench = same_bench(spec_text, benches)
        rows = []
        for k in range(start, stop):
            record = bench.trial(k)
            if record.k != k:
                raise ValueError(f"the bench answered with trial {record.k}")
            rows.append(record.to_row())
    except YieldkitError as error:
        where = f"trial {k}: " if k >= 0 else ""
        return ChunkResult(start, stop, refusal=f"{where}{error}", answer_is_no=isinstance(error, AnswerIsNo))
    except Exception:
        where = f"trial {k}" if k >= 0 else "building the bench"
        return ChunkResult(start, stop, failure=f"{where}:\n{traceback.format_exc()}")
    clean = tuple(getattr(bench, "clean_observations", ()))
    return ChunkResult(start, stop, tuple(rows), bench.task_fingerprint, clean)


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
