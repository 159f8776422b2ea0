"""`Fabric`: the perfect rectangle that programs see, and which silicon is behind it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadFile, BadInput
from yieldkit.fabric.image import FirmwareImage
from yieldkit.files import fingerprint
from yieldkit.quantities import EAST, NORTH, OPPOSITE, SOUTH, WEST, LinkKey

if TYPE_CHECKING:
    from yieldkit.wafer import WaferSpec

__all__ = ["Fabric", "LogicalPort"]

LogicalPort = tuple[int, int, int]
"""(row, col, port) of a logical core."""

_STEP = {NORTH: (-1, 0), EAST: (0, 1), SOUTH: (1, 0), WEST: (0, -1)}


class Fabric:
    """A regular H x W grid of logical cores, each on one physical core, neighbours joined by one physical link.

    Made by `Fabric.boot` or `Fabric.perfect`.

    Attributes:
        shape: (H, W) of the fabric.
        physical_shape: (rows, cols) of the wafer's sites.
        wafer_id: the single wafer; "perfect" for the identity.
        image_fingerprint: of the image it was booted from; of the shape for the identity.
        spec: the kind of wafer, or None.
    """

    def __init__(self, image: FirmwareImage, spec: WaferSpec | None, image_fingerprint: str) -> None:
        self.shape = image.logical_shape
        self.physical_shape = image.physical_shape
        self.wafer_id = image.wafer_id
        self.image_fingerprint = image_fingerprint
        self.spec = spec
        self._first_row = image.first_row
        self._columns = image.columns
        self._group = np.repeat(np.arange(len(image.group_sizes)), image.group_sizes)

    @classmethod
    def boot(cls, image: FirmwareImage, wafer: WaferSpec | None, *, wafer_id: str | None = None) -> Fabric:
        """Boot a wafer from its image.

        Args:
            image: the firmware; `FirmwareImage.load` has refused damaged files and other versions.
            wafer: the kind of wafer that is there; None only for an image of a bare grid.
            wafer_id: the single wafer that is there, when it is known; the image must be for it.

        Raises:
            BadFile: the image is for another kind of wafer, another wafer, or uses sites that this wafer does not have.
        """
        if wafer_id is not None and wafer_id != image.wafer_id:
            raise BadFile(image.source, f"is for wafer {image.wafer_id}, not for the one that is there", value=wafer_id)
        have = "" if wafer is None else wafer.fingerprint
        if image.spec_fingerprint != have:
            raise BadFile(
                image.source,
                f"is for another kind of wafer: spec {image.spec_fingerprint or '(none)'}",
                value=have or "(none)",
                cure="boot it on the wafer it was made for, or make an image with wafer=...",
            )
        fabric = cls(image, wafer, image.fingerprint)
        if wafer is not None:
            fabric._check_sites(image, wafer)
        return fabric

    @classmethod
    def perfect(cls, rows: int, cols: int) -> Fabric:
        """An identity fabric without a wafer: logical core (r, c) is physical core (r, c)."""
        if rows < 1 or cols < 1:
            raise BadInput("rows and cols must be positive integers", value=(rows, cols))
        line = np.arange(cols, dtype=np.int32)[None, :]
        sizes = np.array([rows], np.int64)
        shape = (rows, cols)
        image = FirmwareImage("perfect", "", shape, shape, 0, 1, 0, sizes, line)
        return cls(image, None, fingerprint({"perfect-fabric": list(shape)}))

    def _check_sites(self, image: FirmwareImage, wafer: WaferSpec) -> None:
        if wafer.shape != image.physical_shape:
            raise BadFile(image.source, f"is for {image.physical_shape} sites", value=wafer.shape)
        span = wafer.spans[self._first_row : self._first_row + self.shape[0]]
        beyond = (self._columns[self._group, 0] < span[:, 0]) | (self._columns[self._group, -1] >= span[:, 1])
        if beyond.any():
            row = int(np.argmax(beyond)) + self._first_row
            raise BadFile(image.source, "uses sites beyond the wafer's edge", where=f"physical row {row}")
        for row, col in wafer.hole_sites.tolist():
            if self.logical_of(row, col) is not None:
                raise BadFile(image.source, "uses a site in a hole of the wafer", value=(row, col))

    @cached_property
    def core_of(self) -> npt.NDArray[np.int32]:
        """int32[H, W, 2], read-only: physical (row, col) of each logical core. Built when first asked for."""
        out = np.empty((*self.shape, 2), np.int32)
        out[:, :, 0] = np.arange(self._first_row, self._first_row + self.shape[0], dtype=np.int32)[:, None]
        out[:, :, 1] = self._columns[self._group]
        out.flags.writeable = False
        return out

    def physical_of(self, row: int, col: int) -> tuple[int, int]:
        """Physical (row, col) of one logical core.

        Raises:
            BadInput: there is no such logical core.
        """
        if not (0 <= row < self.shape[0] and 0 <= col < self.shape[1]):
            raise BadInput(f"there is no such core on a fabric of {self.shape[0]} x {self.shape[1]}", value=(row, col))
        return self._first_row + int(row), int(self._columns[self._group[row], col])

    def logical_of(self, row: int, col: int) -> tuple[int, int] | None:
        """Logical (row, col) on a physical site; None where it is bypassed, spare or absent."""
        r = int(row) - self._first_row
        if not 0 <= r < self.shape[0]:
            return None
        line = self._columns[self._group[r]]
        c = int(np.searchsorted(line, col))
        return (r, c) if c < len(line) and line[c] == col else None

    def physical_link(self, row: int, col: int, port: int) -> LinkKey | None:
        """Physical link behind port N, E, S or W of a logical core; None at the border of the fabric.

        Raises:
            BadInput: there is no such core or port.
        """
        if port not in _STEP:
            raise BadInput("port must be one of N, E, S, W = 0..3", value=port)
        here = self.physical_of(row, col)
        dr, dc = _STEP[port]
        if not (0 <= row + dr < self.shape[0] and 0 <= col + dc < self.shape[1]):
            return None
        there = self.physical_of(row + dr, col + dc)
        first, second = min(here, there), max(here, there)
        return (*first, second[0] - first[0], second[1] - first[1])

    def logical_link(self, key: LinkKey) -> tuple[LogicalPort, LogicalPort] | None:
        """The logical link on a physical one, as the ports of its two ends, the key's own end first.

        None where no logical link uses it.
        """
        row, col, drow, dcol = key
        a, b = self.logical_of(row, col), self.logical_of(row + drow, col + dcol)
        if a is None or b is None:
            return None
        step = (b[0] - a[0], b[1] - a[1])
        for port, way in _STEP.items():
            if way == step:
                return (*a, port), (*b, OPPOSITE[port])
        return None

    def __repr__(self) -> str:
        name = "" if self.spec is None else f" of {self.spec.name}"
        return f"Fabric({self.shape[0]}x{self.shape[1]} on {self.wafer_id}{name}, image {self.image_fingerprint})"
