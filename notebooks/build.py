"""Build every notebook here from its `.py` source: execute it in a fresh kernel and keep what it printed and drew."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).resolve().parent


def read_source(path: Path) -> Any:
    """The notebook of a `.py` source, without outputs; equal sources give equal cell ids."""
    notebook = jupytext.read(path)
    notebook.metadata.pop("jupytext", None)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = hashlib.sha256(f"{number} {cell.source}".encode()).hexdigest()[:8]
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: Any, folder: Path, *, strict: bool = False) -> Any:
    """Run a notebook in a fresh kernel started in `folder`; `strict` turns every warning into an error first."""
    running = copy.deepcopy(notebook)
    if strict:
        running.cells.insert(0, nbformat.v4.new_code_cell("import warnings\nwarnings.simplefilter('error')"))
    nbclient.NotebookClient(running, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in running.cells:
        # When a cell ran, and on which Python, says nothing that the reader needs.
        cell.metadata.pop("execution", None)
    running.metadata.pop("language_info", None)
    return running


if __name__ == "__main__":
    for source in sorted(HERE.glob("*.py")):
        if source != Path(__file__).resolve():
            built = execute(read_source(source), HERE)
            nbformat.write(built, source.with_suffix(".ipynb"))
            print(f"{source.with_suffix('.ipynb').name}: {source.with_suffix('.ipynb').stat().st_size / 1024:.0f} KiB")
