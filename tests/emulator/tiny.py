"""The smallest programs that still have everything, and fabrics to run them on."""

from __future__ import annotations

from functools import cache

import numpy as np

from yieldkit.emulator.formats import round_to
from yieldkit.emulator.lowering import lower
from yieldkit.fabric import Fabric
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.gpt import gpt_training
from yieldkit.workloads.program import Gemm, StreamIn, StreamOut

GPT = {"layers": 1, "width": 16, "heads": 4, "context": 4, "sequences": 2, "vocabulary": 32}


@cache
def tiny_gpt(dtype="bf16"):
    """Lowered training step of a one-layer GPT on 2 x 4 cores."""
    return lower(gpt_training(rows=2, cols=4, dtype=dtype, **GPT))


def batches(count, seed=0):
    """Token batches for `tiny_gpt`."""
    rng = np.random.default_rng(seed)
    shape = (GPT["sequences"], GPT["context"])
    return [tuple(rng.integers(0, GPT["vocabulary"], (2, *shape))) for _ in range(count)]


@cache
def perfect():
    return Fabric.perfect(8, 8)


@cache
def gemm_program(rows=2, cols=3, m=2, kc=2, part=2, tiles=1, dtype="bf16", sram_words=12_288):
    """One streamed product with its input and output, lowered, and the arrays that feed it."""
    b = ProgramBuilder("gemm", rows, cols, dtype)
    x = b.tensor("x", (m, kc), dtype=dtype)
    y = b.tensor("y", (m, part * tiles))
    b.phase(StreamIn("x.in", x, "x", "scatter_row"))
    b.phase(Gemm("product", x, y, "w", part))
    b.phase(StreamOut("y.out", y, "y", "gather_row"))
    b.launch("gemm")
    rng = np.random.default_rng(5)
    streams = {
        "x": round_to(rng.normal(size=(rows, cols, m, kc)).astype(np.float32), dtype),
        "w": round_to(rng.normal(size=(cols * kc, cols * part * tiles)).astype(np.float32), dtype),
    }
    return lower(b.build({"kind": "none"}), sram_words=sram_words), streams


@cache
def product(rows, cols, m=1, kc=1, part=1, tiles=1, sram_words=12_288):
    """A streamed product and, in a launch with tables of its own, its result once more."""
    b = ProgramBuilder("product", rows, cols, "bf16")
    x, y = b.tensor("x", (m, kc), dtype="bf16"), b.tensor("y", (m, part * tiles))
    b.phase(StreamIn("x.in", x, "x", "scatter_row"))
    b.phase(Gemm("product", x, y, "w", part))
    b.phase(StreamOut("y.out", y, "y", "gather_row"))
    b.launch("product")
    b.phase(StreamOut("y.again", y, "again", "gather_row"))
    b.launch("again")
    rng = np.random.default_rng(5)
    streams = {
        "x": round_to(rng.normal(size=(rows, cols, m, kc)).astype(np.float32), "bf16"),
        "w": round_to(rng.normal(size=(cols * kc, cols * part * tiles)).astype(np.float32), "bf16"),
    }
    return lower(b.build({"kind": "none"}), sram_words=sram_words), streams
