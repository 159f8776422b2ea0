"""The count interpreter held against the whole machine, field by field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from yieldkit.emulator.counts import count_launch
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.plans import constant_array

CORE_FIELDS = ("status", "task", "executed", "element", "elements")


def loaded(low, depth=4, **options):
    """A machine with its constants."""
    machine = Machine(low, queue_depth=depth, **options)
    for tensor in low.tensors.values():
        if tensor.values:
            machine.write(tensor.name, constant_array(tensor, low.program.rows, low.program.cols))
    return machine


def differences(counted, machine, result):
    """Names of everything in which a counted state differs from a machine's."""
    state, found = machine.state, []
    for name in CORE_FIELDS:
        if (getattr(counted, name) != getattr(state, name)).any():
            found.append(name)
    running = state.status == kernel.RUNNING
    for name in ("stage", "wait", "wait_colour"):
        if (getattr(counted, name)[running] != getattr(state, name)[running]).any():
            found.append(name)
    core, colour = counted.slot_core, counted.slot_colour
    for name in ("length", "sent", "received", "sunk", "position"):
        whole = np.zeros_like(getattr(state, name))
        whole[core, colour] = getattr(counted, name)
        if (whole != getattr(state, name)).any():
            found.append(name)
    if counted.completed != result.completed:
        found.append("completed")
    if not result.completed and counted.missing != result.missing:
        found.append("missing")
    if result.scan is not None and counted.scan() != replace(result.scan, state_hash=""):
        found.append("scan")
    return found


def compare(low, launch, machine, streams, hooks, depth=4, **options):
    """(counted, result, differences) of a launch on a machine whose queues are empty."""
    result = machine.launch(launch, streams, hooks)
    counted = count_launch(low, launch, hooks, queue_depth=depth, **options)
    return counted, result, [] if counted is None else differences(counted, machine, result)
