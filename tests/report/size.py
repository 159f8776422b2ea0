"""Size of a report with a map of a million cores, and the time until a browser has drawn it.

`python -m tests.report.size` prints both as JSON.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.report.browser import visit
from tests.report.sample import full, wafer
from yieldkit.report import write_report

__all__ = ["measure"]

COMMAND = "python -m tests.report.size"


def measure() -> list[dict[str, Any]]:
    """Rows for a table of figures: `report_mb` and `report_ready_s` (navigation start until the map is drawn)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_report(full(wafer(1172, 870, 755, n_dead=50)), folder / "r.html")
        size = path.stat().st_size / 1e6
        ready = float(visit(path, folder).attribute("data-ready-ms")) / 1e3
    shared = {"peer": None, "peer_value": None, "ratio": None, "command": COMMAND}
    return [
        {"name": "report_mb", "value": size, "unit": "MB", **shared},
        {"name": "report_ready_s", "value": ready, "unit": "s", **shared},
    ]


if __name__ == "__main__":
    import sys

    json.dump(measure(), sys.stdout, indent=1)
