"""yieldkit: yield, defects, repair and burn-in reliability of wafer-scale processors.

Every public name is listed in `__all__` and is imported when it is first used, so that `import yieldkit` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from yieldkit.version import __version__

_HOMES: Final[dict[str, str]] = {}
_MODULES: Final = ("reliability", "workloads")

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"yieldkit.{name}")
    else:
        raise AttributeError(f"module 'yieldkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(_MODULES) | set(globals()))
