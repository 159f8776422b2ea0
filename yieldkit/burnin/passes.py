"""Trials of forward jobs, whose steps know nothing of each other: only the struck step is run, and of it only what the
fault changes.

`Passes` keeps the clean pass of each step that was struck often enough (`emulator.replay`). A word of SRAM that holds
a value is followed there; what it changes goes into the step's loss, symbols and digest, and all else is the clean
run's. Faults that change no value are known without running anything. What cannot be followed takes the usual way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.hooks import LaunchHooks, LinkHook, ProductHook, ResultHook
from yieldkit.emulator.job import greedy
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.part_runs import never_read, struck_part
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.replay import Outcome, Replay
from yieldkit.emulator.running import RunResult, protection_options
from yieldkit.emulator.scan import LogicalScan
from yieldkit.emulator.struck_products import place_of, strike_product, strike_weight, weight_of
from yieldkit.emulator.symptoms import Symptoms
from yieldkit.errors import BadInput
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.faults.host_places import HOST_PLACES
from yieldkit.files import fingerprint
from yieldkit.workloads.batches import batch_of
from yieldkit.workloads.program import Gemm, Gemv, StreamOut, WGrad

__all__ = ["LARGEST_BYTES", "Passes"]

F32 = npt.NDArray[np.float32]

LARGEST_BYTES: Final = 256 << 20
"""Memory that a process spends on clean passes (assumption)."""
STRUCK_BEFORE: Final = 2
"""Trials of a step before its clean pass is kept: to keep one costs as much as some trials do (measured)."""


@dataclass(frozen=True)
class _Struck:
    """What a fault changes of a step; None where that is nothing."""

    outcome: Outcome | None
    scan: LogicalScan | None = None


@dataclass
class _Pass:
    """The clean pass of a step, and what its digest is over: launches' names of streams and sums, in order."""

    replay: Replay
    parts: tuple[tuple[bool, str], ...]
    feeds: tuple[Mapping[str, F32], ...]

    def __post_init__(self) -> None:
        self.clean: list[F32] = []
        self._before = []
        digest = hashlib.sha256()
        for summed, name in self.parts:
            versions = self.replay.taps if summed else self.replay.outputs
            array = self.replay.clean(versions[name])
            self.clean.append(array)
            self._before.append(digest.copy())
            digest.update(name.encode())
            digest.update(array.data)
        self.digest = digest.hexdigest()[:16]

    def outputs(self, changed: Mapping[str, F32]) -> dict[str, F32]:
        """Streams of the pass with those that differ."""
        clean = {name: array for (summed, name), array in zip(self.parts, self.clean, strict=True) if not summed}
        return clean | dict(changed)

    def digest_of(self, outcome: Outcome) -> str:
        """What `StepResult.digest` of the struck pass is."""
        different = [name in (outcome.sums if summed else outcome.outputs) for summed, name in self.parts]
        if True not in different:
            return self.digest
        first = different.index(True)
        digest = self._before[first].copy()
        for (summed, name), clean, differs in zip(
            self.parts[first:], self.clean[first:], different[first:], strict=True
        ):
            array = (outcome.sums if summed else outcome.outputs)[name] if differs else clean
            digest.update(name.encode())
            digest.update(array.data)
        return digest.hexdigest()[:16]


