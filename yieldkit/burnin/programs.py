"""The programs that the emulator's bench knows: their parameters with defaults, checks, and how they are made.

A kind of program is one entry of `KINDS`. What makes a program is imported when one is made, so that the names of the
kinds cost nothing.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from yieldkit.errors import BadInput

if TYPE_CHECKING:
    from yieldkit.workloads.program import Program

__all__ = ["KINDS", "ProgramKind", "check_parameters", "initial_weights", "make_program", "program_parameters"]

Parameters = Mapping[str, Any]
_DTYPES: Final = ("bf16", "fp16", "fp32")
_FROM_ZERO: Final = ("noise", "seed", "trained_steps")


@dataclass(frozen=True)
class ProgramKind:
    """A kind of program.

    Attributes:
        defaults: every parameter with its default, whose type a given value must have; `steps` is one of them. For a
            forward pass a step is a batch.
        make: the program of a full set of parameters; raises BadInput where they do not fit each other.
        trained: the training program, of `trained_steps` steps, whose weights a run starts from; None: fresh weights.
    """

    defaults: Parameters
    make: Callable[[Parameters], Program]
    trained: Callable[[Parameters], Program] | None = None


def program_parameters(kind: str, given: Parameters) -> dict[str, Any]:
    """Parameters of a program kind with the defaults filled in."""
    return {**KINDS[kind].defaults, **given}


def check_parameters(kind: str, given: Parameters) -> list[tuple[str, str]]:
    """Name every parameter of a program kind that is unknown or wrong."""
    problems = []
    known = KINDS[kind].defaults
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
            problems.append((f"program.{name}", f"{kind} has no such parameter{hint}"))
        elif isinstance(known[name], float):
            if isinstance(value, bool) or not isinstance(value, int | float):
                problems.append((f"program.{name}", f"must be a number, got {value!r}"))
            elif value < 0:
                problems.append((f"program.{name}", f"must not be negative, got {value!r}"))
        elif isinstance(value, bool) or not isinstance(value, type(known[name])):
            problems.append((f"program.{name}", f"must be {type(known[name]).__name__}, got {value!r}"))
        elif isinstance(value, int) and value < (0 if name in _FROM_ZERO else 1):
            problems.append((f"program.{name}", f"must be positive, got {value!r}"))
        elif name == "dtype" and value not in _DTYPES:
            problems.append((f"program.{name}", f"must be one of {', '.join(_DTYPES)}, got {value!r}"))
    if not problems:
        try:
            make_program(kind, program_parameters(kind, given))
        except BadInput as error:
            problems.append(("program", str(error)))
    return problems


def make_program(kind: str, p: Parameters) -> Program:
    """The program of a kind with all its parameters.

    Raises:
        BadInput: the sizes do not fit each other.
    """
    return KINDS[kind].make(p)


def initial_weights(kind: str, p: Parameters, fabric: Any) -> dict[str, Any] | None:
    """Weights to start from: those of the same model after a short training on the same fabric, or None."""
    trained = KINDS[kind].trained
    if trained is None or not p["trained_steps"]:
        return None
    from yieldkit.emulator.running import run

    return run(trained(p), fabric, steps=int(p["trained_steps"]), taps=False).memoryx.weights


def _sized(shape: type[Any], p: Parameters) -> Any:
    """A model's shape from the parameters of its sizes."""
    return shape(**{one.name: int(p[one.name]) for one in fields(shape)})


def _options(p: Parameters, *, training: bool) -> dict[str, Any]:
    options = {"rows": int(p["rows"]), "cols": int(p["cols"]), "dtype": str(p["dtype"]), "seed": int(p["seed"])}
    return options | ({"learning_rate": float(p["learning_rate"])} if training else {})


def _text(shape: type[Any], p: Parameters) -> Any:
    made = _sized(shape, p)
    if made.vocabulary < 256:
        raise BadInput("the corpus is bytes: vocabulary must be 256 or more", value=made.vocabulary)
    return made


def _gpt_training(p: Parameters) -> Program:
    from yieldkit.workloads.gpt import GptShape, gpt_training

    return gpt_training(_text(GptShape, p), **_options(p, training=True))


def _gpt_forward(p: Parameters) -> Program:
    from yieldkit.workloads.gpt import GptShape, gpt_forward

    return gpt_forward(_text(GptShape, p), **_options(p, training=False))


