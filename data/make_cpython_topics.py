"""Export the documentation topics that CPython carries (`pydoc_data.topics`) to one file that training can read.

Run it with the Python whose topics are wanted, from any folder::

    .venv/bin/python data/make_cpython_topics.py

It writes `data/cpython-topics/topics.json` and prints its SHA-256, which has to be entered in
`yieldkit/workloads/corpus.py` and in `data/cpython-topics/README.md`.

Beside its text, every topic gets two facts that an honest split needs, because many topics are chapters of longer ones:
`family`, the first name among the topics it shares text with, and `copied_in`, a topic that contains nearly all of it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from pydoc_data.topics import topics

WINDOW_BYTES = 64  # text is shared when it agrees on windows of this length, longer than a stock phrase
SAME_FAMILY = 0.10  # share of the smaller topic's windows that makes two topics one family
COPIED = 0.70  # share of a topic's windows, found in one longer topic, that makes it a copy

TARGET = Path(__file__).parent / "cpython-topics" / "topics.json"


def windows(text: bytes) -> set[bytes]:
    """Every run of `WINDOW_BYTES` bytes in the text."""
    return {text[i : i + WINDOW_BYTES] for i in range(len(text) - WINDOW_BYTES + 1)}


def families(seen: dict[str, set[bytes]]) -> dict[str, str]:
    """Connected components of "shares at least a tenth of the smaller one's text", named after their first topic."""
    parent = {name: name for name in seen}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for a in seen:
        for b in seen:
            if a < b and len(seen[a] & seen[b]) >= SAME_FAMILY * min(len(seen[a]), len(seen[b])):
                first, second = sorted((root(a), root(b)))
                parent[second] = first
    return {name: root(name) for name in seen}


def copies(seen: dict[str, set[bytes]]) -> dict[str, str]:
    """Topics that stand nearly whole in a longer one (of two equals: in the first), each with the longest such one."""
    found = {}
    for name, mine in seen.items():
        holders = [
            (len(theirs), other)
            for other, theirs in seen.items()
            if (-len(theirs), other) < (-len(mine), name) and len(mine & theirs) >= COPIED * len(mine)
        ]
        if holders:
            found[name] = max(holders)[1]
    return found


def export() -> bytes:
    """The file's bytes: one topic a line, sorted by name, pure ASCII (other characters are escaped)."""
    seen = {name: windows(text.encode()) for name, text in sorted(topics.items())}
    family, copied_in = families(seen), copies(seen)
    head = {"source": "CPython pydoc_data.topics", "python": platform.python_version(), "licence": "PSF-2.0"}
    lines = [
        json.dumps({"name": name, "family": family[name], "copied_in": copied_in.get(name, ""), "text": topics[name]})
        for name in seen
    ]
    return ('{"about":' + json.dumps(head) + ',"topics":[\n' + ",\n".join(lines) + "\n]}\n").encode("ascii")


def main() -> None:
    """Write the file and say what it is."""
    data = export()
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(data)
    print(f"{TARGET.name}: {len(topics)} topics, {len(data)} bytes")  # noqa: T201
    print(f"sha256 {hashlib.sha256(data).hexdigest()}")  # noqa: T201


if __name__ == "__main__":
    main()
