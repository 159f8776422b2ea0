"""Compiled numerics and machinery of the emulator: scalar functions, whole-block operations, the reference machine.

numba keeps compiled code on disk and looks only at the file a function stands in, not at the files it calls into. So a
change of one kernel file would leave old code in another's cache; the stamp below drops the cache when any of them has
changed.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path


def _drop_stale_code(folder: Path) -> None:
    """Remove numba's index files when the sources are not the ones they were made from."""
    digest = hashlib.sha256()
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    stamp = folder / "__pycache__" / "sources.stamp"
    with contextlib.suppress(OSError):
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        for index in stamp.parent.glob("*.nbi"):
            index.unlink(missing_ok=True)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(digest.hexdigest())


_drop_stale_code(Path(__file__).parent)
