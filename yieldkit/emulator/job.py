"""A job step by step: MemoryX feeds the launches of a program and takes what comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.checkpoint import Checkpoint
from yieldkit.emulator.code import ZERO
from yieldkit.emulator.formats import round_to
from yieldkit.emulator.hooks import LaunchHooks, SramHook
from yieldkit.emulator.host_faults import (
    HostHookSource,
    HostMemory,
    StreamHook,
    lost_streams,
    struck_inputs,
    struck_outputs,
)
from yieldkit.emulator.host_words import inputs_of
from yieldkit.emulator.isa import HEADER_WORDS
from yieldkit.emulator.iteration import iteration_memoryx, iteration_report, iteration_streams
from yieldkit.emulator.layouts import compact_blocks
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import LaunchResult
from yieldkit.emulator.memoryx import MemoryX, StepReport
from yieldkit.emulator.plans import plans_of
from yieldkit.emulator.reference import ReferenceExecutor
from yieldkit.emulator.scan import LogicalScan
from yieldkit.emulator.symptoms import HostEvent
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.emulator.trace import Trace
from yieldkit.emulator.wavelet import WaveletExecutor
from yieldkit.errors import BadInput
from yieldkit.workloads.batches import batch_of
from yieldkit.workloads.parameters import parameters_of
from yieldkit.workloads.program import Gemm, StreamIn

__all__ = ["EXECUTORS", "HookSource", "Job", "StepResult", "greedy"]

F32 = npt.NDArray[np.float32]
_U32: Final = np.uint32
_NOTHING: Final = hashlib.sha256().hexdigest()[:16]
_EARLIER: Final = "go on from an earlier checkpoint"
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
        outputs: streams that came out of launches that completed.
        digest: hash over outputs and, where they are kept, the fp32 sums of every product, launch by launch; of a
            launch that did not complete, over what the scan's counters show of it.
        cycles: of its launches together, to where they ended or stopped; None where the executor has no clock.
        traces: of its launches, where they are kept.
        host_events: what MemoryX and SwarmX noticed.
    """

    report: StepReport | None
    stopped: tuple[LoweredLaunch, LaunchResult] | None
    scans: tuple[LogicalScan, ...]
    outputs: Mapping[str, F32]
    digest: str
    cycles: int | None = None
    traces: tuple[Trace, ...] = ()
    host_events: tuple[HostEvent, ...] = ()


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
        stopped: launch in which the last step ended without completing, or "".
        memory: MemoryX's words under their code.
        armed: words to be written in the next step, by launch (`corrupt`); no part of a checkpoint.
    """

    lowered: Lowered
    executor: Executor
    memoryx: MemoryX
    step: int = 0
    batches: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]] | None = None
    tokens: list[npt.NDArray[np.int64]] = field(default_factory=list)
    stopped: str = ""
    memory: HostMemory = field(init=False)
    armed: dict[str, tuple[SramHook, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.memory = HostMemory(self.memoryx)

    @classmethod
    def start(
        cls,
        lowered: Lowered,
        *,
        executor: str = "tensor",
        memoryx: MemoryX | None = None,
        weights: Mapping[str, F32] | None = None,
        batches: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]] | None = None,
        checkpoint: Checkpoint | None = None,
        host_code: str = "none",
        **options: Any,
    ) -> Job:
        """Boot a job: host state, empty cores, resident weights; or all of it as a checkpoint has it.

        Args:
            lowered: the program.
            executor: "tensor", "reference" or "wavelet".
            memoryx: host state to go on from; copied.
            weights: initial weights in place of the program's own.
            batches: (tokens, targets) of each step in place of the corpus; no part of a checkpoint.
            checkpoint: state to go on from, in place of `memoryx` and `weights`; the executor may be another one.
            host_code: protection of MemoryX's words, "none" or "secded".
            **options: of the executor (queue_depth, threads, sequence; taps; timing, link_pitches, trace_bins).

        Raises:
            BadInput: unknown executor, weights that do not fit, or a checkpoint of another program.
        """
        if checkpoint is not None:
            if memoryx is not None or weights is not None:
                raise BadInput("a checkpoint holds the host's state: give no memoryx and no weights with it")
            checkpoint.check(lowered.program.fingerprint)
        if executor not in EXECUTORS:
            raise BadInput("executor must be one of " + ", ".join(sorted(EXECUTORS)), value=executor)
        cores = EXECUTORS[executor](lowered, **options)
        if checkpoint is not None:
            for name, array in checkpoint.cores.items():
                _check_block(lowered, name, array)
                cores.write(name, array)
            tokens = [symbols.copy() for symbols in checkpoint.tokens]
            job = cls(lowered, cores, _memoryx_of(lowered, checkpoint), checkpoint.step, batches, tokens)
            job.memory = HostMemory(job.memoryx, host_code)
            return job
        if memoryx is not None:
            host = memoryx.copy()
        elif lowered.program.job.get("kind") == "iteration":
            host = iteration_memoryx(lowered.program, weights)
        else:
            host = MemoryX.initial(lowered.program, weights)
        job = cls(lowered, cores, host, host.step, batches)
        job.memory = HostMemory(host, host_code)
        program = lowered.program
        for item in program.job.get("resident", ()):
            cores.write(item["tensor"], _resident(program.rows, program.cols, program.dtype, item, host.weights))
        return job

    def run_step(self, source: HookSource | None = None) -> StepResult:
        """Run one step; a launch that does not complete, or that a check has found wrong, ends it.

        Words of MemoryX are struck and read before it; where its code sees what it cannot correct, no launch begins.
        """
        kind = self.lowered.program.job.get("kind")
        if kind == "decode":
            return self._decode_step(source)
        if kind == "iteration":
            return self._iteration_step(source)
        tokens, targets = self._batch()
        read = None if kind == "training" else _looked_up(tokens)
        result = self._launches(lambda low: self.memoryx.streams(low.launch, tokens, targets), source, read)
        if result.stopped is not None:
            return result
        if kind == "training":
            report = self.memoryx.update(result.outputs, tokens)
        else:
            report = self.memoryx.report(result.outputs)
            if any(item["form"] == "logits" for item in self.lowered.program.job["outputs"]):
                logits = self.logits(result.outputs)
                self.tokens.append(greedy(logits.reshape(-1, logits.shape[-1])))
        self.step += 1
        return replace(result, report=report)

    def checkpoint(self) -> Checkpoint:
        """The state between two steps, enough to go on bit for bit with `Job.start(..., checkpoint=)`.

        Raises:
            BadInput: the last step did not complete, or the control state of the cores is not as loaded.
        """
        if self.stopped:
            raise BadInput("a step that stopped half way cannot be saved", value=self.stopped, cure=_EARLIER)
        # To save is to read.
        if any(event.kind == "memoryx_uncorrectable" for event in self.memory.read(None)):
            raise BadInput("MemoryX holds words that its code cannot correct", cure=_EARLIER)
        machine = getattr(self.executor, "machine", None)
        cores = self.kept()
        if ZERO in cores or (machine is not None and not machine.is_golden(self.lowered.launches[0])):
            raise BadInput("only cores whose tables, routes and queues are clean can be saved", cure=_EARLIER)
        if self._struck_words():
            raise BadInput("SRAM holds struck words that its code has not seen yet", cure=_EARLIER)
        host = self.memoryx
        return Checkpoint(
            self.lowered.program.fingerprint,
            self.step,
            _copied(host.weights),
            _copied(host.first),
            _copied(host.second),
            host.step,
            host.power1,
            host.power2,
            tuple(symbols.copy() for symbols in self.tokens),
            cores,
        )

    def _struck_words(self) -> bool:
        """Whether words of protected SRAM that live from step to step are stored with wrong bits."""
        machine = self.executor.machine
        if machine is None:
            return bool(self.executor.wrong) if isinstance(self.executor, TensorExecutor) else False
        first = self.lowered.launches[0]
        keeps = [name for name, tensor in self.lowered.tensors.items() if tensor.keep or tensor.values]
        spans = [(self.lowered.address[name], self.lowered.tensors[name].size) for name in keeps]
        if machine.loaded == first.tables_id:
            spans += [(0, HEADER_WORDS), (first.table_base, self.lowered.sram_words)]
        return any(base <= address < base + size for _, address in machine.wrong for base, size in spans)

    def kept(self) -> dict[str, F32]:
        """What the cores keep from step to step, apart from constants that are as loaded."""
        constants = plans_of(self.lowered).constants
        kept = {}
        for name, tensor in self.lowered.tensors.items():
            if not tensor.keep and not tensor.values:
                continue
            array = compact_blocks(self.executor.read(name), tensor.over)
            loaded = constants.get(name)
            if loaded is None or array.shape != loaded.shape or (array.view(_U32) != loaded.view(_U32)).any():
                kept[name] = array
        return kept

    def _batch(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        if self.batches is not None:
            return self.batches[self.step % len(self.batches)]
        return batch_of(self.lowered.program.job, self.step)

    def _launches(
        self,
        streams: Callable[[LoweredLaunch], Mapping[str, F32]],
        source: HookSource | None,
        looked_up: Mapping[str, Collection[int]] | None,
    ) -> StepResult:
        """Launch after launch, to the last or to one from which nothing may be taken; no report yet.

        Args:
            streams: what feeds a launch.
            source: what strikes.
            looked_up: rows of the embedding tables that the step reads; None where it reads all of MemoryX.
        """
        self.memory.memoryx = self.memoryx
        also: object = source
        striker = also if isinstance(also, HostHookSource) else None
        if striker is not None:
            self.memory.strike(striker.memory_hooks(self.step))
        events = self.memory.read(looked_up)
        if any(event.kind == "memoryx_uncorrectable" for event in events):
            first = self.lowered.launches[0]
            self.stopped = first.name
            return StepResult(None, (first, LaunchResult(True, {}, {})), (), {}, _NOTHING, host_events=events)
        outputs: dict[str, F32] = {}
        digest = hashlib.sha256()
        scans: list[LogicalScan] = []
        cycles: int | None = None
        traces: list[Trace] = []
        stopped = None
        for low in self.lowered.launches:
            hooks = source.hooks(self.step, low) if source is not None else None
            if low.name in self.armed:
                hooks = (hooks or LaunchHooks()) + LaunchHooks(sram=self.armed.pop(low.name))
            struck = tuple(striker.stream_hooks(self.step, low)) if striker is not None else ()
            result, lost = self._launch(low, streams(low), hooks, struck)
            events += lost
            # The host takes nothing from a launch that has not come to its end, nor, since it reads the events first,
            # from one in which a check says that words are wrong.
            taken = result.completed and not result.detected
            if taken:
                outputs |= result.outputs
            elif not result.completed:
                digest.update(_how_it_ended(result).encode())
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
            if not taken:
                stopped = (low, result)
                break
        self.stopped = stopped[0].name if stopped is not None else ""
        whole = digest.hexdigest()[:16]
        return StepResult(None, stopped, tuple(scans), outputs, whole, cycles, tuple(traces), events)

    def _launch(
        self,
        low: LoweredLaunch,
        arrays: Mapping[str, F32],
        hooks: LaunchHooks | None,
        struck: tuple[StreamHook, ...],
    ) -> tuple[LaunchResult, tuple[HostEvent, ...]]:
        """One launch between two ends of the host's link, and what the host noticed there."""
        if not struck:
            return self.executor.launch(low, arrays, hooks), ()
        program, launch = self.lowered.program, low.launch
        arrays = struck_inputs(program, launch, arrays, struck)
        fed = {phase.stream for phase in inputs_of(launch)}
        lost = tuple(dict.fromkeys(hook.stream for hook in struck if hook.drop and hook.stream in fed))
        if lost:
            hooks = (hooks or LaunchHooks()) + LaunchHooks(withheld=lost)
        result = self.executor.launch(low, arrays, hooks)
        return struck_outputs(program, launch, result, struck), lost_streams(program, launch, result, struck)

    def _iteration_step(self, source: HookSource | None) -> StepResult:
        program, host = self.lowered.program, self.memoryx
        result = self._launches(lambda low: iteration_streams(program, low.launch, host), source, None)
        if result.stopped is not None:
            return result
        self.step += 1
        return replace(result, report=iteration_report(program, host, result.outputs))

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
        forms = {item["stream"]: item["form"] for item in program.job["inputs"]}

        def streams(low: LoweredLaunch) -> dict[str, F32]:
            x = self.memoryx.weights["wte"][symbols] + self.memoryx.weights["wpe"][self.step]
            arrays = {
                "embedding": np.ascontiguousarray(x.reshape(1, len(symbols), cols, -1).transpose(0, 2, 1, 3)),
                "here": here.reshape(rows, 1, -1),
                "mask": mask.reshape(rows, 1, -1),
            }
            phases = [p for p in low.launch.phases if isinstance(p, Gemm | StreamIn)]
            return {p.stream: arrays[forms[p.stream]] for p in phases}

        looked_up = {"wte": set(symbols.tolist()), "wpe": {self.step}}
        result = self._launches(streams, source, looked_up)
        if result.stopped is not None:
            return result
        logits = self.logits(result.outputs)
        self.tokens.append(greedy(logits))
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


