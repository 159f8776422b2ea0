"""Conjugate gradients on the 7-point operator of `poisson.py`: a step is one iteration, the vectors stay in the cores.

Hestenes and Stiefel's method as written by Barrett et al., "Templates for the Solution of Linear Systems" (SIAM 1994,
fig. 2.5), without a preconditioner, for A x = b and x = 0 at the start. In one step::

    rr    = r.r                          a core's own sum with z ascending, then along the rows, then along the columns
    beta  = rr / rr_before               0 at the first step
    p     = r + beta p
    q     = A p                          four shifts
    alpha = rr / p.q
    x, r  = x + alpha p, r - alpha q

Every core works out alpha and beta for itself from sums that all of them hold. x, r, p and rr live in SRAM from step to
step; b is put into r before the first. The last column sends rr out, so a step tells the residual that it found: the
first one that of x = 0.

There is no branch in the cores, and what would divide by nothing is selected away: where rr is at most `floor`, alpha
and beta are 0 and x and r stay; where the rr of the step before was at most `floor` (0 at the start), beta is 0; where
p.q is at most 2^-120, whose inverse is finite, alpha is 0. So b = 0 and an exact solution stay what they are for ever.
A NaN passes all of these tests, because `max` keeps it, and shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.poisson import apply_operator, apply_phases, check_sizes, grid_facts, operator_from, operator_of
from yieldkit.workloads.program import AllReduce, Instr, Program, Ref, StreamOut

__all__ = ["CgState", "cg", "cg_on_the_host"]

F32 = npt.NDArray[np.float32]

FLOOR: Final = 2.0**-64
"""Square of the residual from which on nothing moves any more (assumption: far below what fp32 tells of fields of
order 1, far above where 1 / rr overflows)."""
SMALLEST_CURVATURE: Final = 2.0**-120


def cg(
    *,
    rows: int = 8,
    cols: int = 8,
    depth: int = 16,
    coefficients: Sequence[float] = (1.0, 1.0, 1.0),
    shift: float = 0.0,
    floor: float = FLOOR,
    seed: int = 0,
) -> Program:
    """Conjugate gradients, one iteration a step.

    Args:
        rows: of the rectangle; ny of the grid.
        cols: of the rectangle; nx of the grid.
        depth: nz, the points in a core.
        coefficients: (kx, ky, kz) of the operator.
        shift: added to its diagonal.
        floor: square of the residual from which on nothing moves any more.
        seed: of the right-hand side, which is generated (`poisson.source_field`) and held by MemoryX as "rhs".

    Raises:
        BadInput: sizes below 1, an operator that is not positive definite, or a floor whose inverse is not finite.
    """
    operator = operator_from(coefficients, shift)
    check_sizes(rows, cols, depth)
    if not 2.0**-126 <= floor < float("inf"):
        raise BadInput("floor must be at least 2^-126", value=floor)
    b = ProgramBuilder("cg", rows, cols, "fp32")
    for name in ("x", "r", "p"):
        b.tensor(name, (depth,), keep=True)
    b.tensor("rr.before", (1,), "", keep=True)
    b.tensor("q", (depth,))
    writer = _Cg(b, depth, float(floor))
    writer.direction()
    apply_phases(b, operator, "p", "q", depth)
    writer.advance()
    b.phase(StreamOut("residual.out", "rr", "residual", "last_col"))
    b.launch("iterate")
    return b.build(
        {
            "kind": "iteration",
            "workload": "cg",
            **grid_facts(operator, depth, seed),
            "floor": float(floor),
            "fields": ["rhs"],
            "inputs": [],
            "outputs": [{"stream": "residual", "form": "residual", "of": "rhs"}],
            "resident": [{"tensor": "r", "param": "rhs", "form": "field"}],
        }
    )


class _Cg:
    def __init__(self, b: ProgramBuilder, depth: int, floor: float) -> None:
        self.b = b
        self.z = (("z", depth),)
        self.w = (("w", 1),)
        self.zero = b.constant("k.zero", 0.0)
        self.floor = b.constant("k.floor", floor)
        self.tiny = b.constant("k.tiny", SMALLEST_CURVATURE)
        self.before = at("rr.before")
        self.beta, self.alpha, self.still, self.test = (
            at(b.tensor(name, (1,), "")) for name in ("beta", "alpha", "still", "test")
        )

    def dot(self, name: str, left: str, right: str) -> Ref:
        """Sum of products over the whole grid, the same on every core."""
        b = self.b
        own, row = at(b.tensor(f"{name}.own", (1,))), b.tensor(f"{name}.row", (1,), "r")
        total = b.tensor(name, (1,), "")
        b.compute(
            f"{name}.sum",
            Instr("mov", self.w, own, self.zero),
            Instr("mac", self.z, own, at(left, z=1), at(right, z=1)),
        )
        b.phase(AllReduce(f"{name}.rows", "row", "add", own.tensor, row))
        b.phase(AllReduce(f"{name}.cols", "col", "add", row, total))
        return at(total)

    def at_most(self, flag: Ref, value: Ref, limit: Ref) -> tuple[Instr, Instr]:
        """1 where a value is at most the limit, else 0; 0 for a NaN."""
        return Instr("max", self.w, flag, value, limit), Instr("eq", self.w, flag, flag, limit)

    def direction(self) -> None:
        rr = self.dot("rr", "r", "r")
        w, z, p = self.w, self.z, at("p", z=1)
        self.b.compute(
            "direction",
            Instr("recip", w, self.beta, self.before),
            Instr("mul", w, self.beta, rr, self.beta),
            *self.at_most(self.test, self.before, self.floor),
            Instr("select", w, self.beta, self.zero, self.test),
            *self.at_most(self.still, rr, self.floor),
            Instr("select", w, self.beta, self.zero, self.still),
            Instr("mul", z, p, p, self.beta),
            Instr("add", z, p, at("r", z=1), p),
        )

    def advance(self) -> None:
        pq = self.dot("pq", "p", "q")
        w, z, rr = self.w, self.z, at("rr")
        self.b.compute(
            "advance",
            Instr("recip", w, self.alpha, pq),
            Instr("mul", w, self.alpha, rr, self.alpha),
            *self.at_most(self.test, pq, self.tiny),
            Instr("select", w, self.alpha, self.zero, self.test),
            Instr("select", w, self.alpha, self.zero, self.still),
            Instr("mac", z, at("x", z=1), at("p", z=1), self.alpha),
            Instr("sub", w, self.alpha, self.zero, self.alpha),
            Instr("mac", z, at("r", z=1), at("q", z=1), self.alpha),
            Instr("mov", w, self.before, rr),
        )


@dataclass(frozen=True)
class CgState:
    """Vectors after some steps.

    Attributes:
        x, r, p: float32[ny, nx, nz].
        rr: float32[steps], square of the residual that each step found.
    """

    x: F32
    r: F32
    p: F32
    rr: F32


def cg_on_the_host(program: Program, rhs: F32, steps: int) -> CgState:
    """The same iteration in NumPy, written apart from the program, with the same order of every sum.

    Args:
        program: of `cg`.
        rhs: float32[ny, nx, nz].
        steps: iterations.
    """
    operator = operator_of(program.job)
    floor, tiny = np.float32(program.job["floor"]), np.float32(SMALLEST_CURVATURE)
    zero = np.float32(0)
    r: F32 = rhs.astype(np.float32)
    x: F32 = np.zeros(r.shape, np.float32)
    p: F32 = x
    before, found = zero, []
    with np.errstate(all="ignore"):
        for _ in range(steps):
            rr = ordered_dot(r, r)
            found.append(rr)
            beta = zero if before <= floor or rr <= floor else rr * (np.float32(1) / before)
            p = np.asarray(r + p * beta, np.float32)
            q = apply_operator(operator, p)
            pq = ordered_dot(p, q)
            alpha = zero if pq <= tiny or rr <= floor else rr * (np.float32(1) / pq)
            x = np.asarray(x + p * alpha, np.float32)
            r = np.asarray(r + q * (zero - alpha), np.float32)
            before = rr
    return CgState(x, r, p, np.array(found, np.float32))


def ordered_dot(left: F32, right: F32) -> np.float32:
    """Sum of products in the order of the cores: z ascending from 0, then columns, then rows."""
    rows, cols, depth = left.shape
    own = np.zeros((rows, cols), np.float32)
    for k in range(depth):
        own += left[:, :, k] * right[:, :, k]
    row = own[:, 0].copy()
    for c in range(1, cols):
        row += own[:, c]
    total = np.float32(row[0])
    for r in range(1, rows):
        total = np.float32(total + row[r])
    return total
