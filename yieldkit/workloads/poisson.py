"""A 7-point stencil on a grid that lies over the cores: one application of a Poisson operator.

The grid has nx x ny x nz points: x over the columns of the rectangle, y over its rows, z inside a core, as in K. Rocki
et al., "Fast stencil-code computation on a wafer-scale processor" (SC 2020). A core holds the nz points above its place
and gets those of its four neighbours by four shifts; beyond the grid everything is 0 (Dirichlet)::

                    north u[y-1]
                         │ S
        west u[x-1] ─E─► u[x, y, :] ◄─W─ east u[x+1]          (A u)[z] = d u[z]
                         ▲ N                                             - kx (west + east) - ky (north + south)
                    south u[y+1]                                         - kz (u[z-1] + u[z+1])

with d = 2 (kx + ky + kz) + shift. A is symmetric, and positive definite for positive kx, ky, kz and shift >= 0. All in
fp32, multiply then add, in the order d, west, east, north, south, z - 1, z + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.rng import generator
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.program import Instr, Program, Ref, StreamIn, StreamOut

__all__ = [
    "Operator",
    "apply_operator",
    "apply_phases",
    "check_sizes",
    "grid_facts",
    "initial_fields",
    "operator_from",
    "operator_of",
    "source_field",
    "stencil",
]

F32 = npt.NDArray[np.float32]
SOURCES = 6
"""Sources of a generated field."""


@dataclass(frozen=True)
class Operator:
    """Coefficients of the 7-point operator.

    Attributes:
        coefficients: (kx, ky, kz), positive: 1 over the square of the spacing along each axis.
        shift: added to the diagonal, 0 or more.
    """

    coefficients: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: float = 0.0

    def __post_init__(self) -> None:
        values = np.array([*self.coefficients, self.shift], np.float64)
        if not np.isfinite(values).all() or values[:3].min() <= 0 or self.shift < 0:
            raise BadInput(
                "the operator needs three positive coefficients and a shift of 0 or more",
                value=(self.coefficients, self.shift),
            )

    @property
    def terms(self) -> tuple[float, float, float, float]:
        """Diagonal, -kx, -ky, -kz, each the fp32 number that the cores hold."""
        kx, ky, kz = (float(np.float32(k)) for k in self.coefficients)
        diagonal = float(np.float32(2.0 * (kx + ky + kz) + float(np.float32(self.shift))))
        return diagonal, -kx, -ky, -kz


def stencil(
    *,
    rows: int = 8,
    cols: int = 8,
    depth: int = 16,
    coefficients: Sequence[float] = (1.0, 1.0, 1.0),
    shift: float = 0.0,
    seed: int = 0,
) -> Program:
    """One application of the operator a step: a field streams in, A times it streams out.

    Args:
        rows: of the rectangle; ny of the grid.
        cols: of the rectangle; nx of the grid.
        depth: nz, the points in a core.
        coefficients: (kx, ky, kz).
        shift: added to the diagonal.
        seed: of the field, which is generated (`source_field`) and held by MemoryX as "field".

    Raises:
        BadInput: sizes below 1, or an operator that is not positive definite.
    """
    operator = operator_from(coefficients, shift)
    check_sizes(rows, cols, depth)
    b = ProgramBuilder("stencil", rows, cols, "fp32")
    b.tensor("u", (depth,))
    b.tensor("au", (depth,))
    b.phase(StreamIn("field.in", "u", "field", "scatter_row"))
    apply_phases(b, operator, "u", "au", depth)
    b.phase(StreamOut("image.out", "au", "image", "gather_row"))
    b.launch("apply")
    return b.build(
        {
            "kind": "iteration",
            "workload": "stencil",
            **grid_facts(operator, depth, seed),
            "fields": ["field"],
            "inputs": [{"stream": "field", "form": "field", "param": "field"}],
            "outputs": [{"stream": "image", "form": "image", "of": "field"}],
            "resident": [],
        }
    )


def apply_phases(b: ProgramBuilder, operator: Operator, u: str, au: str, depth: int) -> None:
    """Append the phases that put A times tensor `u` into `au`; both hold `depth` words a core."""
    diagonal, *sides = operator.terms
    d, kx, ky, kz = (
        b.constant(name, value)
        for name, value in zip(("k.diagonal", "k.x", "k.y", "k.z"), (diagonal, *sides), strict=True)
    )
    halo = {side: b.tensor(f"{u}.{side}", (depth,)) for side in ("north", "east", "south", "west")}
    b.halo(f"{u}.halo", u, **halo)
    z, y = (("z", depth),), at(au, z=1)

    def add(side: str, k: Ref) -> Instr:
        return Instr("mac", z, y, at(halo[side], z=1), k)

    instrs = [Instr("mul", z, y, at(u, z=1), d), add("west", kx), add("east", kx), add("north", ky), add("south", ky)]
    if depth > 1:
        inner = (("z", depth - 1),)
        instrs += [
            Instr("mac", inner, at(au, 1, z=1), at(u, z=1), kz),
            Instr("mac", inner, at(au, z=1), at(u, 1, z=1), kz),
        ]
    b.compute(f"{u}.apply", *instrs)


def apply_operator(operator: Operator, u: F32) -> F32:
    """A u on the host, in the order of the cores: float32[ny, nx, nz] to the same."""
    diagonal, kx, ky, kz = (np.float32(k) for k in operator.terms)
    wide = np.pad(u, 1)
    with np.errstate(all="ignore"):
        au = diagonal * u
        au = au + kx * wide[1:-1, :-2, 1:-1]
        au = au + kx * wide[1:-1, 2:, 1:-1]
        au = au + ky * wide[:-2, 1:-1, 1:-1]
        au = au + ky * wide[2:, 1:-1, 1:-1]
        # The ends of a column have one neighbour less: no term, where the sides get a term of 0.
        au[..., 1:] = au[..., 1:] + kz * u[..., :-1]
        au[..., :-1] = au[..., :-1] + kz * u[..., 1:]
    return au


def source_field(rows: int, cols: int, depth: int, seed: int) -> F32:
    """A field made for the purpose, float32[ny, nx, nz]: positive and negative sources that fall off smoothly.

    Each of `SOURCES` sources has a place and a width drawn from the seed and is 1 / (1 + distance² / width²), with
    signs in turn; it is made of additions, products and quotients only, so it is the same on every machine. It stands
    for charges in a box, and is no measurement.
    """
    rng = generator(seed, "stencil.sources", rows, cols, depth)
    y, x, z = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in (rows, cols, depth)), indexing="ij")
    field = np.zeros((rows, cols, depth))
    for number in range(SOURCES):
        places = rng.integers(0, 1 << 20, 4) / (1 << 20)
        across = (x - places[0] * cols) * (x - places[0] * cols) + (y - places[1] * rows) * (y - places[1] * rows)
        distance = across + (z - places[2] * depth) * (z - places[2] * depth)
        width = 1.0 + places[3] * max(rows, cols, depth) / 4
        field += (1.0 if number % 2 == 0 else -1.0) / (1.0 + distance / (width * width))
    return field.astype(np.float32)


def initial_fields(program: Program) -> dict[str, F32]:
    """What MemoryX holds for a program of kind "iteration" when it begins, float32[ny, nx, nz] by name.

    Raises:
        BadInput: the program's job lacks what says how its fields are made.
    """
    job = program.job
    try:
        depth, seed, names = int(job["depth"]), int(job["seed"]), [str(name) for name in job["fields"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the program's fields cannot be made: {type(error).__name__}: {error}") from error
    return {name: source_field(program.rows, program.cols, depth, seed) for name in names}


def operator_of(job: Mapping[str, Any]) -> Operator:
    """The operator of a stencil or CG program, from its job."""
    kx, ky, kz = (float(k) for k in job["coefficients"])
    return Operator((kx, ky, kz), float(job["shift"]))


def operator_from(coefficients: Sequence[float], shift: float) -> Operator:
    """The operator with these coefficients."""
    if len(coefficients) != 3:
        raise BadInput("the operator needs three coefficients", value=tuple(coefficients))
    kx, ky, kz = (float(k) for k in coefficients)
    return Operator((kx, ky, kz), float(shift))


def grid_facts(operator: Operator, depth: int, seed: int) -> dict[str, Any]:
    """What a job says of its grid."""
    return {
        "coefficients": list(operator.coefficients),
        "shift": operator.shift,
        "depth": depth,
        "seed": seed,
    }


def check_sizes(rows: int, cols: int, depth: int) -> None:
    """Refuse an empty grid."""
    for name, value in (("rows", rows), ("cols", cols), ("depth", depth)):
        if value < 1:
            raise BadInput(f"{name} must be at least 1", value=value)