def _how_it_ended(result: LaunchResult) -> str:
    """What the scan's counters show of a launch that did not complete; no scan is one that shows nothing."""
    shown: tuple[object, ...] = ((), (), (), (), (), False)
    scan = result.scan
    if scan is not None:
        shown = (scan.waiting, scan.links, scan.config, scan.events, scan.leftover, scan.undrained)
    return repr((result.missing, *shown))


def _looked_up(tokens: npt.NDArray[Any]) -> dict[str, set[int]]:
    """Rows of a GPT's embedding tables that a batch reads; a batch of values reads none."""
    if not np.issubdtype(tokens.dtype, np.integer):
        return {}
    return {"wte": set(tokens.reshape(-1).tolist()), "wpe": set(range(tokens.shape[1]))}


def _copied(table: Mapping[str, F32]) -> dict[str, F32]:
    return {name: array.copy() for name, array in table.items()}


def _memoryx_of(lowered: Lowered, checkpoint: Checkpoint) -> MemoryX:
    # Norms are added up in the order of the program's parameters, and a file has them by name.
    iterates = lowered.program.job.get("kind") == "iteration"
    order = [] if iterates else [parameter.name for parameter in parameters_of(lowered.program.job)]
    names = dict.fromkeys([*order, *checkpoint.weights])
    return MemoryX(
        lowered.program,
        {name: checkpoint.weights[name].copy() for name in names if name in checkpoint.weights},
        _copied(checkpoint.first),
        _copied(checkpoint.second),
        checkpoint.host_step,
        checkpoint.power1,
        checkpoint.power2,
    )


