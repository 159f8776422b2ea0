"""The coordinator of a campaign: hands out chunks, commits what comes back, survives dead workers and signals."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from yieldkit.burnin.executors import MakeExecutor, abandon, local_executor, wait_for_some, worker_pool
from yieldkit.burnin.schedule import Ledger
from yieldkit.burnin.stopping import StopRequest
from yieldkit.burnin.store import Store
from yieldkit.burnin.strata import Shown
from yieldkit.burnin.tally import Tally
from yieldkit.burnin.worker import ChunkResult, run_chunk
from yieldkit.errors import AnswerIsNo, BadInput, Interrupted, YieldkitError

__all__ = ["Progress", "TrialFailure", "replay_command", "resume_command", "run_chunks"]

Chunk = tuple[int, int]


class TrialFailure(RuntimeError):
    """A bug showed in a trial: the text is the worker's traceback."""


@dataclass(frozen=True)
class Progress:
    """Where a campaign stands after a commit.

    Attributes:
        done: trials stored.
        limit: trials to come to, as far as it is decided; at most the budget.
        added: trials added by this run.
        elapsed_s: seconds since this run began.
        tally: outcomes so far.
        finished: nothing is left to do.
        reason: "budget" or "half_width" once that is decided.
    """

    done: int
    limit: int
    added: int
    elapsed_s: float
    tally: Tally = field(repr=False)
    finished: bool
    reason: str

    @property
    def rate_per_s(self) -> float:
        """Trials a second of this run, 0 before the first commit."""
        return self.added / self.elapsed_s if self.added and self.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this rate to `limit`, None while unknown."""
        return max(self.limit - self.done, 0) / self.rate_per_s if self.rate_per_s else None


def run_chunks(
    store: Store,
    ledger: Ledger,
    *,
    spec_text: str,
    benches: Mapping[str, str],
    folder: Path,
    jobs: int,
    make_executor: MakeExecutor | None = None,
    stop: StopRequest | None = None,
    options: str = "",
    mark: Callable[[Ledger], Mapping[str, Any]] | None = None,
) -> Iterator[Progress]:
    """Carry out what the ledger asks for; yields after every committed chunk.

    Args:
        store: open for writing.
        ledger: the state of that store.
        spec_text: the spec as JSON, its file paths absolute and readable by the workers.
        benches: further kinds of bench.
        folder: of the run, for messages.
        jobs: workers.
        make_executor: another way to make executors, see `MakeExecutor`.
        stop: checked between commits.
        options: further options of the printed command that goes on.
        mark: what is kept under "rounds" with each commit.

    Raises:
        Interrupted: `stop` was requested and something is left to do; all that ran is committed.
        BadInput: the bench refuses the spec.
        AnswerIsNo: the bench cannot be built from a sound spec: the wafer cannot be repaired.
        YieldkitError: one chunk has killed a worker twice while it ran alone.
        TrialFailure: a trial raised; chunks committed before are kept.
    """
    began, added = time.monotonic(), 0
    crew = _Crew(make_executor or local_executor, make_executor or worker_pool, jobs, spec_text, benches, ledger.shown)
    troubles: list[tuple[int, Exception]] = []

    def commit(result: ChunkResult) -> Progress:
        nonlocal added
        store.add_chunk(
            result.start,
            result.stop,
            result.rows,
            task_fingerprint=result.task_fingerprint,
            clean_observations=result.clean_observations,
            classes=result.classes,
            allocation=result.allocation,
            progress={
                "rounds": dict(mark(ledger)) if mark else None,
                "pulse": {
                    "added": added + len(result.rows),
                    "at": time.time(),
                    "elapsed_s": time.monotonic() - began,
                    "jobs": jobs,
                },
            },
        )
        ledger.add(result.rows, classes=result.classes)
        added += len(result.rows)
        decision = ledger.decision
        return Progress(
            done=ledger.tally.n,
            limit=decision.limit,
            added=added,
            elapsed_s=time.monotonic() - began,
            tally=ledger.tally,
            finished=ledger.finished,
            reason=decision.reason,
        )

    try:
        while True:
            # After trouble nothing new starts, but what runs is waited for and kept.
            while not stop and not troubles and crew.wants_more and (chunk := ledger.take()) is not None:
                crew.start(chunk)
            if not crew.busy:
                break
            # What a dead pool held is repeated one by one, so that one bad chunk takes no other with it.
            for result in chain(crew.results(), crew.run_alone(stop)):
                if (trouble := _trouble(result, folder, benches)) is not None:
                    troubles.append((result.start, trouble))
                else:
                    yield commit(result)
            if stop:
                crew.forget_suspects()
    finally:
        crew.close()
    if troubles:
        raise min(troubles, key=lambda found: found[0])[1]
    if stop and not ledger.finished:
        command = resume_command(folder, jobs=jobs, benches=benches, options=options)
        done, limit = ledger.tally.n, ledger.decision.limit
        raise Interrupted(f"stopped by {stop.reason}; {done} of {limit} trials are kept; go on with: {command}")


class _Crew:
    """The executor and the chunks it holds."""

    def __init__(
        self,
        make_executor: MakeExecutor,
        make_pool: MakeExecutor,
        jobs: int,
        spec_text: str,
        benches: Mapping[str, str],
        shown: Callable[[int], Shown],
    ) -> None:
        self._shown = shown
        self._make_executor = make_executor
        self._make_pool = make_pool
        self._jobs = jobs
        self._spec_text = spec_text
        self._benches = dict(benches)
        self._executor: Executor | None = None
        self._running: dict[Future[ChunkResult], Chunk] = {}
        self._suspects: list[Chunk] = []

    @property
    def busy(self) -> bool:
        """Some chunk is handed out."""
        return bool(self._running or self._suspects)

    @property
    def wants_more(self) -> bool:
        """One chunk waits behind those that run, so that no worker idles during a commit."""
        return len(self._running) < (1 if self._jobs == 1 else self._jobs + 1) and not self._suspects

    def start(self, chunk: Chunk) -> None:
        """Hand out a chunk."""
        if self._executor is None:
            self._executor = self._make_executor(self._jobs)
        try:
            self._running[self._submit(self._executor, chunk)] = chunk
        except BrokenExecutor:
            self._suspects.append(chunk)

    def results(self) -> Iterator[ChunkResult]:
        """Wait for at least one chunk; what is done comes in the order of k, what a dead pool held becomes suspect."""
        finished, broken = self._collect(self._some())
        if broken or self._suspects:
            while self._running:
                more, _ = self._collect(self._some())
                finished = finished + more
            self._drop()
        yield from sorted(finished, key=lambda result: result.start)

    def _some(self) -> set[Future[ChunkResult]]:
        if self._executor is None or not self._running:
            return set()
        return wait_for_some(self._executor, self._running)

    def forget_suspects(self) -> None:
        """Leave them to the next run."""
        self._suspects.clear()

    def run_alone(self, stop: StopRequest | None) -> Iterator[ChunkResult]:
        """Carry out the chunks that were in a pool when it died, one at a time, each at most twice."""
        alone: Executor | None = None
        try:
            while self._suspects and not stop:
                chunk = min(self._suspects)
                for _ in range(2):
                    alone = alone or self._make_pool(1)
                    try:
                        (done,) = wait_for_some(alone, [self._submit(alone, chunk)])
                        result = done.result()
                        break
                    except BrokenExecutor:
                        abandon(alone)
                        alone = None
                else:
                    result = ChunkResult(*chunk, killed=True)
                self._suspects.remove(chunk)
                yield result
        finally:
            if alone is not None:
                abandon(alone)

    def close(self) -> None:
        """Let go of the executor; what still runs is given up."""
        if self._executor is not None and not self._running:
            self._executor.shutdown(wait=True)
            self._executor = None
        self._drop()

    def _submit(self, executor: Executor, chunk: Chunk) -> Future[ChunkResult]:
        return executor.submit(run_chunk, self._spec_text, self._benches, *chunk, self._shown(chunk[0]))

    def _collect(self, futures: set[Future[ChunkResult]]) -> tuple[list[ChunkResult], bool]:
        finished: list[ChunkResult] = []
        broken = False
        for future in futures:
            chunk = self._running.pop(future)
            try:
                finished.append(future.result())
            except BrokenExecutor:
                self._suspects.append(chunk)
                broken = True
        return finished, broken

    def _drop(self) -> None:
        if self._executor is not None:
            abandon(self._executor)
            self._executor = None


def resume_command(folder: Path, *, jobs: int, benches: Mapping[str, str], options: str = "") -> str:
    """The command line that goes on with a run."""
    words = f" --jobs {jobs}" + _bench_options(benches) + (f" {options}" if options else "")
    return f"yieldkit burnin resume {shlex.quote(str(folder))}{words}"


def _trouble(result: ChunkResult, folder: Path, benches: Mapping[str, str]) -> Exception | None:
    replay = f"{replay_command(folder, benches)} {result.start}"
    if result.refusal:
        return AnswerIsNo(result.refusal) if result.answer_is_no else BadInput(result.refusal)
    if result.failure:
        return TrialFailure(f"{result.failure}\nrepeat it with: {replay}")
    if result.killed:
        return YieldkitError(
            f"a worker died twice on trials {result.start} to {result.stop - 1} while they ran alone (memory, or "
            f"a crash in compiled code); everything else is kept; look at one with: {replay}"
        )
    return None


def replay_command(folder: Path, benches: Mapping[str, str]) -> str:
    """The command line that carries out a trial again, less its number."""
    return f"yieldkit burnin replay {shlex.quote(str(folder))}{_bench_options(benches)} --trial"


def _bench_options(benches: Mapping[str, str]) -> str:
    return "".join(f" --bench {shlex.quote(f'{kind}={module}')}" for kind, module in sorted(benches.items()))
