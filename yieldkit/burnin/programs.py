"""The programs that the emulator's bench knows: their parameters with defaults, checks, and how they are made."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from yieldkit.emulator.running import run
from yieldkit.errors import BadInput
from yieldkit.workloads.corpus import load_corpus
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import GptShape, gpt_training
from yieldkit.workloads.program import Program

__all__ = ["DEFAULTS", "check_parameters", "initial_weights", "make_program", "program_parameters"]

DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "gpt_training": {
        "rows": 4, "cols": 4, "layers": 1, "width": 32, "heads": 4, "context": 16, "sequences": 4,
        "vocabulary": 256, "steps": 48, "dtype": "bf16", "learning_rate": 3e-3, "seed": 0, "clean_runs": 3,
    },
    "gpt_decode": {
        "side": 4, "layers": 1, "width": 32, "heads": 4, "context": 16, "sequences": 4, "vocabulary": 256,
        "steps": 16, "dtype": "bf16", "learning_rate": 3e-3, "seed": 0, "trained_steps": 60, "prompt": 4,
    },
}  # fmt: skip


def program_parameters(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a program kind with the defaults filled in."""
    return {**DEFAULTS[kind], **given}


def check_parameters(kind: str, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name every parameter of a program kind that is unknown or wrong."""
    problems = []
    known = DEFAULTS[kind]
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
            problems.append((f"program.{name}", f"{kind} has no such parameter{hint}"))
        elif isinstance(known[name], float):
            if isinstance(value, bool) or not isinstance(value, int | float):
                problems.append((f"program.{name}", f"must be a number, got {value!r}"))
        elif isinstance(value, bool) or not isinstance(value, type(known[name])):
            problems.append((f"program.{name}", f"must be {type(known[name]).__name__}, got {value!r}"))
        elif isinstance(value, int) and value < (0 if name in ("seed", "trained_steps") else 1):
            problems.append((f"program.{name}", f"must be positive, got {value!r}"))
    if not problems:
        try:
            make_program(kind, program_parameters(kind, given))
        except BadInput as error:
            problems.append(("program", str(error)))
    return problems


def make_program(kind: str, p: Mapping[str, Any]) -> Program:
    """The program of a kind with all its parameters.

    Raises:
        BadInput: the sizes do not fit each other.
    """
    shape = GptShape(**{name: int(p[name]) for name in asdict(GptShape())})
    if shape.vocabulary < 256:
        raise BadInput("the corpus is bytes: vocabulary must be 256 or more", value=shape.vocabulary)
    if kind == "gpt_training":
        return gpt_training(
            shape, rows=int(p["rows"]), cols=int(p["cols"]), dtype=str(p["dtype"]), seed=int(p["seed"]),
            learning_rate=float(p["learning_rate"]),
        )  # fmt: skip
    if p["prompt"] > p["context"] or p["steps"] > p["context"]:
        raise BadInput("prompt and steps must be at most the context", value=(p["prompt"], p["steps"], p["context"]))
    tokens, _ = load_corpus().held_out_windows(int(p["prompt"]), shape.sequences)
    prompts = tokens[: shape.sequences].astype(int).tolist()
    return gpt_decode(shape, side=int(p["side"]), dtype=str(p["dtype"]), prompts=prompts, seed=int(p["seed"]))


def initial_weights(p: Mapping[str, Any], fabric: Any) -> dict[str, Any] | None:
    """Weights for decoding: the same model after a short training on the same fabric."""
    if not p["trained_steps"]:
        return None
    side = int(p["side"])
    shape = GptShape(**{name: int(p[name]) for name in asdict(GptShape())})
    program = gpt_training(
        shape, rows=1, cols=side, dtype=str(p["dtype"]), seed=int(p["seed"]), learning_rate=float(p["learning_rate"])
    )
    return run(program, fabric, steps=int(p["trained_steps"]), taps=False).memoryx.weights
