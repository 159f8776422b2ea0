"""Where chunks are carried out: in this process, or in worker processes; anything with the interface of `Executor`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any, Final, ParamSpec, TypeVar

from yieldkit.burnin.worker import prepare_process

__all__ = ["ONE_THREAD", "MakeExecutor", "SerialExecutor", "abandon", "local_executor", "wait_for_some", "worker_pool"]

P = ParamSpec("P")
T = TypeVar("T")

MakeExecutor = Callable[[int], Executor]
"""Makes an executor with so many workers; called again when a pool has broken."""

ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
"""Environment of workers: trials are what runs in parallel, threads inside them would fight for the same cores."""


class SerialExecutor(Executor):
    """Carries out each call where it is submitted."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `fn` now; the future is done when this returns."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def local_executor(jobs: int) -> Executor:
    """One worker: this process. More: a pool of loky worker processes."""
    if jobs == 1:
        return SerialExecutor()
    return worker_pool(jobs)


def worker_pool(jobs: int) -> Executor:
    """A pool of worker processes, also for one job."""
    from loky import ProcessPoolExecutor

    pool: Executor = ProcessPoolExecutor(
        max_workers=jobs, initializer=prepare_process, initargs=(os.getpid(),), env=dict(ONE_THREAD)
    )
    return pool


def wait_for_some(executor: Executor, futures: Iterable[Future[T]], *, poll_s: float = 1.0) -> set[Future[T]]:
    """Wait until at least one future is done, also where a worker was killed in the middle of a result.

    The pool then waits for the rest of that result for ever, and every other worker for its turn to answer: the death
    alone tells, when nothing comes of it. Such a pool is made to break, and its futures fail as those of any dead pool.

    Args:
        executor: what carries out the futures.
        futures: some that are not done.
        poll_s: seconds between two looks at the workers.
    """
    waiting, looks = set(futures), 0
    while True:
        done, _ = wait(waiting, timeout=poll_s, return_when=FIRST_COMPLETED)
        if done:
            return done
        looks = looks + 1 if _dead_workers(executor) else 0
        if looks > 1:
            _break(executor)
            looks = 0


def _dead_workers(executor: Executor) -> bool:
    return any(not process.is_alive() for process in list((getattr(executor, "_processes", None) or {}).values()))


def _break(executor: Executor) -> None:
    """End all workers and this end of their pipe, so that who reads it comes to its end."""
    for process in list((getattr(executor, "_processes", None) or {}).values()):
        # Processes of loky know `terminate` alone, which they are told to ignore.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    queue = getattr(executor, "_result_queue", None)
    if queue is not None:
        with contextlib.suppress(OSError):
            queue._writer.close()


def abandon(executor: Executor) -> None:
    """Give up an executor without waiting for what it still does."""
    if _dead_workers(executor):
        _break(executor)
    shutdown: Callable[..., Any] = executor.shutdown
    try:
        shutdown(wait=True, kill_workers=True)
    except TypeError:
        shutdown(wait=False)
