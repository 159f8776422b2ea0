"""A multilayer perceptron that tells small images apart: training and forward pass.

Pixels lie over the columns of the rectangle, samples over its rows; every layer is a product with streamed weights, a
bias and ReLU, the last one gives logits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.classifier import Classifier, check_even, layer_parameters, shape_of
from yieldkit.workloads.images import ImageSet
from yieldkit.workloads.layers import ACCUMULATOR_WORDS
from yieldkit.workloads.parameters import Parameter
from yieldkit.workloads.program import Instr, Program

__all__ = ["MlpShape", "mlp_forward", "mlp_parameters", "mlp_training"]


@dataclass(frozen=True)
class MlpShape:
    """Sizes of an MLP, its images and its batch.

    Attributes:
        layers, width: hidden layers and their features; `width` is a multiple of the columns used.
        side, classes, noise: of the images (`ImageSet`); `side * side` and `classes` are multiples of the columns.
        samples: images a step; a multiple of the rows used.
    """

    layers: int = 2
    width: int = 64
    side: int = 16
    classes: int = 8
    noise: int = 20
    samples: int = 32

    def check(self, rows: int, cols: int) -> None:
        """Refuse sizes that do not lie evenly over the rectangle.

        Raises:
            BadInput: names the size and the cure.
        """
        check_even(rows, cols, self.samples, width=self.width, classes=self.classes, pixels=self.side * self.side)
        if self.layers < 1:
            raise BadInput("layers must be at least 1", value=self.layers)


def mlp_parameters(shape: MlpShape) -> tuple[Parameter, ...]:
    """Parameters in the order in which MemoryX keeps them."""
    listed: list[Parameter] = []
    features = shape.side * shape.side
    for layer in range(shape.layers):
        listed += layer_parameters(f"dense{layer}", features, shape.width)
        features = shape.width
    return (*listed, *layer_parameters("head", features, shape.classes))


def mlp_training(
    shape: MlpShape | None = None,
    *,
    rows: int = 8,
    cols: int = 8,
    dtype: str = "bf16",
    seed: int = 0,
    learning_rate: float = 3e-3,
    accumulator_words: int = ACCUMULATOR_WORDS,
    **sizes: int,
) -> Program:
    """Training step of an MLP on generated images (`images`).

    Args:
        shape: sizes.
        rows: rows of the rectangle of logical cores.
        cols: its columns.
        dtype: operand format; "fp32" for gradient checks.
        seed: of the initial weights and of the batches.
        learning_rate: of Adam.
        accumulator_words: largest accumulator a core may use; changes no value.
        **sizes: sizes by name, in place of `shape`.

    Raises:
        BadInput: the sizes do not lie evenly over the rectangle.
    """
    shape = shape_of(MlpShape, shape, sizes)
    model = _Mlp(ProgramBuilder("mlp training", rows, cols, dtype), shape, accumulator_words)
    model.write(training=True)
    return model.classifier(
        "training", mlp_parameters(shape), asdict(shape), seed=seed, learning_rate=learning_rate
    )  # fmt: skip


def mlp_forward(
    shape: MlpShape | None = None,
    *,
    rows: int = 8,
    cols: int = 8,
    dtype: str = "bf16",
    seed: int = 0,
    accumulator_words: int = ACCUMULATOR_WORDS,
    **sizes: int,
) -> Program:
    """Forward pass of the same MLP with the same numerics: logits and the loss of every image."""
    shape = shape_of(MlpShape, shape, sizes)
    model = _Mlp(ProgramBuilder("mlp forward", rows, cols, dtype), shape, accumulator_words)
    model.write(training=False)
    return model.classifier("forward", mlp_parameters(shape), asdict(shape), seed=seed, learning_rate=0.0)


class _Mlp(Classifier):
    def __init__(self, b: ProgramBuilder, shape: MlpShape, limit: int) -> None:
        shape.check(b.rows, b.cols)
        super().__init__(b, shape.samples, ImageSet(shape.side, shape.classes, shape.noise), limit)
        self.shape, self.features = shape, shape.width // b.cols
        self.axes = (("m", self.m), ("f", self.features))

    def write(self, *, training: bool) -> None:
        pixels = self.shape.side**2 // self.cols
        x = [self.images_in("x", (self.m, pixels), "rc")]
        for layer in range(self.shape.layers):
            z = self.dense(f"dense{layer}", x[-1], self.features)
            act = self.activations(f"dense{layer}.act", self.features, self.op)
            place = at(act, m=self.features, f=1)
            self.b.compute(
                f"dense{layer}.relu", Instr("max", self.axes, place, at(z, m=self.features, f=1), self.zero)
            )  # fmt: skip
            self.b.launch(f"dense{layer}")
            x.append(act)
        dx = self.head(x[-1], training=training)
        if not training:
            return
        for layer in reversed(range(self.shape.layers)):
            name = f"dense{layer}"
            dz = self.activations(f"{name}.dz", self.features, self.op)
            place = at(dz, m=self.features, f=1)
            # Where ReLU gave 0 the gradient stops.
            self.b.compute(
                f"{name}.relu.back",
                Instr("mov", self.axes, place, self.zero),
                Instr("select", self.axes, place, at(dx, m=self.features, f=1), at(x[layer + 1], m=self.features, f=1)),
            )
            self.dense_backward(name, x[layer], dz, f"{name}.dx" if layer else None)
            dx = f"{name}.dx"
            self.b.launch(f"{name}.back")
