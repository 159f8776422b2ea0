"""Pictures and pages of a trace: every state, link and mark that is drawn is in the data, and the files repeat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from tests.report.browser import visit
from tests.report.traces import clean_trace, empty_trace, stalled_trace
from yieldkit.emulator.trace import CORE_STATES, Trace
from yieldkit.errors import BadInput, BadSpec
from yieldkit.report import ReportData, figures_trace, render_report, report_of, trace_view, write_trace
from yieldkit.report.data import TraceView
from yieldkit.report.traces import busiest_links, trace_of, write_trace_report


def axes():
    return Figure(figsize=(8, 5)).add_subplot()


def drawn_area(axes_, name):
    """Cycles times cores that a state covers."""
    colour = to_rgba(figures_trace.STATE_LOOKS[name][0])
    patches = [p for p in axes_.patches if isinstance(p, PathPatch) and p.get_facecolor() == colour]
    if not patches:
        return 0.0
    (patch,) = patches
    corners = patch.get_path().vertices.reshape(-1, 5, 2)
    return float((np.ptp(corners[:, :, 0], axis=1)).sum())


def test_drawing_returns_the_axes_it_was_given():
    trace, given = stalled_trace(), [axes() for _ in range(4)]
    assert figures_trace.draw_cores(given[0], trace) is given[0]
    assert figures_trace.draw_shares(given[1], trace) is given[1]
    assert figures_trace.draw_links(given[2], trace, "E", row=1) is given[2]
    assert figures_trace.draw_link_map(given[3], trace, -1) is given[3]


def test_bars_cover_what_the_states_say():
    trace = clean_trace()
    drawn = figures_trace.draw_cores(axes(), trace)
    for code, name in enumerate(CORE_STATES[:3]):
        assert drawn_area(drawn, name) == 10 * (trace.states == code).sum()
    one = figures_trace.draw_cores(axes(), trace, row=2)
    assert drawn_area(one, "busy") == 10 * (trace.states[:, 2] == 0).sum()
    column = figures_trace.draw_cores(axes(), trace, col=5)
    assert drawn_area(column, "starved") == 10 * (trace.states[:, :, 5] == 1).sum()


def test_a_stall_has_its_strip_its_line_and_its_first_cores():
    trace = stalled_trace(2, 6)
    drawn = figures_trace.draw_cores(axes(), trace)
    # Three cores are blocked from 70 to 200 and on to the end of the strip at 221.
    assert drawn_area(drawn, "blocked") == pytest.approx(3 * (130 + 21))
    texts = [text.get_text() for text in drawn.texts]
    assert "nothing moves after cycle 200" in texts
    assert [text for text in texts if text in "123"] == ["1", "2", "3"]
    assert "1: core (1, 3) starved since cycle 60, colour 1" in drawn.get_xlabel()
    marks = [line for line in drawn.get_lines() if line.get_marker() == ">"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [(60, 9), (60, 10), (60, 11)]
    clean = figures_trace.draw_cores(axes(), clean_trace())
    assert not clean.texts
    assert clean.get_xlim() == (0, 200)


def test_colour_and_shape_both_tell_states_apart():
    looks = figures_trace.STATE_LOOKS
    assert set(looks) == set(CORE_STATES)
    waits = [looks["starved"], looks["blocked"]]
    assert len({colour for colour, _ in looks.values()}) == 4
    assert all(hatch for _, hatch in waits)
    assert waits[0][1] != waits[1][1]


def test_links_show_words_a_cycle():
    trace = clean_trace()
    drawn = figures_trace.draw_links(axes(), trace, "E", row=0)
    (mesh,) = drawn.collections
    values = np.asarray(mesh.get_array()).reshape(trace.cols, trace.bins)
    assert np.array_equal(values, trace.occupancy[:, 0, :, 1].T)
    values, cores = figures_trace.links_of(trace, "S", None, None)
    assert cores[:5] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)]
    whole, _ = figures_trace.links_of(trace, None, None, None)
    assert whole.sum() == pytest.approx(trace.occupancy[..., :4].sum())
    assert values.sum() == 0


def test_many_links_are_averaged_and_none_is_lost():
    trace = clean_trace(20, 30, 40)
    drawn = figures_trace.draw_links(axes(), trace, "E")
    values = np.asarray(drawn.collections[0].get_array()).reshape(-1, trace.bins)
    assert values.shape[0] == 200
    assert 3 * values.sum() == pytest.approx(trace.occupancy[..., 1].sum())
    assert "mean of 3 links a line" in drawn.get_title(loc="left")


def test_shares_add_up_to_all_cores():
    drawn = figures_trace.draw_shares(axes(), stalled_trace())
    tops = [float(area.get_paths()[0].vertices[:, 1].max()) for area in drawn.collections]
    assert tops == sorted(tops)
    assert tops[-1] == 24


def test_the_map_rings_the_first_cores():
    drawn = figures_trace.draw_link_map(axes(), stalled_trace(), 12)
    rings = [line for line in drawn.get_lines() if line.get_markerfacecolor() == "none"]
    assert {(line.get_xdata()[0], line.get_ydata()[0]) for line in rings} == {(3, 1), (4, 1), (5, 1)}
    (lines,) = [c for c in drawn.collections if len(c.get_paths()) == 2 * (3 * 6 + 4 * 5)]
    assert np.asarray(lines.get_array()).sum() == pytest.approx(stalled_trace().occupancy[12, ..., :4].sum())
    big = figures_trace.draw_link_map(axes(), empty_trace(50, 50, 2), 0)
    assert len(big.collections) == 1


@pytest.mark.parametrize(("call", "said"), [
    (lambda a, t: figures_trace.draw_cores(a, t, row=4), "the trace has 4 rows, got 4"),
    (lambda a, t: figures_trace.draw_links(a, t, "E", col=-1), "the trace has 6 cols, got -1"),
    (lambda a, t: figures_trace.draw_links(a, t, "Q"), "port must be N, E, S or W"),
    (lambda a, t: figures_trace.draw_link_map(a, t, 20), "the trace has 20 bins, got 20"),
])  # fmt: skip
def test_what_is_not_there_is_refused(call, said):
    with pytest.raises(BadInput, match=said):
        call(axes(), clean_trace())


def test_a_view_gives_its_trace_back():
    trace = stalled_trace()
    back = trace_of(trace_view(trace, name="x"))
    assert np.array_equal(back.hops, trace.hops)
    assert np.array_equal(back.blocked, trace.blocked)
    assert (back.summary, back.waiting, back.launch) == (trace.summary, trace.waiting, trace.launch)
    assert trace_of(trace_view(clean_trace(bins=400), name="x")).bins == 134


@pytest.mark.parametrize("change", [
    {"hops": "AAAA"}, {"cycles": 9999}, {"waiting": ((9, 9, "HALTED", 0, 0),)}, {"waiting": ((0, 0, "BORED", 0, 0),)},
    {"bins": 19}, {"rows": 0},
])  # fmt: skip
def test_a_view_that_contradicts_itself_is_refused(change):
    good = trace_view(stalled_trace(), name="x").model_dump()
    TraceView.model_validate(good)
    with pytest.raises(BadSpec, match=r"traces\.views\.0"):
        ReportData.from_dict({"title": "t", "traces": {"views": [{**good, **change}]}})


def test_busiest_links_by_hand():
    trace = empty_trace(2, 2, 2)
    trace.hops[:, 0, 1, 3] = 5, 1
    trace.hops[:, 1, 0, 0] = 0, 8
    trace.hops[:, 1, 1, 4] = 9
    assert busiest_links(trace) == [(1, 0, "N", 8, 0.4), (0, 1, "W", 6, 0.3)]


def test_the_page_opens_and_says_who_stopped_first(tmp_path: Path):
    named = [("clean", clean_trace()), ("with a lost word", stalled_trace())]
    path = write_trace_report(named, tmp_path / "t.html", title="two runs")
    seen = visit(path, tmp_path)
    assert seen.console == ()
    for said in (
        "24 cores ended after 200 cycles",
        "nothing moves after cycle 200; 6 of 24 cores wait, the first is (1, 3), starved since cycle 60",
        'id="trace1-cores-', 'id="trace2-map-', "waiting_2.csv", "links_1.csv", '<section id="traces">',
    ):  # fmt: skip
        assert said in seen.dom, said
    ids = [part.split('"')[0] for part in seen.dom.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_a_report_without_traces_has_no_such_section():
    view = trace_view(stalled_trace(), name="<b>x</b>", text="</section>")
    assert 'id="traces"' not in render_report(report_of(title="t"))
    text = render_report(report_of(title="t", traces=[view]))
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    data = report_of(title="t", traces=[view])
    assert render_report(ReportData.model_validate_json(data.to_json())) == text


def test_files_by_their_ending(tmp_path: Path):
    from matplotlib.image import imread

    trace = stalled_trace()
    paths = {form: write_trace(trace, tmp_path / f"t.{form}") for form in ("png", "svg", "html", "npz")}
    pixels = np.round(imread(paths["png"])[..., :3] * 255).astype(int)
    for colour in ((0xD5, 0x5E, 0x00), (0xF0, 0xE4, 0x42), (0x00, 0x72, 0xB2)):
        assert (pixels == colour).all(axis=2).sum() > 1000, colour
    assert paths["svg"].read_text().startswith("<?xml")
    assert np.array_equal(Trace.load(paths["npz"]).hops, trace.hops)
    assert write_trace(trace, tmp_path / "again.svg").read_bytes() == paths["svg"].read_bytes()
    for wrong in ("t.pdf", "t"):
        with pytest.raises(BadInput, match=r"\.html, \.npz, \.png, \.svg"):
            write_trace(trace, tmp_path / wrong)
    with pytest.raises(BadInput, match="at least one trace"):
        write_trace_report([], tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_a_fabric_of_thousands_of_cores_is_drawn_by_shares(tmp_path: Path):
    trace = stalled_trace(40, 40, 60, core=(20, 10))
    names = [name for name, *_ in figures_trace.panels(trace)]
    assert names == ["shares", "cores", "links_E", "map"]
    assert write_trace(trace, tmp_path / "t.svg").stat().st_size < 1_000_000
