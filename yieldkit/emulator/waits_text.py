"""The wait-for graph as text that a person can read: one line for every core or list that should have gone on.

::

    core (0, 1) needs a word of colour 3
        to its core ◄ (0, 1) from E ◄ (0, 2) from its core ◄ core (0, 2)
    core (0, 2) needs room in colour 2
        (0, 2) from its core ► (0, 3) from W ► (0, 3) to its core ► core (0, 3) has halted

◄ leads to where words should come from, ► to where room should be made, ◁ to where a control word should come from.
"""

from __future__ import annotations

from collections.abc import Iterator

from yieldkit.emulator.stalls import Stall, name_of
from yieldkit.emulator.waitgraph import ENDS, Node, Wait
from yieldkit.quantities import PORT_NAMES

__all__ = ["stall_lines", "waits_lines"]

_ARROWS = {"word": "◄", "room": "►", "switch": "◁"}
_SIDES = (*(f"from {name}" for name in PORT_NAMES[:4]), "from its core", "to its core")


def stall_lines(stall: Stall, *, limit: int | None = None) -> list[str]:
    """The class, its reason and evidence, and the graph (its first `limit` lines)."""
    lines = [f"launch {stall.launch}: {stall.kind}", f"  {stall.reason}"]
    lines += [f"  also: {text}" for text in stall.evidence]
    graph = waits_lines(stall)
    shown = graph if limit is None else graph[:limit]
    if graph:
        lines.append("who waits for whom:")
    lines += [f"  {line}" for line in shown]
    if len(shown) < len(graph):
        lines.append(f"  ... {len(graph) - len(shown)} more lines")
    return lines


def waits_lines(stall: Stall) -> list[str]:
    """The graph, chain by chain; a chain that was shown before is not shown again."""
    out = stall.waits.out()
    ends = {end.node: ENDS[end.reason] for end in stall.waits.ends}
    lines: list[str] = []
    shown: set[Node] = set()
    for root in stall.waits.roots:
        waits = out.get(root, [])
        if not waits:
            lines.append(f"{name_of(root)} {ends.get(root, '')}".rstrip())
            continue
        colour = waits[0].what.colour
        lines.append(
            f"{name_of(root)} needs {_NEEDS[waits[0].needs]}{f' of colour {colour}' if root.kind == 'core' else ''}"
        )
        for wait in waits:
            lines += [f"    {line}" for line in _chains(wait, out, ends, shown)]
    return lines


_NEEDS = {"word": "a word", "room": "room", "switch": "a control word"}


def _chains(first: Wait, out: dict[Node, list[Wait]], ends: dict[Node, str], shown: set[Node]) -> Iterator[str]:
    """Each way from a wait to the next core or the end."""
    stack = [(first.what, _step(first.what, None))]
    while stack:
        node, text = stack.pop()
        if node in ends:
            yield f"{text} {ends[node]}"
            continue
        if node.kind == "core":
            yield text
            continue
        if node in shown:
            yield f"{text} (see above)"
            continue
        shown.add(node)
        for wait in reversed(out.get(node, [])):
            stack.append((wait.what, f"{text} {_ARROWS[wait.needs]} {_step(wait.what, node)}"))


def _step(node: Node, before: Node | None) -> str:
    if node.kind != "queue":
        return name_of(node)
    return f"({node.r}, {node.c}) {_SIDES[node.port]}"
