"""A GPT as Programs: training with streamed weights, a forward pass, and decoding with resident weights.

The model: byte embedding and learned positions; blocks of layer norm (gain only), causal attention and a GELU MLP of
width 4 d, both added to the residual stream; a last layer norm and an untied head; no biases. Sequences lie over the
rows of the rectangle and features over its columns, whole heads to a column::

            features of column 0 | 1 | 2 ...      x[m, d / cols] on each core,
    row 0   sequences 0 .. S-1                     m = S tokens * T positions
    row 1   sequences S .. 2S-1
    ...

The residual stream, layer-norm statistics, scores and all sums are fp32; operands of matrix products are stored in the
program's operand format. Embedding tables live in MemoryX, which streams embedded tokens in and takes their gradient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.parameters import INITIAL_STD, Parameter
from yieldkit.workloads.program import AllReduce, Gemm, Instr, Program, Ref, StreamIn, StreamOut, WGrad

__all__ = ["GptShape", "gpt_forward", "gpt_parameters", "gpt_training", "parameters"]

LAYER_NORM_EPS = 1e-5
ACCUMULATOR_WORDS = 1_024
"""Default bound on a core's accumulator, from which the tile width of a product follows."""


@dataclass(frozen=True)
class GptShape:
    """Sizes of a GPT and of its batch.

    Attributes:
        layers, width, heads: depth, features, heads; `heads` and `width` are multiples of the columns used.
        context: positions of a sequence.
        sequences: sequences a step; a multiple of the rows used.
        vocabulary: symbols; a multiple of the columns.
    """

    layers: int = 2
    width: int = 64
    heads: int = 8
    context: int = 32
    sequences: int = 8
    vocabulary: int = 256

    def check(self, rows: int, cols: int) -> None:
        """Refuse sizes that do not lie evenly over the rectangle.

        Raises:
            BadInput: names the size and the cure.
        """
        for name, value, by in (
            ("width", self.width, cols),
            ("heads", self.heads, cols),
            ("vocabulary", self.vocabulary, cols),
            ("sequences", self.sequences, rows),
        ):
            if value < 1 or value % by:
                raise BadInput(f"{name} must be a positive multiple of {by}", value=value, cure="or use fewer cores")
        if self.width % self.heads:
            raise BadInput(f"width must be a multiple of the {self.heads} heads", value=self.width)
        if self.layers < 1 or self.context < 2:
            raise BadInput("layers must be at least 1 and context at least 2", value=(self.layers, self.context))


