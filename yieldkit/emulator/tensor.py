"""The tensor executor: whole tensors at a time, in exactly the order of sums that the machine keeps.

What it follows itself: phases of untouched configuration, with any values in SRAM (struck ones included, where SRAM is
not protected and no cell is stuck). What strikes a configuration word, a register, a value within an element or a link
is handed, a launch at a time, to the machine that moves words: to a window of it over the struck cores where such a
window can be believed (`delegation`), and the rest of the cores are followed here as if nothing had struck; otherwise
to the whole of it, which runs the launch from the state at its start. How a launch stalls, the count interpreter says
without values; they are worked out when somebody asks for them, unless the rectangle is too large for that.
After a launch whose control state is as it should be, the tensors are read back and the fast way goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.actions import in_tables
from yieldkit.emulator.code import ZERO
from yieldkit.emulator.count_gates import STEPS
from yieldkit.emulator.counted import Counted
from yieldkit.emulator.counts import count_launch
from yieldkit.emulator.crossings import Crossings
from yieldkit.emulator.delegation import WindowScan, patched_outputs, patched_sums, settle
from yieldkit.emulator.formats import decode_words, encode_words
from yieldkit.emulator.hooks import LaunchHooks, SramHook
from yieldkit.emulator.host_words import check_input, inputs_of
from yieldkit.emulator.isa import COLOURS, HEADER_WORDS
from yieldkit.emulator.later import LateArrays, LateRun
from yieldkit.emulator.layouts import compact_blocks
from yieldkit.emulator.links import LinkGuard
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import LaunchResult, Machine
from yieldkit.emulator.part_runs import (
    Part,
    PartMachine,
    links_from_start,
    logged_from_start,
    never_read,
    part_of,
    shifted,
    streams_of,
    struck_part,
    struck_rows,
)
from yieldkit.emulator.partials import CleanLaunch
from yieldkit.emulator.reference import ReferenceExecutor
from yieldkit.emulator.scan import LogicalScan
from yieldkit.emulator.secded import read_pattern
from yieldkit.emulator.whole_tensors import WholeTensors
from yieldkit.emulator.windows import Window
from yieldkit.errors import BadInput
from yieldkit.workloads.program import Compute, Gemv, StreamIn, tensors_of, written_by

__all__ = ["ReferenceExecutor", "TensorExecutor"]

F32 = npt.NDArray[np.float32]

WINDOW_FROM: Final = 32
"""Cores of a rectangle from which on a window and its golden traffic cost less than the whole."""
DEEP: Final = 16
"""Words of a queue where the depth does not matter; chosen by measurement."""
FEW_STEPS: Final = 256
"""Steps of counts word by word on small rectangles; chosen by measurement."""
LARGEST_BYTES: Final = 8 << 30
"""Memory of the machine's cores and queues that is still taken for a launch of the whole rectangle."""


