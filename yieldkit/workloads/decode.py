"""Decoding with the GPT of `gpt.py`: weights resident in the cores, the KV cache spread over the rows.

One step takes one token of each of `sequences` prompts or continuations. The vector of features lies over the columns,
the same on every row; product partials chain along the rows of the rectangle and come back to the columns over the
diagonal. Positions of the cache lie over the rows, so the sums of attention travel down the columns in order of
position. The sums have the order they have in training, so the logits are the same bits::

    x[b, d/cols]  on every row        W[d/cols, n/rows]  one block a core        cache[positions/rows, b, d/cols]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.gpt import GptShape
from yieldkit.workloads.program import AllReduce, ChainAccumulate, Gemv, Instr, Program, StreamIn, StreamOut
from yieldkit.workloads.transformer import LAYER_NORM_EPS

__all__ = ["gpt_decode"]


def gpt_decode(
    shape: GptShape | None = None,
    *,
    side: int = 8,
    dtype: str = "bf16",
    prompts: Sequence[Sequence[int]] = (),
    seed: int = 0,
    corpus: str = "cpython-topics",
    accumulation: str = "fp32",
    block: int = 0,
    **sizes: int,
) -> Program:
    """Greedy decoding of `sequences` texts, one token a step.

    Args:
        shape: sizes, or give them by name; `sequences` is the number of texts decoded together.
        side: rows and columns of the square rectangle; divides width, heads, vocabulary and context.
        dtype: operand format.
        prompts: one list of symbols a text, all of one length; the step after the last prompt symbol is free to choose.
        seed: of the initial weights, where none are given at the run.
        corpus: the text the model belongs to.
        accumulation: of products, "fp32" or "bf16_blocked" (see `Program`).
        block: steps of k in a block of "bf16_blocked".
        **sizes: sizes by name, in place of `shape`.

    Raises:
        BadInput: the sizes do not lie evenly over the rectangle, or prompts do not fit.
    """
    shape = shape or GptShape(**sizes)
    shape.check(1, side)
    if shape.context % side:
        raise BadInput(f"context must be a multiple of {side}, the rows of the rectangle", value=shape.context)
    starts = [list(map(int, p)) for p in prompts] or [[0]] * shape.sequences
    if len(starts) != shape.sequences or len({len(p) for p in starts}) != 1 or not starts[0]:
        raise BadInput(f"prompts must be {shape.sequences} lists of one length", value=[len(p) for p in starts])
    if any(not 0 <= symbol < shape.vocabulary for prompt in starts for symbol in prompt):
        raise BadInput(f"prompt symbols must be below {shape.vocabulary}")
    if len(starts[0]) > shape.context:
        raise BadInput(f"prompts must be at most {shape.context} symbols", value=len(starts[0]))
    writer = _Decode(ProgramBuilder("gpt decode", side, side, dtype, accumulation=accumulation, block=block), shape)
    for layer in range(shape.layers):
        writer.layer(layer)
    writer.head()
    return writer.build(seed, corpus, starts)


class _Decode:
    def __init__(self, b: ProgramBuilder, shape: GptShape) -> None:
        side = b.rows
        self.b, self.shape, self.side, self.op = b, shape, side, b.dtype
        self.n = shape.sequences
        self.dc, self.vc = shape.width // side, shape.vocabulary // side
        self.hc, self.hd = shape.heads // side, shape.width // shape.heads
        self.jr = shape.context // side
        self.resident: list[dict[str, Any]] = []
        self.zero = self.b.constant("k.zero", 0.0)
        self.inverse_width = self.b.constant("k.inverse_width", 1.0 / shape.width)
        self.eps = self.b.constant("k.eps", LAYER_NORM_EPS)
        self.axes = (("b", self.n), ("f", self.dc))
        self.b.tensor("x", (self.n, self.dc), "c")
        self.b.tensor("here", (self.jr,), "r")
        self.b.tensor("mask", (self.jr,), "r")
        self.b.phase(StreamIn("embed.in", "x", "embed.in", "multicast_col"))
        self.b.phase(StreamIn("here.in", "here", "here.in", "multicast_row"))
        self.b.phase(StreamIn("mask.in", "mask", "mask.in", "multicast_row"))
        self.inputs = [
            {"stream": "embed.in", "form": "embedding"},
            {"stream": "here.in", "form": "here"},
            {"stream": "mask.in", "form": "mask"},
        ]

    def build(self, seed: int, corpus: str, prompts: Sequence[Sequence[int]]) -> Program:
        self.b.launch("token")
        job: Mapping[str, Any] = {
            "kind": "decode",
            "model": asdict(self.shape),
            "inputs": self.inputs,
            "outputs": [{"stream": "head.logits", "form": "logits"}],
            "resident": self.resident,
            "seed": seed,
            "corpus": corpus,
            "prompts": [list(p) for p in prompts],
        }
        return self.b.build(job)

    def vector(self, name: str, features: int, dtype: str = "fp32") -> str:
        return self.b.tensor(name, (self.n, features), "c", dtype=dtype)

    def weight(self, param: str, rows: int, cols: int) -> str:
        """A resident matrix, [rows/side, cols/side] a core."""
        name = f"w.{param}"
        self.b.tensor(name, (rows // self.side, cols // self.side), "rc", dtype=self.op, keep=True)
        self.resident.append({"tensor": name, "param": param, "form": "matrix"})
        return name

    def norm(self, where: str, param: str) -> str:
        b, axes, dc = (("b", self.n),), self.axes, self.dc
        gain = self.b.tensor(f"w.{param}", (dc,), "c", keep=True)
        self.resident.append({"tensor": gain, "param": param, "form": "vector"})
        hat, x = at(self.vector(f"{where}.hat", dc), b=dc, f=1), at("x", b=dc, f=1)
        out = at(self.vector(f"{where}.out", dc, self.op), b=dc, f=1)
        s, q = (at(self.b.tensor(f"{where}.{n}", (self.n,), "c"), b=1) for n in ("s", "q"))
        total, squares = (at(self.b.tensor(f"{where}.{n}", (self.n,), "r"), b=1) for n in ("total", "squares"))
        self.b.compute(f"{where}.sum", Instr("mov", b, s, self.zero), Instr("add", axes, s, x, s))
        self.b.phase(AllReduce(f"{where}.mean", "row", "add", s.tensor, total.tensor))
        self.b.compute(
            f"{where}.centre",
            Instr("mul", b, total, total, self.inverse_width),
            Instr("sub", axes, hat, x, total),
            Instr("mov", b, q, self.zero),
            Instr("mac", axes, q, hat, hat),
        )
        self.b.phase(AllReduce(f"{where}.var", "row", "add", q.tensor, squares.tensor))
        self.b.compute(
            f"{where}.scale",
            Instr("mul", b, squares, squares, self.inverse_width),
            Instr("add", b, squares, squares, self.eps),
            Instr("rsqrt", b, squares, squares),
            Instr("mul", axes, hat, hat, squares),
            Instr("mul", axes, out, hat, at(gain, f=1)),
        )
        return out.tensor

    def product(self, name: str, x: str, y: str, param: str, rows: int, cols: int) -> None:
        self.b.phase(Gemv(name, x, self.weight(param, rows, cols), y))

    def residual(self, name: str, x: str, param: str, rows: int) -> None:
        d = self.shape.width
        y = self.vector(f"{name}.y", self.dc)
        self.product(name, x, y, param, rows, d)
        place = at("x", b=self.dc, f=1)
        self.b.compute(f"{name}.add", Instr("add", self.axes, place, at(y, b=self.dc, f=1), place))

    def layer(self, layer: int) -> None:
        p, w, d = f"d{layer}", f"l{layer}.", self.shape.width
        a = self.norm(f"{p}.ln1", w + "ln1")
        for name in ("q", "k", "v"):
            self.vector(f"{p}.{name}", self.dc, self.op)
            self.product(f"{p}.{name}.gemv", a, f"{p}.{name}", w + f"w{name}", d, d)
        self.attention(p)
        self.residual(f"{p}.wo", f"{p}.o", w + "wo", d)
        a = self.norm(f"{p}.ln2", w + "ln2")
        hidden, u = self.vector(f"{p}.h", 4 * self.dc, self.op), self.vector(f"{p}.u", 4 * self.dc, self.op)
        self.product(f"{p}.h.gemv", a, hidden, w + "w1", d, 4 * d)
        wide = (("b", self.n), ("f", 4 * self.dc))
        self.b.compute(f"{p}.gelu", Instr("gelu", wide, at(u, b=4 * self.dc, f=1), at(hidden, b=4 * self.dc, f=1)))
        self.residual(f"{p}.w2", u, w + "w2", 4 * d)

    def attention(self, p: str) -> None:
        n, dc, hc, hd, jr = self.n, self.dc, self.hc, self.hd, self.jr
        bh = (("b", n), ("h", hc))
        bhj = (*bh, ("j", jr))
        caches = {}
        for name in ("k", "v"):
            caches[name] = self.b.tensor(f"{p}.{name}cache", (jr, n, dc), "rc", dtype=self.op, keep=True)
        store = (("j", jr), ("b", n), ("f", dc))
        self.b.compute(
            f"{p}.remember",
            *(
                Instr("select", store, at(cache, j=n * dc, b=dc, f=1), at(f"{p}.{name}", b=dc, f=1), at("here", j=1))
                for name, cache in caches.items()
            ),
        )
        scores = at(self.b.tensor(f"{p}.scores", (n, hc, jr)), b=hc * jr, h=jr, j=1)
        probs = at(self.b.tensor(f"{p}.p", (n, hc, jr), dtype=self.op), b=hc * jr, h=jr, j=1)
        top, total = (at(self.b.tensor(f"{p}.{name}", (n, hc), "c"), b=hc, h=1) for name in ("max", "sum"))
        o32, o = self.vector(f"{p}.o32", dc), self.vector(f"{p}.o", dc, self.op)
        minus_infinity = self.b.constant("k.minus_infinity", float("-inf"))
        scale = self.b.constant("k.scale", hd**-0.5)
        q = at(f"{p}.q", b=dc, h=hd, f=1)
        k, v = (at(caches[name], j=n * dc, b=dc, h=hd, f=1) for name in ("k", "v"))
        self.b.compute(
            f"{p}.score",
            Instr("mov", bhj, scores, self.zero),
            Instr("mac", (*bhj, ("f", hd)), scores, q, k),
            Instr("mul", bhj, scores, scores, scale),
            Instr("add", bhj, scores, scores, at("mask", j=1)),
        )
        self.b.phase(
            ChainAccumulate(
                f"{p}.max.chain", top.tensor, Instr("mov", bh, top, minus_infinity),
                (Instr("max", bhj, top, scores, top),),
            )
        )  # fmt: skip
        self.b.compute(f"{p}.exp", Instr("sub", bhj, scores, scores, top), Instr("exp", bhj, scores, scores))
        self.b.phase(
            ChainAccumulate(
                f"{p}.sum.chain", total.tensor, Instr("mov", bh, total, self.zero),
                (Instr("add", bhj, total, scores, total),),
            )
        )  # fmt: skip
        self.b.compute(f"{p}.p.scale", Instr("recip", bh, total, total), Instr("mul", bhj, probs, scores, total))
        sums = at(o32, b=dc, h=hd, f=1)
        self.b.phase(
            ChainAccumulate(
                f"{p}.o.chain", o32, Instr("mov", self.axes, at(o32, b=dc, f=1), self.zero),
                (Instr("mac", (*bh, ("f", hd), ("j", jr)), sums, probs, v),),
            )
        )  # fmt: skip
        self.b.compute(f"{p}.o.store", Instr("mov", self.axes, at(o, b=dc, f=1), at(o32, b=dc, f=1)))

    def head(self) -> None:
        a = self.norm("head.ln", "lnf")
        logits = self.vector("head.z", self.vc)
        self.product("head.gemv", a, logits, "head", self.shape.width, self.shape.vocabulary)
        self.b.phase(StreamOut("head.logits.out", logits, "head.logits", "last_row"))
