"""`ReportData` as a document, and the small parts under the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.sample import full
from yieldkit.cli import run
from yieldkit.errors import BadFile, BadSpec
from yieldkit.report import ReportData, pack
from yieldkit.report.numbers import number, percent, scalar, seconds
from yieldkit.report.packing import unpack


def test_a_document_survives_saving(tmp_path: Path) -> None:
    data = full()
    path = data.save(tmp_path / "d.json")
    assert ReportData.load(path) == data
    assert ReportData.from_dict(json.loads(path.read_text(encoding="utf-8"))) == data
    assert data.campaign is not None
    assert data.campaign.curves[0].loss[20:] == (None,) * 20  # NaN is kept as a gap


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"colour": 1}, "colour: Extra inputs"),
        ({"schema_version": 2}, "schema_version"),
        ({"title": 3}, "title"),
        ({"tables": [{"title": "t", "columns": ["a"], "rows": [[1, 2]]}]}, "row 0 has 2 values for 1 columns"),
        ({"wafer": {"name": "x", "rows": 2, "cols": 2, "states": "AAAA"}}, "packed array"),
        ({"wafer": {"name": "x", "rows": 1, "cols": 1, "states": pack([[9]], "uint8")}}, "largest code is 5"),
        ({"repair": {"status": "x", "height": 2, "width": 2, "displacement": pack([[1]], "int16")}}, "does not hold"),
        (
            {"confusion": {"labels": ["A"], "codes": ["A"], "counts": [[1, 2]], "right": {"A": "A"}}},
            "one row per label",
        ),
        ({"confusion": {"labels": ["A"], "codes": ["A"], "counts": [[1]], "right": {}}}, "right lacks A"),
        ({"yields": {"laws": [{"name": "p", "formula": "f", "value": 1.5}]}}, "less than or equal to 1"),
    ],
)
def test_wrong_documents_name_the_field(tmp_path: Path, change: dict[str, object], match: str) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"title": "t", **change}), encoding="utf-8")
    with pytest.raises(BadSpec, match=match):
        ReportData.load(path)


def test_every_wrong_field_is_listed_at_once() -> None:
    with pytest.raises(BadSpec) as caught:
        ReportData.from_dict({"colour": 1, "yields": {"laws": 3}})
    assert {path for path, _ in caught.value.problems} == {"colour", "title", "yields.laws"}


def test_the_command_writes_a_report_or_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "d.json", tmp_path / "r.html"
    full().save(data)
    assert run(["report", str(data), "--out", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"] == out.stat().st_size > 10_000
    data.write_text("{", encoding="utf-8")
    missing = tmp_path / "none.json"
    for bad in (data, missing):
        other = tmp_path / "other.html"
        assert run(["report", str(bad), "--out", str(other)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert not other.exists()
    with pytest.raises(BadFile):
        ReportData.load(missing)


@settings(deadline=None, derandomize=True)
@given(st.floats(0, 1), st.integers(0, 4))
def test_a_rate_is_never_rounded_to_nothing_or_everything(fraction: float, digits: int) -> None:
    text = percent(fraction, digits=digits)
    value = float(text.strip("<> %"))
    assert (text == "0 %") == (fraction == 0)
    assert (text == "100 %") == (fraction == 1)
    if text[0] not in "<>":
        assert abs(value - 100 * fraction) <= 0.5000001 * 10.0**-digits
    elif text[0] == "<":
        assert 100 * fraction < value
    else:
        assert 100 * fraction > value


def test_numbers() -> None:
    assert number(1234567) == "1\u202f234\u202f567"
    assert number(1234) == "1234"
    assert number(0.000123456) == "0.00012346"
    assert number(float("nan")) == "not finite"
    assert [seconds(x) for x in (2e-6, 0.25, 3.14159, 250)] == ["2 µs", "250 ms", "3.14 s", "250 s"]
    assert [scalar(x) for x in (None, True, False, "x", 3)] == ["–", "yes", "no", "x", "3"]


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_packing_is_undone(rows: int, cols: int, seed: int) -> None:
    values = np.random.Generator(np.random.Philox(seed)).integers(-32768, 32767, (rows, cols))
    assert (unpack(pack(values, "int16"), (rows, cols), "int16") == values).all()


def test_a_small_text_that_unpacks_to_gigabytes_is_refused_cheaply() -> None:
    bomb = pack(np.zeros((4000, 4000)), "uint8")
    with pytest.raises(ValueError, match="does not hold"):
        unpack(bomb, (2, 2), "uint8")
