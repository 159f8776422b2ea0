"""What MemoryX holds for a program: names, shapes and first values of its parameters, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from yieldkit.errors import BadInput

__all__ = ["INITIAL_STD", "INITS", "Parameter", "job_parameters", "parameters_of"]

INITS: Final = ("normal", "ones", "zeros")
INITIAL_STD: Final = 0.05
"""Standard deviation of initial weights where nothing else is said."""


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: unique in the program.
        dims: shape.
        init: "normal" (near enough, with `std`), "ones" or "zeros".
        std: standard deviation of "normal".
    """

    name: str
    dims: tuple[int, ...]
    init: str = "normal"
    std: float = INITIAL_STD


def job_parameters(parameters: Mapping[str, Parameter] | tuple[Parameter, ...]) -> list[dict[str, Any]]:
    """Parameters as `program.job["parameters"]` has them: a list, because their order counts and a file sorts names."""
    listed = parameters.values() if isinstance(parameters, Mapping) else parameters
    return [{**asdict(item), "dims": list(item.dims)} for item in listed]


def parameters_of(job: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Parameters that a program's job lists, or those of its GPT where it only has a `model`.

    Raises:
        BadInput: the job has neither, or its list cannot be read.
    """
    listed = job.get("parameters")
    if listed is None:
        if job.get("model") is None:
            raise BadInput("the program has no model to hold weights for, and lists no parameters")
        from yieldkit.workloads.gpt import GptShape, gpt_parameters

        return gpt_parameters(GptShape(**job["model"]))
    try:
        found = tuple(
            Parameter(str(one["name"]), tuple(int(n) for n in one["dims"]), str(one["init"]), float(one["std"]))
            for one in listed
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the program's parameters cannot be read: {type(error).__name__}: {error}") from error
    for one in found:
        if one.init not in INITS or not one.dims or min(one.dims) < 1 or not one.std >= 0:
            raise BadInput(f"parameter {one.name!r} has wrong dims, init or std", value=(one.dims, one.init, one.std))
    if len({one.name for one in found}) != len(found):
        raise BadInput("names of parameters must be unique", value=sorted(one.name for one in found))
    return found