class TensorExecutor(WholeTensors):
    """Launches on whole tensors, handing on what it does not follow.

    Args:
        lowered: the program.
        queue_depth: words a queue holds, for the launches that are handed on.
        threads: threads for matrix products; changes no bit.
        taps: keep the fp32 sums of every product for hashing.
        window_from: cores of a rectangle from which on windows are tried before the whole.
        largest_bytes: memory of all cores and their queues from which on the whole is not run word by word.
        sequence: links number their words.
        guard: protection of links in full.
        sram_code: protection of SRAM.
        parts: run only the phases and rows word by word that a fault can touch, where that gives what the launch gives,
            and settle launches that stall by counts.

    Attributes:
        handed_on: launches that were not followed here.
        settled: how many of these the struck core settled, its row, several rows, the whole rectangle, or counts.
    """

    def __init__(
        self,
        lowered: Lowered,
        *,
        queue_depth: int = 4,
        threads: int = 1,
        taps: bool = True,
        window_from: int = WINDOW_FROM,
        largest_bytes: int = LARGEST_BYTES,
        sequence: bool = False,
        guard: LinkGuard | str | None = None,
        sram_code: str = "none",
        parts: bool = True,
    ) -> None:
        super().__init__(lowered, threads=threads, taps=taps)
        self.program = lowered.program
        self.rows, self.cols = self.program.rows, self.program.cols
        self.queue_depth = queue_depth
        self.guard, self.sram_code = LinkGuard.of(guard, sequence=sequence), sram_code
        self.wrong: dict[tuple[int, int, int], tuple[int, int]] = {}
        """Struck words of protected SRAM by (r, c, address): wrong bits, and the word that was stored."""
        self.parts = parts
        self._machine: Machine | None = None
        self._late: tuple[LoweredLaunch, LateRun] | None = None
        """A launch that counts have settled, as long as nobody asks for the state that it has left the cores in."""
        self.resident = ""
        """Fingerprint of the tables in the cores, "" before the first launch."""
        self.window_from = window_from
        self.largest_bytes = largest_bytes
        self.handed_on = 0
        self.settled: Counter[str] = Counter()
        for tensor in lowered.tensors.values():
            if tensor.values:
                self._put(tensor.name, self._plans.constants[tensor.name])
            elif tensor.keep:
                self.write(tensor.name, np.zeros((1, 1, *tensor.dims), np.float32))

    @property
    def machine(self) -> Machine | None:
        """The machine that moves words, while its control state is not the clean one."""
        if self._late is not None:
            (low, late), self._late = self._late, None
            self._machine = late.ended[0]
            self._take_alive(low, self._machine)
        return self._machine

    @machine.setter
    def machine(self, machine: Machine | None) -> None:
        self._machine, self._late = machine, None

    def write(self, name: str, array: F32) -> None:
        """Put a tensor into the cores."""
        dims = self.lowered.tensors[name].dims
        if array.shape[2:] != dims or array.shape[0] not in (1, self.rows) or array.shape[1] not in (1, self.cols):
            raise BadInput(f"tensor {name!r} needs blocks of shape {dims}", value=array.shape)
        self._put(name, np.array(array, np.float32, order="C"))
        base, size = self.lowered.address[name], self.lowered.tensors[name].size
        self.wrong = {key: word for key, word in self.wrong.items() if not base <= key[2] < base + size}
        self._compare_constants()

    def read(self, name: str) -> F32:
        """A tensor as `[rows, cols, *dims]`, copies spelled out."""
        if self._late is not None:
            self.machine  # noqa: B018  (brings the tensors up to date)
        array = self.arrays[name]
        return np.array(np.broadcast_to(array, (self.rows, self.cols, *array.shape[2:])), order="C")

    def launch(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks | None = None) -> LaunchResult:
        """Run one launch, here or on the reference machine."""
        # A slow core changes no value.
        hooks = replace(hooks or LaunchHooks(), slow=())
        self.resident = low.tables_id
        if self.wrong:
            hooks = self._struck_before(low) + hooks
        if self.machine is not None or not self._follows(low, hooks):
            return self._hand_on(low, streams, hooks)
        return self._follow(low, streams, hooks)

    def hold_machine(self, low: LoweredLaunch) -> None:
        """Run the launches to come on the machine that moves words, as long as its control state needs it.

        Args:
            low: the launch that comes next; its tables are in the cores already if they were the last to be loaded.
        """
        if self.machine is None:
            self.machine = self._loaded(low, self.arrays)
            if self.resident == low.tables_id:
                self.machine.load(low)

    def traffic(self, low: LoweredLaunch, streams: Mapping[str, F32]) -> tuple[Crossings, LaunchResult]:
        """Run a launch that nothing strikes; also tells which words cross its links."""
        held: list[dict[str, F32]] = []
        result = self._follow(low, streams, LaunchHooks(), held)
        return Crossings(CleanLaunch(self.lowered, low, streams, held)), result

    def _follow(
        self,
        low: LoweredLaunch,
        streams: Mapping[str, F32],
        hooks: LaunchHooks,
        held: list[dict[str, F32]] | None = None,
    ) -> LaunchResult:
        """Run a launch here; `held` takes the tensors that each phase finds, where cores send any of them."""
        for fed in inputs_of(low.launch):
            check_input(self.program, fed, streams[fed.stream])
        outputs: dict[str, F32] = {}
        taps: dict[str, F32] = {}
        self._phases(low, streams, hooks, (0, len(low.launch.phases)), outputs, taps, held)
        return LaunchResult(True, outputs, taps)

    def _phases(
        self,
        low: LoweredLaunch,
        streams: Mapping[str, F32],
        hooks: LaunchHooks,
        numbers: tuple[int, int],
        outputs: dict[str, F32],
        taps: dict[str, F32],
        held: list[dict[str, F32]] | None = None,
    ) -> None:
        """Run phases numbers[0] .. numbers[1] - 1 of a launch here."""
        first = sum(len(other.launch.phases) for other in self.lowered.launches[: low.index])
        for number in range(*numbers):
            phase = low.launch.phases[number]
            for hook in hooks.sram:
                if hook.phase == number:
                    self._change(low, hook)
            if held is not None:
                names = () if isinstance(phase, Compute | StreamIn) else tensors_of(phase)
                held.append({name: self.arrays[name].copy() for name in names if name in self.arrays})
            self._run(first + number, phase, streams, outputs, taps)
            for name in self._plans.dead[first + number]:
                self._drop(name)

    def _follows(self, low: LoweredLaunch, hooks: LaunchHooks) -> bool:
        # A link that only holds words up changes nothing but time.
        if hooks != LaunchHooks(sram=hooks.sram, links=tuple(hook for hook in hooks.links if hook.delay)):
            return False
        for hook in hooks.sram:
            if hook.lasts or self.sram_code != "none":
                return False
            meaning = self.lowered.meaning(low.index, hook.phase, int(low.role_of[hook.r, hook.c]), hook.address)
            # Cores clear their accumulators from the zero constant, which no instruction of the program shows.
            if meaning.kind in ("header", "task", "descriptor") or meaning.name == ZERO:
                return False
        return True

    def _hand_on(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks) -> LaunchResult:
        self.handed_on += 1
        unread = self._unread(low, streams, hooks)
        if unread is not None:
            return unread
        counted = None
        if self.machine is None and (self.parts or self.rows * self.cols >= self.window_from):
            counted = self._counted(low, hooks)
            stalls = counted is not None and not counted.completed
            if counted is not None and stalls and self.parts and self.sram_code == "none" and not self._too_large():
                return self._settled_by_counts(low, streams, hooks, counted)
        result = self._in_part(low, streams, hooks)
        if result is not None:
            return result
        if self.machine is None and (self.rows * self.cols >= self.window_from or counted is not None):
            lost = any(hook.drop or hook.duplicate for hook in hooks.links)
            # Where links number their words, a lost one shows at the router behind, which a window may not hold.
            seen = lost and self.guard.kind == "sequence"
            if (counted is None or counted.completed) and not (seen or hooks.withheld or self._lasts(low, hooks)):
                # A word lost or doubled on a border could be missed by the comparison of what leaves the window.
                through = not lost and counted is not None and not (counted.length.any() or counted.position.any())
                result = self._in_window(low, streams, hooks, through=through)
                if result is not None:
                    return result
            if self._too_large():
                # How often a struck word is read, counts do not tell.
                noted = self.sram_code != "none" and any(not in_tables(low, hook.address) for hook in hooks.sram)
                return self._stalled(low, None if noted else counted)
        self.settled["whole"] += 1
        if self.machine is None:
            self.machine = self._loaded(low, self.arrays)
        result = self.machine.launch(low, streams, hooks)
        following = self._after(low)
        self._take_alive(low, self.machine)
        wrong = {(*divmod(core, self.cols), address): bits for (core, address), bits in self.machine.wrong.items()}
        words = self.machine.state.sram.reshape(self.rows, self.cols, -1)
        golden = ZERO not in self.altered and self.machine.is_golden(following)
        left = self._left(low, following, wrong, lambda r, c, address: int(words[r, c, address]))
        if result.completed and golden and left is not None:
            self.machine, self.wrong = None, left
        return result

    def _counted(self, low: LoweredLaunch, hooks: LaunchHooks) -> Counted | None:
        """How a launch ends by counts; None where they do not tell, or nothing could end it otherwise than clean."""
        # Only what concerns words and their order can.
        control = hooks.routes or hooks.registers or hooks.indices or hooks.switches or hooks.withheld
        struck = bool(control) or any(in_tables(low, hook.address) for hook in hooks.sram)
        if not struck and not any(hook.drop or hook.duplicate or hook.credit for hook in hooks.links):
            return None
        return count_launch(
            self.lowered,
            low,
            hooks,
            queue_depth=self.queue_depth,
            guard=self.guard,
            sram_code=self.sram_code,
            steps=STEPS if self.rows * self.cols >= self.window_from else FEW_STEPS,
        )

    def _settled_by_counts(
        self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks, counted: Counted
    ) -> LaunchResult:
        """A launch that does not complete: its values are worked out when somebody asks for them."""
        self.settled["counts"] += 1
        for fed in inputs_of(low.launch):
            if fed.stream not in hooks.withheld:
                check_input(self.program, fed, streams[fed.stream])
        late = self._later(low, streams, hooks)
        self._late = (low, late)
        scan = WindowScan(counted.scan(), lambda: late.state_hash)
        outputs, taps = LateArrays(lambda: late.result.outputs), LateArrays(lambda: late.result.taps)
        return LaunchResult(False, outputs, taps, counted.missing, scan)

    def _plain(self, low: LoweredLaunch) -> bool:
        """Whether a launch may be run in parts: where the same tables stay, what struck them does too."""
        here = self.parts and self.sram_code == "none" and self.machine is None
        return here and self._after(low).tables_id != low.tables_id

    def _unread(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks) -> LaunchResult | None:
        """A launch in which a table word is struck that nobody reads any more; None where that is not so."""
        unread = never_read(low, hooks) if self._plain(low) else None
        if unread is None:
            return None
        self.settled["unread"] += 1
        late = self._later(low, streams, hooks)
        clean = self._follow(low, streams, LaunchHooks())
        seen = LogicalScan(low.name, (), (), (unread,), (), (), False, "")
        return LaunchResult(True, clean.outputs, clean.taps, scan=WindowScan(seen, lambda: late.state_hash))

    def _in_part(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks) -> LaunchResult | None:
        """Run here all phases but those that the fault can touch (see `part_runs`); None where that is all of them."""
        if not self._plain(low) or (hooks.links and self.guard.kind != "none"):
            return None
        if self.rows * self.cols >= self.window_from or any(isinstance(phase, Gemv) for phase in low.launch.phases):
            return None
        part = struck_part(self.lowered, low, hooks, self.queue_depth)
        if part is None:
            return None
        late = self._later(low, streams, hooks)
        self.settled["part"] += 1
        for fed in inputs_of(low.launch):
            check_input(self.program, fed, streams[fed.stream])
        outputs: dict[str, F32] = {}
        taps: dict[str, F32] = {}
        self._phases(low, streams, LaunchHooks(), (0, part.first), outputs, taps)
        lost = any(hook.drop for hook in part.hooks.links)
        if not lost and self._in_rows(low, streams, part, outputs, taps):
            self._phases(low, streams, LaunchHooks(), (part.last + 1, len(low.launch.phases)), outputs, taps)
            return LaunchResult(True, outputs, taps, scan=self._scan_of_values(low, late))
        # Where no word is lost, queues of any depth end alike, and deep ones make for fewer visits.
        depth = self.queue_depth if lost else max(self.queue_depth, DEEP)
        machine = PartMachine(self.lowered, queue_depth=depth, guard=self.guard)
        alive = tuple(self.arrays) if lost else self._read_in(low, part)
        for name in alive:
            machine.write(name, self.arrays[name])
        short = part_of(self.lowered, low, part.first, part.last, alive)
        # Of the whole rectangle's state there is a hash if it is asked for.
        machine.hashed = False
        result = machine.launch(short, streams_of(short, streams), part.hooks)
        machine.hashed = True
        outputs |= result.outputs
        if "" in result.taps:
            taps = {"": logged_from_start(self.lowered, low, part, taps, machine)}
        else:
            taps |= result.taps
        scan = result.scan
        if scan is not None and scan.links:
            scan = replace(scan, links=links_from_start(self.lowered, low, part, scan.links, self.queue_depth))
        known = None if scan is None else WindowScan(scan, lambda: late.state_hash)
        if not result.completed or not machine.is_golden(None) or machine.state.position.any():
            return self._ended_early(low, machine, replace(result, outputs=outputs, taps=taps, scan=known))
        self._take_part(low, part.first, part.last, machine)
        self._phases(low, streams, LaunchHooks(), (part.last + 1, len(low.launch.phases)), outputs, taps)
        return LaunchResult(True, outputs, taps, scan=known)

    def _in_rows(
        self,
        low: LoweredLaunch,
        streams: Mapping[str, F32],
        part: Part,
        outputs: dict[str, F32],
        taps: dict[str, F32],
    ) -> bool:
        """Run a part of one phase here, and the rows that the fault can touch word by word; whether that can be."""
        span = struck_rows(self.lowered, low, part)
        if span is None:
            return False
        top, end = span[0], span[1] + 1
        depth = max(self.queue_depth, DEEP)
        machine = PartMachine(self.lowered, queue_depth=depth, guard=self.guard, rows=end - top)
        alive = self._read_in(low, part)
        for name in alive:
            array = self.arrays[name]
            machine.write(name, array if len(array) == 1 else array[top:end])
        short = part_of(self.lowered, low, part.first, part.last, alive)
        short = replace(short, role_of=short.role_of[top:end])
        result = machine.launch(short, streams_of(short, streams), shifted(part.hooks, top))
        clean = result.completed and machine.is_golden(None) and not machine.state.position.any()
        shown = result.scan is not None and (result.scan.links or result.scan.config or result.scan.events)
        if not clean or shown or "" in result.taps:
            return False
        self._phases(low, streams, LaunchHooks(), (part.first, part.last + 1), outputs, taps)
        phase = low.launch.phases[part.first]
        if phase.name in taps:
            taps[phase.name][top:end] = result.taps[phase.name]
        for name in written_by(phase):
            if name in self.arrays:
                whole = self.read(name)
                whole[top:end] = machine.read(name)
                self._put(name, compact_blocks(whole, self.lowered.tensors[name].over))
        return True

    def _read_in(self, low: LoweredLaunch, part: Part) -> tuple[str, ...]:
        """Tensors that the phases of a part read or write, and constants: all that a change of values can reach."""
        names = {name for phase in low.launch.phases[part.first : part.last + 1] for name in tensors_of(phase)}
        return tuple(name for name in self.arrays if name in names or self.lowered.tensors[name].values)

    def _scan_of_values(self, low: LoweredLaunch, late: LateRun) -> WindowScan:
        """What a scan shows of a launch in which only values have changed."""
        return WindowScan(LogicalScan(low.name, (), (), (), (), (), False, ""), lambda: late.state_hash)

    def _take_part(self, low: LoweredLaunch, first: int, last: int, machine: Machine) -> None:
        """What the phases of a part have written, in place of what was there; what ends with them is dropped."""
        start = sum(len(other.launch.phases) for other in self.lowered.launches[: low.index])
        for number in range(first, last + 1):
            for name in written_by(low.launch.phases[number]):
                self._put(name, compact_blocks(machine.read(name), self.lowered.tensors[name].over))
        for number in range(first, last + 1):
            for name in self._plans.dead[start + number]:
                self._drop(name)

    def _ended_early(self, low: LoweredLaunch, machine: Machine, result: LaunchResult) -> LaunchResult:
        """A launch that left the machine in another state than the clean one, which goes on from there."""
        self.machine = machine
        # A part begins at a task of its own; who reads the cores now must find the header that the launch has.
        for core, place in enumerate(np.ndindex(self.rows, self.cols)):
            machine.state.sram[core, :HEADER_WORDS] = low.roles[low.role_of[place]].header
        self._take_alive(low, machine)
        return result

    def _take_alive(self, low: LoweredLaunch, machine: Machine) -> None:
        """Take the tensors that live on after a launch from the machine that has run it."""
        self.arrays, self._layout = {}, {}
        for name in self._alive_after(low, self._after(low)):
            self._put(name, compact_blocks(machine.read(name), self.lowered.tensors[name].over))
        self._compare_constants()

    def _later(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks) -> LateRun:
        """A run of the whole rectangle from here, for whoever asks how it ends word by word."""
        start = {name: self.arrays[name].copy() for name in low.alive_at_start if name in self.arrays}
        fed = {name: array.copy() for name, array in streams.items()}

        def work() -> tuple[Machine, LaunchResult]:
            machine = self._loaded(low, start)
            return machine, machine.launch(low, fed, hooks)

        return LateRun(work)

    def _struck_before(self, low: LoweredLaunch) -> LaunchHooks:
        """What struck words of earlier launches are to this one: words as stored, struck as it begins."""
        for (r, c, address), (bits, stored) in self.wrong.items():
            if read_pattern(np.array([bits], np.uint64), self.sram_code)[0][0]:
                self._change(low, SramHook(r, c, 0, address, stored, 0))
        hooks = tuple(SramHook(r, c, 0, address, bits) for (r, c, address), (bits, _) in self.wrong.items())
        self.wrong = {}
        self._compare_constants()
        return LaunchHooks(sram=hooks)

    def _left(
        self,
        low: LoweredLaunch,
        following: LoweredLaunch,
        wrong: Mapping[tuple[int, int, int], int],
        word: Callable[[int, int, int], int],
    ) -> dict[tuple[int, int, int], tuple[int, int]] | None:
        """Struck words that outlive a launch, for `wrong`; None where they are of tables, or the zero constant.

        Args:
            low: the launch.
            following: the next one.
            wrong: wrong bits by (r, c, address).
            word: what a read of (r, c, address) hands out.
        """
        spans = {name: (self.lowered.address[name], self.lowered.tensors[name].size) for name in self.lowered.address}
        alive = [spans[name] for name in self._alive_after(low, following)]
        left = {}
        for (r, c, address), bits in wrong.items():
            tables = address < HEADER_WORDS or address >= following.table_base
            if (tables and following.tables_id == low.tables_id) or address == spans[ZERO][0]:
                return None
            if not tables and any(base <= address < base + size for base, size in alive):
                off = int(read_pattern(np.array([bits], np.uint64), self.sram_code)[0][0])
                left[r, c, address] = (bits, word(r, c, address) ^ off)
        return left

    def _too_large(self) -> bool:
        words = self.lowered.sram_words + COLOURS * 6 * (2 * self.queue_depth + 4)
        return 4 * words * self.rows * self.cols > self.largest_bytes

    def _stalled(self, low: LoweredLaunch, counted: Counted | None) -> LaunchResult:
        """How a launch of a rectangle that is too large to be run stalls; what is in SRAM then, nobody knows."""
        if counted is None or counted.completed:
            raise BadInput(
                f"launch {low.name!r}: what the fault changes reaches over all rows, and to run {self.rows} x "
                f"{self.cols} cores word by word takes more than {self.largest_bytes >> 20} MiB",
                cure="use a smaller rectangle, or raise largest_bytes",
            )
        self.settled["counts"] += 1
        self.arrays, self._layout = {}, {}
        return LaunchResult(False, {}, {}, counted.missing, counted.scan())

    def _loaded(self, low: LoweredLaunch, arrays: Mapping[str, F32]) -> Machine:
        """A machine that holds what is there when a launch begins."""
        machine = Machine(self.lowered, queue_depth=self.queue_depth, guard=self.guard, sram_code=self.sram_code)
        for name in low.alive_at_start:
            if name in arrays:
                machine.write(name, arrays[name])
        return machine

    def _after(self, low: LoweredLaunch) -> LoweredLaunch:
        return self.lowered.launches[(low.index + 1) % len(self.lowered.launches)]

    def _lasts(self, low: LoweredLaunch, hooks: LaunchHooks) -> bool:
        """Whether what strikes will show in launches to come that this executor does not follow."""
        base = self.lowered.address[ZERO]
        if any(hook.address == base for hook in hooks.sram):
            return True
        struck = bool(hooks.routes) or any(in_tables(low, hook.address) for hook in hooks.sram)
        return struck and self._after(low).tables_id == low.tables_id

    def _in_window(
        self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks, *, through: bool
    ) -> LaunchResult | None:
        """Run the launch here as if nothing struck, and the struck cores in a window; None where none will do."""
        constants = self._plans.constants
        start = {
            name: array if array is constants.get(name) else array.copy()
            for name, array in self.arrays.items()
            if name in low.alive_at_start
        }
        late = self._later(low, streams, hooks)
        kept, self.keep_taps = self.keep_taps, True
        crossings, clean = self.traffic(low, streams)
        self.keep_taps = kept
        settled = settle(
            self.lowered,
            low,
            hooks,
            crossings,
            start,
            self.queue_depth,
            through=through,
            guard=self.guard,
            sram_code=self.sram_code,
        )
        scan = left = None
        if settled is not None:
            scan, after = settled[1].scan(), self._after(low)
            left = self._left(low, after, settled[1].wrong_words(), settled[1].word)
        if (
            settled is None
            or scan is None
            or left is None
            or settled[1].block(ZERO).view(np.uint32).any()
            or (scan.config and self._after(low).tables_id == low.tables_id)
        ):
            self.arrays, self._layout = {}, {}
            for name, array in start.items():
                self._put(name, array)
            return None
        level, window = settled
        self.settled[level] += 1
        self.wrong = left
        for name in self._alive_after(low, self._after(low)):
            self._take(name, window)
        self._compare_constants()
        return LaunchResult(
            True,
            patched_outputs(self.lowered, low, window, clean.outputs),
            patched_sums(self.lowered, low, window, clean.taps),
            scan=WindowScan(scan, lambda: late.state_hash),
        )

    def _take(self, name: str, window: Window) -> None:
        """Blocks of the window's cores in place of those that they would hold had nothing struck."""
        whole = self.read(name)
        place = np.array(window.cores).T
        mine = window.block(name)
        if (whole[place[0], place[1]].view(np.uint32) != mine.view(np.uint32)).any():
            whole[place[0], place[1]] = mine
            self._put(name, compact_blocks(whole, self.lowered.tensors[name].over))

    @property
    def pristine(self) -> bool:
        """Whether the cores hold nothing from before but the constants, as loaded."""
        if self._late is not None or self.machine is not None or self.altered or self.wrong:
            return False
        return all(tensor.values or not tensor.keep for tensor in self.lowered.tensors.values())

    def _compare_constants(self) -> None:
        """Find the constants that are no longer as loaded."""
        altered = []
        for name, loaded in self._plans.constants.items():
            now = self.arrays.get(name)
            if now is None or (now is not loaded and not np.array_equal(now.view(np.uint32), loaded.view(np.uint32))):
                altered.append(name)
        self.altered = frozenset(altered)

    def _alive_after(self, low: LoweredLaunch, following: LoweredLaunch) -> list[str]:
        if following.index > low.index:
            return list(following.alive_at_start)
        return [name for name in following.alive_at_start if self._plans.lasts(name)]

    def _change(self, low: LoweredLaunch, hook: SramHook) -> None:
        """Strike a word of SRAM; a word that holds nothing live, or an ignored high half, changes no value."""
        meaning = self.lowered.meaning(low.index, hook.phase, int(low.role_of[hook.r, hook.c]), hook.address)
        if meaning.kind not in ("tensor", "constant"):
            return
        if meaning.name not in self.arrays:
            shape = (*self._plans.setting.usual(meaning.name), *self.lowered.tensors[meaning.name].dims)
            self._put(meaning.name, np.zeros(shape, np.float32))
        array = self.read(meaning.name)
        dtype = self.lowered.tensors[meaning.name].dtype
        block = array[hook.r, hook.c].reshape(-1)
        word = encode_words(block[meaning.index : meaning.index + 1], dtype)
        block[meaning.index : meaning.index + 1] = decode_words(
            (word & np.uint32(hook.keep)) ^ np.uint32(hook.mask), dtype
        )
        self._put(meaning.name, array)
        if meaning.kind == "constant":
            self.altered |= {meaning.name}