def parameters(shape: GptShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters, in the order in which MemoryX keeps them."""
    d, v = shape.width, shape.vocabulary
    table: dict[str, tuple[int, ...]] = {"wte": (v, d), "wpe": (shape.context, d)}
    for layer in range(shape.layers):
        p = f"l{layer}."
        table |= {p + "ln1": (d,), p + "wq": (d, d), p + "wk": (d, d), p + "wv": (d, d), p + "wo": (d, d)}
        table |= {p + "ln2": (d,), p + "w1": (d, 4 * d), p + "w2": (4 * d, d)}
    return table | {"lnf": (d,), "head": (d, v)}


def gpt_parameters(shape: GptShape) -> tuple[Parameter, ...]:
    """The parameters with their first values; projections back into the residual stream get std over sqrt(2 layers)."""
    listed = []
    for name, dims in parameters(shape).items():
        std = INITIAL_STD / (2 * shape.layers) ** 0.5 if name.endswith((".wo", ".w2")) else INITIAL_STD
        listed.append(Parameter(name, dims, "normal" if len(dims) > 1 else "ones", std))
    return tuple(listed)


def gpt_training(
    shape: GptShape | None = None,
    *,
    rows: int = 8,
    cols: int = 8,
    dtype: str = "bf16",
    seed: int = 0,
    learning_rate: float = 3e-3,
    corpus: str = "cpython-topics",
    accumulator_words: int = ACCUMULATOR_WORDS,
    accumulation: str = "fp32",
    block: int = 0,
    **sizes: int,
) -> Program:
    """Training step of a GPT: forward, loss, backward; MemoryX holds weights and Adam state and runs the update.

    Args:
        shape: sizes.
        rows: rows of the rectangle of logical cores.
        cols: its columns.
        **sizes: sizes by name (layers, width, heads, context, sequences, vocabulary), in place of `shape`.
        dtype: operand format; "fp32" for gradient checks.
        seed: of the initial weights and of the batches.
        learning_rate: of Adam.
        corpus: text to train on.
        accumulator_words: largest accumulator a core may use; decides the tile width, changes no value.
        accumulation: of products, "fp32" or "bf16_blocked" (see `Program`).
        block: steps of k in a block of "bf16_blocked".

    Raises:
        BadInput: the sizes do not lie evenly over the rectangle.
    """
    shape = _shape(shape, sizes)
    b = ProgramBuilder("gpt training", rows, cols, dtype, accumulation=accumulation, block=block)
    model = _Gpt(b, shape, accumulator_words)
    model.embed()
    for layer in range(shape.layers):
        model.forward(layer)
    model.head(training=True)
    for layer in reversed(range(shape.layers)):
        model.backward(layer)
    return model.build("training", seed=seed, corpus=corpus, learning_rate=learning_rate)


def gpt_forward(
    shape: GptShape | None = None,
    *,
    rows: int = 8,
    cols: int = 8,
    dtype: str = "bf16",
    seed: int = 0,
    corpus: str = "cpython-topics",
    accumulator_words: int = ACCUMULATOR_WORDS,
    accumulation: str = "fp32",
    block: int = 0,
    **sizes: int,
) -> Program:
    """Forward pass of the same GPT with the same numerics: logits and the loss of every token."""
    shape = _shape(shape, sizes)
    b = ProgramBuilder("gpt forward", rows, cols, dtype, accumulation=accumulation, block=block)
    model = _Gpt(b, shape, accumulator_words)
    model.embed()
    for layer in range(shape.layers):
        model.forward(layer)
    model.head(training=False)
    return model.build("forward", seed=seed, corpus=corpus, learning_rate=0.0)


def _shape(shape: GptShape | None, sizes: dict[str, int]) -> GptShape:
    known = set(asdict(GptShape()))
    unknown = sorted(set(sizes) - known)
    if unknown:
        raise BadInput("unknown size of a GPT", value=unknown, cure=f"use {', '.join(sorted(known))}")
    if shape is not None and sizes:
        raise BadInput("give the sizes by name or as a GptShape, not both")
    return shape or GptShape(**sizes)


def _part(columns: int, features: int, words_a_feature: int, limit: int) -> int:
    """Largest divisor of `features` whose accumulator, `columns` times as wide, stays within `limit` words."""
    fitting = [p for p in range(1, features + 1) if features % p == 0 and p * columns * words_a_feature <= limit]
    return max(fitting, default=1)


class _Gpt:
    """Writes the launches; every method appends phases."""

    def __init__(self, b: ProgramBuilder, shape: GptShape, limit: int) -> None:
        rows, cols = b.rows, b.cols
        shape.check(rows, cols)
        # With blocks a product has a second accumulator.
        self.shape, self.rows, self.cols, self.limit = shape, rows, cols, limit // 2 if b.block else limit
        self.S, self.T = shape.sequences // rows, shape.context
        self.m = self.S * self.T
        self.dc, self.vc = shape.width // cols, shape.vocabulary // cols
        self.hc, self.hd = shape.heads // cols, shape.width // shape.heads
        self.b = b
        self.op = b.dtype
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []
        self.zero = self.b.constant("k.zero", 0.0)
        self.inverse_width = self.b.constant("k.inverse_width", 1.0 / shape.width)
        self.eps = self.b.constant("k.eps", LAYER_NORM_EPS)
        self.rows_axes = (("m", self.m), ("f", self.dc))

    def build(self, kind: str, *, seed: int, corpus: str, learning_rate: float) -> Program:
        job = {
            "kind": kind,
            "model": asdict(self.shape),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "seed": seed,
            "corpus": corpus,
            "adam": {"learning_rate": learning_rate, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8},
        }
        return self.b.build(job)

    # Streams

    def gain(self, param: str, where: str) -> Ref:
        """Stream a layer norm's gain in for this launch."""
        name = f"{where}.gain"
        self.b.tensor(name, (self.dc,), "c")
        self.b.phase(StreamIn(f"{name}.in", name, name, "multicast_col"))
        self.inputs.append({"stream": name, "form": "vector", "param": param})
        return at(name, f=1)

    def product(
        self, name: str, x: str, y: str, param: str, *, transpose: bool = False, accumulate: bool = False
    ) -> None:
        """Y = x W (or x W^T), W streamed in."""
        features = self.b.tensors[y].dims[1]
        part = _part(self.cols, features, self.m, self.limit)
        self.b.phase(Gemm(name, x, y, name, part, accumulate))
        self.inputs.append({"stream": name, "form": "matrix", "param": param, "transpose": transpose})

    def weight_gradient(self, name: str, x: str, dy: str, param: str) -> None:
        """DW = x^T dy, streamed out."""
        kc, features = self.b.tensors[x].dims[1], self.b.tensors[dy].dims[1]
        part = _part(self.cols, features, kc, self.limit)
        self.b.phase(WGrad(name, x, dy, name, part))
        self.outputs.append({"stream": name, "form": "matrix", "param": param})

    def activations(self, name: str, features: int, dtype: str = "fp32") -> str:
        return self.b.tensor(name, (self.m, features), dtype=dtype)

    def row_sum(self, name: str, *instrs: Instr, source: str, op: str = "add") -> str:
        """Run `instrs`, which leave a number a token in `source`, and all-reduce it along the row."""
        total = self.b.tensor(f"{name}.total", (self.m,), "r")
        self.b.compute(f"{name}.local", *instrs)
        self.b.phase(AllReduce(f"{name}.reduce", "row", op, source, total))
        return total

    def per_token(self, name: str) -> str:
        return self.b.tensor(name, (self.m,))

    # Layers

    def embed(self) -> None:
        self.activations("x", self.dc)
        self.b.phase(StreamIn("embed.in", "x", "embed.in", "scatter_row"))
        self.inputs.append({"stream": "embed.in", "form": "embedding"})
        self.b.launch("embed")

    def norm(self, where: str, param: str) -> str:
        """Xhat = (x - mean) / std, kept; returns the operand gain * xhat."""
        dc, axes = self.dc, self.rows_axes
        gain = self.gain(param, where)
        x, hat = at("x", m=dc, f=1), at(self.activations(f"{where}.hat", dc), m=dc, f=1)
        out = at(self.activations(f"{where}.out", dc, self.op), m=dc, f=1)
        s = at(self.per_token(f"{where}.s"), m=1)
        q = at(self.per_token(f"{where}.q"), m=1)
        m = (("m", self.m),)
        total = at(self.row_sum(f"{where}.mean", Instr("mov", m, s, self.zero), Instr("add", axes, s, x, s),
                                source=f"{where}.s"), m=1)  # fmt: skip
        squares = at(
            self.row_sum(
                f"{where}.var",
                Instr("mul", m, total, total, self.inverse_width),
                Instr("sub", axes, hat, x, total),
                Instr("mov", m, q, self.zero),
                Instr("mac", axes, q, hat, hat),
                source=f"{where}.q",
            ),
            m=1,
        )
        rstd = at(self.b.tensor(f"{where}.rstd", (self.m,), "r"), m=1)
        self.b.compute(
            f"{where}.scale",
            Instr("mul", m, squares, squares, self.inverse_width),
            Instr("add", m, squares, squares, self.eps),
            Instr("rsqrt", m, rstd, squares),
            Instr("mul", axes, hat, hat, rstd),
            Instr("mul", axes, out, hat, gain),
        )
        return out.tensor

    def norm_again(self, where: str, param: str, launch: str) -> tuple[str, Ref]:
        """In the backward launch: the operand and the gain once more, from the kept xhat."""
        gain = self.gain(param, launch)
        out = self.activations(f"{launch}.out", self.dc, self.op)
        hat = at(f"{where}.hat", m=self.dc, f=1)
        self.b.compute(f"{launch}.again", Instr("mul", self.rows_axes, at(out, m=self.dc, f=1), hat, gain))
        return out, gain

    def norm_backward(self, where: str, param: str, launch: str, da: str, gain: Ref, *, first: bool) -> None:
        """Gradient through a layer norm, added to dx; the gain's gradient goes out."""
        dc, axes, m = self.dc, self.rows_axes, (("m", self.m),)
        d_out, hat = at(da, m=dc, f=1), at(f"{where}.hat", m=dc, f=1)
        dg = self.b.tensor(f"{launch}.dgain", (dc,))
        tokens_inside = (("f", dc), ("m", self.m))
        self.b.compute(
            f"{launch}.dgain.local",
            Instr("mov", (("f", dc),), at(dg, f=1), self.zero),
            Instr("mac", tokens_inside, at(dg, f=1), d_out, hat),
        )
        self.b.phase(StreamOut(f"{launch}.dgain.out", dg, f"{launch}.dgain", "reduce_col"))
        self.outputs.append({"stream": f"{launch}.dgain", "form": "vector", "param": param})
        s1, s2 = at(self.per_token(f"{launch}.s1"), m=1), at(self.per_token(f"{launch}.s2"), m=1)
        c1 = at(
            self.row_sum(
                f"{launch}.c1",
                Instr("mul", axes, d_out, d_out, gain),
                Instr("mov", m, s1, self.zero),
                Instr("add", axes, s1, d_out, s1),
                source=f"{launch}.s1",
            ),
            m=1,
        )
        c2 = at(
            self.row_sum(
                f"{launch}.c2",
                Instr("mov", m, s2, self.zero),
                Instr("mac", axes, s2, d_out, hat),
                source=f"{launch}.s2",
            ),
            m=1,
        )
        t = at(self.activations(f"{launch}.t", dc), m=dc, f=1)
        dx = at(self.activations("dx", dc), m=dc, f=1)
        rstd = at(f"{where}.rstd", m=1)
        last = Instr("mul", axes, dx, t, rstd) if first else Instr("mul", axes, t, t, rstd)
        self.b.compute(
            f"{launch}.dx",
            Instr("mul", m, c1, c1, self.inverse_width),
            Instr("mul", m, c2, c2, self.inverse_width),
            Instr("mul", axes, t, hat, c2),
            Instr("sub", axes, t, d_out, t),
            Instr("sub", axes, t, t, c1),
            last,
            *(() if first else (Instr("add", axes, dx, dx, t),)),
        )

    def cast(self, name: str, target: str, source: str) -> str:
        """Copy into the operand format."""
        features = self.b.tensors[source].dims[1]
        self.activations(target, features, self.op)
        axes = (("m", self.m), ("f", features))
        self.b.compute(name, Instr("mov", axes, at(target, m=features, f=1), at(source, m=features, f=1)))
        return target

    def forward(self, layer: int) -> None:
        p, w = f"f{layer}", f"l{layer}."
        a = self.norm(f"{p}.ln1", w + "ln1")
        for name in ("q", "k", "v"):
            self.activations(f"{p}.{name}", self.dc, self.op)
            self.product(f"{p}.{name}.gemm", a, f"{p}.{name}", w + f"w{name}")
        self.attention(p)
        self.product(f"{p}.o.gemm", f"{p}.o", "x", w + "wo", accumulate=True)
        self.b.launch(f"{p}.attention")
        a = self.norm(f"{p}.ln2", w + "ln2")
        hidden = self.activations(f"{p}.h", 4 * self.dc, self.op)
        self.product(f"{p}.h.gemm", a, hidden, w + "w1")
        u = self.gelu(f"{p}.u", hidden)
        self.product(f"{p}.u.gemm", u, "x", w + "w2", accumulate=True)
        self.b.launch(f"{p}.mlp")

    def gelu(self, name: str, hidden: str) -> str:
        features = 4 * self.dc
        u = self.activations(name, features, self.op)
        axes = (("m", self.m), ("f", features))
        self.b.compute(f"{name}.gelu", Instr("gelu", axes, at(u, m=features, f=1), at(hidden, m=features, f=1)))
        return u

    def _attention_axes(self) -> tuple[tuple[str, int], ...]:
        return (("s", self.S), ("h", self.hc))

    def _rows(self, tensor: str, index: str) -> Ref:
        """Reference to [s, index, h, f] of an activation block."""
        return at(tensor, s=self.T * self.dc, h=self.hd, **{index: self.dc}, f=1)

    def _square(self, tensor: str) -> Ref:
        """Reference to [s, h, i, j] of a block of scores."""
        T = self.T
        return at(tensor, s=self.hc * T * T, h=T * T, i=T, j=1)

    def _line(self, tensor: str) -> Ref:
        return at(tensor, s=self.hc * self.T, h=self.T, i=1)

    def attention(self, p: str) -> None:
        """Causal attention inside each core, which holds whole sequences and whole heads."""
        S, T, hc, hd = self.S, self.T, self.hc, self.hd
        sh = self._attention_axes()
        ij, i = (*sh, ("i", T), ("j", T)), (*sh, ("i", T))
        scores = self._square(self.b.tensor(f"{p}.scores", (S, hc, T, T)))
        probs = self._square(self.b.tensor(f"{p}.p", (S, hc, T, T), dtype=self.op))
        top = self._line(self.b.tensor(f"{p}.max", (S, hc, T)))
        total = self._line(self.b.tensor(f"{p}.sum", (S, hc, T)))
        o32 = self.activations(f"{p}.o32", self.dc)
        o = self.activations(f"{p}.o", self.dc, self.op)
        minus_infinity = self.b.constant("k.minus_infinity", float("-inf"))
        scale = self.b.constant("k.scale", hd**-0.5)
        # mask[T-1 + j - i]: 0 up to the diagonal, minus infinity after it
        line = [0.0] * T + [float("-inf")] * (T - 1)
        mask = at(self.b.tensor("k.mask", (2 * T - 1,), "", values=line), T - 1, i=-1, j=1)
        q, k, v = self._rows(f"{p}.q", "i"), self._rows(f"{p}.k", "j"), self._rows(f"{p}.v", "j")
        out = (("m", self.m), ("f", self.dc))
        self.b.compute(
            f"{p}.attend",
            Instr("mov", ij, scores, self.zero),
            Instr("mac", (*ij, ("f", hd)), scores, q, k),
            Instr("mul", ij, scores, scores, scale),
            Instr("add", ij, scores, scores, mask),
            Instr("mov", i, top, minus_infinity),
            Instr("max", ij, top, scores, top),
            Instr("sub", ij, scores, scores, top),
            Instr("exp", ij, scores, scores),
            Instr("mov", i, total, self.zero),
            Instr("add", ij, total, scores, total),
            Instr("recip", i, total, total),
            Instr("mul", ij, probs, scores, total),
            Instr("mov", out, at(o32, m=self.dc, f=1), self.zero),
            Instr("mac", (*sh, ("i", T), ("f", hd), ("j", T)), self._rows(o32, "i"), probs, v),
            Instr("mov", out, at(o, m=self.dc, f=1), at(o32, m=self.dc, f=1)),
        )

    def head(self, *, training: bool) -> None:
        """Last norm, logits, loss of each token; in training the gradient of the logits as well."""
        m, vc, axes = (("m", self.m),), self.vc, (("m", self.m), ("v", self.vc))
        a = self.norm("head.ln", "lnf")
        logits = self.b.tensor("head.z", (self.m, vc))
        self.product("head.gemm", a, logits, "head")
        if not training:
            self.b.phase(StreamOut("head.logits.out", logits, "head.logits", "gather_row"))
            self.outputs.append({"stream": "head.logits", "form": "logits"})
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
            self.b.launch("head")
            return
        share = self.b.constant("k.share", 1.0 / (self.m * self.rows))
        dz = at(self.b.tensor("head.dz", (self.m, vc), dtype=self.op), m=vc, v=1)
        self.b.compute(
            "head.dz.token",
            Instr("recip", m, total, total),
            Instr("mul", axes, e, e, total),
            Instr("sub", axes, e, e, hot),
            Instr("mul", axes, dz, e, share),
        )
        self.weight_gradient("head.dw", a, "head.dz", "head")
        da = self.activations("head.da", self.dc)
        self.product("head.da.gemm", "head.dz", da, "head", transpose=True)
        self.norm_backward("head.ln", "lnf", "head.back", da, at("head.ln.gain", f=1), first=True)
        self.b.launch("head")

    def backward(self, layer: int) -> None:
        p, w, n = f"f{layer}", f"l{layer}.", f"b{layer}"
        dc = self.dc
        # MLP
        dy = self.cast(f"{n}.mlp.dy.cast", f"{n}.mlp.dy", "dx")
        u = self.gelu(f"{n}.u", f"{p}.h")
        self.weight_gradient(f"{n}.w2.dw", u, dy, w + "w2")
        du = self.activations(f"{n}.du", 4 * dc)
        self.product(f"{n}.du.gemm", dy, du, w + "w2", transpose=True)
        dh = self.activations(f"{n}.dh", 4 * dc, self.op)
        wide = (("m", self.m), ("f", 4 * dc))
        self.b.compute(
            f"{n}.dh.gelu",
            Instr("gelu_grad", wide, at(dh, m=4 * dc, f=1), at(du, m=4 * dc, f=1), at(f"{p}.h", m=4 * dc, f=1)),
        )
        a, gain = self.norm_again(f"{p}.ln2", w + "ln2", f"{n}.ln2")
        self.weight_gradient(f"{n}.w1.dw", a, dh, w + "w1")
        da = self.activations(f"{n}.mlp.da", dc)
        self.product(f"{n}.mlp.da.gemm", dh, da, w + "w1", transpose=True)
        self.norm_backward(f"{p}.ln2", w + "ln2", f"{n}.ln2", da, gain, first=False)
        self.b.launch(f"{n}.mlp")
        # attention
        dy = self.cast(f"{n}.att.dy.cast", f"{n}.att.dy", "dx")
        self.weight_gradient(f"{n}.wo.dw", f"{p}.o", dy, w + "wo")
        do = self.activations(f"{n}.do", dc, self.op)
        self.product(f"{n}.do.gemm", dy, do, w + "wo", transpose=True)
        self.attention_backward(p, n)
        a, gain = self.norm_again(f"{p}.ln1", w + "ln1", f"{n}.ln1")
        da = self.activations(f"{n}.att.da", dc)
        for number, name in enumerate(("q", "k", "v")):
            self.weight_gradient(f"{n}.w{name}.dw", a, f"{n}.d{name}", w + f"w{name}")
            self.product(f"{n}.d{name}.gemm", f"{n}.d{name}", da, w + f"w{name}", transpose=True, accumulate=number > 0)
        self.norm_backward(f"{p}.ln1", w + "ln1", f"{n}.ln1", da, gain, first=False)
        if layer == 0:
            self.b.phase(StreamOut("embed.out", "dx", "embed.out", "gather_row"))
            self.outputs.append({"stream": "embed.out", "form": "embedding"})
        self.b.launch(f"{n}.attention")

    def attention_backward(self, p: str, n: str) -> None:
        S, T, hc, hd = self.S, self.T, self.hc, self.hd
        sh = self._attention_axes()
        ij, i = (*sh, ("i", T), ("j", T)), (*sh, ("i", T))
        dp = self._square(self.b.tensor(f"{n}.dp", (S, hc, T, T)))
        ds = self._square(self.b.tensor(f"{n}.ds", (S, hc, T, T), dtype=self.op))
        t = self._square(self.b.tensor(f"{n}.pt", (S, hc, T, T)))
        r = self._line(self.b.tensor(f"{n}.r", (S, hc, T)))
        probs = self._square(f"{p}.p")
        scale = self.b.constant("k.scale", hd**-0.5)
        do = self._rows(f"{n}.do", "i")
        out = (("m", self.m), ("f", self.dc))
        instrs = [
            Instr("mov", ij, dp, self.zero),
            Instr("mac", (*ij, ("f", hd)), dp, do, self._rows(f"{p}.v", "j")),
            Instr("mul", ij, t, dp, probs),
            Instr("mov", i, r, self.zero),
            Instr("add", ij, r, t, r),
            Instr("sub", ij, dp, dp, r),
            Instr("mul", ij, dp, dp, probs),
            Instr("mul", ij, ds, dp, scale),
        ]
        for name, over, a, b in (
            ("v", "j", probs, do),
            ("q", "i", ds, self._rows(f"{p}.k", "j")),
            ("k", "j", ds, self._rows(f"{p}.q", "i")),
        ):
            sums = self.activations(f"{n}.d{name}32", self.dc)
            stored = self.activations(f"{n}.d{name}", self.dc, self.op)
            other = "i" if over == "j" else "j"
            axes = (*sh, (over, T), ("f", hd), (other, T))
            instrs += [
                Instr("mov", out, at(sums, m=self.dc, f=1), self.zero),
                Instr("mac", axes, self._rows(sums, over), a, b),
                Instr("mov", out, at(stored, m=self.dc, f=1), at(sums, m=self.dc, f=1)),
            ]
        self.b.compute(f"{n}.attend", *instrs)
