"""Writing files whole or not at all, and fingerprints of content."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from yieldkit.errors import BadFile

__all__ = ["canonical_json", "fingerprint", "read_bytes", "write_bytes", "write_text", "writing"]


@contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary name beside `path` for binary writing; at the end sync it and rename it into place.

    Raises:
        BadFile: the place cannot be written, or an OSError came from inside; nothing is left behind then.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:
        raise BadFile(target, f"cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BadFile(target, f"cannot be written: {error.strerror}") from error
        raise


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write `data` to a temporary name beside `path`, sync it, and rename it into place."""
    with writing(path) as stream:
        stream.write(data)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, whole or not at all."""
    return write_bytes(path, text.encode())


def read_bytes(path: str | Path, *, limit_bytes: int = 2 << 30) -> bytes:
    """Read a file, with one clear error when it is missing, a folder, unreadable or too large."""
    source = Path(path)
    try:
        facts = source.stat()
        # A pipe or a device would be read without end.
        if not stat.S_ISREG(facts.st_mode) and not source.is_dir():
            raise BadFile(source, "is not a regular file")
        size = facts.st_size
        if size > limit_bytes:
            raise BadFile(source, f"is larger than {limit_bytes} bytes", value=size)
        return source.read_bytes()
    except OSError as error:
        raise BadFile(source, f"cannot be read: {error.strerror}") from error


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: object, *, digits: int = 16) -> str:
    """Hexadecimal fingerprint of bytes, or of the canonical JSON of anything else."""
    data = value if isinstance(value, bytes) else canonical_json(value).encode()
    return hashlib.sha256(data).hexdigest()[:digits]
