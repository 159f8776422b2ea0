"""Chunks on a Dask cluster, by the same interface as local workers: an executor, and workers that may die."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from yieldkit.burnin.executors import ONE_THREAD, MakeExecutor
from yieldkit.burnin.trial import SEMANTICS
from yieldkit.errors import BadInput, YieldkitError
from yieldkit.version import __version__

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["DaskCrew", "DaskExecutor", "dask_crew", "dask_executor"]

P = ParamSpec("P")
T = TypeVar("T")

_LOCAL: Final = "local"
_CONNECT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1


class DaskExecutor(Executor):
    """What a client submits, as `concurrent.futures`.

    A task whose workers keep dying, or that the scheduler has given up, ends with `BrokenExecutor`, as it does in a
    pool of processes; how many deaths that takes is the scheduler's to say (`distributed.scheduler.allowed-failures`).
    A result that is lost with its worker is computed again: every task sent is a pure function of its arguments.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._remote: set[Any] = set()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Send a call to the cluster.

        Raises:
            YieldkitError: the scheduler is gone.
        """
        if self._closed:
            raise RuntimeError("cannot submit after shutdown")
        # What is sent while the client looks for its scheduler would wait for ever if it finds none.
        while self._client.status == "connecting":
            time.sleep(_POLL_SECONDS)
        if self._client.status != "running":
            raise YieldkitError("the Dask scheduler is gone; everything committed is kept: start it again and resume")
        # Not pure: a key of its own for every call, so that nothing is taken from another campaign's memory.
        remote = self._client.submit(fn, *args, pure=False, **kwargs)
        self._remote.add(remote)
        local: Future[T] = Future()
        local.set_running_or_notify_cancel()

        def hand_over(done: Any) -> None:
            self._remote.discard(done)
            self._hand_over(done, local)

        remote.add_done_callback(hand_over)
        return local

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let go; what still runs is given up unless it is waited for. The client and its cluster stay."""
        self._closed = True
        left = list(self._remote)
        if left and self._client.status == "running":
            if wait and not cancel_futures:
                from distributed import wait as wait_for

                wait_for(left)
            else:
                self._client.cancel(left)
        self._remote.clear()

    def _hand_over(self, remote: Any, local: Future[Any]) -> None:
        from distributed import CancelledError, KilledWorker

        try:
            local.set_result(remote.result())
        except (KilledWorker, CancelledError) as error:
            local.set_exception(BrokenExecutor(str(error)))
        except BaseException as error:
            local.set_exception(error)


def dask_executor(client: Client) -> MakeExecutor:
    """Run chunks on the workers of a Dask client: the `make_executor` of `Campaign.run`.

    Args:
        client: connected; it stays open. Each worker carries out one chunk at a time whatever its number of threads,
            must be able to import yieldkit and the bench, and must see the folder of the run at the same path if the
            spec names files.

    Returns:
        a maker of executors; give `Campaign.run` the number of workers as `jobs`.
    """
    return lambda workers: DaskExecutor(client)


@dataclass(frozen=True)
class DaskCrew:
    """A connected cluster: what makes executors on it, and how many workers it has."""

    make_executor: MakeExecutor
    workers: int


@contextmanager
def dask_crew(where: str) -> Iterator[DaskCrew]:
    """Connect to a cluster, or start one on this machine, and close again what was opened.

    Args:
        where: address of a scheduler ("tcp://host:8786"), or "local:N" for N worker processes here. Those leave
            stopping to this process, and one death of theirs is enough to have its chunk repeated alone.

    Raises:
        BadInput: Dask is not installed, nobody answers, there is no worker, or the workers cannot import yieldkit or
            have another version of it.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise BadInput("Dask is not installed", cure="pip install 'yieldkit[dask]'") from error
    number = _local_workers(where)
    if number is None:
        try:
            client = Client(where, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise BadInput(f"no Dask scheduler answers: {_first_line(error)}", value=where) from error
        with client:
            yield DaskCrew(dask_executor(client), _check_workers(client, where))
        return
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            # Any free port: several campaigns may run here. A limit of memory would be one more way to be killed.
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
            silence_logs=logging.CRITICAL,
            env=dict(ONE_THREAD),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(_leave_stopping())
        yield DaskCrew(dask_executor(client), _check_workers(client, where))


def _leave_stopping() -> Any:
    from distributed import WorkerPlugin

    class LeaveStopping(WorkerPlugin):  # type: ignore[misc]
        """A signal to the whole process group must not cut the chunk that the runner waits for."""

        name = "yieldkit-leave-stopping"

        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    return LeaveStopping()


def _local_workers(where: str) -> int | None:
    name, colon, number = where.partition(":")
    if name != _LOCAL:
        return None
    if not (colon and number.isdecimal() and int(number) > 0):
        raise BadInput("a cluster on this machine reads local:N, N workers", value=where)
    return int(number)


def _check_workers(client: Client, where: str) -> int:
    try:
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except TimeoutError as error:
        raise BadInput("the Dask scheduler has no workers", value=where) from error
    try:
        answers = client.run(_facts)
    except Exception as error:
        raise BadInput(
            f"the workers at {where} cannot run yieldkit: {_first_line(error)}",
            cure=f"install yieldkit {__version__} where they run",
        ) from error
    for worker, facts in sorted(answers.items()):
        if facts != _facts():
            raise BadInput(
                f"the worker {worker} has yieldkit {facts[0]} with rules {facts[1]}, here it is {__version__} with "
                f"rules {SEMANTICS}: its trials would be others",
                cure=f"install yieldkit {__version__} where the workers run",
            )
    return len(answers)


def _facts() -> tuple[str, int]:
    return __version__, SEMANTICS


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
