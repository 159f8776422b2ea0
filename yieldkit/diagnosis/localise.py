"""From a scan to the parts that may be to blame."""

from __future__ import annotations

from collections.abc import Iterable

from yieldkit.diagnosis.rig import Wiring
from yieldkit.diagnosis.verdict import SiteCandidate
from yieldkit.diagnosis.waiting import HALTED, frontier
from yieldkit.emulator.symptoms import COMPLETED, CoreScan, EventScan, Symptoms

__all__ = ["LIMIT", "blame_configuration", "blame_events", "blame_frontier", "blame_halted", "blame_links", "locate"]

LIMIT = 16
"""Most candidates kept: a list longer than that helps nobody."""


def locate(symptoms: Symptoms, *, wiring: Wiring | None = None) -> tuple[SiteCandidate, ...]:
    """Candidates by the strongest kind of observation present, most likely first.

    In order: a core whose control words differ from the image, a link whose ends counted differently, a core that
    counted an error event, a halted core; for a run that did not complete, the frontier of starvation.
    """
    for found in (
        blame_configuration(symptoms),
        blame_links(symptoms),
        blame_events(symptoms.events),
        blame_halted(symptoms),
    ):
        if found:
            return found
    return blame_frontier(symptoms, wiring) if symptoms.status != COMPLETED else ()


def blame_configuration(symptoms: Symptoms) -> tuple[SiteCandidate, ...]:
    """Cores whose control hashes differ; tables count before the register copies that follow from them."""
    kinds: dict[tuple[int, int], set[str]] = {}
    for scan in symptoms.config_mismatch:
        kinds.setdefault((scan.row, scan.col), set()).add(scan.kind)
    return _shared(
        0.98,
        (
            (
                len(names),
                SiteCandidate("core", row, col, 0.0, reason=f"{', '.join(sorted(names))} hash differs"),
            )
            for (row, col), names in sorted(kinds.items())
        ),
    )


def blame_links(symptoms: Symptoms) -> tuple[SiteCandidate, ...]:
    """Links whose ends counted differently, weighted by the difference."""
    best: dict[tuple[int, int, int, int], tuple[int, SiteCandidate]] = {}
    for scan in symptoms.link_mismatch:
        gap = abs(scan.sent - scan.received)
        key = (scan.row, scan.col, scan.drow, scan.dcol)
        if gap and (key not in best or best[key][0] < gap):
            reason = f"colour {scan.colour}: sent {scan.sent}, received {scan.received}"
            site = SiteCandidate(
                "link", scan.row, scan.col, 0.0, drow=scan.drow, dcol=scan.dcol, colour=scan.colour, reason=reason
            )
            best[key] = gap, site
    return _shared(0.98, (best[key] for key in sorted(best)))


def blame_events(events: Iterable[EventScan]) -> tuple[SiteCandidate, ...]:
    """Cores that counted error events, weighted by the count."""
    totals: dict[tuple[int, int], tuple[int, list[str]]] = {}
    for event in events:
        if event.count > 0:
            count, names = totals.get((event.row, event.col), (0, []))
            totals[event.row, event.col] = count + event.count, [*names, f"{event.count} x {event.kind}"]
    return _shared(
        0.95,
        (
            (count, SiteCandidate("core", row, col, 0.0, reason="counted " + ", ".join(names)))
            for (row, col), (count, names) in sorted(totals.items())
        ),
    )


def blame_halted(symptoms: Symptoms) -> tuple[SiteCandidate, ...]:
    """Cores that stopped themselves."""
    return _shared(
        0.9,
        (
            (1, SiteCandidate("core", core.row, core.col, 0.0, reason=f"halted in task {core.task}"))
            for core in symptoms.waiting
            if core.state == HALTED
        ),
    )


def blame_frontier(symptoms: Symptoms, wiring: Wiring | None = None) -> tuple[SiteCandidate, ...]:
    """The cores at which starvation or blocking begins; a weak pointer, since the culprit may be a neighbour."""
    return _shared(
        0.5,
        (
            (
                1,
                SiteCandidate("core", core.row, core.col, 0.0, reason=_waits(core)),
            )
            for core in frontier(symptoms, wiring)
        ),
    )


def _waits(core: CoreScan) -> str:
    return f"{core.state} on colour {core.colour}, task {core.task}"


def _shared(total: float, weighted: Iterable[tuple[int, SiteCandidate]]) -> tuple[SiteCandidate, ...]:
    pairs = sorted(weighted, key=lambda pair: (-pair[0], pair[1].row, pair[1].col))
    mass = sum(weight for weight, _ in pairs)
    return tuple(
        SiteCandidate(
            site.kind,
            site.row,
            site.col,
            round(total * weight / mass, 6),
            drow=site.drow,
            dcol=site.dcol,
            colour=site.colour,
            reason=site.reason,
        )
        for weight, site in pairs[:LIMIT]
    )
