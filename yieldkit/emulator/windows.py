"""Windows: the reference machine over some cores of a rectangle, fed at its border with golden traffic.

A window holds the struck cores, and a router more on every side::

          h   h   h        h   halo: one router a border link. It takes the words of a colour from the link only if the
        ┌───────────┐          neighbour's router does so at some position, and hands them on to be compared; where it
      h │ c   c   c │ h        does not, words wait in its queue, of the usual depth. Golden words come in through it.
        └───────────┘
          h   h   h

What a window is good for, and when it may be believed, is in `delegation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.crossings import Crossings
from yieldkit.emulator.formats import decode_words
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.host_words import expected_lists, outputs_of
from yieldkit.emulator.isa import COLOURS, POSITIONS, route_word
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.links import LinkGuard
from yieldkit.emulator.lowering import Lowered, LoweredLaunch, Role
from yieldkit.emulator.machine import RUNAWAY_FACTOR, Machine, clean_elements, new_state
from yieldkit.emulator.scan import EVENTS, LogicalScan, in_order, scan_machine
from yieldkit.emulator.sends import Words
from yieldkit.quantities import OPPOSITE
from yieldkit.workloads.program import Gemm, Gemv

__all__ = ["Box", "Window"]

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]

_STEP = ((-1, 0), (0, 1), (1, 0), (0, -1))
_HALO = Role(
    np.zeros(2, np.uint32),
    np.zeros(0, np.uint32),
    0,
    np.zeros((COLOURS, POSITIONS), np.uint32),
    np.zeros(1, np.int32),
    np.zeros(0, np.bool_),
)


@dataclass(frozen=True)
class Box:
    """Cores (r, c) with top <= r <= bottom and left <= c <= right."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def cores(self) -> list[tuple[int, int]]:
        """In row-major order."""
        return [(r, c) for r in range(self.top, self.bottom + 1) for c in range(self.left, self.right + 1)]

    def border(self, rows: int, cols: int) -> Iterator[tuple[int, int, int, tuple[int, int]]]:
        """Links that lead out to a core of a rectangle: (r, c, port, core beyond)."""
        for r, c in self.cores:
            for port, (down, right) in enumerate(_STEP):
                y, x = r + down, c + right
                within = self.top <= y <= self.bottom and self.left <= x <= self.right
                if not within and 0 <= y < rows and 0 <= x < cols:
                    yield r, c, port, (y, x)

    def quiet(self, crossings: Crossings) -> bool:
        """Whether no golden word crosses the border, either way."""
        return not any(
            len(crossings.on(*core, way, colour)[0])
            for r, c, port, beyond in self.border(crossings.rows, crossings.cols)
            for core, way in (((r, c), port), (beyond, OPPOSITE[port]))
            for colour in crossings.colours(*core)
        )

    def plain(self, crossings: Crossings) -> bool:
        """Whether no golden control word leaves over the border."""
        return not any(
            (crossings.on(r, c, port, colour)[1] != kernel.DATA).any()
            for r, c, port, _ in self.border(crossings.rows, crossings.cols)
            for colour in crossings.colours(r, c)
        )


