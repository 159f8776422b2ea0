"""A small convolutional network that tells images apart: training and forward pass.

Every layer is a 3 x 3 convolution with zero padding, a bias, 2 x 2 max pooling and ReLU; channels double from layer to
layer; the mean over the places that are left goes to a linear head. Samples lie over the rows of the rectangle and
channels over its columns, so that a core has all places of its own channels and no word crosses between neighbours::

            channels of column 0 | 1 | ...        a[sample, y, x, channel] on each core, with a border of zeros
    row 0   samples 0 .. S-1
    row 1   samples S .. 2S-1

A convolution lays the 3 x 3 neighbourhoods of its own channels out as rows, patches[(sample, y, x), (tap, channel)],
and is then a product with streamed weights: k runs over the taps and channels of column 0, then of column 1, ... Its
way back adds the products' results up over the taps. The image has one channel, which is no multiple of the columns:
every core of a row gets the whole image, and the first convolution is worked out in each core with the weights of its
own channels. Where several places of a pooling window are equal, the first takes the gradient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.classifier import Classifier, check_even, layer_parameters, shape_of
from yieldkit.workloads.images import ImageSet
from yieldkit.workloads.layers import ACCUMULATOR_WORDS
from yieldkit.workloads.parameters import Parameter
from yieldkit.workloads.program import Instr, Program, Ref

__all__ = ["CnnShape", "cnn_forward", "cnn_parameters", "cnn_training"]

TAPS = 9


@dataclass(frozen=True)
class CnnShape:
    """Sizes of a CNN, its images and its batch.

    Attributes:
        layers: convolutions; each halves the side.
        channels: of the first layer, a multiple of the columns used; each further layer has twice as many.
        side, classes, noise: of the images (`ImageSet`); `side` is a multiple of 2^layers, `classes` of the columns.
        samples: images a step; a multiple of the rows used.
    """

    layers: int = 3
    channels: int = 8
    side: int = 16
    classes: int = 8
    noise: int = 20
    samples: int = 32

    def check(self, rows: int, cols: int) -> None:
        """Refuse sizes that do not lie evenly over the rectangle.

        Raises:
            BadInput: names the size and the cure.
        """
        check_even(rows, cols, self.samples, channels=self.channels, classes=self.classes)
        if self.layers < 1 or self.side % 2**self.layers:
            raise BadInput("side must be a multiple of 2^layers, layers at least 1", value=(self.side, self.layers))


def cnn_parameters(shape: CnnShape) -> tuple[Parameter, ...]:
    """Parameters in the order in which MemoryX keeps them; weights are [taps * channels in, channels out]."""
    listed: list[Parameter] = []
    before = 1
    for layer in range(shape.layers):
        listed += layer_parameters(f"conv{layer}", TAPS * before, shape.channels << layer)
        before = shape.channels << layer
    return (*listed, *layer_parameters("head", before, shape.classes))


def cnn_training(
    shape: CnnShape | None = None,
    *,
    rows: int = 8,
    cols: int = 8,
    dtype: str = "bf16",
    seed: int = 0,
    learning_rate: float = 1e-2,
    accumulator_words: int = ACCUMULATOR_WORDS,
    **sizes: int,
) -> Program:
    """Training step of a CNN on generated images (`images`).

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
    shape = shape_of(CnnShape, shape, sizes)
    model = _Cnn(ProgramBuilder("cnn training", rows, cols, dtype), shape, accumulator_words)
    model.forward()
    model.head(model.average(), training=True)
    model.backward()
    return model.classifier(
        "training", cnn_parameters(shape), asdict(shape), seed=seed, learning_rate=learning_rate
    )  # fmt: skip


def cnn_forward(
    shape: CnnShape | None = None,
    *,
    rows: int = 8,
    cols: int = 8,
    dtype: str = "bf16",
    seed: int = 0,
    accumulator_words: int = ACCUMULATOR_WORDS,
    **sizes: int,
) -> Program:
    """Forward pass of the same CNN with the same numerics: logits and the loss of every image."""
    shape = shape_of(CnnShape, shape, sizes)
    model = _Cnn(ProgramBuilder("cnn forward", rows, cols, dtype), shape, accumulator_words)
    model.forward()
    model.head(model.average(), training=False)
    return model.classifier("forward", cnn_parameters(shape), asdict(shape), seed=seed, learning_rate=0.0)


@dataclass(frozen=True)
class _Grid:
    """Blocks [samples, side, side, channels] of one layer, with `border` places of zeros around."""

    samples: int
    side: int
    channels: int
    border: int = 0

    @property
    def dims(self) -> tuple[int, int, int, int]:
        wide = self.side + 2 * self.border
        return self.samples, wide, wide, self.channels

    def at(self, tensor: str, row: int = 0, col: int = 0, step: int = 1) -> Ref:
        """Reference by s, y, x, f that starts at a place of the side and goes on by `step` places."""
        _, wide, _, f = self.dims
        start = ((row + self.border) * wide + col + self.border) * f
        return at(tensor, start, s=wide * wide * f, y=step * wide * f, x=step * f, f=1)


