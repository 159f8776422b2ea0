"""The reference machine: loads a lowered launch into cores, runs it word by word, and reads it out.

It holds SRAM, queues and registers of every core of the rectangle, so it is for small fabrics; the tensor executor
hands it the launches it does not follow itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.formats import decode_words, encode_words
from yieldkit.emulator.hooks import LaunchHooks, slow_cores
from yieldkit.emulator.host_words import EdgeList, expected_lists, inputs_of, join_outputs, outputs_of, words_in
from yieldkit.emulator.isa import COLOURS, HEADER_WORDS, POSITIONS
from yieldkit.emulator.kernels import cells, strikes
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.kernels.link_faults import places_lost
from yieldkit.emulator.links import LinkGuard, fed_by_cores, link_rows
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.scan import DETECTED, LogicalScan, scan_machine
from yieldkit.emulator.trace import Trace
from yieldkit.emulator.triggers import core_rows, new_triggers
from yieldkit.workloads.program import Gemm, Gemv

__all__ = ["LaunchResult", "Machine", "clean_elements", "new_state"]

F32 = npt.NDArray[np.float32]

HOPS_A_WORD = 4
RUNAWAY_FACTOR = 8
"""A core is stopped after this many times the elements its tasks hold: an endless loop, not a slow one."""


@dataclass(frozen=True)
class LaunchResult:
    """How a launch ended.

    Attributes:
        completed: every core ended its chain and MemoryX got every word it waits for.
        outputs: arrays by stream, for the streams that came in full.
        taps: finished fp32 sums by phase name; a launch that went astray gives its raw words under "".
        missing: (stream, words) that MemoryX still waits for.
        scan: what a scan of the cores shows; None for a launch that nobody had a reason to scan.
        cycles: cycles to the last event, where the machine has a clock.
        trace: occupancy over time, where it was asked for.
    """

    completed: bool
    outputs: Mapping[str, F32]
    taps: Mapping[str, F32]
    missing: tuple[tuple[str, int], ...] = ()
    scan: LogicalScan | None = None
    cycles: int | None = None
    trace: Trace | None = None

    @property
    def detected(self) -> bool:
        """Whether a check fired that could not repair what it saw: the host takes nothing from such a launch."""
        return self.scan is not None and any(kind in DETECTED for _, _, kind, _ in self.scan.events)


class Machine:
    """Cores of one rectangle, from the first launch to the last.

    Args:
        lowered: the program.
        queue_depth: words a queue holds.
        order: order in which cores are visited (a permutation), for showing that it does not matter.
        burst: elements a core runs at a visit.
        sequence: links between routers number their words by colour, and the router that gets a word with another
            number than the next counts an event. A last word that is lost shows in the counters only.
        guard: protection of links in full; `sequence` is short for one of them.
        sram_code: protection of SRAM, "none", "parity" or "secded".
        rows: rows of the rectangle in place of the program's, for phases in which rows do not talk to each other.
    """

    def __init__(
        self,
        lowered: Lowered,
        *,
        queue_depth: int = 4,
        order: npt.NDArray[np.int64] | None = None,
        burst: int = 4096,
        sequence: bool = False,
        guard: LinkGuard | str | None = None,
        sram_code: str = "none",
        rows: int | None = None,
    ) -> None:
        program = lowered.program
        self.guard = LinkGuard.of(guard, sequence=sequence)
        self.lowered = lowered
        self.rows, self.cols = program.rows if rows is None else rows, program.cols
        n = self.rows * self.cols
        self.n = n
        self.order = np.arange(n, dtype=np.int64) if order is None else order.astype(np.int64)
        self.burst = burst
        self.sram_code = sram_code
        self.wrong: dict[tuple[int, int], int] = {}
        """Wrong bits of struck words in protected SRAM, check bits from bit 32 up, by (core, address)."""
        self.loaded = ""
        self.hashed = True
        """Whether scans hold the hash of the whole state."""
        self.ended = True
        """Whether the last launch came to rest; words may go round for ever."""
        self.surplus: dict[tuple[int, int, int], npt.NDArray[np.uint32]] = {}
        self.state = new_state(n, lowered.sram_words, queue_depth, sequence=self.guard.kind == "sequence")
        self.neighbour = _neighbours(self.rows, self.cols)
        self.host: kernel.Host | None = None
        """MemoryX's streams and lists of the last launch."""
        self._link_rows = link_rows(LaunchHooks(), self.cols, self.guard)

    def write(self, tensor: str, array: F32) -> None:
        """Put a tensor, `[rows|1, cols|1, *dims]`, into the SRAM of the cores."""
        spec = self.lowered.tensors[tensor]
        base = self.lowered.address[tensor]
        words = encode_words(array, spec.dtype).reshape(array.shape[0], array.shape[1], spec.size)
        sram = self.state.sram.reshape(self.rows, self.cols, -1)
        sram[:, :, base : base + spec.size] = words
        self.wrong = {key: bits for key, bits in self.wrong.items() if not base <= key[1] < base + spec.size}

    def read(self, tensor: str) -> F32:
        """A tensor as the cores hold it, `[rows, cols, *dims]`."""
        spec = self.lowered.tensors[tensor]
        base = self.lowered.address[tensor]
        words = self.state.sram.reshape(self.rows, self.cols, -1)[:, :, base : base + spec.size]
        return decode_words(words, spec.dtype).reshape(self.rows, self.cols, *spec.dims)

    def load(self, low: LoweredLaunch) -> None:
        """Load a launch: tables and routes unless they are resident; clear what holds nothing live; reset counters."""
        state = self.state
        lookup = low.role_of.reshape(-1)
        keep = np.zeros(self.lowered.sram_words, np.bool_)
        keep[:HEADER_WORDS] = True
        keep[low.table_base :] = True
        for name in low.alive_at_start:
            base = self.lowered.address[name]
            keep[base : base + self.lowered.tensors[name].size] = True
        state.sram[:, ~keep] = 0
        if self.loaded != low.tables_id:
            keep[:HEADER_WORDS] = False
            keep[low.table_base :] = False
        self.wrong = {key: bits for key, bits in self.wrong.items() if keep[key[1]]}
        if self.loaded != low.tables_id:
            for number, role in enumerate(low.roles):
                mine = lookup == number
                image = np.zeros(self.lowered.sram_words - low.table_base, np.uint32)
                image[: len(role.tables)] = role.tables
                state.sram[mine, low.table_base :] = image
                state.sram[mine, :HEADER_WORDS] = role.header
                state.route[mine] = role.routes
            state.position[:] = 0
            self.loaded = low.tables_id
        # What a core did in earlier launches must not show in the scan of this one.
        for part in (
            state.sent, state.received, state.sunk, state.events, state.elements, state.executed, state.element,
            state.loop_index, state.stage, state.control, state.value, state.wait_colour, state.numbered,
        ):  # fmt: skip
            part[:] = 0
        state.task[:] = (state.sram[:, 0] & 0xFFF).astype(np.int32)
        state.status[:] = np.where(state.sram[:, 0] >> 31, kernel.READY, kernel.UNUSED)
        state.wait[:] = kernel.NOTHING
        state.register[:] = 0
        state.task_register[:] = 0

    def launch(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks | None = None) -> LaunchResult:
        """Run one launch until nothing moves.

        Args:
            low: the launch; loaded first.
            streams: input arrays by stream name.
            hooks: faults that strike during it.
        """
        hooks = hooks or LaunchHooks()
        self.load(low)
        # Words struck in earlier launches show as what strikes in this one does; a slow core shows in nothing here.
        struck = bool(self.wrong) or bool(replace(hooks, slow=()))
        program = self.lowered.program
        lists: list[EdgeList] = []
        for phase in inputs_of(low.launch):
            if phase.stream in hooks.withheld:
                continue
            lists += words_in(program, phase, streams[phase.stream])
        host, keys, expected = self._host(low, lists)
        self.host = host
        triggers = self._triggers(low, hooks)
        self._link_rows = triggers.link
        taps = self._taps(low)
        budget = RUNAWAY_FACTOR * clean_elements(low)[low.role_of.reshape(-1)] + 1000
        self._strike_routers(hooks)
        for core, address in self.wrong:
            if address == 0:
                cells.note_read(self.state, triggers, core, address)
        self._strike(triggers, kernel.UNUSED)
        self.ended = self._run(host, triggers, taps, budget)
        self._keep_wrong(triggers)
        outputs, missing = self._collect(low, host, keys, expected)
        finished = (self.state.status == kernel.DONE) | (self.state.status == kernel.UNUSED)
        undrained = bool((host.in_next < host.in_end).any())
        # More words than MemoryX has room for are no stream of this launch.
        overflow = bool((host.out_count > host.out_word.shape[1]).any())
        completed = self.ended and not overflow and bool(finished.all()) and not missing and not undrained
        strange = not completed or struck or bool(self.state.events.any()) or not self.is_golden(low)
        scan = None
        if strange:
            scan = scan_machine(
                self.state, self.neighbour, low, undrained=undrained, wrong=self.wrong, hashed=self.hashed
            )
        return self._result(LaunchResult(completed, outputs, self._tapped(low, taps), tuple(missing), scan))

    def _run(
        self, host: kernel.Host, triggers: kernel.Triggers, taps: kernel.Taps, budget: npt.NDArray[np.int64]
    ) -> bool:
        """Run what is loaded until nothing moves; False when words go round without end."""
        # What a core puts into a struck queue, it has to put there word by word.
        triggers.armed[fed_by_cores(triggers.link)] += 1
        common = (
            self.state,
            host,
            triggers,
            taps,
            self.neighbour,
            kernel.new_work(self.n),
            budget,
            self.order,
            self.burst,
        )
        hops = self._most_hops(host, budget)
        ended = bool(kernel.run(*common, hops))
        if ended and self._strike(triggers, kernel.DONE):
            ended = bool(kernel.run(*common, hops))
        return ended

    def _most_hops(self, host: kernel.Host, budget: npt.NDArray[np.int64]) -> int:
        """Far above what any rectangle's words need; only a loop of routes comes here."""
        return HOPS_A_WORD * (self.rows + self.cols) * (int(budget.sum()) + len(host.in_word))

    def _result(self, result: LaunchResult) -> LaunchResult:
        """The result with what only this machine knows."""
        return result

    def places(self, core: int, port: int, colour: int) -> int:
        """Places of the queue behind a link that its near router knows of, as it stands after the last launch."""
        sent = int(self.state.sent[core, colour, port])
        return int(self.state.queue.shape[3] - places_lost(self._link_rows, core, port, colour, sent))

    def is_golden(self, following: LoweredLaunch | None) -> bool:
        """Whether nothing of the control state outlives the launch: queues and MemoryX's lists are empty, and tables,
        routes and switches are as loaded, or are loaded anew for the `following` launch.
        """
        if self.state.length.any() or self.surplus:
            return False
        if following is None or following.tables_id != self.loaded:
            return True
        lookup = following.role_of.reshape(-1)
        tables = self.state.sram[:, following.table_base :]
        for number, role in enumerate(following.roles):
            mine = lookup == number
            size = len(role.tables)
            if (tables[mine, :size] != role.tables).any() or tables[mine, size:].any():
                return False
            if (self.state.sram[mine, :HEADER_WORDS] != role.header).any():
                return False
            if (self.state.route[mine] != role.routes).any():
                return False
        return not self.state.position.any()

    def _host(
        self, low: LoweredLaunch, lists: list[EdgeList]
    ) -> tuple[kernel.Host, dict[tuple[int, int, int], int], dict[tuple[int, int, int], int]]:
        grouped: dict[tuple[int, int, int], list[EdgeList]] = {}
        for item in lists:
            grouped.setdefault((item.r * self.cols + item.c, item.port, item.colour), []).append(item)
        grouped = dict(sorted(grouped.items()))
        words = [np.concatenate([item.words for item in group]) for group in grouped.values()]
        kinds = [np.concatenate([item.kinds for item in group]) for group in grouped.values()]
        ends = np.cumsum([len(w) for w in words], dtype=np.int64)
        starts = ends - np.array([len(w) for w in words], np.int64)
        expected: dict[tuple[int, int, int], int] = {}
        for phase in outputs_of(low.launch):
            for r, c, port, colour, count in expected_lists(self.lowered.program, phase):
                key = (r * self.cols + c, port, colour)
                expected[key] = expected.get(key, 0) + count
        keys = {key: line for line, key in enumerate([*expected, *(k for k in self.surplus if k not in expected)])}
        out_of = np.full((self.n, 4, COLOURS), -1, np.int32)
        capacity = 2 * max(expected.values(), default=0) + 1024
        out_count = np.zeros(len(keys), np.int64)
        out_word = np.zeros((len(keys), capacity), np.uint32)
        for key, line in keys.items():
            out_of[key] = line
            left = self.surplus.get(key)
            if left is not None:
                out_word[line, : len(left)] = left
                out_count[line] = len(left)
        self.surplus = {}
        host = kernel.Host(
            in_core=np.array([key[0] for key in grouped], np.int64),
            in_port=np.array([key[1] for key in grouped], np.int64),
            in_colour=np.array([key[2] for key in grouped], np.int64),
            in_next=starts,
            in_end=ends,
            in_word=np.concatenate(words) if words else np.zeros(0, np.uint32),
            in_kind=np.concatenate(kinds) if kinds else np.zeros(0, np.uint8),
            out_of=out_of,
            out_count=out_count,
            out_word=out_word,
        )
        return host, keys, expected

    def _collect(
        self,
        low: LoweredLaunch,
        host: kernel.Host,
        keys: Mapping[tuple[int, int, int], int],
        expected: Mapping[tuple[int, int, int], int],
    ) -> tuple[dict[str, F32], list[tuple[str, int]]]:
        taken = dict.fromkeys(keys, 0)
        outputs: dict[str, F32] = {}
        missing: list[tuple[str, int]] = []
        for phase in outputs_of(low.launch):
            lists, lack = [], 0
            for r, c, port, colour, count in expected_lists(self.lowered.program, phase):
                key = (r * self.cols + c, port, colour)
                line, start = keys[key], taken[key]
                there = max(0, min(count, int(host.out_count[line]) - start))
                lack += count - there
                lists.append(host.out_word[line, start : start + there])
                taken[key] = start + there
            if lack:
                missing.append((phase.stream, lack))
            else:
                outputs[phase.stream] = join_outputs(self.lowered.program, phase, lists)
        for key, line in keys.items():
            have = min(int(host.out_count[line]), host.out_word.shape[1])
            if have > taken[key]:
                self.surplus[key] = host.out_word[line, taken[key] : have].copy()
        return outputs, missing

    def _triggers(self, low: LoweredLaunch, hooks: LaunchHooks) -> kernel.Triggers:
        rows = core_rows(low, hooks, lambda r, c: r * self.cols + c)
        links = link_rows(hooks, self.cols, self.guard)
        return new_triggers(rows, links, self.n, self.sram_code, wrong=self.wrong, slow=slow_cores(hooks, self.cols))

    def _strike_routers(self, hooks: LaunchHooks) -> None:
        for hook in hooks.routes:
            at = (hook.r * self.cols + hook.c, hook.colour, hook.position)
            self.state.route[at] = (self.state.route[at] & np.uint32(hook.keep)) ^ np.uint32(hook.mask)
        for turned in hooks.switches:
            self.state.position[turned.r * self.cols + turned.c, turned.colour] ^= np.uint8(turned.mask & 3)

    def _strike(self, triggers: kernel.Triggers, status: int) -> bool:
        """Strike what waits for a task that never comes, on cores that never start or have ended their chain."""
        struck = False
        for row in triggers.core:
            core, executed = int(row[strikes.AT_CORE]), int(row[strikes.AT_TASK])
            if row[strikes.WHAT] != kernel.T_SRAM or self.state.status[core] != status:
                continue
            if executed != self.state.executed[core]:
                continue
            address, mask, keep, lasts = (
                int(row[k]) for k in (strikes.PART, strikes.MASK, strikes.KEEP, strikes.LASTS)
            )
            cells.strike_cell(self.state, triggers, core, address, mask, keep, bool(lasts))
            row[strikes.WHAT] = -1
            triggers.armed[core] -= 1
            struck = True
        return struck

    def _keep_wrong(self, triggers: kernel.Triggers) -> None:
        """Keep what is wrong in struck words for the launches to come."""
        self.wrong = {
            (int(row[cells.CELL_CORE]), int(row[cells.CELL_ADDRESS])): int(row[cells.CELL_PATTERN])
            for row in triggers.cell
            if row[cells.CELL_PATTERN]
        }

    def _taps(self, low: LoweredLaunch) -> kernel.Taps:
        longest = max((role.n_tasks for role in low.roles), default=0)
        marked = np.zeros((len(low.roles), max(1, longest)), np.uint8)
        for number, role in enumerate(low.roles):
            marked[number, : role.n_tasks] = role.taps
        capacity = sum(self._tap_words(phase) for phase in low.launch.phases if isinstance(phase, Gemm | Gemv))
        return kernel.Taps(
            marked,
            low.role_of.reshape(-1).astype(np.int32),
            np.zeros((capacity, self.n), np.uint32),
            np.zeros(self.n, np.int64),
        )

    def _tap_words(self, phase: Gemm | Gemv) -> int:
        table = self.lowered.program.table
        m, n = table[phase.y].dims
        return m * n * self.cols if isinstance(phase, Gemm) else m * n

    def _tapped(self, low: LoweredLaunch, taps: kernel.Taps) -> dict[str, F32]:
        """Logged sums per phase, `[rows, cols, m, n]` for a gemm and `[cols, b, n]` for a gemv."""
        phases = [phase for phase in low.launch.phases if isinstance(phase, Gemm | Gemv)]
        if not phases:
            return {}
        last = self.cols - 1
        tapped = taps.word.reshape(-1, self.rows, self.cols)[:, :, last]
        counts = taps.logged.reshape(self.rows, self.cols)
        if (counts[:, last] != len(tapped)).any() or counts[:, :last].any():
            whole = np.minimum(counts[:, last], len(tapped))
            return {"": decode_words(np.concatenate([tapped[: whole[r], r] for r in range(self.rows)]), "fp32")}
        result: dict[str, F32] = {}
        start = 0
        table = self.lowered.program.table
        for phase in phases:
            size = self._tap_words(phase)
            words = decode_words(tapped[start : start + size], "fp32")
            start += size
            m, n = table[phase.y].dims
            if isinstance(phase, Gemv):
                result[phase.name] = np.ascontiguousarray(words.reshape(n, m, self.rows).transpose(2, 1, 0))
                continue
            part = phase.part
            # tile, block from the last column but one down to 0 and then the last, feature, token, row
            blocks = words.reshape(n // part, self.cols, part, m, self.rows)
            order = [self.cols - 2 - c for c in range(self.cols - 1)] + [self.cols - 1]
            ordered = blocks[:, order]
            result[phase.name] = np.ascontiguousarray(ordered.transpose(4, 1, 3, 0, 2)).reshape(
                self.rows, self.cols, m, n
            )
        return result


def new_state(n: int, sram_words: int, queue_depth: int, *, sequence: bool = False) -> kernel.State:
    """Cores that hold nothing; `sequence`: with room for the numbers that links give their words."""
    return kernel.State(
        sram=np.zeros((n, sram_words), np.uint32),
        route=np.zeros((n, COLOURS, POSITIONS), np.uint32),
        position=np.zeros((n, COLOURS), np.uint8),
        queue=np.zeros((n, COLOURS, 6, queue_depth), np.uint32),
        kind=np.zeros((n, COLOURS, 6, queue_depth), np.uint8),
        head=np.zeros((n, COLOURS, 6), np.int32),
        length=np.zeros((n, COLOURS, 6), np.int32),
        status=np.zeros(n, np.int32),
        task=np.zeros(n, np.int32),
        executed=np.zeros(n, np.int32),
        wait=np.zeros(n, np.int32),
        wait_colour=np.zeros(n, np.int32),
        register=np.zeros((n, 3, 4), np.uint32),
        task_register=np.zeros((n, 2), np.uint32),
        loop_index=np.zeros((n, 3, 3), np.int64),
        stage=np.zeros(n, np.int32),
        control=np.zeros(n, np.int32),
        value=np.zeros((n, 2), np.float32),
        element=np.zeros(n, np.int64),
        elements=np.zeros(n, np.int64),
        sent=np.zeros((n, COLOURS, 5), np.int64),
        received=np.zeros((n, COLOURS, 4), np.int64),
        sunk=np.zeros((n, COLOURS), np.int64),
        events=np.zeros((n, kernel.N_EVENTS), np.int64),
        numbered=np.zeros((n if sequence else 0, COLOURS, 4), np.int64),
    )


def _neighbours(rows: int, cols: int) -> npt.NDArray[np.int64]:
    """int64[n, 4]: core reached through N, E, S, W, or -1 at the edge."""
    number = np.arange(rows * cols).reshape(rows, cols)
    result = np.full((rows, cols, 4), -1, np.int64)
    result[1:, :, 0] = number[:-1]
    result[:, :-1, 1] = number[:, 1:]
    result[:-1, :, 2] = number[1:]
    result[:, 1:, 3] = number[:, :-1]
    return result.reshape(-1, 4)


def clean_elements(low: LoweredLaunch) -> npt.NDArray[np.int64]:
    """int64[roles]: elements that all tasks of a role run when nothing is wrong."""
    return np.array([role.elements for role in low.roles], np.int64)
