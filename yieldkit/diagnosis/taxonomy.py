"""The fault taxonomy: one data file, checked when it is read, extended by a second file of the same form."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from yieldkit.errors import BadFile, BadInput, BadSpec
from yieldkit.files import read_bytes

__all__ = ["AXES", "SCHEMA", "Axis", "Entry", "Taxonomy", "Word", "load_taxonomy"]

SCHEMA: Final = 1
AXES: Final = ("cause", "site", "persistence", "activation", "fault_model", "manifestation", "detection", "action")
"""The axes that every taxonomy has; a second file may add others."""

_ENTRY_FIELDS: Final = frozenset(
    [
        "axis",
        "id",
        "name",
        "definition",
        "priority",
        "judge",
        "diagnosed_as",
        "needs",
        "evidence",
        "class",
        "immediate",
        "follow_up",
        "source",
    ]
)
_MANIFESTATION_FIELDS: Final = ("priority", "judge", "evidence", "class", "immediate", "follow_up", "source")


@dataclass(frozen=True)
class Axis:
    """One question about an event; an event has one answer per axis."""

    id: str
    name: str
    definition: str


@dataclass(frozen=True)
class Entry:
    """One answer on an axis.

    The fields from `priority` on are filled on the axis "manifestation" only: the order in which codes are tried, who
    can give the code ("diagnosis" from observations, "referee" from the truth), the evidence it needs, its class, what
    to do at once and afterwards. `diagnosed_as` is the blind answer that is right for this code, `needs` names the
    detection channel without which it cannot be right.
    """

    axis: str
    id: str
    name: str
    definition: str
    source: str = ""
    priority: int = 0
    judge: Literal["diagnosis", "referee", ""] = ""
    diagnosed_as: str = ""
    needs: str = ""
    evidence: str = ""
    outcome_class: str = ""
    immediate: str = ""
    follow_up: str = ""


@dataclass(frozen=True)
class Word:
    """A word of the machine's operators and the codes that it usually turns into."""

    id: str
    kind: str
    meaning: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taxonomy:
    """A whole taxonomy; `version` changes whenever an entry does."""

    version: str
    title: str
    axes: tuple[Axis, ...]
    entries: tuple[Entry, ...]
    words: tuple[Word, ...] = ()

    def on(self, axis: str) -> tuple[Entry, ...]:
        """Entries of one axis, manifestations in order of priority."""
        found = [entry for entry in self.entries if entry.axis == axis]
        return tuple(sorted(found, key=lambda entry: entry.priority))

    def manifestation(self, code: str) -> Entry:
        """The manifestation `code`.

        Raises:
            BadInput: the taxonomy has no such code.
        """
        for entry in self.entries:
            if entry.axis == "manifestation" and entry.id == code:
                return entry
        known = ", ".join(entry.id for entry in self.on("manifestation"))
        raise BadInput("unknown manifestation code", value=code, cure=f"known are {known}")

    def right_answer(self, label: str) -> str:
        """The blind code that is right for the referee's `label` (MASKED_* and BENIGN: MASKED_OR_BENIGN)."""
        return self.manifestation(label).diagnosed_as or label

    def extended(self, extra: Taxonomy) -> Taxonomy:
        """A taxonomy with the axes, entries and words of `extra` after its own.

        Raises:
            BadSpec: `extra` gives an id that is taken, on the same axis, a new meaning.
        """
        return _checked(
            f"{self.version}+{extra.version}",
            self.title,
            (*self.axes, *extra.axes),
            (*self.entries, *extra.entries),
            (*self.words, *extra.words),
            source=extra.title or "extension",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the form that the report prints."""
        return {
            "version": self.version,
            "title": self.title,
            "axes": [
                {
                    "id": axis.id,
                    "name": axis.name,
                    "definition": axis.definition,
                    "entries": [
                        {name: value for name, value in vars(entry).items() if name != "axis" and value not in ("", 0)}
                        for entry in self.on(axis.id)
                    ],
                }
                for axis in self.axes
            ],
            "words": [
                {"id": word.id, "kind": word.kind, "meaning": word.meaning, "codes": list(word.codes)}
                for word in self.words
            ],
        }


def load_taxonomy(extra: str | Path | None = None) -> Taxonomy:
    """The taxonomy shipped with the package, extended by the TOML file `extra` when one is given.

    Raises:
        BadFile: `extra` cannot be read or is not TOML.
        BadSpec: entries are wrong; every problem is listed with its place.
    """
    base = _shipped()
    if extra is None:
        return base
    return base.extended(_read(str(extra), read_bytes(extra, limit_bytes=16 << 20), complete=False))


@cache
def _shipped() -> Taxonomy:
    data = resources.files("yieldkit.diagnosis").joinpath("taxonomy.toml").read_bytes()
    return _read("taxonomy.toml", data, complete=True)


def _read(source: str, data: bytes, *, complete: bool) -> Taxonomy:
    try:
        raw = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise BadFile(source, "is not UTF-8 text", where=f"byte {error.start}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadFile(source, f"is not TOML: {error}") from error
    problems: list[tuple[str, str]] = []
    if raw.get("schema") != SCHEMA:
        problems.append(("schema", f"must be {SCHEMA}, got {raw.get('schema')!r}"))
    if not isinstance(raw.get("version"), str) or not raw["version"]:
        problems.append(("version", "must be a non-empty string"))
    for name in sorted(set(raw) - {"schema", "version", "title", "axis", "entry", "word"}):
        problems.append((name, "is not a field of a taxonomy"))
    axes = _rows(raw, "axis", frozenset(("id", "name", "definition")), ("id", "name", "definition"), problems)
    entries = _rows(raw, "entry", _ENTRY_FIELDS, ("axis", "id", "name", "definition"), problems)
    words = _rows(raw, "word", frozenset(("id", "kind", "meaning", "codes")), ("id", "kind", "meaning"), problems)
    if problems:
        raise BadSpec(source, problems)
    made_entries = tuple(
        Entry(**{("outcome_class" if name == "class" else name): value for name, value in row.items()})
        for row in entries
    )
    made = (
        tuple(Axis(**row) for row in axes),
        made_entries,
        tuple(Word(**{**row, "codes": tuple(row.get("codes", ()))}) for row in words),
    )
    title = str(raw.get("title", source))
    if not complete:  # references into the taxonomy that is extended are checked when both are put together
        return Taxonomy(raw["version"], title, *made)
    return _checked(raw["version"], title, *made, source=source)


def _rows(
    raw: Mapping[str, Any], table: str, known: frozenset[str], needed: tuple[str, ...], problems: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    rows = raw.get(table, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        problems.append((table, f"must be an array of tables, written [[{table}]]"))
        return []
    for index, row in enumerate(rows):
        where = f"{table}[{index}]"
        for name in sorted(set(row) - known):
            problems.append((f"{where}.{name}", "is not a known field"))
        for name in needed:
            if name not in row:
                problems.append((f"{where}.{name}", "is missing"))
        for name, value in row.items():
            if name == "priority":
                if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                    problems.append((f"{where}.priority", f"must be a positive integer, got {value!r}"))
            elif name == "codes":
                if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                    problems.append((f"{where}.codes", "must be a list of strings"))
            elif not isinstance(value, str) or not value.strip():
                problems.append((f"{where}.{name}", f"must be a non-empty string, got {value!r}"))
        if row.get("axis") == "manifestation":
            for name in _MANIFESTATION_FIELDS:
                if name not in row:
                    problems.append((f"{where}.{name}", "is missing on the axis manifestation"))
            if row.get("judge") not in ("diagnosis", "referee", None):
                problems.append((f"{where}.judge", f"must be diagnosis or referee, got {row['judge']!r}"))
            if row.get("judge") == "referee" and "diagnosed_as" not in row:
                problems.append((f"{where}.diagnosed_as", "is missing: say which blind answer is right"))
    return rows


def _checked(
    version: str,
    title: str,
    axes: tuple[Axis, ...],
    entries: tuple[Entry, ...],
    words: tuple[Word, ...],
    *,
    source: str,
) -> Taxonomy:
    problems: list[tuple[str, str]] = []
    axis_ids = [axis.id for axis in axes]
    for axis_id in sorted({item for item in axis_ids if axis_ids.count(item) > 1}):
        problems.append((f"axis {axis_id}", "is defined twice"))
    for axis_id in AXES:
        if axis_id not in axis_ids:
            problems.append((f"axis {axis_id}", "is missing"))
    keys = [(entry.axis, entry.id) for entry in entries]
    for axis_id, entry_id in sorted({key for key in keys if keys.count(key) > 1}):
        problems.append((f"entry {axis_id}.{entry_id}", "is defined twice; ids keep their meaning, choose a new one"))
    codes = {entry.id: entry for entry in entries if entry.axis == "manifestation"}
    channels = {entry.id for entry in entries if entry.axis == "detection"}
    taken: dict[int, str] = {}
    for entry in entries:
        where = f"entry {entry.axis}.{entry.id}"
        if entry.axis not in axis_ids:
            problems.append((f"{where}.axis", f"there is no axis {entry.axis!r}"))
        if entry.needs and entry.needs not in channels:
            problems.append((f"{where}.needs", f"there is no detection channel {entry.needs!r}"))
        if entry.axis != "manifestation":
            continue
        if entry.priority in taken:
            problems.append((f"{where}.priority", f"{entry.priority} is taken by {taken[entry.priority]}"))
        taken.setdefault(entry.priority, entry.id)
        target = codes.get(entry.diagnosed_as) if entry.diagnosed_as else None
        if entry.diagnosed_as and (target is None or target.judge != "diagnosis"):
            problems.append((f"{where}.diagnosed_as", f"{entry.diagnosed_as!r} is not a code that diagnosis can give"))
    for axis_id in axis_ids:
        if not any(entry.axis == axis_id for entry in entries):
            problems.append((f"axis {axis_id}", "has no entries"))
    word_ids = [word.id for word in words]
    for word_id in sorted({item for item in word_ids if word_ids.count(item) > 1}):
        problems.append((f"word {word_id}", "is defined twice"))
    for word in words:
        for code in word.codes:
            if code not in codes:
                problems.append((f"word {word.id}.codes", f"there is no manifestation {code!r}"))
    if problems:
        raise BadSpec(source, problems)
    return Taxonomy(version, title, axes, entries, words)
