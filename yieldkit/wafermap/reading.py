"""Opening wafer map files: the format is told by the content, not by the name."""

from __future__ import annotations

from pathlib import Path

from yieldkit.errors import BadFile, BadInput
from yieldkit.files import read_bytes
from yieldkit.wafermap.klarf import read_klarf
from yieldkit.wafermap.wafer_map import WaferMap

__all__ = ["read_wafer_map", "read_wafer_maps"]


def read_wafer_maps(path: str | Path) -> list[WaferMap]:
    """Read every wafer of a file, in the order of the file. Formats: KLARF 1.1 and 1.2.

    Raises:
        BadFile: the file cannot be read, or is none of these formats, or is damaged; names the line.
    """
    data = read_bytes(path)
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"FileVersion"):
        return read_klarf(path, data)
    if start.startswith(b"Record FileRecord"):
        raise BadFile(path, "is KLARF 1.8, which is not read yet", cure="export it as KLARF 1.2")
    if not start:
        raise BadFile(path, "is empty")
    raise BadFile(path, "is no wafer map of a known format", cure="KLARF 1.1 and 1.2 files begin with FileVersion")


def read_wafer_map(path: str | Path, *, wafer_id: str | None = None) -> WaferMap:
    """Read one wafer of a file.

    Args:
        path: the file.
        wafer_id: which wafer; may be left out when the file holds one.

    Raises:
        BadFile: as in `read_wafer_maps`.
        BadInput: the file holds no such wafer, or several and none is chosen.
    """
    wafers = read_wafer_maps(path)
    held = ", ".join(wafer.wafer_id for wafer in wafers)
    if wafer_id is None:
        if len(wafers) > 1:
            raise BadInput(f"{path} holds {len(wafers)} wafers", cure=f"choose one by wafer_id: {held}")
        return wafers[0]
    chosen = [wafer for wafer in wafers if wafer.wafer_id == wafer_id]
    if not chosen:
        raise BadInput(f"{path} holds no such wafer", value=wafer_id, cure=f"it holds: {held}")
    if len(chosen) > 1:
        raise BadInput(f"{path} holds {len(chosen)} wafers of this wafer_id", value=wafer_id)
    return chosen[0]
