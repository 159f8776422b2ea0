"""What an operator of the machine could read from it during and after a run: no injected truth is in here.

Telemetry comes with every step; a scan (counters, hashes, events) follows every launch, and wait states and queues
are read when a run stops making progress. Sites are *physical*: that is what a technician maps out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from yieldkit.errors import BadInput

__all__ = [
    "COMPLETED",
    "CORRUPTION_DETECTED",
    "CRASH_DETECTED",
    "STALL_DETECTED",
    "ConfigScan",
    "CoreScan",
    "EventScan",
    "HostEvent",
    "LinkScan",
    "QueueScan",
    "Symptoms",
]

COMPLETED: Final = "COMPLETED"
STALL_DETECTED: Final = "STALL_DETECTED"
CRASH_DETECTED: Final = "CRASH_DETECTED"
CORRUPTION_DETECTED: Final = "CORRUPTION_DETECTED"
_WHOLE: Final = frozenset((int, str))
REPAIRED: Final = frozenset(("crc", "ecc_corrected"))
"""Events of checks that have repaired what they saw."""


@dataclass(frozen=True)
class CoreScan:
    """One core that has not finished its tasks when nothing moves any more.

    `state` is INPUT_STARVATION (waits for a word of `colour`), WAITING_FOR_BUFFER (cannot send on `colour`) or HALTED
    (stopped by an illegal operation or address) or STALLED (stopped by the watchdog in an endless loop). `task` is the
    number of the task it is in.
    """

    row: int
    col: int
    state: str
    task: int
    colour: int


@dataclass(frozen=True)
class LinkScan:
    """A directed physical link, from core (row, col) to (row + drow, col + dcol), whose two ends count differently.

    `sent` words left the near router on `colour` and `received` arrived at the far one since the launch began.
    """

    row: int
    col: int
    drow: int
    dcol: int
    colour: int
    sent: int
    received: int


@dataclass(frozen=True)
class ConfigScan:
    """A core whose control words differ from the image that was loaded.

    `kind` says which hash differs: "header", "task", "descriptor" (tables in SRAM), "route" or "register" (the
    copy that the running task works from).
    """

    row: int
    col: int
    kind: str


@dataclass(frozen=True)
class EventScan:
    """Events a core counted.

    `kind` is "illegal_operation" or "address" (the core halted), "sequence", "parity", "crc_failed", "sram_parity" or
    "ecc_uncorrectable" (a check saw what it could not repair), "crc" or "ecc_corrected" (repaired).
    """

    row: int
    col: int
    kind: str
    count: int


@dataclass(frozen=True)
class HostEvent:
    """Something the host saw at one of its endpoints.

    `endpoint` is "MemoryX" or "SwarmX"; `kind` is "memoryx_corrected" or "memoryx_uncorrectable" (words of its memory
    in which the code saw something, when they were read) or "dropped_tensor" (what one end of the host's link counted
    as sent never came to the other); `name` the parameter or stream; `count` the words.
    """

    endpoint: str
    kind: str
    name: str
    count: int


@dataclass(frozen=True)
class QueueScan:
    """Words left in a queue: `port` is the router's input port N, E, S, W, "ramp" (from the core) or "core" (to it)."""

    row: int
    col: int
    port: str
    colour: int
    words: int


@dataclass(frozen=True)
class Symptoms:
    """Everything a run shows from outside.

    Attributes:
        program: fingerprint of the program.
        status: COMPLETED, STALL_DETECTED, CRASH_DETECTED (a core halted) or CORRUPTION_DETECTED (a launch went through,
            but a check fired in it that could not repair what it saw).
        steps_planned: steps the job was to do.
        steps_done: steps completed.
        loss: figure of merit per completed step, or empty: mean loss in nats (training); the norm of the residual that
            the step found over that of the right-hand side (a solver); the norm of what came out over that of what went
            in (one application of an operator). A non-finite value is kept as NaN or inf.
        grad_norm: Euclidean norm of all gradients per completed step.
        update_norm: Euclidean norm of the parameter update per completed step.
        nonfinite_step: first step whose loss, gradients or parameters hold a non-finite value, or None.
        nonfinite_channel: "loss", "gradient" or "parameter" for that step, or "".
        tokens: tokens emitted (decode), flat, in order of step and sequence.
        logit_nonfinite: number of non-finite logits seen (decode).
        stalled_launch: name of the launch in which nothing moved any more or after which the host stopped, or "".
        waiting: cores that had not finished then.
        link_mismatch: links whose two ends disagreed after a launch.
        config_mismatch: cores whose control hashes differed from the loaded image after a launch.
        events: events counted by the cores.
        host_events: what MemoryX and SwarmX noticed.
        leftover: words left in queues, after the last launch that left any trace.
        host_missing: words that MemoryX still waited for, by stream name.
        cycles: cycles of the run, where the executor has a clock; otherwise a rough figure from the tables.
        expected_cycles: cycles of the same program on a clean machine.
    """

    program: str
    status: str
    steps_planned: int
    steps_done: int
    loss: tuple[float, ...] = ()
    grad_norm: tuple[float, ...] = ()
    update_norm: tuple[float, ...] = ()
    nonfinite_step: int | None = None
    nonfinite_channel: str = ""
    tokens: tuple[int, ...] = ()
    logit_nonfinite: int = 0
    stalled_launch: str = ""
    waiting: tuple[CoreScan, ...] = ()
    link_mismatch: tuple[LinkScan, ...] = ()
    config_mismatch: tuple[ConfigScan, ...] = ()
    events: tuple[EventScan, ...] = ()
    leftover: tuple[QueueScan, ...] = ()
    host_missing: tuple[tuple[str, int], ...] = ()
    host_events: tuple[HostEvent, ...] = ()
    cycles: int = 0
    expected_cycles: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings; non-finite numbers become the strings "nan", "inf", "-inf"."""
        return _fields(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: a field is unknown or missing.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise BadInput("symptoms have unknown fields", value=unknown)
        parts: dict[str, Any] = {
            "waiting": CoreScan,
            "link_mismatch": LinkScan,
            "config_mismatch": ConfigScan,
            "events": EventScan,
            "leftover": QueueScan,
            "host_events": HostEvent,
        }
        values: dict[str, Any] = {}
        try:
            for name, value in data.items():
                if name in parts:
                    values[name] = tuple(parts[name](**item) for item in value)
                elif name in ("loss", "grad_norm", "update_norm"):
                    values[name] = tuple(float(item) for item in value)
                elif name == "tokens":
                    values[name] = tuple(int(item) for item in value)
                elif name == "host_missing":
                    values[name] = tuple((str(stream), int(words)) for stream, words in value)
                else:
                    values[name] = value
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise BadInput(f"symptoms cannot be read: {error}") from error


def _fields(item: Any) -> dict[str, Any]:
    # Not asdict, which copies every number of a campaign's hundred thousands of tokens and losses by itself.
    return {name: _plain(getattr(item, name)) for name in item.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if type(value) is tuple and set(map(type, value)) <= _WHOLE:
        return list(value)
    if isinstance(value, float):
        if value != value:
            return "nan"
        if value in (float("inf"), float("-inf")):
            return "inf" if value > 0 else "-inf"
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return _fields(value) if hasattr(value, "__dataclass_fields__") else value
