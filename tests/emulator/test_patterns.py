"""Broadcast, halo exchange and barrier: what every core ends up with, the same on both interpreters."""

from __future__ import annotations

import numpy as np
import pytest

from yieldkit.emulator.formats import round_to
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.workloads import Program, ProgramBuilder
from yieldkit.workloads.program import PHASE_KINDS, Broadcast, Compute, StreamIn, StreamOut

SHAPES = [(1, 1), (1, 3), (4, 1), (3, 4)]
TARGETS = ("north", "east", "south", "west")


def _both(program: Program, streams: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    low = lower(program)
    results = [kind(low).launch(low.launches[0], streams) for kind in (ReferenceExecutor, TensorExecutor)]
    assert all(result.completed for result in results)
    for name, array in results[0].outputs.items():
        np.testing.assert_array_equal(array.view(np.uint32), results[1].outputs[name].view(np.uint32))
    return dict(results[0].outputs)


def _input(rows: int, cols: int, size: int) -> np.ndarray:
    values = np.random.default_rng(rows * 10 + cols).normal(size=(rows, cols, size)).astype(np.float32)
    values[0, 0, 0] = np.nan
    return round_to(values, "bf16")


def test_every_phase_kind_is_listed() -> None:
    assert PHASE_KINDS["broadcast"] is Broadcast
    assert len(PHASE_KINDS) == 13


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
@pytest.mark.parametrize("axis", ["row", "col"])
def test_broadcast_gives_the_last_block_to_all(rows: int, cols: int, axis: str) -> None:
    b = ProgramBuilder("broadcast", rows, cols, "bf16")
    b.tensor("x", (3,), dtype="bf16")
    b.tensor("y", (3,), dtype="bf16")
    b.phase(StreamIn("in", "x", "x", "scatter_row"))
    b.phase(Broadcast("cast", axis, "x", "y"))
    b.phase(StreamOut("out", "y", "y", "gather_row"))
    b.launch("all")
    x = _input(rows, cols, 3)
    last = x[:, -1:] if axis == "row" else x[-1:]
    np.testing.assert_array_equal(_both(b.build({}), {"x": x})["y"], np.broadcast_to(last, x.shape))


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_halo_exchange(rows: int, cols: int) -> None:
    b = ProgramBuilder("halo", rows, cols, "bf16")
    for name in ("x", *TARGETS):
        b.tensor(name, (2,), dtype="bf16")
    b.phase(StreamIn("in", "x", "x", "scatter_row"))
    for name in TARGETS:
        b.phase(StreamIn(f"{name}.in", name, name, "scatter_row"))
    b.halo("halo", "x", north="north", east="east", south="south", west="west")
    b.barrier("meet")
    for name in TARGETS:
        b.phase(StreamOut(f"{name}.out", name, f"{name}.out", "gather_row"))
    b.launch("all")
    x, edge = _input(rows, cols, 2), np.full((rows, cols, 2), 7.0, np.float32)
    outputs = _both(b.build({}), {"x": x, **dict.fromkeys(TARGETS, edge)})
    expected = {name: edge.copy() for name in TARGETS}
    expected["north"][1:], expected["south"][:-1] = x[:-1], x[1:]
    expected["west"][:, 1:], expected["east"][:, :-1] = x[:, :-1], x[:, 1:]
    for name in TARGETS:
        np.testing.assert_array_equal(outputs[f"{name}.out"], expected[name], err_msg=name)


def test_nobody_passes_a_barrier_alone() -> None:
    """A core that never arrives keeps every other core from going on."""
    from yieldkit.emulator.hooks import LaunchHooks, RegisterHook

    b = ProgramBuilder("barrier", 2, 3, "bf16")
    b.barrier("meet")
    b.compute("after", *_writes(b))
    b.phase(StreamOut("out", "mark", "mark", "gather_row"))
    b.launch("all")
    low = lower(b.build({}))
    # The opcode of core (1, 1)'s first task becomes undefined: it halts before it arrives.
    hooks = LaunchHooks(registers=(RegisterHook(1, 1, 0, 0, -1, 0, 1),))
    result = ReferenceExecutor(low).launch(low.launches[0], {}, hooks)
    assert not result.completed
    assert result.scan is not None
    waiting = {(r, c) for r, c, *_ in result.scan.waiting}
    assert len(waiting) == 6
    assert result.missing == (("mark", 6),)


def _writes(b: ProgramBuilder) -> list:
    from yieldkit.workloads import at
    from yieldkit.workloads.program import Instr

    one = b.constant("k.one", 1.0)
    b.tensor("mark", (1,))
    assert Compute.kind == "compute"
    return [Instr("mov", (("w", 1),), at("mark"), one)]
