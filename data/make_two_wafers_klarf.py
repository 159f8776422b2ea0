"""Make `two-wafers.klarf`: a made-up KLARF 1.2 file of two 200 mm wafers, for tests and examples.

Nothing in it was measured. Defects are uniform over the wafer, and wafer A1 has a cluster beside them. Run this file to
make it again; the bytes are the same on every machine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

PITCH_UM = (12_000.0, 15_000.0)
CENTER_UM = (6_000.0, 7_500.0)
RADIUS_MM = 100.0


def dies() -> list[tuple[int, int]]:
    """Dies that lie wholly on the wafer."""
    found = []
    for i in range(-10, 11):
        for j in range(-10, 11):
            xs = [(i + side) * PITCH_UM[0] - CENTER_UM[0] for side in (0, 1)]
            ys = [(j + side) * PITCH_UM[1] - CENTER_UM[1] for side in (0, 1)]
            if max(np.hypot(x, y) for x in xs for y in ys) <= RADIUS_MM * 1000:
                found.append((i, j))
    return found


def defect_rows(rng: np.random.Generator, uniform: int, clustered: int) -> list[str]:
    """Rows of a defect list: places on the dies, boxes of whole pixels as an optical tool reports them."""
    on_dies, places = set(dies()), []
    while len(places) < uniform:
        x, y = rng.uniform(-RADIUS_MM, RADIUS_MM, 2) * 1000
        places.append((x, y))
        if (int((x + CENTER_UM[0]) // PITCH_UM[0]), int((y + CENTER_UM[1]) // PITCH_UM[1])) not in on_dies:
            places.pop()
    places += [(30_000 + dx, -40_000 + dy) for dx, dy in rng.normal(0, 4_000, (clustered, 2))]
    rows = []
    for number, (x, y) in enumerate(places, start=1):
        i, j = int((x + CENTER_UM[0]) // PITCH_UM[0]), int((y + CENTER_UM[1]) // PITCH_UM[1])
        x_rel, y_rel = x + CENTER_UM[0] - i * PITCH_UM[0], y + CENTER_UM[1] - j * PITCH_UM[1]
        width, height = 8.0 * rng.integers(1, 5), 2.7 * rng.integers(1, 6)
        rows.append(
            f" {number} {x_rel:.3f} {y_rel:.3f} {i} {j} {width:.3f} {height:.3f} {width * height:.6f} "
            f"{max(width, height):.3f} 0 1 0 0 0 0"
        )
    return rows


def main() -> None:
    """Write the file beside this script."""
    rng = np.random.Generator(np.random.Philox(20))
    plan = dies()
    lines = [
        "FileVersion 1 2;",
        "FileTimestamp 01-01-26 00:00:00;",
        'InspectionStationID "MADE" "UP" "1";',
        "SampleType WAFER;",
        "ResultTimestamp 01-01-26 00:00:00;",
        'LotID "SYNTHETIC";',
        "SampleSize 1 200;",
        'DeviceID "EXAMPLE";',
        'SetupID "EXAMPLE" 01-01-26 00:00:00;',
        'StepID "METAL 1";',
        "SampleOrientationMarkType NOTCH;",
        "OrientationMarkLocation DOWN;",
        f"DiePitch {PITCH_UM[0]:.10e} {PITCH_UM[1]:.10e};",
        "DieOrigin 0.0000000000e+00 0.0000000000e+00;",
    ]
    for slot, (name, uniform, clustered) in enumerate((("A1", 18, 6), ("A2", 9, 0)), start=1):
        rows = defect_rows(rng, uniform, clustered)
        bad = {tuple(row.split()[3:5]) for row in rows}
        lines += [
            f'WaferID "{name}";',
            f"Slot {slot};",
            f"SampleCenterLocation {CENTER_UM[0]:.10e} {CENTER_UM[1]:.10e};",
            'OrientationInstructions "";',
            "InspectionTest 1;",
            f"SampleTestPlan {len(plan)}",
            *[f"  {i} {j}" for i, j in plan[:-1]],
            f"  {plan[-1][0]} {plan[-1][1]};",
            f"AreaPerTest {len(plan) * PITCH_UM[0] * PITCH_UM[1]:.10e};",
            "DefectRecordSpec 15 DEFECTID XREL YREL XINDEX YINDEX XSIZE YSIZE DEFECTAREA DSIZE CLASSNUMBER TEST "
            "CLUSTERNUMBER ROUGHBINNUMBER FINEBINNUMBER IMAGECOUNT ;",
            "DefectList",
            *rows[:-1],
            f"{rows[-1]};",
            "SummarySpec 5",
            "  TESTNO    NDEFECT    DEFDENSITY    NDIE    NDEFDIE  ;",
            "SummaryList",
            f"  1    {len(rows)}    {len(rows) / (len(plan) * 1.8):.10e}    {len(plan)}    {len(bad)}  ;",
        ]
    lines.append("EndOfFile;")
    (Path(__file__).parent / "two-wafers.klarf").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
