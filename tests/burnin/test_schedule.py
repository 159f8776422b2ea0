"""Rounds, chunks and the stop rule: the same end in whatever order chunks come back."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.burnin.schedule import BUDGET, HALF_WIDTH, Ledger
from yieldkit.burnin.spec import CampaignSection, StopSection
from yieldkit.burnin.tally import Tally
from yieldkit.burnin.trial import TrialRow


def section(trials, size, chunk, half_width=None):
    stop = None if half_width is None else StopSection(label="hit", half_width=half_width)
    return CampaignSection(name="x", seed=0, trials=trials, round=size, chunk=chunk, stop=stop)


def record(k, hits):
    return TrialRow(k, "a", "hit" if k in hits else "miss", "{}", "{}", "{}")


def half_width(x, n):
    """Wilson's half-width, written out anew."""
    z = 1.959963984540054
    return z / (n + z * z) * math.sqrt(x * (n - x) / n + z * z / 4)


def expected_end(plan, hits):
    """Read rounds one by one, as if there were one worker."""
    for end in range(plan.round, plan.trials + plan.round, plan.round):
        end = min(end, plan.trials)
        if half_width(sum(k < end for k in hits), end) <= plan.stop.half_width:
            return end
    return plan.trials


def work_off(ledger, draw, hits, window):
    out, stored = [], []
    while True:
        while len(out) < window and (chunk := ledger.take()):
            out.append(chunk)
        if not out:
            return stored
        start, stop = out.pop(draw(st.integers(0, len(out) - 1)))
        assert not ledger.finished
        ledger.add([record(k, hits) for k in range(start, stop)])
        stored.append((start, stop))


@settings(deadline=None, derandomize=True, max_examples=120)
@given(st.data())
def test_any_order_of_completion_stops_at_the_same_trial(data):
    trials, size, chunk = (data.draw(st.integers(1, high)) for high in (120, 40, 17))
    hits = data.draw(st.sets(st.integers(0, 119), max_size=60))
    plan = section(trials, size, chunk, data.draw(st.sampled_from([0.02, 0.1, 0.15, 0.3])))
    ledger = Ledger(plan, [], {})
    stored = work_off(ledger, data.draw, hits, data.draw(st.integers(1, 5)))
    ks = [k for start, stop in sorted(stored) for k in range(start, stop)]
    assert ks == list(range(expected_end(plan, hits)))
    assert ledger.finished
    assert ledger.tally == Tally.of(record(k, hits) for k in ks)
    assert all(stop - start <= chunk and start // size == (stop - 1) // size for start, stop in stored)
    if len(ks) < trials:
        assert ledger.decision.reason == HALF_WIDTH


@settings(deadline=None, derandomize=True, max_examples=120)
@given(st.data())
def test_a_resumed_ledger_does_exactly_what_is_missing(data):
    trials, size, chunk = (data.draw(st.integers(1, high)) for high in (120, 40, 17))
    hits = data.draw(st.sets(st.integers(0, 119), max_size=60))
    plan = section(trials, size, chunk, data.draw(st.none() | st.sampled_from([0.02, 0.1, 0.3])))
    end = trials if plan.stop is None else expected_end(plan, hits)
    first = Ledger(plan, [], {})
    have = []
    for _ in range(data.draw(st.integers(0, 12))):
        if chunk_ := first.take():
            have.append(chunk_)
            first.add([record(k, hits) for k in range(*chunk_)])
    gaps = [chunk_ for chunk_ in have if data.draw(st.booleans())]
    ks = sorted(k for chunk_ in gaps for k in range(*chunk_))
    rounds = {r: Tally.of(record(k, hits) for k in ks if k // size == r) for r in {k // size for k in ks}}
    ledger = Ledger(plan, sorted(gaps), rounds)
    assert ledger.finished == (len(ks) == end)
    stored = work_off(ledger, data.draw, hits, 3)
    assert sorted([*ks, *(k for chunk_ in stored for k in range(*chunk_))]) == list(range(end))


def test_a_larger_budget_goes_on_and_a_smaller_one_has_enough():
    rounds = {0: Tally({("a", "miss"): 4}), 1: Tally({("a", "miss"): 2})}
    larger = Ledger(section(10, 4, 3), [(0, 6)], rounds)
    assert [larger.take() for _ in range(4)] == [(6, 8), (8, 10), None, None]
    assert not larger.finished
    smaller = Ledger(section(5, 4, 3), [(0, 6)], {0: rounds[0], 1: Tally({("a", "miss"): 1})})
    assert smaller.finished
    assert smaller.decision.reason == BUDGET


def test_tallies_add_up():
    one, two = Tally({("a", "x"): 1, ("b", "x"): 2}), Tally({("a", "y"): 4, ("a", "x"): 1})
    total = one + two
    assert total.n == 8
    assert (total.count(kind="a"), total.count(label="x"), total.count(kind="a", label="x")) == (6, 4, 2)
    assert (total.kinds, total.labels) == (("a", "b"), ("x", "y"))
    assert list(total.by_label().items()) == [("x", 4), ("y", 4)]
    assert one + Tally() == one
    assert one.n == 3
