"""`FirmwareImage`: what a system is flashed with. The format is described byte by byte in `docs/repair.md`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadFile, BadInput
from yieldkit.fabric.changes import ImageChanges, changes_between
from yieldkit.fabric.packing import pack, unpack, zigzag
from yieldkit.files import fingerprint, read_bytes, write_bytes
from yieldkit.repair.plan import RepairPlan

if TYPE_CHECKING:
    from yieldkit.wafer import WaferSpec

__all__ = ["IMAGE_VERSION", "FirmwareImage"]

IMAGE_VERSION: Final = 1
_MAGIC: Final = b"YKFWIMG\0"
_HEADER: Final = struct.Struct("<8sHHI16sIIIIIBBHI")
"""magic, version, flags, length, spec fingerprint, H, W, rows, cols, first row, reaches, id length, row groups."""
_LARGEST_CORES: Final = 100_000_000
_LARGEST_FILE: Final = 64 << 20
_LARGEST_GROUP_SITES: Final = 256 << 20


@dataclass(frozen=True, eq=False)
class FirmwareImage:
    """The map of one wafer.

    Attributes:
        wafer_id: the single wafer it is for.
        spec_fingerprint: of the kind of wafer; empty for a plan on a bare grid.
        logical_shape: (H, W); `physical_shape` (rows, cols) of the wafer's sites; `first_row` of logical row 0.
        skip_reach, vertical_reach: longest links that the map uses the right to.
        group_sizes: int64[G], rows that share one line of `columns`, in order.
        columns: int32[G, W], physical column of each logical column.
        source: the file it was read from, for error texts.
    """

    wafer_id: str
    spec_fingerprint: str
    logical_shape: tuple[int, int]
    physical_shape: tuple[int, int]
    first_row: int
    skip_reach: int
    vertical_reach: int
    group_sizes: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int32]
    source: str = "firmware image"

    @classmethod
    def from_plan(
        cls, plan: RepairPlan, *, wafer_id: str | None = None, wafer: WaferSpec | None = None
    ) -> FirmwareImage:
        """The image that ships a plan; `plan.firmware(...)` is the same call.

        Args:
            plan: a plan with a map.
            wafer_id: the single wafer; taken from the plan when not given.
            wafer: its kind, checked against the plan; needed where the plan was made on a map that names none.

        Raises:
            BadInput: the plan has no map, no wafer id is known, or the wafer is of another kind.
        """
        if not plan.repaired:
            raise BadInput("there is no map to ship: the plan's status is", value=plan.status)
        name = plan.wafer_id if wafer_id is None else wafer_id
        if not name or len(name.encode()) > 255:
            raise BadInput("wafer_id must be 1 to 255 bytes long", value=name, cure='pass e.g. wafer_id="W01"')
        if wafer_id is not None and plan.wafer_id and plan.wafer_id != wafer_id:
            raise BadInput(f"the plan was made for wafer {plan.wafer_id}", value=wafer_id)
        spec = plan.spec_fingerprint
        if wafer is not None:
            if spec and spec != wafer.fingerprint:
                raise BadInput(f"the plan was made on another kind of wafer than {wafer.name}", value=spec)
            if wafer.shape != plan.physical_shape:
                raise BadInput(f"the plan is for {plan.physical_shape} sites, {wafer.name} has", value=wafer.shape)
            spec = wafer.fingerprint
        first_row, groups, columns = plan.column_groups()
        skip_reach, vertical_reach = plan.reaches
        return cls(
            wafer_id=name,
            spec_fingerprint=spec,
            logical_shape=plan.logical_shape,
            physical_shape=plan.physical_shape,
            first_row=first_row,
            skip_reach=skip_reach,
            vertical_reach=vertical_reach,
            group_sizes=np.array([n for n, _ in groups], np.int64),
            columns=columns,
        )

    @cached_property
    def data(self) -> bytes:
        """The whole file: header, wafer id, row groups, link selects, CRC-32."""
        body = pack(self._numbers())
        name = self.wafer_id.encode()
        length = _HEADER.size + len(name) + len(body) + 4
        head = _HEADER.pack(
            _MAGIC,
            IMAGE_VERSION,
            0,
            length,
            self.spec_fingerprint.encode(),
            *self.logical_shape,
            *self.physical_shape,
            self.first_row,
            self.skip_reach,
            self.vertical_reach,
            len(name),
            len(self.group_sizes),
        )
        content = head + name + body
        return content + struct.pack("<I", zlib.crc32(content))

    def _numbers(self) -> Iterator[int]:
        step = np.diff(self.columns, axis=1)
        for size, line, jumps in zip(self.group_sizes.tolist(), self.columns, step, strict=True):
            at = np.flatnonzero(jumps != 1)
            yield from (size, int(line[0]), len(at))
            yield from _pairs(at + 1, jumps[at])
        yield from self._selects()

    def _selects(self) -> Iterator[int]:
        """Of each group but the last: vertical links of its last row, (column, shift) wherever the shift changes."""
        for upper, lower in zip(self.columns[:-1], self.columns[1:], strict=True):
            shift = lower - upper
            at = np.flatnonzero(np.diff(shift, prepend=0))
            yield len(at)
            yield from _pairs(at, [zigzag(int(s)) for s in shift[at]])

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the file's bytes."""
        return fingerprint(self.data)

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return len(self.data)

    def diff(self, other: FirmwareImage) -> ImageChanges:
        """What changes from this image to another of the same wafer: rows, stretches of cores, first and last.

        Raises:
            BadInput: they are for different wafers or fabrics.
        """
        return changes_between(self, other)

    def save(self, path: str | Path) -> Path:
        """Write the image, whole or not at all."""
        return write_bytes(path, self.data)

    @classmethod
    def load(cls, path: str | Path) -> FirmwareImage:
        """Read an image.

        Raises:
            BadFile: not an image, of another version, truncated, or with a wrong CRC.
        """
        return cls.from_bytes(read_bytes(path, limit_bytes=_LARGEST_FILE), source=str(path))

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "firmware image") -> FirmwareImage:
        """Read an image from memory; raises as `load`."""
        if data[: len(_MAGIC)] != _MAGIC:
            raise BadFile(source, "is not a firmware image", where="byte 0", value=data[: len(_MAGIC)])
        if len(data) < _HEADER.size + 4:
            raise BadFile(source, f"is truncated: {len(data)} bytes are less than a header")
        fields = _HEADER.unpack_from(data)
        version, flags, length = fields[1:4]
        if version != IMAGE_VERSION:
            raise BadFile(source, f"image version must be {IMAGE_VERSION}", where="byte 8", value=version)
        if length != len(data):
            raise BadFile(source, f"is truncated or too long: its header says {length} bytes", value=len(data))
        (stored,) = struct.unpack_from("<I", data, len(data) - 4)
        if stored != zlib.crc32(data[:-4]):
            raise BadFile(source, "is damaged: the CRC does not match", where=f"byte {len(data) - 4}", value=stored)
        spec, height, width, rows, cols, first_row, skip, vertical, id_length, n_groups = fields[4:]
        try:
            name = data[_HEADER.size : _HEADER.size + id_length].decode()
            print_ = spec.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError:
            raise BadFile(source, "wafer id or spec fingerprint is not text", where="byte 16") from None
        if flags or not name:
            raise BadFile(source, "has unknown flags or no wafer id", where="byte 10", value=flags)
        fits = min(height, width) > 0 and first_row + height <= rows and width <= cols and skip > 0
        if not fits or rows * cols > _LARGEST_CORES or not 0 < n_groups <= height:
            raise BadFile(source, "shape does not fit the wafer", where="byte 32", value=fields[5:10])
        if n_groups * width > _LARGEST_GROUP_SITES:
            raise BadFile(source, "has too many row groups", where="byte 56", value=n_groups)
        try:
            sizes, columns, selects = _read_body(data[_HEADER.size + id_length : -4], n_groups, width)
        except (ValueError, EOFError) as error:
            raise BadFile(source, f"has wrong row groups: {error}") from None
        image = cls(
            wafer_id=name,
            spec_fingerprint=print_,
            logical_shape=(height, width),
            physical_shape=(rows, cols),
            first_row=first_row,
            skip_reach=skip,
            vertical_reach=vertical,
            group_sizes=sizes,
            columns=columns,
            source=source,
        )
        image._check(selects)
        return image

    def _check(self, selects: list[int]) -> None:
        """What a well-formed file may still get wrong: sites off the wafer, reaches, selects that disagree."""
        if int(self.group_sizes.sum()) != self.logical_shape[0]:
            raise BadFile(self.source, "row groups do not add up to the fabric", value=int(self.group_sizes.sum()))
        if int(self.columns.min()) < 0 or int(self.columns.max()) >= self.physical_shape[1]:
            raise BadFile(self.source, "uses a physical column that is not there", value=int(self.columns.max()))
        if self.columns.shape[1] > 1:
            along = np.diff(self.columns, axis=1)
            if int(along.min()) < 1 or int(along.max()) > self.skip_reach:
                raise BadFile(self.source, "uses a link along a row beyond the skip reach", value=int(along.max()))
        down = np.abs(np.diff(self.columns, axis=0))
        if int(down.max(initial=0)) > self.vertical_reach:
            raise BadFile(self.source, "uses a link between rows beyond the vertical reach", value=int(down.max()))
        if list(self._selects()) != selects:
            raise BadFile(self.source, "link selects do not agree with the rows")

    def __repr__(self) -> str:
        height, width = self.logical_shape
        return f"FirmwareImage({self.wafer_id}, {height}x{width}, {self.nbytes} bytes, {self.fingerprint})"


