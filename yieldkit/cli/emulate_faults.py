"""Fault events from a file, as `yieldkit emulate` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yieldkit.faults import FaultEvent
    from yieldkit.workloads import Program

__all__ = ["events_of"]


def events_of(path: Path, program: Program, steps: int) -> list[FaultEvent]:
    """The events of a file; each must fall in a step, launch and phase that the run has."""
    import json

    from yieldkit.errors import BadFile, BadInput
    from yieldkit.faults import FaultEvent
    from yieldkit.files import read_bytes

    try:
        data = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"is not JSON: {error}") from error
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise BadFile(path, "must hold a list of fault events")
    phases = {launch.name: len(launch.phases) for launch in program.launches}
    events = []
    for number, item in enumerate(data):
        where = f"event {number}"
        try:
            event = FaultEvent.from_dict(item)
        except BadInput as error:
            raise BadFile(path, str(error), where=where) from error
        if event.step >= steps:
            raise BadFile(path, f"the run has {steps} steps", where=where, value=event.step, cure="raise --steps")
        if event.place == "memoryx":
            events.append(event)
            continue
        if event.launch not in phases:
            raise BadFile(path, "the program has no such launch", where=where, value=event.launch)
        if event.phase >= phases[event.launch]:
            what = f"launch {event.launch!r} has {phases[event.launch]} phases"
            raise BadFile(path, what, where=where, value=event.phase)
        events.append(event)
    return events
