"""The tasks of one core for each phase kind: what lowering puts into the task and descriptor tables.

Every function appends tasks for the core at (r, c) of the rectangle. All extents are counted; nothing marks the end of
a stream. Blocks lie row-major in SRAM; accumulators lie [feature][token]. Where a program declares blocked
accumulation, a product has two of them: the fp32 sum of a block of k, and the total of the blocks before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yieldkit.emulator.channels import COLOUR_OF
from yieldkit.emulator.isa import (
    CONTROL_ADVANCE,
    CONTROL_EACH,
    CONTROL_NONE,
    CONTROL_RESET,
    FABRIC_IN,
    FABRIC_OUT,
    FORMATS,
    MAX_DESCRIPTORS,
    MAX_TASKS,
    MEMORY,
    OPCODES,
    descriptor_words,
    task_words,
)
from yieldkit.emulator.lines import Stop, stop_of
from yieldkit.emulator.permute import emit_permute, permute_channel
from yieldkit.errors import BadInput
from yieldkit.workloads.program import (
    AllGather,
    AllReduce,
    Broadcast,
    ChainAccumulate,
    Compute,
    Gemm,
    Gemv,
    Instr,
    Permute,
    Phase,
    Program,
    Reduce,
    Ref,
    Shift,
    StreamIn,
    StreamOut,
    WGrad,
)

__all__ = ["ZERO", "CoreCode", "channels_of", "emit_phase", "scratch_of"]

Reduction = AllReduce | Reduce

ZERO = "__zero"
"""Name of the one-word constant that clears accumulators."""

Desc = tuple[int, ...]
Loops = list[tuple[int, int]]


@dataclass
class CoreCode:
    """Tables of one core while they are being written.

    Attributes:
        r, c, rows, cols: where the core sits in the rectangle.
        address: SRAM address of every tensor.
        dtypes: its format.
        colours: of every channel of the launch.
        tasks: (opcode, D, A, B) as descriptor numbers.
        descriptors: distinct descriptors, in order of first use.
        taps: for each task, whether its A operand is a finished fp32 sum that state hashes cover.
    """

    r: int
    c: int
    rows: int
    cols: int
    address: Mapping[str, int]
    dtypes: Mapping[str, str]
    colours: Mapping[str, tuple[int, ...]]
    tasks: list[tuple[int, int, int, int]] = field(default_factory=list)
    descriptors: dict[Desc, int] = field(default_factory=dict)
    taps: list[bool] = field(default_factory=list)

    def memory(self, tensor: str, loops: Loops, offset: int = 0) -> Desc:
        """Descriptor of a nest of loops (innermost first) over a tensor in SRAM."""
        fmt = FORMATS[self.dtypes[tensor]]
        return tuple(descriptor_words(MEMORY, fmt, loops, base=self.address[tensor] + offset))

    def zero(self, count: int) -> Desc:
        """Descriptor that reads the constant zero `count` times."""
        return self.memory(ZERO, [(count, 0)])

    def receive(self, colour: int, dtype: str, extents: list[int], *, hold: bool = False) -> Desc:
        """Descriptor of words from the fabric."""
        loops = [(extent, 0) for extent in extents]
        return tuple(descriptor_words(FABRIC_IN, FORMATS[dtype], loops, colour=colour, hold=hold))

    def send(self, colour: int, dtype: str, extents: list[int], *, control: int = CONTROL_NONE) -> Desc:
        """Descriptor of words to the fabric."""
        loops = [(extent, 0) for extent in extents]
        return tuple(descriptor_words(FABRIC_OUT, FORMATS[dtype], loops, colour=colour, control=control))

    def task(self, op: str, d: Desc, a: Desc, b: Desc | None = None, *, tap: bool = False) -> None:
        """Append one task."""
        numbers = [self.descriptors.setdefault(x, len(self.descriptors)) for x in (d, a, *(() if b is None else (b,)))]
        self.tasks.append((OPCODES[op], numbers[0], numbers[1], numbers[2] if b is not None else 0))
        self.taps.append(tap)

    def words(self) -> list[int]:
        """Task table followed by descriptor table."""
        if len(self.tasks) > MAX_TASKS or len(self.descriptors) > MAX_DESCRIPTORS:
            raise BadInput(
                f"core ({self.r}, {self.c}) needs {len(self.tasks)} tasks and {len(self.descriptors)} descriptors, "
                f"the tables hold {MAX_TASKS} and {MAX_DESCRIPTORS}",
                cure="split the launch",
            )
        words: list[int] = []
        for number, (opcode, d, a, b) in enumerate(self.tasks):
            following = number + 1 if number + 1 < len(self.tasks) else None
            words += task_words(opcode, d, a, b, following)
        for descriptor in self.descriptors:
            words += descriptor
        return words


def scratch_of(program: Program, phase: Phase) -> dict[str, tuple[str, int]]:
    """(format, words) of the accumulators that a phase needs for itself, by name."""
    table = program.table
    if isinstance(phase, Gemm):
        words = program.cols * phase.part * table[phase.x].dims[0]
    elif isinstance(phase, WGrad):
        words = program.cols * phase.part * table[phase.x].dims[1]
    elif isinstance(phase, Gemv):
        words = table[phase.w].dims[1] * table[phase.x].dims[0]
    elif isinstance(phase, Reduce):
        size = program.cols if phase.axis == "row" else program.rows
        stops = (stop_of(phase.method, place, size) for place in range(size - 1))
        if all(len(stop.receive) < 2 for stop in stops):
            return {}
        return {scratch_name(phase): (table[phase.x].dtype, table[phase.x].size)}
    else:
        return {}
    needed = {scratch_name(phase): ("fp32", words)}
    if program.block:
        needed[total_name(phase)] = (program.sum_dtype, words)
    return needed


def scratch_name(phase: Phase) -> str:
    """Name under which a phase's accumulator is placed."""
    return f"__acc:{phase.name}"


