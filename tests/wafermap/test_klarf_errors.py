"""Damaged files: one line that names the place, or a valid map, and never anything else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.wafermap.klarf_text import END, HEADER, SPEC, summary, wafer
from yieldkit.errors import BadFile
from yieldkit.rng import generator
from yieldkit.wafermap import read_wafer_maps

SYNTHETIC = Path(__file__).resolve().parents[2] / "data" / "two-wafers.klarf"
GOOD = HEADER + wafer() + summary(1, 50) + END


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello", "no wafer map of a known format"),
        ('Record FileRecord "1.8"', r"KLARF 1\.8, which is not read yet; export it as KLARF 1\.2"),
        (GOOD.removesuffix(END), "does not end in EndOfFile; the file is cut short"),
        (GOOD[:-2], "ends inside EndOfFile, which begins at line 20"),
        (GOOD[:300], "ends inside"),
        (HEADER + END, "holds no wafer"),
        (GOOD.replace('"01"', '"01'), "line 10: a quotation mark is not closed"),
        (GOOD.replace("FileVersion 1 2", "FileVersion 2 0"), "line 1: is not KLARF 1.x"),
        (GOOD.replace("FileVersion 1 2", "FileVersion 1"), "line 1: FileVersion must have 2 numbers"),
        (GOOD.replace("DiePitch", "DiePitsch"), "line 10: wafer '01' has no DiePitch"),
        (GOOD.replace("1.0e+04 2.0e+04", "0 2.0e+04"), "line 8: DiePitch must be two lengths above 0"),
        (GOOD.replace("1.0e+04 2.0e+04", "1e4 x"), "line 8: DiePitch must be a number, got 'x'"),
        (GOOD.replace("1.0e+04 2.0e+04", "1e4 nan"), "line 8: DiePitch must be a number, got 'nan'"),
        (GOOD.replace("1.0e+04 2.0e+04", "1e4 1_0"), "line 8: DiePitch must be a number, got '1_0'"),
        (GOOD.replace("1.0e+04 2.0e+04", "1e4 1e400"), "line 8: DiePitch must be a number, got '1e400'"),
        (GOOD.replace("SampleSize 1 200", "SampleSize 2 200"), "line 4: SampleSize must be of type 1"),
        (GOOD.replace("SampleSize 1 200", "SampleSize 1 0"), "line 4: SampleSize must be a diameter"),
        (GOOD.replace("Location DOWN", "Location NORTH"), "line 7: OrientationMarkLocation must be"),
        (GOOD.replace("3.0 4.0 0;", "3.0 4.0;"), "line 15: a defect has 7 values, DefectRecordSpec has 8 columns"),
        (GOOD.replace("3.0 4.0 0;", "3.0 4.0 0 5;"), "line 15: a defect has more values than the 8 columns"),
        (GOOD.replace("3.0 4.0 0;", "3.0 4.0 9;"), "line 15: the number of images is wrong, got '9'"),
        (GOOD.replace("3.0 4.0 0;", "3.0 4.0 x;"), "line 15: the number of images must be a number"),
        (GOOD.replace(" 2 -1 ", " 2 -x "), "line 15: YINDEX must be a number, got '-x'"),
        (GOOD.replace(" 2 -1 ", " 2.5 -1 "), "line 15: XINDEX must be a whole number, got 2.5"),
        (GOOD.replace(" 2 -1 ", " 2000000 -1 "), "line 15: XINDEX must be a whole number"),
        (GOOD.replace("RecordSpec 8", "RecordSpec 9"), "line 13: DefectRecordSpec announces another number"),
        (GOOD.replace("YSIZE", "XSIZE"), "line 13: DefectRecordSpec names a column twice"),
        (GOOD.replace("XREL", "XRAL"), "line 13: DefectRecordSpec lacks XREL"),
        (HEADER + wafer(spec="") + END, "line 13: DefectList comes before DefectRecordSpec"),
        (HEADER + wafer(spec="SampleTestPlan 2\n 1 1;\n" + SPEC) + END, "SampleTestPlan announces 2 dies"),
        (HEADER + wafer(spec="SampleTestPlan 1\n 1.5 1;\n" + SPEC) + END, "line 14: SampleTestPlan must hold whole"),
        (GOOD.replace(" 50 1 ;", " 50 ;"), "line 18: SummaryList must hold rows of 5 numbers"),
        (GOOD.replace(" 50 1 ;", " -50 1 ;"), "line 18: NDIE must be a count"),
        (GOOD.replace("DiePitch", '"DiePitch"'), "line 8: a text stands where a keyword should, got 'DiePitch'"),
    ],
)
def test_damage_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.001"
    path.write_text(text)
    with pytest.raises(BadFile, match=message) as caught:
        read_wafer_maps(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.001", tmp_path):
        with pytest.raises(BadFile, match="cannot be read"):
            read_wafer_maps(path)


def _mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a file as accidents do: cut, drop, double, swap, overwrite."""
    kind = int(rng.integers(6))
    a, b = sorted(int(i) for i in rng.integers(0, len(data), 2))
    if kind == 0:
        return data[:a]
    if kind == 1:
        return data[:a] + data[min(b, a + 60) :]
    if kind == 2:
        return data[:a] + data[a : a + 60] + data[a:]
    out = bytearray(data)
    if kind == 3:
        for i in rng.integers(0, len(data), 3):
            out[i] = int(rng.integers(256))
    elif kind == 4:
        out[a] ^= 1 << int(rng.integers(8))
    else:
        words = re.findall(rb"\S+", data)
        old, new = words[int(rng.integers(len(words)))], words[int(rng.integers(len(words)))]
        return data.replace(old, new, 1)
    return bytes(out)


def test_two_thousand_damaged_files(tmp_path: Path) -> None:
    # A short file, so that damage often hits what matters, and the synthetic one now and then.
    short = (
        HEADER + wafer(spec="SampleTestPlan 2\n 1 1\n 2 -1;\n" + SPEC) + summary(1, 2) + wafer("02") + END
    ).encode()
    long = SYNTHETIC.read_bytes()
    path = tmp_path / "fuzzed.001"
    refused = 0
    lines: set[str] = set()
    for k in range(2000):
        rng = generator(11, "test.klarf.fuzz", k)
        path.write_bytes(_mutated(long if k % 8 == 0 else short, rng))
        try:
            maps = read_wafer_maps(path)
        except BadFile as error:
            refused += 1
            lines.add(str(error))
        else:
            for one in maps:
                assert 0 <= one.n_bad <= one.n_dies
                assert np.isfinite(one.defects.x_mm).all()
                assert len(one.defects) == len(one.defects.to_frame()) if k % 50 == 0 else True
    assert all(line.startswith(str(path)) and "\n" not in line for line in lines)
    assert 600 < refused < 1900
