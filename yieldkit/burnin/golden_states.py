"""States of a clean run in one file, mapped read-only and shared by all processes that start trials from it.

The file: a line that names it, the length of a header, the header as JSON, and the states one after the other, each a
run of little-endian words with its SHA-256 in the header. Whoever comes first writes it, whole or not at all; two that
come at once write the same bytes. The operating system keeps one copy of its pages however many processes map it, and
a write into the mapping ends the process that does it.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import struct
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.checkpoint import Checkpoint
from yieldkit.emulator.job import Job
from yieldkit.errors import BadFile
from yieldkit.files import canonical_json

__all__ = ["CHECK_EVERY", "GoldenStates", "states_folder"]

CHECK_EVERY: Final = 1_000
"""Trials between two checks of the hashes."""

_MAGIC: Final = b"yieldkit golden states\n"
_TABLES: Final = ("weights", "first", "second", "cores")
_ALIGNED: Final = 64
_LARGEST_HEADER: Final = 1 << 28


def states_folder() -> Path:
    """Where files of clean runs are kept: `YIELDKIT_CACHE`, or a folder of this user's among the temporary files."""
    named = os.environ.get("YIELDKIT_CACHE")
    if named:
        return Path(named)
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"yieldkit-{user}"


@dataclass(frozen=True)
class _Place:
    """An array of a state: table, name, shape, first byte within the state."""

    table: str
    name: str
    shape: tuple[int, ...]
    start: int

    @cached_property
    def bytes(self) -> int:
        return (8 if self.table == "tokens" else 4) * math.prod(self.shape)


class GoldenStates:
    """States before every step of a clean run, and after the last.

    Args:
        path: what `write` wrote.

    Raises:
        BadFile: not such a file, cut short, or damaged (the state is named).

    Attributes:
        facts: what was stored beside the states.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise BadFile(path, f"cannot be mapped: {error}") from error
        start = len(_MAGIC) + 8
        if self._map[: len(_MAGIC)] != _MAGIC:
            raise BadFile(path, "holds no golden states", where="byte 0", value=self._map[: len(_MAGIC)])
        try:
            (size,) = struct.unpack_from("<Q", self._map, len(_MAGIC))
            if size > min(_LARGEST_HEADER, len(self._map) - start):
                raise ValueError("a header longer than the file")
            header = json.loads(self._map[start : start + size])
            self.facts: Mapping[str, Any] = header["facts"]
            self._states: list[dict[str, Any]] = header["states"]
            self._places = [[_Place(t, n, tuple(s), a) for t, n, s, a in state["arrays"]] for state in self._states]
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise BadFile(path, f"has a wrong header: {type(error).__name__}: {error}") from None
        self._body = start + size + -(start + size) % _ALIGNED
        end = max((state["start"] + state["bytes"] for state in self._states), default=0)
        if self._body + end > len(self._map):
            raise BadFile(path, "is truncated", value=f"{len(self._map)} bytes")
        self._bytes = np.frombuffer(self._map, np.uint8)
        self.check()

    @classmethod
    def write(cls, path: str | Path, facts: Mapping[str, Any], states: Iterable[Checkpoint]) -> Self:
        """Write states, whole or not at all, and open them; `facts` are plain JSON kept beside them."""
        target = Path(path)
        listed: list[dict[str, Any]] = []
        at = 0
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=target.parent) as body:
                for state in states:
                    digest = hashlib.sha256()
                    arrays, inside = [], 0
                    for table, name, array in _arrays(state):
                        data = np.ascontiguousarray(array, "<i8" if table == "tokens" else "<f4").tobytes()
                        arrays.append([table, name, list(array.shape), inside])
                        # Every array begins at a multiple of 8 bytes, as its elements need.
                        data += bytes(-len(data) % 8)
                        digest.update(data)
                        body.write(data)
                        inside += len(data)
                    listed.append(
                        {
                            "start": at,
                            "bytes": inside,
                            "sha256": digest.hexdigest(),
                            "arrays": arrays,
                            "program": state.program,
                            "step": state.step,
                            "host_step": state.host_step,
                            "powers": [state.power1.hex(), state.power2.hex()],
                            "tokens": len(state.tokens),
                        }
                    )
                    at += inside
                header = canonical_json({"facts": dict(facts), "states": listed}).encode()
                handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
                try:
                    with os.fdopen(handle, "wb") as stream:
                        size = len(_MAGIC) + 8 + len(header)
                        stream.write(_MAGIC + struct.pack("<Q", len(header)) + header + bytes(-size % _ALIGNED))
                        body.seek(0)
                        while piece := body.read(1 << 20):
                            stream.write(piece)
                        stream.flush()
                        os.fsync(stream.fileno())
                    os.replace(temporary, target)
                except BaseException:
                    Path(temporary).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise BadFile(target, f"cannot be written: {error.strerror}") from error
        return cls(target)

    def __len__(self) -> int:
        return len(self._states)

    def check(self) -> None:
        """Compare every state with its hash.

        Raises:
            BadFile: one differs.
        """
        for number, state in enumerate(self._states):
            first = self._body + state["start"]
            digest = hashlib.sha256(self._bytes[first : first + state["bytes"]].data).hexdigest()
            if digest != state["sha256"]:
                raise BadFile(
                    self.path, f"state {number} is damaged: its SHA-256 does not match", cure="delete the file"
                )

    def hash_of(self, number: int) -> str:
        """SHA-256 of a state, hexadecimal."""
        return str(self._states[number]["sha256"])

    def state(self, number: int) -> Checkpoint:
        """State `number`, before step `number`; its arrays are read-only views of the file."""
        facts = self._states[number]
        tables: dict[str, dict[str, Any]] = {name: {} for name in (*_TABLES, "tokens")}
        for place in self._places[number]:
            tables[place.table][place.name] = self._array(number, place)
        power1, power2 = (float.fromhex(text) for text in facts["powers"])
        tokens = tuple(tables["tokens"][str(step)] for step in range(facts["tokens"]))
        return Checkpoint(
            facts["program"],
            facts["step"],
            tables["weights"],
            tables["first"],
            tables["second"],
            facts["host_step"],
            power1,
            power2,
            tokens,
            tables["cores"],
        )

    def _array(self, number: int, place: _Place) -> npt.NDArray[Any]:
        first = self._body + self._states[number]["start"] + place.start
        kind = "<i8" if place.table == "tokens" else "<f4"
        return self._bytes[first : first + place.bytes].view(kind).reshape(place.shape)

    def holds(self, number: int, job: Job) -> bool:
        """Whether a job's host state is state `number`, bit for bit; the first array that differs ends it."""
        host = job.memoryx
        if host.step != self._states[number]["host_step"]:
            return False
        for place in self._places[number]:
            if place.table in ("tokens", "cores"):
                continue
            mine = getattr(host, place.table)[place.name]
            if not np.array_equal(self._array(number, place).view(np.uint32), mine.view(np.uint32)):
                return False
        return True


def _arrays(state: Checkpoint) -> list[tuple[str, str, npt.NDArray[Any]]]:
    listed: list[tuple[str, str, npt.NDArray[Any]]] = []
    for table in _TABLES:
        values = getattr(state, table)
        listed += [(table, name, values[name]) for name in sorted(values)]
    return listed + [("tokens", str(step), symbols) for step, symbols in enumerate(state.tokens)]
