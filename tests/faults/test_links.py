"""Links that change, lose, double or hold up words or lose places, and what their checks see, by hand.

Words go from the last core of a line of three to the others: six words, or as many as a test says.
"""

from functools import cache

import numpy as np
import pytest

from tests.emulator.wavelet_pairs import pair, run_pair
from yieldkit.emulator.hooks import LaunchHooks, LinkHook, QueueHook
from yieldkit.emulator.links import LINK_PROTECTIONS, LinkGuard
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.stalls import classify
from yieldkit.emulator.waitgraph import Node
from yieldkit.errors import BadInput
from yieldkit.quantities import EAST, WEST
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import Broadcast, StreamIn, StreamOut

TO_CORE, FROM_CORE = 5, 4
SIGN = 1 << 31
DEPTHS = (1, 2, 4)


@cache
def line(words=6):
    b = ProgramBuilder("line", 1, 3, "fp32")
    x = b.tensor("x", (words,))
    b.phase(StreamIn("in", x, "x", "scatter_row"))
    b.phase(Broadcast("p", "row", x, b.tensor("y", (words,), keep=True)))
    b.launch("line")
    low = lower(b.build({"kind": "none"}))
    (colour,) = low.launches[0].colours["row_multicast_west"]
    return low, colour, {"x": np.arange(1, 3 * words + 1, dtype=np.float32).reshape(1, 3, words)}


def struck(words=6, *, queue=None, c=2, nth=0, mask=0, drop=False, depth=4, guard=None, **what):
    """Strike the link west of core (0, c), or a queue of that core; the result, its machine and y without first[c]."""
    low, colour, streams = line(words)
    if queue is None:
        hooks = LaunchHooks(links=(LinkHook(0, c, WEST, colour, nth, drop, mask, **what),))
    else:
        hooks = LaunchHooks(queues=(QueueHook(0, c, queue, colour, nth, mask, **what),))
    (result,), machine = run_pair(low, streams, lambda *_: hooks, depth=depth, guard=guard)
    return result, machine, machine.read("y")[0] - streams["x"][0, 2, 0] + 1


def crossed(machine, c=2, words=6):
    """(sent, received) of the link west of core (0, c)."""
    colour = line(words)[1]
    return int(machine.state.sent[c, colour, WEST]), int(machine.state.received[c - 1, colour, EAST])


def events(result):
    return result.scan.events if result.scan is not None else ()


def clean_cycles(words=6):
    low, _, streams = line(words)
    return pair(low)[1].launch(low.launches[0], streams).cycles


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("nth", [0, 2, 4])
def test_a_doubled_word_is_sent_once_and_received_twice(depth, nth):
    result, machine, y = struck(nth=nth, duplicate=True, depth=depth)
    doubled = [*range(1, nth + 2), *range(nth + 1, 6)]
    assert y[:2].tolist() == [doubled, doubled]
    assert crossed(machine) == (6, 7)
    assert crossed(machine, 1) == (7, 7)
    assert result.completed
    # The word too many is nobody's: it lies where the routers have brought it.
    assert sum(words for *_, words in result.scan.leftover) == 2
    assert [(link[:4], link[4:]) for link in result.scan.links] == [((0, 2, WEST, line()[1]), (6, 7))]


def test_the_last_word_doubled_changes_no_value():
    result, machine, y = struck(nth=5, duplicate=True)
    assert (y[:2] == np.arange(1, 7)).all()
    assert result.scan.leftover
    assert crossed(machine) == (6, 7)


