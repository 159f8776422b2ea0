"""What lowering promises: every word has a meaning, nothing live overlaps, tables decode to what was asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.random_programs import random_program
from tests.emulator.tiny import GPT, tiny_gpt
from yieldkit.emulator.channels import CHANNELS, COLOUR_OF, routes_of
from yieldkit.emulator.isa import (
    COLOURS,
    FABRIC_IN,
    FABRIC_OUT,
    HEADER_WORDS,
    MEMORY,
    OPCODES,
    POSITIONS,
    SRAM_WORDS,
    descriptor_words,
    header_words,
    route_word,
    task_words,
)
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor
from yieldkit.errors import BadInput
from yieldkit.workloads.builder import at
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_training
from yieldkit.workloads.program import Compute, Instr, Launch, Program, StreamIn, StreamOut, Tensor

FAST = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def lowered():
    yield tiny_gpt()
    yield lower(gpt_decode(side=2, **GPT))
    for seed in range(10):
        yield lower(random_program(seed, 3, 3, "bf16", phases=8)[0])


def signed(value):
    return value - (1 << 16) if value >= 1 << 15 else value


def decode_descriptor(words):
    """Fields of a descriptor by the documented bits, written anew."""
    first = int(words[0])
    loops = [(int(w) & 0xFFFF, signed(int(w) >> 16)) for w in words[1:]]
    return {
        "base": first & 0x3FFF, "kind": first >> 14 & 3, "fmt": first >> 16 & 3, "colour": first >> 18 & 31,
        "hold": bool(first >> 23 & 1), "control": first >> 24 & 3, "loops": loops,
    }  # fmt: skip


@FAST
@given(
    kind=st.sampled_from([MEMORY, FABRIC_IN, FABRIC_OUT]), fmt=st.integers(0, 2), base=st.integers(0, SRAM_WORDS - 1),
    colour=st.integers(0, COLOURS - 1), hold=st.booleans(), control=st.integers(0, 3),
    loops=st.lists(st.tuples(st.integers(1, 65535), st.integers(-(1 << 15), (1 << 15) - 1)), max_size=3),
)  # fmt: skip
def test_descriptors_survive_the_round_trip(kind, fmt, base, colour, hold, control, loops):
    words = descriptor_words(kind, fmt, loops, base=base, colour=colour, hold=hold, control=control)
    assert all(0 <= w < 1 << 32 for w in words)
    assert decode_descriptor(words) == {
        "base": base, "kind": kind, "fmt": fmt, "colour": colour, "hold": hold, "control": control,
        "loops": (loops + [(1, 0)] * 3)[:3],
    }  # fmt: skip


def test_loops_that_do_not_fit_are_refused():
    for loop in ((0, 1), (65536, 1), (2, 1 << 15), (2, -(1 << 15) - 1)):
        with pytest.raises(BadInput, match="loop"):
            descriptor_words(MEMORY, 0, [loop])


def test_task_header_and_route_words():
    assert task_words(6, 1, 2, 3, None) == [6, 1 | 2 << 10 | 3 << 20]
    assert task_words(63, 1023, 0, 1023, 4095)[0] == 63 | 1 << 6 | 4095 << 7
    assert header_words(5, 100, 16383) == [5 | 1 << 31, 100 | 16383 << 14]
    assert route_word(4, [0, 3], last=False) == 5 | 1 << 3 | 1 << 6
    assert route_word(0, [4]) == 1 | 1 << 7 | 1 << 8


def test_tables_hold_only_what_is_defined():
    for low in lowered():
        for launch in low.launches:
            for image in launch.roles:
                tasks = image.tables[: 2 * image.n_tasks].reshape(-1, 2)
                descriptors = [decode_descriptor(d) for d in image.tables[2 * image.n_tasks :].reshape(-1, 4)]
                assert set((tasks[:, 0] & 0x3F).tolist()) <= set(OPCODES.values())
                assert image.first_task[0] == 0
                assert image.first_task[-1] == image.n_tasks == len(image.taps)
                assert (np.diff(image.first_task) >= 0).all()
                for word in tasks[:, 1].tolist():
                    for operand in range(3):
                        assert (word >> 10 * operand & 0x3FF) < len(descriptors)
                for d in descriptors:
                    assert d["kind"] in (MEMORY, FABRIC_IN, FABRIC_OUT)
                    assert d["fmt"] < 3
                    reach = [s * (e - 1) for e, s in d["loops"]]
                    if d["kind"] == MEMORY:
                        assert d["base"] + sum(min(r, 0) for r in reach) >= HEADER_WORDS
                        assert d["base"] + sum(max(r, 0) for r in reach) < launch.table_base
                    else:
                        # A core uses a colour only where its router has a route to or from it.
                        assert image.routes[d["colour"]].any()


def test_every_word_has_one_meaning_and_nothing_live_overlaps():
    for low in lowered():
        for launch in low.launches:
            for phase in range(len(launch.launch.phases)):
                for role in range(len(launch.roles)):
                    owner = np.zeros(low.sram_words, np.int64)
                    for start, size, kind, name in low.words_in_use(launch.index, phase, role):
                        assert start + size <= low.sram_words
                        owner[start : start + size] += 1
                        if size:
                            for word in (start, start + size - 1):
                                meaning = low.meaning(launch.index, phase, role, word)
                                assert (meaning.kind, meaning.name) == (kind, name)
                    assert owner.max() == 1
                    free = np.flatnonzero(owner == 0)
                    for word in free[:: max(1, len(free) // 5)].tolist():
                        assert low.meaning(launch.index, phase, role, word).kind == "free"


def test_every_word_of_one_phase():
    low = tiny_gpt()
    kinds = {low.meaning(1, 3, 0, word).kind for word in range(low.sram_words)}
    assert kinds >= {"header", "task", "descriptor", "constant", "tensor", "free"}


def test_lowering_depends_on_the_program_only():
    program = gpt_training(rows=2, cols=4, **GPT)
    one, other = lower(program), lower(gpt_training(rows=2, cols=4, **GPT))
    for a, b in zip(one.launches, other.launches, strict=True):
        assert a.tables_id == b.tables_id
        assert a.address == b.address
        assert (a.role_of == b.role_of).all()


def test_roles_stand_for_every_core_of_their_class():
    """A larger rectangle has no more roles, and each core's routes are what its own place asks for."""
    small, large = (lower(gpt_training(rows=r, cols=4, **{**GPT, "sequences": r})) for r in (5, 8))
    for a, b in zip(small.launches, large.launches, strict=True):
        assert len(b.roles) == len(a.roles)
    for rows, cols in ((4, 4), (5, 3)):
        for name in CHANNELS:
            for r in range(rows):
                for c in range(cols):
                    if name == "diagonal" and rows != cols:
                        continue
                    for colour, words in routes_of(name, r, c, rows, cols).items():
                        assert 0 <= colour < COLOURS
                        assert 0 < len(words) <= POSITIONS


