"""Places on the host's side: words of MemoryX, words and tensors on the host's link. They have names and no site."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from yieldkit.emulator.host_faults import MEMORYX_PARTS, MemoryHook, StreamHook, stream_size
from yieldkit.emulator.lowering import Lowered
from yieldkit.errors import BadInput
from yieldkit.workloads.parameters import parameters_of
from yieldkit.workloads.poisson import initial_fields
from yieldkit.workloads.program import Program

if TYPE_CHECKING:
    from yieldkit.faults.event import FaultEvent

__all__ = [
    "HOST_PLACES",
    "check_fields",
    "check_in_program",
    "memory_hooks",
    "reads_of_step",
    "stream_hooks",
    "words_of_memoryx",
]

HOST_PLACES: Final = ("memoryx", "stream", "stream_drop")


def check_fields(event: FaultEvent) -> None:
    """Refuse an event whose names do not go with its place.

    Raises:
        BadInput: names the field.
    """
    for name in ("tensor", "part"):
        if not isinstance(getattr(event, name), str):
            raise BadInput(f"fault {name} must be a name", value=getattr(event, name))
    if event.place not in HOST_PLACES:
        if event.tensor or event.part or event.index:
            raise BadInput(f"a fault of place {event.place!r} has no tensor, part and index")
        return
    if not event.tensor:
        what = "parameter" if event.place == "memoryx" else "stream"
        raise BadInput(f"a fault of place {event.place!r} needs a tensor", cure=f"give tensor, the name of a {what}")
    if event.place == "memoryx" and event.part not in MEMORYX_PARTS:
        raise BadInput("fault part must be one of " + ", ".join(MEMORYX_PARTS), value=event.part)
    if event.place != "memoryx" and event.part:
        raise BadInput("only a fault of MemoryX has a part", value=event.part)


def words_of_memoryx(program: Program) -> dict[str, int]:
    """Words of every parameter that MemoryX holds for a program; the moments of a training have as many."""
    if program.job.get("kind") == "iteration":
        return {name: field.size for name, field in initial_fields(program).items()}
    sizes = {}
    for parameter in parameters_of(program.job):
        size = 1
        for extent in parameter.dims:
            size *= extent
        sizes[parameter.name] = size
    return sizes


def check_in_program(event: FaultEvent, lowered: Lowered) -> None:
    """Refuse an event that names what a program has not.

    Raises:
        BadInput: unknown parameter, stream or launch, or an index beyond its words.
    """
    program = lowered.program
    if event.place == "memoryx":
        sizes = words_of_memoryx(program)
        if event.tensor not in sizes:
            raise BadInput("fault names an unknown parameter", value=event.tensor, cure="known: " + ", ".join(sizes))
        if event.part != "weights" and program.job.get("kind") != "training":
            raise BadInput("only a training has moments in MemoryX", value=event.part, cure='use part "weights"')
        size = sizes[event.tensor]
    else:
        launches = {low.name: low for low in lowered.launches}
        if event.launch not in launches:
            known = ", ".join(launches)
            raise BadInput("fault names an unknown launch", value=event.launch, cure=f"known: {known}")
        size = stream_size(program, launches[event.launch].launch, event.tensor)
    if event.index >= size:
        raise BadInput(f"fault index in {event.tensor!r} must be below {size}", value=event.index)


def memory_hooks(events: Iterable[FaultEvent], step: int) -> tuple[MemoryHook, ...]:
    """What strikes MemoryX before a step."""
    return tuple(
        MemoryHook(event.part, event.tensor, event.index, event.keep, event.mask)
        for event in events
        if event.place == "memoryx" and event.step == step
    )


def stream_hooks(events: Iterable[FaultEvent], step: int, launch: str) -> tuple[StreamHook, ...]:
    """What strikes the streams of a launch."""
    return tuple(
        StreamHook(event.tensor, event.index, event.keep, event.mask, event.place == "stream_drop")
        for event in events
        if event.place in ("stream", "stream_drop") and event.step == step and event.launch == launch
    )


def reads_of_step(event: FaultEvent, program: Program) -> bool:
    """Whether a step may read the struck word at all: resident weights of a decoding are read at its start only."""
    if event.place != "memoryx" or program.job.get("kind") in ("training", "iteration"):
        return True
    streamed = {item.get("param") for item in program.job.get("inputs", ())}
    return event.part == "weights" and event.tensor in streamed | {"wte", "wpe"}
