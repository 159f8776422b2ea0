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

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.layers import ACCUMULATOR_WORDS
from yieldkit.workloads.parameters import INITIAL_STD, Parameter
from yieldkit.workloads.program import Program
from yieldkit.workloads.transformer import Transformer

__all__ = ["GptShape", "first_values", "gpt_forward", "gpt_parameters", "gpt_training", "parameters"]


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
    return first_values(parameters(shape), shape.layers)


def first_values(table: Mapping[str, tuple[int, ...]], layers: int) -> tuple[Parameter, ...]:
    """Parameters from names and shapes: gains are ones; second matrices of a block get std over sqrt(2 layers)."""
    listed = []
    for name, dims in table.items():
        std = INITIAL_STD / (2 * layers) ** 0.5 if name.endswith((".wo", ".w2")) else INITIAL_STD
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
    model = Transformer(b, shape, accumulator_words)
    model.training_step()
    job = {"model": asdict(shape), "corpus": corpus}
    return model.finish("training", job, seed=seed, learning_rate=learning_rate)


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
    model = Transformer(b, shape, accumulator_words)
    model.forward_pass()
    job = {"model": asdict(shape), "corpus": corpus}
    return model.finish("forward", job, seed=seed, learning_rate=0.0)


def _shape(shape: GptShape | None, sizes: dict[str, int]) -> GptShape:
    known = set(asdict(GptShape()))
    unknown = sorted(set(sizes) - known)
    if unknown:
        raise BadInput("unknown size of a GPT", value=unknown, cure=f"use {', '.join(sorted(known))}")
    if shape is not None and sizes:
        raise BadInput("give the sizes by name or as a GptShape, not both")
    return shape or GptShape(**sizes)
