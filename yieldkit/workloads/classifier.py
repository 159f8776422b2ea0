"""What the two classifiers of images share: the batch, layers with a bias, the head, and the host's side of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.images import ImageSet
from yieldkit.workloads.layers import Layers
from yieldkit.workloads.parameters import Parameter, job_parameters
from yieldkit.workloads.program import Instr, Program, StreamIn, StreamOut

__all__ = ["Classifier", "check_even", "layer_parameters", "shape_of"]


def check_even(rows: int, cols: int, samples: int, **over_columns: int) -> None:
    """Refuse sizes that do not lie evenly over the rectangle.

    Raises:
        BadInput: names the size and the cure.
    """
    for name, value, by in (("samples", samples, rows), *((n, v, cols) for n, v in over_columns.items())):
        if value < 1 or value % by:
            raise BadInput(f"{name} must be a positive multiple of {by}", value=value, cure="or use fewer cores")


def shape_of(kind: type[Any], shape: Any, sizes: Mapping[str, int]) -> Any:
    """The shape given, or one made from sizes by name.

    Raises:
        BadInput: an unknown size, or both are given.
    """
    known = sorted(kind.__dataclass_fields__)
    unknown = sorted(set(sizes) - set(known))
    if unknown:
        raise BadInput(f"unknown size of a {kind.__name__}", value=unknown, cure=f"use {', '.join(known)}")
    if shape is not None and sizes:
        raise BadInput(f"give the sizes by name or as a {kind.__name__}, not both")
    return shape if shape is not None else kind(**sizes)


def layer_parameters(name: str, fan_in: int, features: int) -> tuple[Parameter, Parameter]:
    """Weights [fan_in, features] of standard deviation sqrt(2 / fan_in) (He et al., ICCV 2015), and a bias of zeros."""
    return (
        Parameter(f"{name}.w", (fan_in, features), "normal", math.sqrt(2.0 / fan_in)),
        Parameter(f"{name}.b", (features,), "zeros", 0.0),
    )


class Classifier(Layers):
    """Writes a classifier of images; samples lie over the rows, features (or channels) over the columns.

    Args:
        b: the program being written.
        samples: of a batch, a multiple of the rows.
        images: the set that batches are drawn from.
        limit: words that a core's accumulator may take.
    """

    def __init__(self, b: ProgramBuilder, samples: int, images: ImageSet, limit: int) -> None:
        super().__init__(b, samples // b.rows, limit)
        self.samples, self.images = samples, images

    def images_in(self, name: str, dims: tuple[int, ...], over: str) -> str:
        """The step's images: by blocks of features ("rc"), or whole to every core of a row ("r")."""
        self.b.tensor(name, dims, over, dtype=self.op)
        mode = "scatter_row" if over == "rc" else "multicast_row"
        self.b.phase(StreamIn(f"{name}.in", name, f"{name}.in", mode))
        self.inputs.append({"stream": f"{name}.in", "form": "batch"})
        return name

    def bias(self, name: str, z: str, param: str, m: int, features: int) -> None:
        """Add a bias to `z` (m, features)."""
        bias = self.parameter(f"{name}.bias", param, features)
        axes = (("m", m), ("f", features))
        place = at(z, m=features, f=1)
        self.b.compute(f"{name}.bias.add", Instr("add", axes, place, place, at(bias, f=1)))

    def bias_gradient(self, name: str, dz: str, param: str, m: int, features: int) -> None:
        """Sum of `dz` (m, features) over all samples, streamed out."""
        db = self.b.tensor(f"{name}.dbias", (features,))
        total = at(db, f=1)
        self.b.compute(
            f"{name}.dbias.local",
            Instr("mov", (("f", features),), total, self.zero),
            Instr("add", (("f", features), ("m", m)), total, at(dz, m=features, f=1), total),
        )
        self.parameter_gradient(db, param)

    def dense(self, name: str, x: str, features: int) -> str:
        """Z = x W + b in fp32; `features` a column."""
        z = self.activations(f"{name}.z", features)
        self.product(f"{name}.gemm", x, z, f"{name}.w")
        self.bias(name, z, f"{name}.b", self.m, features)
        return z

    def dense_backward(self, name: str, x: str, dz: str, dx: str | None) -> None:
        """Gradients of a dense layer from `dz` in the operand format; into `dx` where that is wanted."""
        features = self.b.tensors[dz].dims[1]
        self.weight_gradient(f"{name}.dw", x, dz, f"{name}.w")
        self.bias_gradient(name, dz, f"{name}.b", self.m, features)
        if dx is not None:
            self.activations(dx, self.b.tensors[x].dims[1])
            self.product(f"{name}.dx.gemm", dz, dx, f"{name}.w", transpose=True)

    def head(self, x: str, *, training: bool) -> str:
        """Logits of operand `x`, loss of each sample; in training the gradient of `x`, fp32."""
        classes = self.images.classes // self.cols
        z = self.dense("head", x, classes)
        if not training:
            self.b.phase(StreamOut("head.logits.out", z, "head.logits", "gather_row"))
            self.outputs.append({"stream": "head.logits", "form": "logits"})
        dz = self.softmax_loss(z, classes, training=training)
        if training:
            self.dense_backward("head", x, dz, "head.dx")
        self.b.launch("head")
        return "head.dx"

    def classifier(
        self, kind: str, parameters: tuple[Parameter, ...], model: Mapping[str, Any], *, seed: int, learning_rate: float
    ) -> Program:
        """The finished program."""
        source = {
            "source": "images", "samples": self.samples, "side": self.images.side, "classes": self.images.classes,
            "noise": self.images.noise, "seed": self.images.seed,
        }  # fmt: skip
        job = {"parameters": job_parameters(parameters), "batch": source, "model": dict(model)}
        return self.finish(kind, job, seed=seed, learning_rate=learning_rate)
