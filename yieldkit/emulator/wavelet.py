"""The wavelet executor: the reference machine's images, cores and queues, with a clock.

What it adds to the reference machine is time: links, ramps and vector operations cost the cycles of a `Timing`, and on a
repaired mesh every link costs the core pitches it spans. What it shares is everything else, so its final state is the
reference machine's, word for word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.cost import FRACTION, Timing
from yieldkit.emulator.hooks import LaunchHooks
from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.kernels import wavelet as clocked
from yieldkit.emulator.kernels import wavelet_state as layout
from yieldkit.emulator.lowering import Lowered, LoweredLaunch
from yieldkit.emulator.machine import LaunchResult, Machine
from yieldkit.emulator.trace import Trace
from yieldkit.errors import BadInput

__all__ = ["WaveletMachine"]

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
    ) -> None:
        super().__init__(lowered, queue_depth=queue_depth)
        self.timing = timing or Timing()
        self.queue_depth = queue_depth
        if not 1 <= queue_depth < 128:
            raise BadInput("the queue depth must lie in 1 to 127", value=queue_depth)
        if self.timing.ramp_cycles < 1 or self.timing.pitch_cycles < 1:
            raise BadInput(
                f"timing {self.timing.name!r} needs ramp and pitch of at least one cycle",
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
        self.costs = layout.Costs(
            element, self.timing.start_array, self.timing.row_array, np.int64(self.timing.control)
        )
        self.trace_bins = 0
        self.bin_cycles = 0
        self.traffic = Traffic(0, 0, 0)
        self._record: layout.Record | None = None
        self._name = ""
        self.most_cycles = layout.MOST_CYCLES

    def launch(
        self,
        low: LoweredLaunch,
        streams: Mapping[str, F32],
        hooks: LaunchHooks | None = None,
        *,
        trace_bins: int = 0,
        bin_cycles: int = 1,
    ) -> LaunchResult:
        """Run one launch until nothing moves.

        Args:
            low: the launch; loaded first.
            streams: input arrays by stream name.
            hooks: faults that strike during it.
            trace_bins: bins of the trace, 0 for none; the last one takes all that comes after it.
            bin_cycles: cycles a bin covers.
        """
        self._name = low.name
        self.trace_bins, self.bin_cycles = trace_bins, bin_cycles
        return super().launch(low, streams, hooks)

    def _result(self, result: LaunchResult) -> LaunchResult:
        trace = None
        if self._record is not None:
            record = self._record
            shape = (self.trace_bins, self.rows, self.cols)
            trace = Trace(
                self._name,
                self.rows,
                self.cols,
                self.bin_cycles,
                self.traffic.cycles,
                record.hops.reshape(*shape, 5),
                record.busy.reshape(shape),
                record.starved.reshape(shape),
                record.blocked.reshape(shape),
            )
            self._record = None
        return replace(result, cycles=self.traffic.cycles, trace=trace)

    def _run(
        self, host: kernel.Host, triggers: kernel.Triggers, taps: kernel.Taps, budget: npt.NDArray[np.int64]
    ) -> bool:
        if self.trace_bins:
            bins = (self.trace_bins, self.n)
            self._record = layout.Record(
                np.int64(self.bin_cycles),
                np.zeros((*bins, 5), np.int32),
                *(np.zeros(bins, np.int32) for _ in range(3)),
            )
        state = self.state
        struck = np.zeros(self.n, np.bool_)
        struck[triggers.link[:, 0]] = True
        live = self._live(triggers, host)
        net = self._net(host, int(np.bitwise_count(live).sum()))
        clocked.pack(net, state, host, live, self.neighbour, self.spans, struck, self.timing.launch_cycles)
        faulty = bool(len(triggers.core) or len(triggers.link))
        most = self._most_hops(host, budget)
        fed_before = host.in_next.copy()
        half = 0
        while True:
            outcome, half = clocked.run_cycles(
                net,
                self.costs,
                state,
                host,
                triggers if faulty else None,
                taps,
                budget,
                self._record,
                most,
                self.most_cycles,
                half,
            )
            if outcome != clocked.MORE_SLOTS:
                break
            net = _grown(net, self.n)
        clocked.unpack(net, state, self._record, self.neighbour)
        self._receive(host, fed_before, triggers)
        self.traffic = Traffic(int(net.tally[layout.HOPS]), int(net.tally[layout.RAMPS]), int(net.tally[layout.LAST]))
        ended = bool(outcome == clocked.QUIET)
        if ended:
            self._strike(triggers, kernel.DONE)
        return ended

    def _live(self, triggers: kernel.Triggers, host: kernel.Host) -> npt.NDArray[np.uint32]:
        """uint32[n]: colours that get a slot from the start."""
        state = self.state
        live = np.zeros(self.n, np.uint32)
        clocked.live_colours(state.route, state.length, state.position, live)
        for core, colour in zip(host.in_core, host.in_colour, strict=True):
            live[core] |= np.uint32(1 << int(colour))
        extra = live.copy()
        clocked.spread_live(state.route, live, self.neighbour, extra)
        return extra

    def _net(self, host: kernel.Host, slots: int) -> layout.Net:
        n, depth = self.n, self.state.queue.shape[3]
        room = slots + 2 * n + 64
        # Streams of one edge port stand side by side, so that they can take turns.
        entry = list(zip(host.in_core.tolist(), host.in_port.tolist(), strict=True))
        ports = {port: number for number, port in enumerate(dict.fromkeys(entry))}
        line_port = np.array([ports[port] for port in entry], np.int32)
        number = np.arange(len(ports))
        return layout.Net(
            slot=np.zeros(room * layout.SLOT, np.int32),
            queue=np.zeros(room * 6 * depth, np.uint64),
            slot_of=np.full(n * COLOURS, -1, np.int32),
            edge_out=np.full(room * 4, -1, np.int32),
            edge_in=np.full(room * 4, -1, np.int32),
            mask=np.zeros(2 * n, np.uint32),
            router_list=np.zeros(2 * n, np.int32),
            core_list=np.zeros(2 * n, np.int32),
            edge_list=np.zeros(2 * len(ports), np.int32),
            turn=np.zeros(n, np.uint8),
            freed=np.zeros(room + 2 * n, np.int64),
            wheel=np.full(layout.WHEEL, -1, np.int32),
            wheel_next=np.zeros(n + room, np.int32),
            wheel_time=np.zeros(n + room, np.int64),
            cell=np.zeros(n * layout.CELL, np.int64),
            tally=np.zeros(layout.TALLY, np.int64),
            port_first=np.searchsorted(line_port, number, side="left").astype(np.int32),
            port_end=np.searchsorted(line_port, number, side="right").astype(np.int32),
            port_turn=np.zeros(len(ports), np.int32),
            port_mark=np.zeros(len(ports), np.int32),
            line_slot=np.zeros(len(entry), np.int32),
            line_side=host.in_port.astype(np.int32),
            line_port=line_port,
            depth=np.int64(depth),
            ramp=np.int64(self.timing.ramp_cycles),
        )

    def _receive(self, host: kernel.Host, fed_before: npt.NDArray[np.int64], triggers: kernel.Triggers) -> None:
        """Complete the counts of words received: what the edge fed, and what links lost."""
        np.add.at(self.state.received, (host.in_core, host.in_colour, host.in_port), host.in_next - fed_before)
        lost = {tuple(int(v) for v in row[:4]) for row in triggers.link if row[4]}
        for core, port, colour, nth in lost:
            other = self.neighbour[core, port]
            if other >= 0 and nth < self.state.sent[core, colour, port]:
                self.state.received[other, colour, (port + 2) % 4] -= 1


def _grown(net: layout.Net, n: int) -> layout.Net:
    """The same net with room for more slots."""
    more = len(net.slot) // layout.SLOT + 2 * n + 64

    def wider(array: npt.NDArray[np.generic], each: int) -> npt.NDArray[np.generic]:
        result = np.zeros(more * each, array.dtype)
        result[: len(array)] = array
        return result

    def longer(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return np.concatenate([array, np.zeros(n + more - len(array), array.dtype)])

    return net._replace(
        slot=wider(net.slot, layout.SLOT),
        queue=wider(net.queue, 6 * int(net.depth)),
        edge_out=wider(net.edge_out, 4),
        edge_in=wider(net.edge_in, 4),
        freed=np.zeros(more + 2 * n, np.int64),
        wheel_next=longer(net.wheel_next),
        wheel_time=longer(net.wheel_time),
    )
