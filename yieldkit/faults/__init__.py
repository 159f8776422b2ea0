"""Faults in use: events at physical sites, sampled or given, and the plan that strikes a running program."""

from yieldkit.faults.conditions import Ageing, Condition, Environment, RateLaw
from yieldkit.faults.event import PLACES, FaultEvent, FaultPlan
from yieldkit.faults.exposure import Exposure
from yieldkit.faults.mechanisms import MECHANISMS, Mechanism
from yieldkit.faults.persistence import PersistentFault, PersistentPlan
from yieldkit.faults.sampling import FAULT_KINDS, KIND_SITES, FaultSampler, Population
from yieldkit.faults.weak_parts import WeakPart, WeakParts
from yieldkit.faults.weak_population import MEEKER_SHAPE, WeakPopulation

__all__ = [
    "FAULT_KINDS",
    "KIND_SITES",
    "MECHANISMS",
    "MEEKER_SHAPE",
    "PLACES",
    "Ageing",
    "Condition",
    "Environment",
    "Exposure",
    "FaultEvent",
    "FaultPlan",
    "FaultSampler",
    "Mechanism",
    "PersistentFault",
    "PersistentPlan",
    "Population",
    "RateLaw",
    "WeakPart",
    "WeakParts",
    "WeakPopulation",
]
