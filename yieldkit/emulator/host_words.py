"""Edge streams as words: how MemoryX cuts an array into the lists it pushes, and puts the lists it gets back together.

Arrays on the host side::

    Gemm        stream in   W[k, n], k and n over the whole rectangle
    WGrad       stream out  dW[k, n], fp32
    StreamIn    stream in   [rows|1, cols|1, *dims]
    StreamOut   stream out  [rows|1, cols|1, *dims]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.formats import decode_words, encode_words
from yieldkit.emulator.kernels.machine import ADVANCE, DATA, RESET
from yieldkit.errors import BadInput
from yieldkit.quantities import EAST, NORTH, SOUTH, WEST
from yieldkit.workloads.program import Gemm, Launch, Phase, Program, StreamIn, StreamOut, WGrad

__all__ = ["EdgeList", "expected_lists", "input_shape", "inputs_of", "join_outputs", "outputs_of", "words_in"]

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class EdgeList:
    """Words for one edge port and colour: the core (r, c) at the edge, its port, the colour, words and their kinds."""

    r: int
    c: int
    port: int
    colour: int
    words: U32
    kinds: npt.NDArray[np.uint8]


def inputs_of(launch: Launch) -> Iterator[Gemm | StreamIn]:
    """Phases of a launch that MemoryX feeds."""
    for phase in launch.phases:
        if isinstance(phase, Gemm | StreamIn):
            yield phase


def outputs_of(launch: Launch) -> Iterator[WGrad | StreamOut]:
    """Phases of a launch whose result goes to MemoryX."""
    for phase in launch.phases:
        if isinstance(phase, WGrad | StreamOut):
            yield phase


def input_shape(program: Program, phase: Gemm | StreamIn) -> tuple[int, ...]:
    """Shape of the array that feeds a phase."""
    table = program.table
    if isinstance(phase, Gemm):
        return program.cols * table[phase.x].dims[1], program.cols * table[phase.y].dims[1]
    tensor = table[phase.tensor]
    rows = program.rows if "r" in tensor.over else 1
    cols = program.cols if "c" in tensor.over else 1
    return (rows, cols, *tensor.dims)


def check_input(program: Program, phase: Gemm | StreamIn, array: F32) -> None:
    """Refuse an array of the wrong shape.

    Raises:
        BadInput: names the stream and both shapes.
    """
    shape = input_shape(program, phase)
    if array.shape != shape:
        raise BadInput(f"stream {phase.stream!r} needs an array of shape {shape}", value=array.shape)


def words_in(program: Program, phase: Gemm | StreamIn, array: F32) -> Iterator[EdgeList]:
    """Lists of words that feed `phase` from `array` (values representable in the format of the stream)."""
    check_input(program, phase, array)
    rows, cols = program.rows, program.cols
    table = program.table
    if isinstance(phase, Gemm):
        kc, nc, part = table[phase.x].dims[1], table[phase.y].dims[1], phase.part
        # W[k, n] with n = column, tile, feature -> per column of k: tile, k, column, feature
        blocks = array.reshape(cols, kc, cols, nc // part, part).transpose(0, 3, 1, 2, 4)
        for c in range(cols):
            words = encode_words(blocks[c], program.dtype)
            yield _data(0, c, NORTH, COLOUR_OF["column_multicast"], words)
        return
    tensor = table[phase.tensor]
    if phase.mode == "multicast_col":
        for c in range(cols):
            words = encode_words(array[0, c if array.shape[1] > 1 else 0], tensor.dtype)
            yield _data(0, c, NORTH, COLOUR_OF["column_multicast"], words)
        return
    for r in range(rows):
        block = array[r if array.shape[0] > 1 else 0]
        if phase.mode == "multicast_row":
            yield _data(r, 0, WEST, COLOUR_OF["stream_multicast_row"], encode_words(block[0], tensor.dtype))
            continue
        size = tensor.size
        words = np.zeros(cols * (size + 1), np.uint32)
        kinds = np.zeros(cols * (size + 1), np.uint8)
        for c in range(cols):
            start = c * (size + 1)
            words[start : start + size] = encode_words(block[c if len(block) > 1 else 0], tensor.dtype)
            kinds[start + size] = ADVANCE if c < cols - 1 else RESET
        yield EdgeList(r, 0, WEST, COLOUR_OF["stream_scatter"], words, kinds)


def _data(r: int, c: int, port: int, colour: int, words: U32) -> EdgeList:
    return EdgeList(r, c, port, colour, words, np.full(len(words), DATA, np.uint8))


def expected_lists(program: Program, phase: WGrad | StreamOut) -> list[tuple[int, int, int, int, int]]:
    """Lists a phase must fill: (r, c, port, colour, words), in the order `join_outputs` takes them."""
    rows, cols = program.rows, program.cols
    table = program.table
    south = COLOUR_OF["edge_out_south"]
    if isinstance(phase, WGrad):
        words = table[phase.x].dims[1] * table[phase.dy].dims[1] * cols
        return [(rows - 1, c, SOUTH, south, words) for c in range(cols)]
    size = table[phase.tensor].size
    if phase.mode in ("reduce_col", "last_row"):
        return [(rows - 1, c, SOUTH, south, size) for c in range(cols)]
    if phase.mode == "gather_row":
        return [(r, cols - 1, EAST, COLOUR_OF["gather_out"], size * cols) for r in range(rows)]
    return [(r, cols - 1, EAST, COLOUR_OF["edge_out_east"], size) for r in range(rows)]


def join_outputs(program: Program, phase: WGrad | StreamOut, lists: Sequence[U32]) -> F32:
    """Array that a phase's complete lists hold."""
    rows, cols = program.rows, program.cols
    table = program.table
    if isinstance(phase, WGrad):
        kc, nc, part = table[phase.x].dims[1], table[phase.dy].dims[1], phase.part
        words = np.stack(lists)
        values = decode_words(words, program.sum_dtype).reshape(cols, nc // part, cols, part, kc)
        # column of k, tile, column of n, feature, k -> k, n
        return np.ascontiguousarray(values.transpose(0, 4, 2, 1, 3)).reshape(cols * kc, cols * nc)
    tensor = table[phase.tensor]
    values = decode_words(np.stack(lists), tensor.dtype)
    if phase.mode in ("reduce_col", "last_row"):
        return values.reshape(1, cols, *tensor.dims)
    if phase.mode == "gather_row":
        return np.ascontiguousarray(values.reshape(rows, cols, *tensor.dims)[:, ::-1])
    return values.reshape(rows, 1, *tensor.dims)


def phase_of_stream(launch: Launch, stream: str) -> Phase:
    """The phase of a launch that uses a stream."""
    for phase in launch.phases:
        if getattr(phase, "stream", None) == stream:
            return phase
    raise BadInput(f"launch {launch.name!r} has no stream {stream!r}")
