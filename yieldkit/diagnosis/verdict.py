"""What diagnosis answers: a code, sites to blame, how sure it is, on what evidence, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal

from yieldkit.quantities import LinkKey

__all__ = ["Action", "Persistence", "SiteCandidate", "Verdict"]

Persistence = Literal["transient", "intermittent", "permanent", "unknown"]


@dataclass(frozen=True)
class SiteCandidate:
    """A physical part that may be to blame.

    Attributes:
        kind: "core" or "link".
        row: row of the core, or of the sending end of the link.
        col: its column.
        confidence: probability in [0, 1] that this part is the culprit; candidates of one verdict add up to at most 1.
        drow: for a link, receiving end minus sending end, rows.
        dcol: the same, columns.
        colour: for a link, the colour whose counts differ, else -1.
        reason: the observation that points here.
    """

    kind: Literal["core", "link"]
    row: int
    col: int
    confidence: float
    drow: int = 0
    dcol: int = 0
    colour: int = -1
    reason: str = ""

    @property
    def link(self) -> LinkKey | None:
        """The undirected key of a link (smaller end first), None for a core."""
        if self.kind != "link":
            return None
        if (self.drow, self.dcol) > (0, 0):
            return (self.row, self.col, self.drow, self.dcol)
        return (self.row + self.drow, self.col + self.dcol, -self.drow, -self.dcol)

    def __str__(self) -> str:
        if self.kind == "core":
            return f"core ({self.row}, {self.col})"
        return f"link ({self.row}, {self.col}) -> ({self.row + self.drow}, {self.col + self.dcol})"


@dataclass(frozen=True)
class Action:
    """What the taxonomy says to do at once, and afterwards."""

    immediate: str
    follow_up: str


@dataclass(frozen=True)
class Verdict:
    """The answer of `classify`.

    Attributes:
        code: manifestation code of the taxonomy.
        name: its name.
        outcome_class: its class, e.g. "SDC" or "DUE (hang)".
        confidence: of the code, in [0, 1]; a fixed number per rule, not yet calibrated on trials.
        evidence: sentences with the numbers the code rests on.
        site_candidates: parts to blame, most likely first; empty when the observations point nowhere.
        action: immediate and follow-up.
        persistence: from replays at the same placement, "unknown" without them.
        replays: (r, n): r of n replays at the same placement reproduced the code; None without replays.
        replay_interval: Wilson interval of r / n at 95 %, None without replays.
        version: version of the taxonomy.
    """

    code: str
    name: str
    outcome_class: str
    confidence: float
    evidence: tuple[str, ...]
    site_candidates: tuple[SiteCandidate, ...]
    action: Action
    version: str
    persistence: Persistence = "unknown"
    replays: tuple[int, int] | None = None
    replay_interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.code} ({self.name}; {self.outcome_class}), confidence {self.confidence:.2f}"]
        lines += [f"  evidence: {sentence}" for sentence in self.evidence]
        lines += [f"  site: {site}, {site.confidence:.2f} ({site.reason})" for site in self.site_candidates]
        lines.append(f"  persistence: {self.persistence}")
        if self.replays is not None and self.replay_interval is not None:
            r, n = self.replays
            low, high = self.replay_interval
            lines[-1] += f" ({r} of {n} replays reproduced it, 95 % interval {low:.3f} to {high:.3f})"
        lines.append(f"  now: {self.action.immediate}; then: {self.action.follow_up}")
        lines.append(f"  taxonomy {self.version}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        evidence = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.evidence)
        sites = "".join(
            f"<li>{escape(str(site))}: {site.confidence:.2f}, {escape(site.reason)}</li>"
            for site in self.site_candidates
        )
        return (
            f"<p><b>{escape(self.code)}</b> ({escape(self.name)}; {escape(self.outcome_class)}), "
            f"confidence {self.confidence:.2f}</p><ul>{evidence}</ul><ul>{sites}</ul>"
            f"<p>{escape(self.action.immediate)}, then {escape(self.action.follow_up)}</p>"
        )
