"""What places of faults are counted over: cores by role, launches by kind, steps by third of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.host_words import input_shape, inputs_of
from yieldkit.emulator.isa import FABRIC_OUT
from yieldkit.emulator.lowering import Lowered, LoweredLaunch, Role
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.placement import Placement
from yieldkit.errors import BadInput
from yieldkit.faults.roles import launch_kinds, tensor_roles
from yieldkit.quantities import Site

__all__ = ["Cores", "Ground", "task_extents"]

FROM_CORE: Final = 4
TO_CORE: Final = 5
QUEUES: Final = 6
_THIRDS: Final = ("early", "middle", "late")
_STEPS: Final = ((-1, 0), (0, 1), (1, 0), (0, -1))

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cores:
    """Sites to draw from in a launch, grouped by the role whose contents they have.

    Attributes:
        order: int64[n], numbers of the sites, those of one role behind each other.
        starts: int64[roles + 1], where each role begins in `order`.
    """

    order: I64
    starts: I64

    def count(self, role: int | None = None) -> int:
        """Sites of a role, or all."""
        return len(self.order) if role is None else int(self.starts[role + 1] - self.starts[role])

    def pick(self, index: int, role: int | None = None) -> int:
        """Number of the `index`-th site of a role, or of all."""
        return int(self.order[index + (0 if role is None else int(self.starts[role]))])


@dataclass(frozen=True)
class Ground:
    """A program on a placement, as the places of faults need it.

    Attributes:
        lowered: the program.
        placement: where it lies.
        steps: events fall in steps 0 .. steps - 1.
        sites: physical cores to draw from; None: the cores the program runs on.
    """

    lowered: Lowered
    placement: Placement
    steps: int
    sites: tuple[Site, ...] | None = None
    _cores: dict[int, Cores] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def roles(self) -> dict[str, str]:
        """What every tensor is for."""
        return tensor_roles(self.lowered.program)

    @cached_property
    def phases(self) -> tuple[tuple[str, str, range], ...]:
        """Classes of moments: (name, kind of launch, steps). A training run is cut in thirds."""
        kinds = dict.fromkeys(launch_kinds(self.lowered.program).values())
        if self.lowered.program.job.get("kind") != "training" or self.steps < len(_THIRDS):
            return tuple((kind, kind, range(self.steps)) for kind in kinds)
        ends = [number * self.steps // len(_THIRDS) for number in range(len(_THIRDS) + 1)]
        return tuple(
            (f"{kind}.{third}", kind, range(ends[number], ends[number + 1]))
            for kind in kinds
            for number, third in enumerate(_THIRDS)
        )

    @cached_property
    def launch_kind(self) -> tuple[str, ...]:
        """Kind of every launch, in order."""
        kinds = launch_kinds(self.lowered.program)
        return tuple(kinds[low.name] for low in self.lowered.launches)

    @cached_property
    def core_of(self) -> I64:
        """Core of the rectangle whose contents each site has, int64[sites]; one that runs nothing has the first's."""
        if self.sites is None:
            return np.arange(self.placement.rows * self.placement.cols)
        found = [self.placement.logical(*site) or (0, 0) for site in self.sites]
        return np.array([r * self.placement.cols + c for r, c in found], np.int64)

    def site(self, number: int) -> Site:
        """Physical core of a site."""
        if self.sites is None:
            return self.placement.physical(*divmod(number, self.placement.cols))
        return self.sites[number]

    def cores(self, low: LoweredLaunch) -> Cores:
        """Sites by role in a launch."""
        if low.index not in self._cores:
            role = low.role_of.reshape(-1)[self.core_of]
            order = np.argsort(role, kind="stable").astype(np.int64)
            starts = np.searchsorted(role[order], np.arange(len(low.roles) + 1)).astype(np.int64)
            self._cores[low.index] = Cores(order, starts)
        return self._cores[low.index]

    def images(self, low: LoweredLaunch) -> list[tuple[int, Role, int]]:
        """(role, image, sites that have it) of a launch, where there are any."""
        cores = self.cores(low)
        return [(role, image, cores.count(role)) for role, image in enumerate(low.roles) if cores.count(role)]

    @cached_property
    def streams(self) -> tuple[I64, ...]:
        """What is sent from the sites in every launch, int64[n, 3]: core of the rectangle, colour, port."""
        found = []
        for sent in self.traffic:
            used = np.argwhere(sent > 0)
            found.append(used[self.cores_of_sites(used[:, 0])].reshape(-1, 3))
        return tuple(found)

    @cached_property
    def idle_links(self) -> tuple[tuple[Site, Site], ...]:
        """Links to a neighbour that leave a site on which nothing runs: (site, (drow, dcol)); none without `sites`."""
        sites = set(self.sites or ())
        idle = [site for site in self.sites or () if self.placement.logical(*site) is None]
        return tuple(
            ((r, c), (down, right)) for r, c in idle for down, right in _STEPS if (r + down, c + right) in sites
        )

    @property
    def traffic(self) -> tuple[I64, ...]:
        """Words each core sends per (colour, port) over inner links in every launch, int64[n, 24, 4]."""
        return tuple(sent for sent, _ in self._counted)

    @property
    def entered(self) -> tuple[I64, ...]:
        """Words that enter each queue of a router per (colour, port) in every launch, int64[n, 24, 6].

        Ports are N, E, S, W, from the core and to the core. Control words that a core sends are left out at its own
        queue, which holds them as any word.
        """
        return tuple(entered for _, entered in self._counted)

    def cores_of_sites(self, cores: I64) -> npt.NDArray[np.bool_]:
        """Whether the site of each core of the rectangle is among those to draw from."""
        if self.sites is None:
            return np.ones(len(cores), np.bool_)
        wanted = set(self.sites)
        there = [self.placement.physical(*divmod(int(core), self.placement.cols)) in wanted for core in cores]
        return np.array(there, np.bool_)

    @cached_property
    def _counted(self) -> tuple[tuple[I64, I64], ...]:
        """Words sent and received in every launch.

        Control never reads values, so a run on zeros counts what any clean run sends.
        """
        machine = Machine(self.lowered)
        counts = []
        for low in self.lowered.launches:
            streams = {
                phase.stream: np.zeros(input_shape(self.lowered.program, phase), np.float32)
                for phase in inputs_of(low.launch)
            }
            result = machine.launch(low, streams)
            if not result.completed:
                raise BadInput(f"launch {low.name!r} does not complete on a clean machine", value=result.missing)
            sent = machine.state.sent[:, :, :4].copy()
            for port in range(4):
                sent[machine.neighbour[:, port] < 0, :, port] = 0
            state = machine.state
            entered = np.zeros((*state.received.shape[:2], QUEUES), np.int64)
            entered[:, :, :4], entered[:, :, TO_CORE] = state.received, state.sent[:, :, 4]
            for role, image in enumerate(low.roles):
                for colour, words in _words_out(image):
                    entered[low.role_of.reshape(-1) == role, colour, FROM_CORE] += words
            counts.append((sent, entered))
        return tuple(counts)

    @cached_property
    def links(self) -> int:
        """Directed links that carry words in some launch, and idle ones."""
        used = {(int(core), int(port)) for launch in self.streams for core, _, port in launch}
        return len(used) + len(self.idle_links)

    def link(self, core: int, port: int) -> dict[str, Any]:
        """Physical ends of the link behind a port of a core of the rectangle: row, col, drow, dcol."""
        r, c = divmod(core, self.placement.cols)
        row, col = self.placement.physical(r, c)
        there = self.placement.physical(r + _STEPS[port][0], c + _STEPS[port][1])
        return {"row": row, "col": col, "drow": there[0] - row, "dcol": there[1] - col}


def _words_out(image: Role) -> list[tuple[int, int]]:
    """(colour, words) that each task of a role sends from its core."""
    if not image.n_tasks:
        return []
    destination = image.tables[1 : 2 * image.n_tasks : 2] & 0x3FF
    first = image.tables[2 * image.n_tasks :].reshape(-1, 4)[destination, 0]
    extents = task_extents(image.tables, image.n_tasks)
    out = np.flatnonzero(((first >> 14) & 3) == FABRIC_OUT)
    return [(int((first[task] >> 18) & 31), int(extents[task])) for task in out]


def task_extents(tables: npt.NDArray[np.uint32], n_tasks: int) -> I64:
    """Elements of each task of a role, int64[n_tasks]."""
    tasks = tables[: 2 * n_tasks].reshape(-1, 2)
    extents = (tables[2 * n_tasks :].reshape(-1, 4)[:, 1:] & 0xFFFF).astype(np.int64).prod(axis=1)
    return np.asarray(extents[tasks[:, 1] & 0x3FF], np.int64)
