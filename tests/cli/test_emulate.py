"""Checks, dumps, stalls and traces from the command line."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.kit import call
from yieldkit.emulator.trace import Trace
from yieldkit.workloads.builder import ProgramBuilder
from yieldkit.workloads.gpt import GptShape, gpt_training

LAUNCH = "f0.mlp"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A small training program, and a file of one lost word."""
    folder = tmp_path_factory.mktemp("job")
    shape = GptShape(layers=1, width=8, heads=2, context=4, sequences=2)
    program = gpt_training(shape, rows=2, cols=2).save(folder / "program.json")
    event = {"place": "link_drop", "row": 0, "col": 0, "dcol": 1, "step": 0, "launch": LAUNCH, "colour": 1, "nth": 3}
    (folder / "lost.json").write_text(json.dumps([event]))
    return program, folder / "lost.json"


def test_a_good_program_is_checked_launch_by_launch(job):
    answer = call("emulate", "check", job[0], "--json")
    assert (answer.status, answer.err) == (0, "")
    assert answer.facts["holds"] is True
    assert answer.facts["problems"] == []
    assert {one["deadlock"] for one in answer.facts["launches"]} == {"none"}
    assert all(sum(one["sram"]["banks"]) == one["sram"]["words"] for one in answer.facts["launches"])


def test_a_program_that_does_not_fit_its_cores_is_one_line(job):
    answer = call("emulate", "check", job[0], "--sram-words", 64)
    assert answer.status == 2
    assert len(answer.err.splitlines()) == 1
    assert "words of SRAM" in answer.err


def test_deadlock_is_the_answer_no_with_its_ring(tmp_path, monkeypatch):
    # What builders write never deadlocks, so a lowered program is changed on its way to the command.
    from tests.emulator.handmade import in_order, role_at, with_role
    from yieldkit.emulator import lowering
    from yieldkit.workloads.program import Permute, StreamIn, StreamOut

    b = ProgramBuilder("ring", 1, 2, "fp32")
    x, y = b.tensor("x", (3,)), b.tensor("y", (3,))
    b.phase(StreamIn("in", x, "x", "scatter_row"))
    b.phase(Permute("swap", x, y, (1, 0)))
    b.phase(StreamOut("out", y, "y", "gather_row"))
    b.launch("ring")
    path = b.build({"kind": "none"}).save(tmp_path / "ring.json")
    assert call("emulate", "check", path).status == 0
    real = lowering.lower

    def changed(program, **options):
        low = real(program, **options)
        return with_role(low, 0, 0, tables=in_order(role_at(low, 0, 0), [0, 2, 1, 3]))

    monkeypatch.setattr(lowering, "lower", changed)
    answer = call("emulate", "check", path)
    assert answer.status == 3
    assert "deadlocks with queues of 4 words" in answer.err
    assert "core (0, 0)" in answer.err
    assert "core (0, 1)" in answer.err


def test_a_stall_is_told_with_its_class_on_every_executor(job):
    told = []
    for executor in ("reference", "wavelet", "tensor"):
        run = ("emulate", "run", job[0], "--perfect", "2x2", "--fault", job[1], "--executor", executor)
        answer = call(*run, "--json")
        assert (answer.status, answer.err) == (0, "")
        facts = answer.facts
        assert facts["status"] == "STALL_DETECTED"
        assert facts["stall"]["class"] == "LOST_WAVELET"
        told.append(facts["stall"])
        short, whole = (call(*run, *more).out.splitlines() for more in ((), ("--waits",)))
        assert "  the link from (0, 0) to (0, 1)" in "\n".join(short)
        assert len(whole) >= len(short)
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("ending", ["html", "svg", "png", "npz"])
def test_traces_in_every_form(job, tmp_path, ending):
    out = tmp_path / f"trace.{ending}"
    run = ("emulate", "run", job[0], "--perfect", "2x2", "--executor", "wavelet", "--timing", "cs3", "--trace", out)
    answer = call(*run, "--fault", job[1], "--json")
    assert (answer.status, answer.err) == (0, "")
    assert answer.facts["trace"] == str(out)
    assert answer.facts["cycles"] > 100
    head = out.read_bytes()[:4]
    assert head == {"html": b"<!DO", "svg": b"<?xm", "png": b"\x89PNG", "npz": b"PK\x03\x04"}[ending]
    if ending == "npz":
        trace = Trace.load(out)
        assert trace.launch == LAUNCH
        assert not trace.completed
        assert trace.waiting
        page = tmp_path / "page.html"
        assert call("report", out, "--out", page).status == 0
        assert "nothing moves after cycle" in page.read_text()
        assert call(*run, "--trace-launch", "embed").status == 0
        assert Trace.load(out).launch == "embed"


