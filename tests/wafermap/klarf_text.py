"""Small KLARF texts for tests, put together from parts that each test changes."""

from __future__ import annotations

HEADER = """FileVersion 1 2;
FileTimestamp 01-01-26 00:00:00;
LotID "L;1";
SampleSize 1 200;
DeviceID "D";
StepID "S";
OrientationMarkLocation DOWN;
DiePitch 1.0e+04 2.0e+04;
DieOrigin 0.0 0.0;
"""
SPEC = "DefectRecordSpec 8 DEFECTID XREL YREL XINDEX YINDEX XSIZE YSIZE IMAGECOUNT ;\n"
END = "EndOfFile;\n"


def wafer(name: str = "01", defects: str = " 1 100.0 200.0 2 -1 3.0 4.0 0", *, spec: str = SPEC) -> str:
    """One wafer with its defect list."""
    listed = f"DefectList\n{defects};\n" if defects else "DefectList;\n"
    return f'WaferID "{name}";\nSlot 3;\nSampleCenterLocation 5.0e+03 1.0e+04;\n{spec}{listed}'


def summary(defects: int, dies: int) -> str:
    """The summary of the wafer before it."""
    return f"SummarySpec 5\n TESTNO NDEFECT DEFDENSITY NDIE NDEFDIE ;\nSummaryList\n 1 {defects} 0.1 {dies} 1 ;\n"
