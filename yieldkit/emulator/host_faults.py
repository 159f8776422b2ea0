"""What strikes on the host's side of a job: words of MemoryX, words and whole tensors on the link to the wafer.

MemoryX is a memory with or without a code over its words. Without one, a struck word is simply another number from then
on. With SECDED the array keeps what was written and the wrong bits stand beside it until something reads the word: one
wrong bit is corrected and an event says so, two are seen and the host stops before the step, three or more act as the
code has it (`secded`). A step of a training reads every word; other jobs read what they stream and look up.

A stream's word is struck after rounding to the format of the link. A tensor that is lost on the link never comes: cores
wait for it, or MemoryX does. The counters at both ends of the host's link then differ, which the host sees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.formats import decode_words, encode_words, round_to
from yieldkit.emulator.host_words import expected_lists, input_shape, inputs_of, outputs_of, words_in
from yieldkit.emulator.later import LateArrays
from yieldkit.emulator.lowering import LoweredLaunch
from yieldkit.emulator.machine import LaunchResult
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.secded import CORRECTED, DETECTED, read_pattern
from yieldkit.emulator.symptoms import HostEvent
from yieldkit.errors import BadInput
from yieldkit.workloads.program import Gemm, Launch, Program, StreamIn, StreamOut, WGrad

__all__ = [
    "MEMORYX_PARTS",
    "HostHookSource",
    "HostMemory",
    "MemoryHook",
    "StreamHook",
    "lost_streams",
    "stream_size",
    "struck_inputs",
    "struck_outputs",
]

F32 = npt.NDArray[np.float32]

MEMORYX_PARTS: Final = ("weights", "first", "second")
_CODES: Final = ("none", "secded")


@dataclass(frozen=True)
class MemoryHook:
    """Word `index` of parameter `tensor`, in one of `MEMORYX_PARTS`, becomes `(old & keep) ^ mask` before a step."""

    part: str
    tensor: str
    index: int
    keep: int
    mask: int


@dataclass(frozen=True)
class StreamHook:
    """Word `index` of the array of a stream becomes `(old & keep) ^ mask`, or the whole tensor is lost (`drop`)."""

    stream: str
    index: int
    keep: int
    mask: int
    drop: bool = False


@runtime_checkable
class HostHookSource(Protocol):
    """Something that strikes on the host's side; a source of hooks may be this too."""

    def memory_hooks(self, step: int) -> Sequence[MemoryHook]:
        """What strikes MemoryX before step `step`."""
        ...

    def stream_hooks(self, step: int, low: LoweredLaunch) -> Sequence[StreamHook]:
        """What strikes the streams of launch `low` of step `step`."""
        ...


@dataclass
class HostMemory:
    """The words of MemoryX as a memory with a code.

    Attributes:
        memoryx: what was written to it.
        code: "none" or "secded".
        wrong: by (part, parameter, index), bits that are stored wrong and have not been read since.
    """

    memoryx: MemoryX
    code: str = "none"
    wrong: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.code not in _CODES:
            raise BadInput("MemoryX's protection must be one of " + ", ".join(_CODES), value=self.code)

    def strike(self, hooks: Iterable[MemoryHook]) -> None:
        """Strike words."""
        for hook in hooks:
            key = (hook.part, hook.tensor, hook.index)
            written = self._word(key)
            stored = written ^ self.wrong.pop(key, 0)
            struck = (stored & hook.keep) ^ hook.mask
            if self.code == "none":
                self._write(key, struck)
            elif struck != written:
                self.wrong[key] = struck ^ written

    def read(self, symbols: Mapping[str, Collection[int]] | None) -> tuple[HostEvent, ...]:
        """Read what a step reads, through the code.

        Args:
            symbols: rows looked up in the embedding tables; None where the step reads everything.

        Returns:
            an event for each word in which the code saw something.
        """
        events = []
        for key in sorted(self.wrong):
            if symbols is not None and not self._is_read(key, symbols):
                continue
            left, seen = read_pattern(np.array([self.wrong[key]], np.uint64), self.code)
            if seen[0] == DETECTED:
                events.append(HostEvent("MemoryX", "memoryx_uncorrectable", key[1], 1))
                continue
            del self.wrong[key]
            if seen[0] == CORRECTED:
                events.append(HostEvent("MemoryX", "memoryx_corrected", key[1], 1))
            if left[0]:
                # More wrong bits than the code can tell from one, or from none.
                self._write(key, self._word(key) ^ int(left[0]))
        return tuple(events)

    def _is_read(self, key: tuple[str, str, int], symbols: Mapping[str, Collection[int]]) -> bool:
        part, name, index = key
        program = self.memoryx.program
        if part != "weights":
            return False
        if name in symbols:
            return index // self.memoryx.weights[name].shape[-1] in symbols[name]
        return any(item.get("param") == name for item in program.job.get("inputs", ()))

    def _flat(self, key: tuple[str, str, int]) -> npt.NDArray[np.uint32]:
        part, name, index = key
        table: Mapping[str, F32] = getattr(self.memoryx, part)
        if name not in table or not 0 <= index < table[name].size:
            raise BadInput(f"MemoryX has no word {index} of {name!r} in its {part}")
        return table[name].reshape(-1).view(np.uint32)

    def _word(self, key: tuple[str, str, int]) -> int:
        return int(self._flat(key)[key[2]])

    def _write(self, key: tuple[str, str, int], word: int) -> None:
        self._flat(key)[key[2]] = word
        self.memoryx.forget_rounded(key[1])


