"""Tables of vector operations against one scalar operation after the other on each core's own blocks.

Loops are long enough for whole vectors with and without a rest, and several instructions share a phase, so that
copies left out before a reduction, chunks of rows and copies that come to differ between cores all occur.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.test_kernels_elementwise import DEFINITION, SPECIAL, _maximum, _stored
from yieldkit.emulator import vector
from yieldkit.emulator.isa import FORMATS, OPCODES
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.program import ALU_OPS, UNARY_OPS, Instr, Ref

EXTENTS = (1, 2, 3, 7, 8, 9, 16, 17, 24)
REDUCING = ("add", "max", "mac")
ROWS, COLS = 4, 2


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def _by_definition(op, d, a, b, fmt):
    if op == "max":  # A where they compare equal
        value = _maximum(b, a)
    else:
        value = DEFINITION[OPCODES[op]](d, a, b)
    return np.array([int(_stored(value, fmt))], np.uint32).view(np.float32)[0]


def _run_on_core(instrs, blocks, formats):
    """Change one core's flat blocks, element by element."""
    for instr in instrs:
        names = [name for name, _ in instr.axes]
        for index in itertools.product(*(range(extent) for _, extent in instr.axes)):
            at = dict(zip(names, index, strict=True))

            def place(ref, at=at):
                return ref.offset + sum(at[axis] * s for axis, s in zip(ref.axes, ref.strides, strict=True))

            d, a = instr.d, instr.a
            b = instr.b or a
            values = [blocks[ref.tensor][place(ref)] for ref in (d, a, b)]
            blocks[d.tensor][place(d)] = _by_definition(instr.op, *values, FORMATS[formats[d.tensor]])


def _reference(rng, tensor, axes, room):
    """A reference that walks some axes, most often in their order and without gaps."""
    plain = rng.random() < 0.6
    order = axes[::-1] if plain else [axes[i] for i in rng.permutation(len(axes))]
    step, strides, offset = 1 if plain else int(rng.choice([1, 1, 2])), {}, 0
    for name, extent in order:
        backward = not plain and rng.random() < 0.2
        strides[name] = -step if backward else step
        offset += step * (extent - 1) if backward else 0
        step *= extent
    if step > 2 * room:
        raise AssertionError("the block is too small")
    return Ref(tensor, tuple(strides), tuple(strides.values()), offset)


def _matrix_product(rng, dtypes, constants, room):
    i, j, k = ((name, int(rng.choice([1, 3, 5, 8, 17]))) for name in "ijk")
    a_name, b_name = (str(name) for name in rng.permutation([n for n in dtypes if n != "sums"])[:2])
    d = _reference(rng, "sums", [i, j], room)
    a, b = _reference(rng, a_name, [i, k], room), _reference(rng, b_name, [k, j], room)
    start = Instr("mov", (i, j), d, Ref(str(rng.choice([constants[0], constants[0], *constants]))))
    return [start, Instr("mac", (i, j, k), d, a, b)]


def _some(rng, axes):
    return [axis for axis in axes if rng.random() < 0.75]


def _instructions(rng, dtypes, constants, room):
    """One instruction or, for a reduction, most often a copy to where it starts as well."""
    if rng.random() < 0.25:
        return _matrix_product(rng, dtypes, constants, room)
    names = list(dtypes)
    axes = [("ijk"[i], int(rng.choice(EXTENTS))) for i in range(rng.integers(1, 4))]
    while np.prod([extent for _, extent in axes]) > room:
        axes.pop()
    op = str(rng.choice(ALU_OPS))
    # Products of matrices, copies and reductions are what most time goes to.
    op = str(rng.choice([op, "mac", "add", "max", "mov"]))
    d_name, a_name, b_name = (str(name) for name in rng.permutation(names)[:3])
    reduces = op in REDUCING and len(axes) > 1 and rng.random() < 0.7
    if op == "mac":
        d_name = "sums"
        a_name, b_name = (str(name) for name in rng.permutation([n for n in names if n != "sums"])[:2])
    kept = axes if not reduces else [axes[i] for i in sorted(rng.permutation(len(axes))[: len(axes) - 1])]
    d = _reference(rng, d_name, kept, room)
    a = _reference(rng, a_name, _some(rng, axes), room)
    b = None if op in UNARY_OPS else _reference(rng, b_name, _some(rng, axes), room)
    if op != "mac":
        if reduces or (b is not None and rng.random() < 0.3):
            b = d
        elif rng.random() < 0.3:
            a = d
    first = []
    if reduces and rng.random() < 0.8:
        first = [Instr("mov", tuple(kept), d, Ref(str(rng.choice(constants))))]
    if rng.random() < 0.1 and axes:
        axes = axes[::-1]  # the reference order follows the axes
    return [*first, Instr(op, tuple(axes), d, a, b)]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1]))
def test_phases_of_several_instructions(seed, specials):
    rng = np.random.default_rng(seed)
    room = 400
    b = ProgramBuilder("table", ROWS, COLS, "bf16")
    dtypes = {name: str(rng.choice(["fp32", "bf16", "bf16", "fp16"])) for name in ("p", "q", "r")} | {"sums": "fp32"}
    for name, dtype in dtypes.items():
        b.tensor(name, (2 * room,), str(rng.choice(["rc", "rc", "r", "c", ""])), dtype=dtype, keep=True)
    constants = [b.constant(f"k{i}", value).tensor for i, value in enumerate((0.0, 0.0, -np.inf, 1.5))]
    instrs = [i for _ in range(rng.integers(1, 5)) for i in _instructions(rng, dtypes, constants, room)]
    b.compute("phase", *instrs)
    b.launch("only")
    low = lower(b.build({"kind": "none"}))
    cores = TensorExecutor(low)
    for name, dtype in dtypes.items():
        layout = (int(rng.choice([1, ROWS])), int(rng.choice([1, COLS])))
        values = (rng.normal(size=(*layout, 2 * room)) * 2.0 ** rng.integers(-3, 4, size=2 * room)).astype(np.float32)
        values = np.where(rng.random(values.shape) < specials, rng.choice(SPECIAL, values.shape), values)
        bits = np.array([_stored(v, FORMATS[dtype]) for v in values.ravel()], np.uint32)
        cores.write(name, bits.view(np.float32).reshape(values.shape))
    before = {name: cores.read(name) for name in [*dtypes, *constants]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector, "_CACHE_WORDS", int(rng.choice([1_000, 100_000])))
        cores.launch(low.launches[0], {})
    after = {name: cores.read(name) for name in dtypes}
    for r in range(ROWS):
        for c in range(COLS):
            blocks = {name: array[r, c].copy() for name, array in before.items()}
            _run_on_core(instrs, blocks, dtypes)
            for name in dtypes:
                same = blocks[name].view(np.uint32) == after[name][r, c].view(np.uint32)
                assert same.all(), (name, (r, c), np.flatnonzero(~same)[:5], instrs)
