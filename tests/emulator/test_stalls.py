"""Every class of stall, made by configuration and link faults alone, on the reference machine and with a clock."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.flip_table import flips_of, schedules
from tests.emulator.handmade import descriptor_at, ring, role_at, shifts, two_phases
from tests.emulator.random_programs import random_program
from tests.emulator.tiny import gemm_program
from yieldkit.emulator.hooks import LaunchHooks, LinkHook, RegisterHook, RouteHook, SramHook
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.stalls import STALL_CLASSES, classify
from yieldkit.emulator.waitgraph import Node
from yieldkit.emulator.waits_text import stall_lines
from yieldkit.emulator.wavelet import WaveletMachine
from yieldkit.quantities import EAST, SOUTH, WEST
from yieldkit.workloads.builder import ProgramBuilder, at
from yieldkit.workloads.program import Compute, Instr


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def stalls(program, hooks, *, depth=4, turns=1):
    """The stall that both executors name; they must agree in class, culprit and, at rest, in the whole graph."""
    lowered, streams = program
    low = lowered.launches[0]
    found = []
    for make in (Machine, WaveletMachine):
        machine = make(lowered, queue_depth=depth)
        for turn in range(turns):
            result = machine.launch(low, streams, hooks if turn == 0 else None)
        found.append(classify(machine, low, result))
    one, other = found
    if one is not None and one.kind == "LIVELOCK":
        assert other is not None
        assert (one.kind, one.culprit) == (other.kind, other.culprit)
    else:
        assert one == other
    return one


def swapped(lowered, r, c):
    """Flips that swap the operands of a core's first two tasks."""
    low, role = lowered.launches[0], role_at(lowered, r, c)
    mask = int(role.tables[1] ^ role.tables[3])
    assert mask
    assert role.tables[0] & 0x3F == role.tables[2] & 0x3F
    return tuple(SramHook(r, c, 0, low.table_base + place, mask) for place in (1, 3))


def sram(lowered, r, c, place, mask):
    return LaunchHooks(sram=(SramHook(r, c, 0, lowered.launches[0].table_base + place, mask),))


@cache
def gemm():
    return gemm_program(2, 3)


def extents(lowered, r, c, task, mask, *operands):
    """Flips of the innermost extents of a task's operands, in registers."""
    hooks = [RegisterHook(r, c, task, 0, operand, 1, mask) for operand in operands]
    return LaunchHooks(registers=tuple(hooks))


def test_a_clean_launch_has_no_graph():
    assert stalls(gemm(), None) is None
    assert stalls(two_phases(), None) is None


def test_two_cores_that_receive_before_they_send_wait_for_each_other():
    lowered = shifts(1, 2, 5, "EW")
    stall = stalls((lowered, {}), LaunchHooks(sram=swapped(lowered, 0, 0)))
    assert stall.kind == "CYCLIC_WAIT"
    assert stall.reason == (
        "core (0, 0) waits for a word of colour 16 from core (0, 1), "
        "which waits for a word of colour 1 from core (0, 0)"
    )
    assert [wait.who for wait in stall.cycle[1:]] + [stall.cycle[0].who] == [wait.what for wait in stall.cycle]
    assert "core (0, 0): task words differ from the image" in stall.evidence


@pytest.mark.parametrize(("words", "kind"), [(12, None), (13, "CYCLIC_WAIT")])
def test_two_cores_that_send_more_than_the_queues_hold_wait_for_room(words, kind):
    lowered = shifts(1, 2, words, "EW")
    stall = stalls((lowered, {}), LaunchHooks(sram=swapped(lowered, 0, 1)))
    assert (stall.kind if stall else None) == kind
    if stall:
        assert stall.reason == (
            "core (0, 0) waits for room in colour 1 towards core (0, 1), "
            "which waits for room in colour 16 towards core (0, 0)"
        )


