"""Tasks of matrix products: streamed and resident weights, weight gradients.

Accumulators lie [feature][token]. Where a program declares blocked accumulation, a product has two of them: the fp32
sum of a block of k, and the total of the blocks before.
"""

from __future__ import annotations

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.isa import CONTROL_ADVANCE, CONTROL_EACH, CONTROL_RESET
from yieldkit.emulator.tables import CoreCode, Desc
from yieldkit.workloads.program import Gemm, Gemv, Phase, Program, WGrad

__all__ = ["emit_gemm", "emit_gemv", "emit_wgrad", "reduce_to_edge", "scratch_name", "total_name"]


def scratch_name(phase: Phase) -> str:
    """Name under which a phase's accumulator is placed."""
    return f"__acc:{phase.name}"


def total_name(phase: Phase) -> str:
    """Name under which a product's accumulator over blocks of k is placed."""
    return f"__acc.total:{phase.name}"


def chain_step(code: CoreCode, axis: str, acc: Desc, count: int, dtype: str) -> None:
    """Send `acc` on, added to what came from the core before; the last core keeps the sum in place."""
    place, size = (code.c, code.cols) if axis == "row" else (code.r, code.rows)
    first = COLOUR_OF["chain_east" if axis == "row" else "chain_south"]
    if size == 1:
        return
    before = code.receive(first + (place - 1) % 2, dtype, [count])
    after = code.send(first + place % 2, dtype, [count])
    if place == 0:
        code.task("mov", after, acc)
    elif place < size - 1:
        code.task("add", after, before, acc)
    else:
        code.task("add", acc, before, acc)


def _blocks(program: Program, steps: int) -> list[tuple[int, int]]:
    """(first, count) of the steps of k whose products are added up in fp32."""
    block = program.block or steps
    return [(first, min(block, steps - first)) for first in range(0, steps, block)]


def _add_block(code: CoreCode, program: Program, phase: Phase, count: int, first: int) -> None:
    """Add the fp32 sum of the block that began at step `first` to the total; without blocks it is the total."""
    if program.block:
        total, block = (code.memory(name, [(count, 1)]) for name in (total_name(phase), scratch_name(phase)))
        if first == 0:
            code.task("mov", total, block)
        else:
            code.task("add", total, total, block)


def _total(program: Program, phase: Phase) -> str:
    """Name of the accumulator that holds a core's partial in the end."""
    return total_name(phase) if program.block else scratch_name(phase)


