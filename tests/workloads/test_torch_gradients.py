"""Logits, loss and gradients of MLP, CNN and mixture of experts against PyTorch in float64, and finite differences."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.emulator.tiny import perfect
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.running import run
from yieldkit.workloads.cnn import cnn_forward, cnn_training
from yieldkit.workloads.mlp import mlp_forward, mlp_training
from yieldkit.workloads.moe import moe_forward, moe_training

FOLDER = Path(__file__).parents[1] / "golden"
IMAGES = {"side": 8, "classes": 4, "samples": 4}
SIZES = {
    "cnn": {"layers": 2, "channels": 4, **IMAGES},
    "mlp": {"layers": 2, "width": 8, **IMAGES},
    "moe": {
        "layers": 2, "width": 16, "heads": 4, "context": 8, "sequences": 4, "vocabulary": 32, "experts": 3,
    },
}  # fmt: skip
TRAINING = {"cnn": cnn_training, "mlp": mlp_training, "moe": moe_training}
FORWARD = {"cnn": cnn_forward, "mlp": mlp_forward, "moe": moe_forward}
MODELS = sorted(SIZES)


@cache
def golden(model):
    """Made by make_workloads_torch.py with the version of PyTorch that is stored in the file."""
    with np.load(FOLDER / f"{model}_torch.npz", allow_pickle=False) as file:
        return dict(file)


def weights(model):
    return {name[6:]: value for name, value in golden(model).items() if name.startswith("param/")}


def batch(model):
    g = golden(model)
    inputs = g["tokens"].astype(np.int64) if model == "moe" else g["pixels"]
    return inputs, g["targets" if model == "moe" else "labels"].astype(np.int64)


@cache
def gradients(model, dtype="fp32", rows=2, cols=4, executor="tensor"):
    """(loss, gradients by parameter) of the golden batch; experts are balanced by the rows of cores."""
    extra = {"balance": float(golden(model)["balance"])} if model == "moe" else {}
    low = lower(TRAINING[model](rows=rows, cols=cols, dtype=dtype, **SIZES[model], **extra))
    inputs, targets = batch(model)
    job = Job.start(low, executor=executor, weights=weights(model), batches=[(inputs, targets)])
    result = job.run_step()
    host = MemoryX.initial(low.program, weights(model))
    return host.loss(result.outputs), host.gradients(result.outputs, inputs)


def worst(model, grads, name):
    """Largest error of a gradient against float64, relative to the gradient's largest element."""
    right = golden(model)[f"f64/grad/{name}"]
    return float(np.abs(grads[name] - right).max() / np.abs(right).max())


@pytest.mark.parametrize("model", MODELS)
def test_the_golden_is_what_the_script_says(model):
    assert str(golden(model)["torch_version"]).startswith("2.13.0")
    assert (FOLDER / f"{model}_torch.npz").stat().st_size < 250_000
    assert min(np.abs(golden(model)[f"f64/grad/{name}"]).max() for name in weights(model)) > 1e-2


@pytest.mark.parametrize(("rows", "cols"), [(2, 2), (2, 4)])
@pytest.mark.parametrize("model", MODELS)
def test_fp32_gradients_against_torch_in_float64(model, rows, cols):
    loss, grads = gradients(model, rows=rows, cols=cols)
    assert loss == pytest.approx(float(golden(model)["f64/loss"]), rel=3e-7)
    assert list(grads) != []
    assert set(grads) == set(weights(model))
    for name in grads:
        # PyTorch's own float32 gradients of these batches are up to 1e-6 off by the same measure.
        assert worst(model, grads, name) < 2e-6, name
    torch32 = max(float(golden(model)[f"f32/error/{name}"]) for name in grads)
    assert max(worst(model, grads, name) for name in grads) < 4 * torch32


@pytest.mark.parametrize("model", MODELS)
def test_fp32_logits_against_torch_in_float64(model):
    result = run(
        FORWARD[model](rows=2, cols=4, dtype="fp32", **SIZES[model]), perfect(), weights=weights(model),
        batches=[batch(model)],
    )  # fmt: skip
    right = golden(model)["f64/logits"]
    logits = result.job.logits(result.outputs)
    assert logits.shape == right.shape
    assert np.abs(logits - right).max() < 1e-6 * np.abs(right).max()
    # The largest logit of each sample or token is kept with the step.
    assert (result.tokens[:, 0] == right.reshape(-1, right.shape[-1]).argmax(1)).all()
    # Training and forward pass share every number.
    assert result.losses[0] == gradients(model)[0]


@pytest.mark.parametrize("model", MODELS)
def test_short_operands_give_nearly_the_same_gradients(model):
    loss, grads = gradients(model, "bf16")
    exact_loss, exact = gradients(model)
    assert loss == pytest.approx(exact_loss, rel=0.02)
    for name, gradient in grads.items():
        distance = np.linalg.norm((gradient - exact[name]).ravel()) / np.linalg.norm(exact[name].ravel())
        # bf16 has 8 bits; a token on the edge between experts, or a place between maxima, would cost far more.
        assert 1e-4 < distance < 0.1, name


@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_finite_differences(model):
    """Differences of the fp32 forward loss along the gradient of each parameter."""
    low = lower(FORWARD[model](rows=2, cols=4, dtype="fp32", **SIZES[model]))
    base, grads = weights(model), gradients(model)[1]

    def loss(values):
        return run(low, perfect(), weights=values, batches=[batch(model)], taps=False).losses[0]

    for name, gradient in grads.items():
        direction = gradient / np.linalg.norm(gradient.ravel())
        # ReLU and pooling have kinks: a small step stays on one side of nearly all of them.
        step = 2e-3
        sides = [loss({**base, name: (base[name] + sign * step * direction).astype(np.float32)}) for sign in (1, -1)]
        expected = float(np.linalg.norm(gradient.astype(np.float64).ravel()))
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(expected, rel=0.02), name


def test_the_balancing_loss_is_in_the_gradient():
    """Negative control: without it, the router's gradient is not PyTorch's, and the bound above would say so."""
    low = lower(moe_training(rows=2, cols=4, dtype="fp32", balance=0.0, **SIZES["moe"]))
    inputs, targets = batch("moe")
    job = Job.start(low, weights=weights("moe"), batches=[(inputs, targets)])
    grads = MemoryX.initial(low.program, weights("moe")).gradients(job.run_step().outputs, inputs)
    assert worst("moe", grads, "l0.router") > 1e-2
