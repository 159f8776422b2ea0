"""Programs as data: the round trip, one line for every rule broken, and files that are damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.random_programs import random_program
from tests.emulator.tiny import GPT
from yieldkit.emulator.lowering import lower
from yieldkit.errors import BadFile, BadInput
from yieldkit.workloads.builder import at
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_forward, gpt_training
from yieldkit.workloads.program import (
    AllGather,
    AllReduce,
    ChainAccumulate,
    Compute,
    Gemm,
    Gemv,
    Instr,
    Launch,
    Program,
    Reduce,
    Shift,
    StreamIn,
    StreamOut,
    Tensor,
    WGrad,
)

TENSORS = (
    Tensor("x", "bf16", (2, 3)),
    Tensor("x2", "bf16", (2, 3)),
    Tensor("y", "fp32", (2, 4)),
    Tensor("s", "fp32", (2,)),
    Tensor("u", "fp32", (2,)),
    Tensor("pairs", "fp32", (2, 2)),
    Tensor("row", "fp32", (2,), "r"),
    Tensor("col", "fp32", (2, 3), "c"),
    Tensor("k", "fp32", (2,), "", values=(1.0, 2.0)),
)
I2, MN = (("i", 2),), (("i", 2), ("n", 3))


def program(*phases, tensors=TENSORS, rows=2, cols=2, dtype="bf16"):
    return Program("p", rows, cols, dtype, tensors, (Launch("l", phases),), {"kind": "none"})


def instr(op="add", axes=I2, d=None, a=None, b=None):
    d = d or at("s", i=1)
    return Compute("c", (Instr(op, axes, d, a or at("u", i=1), b or at("k", i=1)),))


def start(d=None, a=None):
    return Instr("mov", I2, d or at("s", i=1), a or at("k", i=1))


BAD = {
    "at least one row": lambda: program(StreamOut("o", "x", "o", "gather_row"), rows=0),
    "dtype must be": lambda: program(StreamOut("o", "x", "o", "gather_row"), dtype="int8"),
    "tensor names": lambda: program(StreamOut("o", "x", "o", "gather_row"), tensors=(*TENSORS, TENSORS[0])),
    "dtype or over": lambda: program(instr(), tensors=(*TENSORS, Tensor("z", "fp32", (2,), "cr"))),
    "dims must be positive": lambda: program(instr(), tensors=(*TENSORS, Tensor("z", "fp32", (0,)))),
    "needs 4 values": lambda: program(instr(), tensors=(*TENSORS, Tensor("z", "fp32", (2,), "r", values=(1.0,)))),
    "at least one launch": lambda: replace(program(instr()), launches=()),
    "has no phases": program,
    "launch names": lambda: replace(program(instr()), launches=(Launch("l", (instr(),)),) * 2),
    "unknown tensor": lambda: program(StreamOut("o", "nothing", "o", "gather_row")),
    "constant cannot be written": lambda: program(instr(d=at("k", i=1), b=at("u", i=1))),
    "'in'.*constant cannot be written": lambda: program(StreamIn("in", "k", "in", "scatter_row")),
    "another phase fills": lambda: program(StreamOut("o", "x", "o", "gather_row"), WGrad("g", "x", "y", "o", 2)),
    "unknown operation": lambda: program(instr(op="fma")),
    "takes 1 operands": lambda: program(instr(op="exp")),
    "takes 2 operands": lambda: program(Compute("c", (Instr("add", I2, at("s", i=1), at("u", i=1)),))),
    "axes must be distinct": lambda: program(instr(axes=(("i", 2), ("i", 2)))),
    "unknown axes": lambda: program(instr(a=at("u", j=1))),
    "reference leaves": lambda: program(instr(a=at("u", 1, i=1))),
    "mac needs an fp32": lambda: program(
        Compute("c", (Instr("mac", MN, at("x", i=3, n=1), at("x2", i=3, n=1), at("k", i=1)),))
    ),
    "cannot reduce": lambda: program(instr(op="sub", axes=MN)),
    "write the same element": lambda: program(
        Compute("c", (Instr("mov", (("i", 2), ("j", 2)), at("y", i=1, j=1), at("u", i=1)),))
    ),
    "reads what it is writing": lambda: program(
        Compute("c", (Instr("mov", (("i", 7),), at("y", 1, i=1), at("y", i=1)),))
    ),
    "reads the sum": lambda: program(Compute("c", (Instr("mac", MN, at("s", i=1), at("s", i=1), at("k", i=1)),))),
    "x and y need dims": lambda: program(Gemm("g", "x", "s", "w", 2)),
    "part must divide": lambda: program(Gemm("g", "x", "y", "w", 3)),
    "x and y must be distinct": lambda: program(Gemm("g", "x", "x", "w", 3)),
    "square rectangle": lambda: program(Gemv("v", "col", "x", "col"), rows=1),
    "over 'c', w": lambda: program(Gemv("v", "x", "x2", "y")),
    "shapes of x, w and y": lambda: program(Gemv("v", "col", "x", "col")),
    "axis must be": lambda: program(AllReduce("r", "diagonal", "add", "s", "u")),
    "equal dims and dtype": lambda: program(AllReduce("r", "row", "add", "x", "s")),
    "method one of": lambda: program(AllReduce("r", "row", "add", "s", "u", "star")),
    "'red'.*method one of": lambda: program(Reduce("red", "row", "add", "s", "u", "")),
    "'gather'.*axis must be": lambda: program(AllGather("gather", "up", "s", "u")),
    r"y needs dims \(2, 2\)": lambda: program(AllGather("gather", "row", "s", "u")),
    "accumulation must be": lambda: replace(program(instr()), accumulation="fp16"),
    "go with a block of 0": lambda: replace(program(instr()), accumulation="bf16_blocked"),
    "go with a block of 4": lambda: replace(program(instr()), block=4),
    "fp32 accumulator": lambda: program(ChainAccumulate("a", "s", start(), (start(at("u", i=1)),))),
    "whole accumulator": lambda: program(ChainAccumulate("a", "y", Instr("mov", I2, at("y", i=1), at("k", i=1)), ())),
    "and not read it": lambda: program(ChainAccumulate("a", "s", start(a=at("s", i=1)), ())),
    "unknown mode": lambda: program(StreamIn("in", "x", "in", "sideways")),
    "'o'.*unknown mode": lambda: program(StreamOut("o", "x", "o", "sideways")),
    "cannot fill blocks that differ over 'rc'": lambda: program(StreamIn("in", "x", "in", "multicast_col")),
    "cannot fill blocks that differ over 'c'": lambda: program(StreamIn("in", "col", "in", "multicast_row")),
    "sum over rows needs": lambda: program(StreamOut("o", "x", "o", "reduce_col")),
    "direction must be": lambda: program(Shift("s", "x", "x2", "up")),
    "'same'.*distinct": lambda: program(Shift("same", "x", "x", "N")),
}


@pytest.mark.parametrize("said", BAD)
def test_every_broken_rule_is_one_line(said):
    with pytest.raises(BadInput, match=said) as caught:
        BAD[said]()
    assert "\n" not in str(caught.value)


UNWRITTEN = {
    "compute": instr(),
    "mac": Compute("c", (Instr("mac", MN, at("s", i=1), at("k", i=1), at("k", i=1)),)),
    "accumulate": Gemm("g", "x", "y", "w", 2, accumulate=True),
    "all-reduce in place": AllReduce("r", "row", "add", "s", "s"),
    "reduce": Reduce("r", "row", "add", "s", "u"),
    "reduce in place": Reduce("r", "row", "add", "s", "s", "tree"),
    "all-gather": AllGather("g", "row", "u", "pairs"),
    "shift": Shift("s", "x", "x2", "N"),
    "stream out": StreamOut("o", "x", "o", "gather_row"),
}


@pytest.mark.parametrize("name", UNWRITTEN)
def test_reading_what_nothing_wrote_is_refused(name):
    fill = StreamIn("in", "x", "in", "scatter_row")
    before = (fill,) if name == "accumulate" else ()
    with pytest.raises(BadInput, match="nothing has written"):
        lower(program(*before, UNWRITTEN[name]))


def test_phase_names_are_unique():
    with pytest.raises(BadInput, match="phase names"):
        lower(program(StreamIn("a", "x", "in", "scatter_row"), StreamOut("a", "x", "o", "gather_row")))


def programs():
    yield gpt_training(rows=2, cols=4, **GPT)
    yield gpt_forward(rows=1, cols=2, dtype="fp32", **GPT)
    yield gpt_decode(side=2, **GPT)
    for seed in range(12):
        yield random_program(seed, 2, 2, "fp16", specials=0.2, phases=8)[0]


def test_programs_survive_saving(tmp_path):
    for number, original in enumerate(programs()):
        path = original.save(tmp_path / f"{number}.json")
        loaded = Program.load(path)
        assert loaded.fingerprint == original.fingerprint
        assert loaded.to_dict() == original.to_dict()
        assert [x.tables_id for x in lower(loaded).launches] == [x.tables_id for x in lower(original).launches]
        assert path.read_bytes() == loaded.save(tmp_path / "again.json").read_bytes()


def paths_of(node, path=()):
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from paths_of(child, (*path, key))


JUNK = [None, True, -1, 0, 3, 2.5, 1e400, 10**30, "", "x", "fp16", "gemm", [], [1], {}, {"a": 1}, float("nan")]


@settings(deadline=None, derandomize=True, max_examples=400)
@given(st.integers(0, 14), st.integers(0, 2**32 - 1))
def test_a_changed_file_is_a_program_or_one_line(tmp_path_factory, which, seed):
    rng = np.random.default_rng(seed)
    data = json.loads(json.dumps(SAVED[which]))
    for _ in range(int(rng.integers(1, 3))):
        paths = [p for p in paths_of(data) if p]
        if not paths:
            break
        *way, last = paths[int(rng.integers(len(paths)))]
        node = data
        for key in way:
            node = node[key]
        if rng.random() < 0.3 and isinstance(node, dict | list):
            del node[last]
        else:
            node[last] = JUNK[int(rng.integers(len(JUNK)))]
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_text(json.dumps(data))
    survives(path)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.integers(0, 14), st.integers(0, 2**32 - 1))
def test_a_damaged_file_is_one_line(tmp_path_factory, which, seed):
    rng = np.random.default_rng(seed)
    raw = bytearray(json.dumps(SAVED[which]).encode())
    if rng.random() < 0.4:
        raw = raw[: int(rng.integers(len(raw)))]
    else:
        for place in rng.integers(len(raw), size=int(rng.integers(1, 6))):
            raw[place] = int(rng.integers(256))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(bytes(raw))
    survives(path)


def survives(path):
    """Loading and lowering work or end in one line that, for the file, names it."""
    said = ""
    try:
        loaded = Program.load(path)
    except BadFile as error:
        said = str(error)
        loaded = None
    named = loaded is not None or str(path) in said
    if loaded is not None:
        try:
            lower(loaded)
        except BadInput as error:
            said = str(error)
    assert named
    assert "\n" not in said


SAVED = [p.to_dict() for p in programs()]
SAVED = [json.loads(json.dumps({**d, "launches": d["launches"][:3]})) for d in SAVED]


def test_files_of_other_things_are_refused(tmp_path):
    for text in ("", "[]", "null", "{}", '{"version": 99}', "[" * 100_000, "\x00", '{"version": 1}'):
        path = tmp_path / "x.json"
        path.write_text(text)
        with pytest.raises(BadFile):
            Program.load(path)
    with pytest.raises(BadFile):
        Program.load(tmp_path / "missing.json")


def test_a_program_shows_itself():
    html = gpt_training(rows=2, cols=4, **GPT)._repr_html_()
    assert "2 x 4 cores" in html
    assert "all_reduce" in html