def emit_gemm(code: CoreCode, program: Program, phase: Gemm) -> None:
    """Append the tasks of a product with streamed weights."""
    table = program.table
    (m, kc), nc = table[phase.x].dims, table[phase.y].dims[1]
    part, cols, acc, total = phase.part, code.cols, scratch_name(phase), _total(program, phase)
    width = cols * part
    last = code.c == cols - 1
    dtype = program.sum_dtype
    for tile in range(nc // part):
        whole = code.memory(acc, [(width * m, 1)])
        for k, count in _blocks(program, kc):
            code.task("mov", whole, code.zero(width * m))
            code.task(
                "mac",
                code.memory(acc, [(m, 1), (width, m), (count, 0)]),
                code.receive(COLOUR_OF["column_multicast"], program.dtype, [m, width, count], hold=True),
                code.memory(phase.x, [(m, kc), (width, 0), (count, 1)], k),
            )
            _add_block(code, program, phase, width * m, k)
        chain_step(code, "row", code.memory(total, [(width * m, 1)]), width * m, dtype)
        scatter = COLOUR_OF["scatter_west"]
        if last and cols > 1:
            code.task(
                "mov",
                code.send(scatter, dtype, [m, part, cols - 1], control=CONTROL_EACH),
                code.memory(total, [(m, 1), (part, m), (cols - 1, -part * m)], (cols - 2) * part * m),
                tap=True,
            )
        if last:
            source = code.memory(total, [(m, 1), (part, m)], (cols - 1) * part * m)
        else:
            source = code.receive(scatter, dtype, [m, part])
        target = code.memory(phase.y, [(m, nc), (part, 1)], tile * part)
        if phase.accumulate:
            code.task("add", target, source, target, tap=last)
        else:
            code.task("mov", target, source, tap=last)


def emit_wgrad(code: CoreCode, program: Program, phase: WGrad) -> None:
    """Append the tasks of a weight gradient."""
    table = program.table
    (m, kc), nc = table[phase.x].dims, table[phase.dy].dims[1]
    size = code.cols * phase.part * kc
    whole = code.memory(scratch_name(phase), [(size, 1)])
    total = code.memory(_total(program, phase), [(size, 1)])
    for tile in range(nc // phase.part):
        for token, count in _blocks(program, m):
            code.task("mov", whole, code.zero(size))
            _exchanged_products(code, program, phase, tile * phase.part, token, count)
            _add_block(code, program, phase, size, token)
        reduce_to_edge(code, total, size, program.sum_dtype)


def _exchanged_products(code: CoreCode, program: Program, phase: WGrad, feature: int, token: int, tokens: int) -> None:
    """Send `tokens` tokens of dy along the row, both ways, and multiply all that come with this core's x."""
    table = program.table
    kc, nc = table[phase.x].dims[1], table[phase.dy].dims[1]
    part, cols, acc, c = phase.part, code.cols, scratch_name(phase), code.c
    east, west = COLOUR_OF["all_gather_east"], COLOUR_OF["all_gather_west"]
    dtype = table[phase.dy].dtype
    own = token * nc + feature
    code.task(
        "mac",
        code.memory(acc, [(kc, 1), (tokens, 0), (part, kc)], c * part * kc),
        code.memory(phase.dy, [(kc, 0), (tokens, nc), (part, 1)], own),
        code.memory(phase.x, [(kc, 1), (tokens, kc), (part, 0)], token * kc),
    )
    # Eastward the block goes out with its features descending, so that the receiver walks all blocks from the
    # nearest core on as one descending loop.
    if c < cols - 1:
        code.task(
            "mov",
            code.send(east, dtype, [tokens, part], control=CONTROL_RESET if c == 0 else CONTROL_ADVANCE),
            code.memory(phase.dy, [(tokens, nc), (part, -1)], own + part - 1),
        )
    if c > 0:
        count = c * part
        code.task(
            "mac",
            code.memory(acc, [(kc, 1), (tokens, 0), (count, -kc)], (count - 1) * kc),
            code.receive(east, dtype, [kc, tokens, count], hold=True),
            code.memory(phase.x, [(kc, 1), (tokens, kc), (count, 0)], token * kc),
        )
        code.task(
            "mov",
            code.send(west, dtype, [tokens, part], control=CONTROL_RESET if c == cols - 1 else CONTROL_ADVANCE),
            code.memory(phase.dy, [(tokens, nc), (part, 1)], own),
        )
    if c < cols - 1:
        count = (cols - 1 - c) * part
        code.task(
            "mac",
            code.memory(acc, [(kc, 1), (tokens, 0), (count, kc)], (c + 1) * part * kc),
            code.receive(west, dtype, [kc, tokens, count], hold=True),
            code.memory(phase.x, [(kc, 1), (tokens, kc), (count, 0)], token * kc),
        )


def reduce_to_edge(code: CoreCode, source: Desc, count: int, dtype: str) -> None:
    """Add `source` along the columns in logical order; the last row sends the sum out at the south edge."""
    out = code.send(COLOUR_OF["edge_out_south"], dtype, [count])
    first = COLOUR_OF["chain_south"]
    if code.rows == 1:
        code.task("mov", out, source)
    elif code.r < code.rows - 1:
        chain_step(code, "col", source, count, dtype)
    else:
        code.task("add", out, code.receive(first + (code.r - 1) % 2, dtype, [count]), source)


def emit_gemv(code: CoreCode, program: Program, phase: Gemv) -> None:
    """Append the tasks of a product with resident weights."""
    table = program.table
    (b, kc), nr = table[phase.x].dims, table[phase.w].dims[1]
    acc, r, c, last = scratch_name(phase), code.r, code.c, code.cols - 1
    count, total, dtype = nr * b, _total(program, phase), program.sum_dtype
    block = code.memory(acc, [(count, 1)])
    for k, steps in _blocks(program, kc):
        code.task("mov", block, code.zero(count))
        code.task(
            "mac",
            code.memory(acc, [(b, 1), (nr, b), (steps, 0)]),
            code.memory(phase.w, [(b, 0), (nr, 1), (steps, nr)], k * nr),
            code.memory(phase.x, [(b, kc), (nr, 0), (steps, 1)], k),
        )
        _add_block(code, program, phase, count, k)
    whole = code.memory(total, [(count, 1)])
    chain_step(code, "row", whole, count, dtype)
    west, column = COLOUR_OF["diagonal_west"], COLOUR_OF["diagonal_column"]
    if c == last and r != last:
        code.task("mov", code.send(west, dtype, [count]), whole, tap=True)
    if r == c:
        if r != last:
            code.task("mov", whole, code.receive(west, dtype, [count]))
        if code.rows > 1:
            code.task("mov", code.send(column, dtype, [count]), whole)
        source = code.memory(total, [(b, 1), (nr, b)])
    else:
        source = code.receive(column, dtype, [b, nr])
    code.task("mov", code.memory(phase.y, [(b, nr), (nr, 1)]), source, tap=r == c == last)
