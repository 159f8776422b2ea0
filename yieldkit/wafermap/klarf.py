"""Reader of KLARF 1.1 and 1.2 inspection files: one or more wafers in a file.

A file is a list of statements; those of the header hold until they are given again, and `WaferID` begins a wafer. A
defect lies at `die index x DiePitch + XREL` from the origin of die (0, 0), and `SampleCenterLocation` is the wafer's
centre in the same coordinates; both in µm, y up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadFile
from yieldkit.wafermap.klarf_tokens import Statement, as_number, as_numbers, statements
from yieldkit.wafermap.wafer_map import DefectTable, Notch, WaferMap

__all__ = ["read_klarf"]

_NEEDED: Final = ("XREL", "YREL", "XINDEX", "YINDEX")
_NOTCH: Final[dict[str, Notch]] = {"DOWN": "down", "UP": "up", "LEFT": "left", "RIGHT": "right"}
_MM_PER_UM: Final = 1e-3
_LARGEST_INDEX: Final = 1_000_000
_LARGEST_COUNT: Final = 1_000_000_000


@dataclass
class _Wafer:
    """What has been read of one wafer; header values are copied from the wafer before it."""

    line: int = 0
    wafer_id: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    pitch: tuple[float, float] | None = None
    center: tuple[float, float] | None = None
    diameter_mm: float | None = None
    notch: Notch = "down"
    mirrored: bool = False
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    row_lines: list[int] = field(default_factory=list)
    plan: set[tuple[int, int]] = field(default_factory=set)
    summary_columns: list[str] = field(default_factory=list)
    summaries: list[dict[str, float]] = field(default_factory=list)

    def next(self, line: int) -> _Wafer:
        """An empty wafer under the same header."""
        return _Wafer(
            line=line,
            texts=dict(self.texts),
            pitch=self.pitch,
            center=self.center,
            diameter_mm=self.diameter_mm,
            notch=self.notch,
            mirrored=self.mirrored,
            columns=self.columns,
            summary_columns=self.summary_columns,
        )


def read_klarf(path: str | Path, data: bytes) -> list[WaferMap]:
    """Read every wafer of a KLARF 1.x file, in the order of the file.

    Raises:
        BadFile: names the line and what is wrong with it.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return _Reader(path).read(text)