@pytest.mark.parametrize(("words", "said"), [
    (("--trace", "t.html"), "only the wavelet executor records traces"),
    (("--executor", "wavelet", "--trace", "t.txt"), "a trace is written as"),
    (("--executor", "wavelet", "--trace-launch", "embed"), "--trace-launch needs --trace"),
    (("--executor", "wavelet", "--trace", "t.svg", "--trace-launch", "none"), "ran no such launch"),
    (("--executor", "wavelet", "--timing", "cs9"), "no such preset of timing"),
])  # fmt: skip
def test_wrong_words_are_one_line_and_leave_nothing(job, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    answer = call("emulate", "run", job[0], "--perfect", "2x2", *words)
    assert answer.status == 2
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_dump_says_what_a_core_is_loaded_with_and_what_it_holds(job):
    answer = call("emulate", "dump", job[0], "--launch", "embed", "--core", "1,0")
    assert answer.status == 0
    text = re.sub(r"x\[0\] at \d+", "x[0] at N", answer.out)
    assert text.startswith("""\
core (1, 0) in launch 'embed': role 2 of 4, as 1 of 4 cores have it

header  starts with task 0; tasks at 12278, descriptors at 12280

tasks
  embed.in:
     0  mov, 16 elements, end
          D = x[0] at N, fp32, 16 x +1
          A = fabric in, colour 10, fp32, 16

routes: colour, position, from, to
   10 0  W to core, may advance  stream_scatter
   10 1  W to E  stream_scatter

SRAM: words, what they hold
      0 to     1  header
""")
    assert "constant __zero, fp32 1" in answer.out
    stalled = call("emulate", "dump", job[0], "--launch", LAUNCH, "--core", "0,1", "--fault", job[1])
    assert stalled.status == 0
    assert "LOST_WAVELET" in stalled.out
    assert "register" in stalled.out
    assert call("emulate", "dump", job[0], "--core", "0;1").status == 2
    assert call("emulate", "dump", job[0], "--core", "9,9").status == 2
    assert call("emulate", "dump", job[0], "--core", "0,1", "--launch", "none").status == 2


SMALL = {
    "cg": ["--depth", 2],
    "cnn_forward": ["--channels", 2, "--side", 4, "--layers", 1, "--classes", 4, "--samples", 2],
    "cnn_training": ["--channels", 2, "--side", 4, "--layers", 1, "--classes", 4, "--samples", 2],
    "gpt_forward": ["--width", 8, "--heads", 2, "--context", 4, "--sequences", 2],
    "mlp_forward": ["--width", 4, "--side", 4, "--classes", 4, "--samples", 2],
    "mlp_training": ["--width", 4, "--side", 4, "--classes", 4, "--samples", 2, "--noise", 0],
    "moe_forward": ["--width", 8, "--heads", 2, "--context", 4, "--sequences", 2, "--experts", 2],
    "moe_training": ["--width", 8, "--heads", 2, "--context", 4, "--sequences", 2, "--experts", 2, "--every", 2],
    "stencil": ["--depth", 2],
}


@pytest.mark.parametrize("kind", SMALL)
def test_every_kind_of_program_is_written_and_runs(kind, tmp_path):
    made = call("emulate", "program", kind, "--rows", 2, "--cols", 2, *SMALL[kind], "--out", tmp_path / "p", "--json")
    assert (made.status, made.err) == (0, "")
    again = call(
        "emulate",
        "program",
        kind,
        "--rows",
        2,
        "--cols",
        2,
        *SMALL[kind],
        "--seed",
        1,
        "--out",
        tmp_path / "q",
        "--json",
    )
    assert again.facts["fingerprint"] != made.facts["fingerprint"]
    answer = call("emulate", "run", tmp_path / "p", "--perfect", "2x2", "--steps", 2, "--json")
    assert (answer.status, answer.err) == (0, "")
    assert answer.facts["status"] == "COMPLETED"
    assert len(answer.facts["loss"]) == 2


def test_an_option_of_another_kind_is_refused_by_its_name(tmp_path):
    for kind, option in (("cnn_training", "--heads"), ("gpt_training", "--experts"), ("cg", "--layers")):
        answer = call("emulate", "program", kind, option, 2, "--out", tmp_path / "p")
        assert answer.status == 2
        assert len(answer.err.splitlines()) == 1
        assert f"{kind} has no {option}" in answer.err
    assert not (tmp_path / "p").exists()
