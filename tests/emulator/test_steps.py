"""Whole steps: one hash on both executors, any threads, BLAS and place on a fabric; decode against forward."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.emulator.tiny import GPT, batches, perfect, tiny_gpt
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.running import run
from yieldkit.errors import BadInput
from yieldkit.fabric import Fabric
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_forward, gpt_training


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_training_has_one_hash(dtype):
    low = tiny_gpt(dtype)
    runs = [
        run(low, perfect(), steps=3, batches=batches(3)),
        run(low, perfect(), steps=3, batches=batches(3), threads=2),
        run(low, perfect(), steps=3, batches=batches(3), executor="reference"),
        run(low, Fabric.perfect(11, 9), steps=3, batches=batches(3), origin=(7, 5)),
        run(low, Fabric.perfect(11, 9), steps=3, batches=batches(3), origin=(3, 2), executor="reference"),
    ]
    assert len({r.state_hash for r in runs}) == 1
    assert len({r.step_digests for r in runs}) == 1
    assert len({r.losses for r in runs}) == 1
    assert runs[0].symptoms.to_dict() == runs[2].symptoms.to_dict()
    assert run(low, perfect(), steps=3, batches=batches(3, 1)).state_hash != runs[0].state_hash


def test_the_tile_width_changes_no_value():
    narrow = lower(gpt_training(rows=2, cols=4, accumulator_words=16, **GPT))
    assert len(narrow.launches[1].roles[0].tables) != len(tiny_gpt().launches[1].roles[0].tables)
    hashes = [run(p, perfect(), steps=2, batches=batches(2)).memoryx.state_hash for p in (narrow, tiny_gpt())]
    assert hashes[0] == hashes[1]


def test_another_tile_map_is_another_order():
    other = lower(gpt_training(rows=2, cols=2, **GPT))
    hashes = [run(p, perfect(), steps=2, batches=batches(2)).memoryx.state_hash for p in (other, tiny_gpt())]
    assert hashes[0] != hashes[1]


CHILD = """
import json, sys
from tests.emulator.test_steps import hashes_here
print(json.dumps(hashes_here(int(sys.argv[1]))))
"""


def hashes_here(threads):
    decode = lower(gpt_decode(side=2, prompts=[[1, 2], [3, 4]], **GPT))
    return [
        run(tiny_gpt(), perfect(), steps=2, batches=batches(2), threads=threads).state_hash,
        run(decode, perfect(), steps=4, threads=threads).state_hash,
    ]


@pytest.mark.parametrize(("variables", "threads"), [({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}, 2),
                                                   ({"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Nehalem",
                                                     "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}, 1)])  # fmt: skip
def test_the_environment_changes_no_bit(variables, threads):
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(threads)],
        cwd=root, env={**os.environ, **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == hashes_here(1)


@pytest.mark.parametrize("executor", ["tensor", "reference"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_decode_gives_the_forward_logits_of_every_prefix(executor, dtype):
    side = 4
    sizes = {**GPT, "layers": 2, "context": 8}
    tokens = np.random.default_rng(3).integers(0, sizes["vocabulary"], (sizes["sequences"], sizes["context"]))
    trained = run(
        gpt_training(rows=2, cols=side, dtype=dtype, **sizes), perfect(), steps=2, batches=[(tokens, tokens[:, ::-1])]
    )
    weights = trained.memoryx.weights
    forward = run(
        gpt_forward(rows=2, cols=side, dtype=dtype, **sizes), perfect(), weights=weights, batches=[(tokens, tokens)]
    )
    whole = forward.job.logits(forward.outputs)
    job = Job.start(
        lower(gpt_decode(side=side, dtype=dtype, prompts=tokens.tolist(), **sizes)), weights=weights, executor=executor
    )
    for position in range(sizes["context"]):
        step = job.run_step()
        assert (bits(job.logits(step.outputs)) == bits(whole[:, position])).all(), position
    with pytest.raises(BadInput, match="KV cache"):
        job.run_step()


def test_decode_has_one_hash_and_goes_on_greedily():
    low = lower(gpt_decode(side=4, prompts=[[1, 2], [3, 4]], **GPT))
    one, other = (run(low, perfect(), steps=4, executor=e) for e in ("tensor", "reference"))
    assert one.state_hash == other.state_hash
    assert one.tokens.shape == (2, 4)
    assert (one.tokens == other.tokens).all()
    moved = run(low, Fabric.perfect(20, 20), steps=4, origin=(13, 16))
    assert moved.state_hash == one.state_hash


def test_a_training_run_goes_on_from_a_checkpoint():
    low = tiny_gpt()
    whole = run(low, perfect(), steps=5, batches=batches(5))
    first = run(low, perfect(), steps=2, batches=batches(5))
    kept = first.memoryx.copy()
    run(low, perfect(), steps=1, batches=batches(5), memoryx=first.memoryx)
    assert kept.state_hash == first.memoryx.state_hash
    rest = run(low, perfect(), steps=3, batches=batches(5), memoryx=kept, executor="reference")
    assert rest.memoryx.state_hash == whole.memoryx.state_hash
    assert rest.step_digests == whole.step_digests[2:]
    assert rest.losses == whole.losses[2:]


def test_what_does_not_fit_is_refused():
    for wrong, said in (
        ({"steps": 0}, "steps"), ({"origin": (7, 0)}, "fabric"), ({"origin": (-1, 0)}, "fabric"),
        ({"executor": "magic"}, "executor"), ({"weights": {}}, "weights"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            run(tiny_gpt(), perfect(), batches=batches(1), **wrong)
