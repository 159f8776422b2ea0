"""Traffic as programs: every core sends words at a given load, and a host computes what each must have received.

A round is a send, a receive and a stretch of work; rounds take turns between two tensors, so that a round sends what
the round before received. On a machine with one cycle for everything, a core that sends n words, receives n words and
works on g elements has an injection load of n / (2n + g) words a cycle: at most one half, since a core executes one
element a cycle and every word is sent by one core and received by another. Waiting lowers what is accepted, never what
is offered; `offered_load` says what the program asks for and a run says what came of it.

Values are whole numbers small enough for every sum to be exact in fp32, so that the host's check needs no order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.rng import Seed, generator
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.program import Instr, Permute, Phase, Program, Shift, StreamIn, StreamOut

__all__ = [
    "neighbour_traffic",
    "offered_load",
    "random_row_permutation",
    "row_permutation_traffic",
    "traffic_expected",
    "traffic_streams",
]

F32 = npt.NDArray[np.float32]
_LARGEST: Final = 8
"""Values sent lie between minus and plus this."""
_EXACT: Final = 1 << 24


def neighbour_traffic(
    *, rows: int, cols: int, load: float = 0.25, words: int = 4, rounds: int = 32, directions: str = "E"
) -> Program:
    """Every core sends to its neighbour, round after round.

    A core sends a block before it receives one, so words wait in the queues on the way; with up to three queues of
    words (from the core, on the link, to the core) all cores send at once, beyond that they do so one after the other.

    Args:
        rows: of the rectangle.
        cols: of the rectangle.
        load: words a core injects a cycle, above 0 and at most 0.5.
        words: a core sends in a round.
        rounds: how often.
        directions: of "N", "E", "S", "W", taken in turn.

    Raises:
        BadInput: a size is not positive, the load cannot be offered, or a direction is unknown.
    """
    if not directions or set(directions) - set("NESW"):
        raise BadInput("directions must be of N, E, S and W", value=directions)
    moves: list[Phase] = [
        Shift(f"send.{k}", *_turn(k), directions[k % len(directions)]) for k in range(_at_least("rounds", rounds))
    ]
    pattern = {"pattern": "neighbour", "directions": directions}
    return _program(f"neighbour traffic {directions}", rows, cols, load, words, moves, pattern)


def row_permutation_traffic(
    *, rows: int, cols: int, to: Sequence[int], load: float = 0.25, words: int = 4, rounds: int = 32
) -> Program:
    """The core at column c of every row sends to the core at column `to[c]` of its row, round after round.

    Args:
        rows: of the rectangle.
        cols: of the rectangle.
        to: a permutation of the columns.
        load: words a core injects a cycle, above 0 and at most 0.5.
        words: a core sends in a round.
        rounds: how often.

    Raises:
        BadInput: a size is not positive, the load cannot be offered, or `to` is no permutation. More paths at one core
            than a router has colours are refused when the program is lowered.
    """
    target = tuple(int(c) for c in to)
    moves: list[Phase] = [Permute(f"send.{k}", *_turn(k), target) for k in range(_at_least("rounds", rounds))]
    return _program("row permutation traffic", rows, cols, load, words, moves, {"pattern": "row permutation"})


def random_row_permutation(cols: int, *, reach: int, seed: Seed = 0) -> tuple[int, ...]:
    """A random permutation that moves words inside stretches of `reach` columns, for rows too long for 24 colours.

    Args:
        cols: columns.
        reach: columns of a stretch; the last one may be shorter.
        seed: of the draw.

    Raises:
        BadInput: a size is not positive.
    """
    _at_least("cols", cols)
    _at_least("reach", reach)
    rng = generator(seed, "traffic.permutation", 0)
    parts = [start + rng.permutation(min(reach, cols - start)) for start in range(0, cols, reach)]
    return tuple(int(c) for c in np.concatenate(parts))


def _at_least(name: str, value: int) -> int:
    if value < 1:
        raise BadInput(f"{name} must be at least 1", value=value)
    return value


def _turn(k: int) -> tuple[str, str]:
    """Tensor that round k sends, and the one it fills."""
    return ("ping", "pong") if k % 2 == 0 else ("pong", "ping")


def _program(
    name: str, rows: int, cols: int, load: float, words: int, moves: Sequence[Phase], pattern: Mapping[str, Any]
) -> Program:
    for what, value in (("rows", rows), ("cols", cols), ("words", words)):
        _at_least(what, value)
    if not 0 < load <= 0.5:
        raise BadInput(
            "a core sends and receives an element a cycle, so its load is above 0 and at most 0.5", value=load
        )
    work = round(words / load) - 2 * words
    if len(moves) * work * _LARGEST >= _EXACT:
        raise BadInput("the work between sends would overflow the exact sums", value=load, cure="raise the load")
    b = ProgramBuilder(name, rows, cols, "fp32")
    for tensor in ("ping", "pong"):
        b.tensor(tensor, (words,))
    b.tensor("worked", (1,))
    one, zero = b.constant("k.one", 1.0), b.constant("k.zero", 0.0)
    b.phase(StreamIn("in", "ping", "in", "scatter_row"))
    b.launch("in")
    b.compute("begin", Instr("mov", (("w", 1),), at("worked"), zero))
    for k, move in enumerate(moves):
        b.phase(move)
        if work > 0:
            b.compute(f"work.{k}", Instr("mac", (("w", work),), at("worked"), at(_turn(k)[1]), one))
    b.launch("traffic")
    for tensor in ("ping", "pong", "worked"):
        b.phase(StreamOut(f"{tensor}.out", tensor, tensor, "gather_row"))
    b.launch("out")
    sizes = {"load": load, "words": words, "rounds": len(moves), "work": work}
    return b.build({"kind": "traffic", **pattern, **sizes})


def offered_load(program: Program) -> float:
    """Words a core with a partner on every side injects a cycle when nothing makes it wait."""
    job = program.job
    return float(job["words"] / (2 * job["words"] + job["work"]))


def traffic_streams(program: Program, *, seed: Seed = 0) -> dict[str, F32]:
    """Input of a traffic program: whole numbers, different on every core."""
    rng = generator(seed, "traffic.values", 0)
    shape = (program.rows, program.cols, int(program.job["words"]))
    return {"in": rng.integers(-_LARGEST, _LARGEST + 1, shape).astype(np.float32)}


def traffic_expected(program: Program, streams: Mapping[str, F32]) -> dict[str, F32]:
    """What the streams of a traffic program must bring out, computed on the host.

    Args:
        program: of this module.
        streams: its input.

    Returns:
        float32[rows, cols, words] "ping" and "pong", float32[rows, cols, 1] "worked".
    """
    held = {"ping": streams["in"].astype(np.float64), "pong": np.zeros_like(streams["in"], np.float64)}
    worked = np.zeros((program.rows, program.cols, 1))
    for k, move in enumerate(phase for phase in program.phases if isinstance(phase, Shift | Permute)):
        source, target = _turn(k)
        if isinstance(move, Permute):
            held[target] = held[source][:, np.argsort(move.to)].copy()
        else:
            _shifted(held[source], held[target], move.direction)
        worked += program.job["work"] * held[target][..., :1]
    return {name: value.astype(np.float32) for name, value in {**held, "worked": worked}.items()}


def _shifted(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64], direction: str) -> None:
    """One step towards a side; cores at the other edge keep what they have."""
    if direction == "E":
        target[:, 1:] = source[:, :-1]
    elif direction == "W":
        target[:, :-1] = source[:, 1:]
    elif direction == "S":
        target[1:] = source[:-1]
    else:
        target[:-1] = source[1:]
