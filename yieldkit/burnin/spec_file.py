"""From TOML text to a valid spec: overrides, paths, and every wrong field named at once."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from yieldkit.burnin.spec import (
    BITS,
    FAULT_KINDS,
    FILE_FIELDS,
    KIND_GROUPS,
    MODELS,
    PHASES,
    PROGRAM_KINDS,
    RATE_GROUPS,
    SITES,
    CampaignSpec,
    model_bits,
)
from yieldkit.burnin.trial import bench_module
from yieldkit.errors import BadFile, BadInput, BadSpec
from yieldkit.files import read_bytes

__all__ = ["apply_overrides", "parse_toml", "toml_text", "validate", "with_absolute_paths"]

_SPEC_LIMIT_BYTES: Final = 1 << 20


def parse_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        BadFile: it is missing, too large, not UTF-8 or not TOML (with the line).
    """
    data = read_bytes(path, limit_bytes=_SPEC_LIMIT_BYTES)
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise BadFile(path, "is not UTF-8 text", where=f"byte {error.start}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadFile(path, f"is not valid TOML: {error}") from error


def apply_overrides(tables: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Set `a.b=value` on a copy of `tables`; values are TOML, and a bare word that is not TOML is a string.

    Raises:
        BadInput: an override has no `=`, an empty name, or goes through something that is not a table.
    """
    result: dict[str, Any] = _copy(tables)
    for override in overrides:
        path, equals, text = override.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names):
            raise BadInput("an override must read a.b=value", value=override, cure="e.g. --set campaign.trials=500")
        table = result
        for name in names[:-1]:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise BadInput(f"cannot set {path.strip()}: {name} is a value, not a table", value=override)
            table = inner
        table[names[-1]] = _toml_value(text.strip())
    return result


def validate(
    tables: Mapping[str, Any], *, source: str, folder: Path, benches: Mapping[str, str] | None = None
) -> CampaignSpec:
    """Check the tables of a spec and make its file paths absolute.

    Args:
        tables: as read from TOML.
        source: what to call the spec in an error.
        folder: where relative paths start.
        benches: further kinds of bench, see `bench_module`.

    Raises:
        BadSpec: any field is unknown, missing or wrong; all of them are named.
    """
    problems: dict[str, str] = {}
    spec: CampaignSpec | None = None
    tables = with_absolute_paths(tables, folder)
    try:
        text = json.dumps(tables)
    except (TypeError, ValueError):
        wrong = [(path, "is a date or time, which no field takes") for path in _not_json(tables)]
        raise BadSpec(source, wrong) from None
    try:
        spec = CampaignSpec.model_validate_json(text)
    except ValidationError as error:
        problems.update(_problems(error, tables))
    for path, what in [*_across_fields(tables), *_bench_problems(tables, benches)]:
        problems.setdefault(path, what)
    if problems or spec is None:
        raise BadSpec(source, list(problems.items()))
    return spec


def with_absolute_paths(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of the file fields absolute; relative ones start at `folder`."""
    result: dict[str, Any] = _copy(tables)
    for *names, last in FILE_FIELDS:
        table: Any = result
        for name in names:
            table = table.get(name) if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(table.get(last), str) and table[last]:
            table[last] = str((folder / Path(table[last]).expanduser()).resolve())
    return result


def toml_text(tables: Mapping[str, Any]) -> str:
    """Write nested tables of numbers, strings and truth values as TOML."""
    lines: list[str] = []
    _toml_lines(tables, (), lines)
    return "\n".join(lines).strip() + "\n"


def _across_fields(tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rules between fields; the data may be wrong in any other way."""
    problems: list[tuple[str, str]] = []
    wafer, defects = _table(tables, "wafer"), _table(tables, "wafer", "defects")
    if "wafer" in tables and ("preset" in wafer) == ("spec" in wafer):
        problems.append(("wafer", "needs either preset or spec, one of them"))
    if "defects" in wafer:
        if ("law" in defects) == ("klarf" in defects):
            problems.append(("wafer.defects", "needs either law or klarf, one of them"))
        elif "law" in defects:
            if "d0_per_cm2" not in defects:
                problems.append(("wafer.defects.d0_per_cm2", "is missing; a law needs it"))
            if (defects["law"] == "negative_binomial") != ("alpha" in defects):
                problems.append(("wafer.defects.alpha", "belongs to the law negative_binomial, which needs it"))
        for name in ("wafer_id", "place"):
            if ("klarf" in defects) != (name in defects):
                problems.append((f"wafer.defects.{name}", "belongs to klarf, which needs it"))
        for name in ("d0_per_cm2", "alpha", "seed"):
            if "klarf" in defects and "law" not in defects and name in defects:
                problems.append((f"wafer.defects.{name}", "belongs to a law, not to klarf"))
    for names in FILE_FIELDS:
        value = _table(tables, *names[:-1]).get(names[-1])
        if isinstance(value, str) and value and not Path(value).is_file():
            problems.append((".".join(names), f"there is no such file: {value}"))
    kinds = _table(tables, "faults", "kinds")
    for name, weights in (("kinds", kinds), ("models", _table(tables, "faults", "models"))):
        numbers = [weight for weight in weights.values() if isinstance(weight, int | float)]
        if numbers and len(numbers) == len(weights) and all(weight == 0 for weight in numbers):
            problems.append((f"faults.{name}", "need at least one weight above 0"))
    return problems + _strata_problems(tables) + _class_problems(tables)


def _strata_problems(tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    strata = _table(tables, "strata")
    problems = []
    by = strata.get("by")
    if isinstance(by, list) and len(set(map(str, by))) < len(by):
        problems.append(("strata.by", f"names something twice: {', '.join(map(str, by))}"))
    neyman = strata.get("allocation") == "neyman"
    for name in ("target", "mix"):
        if name in strata and not neyman:
            problems.append((f"strata.{name}", 'belongs to allocation = "neyman"'))
    if neyman and "target" not in strata:
        problems.append(("strata.target", "is missing; neyman needs the label, or the labels, whose rate matters"))
    return problems


def _class_problems(tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names of classes and models; those of kinds belong to the bench."""
    problems = []
    known: dict[str, tuple[str, ...]] = {
        "faults.importance": (*SITES, *BITS, *PHASES),
        "faults.models": MODELS,
        "rates": tuple(sorted((*SITES, *RATE_GROUPS))),
    }
    for table, names in known.items():
        for name in _table(tables, *table.split(".")):
            if name not in names and not (table == "faults.models" and model_bits(name)):
                problems.append((f"{table}.{name}", "is not known" + _suggest(name, names)))
    kinds = _table(tables, "faults", "kinds")
    for group, members in KIND_GROUPS.items():
        if group in kinds:
            problems += [(f"faults.kinds.{name}", f"is in {group} already") for name in members if name in kinds]
    return problems


def _bench_problems(tables: Mapping[str, Any], benches: Mapping[str, str] | None) -> list[tuple[str, str]]:
    campaign = _table(tables, "campaign")
    kind = campaign.get("bench", "emulator")
    problems: list[tuple[str, str]] = []
    if kind == "emulator":
        program = _table(tables, "program").get("kind")
        if isinstance(program, str) and program and program not in PROGRAM_KINDS:
            problems.append(("program.kind", f"got {program!r}, known: {', '.join(PROGRAM_KINDS)}" + _hint(program)))
        for name in _table(tables, "faults", "kinds"):
            if name not in FAULT_KINDS:
                problems.append((f"faults.kinds.{name}", "is not known" + _suggest(name, FAULT_KINDS)))
    if isinstance(kind, str) and kind:
        try:
            problems.extend(bench_module(kind, benches).check_spec(tables))
        except BadInput as error:
            problems.append(("campaign.bench", str(error)))
    return problems


def _problems(error: ValidationError, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for problem in error.errors(include_url=False, include_context=False):
        path = _path_in(tables, problem["loc"], missing=problem["type"] == "missing")
        name = ".".join(path)
        if problem["type"] == "missing":
            yield name, "is missing"
        elif problem["type"] == "extra_forbidden":
            yield name, "is not known" + _suggest(path[-1], _fields_at(path[:-1]))
        elif path[:1] == ["program"] and path != ["program"] and path[-1] != "kind":
            yield name, f"should be a finite number, a string or true or false, got {_shown(problem['input'])}"
        else:
            what = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
            yield name, f"{what}, got {_shown(problem['input'])}"


def _path_in(tables: Mapping[str, Any], loc: Sequence[int | str], *, missing: bool) -> list[str]:
    """The part of a pydantic location that exists in the data: unions add branch names, dictionaries "[key]"."""
    path: list[str] = []
    here: Any = tables
    for step in loc:
        if not isinstance(here, Mapping) or step not in here:
            if missing and isinstance(here, Mapping):
                path.append(str(step))
            break
        path.append(str(step))
        here = here[str(step)]
    return path


def _fields_at(path: Sequence[str]) -> list[str]:
    model: Any = CampaignSpec
    for name in path:
        annotation = model.model_fields[name].annotation
        choices = [annotation, *getattr(annotation, "__args__", ())]
        model = next(choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel))
    return list(model.model_fields)


def _suggest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, PROGRAM_KINDS, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _table(tables: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    here: Any = tables
    for name in names:
        here = here.get(name) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else {}


def _toml_lines(table: Mapping[str, Any], names: tuple[str, ...], lines: list[str]) -> None:
    values = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    if names and (values or not table):
        lines += ["", f"[{'.'.join(_toml_key(name) for name in names)}]"]
    lines += [f"{_toml_key(name)} = {_toml_scalar(value)}" for name, value in values.items()]
    for name, value in table.items():
        if isinstance(value, Mapping):
            _toml_lines(value, (*names, name), lines)


def _toml_key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return name if bare else _toml_scalar(name)


def _toml_scalar(value: Any) -> str:
    """JSON is TOML here, but for surrogate pairs (not written: no ASCII escapes) and DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_value(text: str) -> Any:
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return tables["value"] if set(tables) == {"value"} else text


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(item) for name, item in value.items()}
    return list(value) if isinstance(value, list) else value


def _not_json(value: Any, path: str = "") -> list[str]:
    if isinstance(value, Mapping):
        return [found for name, item in value.items() for found in _not_json(item, f"{path}.{name}".lstrip("."))]
    if isinstance(value, list):
        return [path] if any(_not_json(item, "item") for item in value) else []
    return [] if isinstance(value, bool | int | float | str) else [path]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
