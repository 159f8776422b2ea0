"""Parameters and batches as a program lists them, and their layouts on the way in and out."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.emulator.tiny import tiny_gpt
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.memoryx import MemoryX, initial_parameters
from yieldkit.emulator.stream_forms import gradient_of, matrix_stream, parameter_stream
from yieldkit.errors import BadInput
from yieldkit.workloads.batches import batch_of, batch_source
from yieldkit.workloads.cnn import cnn_training
from yieldkit.workloads.gpt import GptShape, gpt_parameters, gpt_training
from yieldkit.workloads.moe import MoeShape, moe_parameters
from yieldkit.workloads.parameters import Parameter, job_parameters, parameters_of
from yieldkit.workloads.program import Program


def test_a_gpt_that_lists_nothing_has_the_parameters_of_its_model():
    job = tiny_gpt().program.job
    assert "parameters" not in job
    listed = parameters_of(job)
    assert listed == gpt_parameters(GptShape(**job["model"]))
    # The same weights, whether derived or listed.
    program = tiny_gpt().program
    named = replace(program, job={**job, "parameters": job_parameters(listed)})
    assert MemoryX.initial(named).state_hash == MemoryX.initial(program).state_hash


def test_the_list_survives_a_file_that_sorts_names(tmp_path):
    program = cnn_training(rows=2, cols=2, samples=2, channels=2, side=4, layers=2)
    loaded = Program.load(program.save(tmp_path / "p.json"))
    assert parameters_of(loaded.job) == parameters_of(program.job)
    names = [one.name for one in parameters_of(loaded.job)]
    assert names == ["conv0.w", "conv0.b", "conv1.w", "conv1.b", "head.w", "head.b"]
    assert MemoryX.initial(loaded).state_hash == MemoryX.initial(program).state_hash
    assert batch_source(loaded.job) == batch_source(program.job)


def test_first_values():
    table = (Parameter("a", (40, 50), "normal", 0.3), Parameter("b", (3,), "ones"), Parameter("c", (2,), "zeros", 0.0))
    one, other = (initial_parameters(table, seed) for seed in (1, 2))
    # 5 standard errors of a standard deviation of n nearly normal numbers.
    assert abs(one["a"].std() / 0.3 - 1) < 5 / (2 * 2000) ** 0.5
    assert (one["a"] != other["a"]).mean() > 0.99
    assert one["b"].tolist() == [1, 1, 1]
    assert one["c"].tolist() == [0, 0]


def test_experts_stand_where_the_mlp_was():
    shape = MoeShape(layers=2, width=8, heads=2, experts=3, every=2)
    names = {one.name: one.dims for one in moe_parameters(shape)}
    dense = {one.name: one.dims for one in gpt_parameters(GptShape(layers=2, width=8, heads=2))}
    assert {name for name in dense if name not in names} == {"l1.w1", "l1.w2"}
    assert names["l1.router"] == (8, 3)
    assert [name for name in names if name.startswith("l1.e")] == [f"l1.e{e}.w{k}" for e in range(3) for k in (1, 2)]
    small = {one.name: one.std for one in moe_parameters(shape)}
    assert small["l1.e0.w2"] == small["l0.wo"] < small["l1.e0.w1"]


BAD = {
    "no model": {},
    "cannot be read": {"parameters": [{"name": "a"}]},
    "'a' has wrong": {"parameters": [{"name": "a", "dims": [0], "init": "ones", "std": 0}]},
    "'b' has wrong": {"parameters": [{"name": "b", "dims": [1], "init": "uniform", "std": 0}]},
    "'c' has wrong": {"parameters": [{"name": "c", "dims": [1], "init": "normal", "std": float("nan")}]},
    "unique": {"parameters": [{"name": "a", "dims": [1], "init": "ones", "std": 0}] * 2},
}


@pytest.mark.parametrize("said", BAD)
def test_wrong_lists_are_refused(said):
    with pytest.raises(BadInput, match=said):
        parameters_of(BAD[said])


def numbered(*dims):
    return np.arange(np.prod(dims), dtype=np.float32).reshape(dims)


@pytest.mark.parametrize(
    ("form", "dims"),
    [("vector", (8,)), ("columns", (9, 8)), ("rows", (8, 3))],
)
def test_blocks_go_out_and_come_back(form, dims):
    value, binding = numbered(*dims), {"form": form}
    blocks = parameter_stream(value, binding, 4)
    assert blocks.shape[:2] == (1, 4)
    back = gradient_of(blocks, binding, 4)
    assert back.shape == dims
    assert (back == value).all()
    second = value[:, 2:4] if form == "columns" else value[2:4]
    assert (blocks[0, 1] == second).all()


def test_taps_and_channels_of_a_column_lie_together():
    value = numbered(9 * 4, 6)
    streamed = matrix_stream(value, {"taps": 9}, 2)
    whole = value.reshape(9, 4, 6)
    assert (streamed[: 9 * 2].reshape(9, 2, 6) == whole[:, :2]).all()
    assert (streamed[9 * 2 :].reshape(9, 2, 6) == whole[:, 2:]).all()
    assert (gradient_of(streamed, {"form": "matrix", "taps": 9}, 2) == value).all()
    assert (matrix_stream(value, {"taps": 9, "transpose": True}, 2) == streamed.T).all()
    assert matrix_stream(value, {}, 2) is value


def test_a_stream_of_telemetry_is_no_gradient():
    assert gradient_of(numbered(2), {"form": "balance"}, 2) is None
    with pytest.raises(BadInput, match="unknown form"):
        parameter_stream(numbered(2), {"form": "spiral"}, 2)


def test_a_batch_of_another_size_is_refused():
    job = Job.start(lower(cnn_training(rows=2, cols=2, samples=2, channels=2, side=4, layers=1)))
    pixels, labels = batch_of(job.lowered.program.job, 0)
    job.batches = [(pixels[:, :8], labels)]
    with pytest.raises(BadInput, match=r"must fill stream .image\.in."):
        job.run_step()


def test_a_corpus_named_by_the_program_is_the_models_own():
    job = gpt_training(rows=2, cols=2, layers=1, width=8, heads=2, context=4, sequences=2).job
    source = batch_source(job)
    assert json.loads(json.dumps(source)) == source
    derived, named = batch_of(job, 3), batch_of({"batch": source, "seed": job["seed"]}, 3)
    assert (derived[0] == named[0]).all()
    assert (derived[1] == named[1]).all()
