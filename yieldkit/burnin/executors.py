"""Where chunks are carried out: in this process, or in worker processes; anything with the interface of `Executor`."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, ParamSpec, TypeVar

from yieldkit.burnin.worker import prepare_process

__all__ = ["ONE_THREAD", "MakeExecutor", "SerialExecutor", "abandon", "local_executor", "worker_pool"]

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


def abandon(executor: Executor) -> None:
    """Give up an executor without waiting for what it still does."""
    shutdown: Callable[..., Any] = executor.shutdown
    try:
        shutdown(wait=True, kill_workers=True)
    except TypeError:
        shutdown(wait=False)
