"""Write api.md from the public surface: names, signatures and the first line of every docstring."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import yieldkit as yk

HERE = Path(__file__).resolve().parent
FOLDERS = ("burnin", "diagnosis", "emulator", "fabric", "faults", "reliability", "repair", "wafer", "workloads")
"""Folders whose own public names are listed after the top level; other folders have no more than that needs."""

HEAD = """# Public API

What `import yieldkit as yk` offers (`yk.__all__`), and the names of the folders below it. Names are imported when they
are first used. Arguments after `*` go by name. This page is written by `docs/make_api.py` from the docstrings;
`help(yk.NAME)` says more.
"""


def first_line(thing: object) -> str:
    """First sentence-like line of a docstring, whole even where it is wrapped."""
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split())


def signature(thing: Any) -> str:
    """Arguments without annotations; "" where there is none to show."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(...)"
    parts: list[str] = []
    star = False
    for name, parameter in found.parameters.items():
        if name in ("self", "cls"):
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            parts.append(f"*{name}")
            star = True
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            parts.append(f"**{name}")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        plain = parameter.default is parameter.empty
        default = "" if plain else f"={re.sub(r'<.*>', '...', repr(parameter.default))}"
        parts.append(name + default)
    return f"({', '.join(parts)})"


def members(cls: type) -> list[str]:
    """A line for every public method and property that the class or a base of its own defines."""
    lines = []
    seen: set[str] = set()
    for owner in cls.__mro__:
        if not owner.__module__.startswith("yieldkit"):
            continue
        for name, value in vars(owner).items():
            if name.startswith("_") or name in seen or name == "model_config":
                continue
            if isinstance(value, classmethod | staticmethod):
                text = f"`.{name}{signature(getattr(cls, name))}`"
            elif inspect.isfunction(value):
                text = f"`.{name}{signature(value)}`"
            elif isinstance(value, property) or type(value).__name__ == "cached_property":
                text = f"`.{name}`"
            else:
                continue
            seen.add(name)
            line = first_line(getattr(value, "func", value) if not isinstance(value, classmethod) else value.__func__)
            lines.append(f"- {text}: {line}" if line else f"- {text}")
    return lines


def entry(name: str, thing: Any, level: str) -> list[str]:
    """One name: heading, signature, description, members."""
    if inspect.ismodule(thing):
        return [f"{level} {name}", "", f"Module. {first_line(thing)} See [below](#yieldkit{name})."]
    if inspect.isclass(thing):
        pydantic = hasattr(thing, "model_fields")
        shown = "" if pydantic else signature(thing)
        lines = [f"{level} {name}", "", f"`{name}{shown}`", "", first_line(thing), ""]
        if pydantic:
            lines[2] = f"`{name}`, fields " + ", ".join(f"`{field}`" for field in thing.model_fields)
        return [*lines, *members(thing)]
    if callable(thing):
        return [f"{level} {name}", "", f"`{name}{signature(thing)}`", "", first_line(thing)]
    return [f"{level} {name}", "", "The version, a string." if name == "__version__" else f"`{type(thing).__name__}`."]


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for name in yk.__all__:
        lines += [*entry(name, getattr(yk, name), "##"), ""]
    for folder in FOLDERS:
        module = importlib.import_module(f"yieldkit.{folder}")
        lines += [f"## yieldkit.{folder}", "", first_line(module), ""]
        for name in sorted(module.__all__):
            thing = getattr(module, name)
            if name in yk.__all__:
                lines.append(f"- [`{name}`](#{name.lower()})")
            elif inspect.isclass(thing) or inspect.isfunction(thing):
                shown = "" if hasattr(thing, "model_fields") else signature(thing)
                lines.append(f"- `{name}{shown}`: {first_line(thing)}")
            else:
                lines.append(f"- `{name}`")
        lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


if __name__ == "__main__":
    (HERE / "api.md").write_text(page())
    sys.stdout.write(f"{HERE / 'api.md'}\n")
