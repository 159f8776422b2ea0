"""Static checks of a lowered program before it runs: colours and routes, counts of words, deadlock, SRAM.

Nothing of it needs a value. A program that passes can stall only where something strikes it; that it cannot deadlock is
known for the depth of queues that it was checked with, as `docs/stalls.md` says in full.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.disassembly import Chain, chain_of
from yieldkit.emulator.edge_runs import fed_runs
from yieldkit.emulator.host_words import expected_lists, outputs_of
from yieldkit.emulator.isa import COLOURS, HEADER_WORDS
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.skeleton import Thinned, alike, reduced, thinned, zeros
from yieldkit.emulator.stalls import classify, ring_text
from yieldkit.emulator.waitgraph import Node, Wait
from yieldkit.emulator.word_counts import count_words, mismatches
from yieldkit.errors import BadInput

__all__ = ["BANKS", "CheckReport", "LaunchCheck", "SramUse", "check_lowered", "inspect_lowered", "sram_use"]

BANKS: Final = 8
"""Banks of SRAM. Assumption: words are interleaved, so that the bank is the word address modulo 8."""
MOST_MOVES: Final = 20_000_000
"""Words over links and ramps beyond which no more launches are run in search of a deadlock: about three seconds."""
_KEPT: Final = 32


@dataclass(frozen=True)
class SramUse:
    """SRAM of the cores that need most in a launch.

    Attributes:
        core: (row, column) of the first of them.
        words: words in use, of `sram_words`.
        tables: words of tasks and descriptors among them.
        banks: words in use in each bank.
        largest: (tensor, words), the largest ones.
    """

    core: tuple[int, int]
    words: int
    sram_words: int
    tables: int
    banks: tuple[int, ...]
    largest: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class LaunchCheck:
    """What was found in a launch.

    Attributes:
        launch: its name.
        problems: a line each.
        moves: words over links and ramps.
        rows: rows that were counted; fewer than the rectangle has where rows repeat.
        deadlock: "none", "found", or why it was not looked for.
        sram: use of SRAM.
    """

    launch: str
    problems: tuple[str, ...]
    moves: int
    rows: int
    deadlock: str
    sram: SramUse


@dataclass(frozen=True)
class CheckReport:
    """What was found in a program.

    Attributes:
        program: fingerprint.
        queue_depth: depth of queues that was checked.
        launches: one a launch.
    """

    program: str
    queue_depth: int
    launches: tuple[LaunchCheck, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, each with its launch."""
        return tuple(f"launch {one.launch!r}: {text}" for one in self.launches for text in one.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        launches = [asdict(one) for one in self.launches]
        return {
            "program": self.program,
            "queue_depth": self.queue_depth,
            "launches": launches,
            "problems": list(self.problems),
        }


def check_lowered(lowered: Lowered, *, queue_depth: int = 4, most_moves: int = MOST_MOVES) -> CheckReport:
    """Refuse a lowered program that cannot end well; what was found for a program is kept.

    Args:
        lowered: the program.
        queue_depth: words a queue holds.
        most_moves: words over links and ramps that may be moved in search of a deadlock, over all launches.

    Raises:
        BadInput: names the launch, the cores, the colour and the numbers that do not fit.
    """
    report = inspect_lowered(lowered, queue_depth=queue_depth, most_moves=most_moves)
    if report.problems:
        more = len(report.problems) - 1
        cure = f"{more} more problems: `yieldkit emulate check` lists them" if more else ""
        raise BadInput(report.problems[0], cure=cure)
    return report


_reports: OrderedDict[tuple[str, int, int], CheckReport] = OrderedDict()


def inspect_lowered(lowered: Lowered, *, queue_depth: int = 4, most_moves: int = MOST_MOVES) -> CheckReport:
    """The same without refusing anything: all that was found.

    Raises:
        BadInput: a queue depth below 1.
    """
    if queue_depth < 1:
        raise BadInput("queues hold at least one word", value=queue_depth)
    key = (_content(lowered), queue_depth, most_moves)
    if key in _reports:
        _reports.move_to_end(key)
        return _reports[key]
    runs = _Runs(queue_depth, most_moves)
    launches = tuple(_inspect(lowered, low, runs) for low in lowered.launches)
    report = CheckReport(lowered.program.fingerprint, queue_depth, launches)
    _reports[key] = report
    if len(_reports) > _KEPT:
        _reports.popitem(last=False)
    return report


class _Runs:
    """Launches that were run in search of a deadlock; layers of a model that move the same words are run once."""

    def __init__(self, queue_depth: int, most_moves: int) -> None:
        self.queue_depth, self.most_moves, self.left = queue_depth, most_moves, most_moves
        self.known: dict[bytes, tuple[tuple[str, ...], str]] = {}

    def find(self, part: Thinned, chains: Sequence[Chain], moves: int, edges: _Edges) -> tuple[tuple[str, ...], str]:
        """(problems, "none" or "found" or why it was not looked for)."""
        if moves > self.most_moves:
            return (), f"not looked for: more than {self.most_moves} moves of words"
        lowered, low = reduced(part, chains)
        key = _same(low, edges)
        if key not in self.known:
            if moves > self.left:
                return (), f"not looked for: more than {self.most_moves} moves of words"
            self.left -= moves
            self.known[key] = _run(lowered, low, part, self.queue_depth)
        return self.known[key]


def _content(lowered: Lowered) -> str:
    """Fingerprint of the images themselves: they may have been changed since they were lowered."""
    digest = hashlib.sha256(f"{lowered.program.fingerprint} {lowered.sram_words}".encode())
    for low in lowered.launches:
        digest.update(
            f"{low.name} {low.table_base} {sorted(low.colours.items())} {sorted(low.address.items())}".encode()
        )
        digest.update(np.ascontiguousarray(low.role_of).tobytes())
        for role in low.roles:
            for part in (role.header, role.tables, role.routes):
                digest.update(part.tobytes() + b"/")
    return digest.hexdigest()


def _inspect(lowered: Lowered, low: LoweredLaunch, runs: _Runs) -> LaunchCheck:
    program = lowered.program
    use = sram_use(lowered, low)
    problems = [*_sram(lowered, low, use), *_colours(low)]
    chains = [chain_of(low, role, lowered.sram_words) for role in low.roles]
    for number, chain in enumerate(chains):
        if chain.problem:
            r, c = np.argwhere(low.role_of == number)[0].tolist()
            problems.append(f"core ({r}, {c}) (role {number}): {chain.problem}")
    if problems:
        return LaunchCheck(low.name, tuple(problems), 0, program.rows, _OTHERS, use)
    part = thinned(program, low)
    edges = _edges(part)
    flows = count_words(part.low, chains, edges.streams)
    if part.seams and (flows.endless is not None or not alike(flows, program.cols, part.seams)):
        part = Thinned(low, program, tuple(range(program.rows)), ())
        edges = _edges(part)
        flows = count_words(low, chains, edges.streams)
    problems = list(mismatches(flows, part.low, edges.lists, part.rows))
    if problems:
        return LaunchCheck(low.name, tuple(problems), flows.moves, len(part.rows), _OTHERS, use)
    found, deadlock = runs.find(part, chains, flows.moves, edges)
    return LaunchCheck(low.name, found, flows.moves, len(part.rows), deadlock, use)


_OTHERS: Final = "not looked for: other problems"


class _Edges(NamedTuple):
    """What MemoryX sends and expects, by (core, port, colour): segments, and data words."""

    streams: dict[tuple[int, int, int], list[tuple[int, int]]]
    lists: dict[tuple[int, int, int], int]


def _edges(part: Thinned) -> _Edges:
    program, low = part.program, part.low
    streams: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for r, c, port, colour, runs in fed_runs(program, low.launch):
        own = streams.setdefault((r * program.cols + c, port, colour), [])
        own += [(words, kind) for words, kind, times in runs for _ in range(times)]
    lists: dict[tuple[int, int, int], int] = {}
    for output in outputs_of(low.launch):
        for r, c, port, colour, count in expected_lists(program, output):
            key = (r * program.cols + c, port, colour)
            lists[key] = lists.get(key, 0) + count
    return _Edges(streams, lists)


def _same(low: LoweredLaunch, edges: _Edges) -> bytes:
    """What decides how a reduced launch goes."""
    parts = [np.ascontiguousarray(low.role_of).tobytes(), repr(low.role_of.shape).encode()]
    parts += [item.tobytes() for role in low.roles for item in (role.header, role.tables, role.routes)]
    parts += [repr(sorted(table.items())).encode() for table in edges]
    return hashlib.sha256(b"/".join(parts)).digest()


def _run(lowered: Lowered, low: LoweredLaunch, part: Thinned, queue_depth: int) -> tuple[tuple[str, ...], str]:
    machine = Machine(lowered, queue_depth=queue_depth)
    result = machine.launch(low, zeros(lowered.program, low))
    stall = classify(machine, low, result)
    if stall is None:
        return (), "none"
    reason = stall.reason
    if stall.cycle:
        reason = ring_text([Wait(_back(w.who, part), _back(w.what, part), w.needs) for w in stall.cycle])
    return (f"it deadlocks with queues of {queue_depth} words: {reason}",), "found"


def _back(node: Node, part: Thinned) -> Node:
    return replace(node, r=part.rows[node.r])


def _colours(low: LoweredLaunch) -> Iterator[str]:
    channel_of: dict[int, str] = {}
    for channel, own in low.colours.items():
        for colour in own:
            if not 0 <= colour < COLOURS:
                yield f"channel {channel} has colour {colour}, and a router has {COLOURS}"
            elif colour in channel_of:
                where = _router_with(low, colour)
                yield f"channels {channel_of[colour]} and {channel} share colour {colour}{where}"
            channel_of.setdefault(colour, channel)
    for colour in range(COLOURS):
        if colour not in channel_of and (where := _router_with(low, colour)):
            yield f"no channel has colour {colour}, which has a route{where}"


def _router_with(low: LoweredLaunch, colour: int) -> str:
    """The first router with a route in a colour, in words; nothing where there is none."""
    used = np.array([role.routes[colour].any() for role in low.roles], np.bool_)[low.role_of]
    if not used.any():
        return ""
    r, c = np.argwhere(used)[0].tolist()
    return f" at the router of core ({r}, {c})"


def sram_use(lowered: Lowered, low: LoweredLaunch) -> SramUse:
    """SRAM in use over a launch on the cores with the longest tables."""
    used: npt.NDArray[np.bool_] = np.zeros(max(lowered.sram_words, 1), np.bool_)
    used[:HEADER_WORDS] = True
    for name, base in low.address.items():
        used[base : base + lowered.tensors[name].size] = True
    sizes = [len(role.tables) for role in low.roles]
    longest = int(np.argmax(sizes)) if sizes else 0
    tables = sizes[longest] if sizes else 0
    used[low.table_base : low.table_base + tables] = True
    core = np.argwhere(low.role_of == longest)
    r, c = core[0].tolist() if len(core) else (0, 0)
    largest = sorted(low.address, key=lambda name: (-lowered.tensors[name].size, name))[:4]
    return SramUse(
        (r, c),
        int(used.sum()),
        lowered.sram_words,
        tables,
        tuple(int(used[bank::BANKS].sum()) for bank in range(BANKS)),
        tuple((name, lowered.tensors[name].size) for name in largest),
    )


def _sram(lowered: Lowered, low: LoweredLaunch, use: SramUse) -> Iterator[str]:
    listed = ", ".join(f"{name} {size}" for name, size in use.largest)
    if low.table_base < 0 or low.table_base + use.tables > lowered.sram_words:
        yield (
            f"core {use.core} has {use.tables} words of tables at address {low.table_base}, beyond its "
            f"{lowered.sram_words} words of SRAM (largest tensors: {listed})"
        )
    over = [name for name, base in low.address.items() if base + lowered.tensors[name].size > low.table_base]
    if over:
        first = min(over, key=lambda name: low.address[name])
        end = low.address[first] + lowered.tensors[first].size
        yield (
            f"tensor {first} of core {use.core} ends at word {end} of SRAM, where the tables begin at "
            f"{low.table_base} (largest tensors: {listed})"
        )
