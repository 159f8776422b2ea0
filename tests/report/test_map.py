"""The wafer map: states, runs of logical columns, the picture, markers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.sample import wafer
from yieldkit.errors import BadInput
from yieldkit.report import site_states, wafer_section
from yieldkit.report.packing import unpack
from yieldkit.report.wafer_map import KINDS, MARKER_LIMIT, STATES, markers, palette_png


def test_states_of_a_row_drawn_by_hand() -> None:
    """Columns 0..9: off the wafer, spare, used, dead, used, bypassed, marginal, used, spare, off the wafer."""
    present = np.array([[0, 1, 1, 1, 1, 1, 1, 1, 1, 0]], dtype=bool)
    core_of = np.array([[[0, 2], [0, 4], [0, 7]]])
    states = site_states((1, 10), present=present, dead=[(0, 3)], marginal=[(0, 6)], core_of=core_of)
    assert [STATES[code].id for code in states[0]] == [
        *("absent", "spare", "used", "dead", "used", "bypassed", "marginal", "used", "spare", "absent")
    ]
    assert wafer_section("x", states, core_of=core_of).runs == (((2, 1, 0, 0), (4, 1, 0, 1), (7, 1, 0, 2)),)


def test_without_a_plan_healthy_sites_count_as_used() -> None:
    assert (site_states((2, 3)) == 1).all()
    assert wafer_section("x", site_states((2, 3))).runs == ()


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 2**32 - 1), st.data())
def test_runs_say_what_core_of_says(height: int, width: int, seed: int, data: Any) -> None:
    draw = np.random.Generator(np.random.Philox(seed))
    rows, cols = height + data.draw(st.integers(0, 3)), width + data.draw(st.integers(0, 5))
    lines = np.sort(draw.permutation(rows)[:height])
    core_of = np.zeros((height, width, 2), dtype=np.int32)
    for row in range(height):
        core_of[row, :, 0] = lines[row]
        core_of[row, :, 1] = np.sort(draw.permutation(cols)[:width])
    section = wafer_section("x", site_states((rows, cols), core_of=core_of), core_of=core_of)
    found = {
        (row, col + step): (logical, first + step)
        for row, runs in enumerate(section.runs)
        for col, length, logical, first in runs
        for step in range(length)
    }
    wanted = {(int(core_of[r, c, 0]), int(core_of[r, c, 1])): (r, c) for r in range(height) for c in range(width)}
    assert found == wanted
    for runs in section.runs:
        assert list(runs) == sorted(runs)


def test_the_picture_has_one_pixel_per_core_in_the_colour_of_its_state() -> None:
    from matplotlib.image import imread

    section = wafer()
    grid = unpack(section.states, (section.rows, section.cols), "uint8")
    pixels = np.round(imread(io.BytesIO(palette_png(section)), format="png")[..., :3] * 255).astype(int)
    wanted = np.array([[int(kind.colour[i : i + 2], 16) for i in (1, 3, 5)] for kind in STATES])
    assert (pixels == wanted[grid]).all()


def test_every_faulty_site_has_a_marker_and_blamed_ones_lie_on_top() -> None:
    section = wafer()
    grid = unpack(section.states, (section.rows, section.cols), "uint8")
    chosen, told = markers(section)
    for code, name in ((3, "bypassed"), (4, "marginal"), (5, "dead")):
        sites = {(int(row), int(col)) for row, col in np.argwhere(grid == code)}
        assert sites
        assert {(row, col) for kind, row, col, _, _ in chosen if kind == name} == sites
        assert (name, len(sites), len(sites)) in told
    assert chosen[-1][0] == "blamed"


def test_patches_beyond_the_limit_are_marked_only_where_they_would_vanish() -> None:
    states = np.full((200, 200), 1, dtype=np.uint8)
    states[50:120, 50:120] = 5
    states[10, 10] = 5
    chosen, told = markers(wafer_section("x", states))
    assert chosen == [("dead", 10, 10, 0, 0)]
    assert told == [("dead", 1, 70 * 70 + 1)]
    assert told[0][2] > MARKER_LIMIT


def test_kinds_differ_in_colour_and_shape() -> None:
    looks = [(kind.colour, kind.shape) for kind in KINDS]
    assert len(set(looks)) == len(looks)
    shapes = [kind.shape for kind in KINDS if kind.shape and kind.shape != "bar"]
    assert len(set(shapes)) == len(shapes)


def test_wrong_grids_are_refused() -> None:
    for grid in (np.zeros(3), np.full((2, 2), 9), np.zeros((0, 3))):
        with pytest.raises(BadInput, match="states"):
            wafer_section("x", grid.astype(np.uint8))
