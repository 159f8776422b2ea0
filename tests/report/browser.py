"""Headless Chromium on a file: the page after its scripts, its console, a picture."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Visit", "visit"]

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0"),
)


@dataclass(frozen=True)
class Visit:
    """What the browser made of a page."""

    dom: str
    console: tuple[str, ...]
    picture: Path | None

    def attribute(self, name: str) -> str:
        found = re.search(rf'\b{name}="([^"]*)"', self.dom)
        assert found is not None, f"the page has no {name}"
        return found.group(1)


def visit(
    page: Path, folder: Path, *, picture: bool = False, width: int = 1240, height: int = 1000, wait_ms: int = 0
) -> Visit:
    """Open `page`, let its clock run for `wait_ms`, or skip when no Chromium is installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("not run: no chromium on this machine; .ci/run installs it")
    shot = folder / "page.png" if picture else None
    command = [
        browser,
        *_FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},{height}",
        "--dump-dom",
    ]
    if shot is not None:
        command.append(f"--screenshot={shot}")
    if wait_ms:
        command.append(f"--virtual-time-budget={wait_ms}")
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    console = tuple(line for line in done.stderr.splitlines() if ":CONSOLE" in line)
    return Visit(done.stdout, console, shot)
