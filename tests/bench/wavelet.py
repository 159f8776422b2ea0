"""Figures of the wavelet executor: hops and cycles a second, what faults that are not used cost, whole-wafer launches.

A hop is a word over a link between two routers (or off the edge); beside it stands the count that takes words into core
ramps too. Rates are of whole launches, from loading to the read-out, with real values, colours and tasks; the best of
several, since a rate is lowered by whatever else the machine does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.formats import round_to
from yieldkit.emulator.hooks import LaunchHooks, ResultHook
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.wavelet import Traffic, WaveletMachine
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import AllReduce, Broadcast, Gemm, Program, Shift, StreamIn
from yieldkit.workloads.traffic import (
    neighbour_traffic,
    random_row_permutation,
    row_permutation_traffic,
    traffic_streams,
)

COMMAND = "python -m tests.bench.wavelet"
WAFER = (750, 994)
Streams = Mapping[str, npt.NDArray[np.float32]]


def _row(name: str, value: float, unit: str, **peer: Any) -> dict[str, Any]:
    empty = {"peer": None, "peer_value": None, "ratio": None}
    return {"name": name, "value": value, "unit": unit, **empty, **peer, "command": COMMAND}


def launch_seconds(
    program: Program, streams: Streams, *, at: int = 0, rounds: int = 3, hooks: LaunchHooks | None = None
) -> tuple[float, Traffic]:
    """Seconds of launch number `at` of a program, the best of some rounds, and what it moved."""
    low = lower(program)
    machine = WaveletMachine(lower(program, sram_words=_words(low.launches[at])))
    best = float("inf")
    for _ in range(1 + rounds):
        begin = time.perf_counter()
        result = machine.launch(machine.lowered.launches[at], streams, hooks)
        best = min(best, time.perf_counter() - begin)
        assert result.completed
    return best, machine.traffic


def _words(low: Any) -> int:
    """SRAM that a launch needs: memory follows what is used."""
    tables = max(len(role.tables) for role in low.roles)
    return tables + 64 + max((base for base in low.address.values()), default=0) + 4096 // 4


def multicast(n: int, words: int) -> Program:
    """Two multicasts along every row, one after the other."""
    b = ProgramBuilder("multicast", n, n, "fp32")
    x, y = b.tensor("x", (words,), keep=True), b.tensor("y", (words,))
    b.phase(Broadcast("one", "row", x, y))
    b.phase(Broadcast("two", "row", x, y))
    b.launch("multicast")
    return b.build({"kind": "none"})


def all_reduce(rows: int, cols: int, words: int) -> Program:
    """An all-reduce over the whole rectangle: along rows, then along columns, by chains."""
    b = ProgramBuilder("all-reduce", rows, cols, "fp32")
    x, y = b.tensor("x", (words,), keep=True), b.tensor("y", (words,))
    b.phase(AllReduce("rows", "row", "add", x, y, "chain"))
    b.phase(AllReduce("columns", "col", "add", y, y, "chain"))
    b.launch("all-reduce")
    return b.build({"kind": "none"})


def halo(rows: int, cols: int, words: int) -> Program:
    """A halo exchange: every core sends to its four neighbours."""
    b = ProgramBuilder("halo", rows, cols, "fp32")
    x = b.tensor("x", (words,), keep=True)
    for direction in "NESW":
        b.phase(Shift(direction, x, b.tensor(f"from.{direction}", (words,)), direction))
    b.launch("halo")
    return b.build({"kind": "none"})


def product(n: int) -> tuple[Program, Streams]:
    """A product with streamed weights: two tokens and four features a core in bf16; the second launch."""
    b = ProgramBuilder("product", n, n, "bf16")
    x, y = b.tensor("x", (2, 4)), b.tensor("y", (2, 4))
    b.phase(StreamIn("in", x, "x", "scatter_row"))
    b.launch("in")
    b.phase(Gemm("product", x, y, "w", 4))
    b.launch("product")
    rng = np.random.default_rng(1)
    streams = {
        "x": round_to(rng.normal(size=(n, n, 2, 4)).astype(np.float32), "bf16"),
        "w": rng.normal(size=(4 * n, 4 * n)).astype(np.float32),
    }
    return b.build({"kind": "none"}), streams


def permutation(n: int, rounds: int) -> tuple[Program, Streams]:
    """A random permutation of columns within stretches of 24, at the highest load."""
    to = random_row_permutation(n, reach=24)
    program = row_permutation_traffic(rows=n, cols=n, to=to, load=0.5, words=12, rounds=rounds)
    return program, traffic_streams(program)


def rates() -> list[dict[str, Any]]:
    """Hops a second."""
    rows = []
    for name, program, streams, at in (
        ("wavelet_hops_per_s", multicast(64, 1024), {}, 0),
        ("wavelet_hops_per_s_gemm", *product(64), 1),
        ("wavelet_hops_per_s_reduce", all_reduce(64, 64, 512), {}, 0),
        ("wavelet_hops_per_s_permutation", *permutation(64, 32), 1),
        ("wavelet_hops_per_s_256", multicast(256, 256), {}, 0),
        ("wavelet_hops_per_s_256_reduce", all_reduce(256, 256, 64), {}, 0),
    ):
        seconds, traffic = launch_seconds(program, streams, at=at)
        both = (traffic.hops + traffic.ramps) / seconds
        rows.append(_row(name, traffic.hops / seconds, "hops/s", peer="core ramps counted too", peer_value=both))
    return rows


def cycle_rate() -> list[dict[str, Any]]:
    """Cycles a second of neighbour traffic at a load of a quarter, for comparison with mesh simulators."""
    program = neighbour_traffic(rows=64, cols=64, load=0.25, words=12, rounds=64, directions="ESWN")
    seconds, traffic = launch_seconds(program, traffic_streams(program), at=1)
    value = traffic.cycles / seconds
    return [_row("wavelet_cycles_per_s_64", value, "cycles/s", peer="words received a second",
                 peer_value=traffic.ramps / seconds)]  # fmt: skip


def hook_overhead() -> list[dict[str, Any]]:
    """Seconds with an empty list of faults over seconds without one, less 1; and with a fault that never strikes.

    Without faults the kernels run in a specialisation that has no look at faults in it, so the first is the noise of
    the measurement; the second is what that specialisation saves.
    """
    program = all_reduce(64, 64, 512)
    never = LaunchHooks(results=(ResultHook(0, 0, 1 << 20, 0, 1),))
    seconds: list[list[float]] = [[], [], []]
    for _ in range(3):
        for mine, hooks in zip(seconds, (None, LaunchHooks(), never), strict=True):
            mine.append(launch_seconds(program, {}, hooks=hooks)[0])
    plain, empty, armed = (min(mine) for mine in seconds)
    return [_row("hook_overhead", empty / plain - 1, "of the time", peer="with a fault that never strikes",
                 peer_value=armed / plain - 1)]  # fmt: skip


def wafer() -> list[dict[str, Any]]:
    """Launches on 750 x 994 cores, everything included but lowering."""
    rows, cols = WAFER
    found = []
    launches: tuple[tuple[str, Callable[[int, int, int], Program], int], ...] = (
        ("collective_wafer_s", all_reduce, 4),
        ("halo_wafer_s", halo, 12),
    )
    for name, make, words in launches:
        seconds, traffic = launch_seconds(make(rows, cols, words), {}, rounds=1)
        found.append(_row(name, seconds, "s", peer=f"cycles, {rows} x {cols} cores, {words} words a core",
                          peer_value=traffic.cycles))  # fmt: skip
    return found


def figures() -> list[dict[str, Any]]:
    """All rows."""
    return [*rates(), *cycle_rate(), *hook_overhead(), *wafer()]


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
