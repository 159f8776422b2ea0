"""`yieldkit emulate program`: write a program as a file of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from yieldkit.cli import emit, json_option

__all__ = ["program"]

F = TypeVar("F", bound=Callable[..., Any])

_KINDS: Final[dict[str, tuple[str, str | tuple[str, ...]]]] = {
    # kind: (module, sizes: the class that has them, or their names)
    "cg": ("conjugate_gradient", ("depth",)),
    "cnn_forward": ("cnn", "CnnShape"),
    "cnn_training": ("cnn", "CnnShape"),
    "gpt_decode": ("decode", "GptShape"),
    "gpt_forward": ("gpt", "GptShape"),
    "gpt_training": ("gpt", "GptShape"),
    "mlp_forward": ("mlp", "MlpShape"),
    "mlp_training": ("mlp", "MlpShape"),
    "moe_forward": ("moe", "MoeShape"),
    "moe_training": ("moe", "MoeShape"),
    "stencil": ("poisson", ("depth",)),
}


def _size(name: str, text: str, least: int = 1) -> Callable[[F], F]:
    return click.option(f"--{name}", type=click.IntRange(min=least), help=f"{text}; default: the kind's own.")


@click.command("program")
@click.argument("kind", type=click.Choice(sorted(_KINDS)))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Write the program to this file.")
@click.option("--rows", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--cols", type=click.IntRange(min=1), default=8, show_default=True, help="For gpt_decode: the square's side."
)
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), default="bf16", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@_size("layers", "Layers")
@_size("width", "Features (gpt, moe, mlp)")
@_size("heads", "Attention heads (gpt, moe)")
@_size("context", "Positions of a sequence (gpt, moe)", 2)
@_size("sequences", "Sequences a step (gpt, moe)")
@_size("experts", "Experts of a mixture (moe)", 2)
@_size("every", "A mixture in every so many layers (moe)")
@_size("channels", "Channels of the first layer (cnn)")
@_size("samples", "Images a step (mlp, cnn)")
@_size("side", "Pixels of an image's side (mlp, cnn)", 4)
@_size("classes", "Classes of images (mlp, cnn)", 4)
@_size("depth", "Points a core (stencil, cg)")
@_size("noise", "Largest noise on a pixel, in 64ths (mlp, cnn)", 0)
@json_option
def program(
    kind: str, out: Path, rows: int, cols: int, dtype: str, seed: int, *, as_json: bool, **sizes: int | None
) -> None:
    """Write a program as a file of data."""
    import importlib

    from yieldkit.emulator import lower

    home, names = _KINDS[kind]
    module = importlib.import_module(f"yieldkit.workloads.{home}")
    given = {name: value for name, value in sizes.items() if value is not None}
    maker = getattr(module, kind)
    if isinstance(names, tuple):
        _check_sizes(kind, given, names)
        made = maker(rows=rows, cols=cols, seed=seed, **given)
    else:
        shape = getattr(module, names)
        _check_sizes(kind, given, tuple(name for name in shape.__dataclass_fields__ if name != "vocabulary"))
        place = {"side": cols} if kind == "gpt_decode" else {"rows": rows, "cols": cols}
        made = maker(shape(**given), dtype=dtype, seed=seed, **place)
    lowered = lower(made)
    path = made.save(out)
    top = min(low.table_base for low in lowered.launches)
    facts = {
        "path": str(path),
        "fingerprint": made.fingerprint,
        "launches": len(made.launches),
        "phases": len(made.phases),
        "lowest_table_base": top,
    }
    text = f"{path}: {made.name}, {len(made.launches)} launches, {len(made.phases)} phases, {made.fingerprint}"
    emit(facts, text, as_json=as_json)


def _check_sizes(kind: str, given: dict[str, int], names: tuple[str, ...]) -> None:
    """Refuse an option of another kind by its name."""
    from yieldkit.errors import BadInput

    for size in given:
        if size not in names:
            raise BadInput(
                f"{kind} has no --{size}", cure=f"its sizes are {', '.join(f'--{n}' for n in sorted(names))}"
            )
