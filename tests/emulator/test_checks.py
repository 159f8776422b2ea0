"""Static checks: what lowering writes passes, images changed by hand are refused, and the machine agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.handmade import (
    descriptor_at,
    gather_down,
    in_order,
    ring,
    role_at,
    shifts,
    two_phases,
    with_launch,
    with_role,
    with_route,
    with_word,
)
from tests.emulator.random_programs import random_program
from tests.emulator.tiny import gemm_program, tiny_gpt
from yieldkit.emulator import checks, skeleton
from yieldkit.emulator.checks import check_lowered, inspect_lowered
from yieldkit.emulator.disassembly import chain_of
from yieldkit.emulator.isa import route_word
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.machine import Machine
from yieldkit.emulator.skeleton import Thinned, thinned, zeros
from yieldkit.emulator.stalls import classify
from yieldkit.emulator.word_counts import count_words, words_of
from yieldkit.errors import BadInput
from yieldkit.quantities import EAST, NORTH, RAMP, WEST
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_training
from yieldkit.workloads.traffic import neighbour_traffic, row_permutation_traffic

DEPTHS = (1, 2, 4, 8)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def refused(lowered, *, queue_depth=4):
    """The one line of the refusal."""
    with pytest.raises(BadInput) as caught:
        check_lowered(lowered, queue_depth=queue_depth)
    text = str(caught.value)
    assert "\n" not in text
    return text


def real(lowered, depth):
    """What the reference machine does with the first launch: None, or its stall."""
    machine = Machine(lowered, queue_depth=depth)
    low = lowered.launches[0]
    return classify(machine, low, machine.launch(low, zeros(lowered.program, low)))


def agrees(lowered, depth):
    """The static verdict, which is what the machine does."""
    found = inspect_lowered(lowered, queue_depth=depth).launches[0]
    stall = real(lowered, depth)
    assert bool(found.problems) == (stall is not None)
    if found.problems:
        assert found.deadlock == "found"
        assert stall.kind == "CYCLIC_WAIT"
        assert found.problems == (f"it deadlocks with queues of {depth} words: {stall.reason}",)
    return bool(found.problems)


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_lowering_writes_passes(depth):
    small = {"layers": 1, "width": 16, "heads": 4, "context": 4, "sequences": 4, "vocabulary": 32}
    for lowered in (
        gemm_program(2, 3)[0],
        two_phases()[0],
        tiny_gpt(),
        lower(gpt_training(rows=4, cols=4, **small)),
        lower(gpt_decode(side=4, **small)),
        lower(neighbour_traffic(rows=3, cols=4, words=9, rounds=4, directions="ENWS")),
        lower(row_permutation_traffic(rows=2, cols=5, to=[1, 2, 3, 4, 0], words=9, rounds=4)),
    ):
        report = check_lowered(lowered, queue_depth=depth)
        assert report.problems == ()
        assert all(launch.deadlock == "none" for launch in report.launches)


def test_the_counts_are_those_of_the_machine():
    for seed in range(25):
        rows, cols = [(2, 3), (3, 2), (3, 3), (1, 4), (4, 1), (4, 4), (7, 2)][seed % 7]
        program, streams = random_program(seed, rows, cols, "bf16", phases=6)
        lowered = lower(program)
        assert inspect_lowered(lowered).problems == ()
        machine = Machine(lowered)
        for low in lowered.launches:
            assert machine.launch(low, streams).completed
            part = Thinned(low, program, tuple(range(rows)), ())
            chains = [chain_of(low, role, lowered.sram_words) for role in low.roles]
            flows = count_words(low, chains, checks._edges(part).streams)
            sent = {
                (core, port, colour): int(machine.state.sent[core, colour, port])
                for core, colour, port in np.argwhere(machine.state.sent[:, :, :4] > 0).tolist()
            }
            assert sent == {key: words_of(segments) for key, segments in flows.links.items()}
            to_core = machine.state.sent[:, :, RAMP]
            assert flows.to_core == {(n, k): int(to_core[n, k]) for n, k in np.argwhere(to_core > 0).tolist()}
            assert flows.moves == int(machine.state.sent.sum())


def test_two_neighbours_that_both_receive_before_they_send_are_refused():
    lowered = shifts(1, 2, 5, "EW")
    wrong = with_role(lowered, 0, 0, tables=in_order(role_at(lowered, 0, 0), [1, 0]))
    for depth in DEPTHS:
        assert not agrees(lowered, depth)
        assert agrees(wrong, depth)
    assert refused(wrong) == (
        "launch 'shifts': it deadlocks with queues of 4 words: core (0, 0) waits for a word of colour 16 from "
        "core (0, 1), which waits for a word of colour 1 from core (0, 0)"
    )


def test_blocks_in_a_ring_longer_than_the_queues_hold_are_refused():
    lowered = ring(4, 13)
    wrong = lowered
    for c in (1, 3):
        wrong = with_role(wrong, 0, c, tables=in_order(role_at(wrong, 0, c), [1, 0]))
    # Two cores next to each other hold three queues of words between them, the way back five.
    assert [agrees(wrong, depth) for depth in DEPTHS] == [True, True, False, False]
    assert not any(agrees(lowered, depth) for depth in DEPTHS)
    assert "waits for room in colour" in refused(wrong, queue_depth=2)


@given(
    shape=st.sampled_from([(1, 2), (1, 3), (2, 2), (3, 2)]),
    words=st.integers(1, 14),
    directions=st.sampled_from(["EW", "NS", "EWNS", "ESWN", "EEW"]),
    data=st.data(),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_order_of_tasks_deadlocks_where_the_machine_does(shape, words, directions, data):
    lowered = shifts(*shape, words, directions)
    for r in range(shape[0]):
        for c in range(shape[1]):
            role = role_at(lowered, r, c)
            order = data.draw(st.permutations(range(role.n_tasks)))
            lowered = with_role(lowered, r, c, tables=in_order(role, order))
    verdicts = [agrees(lowered, depth) for depth in DEPTHS]
    # Longer queues never make a deadlock.
    assert verdicts == sorted(verdicts, reverse=True)


def test_a_deadlock_in_a_product_is_found():
    lowered, _ = gemm_program(3, 3)
    role = role_at(lowered, 1, 1)
    # It waits for its part of the result before it gives its sums to the next core.
    wrong = with_role(lowered, 1, 1, tables=in_order(role, [0, 1, 2, 4, 3, 5]))
    assert all(agrees(wrong, depth) for depth in DEPTHS)
    assert "core (1, 1) waits for a word of colour 3 from core (1, 2)" in refused(wrong)


def test_extents_that_differ_between_two_ends_are_named():
    lowered = shifts(2, 3, 6, "E")
    role = role_at(lowered, 0, 1)
    task = next(k for k in range(role.n_tasks) if role.tables[descriptor_at(role, k, 0)] >> 14 & 3 == 3)
    place = descriptor_at(role, task, 0) + 1
    wrong = with_role(lowered, 1, 1, tables=with_word(role, place, 5))
    assert refused(wrong) == "launch 'shifts': core (1, 2) is sent 5 words of colour 2 and expects 6"
    assert real(wrong, 4).kind == "STARVATION"


def test_words_that_memoryx_does_not_get_are_named():
    lowered, _ = gemm_program(2, 3)
    role = role_at(lowered, 0, 1)
    place = descriptor_at(role, role.n_tasks - 1, 0) + 1
    wrong = with_role(lowered, 0, 1, tables=with_word(role, place, 3))
    assert "MemoryX is sent 11 words of colour 12 at core (0, 2) E and expects 12" in refused(wrong)


def test_a_control_word_that_is_missing_is_named():
    lowered, _ = gemm_program(2, 3)
    role = role_at(lowered, 0, 1)
    place = descriptor_at(role, role.n_tasks - 1, 0)
    wrong = with_role(lowered, 0, 1, tables=with_word(role, place, role.tables[place] & ~np.uint32(3 << 24)))
    text = refused(wrong)
    assert "MemoryX is sent 8 words of colour 12 at core (0, 2) E and expects 12" in text
    assert "the router of core (0, 1) never takes 5 words of colour 12 from W" in inspect_lowered(wrong).problems[-1]


def test_words_for_a_router_without_a_route_are_named():
    lowered = shifts(2, 2, 6, "S")
    wrong = with_role(lowered, 1, 1, routes=with_route(role_at(lowered, 1, 1), 5))
    text = refused(wrong)
    assert text.startswith(
        "launch 'shifts': core (0, 1) sends 6 words of colour 5 S, and core (1, 1) has no route for them"
    )
    wrong = with_role(lowered, 0, 1, routes=with_route(role_at(lowered, 0, 1), 5, route_word(RAMP, [NORTH])))
    assert "core (0, 1) sends 6 words of colour 5 N off the edge, where MemoryX takes none" in refused(wrong)
    problems = inspect_lowered(wrong).problems
    unfed = "core (1, 1) is sent 0 words of colour 5 and expects 6: its router takes them from N, "
    assert f"launch 'shifts': {unfed}where core (0, 1) sends none" in problems
    wrong = with_role(lowered, 0, 1, routes=with_route(role_at(lowered, 0, 1), 5, route_word(RAMP, [])))
    assert "the router of core (0, 1) consumes 6 words of colour 5" in refused(wrong)


def test_routes_that_go_round_are_named():
    lowered = shifts(1, 3, 6, "E")
    forth = with_route(role_at(lowered, 0, 1), 1, route_word(WEST, [EAST]))
    first = with_route(role_at(lowered, 0, 0), 1, route_word(RAMP, [EAST], last=False), route_word(EAST, [EAST]))
    wrong = with_role(with_role(lowered, 0, 1, routes=forth), 0, 0, routes=first)
    assert "core (0, 1) sends 6 words of colour 1 E, and core (0, 2) has no route for them" in refused(wrong)
    loop = with_route(role_at(lowered, 0, 1), 1, route_word(WEST, [WEST]))
    low = with_role(with_role(lowered, 0, 1, routes=loop), 0, 0, routes=first).launches[0]
    role = low.roles[low.role_of[0, 0]]
    # An ADVANCE after the block turns the first router to what comes back.
    place = descriptor_at(role, 0, 0)
    tables = with_word(role, place, role.tables[place] | np.uint32(2 << 24))
    wrong = with_role(with_role(with_role(lowered, 0, 1, routes=loop), 0, 0, routes=first), 0, 0, tables=tables)
    assert "words of colour 1 go round without end at core" in refused(wrong)


def test_colours_are_checked():
    lowered, _ = gemm_program(2, 3)
    low = lowered.launches[0]
    shared = with_launch(lowered, replace(low, colours={**low.colours, "scatter_west": (0,)}))
    both = "channels column_multicast and scatter_west share colour 0 at the router of core (0, 0)"
    assert refused(shared).startswith(f"launch 'gemm': {both}")
    foreign = with_route(role_at(lowered, 1, 1), 21, route_word(RAMP, [EAST]))
    text = refused(with_role(lowered, 1, 1, routes=foreign))
    assert text == "launch 'gemm': no channel has colour 21, which has a route at the router of core (1, 1)"
    beyond = with_launch(lowered, replace(low, colours={**low.colours, "scatter_west": (24,)}))
    assert refused(beyond).startswith("launch 'gemm': channel scatter_west has colour 24, and a router has 24")
    role = role_at(lowered, 0, 1)
    place = descriptor_at(role, 3, 0)
    word = (role.tables[place] & ~np.uint32(31 << 18)) | np.uint32(24 << 18)
    wrong = with_role(lowered, 0, 1, tables=with_word(role, place, word))
    assert "core (0, 1) (role 6): task 3 has colour 24 in operand D, and a router has 24" in refused(wrong)


@pytest.mark.parametrize(
    ("task", "word", "mask", "text"),
    [
        (1, 0, 1 << 5, "task 1 has the undefined opcode 33"),
        (4, 0, 1 << 7, "task 4 follows itself: the chain has no end"),
        (3, 0, 1 << 15, "task 260 or one of its descriptors lies outside the tables"),
    ],
)
def test_tasks_that_would_halt_a_core_are_named(task, word, mask, text):
    lowered, _ = gemm_program(2, 3)
    role = role_at(lowered, 0, 1)
    place = 2 * task + word
    wrong = with_role(lowered, 0, 1, tables=with_word(role, place, role.tables[place] ^ np.uint32(mask)))
    assert text in refused(wrong)


def test_operands_that_cannot_be_are_named():
    lowered, _ = gemm_program(2, 3)
    role = role_at(lowered, 0, 1)
    for operand, mask, text in (
        (0, 3 << 16, "task 3 has an undefined kind or format in operand D"),
        (0, 1 << 14, "task 3 has a fabric operand of the wrong direction in operand D"),
        (2, 3 << 12, "task 1 reaches address 12310 with operand D, and SRAM has 12288 words"),
    ):
        place = descriptor_at(role, 3, operand)
        wrong = with_role(lowered, 0, 1, tables=with_word(role, place, role.tables[place] ^ np.uint32(mask)))
        assert text in refused(wrong)


def test_sram_is_counted_by_bank_and_its_end_is_kept():
    lowered, _ = gemm_program(2, 3)
    low = lowered.launches[0]
    use = inspect_lowered(lowered).launches[0].sram
    assert sum(use.banks) == use.words
    assert max(use.banks) - min(use.banks) <= 2
    assert use.largest[0] == ("__acc:product", 12)
    crowded = with_launch(lowered, replace(low, table_base=20))
    assert "tensor __acc:product of core (0, 2) ends at word 23 of SRAM, where the tables begin at 20" in refused(
        crowded
    )
    beyond = with_launch(lowered, replace(low, table_base=12_280))
    assert "words of tables at address 12280, beyond its 12288 words of SRAM" in refused(beyond)
    with pytest.raises(BadInput, match=r"core \(0, 2\).*__acc:product 12"):
        gemm_program(2, 3, sram_words=80)


def test_rows_that_repeat_are_counted_once():
    lowered = shifts(31, 2, 6, "SN")
    low = lowered.launches[0]
    part = thinned(lowered.program, low)
    assert len(part.rows) < 14
    assert {0, 30} <= set(part.rows)
    assert np.diff(part.rows).max() % 2 == 1
    report = inspect_lowered(lowered)
    assert report.launches[0].rows == len(part.rows)
    assert report.problems == ()


@pytest.mark.parametrize("words", [6, 13])
def test_thinned_rows_show_what_all_rows_show(words, monkeypatch):
    lowered = shifts(31, 2, words, "SN")
    wrong = lowered
    low = lowered.launches[0]
    for number in range(len(low.roles)):
        r, c = np.argwhere(low.role_of == number)[0].tolist()
        role = role_at(wrong, r, c)
        wrong = with_role(wrong, r, c, alone=False, tables=in_order(role, list(range(role.n_tasks))[::-1]))
    for program in (lowered, wrong):
        few = [inspect_lowered(program, queue_depth=depth) for depth in DEPTHS]
        assert few[0].launches[0].rows < 31
        with monkeypatch.context() as patch:
            patch.setattr(skeleton, "KEPT_ROWS", 64)
            patch.setattr(checks, "_reports", type(checks._reports)())
            all_rows = [inspect_lowered(program, queue_depth=depth) for depth in DEPTHS]
        assert all_rows[0].launches[0].rows == 31
        assert [r.problems for r in few] == [r.problems for r in all_rows]
        assert [bool(r.problems) for r in few] == [real(program, depth) is not None for depth in DEPTHS]


def test_rows_that_hand_on_different_words_are_all_counted():
    lowered = gather_down(24, 2)
    low = lowered.launches[0]
    assert thinned(lowered.program, low).seams
    report = inspect_lowered(lowered)
    assert report.launches[0].rows == 24
    assert not any(agrees(lowered, depth) for depth in DEPTHS)
    # Thinned rows would send fewer words, and this would look right.
    few = 2 * (len(thinned(lowered.program, low).rows) - 1)
    wrong = gather_down(24, 2, expected=few)
    assert refused(wrong) == f"launch 'shifts': core (23, 0) is sent 46 words of colour 5 and expects {few}"


def test_a_report_is_kept_and_a_changed_image_gets_its_own():
    lowered = shifts(1, 2, 5, "EW")
    assert check_lowered(lowered) is check_lowered(shifts(1, 2, 5, "EW"))
    wrong = with_role(lowered, 0, 0, tables=in_order(role_at(lowered, 0, 0), [1, 0]))
    assert wrong.program.fingerprint == lowered.program.fingerprint
    assert inspect_lowered(wrong) is not inspect_lowered(lowered)


def test_a_large_launch_is_counted_but_not_run():
    report = inspect_lowered(shifts(1, 2, 5, "EW"), most_moves=10)
    assert report.launches[0].deadlock == "not looked for: more than 10 moves of words"
    assert report.launches[0].moves == 20
    assert report.problems == ()
    with pytest.raises(BadInput, match="at least one word"):
        inspect_lowered(shifts(1, 2, 5, "EW"), queue_depth=0)


def test_the_plain_data_hold_the_problems():
    lowered = shifts(1, 2, 5, "EW")
    wrong = with_role(lowered, 0, 0, tables=in_order(role_at(lowered, 0, 0), [1, 0]))
    data = inspect_lowered(wrong).to_dict()
    assert data["queue_depth"] == 4
    assert len(data["problems"]) == 1
    assert data["launches"][0]["sram"]["banks"]
