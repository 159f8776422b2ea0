"""What the README shows is run: its Python block and every command line."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from yieldkit.cli import run

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_python_block_prints_what_it_says():
    (block,) = _blocks("python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "README.md", "exec"), {})
    said = block.strip().splitlines()[-1].removeprefix("# ")
    assert printed.getvalue().strip() == said


def test_command_lines_run_in_the_order_given(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (block,) = _blocks("bash")
    lines = block.strip().splitlines()
    assert len(lines) > 8
    for line in lines:
        name, *arguments = shlex.split(line)
        assert name == "yieldkit"
        assert run(arguments) == 0, f"{line}\n{capfd.readouterr().err}"
    assert "<html" in (tmp_path / "report.html").read_text()[:200]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", TEXT, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_links_lead_somewhere(page):
    path = ROOT / page
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{page} links to {target}"
