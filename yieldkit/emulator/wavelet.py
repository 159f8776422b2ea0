"""The wavelet executor: the reference machine's images, cores and queues, with a clock.

What it adds to the reference machine is time: links, ramps and vector operations cost the cycles of a `Timing`, and on
a repaired mesh every link costs the core pitches it spans. What it shares is everything else, so its final state is
the reference machine's, word for word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.cost import FRACTION, Timing
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.kernels import link_faults
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.kernels import wavelet as clocked
from yieldkit.emulator.kernels import wavelet_pack as packing
from yieldkit.emulator.kernels import wavelet_state as layout
from yieldkit.emulator.links import LinkGuard, most_held_up
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import LaunchResult, Machine
from yieldkit.emulator.reference import ReferenceExecutor
from yieldkit.emulator.trace import Trace
from yieldkit.errors import BadInput

__all__ = ["WaveletExecutor", "WaveletMachine"]

F32 = npt.NDArray[np.float32]
LONGEST_LINK = 120


class Traffic(NamedTuple):
    """Words moved during a launch.

    Attributes:
        hops: over links, off the edge included.
        ramps: from routers to cores.
        cycles: to the last event.
    """

    hops: int
    ramps: int
    cycles: int


class WaveletMachine(Machine):
    """Cores and routers of one rectangle with a clock.

    Args:
        lowered: the program.
        queue_depth: words a queue holds, 1 to 127; words on their way count against the queue they go to.
        timing: what things cost.
        link_pitches: int[n, 4], core pitches that the link of each core through N, E, S, W spans on the repaired mesh;
            1 everywhere when None. It changes cycles, never a value.
        sequence: links number their words.
        guard: protection of links in full.
        sram_code: protection of SRAM.

    Raises:
        BadInput: a cost or span that the clock cannot keep.
    """

    def __init__(
        self,
        lowered: Lowered,
        *,
        queue_depth: int = 4,
        timing: Timing | None = None,
        link_pitches: npt.NDArray[np.int32] | None = None,
        sequence: bool = False,
        guard: LinkGuard | str | None = None,
        sram_code: str = "none",
    ) -> None:
        super().__init__(lowered, queue_depth=queue_depth, sequence=sequence, guard=guard, sram_code=sram_code)
        self.timing = timing or Timing()
        self.queue_depth = queue_depth
        if not 1 <= queue_depth < 128:
            raise BadInput("the queue depth must lie in 1 to 127", value=queue_depth)
        if not 1 <= self.timing.ramp_cycles <= LONGEST_LINK or self.timing.pitch_cycles < 1:
            raise BadInput(
                f"timing {self.timing.name!r} needs a pitch of at least one cycle and a ramp of 1 to {LONGEST_LINK}",
                value=(self.timing.ramp_cycles, self.timing.pitch_cycles),
            )
        element = self.timing.element_array
        if (element[:, 1:] < FRACTION).any() or (element < 1).any() or self.timing.control < FRACTION:
            raise BadInput(
                f"timing {self.timing.name!r} moves more than one word a cycle over a ramp",
                cure="elements with a fabric operand and control words cost at least 256/256 cycle",
            )
        pitches = np.ones((self.n, 4), np.int64) if link_pitches is None else np.asarray(link_pitches, np.int64)
        self.spans = pitches.reshape(self.n, 4) * self.timing.pitch_cycles
        if self.spans.min(initial=1) < 1 or self.spans.max(initial=1) > LONGEST_LINK:
            raise BadInput(f"a link takes 1 to {LONGEST_LINK} cycles", value=int(self.spans.max(initial=0)))
        self.costs = layout.Costs(element, self.timing.start_array, self.timing.row_array, int(self.timing.control))
        self.trace_bins = 0
        self.traffic = Traffic(0, 0, 0)
        self._record: layout.Record | None = None
        self._name = ""

    def launch(
        self,
        low: LoweredLaunch,
        streams: Mapping[str, F32],
        hooks: LaunchHooks | None = None,
        *,
        trace_bins: int = 0,
    ) -> LaunchResult:
        """Run one launch until nothing moves.

        Args:
            low: the launch; loaded first.
            streams: input arrays by stream name.
            hooks: faults that strike during it.
            trace_bins: bins that a trace has at most, 0 for no trace. They begin one cycle wide and double their width
                whenever time runs past the last, so the trace has at least half as many.

        Raises:
            BadInput: a trace of fewer than two bins.
        """
        if trace_bins < 0 or trace_bins == 1:
            raise BadInput("a trace needs at least two bins", value=trace_bins)
        self.trace_bins = trace_bins - trace_bins % 2
        self._name = low.name
        return super().launch(low, streams, hooks)

    def _result(self, result: LaunchResult) -> LaunchResult:
        result = replace(result, cycles=self.traffic.cycles)
        if self._record is None:
            return result
        record, self._record = self._record, None
        width, cycles = int(record.width[0]), self.traffic.cycles
        bins = max(1, -(-cycles // width))
        shape = (bins, self.rows, self.cols)
        trace = Trace(
            self._name,
            self.rows,
            self.cols,
            width,
            cycles,
            record.hops[:bins].reshape(*shape, 5),
            record.busy[:bins].reshape(shape),
            record.starved[:bins].reshape(shape),
            record.blocked[:bins].reshape(shape),
        )
        return replace(result, trace=trace.with_end(result))

    def _run(
        self, host: kernel.Host, triggers: kernel.Triggers, taps: kernel.Taps, budget: npt.NDArray[np.int64]
    ) -> bool:
        if self.trace_bins:
            bins = (self.trace_bins, self.n)
            self._record = layout.Record(
                np.ones(1, np.int64),
                np.zeros((*bins, 5), np.int32),
                *(np.zeros(bins, np.int32) for _ in range(3)),
            )
        state = self.state
        struck = np.zeros(self.n, np.bool_)
        struck[triggers.link[:, 0]] = True
        faulty = any(len(part) for part in (triggers.core, triggers.link, triggers.cell, triggers.slow))
        net = self._net(host, most_held_up(triggers.link))
        packing.pack(net, state, host, self.neighbour, self.spans, struck, self.timing.launch_cycles)
        places = triggers.link[:, [link_faults.CORE, link_faults.PORT, link_faults.COLOUR]]
        for core, port, colour in {tuple(place) for place in places.tolist()}:
            slot = int(net.slot_of[core * COLOURS + colour])
            if slot >= 0 and port < kernel.FROM_CORE:
                clocked.lose_places(net, triggers.link, slot, port, 0)
        outcome = clocked.run_cycles(
            net,
            self.costs,
            state,
            host,
            # Compiled once for faults and once without a trace of them.
            triggers if faulty else None,
            taps,
            budget,
            self._record,
            self._most_hops(host, budget),
            layout.MOST_CYCLES,
        )
        packing.unpack(net, state, self._record, not faulty)
        self.traffic = Traffic(int(net.tally[layout.HOPS]), int(net.tally[layout.RAMPS]), int(net.tally[layout.LAST]))
        ended = bool(outcome == clocked.QUIET)
        if ended:
            self._strike(triggers, kernel.DONE)
        return ended

    def _net(self, host: kernel.Host, held_up: int) -> layout.Net:
        n, depth = self.n, self.state.queue.shape[3]
        room = n * COLOURS + 64 * (n // 32 + 1)
        ports = np.zeros((n, COLOURS), np.uint8)
        packing.reachable(self.state, host, self.neighbour, ports)
        queues = int(np.bitwise_count(ports).sum()) + room
        # Streams of one edge port stand side by side, so that they can take turns.
        entry = list(zip(host.in_core.tolist(), host.in_port.tolist(), strict=True))
        edge = {port: number for number, port in enumerate(dict.fromkeys(entry))}
        line_port = np.array([edge[port] for port in entry], np.int32)
        number = np.arange(len(edge))
        ahead = 8
        while ahead <= max(int(self.spans.max(initial=1)) + held_up, self.timing.ramp_cycles + 1):
            ahead *= 2
        # Most of this is never touched, and memory that is never touched is never there.
        net = layout.Net(
            slot=np.zeros(room * layout.SLOT, np.int32),
            queue=np.zeros(queues * (depth + 1), np.uint64),
            slot_of=np.full(n * COLOURS, -1, np.int32),
            aside=np.zeros(room * 4, np.int32),
            sunk=np.zeros(room, np.int32),
            edge_in=np.zeros(room * 4, np.int32),
            slot_due=np.zeros((ahead, -(-room // 64)), np.uint64),
            slot_count=np.zeros(ahead, np.int64),
            core_due=np.zeros((layout.CORE_ROWS, -(-n // 64)), np.uint64),
            core_count=np.zeros(layout.CORE_ROWS, np.int64),
            group=np.zeros(64, np.int32),
            turn=np.zeros(n, np.uint8),
            freed=np.zeros(room * 6, np.int64),
            cell=np.zeros(n * layout.CELL, np.int32),
            tally=np.zeros(layout.TALLY, np.int64),
            edge_list=np.zeros((2, len(edge)), np.int32),
            port_first=np.searchsorted(line_port, number, side="left").astype(np.int32),
            port_end=np.searchsorted(line_port, number, side="right").astype(np.int32),
            port_turn=np.zeros(len(edge), np.int32),
            port_mark=np.zeros(len(edge), np.int32),
            line_slot=np.zeros(len(entry), np.int32),
            line_side=host.in_port.astype(np.int32),
            line_port=line_port,
            depth=depth,
            ramp=self.timing.ramp_cycles,
        )
        packing.number_slots(net, ports)
        return net


class WaveletExecutor(ReferenceExecutor):
    """Every launch on the wavelet executor's clock.

    Args:
        lowered: the program.
        queue_depth: words a queue holds.
        threads: taken for the sake of one signature; the clock runs on one.
        sequence: links number their words.
        sram_code: protection of SRAM.
        timing: what things cost, or the name of a preset.
        link_pitches: int[n, 4], core pitches that the link of each core through N, E, S, W spans; 1 when None.
        trace_bins: bins that the trace of each launch has at most, 0 for no traces.
        guard: protection of links in full.

    Raises:
        BadInput: a cost or span that the clock cannot keep, or an unknown preset.
    """

    machine: WaveletMachine

    def __init__(
        self,
        lowered: Lowered,
        *,
        queue_depth: int = 4,
        threads: int = 1,
        sequence: bool = False,
        sram_code: str = "none",
        timing: Timing | str = "ideal",
        link_pitches: npt.NDArray[np.int32] | None = None,
        trace_bins: int = 0,
        guard: LinkGuard | str | None = None,
    ) -> None:
        costs = Timing.preset(timing) if isinstance(timing, str) else timing
        machine = WaveletMachine(
            lowered,
            queue_depth=queue_depth,
            timing=costs,
            link_pitches=link_pitches,
            sequence=sequence,
            guard=guard,
            sram_code=sram_code,
        )
        self._begin(lowered, machine, queue_depth)
        self.trace_bins = trace_bins

    @property
    def clock(self) -> dict[str, Any]:
        """What its cycles depend on beside the program, as arguments of the cycle model."""
        machine = self.machine
        pitches = (machine.spans // machine.timing.pitch_cycles).astype(np.int32)
        return {"timing": machine.timing, "link_pitches": pitches, "queue_depth": self.queue_depth}

    def launch(self, low: LoweredLaunch, streams: Mapping[str, F32], hooks: LaunchHooks | None = None) -> LaunchResult:
        """Run one launch; the result has its cycles, and its trace where traces are kept."""
        return self.machine.launch(low, streams, hooks, trace_bins=self.trace_bins)
