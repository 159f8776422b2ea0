"""Words over links and into queues: the count interpreter against the machine that runs every core."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.random_programs import random_program
from tests.faults.test_events import perfect
from yieldkit.burnin.programs import make_program, program_parameters
from yieldkit.emulator.host_words import input_shape, inputs_of
from yieldkit.emulator.isa import COLOURS
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.placement import Placement
from yieldkit.faults.ground import Ground
from yieldkit.faults.traffic import Traffic, task_extents

SIZES = {"layers": 1, "width": 8, "heads": 2, "context": 4, "sequences": 2}


def program_of(kind):
    if isinstance(kind, int):
        return random_program(kind, 3, 4, "bf16", phases=5)[0]
    sizes = {
        "gpt_training": {**SIZES, "heads": 4, "rows": 2, "cols": 4},
        "gpt_decode": {**SIZES, "side": 2, "prompt": 2, "steps": 4},
    }.get(kind, {})
    return make_program(kind, program_parameters(kind, sizes))


def by_machine(lowered):
    """(sent, received, control and all words from the core) of every launch, dense, from a clean run on zeros."""
    machine = Machine(lowered)
    for low in lowered.launches:
        fed = {p.stream: np.zeros(input_shape(lowered.program, p), np.float32) for p in inputs_of(low.launch)}
        with np.errstate(all="ignore"):
            assert machine.launch(low, fed).completed
        sent = machine.state.sent[:, :, :5].copy()
        for port in range(4):
            sent[machine.neighbour[:, port] < 0, :, port] = 0
        yield low, sent, machine.state.received.copy()


@pytest.mark.parametrize("kind", ["gpt_training", "gpt_decode", "cnn_forward", "stencil", "moe_training", *range(12)])
def test_counts_are_those_of_the_machine(kind):
    lowered = lower(program_of(kind))
    for low, sent, received in by_machine(lowered):
        traffic = Traffic.of(lowered, low)
        dense = np.zeros((low.role_of.size, COLOURS, 10), np.int64)
        dense[traffic.core, traffic.colour, :4] = traffic.sent
        dense[traffic.core, traffic.colour, 4:] = traffic.entered
        assert np.array_equal(dense[:, :, :4], sent[:, :, :4])
        assert np.array_equal(dense[:, :, 4:8], received)
        assert np.array_equal(dense[:, :, 9], sent[:, :, 4])
        assert traffic.busiest == sent[:, :, :4].sum(axis=1).max()
        # What a core's tasks say that they send, without the control words behind it.
        role = low.role_of.reshape(-1)
        for core in range(role.size):
            image = low.roles[role[core]]
            words = np.zeros(COLOURS, np.int64)
            extents = task_extents(image.tables, image.n_tasks) if image.n_tasks else []
            for task, extent in enumerate(extents):
                first = image.tables[2 * image.n_tasks + 4 * (int(image.tables[2 * task + 1]) & 0x3FF)]
                if (int(first) >> 14) & 3 == 3:
                    words[(int(first) >> 18) & 31] += extent
            if "gpt" in str(kind):
                assert np.array_equal(dense[core, :, 8], words)
            for port in range(4):
                over = traffic.over(core, port)
                assert over == {c: n for c, n in enumerate(sent[core, :, port].tolist()) if n}


def test_sites_of_ones_own_keep_their_words_only():
    lowered = lower(program_of("gpt_training"))
    placement = Placement.of(lowered.program, perfect(), (1, 1))
    whole = Ground(lowered, placement, 1)
    some = tuple(placement.physical(r, c) for r, c in ((0, 0), (1, 2)))
    part = Ground(lowered, placement, 1, (*some, (0, 0)))
    chosen = {0, 1 * lowered.program.cols + 2}
    for one, other in zip(whole.traffic, part.traffic, strict=True):
        keep = np.isin(one.core, sorted(chosen))
        assert 0 < keep.sum() < len(keep)
        assert np.array_equal(one.sent[keep], other.sent)
        assert np.array_equal(one.entered[keep], other.entered)
    assert 0 < part.links < whole.links
