"""Blame without seeing the truth: the taxonomy as data, and `classify`, which reads observations only."""

from __future__ import annotations

from yieldkit.diagnosis.baseline import Baseline
from yieldkit.diagnosis.decide import classify, diagnose
from yieldkit.diagnosis.rig import Placement, Rig, Wiring
from yieldkit.diagnosis.scores import confusion, recall_table
from yieldkit.diagnosis.taxonomy import Axis, Entry, Taxonomy, Word, load_taxonomy
from yieldkit.diagnosis.thresholds import Thresholds
from yieldkit.diagnosis.verdict import Action, SiteCandidate, Verdict

__all__ = [
    "Action",
    "Axis",
    "Baseline",
    "Entry",
    "Placement",
    "Rig",
    "SiteCandidate",
    "Taxonomy",
    "Thresholds",
    "Verdict",
    "Wiring",
    "Word",
    "classify",
    "confusion",
    "diagnose",
    "load_taxonomy",
    "recall_table",
]