@dataclass
class Passes:
    """Clean passes of a forward job's steps.

    Attributes:
        lowered: the program.
        placement: where it runs.
        steps: of the job.
        result: its clean run.
        largest_bytes: memory to spend; steps whose pass finds no room in it take the usual way.
        struck_before: trials of a step before its pass is kept.
    """

    lowered: Lowered
    placement: Placement
    steps: int
    result: RunResult
    largest_bytes: int = LARGEST_BYTES
    struck_before: int = STRUCK_BEFORE
    followed: int = 0
    """Trials that were followed here."""
    _passes: dict[int, _Pass | None] = field(default_factory=dict, repr=False)
    _struck: dict[int, int] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def __post_init__(self) -> None:
        self._plain = self.follows(self.lowered, self.placement, self.result.symptoms)
        self._guarded = protection_options(self.placement.fabric)["guard"].kind != "none"
        self._state_hash = self.result.memoryx.state_hash if self._plain else ""
        self._reports = any(item["form"] == "logits" for item in self.lowered.program.job.get("outputs", ()))

    @staticmethod
    def follows(lowered: Lowered, placement: Placement, clean: Symptoms) -> bool:
        """Whether a job is of the kind whose trials are followed here."""
        protection = protection_options(placement.fabric)
        return (
            lowered.program.job.get("kind") == "forward"
            and protection["sram_code"] == "none"
            and clean.nonfinite_step is None
            and not any(tensor.keep and not tensor.values for tensor in lowered.tensors.values())
        )

    def trial(self, event: FaultEvent) -> RunResult | None:
        """What the job with a fault gives from its first step to its end; None where this cannot follow it."""
        if not self._plain or event.place in HOST_PLACES or not 0 <= event.step < self.steps:
            return None
        plan = FaultPlan([event], self.placement)
        struck = None
        for low in self.lowered.launches:
            hooks = plan.hooks(event.step, low)
            if hooks:
                struck = self._strike(event.step, low, hooks)
                break
        else:
            struck = _Struck(None)
        if struck is None:
            return None
        self.followed += 1
        return self._result(event.step, struck)

    def _strike(self, step: int, low: LoweredLaunch, hooks: LaunchHooks) -> _Struck | None:
        if not hooks.sram:
            return self._in_product(step, low, hooks)
        if hooks != LaunchHooks(sram=hooks.sram) or len(hooks.sram) != 1 or hooks.sram[0].lasts:
            return None
        (hook,) = hooks.sram
        meaning = self.lowered.meaning(low.index, hook.phase, int(low.role_of[hook.r, hook.c]), hook.address)
        if meaning.kind in ("free", "accumulator"):
            return _Struck(None)
        if meaning.kind in ("task", "descriptor"):
            following = self.lowered.launches[(low.index + 1) % len(self.lowered.launches)]
            unread = never_read(low, hooks)
            if unread is None or following.tables_id == low.tables_id:
                return None
            return _Struck(None, LogicalScan(low.name, (), (), (unread,), (), (), False, ""))
        if meaning.kind != "tensor":
            return None
        kept = self._pass(step)
        strike = None if kept is None else kept.replay.of_hook(low, hook)
        return None if kept is None or strike is None else _Struck(kept.replay.trial(strike))

    def _in_product(self, step: int, low: LoweredLaunch, hooks: LaunchHooks) -> _Struck | None:
        """A value struck within a product: one sum of it, which is worked out, and one word of its result."""
        job = self.result.job
        if hooks.links and self._guarded:
            return None
        part = struck_part(self.lowered, low, hooks, job.executor.queue_depth)
        phase = None if part is None else low.launch.phases[part.first]
        if part is None or part.last != part.first or not isinstance(phase, Gemm):
            return None
        struck: list[ResultHook | ProductHook | LinkHook] = [
            *part.hooks.results,
            *part.hooks.products,
            *part.hooks.links,
        ]
        hook = struck[0] if struck else None
        weight = weight_of(self.lowered, phase, hook) if isinstance(hook, LinkHook) else None
        place = weight if hook is None or weight is not None else place_of(self.lowered, phase, hook)
        kept = None if place is None else self._pass(step)
        if hook is None or place is None or kept is None:
            return None
        number = sum(len(other.launch.phases) for other in self.lowered.launches[: low.index]) + part.first
        replay, at = kept.replay, (place.row, place.block, place.token, place.feature)
        x, sums = replay.found(number, phase.x), replay.clean(replay.taps[phase.name])
        after = replay.found(number + 1, phase.y)
        if x is None or after is None or sums.shape != after.shape or x.shape[:2] != sums.shape[:2]:
            return None
        before = replay.found(number, phase.y) if phase.accumulate else None
        if before is not None and before.shape != sums.shape:
            return None
        fed = kept.feeds[low.index][phase.stream]
        if weight is not None:
            rows = slice(weight.row + 1, None)
            there = (rows, weight.block, slice(None), weight.feature)
            old = np.zeros_like(sums[there]) if before is None else before[there]
            made = strike_weight(
                self.lowered, phase, weight, hook.keep, hook.mask, x[rows], fed, np.ascontiguousarray(sums[there]), old
            )
            if made is None:
                return None
            logged, blocks = sums.copy(), after[rows].copy()
            logged[there], blocks[:, weight.block, :, weight.feature] = made
            followed = replay.trial_of_rows(number + 1, phase.y, weight.row + 1, blocks)
            return None if followed is None else _Struck(_logged(followed, phase.name, logged, sums))
        value = np.float32(0) if before is None else before[at]
        changed = strike_product(self.lowered, phase, place, hook.keep, hook.mask, x[place.row], fed, sums[at], value)
        if changed is None:
            return None
        index = place.token * sums.shape[3] + place.feature
        strike = replay.word(number + 1, phase.y, (place.row, place.block), index, 0, changed.word)
        if strike is None:
            return None
        logged = sums.copy()
        logged[at] = changed.total
        return _Struck(_logged(replay.trial(strike), phase.name, logged, sums))

    def _pass(self, step: int) -> _Pass | None:
        """The clean pass of a step; None where it is not worth its cost yet, or where there is no room."""
        if step in self._passes:
            return self._passes[step]
        self._struck[step] = self._struck.get(step, 0) + 1
        if self._struck[step] <= self.struck_before:
            return None
        self._passes[step] = None
        if self._bytes < self.largest_bytes:
            kept = self._made(step)
            # The clean pass, and the copy that trials work on.
            size = 0 if kept is None else 2 * kept.replay.nbytes
            if kept is not None and self._bytes + size <= self.largest_bytes:
                self._bytes += size
                self._passes[step] = kept
        return self._passes[step]

    def _made(self, step: int) -> _Pass | None:
        tokens, targets = batch_of(self.lowered.program.job, step)
        launches = self.lowered.launches
        feeds = [self.result.memoryx.streams(low.launch, tokens, targets) for low in launches]
        try:
            replay = Replay(self.lowered, feeds, sums=True)
        except BadInput:
            return None
        parts: list[tuple[bool, str]] = []
        for low in launches:
            phases = low.launch.phases
            streams = {phase.stream for phase in phases if isinstance(phase, StreamOut | WGrad)}
            sums = {phase.name for phase in phases if isinstance(phase, Gemm | Gemv)}
            parts += [(False, name) for name in sorted(streams)] + [(True, name) for name in sorted(sums)]
        if {name for summed, name in parts if summed} != set(replay.taps):
            return None
        kept = _Pass(replay, tuple(parts), tuple(feeds))
        # A pass that is not what the clean run had could only be an error here.
        return kept if kept.digest == self.result.step_digests[step] else None

    def _result(self, step: int, struck: _Struck) -> RunResult:
        clean = self.result
        symptoms, digests, tokens, outputs = clean.symptoms, list(clean.step_digests), clean.tokens, {}
        kept, outcome = self._passes.get(step), struck.outcome
        if struck.scan is not None:
            symptoms = replace(symptoms, config_mismatch=self.placement.config(struck.scan))
        if outcome is not None and kept is not None:
            digests[step] = kept.digest_of(outcome)
            outputs = kept.outputs(outcome.outputs)
            if outcome.outputs:
                symptoms, tokens = self._seen(step, outputs)
        whole = fingerprint("".join([*digests, self._state_hash, ""]).encode())
        return RunResult(
            symptoms, outputs, whole, tuple(digests), clean.memoryx, tokens, clean.job, placement=self.placement
        )

    def _seen(self, step: int, outputs: Mapping[str, F32]) -> tuple[Symptoms, npt.NDArray[np.int64]]:
        clean = self.result
        report = clean.memoryx.report(outputs)
        loss = list(clean.symptoms.loss)
        loss[step] = report.loss
        changes: dict[str, Any] = {"loss": tuple(loss)}
        if report.nonfinite:
            changes |= {"nonfinite_step": step, "nonfinite_channel": report.nonfinite}
        tokens = clean.tokens
        if self._reports:
            logits = clean.job.logits(outputs)
            symbols = greedy(logits.reshape(-1, logits.shape[-1]))
            if (symbols != tokens[:, step]).any():
                tokens = tokens.copy()
                tokens[:, step] = symbols
                changes["tokens"] = tuple(int(symbol) for symbol in tokens.T.reshape(-1))
        return replace(clean.symptoms, **changes), tokens


def _logged(outcome: Outcome, name: str, sums: F32, clean: F32) -> Outcome:
    """An outcome with the sums of a struck product, where they differ."""
    if np.array_equal(sums.view(np.uint32), clean.view(np.uint32)):
        return outcome
    return replace(outcome, sums={**outcome.sums, name: sums})
