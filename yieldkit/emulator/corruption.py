"""Overwriting SRAM of a running job on purpose, as an operator of the machine can.

`corrupt` names a physical core. Between two steps SRAM holds what lives from step to step: resident weights, a KV
cache, vectors of a solver, constants; and header and tables where the next launch finds its own still there (a program
of one launch). Such words are overwritten at once. All others hold nothing then: the host clears or loads them when
the next launch begins. So weights that are streamed, as in training, are struck at a moment of the next step: `launch`
and `phase` arm that, with the meaning they have in a fault event of place "sram".

What follows is the machine's doing. A word is written whole, with its check bits where SRAM has a code, so no code sees
it; one that is armed is struck behind the code's back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yieldkit.emulator.code import ZERO
from yieldkit.emulator.formats import decode_words, encode_words, round_to
from yieldkit.emulator.hooks import SramHook
from yieldkit.emulator.job import Job
from yieldkit.emulator.layouts import compact_blocks
from yieldkit.emulator.lowering import Lowered, WordMeaning
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import RunResult
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.errors import BadInput
from yieldkit.quantities import Site
from yieldkit.rng import Seed, generator
from yieldkit.workloads.phases import DTYPES

__all__ = ["Corruption", "corrupt", "corrupt_weights"]

U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Corruption:
    """What `corrupt` found and did.

    Attributes:
        row, col: physical core.
        core: core of the program's rectangle that it is, or None: bypassed, or outside it. Then nothing was touched.
        address: first word.
        before: words that were there; 0 where SRAM holds nothing between steps, and empty where nothing was read.
        after: words there now, or to be written where it is armed.
        meaning: what each word holds between steps; "free" words were not written, because they do not last.
        armed: launch and phase at which the words will be written, or None: it is done.
    """

    row: int
    col: int
    core: Site | None
    address: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    meaning: tuple[WordMeaning, ...] = ()
    armed: tuple[str, int] | None = None

    @property
    def touched(self) -> bool:
        """Whether any word was, or will be, written."""
        if self.core is None:
            return False
        return self.armed is not None or any(one.kind != "free" for one in self.meaning)


def corrupt(
    target: Job | RunResult,
    row: int,
    col: int,
    address: int,
    values: Sequence[int] | Sequence[float],
    *,
    dtype: str = "",
    placement: Placement | None = None,
    launch: str = "",
    phase: int = 0,
) -> Corruption:
    """Overwrite words of SRAM of a core.

    Args:
        target: a job between two steps, or the result of a run, whose job can go on.
        row: physical row.
        col: physical column.
        address: first SRAM word.
        values: 32-bit words; with `dtype`, numbers.
        dtype: format of `values` ("fp32", "bf16", "fp16").
        placement: where a job's program lies; without it the rectangle's own rows and columns are meant.
        launch: launch of the next step at which to strike; "" strikes at once.
        phase: of that launch: before the core's first task of it.

    Returns:
        what was there and what is there now.

    Raises:
        BadInput: words outside SRAM, values that are no words, an unknown launch or phase, or a job that has stopped.
    """
    job = target if isinstance(target, Job) else target.job
    if placement is None and isinstance(target, RunResult):
        placement = target.placement
    words = _words(values, dtype)
    lowered = job.lowered
    if address < 0 or address + len(words) > lowered.sram_words:
        raise BadInput(f"a core has {lowered.sram_words} words of SRAM", value=(address, address + len(words)))
    if job.stopped:
        raise BadInput("the job has stopped half way through a step", value=job.stopped)
    if placement is None:
        inside = 0 <= row < lowered.program.rows and 0 <= col < lowered.program.cols
        core: Site | None = (row, col) if inside else None
    else:
        core = placement.logical(row, col)
    if launch:
        return _arm(job, Corruption(row, col, core, address, after=_plain(words), armed=(launch, phase)))
    if core is None:
        return Corruption(row, col, None, address)
    meanings = tuple(_meaning(job, core, word) for word in range(address, address + len(words)))
    before = _overwrite(job, core, address, words, meanings)
    after = np.where([one.kind == "free" for one in meanings], before, words).astype(np.uint32)
    return Corruption(row, col, core, address, _plain(before), _plain(after), meanings)


def corrupt_weights(
    target: Job | RunResult,
    n: int,
    rng: Seed,
    *,
    tensors: Sequence[str] = (),
    placement: Placement | None = None,
) -> tuple[Corruption, ...]:
    """Put random words in place of `n` resident words, drawn uniformly over all cores of the program.

    Args:
        target: as for `corrupt`.
        n: how many, at `n` different places.
        rng: seed or generator.
        tensors: from which tensors to draw; those that the host loads at the start when none are named.
        placement: as for `corrupt`.

    Raises:
        BadInput: nothing is resident, a tensor is not kept from step to step, or there are fewer than `n` words.
    """
    job = target if isinstance(target, Job) else target.job
    if placement is None and isinstance(target, RunResult):
        placement = target.placement
    lowered, program = job.lowered, job.lowered.program
    names = list(tensors) or [str(item["tensor"]) for item in program.job.get("resident", ())]
    if not names:
        raise BadInput(
            f"program {program.name!r} has no resident weights",
            cure="its weights are streamed: use corrupt with a launch, or a fault event",
        )
    for name in names:
        if name not in lowered.tensors or not lowered.tensors[name].keep or lowered.tensors[name].values:
            raise BadInput("only a tensor that is kept from step to step has resident words", value=name)
    sizes = np.array([lowered.tensors[name].size for name in names], np.int64)
    ends = np.cumsum(sizes)
    total = int(ends[-1]) * program.rows * program.cols
    if not 1 <= n <= total:
        raise BadInput(f"n must be 1 to {total}, the resident words", value=n)
    draws = generator(rng, "emulator.corrupt_weights")
    found = []
    for place in np.sort(draws.choice(total, size=n, replace=False)).tolist():
        core, word = divmod(place, int(ends[-1]))
        which = int(np.searchsorted(ends, word, side="right"))
        tensor = lowered.tensors[names[which]]
        r, c = divmod(core, program.cols)
        site: Site = (r, c) if placement is None else placement.physical(r, c)
        address = lowered.address[tensor.name] + word - int(ends[which] - sizes[which])
        value = int(draws.integers(1 << (32 if tensor.dtype == "fp32" else 16)))
        found.append(corrupt(job, site[0], site[1], address, [value], placement=placement))
    return tuple(found)


def _words(values: Sequence[Any], dtype: str) -> U32:
    if len(values) == 0:
        raise BadInput("there must be at least one value")
    if dtype:
        if dtype not in DTYPES:
            raise BadInput("dtype must be one of " + ", ".join(DTYPES), value=dtype)
        return encode_words(round_to(np.asarray(values, np.float32), dtype), dtype)
    for value in values:
        if isinstance(value, bool | float) or not 0 <= int(value) < 1 << 32:
            raise BadInput("a word is a whole number of 32 bits", value=value, cure="give dtype for numbers")
    return np.array([int(value) for value in values], np.uint32)


def _plain(words: U32) -> tuple[int, ...]:
    return tuple(int(word) for word in words)


def _arm(job: Job, made: Corruption) -> Corruption:
    launch, phase = made.armed or ("", 0)
    launches = {low.name: low for low in job.lowered.launches}
    if launch not in launches:
        raise BadInput("unknown launch", value=launch, cure=f"known: {', '.join(launches)}")
    if not 0 <= phase < len(launches[launch].launch.phases):
        raise BadInput(f"launch {launch!r} has {len(launches[launch].launch.phases)} phases", value=phase)
    if made.core is not None:
        r, c = made.core
        hooks = tuple(
            SramHook(r, c, phase, made.address + number, word, keep=0) for number, word in enumerate(made.after)
        )
        job.armed[launch] = (*job.armed.get(launch, ()), *hooks)
    return made


def _meaning(job: Job, core: Site, word: int) -> WordMeaning:
    """What a word holds between steps: something that lasts, or nothing."""
    low = job.lowered.launches[0]
    meaning = job.lowered.meaning(0, 0, int(low.role_of[core]), word)
    if meaning.kind in ("header", "task", "descriptor"):
        lasts = job.executor.resident == low.tables_id
    else:
        tensor = job.lowered.tensors.get(meaning.name)
        lasts = tensor is not None and (tensor.keep or bool(tensor.values))
    return meaning if lasts else WordMeaning("free", "", word)


def _overwrite(job: Job, core: Site, address: int, words: U32, meanings: Sequence[WordMeaning]) -> U32:
    """Write the words that last, and return what was there."""
    executor = job.executor
    lasting = np.array([one.kind != "free" for one in meanings], np.bool_)
    before = np.zeros(len(words), np.uint32)
    if isinstance(executor, TensorExecutor):
        # The zero constant is read by tasks that no instruction of the program shows.
        if any(one.kind in ("header", "task", "descriptor") or one.name == ZERO for one in meanings):
            executor.hold_machine(job.lowered.launches[0])
        for number, one in enumerate(meanings):
            if one.kind in ("tensor", "constant"):
                before[number] = _set_in_tensor(executor, job.lowered, core, one, int(words[number]))
    machine = executor.machine
    if machine is not None:
        sram = machine.state.sram[core[0] * job.lowered.program.cols + core[1]]
        place = address + np.flatnonzero(lasting)
        before[lasting] = sram[place]
        sram[place] = words[lasting]
        number = core[0] * job.lowered.program.cols + core[1]
        written = {(number, int(at)) for at in place}
        machine.wrong = {key: bits for key, bits in machine.wrong.items() if key not in written}
    # The high half of a 16-bit element is there, and means nothing.
    narrow = [one.kind in ("tensor", "constant") and job.lowered.tensors[one.name].dtype != "fp32" for one in meanings]
    return np.where(narrow, before & np.uint32(0xFFFF), before).astype(np.uint32)


def _set_in_tensor(executor: TensorExecutor, lowered: Lowered, core: Site, meaning: WordMeaning, word: int) -> int:
    """Put a word into a tensor of the tensor executor; the word that was there."""
    tensor = lowered.tensors[meaning.name]
    address = lowered.address[tensor.name] + meaning.index
    array = executor.read(tensor.name)
    block = array[core].reshape(-1)
    before = int(encode_words(block[meaning.index : meaning.index + 1], tensor.dtype)[0])
    block[meaning.index] = decode_words(np.array([word], np.uint32), tensor.dtype)[0]
    struck = {key: bits for key, bits in executor.wrong.items() if key != (*core, address)}
    executor.write(tensor.name, compact_blocks(array, tensor.over))
    executor.wrong = struck
    return before