class _Cnn(Classifier):
    """Writes the launches; layer `n` reads `a{n}` and writes `a{n + 1}`."""

    def __init__(self, b: ProgramBuilder, shape: CnnShape, limit: int) -> None:
        shape.check(b.rows, b.cols)
        super().__init__(b, shape.samples, ImageSet(shape.side, shape.classes, shape.noise), limit)
        self.shape = shape

    def channels(self, layer: int) -> int:
        """Channels of a column that go into a layer."""
        return 1 if layer == 0 else (self.shape.channels << (layer - 1)) // self.cols

    def grid(self, layer: int, *, border: int = 0) -> _Grid:
        """What goes into a layer."""
        return _Grid(self.m, self.shape.side >> layer, self.channels(layer), border)

    def axes(self, layer: int, side: int, channels: int) -> tuple[tuple[str, int], ...]:
        return ("s", self.m), ("y", side), ("x", side), ("f", channels)

    def forward(self) -> None:
        side = self.shape.side
        image = self.images_in("image", (self.m, side, side), "r")
        padded = self.bordered(0)
        whole = _Grid(self.m, side, 1)
        self.b.compute(
            "image.place", Instr("mov", self.axes(0, side, 1), self.grid(0, border=1).at(padded), whole.at(image))
        )
        for layer in range(self.shape.layers):
            self.convolution(layer)
            self.pool(layer)
            self.b.launch(f"conv{layer}")

    def bordered(self, layer: int) -> str:
        """The input of a layer with its border, all zeros."""
        dims = self.grid(layer, border=1).dims
        name = self.b.tensor(f"a{layer}", dims, "rc", dtype=self.op)
        words = dims[0] * dims[1] * dims[2] * dims[3]
        self.b.compute(f"a{layer}.clear", Instr("mov", (("w", words),), at(name, w=1), self.zero))
        return name

    def taps(self, layer: int, border: str) -> list[Ref]:
        """For each tap, the places that it meets, in a tensor with a border."""
        grid = self.grid(layer, border=1)
        return [grid.at(border, row - 1, col - 1) for row in range(3) for col in range(3)]

    def patches(self, layer: int, name: str) -> str:
        """Lay the neighbourhoods of every place out as rows."""
        grid, f = self.grid(layer), self.channels(layer)
        places = self.m * grid.side**2
        self.b.tensor(name, (places, TAPS * f), dtype=self.op)
        self.b.compute(
            f"{name}.copy",
            *(
                Instr("mov", self.axes(layer, grid.side, f), self.patch(layer, name, tap), place)
                for tap, place in enumerate(self.taps(layer, f"a{layer}"))
            ),
        )
        return name

    def patch(self, layer: int, name: str, tap: int) -> Ref:
        """One tap of the rows of neighbourhoods."""
        side, f = self.shape.side >> layer, self.channels(layer)
        row = TAPS * f
        return at(name, tap * f, s=side * side * row, y=side * row, x=row, f=1)

    def convolution(self, layer: int) -> None:
        name, grid, f = f"conv{layer}", self.grid(layer), self.channels(layer + 1)
        places = self.m * grid.side**2
        z = self.b.tensor(f"{name}.z", (places, f))
        if layer:
            patches = self.patches(layer, f"{name}.patches")
            self.product(f"{name}.gemm", patches, z, f"{name}.w", taps=TAPS)
        else:
            weights = self.parameter(f"{name}.weights", f"{name}.w", TAPS, f, form="columns", dtype=self.op)
            out = _Grid(self.m, grid.side, f).at(z)
            axes = self.axes(layer, grid.side, f)
            one = [_without_channel(ref) for ref in self.taps(0, "a0")]
            self.b.compute(
                f"{name}.local",
                Instr("mov", (("m", places), ("f", f)), at(z, m=f, f=1), self.zero),
                *(Instr("mac", axes, out, place, at(weights, tap * f, f=1)) for tap, place in enumerate(one)),
            )
        self.bias(name, z, f"{name}.b", places, f)

    def windows(self, layer: int, tensor: str) -> list[Ref]:
        """The four places of every pooling window, in a tensor of a layer's output before pooling."""
        grid = _Grid(self.m, self.shape.side >> layer, self.channels(layer + 1))
        return [grid.at(tensor, row, col, 2) for row in range(2) for col in range(2)]

    def pooled(self, layer: int) -> tuple[_Grid, tuple[tuple[str, int], ...], _Grid]:
        """A layer's output after pooling: without a border, its axes, and as the next layer reads it."""
        plain = self.grid(layer + 1)
        last = layer == self.shape.layers - 1
        return plain, self.axes(layer, plain.side, plain.channels), plain if last else self.grid(layer + 1, border=1)

    def pool(self, layer: int) -> None:
        """Largest of each window, then ReLU, into the next layer's input."""
        plain, axes, target = self.pooled(layer)
        top = plain.at(self.b.tensor(f"conv{layer}.top", plain.dims))
        first, *others = self.windows(layer, f"conv{layer}.z")
        last = layer == self.shape.layers - 1
        act = self.b.tensor(f"a{layer + 1}", target.dims, dtype=self.op) if last else self.bordered(layer + 1)
        self.b.compute(
            f"conv{layer}.pool",
            Instr("mov", axes, top, first),
            *(Instr("max", axes, top, place, top) for place in others),
            Instr("max", axes, target.at(act), top, self.zero),
        )

    def average(self) -> str:
        """Mean over the places that are left, in the operand format."""
        grid = self.grid(self.shape.layers)
        f = grid.channels
        total, mean = self.activations("mean.sum", f), self.activations("mean", f, self.op)
        axes = (("s", self.m), ("f", f))
        place, out = at(total, s=f, f=1), at(mean, s=f, f=1)
        self.b.compute(
            "mean.local",
            Instr("mov", axes, place, self.zero),
            Instr("add", (*axes, ("y", grid.side), ("x", grid.side)), place, grid.at(f"a{self.shape.layers}"), place),
            Instr("mul", axes, out, place, self.b.constant("k.places", 1.0 / grid.side**2)),
        )
        return mean

    def backward(self) -> None:
        last = self.shape.layers - 1
        grid = self.grid(last + 1)
        spread = self.b.tensor("mean.dx", grid.dims)
        self.b.compute(
            "mean.back",
            Instr(
                "mul",
                self.axes(last, grid.side, grid.channels),
                grid.at(spread),
                at("head.dx", s=grid.channels, f=1),
                self.b.constant("k.places", 1.0 / grid.side**2),
            ),
        )
        da = grid.at(spread)
        for layer in reversed(range(self.shape.layers)):
            da = self.layer_backward(layer, da)
            self.b.launch(f"conv{layer}.back")

    def pool_backward(self, layer: int, da: Ref) -> str:
        """Gradient before pooling, in the operand format: where ReLU let it through, to the first largest place."""
        plain, axes, source = self.pooled(layer)
        name, f = f"conv{layer}", plain.channels
        places = self.m * (2 * plain.side) ** 2
        dz = self.b.tensor(f"{name}.dz", (places, f), dtype=self.op)
        rest, hit = (plain.at(self.b.tensor(f"{name}.{part}", plain.dims)) for part in ("rest", "hit"))
        top = plain.at(f"{name}.top")
        instrs = [
            Instr("mov", axes, rest, self.zero),
            Instr("select", axes, rest, da, source.at(f"a{layer + 1}")),
        ]
        for place, target in zip(self.windows(layer, f"{name}.z"), self.windows(layer, dz), strict=True):
            instrs += [
                Instr("eq", axes, hit, place, top),
                Instr("mul", axes, hit, hit, rest),
                Instr("mov", axes, target, hit),
                Instr("sub", axes, rest, rest, hit),
            ]
        self.b.compute(f"{name}.pool.back", *instrs)
        return dz

    def layer_backward(self, layer: int, da: Ref) -> Ref:
        """Gradients of a layer's parameters from that of its output; returns that of its input."""
        name, grid, f = f"conv{layer}", self.grid(layer), self.channels(layer + 1)
        places = self.m * grid.side**2
        dz = self.pool_backward(layer, da)
        self.bias_gradient(name, dz, f"{name}.b", places, f)
        if layer == 0:
            dw = self.b.tensor(f"{name}.dw", (TAPS, f))
            out = _Grid(self.m, grid.side, f).at(dz)
            axes = (("f", f), ("s", self.m), ("y", grid.side), ("x", grid.side))
            one = [_without_channel(ref) for ref in self.taps(0, "a0")]
            self.b.compute(
                f"{name}.dw.local",
                Instr("mov", (("w", TAPS * f),), at(dw, w=1), self.zero),
                *(Instr("mac", axes, at(dw, tap * f, f=1), place, out) for tap, place in enumerate(one)),
            )
            self.parameter_gradient(dw, f"{name}.w", "columns")
            return da
        self.weight_gradient(f"{name}.dw", self.patches(layer, f"{name}.again"), dz, f"{name}.w", taps=TAPS)
        dp = self.b.tensor(f"{name}.dpatches", (places, TAPS * grid.channels))
        self.product(f"{name}.dx.gemm", dz, dp, f"{name}.w", transpose=True, taps=TAPS)
        border = self.grid(layer, border=1)
        dx = self.b.tensor(f"{name}.dx", border.dims)
        words = border.dims[0] * border.dims[1] * border.dims[2] * border.dims[3]
        self.b.compute(
            f"{name}.dx.gather",
            Instr("mov", (("w", words),), at(dx, w=1), self.zero),
            *(
                Instr("add", self.axes(layer, grid.side, grid.channels), place, self.patch(layer, dp, tap), place)
                for tap, place in enumerate(self.taps(layer, dx))
            ),
        )
        return border.at(dx)


def _without_channel(ref: Ref) -> Ref:
    """The image has one channel: every channel of the result reads the same pixel."""
    return Ref(ref.tensor, ref.axes[:3], ref.strides[:3], ref.offset)
