"""Gradients of the GPT: against PyTorch in float64, finite differences, and between operand formats; it learns."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.emulator.tiny import GPT, batches, perfect
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.running import run
from yieldkit.workloads.gpt import GptShape, gpt_forward, gpt_training, parameters

GOLDEN = Path(__file__).parents[1] / "golden" / "gpt_torch.npz"
SIZES = {"layers": 2, "width": 16, "heads": 4, "context": 8, "sequences": 4, "vocabulary": 32}


@cache
def golden():
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def weights():
    return {name: golden()[f"param/{name}"] for name in parameters(GptShape(**SIZES))}


@cache
def gradients(dtype, rows=2, cols=4, executor="tensor"):
    """(loss, gradients by parameter) of the golden batch."""
    low = lower(gpt_training(rows=rows, cols=cols, dtype=dtype, **SIZES))
    tokens, targets = golden()["tokens"].astype(np.int64), golden()["targets"].astype(np.int64)
    job = Job.start(low, executor=executor, weights=weights(), batches=[(tokens, targets)])
    result = job.run_step()
    host = MemoryX.initial(low.program, weights())
    return host.loss(result.outputs), host.gradients(result.outputs, tokens)


def worst(grads, name):
    """Largest error of a gradient against float64, relative to the gradient's largest element."""
    right = golden()[f"f64/grad/{name}"]
    return float(np.abs(grads[name] - right).max() / np.abs(right).max())


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (4, 2)])
def test_fp32_gradients_against_torch_in_float64(shape):
    loss, grads = gradients("fp32", *shape)
    assert loss == pytest.approx(float(golden()["f64/loss"]), rel=2e-7)
    assert set(grads) == set(parameters(GptShape(**SIZES)))
    for name in grads:
        # PyTorch's own float32 gradients of this batch are up to 1e-6 off by the same measure.
        assert worst(grads, name) < 2e-6, name


def test_the_torch_golden_in_float32_is_no_better():
    own = {name: golden()[f"f32/grad/{name}"] for name in parameters(GptShape(**SIZES))}
    ours = gradients("fp32")[1]
    assert max(worst(ours, name) for name in ours) < 4 * max(worst(own, name) for name in own)


@pytest.mark.parametrize(("dtype", "bound"), [("bf16", 0.05), ("fp16", 0.008)])
def test_short_operands_give_nearly_the_same_gradients(dtype, bound):
    """Operands of 8 (bf16) or 11 (fp16) bits: relative roundings of 2^-9 and 2^-12 through some tens of products."""
    loss, grads = gradients(dtype)
    exact_loss, exact = gradients("fp32")
    assert loss == pytest.approx(exact_loss, rel=bound / 5)
    for name, gradient in grads.items():
        distance = np.linalg.norm((gradient - exact[name]).ravel()) / np.linalg.norm(exact[name].ravel())
        assert 1e-5 < distance < bound, name


def test_finite_differences():
    """Central differences of the fp32 forward loss along random directions and along the gradient itself."""
    low = lower(gpt_forward(rows=2, cols=4, dtype="fp32", **SIZES))
    tokens, targets = golden()["tokens"].astype(np.int64), golden()["targets"].astype(np.int64)
    grads = gradients("fp32")[1]

    def loss(values):
        result = run(low, perfect(), weights=values, batches=[(tokens, targets)])
        return float(np.asarray(result.outputs["head.loss"], np.float64).mean())

    rng = np.random.default_rng(1)
    base = weights()
    for name in grads:
        direction = grads[name] / np.linalg.norm(grads[name].ravel())
        if name in ("wte", "l0.wq", "l1.w2", "head", "lnf"):
            direction = direction + 0.3 * rng.normal(size=direction.shape) / direction.size**0.5
        step = 0.02
        # Four points: the error of the difference falls with the fourth power of the step.
        at = [loss({**base, name: (base[name] + k * step * direction).astype(np.float32)}) for k in (-2, -1, 1, 2)]
        slope = (8 * (at[2] - at[1]) - (at[3] - at[0])) / (12 * step)
        expected = float((grads[name].astype(np.float64) * direction).sum())
        assert slope == pytest.approx(expected, rel=2e-3, abs=2e-5), name


def test_a_wrong_gradient_would_be_seen():
    """The negative control: a gradient with one element in a hundred left out fails the bound above."""
    grads = dict(gradients("fp32")[1])
    changed = grads["l0.wq"].copy()
    changed.reshape(-1)[::100] = 0
    grads["l0.wq"] = changed
    assert worst(grads, "l0.wq") > 2e-6


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_training_learns_a_repeated_batch(dtype):
    program = gpt_training(rows=2, cols=4, dtype=dtype, learning_rate=1e-2, **GPT)
    result = run(program, perfect(), steps=60, batches=batches(1), taps=False)
    losses = result.losses
    assert abs(losses[0] - np.log(GPT["vocabulary"])) < 0.2
    assert losses[-1] < 0.1 * losses[0]
    assert all(np.isfinite(losses))
    assert len(result.symptoms.grad_norm) == len(result.symptoms.update_norm) == 60
