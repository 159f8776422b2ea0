"""Every notebook runs from a fresh kernel, and the built file beside it belongs to its source."""

import importlib.util
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
SOURCES = sorted(path for path in FOLDER.glob("*.py") if path.name != "build.py")


def _build():
    spec = importlib.util.spec_from_file_location("notebook_build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _name(path: Path) -> str:
    return path.stem


def test_there_is_a_notebook():
    assert "yield_to_burn_in" in [path.stem for path in SOURCES]


@pytest.mark.parametrize("source", SOURCES, ids=_name)
def test_notebook_runs_from_a_fresh_kernel(source, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    build = _build()
    done = build.execute(build.read_source(source), tmp_path, strict=True)
    code = [cell.source for cell in done.cells if cell.cell_type == "code"]
    assert sum(text.count("assert ") for text in code) >= 10
    assert all(output.output_type != "error" for cell in done.cells for output in cell.get("outputs", ()))


@pytest.mark.parametrize("source", SOURCES, ids=_name)
def test_built_notebook_is_in_step_with_its_source(source):
    written = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    fresh = _build().read_source(source)
    cells = [(cell.cell_type, cell.source) for cell in written.cells]
    assert cells == [(cell.cell_type, cell.source) for cell in fresh.cells], "run python notebooks/build.py"
    executed = [cell for cell in written.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is not None for cell in executed)
    assert source.with_suffix(".ipynb").stat().st_size < 200_000
