"""Reading rate of inspection files, and the time to sample."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from yieldkit.wafermap import read_wafer_maps

COMMAND = "python -m tests.bench.files"
_HEAD = """FileVersion 1 2;
FileTimestamp 01-01-20 00:00:00;
InspectionStationID "MADE" "UP" "1";
SampleType WAFER;
ResultTimestamp 01-01-20 00:00:00;
LotID "BENCH";
SampleSize 1 300;
DeviceID "D";
SetupID "S" 01-01-20 00:00:00;
StepID "P";
SampleOrientationMarkType NOTCH;
OrientationMarkLocation DOWN;
DiePitch 1.0e+04 1.0e+04;
DieOrigin 0.0 0.0;
WaferID "01";
Slot 1;
SampleCenterLocation 0.0 0.0;
InspectionTest 1;
AreaPerTest 7.0e+10;
DefectRecordSpec 9 DEFECTID XREL YREL XINDEX YINDEX XSIZE YSIZE DEFECTAREA CLASSNUMBER ;
DefectList
"""


def klarf_rate(defects: int = 200_000) -> list[dict[str, Any]]:
    """MB/s of a large KLARF 1.2 file, one core."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 1e4, (2, defects))
    i, j = rng.integers(-10, 10, (2, defects))
    lines = [
        f" {n + 1} {a:.3f} {b:.3f} {p} {q} 1.000 1.000 1.000000 {n % 9}"
        for n, (a, b, p, q) in enumerate(zip(x, y, i, j, strict=True))
    ]
    text = _HEAD + "\n".join(lines) + ";\nSummarySpec 5 TESTNO NDEFECT DEFDENSITY NDIE NDEFDIE ;\nSummaryList\n"
    text += f" 1 {defects} 1.0 400 400;\nEndOfFile;\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.000"
        path.write_text(text)
        begin = time.perf_counter()
        maps = read_wafer_maps(path)
        seconds = time.perf_counter() - begin
    assert len(maps[0].defects) == defects
    row = {"name": "klarf_mb_per_s", "value": len(text) / 1e6 / seconds, "unit": "MB/s", "command": COMMAND}
    return [{**row, "peer": None, "peer_value": None, "ratio": None}]


def figures() -> list[dict[str, Any]]:
    """All rows."""
    return klarf_rate()


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
