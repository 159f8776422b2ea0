"""Constructed observations for the rules: one clean training run, and small departures from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from yieldkit.diagnosis import Baseline
from yieldkit.emulator.symptoms import (
    COMPLETED,
    CRASH_DETECTED,
    STALL_DETECTED,
    ConfigScan,
    CoreScan,
    EventScan,
    LinkScan,
    QueueScan,
    Symptoms,
)

STEPS = 60
LOSS = tuple(5.0 - 0.03 * step for step in range(STEPS))
NAN = float("nan")

CLEAN = Symptoms(
    program="p",
    status=COMPLETED,
    steps_planned=STEPS,
    steps_done=STEPS,
    loss=LOSS,
    grad_norm=(1.0,) * STEPS,
    update_norm=(0.01,) * STEPS,
    cycles=1000,
    expected_cycles=1000,
)
BASELINE = Baseline(program="p", loss=LOSS, half_width=(0.1,) * STEPS, grad_norm=(1.0,) * STEPS, cycles=1000)
DECODE = Symptoms(program="d", status=COMPLETED, steps_planned=4, steps_done=4, tokens=(1, 2, 3, 4))

GAP = LinkScan(3, 4, 0, 1, colour=2, sent=10, received=9)
FLIP = ConfigScan(5, 6, "route")
STARVED = CoreScan(3, 5, "INPUT_STARVATION", task=2, colour=2)
LATER = CoreScan(3, 9, "INPUT_STARVATION", task=7, colour=2)


def stalled(**changes: Any) -> Symptoms:
    values: dict[str, Any] = {"stalled_launch": "forward", "waiting": (STARVED, LATER), **changes}
    return replace(CLEAN, status=STALL_DETECTED, steps_done=3, loss=LOSS[:3], **values)


def events(*kinds: str, **changes: Any) -> Symptoms:
    return replace(CLEAN, events=tuple(EventScan(1, 2, kind, 1) for kind in kinds), **changes)


def crashed(**changes: Any) -> Symptoms:
    values: dict[str, Any] = {"waiting": (CoreScan(7, 8, "HALTED", task=1, colour=0),), **changes}
    return replace(CLEAN, status=CRASH_DETECTED, steps_done=3, loss=LOSS[:3], **values)


def nan_at(step: int, *, recent: float = 1.0, until: int | None = None, near: float = 1.0) -> Symptoms:
    """NaN from `step` to before `until` (the end if None); norms of the seven steps before it are `recent`."""
    end = STEPS if until is None else until
    loss = tuple(NAN if step <= t < end else LOSS[t] for t in range(STEPS))
    norm = tuple(
        NAN if step <= t < end else recent if step - 7 <= t < step else near if t == step - 8 else 1.0
        for t in range(STEPS)
    )
    return replace(CLEAN, loss=loss, grad_norm=norm, nonfinite_step=step, nonfinite_channel="loss")


def away(distances: dict[int, float]) -> Symptoms:
    """Loss at the given numbers of half widths above the centre of the band."""
    return replace(CLEAN, loss=tuple(LOSS[t] + 0.1 * distances.get(t, 0.0) for t in range(STEPS)))


def deadlocked() -> Symptoms:
    """Four cores in a square, each with words for the next and no room there."""
    ring = ((0, 0, 0, 1), (0, 1, 1, 1), (1, 1, 1, 0), (1, 0, 0, 0))
    ports = {(0, 1): "W", (1, 0): "N", (0, -1): "E", (-1, 0): "S"}
    waiting = tuple(CoreScan(r, c, "WAITING_FOR_BUFFER", task=1, colour=4) for r, c, _, _ in ring)
    queues = tuple(QueueScan(r2, c2, ports[r2 - r, c2 - c], 4, 2) for r, c, r2, c2 in ring)
    return stalled(waiting=waiting, leftover=queues)
