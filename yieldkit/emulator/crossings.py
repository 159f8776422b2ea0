"""Golden traffic: which words cross a link of a clean launch, in which order, without moving one.

Cores send what their phases say; where that goes is read off the route words. A router takes words from the port that
its position names up to the next control word, which may change the position, so the order in which it meets the words
of several ports is fixed. Routes of a clean launch have no circles, so every router's words follow from those of the
routers before it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.host_words import inputs_of, words_in
from yieldkit.emulator.isa import POSITIONS
from yieldkit.emulator.kernels.machine import ADVANCE, DATA
from yieldkit.emulator.partials import CleanLaunch
from yieldkit.emulator.sends import NO_WORDS, Sends, Words, joined
from yieldkit.quantities import OPPOSITE, RAMP

__all__ = ["Crossings", "Passage", "switched"]

Passage = tuple[int, Words]
"""Words that go through a router in one position."""

_NO_ROUTE = [0] * POSITIONS
_STEP = ((-1, 0), (0, 1), (1, 0), (0, -1))


class Crossings:
    """Words on links and ramps of a clean launch.

    Args:
        clean: the launch.
    """

    def __init__(self, clean: CleanLaunch) -> None:
        self.clean = clean
        self.low = clean.low
        self.rows, self.cols = clean.low.role_of.shape
        self._sends = Sends(clean)
        self._live: list[dict[int, list[int]]] = [
            {colour: role.routes[colour].tolist() for colour in np.flatnonzero(role.routes.any(axis=1)).tolist()}
            for role in self.low.roles
        ]
        self._sent: dict[tuple[int, int, int], Words] = {}
        self._through: dict[tuple[int, int, int], list[Passage]] = {}
        self._edges: dict[tuple[int, int, int, int], Words] | None = None

    @property
    def edges(self) -> dict[tuple[int, int, int, int], Words]:
        """What MemoryX pushes, by (r, c, port, colour)."""
        if self._edges is None:
            parts: dict[tuple[int, int, int, int], list[Words]] = {}
            for phase in inputs_of(self.low.launch):
                for item in words_in(self.clean.lowered.program, phase, self.clean.streams[phase.stream]):
                    key = (item.r, item.c, item.port, item.colour)
                    parts.setdefault(key, []).append((item.words, item.kinds))
            self._edges = {key: joined(each) for key, each in parts.items()}
        return self._edges

    def sent(self, r: int, c: int, colour: int) -> Words:
        """What core (r, c) sends in a colour."""
        key = (r, c, colour)
        if key not in self._sent:
            self._sent[key] = self._sends.of(r, c, colour)
        return self._sent[key]

    def crossing(self, r: int, c: int, port: int) -> dict[int, Words]:
        """Words that leave router (r, c) through a port (N, E, S, W, edges of the rectangle included), by colour."""
        found = {colour: self.on(r, c, port, colour) for colour in self.colours(r, c)}
        return {colour: words for colour, words in found.items() if len(words[0])}

    def delivered(self, r: int, c: int) -> dict[int, npt.NDArray[np.uint32]]:
        """Words that come to core (r, c), by colour; control words do not enter a core."""
        return {colour: words for colour, (words, _) in self.crossing(r, c, RAMP).items()}

    def on(self, r: int, c: int, port: int, colour: int) -> Words:
        """Words of one colour that leave router (r, c) through a port, the ramp included."""
        routes = self._routes(r, c, colour)
        words, kinds = joined([words for at, words in self.through(r, c, colour) if routes[at] >> (3 + port) & 1])
        if port == RAMP and kinds.any():
            return words[kinds == DATA], kinds[kinds == DATA]
        return words, kinds

    def colours(self, r: int, c: int) -> list[int]:
        """Colours that the router has a route for."""
        return list(self._live[int(self.low.role_of[r, c])])

    def _routes(self, r: int, c: int, colour: int) -> list[int]:
        return self._live[int(self.low.role_of[r, c])].get(colour, _NO_ROUTE)

    def _origin(self, r: int, c: int, port: int, colour: int) -> tuple[int, int, int, bool]:
        """Where words come from that arrive at router (r, c) through a link: (r, c, port, True) of the router that
        sends them out, past all those that only hand them on; or (r, c, port, False) of the edge where they enter.
        """
        while True:
            other = (r + _STEP[port][0], c + _STEP[port][1])
            if not (0 <= other[0] < self.rows and 0 <= other[1] < self.cols):
                return r, c, port, False
            first, *others = self._routes(*other, colour)
            behind = (first & 7) - 1
            hands_on = 0 <= behind < RAMP and first >> (3 + OPPOSITE[port]) & 1 and first >> 8 & 1
            if any(others) or not hands_on:
                return (*other, OPPOSITE[port], True)
            (r, c), port = other, behind

    def _sources(self, r: int, c: int, colour: int) -> list[tuple[int, int, int]]:
        """Routers that words of a colour may come from."""
        found = []
        for word in self._routes(r, c, colour):
            port = (word & 7) - 1
            if 0 <= port < RAMP:
                *source, _, there = self._origin(r, c, port, colour)
                if there:
                    found.append((source[0], source[1], colour))
        return found

    def through(self, r: int, c: int, colour: int) -> list[Passage]:
        """Words of a colour that go through router (r, c), with the switch position they meet."""
        # Lines are longer than calls may be deep.
        stack = [(r, c, colour)]
        while stack:
            key = stack[-1]
            missing = [] if key in self._through else [k for k in self._sources(*key) if k not in self._through]
            if missing:
                stack += missing
                continue
            if key not in self._through:
                self._through[key] = self._passages(*key)
            stack.pop()
        return self._through[r, c, colour]

    def _arriving(self, r: int, c: int, port: int, colour: int) -> Words:
        if port == RAMP:
            return self.sent(r, c, colour)
        *source, way, there = self._origin(r, c, port, colour)
        if there:
            return self.on(source[0], source[1], way, colour)
        return self.edges.get((source[0], source[1], way, colour), NO_WORDS)

    def _passages(self, r: int, c: int, colour: int) -> list[Passage]:
        routes = self._routes(r, c, colour)
        # By port: words, places past its control words, and how far the router has come in both.
        arrived: dict[int, tuple[Words, list[int]]] = {}
        start, turn = [0] * (RAMP + 1), [0] * (RAMP + 1)
        position = 0
        found: list[Passage] = []
        while True:
            port = (routes[position] & 7) - 1
            if not 0 <= port <= RAMP:
                return found
            if port not in arrived:
                words = self._arriving(r, c, port, colour)
                arrived[port] = (words, (np.flatnonzero(words[1]) + 1).tolist())
            (words_there, kinds), controls = arrived[port]
            begin = start[port]
            controlled = turn[port] < len(controls)
            end = start[port] = controls[turn[port]] if controlled else len(words_there)
            if begin == end:
                return found
            turn[port] += 1
            found.append((position, (words_there[begin:end], kinds[begin:end])))
            if controlled:
                position = switched(routes[position], position, int(kinds[end - 1]))


def switched(route: int, position: int, kind: int) -> int:
    """Switch position after a control word."""
    if kind == ADVANCE:
        return position if route >> 8 & 1 or position == POSITIONS - 1 else position + 1
    return 0
