"""Checkpoints: what a job must know to go on as if it had never stopped.

Between two steps that is MemoryX (weights, moments, step), what has been decoded, and the tensors that stay in the
cores from step to step (a KV cache, resident weights, the vectors of a solver). Everything else is loaded or cleared by
the host at the next launch, as long as the control state is as it should be; a machine with words in its queues or a
changed table cannot be saved.

The file: a line that names it, the length of a header, the header as JSON, arrays one after the other (little-endian),
and a SHA-256 over all of that. Nothing in it is evaluated.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadFile, BadInput
from yieldkit.files import canonical_json, read_bytes, write_bytes

__all__ = ["CHECKPOINT_VERSION", "Checkpoint"]

F32 = npt.NDArray[np.float32]
CHECKPOINT_VERSION: Final = 1
_MAGIC: Final = b"yieldkit checkpoint\n"
_DIGEST_BYTES: Final = 32
_TABLES: Final = ("weights", "first", "second", "cores")
_LARGEST_HEADER: Final = 1 << 26


@dataclass(frozen=True)
class Checkpoint:
    """A job between two steps. Arrays are its own and not written to.

    Attributes:
        program: fingerprint of the program.
        step: steps done.
        weights, first, second: MemoryX's fp32 weights and Adam moments by parameter.
        host_step, power1, power2: updates done by MemoryX, and its running powers of the two decays.
        tokens: int64[sequences] symbols of every step so far (decode).
        cores: tensors that stay in the cores, `[rows|1, cols|1, *dims]` by name; constants only where they have been
            changed.
    """

    program: str
    step: int
    weights: Mapping[str, F32]
    first: Mapping[str, F32]
    second: Mapping[str, F32]
    host_step: int
    power1: float
    power2: float
    tokens: tuple[npt.NDArray[np.int64], ...]
    cores: Mapping[str, F32]

    @cached_property
    def state_hash(self) -> str:
        """16 hexadecimal digits over every bit of the state; equal exactly where jobs go on equally."""
        digest = hashlib.sha256(canonical_json(self._facts()).encode())
        for _, _, array in self._arrays():
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def _arrays(self) -> list[tuple[str, str, npt.NDArray[Any]]]:
        listed: list[tuple[str, str, npt.NDArray[Any]]] = []
        for table in _TABLES:
            values = getattr(self, table)
            listed += [(table, name, values[name]) for name in sorted(values)]
        return listed + [("tokens", str(step), symbols) for step, symbols in enumerate(self.tokens)]

    def _facts(self) -> dict[str, Any]:
        return {
            "version": CHECKPOINT_VERSION,
            "program": self.program,
            "step": self.step,
            "host_step": self.host_step,
            "power1": self.power1.hex(),
            "power2": self.power2.hex(),
            "arrays": [[table, name, list(array.shape)] for table, name, array in self._arrays()],
        }

    def save(self, path: str | Path) -> Path:
        """Write the checkpoint, whole or not at all; equal states give equal files."""
        header = canonical_json(self._facts()).encode()
        parts = [_MAGIC, struct.pack("<Q", len(header)), header]
        for table, _, array in self._arrays():
            parts.append(np.ascontiguousarray(array, "<i8" if table == "tokens" else "<f4").tobytes())
        content = b"".join(parts)
        return write_bytes(path, content + hashlib.sha256(content).digest())

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read what `save` wrote.

        Raises:
            BadFile: not a checkpoint, of another version, cut short or damaged.
        """
        data = read_bytes(path)
        start = len(_MAGIC) + 8
        if data[: len(_MAGIC)] != _MAGIC:
            raise BadFile(path, "is not a checkpoint", where="byte 0", value=data[: len(_MAGIC)])
        if len(data) < start + _DIGEST_BYTES:
            raise BadFile(path, "is truncated", value=f"{len(data)} bytes")
        content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise BadFile(path, "is damaged: its SHA-256 does not match", cure="use an earlier checkpoint")
        (size,) = struct.unpack_from("<Q", content, len(_MAGIC))
        try:
            if not 0 < size <= min(_LARGEST_HEADER, len(content) - start):
                raise ValueError("a header longer than the file")
            return cls._read(json.loads(content[start : start + size]), content[start + size :], path)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise BadFile(path, f"has a wrong header: {type(error).__name__}: {error}") from None

    @classmethod
    def _read(cls, facts: Mapping[str, Any], body: bytes, path: str | Path) -> Checkpoint:
        if facts["version"] != CHECKPOINT_VERSION:
            raise BadFile(path, f"checkpoint version must be {CHECKPOINT_VERSION}", value=facts["version"])
        tables: dict[str, dict[str, F32]] = {name: {} for name in _TABLES}
        tokens: list[npt.NDArray[np.int64]] = []
        at = 0
        for table, name, shape in facts["arrays"]:
            kind = np.dtype("<i8" if table == "tokens" else "<f4")
            count = int(np.prod([int(extent) for extent in shape], dtype=object))
            if min(shape, default=1) < 0 or at + count * kind.itemsize > len(body):
                raise ValueError(f"array {name!r} is longer than the file")
            array = np.frombuffer(body, kind, count, at).reshape(shape)
            at += count * kind.itemsize
            if table == "tokens":
                tokens.append(array.astype(np.int64))
            else:
                tables[table][str(name)] = array.astype(np.float32)
        if at != len(body):
            raise ValueError("the arrays are shorter than the file")
        return cls(
            str(facts["program"]),
            int(facts["step"]),
            tables["weights"],
            tables["first"],
            tables["second"],
            int(facts["host_step"]),
            float.fromhex(facts["power1"]),
            float.fromhex(facts["power2"]),
            tuple(tokens),
            tables["cores"],
        )

    def check(self, program: str) -> None:
        """Refuse a checkpoint of another program.

        Raises:
            BadInput: the fingerprints differ.
        """
        if self.program != program:
            raise BadInput(
                f"the checkpoint belongs to program {self.program} and the job runs {program}",
                cure="lower the program it was made with",
            )

    def __repr__(self) -> str:
        return f"Checkpoint(program {self.program}, step {self.step}, state {self.state_hash})"
