"""Stopping on SIGINT and SIGTERM without losing work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest", "stop_on_signals"]


class StopRequest:
    """Set once, by a signal or by hand; the runner then hands out nothing more, waits for what runs and commits it."""

    def __init__(self) -> None:
        self.reason = ""

    def __bool__(self) -> bool:
        return bool(self.reason)

    def request(self, reason: str) -> None:
        """Ask for the stop."""
        self.reason = self.reason or reason


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a stop request; a second SIGINT interrupts at once.

    Outside the main thread, where Python allows no handlers, the request can only be made by hand.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.request(signal.Signals(number).name)

    try:
        for number, handler in before.items():
            # A shell that started us in the background has SIGINT ignored: it stays so.
            if handler != signal.SIG_IGN:
                signal.signal(number, handle)
        yield stop
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
