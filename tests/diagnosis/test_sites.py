"""Localisation from a scan, and wait-for graphs."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.diagnosis import cases
from yieldkit.diagnosis import SiteCandidate, classify
from yieldkit.diagnosis.localise import LIMIT
from yieldkit.diagnosis.waiting import find_cycle, frontier, wait_for
from yieldkit.emulator.symptoms import ConfigScan, CoreScan, LinkScan, Symptoms


def sites(symptoms: Symptoms) -> list[tuple[str, int, int]]:
    return [(site.kind, site.row, site.col) for site in classify(symptoms).site_candidates]


def test_the_link_that_lost_a_word_is_blamed() -> None:
    verdict = classify(cases.stalled(link_mismatch=(cases.GAP,)))
    (site,) = verdict.site_candidates
    assert (site.kind, site.row, site.col, site.drow, site.dcol, site.colour) == ("link", 3, 4, 0, 1, 2)
    assert site.link == (3, 4, 0, 1)
    assert "sent 10, received 9" in site.reason


def test_a_westward_link_has_the_key_of_its_smaller_end() -> None:
    assert SiteCandidate("link", 3, 5, 0.5, drow=0, dcol=-1).link == (3, 4, 0, 1)
    assert SiteCandidate("link", 3, 5, 0.5, drow=-2, dcol=1).link == (1, 6, 2, -1)
    assert SiteCandidate("core", 3, 5, 0.5).link is None


def test_the_larger_difference_comes_first_and_confidences_share_the_whole() -> None:
    other = LinkScan(0, 0, 1, 0, colour=1, sent=10, received=7)
    found = classify(cases.stalled(link_mismatch=(cases.GAP, other))).site_candidates
    assert [site.row for site in found] == [0, 3]
    assert found[0].confidence == 3 * found[1].confidence


def test_the_core_with_the_wrong_control_word_is_blamed_over_the_starved_ones() -> None:
    assert sites(cases.stalled(config_mismatch=(cases.FLIP,), link_mismatch=(cases.GAP,))) == [("core", 5, 6)]
    assert sites(cases.crashed(config_mismatch=(cases.FLIP,))) == [("core", 5, 6)]
    assert sites(replace(cases.CLEAN, config_mismatch=(cases.FLIP,))) == [("core", 5, 6)]


def test_a_halted_core_is_blamed() -> None:
    assert sites(cases.crashed()) == [("core", 7, 8)]


def test_an_event_is_blamed_on_its_core() -> None:
    assert sites(cases.events("parity")) == [("core", 1, 2)]


def test_without_better_evidence_the_earliest_starved_core_is_blamed() -> None:
    assert sites(cases.stalled()) == [("core", 3, 5)]


def test_a_clean_run_blames_nobody() -> None:
    assert sites(cases.CLEAN) == []
    assert sites(cases.deadlocked()) == []


def test_long_lists_are_cut() -> None:
    many = tuple(ConfigScan(row, 0, "task") for row in range(100))
    verdict = classify(cases.stalled(config_mismatch=many))
    assert len(verdict.site_candidates) == LIMIT
    assert sum(site.confidence for site in verdict.site_candidates) < 0.2


class Line:
    """Words flow along a row, west to east."""

    def sources(self, row: int, col: int, colour: int) -> tuple[tuple[int, int], ...]:
        return ((row, col - 1),)

    def sinks(self, row: int, col: int, colour: int) -> tuple[tuple[int, int], ...]:
        return ((row, col + 1),)


class Circle:
    """(0, 0) and (0, 1) feed each other."""

    def sources(self, row: int, col: int, colour: int) -> tuple[tuple[int, int], ...]:
        return ((row, 1 - col),)

    sinks = sources


def test_wiring_makes_the_frontier_exact() -> None:
    """Cores 3 to 6 of a row starve in the same task; core 2 has finished, so it owes core 3."""
    waiting = tuple(CoreScan(0, col, "INPUT_STARVATION", task=4, colour=1) for col in (6, 4, 5, 3))
    run = cases.stalled(waiting=waiting)
    assert {core.col for core in frontier(run)} == {3, 4, 5, 6}
    assert [core.col for core in frontier(run, Line())] == [3]


def test_two_starved_cores_are_a_deadlock_only_if_the_routes_say_so() -> None:
    waiting = tuple(CoreScan(0, col, "INPUT_STARVATION", task=1, colour=1) for col in (0, 1))
    run = cases.stalled(waiting=waiting)
    assert classify(run).code == "INCONCLUSIVE"
    assert classify(run, wiring=Line()).code == "INCONCLUSIVE"
    assert classify(run, wiring=Circle()).code == "STALL_DEADLOCK"


def test_the_graph_of_the_square() -> None:
    graph = wait_for(cases.deadlocked())
    assert graph == {(0, 0): ((0, 1),), (0, 1): ((1, 1),), (1, 1): ((1, 0),), (1, 0): ((0, 0),)}
    assert find_cycle(graph) == ((0, 0), (0, 1), (1, 1), (1, 0))


def closed(graph: dict[tuple[int, int], tuple[tuple[int, int], ...]]) -> bool:
    """Oracle: some node reaches itself, by transitive closure."""
    reach = {node: set(targets) for node, targets in graph.items()}
    for middle in graph:
        for node in graph:
            if middle in reach[node]:
                reach[node] |= reach[middle]
    return any(node in targets for node, targets in reach.items())


NODES = [(row, col) for row in range(3) for col in range(3)]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from([*NODES, (9, 9)])), max_size=14))
def test_cycles_are_found_exactly_when_there_is_one(edges: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    graph = {node: tuple(b for a, b in edges if a == node) for node in NODES}
    cycle = find_cycle(graph)
    assert bool(cycle) == closed(graph)
    for node, nxt in zip(cycle, (*cycle[1:], *cycle[:1]), strict=True):
        assert nxt in graph[node]
    if cycle:
        assert cycle[0] == min(cycle)


def test_a_very_long_chain_does_not_exhaust_the_stack() -> None:
    graph = {(0, col): ((0, col + 1),) for col in range(200_000)}
    assert find_cycle(graph) == ()
    graph[0, 199_999] = ((0, 0),)
    assert len(find_cycle(graph)) == 200_000