def test_every_word_doubled_fills_the_queues():
    for depth in DEPTHS:
        result, machine, y = struck(words=40, duplicate=True, lasts=True, depth=depth)
        assert (y[:2] == np.arange(40) // 2 + 1).all()
        sent, received = crossed(machine, words=40)
        # 20 words twice for the cores, and as many more as lie in the queues before the first of them that is full: of
        # the core that takes words here and of the router.
        assert not result.completed
        assert received == 40 + 2 * depth
        assert sent == received // 2


@pytest.mark.parametrize("depth", [2, 4])
def test_one_lost_place_changes_nothing_but_the_time(depth):
    for nth in (0, 3):
        result, machine, y = struck(nth=nth, credit=True, depth=depth)
        assert result.completed
        assert (y[:2] == np.arange(1, 7)).all()
        assert crossed(machine) == (6, 6)


def test_no_word_goes_where_no_place_is_left():
    for depth in DEPTHS:
        for nth in (0, 1, 3):
            result, machine, y = struck(words=12, nth=nth, credit=True, lasts=True, depth=depth)
            # Each word finds one place less: the first finds depth - 1, the last that goes finds 1.
            assert crossed(machine, words=12) == (nth + depth - 1, nth + depth - 1)
            assert not result.completed
            assert y[0, : nth + depth - 1].tolist() == list(range(1, nth + depth))
            assert not result.scan.links
            stall = classify(machine, line(12)[0].launches[0], result)
            assert (stall.kind, stall.culprit) == ("LOST_CREDIT", Node("queue", 0, 2, FROM_CORE, line(12)[1]))


@pytest.mark.parametrize("cycles", [1, 7, 300])
def test_a_slow_link_costs_its_cycles_for_each_word(cycles):
    words = 12
    for hooked, held in (({"nth": 4, "lasts": True}, words - 4), ({"nth": 4}, 1)):
        # Long enough for the link to be what the launch waits for.
        base = struck(words, delay=50, **hooked)[0].cycles
        assert base > clean_cycles(words)
        result, machine, y = struck(words, delay=50 + cycles, **hooked)
        assert result.completed
        assert (y[:2] == np.arange(1, words + 1)).all()
        assert result.cycles == base + held * cycles
        assert crossed(machine, words=words) == (words, words)


def test_a_lasting_loss_is_a_dead_link():
    for nth in (0, 2):
        result, machine, y = struck(nth=nth, drop=True, lasts=True)
        assert not result.completed
        assert crossed(machine) == (6, nth)
        assert y[0, :nth].tolist() == list(range(1, nth + 1))


@pytest.mark.parametrize(("keep", "mask"), [(~SIGN & 0xFFFFFFFF, SIGN), (~SIGN & 0xFFFFFFFF, 0), (0, 0x42280000)])
def test_a_stuck_bit_lasts_from_its_word_on(keep, mask):
    streams = line()[2]
    base = streams["x"][0, 2]
    _, _, y = struck(nth=2, mask=mask, keep=keep, lasts=True)
    got = (y[:2] + base[0] - 1).astype(np.float32)
    stuck = ((base.view(np.uint32) & np.uint32(keep)) ^ np.uint32(mask)).view(np.float32)
    assert (got == np.where(np.arange(6) < 2, base, stuck)).all()


@pytest.mark.parametrize(
    ("queue", "c", "changed"),
    [(FROM_CORE, 2, (0, 1)), (EAST, 1, (0, 1)), (TO_CORE, 1, (1,)), (EAST, 0, (0,)), (TO_CORE, 0, (0,))],
)
def test_a_word_changes_where_it_enters_a_queue(queue, c, changed):
    for depth in DEPTHS:
        result, _, y = struck(queue=queue, c=c, nth=3, mask=SIGN, depth=depth)
        base = line()[2]["x"][0, 2, 0] - 1
        assert result.completed
        for core in (0, 1):
            wrong = np.flatnonzero(y[core] != np.arange(1, 7)).tolist()
            assert wrong == ([3] if core in changed else [])
        assert (y[changed[0], 3] + base) == -(base + 4)


def test_words_from_memoryx_enter_a_queue_too():
    b = ProgramBuilder("edge", 2, 2, "fp32")
    x = b.tensor("x", (3,))
    b.phase(StreamIn("in", x, "x", "scatter_row"))
    b.phase(StreamOut("out", x, "y", "gather_row"))
    b.launch("edge")
    low = lower(b.build({"kind": "none"}))
    launch = low.launches[0]
    streams = {"x": np.arange(1, 13, dtype=np.float32).reshape(2, 2, 3)}
    (colour,) = launch.colours["stream_scatter"]
    (result,), _ = run_pair(low, streams, lambda *_: LaunchHooks(queues=(QueueHook(1, 0, WEST, colour, 1, SIGN),)))
    assert np.argwhere(result.outputs["y"] != streams["x"]).tolist() in ([[1, 0, 1]], [[1, 1, 1]])
    assert (np.abs(result.outputs["y"]) == streams["x"]).all()


def test_parity_sees_odd_numbers_of_wrong_bits():
    for mask, count in ((1 << 22, 1), (3 << 21, 0), (7 << 20, 1)):
        for c in (1, 2):
            result, _, y = struck(c=c, nth=1, mask=mask, guard="parity")
            assert events(result) == (((0, c - 1, "parity", 1),) if count else ())
            assert result.detected == bool(count)
            assert result.completed
            assert (y[:c, 1] != 2).all()
    result, _, _ = struck(nth=2, mask=1, lasts=True, guard="parity")
    assert events(result) == ((0, 1, "parity", 4),)


def test_crc_sends_a_changed_word_again():
    for mask in (1 << 22, 3 << 21):
        cycles = []
        for resend_cycles in (50, 55):
            guard = LinkGuard("crc", resends=3, resend_cycles=resend_cycles)
            result, _, y = struck(12, nth=3, mask=mask, guard=guard)
            cycles.append(result.cycles)
        assert (y[:2] == np.arange(1, 13)).all()
        assert events(result) == ((0, 1, "crc", 1),)
        assert not result.detected
        assert cycles[1] - cycles[0] == 5


def test_crc_gives_up_on_a_link_that_stays_wrong():
    cycles = []
    for resends in (20, 23):
        guard = LinkGuard("crc", resends=resends, resend_cycles=5)
        result, _, y = struck(12, nth=8, mask=SIGN, lasts=True, guard=guard)
        cycles.append(result.cycles)
    assert events(result) == ((0, 1, "crc_failed", 4),)
    assert result.detected
    assert result.completed
    assert np.flatnonzero(y[0] != np.arange(1, 13)).tolist() == [8, 9, 10, 11]
    assert cycles[1] - cycles[0] == 4 * (23 - 20) * 5
    # A stuck bit that was so already is no error.
    streams = line(12)[2]
    assert (streams["x"] > 0).all()
    result, _, y = struck(12, mask=0, keep=~SIGN & 0xFFFFFFFF, lasts=True, guard=guard)
    assert not events(result)
    assert (y[:2] == np.arange(1, 13)).all()


def test_no_check_but_the_numbers_sees_a_lost_or_doubled_word():
    for guard in LINK_PROTECTIONS:
        for what in ({"drop": True}, {"duplicate": True}):
            result, _, _ = struck(nth=2, guard=guard, **what)
            assert events(result) == (((0, 1, "sequence", 1),) if guard == "sequence" else ())
    result, _, _ = struck(nth=2, duplicate=True, lasts=True, words=6, guard="sequence")
    (event,) = events(result)
    sent, received = crossed(struck(nth=2, duplicate=True, lasts=True)[1])
    assert event == (0, 1, "sequence", min(received - 3, sent - 2))


def test_what_cannot_be_asked_of_a_link():
    low, colour, streams = line()
    for wrong in (
        {"drop": True, "duplicate": True},
        {"drop": False, "delay": 3, "credit": True},
        {"drop": False, "delay": 1 << 20},
    ):
        hook = LinkHook(0, 2, WEST, colour, 0, **{"mask": 0, **wrong})
        with pytest.raises(BadInput, match=r"one thing|held up"):
            pair(low)[1].launch(low.launches[0], streams, LaunchHooks(links=(hook,)))
    for wrong in ({"kind": "ecc"}, {"kind": "crc", "resends": 0}, {"kind": "crc", "resend_cycles": 65}):
        with pytest.raises(BadInput):
            LinkGuard(**wrong)
