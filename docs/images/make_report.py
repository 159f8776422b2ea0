"""Take `report.png`, the picture in the README: python docs/images/make_report.py reports/demo/report.html."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1240, 1500
SHOWN_WIDTH = 1000
COLOURS = 128
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def take(page: Path, target: Path) -> None:
    """Photograph the top of `page`, scaled and with few colours, so that the file stays small."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        window = f"--window-size={WIDTH},{HEIGHT}"
        places = (f"--user-data-dir={folder}/profile", f"--screenshot={shot}", "--virtual-time-budget=3000")
        subprocess.run([browser, *FLAGS, window, *places, page.resolve().as_uri()], check=True, capture_output=True)
        picture = Image.open(shot).convert("RGB")
        size = (SHOWN_WIDTH, HEIGHT * SHOWN_WIDTH // WIDTH)
        small = picture.resize(size, Image.Resampling.LANCZOS)
        small.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(__file__).resolve().parent / "report.png")
