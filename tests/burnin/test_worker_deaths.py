"""Workers that die at the worst moment: in the middle of handing a result over."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import BrokenExecutor, Future
from multiprocessing import connection

import pytest

from yieldkit.burnin.executors import abandon, wait_for_some, worker_pool


def die_in_the_middle_of_a_result(size):
    """The worker sends half of this result and is killed."""

    def half(self, data, *_):
        os.write(self._handle, bytes(data[: len(data) // 2]))
        os.kill(os.getpid(), signal.SIGKILL)

    connection.Connection._send = half
    return b"x" * size


def well(value):
    return value


@pytest.mark.parametrize("size", [1_000, 200_000])
def test_a_result_cut_short_breaks_the_pool_and_does_not_hang_it(size):
    pool = worker_pool(2)
    try:
        assert wait_for_some(pool, [pool.submit(well, 3)]).pop().result() == 3
        cut = pool.submit(die_in_the_middle_of_a_result, size)
        begin = time.monotonic()
        assert wait_for_some(pool, [cut], poll_s=0.1) == {cut}
        with pytest.raises(BrokenExecutor):
            cut.result()
        assert time.monotonic() - begin < 30
        with pytest.raises(BrokenExecutor):
            pool.submit(well, 4)
    finally:
        abandon(pool)


def test_a_pool_stuck_in_a_cut_result_can_be_abandoned():
    pool = worker_pool(1)
    cut = pool.submit(die_in_the_middle_of_a_result, 200_000)
    while not any(process.exitcode is not None for process in pool._processes.values()):
        os.sched_yield()
    abandon(pool)
    assert isinstance(cut.exception(timeout=30), BrokenExecutor)


def test_a_slow_worker_is_waited_for():
    pool = worker_pool(1)
    try:
        slow = pool.submit(time.sleep, 1.0)
        assert wait_for_some(pool, [slow], poll_s=0.05) == {slow}
        assert slow.result() is None
    finally:
        abandon(pool)


def test_what_is_no_pool_is_waited_for_as_it_is():
    done: Future[int] = Future()
    done.set_result(1)
    assert wait_for_some(object(), [done]) == {done}  # type: ignore[arg-type]
