"""What networks are written with: streams of parameters, products and their gradients, sums along a row, the loss.

Samples (or tokens) lie over the rows of the rectangle and features over its columns. All sums are fp32; operands of
matrix products are stored in the program's operand format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.program import AllReduce, Gemm, Instr, Program, StreamIn, StreamOut, WGrad

__all__ = ["ACCUMULATOR_WORDS", "Layers"]

ACCUMULATOR_WORDS: Final = 1_024
"""Default bound on a core's accumulator, from which the tile width of a product follows."""


def _part(columns: int, features: int, words_a_feature: int, limit: int) -> int:
    """Largest divisor of `features` whose accumulator, `columns` times as wide, stays within `limit` words."""
    fitting = [p for p in range(1, features + 1) if features % p == 0 and p * columns * words_a_feature <= limit]
    return max(fitting, default=1)


def _taps(taps: int) -> dict[str, int]:
    return {"taps": taps} if taps > 1 else {}


class Layers:
    """Writes phases; a model inherits from it.

    Args:
        b: the program being written.
        m: tokens or samples of a row of cores.
        limit: words that a core's accumulator may take.
    """

    def __init__(self, b: ProgramBuilder, m: int, limit: int) -> None:
        self.b, self.rows, self.cols, self.m = b, b.rows, b.cols, m
        # With blocks a product has a second accumulator.
        self.limit = limit // 2 if b.block else limit
        self.op = b.dtype
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []
        self.zero = b.constant("k.zero", 0.0)

    def finish(self, kind: str, job: Mapping[str, Any], *, seed: int, learning_rate: float) -> Program:
        """The program, with what the host must know: `job` beside the streams, the seed and Adam's constants."""
        return self.b.build(
            {
                "kind": kind,
                "inputs": self.inputs,
                "outputs": self.outputs,
                "seed": seed,
                "adam": {"learning_rate": learning_rate, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8},
                **job,
            }
        )

    def parameter(self, name: str, param: str, *dims: int, form: str = "vector", dtype: str = "fp32") -> str:
        """Stream a parameter in by blocks, one a column of cores (forms: `emulator.stream_forms`)."""
        self.b.tensor(name, dims, "c", dtype=dtype)
        self.b.phase(StreamIn(f"{name}.in", name, name, "multicast_col"))
        self.inputs.append({"stream": name, "form": form, "param": param})
        return name

    def parameter_gradient(self, name: str, param: str, form: str = "vector") -> None:
        """Sum tensor `name`, a gradient of each row's samples, over the rows and stream it out."""
        self.b.phase(StreamOut(f"{name}.out", name, name, "reduce_col"))
        self.outputs.append({"stream": name, "form": form, "param": param})

    def product(
        self,
        name: str,
        x: str,
        y: str,
        param: str,
        *,
        transpose: bool = False,
        accumulate: bool = False,
        taps: int = 1,
    ) -> None:
        """Y = x W (or x W^T), W streamed in; with `taps` its rows are taps x channels."""
        features = self.b.tensors[y].dims[1]
        part = _part(self.cols, features, self.b.tensors[x].dims[0], self.limit)
        self.b.phase(Gemm(name, x, y, name, part, accumulate))
        self.inputs.append({"stream": name, "form": "matrix", "param": param, "transpose": transpose} | _taps(taps))

    def weight_gradient(self, name: str, x: str, dy: str, param: str, *, taps: int = 1) -> None:
        """DW = x^T dy, streamed out."""
        kc, features = self.b.tensors[x].dims[1], self.b.tensors[dy].dims[1]
        part = _part(self.cols, features, kc, self.limit)
        self.b.phase(WGrad(name, x, dy, name, part))
        self.outputs.append({"stream": name, "form": "matrix", "param": param} | _taps(taps))

    def activations(self, name: str, features: int, dtype: str = "fp32") -> str:
        """A tensor of `features` numbers a token on each core."""
        return self.b.tensor(name, (self.m, features), dtype=dtype)

    def row_sum(self, name: str, *instrs: Instr, source: str, op: str = "add") -> str:
        """Run `instrs`, which leave a number a token in `source`, and all-reduce it along the row."""
        total = self.b.tensor(f"{name}.total", (self.m,), "r")
        self.b.compute(f"{name}.local", *instrs)
        self.b.phase(AllReduce(f"{name}.reduce", "row", op, source, total))
        return total

    def per_token(self, name: str) -> str:
        """An fp32 number a token on each core."""
        return self.b.tensor(name, (self.m,))

    def cast(self, name: str, target: str, source: str) -> str:
        """Copy into the operand format."""
        features = self.b.tensors[source].dims[1]
        self.activations(target, features, self.op)
        axes = (("m", self.m), ("f", features))
        self.b.compute(name, Instr("mov", axes, at(target, m=features, f=1), at(source, m=features, f=1)))
        return target

    def softmax_loss(self, logits: str, vc: int, *, training: bool) -> str:
        """Cross-entropy of each token, streamed out; the logits are used up.

        Args:
            logits: fp32 tensor (m, vc).
            vc: classes of a column of cores.
            training: also make the gradient of the mean loss by the logits.

        Returns:
            the gradient's tensor in the operand format, or "".
        """
        m, axes = (("m", self.m),), (("m", self.m), ("v", vc))
        z = at(logits, m=vc, v=1)
        self.b.tensor("head.target", (self.m,), "r")
        self.b.phase(StreamIn("head.target.in", "head.target", "head.target", "multicast_row"))
        self.inputs.append({"stream": "head.target", "form": "targets"})
        symbols = self.b.tensor("k.symbols", (vc,), "c", values=range(vc * self.cols))
        hot = at(self.b.tensor("head.hot", (self.m, vc)), m=vc, v=1)
        e = at(self.b.tensor("head.e", (self.m, vc)), m=vc, v=1)
        top_here = at(self.per_token("head.top"), m=1)
        minus_infinity = self.b.constant("k.minus_infinity", float("-inf"))
        top = at(
            self.row_sum(
                "head.max",
                Instr("mov", m, top_here, minus_infinity),
                Instr("max", axes, top_here, z, top_here),
                source="head.top",
                op="max",
            ),
            m=1,
        )
        sum_here, target_here = at(self.per_token("head.s"), m=1), at(self.per_token("head.t"), m=1)
        total = at(
            self.row_sum(
                "head.sum",
                Instr("sub", axes, z, z, top),
                Instr("exp", axes, e, z),
                Instr("mov", m, sum_here, self.zero),
                Instr("add", axes, sum_here, e, sum_here),
                source="head.s",
            ),
            m=1,
        )
        mine = at(
            self.row_sum(
                "head.mine",
                Instr("eq", axes, hot, at("head.target", m=1), at(symbols, v=1)),
                Instr("mov", m, target_here, self.zero),
                Instr("mac", axes, target_here, hot, z),
                source="head.t",
            ),
            m=1,
        )
        loss = at(self.b.tensor("head.loss", (self.m,), "r"), m=1)
        self.b.compute("head.loss.token", Instr("log", m, loss, total), Instr("sub", m, loss, loss, mine))
        self.b.phase(StreamOut("head.loss.out", "head.loss", "head.loss", "last_col"))
        self.outputs.append({"stream": "head.loss", "form": "loss"})
        if not training:
            return ""
        share = self.b.constant("k.share", 1.0 / (self.m * self.rows))
        dz = at(self.b.tensor("head.dz", (self.m, vc), dtype=self.op), m=vc, v=1)
        self.b.compute(
            "head.dz.token",
            Instr("recip", m, total, total),
            Instr("mul", axes, e, e, total),
            Instr("sub", axes, e, e, hot),
            Instr("mul", axes, dz, e, share),
        )
        return dz.tensor
