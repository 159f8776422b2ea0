"""The real text that models are trained on: shipped with the project, checked, and split by topic.

A corpus is a row of bytes for training and another one that training never sees. The split keeps families of topics
together: topics that share text are one family, and a topic that stands whole inside a longer one is left out, so that
the held-out text is neither a copy of training text nor counted twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadFile, BadInput
from yieldkit.files import read_bytes
from yieldkit.rng import Seed, generator

__all__ = ["Corpus", "load_corpus"]

Bytes = npt.NDArray[np.uint8]

HELD_OUT_SHARE = 1 / 8
_JOIN = b"\n\n"
_SHIPPED = {
    # name: (file, SHA-256 of the file)
    "cpython-topics": ("topics.json", "8685a423406a2fc766ceab29263dfb565686d61a3b89a90724ab7f715f964a9d"),
}


@dataclass(frozen=True, eq=False)
class Corpus:
    """Bytes to train on and bytes to judge by.

    Attributes:
        name: what the text is called.
        train, held_out: uint8[n]; read-only. Topics are joined by a blank line.
        sha256: of the file the text came from (hexadecimal).
        train_topics, held_out_topics: names of the topics, in the order of the bytes.
        about: source, version and licence, as stored in the file.
    """

    name: str
    train: Bytes = field(repr=False)
    held_out: Bytes = field(repr=False)
    sha256: str
    train_topics: tuple[str, ...] = field(repr=False)
    held_out_topics: tuple[str, ...] = field(repr=False)
    about: Mapping[str, str] = field(default_factory=dict)

    def batch(self, step: int, n_sequences: int, length: int, seed: Seed) -> tuple[Bytes, Bytes]:
        """Draw the training batch of one step: windows at uniform places of `train`.

        Args:
            step: number of the step, from 0.
            n_sequences: windows in the batch.
            length: bytes in a window.
            seed: the run's seed; the batch depends on `(seed, step)` and the sizes only, not on batches drawn before.

        Returns:
            tokens uint8[n_sequences, length] and targets of the same shape: the byte that follows each token.

        Raises:
            BadInput: a size is not positive, the step is negative, or a window is longer than the text.
        """
        if step < 0:
            raise BadInput("step must not be negative", value=step)
        if n_sequences < 1:
            raise BadInput("n_sequences must be at least 1", value=n_sequences)
        _check_length(length, self.train.size)
        rng = generator(seed, "workloads.corpus.batch", step)
        starts = rng.integers(0, self.train.size - length, size=n_sequences)
        return _windows(self.train, starts, length)

    def held_out_windows(self, length: int, limit: int | None = None) -> tuple[Bytes, Bytes]:
        """Cut the held-out text in windows that do not overlap: the same ones for every model and run.

        Args:
            length: bytes in a window.
            limit: at most so many windows, spread evenly over the whole held-out text; None for all of them.

        Returns:
            tokens uint8[n, length] and targets of the same shape, as in `batch`.

        Raises:
            BadInput: the limit or the length is not positive, or a window is longer than the text.
        """
        _check_length(length, self.held_out.size)
        if limit is not None and limit < 1:
            raise BadInput("limit must be at least 1", value=limit)
        available = (self.held_out.size - 1) // length
        n = available if limit is None else min(limit, available)
        starts = np.arange(n, dtype=np.int64) * available // n * length
        return _windows(self.held_out, starts, length)


def load_corpus(name: str = "cpython-topics") -> Corpus:
    """Load a corpus that is shipped with yieldkit, and check that it is the text it should be.

    Args:
        name: `"cpython-topics"`, the documentation topics that CPython 3.11 carries (licence PSF-2.0).

    Raises:
        BadInput: there is no corpus of that name.
        BadFile: the file is missing, or its bytes are not those that were shipped.
    """
    if name not in _SHIPPED:
        raise BadInput(f"corpus must be one of: {', '.join(sorted(_SHIPPED))}", value=name)
    file, expected = _SHIPPED[name]
    return read_corpus(_find(name) / file, name=name, expected_sha256=expected)


def read_corpus(path: str | Path, *, name: str, expected_sha256: str) -> Corpus:
    """Read a file of topics as `data/make_cpython_topics.py` writes it, and split it.

    The families stand in the order of the SHA-256 of their names; going down this order, a family is held out whenever
    it still fits within an eighth of all bytes. A family larger than that is always trained on.

    Raises:
        BadFile: the file is missing, or its SHA-256 is not the expected one.
    """
    data = read_bytes(path)
    found = hashlib.sha256(data).hexdigest()
    if found != expected_sha256:
        raise BadFile(
            path,
            f"is not the text of {name!r}: its SHA-256 should be {expected_sha256[:16]}…",
            value=f"{found[:16]}…",
            cure="restore the file from the repository or install yieldkit again",
        )
    stored = json.loads(data)
    kept: dict[str, list[tuple[str, bytes]]] = {}
    for topic in sorted(stored["topics"], key=_topic_name):
        if not topic["copied_in"]:
            kept.setdefault(topic["family"], []).append((topic["name"], topic["text"].encode()))
    budget = HELD_OUT_SHARE * sum(_size(members) for members in kept.values())
    train: list[tuple[str, bytes]] = []
    held_out: list[tuple[str, bytes]] = []
    for family in sorted(kept, key=lambda f: hashlib.sha256(f.encode()).digest()):
        fits = _size(held_out) + _size(kept[family]) <= budget
        (held_out if fits else train).extend(kept[family])
    return Corpus(
        name=name,
        train=_joined(train),
        held_out=_joined(held_out),
        sha256=found,
        train_topics=tuple(topic for topic, _ in train),
        held_out_topics=tuple(topic for topic, _ in held_out),
        about=stored["about"],
    )


def _find(name: str) -> Path:
    """The folder of a shipped corpus: beside this module in an installed wheel, in `data/` of a checkout."""
    here = Path(__file__).resolve()
    installed = here.parent / "data" / name
    return installed if installed.is_dir() else here.parents[2] / "data" / name


def _topic_name(topic: Mapping[str, Any]) -> str:
    return str(topic["name"])


def _size(members: list[tuple[str, bytes]]) -> int:
    return sum(len(text) for _, text in members)


def _joined(members: list[tuple[str, bytes]]) -> Bytes:
    # frombuffer over bytes is read-only: no run can alter the text that another one reads.
    return np.frombuffer(_JOIN.join(text for _, text in members), dtype=np.uint8)


def _check_length(length: int, size: int) -> None:
    if not 1 <= length < size:
        raise BadInput(f"length must be from 1 to {size - 1}, one less than the text has bytes", value=length)


def _windows(text: Bytes, starts: npt.NDArray[np.int64], length: int) -> tuple[Bytes, Bytes]:
    places = starts[:, None] + np.arange(length)
    return text[places], text[places + 1]