class Window(Machine):
    """One launch over the cores of a box.

    Its cores and halo routers are numbered in one line: as a rectangle it has one column.

    Args:
        lowered: the program.
        low: the launch.
        box: cores to run.
        crossings: golden traffic.
        arrays: tensors at the start of the launch, `[rows|1, cols|1, *dims]`.
        queue_depth: words a queue holds.
        guard: protection of links; numbers of words are left out.
        sram_code: protection of SRAM.
    """

    def __init__(
        self,
        lowered: Lowered,
        low: LoweredLaunch,
        box: Box,
        crossings: Crossings,
        arrays: Mapping[str, F32],
        queue_depth: int,
        *,
        guard: LinkGuard | None = None,
        sram_code: str = "none",
    ) -> None:
        self.guard = guard or LinkGuard()
        self.lowered, self.low, self.box, self.crossings = lowered, low, box, crossings
        self.cores = box.cores
        number = self.number = {core: i for i, core in enumerate(self.cores)}
        rows, cols = low.role_of.shape
        self.inside = len(self.cores)
        self.border = [link[:3] for link in box.border(rows, cols)]
        links = [
            (i, port, number[r + down, c + right])
            for (r, c), i in number.items()
            for port, (down, right) in enumerate(_STEP)
            if (r + down, c + right) in number
        ]
        for at, (r, c, port) in enumerate(self.border, self.inside):
            links += [(number[r, c], port, at), (at, OPPOSITE[port], number[r, c])]
        self.n = self.rows = self.inside + len(self.border)
        self.cols = 1
        self.order, self.burst = np.arange(self.n, dtype=np.int64), 4096
        self.loaded, self.surplus = "", {}
        self.sram_code, self.wrong = sram_code, {}
        self.neighbour = np.full((self.n, 4), -1, np.int64)
        for i, port, j in links:
            self.neighbour[i, port] = j
        roles = [int(low.role_of[core]) for core in self.cores] + [len(low.roles)] * len(self.border)
        self.part = replace(low, roles=(*low.roles, _HALO), role_of=np.array(roles, np.int32).reshape(-1, 1))
        self.state = new_state(self.n, lowered.sram_words, queue_depth)
        place = np.array(self.cores).T
        for name in low.alive_at_start:
            if name in arrays:
                blocks = np.broadcast_to(arrays[name], (rows, cols, *arrays[name].shape[2:]))
                nothing = np.zeros((len(self.border), *blocks.shape[2:]), np.float32)
                self.write(name, np.concatenate([blocks[place[0], place[1]], nothing])[:, None])
        self.load(self.part)
        self._golden = [crossings.crossing(*link) for link in self.border]
        self.two_way = False

    def play(self, hooks: LaunchHooks) -> bool:
        """Run the launch until nothing moves; whether all went as in a launch that ends: chains at their end, words
        in and words to MemoryX all through, queues empty, switches back, nothing logged twice or not at all.
        """
        self._set_up(hooks)
        ended = self._run(self.edge, self._marks, self.taps, self._budget)
        self._keep_wrong(self._marks)
        state, host = self.state, self.edge
        finished = (state.status == kernel.DONE) | (state.status == kernel.UNUSED)
        counts = host.out_count[: len(self._expected)]
        # A halo router hands a colour on in one direction; no channel uses a link in both.
        return (
            ended
            and not self.two_way
            and bool(finished.all())
            and not (host.in_next < host.in_end).any()
            and not state.length.any()
            and not state.position[: self.inside].any()
            and bool((counts == list(self._expected.values())).all())
            and bool((self.taps.logged[: self.inside] == self._logs()).all())
        )

    def _set_up(self, hooks: LaunchHooks) -> None:
        lines: list[tuple[int, int, int, Words]] = []
        for (r, c, port, colour), words in self.crossings.edges.items():
            if (r, c) in self.number:
                lines.append((self.number[r, c], port, colour, words))
        listed: dict[tuple[int, int, int], int] = {}
        for number, (r, c, port) in enumerate(self.border):
            lines += self._halo(self.inside + number, r, c, port, listed)
        expected: dict[tuple[int, int, int], int] = {}
        for phase in outputs_of(self.low.launch):
            for r, c, port, colour, count in expected_lists(self.lowered.program, phase):
                if (r, c) in self.number:
                    key = (self.number[r, c], port, colour)
                    expected[key] = expected.get(key, 0) + count
        self._expected = expected
        self.lists = {key: line for line, key in enumerate([*expected, *listed])}
        out_of = np.full((self.n, 4, COLOURS), -1, np.int32)
        for key, line in self.lists.items():
            out_of[key] = line
        most = max([*expected.values(), *listed.values()], default=0)
        ends = np.cumsum([len(words) for *_, (words, _) in lines], dtype=np.int64)
        lengths = np.array([len(words) for *_, (words, _) in lines], np.int64)
        self.edge = kernel.Host(
            in_core=np.array([line[0] for line in lines], np.int64),
            in_port=np.array([line[1] for line in lines], np.int64),
            in_colour=np.array([line[2] for line in lines], np.int64),
            in_next=ends - lengths,
            in_end=ends,
            in_word=np.concatenate([words for *_, (words, _) in lines]) if lines else np.zeros(0, np.uint32),
            in_kind=np.concatenate([kinds for *_, (_, kinds) in lines]) if lines else np.zeros(0, np.uint8),
            out_of=out_of,
            out_count=np.zeros(len(self.lists), np.int64),
            out_word=np.zeros((len(self.lists), most + 1), np.uint32),
        )
        here = self._here(hooks)
        self._marks = self._triggers(self.part, here)
        self.taps = self._taps(self.part)
        self._budget = RUNAWAY_FACTOR * clean_elements(self.part)[self.part.role_of.reshape(-1)] + 1000
        self._strike_routers(here)
        self._strike(self._marks, kernel.UNUSED)

    def _halo(
        self, halo: int, r: int, c: int, port: int, listed: dict[tuple[int, int, int], int]
    ) -> list[tuple[int, int, int, Words]]:
        """Set the routes of the router beyond a border link; its golden words, and in `listed` how many it takes."""
        facing, other = OPPOSITE[port], (r + _STEP[port][0], c + _STEP[port][1])
        lines = []
        theirs = self.low.roles[self.low.role_of[other]].routes
        for colour in self.crossings.colours(*other):
            words = self.crossings.on(*other, facing, colour)
            if len(words[0]):
                self.two_way |= colour in self._golden[halo - self.inside]
                self.state.route[halo, colour] = route_word(port, [facing])
                lines.append((halo, port, colour, words))
            elif ((theirs[colour] & 7) == facing + 1).any():
                self.state.route[halo, colour] = route_word(facing, [port])
                golden = self._golden[halo - self.inside].get(colour)
                listed[halo, port, colour] = 0 if golden is None else int((golden[1] == kernel.DATA).sum())
        return lines

    def _here(self, hooks: LaunchHooks) -> LaunchHooks:
        """Hooks in the numbering of the window."""

        def mine(items: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(replace(h, r=self.number[h.r, h.c], c=0) for h in items)

        return LaunchHooks(*(mine(getattr(hooks, kind.name)) for kind in fields(hooks)))

    def wrong_words(self) -> dict[tuple[int, int, int], int]:
        """Wrong bits of struck words in protected SRAM, by (r, c, address)."""
        return {(*self.cores[core], address): bits for (core, address), bits in self.wrong.items()}

    def word(self, r: int, c: int, address: int) -> int:
        """What a read of a word of SRAM hands out."""
        return int(self.state.sram[self.number[r, c], address])

    def differs_at(self) -> set[int]:
        """Ports (N, E, S, W) through which something else leaves the window than in the clean launch."""
        found = set()
        for number, (r, c, port) in enumerate(self.border):
            golden, core = self._golden[number], self.number[r, c]
            sent = self.state.sent[core, :, port]
            if set(np.flatnonzero(sent).tolist()) != set(golden):
                found.add(port)
                continue
            for colour, (words, kinds) in golden.items():
                line = self.lists[self.inside + number, port, colour]
                data, count = words[kinds == kernel.DATA], int(self.edge.out_count[line])
                if sent[colour] != len(words) or count != len(data) or (self.edge.out_word[line, :count] != data).any():
                    found.add(port)
                    break
        return found

    def _logs(self) -> npt.NDArray[np.int64]:
        """Sums that each core logs in a clean launch."""
        program = self.lowered.program
        words = sum(self._tap_words(p) for p in self.low.launch.phases if isinstance(p, Gemm | Gemv))
        return np.array([words if c == program.cols - 1 else 0 for _, c in self.cores], np.int64)

    def _tap_words(self, phase: Gemm | Gemv) -> int:
        table = self.lowered.program.table
        m, n = table[phase.y].dims
        return m * n * self.lowered.program.cols if isinstance(phase, Gemm) else m * n

    def block(self, name: str) -> F32:
        """A tensor of the cores of the window, `[cores, *dims]`."""
        spec = self.lowered.tensors[name]
        base = self.lowered.address[name]
        words = self.state.sram[: self.inside, base : base + spec.size]
        return decode_words(words, spec.dtype).reshape(self.inside, *spec.dims)

    def sums(self) -> dict[int, U32]:
        """Finished sums that the last core of each row has logged."""
        last = self.lowered.program.cols - 1
        return {r: self.taps.word[:, i] for i, (r, c) in enumerate(self.cores) if c == last}

    def taken(self) -> dict[tuple[int, int, int, int], U32]:
        """Words that left for MemoryX, by (r, c, port, colour)."""
        return {
            (*self.cores[core], port, colour): self.edge.out_word[line, : self.edge.out_count[line]]
            for (core, port, colour), line in self.lists.items()
            if core < self.inside
        }

    def scan(self) -> LogicalScan:
        """What a scan shows of the window, in coordinates of the rectangle.

        What a link's check sees is counted behind the link, which may be a halo router: its core counts it.
        """
        box = self.box
        behind: dict[tuple[int, int, str], int] = {}
        for number, (r, c, port) in enumerate(self.border, self.inside):
            for kind in np.flatnonzero(self.state.events[number]).tolist():
                key = (r + _STEP[port][0], c + _STEP[port][1], EVENTS[kind])
                behind[key] = behind.get(key, 0) + int(self.state.events[number, kind])
        state = kernel.State(*(part[: self.inside] for part in self.state))
        neighbour = self.neighbour[: self.inside].copy()
        neighbour[neighbour >= self.inside] = -1
        low = replace(self.low, role_of=self.low.role_of[box.top : box.bottom + 1, box.left : box.right + 1])
        # The hash is that of the whole, which is worked out when it is asked for.
        seen = scan_machine(state, neighbour, low, undrained=False, hashed=False)

        def moved(rows: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple((row[0] + box.top, row[1] + box.left, *row[2:]) for row in rows)

        return replace(
            seen,
            waiting=moved(seen.waiting),
            links=moved(seen.links),
            config=moved(seen.config),
            events=in_order((*moved(seen.events), *((*key, count) for key, count in behind.items()))),
            leftover=moved(seen.leftover),
        )
