"""A job step by step: MemoryX feeds the launches of a program and takes what comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.formats import round_to
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import LaunchResult
from yieldkit.emulator.memoryx import MemoryX, StepReport
from yieldkit.emulator.reference import ReferenceExecutor
from yieldkit.emulator.scan import LogicalScan
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.emulator.trace import Trace
from yieldkit.emulator.wavelet import WaveletExecutor
from yieldkit.errors import BadInput
from yieldkit.workloads.batches import batch_of
from yieldkit.workloads.program import Gemm, StreamIn

__all__ = ["EXECUTORS", "HookSource", "Job", "StepResult"]

F32 = npt.NDArray[np.float32]
Executor = ReferenceExecutor | TensorExecutor | WaveletExecutor
EXECUTORS: Final[Mapping[str, Callable[..., Executor]]] = {
    "tensor": TensorExecutor,
    "reference": ReferenceExecutor,
    "wavelet": WaveletExecutor,
}


class HookSource(Protocol):
    """Something that strikes: asked before every launch."""

    def check(self, lowered: Lowered) -> None:
        """Refuse what can never strike this program; asked once, before the first step."""
        ...

    def hooks(self, step: int, low: LoweredLaunch) -> LaunchHooks:
        """What strikes during launch `low` of step `step`."""
        ...


@dataclass(frozen=True)
class StepResult:
    """How a step ended.

    Attributes:
        report: telemetry, or None when the step ended early.
        stopped: the launch that did not complete, or that a check has found wrong, with its result; or None.
        scans: what the scans after its launches showed, where they could show anything (a launch that the tensor
            executor followed by itself leaves the control state golden, so its scan shows nothing).
        outputs: streams that came out.
        digest: hash over outputs and, where they are kept, the fp32 sums of every product.
        cycles: of its launches together, to where they ended or stopped; None where the executor has no clock.
        traces: of its launches, where they are kept.
    """

    report: StepReport | None
    stopped: tuple[LoweredLaunch, LaunchResult] | None
    scans: tuple[LogicalScan, ...]
    outputs: Mapping[str, F32]
    digest: str
    cycles: int | None = None
    traces: tuple[Trace, ...] = ()


@dataclass
class Job:
    """A program in progress.

    Attributes:
        lowered: the program.
        executor: cores and their SRAM.
        memoryx: host state.
        step: steps done.
        batches: (tokens, targets) a step, in place of the corpus.
        tokens: symbols decoded so far (decode), or the symbol or label with the largest logit (forward), one array a
            step.
    """

    lowered: Lowered
    executor: Executor
    memoryx: MemoryX
    step: int = 0
    batches: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]] | None = None
    tokens: list[npt.NDArray[np.int64]] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        lowered: Lowered,
        *,
        executor: str = "tensor",
        memoryx: MemoryX | None = None,
        weights: Mapping[str, F32] | None = None,
        batches: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]] | None = None,
        **options: Any,
    ) -> Job:
        """Boot a job: host state, empty cores, resident weights.

        Args:
            lowered: the program.
            executor: "tensor", "reference" or "wavelet".
            memoryx: host state to go on from; copied.
            weights: initial weights in place of the program's own.
            batches: (tokens, targets) of each step in place of the corpus.
            **options: of the executor (queue_depth, threads, sequence; taps; timing, link_pitches, trace_bins).

        Raises:
            BadInput: unknown executor or weights that do not fit.
        """
        if executor not in EXECUTORS:
            raise BadInput("executor must be one of " + ", ".join(sorted(EXECUTORS)), value=executor)
        host = memoryx.copy() if memoryx is not None else MemoryX.initial(lowered.program, weights)
        cores = EXECUTORS[executor](lowered, **options)
        job = cls(lowered, cores, host, host.step, batches)
        program = lowered.program
        for item in program.job.get("resident", ()):
            cores.write(item["tensor"], _resident(program.rows, program.cols, program.dtype, item, host.weights))
        return job

    def run_step(self, source: HookSource | None = None) -> StepResult:
        """Run one step; a launch that does not complete, or that a check has found wrong, ends it."""
        kind = self.lowered.program.job.get("kind")
        if kind == "decode":
            return self._decode_step(source)
        tokens, targets = self._batch()
        result = self._launches(lambda low: self.memoryx.streams(low.launch, tokens, targets), source)
        if result.stopped is not None:
            return result
        if kind == "training":
            report = self.memoryx.update(result.outputs, tokens)
        else:
            report = self.memoryx.report(result.outputs)
            if any(item["form"] == "logits" for item in self.lowered.program.job["outputs"]):
                logits = self.logits(result.outputs)
                self.tokens.append(_greedy(logits.reshape(-1, logits.shape[-1])))
        self.step += 1
        return replace(result, report=report)

    def _batch(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        if self.batches is not None:
            return self.batches[self.step % len(self.batches)]
        return batch_of(self.lowered.program.job, self.step)

    def _launches(self, streams: Callable[[LoweredLaunch], Mapping[str, F32]], source: HookSource | None) -> StepResult:
        """Launch after launch, to the last or to one from which nothing may be taken; no report yet."""
        outputs: dict[str, F32] = {}
        digest = hashlib.sha256()
        scans: list[LogicalScan] = []
        cycles: int | None = None
        traces: list[Trace] = []
        stopped = None
        for low in self.lowered.launches:
            hooks = source.hooks(self.step, low) if source is not None else None
            result = self.executor.launch(low, streams(low), hooks)
            # The host reads the events first: where a check says that words are wrong, it takes nothing.
            taken = not (result.completed and result.detected)
            if taken:
                outputs |= result.outputs
            for table in (result.outputs, result.taps) if taken else ():
                for name in sorted(table):
                    digest.update(name.encode())
                    digest.update(np.ascontiguousarray(table[name]).data)
            if result.scan is not None:
                scans.append(result.scan)
            if result.cycles is not None:
                cycles = (cycles or 0) + result.cycles
            if result.trace is not None:
                traces.append(result.trace)
            if not result.completed or not taken:
                stopped = (low, result)
                break
        return StepResult(None, stopped, tuple(scans), outputs, digest.hexdigest()[:16], cycles, tuple(traces))

    def _decode_step(self, source: HookSource | None) -> StepResult:
        program = self.lowered.program
        prompts = np.array(program.job["prompts"], np.int64)
        context = int(program.job["model"]["context"])
        if self.step >= context:
            raise BadInput(f"the KV cache holds {context} positions", value=self.step, cure="decode fewer steps")
        symbols = prompts[:, self.step] if self.step < prompts.shape[1] else self.tokens[-1]
        here = np.zeros(context, np.float32)
        here[self.step] = 1.0
        mask = np.where(np.arange(context) <= self.step, np.float32(0.0), np.float32(-np.inf))
        rows, cols = program.rows, program.cols
        x = self.memoryx.weights["wte"][symbols] + self.memoryx.weights["wpe"][self.step]
        arrays = {
            "embedding": np.ascontiguousarray(x.reshape(1, len(symbols), cols, -1).transpose(0, 2, 1, 3)),
            "here": here.reshape(rows, 1, -1),
            "mask": mask.reshape(rows, 1, -1),
        }
        forms = {item["stream"]: item["form"] for item in program.job["inputs"]}

        def streams(low: LoweredLaunch) -> dict[str, F32]:
            phases = [p for p in low.launch.phases if isinstance(p, Gemm | StreamIn)]
            return {p.stream: arrays[forms[p.stream]] for p in phases}

        result = self._launches(streams, source)
        if result.stopped is not None:
            return result
        logits = self.logits(result.outputs)
        self.tokens.append(_greedy(logits))
        self.step += 1
        bad = "" if np.isfinite(logits).all() else "logits"
        return replace(result, report=StepReport(float("nan"), nonfinite=bad))

    def logits(self, outputs: Mapping[str, F32]) -> F32:
        """Logits of a step, float32[sequences, vocabulary] (decode), [sequences, context, vocabulary] (forward of a
        GPT) or [samples, classes] (forward of a classifier).
        """
        program = self.lowered.program
        model = program.job["model"]
        for item in program.job["outputs"]:
            if item["form"] == "logits":
                value = outputs[item["stream"]]
                flat = value.transpose(0, 2, 1, 3).reshape(-1, value.shape[1] * value.shape[3])
                if program.job["kind"] == "decode" or "context" not in model:
                    return flat
                return flat.reshape(model["sequences"], model["context"], -1)
        raise BadInput("the program puts no logits out", value=program.name)


def _resident(rows: int, cols: int, dtype: str, item: Mapping[str, Any], weights: Mapping[str, F32]) -> F32:
    value = weights[item["param"]]
    if item["form"] == "vector":
        return value.reshape(1, cols, -1)
    matrix = round_to(value, dtype)
    k, n = matrix.shape
    return np.ascontiguousarray(matrix.reshape(cols, k // cols, rows, n // rows).transpose(2, 0, 1, 3))


def _greedy(logits: F32) -> npt.NDArray[np.int64]:
    """Symbol with the largest logit, the lowest of equals; NaNs never win."""
    best: npt.NDArray[np.int64] = np.where(np.isnan(logits), -np.inf, logits).argmax(axis=1).astype(np.int64)
    return best
