"""How many more failures a wafer can take before its standard fabric is lost: simulated orders, exact decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.repair.incremental import row_shift
from yieldkit.repair.plan import RepairPlan
from yieldkit.repair.thresholds import Decider
from yieldkit.rng import generator

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.faultmap import FaultMap
    from yieldkit.repair.rules import RowShift
    from yieldkit.wafer import WaferSpec

__all__ = ["KINDS", "SpareMargin", "spare_margin"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

KINDS: Final = ("dead_core", "dead_link", "dead_router")
_BLOCK: Final = 1024
_LISTED: Final = 200_000
"""Most links that are listed and shuffled; of more, links are drawn until they are new."""
_BRANCHED: Final = 20_000
"""Largest fabric where dead links that are no lattice constraints are branched on; beyond, they are bracketed."""


@dataclass(frozen=True, eq=False)
class SpareMargin:
    """Failures that a wafer can still take, one entry for each simulated order of failures.

    Attributes:
        kinds: weight of each kind among the failures, adding up to 1.
        survived: int64[n], most failures of the order with which the fabric is proven to be there; -1 where it is lost
            already.
        lost: int64[n], fewest failures with which it is proven lost; `survived + 1` but where dead links leave a gap.
        confidence: of the Wilson intervals.
        most: failures tried at most; an order that survives all of them, or all that there are, counts with `lost` one
            above.
    """

    kinds: dict[str, float]
    survived: Int64
    lost: Int64
    confidence: float
    most: int

    @property
    def n(self) -> int:
        """Orders simulated."""
        return len(self.survived)

    @property
    def mean(self) -> float:
        """Mean of `survived`; a lower one where `gap` is not 0 or orders reach `most`."""
        return float(np.maximum(self.survived, 0).mean())

    @property
    def gap(self) -> float:
        """Mean number of failures between the last proven yes and the first proven no; 0 when all is decided."""
        return float((self.lost - self.survived - 1).mean())

    def quantile(self, q: float) -> int:
        """The number of failures that a share 1 - q of the orders survives at least (no interpolation).

        Raises:
            BadInput: q is not a probability.
        """
        if not 0 <= q <= 1:
            raise BadInput("q must lie between 0 and 1", value=q)
        return int(np.quantile(np.maximum(self.survived, 0), q, method="lower"))

    def survival(self, k: int) -> tuple[float, float, float]:
        """(share of orders that survive k failures, low, high): Wilson, the upper end with those not proven lost."""
        from yieldkit.reliability.proportions import wilson_interval

        sure, maybe = int((self.survived >= k).sum()), int((self.lost > k).sum())
        low = float(wilson_interval(sure, self.n, confidence=self.confidence)[0])
        high = float(wilson_interval(maybe, self.n, confidence=self.confidence)[1])
        return sure / self.n, low, high

    def to_dict(self) -> dict[str, Any]:
        """Plain values: mean, quantiles and the counts of each order."""
        return {
            "kinds": self.kinds,
            "n": self.n,
            "mean": self.mean,
            "gap": self.gap,
            "most": self.most,
            "confidence": self.confidence,
            "quantiles": {str(q): self.quantile(q) for q in (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)},
            "survived": self.survived.tolist(),
        }

    def to_frame(self, *, points: int = 41) -> pd.DataFrame:
        """One row a number of failures from 0 to the most survived: failures, share, low, high."""
        import pandas as pd

        last = max(int(self.survived.max()), 0) + 1
        at = np.unique(np.linspace(0, last, max(points, 2)).astype(np.int64)).tolist()
        rows = [(k, *self.survival(k)) for k in at]
        return pd.DataFrame(rows, columns=["failures", "share", "low", "high"])

    def summary(self) -> str:
        """One line for people."""
        names = ", ".join(self.kinds)
        gap = "" if self.gap == 0 else f", undecided for {self.gap:.1f} more on average"
        return (
            f"{names}: {self.mean:.1f} more on average, median {self.quantile(0.5)}, "
            f"95 % of {self.n} orders survive {self.quantile(0.05)}{gap}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self.summary()}</p>"


def spare_margin(
    faults: FaultMap,
    rules: RowShift | RepairPlan,
    *,
    kinds: Mapping[str, float] | str = "dead_core",
    wafer: WaferSpec | None = None,
    n: int = 200,
    rng: int | np.random.Generator = 0,
    most: int = 100_000,
    confidence: float = 0.95,
) -> SpareMargin:
    """How many more failures a wafer can take before its fabric is lost, over `n` random orders of failures.

    A failure strikes a good core site drawn evenly (never one twice), or for "dead_link" a present link drawn evenly
    among the kinds that the rules use. Adding failures never helps, so along each order the last that is survived is
    found by bisection over exact decisions. Order k is drawn from `(rng, k)` alone.

    Dead links that are no lattice constraints (straight down at vertical reach 1) are branched on for fabrics up to
    20,000 cores; on larger ones one of their ends is raised at a time without ever going back, so that `survived` may
    be too small, and `lost` leaves them out: the truth lies between.

    Args:
        faults: map of the wafer today.
        rules: architecture, or a plan with its own.
        kinds: one of "dead_core", "dead_link" and "dead_router", or weights of several of them.
        wafer: kind of wafer, for rules without a logical shape; see `RowShift.placed`.
        n: orders to draw.
        rng: seed.
        most: failures to try at most.
        confidence: of the Wilson intervals.

    Raises:
        BadInput: unknown kinds or weights, n or most not positive, or no good core on the wafer.
    """
    weights = _weights(kinds)
    for name, value in (("n", n), ("most", most)):
        if value < 1:
            raise BadInput(f"{name} must be at least 1", value=value)
    if not 0 < confidence < 1:
        raise BadInput("confidence must lie between 0 and 1", value=confidence)
    placed = row_shift(rules.rules if isinstance(rules, RepairPlan) else rules).placed(faults, wafer)
    wafer_now = _Wafer(faults, placed)
    survived, lost = np.empty(n, np.int64), np.empty(n, np.int64)
    for k in range(n):
        order = _Order(wafer_now, weights, generator(rng, "repair.margin", k))
        survived[k], lost[k] = _limits(order, most)
    return SpareMargin(weights, survived, lost, confidence, most)


def _weights(kinds: Mapping[str, float] | str) -> dict[str, float]:
    given = {kinds: 1.0} if isinstance(kinds, str) else {str(k): float(w) for k, w in kinds.items()}
    for kind in given:
        if kind not in KINDS:
            raise BadInput(f"kinds must be among {', '.join(KINDS)}", value=kind)
    total = sum(given.values())
    if not given or min(given.values()) < 0 or not 0 < total < float("inf"):
        raise BadInput("weights must be non-negative and not all zero", value=dict(given))
    return {kind: given[kind] / total for kind in KINDS if given.get(kind, 0.0) > 0}


class _Wafer:
    """What is the same for all orders: good sites, kinds of links, the decider."""

    def __init__(self, faults: FaultMap, rules: RowShift) -> None:
        self.faults = faults
        self.rules = rules
        self.decider = Decider(rules, faults)
        self.branched = self.decider.height * self.decider.width <= _BRANCHED
        rows, cols = faults.shape
        good = np.zeros((rows, cols), np.bool_)
        at = np.arange(cols)
        good[(at >= faults.spans[:, :1]) & (at < faults.spans[:, 1:])] = True
        good[faults.absent[:, 0], faults.absent[:, 1]] = False
        self.present = good.copy()
        for sites in (faults.dead_cores, faults.dead_routers):
            good[sites[:, 0], sites[:, 1]] = False
        self.good = np.argwhere(good).astype(np.int32)
        if not len(self.good):
            raise BadInput("the wafer has no good core left", value=faults.wafer_name)
        h, v = rules.skip_reach, rules.vertical_reach
        self.steps = np.array([(0, j) for j in range(1, h + 1)] + [(1, j) for j in range(-v, v + 1)], np.int32)
        self.dead_links = {tuple(x) for x in faults.dead_links.tolist()}
        self.every_link: Int32 | None = None
        if len(self.good) * len(self.steps) <= _LISTED:
            self.every_link = self._links()

    def _links(self) -> Int32:
        """All links from good sites to present ones that are not dead yet."""
        start = np.repeat(self.good, len(self.steps), axis=0)
        step = np.tile(self.steps, (len(self.good), 1))
        to = start + step
        at = np.flatnonzero((to >= 0).all(axis=1) & (to < np.array(self.faults.shape)).all(axis=1))
        at = at[self.present[to[at, 0], to[at, 1]]]
        links = np.concatenate([start, step], axis=1)[at]
        alive = [tuple(link) not in self.dead_links for link in links.tolist()]
        return np.asarray(links[np.array(alive, np.bool_)], np.int32)

    def ask(self, cores: Int32, links: Int32) -> bool | None:
        """The decision of the wafer with further dead cores and links."""
        from yieldkit.faultmap import FaultMap

        faults = self.faults
        both = [x for x in (faults.dead_cores, faults.dead_routers, cores) if len(x)]
        sites = np.unique(np.concatenate(both), axis=0) if both else np.empty((0, 2), np.int32)
        return self.decider.decide(
            FaultMap(
                faults.shape, spans=faults.spans, absent=faults.absent, dead_cores=sites, dead_links=links,
                wafer_killed=faults.wafer_killed,
            ),
            branch=self.branched,
        )  # fmt: skip


class _Order:
    """One random order of failures, drawn as far as it is needed."""

    def __init__(self, wafer: _Wafer, weights: dict[str, float], rng: np.random.Generator) -> None:
        self.wafer = wafer
        self.rng = rng
        self.share = weights.get("dead_link", 0.0)
        self.is_link = np.empty(0, np.bool_)
        self.sites = np.empty((0, 2), np.int32)
        self.links = np.empty((0, 4), np.int32)
        self.taken: set[int] = set()
        self.cut = set(wafer.dead_links)
        self.listed = False
        self.exhausted: int | None = None

    def need(self, k: int) -> int:
        """Draw at least k failures; returns how many there are, fewer than k when the wafer has no more."""
        while len(self.is_link) < k and self.exhausted is None:
            kinds = self.rng.random(_BLOCK) < self.share
            self.is_link = np.concatenate([self.is_link, kinds])
        while len(self.sites) < int((~self.is_link).sum()) and self.exhausted is None:
            self._draw_sites()
        while len(self.links) < int(self.is_link.sum()) and self.exhausted is None:
            self._draw_links()
        return len(self.is_link) if self.exhausted is None else min(self.exhausted, len(self.is_link))

    def _draw_sites(self) -> None:
        good = self.wafer.good
        left = len(good) - len(self.taken)
        if left == 0:
            self._end(is_link=False)
            return
        if 2 * len(self.taken) > len(good):
            free = np.setdiff1d(np.arange(len(good)), np.fromiter(self.taken, np.int64))
            fresh = self.rng.permutation(free)[:_BLOCK].tolist()
        else:
            drawn = self.rng.integers(0, len(good), _BLOCK).tolist()
            fresh = [i for i in dict.fromkeys(drawn) if i not in self.taken]
        self.taken.update(fresh)
        self.sites = np.concatenate([self.sites, good[fresh]])

    def _draw_links(self) -> None:
        wafer = self.wafer
        if wafer.every_link is not None:
            if self.listed:
                self._end(is_link=True)
            else:
                self.links, self.listed = self.rng.permutation(wafer.every_link), True
            return
        from_ = wafer.good[self.rng.integers(0, len(wafer.good), _BLOCK)]
        step = wafer.steps[self.rng.integers(0, len(wafer.steps), _BLOCK)]
        to = from_ + step
        at = np.flatnonzero((to >= 0).all(axis=1) & (to < np.array(wafer.faults.shape)).all(axis=1))
        at = at[wafer.present[to[at, 0], to[at, 1]]]
        fresh = []
        for link in np.concatenate([from_, step], axis=1)[at].tolist():
            if tuple(link) not in self.cut:
                self.cut.add(tuple(link))
                fresh.append(link)
        self.links = np.concatenate([self.links, np.array(fresh, np.int32).reshape(-1, 4)])

    def _end(self, *, is_link: bool) -> None:
        """There are no more failures of a kind: the order ends before the first that cannot be drawn."""
        have = len(self.links) if is_link else len(self.sites)
        at = np.flatnonzero(self.is_link == is_link)
        self.exhausted = int(at[have]) if have < len(at) else len(self.is_link)

    def failures(self, k: int) -> tuple[Int32, Int32]:
        """Dead sites and dead links of the first k failures."""
        n_links = int(self.is_link[:k].sum())
        return self.sites[: k - n_links], self.links[:n_links]

    def holds(self, k: int) -> bool | None:
        """Whether the fabric is there with the first k failures; None when undecided."""
        cores, fresh = self.failures(k)
        return self.wafer.ask(cores, np.concatenate([self.wafer.faults.dead_links, fresh]))


def _limits(order: _Order, most: int) -> tuple[int, int]:
    """(last proven yes, first proven no) along an order."""
    known: dict[int, bool | None] = {}

    def holds(k: int) -> bool | None:
        if k not in known:
            known[k] = order.holds(k)
        return known[k]

    if holds(0) is not True:
        return -1, 0 if holds(0) is False else _last(lambda k: holds(k) is not False, order, most) + 1
    survived = _last(lambda k: holds(k) is True, order, most)
    if all(answer is not None for answer in known.values()):
        return survived, survived + 1
    return survived, _last(lambda k: holds(k) is not False, order, most) + 1


def _last(holds: Callable[[int], bool], order: _Order, most: int) -> int:
    """Largest k up to `most` with holds(k), which falls once along the order; holds(0) is true."""
    low, step = 0, 8
    while True:
        high = min(low + step, most, order.need(min(low + step, most)))
        if high <= low:
            return low
        if not holds(high):
            break
        low, step = high, step * 2
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
