"""Every error that yieldkit raises on purpose.

::

    YieldkitError                 exit 1 if nothing more precise is known
    ├── BadInput                  exit 2: a file, a spec or an argument is wrong
    │   ├── BadFile               ... with the file and, where known, the line or offset
    │   └── BadSpec               ... with the path of every wrong field
    ├── AnswerIsNo                exit 3: the question was fine, the answer is no
    └── Interrupted               exit 130: stopped by the user, can be resumed

The command line turns only this tree into one line and an exit status; anything else is a bug and keeps its traceback.
An unrepairable wafer or a stalled run is a *result*, not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["AnswerIsNo", "BadFile", "BadInput", "BadSpec", "Interrupted", "YieldkitError"]


class YieldkitError(Exception):
    """Root of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1

    def __reduce__(self) -> tuple[Callable[..., YieldkitError], tuple[Any, ...]]:
        # Not by calling the class again: the subclasses take other arguments than the message.
        return _rebuilt, (type(self), self.args, self.__dict__)


class BadInput(YieldkitError):
    """A value from outside cannot be used.

    Args:
        what: what is wrong, naming the argument or field.
        value: the value received, shown with `repr`, when there is one.
        cure: what to do about it, when known.
    """

    exit_code = 2

    def __init__(self, what: str, *, value: object = None, cure: str = "") -> None:
        self.what = what
        self.value = value
        self.cure = cure
        shown = f", got {_short(value)}" if value is not None else ""
        super().__init__(f"{what}{shown}" + (f"; {cure}" if cure else ""))


class BadFile(BadInput):
    """A file cannot be read: names the file, the place in it, the value and the cure.

    Args:
        path: the file.
        what: what is wrong.
        where: the place, e.g. ``"line 12"`` or ``"byte 40"``.
        value: the offending text or number.
        cure: what to do about it.
    """

    def __init__(self, path: str | Path, what: str, *, where: str = "", value: object = None, cure: str = "") -> None:
        self.path = str(path)
        self.where = where
        place = f"{path}: {where}: " if where else f"{path}: "
        super().__init__(place + what, value=value, cure=cure)


class BadSpec(BadInput):
    """One or more fields of a specification are wrong; all are listed at once.

    Args:
        source: the file or the name of the spec.
        problems: pairs of (path of the field, what is wrong with it).
    """

    def __init__(self, source: str, problems: Sequence[tuple[str, str]]) -> None:
        self.source = source
        self.problems = tuple(problems)
        listed = "; ".join(f"{path}: {what}" for path, what in problems)
        super().__init__(f"{source}: {listed}")


class AnswerIsNo(YieldkitError):
    """The work was done and the answer is no: a check failed, a wafer cannot be repaired."""

    exit_code = 3


class Interrupted(YieldkitError):
    """Stopped on request with everything done so far kept; says how to resume."""

    exit_code = 130


def _rebuilt(cls: type[YieldkitError], args: tuple[Any, ...], state: Mapping[str, Any]) -> YieldkitError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
