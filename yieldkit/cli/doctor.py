"""`yieldkit doctor`: what this installation has, and whether its heart works."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from typing import Any, Final

import click

from yieldkit.cli import emit, json_option
from yieldkit.version import __version__

__all__ = ["command"]

_REQUIRED: Final = ("numpy", "scipy", "pandas", "matplotlib", "ortools", "numba", "click", "pydantic", "jinja2", "loky")
_OPTIONAL: Final = ("torch", "distributed", "pyarrow", "nbclient")


@click.command()
@json_option
def command(*, as_json: bool) -> None:
    """Say what is installed, and run one training step on all three interpreters; exit 3 when they differ."""
    from yieldkit.errors import AnswerIsNo

    versions = {name: _version(name) for name in (*_REQUIRED, *_OPTIONAL)}
    agree = _interpreters_agree()
    facts: dict[str, Any] = {
        "yieldkit": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": versions,
        "chromium": shutil.which("chromium") is not None,
        "interpreters_agree": agree,
    }
    lines = [f"yieldkit {__version__}, Python {facts['python']}, {facts['machine']}"]
    lines += [f"  {name:<12} {version or 'not installed'}" for name, version in versions.items()]
    lines.append(f"  chromium     {'there' if facts['chromium'] else 'not installed (only a test needs it)'}")
    lines.append(
        f"tensor executor, reference machine and wavelet executor {'give the same bits' if agree else 'DIFFER'}"
    )
    emit(facts, "\n".join(lines), as_json=as_json)
    missing = [name for name in _REQUIRED if versions[name] is None]
    if missing:
        raise AnswerIsNo(f"missing: {', '.join(missing)}")
    if not agree:
        raise AnswerIsNo("the interpreters differ on this machine: results cannot be trusted")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _interpreters_agree() -> bool:
    from yieldkit.emulator import run
    from yieldkit.fabric import Fabric
    from yieldkit.workloads import gpt_training

    program = gpt_training(rows=2, cols=2, layers=1, width=8, heads=2, context=4, sequences=2, vocabulary=256)
    fabric = Fabric.perfect(2, 2)
    return len({run(program, fabric, executor=name).state_hash for name in ("tensor", "reference", "wavelet")}) == 1