def test_a_ring_of_four_with_more_words_than_its_queues_hold():
    # All cores send before they receive; the way back to the first core has five queues of four words.
    for words in (20, 21):
        lowered = ring(4, words)
        swaps = [swap for c in (1, 3) for swap in swapped(lowered, 0, c)]
        assert stalls((lowered, {}), None) is None
        stall = stalls((lowered, {}), LaunchHooks(sram=tuple(swaps)))
        assert (stall is None) == (words == 20)
    assert stall.kind == "CYCLIC_WAIT"
    cores = {(wait.who.r, wait.who.c) for wait in stall.cycle if wait.who.kind == "core"}
    assert cores == {(0, 0), (0, 1), (0, 2), (0, 3)}


def test_a_halted_core_is_a_dead_consumer():
    stall = stalls(gemm(), sram(gemm()[0], 0, 1, 4, 1 << 5))
    assert (stall.kind, stall.culprit) == ("DEAD_CONSUMER", Node("core", 0, 1))
    assert "has halted" in stall.reason
    assert stall.waits.ends


def test_a_core_that_has_ended_too_early_is_a_dead_consumer():
    stall = stalls(gemm(), sram(gemm()[0], 0, 1, 2, 1 << 6))
    assert (stall.kind, stall.culprit) == ("DEAD_CONSUMER", Node("core", 0, 1))
    assert "has ended its chain" in stall.reason


def test_a_core_that_never_starts_is_a_dead_consumer():
    lowered, streams = gemm()
    header = LaunchHooks(sram=(SramHook(1, 1, 0, 0, 1 << 31),))
    stall = stalls((lowered, streams), header, turns=2)
    assert (stall.kind, stall.culprit) == ("DEAD_CONSUMER", Node("core", 1, 1))
    assert "never started" in stall.reason


def test_a_router_without_a_route_is_a_dead_consumer():
    # Colour 2 goes from the core at (0, 1) east; without rx nothing moves.
    stall = stalls(gemm(), LaunchHooks(routes=(RouteHook(0, 1, 0, 2, 0, 5),)))
    assert (stall.kind, stall.culprit) == ("DEAD_CONSUMER", Node("queue", 0, 1, 4, 2))
    assert "the router of (0, 1) has other route words in colour 2 than its image" in stall.evidence


def test_words_in_a_colour_without_a_route_are_misrouted():
    lowered, _ = gemm()
    role = role_at(lowered, 0, 1)
    # The partial sums leave in colour 18 instead of 2.
    stall = stalls(gemm(), sram(lowered, 0, 1, descriptor_at(role, 3, 0), 16 << 18))
    assert (stall.kind, stall.culprit) == ("MISROUTE", Node("queue", 0, 1, 4, 18))
    assert stall.reason == "4 words lie in the queue at (0, 1) from its core in colour 18, where the image has no route"


def test_words_sent_where_the_image_sends_none_are_misrouted():
    stall = stalls(gemm(), LaunchHooks(routes=(RouteHook(0, 1, 0, 2, 0, 8 << SOUTH),)))
    assert (stall.kind, stall.culprit) == ("MISROUTE", Node("core", 0, 1))
    assert "sent" in stall.reason
    assert "through S" in stall.reason


def test_words_that_a_router_consumes_are_misrouted():
    stall = stalls(gemm(), LaunchHooks(routes=(RouteHook(0, 1, 0, 2, 0, 8 << EAST),)))
    assert (stall.kind, stall.culprit) == ("MISROUTE", Node("core", 0, 1))
    assert "consumed 12 words of colour 2" in stall.reason


def test_a_copy_that_a_router_no_longer_gives_is_misrouted():
    stall = stalls(gemm(), LaunchHooks(routes=(RouteHook(0, 1, 0, 0, 0, 8 << SOUTH),)))
    assert (stall.kind, stall.culprit) == ("MISROUTE", Node("core", 0, 1))
    assert "other route words than its image" in stall.reason


