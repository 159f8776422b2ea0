"""MLP, CNN and mixture of experts equal the NumPy references in the declared order, in every bit of fp32."""

from functools import cache

import numpy as np
import pytest

from tests.golden import ordered
from tests.workloads.test_torch_gradients import FORWARD, SIZES, TRAINING, batch, weights
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.memoryx import MemoryX

SHAPES = [(1, 1), (2, 4), (4, 2)]


def bits(array):
    return np.ascontiguousarray(array, np.float32).view(np.uint32)


@cache
def stepped(model, rows, cols, *, training=True):
    """Outputs of one fp32 step on the golden batch, and the gradients in them."""
    low = lower((TRAINING if training else FORWARD)[model](rows=rows, cols=cols, dtype="fp32", **SIZES[model]))
    inputs, targets = batch(model)
    result = Job.start(low, weights=weights(model), batches=[(inputs, targets)]).run_step()
    return result.outputs, MemoryX.initial(low.program, weights(model)).gradients(result.outputs, inputs)


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_loss_and_gradients_of_the_classifiers(model, rows, cols):
    outputs, grads = stepped(model, rows, cols)
    loss, right = getattr(ordered, model)(weights(model), *batch(model), rows, cols)
    assert (bits(outputs["head.loss"]).reshape(-1) == bits(loss)).all()
    assert set(grads) == set(right)
    assert [name for name in grads if (bits(grads[name]) != bits(right[name])).any()] == []


@pytest.mark.parametrize(("rows", "cols"), [(1, 2), (2, 4), (4, 2)])
def test_logits_and_routing_of_the_mixture(rows, cols):
    outputs, _ = stepped("moe", rows, cols, training=False)
    loss, logits, balances = ordered.moe(weights("moe"), *batch("moe"), SIZES["moe"]["heads"], rows, cols)
    assert (bits(outputs["head.loss"]).reshape(-1) == bits(loss)).all()
    assert (bits(outputs["head.logits"].transpose(0, 2, 1, 3)).reshape(logits.shape) == bits(logits)).all()
    assert len(balances) == SIZES["moe"]["layers"]
    for layer, right in enumerate(balances):
        assert (bits(outputs[f"f{layer}.balance"]).reshape(right.shape) == bits(right)).all()


def test_another_order_would_show():
    """The negative control: sums over other rows and columns differ in many bits."""
    _, grads = stepped("cnn", 2, 4)
    _, other = ordered.cnn(weights("cnn"), *batch("cnn"), 4, 2)
    assert np.mean(bits(grads["conv1.w"]) != bits(other["conv1.w"])) > 0.2


def test_the_first_of_equal_experts_takes_the_token():
    probs, hot, gate = ordered.route(np.array([[1, 3, 3], [2, 2, 2], [0, 1, 5]], np.float32))
    assert hot.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert gate.tolist() == [probs[0, 1], probs[1, 0], probs[2, 2]]
    # On the machine: a router of zeros gives equal logits to all, so expert 0 gets every token.
    flat = {name: value * (0 if name.endswith("router") else 1) for name, value in weights("moe").items()}
    low = lower(FORWARD["moe"](rows=2, cols=4, dtype="fp32", **SIZES["moe"]))
    outputs = Job.start(low, weights=flat, batches=[batch("moe")]).run_step().outputs
    assert outputs["f0.balance"][:, 0, 0].tolist() == [[1, 0, 0]] * 2
    third = outputs["f0.balance"][:, 0, 1]
    assert np.abs(third - 1 / 3).max() < 1e-6


def test_the_first_of_equal_places_takes_the_gradient(monkeypatch):
    """A first layer that sees nothing gives equal places everywhere: only a rule decides where gradients go."""
    flat = weights("cnn") | {"conv0.w": np.zeros((9, 4), np.float32), "conv0.b": np.full(4, 0.5, np.float32)}
    pixels, labels = batch("cnn")
    low = lower(TRAINING["cnn"](rows=2, cols=4, dtype="fp32", **SIZES["cnn"]))
    job = Job.start(low, weights=flat, batches=[(pixels, labels)])
    grads = job.memoryx.copy().gradients(job.run_step().outputs, pixels)

    def differing():
        _, right = ordered.cnn(flat, pixels, labels, 2, 4)
        return [name for name in grads if (bits(grads[name]) != bits(right[name])).any()]

    assert differing() == []
    first_to_last = ordered.windows
    monkeypatch.setattr(ordered, "windows", lambda z: first_to_last(z)[::-1])
    assert differing() == ["conv0.w"]