def stream_size(program: Program, launch: Launch, stream: str) -> int:
    """Words of the array of a stream.

    Raises:
        BadInput: the launch has no such stream.
    """
    for phase in inputs_of(launch):
        if phase.stream == stream:
            return int(np.prod(input_shape(program, phase)))
    for out in outputs_of(launch):
        if out.stream == stream:
            return _words_out(program, out)
    raise BadInput(f"launch {launch.name!r} has no stream {stream!r}", cure=_listed(launch))


def struck_inputs(
    program: Program, launch: Launch, arrays: Mapping[str, F32], hooks: Sequence[StreamHook]
) -> dict[str, F32]:
    """Arrays that feed a launch, with struck words; the others as they are."""
    struck = dict(arrays)
    for phase in inputs_of(launch):
        mine = [hook for hook in hooks if hook.stream == phase.stream and not hook.drop]
        if mine:
            rounded = round_to(arrays[phase.stream], _format_in(program, phase))
            struck[phase.stream] = _struck(rounded, mine, _format_in(program, phase))
    return struck


def struck_outputs(program: Program, launch: Launch, result: LaunchResult, hooks: Sequence[StreamHook]) -> LaunchResult:
    """What MemoryX gets of a launch: struck words, and nothing of a tensor that the link has lost.

    A launch whose every core has ended is not complete for the host while a tensor is missing.
    """
    dropped = {hook.stream for hook in hooks if hook.drop}
    missing = dict(result.missing)
    missing |= {phase.stream: _words_out(program, phase) for phase in outputs_of(launch) if phase.stream in dropped}

    @cache
    def outputs() -> dict[str, F32]:
        arrived = {stream: array for stream, array in result.outputs.items() if stream not in dropped}
        for phase in outputs_of(launch):
            mine = [hook for hook in hooks if hook.stream == phase.stream]
            if mine and phase.stream in arrived:
                arrived[phase.stream] = _struck(arrived[phase.stream], mine, _format_out(program, phase))
        return arrived

    completed = result.completed and len(missing) == len(result.missing)
    # Of a launch that did not complete nobody may ever look at them.
    given = outputs() if result.completed else LateArrays(outputs)
    return replace(result, completed=completed, outputs=given, missing=tuple(missing.items()))


def lost_streams(
    program: Program, launch: Launch, result: LaunchResult, hooks: Sequence[StreamHook]
) -> tuple[HostEvent, ...]:
    """What the counters at the two ends of the host's link say of tensors that were sent and did not come.

    Args:
        program: the program.
        launch: the launch.
        result: how it ended on the wafer.
        hooks: what struck its streams.
    """
    dropped = {hook.stream for hook in hooks if hook.drop}
    sent = {
        phase.stream: sum(
            len(item.words) for item in words_in(program, phase, np.zeros(input_shape(program, phase), np.float32))
        )
        for phase in inputs_of(launch)
        if phase.stream in dropped
    }
    lack = dict(result.missing)
    for out in outputs_of(launch):
        # What the cores never sent cannot have been lost on the way.
        if out.stream in dropped and _words_out(program, out) > lack.get(out.stream, 0):
            sent[out.stream] = _words_out(program, out) - lack.get(out.stream, 0)
    return tuple(HostEvent("SwarmX", "dropped_tensor", stream, words) for stream, words in sent.items())


def _struck(array: F32, hooks: Sequence[StreamHook], dtype: str) -> F32:
    result = np.array(array, np.float32, order="K")
    for hook in hooks:
        place: Any = np.unravel_index(hook.index, result.shape)
        word = encode_words(result[place], dtype)
        result[place] = decode_words((word & np.uint32(hook.keep)) ^ np.uint32(hook.mask), dtype)[0]
    return result


def _format_in(program: Program, phase: Gemm | StreamIn) -> str:
    return program.dtype if isinstance(phase, Gemm) else program.table[phase.tensor].dtype


def _format_out(program: Program, phase: WGrad | StreamOut) -> str:
    return program.sum_dtype if isinstance(phase, WGrad) else program.table[phase.tensor].dtype


def _words_out(program: Program, phase: WGrad | StreamOut) -> int:
    return sum(words for *_, words in expected_lists(program, phase))


def _listed(launch: Launch) -> str:
    names = [phase.stream for phase in (*inputs_of(launch), *outputs_of(launch))]
    return "known: " + (", ".join(dict.fromkeys(names)) or "none")