def total_name(phase: Phase) -> str:
    """Name under which a product's accumulator over blocks of k is placed."""
    return f"__acc.total:{phase.name}"


def channels_of(program: Program, phase: Phase) -> tuple[str, ...]:
    """Channels whose routes a phase needs."""
    if isinstance(phase, Gemm):
        return ("column_multicast", "chain_east", "scatter_west")
    if isinstance(phase, WGrad):
        return ("all_gather", "chain_south", "edge_out_south")
    if isinstance(phase, Gemv):
        return ("chain_east", "diagonal")
    if isinstance(phase, Reduction):
        row = phase.axis == "row"
        stems = {"chain": ("chain",), "tree": ("tree",), "two_phase": ("chain", "leaders")}[phase.method]
        names = tuple(_along(stem, phase.axis) for stem in stems)
        return (
            names if isinstance(phase, Reduce) else (*names, "row_multicast_west" if row else "column_multicast_north")
        )
    if isinstance(phase, AllGather):
        return ("all_gather",) if phase.axis == "row" else ("all_gather_column",)
    if isinstance(phase, Broadcast):
        return ("row_multicast_west",) if phase.axis == "row" else ("column_multicast_north",)
    if isinstance(phase, ChainAccumulate):
        return ("chain_south", "column_multicast_north")
    if isinstance(phase, StreamIn):
        return (
            {
                "scatter_row": "stream_scatter",
                "multicast_row": "stream_multicast_row",
                "multicast_col": "column_multicast",
            }[phase.mode],
        )
    if isinstance(phase, StreamOut):
        return {
            "gather_row": ("gather_out",),
            "last_col": ("edge_out_east",),
            "last_row": ("edge_out_south",),
            "reduce_col": ("chain_south", "edge_out_south"),
        }[phase.mode]
    if isinstance(phase, Permute):
        return (permute_channel(phase.to),)
    if isinstance(phase, Shift):
        return ({"E": "chain_east", "S": "chain_south", "W": "shift_west", "N": "shift_north"}[phase.direction],)
    return ()


def _along(stem: str, axis: str) -> str:
    """Channel of a line along a row or down a column."""
    return f"{stem}_east" if axis == "row" else f"{stem}_south"


def emit_phase(code: CoreCode, program: Program, phase: Phase) -> None:
    """Append the tasks of `phase` for the core of `code`."""
    if isinstance(phase, Compute):
        for instr in phase.instrs:
            _instr(code, instr)
    elif isinstance(phase, Gemm):
        _gemm(code, program, phase)
    elif isinstance(phase, WGrad):
        _wgrad(code, program, phase)
    elif isinstance(phase, Gemv):
        _gemv(code, program, phase)
    elif isinstance(phase, Reduction):
        _reduction(code, program, phase)
    elif isinstance(phase, AllGather):
        _all_gather(code, program, phase)
    elif isinstance(phase, Broadcast):
        _broadcast(code, program, phase)
    elif isinstance(phase, ChainAccumulate):
        _chain_accumulate(code, program, phase)
    elif isinstance(phase, StreamIn):
        _stream_in(code, program, phase)
    elif isinstance(phase, StreamOut):
        _stream_out(code, program, phase)
    elif isinstance(phase, Permute):
        emit_permute(code, program, phase, code.colours[permute_channel(phase.to)])
    else:
        _shift(code, program, phase)


