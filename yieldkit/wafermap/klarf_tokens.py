"""Words of a KLARF 1.x file with their line numbers; nothing in the file is ever evaluated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yieldkit.errors import BadFile

__all__ = ["END", "Statement", "as_number", "as_numbers", "statements"]

END: Final = ";"
_WORD: Final = re.compile(r'"([^"\r\n]*)"|(;)|([^\s;"]+)|(")')
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_NOT_NUMERIC: Final = re.compile(r"[^0-9+\-.eE ]")


@dataclass(slots=True)
class Statement:
    """A keyword and its words up to the semicolon; `lines[i]` is the line of `words[i]`."""

    keyword: str
    line: int
    words: list[str]
    lines: list[int]


def statements(path: str | Path, text: str) -> list[Statement]:
    """Split the text at semicolons outside quotes.

    Raises:
        BadFile: a quote is not closed, or the text ends inside a statement.
    """
    found: list[Statement] = []
    current: Statement | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if current is not None and '"' not in line and END not in line:
            # The rows of a long list: most of a file.
            words = line.split()
            current.words += words
            current.lines += [number] * len(words)
            continue
        for quoted, end, word, stray in _WORD.findall(line):
            if stray:
                raise BadFile(path, "a quotation mark is not closed", where=f"line {number}")
            if end:
                if current is not None:
                    found.append(current)
                    current = None
            elif current is None:
                if not word:
                    raise BadFile(path, "a text stands where a keyword should", where=f"line {number}", value=quoted)
                current = Statement(word, number, [], [])
            else:
                current.words.append(word or quoted)
                current.lines.append(number)
    if current is not None:
        raise BadFile(
            path,
            f"ends inside {current.keyword}, which begins at line {current.line}",
            cure="the file is cut short: copy it again",
        )
    return found


def as_number(path: str | Path, what: str, word: str, line: int) -> float:
    """One plain decimal number within ±1e12."""
    if not _NUMBER.fullmatch(word) or abs(float(word)) > 1e12:
        raise BadFile(path, f"{what} must be a number", where=f"line {line}", value=word)
    return float(word)


def as_numbers(path: str | Path, what: str, words: list[str], lines: list[int]) -> list[float]:
    """Plain decimal numbers; the whole list is looked at once, and word by word only to name a wrong one."""
    try:
        if not _NOT_NUMERIC.search(" ".join(words)):
            values = [float(word) for word in words]
            if not values or max(map(abs, values)) <= 1e12:
                return values
    except ValueError:
        pass
    return [as_number(path, what, word, line) for word, line in zip(words, lines, strict=True)]
