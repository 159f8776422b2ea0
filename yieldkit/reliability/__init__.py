"""Lifetime laws, intervals, acceleration: arrays in, numbers out."""

from __future__ import annotations

from yieldkit.reliability.proportions import clopper_pearson_interval, wilson_interval

__all__ = ["clopper_pearson_interval", "wilson_interval"]
