"""What the statistical exit did to a campaign: how many of its trials it ended, and how often it may be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yieldkit.burnin.campaign import CampaignRun
from yieldkit.burnin.store import STORE_NAME, Store

__all__ = ["MEASURED", "EarlyEnds", "early_ends"]

MEASURED: Final[Mapping[str, float]] = {"gpt_training": 0.01}
"""By kind of program the bound that every outcome has been measured to keep: the share of its full-length trials that
would be named otherwise, one-sided 95 % Clopper-Pearson, at the kind's default sizes. The table is in docs/trials.md.
"""
_STEADY: Final = 4  # burnin.exits.STEADY, without its imports
_SOURCE: Final = "docs/trials.md, When a trial ends"


@dataclass(frozen=True)
class EarlyEnds:
    """Trials of a campaign with the statistical exit.

    Attributes:
        ended: that ended by it, and are called BENIGN.
        trials: in all.
        kind: of program.
    """

    ended: int
    trials: int
    kind: str

    @property
    def bound(self) -> float | None:
        """Measured bound of the disagreement for each outcome; None where none was measured."""
        return MEASURED.get(self.kind)

    @property
    def text(self) -> str:
        """One line."""
        known = f"how often that is wrong is not bounded for {self.kind} ({_SOURCE})"
        if self.bound is not None:
            known = (
                f"of each outcome at most {100 * self.bound:g} % of full-length runs would be named otherwise "
                f"(95 % bound, measured: {_SOURCE})"
            )
        return f"{self.ended} of {self.trials} trials ended by the statistical exit, as BENIGN; {known}"


def early_ends(run: CampaignRun) -> EarlyEnds | None:
    """What the statistical exit did to a campaign, or None where it has exact exits only."""
    spec = run.campaign.spec
    if spec.trials is None or spec.trials.exit != "statistical":
        return None
    with Store.reader(run.folder / STORE_NAME) as store:
        ended = store.trials_with_metric("exit", _STEADY)
        return EarlyEnds(ended, store.tally().n, spec.program.kind)
