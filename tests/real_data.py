"""Where the real data for tests lies; none of it is part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_data(name: str) -> Path:
    """A file of the real data: under $YIELDKIT_REAL_DATA, or under ../shared/data beside the repository; else skip."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("YIELDKIT_REAL_DATA", beside)) / name
    if not path.exists():
        pytest.skip(f"real data {name} is not here: set YIELDKIT_REAL_DATA")
    return path
