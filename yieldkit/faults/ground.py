"""What places of faults are counted over: cores by role, launches by kind, steps by third of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.lowering import Lowered, LoweredLaunch, Role
from yieldkit.emulator.placement import Placement
from yieldkit.faults.roles import launch_kinds, tensor_roles
from yieldkit.faults.traffic import Traffic
from yieldkit.quantities import Site

__all__ = ["Cores", "Ground"]

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
    def idle_links(self) -> tuple[tuple[Site, Site], ...]:
        """Links to a neighbour that leave a site on which nothing runs: (site, (drow, dcol)); none without `sites`."""
        sites = set(self.sites or ())
        idle = [site for site in self.sites or () if self.placement.logical(*site) is None]
        return tuple(
            ((r, c), (down, right)) for r, c in idle for down, right in _STEPS if (r + down, c + right) in sites
        )

    @cached_property
    def traffic(self) -> tuple[Traffic, ...]:
        """Words over links and into queues in every launch, of the sites to draw from."""
        whole = [Traffic.of(self.lowered, low) for low in self.lowered.launches]
        if self.sites is None:
            return tuple(whole)
        wanted = np.unique(self.core_of[[self.placement.logical(*site) is not None for site in self.sites]])
        kept = [np.isin(one.core, wanted) for one in whole]
        return tuple(
            Traffic(one.core[of], one.colour[of], one.sent[of], one.entered[of])
            for one, of in zip(whole, kept, strict=True)
        )

    @cached_property
    def links(self) -> int:
        """Directed links that carry words in some launch, and idle ones."""
        used = [one.core[slots] * 4 + ports for one in self.traffic for slots, ports in [np.nonzero(one.sent)]]
        return len(np.unique(np.concatenate(used))) + len(self.idle_links)

    def link(self, core: int, port: int) -> dict[str, Any]:
        """Physical ends of the link behind a port of a core of the rectangle: row, col, drow, dcol."""
        r, c = divmod(core, self.placement.cols)
        row, col = self.placement.physical(r, c)
        there = self.placement.physical(r + _STEPS[port][0], c + _STEPS[port][1])
        return {"row": row, "col": col, "drow": there[0] - row, "dcol": there[1] - col}
