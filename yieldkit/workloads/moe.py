"""A GPT whose MLPs are mixtures of experts, each token going to one of them: training and forward pass.

The routing is the Switch transformer's (Fedus, Zoph and Shazeer, JMLR 23, 2022): router logits r = a W_r, p =
softmax(r), the token's expert is the one with the largest logit (of equals the first), and p of that expert, the gate,
scales its output. So the router learns through the gate, and through the balancing loss of each group of tokens, here
the tokens of a row of cores::

    balance * experts * sum over e of f_e P_e        f_e the share of the group's tokens that go to expert e,
                                                     P_e the group's mean of p_e; the gradient flows through P_e only

The mean over the groups is added to the loss that training minimises, not to the loss that is reported.

On this machine values never decide control, so tokens cannot be sent where their expert is: **every expert works on
all tokens, and a mask picks the result** of each token's own one. That costs as many times the products of an MLP as
there are experts; there is no capacity, and no token is dropped. Masks pick (`select`) and do not multiply, so what an
expert makes of tokens that are not its own, a NaN included, goes nowhere.

Router logits, softmax and gate are fp32; each core works out its own features' part of the logits, an all-reduce along
the row completes them, and then every core of the row routes alike.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.classifier import shape_of
from yieldkit.workloads.gpt import GptShape, first_values, parameters
from yieldkit.workloads.layers import ACCUMULATOR_WORDS
from yieldkit.workloads.parameters import Parameter, job_parameters
from yieldkit.workloads.program import AllReduce, Instr, Program, Ref, StreamOut
from yieldkit.workloads.transformer import Transformer

__all__ = ["MoeShape", "moe_forward", "moe_parameters", "moe_training"]

BALANCE = 1e-2
"""Weight of the balancing loss; the value of the Switch transformer."""


@dataclass(frozen=True)
class MoeShape(GptShape):
    """Sizes of a GPT with experts and of its batch.

    Attributes:
        context: as in a GPT, but shorter by default: masks and what experts make of all tokens take room in a core.
        experts: of each mixture; each has the size of the MLP that it replaces.
        every: mixtures stand in layers every - 1, 2 every - 1, ...; 1: in all of them.
    """

    context: int = 16
    experts: int = 4
    every: int = 1

    def check(self, rows: int, cols: int) -> None:
        """Refuse sizes that do not lie evenly over the rectangle.

        Raises:
            BadInput: names the size and the cure.
        """
        super().check(rows, cols)
        if self.experts < 2 or not 1 <= self.every <= self.layers:
            raise BadInput(
                f"a mixture needs 2 experts or more, at least every {self.layers} layers",
                value=(self.experts, self.every),
            )

    def mixes(self, layer: int) -> bool:
        """Whether a layer has experts."""
        return (layer + 1) % self.every == 0


def moe_parameters(shape: MoeShape) -> tuple[Parameter, ...]:
    """The parameters in the order in which MemoryX keeps them."""
    d = shape.width
    table: dict[str, tuple[int, ...]] = {}
    for name, dims in parameters(shape).items():
        layer, _, part = name.partition(".")
        if part not in ("w1", "w2") or not shape.mixes(int(layer[1:])):
            table[name] = dims
        elif part == "w1":
            table[f"{layer}.router"] = (d, shape.experts)
            for expert in range(shape.experts):
                table |= {f"{layer}.e{expert}.w1": (d, 4 * d), f"{layer}.e{expert}.w2": (4 * d, d)}
    return first_values(table, shape.layers)


def moe_training(
    shape: MoeShape | None = None,
    *,
    rows: int = 8,
    cols: int = 8,
    dtype: str = "bf16",
    seed: int = 0,
    learning_rate: float = 3e-3,
    balance: float = BALANCE,
    corpus: str = "cpython-topics",
    accumulator_words: int = ACCUMULATOR_WORDS,
    **sizes: int,
) -> Program:
    """Training step of a GPT with mixtures of experts.

    Args:
        shape: sizes.
        rows: rows of the rectangle of logical cores.
        cols: its columns.
        dtype: operand format; "fp32" for gradient checks.
        seed: of the initial weights and of the batches.
        learning_rate: of Adam.
        balance: weight of the balancing loss.
        corpus: text to train on.
        accumulator_words: largest accumulator a core may use; changes no value.
        **sizes: sizes by name, in place of `shape`.

    Raises:
        BadInput: the sizes do not lie evenly over the rectangle.
    """
    shape = shape_of(MoeShape, shape, sizes)
    model = _Moe(ProgramBuilder("moe training", rows, cols, dtype), shape, accumulator_words, balance)
    model.training_step()
    return model.finish("training", _job(shape, corpus), seed=seed, learning_rate=learning_rate)


def moe_forward(
    shape: MoeShape | None = None,
    *,
    rows: int = 8,
    cols: int = 8,
    dtype: str = "bf16",
    seed: int = 0,
    corpus: str = "cpython-topics",
    accumulator_words: int = ACCUMULATOR_WORDS,
    **sizes: int,
) -> Program:
    """Forward pass of the same model with the same numerics: logits and the loss of every token."""
    shape = shape_of(MoeShape, shape, sizes)
    model = _Moe(ProgramBuilder("moe forward", rows, cols, dtype), shape, accumulator_words, 0.0)
    model.forward_pass()
    return model.finish("forward", _job(shape, corpus), seed=seed, learning_rate=0.0)


def _job(shape: MoeShape, corpus: str) -> dict[str, object]:
    return {"model": asdict(shape), "corpus": corpus, "parameters": job_parameters(moe_parameters(shape))}


class _Moe(Transformer):
    def __init__(self, b: ProgramBuilder, shape: MoeShape, limit: int, balance: float) -> None:
        super().__init__(b, shape, limit)
        self.moe, self.balance = shape, balance
        self.each = (("m", self.m), ("e", shape.experts))
        self.wide = (("m", self.m), ("f", 4 * self.dc))

    def by_expert(self, tensor: str) -> Ref:
        """Reference to [token, expert]."""
        return at(tensor, m=self.moe.experts, e=1)

    def mine(self, layer: int, expert: int) -> Ref:
        """Mask of an expert's tokens."""
        return at(f"f{layer}.hot", expert, m=self.moe.experts)

    def pick(self, target: str, source: str, features: int, layer: int, expert: int) -> Instr:
        """An expert's own tokens into what holds those of all."""
        axes = (("m", self.m), ("f", features))
        return Instr("select", axes, at(target, m=features, f=1), at(source, m=features, f=1), self.mine(layer, expert))

    def clear(self, tensor: str, features: int) -> Instr:
        return Instr("mov", (("m", self.m), ("f", features)), at(tensor, m=features, f=1), self.zero)

    def mlp(self, layer: int, a: str) -> None:
        """Route, let all experts work on all tokens, and add each token's own result to the residual stream."""
        if not self.moe.mixes(layer):
            super().mlp(layer, a)
            return
        p, w, dc = f"f{layer}", f"l{layer}.", self.dc
        self.route(layer, a)
        h = self.activations(f"{p}.h", 4 * dc, self.op)
        here = self.activations(f"{p}.h.expert", 4 * dc, self.op)
        self.b.compute(f"{p}.h.clear", self.clear(h, 4 * dc))
        for expert in range(self.moe.experts):
            self.product(f"{p}.e{expert}.h.gemm", a, here, f"{w}e{expert}.w1")
            self.b.compute(f"{p}.e{expert}.h.pick", self.pick(h, here, 4 * dc, layer, expert))
        u = self.gelu(f"{p}.u", h)
        y, mine = self.activations(f"{p}.y", dc), self.activations(f"{p}.y.expert", dc)
        self.b.compute(f"{p}.y.clear", self.clear(y, dc))
        for expert in range(self.moe.experts):
            self.product(f"{p}.e{expert}.y.gemm", u, mine, f"{w}e{expert}.w2")
            self.b.compute(f"{p}.e{expert}.y.pick", self.pick(y, mine, dc, layer, expert))
        gate = at(f"{p}.gate", m=1)
        self.b.compute(
            f"{p}.y.add", Instr("mac", self.rows_axes, at("x", m=dc, f=1), at(y, m=dc, f=1), gate)
        )  # fmt: skip

    def route(self, layer: int, a: str) -> None:
        """Logits, probabilities, mask, gate and balance of a layer's tokens, alike on every core of a row."""
        p, E, dc, m = f"f{layer}", self.moe.experts, self.dc, (("m", self.m),)
        weights = self.parameter(f"{p}.router", f"l{layer}.router", dc, E, form="rows")
        here = self.b.tensor(f"{p}.route.here", (self.m, E))
        logits = self.b.tensor(f"{p}.route.logits", (self.m, E), "r")
        self.b.compute(
            f"{p}.route.local",
            Instr("mov", self.each, self.by_expert(here), self.zero),
            Instr(
                "mac", (*self.each, ("f", dc)), self.by_expert(here), at(a, m=dc, f=1), at(weights, f=E, e=1)
            ),
        )  # fmt: skip
        self.b.phase(AllReduce(f"{p}.route.reduce", "row", "add", here, logits))
        r = self.by_expert(logits)
        probs, hot = (self.by_expert(self.b.tensor(f"{p}.{name}", (self.m, E), "r")) for name in ("probs", "hot"))
        top, total, rest, gate = (
            at(self.b.tensor(f"{p}.{name}", (self.m,), "r"), m=1) for name in ("top", "total", "rest", "gate")
        )
        minus_infinity, one = self.b.constant("k.minus_infinity", float("-inf")), self.b.constant("k.one", 1.0)
        first: list[Instr] = []
        for expert in range(E):
            place, logit = self.mine(layer, expert), at(logits, expert, m=E)
            first += [
                Instr("eq", m, place, logit, top),
                Instr("mul", m, place, place, rest),
                Instr("sub", m, rest, rest, place),
            ]
        balance = self.b.tensor(f"{p}.balance", (2, E), "r")
        share = self.b.constant("k.group", 1.0 / self.m)
        by_token = (("e", E), ("m", self.m))
        shares: list[Instr] = []
        for row, source in enumerate((hot, probs)):
            place = at(balance, row * E, e=1)
            shares += [
                Instr("mov", (("e", E),), place, self.zero),
                Instr("add", by_token, place, source, place),
                Instr("mul", (("e", E),), place, place, share),
            ]
        self.b.compute(
            f"{p}.route",
            Instr("mov", m, top, minus_infinity),
            Instr("max", self.each, top, r, top),
            Instr("mov", m, rest, one),
            *first,
            Instr("sub", self.each, probs, r, top),
            Instr("exp", self.each, probs, probs),
            Instr("mov", m, total, self.zero),
            Instr("add", self.each, total, probs, total),
            Instr("recip", m, total, total),
            Instr("mul", self.each, probs, probs, total),
            Instr("mov", m, gate, self.zero),
            Instr("mac", self.each, gate, hot, probs),
            *shares,
        )
        self.b.phase(StreamOut(f"{p}.balance.out", balance, f"{p}.balance", "last_col"))
        self.outputs.append({"stream": f"{p}.balance", "form": "balance"})

    def mlp_backward(self, layer: int) -> tuple[str, Ref]:
        """The way back through gate, experts and router."""
        if not self.moe.mixes(layer):
            return super().mlp_backward(layer)
        p, w, n, dc = f"f{layer}", f"l{layer}.", f"b{layer}", self.dc
        experts = range(self.moe.experts)
        dy = self.cast(f"{n}.mlp.dy.cast", f"{n}.mlp.dy", "dx")
        own = self.activations(f"{n}.dy.expert", dc, self.op)
        du = self.activations(f"{n}.du", 4 * dc)
        for expert in experts:
            self.b.compute(f"{n}.e{expert}.dy.pick", self.clear(own, dc), self.pick(own, dy, dc, layer, expert))
            # Rows of other experts' tokens are zero, so the sum over the experts holds each token's own gradient.
            accumulate = expert > 0
            self.product(f"{n}.e{expert}.du.gemm", own, du, f"{w}e{expert}.w2", transpose=True, accumulate=accumulate)
        # du is the gradient without the gate, so u . du is the gate's own: the results need not be kept.
        u = self.gelu(f"{n}.u", f"{p}.h")
        of_u, of_du, gate = at(u, m=4 * dc, f=1), at(du, m=4 * dc, f=1), at(f"{p}.gate", m=1)
        s = at(self.per_token(f"{n}.dgate.s"), m=1)
        instrs = Instr("mov", (("m", self.m),), s, self.zero), Instr("mac", self.wide, s, of_u, of_du)
        self.route_backward(layer, self.row_sum(f"{n}.dgate", *instrs, source=s.tensor))
        self.b.compute(
            f"{n}.gate.scale", Instr("mul", self.wide, of_u, of_u, gate), Instr("mul", self.wide, of_du, of_du, gate)
        )
        for expert in experts:
            self.b.compute(f"{n}.e{expert}.dy.again", self.clear(own, dc), self.pick(own, dy, dc, layer, expert))
            self.weight_gradient(f"{n}.e{expert}.w2.dw", u, own, f"{w}e{expert}.w2")
        dh = self.activations(f"{n}.dh", 4 * dc, self.op)
        of_h = at(f"{p}.h", m=4 * dc, f=1)
        self.b.compute(f"{n}.dh.gelu", Instr("gelu_grad", self.wide, at(dh, m=4 * dc, f=1), of_du, of_h))
        a, gain = self.norm_again(f"{p}.ln2", w + "ln2", f"{n}.ln2")
        da = self.activations(f"{n}.mlp.da", dc)
        mine = self.activations(f"{n}.dh.expert", 4 * dc, self.op)
        for expert in experts:
            self.b.compute(
                f"{n}.e{expert}.dh.pick", self.clear(mine, 4 * dc), self.pick(mine, dh, 4 * dc, layer, expert)
            )
            self.weight_gradient(f"{n}.e{expert}.w1.dw", a, mine, f"{w}e{expert}.w1")
            accumulate = expert > 0
            self.product(f"{n}.e{expert}.da.gemm", mine, da, f"{w}e{expert}.w1", transpose=True, accumulate=accumulate)
        self.router_gradient(layer, a, da)
        return da, gain

    def route_backward(self, layer: int, dgate: str) -> None:
        """Gradient of the router's logits: of the gate, through the softmax, and of the balancing loss."""
        p, n, E, m = f"f{layer}", f"b{layer}", self.moe.experts, (("m", self.m),)
        dr, t = (self.by_expert(self.b.tensor(f"{n}.{name}", (self.m, E), "r")) for name in ("dr", "dr.t"))
        push = at(self.b.tensor(f"{n}.push", (E,), "r"), e=1)
        total = at(self.b.tensor(f"{n}.dr.total", (self.m,), "r"), m=1)
        probs, hot = self.by_expert(f"{p}.probs"), self.by_expert(f"{p}.hot")
        weight = self.b.constant("k.balance", self.balance * E / (self.m * self.rows))
        self.b.compute(
            f"{n}.route",
            Instr("mul", (("e", E),), push, at(f"{p}.balance", e=1), weight),
            Instr("mul", self.each, dr, hot, at(dgate, m=1)),
            Instr("add", self.each, dr, dr, push),
            Instr("mul", self.each, t, dr, probs),
            Instr("mov", m, total, self.zero),
            Instr("add", self.each, total, t, total),
            Instr("sub", self.each, dr, dr, total),
            Instr("mul", self.each, dr, dr, probs),
        )

    def router_gradient(self, layer: int, a: str, da: str) -> None:
        """The router's own gradient goes out; what it says about its operand is added to `da`."""
        n, E, dc = f"b{layer}", self.moe.experts, self.dc
        dr = f"{n}.dr"
        weights = self.parameter(f"{n}.router", f"l{layer}.router", dc, E, form="rows")
        dw = self.b.tensor(f"{n}.drouter", (dc, E))
        fe = (("f", dc), ("e", E))
        place = at(dw, f=E, e=1)
        self.b.compute(
            f"{n}.drouter.local",
            Instr("mov", fe, place, self.zero),
            Instr("mac", (*fe, ("m", self.m)), place, at(a, m=dc, f=1), self.by_expert(dr)),
            Instr(
                "mac", (*self.rows_axes, ("e", E)), at(da, m=dc, f=1), self.by_expert(dr), at(weights, f=E, e=1)
            ),
        )  # fmt: skip
        self.parameter_gradient(dw, f"l{layer}.router", "rows")
