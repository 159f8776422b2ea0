"""Charts take axes and give them back; their SVG needs no inline style."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from yieldkit.report import figures


def test_drawing_returns_the_axes_it_was_given() -> None:
    given = [Figure().add_subplot() for _ in range(5)]
    assert (
        figures.draw_training(given[0], [3.0, None, 1.0], references=[("bigram", 2.0)], held_out=[(1, 2.0)]) is given[0]
    )
    assert figures.draw_losses(given[1], [3.0, 2.0], [("trial 1", [3.0, None])]) is given[1]
    assert figures.draw_yields(given[2], [("Poisson", 0.5, None, None), ("simulated", 0.9, 0.8, 0.95)]) is given[2]
    assert figures.draw_outcomes(given[3], {"a": {"x": 1}, "b": {}}, ["x", "y"]) is given[3]
    assert figures.draw_displacement(given[4], np.zeros((3, 4), dtype=np.int16)) is given[4]


def test_the_last_finite_value_before_a_nan_is_crossed() -> None:
    drawn = figures.draw_losses(Figure().add_subplot(), [5.0, 4.0, 3.0], [("t", [5.0, 4.5, None])])
    cross = [line for line in drawn.get_lines() if line.get_marker() == "x"]
    assert [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in cross] == [(1.0, 4.5)]  # type: ignore[index]


def test_a_loss_beyond_the_axis_is_marked_and_named() -> None:
    drawn = figures.draw_losses(
        Figure().add_subplot(), [5.0, 4.0, 3.0], [("spike", [5.0, 1e36, 3.1]), ("t", [5, 4, 3])]
    )
    assert drawn.get_ylim()[1] < 10.0
    mark = [line for line in drawn.get_lines() if line.get_marker() == "^"]
    assert [list(line.get_xdata()) for line in mark] == [[1]]  # type: ignore[arg-type]
    assert "spike (up to 1e+36)" in [line.get_label() for line in drawn.get_lines()]


def test_shares_add_up_to_all_trials() -> None:
    drawn = figures.draw_outcomes(Figure().add_subplot(), {"a": {"x": 1, "y": 3}}, ["x", "y"])
    assert [patch.get_width() for patch in drawn.patches] == pytest.approx([25.0, 75.0])  # type: ignore[attr-defined]


def test_svg_has_no_style_prefixed_ids_and_repeats() -> None:
    def one() -> str:
        return figures.render(
            lambda place: figures.draw_outcomes(place, {"a": {"x": 1, "y": 3}}, ["x", "y"]),
            name="fig",
            width=6,
            height=2,
            title='a "title"',
        )

    text = one()
    assert text == one()
    assert "style" not in text
    assert "<metadata" not in text
    assert "http" not in text
    assert all(name.startswith("fig-") for name in re.findall(r'\bid="([^"]*)"', text))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert f'id="{target}"' in text
    assert 'aria-label="a &quot;title&quot;"' in text