class _Reader:
    """A state machine: one method a keyword, the state is the wafer being read."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.wafer = _Wafer()
        self.done: list[WaferMap] = []
        self.begun = False

    def read(self, text: str) -> list[WaferMap]:
        found = statements(self.path, text)
        if not found or found[-1].keyword != "EndOfFile":
            raise BadFile(self.path, "does not end in EndOfFile", cure="the file is cut short: copy it again")
        for statement in found[:-1]:
            handler = self._HANDLERS.get(statement.keyword)
            if handler is not None:
                handler(self, statement)
        self._close()
        if not self.done:
            raise BadFile(self.path, "holds no wafer: there is neither a WaferID nor a DefectList")
        return self.done

    # Header

    def _version(self, s: Statement) -> None:
        major = self._numbers(s, 2)[0]
        if major != 1:
            raise BadFile(self.path, "is not KLARF 1.x", where=f"line {s.line}", value=s.words)

    def _text(self, s: Statement) -> None:
        self.wafer.texts[s.keyword] = s.words[0] if s.words else ""

    def _pitch(self, s: Statement) -> None:
        x, y = self._numbers(s, 2)
        if not (0 < x <= 1e6 and 0 < y <= 1e6):
            raise self._bad(s, "DiePitch must be two lengths above 0 and up to 1 m, in µm", s.words)
        self.wafer.pitch = (x, y)

    def _center(self, s: Statement) -> None:
        x, y = self._numbers(s, 2)
        self.wafer.center = (x, y)

    def _size(self, s: Statement) -> None:
        kind, diameter = self._numbers(s, 2, at_least=True)[:2]
        if kind != 1:
            raise self._bad(s, "SampleSize must be of type 1, a round wafer", s.words)
        if not 10 <= diameter <= 1000:
            raise self._bad(s, "SampleSize must be a diameter of 10 to 1000 mm", s.words)
        self.wafer.diameter_mm = diameter

    def _orientation(self, s: Statement) -> None:
        word = s.words[0].upper() if s.words else ""
        if word not in _NOTCH:
            raise self._bad(s, "OrientationMarkLocation must be DOWN, UP, LEFT or RIGHT", word)
        self.wafer.notch = _NOTCH[word]

    def _mirrored(self, s: Statement) -> None:
        word = s.words[0].upper() if s.words else ""
        if word not in ("YES", "NO"):
            raise self._bad(s, "CoordinatesMirrored must be YES or NO", word)
        self.wafer.mirrored = word == "YES"

    # Wafers

    def _wafer_id(self, s: Statement) -> None:
        header, plan = not self.begun, self.wafer.plan
        self._close()
        self.wafer = self.wafer.next(s.line)
        if header:
            self.wafer.plan = plan
        self.wafer.wafer_id = s.words[0] if s.words else ""
        self.wafer.texts.pop("Slot", None)
        self.begun = True

    def _plan(self, s: Statement) -> None:
        values = self._whole(s, s.words, s.lines)
        if not values or len(values) - 1 != 2 * values[0]:
            raise self._bad(
                s, f"SampleTestPlan announces {values[0] if values else 0} dies and lists others", len(values)
            )
        self.wafer.plan.update(zip(values[1::2], values[2::2], strict=True))

    def _record_spec(self, s: Statement) -> None:
        self.wafer.columns = self._counted_names(s)
        missing = [name for name in _NEEDED if name not in self.wafer.columns]
        if missing:
            raise self._bad(s, f"DefectRecordSpec lacks {', '.join(missing)}", None)

    def _summary_spec(self, s: Statement) -> None:
        self.wafer.summary_columns = self._counted_names(s)

    def _summary(self, s: Statement) -> None:
        names = self.wafer.summary_columns
        values = as_numbers(self.path, "SummaryList", s.words, s.lines)
        if not names or len(values) % len(names):
            raise self._bad(s, f"SummaryList must hold rows of {len(names)} numbers, as SummarySpec says", len(values))
        for start in range(0, len(values), len(names)):
            row = dict(zip(names, values[start:], strict=False))
            for name in ("NDEFECT", "NDIE"):
                if not 0 <= row.get(name, 0) <= _LARGEST_COUNT or row.get(name, 0) != int(row.get(name, 0)):
                    raise self._bad(s, f"{name} must be a count", row[name])
            self.wafer.summaries.append(row)

    def _defect_list(self, s: Statement) -> None:
        self.begun = True
        columns = self.wafer.columns
        if s.words and not columns:
            raise self._bad(s, "DefectList comes before DefectRecordSpec", None)
        lists_images = bool(columns) and columns[-1] == "IMAGELIST"
        counts_images = columns.index("IMAGECOUNT") if "IMAGECOUNT" in columns else -1
        width, words, lines = len(columns), s.words, s.lines
        at, end = 0, len(words)
        while at < end:
            row = words[at : at + width]
            line = lines[at]
            if len(row) < width:
                raise BadFile(
                    self.path,
                    f"a defect has {len(row)} values, DefectRecordSpec has {width} columns",
                    where=f"line {line}",
                )
            at += width
            # Images follow as pairs: after their own count in IMAGELIST, or straight after the row.
            images = row[-1] if lists_images else row[counts_images] if counts_images >= 0 else "0"
            if images != "0":
                pairs = as_number(self.path, "the number of images", images, line)
                if pairs != int(pairs) or not 0 <= pairs <= (end - at) / 2:
                    raise BadFile(self.path, "the number of images is wrong", where=f"line {line}", value=images)
                if lists_images or (pairs and at < end and lines[at] == line):
                    at += 2 * int(pairs)
            if at < end and lines[at] == lines[at - 1]:
                raise BadFile(
                    self.path,
                    f"a defect has more values than the {width} columns of DefectRecordSpec",
                    where=f"line {lines[at]}",
                    value=words[at],
                )
            self.wafer.rows.append(row)
            self.wafer.row_lines.append(line)

    def _close(self) -> None:
        """Turn what was read of the current wafer into a `WaferMap`."""
        if not self.begun:
            return
        wafer = self.wafer
        where = f"line {wafer.line}" if wafer.line else ""
        name = f"wafer {wafer.wafer_id!r}"
        if wafer.pitch is None or wafer.center is None or wafer.diameter_mm is None:
            lacking = {"DiePitch": wafer.pitch, "SampleCenterLocation": wafer.center, "SampleSize": wafer.diameter_mm}
            names = ", ".join(key for key, value in lacking.items() if value is None)
            raise BadFile(self.path, f"{name} has no {names}", where=where)
        defects = self._table(wafer, wafer.pitch, wafer.center)
        notes: list[str] = []
        announced = sum(int(row.get("NDEFECT", 0)) for row in wafer.summaries)
        if wafer.summaries and announced != len(defects):
            notes.append(f"SummaryList announces {announced} defects, the list has {len(defects)}")
        bad = set(zip(defects.die[:, 0].tolist(), defects.die[:, 1].tolist(), strict=True))
        if wafer.plan and bad - wafer.plan:
            notes.append(f"{len(bad - wafer.plan)} dies with defects are not in SampleTestPlan; they are counted too")
        dies = np.array(sorted(wafer.plan | bad if wafer.plan else ()), np.int32).reshape(-1, 2)
        n_dies = len(dies) or int(max((row.get("NDIE", 0) for row in wafer.summaries), default=0))
        if len(bad) > n_dies:
            notes.append(f"the file gives {n_dies} inspected dies, {len(bad)} have defects")
            n_dies = len(bad)
        self.done.append(
            WaferMap(
                wafer_id=wafer.wafer_id,
                diameter_mm=wafer.diameter_mm,
                die_pitch_mm=(wafer.pitch[0] * _MM_PER_UM, wafer.pitch[1] * _MM_PER_UM),
                n_dies=n_dies,
                dies=dies,
                defects=defects,
                lot_id=wafer.texts.get("LotID", ""),
                device=wafer.texts.get("DeviceID", ""),
                step=wafer.texts.get("StepID", ""),
                slot=wafer.texts.get("Slot", ""),
                notch=wafer.notch,
                mirrored=wafer.mirrored,
                source=Path(self.path).name,
                notes=tuple(notes),
            )
        )
        self.begun = False

    def _table(self, wafer: _Wafer, pitch: tuple[float, float], center: tuple[float, float]) -> DefectTable:
        columns: dict[str, npt.NDArray[np.float64]] = {}
        for i, name in enumerate(wafer.columns if wafer.rows else _NEEDED):
            if name not in ("IMAGELIST", "IMAGECOUNT"):
                words = [row[i] for row in wafer.rows]
                columns[name] = np.array(as_numbers(self.path, name, words, wafer.row_lines), np.float64)
        for name in ("XINDEX", "YINDEX"):
            index = columns[name]
            wrong = (index != np.floor(index)) | (np.abs(index) > _LARGEST_INDEX)
            if wrong.any():
                i = int(np.argmax(wrong))
                where = f"line {wafer.row_lines[i]}"
                raise BadFile(self.path, f"{name} must be a whole number", where=where, value=float(index[i]))
        die = np.stack([columns["XINDEX"], columns["YINDEX"]], axis=1).astype(np.int32)
        x = (columns["XINDEX"] * pitch[0] + columns["XREL"] - center[0]) * _MM_PER_UM
        y = (columns["YINDEX"] * pitch[1] + columns["YREL"] - center[1]) * _MM_PER_UM
        return DefectTable(x, y, die, _sizes(columns, len(x)), columns)

    # Values

    def _numbers(self, s: Statement, n: int, *, at_least: bool = False) -> list[float]:
        if len(s.words) < n or (len(s.words) > n and not at_least):
            raise self._bad(s, f"{s.keyword} must have {n} numbers", s.words)
        return as_numbers(self.path, s.keyword, s.words, s.lines)

    def _whole(self, s: Statement, words: list[str], lines: list[int]) -> list[int]:
        values = as_numbers(self.path, s.keyword, words, lines)
        for value, line in zip(values, lines, strict=True):
            if value != int(value) or abs(value) > _LARGEST_INDEX:
                raise BadFile(self.path, f"{s.keyword} must hold whole numbers", where=f"line {line}", value=value)
        return [int(value) for value in values]

    def _counted_names(self, s: Statement) -> list[str]:
        names = [word.upper() for word in s.words[1:]]
        if not s.words or not s.words[0].isdecimal() or len(s.words[0]) > 6 or int(s.words[0]) != len(names):
            raise self._bad(s, f"{s.keyword} announces another number of columns than it lists", s.words[:1])
        if len(set(names)) != len(names):
            raise self._bad(s, f"{s.keyword} names a column twice", None)
        return names

    def _bad(self, s: Statement, what: str, value: object) -> BadFile:
        return BadFile(self.path, what, where=f"line {s.line}", value=value)

    _HANDLERS: Final = {
        "CoordinatesMirrored": _mirrored,
        "DefectList": _defect_list,
        "DefectRecordSpec": _record_spec,
        "DeviceID": _text,
        "DiePitch": _pitch,
        "FileVersion": _version,
        "LotID": _text,
        "OrientationMarkLocation": _orientation,
        "SampleCenterLocation": _center,
        "SampleSize": _size,
        "SampleTestPlan": _plan,
        "Slot": _text,
        "StepID": _text,
        "SummaryList": _summary,
        "SummarySpec": _summary_spec,
        "WaferID": _wafer_id,
    }


def _sizes(columns: dict[str, npt.NDArray[np.float64]], n: int) -> npt.NDArray[np.float64]:
    """Larger side of the box; DSIZE where there is no box; NaN where there is neither."""
    sides = [columns[name] for name in ("XSIZE", "YSIZE") if name in columns] or [
        columns[name] for name in ("DSIZE",) if name in columns
    ]
    size = np.max(np.stack(sides), axis=0) if sides else np.full(n, np.nan)
    return np.where(size > 0, size, np.nan)
