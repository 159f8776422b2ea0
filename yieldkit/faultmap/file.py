"""Fault map files: one JSON object, versioned, with a checksum; every mistake is named with its line.

`docs/wafer.md` documents the format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from yieldkit.errors import BadFile, BadInput
from yieldkit.faultmap.fault_map import FaultMap
from yieldkit.faultmap.outcome import EFFECTS, DefectOutcome
from yieldkit.faultmap.sites import SiteProblem
from yieldkit.files import fingerprint, read_bytes, write_text
from yieldkit.wafer.toml_text import did_you_mean

if TYPE_CHECKING:
    from yieldkit.wafer import WaferSpec

__all__ = ["FORMAT", "VERSION", "load", "save"]

FORMAT: Final = "yieldkit-fault-map"
VERSION: Final = 1
_LISTS: Final = ("spans", "absent", "dead_cores", "dead_links", "dead_routers", "marginal_cores", "outcomes", "notes")
_TEXTS: Final = ("wafer_name", "spec_fingerprint", "wafer_id")
_KEYS: Final = ("format", "version", *_TEXTS, "shape", *_LISTS, "wafer_killed", "checksum")


def save(faults: FaultMap, path: str | Path) -> Path:
    """Write the map, whole or not at all, one entry a line."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "wafer_name": faults.wafer_name,
        **faults.facts(),
        "outcomes": [list(astuple(outcome)) for outcome in faults.outcomes],
        "notes": list(faults.notes),
    }
    content["checksum"] = _checksum(content)
    parts = []
    for key in _KEYS:
        value = content[key]
        text = json.dumps(value, allow_nan=False)
        if key in _LISTS and value:
            text = "[\n  " + ",\n  ".join(json.dumps(item, allow_nan=False) for item in value) + "\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    return write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def load(path: str | Path, *, wafer: WaferSpec | None = None) -> FaultMap:
    """Read a map.

    Args:
        path: the file.
        wafer: when given, the map must have been made for this spec.

    Raises:
        BadFile: missing, cut short, altered, of another version or wafer spec, or with a site that cannot be.
    """
    text, content = _parse(path)
    _check_head(path, text, content)
    if wafer is not None and content.get("spec_fingerprint") != wafer.fingerprint:
        raise BadFile(
            path,
            f"was made for another wafer spec than {wafer.name} ({wafer.fingerprint})",
            where=_place(text, "spec_fingerprint"),
            value=content.get("spec_fingerprint", ""),
            cure="use the spec of the map, or make the map again",
        )
    try:
        return FaultMap(
            tuple(content["shape"]),
            spans=_spans(content["spans"]) if "spans" in content else None,
            outcomes=[_outcome(i, item) for i, item in enumerate(content.get("outcomes", ()))],
            **{
                key: content[key]
                for key in _KEYS
                if key in content and key not in ("format", "version", "checksum", "shape", "spans", "outcomes")
            },
        )
    except SiteProblem as error:
        raise BadFile(
            path,
            f"{error.name}[{error.index}] {error.reason}",
            where=_place(text, error.name, error.index),
            value=error.value,
        ) from None
    except BadInput as error:
        raise BadFile(path, error.what, value=error.value, cure=error.cure) from None


def _parse(path: str | Path) -> tuple[str, dict[str, Any]]:
    data = read_bytes(path, limit_bytes=1 << 28)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFile(path, "is not UTF-8 text", where=f"byte {error.start}") from None

    def no_constant(name: str) -> float:
        raise BadFile(path, "holds a number that is not finite", value=name)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise BadFile(path, "gives a field twice", value=key)
            seen[key] = value
        return seen

    try:
        content = json.loads(text, parse_constant=no_constant, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip())
        cure = "the file is cut short: copy it again" if cut else ""
        raise BadFile(path, f"is not JSON: {error.msg}", where=f"line {error.lineno}", cure=cure) from None
    except (ValueError, RecursionError):
        raise BadFile(path, "is not JSON of a sensible size") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadFile(path, "is not a fault map", cure=f'its first field must be "format": "{FORMAT}"')
    return text, content