def test_a_word_lost_on_a_link_is_lost_and_no_cyclic_wait():
    stall = stalls(gemm(), LaunchHooks(links=(LinkHook(0, 1, EAST, 2, 3, True, 0),)))
    assert (stall.kind, stall.culprit) == ("LOST_WAVELET", Node("queue", 0, 2, WEST, 2))
    assert stall.reason == "the link from (0, 1) to (0, 2) was sent 12 words of colour 2 and gave 11"
    # The cores of the row do wait for each other in a ring, behind the word that was lost.
    cores = {wait.who for wait in stall.waits.edges if wait.who.kind == "core"}
    assert {Node("core", 0, 1), Node("core", 0, 2)} <= cores
    assert stall.cycle == ()


def test_a_word_lost_at_the_edge_is_lost():
    stall = stalls(gemm(), LaunchHooks(links=(LinkHook(0, 2, EAST, 12, 2, True, 0),)))
    assert (stall.kind, stall.culprit) == ("LOST_WAVELET", Node("list", 0, 2, EAST, 12))


def test_a_core_that_sends_too_few_words_starves_the_next():
    lowered = shifts(1, 2, 5, "E")
    stall = stalls((lowered, {}), extents(lowered, 0, 0, 0, 1, 0))
    assert (stall.kind, stall.culprit) == ("STARVATION", Node("core", 0, 0))
    assert stall.reason == "core (0, 0) has ended its chain of tasks, and core (0, 1) waits for it"


def test_a_core_that_sends_too_few_words_and_waits_for_the_answer_waits_in_a_ring():
    stall = stalls(two_phases(), extents(two_phases()[0], 0, 2, 1, 1, 0))
    assert (stall.kind, stall.culprit) == ("CYCLIC_WAIT", Node("core", 0, 2))
    assert stall.reason.startswith("core (0, 2) waits for a word of colour 4 from core (0, 4), which waits")


def test_a_core_that_expects_more_than_the_edge_stream_has_starves():
    lowered, _ = gemm()
    stall = stalls(gemm(), extents(lowered, 0, 2, 0, 8, 0, 1))
    assert (stall.kind, stall.culprit) == ("STARVATION", Node("stream", 0, 0, WEST, 10))
    assert "has no words left, and core (0, 2) waits for it" in stall.reason


def test_words_that_go_round_for_ever_are_a_livelock():
    # Results on their way east bounce between the last two routers of the row.
    back = RouteHook(0, 1, 0, 12, 1, 0b110)
    forth = RouteHook(0, 2, 0, 12, 1, (8 << EAST) | (8 << WEST))
    stall = stalls(gemm(), LaunchHooks(routes=(back, forth)))
    assert (stall.kind, stall.culprit) == ("LIVELOCK", Node("queue", 0, 1, EAST, 12))
    assert stall.reason == "words of colour 12 go round without end, from (0, 1) to (0, 2) to (0, 1)"
    assert stall.waits.moving


def test_a_core_that_repeats_its_tasks_is_a_livelock():
    b = ProgramBuilder("work", 1, 2, "fp32")
    x = b.tensor("x", (4,), dtype="fp32", keep=True)
    add = Instr("add", (("i", 4),), at(x, i=1), at(x, i=1), at(x, i=1))
    b.phase(Compute("twice", (add, add)))
    b.launch("work")
    lowered = lower(b.build({"kind": "none"}))
    # The second task is followed by the first.
    stall = stalls((lowered, {}), sram(lowered, 0, 1, 2, 1 << 6))
    assert (stall.kind, stall.culprit) == ("LIVELOCK", Node("core", 0, 1))
    assert "comes to no end" in stall.reason


def test_the_graph_is_that_of_every_schedule():
    lowered, streams = gemm()
    low = lowered.launches[0]
    hooks = LaunchHooks(links=(LinkHook(0, 0, SOUTH, 0, 3, True, 0),))
    found = []
    for order, burst in schedules(6):
        machine = Machine(lowered, order=order, burst=burst)
        found.append(classify(machine, low, machine.launch(low, streams, hooks)))
    assert all(stall == found[0] for stall in found)