def _instr(code: CoreCode, instr: Instr) -> None:
    refs = [ref for ref in (instr.d, instr.a, instr.b) if ref is not None]
    axes = collapse(instr.axes, refs)
    outer, inner = axes[:-3], axes[-3:]
    counts = [0] * len(outer)
    while True:
        descriptors = []
        for number, ref in enumerate(refs):
            offset = ref.offset + sum(i * axis[1][number] for i, axis in zip(counts, outer, strict=True))
            loops = [(extent, strides[number]) for extent, strides in reversed(inner)]
            descriptors.append(code.memory(ref.tensor, loops, offset))
        code.task(instr.op, *descriptors)
        for position in reversed(range(len(outer))):
            counts[position] += 1
            if counts[position] < outer[position][0]:
                break
            counts[position] = 0
        else:
            return


def collapse(axes: tuple[tuple[str, int], ...], refs: list[Ref]) -> list[tuple[int, tuple[int, ...]]]:
    """Merge loops that step through every operand as one longer loop would; outermost first."""
    merged: list[tuple[int, tuple[int, ...]]] = []
    for axis, extent in axes:
        if extent == 1:
            continue
        strides = tuple(ref.stride(axis) for ref in refs)
        if merged and all(o == s * extent for o, s in zip(merged[-1][1], strides, strict=True)):
            merged[-1] = (merged[-1][0] * extent, strides)
        else:
            merged.append((extent, strides))
    return merged or [(1, tuple(0 for _ in refs))]


def _chain_step(code: CoreCode, axis: str, acc: Desc, count: int, dtype: str) -> None:
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


def _gemm(code: CoreCode, program: Program, phase: Gemm) -> None:
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
        _chain_step(code, "row", code.memory(total, [(width * m, 1)]), width * m, dtype)
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


def _wgrad(code: CoreCode, program: Program, phase: WGrad) -> None:
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
        _reduce_to_edge(code, total, size, program.sum_dtype)


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


def _reduce_to_edge(code: CoreCode, source: Desc, count: int, dtype: str) -> None:
    out = code.send(COLOUR_OF["edge_out_south"], dtype, [count])
    first = COLOUR_OF["chain_south"]
    if code.rows == 1:
        code.task("mov", out, source)
    elif code.r < code.rows - 1:
        _chain_step(code, "col", source, count, dtype)
    else:
        code.task("add", out, code.receive(first + (code.r - 1) % 2, dtype, [count]), source)


def _gemv(code: CoreCode, program: Program, phase: Gemv) -> None:
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
    _chain_step(code, "row", whole, count, dtype)
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


def _reduction(code: CoreCode, program: Program, phase: Reduction) -> None:
    tensor = program.table[phase.x]
    count, dtype = tensor.size, tensor.dtype
    row = phase.axis == "row"
    place, size = (code.c, code.cols) if row else (code.r, code.rows)
    x, y = code.memory(phase.x, [(count, 1)]), code.memory(phase.y, [(count, 1)])
    if size == 1:
        code.task("mov", y, x)
        return
    stop = stop_of(phase.method, place, size)
    last = stop.send is None
    # What the last core keeps, and every core that is to have the result, gathers where the result goes.
    target = phase.y if last or isinstance(phase, AllReduce) else scratch_name(phase)
    _line_step(code, phase, stop, x, target, count, dtype)
    if isinstance(phase, AllReduce):
        back = COLOUR_OF["row_multicast_west" if row else "column_multicast_north"]
        if last:
            code.task("mov", code.send(back, dtype, [count]), y)
        else:
            code.task("mov", y, code.receive(back, dtype, [count]))


def _line_step(code: CoreCode, phase: Reduction, stop: Stop, own: Desc, target: str, count: int, dtype: str) -> None:
    """Combine what comes in with `own`, in order, in `target`; the last step goes straight out where there is a way."""

    def colour(end: tuple[str, int]) -> int:
        return code.colours[_along(end[0], phase.axis)][end[1]]

    out = None if stop.send is None else code.send(colour(stop.send), dtype, [count])
    if out is not None and not stop.receive:
        code.task("mov", out, own)
    for number, end in enumerate(stop.receive):
        before = code.receive(colour(end), dtype, [count])
        if out is not None and number == len(stop.receive) - 1:
            code.task(phase.op, out, before, own)
        else:
            kept = code.memory(target, [(count, 1)])
            code.task(phase.op, kept, before, own)
            own = kept


