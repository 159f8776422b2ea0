"""What a campaign would sample, without a trial: its strata with their populations and planned trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from yieldkit.burnin.campaign import Campaign
from yieldkit.burnin.strata import Strata
from yieldkit.burnin.trial import FaultClass, bench_module
from yieldkit.errors import BadInput
from yieldkit.reliability.designs import width_factor

__all__ = ["WIDEST", "Survey", "survey_of"]

WIDEST: Final = 1.25
"""Wider than that against simple samples, for a label that is as frequent everywhere, is told."""


@dataclass(frozen=True)
class Survey:
    """Strata of a campaign before it runs.

    Attributes:
        by: what they are told apart by.
        rows: one a stratum: `stratum`, `population` (triples of place, moment and bit), `share` of the population,
            `first_round` and `budget` (trials; None where results will decide).
        notes: what is worth knowing about the plan.
    """

    by: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def survey_of(campaign: Campaign) -> Survey:
    """Count the classes of faults of a campaign and plan its rounds.

    Raises:
        BadInput: the bench does not tell the class of a fault, or a kind has no place in the program.
        AnswerIsNo: the wafer cannot be repaired.
    """
    spec = campaign.spec
    module = bench_module(spec.campaign.bench, campaign.benches)
    count = getattr(module, "count_classes", None)
    if count is None:
        raise BadInput(f"bench {spec.campaign.bench!r} does not count classes of faults")
    classes: tuple[FaultClass, ...] = tuple(count(spec))
    strata = Strata.of(spec, classes)
    section, plan = spec.strata, spec.campaign
    notes = []
    first: dict[str, int] = {}
    budget: dict[str, int] | None = None
    if section is not None:
        first = _sum(strata.plan(0))
        rounds = -(-plan.trials // plan.round)
        if not strata.waits:
            budget = {}
            for number in range(rounds):
                for name, n in _sum(strata.plan(number)).items():
                    budget[name] = budget.get(name, 0) + n
        need = 2 * ((section.floor + 1) // 2) * len(strata.names)
        if need > plan.trials:
            notes.append(
                f"the floor needs {need} trials and the budget has {plan.trials}: some strata stay short of it"
            )
        if plan.trials % plan.round:
            notes.append(
                f"the last round has {plan.trials % plan.round} of {plan.round} trials: a random part of its plan"
            )
    if section is not None or spec.faults.importance:
        notes += _width_notes(strata, budget, need=0 if section is None else need)
    rows = tuple(
        {
            "stratum": name or "all",
            "population": sum(classes[one].population for one in strata.members[number]),
            "share": float(strata.shares[number]),
            "first_round": first.get(name, 0 if section else min(plan.round, plan.trials)),
            "budget": plan.trials if section is None else None if budget is None else budget.get(name, 0),
        }
        for number, name in enumerate(strata.names)
    )
    return Survey(strata.by, rows, tuple(notes))


def _sum(allocation: dict[tuple[int, str], int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, name), n in allocation.items():
        found[name] = found.get(name, 0) + n
    return found


def _width_notes(strata: Strata, budget: dict[str, int] | None, *, need: int) -> list[str]:
    """Where intervals may be wider than those of simple samples: the floor takes too much, or importance does."""
    trials = strata.spec.campaign.trials
    if budget is None:
        # Where results will decide: by population, above the floor. Neyman's own shares are no worse for its target.
        floor = need / max(len(strata.names), 1)
        left = max(trials - need, 0)
        n = [floor + left * float(share) for share in strata.base]
    else:
        n = [float(budget.get(name, 0)) for name in strata.names]
    if strata.spec.strata is None:
        n = [float(trials)]
    factor = float(width_factor(strata.frame(), n))
    if factor <= WIDEST or need > trials:
        return []
    cause = f"the floor takes {100 * need / trials:.0f} % of the trials" if need > trials / 3 else "importance"
    return [
        f"for a label that is as frequent everywhere, intervals are {factor:.2f} times as wide as without this design"
        f" ({cause}); they are narrower where strata differ"
    ]
