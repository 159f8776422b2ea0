"""Repair architectures as data: what a wafer's redundancy allows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from yieldkit.errors import BadInput

if TYPE_CHECKING:
    from yieldkit.faultmap import FaultMap
    from yieldkit.wafer import WaferSpec

__all__ = ["LineSpares", "Placement", "Region", "RowShift", "Rules", "rules_from_dict"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the logical fabric lies: `rows` x `cols` cores, row 0 on physical row `first_row`.

    `first_col` is the physical column of logical column 0 at displacement 0, so displacements run from 0 to the spares.
    """

    rows: int
    cols: int
    first_row: int
    first_col: int


@dataclass(frozen=True, slots=True)
class RowShift:
    """The wafer-scale scheme: within a row cores are skipped, and the rest of the row moves along.

    Logical column c of a row lies on physical column ``first_col + c + d[r, c]`` with ``0 <= d <= spares``,
    ``0 <= d[r, c+1] - d[r, c] <= skip_reach - 1`` and ``|d[r+1, c] - d[r, c]| <= vertical_reach``.

    Args:
        spares: spare columns next to the logical ones; rows whose span is shorter have fewer.
        skip_reach: a link along the row reaches 1 to this many sites.
        vertical_reach: links between adjacent rows reach at most this many columns to either side.
        logical_shape: (rows, cols) of the standard fabric; from the wafer, or else every row and all columns but the
            spares, when not given.
        first_row: physical row of logical row 0.

    Raises:
        BadInput: a number is negative or not an integer.
    """

    spares: int
    skip_reach: int = 2
    vertical_reach: int = 1
    logical_shape: tuple[int, int] | None = None
    first_row: int = 0

    kind: ClassVar[str] = "row_shift"

    def __post_init__(self) -> None:
        smallest = {"spares": 0, "skip_reach": 1, "vertical_reach": 0, "first_row": 0}
        for name, least in smallest.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 100_000:
                raise BadInput(f"{name} must be an integer from {least} to 100,000", value=value)
        if self.logical_shape is not None:
            shape = tuple(self.logical_shape)
            if len(shape) != 2 or any(isinstance(n, bool) or n < 1 for n in shape):
                raise BadInput("logical_shape must be two positive integers", value=self.logical_shape)
            object.__setattr__(self, "logical_shape", shape)

    @classmethod
    def for_wafer(cls, wafer: WaferSpec, *, spares: int | None = None) -> RowShift:
        """The rules of a wafer: its spares, reaches and standard fabric; `spares` takes fewer of the columns."""
        return cls(
            spares=wafer.spares_per_row if spares is None else spares,
            skip_reach=wafer.repair.skip_reach,
            vertical_reach=wafer.repair.vertical_reach,
            logical_shape=wafer.logical_shape,
            first_row=wafer.logical.first_row,
        )

    def placed(self, faults: FaultMap, wafer: WaferSpec | None = None) -> RowShift:
        """These rules with the logical shape filled in.

        It is taken from the rules, then from `wafer`, then from the preset that the fault map was made on.

        Raises:
            BadInput: the fault map was made on another wafer.
        """
        _check_wafer(faults, wafer)
        if self.logical_shape is not None:
            return self
        if wafer is None:
            wafer = _preset_of(faults)
        if wafer is not None:
            return replace(self, logical_shape=wafer.logical_shape, first_row=wafer.logical.first_row)
        rows, cols = faults.shape
        if cols <= self.spares or rows <= self.first_row:
            raise BadInput(f"a grid of {rows} x {cols} sites leaves no fabric", value=self.spares)
        return replace(self, logical_shape=(rows - self.first_row, cols - self.spares))

    def placement(self, shape: tuple[int, int]) -> Placement:
        """Where the logical fabric lies on a grid of `shape` sites; the spare columns are centred.

        Raises:
            BadInput: it does not fit.
        """
        if self.logical_shape is None:
            raise BadInput("the rules do not say how large the logical fabric is", cure="pass logical_shape or a wafer")
        rows, cols = self.logical_shape
        if self.first_row + rows > shape[0] or cols + self.spares > shape[1]:
            raise BadInput(
                f"{rows} x {cols} logical cores from row {self.first_row} with {self.spares} spare columns do not fit "
                f"on {shape[0]} x {shape[1]} sites",
                cure="take fewer spares or a smaller logical_shape",
            )
        return Placement(rows, cols, self.first_row, (shape[1] - cols - self.spares) // 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the name of the architecture."""
        return _plain(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> RowShift:
        """The inverse of `to_dict`.

        Raises:
            BadInput: unknown architecture or fields.
        """
        return _from_plain(cls, facts)


@dataclass(frozen=True, slots=True)
class Region:
    """The lines that a fabric with line spares is made of: `rows` x `cols` sites from (first_row, first_col).

    Of them `height` x `width` are the logical fabric; the others, `spare_rows` and `spare_cols`, may be bypassed.
    """

    rows: int
    cols: int
    first_row: int
    first_col: int
    height: int
    width: int

    @property
    def spare_rows(self) -> int:
        """Rows that may be bypassed."""
        return self.rows - self.height

    @property
    def spare_cols(self) -> int:
        """Columns that may be bypassed."""
        return self.cols - self.width


@dataclass(frozen=True, slots=True)
class LineSpares:
    """Whole-line bypass: at most `rows` rows and `cols` columns are taken out, and what is left is the fabric.

    Every dead or absent core has to lie on a bypassed line, every dead link between neighbours has to have an end on
    one. Assumption of this architecture: a logical link over bypassed lines runs on bypass wires of its own, which a
    dead core, a dead router or a dead link between neighbours does not cut; longer and diagonal links do not exist.

    Args:
        rows: most rows that may be bypassed.
        cols: most columns that may be bypassed.
        logical_shape: (rows, cols) of the standard fabric; from the wafer, or else the grid less the spares, when not
            given. The fabric and its spares are one block of lines; lines beyond it are not used.
        first_row: first physical row of that block; centred when not given, and so is `first_col`.
        first_col: its first physical column.

    Raises:
        BadInput: a number is negative or not an integer.
    """

    rows: int
    cols: int
    logical_shape: tuple[int, int] | None = None
    first_row: int | None = None
    first_col: int | None = None

    kind: ClassVar[str] = "line_spares"

    def __post_init__(self) -> None:
        for name in ("rows", "cols", "first_row", "first_col"):
            value = getattr(self, name)
            if value is None and name.startswith("first"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
                raise BadInput(f"{name} must be an integer from 0 to 1,000,000", value=value)
        if self.logical_shape is not None:
            shape = tuple(self.logical_shape)
            if len(shape) != 2 or not all(_is_count(n) for n in shape):
                raise BadInput("logical_shape must be two positive integers", value=self.logical_shape)
            object.__setattr__(self, "logical_shape", shape)

    @classmethod
    def for_wafer(cls, wafer: WaferSpec, *, rows: int | None = None, cols: int | None = None) -> LineSpares:
        """The rules of a wafer: all lines beyond its standard fabric are spares, or as few as `rows` and `cols` say."""
        height, width = wafer.logical_shape
        return cls(
            rows=wafer.shape[0] - height if rows is None else rows,
            cols=wafer.shape[1] - width if cols is None else cols,
            logical_shape=wafer.logical_shape,
        )

    def placed(self, faults: FaultMap, wafer: WaferSpec | None = None) -> LineSpares:
        """These rules with the logical shape filled in, as in `RowShift.placed`.

        Raises:
            BadInput: the fault map was made on another wafer, or the spares leave nothing.
        """
        _check_wafer(faults, wafer)
        if self.logical_shape is not None:
            return self
        if wafer is None:
            wafer = _preset_of(faults)
        if wafer is not None:
            return replace(self, logical_shape=wafer.logical_shape)
        rows, cols = faults.shape
        if rows <= self.rows or cols <= self.cols:
            raise BadInput(f"a grid of {rows} x {cols} sites leaves no fabric", value=(self.rows, self.cols))
        return replace(self, logical_shape=(rows - self.rows, cols - self.cols))

    def region(self, shape: tuple[int, int]) -> Region:
        """The block of lines on a grid of `shape` sites; where the grid ends, it has fewer spares.

        Raises:
            BadInput: it does not fit.
        """
        if self.logical_shape is None:
            raise BadInput("the rules do not say how large the logical fabric is", cure="pass logical_shape or a wafer")
        sizes, firsts = [], []
        for logical, spares, sites, first in zip(
            self.logical_shape, (self.rows, self.cols), shape, (self.first_row, self.first_col), strict=True
        ):
            start = max((sites - logical - spares) // 2, 0) if first is None else first
            if start + logical > sites:
                raise BadInput(
                    f"{self.logical_shape[0]} x {self.logical_shape[1]} logical cores do not fit on "
                    f"{shape[0]} x {shape[1]} sites from line {start}",
                    cure="take a smaller logical_shape",
                )
            sizes.append(min(logical + spares, sites - start))
            firsts.append(start)
        return Region(sizes[0], sizes[1], firsts[0], firsts[1], *self.logical_shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the name of the architecture."""
        return _plain(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> LineSpares:
        """The inverse of `to_dict`.

        Raises:
            BadInput: unknown architecture or fields.
        """
        return _from_plain(cls, facts)


def _plain(rules: RowShift | LineSpares) -> dict[str, Any]:
    facts = asdict(rules)
    facts["logical_shape"] = None if rules.logical_shape is None else list(rules.logical_shape)
    return {"architecture": rules.kind, **facts}


def _from_plain(cls: type[_R], facts: dict[str, Any]) -> _R:
    known = dict(facts)
    if known.pop("architecture", None) != cls.kind:
        raise BadInput(f"architecture must be {cls.kind!r}", value=facts.get("architecture"))
    shape = known.pop("logical_shape", None)
    try:
        return cls(**known, logical_shape=None if shape is None else tuple(shape))
    except TypeError as error:
        raise BadInput(f"rules: {error}") from None


_R = TypeVar("_R", RowShift, LineSpares)

Rules: TypeAlias = RowShift | LineSpares
"""Any of the architectures."""


def rules_from_dict(facts: dict[str, Any]) -> Rules:
    """Rules of the architecture that `facts` names.

    Raises:
        BadInput: there is no such architecture, or its fields are wrong.
    """
    kinds: dict[str, type[RowShift] | type[LineSpares]] = {"row_shift": RowShift, "line_spares": LineSpares}
    name = facts.get("architecture")
    if not isinstance(name, str) or name not in kinds:
        raise BadInput(f"architecture must be one of {', '.join(kinds)}", value=name)
    return kinds[name].from_dict(facts)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_wafer(faults: FaultMap, wafer: WaferSpec | None) -> None:
    if wafer is not None and faults.spec_fingerprint and faults.spec_fingerprint != wafer.fingerprint:
        raise BadInput(f"the fault map belongs to another wafer than {wafer.name}", value=faults.wafer_name)


def _preset_of(faults: FaultMap) -> WaferSpec | None:
    if not faults.spec_fingerprint:
        return None
    from yieldkit.wafer import WaferSpec, preset_names

    if faults.wafer_name not in preset_names():
        return None
    wafer = WaferSpec.preset(faults.wafer_name)
    return wafer if wafer.fingerprint == faults.spec_fingerprint else None
