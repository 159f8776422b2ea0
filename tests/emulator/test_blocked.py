"""Products with blocked bf16 accumulation: a host oracle, both interpreters, and whole steps of a GPT."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.random_programs import RandomProgram, values
from tests.emulator.test_equality import bits, run_both
from tests.emulator.tiny import GPT, batches, perfect
from yieldkit.emulator.formats import round_to
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.running import run
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_forward, gpt_training
from yieldkit.workloads.program import Gemm, Gemv, Program, StreamIn, StreamOut, WGrad

SHAPES = [(1, 1), (1, 3), (3, 1), (2, 2), (3, 3), (2, 5), (4, 2), (5, 5)]


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def total_of(left, right, tile, block):
    """`left[m, K] right[K, n]` with K in tiles of one core each, blocks counted from each tile's first step."""
    total = None
    for first in range(0, left.shape[1], tile):
        partial = None
        for start in range(first, first + tile, block):
            fp32 = np.zeros((left.shape[0], right.shape[1]), np.float32)
            for k in range(start, min(start + block, first + tile)):
                fp32 = fp32 + (left[:, k, None] * right[None, k]).astype(np.float32)
            partial = round_to(fp32 if partial is None else partial + fp32, "bf16")
        total = partial if total is None else round_to(total + partial, "bf16")
    return total


def both(b, streams):
    low = lower(Program.from_dict(b.build({"kind": "none"}).to_dict()))
    one, other = (kind(low).launch(low.launches[0], streams) for kind in (ReferenceExecutor, TensorExecutor))
    assert one.completed
    for left, right in ((one.outputs, other.outputs), (one.taps, other.taps)):
        assert set(left) == set(right)
        for name in left:
            assert (bits(left[name]) == bits(right[name])).all(), name
    return one


CASES = {
    "shape": st.sampled_from(SHAPES),
    "dtype": st.sampled_from(["bf16", "fp16", "fp32"]),
    "block": st.integers(1, 9),
    "m": st.integers(1, 7),
    "kc": st.integers(1, 9),
    "specials": st.sampled_from([0.0, 0.02, 0.3]),
    "seed": st.integers(0, 2**32 - 1),
}


@settings(deadline=None, derandomize=True, max_examples=40)
@given(**CASES, part=st.integers(1, 3), tiles=st.integers(1, 2), accumulate=st.booleans())
def test_streamed_product(shape, dtype, block, m, kc, specials, seed, part, tiles, accumulate):
    (rows, cols), rng, n = shape, np.random.default_rng(seed), part * tiles
    b = ProgramBuilder("gemm", rows, cols, dtype, accumulation="bf16_blocked", block=block)
    b.tensor("x", (m, kc), dtype=dtype)
    b.tensor("y", (m, n))
    b.phase(StreamIn("x.in", "x", "x", "scatter_row"))
    b.phase(StreamIn("y.in", "y", "y", "scatter_row"))
    b.phase(Gemm("product", "x", "y", "w", part, accumulate))
    b.phase(StreamOut("y.out", "y", "y.out", "gather_row"))
    b.launch("l")
    streams = {
        "x": values(rng, (rows, cols, m, kc), dtype, specials),
        "y": values(rng, (rows, cols, m, n), "fp32", 0.0),
        "w": values(rng, (cols * kc, cols * n), dtype, specials),
    }
    result = both(b, streams)
    for r in range(rows):
        left = streams["x"][r].transpose(1, 0, 2).reshape(m, cols * kc)
        total = total_of(left, streams["w"], kc, block).reshape(m, cols, n).transpose(1, 0, 2)
        assert (bits(result.taps["product"][r]) == bits(total)).all()
        stored = round_to(total + streams["y"][r], "fp32") if accumulate else total
        assert (bits(result.outputs["y.out"][r]) == bits(stored)).all()


@settings(deadline=None, derandomize=True, max_examples=40)
@given(**CASES, part=st.integers(1, 3), tiles=st.integers(1, 2))
def test_weight_gradient(shape, dtype, block, m, kc, specials, seed, part, tiles):
    (rows, cols), rng, n = shape, np.random.default_rng(seed), part * tiles
    b = ProgramBuilder("wgrad", rows, cols, dtype, accumulation="bf16_blocked", block=block)
    b.tensor("x", (m, kc), dtype=dtype)
    b.tensor("dy", (m, n), dtype=dtype)
    b.phase(StreamIn("x.in", "x", "x", "scatter_row"))
    b.phase(StreamIn("dy.in", "dy", "dy", "scatter_row"))
    b.phase(WGrad("gradient", "x", "dy", "dw", part))
    b.launch("l")
    streams = {
        "x": values(rng, (rows, cols, m, kc), dtype, specials),
        "dy": values(rng, (rows, cols, m, n), dtype, specials),
    }
    x, dy = (array.transpose(0, 2, 1, 3).reshape(rows * m, -1) for array in streams.values())
    expected = total_of(np.ascontiguousarray(x.T), dy, m, block)
    assert (bits(both(b, streams).outputs["dw"]) == bits(expected)).all()


