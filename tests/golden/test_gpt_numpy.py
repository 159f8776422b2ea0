"""The NumPy GPT against PyTorch's stored answers and against finite differences."""

from pathlib import Path

import numpy as np
import pytest

from tests.golden.gpt_numpy import logits_of, loss_and_grads

GOLDEN = Path(__file__).with_name("gpt_torch.npz")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    # Made by make_gpt_torch.py with the version of PyTorch that is stored in the file.
    with np.load(GOLDEN, allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def params(golden) -> dict[str, np.ndarray]:
    return {key.removeprefix("param/"): value for key, value in golden.items() if key.startswith("param/")}


def shape_of(golden) -> tuple[int, int]:
    return int(golden["size/layers"]), int(golden["size/heads"])


def test_the_golden_is_what_the_script_says(golden, params):
    assert str(golden["torch_version"]).startswith("2.13.0")
    assert GOLDEN.stat().st_size < 250_000
    assert len(params) == 4 + 2 * 8
    assert golden["tokens"].shape == golden["targets"].shape == (4, 8)
    assert all(value.dtype == np.float32 for value in params.values())
    for label, dtype in (("f64", np.float64), ("f32", np.float32)):
        answers = {key: value for key, value in golden.items() if key.startswith(label + "/")}
        assert set(answers) == {f"{label}/loss", f"{label}/logits", *(f"{label}/grad/{name}" for name in params)}
        assert all(value.dtype == dtype for value in answers.values())
    # The gradients carry information: none is lost in rounding noise.
    assert min(np.abs(golden[f"f64/grad/{name}"]).max() for name in params) > 1e-3


def test_loss_logits_and_gradients_equal_pytorch_in_float64(golden, params):
    # Tolerance: both sum some hundred float64 products of size one in different orders.
    layers, heads = shape_of(golden)
    logits = logits_of(params, golden["tokens"], layers, heads)
    loss, grads = loss_and_grads(params, golden["tokens"], golden["targets"], layers, heads)
    np.testing.assert_allclose(logits, golden["f64/logits"], rtol=0, atol=1e-10)
    assert abs(loss - float(golden["f64/loss"])) < 1e-10
    assert grads.keys() == params.keys()
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, golden[f"f64/grad/{name}"], rtol=0, atol=1e-10, err_msg=name)


def test_the_float32_golden_is_the_same_model(golden, params):
    assert float(golden["f32/loss"]) == pytest.approx(float(golden["f64/loss"]), abs=2e-6)
    for name in params:
        np.testing.assert_allclose(golden[f"f32/grad/{name}"], golden[f"f64/grad/{name}"], rtol=0, atol=2e-6)


def test_gradients_equal_finite_differences(golden, params):
    # Central differences with step h err by h^2 times a third derivative of order one, plus 1e-16 / h.
    layers, heads = shape_of(golden)
    tokens, targets = golden["tokens"], golden["targets"]
    params = {name: value.astype(np.float64) for name, value in params.items()}
    _, grads = loss_and_grads(params, tokens, targets, layers, heads)
    rng = np.random.default_rng(3)
    step = 1e-5
    for name, value in params.items():
        for place in rng.integers(0, value.size, 4):
            losses = []
            for sign in (1, -1):
                moved = value.copy()
                moved.flat[place] += sign * step
                losses.append(loss_and_grads(params | {name: moved}, tokens, targets, layers, heads)[0])
            slope = (losses[0] - losses[1]) / (2 * step)
            assert abs(slope - grads[name].flat[place]) < 1e-8, name


def test_a_wrong_gradient_is_noticed(golden, params):
    # The control: the same comparison sees a model whose heads are not contiguous runs of features.
    layers, heads = shape_of(golden)
    shuffled = params | {"l0.wo": params["l0.wo"][::-1]}
    loss, _ = loss_and_grads(shuffled, golden["tokens"], golden["targets"], layers, heads)
    assert abs(loss - float(golden["f64/loss"])) > 1e-4


def test_a_token_depends_on_no_later_one(golden, params):
    layers, heads = shape_of(golden)
    before = logits_of(params, golden["tokens"], layers, heads)
    changed = golden["tokens"].copy()
    changed[:, 5] = (changed[:, 5] + 1) % 32
    after = logits_of(params, changed, layers, heads)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert np.all(before[:, 5:] != after[:, 5:])


def test_shorter_sequences_use_the_first_positions(golden, params):
    layers, heads = shape_of(golden)
    tokens, targets = golden["tokens"][:, :3], golden["targets"][:, :3]
    _, grads = loss_and_grads(params, tokens, targets, layers, heads)
    assert np.abs(grads["wpe"][:3]).min() > 0
    assert not grads["wpe"][3:].any()
