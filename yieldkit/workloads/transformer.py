"""The blocks of a GPT, forward and back: layer norm, causal attention and an MLP over a residual stream.

Sequences lie over the rows of the rectangle and features over its columns, whole heads to a column; `gpt` has the
picture. A model with another MLP replaces `mlp` and `mlp_backward`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.layers import Layers
from yieldkit.workloads.program import Instr, Ref, StreamIn, StreamOut

if TYPE_CHECKING:
    from yieldkit.workloads.gpt import GptShape

__all__ = ["LAYER_NORM_EPS", "Transformer"]

LAYER_NORM_EPS: Final = 1e-5


class Transformer(Layers):
    """Writes the launches of a GPT; every method appends phases."""

    def __init__(self, b: ProgramBuilder, shape: GptShape, limit: int) -> None:
        rows, cols = b.rows, b.cols
        shape.check(rows, cols)
        self.shape = shape
        self.S, self.T = shape.sequences // rows, shape.context
        super().__init__(b, self.S * self.T, limit)
        self.dc, self.vc = shape.width // cols, shape.vocabulary // cols
        self.hc, self.hd = shape.heads // cols, shape.width // shape.heads
        self.inverse_width = b.constant("k.inverse_width", 1.0 / shape.width)
        self.eps = b.constant("k.eps", LAYER_NORM_EPS)
        self.rows_axes = (("m", self.m), ("f", self.dc))

    def training_step(self) -> None:
        """All launches of a training step."""
        self.embed()
        for layer in range(self.shape.layers):
            self.forward(layer)
        self.head(training=True)
        for layer in reversed(range(self.shape.layers)):
            self.backward(layer)

    def forward_pass(self) -> None:
        """All launches of a forward pass."""
        self.embed()
        for layer in range(self.shape.layers):
            self.forward(layer)
        self.head(training=False)

    def embed(self) -> None:
        """Embedded tokens come in."""
        self.activations("x", self.dc)
        self.b.phase(StreamIn("embed.in", "x", "embed.in", "scatter_row"))
        self.inputs.append({"stream": "embed.in", "form": "embedding"})
        self.b.launch("embed")

    def norm(self, where: str, param: str) -> str:
        """Xhat = (x - mean) / std, kept; returns the operand gain * xhat."""
        dc, axes = self.dc, self.rows_axes
        gain = at(self.parameter(f"{where}.gain", param, self.dc), f=1)
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
        gain = at(self.parameter(f"{launch}.gain", param, self.dc), f=1)
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
        self.parameter_gradient(dg, param)
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

    def forward(self, layer: int) -> None:
        """The two launches of a layer: attention, MLP."""
        p, w = f"f{layer}", f"l{layer}."
        a = self.norm(f"{p}.ln1", w + "ln1")
        for name in ("q", "k", "v"):
            self.activations(f"{p}.{name}", self.dc, self.op)
            self.product(f"{p}.{name}.gemm", a, f"{p}.{name}", w + f"w{name}")
        self.attention(p)
        self.product(f"{p}.o.gemm", f"{p}.o", "x", w + "wo", accumulate=True)
        self.b.launch(f"{p}.attention")
        a = self.norm(f"{p}.ln2", w + "ln2")
        self.mlp(layer, a)
        self.b.launch(f"{p}.mlp")

    def mlp(self, layer: int, a: str) -> None:
        """Add the MLP of operand `a` to the residual stream."""
        p, w = f"f{layer}", f"l{layer}."
        hidden = self.activations(f"{p}.h", 4 * self.dc, self.op)
        self.product(f"{p}.h.gemm", a, hidden, w + "w1")
        u = self.gelu(f"{p}.u", hidden)
        self.product(f"{p}.u.gemm", u, "x", w + "w2", accumulate=True)

    def gelu(self, name: str, hidden: str) -> str:
        """GELU of the hidden features, in the operand format."""
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
        """Last norm, logits, loss of each token; in training the way back to the residual stream."""
        a = self.norm("head.ln", "lnf")
        logits = self.b.tensor("head.z", (self.m, self.vc))
        self.product("head.gemm", a, logits, "head")
        if not training:
            self.b.phase(StreamOut("head.logits.out", logits, "head.logits", "gather_row"))
            self.outputs.append({"stream": "head.logits", "form": "logits"})
        dz = self.softmax_loss(logits, self.vc, training=training)
        if training:
            self.weight_gradient("head.dw", a, dz, "head")
            da = self.activations("head.da", self.dc)
            self.product("head.da.gemm", dz, da, "head", transpose=True)
            self.norm_backward("head.ln", "lnf", "head.back", da, at("head.ln.gain", f=1), first=True)
        self.b.launch("head")

    def backward(self, layer: int) -> None:
        """The two launches of a layer on the way back."""
        p, w, n = f"f{layer}", f"l{layer}.", f"b{layer}"
        dc = self.dc
        # MLP
        da, gain = self.mlp_backward(layer)
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

    def mlp_backward(self, layer: int) -> tuple[str, Ref]:
        """From dx, the gradient of what the MLP added: the gradient of its operand, and the gain before it."""
        p, w, n, dc = f"f{layer}", f"l{layer}.", f"b{layer}", self.dc
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
        return da, gain

    def attention_backward(self, p: str, n: str) -> None:
        """Gradients of queries, keys and values inside each core."""
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