def _all_gather(code: CoreCode, program: Program, phase: AllGather) -> None:
    tensor = program.table[phase.x]
    count, dtype = tensor.size, tensor.dtype
    row = phase.axis == "row"
    place, size = (code.c, code.cols) if row else (code.r, code.rows)
    x = code.memory(phase.x, [(count, 1)])
    code.task("mov", code.memory(phase.y, [(count, 1)], place * count), x)
    if size == 1:
        return
    up, down = code.colours["all_gather" if row else "all_gather_column"]
    # Blocks come nearest core first, so from the lower places they come in descending order.
    if place < size - 1:
        code.task("mov", code.send(up, dtype, [count], control=CONTROL_RESET if place == 0 else CONTROL_ADVANCE), x)
    if place > 0:
        lower = code.memory(phase.y, [(count, 1), (place, -count)], (place - 1) * count)
        code.task("mov", lower, code.receive(up, dtype, [count, place]))
        control = CONTROL_RESET if place == size - 1 else CONTROL_ADVANCE
        code.task("mov", code.send(down, dtype, [count], control=control), x)
    if place < size - 1:
        upper = code.memory(phase.y, [(count, 1), (size - 1 - place, count)], (place + 1) * count)
        code.task("mov", upper, code.receive(down, dtype, [count, size - 1 - place]))


def _broadcast(code: CoreCode, program: Program, phase: Broadcast) -> None:
    tensor = program.table[phase.x]
    row = phase.axis == "row"
    place, size = (code.c, code.cols) if row else (code.r, code.rows)
    colour = COLOUR_OF["row_multicast_west" if row else "column_multicast_north"]
    x, y = code.memory(phase.x, [(tensor.size, 1)]), code.memory(phase.y, [(tensor.size, 1)])
    if place < size - 1:
        code.task("mov", y, code.receive(colour, tensor.dtype, [tensor.size]))
        return
    if size > 1:
        code.task("mov", code.send(colour, tensor.dtype, [tensor.size]), x)
    code.task("mov", y, x)


def _chain_accumulate(code: CoreCode, program: Program, phase: ChainAccumulate) -> None:
    count = program.table[phase.acc].size
    first, back = COLOUR_OF["chain_south"], COLOUR_OF["column_multicast_north"]
    acc = code.memory(phase.acc, [(count, 1)])
    if code.r == 0:
        _instr(code, phase.start)
    else:
        code.task("mov", acc, code.receive(first + (code.r - 1) % 2, "fp32", [count]))
    for instr in phase.instrs:
        _instr(code, instr)
    if code.rows == 1:
        return
    if code.r < code.rows - 1:
        code.task("mov", code.send(first + code.r % 2, "fp32", [count]), acc)
        code.task("mov", acc, code.receive(back, "fp32", [count]))
    else:
        code.task("mov", code.send(back, "fp32", [count]), acc)


def _stream_in(code: CoreCode, program: Program, phase: StreamIn) -> None:
    tensor = program.table[phase.tensor]
    channel = {
        "scatter_row": "stream_scatter",
        "multicast_row": "stream_multicast_row",
        "multicast_col": "column_multicast",
    }[phase.mode]
    target = code.memory(phase.tensor, [(tensor.size, 1)])
    code.task("mov", target, code.receive(COLOUR_OF[channel], tensor.dtype, [tensor.size]))


def _stream_out(code: CoreCode, program: Program, phase: StreamOut) -> None:
    tensor = program.table[phase.tensor]
    source = code.memory(phase.tensor, [(tensor.size, 1)])
    if phase.mode == "reduce_col":
        _reduce_to_edge(code, source, tensor.size, "fp32")
    elif phase.mode == "gather_row":
        control = CONTROL_RESET if code.c == 0 else CONTROL_ADVANCE
        out = code.send(COLOUR_OF["gather_out"], tensor.dtype, [tensor.size], control=control)
        code.task("mov", out, source)
    elif phase.mode == "last_row":
        if code.r == code.rows - 1:
            code.task("mov", code.send(COLOUR_OF["edge_out_south"], tensor.dtype, [tensor.size]), source)
    elif code.c == code.cols - 1:
        code.task("mov", code.send(COLOUR_OF["edge_out_east"], tensor.dtype, [tensor.size]), source)


def _shift(code: CoreCode, program: Program, phase: Shift) -> None:
    tensor = program.table[phase.x]
    channel, place, step, size = {
        "E": ("chain_east", code.c, 1, code.cols),
        "S": ("chain_south", code.r, 1, code.rows),
        "W": ("shift_west", code.c, -1, code.cols),
        "N": ("shift_north", code.r, -1, code.rows),
    }[phase.direction]
    first = COLOUR_OF[channel]
    if 0 <= place + step < size:
        out = code.send(first + place % 2, tensor.dtype, [tensor.size])
        code.task("mov", out, code.memory(phase.x, [(tensor.size, 1)]))
    if 0 <= place - step < size:
        source = code.receive(first + (place - step) % 2, tensor.dtype, [tensor.size])
        code.task("mov", code.memory(phase.y, [(tensor.size, 1)]), source)