def test_the_text_and_the_plain_data_say_the_same():
    hooks = LaunchHooks(links=(LinkHook(0, 0, SOUTH, 0, 3, True, 0),))
    stall = stalls(gemm(), hooks)
    lines = stall_lines(stall)
    assert lines[0] == "launch gemm: LOST_WAVELET"
    assert "  core (1, 1) needs a word of colour 1" in lines
    assert "      (1, 1) to its core ◄ (1, 1) from W ◄ (1, 0) from its core ◄ core (1, 0)" in lines
    assert stall_lines(stall, limit=2)[-1] == f"  ... {len(lines) - 5} more lines"
    data = stall.to_dict()
    assert data["class"] == "LOST_WAVELET"
    assert data["culprit"] == {"kind": "queue", "core": [1, 0], "port": 0, "colour": 0}
    assert len(data["waits"]) == len(stall.waits.edges)


def sound(stall):
    """What holds for every graph."""
    assert stall.kind in STALL_CLASSES
    assert stall.reason
    known = set(stall.waits.roots)
    out = stall.waits.out()
    front = list(known)
    while front:
        for wait in out.get(front.pop(), ()):
            if wait.what not in known:
                known.add(wait.what)
                front.append(wait.what)
    ends = {end.node for end in stall.waits.ends}
    assert {wait.who for wait in stall.waits.edges} <= known
    assert ends <= known
    # Every chain goes on, or says why not.
    assert all(node in out or node in ends for node in known)
    assert (stall.kind == "CYCLIC_WAIT") == bool(stall.cycle)
    assert len(stall_lines(stall)) > 2


@pytest.mark.parametrize("program", [gemm, two_phases], ids=["gemm", "two phases"])
def test_every_lost_word(program):
    lowered, streams = program()
    low = lowered.launches[0]
    machine = Machine(lowered)
    machine.launch(low, streams)
    seen = set()
    for core, colour, port in np.argwhere(machine.state.sent[:, :, :4] > 0).tolist():
        r, c = divmod(core, machine.cols)
        for nth in range(int(machine.state.sent[core, colour, port])):
            stall = stalls((lowered, streams), LaunchHooks(links=(LinkHook(r, c, port, colour, nth, True, 0),)))
            seen.add(stall.kind if stall else None)
            if stall:
                sound(stall)
    # A control word that is lost at the edge is missed by nobody.
    assert seen == {"LOST_WAVELET", None}


@pytest.mark.parametrize("program", [gemm, two_phases], ids=["gemm", "two phases"])
def test_a_sample_of_flips(program):
    lowered, streams = program()
    seen = set()
    cores = [(0, 0), (0, 1), (0, 2), (1, 1)]
    flips = [flip for core in cores for flip in flips_of(lowered, core)]
    for flip in flips[::17]:
        stall = stalls((lowered, streams), flip.hooks)
        if stall:
            sound(stall)
            seen.add(stall.kind)
    assert {"CYCLIC_WAIT", "DEAD_CONSUMER", "MISROUTE", "STARVATION"} <= seen


@given(
    seed=st.integers(0, 30),
    shape=st.sampled_from([(2, 2), (1, 4), (3, 3)]),
    strikes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=3),
    depth=st.sampled_from([1, 4]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_several_flips_at_once_in_any_program(seed, shape, strikes, depth):
    program, streams = random_program(seed, *shape, "bf16", phases=3)
    lowered = lower(program)
    low = lowered.launches[0]
    hooks = LaunchHooks()
    for which, bit in strikes:
        core = divmod(which % low.role_of.size, shape[1])
        flips = list(flips_of(lowered, core))
        hooks += flips[bit % len(flips)].hooks
    found = []
    for make in (Machine, WaveletMachine):
        machine = make(lowered, queue_depth=depth)
        result = machine.launch(low, streams, hooks)
        stall = classify(machine, low, result)
        assert (stall is None) == result.completed
        if stall:
            sound(stall)
        found.append((stall, (machine.state.status == kernel.RUNAWAY).any()))
    one, other = found
    if not one[1] and not (one[0] and one[0].waits.moving):
        assert one == other
    elif one[0]:
        assert other[0].kind == one[0].kind
