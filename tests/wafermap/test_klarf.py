"""What the KLARF reader makes of good files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.real_data import real_data
from tests.wafermap.klarf_text import END, HEADER, SPEC, summary, wafer
from yieldkit.defects import Poisson
from yieldkit.errors import BadFile, BadInput
from yieldkit.wafermap import WaferMap, read_wafer_map, read_wafer_maps

SYNTHETIC = Path(__file__).resolve().parents[2] / "data" / "two-wafers.klarf"


def _read(tmp_path: Path, text: str, *, encoding: str = "utf-8") -> list[WaferMap]:
    path = tmp_path / "made.001"
    path.write_bytes(text.encode(encoding))
    return read_wafer_maps(path)


def test_the_synthetic_file() -> None:
    first, second = read_wafer_maps(SYNTHETIC)
    assert (first.wafer_id, second.wafer_id) == ("A1", "A2")
    assert (first.lot_id, first.device, first.step, first.slot) == ("SYNTHETIC", "EXAMPLE", "METAL 1", "1")
    assert (first.n_dies, first.n_good, first.n_bad, len(first.defects)) == (147, 128, 19, 24)
    assert (second.n_dies, second.n_bad, len(second.defects)) == (147, 9, 9)
    assert first.diameter_mm == 200
    assert first.die_pitch_mm == (12.0, 15.0)
    assert (np.hypot(first.defects.x_mm, first.defects.y_mm) <= 100).all()
    # The six defects of the cluster that the script puts at (30, -40) mm.
    assert (np.hypot(first.defects.x_mm[18:] - 30, first.defects.y_mm[18:] + 40) < 20).all()
    assert first.notes == ()


def test_tables(tmp_path: Path) -> None:
    first = read_wafer_map(SYNTHETIC, wafer_id="A1")
    dies = first.to_frame()
    assert len(dies) == 147
    assert int(dies["n_defects"].sum()) == 24
    assert int(dies["good"].sum()) == first.n_good
    defects = first.defects.to_frame()
    assert {"x_mm", "y_mm", "die_x", "die_y", "size_um", "DEFECTAREA", "TEST"} <= set(defects.columns)
    assert "A1" in first._repr_html_()
    # No plan in the file: only the dies with defects are known one by one.
    (bare,) = _read(tmp_path, HEADER + wafer() + summary(1, 50) + END)
    assert bare.to_frame().to_dict("list") == {"die_x": [2], "die_y": [-1], "n_defects": [1], "good": [False]}
    assert (bare.n_dies, bare.n_good) == (50, 49)


def test_places_and_sizes(tmp_path: Path) -> None:
    (found,) = _read(tmp_path, HEADER + wafer() + END)
    # x = 2 * 10,000 + 100 - 5,000 µm; y = -1 * 20,000 + 200 - 10,000 µm.
    assert found.defects.x_mm.tolist() == [15.1]
    assert found.defects.y_mm.tolist() == [-29.8]
    assert found.defects.size_um.tolist() == [4.0]
    assert found.lot_id == "L;1"


@pytest.mark.parametrize(
    ("rows", "spec", "n"),
    [
        ("", SPEC, 0),
        (" 1 0 0 0 0 1 1 0\n 2 0 0 0 1 1 1 0", SPEC, 2),
        (" 1 0 0 0 0\n 1 1 0\n 2 0 0 0 1 1\n 1 0", SPEC, 2),
        # Two images without a column for their list: pairs on the same line.
        (" 1 0 0 0 0 1 1 2 7 0 8 0\n 2 0 0 0 1 1 1 0", SPEC, 2),
        # With an IMAGELIST column: its own count, then pairs, on one line or on the next.
        (
            " 1 0 0 0 0 2 2 9 0 10 0\n 2 0 0 0 0 0 0\n 3 0 0 0 0 1 1\n 39 1",
            "DefectRecordSpec 7 DEFECTID XREL YREL XINDEX YINDEX IMAGECOUNT IMAGELIST;\n",
            3,
        ),
    ],
)
def test_rows_and_images(tmp_path: Path, rows: str, spec: str, n: int) -> None:
    (found,) = _read(tmp_path, HEADER + wafer(defects=rows, spec=spec) + END)
    assert len(found.defects) == n


def test_header_holds_for_the_wafers_after_it(tmp_path: Path) -> None:
    text = HEADER + wafer("a") + "SampleCenterLocation 0 0;\nStepID T;\n" + wafer("b", defects="") + END
    first, second = _read(tmp_path, text)
    assert (first.wafer_id, second.wafer_id) == ("a", "b")
    assert second.lot_id == first.lot_id == "L;1"
    assert len(second.defects) == 0
    assert second.n_bad == 0


def test_several_lists_and_other_statements_between(tmp_path: Path) -> None:
    text = HEADER + wafer() + 'TiffFileName a.jpg;\nDefectList\n 2 0 0 3 3 1 1 0;\nNewField 3 "x;y";\n' + END
    (found,) = _read(tmp_path, text)
    assert found.defects.columns["DEFECTID"].tolist() == [1, 2]


def test_line_ends_marks_and_encodings(tmp_path: Path) -> None:
    text = HEADER + wafer("\u00e9") + END
    for variant, encoding in ((text.replace("\n", "\r\n"), "utf-8"), ("\ufeff" + text, "utf-8"), (text, "latin-1")):
        (found,) = _read(tmp_path, variant, encoding=encoding)
        assert found.wafer_id == "\u00e9"


def test_a_file_that_contradicts_itself_says_so(tmp_path: Path) -> None:
    (found,) = _read(tmp_path, HEADER + wafer() + summary(40, 0) + END)
    assert found.notes == (
        "SummaryList announces 40 defects, the list has 1",
        "the file gives 0 inspected dies, 1 have defects",
    )
    (found,) = _read(tmp_path, HEADER + wafer(spec="SampleTestPlan 1\n 9 9;\n" + SPEC) + END)
    assert found.n_dies == 2
    assert "not in SampleTestPlan" in found.notes[0]


def test_choosing_a_wafer(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds 2 wafers; choose one by wafer_id: A1, A2"):
        read_wafer_map(SYNTHETIC)
    with pytest.raises(BadInput, match="holds no such wafer, got 'A3'; it holds: A1, A2"):
        read_wafer_map(SYNTHETIC, wafer_id="A3")
    path = tmp_path / "twice.001"
    path.write_text(HEADER + wafer("a") + wafer("a") + END)
    with pytest.raises(BadInput, match="2 wafers of this wafer_id"):
        read_wafer_map(path, wafer_id="a")


# Published goldens: defects, dies, defective dies and the area of a die; the last digit printed.


def test_golden_three_wafers_of_klarf_1_2() -> None:
    maps = read_wafer_maps(real_data("klarf/QUU_NUU.000"))
    assert [one.wafer_id for one in maps] == ["02", "06", "01"]
    assert [len(one.defects) for one in maps] == [56, 36, 95]
    first = maps[0]
    assert (len(first.defects), first.n_dies, first.n_bad, first.diameter_mm) == (56, 4306, 37, 200)
    assert first.die_area_mm2 / 100 == pytest.approx(0.065431, abs=5e-7)
    assert first.die_yield is not None
    law = Poisson.from_yield(first.die_yield, area_mm2=first.die_area_mm2)
    assert law.d0_per_cm2 == pytest.approx(0.13189, abs=5e-6)
    assert law.d0_per_cm2 == pytest.approx(-math.log(1 - 37 / 4306) / 0.0654315, rel=1e-5)


def test_golden_klarf_1_1() -> None:
    (found,) = read_wafer_maps(real_data("klarf/CPS3TwithoutReview.001"))
    assert (found.wafer_id, len(found.defects), found.n_dies, found.n_bad) == ("25", 16, 4988, 15)
    assert found.die_area_mm2 / 100 == pytest.approx(0.056271, abs=5e-7)
    assert len(found.dies) == 4988
    # Defect 1 of the file: x = -35 * 2489.96 + 552.64 - 2394.8 µm.
    assert found.defects.x_mm[0] == pytest.approx(-35 * 2.48996 + 0.55264 - 2.3948)


def test_real_edge_cases() -> None:
    (empty,) = read_wafer_maps(real_data("klarf/klarf_no_defect.000"))
    assert (len(empty.defects), empty.n_dies, empty.n_bad) == (0, 1038, 0)
    assert "announces 40 defects, the list has 0" in empty.notes[0]
    (images,) = read_wafer_maps(real_data("klarf/jk_klarf12DefectListExample.klarf"))
    assert len(images.defects) == 13
    with pytest.raises(BadFile, match="line 29: a defect has more values than the 17 columns"):
        read_wafer_maps(real_data("klarf/jk_bad12DefectList.klarf"))
    with pytest.raises(BadFile, match=r"KLARF 1\.8"):
        read_wafer_maps(real_data("klarf/jk_simple18.klarf"))
