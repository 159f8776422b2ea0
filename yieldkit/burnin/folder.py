"""The folder of a run: copies of its input files, and a lock that leaves room for one writer."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from yieldkit.burnin.identity import FileInput
from yieldkit.burnin.spec import CampaignSpec
from yieldkit.errors import BadFile, BadInput
from yieldkit.files import read_bytes, write_bytes

__all__ = ["INPUTS_NAME", "LOCK_NAME", "keep_inputs", "only_writer", "writer_is_alive"]

INPUTS_NAME: Final = "inputs"
LOCK_NAME: Final = ".writer.lock"
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock; the system lets go of it when the process dies, however that happens.

    Raises:
        BadFile: the folder cannot be made or written.
        BadInput: another process holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise BadFile(folder, f"cannot be written: {error.strerror}") from error
    try:
        _lock(handle, folder)
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)


def writer_is_alive(folder: Path) -> bool:
    """Whether some process holds the lock of the folder."""
    try:
        handle = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    finally:
        os.close(handle)
    return False


def keep_inputs(folder: Path, spec: CampaignSpec, inputs: Mapping[str, FileInput]) -> dict[str, Any]:
    """Copy the files that a spec names into the folder.

    Returns:
        the tables of the spec with those paths relative to the folder, so that the run can be moved and resumed.

    Raises:
        BadInput: a file has changed since the spec was read.
    """
    tables = spec.tables()
    for field, file in inputs.items():
        name = f"{INPUTS_NAME}/{file.sha256[:12]}-{file.path.name.removeprefix(file.sha256[:12] + '-')}"
        target = folder / name
        if not target.exists():
            data = read_bytes(file.path)
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise BadInput(f"{file.path} has changed since the spec was read", cure="run the command again")
            write_bytes(target, data)
        *names, last = field.split(".")
        table = tables
        for part in names:
            table = table[part]
        table[last] = name
    return tables


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            # A file system without locks: SQLite's own locking still lets one transaction in at a time.
            return
        pid = os.pread(handle, 20, 0).decode(errors="replace").strip()
        raise BadInput(
            f"another process{f' ({pid})' if pid else ''} is writing to {folder}",
            cure="wait for it, or look with: yieldkit burnin status " + str(folder),
        ) from error
