"""The defects of an inspected wafer laid over another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yieldkit.defects import Defects
from yieldkit.errors import BadInput
from yieldkit.wafer import WaferSpec
from yieldkit.wafermap import DefectTable, WaferMap, read_wafer_map

FILE = Path(__file__).resolve().parents[2] / "data" / "two-wafers.klarf"
WSE3 = WaferSpec.preset("wse3")


def test_kept_or_scaled_and_said_so() -> None:
    wmap = read_wafer_map(FILE, wafer_id="A1")
    kept = Defects.from_wafer_map(wmap, WSE3, place="keep")
    scaled = Defects.from_wafer_map(wmap, WSE3, place="scale")
    assert len(kept) == len(scaled) == 24
    assert kept.x_mm == pytest.approx(wmap.defects.x_mm)
    assert scaled.x_mm == pytest.approx(1.5 * wmap.defects.x_mm)
    assert scaled.y_mm == pytest.approx(1.5 * wmap.defects.y_mm)
    assert "left at their place" in kept.notes[0]
    assert "200 mm wafer on a 300 mm wafer, scaled by 1.5" in scaled.notes[0]
    assert kept.source == "two-wafers.klarf, wafer A1"
    assert kept.notes[0] in kept._repr_html_()


def test_sizes_of_the_file_only_when_asked() -> None:
    wmap = read_wafer_map(FILE, wafer_id="A2")
    assert np.isnan(Defects.from_wafer_map(wmap, WSE3).size_um).all()
    sized = Defects.from_wafer_map(wmap, WSE3, sizes="file")
    assert (sized.size_um == wmap.defects.size_um).all()
    assert "sizes as in the file" in sized.notes[0]


@pytest.mark.parametrize(
    ("notch", "mirrored", "expected"),
    [
        # A defect right at the notch has to end at the bottom, whatever way the wafer lay.
        ("down", False, (0.0, -90.0)),
        ("up", False, (0.0, -90.0)),
        ("left", False, (0.0, -90.0)),
        ("right", False, (0.0, -90.0)),
        ("left", True, (0.0, 90.0)),
    ],
)
def test_the_notch_is_turned_down(notch: str, mirrored: bool, expected: tuple[float, float]) -> None:
    x, y = {"down": (0.0, -90.0), "up": (0.0, 90.0), "left": (-90.0, 0.0), "right": (90.0, 0.0)}[notch]
    table = DefectTable(np.array([x]), np.array([y]), np.zeros((1, 2), np.int32), np.array([1.0]))
    wmap = WaferMap(
        wafer_id="1",
        diameter_mm=200.0,
        die_pitch_mm=(1.0, 1.0),
        n_dies=1,
        dies=np.zeros((1, 2), np.int32),
        defects=table,
        notch=notch,  # type: ignore[arg-type]
        mirrored=mirrored,
    )
    found = Defects.from_wafer_map(wmap, WSE3)
    assert (found.x_mm[0], found.y_mm[0]) == pytest.approx(expected)


def test_turning_keeps_the_hand() -> None:
    # East of a notch that is up lies west once it is down: a turn, not a mirror image.
    table = DefectTable(np.array([10.0]), np.array([90.0]), np.zeros((1, 2), np.int32), np.array([1.0]))
    wmap = WaferMap("1", 200.0, (1.0, 1.0), 1, np.zeros((1, 2), np.int32), table, notch="up")
    found = Defects.from_wafer_map(wmap, WSE3)
    assert (found.x_mm[0], found.y_mm[0]) == (-10.0, -90.0)


def test_wrong_options_are_refused() -> None:
    wmap = read_wafer_map(FILE, wafer_id="A1")
    with pytest.raises(BadInput, match="place must be 'keep' or 'scale', got 'fit'"):
        Defects.from_wafer_map(wmap, WSE3, place="fit")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="sizes must be"):
        Defects.from_wafer_map(wmap, WSE3, sizes="optical")  # type: ignore[arg-type]


def test_defects_by_hand_are_checked() -> None:
    assert len(Defects.at([(0, 0), (1, 2)])) == 2
    with pytest.raises(BadInput, match="finite"):
        Defects.at([(0, float("nan"))])
    with pytest.raises(BadInput, match="size_um must be positive"):
        Defects.at([(0, 0)], size_um=0.0)
    with pytest.raises(BadInput, match="one length"):
        Defects(np.zeros(2), np.zeros(1), np.ones(2), np.zeros(2, np.int16))
