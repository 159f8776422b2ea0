"""What the host does around a step of kind "iteration": fields in MemoryX, streams in, one figure out.

The figure stands where a training has its loss. A solver sends the square of its residual: the figure is the residual
over the norm of the right-hand side. A program that sends a whole field has the norm of that over the norm of what it
was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum, sqrt

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.memoryx import MemoryX, StepReport
from yieldkit.errors import BadInput
from yieldkit.workloads.poisson import initial_fields
from yieldkit.workloads.program import Launch, Program, StreamIn

__all__ = ["iteration_memoryx", "iteration_report", "iteration_streams"]

F32 = npt.NDArray[np.float32]


def iteration_memoryx(program: Program, fields: Mapping[str, F32] | None = None) -> MemoryX:
    """MemoryX before the first step, with the program's own fields or given ones of the same names and shapes.

    Raises:
        BadInput: fields of other names or shapes.
    """
    own = initial_fields(program)
    if fields is None:
        return MemoryX(program, own)
    shapes = {name: field.shape for name, field in own.items()}
    if {name: np.shape(field) for name, field in fields.items()} != shapes:
        raise BadInput("fields do not fit the program", value={n: np.shape(f) for n, f in fields.items()})
    return MemoryX(program, {name: np.array(fields[name], np.float32) for name in own})


def iteration_streams(program: Program, launch: Launch, memoryx: MemoryX) -> dict[str, F32]:
    """Input arrays of a launch, `[rows, cols, depth]`."""
    params = {item["stream"]: item["param"] for item in program.job["inputs"]}
    fed = [phase.stream for phase in launch.phases if isinstance(phase, StreamIn)]
    return {stream: memoryx.weights[params[stream]] for stream in fed}


def iteration_report(program: Program, memoryx: MemoryX, outputs: Mapping[str, F32]) -> StepReport:
    """The figure of a step; not finite where any word that came out is not."""
    for item in program.job["outputs"]:
        if item["stream"] not in outputs:
            continue
        value = outputs[item["stream"]]
        scale = norm(memoryx.weights[item["of"]])
        if item["form"] == "residual":
            # Every row sends its copy; that of the last core, where the sums end, is taken.
            square = float(value.reshape(-1)[-1])
            size = sqrt(square) if square >= 0 else float("nan")
        else:
            size = norm(value)
        figure = size / scale if scale > 0 else size
        finite = bool(np.isfinite(value).all()) and bool(np.isfinite(figure))
        return StepReport(figure, nonfinite="" if finite else "loss")
    return StepReport(float("nan"), nonfinite="loss")


def norm(values: F32) -> float:
    """Euclidean norm, the same on every machine: an exact sum, rounded once."""
    flat = values.reshape(-1).astype(np.float64)
    if not np.isfinite(flat).all():
        return float("nan")
    return sqrt(fsum((flat * flat).tolist()))