def _pairs(at: npt.NDArray[np.int64], values: object) -> Iterator[int]:
    last = 0
    for c, value in zip(at.tolist(), list(values), strict=True):  # type: ignore[call-overload]
        yield c - last
        yield int(value)
        last = c


def _read_body(
    data: bytes, n_groups: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], list[int]]:
    numbers = iter(list(unpack(data)))

    def take() -> int:
        for number in numbers:
            return number
        raise EOFError("the data ends inside a group")

    sizes = np.empty(n_groups, np.int64)
    step = np.ones((n_groups, width), np.int64)
    for g in range(n_groups):
        sizes[g], step[g, 0], n_jumps = take(), take(), take()
        if sizes[g] == 0:
            raise ValueError(f"row group {g} has no rows")
        c = 0
        for _ in range(n_jumps):
            ahead, jump = take(), take()
            c += ahead
            if not 0 < c < width or ahead == 0 or jump < 2:
                raise ValueError(f"row group {g} jumps at column {c} by {jump}")
            step[g, c] = jump
    columns = np.cumsum(step, axis=1)
    if int(columns.max()) >= 1 << 31:
        raise ValueError("a physical column is out of range")
    selects = list(numbers)
    return sizes, columns.astype(np.int32), selects


RepairPlan.firmware_maker = FirmwareImage.from_plan