def test_colours_fit_and_channels_share_none():
    firsts = sorted(COLOUR_OF.values())
    assert len(set(firsts)) == len(firsts)
    pairs = {"chain_east", "chain_south", "shift_west", "shift_north"}
    used = [c + k for name, c in COLOUR_OF.items() for k in range(2 if name in pairs else 1)]
    assert len(set(used)) == len(used)
    assert max(used) < COLOURS


def test_too_little_sram_names_the_launch_and_the_tensors():
    with pytest.raises(BadInput, match=r"launch 'f0.mlp' needs \d+ words.*largest tensors: .*has 600") as caught:
        lower(gpt_training(rows=2, cols=4, **GPT), sram_words=600)
    assert "\n" not in str(caught.value)
    assert "__acc:f0.h.gemm 256" in str(caught.value)
    # What just fits runs, and gives what a large SRAM gives.
    program, streams = random_program(3, 2, 2, "bf16")
    wide = lower(program)
    need = max(
        max(low.address[n] + wide.tensors[n].size for n in low.address) + wide.sram_words - low.table_base
        for low in wide.launches
    )
    tight = lower(program, sram_words=need)
    one, other = ReferenceExecutor(tight), TensorExecutor(wide)
    for a, b in zip(tight.launches, wide.launches, strict=True):
        left, right = one.launch(a, streams), other.launch(b, streams)
        assert left.completed
        for name in right.outputs:
            assert (left.outputs[name].view(np.uint32) == right.outputs[name].view(np.uint32)).all()
    with pytest.raises(BadInput, match="SRAM"):
        lower(program, sram_words=need - 1)


def test_what_a_launch_does_not_write_is_zero():
    """A tensor written in part never shows what lay at its address before, in this launch or an earlier one."""
    tensors = (Tensor("x", "fp32", (4,)), Tensor("part", "fp32", (4,)), Tensor("late", "fp32", (4,)))
    half = (("i", 2),)
    fill = Compute("fill", (Instr("mov", half, at("part", i=2), at("x", i=1)),))
    late = Compute("fill.late", (Instr("mov", half, at("late", 1, i=2), at("x", i=1)),))
    phases = (
        StreamIn("in", "x", "x", "scatter_row"), fill, StreamOut("o", "part", "o", "gather_row"),
        StreamIn("in2", "x", "x2", "scatter_row"), late, StreamOut("o2", "late", "o2", "gather_row"),
    )  # fmt: skip
    low = lower(Program("p", 1, 2, "fp32", tensors, (Launch("l", phases),), {"kind": "none"}))
    streams = {n: np.arange(1, 9, dtype=np.float32).reshape(1, 2, 4) for n in ("x", "x2")}
    for executor in (ReferenceExecutor(low), TensorExecutor(low)):
        for _ in range(2):
            outputs = executor.launch(low.launches[0], streams).outputs
            assert outputs["o"].tolist() == [[[1, 0, 2, 0], [5, 0, 6, 0]]]
            assert outputs["o2"].tolist() == [[[0, 1, 0, 2], [0, 5, 0, 6]]]
