"""MemoryX: fp32 master weights, Adam state, embedding tables; feeds the streams of a step and takes its gradients.

Embedding rows are looked up here and streamed in as activations; their gradient comes back and is added up here, in the
order of sequences. All arithmetic has a fixed order, so a step depends on the program and the step number only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.kernels.host import adam, gather_rows, scatter_rows, total_of
from yieldkit.emulator.stream_forms import batch_stream, gradient_of, matrix_stream, parameter_stream, rounded_to
from yieldkit.errors import BadInput
from yieldkit.files import fingerprint
from yieldkit.rng import generator
from yieldkit.workloads.parameters import Parameter, parameters_of
from yieldkit.workloads.program import Gemm, Launch, Program, StreamIn

__all__ = ["MemoryX", "StepReport", "initial_parameters"]

F32 = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class StepReport:
    """Telemetry of one step.

    Attributes:
        loss: mean loss in nats, NaN when none came.
        grad_norm, update_norm: Euclidean norms over all parameters (0 where nothing is trained).
        nonfinite: "loss", "gradient" or "parameter", the first that holds a non-finite value, or "".
    """

    loss: float
    grad_norm: float = 0.0
    update_norm: float = 0.0
    nonfinite: str = ""


def initial_parameters(parameters: Sequence[Parameter], seed: int) -> dict[str, F32]:
    """First values: "normal" ones are sums of twelve uniform numbers, near enough and the same on every machine."""
    values: dict[str, F32] = {}
    for number, parameter in enumerate(parameters):
        if parameter.init != "normal":
            values[parameter.name] = np.full(parameter.dims, parameter.init == "ones", np.float32)
            continue
        # The purpose has the name of the first model that drew its weights so; golden numbers hang on it.
        rng = generator(seed, "gpt.parameters", number)
        draws = rng.integers(0, 1 << 16, size=(12, *parameter.dims), dtype=np.int64).sum(axis=0)
        centred = (draws - 6 * ((1 << 16) - 1)).astype(np.float64) / (1 << 16)
        values[parameter.name] = (centred * parameter.std).astype(np.float32)
    return values


@dataclass
class MemoryX:
    """State of the host side of a job.

    Attributes:
        program: the job's program.
        weights, first, second: fp32 master weights and Adam moments by name.
        step: steps done.
    """

    program: Program
    weights: dict[str, F32]
    first: dict[str, F32] = field(default_factory=dict)
    second: dict[str, F32] = field(default_factory=dict)
    step: int = 0
    power1: float = 1.0
    power2: float = 1.0
    _rounded: dict[str, F32] = field(default_factory=dict, repr=False)

    @classmethod
    def initial(cls, program: Program, weights: Mapping[str, F32] | None = None) -> MemoryX:
        """Host state before the first step, with fresh or given weights.

        Raises:
            BadInput: the program has no model, or weights of other names or shapes are given.
        """
        listed = parameters_of(program.job)
        if weights is None:
            values = initial_parameters(listed, int(program.job["seed"]))
        else:
            table = {parameter.name: parameter.dims for parameter in listed}
            if {n: w.shape for n, w in weights.items()} != table:
                raise BadInput("weights do not fit the model of the program", value=sorted(set(weights) ^ set(table)))
            values = {name: np.array(weights[name], np.float32) for name in table}
        zeros = {name: np.zeros_like(value) for name, value in values.items()}
        return cls(program, values, zeros, {name: np.zeros_like(value) for name, value in values.items()})

    def copy(self) -> MemoryX:
        """A state of its own; what was rounded for streaming is shared until a step changes the weights."""
        return MemoryX(
            self.program,
            {n: v.copy() for n, v in self.weights.items()},
            {n: v.copy() for n, v in self.first.items()},
            {n: v.copy() for n, v in self.second.items()},
            self.step,
            self.power1,
            self.power2,
            dict(self._rounded),
        )

    @property
    def state_hash(self) -> str:
        """Fingerprint of weights, moments and step."""
        parts = [str(self.step).encode()]
        for table in (self.weights, self.first, self.second):
            parts += [np.ascontiguousarray(table[name]).tobytes() for name in sorted(table)]
        return fingerprint(b"".join(parts))

    def streams(self, launch: Launch, tokens: Tokens, targets: Tokens | None) -> dict[str, F32]:
        """Input arrays of a launch for a batch: tokens int[n, T] or inputs float32[n, features], and their targets."""
        bindings = {item["stream"]: item for item in self.program.job["inputs"]}
        streams: dict[str, F32] = {}
        for phase in launch.phases:
            if isinstance(phase, Gemm | StreamIn):
                streams[phase.stream] = self._stream(phase, bindings[phase.stream], tokens, targets)
        return streams

    def _stream(
        self, phase: Gemm | StreamIn, binding: Mapping[str, Any], tokens: Tokens, targets: Tokens | None
    ) -> F32:
        rows, cols = self.program.rows, self.program.cols
        form = binding["form"]
        if form == "matrix":
            return matrix_stream(self._operand(binding["param"]), binding, cols)
        if form == "embedding":
            x = gather_rows(self.weights["wte"], self.weights["wpe"], tokens.astype(np.int64))
            m, width = x.shape[0] // rows * x.shape[1], x.shape[2]
            return np.ascontiguousarray(x.reshape(rows, m, cols, width // cols).transpose(0, 2, 1, 3))
        if isinstance(phase, StreamIn) and form == "batch":
            return batch_stream(self.program, phase, tokens)
        if form != "targets":
            value = parameter_stream(self.weights[binding["param"]], binding, cols)
            dtype = self.program.table[phase.tensor].dtype if isinstance(phase, StreamIn) else self.program.dtype
            return value if dtype == "fp32" else rounded_to(value, dtype)
        if targets is None:
            raise BadInput("the program needs targets for its batch", value=self.program.name)
        return targets.astype(np.float32).reshape(rows, 1, -1)

    def _operand(self, name: str) -> F32:
        if name not in self._rounded:
            self._rounded[name] = rounded_to(self.weights[name], self.program.dtype)
        return self._rounded[name]

    def forget_rounded(self, name: str) -> None:
        """Round a weight anew at its next use: a word of it has changed."""
        self._rounded.pop(name, None)

    def gradients(self, outputs: Mapping[str, F32], tokens: Tokens) -> dict[str, F32]:
        """Gradients by parameter from the streams that came out of a step."""
        grads: dict[str, F32] = {}
        for item in self.program.job["outputs"]:
            if item["stream"] not in outputs:
                continue
            value = outputs[item["stream"]]
            if item["form"] == "embedding":
                table, positions = np.zeros_like(self.weights["wte"]), np.zeros_like(self.weights["wpe"])
                _, cols, _, dc = value.shape
                x = value.transpose(0, 2, 1, 3).reshape(*tokens.shape, cols * dc)
                scatter_rows(np.ascontiguousarray(x), tokens.astype(np.int64), table, positions)
                grads |= {"wte": table, "wpe": positions}
                continue
            gradient = gradient_of(value, item, self.program.cols)
            if gradient is not None:
                grads[item["param"]] = gradient
        return grads

    def report(self, outputs: Mapping[str, F32]) -> StepReport:
        """Telemetry of a step that trains nothing."""
        loss = self.loss(outputs)
        return StepReport(loss, nonfinite="" if np.isfinite(loss) else "loss")

    def loss(self, outputs: Mapping[str, F32]) -> float:
        """Mean loss per token in nats; NaN when the step has no loss stream."""
        for item in self.program.job["outputs"]:
            if item["form"] == "loss" and item["stream"] in outputs:
                values = np.ascontiguousarray(outputs[item["stream"]]).reshape(-1)
                return float(total_of(values) / values.size)
        return float("nan")

    def update(self, outputs: Mapping[str, F32], tokens: Tokens) -> StepReport:
        """Adam on the gradients of a step; returns its telemetry."""
        grads = self.gradients(outputs, tokens)
        options = self.program.job["adam"]
        self.step += 1
        # Powers by repeated products: pow of a C library is not the same everywhere.
        self.power1 *= options["beta1"]
        self.power2 *= options["beta2"]
        squares = moved = 0.0
        finite = True
        for name in self.weights:
            gradient = np.ascontiguousarray(grads[name]).reshape(-1)
            squared, change = adam(
                self.weights[name].reshape(-1),
                gradient,
                self.first[name].reshape(-1),
                self.second[name].reshape(-1),
                np.float32(options["learning_rate"]),
                np.float32(options["beta1"]),
                np.float32(options["beta2"]),
                np.float32(options["eps"]),
                np.float32(1.0 / (1.0 - self.power1)),
                np.float32(1.0 / (1.0 - self.power2)),
            )
            squares += squared
            moved += change
        self._rounded = {}
        loss = self.loss(outputs)
        finite = np.isfinite(moved)
        nonfinite = ""
        if not np.isfinite(loss):
            nonfinite = "loss"
        elif not np.isfinite(squares):
            nonfinite = "gradient"
        elif not finite:
            nonfinite = "parameter"
        return StepReport(loss, float(np.sqrt(squares)), float(np.sqrt(moved)), nonfinite)
