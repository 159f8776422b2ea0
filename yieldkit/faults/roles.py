"""What a tensor is for, read from how a program makes and uses it, never from its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from yieldkit.workloads.program import (
    ChainAccumulate,
    Compute,
    Launch,
    Phase,
    Program,
    StreamIn,
    StreamOut,
    WGrad,
    instrs_of,
    tensors_of,
    written_by,
)

__all__ = ["launch_kinds", "tensor_roles"]

_PASSES = 2  # a step's kept tensors may feed the next step's outputs


def tensor_roles(program: Program) -> dict[str, str]:
    """Role of every tensor of a program.

    "weights": parameters that stay resident, or come from MemoryX as such. "kv": kept from step to step and written by
    the program. "gradients": feeds what goes out as the gradient of a parameter, but no other output. "activations":
    everything else that changes. "other": constants.
    """
    parameters = {item["stream"] for item in program.job.get("inputs", ()) if "param" in item}
    outputs = program.job.get("outputs", ())
    training = program.job.get("kind") == "training"
    gradients = {item["stream"] for item in outputs if training and _is_gradient(item)}
    written = {name for phase in program.phases for name in written_by(phase)}
    arriving = {phase.tensor for phase in program.phases if isinstance(phase, StreamIn) and phase.stream in parameters}
    values = _ancestors(program, lambda stream: stream not in gradients)
    backward = _ancestors(program, lambda stream: stream in gradients)
    roles = {}
    for tensor in program.tensors:
        name = tensor.name
        if tensor.values:
            roles[name] = "other"
        elif name in arriving or (tensor.keep and name not in written):
            roles[name] = "weights"
        elif tensor.keep:
            roles[name] = "kv"
        elif name in backward and name not in values:
            roles[name] = "gradients"
        else:
            roles[name] = "activations"
    return roles


def launch_kinds(program: Program) -> dict[str, str]:
    """Kind of every launch by name: "forward", "head" (makes activations and gradients), "backward"; "token" in
    decoding.
    """
    if program.job.get("kind") == "decode":
        return {launch.name: "token" for launch in program.launches}
    roles = tensor_roles(program)
    return {launch.name: _launch_kind(launch, roles) for launch in program.launches}


def _launch_kind(launch: Launch, roles: Mapping[str, str]) -> str:
    made = [roles.get(name) for phase in launch.phases if not isinstance(phase, StreamIn) for name in written_by(phase)]
    sends = any(isinstance(phase, WGrad) for phase in launch.phases)
    if "gradients" not in made and not sends:
        return "forward"
    # The loss and what else leaves without being a gradient turns the pass round.
    turns = any(isinstance(phase, StreamOut) and roles.get(phase.tensor) == "activations" for phase in launch.phases)
    return "head" if turns else "backward"


def _is_gradient(item: Mapping[str, object]) -> bool:
    """A stream that goes out for a parameter, or for the table of the embeddings, is a gradient."""
    return "param" in item or item.get("form") == "embedding"


def _ancestors(program: Program, accept: Callable[[str], bool]) -> set[str]:
    """Tensors that feed the outputs whose stream is accepted."""
    found: set[str] = set()
    for _ in range(_PASSES):
        for phase in reversed(program.phases):
            _take(phase, accept, found)
    return found


def _take(phase: Phase, accept: Callable[[str], bool], found: set[str]) -> None:
    if isinstance(phase, StreamOut | WGrad):
        if accept(phase.stream):
            found.update(tensors_of(phase))
    elif isinstance(phase, Compute | ChainAccumulate):
        for instr in reversed(instrs_of(phase)):
            if instr.d.tensor in found:
                found.update(ref.tensor for ref in (instr.a, instr.b) if ref is not None)
    elif found & set(written_by(phase)):
        found.update(name for name in tensors_of(phase) if name not in written_by(phase))