def _check_block(lowered: Lowered, name: str, array: F32) -> None:
    """Refuse what no job of the program could have saved; only a file made by hand holds it."""
    tensor, program = lowered.tensors.get(name), lowered.program
    shapes = (1, program.rows), (1, program.cols)
    if tensor is None or name == ZERO or not (tensor.keep or tensor.values) or array.shape[2:] != tensor.dims:
        raise BadInput("the checkpoint holds a tensor that the program does not keep", value=name)
    if array.shape[0] not in shapes[0] or array.shape[1] not in shapes[1]:
        raise BadInput(f"the checkpoint holds tensor {name!r} for another rectangle", value=array.shape)


def _resident(rows: int, cols: int, dtype: str, item: Mapping[str, Any], weights: Mapping[str, F32]) -> F32:
    value = weights[item["param"]]
    if item["form"] == "vector":
        return value.reshape(1, cols, -1)
    if item["form"] == "field":
        return value
    matrix = round_to(value, dtype)
    k, n = matrix.shape
    return np.ascontiguousarray(matrix.reshape(cols, k // cols, rows, n // rows).transpose(2, 0, 1, 3))


def greedy(logits: F32) -> npt.NDArray[np.int64]:
    """Symbol with the largest logit, the lowest of equals; NaNs never win."""
    best: npt.NDArray[np.int64] = np.where(np.isnan(logits), -np.inf, logits).argmax(axis=1).astype(np.int64)
    return best
