"""The page: structure, completeness in itself, safety, repeatability."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report.sample import full
from yieldkit.errors import BadInput
from yieldkit.report import ReportData, render_report, write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, ids, text by tag, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("script", "style"):
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def text() -> str:
    return render_report(full())


def test_sections_in_order_summary_first(text: str) -> None:
    page = Page(text)
    ids = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert ids == [
        *("summary", "wafer", "defects", "yields", "repair", "training", "campaign", "confusion", "tables"),
        *("taxonomy", "provenance"),
    ]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and str(attrs["href"]).startswith("#")]
    into = [link for link in links if not link.startswith("#cell-")]
    assert into == [f"#{name}" for name in ids]
    assert set(links) <= {f"#{name}" for name in page.values("id")}
    assert len(page.values("id")) == len(set(page.values("id")))
    assert sum(tag == "svg" and attrs.get("class") == "chart" for tag, attrs in page.tags) == 5


def test_golden_numbers_of_the_page(text: str) -> None:
    """Rates with n and Wilson limits: 5 of 100 is 2.2 % to 11.2 % (published .0215437 and .1117505)."""
    shown = re.sub(r"\s+", " ", " ".join(Page(text).text))
    assert "BENIGN 5 100 5.0 % 2.2 % 11.2 %" in shown
    assert "STALL_DROP 100 100 100 %" in shown
    assert "row shift 2999 3000 99.97 % 99.80 % 99.99 %" in shown
    assert "< 0.01 %" in shown  # 1e-9 is not 0 %
    assert "SPIKE SPIKE 90 95 94.7 %" in shown
    assert "yieldkit burnin replay spec.toml --trial 4" in shown
    assert "STALL_LIVELOCK" in shown  # the whole taxonomy is printed


def test_nothing_is_loaded_from_outside(text: str) -> None:
    page = Page(text)
    for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
        for value in page.values(name):
            assert value.startswith(("data:", "#")), value
    assert not [tag for tag, _ in page.tags if tag in ("iframe", "object", "embed", "base", "form")]
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    (policy,) = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert page.values("style") == []
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_text_from_outside_stays_text() -> None:
    evil = "</script><script>alert(1)</script><b onclick='x'>\"&"
    from tests.report.sample import wafer

    text = render_report(full(wafer(text=evil), text=evil))
    page = Page(text)
    assert "<script>alert" not in text
    assert not [tag for tag, attrs in page.tags if tag == "b" and attrs]
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    blob = re.search(r'<script type="application/json" id="map-data">(.*?)</script>', text, re.DOTALL)
    assert blob is not None
    assert any(mark[5] == evil for mark in json.loads(blob.group(1))["marks"])


def test_every_table_has_its_csv(text: str) -> None:
    links = [attrs for tag, attrs in Page(text).tags if tag == "a" and "download" in attrs]
    tables = {
        str(attrs["download"]): list(
            csv.reader(io.StringIO(base64.b64decode(str(attrs["href"]).split(",", 1)[1]).decode()))
        )
        for attrs in links
    }
    assert len(tables) == len(links)
    assert tables["outcomes.csv"][1][:4] == ["link drop", "STALL_DROP", "100", "100"]
    assert tables["loss.csv"][40] == ["39", repr(5.0 - 0.05 * 39), "3.2"]
    assert tables["trial_losses.csv"][25] == ["24", repr(5.0 - 0.05 * 24), "not finite"]
    assert tables["defects.csv"][2] == ["-2.0", "'=1+1"]  # not a formula for a spreadsheet
    assert tables["confusion.csv"][2] == ["SPIKE", "0", "90", "5"]


def test_missing_sections_are_left_out() -> None:
    text = render_report(ReportData(title="Only a title"))
    page = Page(text)
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == ["summary", "provenance"]
    assert not [tag for tag, _ in page.tags if tag in ("script", "canvas", "svg", "table")]
    for name in ("defects", "yields", "repair", "training", "campaign", "confusion", "wafer", "taxonomy"):
        part = ReportData(title="x", **{name: getattr(full(), name)})
        assert f'id="{name}"' in render_report(part)


def test_bytes_repeat_in_another_process(text: str) -> None:
    code = (
        "import sys, hashlib; from tests.report.sample import full; from yieldkit.report import render_report;"
        "print(hashlib.sha256(render_report(full()).encode()).hexdigest())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "99"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=root, check=True)
    import hashlib

    assert done.stdout.strip() == hashlib.sha256(text.encode()).hexdigest()


def test_write_report_takes_data_or_a_run(tmp_path: Path, text: str) -> None:
    class Run:
        def report_data(self) -> ReportData:
            return full()

    assert write_report(full(), tmp_path / "a.html").read_text(encoding="utf-8") == text
    assert write_report(Run(), tmp_path / "b.html").read_text(encoding="utf-8") == text
    with pytest.raises(BadInput, match="ReportData"):
        write_report({"title": "x"}, tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()
