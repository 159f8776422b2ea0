"""One core's configuration as text that a person can read, and beside it what the core of a stalled machine holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from yieldkit.emulator.checks import BANKS
from yieldkit.emulator.disassembly import FORMAT_NAMES, KIND_NAMES, OPCODE_NAMES, Operand, Task, operand_of, task_of
from yieldkit.emulator.isa import COLOURS, CONTROL_ADVANCE, CONTROL_EACH, CONTROL_RESET, FABRIC_OUT, MEMORY, POSITIONS
from yieldkit.emulator.kernels import machine as kernel
from yieldkit.emulator.lowering import Lowered, LoweredLaunch, Role
from yieldkit.emulator.machine import Machine
from yieldkit.errors import BadInput
from yieldkit.quantities import PORT_NAMES

__all__ = ["dump_core", "dump_state", "launch_named"]

CONTROL_NAMES: Final = {
    CONTROL_RESET: "then RESET",
    CONTROL_ADVANCE: "then ADVANCE",
    CONTROL_EACH: "ADVANCE after each outermost turn, RESET after the last",
}
STATUS_NAMES: Final = {
    kernel.UNUSED: "never started",
    kernel.READY: "about to start",
    kernel.RUNNING: "in",
    kernel.DONE: "ended its chain after",
    kernel.HALTED: "halted in",
    kernel.RUNAWAY: "stopped as a runaway in",
}
WAIT_NAMES: Final = {kernel.STARVED: "waits for a word of colour", kernel.BLOCKED: "waits for room in colour"}
_PORTS: Final = ("N", "E", "S", "W", "core")
_QUEUES: Final = (*(f"from {name}" for name in PORT_NAMES[:4]), "from core", "to core")


def launch_named(lowered: Lowered, name: str) -> LoweredLaunch:
    """A launch by its name.

    Raises:
        BadInput: the program has no such launch; names those it has.
    """
    for low in lowered.launches:
        if low.name == name:
            return low
    known = ", ".join(low.name for low in lowered.launches)
    raise BadInput("the program has no such launch", value=name, cure=f"it has {known}")


def dump_core(lowered: Lowered, low: LoweredLaunch, r: int, c: int) -> str:
    """Header, tasks with their operands, routes and the map of SRAM of one core.

    Args:
        lowered: the program.
        low: one of its launches.
        r: row of the core.
        c: its column.

    Raises:
        BadInput: the rectangle has no such core.
    """
    number, role = _role(low, r, c)
    alike = int((low.role_of == number).sum())
    lines = [
        f"core ({r}, {c}) in launch {low.name!r}: role {number} of {len(low.roles)}, "
        f"as {alike} of {low.role_of.size} cores have it",
        "",
        *_header(role),
        "",
        "tasks",
    ]
    lines += [f"  {line}" for line in _tasks(lowered, low, number)] or ["  none"]
    lines += ["", "routes: colour, position, from, to"]
    lines += [f"  {line}" for line in _routes(low, role.routes)] or ["  none"]
    lines += ["", "SRAM: words, what they hold"]
    lines += [f"  {line}" for line in _sram(lowered, low, number)]
    return "\n".join(lines) + "\n"


def dump_state(machine: Machine, low: LoweredLaunch, r: int, c: int) -> str:
    """What a core holds after a launch: task and element, registers, switches, queues, counters.

    Args:
        machine: after `launch(low, ...)`.
        low: the launch.
        r: row of the core.
        c: its column.

    Raises:
        BadInput: the rectangle has no such core.
    """
    _, role = _role(low, r, c)
    core = r * machine.cols + c
    state = machine.state
    status = int(state.status[core])
    text = f"core ({r}, {c}) {STATUS_NAMES[status]}"
    if status not in (kernel.UNUSED, kernel.READY):
        text += f" task {int(state.task[core])}, element {int(state.element[core])}"
    if status == kernel.RUNNING and int(state.wait[core]) in WAIT_NAMES:
        text += f"; {WAIT_NAMES[int(state.wait[core])]} {int(state.wait_colour[core])}"
    lines = [text, f"  {int(state.executed[core])} tasks and {int(state.elements[core])} elements done"]
    if status in (kernel.RUNNING, kernel.HALTED, kernel.RUNAWAY):
        lines += _registers(machine, core)
    lines += _changed(machine, low, role, core)
    for colour in range(COLOURS):
        lines += _colour(machine, core, colour)
    return "\n".join(lines) + "\n"


def _role(low: LoweredLaunch, r: int, c: int) -> tuple[int, Role]:
    rows, cols = low.role_of.shape
    if not (0 <= r < rows and 0 <= c < cols):
        raise BadInput(f"the program runs on {rows} x {cols} cores", value=(r, c))
    number = int(low.role_of[r, c])
    return number, low.roles[number]


def _header(role: Role) -> list[str]:
    first, second = (int(word) for word in role.header)
    starts = "starts with" if first >> 31 else "does not start; first task would be"
    tables, descriptors = second & 0x3FFF, (second >> 14) & 0x3FFF
    return [f"header  {starts} task {first & 0xFFF}; tasks at {tables}, descriptors at {descriptors}"]


def _tasks(lowered: Lowered, low: LoweredLaunch, number: int) -> Iterator[str]:
    role = low.roles[number]
    firsts = role.first_task.tolist()
    for index in range(role.n_tasks):
        for phase, first in enumerate(firsts[:-1]):
            if first == index and first < firsts[phase + 1]:
                yield f"{low.launch.phases[phase].name}:"
        phase = max((p for p, first in enumerate(firsts[:-1]) if first <= index), default=0)
        task = task_of(low, role, index)
        if task is None:
            yield f"{index:4}  outside the tables"
            continue
        yield from _task(lowered, low, number, phase, task)


def _task(lowered: Lowered, low: LoweredLaunch, number: int, phase: int, task: Task) -> Iterator[str]:
    name = OPCODE_NAMES.get(task.opcode, f"undefined {task.opcode}")
    following = "end" if task.following is None else f"next {task.following}"
    usual = task.following == task.number + 1
    yield f"{task.number:4}  {name}, {task.elements} elements" + ("" if usual else f", {following}")
    for letter, operand in zip("DAB", task.operands, strict=False):
        yield f"        {letter} = {operand_text(operand, _element(lowered, low, number, phase, operand))}"


def _element(lowered: Lowered, low: LoweredLaunch, number: int, phase: int, operand: Operand) -> str:
    if operand.kind != MEMORY or operand.base >= lowered.sram_words:
        return ""
    meaning = lowered.meaning(low.index, phase, number, operand.base)
    return f"{meaning.name or meaning.kind}[{meaning.index}]"


def operand_text(operand: Operand, element: str = "") -> str:
    """A descriptor in words; loops are written `extent x stride`, innermost first."""
    kind = KIND_NAMES.get(operand.kind, "undefined kind")
    fmt = FORMAT_NAMES.get(operand.fmt, "undefined format")
    loops = [loop for at, loop in enumerate(operand.loops) if loop[0] != 1 or not at]
    if operand.kind == MEMORY:
        steps = ", ".join(f"{extent} x {stride:+d}" for extent, stride in loops)
        return f"{element or kind} at {operand.base}, {fmt}, {steps}"
    count = " x ".join(str(extent) for extent, _ in loops)
    text = f"{kind}, colour {operand.colour}, {fmt}, {count}"
    if operand.hold:
        text += ", held over the innermost loop"
    if operand.kind == FABRIC_OUT and operand.control:
        text += f", {CONTROL_NAMES[operand.control]}"
    return text


def _routes(low: LoweredLaunch, routes: np.ndarray) -> Iterator[str]:
    channel_of = {colour: channel for channel, own in low.colours.items() for colour in own}
    for colour in range(COLOURS):
        words = routes[colour].tolist()
        for position in range(POSITIONS):
            if not words[position]:
                continue
            yield f"{colour:3} {position}  {route_text(words[position])}  {channel_of.get(colour, '')}".rstrip()


def route_text(word: int) -> str:
    """A route word in words."""
    taken = (word & 7) - 1
    source = _PORTS[taken] if 0 <= taken <= 4 else "none"
    to = ", ".join(name for port, name in enumerate(_PORTS) if (word >> (3 + port)) & 1) or "nowhere"
    return f"{source} to {to}" + ("" if (word >> 8) & 1 else ", may advance")


def _sram(lowered: Lowered, low: LoweredLaunch, number: int) -> Iterator[str]:
    role = low.roles[number]
    split = low.table_base + 2 * role.n_tasks
    spans = [(0, 2, "header", ""), (low.table_base, 2 * role.n_tasks, "tasks", "")]
    spans.append((split, len(role.tables) - 2 * role.n_tasks, "descriptors", ""))
    for name, base in low.address.items():
        tensor = lowered.tensors[name]
        kind = "constant" if tensor.values else "accumulator" if name.startswith("__acc") else "tensor"
        dims = " x ".join(map(str, tensor.dims))
        spans.append((base, tensor.size, kind, f"{name}, {tensor.dtype} {dims}"))
    used = np.zeros(lowered.sram_words, np.bool_)
    for start, size, kind, text in sorted(spans):
        if size:
            used[start : start + size] = True
            yield f"{start:5} to {start + size - 1:5}  {kind} {text}".rstrip()
    banks = " ".join(str(int(used[bank::BANKS].sum())) for bank in range(BANKS))
    total = f"{int(used.sum())} of {lowered.sram_words} words in use"
    yield f"{total}; by bank (address modulo {BANKS}, assumption): {banks}"


def _registers(machine: Machine, core: int) -> Iterator[str]:
    state = machine.state
    first, _ = state.task_register[core].tolist()
    opcode = first & 0x3F
    yield f"  register: {OPCODE_NAMES.get(opcode, f'undefined {opcode}')}"
    binary = 2 <= opcode <= 8 or opcode == 16
    for place, letter in enumerate("DAB"[: 3 if binary else 2]):
        operand = operand_of(place, state.register[core, place])
        at = ", ".join(map(str, state.loop_index[core, place].tolist()))
        yield f"  register {letter}: {operand_text(operand)}; at ({at})"


def _changed(machine: Machine, low: LoweredLaunch, role: Role, core: int) -> Iterator[str]:
    """Words that are not what was loaded."""
    state = machine.state
    for address in range(2):
        if state.sram[core, address] != role.header[address]:
            now, was = int(state.sram[core, address]), int(role.header[address])
            yield f"  header word {address} is {now:#010x}, was {was:#010x}"
    tables = state.sram[core, low.table_base : low.table_base + len(role.tables)]
    for at in np.flatnonzero(tables != role.tables).tolist():
        inside = at < 2 * role.n_tasks
        what = f"task {at // 2}" if inside else f"descriptor {(at - 2 * role.n_tasks) // 4}"
        word = at % 2 if inside else (at - 2 * role.n_tasks) % 4
        yield f"  {what} word {word} is {int(tables[at]):#010x}, was {int(role.tables[at]):#010x}"
    for colour, position in np.argwhere(state.route[core] != role.routes).tolist():
        is_now, was = (int(words[colour, position]) for words in (state.route[core], role.routes))
        yield f"  route of colour {colour} position {position}: {route_text(is_now)}; was {route_text(was)}"


def _colour(machine: Machine, core: int, colour: int) -> Iterator[str]:
    state, depth = machine.state, machine.state.queue.shape[3]
    parts = []
    if state.position[core, colour]:
        parts.append(f"switch at {int(state.position[core, colour])}")
    for port in range(6):
        length = int(state.length[core, colour, port])
        if length:
            kinds = [
                state.kind[core, colour, port, (state.head[core, colour, port] + i) % depth] for i in range(length)
            ]
            control = sum(int(kind != kernel.DATA) for kind in kinds)
            words = f"{length} of {depth} words" + (f", {control} of them control" if control else "")
            parts.append(f"{_QUEUES[port]} {words}")
    for name, counts in (("sent", state.sent), ("received", state.received)):
        there = [f"{_PORTS[port]} {int(count)}" for port, count in enumerate(counts[core, colour]) if count]
        if there:
            parts.append(f"{name} {', '.join(there)}")
    if state.sunk[core, colour]:
        parts.append(f"consumed {int(state.sunk[core, colour])}")
    if parts:
        yield f"  colour {colour}: {'; '.join(parts)}"