def _check_head(path: str | Path, text: str, content: Mapping[str, Any]) -> None:
    """Version, names and kinds of the fields, checksum."""
    if content.get("version") != VERSION or isinstance(content.get("version"), bool):
        raise BadFile(path, f"has another version than {VERSION}", value=content.get("version"))
    for key in content:
        if key not in _KEYS:
            raise BadFile(
                path, "there is no such field", where=_place(text, key), value=key, cure=did_you_mean(key, _KEYS)
            )
    shape = content.get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int for n in shape):
        raise BadFile(path, "shape must be two counts", where=_place(text, "shape"), value=shape)
    kinds = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_LISTS, list), "wafer_killed": bool, "checksum": str}
    for key, kind in kinds.items():
        if key in content and not isinstance(content[key], kind):
            words = {str: "a text", list: "a list", bool: "true or false"}
            raise BadFile(path, f"{key} must be {words[kind]}", where=_place(text, key), value=content[key])
    for i, note in enumerate(content.get("notes", ())):
        if not isinstance(note, str):
            raise BadFile(path, f"notes[{i}] must be a text", where=_place(text, "notes", i), value=note)
    if "checksum" in content and content["checksum"] != _checksum(content):
        raise BadFile(
            path,
            "was altered: its checksum does not match",
            where=_place(text, "checksum"),
            cure="copy it again, or delete the checksum line if you edited it yourself",
        )


def _checksum(content: Mapping[str, Any]) -> str:
    return fingerprint({key: value for key, value in content.items() if key != "checksum"})


def _spans(runs: list[Any]) -> list[tuple[int, int]]:
    """Rows of [[count, start, stop], ...]."""
    spans: list[tuple[int, int]] = []
    for i, run in enumerate(runs):
        fine = isinstance(run, list) and len(run) == 3 and all(type(n) is int for n in run)
        if not fine or not 1 <= run[0] <= 1_000_000 - len(spans):
            raise SiteProblem("spans", i, "must be [count, start, stop]", run)
        spans += [(run[1], run[2])] * run[0]
    return spans


def _outcome(i: int, item: object) -> DefectOutcome:
    if isinstance(item, list) and len(item) == 8:
        whole = [v for v in (item[0], item[4], item[5]) if type(v) is int]
        real = [float(v) for v in item[1:4] if type(v) in (int, float) and math.isfinite(v)]
        landed_on, effect = item[6:]
        if len(whole) == len(real) == 3 and isinstance(landed_on, str) and effect in EFFECTS:
            return DefectOutcome(whole[0], real[0], real[1], real[2], whole[1], whole[2], landed_on, effect)
    raise SiteProblem("outcomes", i, "must be [defect, x_mm, y_mm, size_um, row, col, landed_on, effect]", item)


def _place(text: str, key: str, index: int | None = None) -> str:
    """Line of a top-level field, or of one entry of its list, e.g. "line 12"."""
    decoder = json.JSONDecoder()
    try:
        at = _skip(text, 0, "{")
        while text[at] == '"':
            name, after = decoder.raw_decode(text, at)
            value_at = _skip(text, after, ":")
            if name == key:
                at = value_at if index is not None else at
                break
            at = _skip(text, decoder.raw_decode(text, value_at)[1], ",")
        if index is not None:
            at = _skip(text, at, "[")
            for _ in range(index):
                at = _skip(text, decoder.raw_decode(text, at)[1], ",")
    except (ValueError, IndexError):
        return ""
    return f"line {1 + text.count(chr(10), 0, at)}"


def _skip(text: str, at: int, mark: str) -> int:
    """Past white space, one optional mark, and white space again."""
    while text[at].isspace():
        at += 1
    at += text[at] == mark
    while text[at].isspace():
        at += 1
    return at
