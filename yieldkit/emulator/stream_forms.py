"""How MemoryX lays parameters and batches out for the streams of a program, and reads gradients back.

Forms of a parameter (`program.job["inputs"]` and `["outputs"]`), for C columns of cores::

    matrix    W[k, n] as `Gemm` and `WGrad` have it; with "taps": t, rows are kept as [tap, channel] and streamed as
              [column, tap, channel of the column], so that a core finds all taps of its own channels together
    vector    v[n]        a block v[n / C] a column
    columns   W[k, n]     a block W[k, n / C] a column
    rows      W[k, n]     a block W[k / C, n] a column

A form of the batch, "batch": x[samples, features], a block [samples / rows, features / C] a core, or, where the tensor
is the same on all cores of a row, [samples / rows, features] a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.host_words import input_shape
from yieldkit.emulator.isa import FORMATS
from yieldkit.emulator.kernels.host import rounded
from yieldkit.errors import BadInput
from yieldkit.workloads.program import Program, StreamIn

__all__ = ["batch_stream", "gradient_of", "matrix_stream", "parameter_stream", "rounded_to"]

F32 = npt.NDArray[np.float32]


def rounded_to(array: npt.NDArray[Any], dtype: str) -> F32:
    """Values in a format, of the shape they had; NaNs canonical."""
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    result: F32 = rounded(flat, FORMATS[dtype]).reshape(array.shape)
    return result


def matrix_stream(matrix: F32, binding: Mapping[str, Any], cols: int) -> F32:
    """A rounded matrix as a product takes it."""
    taps = int(binding.get("taps", 1))
    if taps > 1:
        rows, width = matrix.shape
        blocks = matrix.reshape(taps, cols, rows // taps // cols, width)
        matrix = np.ascontiguousarray(blocks.transpose(1, 0, 2, 3)).reshape(rows, width)
    return matrix.T if binding.get("transpose") else matrix


def parameter_stream(value: F32, binding: Mapping[str, Any], cols: int) -> F32:
    """A parameter that is streamed in as blocks, in fp32."""
    form = binding["form"]
    if form == "vector":
        return value.reshape(1, cols, -1)
    if form == "columns":
        rows, width = value.shape
        return np.ascontiguousarray(value.reshape(rows, cols, width // cols).transpose(1, 0, 2))[None]
    if form == "rows":
        rows, width = value.shape
        return value.reshape(1, cols, rows // cols, width)
    raise BadInput("unknown form of a stream", value=form)


def gradient_of(value: F32, binding: Mapping[str, Any], cols: int) -> F32 | None:
    """Gradient of a parameter from a stream that came out; None where the stream is no parameter's own."""
    form = binding["form"]
    if form == "matrix":
        taps = int(binding.get("taps", 1))
        if taps > 1:
            rows, width = value.shape
            blocks = value.reshape(cols, taps, rows // taps // cols, width)
            return np.ascontiguousarray(blocks.transpose(1, 0, 2, 3)).reshape(rows, width)
        return value
    if form == "vector":
        return value.reshape(-1)
    if form == "columns":
        return np.ascontiguousarray(value[0].transpose(1, 0, 2)).reshape(value.shape[2], -1)
    if form == "rows":
        return value.reshape(-1, value.shape[3])
    return None


def batch_stream(program: Program, phase: StreamIn, inputs: npt.NDArray[Any]) -> F32:
    """Inputs [samples, features] as the blocks of a phase's tensor, in the tensor's format.

    Raises:
        BadInput: another number of samples or features than the tensor holds.
    """
    shape = input_shape(program, phase)
    tensor = program.table[phase.tensor]
    if inputs.size != int(np.prod(shape)):
        raise BadInput(f"the batch must fill stream {phase.stream!r} of shape {shape}", value=inputs.shape)
    x = rounded_to(inputs, tensor.dtype)
    rows, cols = shape[:2]
    if cols == 1:
        return x.reshape(shape)
    samples = inputs.shape[0]
    blocks = x.reshape(rows, samples // rows, cols, -1).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(blocks).reshape(shape)
