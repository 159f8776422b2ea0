"""`FaultMap`: what is wrong with one wafer. Sparse: it costs memory by the fault, not by the core."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.faultmap.outcome import EFFECTS, DefectOutcome, SiteState
from yieldkit.faultmap.sites import Int32, SiteProblem, as_rows, canonical_links, check_links, check_sites, frozen
from yieldkit.files import fingerprint

if TYPE_CHECKING:
    import pandas as pd

    from yieldkit.defects import Defects
    from yieldkit.faultmap.landing import Landed
    from yieldkit.rng import Seed
    from yieldkit.wafer import WaferSpec

__all__ = ["FaultMap"]


class FaultMap:
    """Dead, marginal and absent sites of one wafer.

    Args:
        shape: (rows, cols) of the grid of core sites.
        dead_cores: (row, col) each.
        dead_links: (row, col, drow, dcol) each, in either direction; kept with the smaller end first.
        dead_routers: (row, col) each: nothing passes through, and the core is lost with it.
        marginal_cores: (row, col, risk) each, risk in 0..1.
        wafer_killed: a global net is hit; no repair helps.
        spans: int32[rows, 2], first and past-the-last site of each row; the whole grid when not given.
        absent: (row, col) each, sites inside the spans that are not there (holes).
        wafer_name: name of the wafer's spec; `spec_fingerprint` its fingerprint; `wafer_id` the single wafer.
        outcomes: what each defect did, when the map came from defects.
        notes: texts to show beside the map, e.g. how a defect file was laid over the wafer.

    Raises:
        BadInput: a site is outside the wafer, absent or given twice, or a number is not what it should be.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        dead_cores: object = (),
        dead_links: object = (),
        dead_routers: object = (),
        marginal_cores: Iterable[Sequence[float]] = (),
        wafer_killed: bool = False,
        spans: object = None,
        absent: object = (),
        wafer_name: str = "",
        spec_fingerprint: str = "",
        wafer_id: str = "",
        outcomes: Iterable[DefectOutcome] = (),
        notes: Iterable[str] = (),
    ) -> None:
        self.shape = _shape(shape)
        self.spans = _spans(spans, self.shape)
        no_holes = np.empty((0, 2), np.int32)
        self.absent = _sites("absent", absent, self.spans, no_holes)
        self.dead_cores = _sites("dead_cores", dead_cores, self.spans, self.absent)
        self.dead_routers = _sites("dead_routers", dead_routers, self.spans, self.absent)
        links = canonical_links(as_rows("dead_links", dead_links, 4))
        self.dead_links: Int32 = frozen(links[check_links("dead_links", links, self.spans, self.absent)])
        self.marginal_cores, self.marginal_risks = self._marginal(marginal_cores)
        self.wafer_killed = bool(wafer_killed)
        self.wafer_name = wafer_name
        self.spec_fingerprint = spec_fingerprint
        self.wafer_id = wafer_id
        self.outcomes = tuple(outcomes)
        self.notes = tuple(notes)

    @classmethod
    def for_wafer(cls, wafer: WaferSpec, **faults: Any) -> Self:
        """A map on a wafer, whose spec gives shape, spans, holes and name; `faults` are as in the constructor."""
        return cls(
            wafer.shape,
            spans=wafer.spans,
            absent=wafer.hole_sites,
            wafer_name=wafer.name,
            spec_fingerprint=wafer.fingerprint,
            **faults,
        )

    @classmethod
    def from_defects(
        cls, wafer: WaferSpec, defects: Defects, *, rng: Seed, wafer_id: str = "", outcomes: bool = True
    ) -> Self:
        """What defects do to a wafer: each lands on a kind of circuit and kills it or not (see `landing`).

        Args:
            wafer: the spec, with areas and kill ratios.
            defects: sampled or read from a file.
            rng: seed or generator of what is drawn: circuit, size where unknown, kill, link, marginal.
            wafer_id: name of the single wafer.
            outcomes: without them the map has the same faults, and no record of single defects and no notes; it is
                made several times faster.

        Returns:
            the map; `outcomes` say what each defect did.
        """
        from yieldkit.faultmap.landing import land

        landed = land(wafer, defects, rng, outcomes=outcomes)
        if not outcomes:
            return cls._of_landed(wafer, landed, wafer_id)
        return cls.for_wafer(
            wafer,
            dead_cores=sorted(landed.dead_cores),
            dead_links=sorted(landed.dead_links),
            dead_routers=sorted(landed.dead_routers),
            marginal_cores=[(*site, risk) for site, risk in sorted(landed.risks.items())],
            wafer_killed=landed.wafer_killed,
            wafer_id=wafer_id,
            outcomes=landed.outcomes,
            notes=(f"defects: {defects.source}", *defects.notes),
        )

    @classmethod
    def _of_landed(cls, wafer: WaferSpec, landed: Landed, wafer_id: str) -> Self:
        """A map whose sites need no check: they were found on this wafer."""
        made = cls.__new__(cls)
        made.shape = wafer.shape
        made.spans = wafer.spans
        made.absent = wafer.hole_sites
        for name, found, width in (
            ("dead_cores", landed.dead_cores, 2),
            ("dead_routers", landed.dead_routers, 2),
            ("dead_links", landed.dead_links, 4),
            ("marginal_cores", landed.risks, 2),
        ):
            setattr(made, name, frozen(np.array(sorted(found), np.int32).reshape(-1, width)))
        made.marginal_risks = frozen(np.array([landed.risks[site] for site in sorted(landed.risks)], np.float64))
        made.wafer_killed = landed.wafer_killed
        made.wafer_name = wafer.name
        made.spec_fingerprint = wafer.fingerprint
        made.wafer_id = wafer_id
        made.outcomes = made.notes = ()
        return made

    @classmethod
    def load(cls, path: str | Path, *, wafer: WaferSpec | None = None) -> FaultMap:
        """Read a map that `save` wrote; with `wafer`, only one made for that spec.

        Raises:
            BadFile: missing, cut short, altered, of another version or spec, or with a site that cannot be.
        """
        from yieldkit.faultmap.file import load

        return load(path, wafer=wafer)

    def save(self, path: str | Path) -> Path:
        """Write the map to a file, whole or not at all."""
        from yieldkit.faultmap.file import save

        return save(self, path)

    def _marginal(self, entries: Iterable[Sequence[float]]) -> tuple[Int32, npt.NDArray[np.float64]]:
        given = list(entries)
        for i, entry in enumerate(given):
            if not _is_weighted_site(entry):
                raise SiteProblem("marginal_cores", i, "must be (row, col, risk) with risk in 0..1", entry)
        sites = as_rows("marginal_cores", [list(entry)[:2] for entry in given], 2)
        order = check_sites("marginal_cores", sites, self.spans, self.absent)
        risks = np.array([entry[2] for entry in given], np.float64)
        for i, (row, col) in enumerate(sites.tolist()):
            if (row, col) in self._dead_set:
                raise SiteProblem("marginal_cores", i, "is also dead", (row, col))
        return frozen(sites[order]), frozen(risks[order])

    # Questions

    @cached_property
    def _dead_set(self) -> frozenset[tuple[int, int]]:
        return frozenset((r, c) for r, c in (*self.dead_cores.tolist(), *self.dead_routers.tolist()))

    @cached_property
    def _marginal_set(self) -> frozenset[tuple[int, int]]:
        return frozenset((r, c) for r, c in self.marginal_cores.tolist())

    @cached_property
    def _absent_set(self) -> frozenset[tuple[int, int]]:
        return frozenset((r, c) for r, c in self.absent.tolist())

    @property
    def unusable_cores(self) -> Int32:
        """int32[n, 2], sorted: cores that are dead or whose router is."""
        both = np.concatenate([self.dead_cores, self.dead_routers])
        return np.unique(both, axis=0) if len(both) else both

    def state(self, row: int, col: int) -> SiteState:
        """State of one site; outside the grid and off the wafer's edge it is absent."""
        if not 0 <= row < self.shape[0] or not self.spans[row, 0] <= col < self.spans[row, 1]:
            return SiteState.ABSENT
        site = (int(row), int(col))
        if site in self._absent_set:
            return SiteState.ABSENT
        if site in self._dead_set:
            return SiteState.DEAD
        return SiteState.MARGINAL if site in self._marginal_set else SiteState.GOOD

    @property
    def n_faults(self) -> int:
        """Dead cores, links and routers together."""
        return len(self.dead_cores) + len(self.dead_links) + len(self.dead_routers)

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays."""
        return sum(
            array.nbytes
            for array in (
                self.spans,
                self.absent,
                self.dead_cores,
                self.dead_links,
                self.dead_routers,
                self.marginal_cores,
                self.marginal_risks,
            )
        )

    def with_faults(
        self,
        *,
        dead_cores: object = (),
        dead_links: object = (),
        dead_routers: object = (),
        marginal_cores: Iterable[Sequence[float]] = (),
    ) -> FaultMap:
        """A map with more faults; those already there are kept once, and what is dead is no longer marginal."""
        cores = _union(self.dead_cores, as_rows("dead_cores", dead_cores, 2))
        routers = _union(self.dead_routers, as_rows("dead_routers", dead_routers, 2))
        links = _union(self.dead_links, canonical_links(as_rows("dead_links", dead_links, 4)))
        dead = {tuple(site) for site in (*cores.tolist(), *routers.tolist())}
        risks = {(r, c): risk for (r, c), risk in zip(self.marginal_cores.tolist(), self.marginal_risks, strict=True)}
        for row, col, risk in marginal_cores:
            risks[int(row), int(col)] = max(float(risk), risks.get((int(row), int(col)), 0.0))
        return FaultMap(
            self.shape,
            dead_cores=cores,
            dead_links=links,
            dead_routers=routers,
            marginal_cores=[(*site, risk) for site, risk in risks.items() if site not in dead],
            wafer_killed=self.wafer_killed,
            spans=self.spans,
            absent=self.absent,
            wafer_name=self.wafer_name,
            spec_fingerprint=self.spec_fingerprint,
            wafer_id=self.wafer_id,
            outcomes=self.outcomes,
            notes=self.notes,
        )

    # Tables and identity

    def counts(self) -> dict[str, int]:
        """How many of each, as plain values."""
        return {
            "dead_cores": len(self.dead_cores),
            "dead_links": len(self.dead_links),
            "dead_routers": len(self.dead_routers),
            "marginal_cores": len(self.marginal_cores),
            "absent_sites": self.shape[0] * self.shape[1] - self.n_present,
        }

    @property
    def n_present(self) -> int:
        """Sites that are there."""
        return int((self.spans[:, 1] - self.spans[:, 0]).sum()) - len(self.absent)

    def to_frame(self) -> pd.DataFrame:
        """One row a fault: kind, row, col, drow, dcol (0 but for links), risk (1 but for marginal cores)."""
        import pandas as pd

        rows: list[tuple[str, int, int, int, int, float]] = []
        for kind, sites in (("dead core", self.dead_cores), ("dead router", self.dead_routers)):
            rows += [(kind, r, c, 0, 0, 1.0) for r, c in sites.tolist()]
        rows += [("dead link", *link, 1.0) for link in self.dead_links.tolist()]
        for (r, c), risk in zip(self.marginal_cores.tolist(), self.marginal_risks.tolist(), strict=True):
            rows.append(("marginal core", r, c, 0, 0, risk))
        return pd.DataFrame(rows, columns=["kind", "row", "col", "drow", "dcol", "risk"])

    def outcomes_frame(self) -> pd.DataFrame:
        """One row a defect: place, size, site, what it landed on and what it did."""
        import pandas as pd

        columns = ["defect", "x_mm", "y_mm", "size_um", "row", "col", "landed_on", "effect"]
        return pd.DataFrame([astuple(outcome) for outcome in self.outcomes], columns=columns)

    def effects(self) -> dict[str, int]:
        """How many defects had each effect; empty when the map is not from defects."""
        found = [outcome.effect for outcome in self.outcomes]
        return {effect: found.count(effect) for effect in EFFECTS if effect in found}

    def facts(self) -> dict[str, Any]:
        """Everything that decides a repair, as plain values in canonical order."""
        return {
            "shape": list(self.shape),
            "spans": run_lengths(self.spans),
            "absent": self.absent.tolist(),
            "dead_cores": self.dead_cores.tolist(),
            "dead_links": self.dead_links.tolist(),
            "dead_routers": self.dead_routers.tolist(),
            "marginal_cores": [
                [row, col, float(risk)]
                for (row, col), risk in zip(self.marginal_cores.tolist(), self.marginal_risks, strict=True)
            ],
            "wafer_killed": self.wafer_killed,
            "spec_fingerprint": self.spec_fingerprint,
            "wafer_id": self.wafer_id,
        }

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over `facts()`."""
        return fingerprint({"fault-map": 1, **self.facts()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FaultMap) and self.facts() == other.facts()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        killed = ", wafer_killed=True" if self.wafer_killed else ""
        return (
            f"FaultMap({self.wafer_name or 'grid'} {self.shape[0]}x{self.shape[1]}: {len(self.dead_cores)} dead cores, "
            f"{len(self.dead_links)} dead links, {len(self.dead_routers)} dead routers, "
            f"{len(self.marginal_cores)} marginal{killed})"
        )

    def _repr_html_(self) -> str:
        facts = {
            **self.counts(),
            "wafer_lost": self.wafer_killed,
            **{f"defects: {k}": n for k, n in self.effects().items()},
        }
        rows = "".join(
            f"<tr><th>{escape(key.replace('_', ' '))}</th><td>{value}</td></tr>" for key, value in facts.items()
        )
        title = escape(f"FaultMap {self.wafer_name} {self.wafer_id}".strip())
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{title}, {self.shape[0]} x {self.shape[1]} sites</caption>{rows}</table>{notes}"


def _shape(shape: object) -> tuple[int, int]:
    counts = list(shape) if isinstance(shape, Sequence | np.ndarray) and not isinstance(shape, str) else []
    if len(counts) != 2 or not all(isinstance(n, int | np.integer) and 1 <= n <= 1_000_000 for n in counts):
        raise BadInput("shape must be (rows, cols), each from 1 to 1,000,000", value=shape)
    return int(counts[0]), int(counts[1])


def _is_weighted_site(entry: object) -> bool:
    if not isinstance(entry, Sequence | np.ndarray) or isinstance(entry, str) or len(entry) != 3:
        return False
    risk = entry[2]
    return isinstance(risk, int | float | np.number) and not isinstance(risk, bool) and 0 <= float(risk) <= 1


def _spans(spans: object, shape: tuple[int, int]) -> Int32:
    if spans is None:
        out = np.tile(np.array([0, shape[1]], np.int32), (shape[0], 1))
        return frozen(out)
    out = as_rows("spans", spans, 2)
    if len(out) != shape[0]:
        raise BadInput(f"spans must have one entry for each of the {shape[0]} rows", value=len(out))
    wrong = (out[:, 0] < 0) | (out[:, 1] > shape[1]) | (out[:, 0] > out[:, 1])
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SiteProblem("spans", i, f"must be 0 <= start <= stop <= {shape[1]}", tuple(out[i].tolist()))
    if isinstance(spans, np.ndarray) and spans.dtype == np.int32 and not spans.flags.writeable:
        return spans
    return frozen(out)


def _sites(name: str, values: object, spans: Int32, absent: Int32) -> Int32:
    sites = as_rows(name, values, 2)
    return frozen(sites[check_sites(name, sites, spans, absent)])


def _union(a: Int32, b: Int32) -> Int32:
    both = np.concatenate([a, b])
    return np.unique(both, axis=0) if len(both) else both


def run_lengths(spans: Int32) -> list[list[int]]:
    """Runs of equal rows: [[count, start, stop], ...]."""
    if not len(spans):
        return []
    starts = np.concatenate([[0], 1 + np.flatnonzero((spans[1:] != spans[:-1]).any(axis=1))])
    counts = np.diff(np.concatenate([starts, [len(spans)]]))
    return [[int(n), *spans[s].tolist()] for n, s in zip(counts, starts, strict=True)]
