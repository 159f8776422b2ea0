"""Places on the wafer against the plain definition, site by site."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from yieldkit.errors import BadInput, BadSpec
from yieldkit.wafer import WaferSpec

MINI: dict[str, Any] = WaferSpec.preset("mini").model_dump(mode="json")


@st.composite
def wafers(draw: st.DrawFn) -> WaferSpec:
    fields = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    cores = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    rows, cols = fields[0] * cores[0], fields[1] * cores[1]
    holes = draw(
        st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, cols - 1)), max_size=3).map(
            lambda sites: [{"row": r, "col": c} for r, c in sites]
        )
    )
    data = {
        **MINI,
        "diameter_mm": draw(st.floats(20, 120)),
        "edge_exclusion_mm": draw(st.sampled_from([0.0, 1.5])),
        "enabled_cores": 1,
        "holes": holes,
        "reticle": {
            "rows": fields[0],
            "cols": fields[1],
            "field_width_mm": draw(st.floats(5, 40)),
            "field_height_mm": draw(st.floats(5, 40)),
            "core_rows": cores[0],
            "core_cols": cores[1],
        },
        "logical": {"rows": 1, "cols": 1, "first_row": rows // 2},
    }
    try:
        return WaferSpec.from_dict(data)
    except BadSpec:
        assume(False)
        raise


def _is_there(wafer: WaferSpec, row: int, col: int) -> bool:
    """The definition: all four corners inside the edge, and in no hole."""
    x, y = wafer.xy_mm(row, col)
    w, h = wafer.core_pitch_mm
    radius = wafer.diameter_mm / 2 - wafer.edge_exclusion_mm
    corners = [math.hypot(x + sx * w / 2, y + sy * h / 2) for sx in (-1, 1) for sy in (-1, 1)]
    if any(hole.row == row and hole.col == col for hole in wafer.holes):
        return False
    return max(corners) <= radius * (1 + 1e-9)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(wafers())
def test_sites_are_there_by_the_definition(wafer: WaferSpec) -> None:
    rows, cols = wafer.shape
    mask = wafer.present_mask()
    expected = np.array([[_is_there(wafer, r, c) for c in range(cols)] for r in range(rows)])
    assert (mask == expected).all()
    assert wafer.physical_cores == expected.sum()
    asked = np.array([[wafer.is_present(r, c) for c in range(cols)] for r in range(rows)])
    assert (asked == expected).all()
    assert not wafer.is_present(-1, 0)
    assert not wafer.is_present(0, cols)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(wafers(), st.integers(0, 1000))
def test_places_and_cores_there_and_back(wafer: WaferSpec, seed: int) -> None:
    rows, cols = wafer.shape
    for row in range(rows):
        for col in range(cols):
            found = wafer.core_at_mm(*wafer.xy_mm(row, col))
            assert found == ((row, col) if wafer.is_present(row, col) else None)
    x, y = np.random.Generator(np.random.Philox(seed)).uniform(-70, 70, (2, 50))
    at = wafer.cores_at_mm(x, y)
    width, height = wafer.core_pitch_mm
    for i in range(50):
        site = wafer.core_at_mm(float(x[i]), float(y[i]))
        assert (int(at[0][i]), int(at[1][i])) == (site or (-1, -1))
        if site is not None:
            centre = wafer.xy_mm(*site)
            assert abs(centre[0] - x[i]) <= width / 2 * (1 + 1e-9)
            assert abs(centre[1] - y[i]) <= height / 2 * (1 + 1e-9)


def test_row_0_is_north_and_x_runs_east() -> None:
    wafer = WaferSpec.preset("wse3")
    assert wafer.xy_mm(0, 100)[1] > 0 > wafer.xy_mm(wafer.shape[0] - 1, 100)[1]
    assert wafer.xy_mm(600, 0)[0] < 0 < wafer.xy_mm(600, wafer.shape[1] - 1)[0]


def test_fields() -> None:
    wafer = WaferSpec.preset("wse3")
    assert wafer.reticle_of(0, 0) == (0, 0)
    assert wafer.reticle_of(174, 66) == (0, 1)
    assert wafer.reticle_of(175, 65) == (1, 0)
    assert wafer.reticle_of(1224, 791) == (6, 11)
    with pytest.raises(BadInput, match="outside the 1225 x 792 grid"):
        wafer.reticle_of(1225, 0)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(wafers())
def test_silicon_area_is_the_integral(wafer: WaferSpec) -> None:
    width, height = wafer.array_mm
    radius = wafer.diameter_mm / 2 - wafer.edge_exclusion_mm
    y = (np.arange(200_000) + 0.5) / 200_000 * height - height / 2
    chord = 2 * np.sqrt(np.maximum(radius**2 - y**2, 0))
    assert wafer.silicon_mm2 == pytest.approx(np.minimum(chord, width).mean() * height, rel=1e-5)


def test_spans_cannot_be_changed_and_cost_kilobytes() -> None:
    wafer = WaferSpec.preset("wse3")
    assert wafer.spans.dtype == np.int32
    assert wafer.spans.nbytes < 16_384
    with pytest.raises(ValueError, match="read-only"):
        wafer.spans[0, 0] = 5
