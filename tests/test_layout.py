"""What may be in the repository, and what must be in the wheel."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "yieldkit").rglob("*.py"))
# Written in parts, so that this file does not hold what it looks for.
MACHINE = re.compile(
    "|".join(
        [
            r"(?<![\w.])/(?:" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me", "Us" + "ers", "m" + "nt"]) + r")/\w",
            r"(?<![\w.])/" + r"t" + r"mp/\w",
            r"\b(?:arti" + r"factory|nex" + r"us)\b.*://",
            r"--(?:extra-)?ind" + r"ex-url",
            r"https?://\d+\.\d+\.\d+\.\d+",
        ]
    )
)
PLAIN = {".py", ".md", ".toml", ".txt", ".j2", ".css", ".js", ".klarf", ".ipynb", ".cfg", ".yml", ".yaml", ""}
LONGEST = 700


def kept() -> list[Path]:
    """Files under version control; what lies beside them is the machine's own."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is not a checkout with git")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_paths_or_hosts_of_a_machine():
    found = []
    for path in kept():
        if path.suffix in PLAIN:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if match := MACHINE.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert not found


def test_the_pattern_finds_such_paths():
    for text in ("see /wo" + "rk/main", "open('/t" + "mp/x')", "pip --ind" + "ex-url x", "http:/" + "/10.0.0.1/simple"):
        assert MACHINE.search(text)
    for text in ("docs/work/x", "a/tmp.py", "reports/demo", "https://docs.python.org/3.11/", "x / work"):
        assert not MACHINE.search(text)


def test_nothing_made_or_hidden_is_kept():
    names = [path.relative_to(ROOT).as_posix() for path in kept()]
    made = re.compile(
        r"(^|/)(__pycache__|\.venv|\.mypy_cache|\.ruff_cache|dist|build|.*\.egg-info)/|\.(pyc|sqlite|nbi|nbc)$"
    )
    assert not [name for name in names if made.search(name)]
    assert not [name for name in names if name.startswith("reports/") and name != "reports/README.md"]
    assert not [name for name in names if (ROOT / name).stat().st_size > 2_000_000]
    # "core" would be vague elsewhere; here it is what a wafer is full of.
    vague = {"utils", "util", "common", "helpers", "misc", "base"}
    assert not [name for name in names if Path(name).stem in vague]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module(path):
    """It says what it is, and runs nothing that a file brings along."""
    text = path.read_text()
    tree = ast.parse(text)
    docstring = ast.get_docstring(tree)
    assert docstring
    assert len(docstring.splitlines()[0]) <= 120
    assert len(text.splitlines()) <= LONGEST
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            assert not {name.partition(".")[0] for name in names} & {"pickle", "marshal", "shelve", "dill", "joblib"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__", "print")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Attribute) and node.attr in ("seed", "rand", "randn", "random_sample"):
            # The global generators of numpy and random; `generator(...)` of yieldkit.rng is the one way.
            owner = ast.unparse(node.value)
            assert owner not in ("np.random", "numpy.random", "random")


def test_tests_draw_from_no_global_generator():
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"np\.random\.(seed|rand|randn|randint|normal|uniform)\(", text), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what is kept, without a network."""
    source = tmp_path_factory.mktemp("source")
    for path in kept():
        if path.is_relative_to(ROOT / "yieldkit") or path.is_relative_to(ROOT / "data") or path.parent == ROOT:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_has_everything_that_is_read_at_run_time(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    # A module or a data file that lies in the package is in the wheel, or it is missed where it is installed.
    for path in kept():
        if path.is_relative_to(ROOT / "yieldkit"):
            assert path.relative_to(ROOT).as_posix() in names
    assert {f"yieldkit/wafer/presets/{name}.toml" for name in ("mini", "wse1", "wse2", "wse3")} <= names
    assert {f"yieldkit/workloads/data/cpython-topics/{name}" for name in ("topics.json", "LICENSE.txt")} <= names
    assert {"yieldkit/diagnosis/taxonomy.toml", "yieldkit/report/page/report.html.j2", "yieldkit/py.typed"} <= names
    assert {"yieldkit/report/page/map.js", "yieldkit/report/page/style.css"} <= names
    assert not [name for name in names if name.startswith(("tests", "data", "docs", "notebooks"))]
    assert [name for name in names if name.endswith("licenses/LICENSE")]


@pytest.mark.long
def test_the_installed_wheel_works(wheel, tmp_path):
    """In an environment of its own that sees the libraries of this one, but not the checkout."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run([python, *install], check=True, cwd=tmp_path)
    site = next((tmp_path / "env" / "lib").glob("python3*/site-packages"))
    libraries = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    # A plain path, not a site directory: the .pth file of an editable installation is not followed.
    (site / "libraries.pth").write_text(f"{libraries}\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
        )

    where = run("-c", "import yieldkit; print(yieldkit.__file__)").stdout.strip()
    assert Path(where).is_relative_to(site)
    run("-c", "from yieldkit.workloads.corpus import load_corpus; assert load_corpus().train.size > 100_000")
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "yieldkit", "doctor"],
        cwd=tmp_path, capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert "give the same bits" in done.stdout
    run("-m", "yieldkit", "wafer", "list")
