"""The report in a real browser: the console stays empty and the map is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.report.browser import visit
from tests.report.sample import full, wafer
from yieldkit.report import ReportData, write_report
from yieldkit.report.packing import unpack


def test_the_report_opens_with_an_empty_console_and_a_drawn_map(tmp_path: Path) -> None:
    from matplotlib.image import imread

    section = wafer()
    seen = visit(write_report(full(section), tmp_path / "r.html"), tmp_path, picture=True)
    assert seen.console == ()
    grid = unpack(section.states, (section.rows, section.cols), "uint8")
    assert seen.attribute("data-drawn") == " ".join(str(int((grid == code).sum())) for code in range(6))
    row, col = section.marks[-1].row, section.marks[-1].col
    logical = next((run[2], run[3] + col - run[0]) for run in section.runs[row] if run[0] <= col < run[0] + run[1])
    probe = (
        f"physical core ({row}, {col}) · used · logical core ({logical[0]}, {logical[1]}) · blamed: route hash differs"
    )
    assert seen.attribute("data-probe") == probe
    assert seen.picture is not None
    pixels = np.round(imread(seen.picture)[..., :3] * 255).astype(int)
    for colour in ((0xD5, 0x5E, 0x00), (0xCC, 0x79, 0xA7), (0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2), (0xD4, 0xE6, 0xF3)):
        assert (pixels == colour).all(axis=2).sum() > 40, colour


def test_a_single_dead_core_of_a_million_shows_at_fit_zoom(tmp_path: Path) -> None:
    """Haloed marker of at least 4 px although the core itself is 0.6 px."""
    from matplotlib.image import imread

    section = wafer(1172, 870, 755, n_dead=3)
    data = ReportData(title="A million cores", wafer=section.model_copy(update={"marks": ()}))
    seen = visit(write_report(data, tmp_path / "r.html"), tmp_path, picture=True, height=1100)
    assert seen.console == ()
    assert sum(int(count) for count in seen.attribute("data-drawn").split()) == 1172 * 870
    assert seen.picture is not None
    pixels = np.round(imread(seen.picture)[..., :3] * 255).astype(int)
    dead = (pixels[:, :790] == (0xD5, 0x5E, 0x00)).all(axis=2)  # left of the legend
    rows = np.flatnonzero(dead.any(axis=1))
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 3) + 1)
    assert len(groups) == 2
    for group in groups:
        assert len(group) >= 4
    assert float(seen.attribute("data-ready-ms")) < 5000


def test_negative_control_the_console_would_show_blocked_inline_parts(tmp_path: Path) -> None:
    path = write_report(full(), tmp_path / "r.html")
    extra = "<script>console.log('x')</script><p style='color: red'>x</p></body>"
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", extra), encoding="utf-8")
    console = visit(path, tmp_path).console
    assert any("script" in line for line in console)
    assert any("style" in line for line in console)


def test_without_scripts_the_still_map_is_there(tmp_path: Path) -> None:
    from matplotlib.image import imread

    text = write_report(full(), tmp_path / "r.html").read_text(encoding="utf-8")
    start = text.rindex("<script>")
    still = tmp_path / "still.html"
    still.write_text(text[:start] + text[text.index("</script>", start) + 9 :], encoding="utf-8")
    seen = visit(still, tmp_path, picture=True)
    assert seen.console == ()
    assert "data-drawn" not in seen.dom
    assert seen.picture is not None
    pixels = np.round(imread(seen.picture)[..., :3] * 255).astype(int)
    assert (pixels == (0xD4, 0xE6, 0xF3)).all(axis=2).sum() > 10_000
    assert (pixels == (0xD5, 0x5E, 0x00)).all(axis=2).sum() > 200


DRIVE = """
<script>
window.addEventListener("load", function () {
  const canvas = document.querySelector("canvas"), readout = document.getElementById("readout");
  function send(type, x, y, more) {
    const box = canvas.getBoundingClientRect();
    const base = { clientX: box.left + x, clientY: box.top + y, bubbles: true, cancelable: true };
    const Kind = type === "wheel" ? WheelEvent : type === "dblclick" ? MouseEvent : PointerEvent;
    canvas.dispatchEvent(new Kind(type, Object.assign(base, more || {})));
  }
  setTimeout(function () {
    const seen = [];
    for (const site of SITES) {
      const x = (site[1] + 0.5) * canvas.clientWidth / COLS, y = (site[0] + 0.5) * canvas.clientHeight / ROWS;
      send("pointermove", x, y);
      seen.push(readout.textContent);
      send("dblclick", x, y);
      send("wheel", x, y, { ctrlKey: true, deltaY: -300 });
      send("pointermove", x, y);
      seen.push(readout.textContent);
      document.querySelector("[data-do=fit]").click();
    }
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
    seen.push(readout.textContent);
    document.body.dataset.seen = JSON.stringify(seen);
  }, 300);
});
</script>
"""


def test_hover_names_the_exact_core_at_fit_and_after_zooming(tmp_path: Path) -> None:
    import html
    import json
    import re

    section = wafer(300, 260, 210, n_dead=9)
    grid = unpack(section.states, (section.rows, section.cols), "uint8")
    names = ("absent", "used", "spare", "bypassed", "marginal", "dead")
    faulty = [(int(row), int(col)) for row, col in np.argwhere(grid >= 3)]
    sites = [(0, 0), (299, 259), (150, 131), *faulty]
    path = write_report(ReportData(title="x", wafer=section), tmp_path / "r.html")
    text = re.sub(r"<meta http-equiv[^>]*>", "", path.read_text(encoding="utf-8"))
    drive = DRIVE.replace("SITES", json.dumps(sites)).replace("COLS", "260").replace("ROWS", "300")
    path.write_text(text.replace("</body>", f"{drive}</body>"), encoding="utf-8")
    seen = visit(path, tmp_path, wait_ms=3000)
    assert seen.console == ()
    said = json.loads(html.unescape(seen.attribute("data-seen")))
    for index, (row, col) in enumerate(sites):
        logical = next(
            (f"({run[2]}, {run[3] + col - run[0]})" for run in section.runs[row] if run[0] <= col < run[0] + run[1]), ""
        )
        place = f"logical core {logical}" if logical else "no logical core"
        wanted = f"physical core ({row}, {col}) · {names[grid[row, col]]} · {place}"
        assert said[2 * index].startswith(wanted)
        assert said[2 * index + 1].startswith(wanted)
    assert said[-1].startswith(f"physical core ({faulty[-1][0]}, {faulty[-1][1] + 1})")