def _gpt_decode(p: Parameters) -> Program:
    from yieldkit.workloads.corpus import load_corpus
    from yieldkit.workloads.decode import gpt_decode
    from yieldkit.workloads.gpt import GptShape

    shape = _text(GptShape, p)
    if p["prompt"] > p["context"] or p["steps"] > p["context"]:
        raise BadInput("prompt and steps must be at most the context", value=(p["prompt"], p["steps"], p["context"]))
    tokens, _ = load_corpus().held_out_windows(int(p["prompt"]), shape.sequences)
    prompts = tokens[: shape.sequences].astype(int).tolist()
    return gpt_decode(shape, side=int(p["side"]), dtype=str(p["dtype"]), prompts=prompts, seed=int(p["seed"]))


def _decode_training(p: Parameters) -> Program:
    # As many rows as sequences allow: on a single one the head of all sequences together outgrows a core.
    return _gpt_training({**p, "rows": math.gcd(int(p["sequences"]), int(p["side"])), "cols": p["side"]})


def _moe_training(p: Parameters) -> Program:
    from yieldkit.workloads.moe import MoeShape, moe_training

    return moe_training(_text(MoeShape, p), balance=float(p["balance"]), **_options(p, training=True))


def _mlp_training(p: Parameters) -> Program:
    from yieldkit.workloads.mlp import MlpShape, mlp_training

    return mlp_training(_sized(MlpShape, p), **_options(p, training=True))


def _cnn_training(p: Parameters) -> Program:
    from yieldkit.workloads.cnn import CnnShape, cnn_training

    return cnn_training(_sized(CnnShape, p), **_options(p, training=True))


def _cnn_forward(p: Parameters) -> Program:
    from yieldkit.workloads.cnn import CnnShape, cnn_forward

    return cnn_forward(_sized(CnnShape, p), **_options(p, training=False))


def _cg(p: Parameters) -> Program:
    from yieldkit.workloads.conjugate_gradient import cg

    return cg(rows=int(p["rows"]), cols=int(p["cols"]), depth=int(p["depth"]), seed=int(p["seed"]))


def _stencil(p: Parameters) -> Program:
    from yieldkit.workloads.poisson import stencil

    return stencil(rows=int(p["rows"]), cols=int(p["cols"]), depth=int(p["depth"]), seed=int(p["seed"]))


_PLACE: Final = {"rows": 4, "cols": 4}
_GPT: Final = {"layers": 1, "width": 32, "heads": 4, "context": 16, "sequences": 4, "vocabulary": 256}
_IMAGES: Final = {"side": 16, "classes": 8, "noise": 12, "samples": 16}
_CNN: Final = {"layers": 3, "channels": 4, **_IMAGES, "learning_rate": 1e-2}
_MLP: Final = {"layers": 2, "width": 32, **_IMAGES, "learning_rate": 1e-2}
_RUN: Final = {"steps": 48, "dtype": "bf16", "learning_rate": 3e-3, "seed": 0}
_PASSES: Final = {"steps": 16, "dtype": "bf16", "learning_rate": 3e-3, "seed": 0, "trained_steps": 60}

_GRID: Final = {**_PLACE, "depth": 8, "seed": 0}

KINDS: Final[Mapping[str, ProgramKind]] = {
    "cg": ProgramKind({**_GRID, "steps": 32}, _cg),
    "cnn_forward": ProgramKind({**_PLACE, **_PASSES, **_CNN, "trained_steps": 96}, _cnn_forward, _cnn_training),
    "cnn_training": ProgramKind({**_PLACE, **_RUN, **_CNN, "steps": 96, "clean_runs": 3}, _cnn_training),
    "gpt_decode": ProgramKind({"side": 4, **_GPT, **_PASSES, "prompt": 4}, _gpt_decode, _decode_training),
    "gpt_forward": ProgramKind({**_PLACE, **_GPT, **_PASSES}, _gpt_forward, _gpt_training),
    "gpt_training": ProgramKind({**_PLACE, **_GPT, **_RUN, "clean_runs": 3}, _gpt_training),
    "mlp_training": ProgramKind({**_PLACE, **_RUN, **_MLP, "steps": 96, "clean_runs": 3}, _mlp_training),
    "moe_training": ProgramKind(
        {**_PLACE, **_GPT, "experts": 4, "every": 1, "balance": 1e-2, **_RUN, "clean_runs": 3}, _moe_training
    ),
    "stencil": ProgramKind({**_GRID, "steps": 4}, _stencil),
}
"""By name, sorted."""
