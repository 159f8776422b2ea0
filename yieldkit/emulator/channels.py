"""Which colour carries what, and the route words that follow for a core at logical (row, column) of a rectangle.

Every channel is static but for the switched ones, whose router takes its own block first and then passes (gather,
all-gather) or takes its block and then passes on (scatter). A chain needs two colours by parity, because a colour has
one receiving port per position::

    chain east      c=0 ──P0──► c=1 ──P1──► c=2 ──P0──► ...        (each core adds its partial)
    scatter west    c=0 ◄─────── c=1 ◄─────── ... ◄─────── last     (nearest core first)
    all-gather      own block first, then pass what comes from the west (east); mirrored on a second colour

Channels in `COLOUR_OF` have colours of their own. The others take, at each launch, the lowest ones that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from yieldkit.emulator.isa import COLOURS, route_word
from yieldkit.emulator.lines import levels, stop_of
from yieldkit.emulator.permute import is_permute, permute_routes, permute_width
from yieldkit.errors import BadInput
from yieldkit.quantities import EAST, NORTH, RAMP, SOUTH, WEST

__all__ = ["CHANNELS", "COLOUR_OF", "FREE_CHANNELS", "assign_colours", "routes_of"]

Routes = dict[int, list[int]]

COLOUR_OF: Final = {
    "column_multicast": 0,
    "chain_east": 1,  # and 2
    "scatter_west": 3,
    "row_multicast_west": 4,
    "chain_south": 5,  # and 6
    "column_multicast_north": 7,
    "all_gather_east": 8,
    "all_gather_west": 9,
    "stream_scatter": 10,
    "stream_multicast_row": 11,
    "gather_out": 12,
    "diagonal_west": 13,
    "diagonal_column": 14,
    "shift_west": 15,  # and 16
    "shift_north": 17,  # and 18
    "edge_out_east": 19,
    "edge_out_south": 20,
}


def _column_multicast(r: int, c: int, rows: int, cols: int) -> Routes:
    tx = [RAMP] if r == rows - 1 else [RAMP, SOUTH]
    return {COLOUR_OF["column_multicast"]: [route_word(NORTH, tx)]}


def _chain_east(r: int, c: int, rows: int, cols: int) -> Routes:
    first = COLOUR_OF["chain_east"]
    routes: Routes = {}
    if c > 0:
        routes[first + (c - 1) % 2] = [route_word(WEST, [RAMP])]
    if c < cols - 1:
        routes[first + c % 2] = [route_word(RAMP, [EAST])]
    return routes


def _scatter_west(r: int, c: int, rows: int, cols: int) -> Routes:
    colour = COLOUR_OF["scatter_west"]
    if cols == 1:
        return {}
    if c == cols - 1:
        return {colour: [route_word(RAMP, [WEST])]}
    take = route_word(EAST, [RAMP], last=c == 0)
    return {colour: [take] if c == 0 else [take, route_word(EAST, [WEST])]}


def _row_multicast_west(r: int, c: int, rows: int, cols: int) -> Routes:
    colour = COLOUR_OF["row_multicast_west"]
    if cols == 1:
        return {}
    if c == cols - 1:
        return {colour: [route_word(RAMP, [WEST])]}
    return {colour: [route_word(EAST, [RAMP] if c == 0 else [RAMP, WEST])]}


def _chain_south(r: int, c: int, rows: int, cols: int) -> Routes:
    first = COLOUR_OF["chain_south"]
    routes: Routes = {}
    if r > 0:
        routes[first + (r - 1) % 2] = [route_word(NORTH, [RAMP])]
    if r < rows - 1:
        routes[first + r % 2] = [route_word(RAMP, [SOUTH])]
    return routes


def _column_multicast_north(r: int, c: int, rows: int, cols: int) -> Routes:
    colour = COLOUR_OF["column_multicast_north"]
    if rows == 1:
        return {}
    if r == rows - 1:
        return {colour: [route_word(RAMP, [NORTH])]}
    return {colour: [route_word(SOUTH, [RAMP] if r == 0 else [RAMP, NORTH])]}


def _all_gather(r: int, c: int, rows: int, cols: int) -> Routes:
    if cols == 1:
        return {}
    east, west = COLOUR_OF["all_gather_east"], COLOUR_OF["all_gather_west"]
    routes: Routes = {}
    if c == 0:
        routes[east] = [route_word(RAMP, [EAST])]
        routes[west] = [route_word(EAST, [RAMP])]
    elif c == cols - 1:
        routes[east] = [route_word(WEST, [RAMP])]
        routes[west] = [route_word(RAMP, [WEST])]
    else:
        routes[east] = [route_word(RAMP, [EAST], last=False), route_word(WEST, [RAMP, EAST])]
        routes[west] = [route_word(RAMP, [WEST], last=False), route_word(EAST, [RAMP, WEST])]
    return routes


def _stream_scatter(r: int, c: int, rows: int, cols: int) -> Routes:
    take = route_word(WEST, [RAMP], last=c == cols - 1)
    words = [take] if c == cols - 1 else [take, route_word(WEST, [EAST])]
    return {COLOUR_OF["stream_scatter"]: words}


def _stream_multicast_row(r: int, c: int, rows: int, cols: int) -> Routes:
    tx = [RAMP] if c == cols - 1 else [RAMP, EAST]
    return {COLOUR_OF["stream_multicast_row"]: [route_word(WEST, tx)]}


def _gather_out(r: int, c: int, rows: int, cols: int) -> Routes:
    own = route_word(RAMP, [EAST], last=c == 0)
    return {COLOUR_OF["gather_out"]: [own] if c == 0 else [own, route_word(WEST, [EAST])]}


def _diagonal(r: int, c: int, rows: int, cols: int) -> Routes:
    west, column = COLOUR_OF["diagonal_west"], COLOUR_OF["diagonal_column"]
    routes: Routes = {}
    if r < cols - 1:
        if c == cols - 1:
            routes[west] = [route_word(RAMP, [WEST])]
        elif c > r:
            routes[west] = [route_word(EAST, [WEST])]
        elif c == r:
            routes[west] = [route_word(EAST, [RAMP])]
    if rows > 1:
        if r == c:
            tx = [port for port, there in ((NORTH, r > 0), (SOUTH, r < rows - 1)) if there]
            routes[column] = [route_word(RAMP, tx)]
        elif r < c:
            routes[column] = [route_word(SOUTH, [RAMP] if r == 0 else [RAMP, NORTH])]
        else:
            routes[column] = [route_word(NORTH, [RAMP] if r == rows - 1 else [RAMP, SOUTH])]
    return routes


def _shift_west(r: int, c: int, rows: int, cols: int) -> Routes:
    first = COLOUR_OF["shift_west"]
    routes: Routes = {}
    if c < cols - 1:
        routes[first + (c + 1) % 2] = [route_word(EAST, [RAMP])]
    if c > 0:
        routes[first + c % 2] = [route_word(RAMP, [WEST])]
    return routes


def _shift_north(r: int, c: int, rows: int, cols: int) -> Routes:
    first = COLOUR_OF["shift_north"]
    routes: Routes = {}
    if r < rows - 1:
        routes[first + (r + 1) % 2] = [route_word(SOUTH, [RAMP])]
    if r > 0:
        routes[first + r % 2] = [route_word(RAMP, [NORTH])]
    return routes


def _edge_out_east(r: int, c: int, rows: int, cols: int) -> Routes:
    return {COLOUR_OF["edge_out_east"]: [route_word(RAMP, [EAST])]} if c == cols - 1 else {}


def _edge_out_south(r: int, c: int, rows: int, cols: int) -> Routes:
    return {COLOUR_OF["edge_out_south"]: [route_word(RAMP, [SOUTH])]} if r == rows - 1 else {}


CHANNELS: Final[dict[str, Callable[[int, int, int, int], Routes]]] = {
    "column_multicast": _column_multicast,
    "chain_east": _chain_east,
    "scatter_west": _scatter_west,
    "row_multicast_west": _row_multicast_west,
    "chain_south": _chain_south,
    "column_multicast_north": _column_multicast_north,
    "all_gather": _all_gather,
    "stream_scatter": _stream_scatter,
    "stream_multicast_row": _stream_multicast_row,
    "gather_out": _gather_out,
    "diagonal": _diagonal,
    "shift_west": _shift_west,
    "shift_north": _shift_north,
    "edge_out_east": _edge_out_east,
    "edge_out_south": _edge_out_south,
}


def _line(r: int, c: int, rows: int, cols: int, *, south: bool) -> tuple[int, int, int, int]:
    """Place, size, and the ports words come from and leave by, on the line along a row or down a column."""
    return (r, rows, NORTH, SOUTH) if south else (c, cols, WEST, EAST)


def _tree(south: bool) -> Callable[[int, int, int, int], Routes]:
    def routes(r: int, c: int, rows: int, cols: int) -> Routes:
        place, size, behind, ahead = _line(r, c, rows, cols, south=south)
        stop = stop_of("tree", place, size)
        words = {level: [route_word(behind, [RAMP])] for _, level in stop.receive}
        if stop.send is not None:
            own = stop.send[1]
            words[own] = [route_word(RAMP, [ahead])]
            if place > 0:
                words |= {level: [route_word(behind, [ahead])] for level in range(own + 1, levels(size))}
        return words

    return routes


def _leaders(south: bool) -> Callable[[int, int, int, int], Routes]:
    def routes(r: int, c: int, rows: int, cols: int) -> Routes:
        place, size, behind, ahead = _line(r, c, rows, cols, south=south)
        stop = stop_of("two_phase", place, size)
        if stop.send is not None and stop.send[0] == "chain":
            return {number: [route_word(behind, [ahead])] for number in range(2)} if place > 0 else {}
        words = {number: [route_word(behind, [RAMP])] for channel, number in stop.receive if channel == "leaders"}
        if stop.send is not None:
            words[stop.send[1]] = [route_word(RAMP, [ahead])]
        return words

    return routes


def _all_gather_column(r: int, c: int, rows: int, cols: int) -> Routes:
    if rows == 1:
        return {}
    if r == 0:
        return {0: [route_word(RAMP, [SOUTH])], 1: [route_word(SOUTH, [RAMP])]}
    if r == rows - 1:
        return {0: [route_word(NORTH, [RAMP])], 1: [route_word(RAMP, [NORTH])]}
    return {
        0: [route_word(RAMP, [SOUTH], last=False), route_word(NORTH, [RAMP, SOUTH])],
        1: [route_word(RAMP, [NORTH], last=False), route_word(SOUTH, [RAMP, NORTH])],
    }


FREE_CHANNELS: Final[dict[str, Callable[[int, int, int, int], Routes]]] = {
    "tree_east": _tree(south=False),
    "tree_south": _tree(south=True),
    "leaders_east": _leaders(south=False),
    "leaders_south": _leaders(south=True),
    "all_gather_column": _all_gather_column,
}
"""Channels without colours of their own; their routes go by the numbers of their colours, from 0 up."""

_PAIRS: Final = frozenset({"chain_east", "chain_south", "all_gather", "diagonal", "shift_west", "shift_north"})


def _own_colours(channel: str) -> tuple[int, ...]:
    first = COLOUR_OF[{"all_gather": "all_gather_east", "diagonal": "diagonal_west"}.get(channel, channel)]
    return (first, first + 1) if channel in _PAIRS else (first,)


def _width(channel: str, rows: int, cols: int) -> int:
    if is_permute(channel):
        return permute_width(channel)
    if channel.startswith("tree"):
        return levels(cols if channel == "tree_east" else rows)
    return 2


def assign_colours(channels: Iterable[str], rows: int, cols: int, launch: str) -> dict[str, tuple[int, ...]]:
    """Colours of each channel of a launch, all distinct.

    Args:
        channels: without repeats.
        rows: of the rectangle.
        cols: of the rectangle.
        launch: its name, for the message.

    Raises:
        BadInput: more colours are needed than a router has; names the channels.
    """
    names = list(channels)
    colours = {name: _own_colours(name) for name in names if name in CHANNELS}
    taken = {colour for own in colours.values() for colour in own}
    free = [colour for colour in range(COLOURS) if colour not in taken]
    widths = {name: _width(name, rows, cols) for name in names if name not in CHANNELS}
    if sum(widths.values()) > len(free):
        needs = {name: len(own) for name, own in colours.items()} | widths
        listed = ", ".join(f"{name} {needs[name]}" for name in names)
        raise BadInput(
            f"launch {launch!r} needs {sum(needs.values())} colours and a router has {COLOURS}: {listed}",
            cure="split the launch, or reduce by another method",
        )
    for name, width in widths.items():
        colours[name], free = tuple(free[:width]), free[width:]
    return colours


def routes_of(channel: str, r: int, c: int, rows: int, cols: int, colours: Sequence[int] | None = None) -> Routes:
    """Route words by colour, in order of position, that `channel` needs at core (r, c) of a rows x cols rectangle.

    `colours` are those assigned to a channel that has none of its own.
    """
    if channel in CHANNELS:
        return CHANNELS[channel](r, c, rows, cols)
    words = permute_routes(channel, c) if is_permute(channel) else FREE_CHANNELS[channel](r, c, rows, cols)
    return {number if colours is None else colours[number]: positions for number, positions in words.items()}
