"""`classify`: symptoms in, verdict out. Blind to what was injected: nothing in here can see it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from yieldkit.diagnosis.baseline import Baseline
from yieldkit.diagnosis.localise import locate
from yieldkit.diagnosis.rig import Placement, Rig, Wiring
from yieldkit.diagnosis.rules import RULES, Case, Finding
from yieldkit.diagnosis.taxonomy import Taxonomy, load_taxonomy
from yieldkit.diagnosis.thresholds import Thresholds
from yieldkit.diagnosis.verdict import Action, Persistence, Verdict
from yieldkit.emulator.symptoms import Symptoms
from yieldkit.errors import BadInput

__all__ = ["classify", "diagnose"]

_HARMLESS = frozenset(("MASKED_OR_BENIGN", "CORRECTED"))


def classify(
    symptoms: Symptoms,
    *,
    baseline: Baseline | None = None,
    taxonomy: Taxonomy | None = None,
    thresholds: Thresholds | None = None,
    wiring: Wiring | None = None,
    rig: Rig | None = None,
    program: Any = None,
    replays: int = 3,
) -> Verdict:
    """Say what a run suffered from, which part is to blame, and what to do.

    The manifestations of the taxonomy are tried in order of priority and the first rule that matches decides. With a
    `rig`, a NaN is replayed on disjoint cores (machine or model), and any failure is replayed at its own placement to
    estimate persistence.

    Args:
        symptoms: what the run showed from outside.
        baseline: clean runs of the same job; without it, loss and cycles can only be judged where the symptoms carry
            an expectation themselves.
        taxonomy: `load_taxonomy()` if None.
        thresholds: numbers that the rules compare with.
        wiring: routes of the loaded image; makes wait-for graphs exact.
        rig: a machine to ask for replays.
        program: what the rig is to run.
        replays: replays per question.

    Raises:
        BadInput: the baseline belongs to another program, or `replays` is negative.
    """
    if baseline is not None and baseline.program and symptoms.program and baseline.program != symptoms.program:
        raise BadInput(
            "baseline belongs to another program",
            value=baseline.program,
            cure=f"give one from clean runs of {symptoms.program}",
        )
    if replays < 0:
        raise BadInput("replays must not be negative", value=replays)
    taxonomy = taxonomy or load_taxonomy()
    thresholds = thresholds or Thresholds()
    case = Case(symptoms, baseline, thresholds, wiring=wiring, rig=rig, program=program, replays=replays)
    finding = _decide(case, taxonomy)
    persistence: Persistence = "unknown"
    counted: tuple[int, int] | None = None
    interval: tuple[float, float] | None = None
    if rig is not None and replays > 0 and finding.code not in _HARMLESS:
        from yieldkit.reliability.proportions import wilson_interval

        again = []
        for index in range(replays):
            replay = rig.run(program, Placement("same", index))
            again.append(_decide(Case(replay, baseline, thresholds, wiring=wiring), taxonomy).code)
        r = sum(code == finding.code for code in again)
        counted = (r, replays)
        low, high = wilson_interval(r, replays, confidence=0.95)
        interval = (float(low), float(high))
        if replays >= 2:
            persistence = "transient" if r == 0 else "permanent" if r == replays else "intermittent"
            _, most = Counter(again).most_common(1)[0]
            if 2 * most <= replays:
                seen = ", ".join(f"{count} x {name}" for name, count in sorted(Counter(again).items()))
                line = f"replays at the same placement disagree with no majority: {seen}"
                finding = Finding("INCONCLUSIVE", 0.5, (*finding.evidence, f"first reading {finding.code}", line))
    entry = taxonomy.manifestation(finding.code)
    return Verdict(
        code=entry.id,
        name=entry.name,
        outcome_class=entry.outcome_class,
        confidence=finding.confidence,
        evidence=finding.evidence,
        site_candidates=locate(symptoms, wiring=wiring) if finding.sites is None else finding.sites,
        action=Action(entry.immediate, entry.follow_up),
        version=taxonomy.version,
        persistence=persistence,
        replays=counted,
        replay_interval=interval,
    )


def _decide(case: Case, taxonomy: Taxonomy) -> Finding:
    for entry in taxonomy.on("manifestation"):
        rule = RULES.get(entry.id)
        if rule is not None:
            finding = rule(case)
            if finding is not None:
                return finding
    raise AssertionError("the rule INCONCLUSIVE matches everything")


diagnose = classify
