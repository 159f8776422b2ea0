"""TOML in and out for specifications: every wrong field named at once, with the nearest right name."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from yieldkit.errors import BadFile, BadSpec

__all__ = ["did_you_mean", "read_toml", "to_toml", "validate"]

Model = TypeVar("Model", bound=BaseModel)


def read_toml(data: bytes, source: str) -> dict[str, Any]:
    """Parse TOML bytes; `source` is named in the error."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadFile(source, "is not UTF-8 text", where=f"byte {error.start}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadFile(source, f"is not TOML: {error}") from error


def validate(model: type[Model], data: Mapping[str, Any], source: str) -> Model:
    """Check nested plain values against a model, strictly.

    Raises:
        BadSpec: with the dotted path of every wrong field.
    """
    try:
        # The strict rules of JSON: 3 is a float, "3" and true are not numbers, lists are tuples.
        return model.model_validate_json(json.dumps(dict(data), default=str), strict=True)
    except BadSpec as error:
        raise BadSpec(source, error.problems) from None
    except ValidationError as error:
        raise BadSpec(source, [_problem(model, item) for item in error.errors()]) from None


def did_you_mean(word: str, known: Iterable[str], *, listed: bool = False) -> str:
    """A hint: the nearest known word, or the whole list when `listed` and none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are: {', '.join(names)}" if listed else ""


def _problem(model: type[BaseModel], item: Any) -> tuple[str, str]:
    """Turn one pydantic error into (path, what)."""
    location = item["loc"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if item["type"] == "extra_forbidden":
        hint = did_you_mean(str(location[-1]), _fields_at(model, location[:-1]))
        return path, "there is no such field" + (f"; {hint}" if hint else "")
    if item["type"] == "missing":
        return path, "is missing"
    text = item["msg"][0].lower() + item["msg"][1:]
    value = item["input"]
    shown = "" if isinstance(value, dict | list) else f", got {str(value)[:60]!r}"
    return path or "(top)", text + shown


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Field names of the section at a location."""
    here: Any = model
    for part in location:
        if isinstance(part, str):
            field = here.model_fields.get(part) if hasattr(here, "model_fields") else None
            here = field.annotation if field else None
        else:
            here = next(iter(get_args(here)), None)
    return sorted(here.model_fields) if hasattr(here, "model_fields") else []


def to_toml(data: Mapping[str, Any]) -> str:
    """Write nested plain values (numbers, texts, booleans, lists, dicts) as TOML."""
    lines: list[str] = []
    _table(data, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    plain = {k: v for k, v in data.items() if not isinstance(v, Mapping)}
    if path and (plain or not data):
        lines += ["", f"[{'.'.join(_key(part) for part in path)}]"]
    for key, value in plain.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [f"{_key(key)} = [", *(f"  {_value(item)}," for item in value), "]"]
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in data.items():
        if isinstance(value, Mapping):
            _table(value, (*path, key), lines)


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    return repr(value)
