"""Replays on a rig: machine or model, and persistence with its interval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.diagnosis import cases
from yieldkit.diagnosis import Placement, classify
from yieldkit.emulator.symptoms import Symptoms

GROWN = cases.nan_at(40, recent=30.0)
FLAT = cases.nan_at(40)


@dataclass
class FakeRig:
    """Gives prepared symptoms by kind of placement and index, and keeps a log."""

    same: tuple[Symptoms, ...] = (cases.CLEAN,)
    disjoint: tuple[Symptoms, ...] = (cases.CLEAN,)
    log: list[Placement] = field(default_factory=list)

    def run(self, program: Any, placement: Placement) -> Symptoms:
        assert program == "job"
        self.log.append(placement)
        answers = self.same if placement.kind == "same" else self.disjoint
        return answers[placement.index % len(answers)]


def ask(symptoms: Symptoms, rig: FakeRig, replays: int = 3) -> Any:
    return classify(symptoms, baseline=cases.BASELINE, rig=rig, program="job", replays=replays)


def test_a_nan_that_follows_the_data_is_the_models() -> None:
    rig = FakeRig(same=(FLAT,), disjoint=(FLAT,))
    verdict = ask(FLAT, rig)
    assert verdict.code == "NAN_MODEL"
    assert verdict.confidence == 0.99
    assert verdict.site_candidates == ()
    assert "non-finite in 3 of 3 replays on disjoint cores" in verdict.evidence


def test_a_nan_that_vanishes_elsewhere_is_the_machines_whatever_the_norm() -> None:
    assert ask(GROWN, FakeRig(same=(GROWN,))).code == "NAN_HW"
    assert ask(cases.nan_at(3), FakeRig(same=(cases.nan_at(3),))).code == "NAN_HW"


def test_a_tie_is_inconclusive() -> None:
    verdict = ask(FLAT, FakeRig(disjoint=(FLAT, cases.CLEAN)), replays=2)
    assert verdict.code == "INCONCLUSIVE"
    assert verdict.action.follow_up == "certify nothing"


DROP = cases.stalled(link_mismatch=(cases.GAP,))
CTRL = cases.stalled(config_mismatch=(cases.FLIP,))


@pytest.mark.parametrize(
    ("again", "persistence", "r"),
    [((cases.CLEAN,), "transient", 0), ((DROP,), "permanent", 3), ((DROP, DROP, cases.CLEAN), "intermittent", 2)],
)
def test_persistence_from_replays_at_the_same_placement(again: tuple[Symptoms, ...], persistence: str, r: int) -> None:
    rig = FakeRig(same=again)
    verdict = ask(DROP, rig)
    assert verdict.code == "STALL_DROP"
    assert verdict.persistence == persistence
    assert verdict.replays == (r, 3)
    assert rig.log == [Placement("same", 0), Placement("same", 1), Placement("same", 2)]


def test_the_interval_is_wilsons() -> None:
    """0 of 3 at 95 %: upper limit z² / (n + z²) = 0.561497 with z = 1.959964."""
    verdict = ask(DROP, FakeRig())
    assert verdict.replay_interval is not None
    low, high = verdict.replay_interval
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(1.959963984540054**2 / (3 + 1.959963984540054**2), rel=1e-9)


def test_replays_that_disagree_without_a_majority() -> None:
    verdict = ask(DROP, FakeRig(same=(DROP, CTRL, cases.CLEAN)))
    assert verdict.code == "INCONCLUSIVE"
    assert any("first reading STALL_DROP" in line for line in verdict.evidence)


def test_one_replay_does_not_name_a_persistence() -> None:
    verdict = ask(DROP, FakeRig(), replays=1)
    assert (verdict.code, verdict.persistence, verdict.replays) == ("STALL_DROP", "unknown", (0, 1))


def test_a_harmless_run_is_not_replayed() -> None:
    rig = FakeRig()
    ask(cases.CLEAN, rig)
    assert rig.log == []