@settings(deadline=None, derandomize=True, max_examples=30)
@given(**{**CASES, "shape": st.sampled_from([(s, s) for s in (1, 2, 3, 5)])}, n=st.integers(1, 5))
def test_resident_product(shape, dtype, block, m, kc, specials, seed, n):
    side, rng = shape[0], np.random.default_rng(seed)
    b = ProgramBuilder("gemv", side, side, dtype, accumulation="bf16_blocked", block=block)
    b.tensor("x", (m, kc), "c", dtype=dtype)
    b.tensor("w", (kc, n), dtype=dtype)
    b.tensor("y", (m, n), "c")
    b.phase(StreamIn("x.in", "x", "x", "multicast_col"))
    b.phase(StreamIn("w.in", "w", "w", "scatter_row"))
    b.phase(Gemv("product", "x", "w", "y"))
    b.phase(StreamOut("y.out", "y", "y.out", "last_row"))
    b.launch("l")
    streams = {
        "x": values(rng, (1, side, m, kc), dtype, specials),
        "w": values(rng, (side, side, kc, n), dtype, specials),
    }
    left = streams["x"][0].transpose(1, 0, 2).reshape(m, side * kc)
    right = streams["w"].transpose(1, 2, 0, 3).reshape(side * kc, side * n)
    total = total_of(left, right, kc, block).reshape(m, side, n).transpose(1, 0, 2)
    result = both(b, streams)
    assert (bits(result.outputs["y.out"][0]) == bits(total)).all()


class BlockedProgram(RandomProgram):
    """Random programs with blocked accumulation."""

    def __init__(self, rng, rows, cols, dtype, specials=0.0):
        super().__init__(rng, rows, cols, dtype, specials)
        self.b.accumulation, self.b.block = "bf16_blocked", int(rng.integers(1, 6))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([*SHAPES, (3, 4)]), threads=st.sampled_from([1, 2]),
    dtype=st.sampled_from(["bf16", "fp16", "fp32"]), specials=st.sampled_from([0.0, 0.03, 0.4]),
)  # fmt: skip
def test_mixed_phases(seed, shape, threads, dtype, specials):
    writer = BlockedProgram(np.random.default_rng(seed), *shape, dtype, specials)
    for kind in writer.rng.choice(["gemm", "wgrad", "gemv", "compute", "all_reduce", "cut"], size=5):
        writer.add(str(kind))
    run_both(writer.finish(), writer.streams, threads=threads)


def test_a_block_as_long_as_a_core_s_share_rounds_partials_only():
    rng = np.random.default_rng(2)
    x, w = values(rng, (3, 12), "bf16", 0.0), values(rng, (12, 5), "bf16", 0.0)
    assert (bits(total_of(x, w, 4, 4)) == bits(total_of(x, w, 4, 100))).all()
    assert (bits(total_of(x, w, 4, 2)) != bits(total_of(x, w, 4, 4))).any()


def test_training_step_has_one_hash_of_its_own():
    program = gpt_training(rows=2, cols=4, accumulation="bf16_blocked", block=3, **GPT)
    low = lower(Program.from_dict(program.to_dict()))
    runs = [
        run(low, perfect(), steps=2, batches=batches(2), **how)
        for how in ({}, {"threads": 2}, {"executor": "reference"})
    ]
    assert len({r.state_hash for r in runs}) == 1
    plain = run(gpt_training(rows=2, cols=4, **GPT), perfect(), steps=2, batches=batches(2))
    assert plain.state_hash != runs[0].state_hash
    np.testing.assert_allclose(runs[0].losses, plain.losses, rtol=0.03)
    forward = run(
        gpt_forward(rows=2, cols=4, accumulation="bf16_blocked", block=3, **GPT), perfect(), batches=batches(1)
    )
    assert forward.losses == runs[0].losses[:1]


def test_decode_has_one_hash_of_its_own():
    decode = gpt_decode(side=4, prompts=[[1, 2], [3, 4]], accumulation="bf16_blocked", block=3, **GPT)
    one, other = (run(lower(decode), perfect(), steps=3, executor=e) for e in ("tensor", "reference"))
    assert one.state_hash == other.state_hash
    plain = run(gpt_decode(side=4, prompts=[[1, 2], [3, 4]], **GPT), perfect(), steps=3)
    assert one.state_hash != plain.state_hash
