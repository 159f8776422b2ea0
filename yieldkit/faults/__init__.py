"""Faults in use: events at physical sites, sampled or given, and the plan that strikes a running program."""

from yieldkit.faults.event import PLACES, FaultEvent, FaultPlan
from yieldkit.faults.sampling import FAULT_KINDS, KIND_SITES, FaultSampler, Population

__all__ = ["FAULT_KINDS", "KIND_SITES", "PLACES", "FaultEvent", "FaultPlan", "FaultSampler", "Population"]
