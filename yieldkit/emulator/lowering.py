"""From a Program to what is loaded into every core: SRAM addresses, tables, routes.

Cores that do the same work share an image, a *role*: the classes are first, last, even and odd rows and columns, and
the columns themselves where a phase's extents depend on them. Tables lie at the top of SRAM, tensors grow from the
bottom; a tensor keeps its address as long as it lives. At a launch the host writes the tables and routes and puts the
switches back to position 0, unless the same tables are resident, and clears every word that holds no live tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.channels import assign_colours, routes_of
from yieldkit.emulator.code import ZERO, CoreCode, channels_of, emit_phase, scratch_of
from yieldkit.emulator.isa import COLOURS, HEADER_WORDS, POSITIONS, SRAM_WORDS, header_words
from yieldkit.emulator.lines import stop_of
from yieldkit.errors import BadInput
from yieldkit.files import fingerprint
from yieldkit.workloads.program import (
    AllGather,
    AllReduce,
    Compute,
    Gemm,
    Gemv,
    Launch,
    Permute,
    Program,
    Reduce,
    Shift,
    Tensor,
    WGrad,
    covers,
    instrs_of,
    launches_with_index,
    reads_of,
    tensors_of,
    written_by,
)

__all__ = ["Lowered", "LoweredLaunch", "Role", "WordMeaning", "lower"]


@dataclass(frozen=True)
class Role:
    """What one class of cores is loaded with.

    Attributes:
        header: uint32[2], SRAM words 0 and 1.
        tables: uint32[n], tasks then descriptors, at the launch's `table_base`.
        n_tasks: tasks in the table; descriptors follow.
        routes: uint32[24, 4], route words.
        first_task: int32[phases + 1], number of the first task of each phase (the next phase's, where it has none).
        taps: bool[n_tasks], tasks whose A operand is a finished fp32 sum.
    """

    header: npt.NDArray[np.uint32]
    tables: npt.NDArray[np.uint32]
    n_tasks: int
    routes: npt.NDArray[np.uint32]
    first_task: npt.NDArray[np.int32]
    taps: npt.NDArray[np.bool_]

    @cached_property
    def elements(self) -> int:
        """Elements that all tasks run when nothing is wrong."""
        tasks = self.tables[: 2 * self.n_tasks].reshape(-1, 2)
        descriptors = self.tables[2 * self.n_tasks :].reshape(-1, 4)
        extents = (descriptors[:, 1:] & 0xFFFF).astype(np.int64).prod(axis=1)
        return int(extents[tasks[:, 1] & 0x3FF].sum()) if len(tasks) else 0


@dataclass(frozen=True)
class WordMeaning:
    """What an SRAM word of a core holds at a phase: `kind` is "header", "task", "descriptor", "constant", "tensor",
    "accumulator" or "free"; `name` the tensor and `index` the element or the word within the table.
    """

    kind: str
    name: str
    index: int


@dataclass(frozen=True)
class LoweredLaunch:
    """One launch: its roles, who has which, and where things lie.

    Attributes:
        name: of the launch.
        index: position in the program.
        launch: the phases.
        roles: distinct images.
        role_of: int32[rows, cols], role of each core.
        table_base: SRAM address of the task tables.
        address: address of every tensor and accumulator used in this launch or alive across it.
        alive_at_start: tensors that hold data when the launch begins.
        tables_id: fingerprint of tables and routes; equal ids mean nothing is reloaded.
        colours: of every channel of the launch, all distinct.
    """

    name: str
    index: int
    launch: Launch
    roles: tuple[Role, ...]
    role_of: npt.NDArray[np.int32]
    table_base: int
    address: Mapping[str, int]
    alive_at_start: tuple[str, ...]
    tables_id: str
    colours: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Lowered:
    """A program with everything the interpreters need to load it.

    Attributes:
        program: the source.
        launches: in order.
        sram_words: words of SRAM a core has.
    """

    program: Program
    launches: tuple[LoweredLaunch, ...]
    sram_words: int
    life: Mapping[str, tuple[int, int]]
    address: Mapping[str, int]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name, the zero constant and accumulators included."""
        return _all_tensors(self.program)

    def meaning(self, launch: int, phase: int, role: int, word: int) -> WordMeaning:
        """What SRAM word `word` of a core with `role` holds when `phase` of `launch` begins on it.

        Every word has a meaning; words that hold nothing live are "free".
        """
        low = self.launches[launch]
        image = low.roles[role]
        if word < HEADER_WORDS:
            return WordMeaning("header", "", word)
        inside = word - low.table_base
        if 0 <= inside < 2 * image.n_tasks:
            return WordMeaning("task", "", inside)
        if 2 * image.n_tasks <= inside < len(image.tables):
            return WordMeaning("descriptor", "", inside - 2 * image.n_tasks)
        now = sum(len(other.launch.phases) for other in self.launches[:launch]) + phase
        for name, (first, last) in self.life.items():
            base = self.address[name]
            tensor = self.tensors[name]
            if first <= now <= last and base <= word < base + tensor.size:
                kind = "constant" if tensor.values else "accumulator" if name.startswith("__acc") else "tensor"
                return WordMeaning(kind, name, word - base)
        return WordMeaning("free", "", word)

    def words_in_use(self, launch: int, phase: int, role: int) -> Iterator[tuple[int, int, str, str]]:
        """Ranges (start, size, kind, name) of SRAM that hold something when a phase begins; tables by their parts."""
        low = self.launches[launch]
        image = low.roles[role]
        yield 0, HEADER_WORDS, "header", ""
        yield low.table_base, 2 * image.n_tasks, "task", ""
        yield low.table_base + 2 * image.n_tasks, len(image.tables) - 2 * image.n_tasks, "descriptor", ""
        now = sum(len(other.launch.phases) for other in self.launches[:launch]) + phase
        for name, (first, last) in self.life.items():
            tensor = self.tensors[name]
            if first <= now <= last:
                kind = "constant" if tensor.values else "accumulator" if name.startswith("__acc") else "tensor"
                yield self.address[name], tensor.size, kind, name


def lower(program: Program, *, sram_words: int = SRAM_WORDS) -> Lowered:
    """Lower a program: place its tensors, write every role's tables and routes.

    Args:
        program: what to run.
        sram_words: SRAM of a core in 32-bit words.

    Returns:
        the lowered program; it depends on the program and the SRAM size only.

    Raises:
        BadInput: SRAM is too small (names the launch and the largest tensors), a launch needs too many colours (names
            its channels), a tensor is read before it is written, or a loop does not fit a descriptor.
    """
    life = _lifetimes(program)
    tensors = _all_tensors(program)
    address = _place(tensors, life)
    launches = []
    start = 0
    for index, launch in enumerate(program.launches):
        low = _lower_launch(program, index, launch, start, tensors, life, address, sram_words)
        launches.append(low)
        start += len(launch.phases)
    return Lowered(program, tuple(launches), sram_words, life, address)


def _all_tensors(program: Program) -> dict[str, Tensor]:
    tensors = {ZERO: Tensor(ZERO, "fp32", (1,), "", keep=True, values=(0.0,)), **program.table}
    for phase in program.phases:
        for name, (dtype, words) in scratch_of(program, phase).items():
            tensors[name] = Tensor(name, dtype, (words,), "rc")
    return tensors


def _lifetimes(program: Program) -> dict[str, tuple[int, int]]:
    """First and last phase (over the whole program) at which each tensor must keep its address."""
    total = max(1, len(program.phases))
    table = program.table
    life: dict[str, tuple[int, int]] = {ZERO: (0, total)}
    for tensor in program.tensors:
        if tensor.keep or tensor.values:
            life[tensor.name] = (0, total)
    names = [phase.name for phase in program.phases]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BadInput("phase names must be unique", value=twice)
    for now, (_, number, phase) in enumerate(launches_with_index(program.launches)):
        written: set[str] = set()
        whole: set[str] = set()
        reads = set(tensors_of(phase)) - set(written_by(phase))
        if isinstance(phase, Gemm) and phase.accumulate:
            reads.add(phase.y)
        if isinstance(phase, AllReduce | Reduce):
            reads.add(phase.x)
        for instr in instrs_of(phase):
            target = instr.d.tensor
            operands = {ref.tensor for ref in (instr.d, instr.a, instr.b) if ref is not None}
            reads |= {name for name in operands - written if reads_of(instr, name)}
            if target not in written and covers(instr, table[target]):
                whole.add(target)
            written.add(target)
        if not isinstance(phase, Compute | Shift | Reduce):
            whole |= set(written_by(phase))
        for name in sorted(reads):
            if name not in life:
                raise BadInput(f"phase {phase.name!r} reads a tensor that nothing has written", value=name)
        for name in tensors_of(phase):
            # What is not written at once must be zero before: only the launch's start clears words.
            begin = now if name in whole else now - number
            first = life[name][0] if name in life else begin
            life[name] = (first, max(now, life[name][1] if name in life else now))
        for name in scratch_of(program, phase):
            life[name] = (now, now)
    return life


def _place(tensors: Mapping[str, Tensor], life: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """First fit in order of first use: two tensors share words only if they never live at the same time."""
    address: dict[str, int] = {}
    for name in sorted(life, key=lambda n: (life[n][0], -life[n][1], n)):
        first, last = life[name]
        size = tensors[name].size
        taken = sorted(
            (address[other], address[other] + tensors[other].size)
            for other in address
            if life[other][0] <= last and first <= life[other][1]
        )
        base = HEADER_WORDS
        for low, high in taken:
            if base + size <= low:
                break
            base = max(base, high)
        address[name] = base
    return address


def _classes(launch: Launch, rows: int, cols: int) -> Iterator[tuple[tuple[int, ...], int, int]]:
    row_keys, col_keys = _line_classes(launch, "col", rows), _line_classes(launch, "row", cols)
    by_diagonal = any(isinstance(phase, Gemv) for phase in launch.phases)
    for r in range(rows):
        for c in range(cols):
            diagonal = ((c > r) - (c < r),) if by_diagonal else ()
            yield (*row_keys[r], *col_keys[c], *diagonal), r, c


def _line_classes(launch: Launch, axis: str, size: int) -> list[tuple[int, ...]]:
    """Class of each place on a line along `axis`: cores of equal classes differ in nothing that phases depend on."""
    by_place = any(
        (isinstance(phase, WGrad | Permute) and axis == "row") or (isinstance(phase, AllGather) and phase.axis == axis)
        for phase in launch.phases
    )
    if by_place:
        return [(place,) for place in range(size)]
    methods = {p.method for p in launch.phases if isinstance(p, AllReduce | Reduce) and p.axis == axis} - {"chain"}
    number: dict[object, int] = {}
    classes: list[tuple[int, ...]] = []
    for place in range(size):
        ends = (int(place == 0), int(place == size - 1), place % 2)
        stops = tuple(stop_of(method, place, size) for method in sorted(methods))
        classes.append((*ends, number.setdefault(stops, len(number))))
    return classes


def _lower_launch(
    program: Program,
    index: int,
    launch: Launch,
    start: int,
    tensors: Mapping[str, Tensor],
    life: Mapping[str, tuple[int, int]],
    address: Mapping[str, int],
    sram_words: int,
) -> LoweredLaunch:
    rows, cols = program.rows, program.cols
    end = start + len(launch.phases) - 1
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    channels = dict.fromkeys(channel for phase in launch.phases for channel in channels_of(program, phase))
    colours = assign_colours(channels, rows, cols, launch.name)
    number: dict[tuple[int, ...], int] = {}
    parts: list[tuple[CoreCode, npt.NDArray[np.uint32], list[int]]] = []
    role_of = np.zeros((rows, cols), np.int32)
    for key, r, c in _classes(launch, rows, cols):
        if key not in number:
            number[key] = len(parts)
            code = CoreCode(r, c, rows, cols, address, dtypes, colours)
            firsts = []
            for phase in launch.phases:
                firsts.append(len(code.tasks))
                emit_phase(code, program, phase)
            firsts.append(len(code.tasks))
            parts.append((code, _routes(program, colours, r, c), firsts))
        role_of[r, c] = number[key]
    words = [code.words() for code, _, _ in parts]
    longest = max((len(w) for w in words), default=0)
    table_base = sram_words - longest
    used = [name for name, (first, last) in life.items() if first <= end and start <= last]
    top = max(address[name] + tensors[name].size for name in used)
    if top > table_base:
        largest = sorted(used, key=lambda n: -tensors[n].size)[:4]
        listed = ", ".join(f"{n} {tensors[n].size}" for n in largest)
        fullest = next(code for (code, _, _), table in zip(parts, words, strict=True) if len(table) == longest)
        raise BadInput(
            f"launch {launch.name!r} needs {top + longest} words of SRAM on core ({fullest.r}, {fullest.c}) (tables "
            f"{longest}; largest tensors: {listed}) and a core has {sram_words}",
            cure="use more cores, fewer tokens a core, or a smaller part",
        )
    roles = []
    for (code, routes, firsts), table in zip(parts, words, strict=True):
        header = header_words(0, table_base, table_base + 2 * len(code.tasks)) if code.tasks else [0, 0]
        roles.append(
            Role(
                np.array(header, np.uint32),
                np.array(table, np.uint32),
                len(code.tasks),
                routes,
                np.array(firsts, np.int32),
                np.array(code.taps, np.bool_),
            )
        )
    alive = tuple(name for name in used if life[name][0] < start or tensors[name].keep or tensors[name].values)
    content = b"".join(role.header.tobytes() + role.tables.tobytes() + role.routes.tobytes() for role in roles)
    return LoweredLaunch(
        launch.name,
        index,
        launch,
        tuple(roles),
        role_of,
        table_base,
        {name: address[name] for name in used},
        alive,
        fingerprint(content + role_of.tobytes()),
        colours,
    )


def _routes(program: Program, colours: Mapping[str, tuple[int, ...]], r: int, c: int) -> npt.NDArray[np.uint32]:
    table = np.zeros((COLOURS, POSITIONS), np.uint32)
    for channel, own in colours.items():
        for colour, words in routes_of(channel, r, c, program.rows, program.cols, own).items():
            table[colour, : len(words)] = words
    return table
