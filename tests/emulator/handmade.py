"""Images changed by hand, and small programs to change: what lowering never writes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from yieldkit.emulator.isa import (
    COLOURS,
    CONTROL_ADVANCE,
    FABRIC_IN,
    FABRIC_OUT,
    MEMORY,
    OPCODES,
    descriptor_words,
    header_words,
    route_word,
    task_words,
)
from yieldkit.emulator.lowering import lower
from yieldkit.quantities import NORTH, RAMP, SOUTH
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import AllReduce, Permute, Shift, StreamIn, StreamOut


def with_launch(lowered, low):
    """The program with its launch of that number replaced; loaded anew, whatever its images are."""
    launches = list(lowered.launches)
    launches[low.index] = replace(low, tables_id=f"changed {id(low)}")
    return replace(lowered, launches=tuple(launches))


def with_role(lowered, r, c, *, alone=True, **changes):
    """The program with the role of core (r, c) changed, on this core alone or wherever the role is."""
    low = lowered.launches[0]
    number = int(low.role_of[r, c])
    role_of = low.role_of.copy()
    roles = [*low.roles]
    changed = replace(low.roles[number], **changes)
    if alone:
        role_of[r, c] = len(roles)
        roles.append(changed)
    else:
        roles[number] = changed
    return with_launch(lowered, replace(low, roles=tuple(roles), role_of=role_of))


def role_at(lowered, r, c):
    low = lowered.launches[0]
    return low.roles[low.role_of[r, c]]


def in_order(role, order):
    """Tables of a role whose tasks run in another order: task k does what task order[k] did."""
    tables = role.tables.copy()
    tasks = tables[: 2 * role.n_tasks].reshape(-1, 2)
    chain = tasks[:, 0] & ~np.uint32(0x3F)
    old = tasks.copy()
    for place, number in enumerate(order):
        tasks[place, 0] = chain[place] | (old[number, 0] & 0x3F)
        tasks[place, 1] = old[number, 1]
    return tables


def descriptor_at(role, task, operand):
    """Place of a task's descriptor in the tables: operand 0 D, 1 A, 2 B."""
    number = (int(role.tables[2 * task + 1]) >> (10 * operand)) & 0x3FF
    return 2 * role.n_tasks + 4 * number


def with_word(role, place, word):
    tables = role.tables.copy()
    tables[place] = word
    return tables


def with_route(role, colour, *words):
    routes = role.routes.copy()
    routes[colour] = 0
    routes[colour, : len(words)] = words
    assert routes.shape == (COLOURS, 4)
    return routes


def shifts(rows, cols, words, directions, *, sram_words=12_288):
    """One launch of shifts, each from a tensor of its own into another; no edge streams."""
    b = ProgramBuilder("shifts", rows, cols, "fp32")
    for number, direction in enumerate(directions):
        x = b.tensor(f"x{number}", (words,), dtype="fp32", keep=True)
        y = b.tensor(f"y{number}", (words,), dtype="fp32", keep=True)
        b.phase(Shift(f"shift{number}", x, y, direction))
    b.launch("shifts")
    return lower(b.build({"kind": "none"}), sram_words=sram_words)


def ring(cols, words):
    """Every core of a row sends to the next one, the last one to the first."""
    b = ProgramBuilder("ring", 1, cols, "fp32")
    x = b.tensor("x", (words,), dtype="fp32", keep=True)
    y = b.tensor("y", (words,), dtype="fp32", keep=True)
    b.phase(Permute("turn", x, y, tuple((c + 1) % cols for c in range(cols))))
    b.launch("ring")
    return lower(b.build({"kind": "none"}))


def two_phases(rows=2, cols=5, words=3):
    """Input, an all-reduce in two phases along rows, output: lowered, and the array that feeds it."""
    b = ProgramBuilder("two phases", rows, cols, "bf16")
    x = b.tensor("x", (words,), dtype="fp32")
    y = b.tensor("y", (words,), dtype="fp32")
    b.phase(StreamIn("in", x, "x", "scatter_row"))
    b.phase(AllReduce("sum", "row", "add", x, y, "two_phase"))
    b.phase(StreamOut("out", y, "y", "gather_row"))
    b.launch("reduce")
    rng = np.random.default_rng(7)
    return lower(b.build({"kind": "none"})), {"x": rng.integers(-9, 9, (rows, cols, words)).astype(np.float32)}


def gather_down(rows, words, *, expected=None):
    """Each core of a column sends its block south and passes on what comes from the north; the last takes everything.

    All rows between the first and the last have one image, though each hands on more words than the row before it.
    """
    lowered = shifts(rows, 1, words, "S")
    low = lowered.launches[0]
    base, colour = low.table_base, 5
    count = words * (rows - 1) if expected is None else expected
    task = task_words(OPCODES["mov"], 0, 1, 0, None)
    out = descriptor_words(FABRIC_OUT, 0, [(words, 0)], colour=colour, control=CONTROL_ADVANCE)
    down = [*task, *out, *descriptor_words(MEMORY, 0, [(words, 1)], base=low.address["x0"])]
    kept = descriptor_words(MEMORY, 0, [(count, 0)], base=low.address["y0"])
    take = [*task, *kept, *descriptor_words(FABRIC_IN, 0, [(count, 0)], colour=colour)]
    own, on = route_word(RAMP, [SOUTH], last=False), route_word(NORTH, [SOUTH])
    roles = []
    for image, routes in ((down, [own | 1 << 8]), (down, [own, on]), (take, [route_word(NORTH, [RAMP])])):
        role = low.roles[0]
        table = np.array(image, np.uint32)
        header = np.array(header_words(0, base, base + 2), np.uint32)
        first = np.array([0, 1], np.int32)
        changed = replace(role, header=header, tables=table, n_tasks=1, first_task=first, taps=np.zeros(1, np.bool_))
        roles.append(replace(changed, routes=with_route(changed, colour, *routes)))
    role_of = np.ones((rows, 1), np.int32)
    role_of[0], role_of[-1] = 0, 2
    return with_launch(lowered, replace(low, roles=tuple(roles), role_of=role_of))
