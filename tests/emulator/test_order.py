"""The negative control of every hash: a wrong order of summation shows in fp32 sums and hardly in stored bf16."""

import numpy as np
import pytest

from tests.emulator.tiny import gemm_program
from yieldkit.emulator.formats import round_to
from yieldkit.emulator.tensor import ReferenceExecutor, TensorExecutor


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


def chain(x, w, order):
    """Sums of a product, partials of the columns added in `order`; `[rows, m, n]`, one NumPy operation a step."""
    rows, _, m, kc = x.shape
    total = None
    for c in order:
        partial = np.zeros((rows, m, w.shape[1]), np.float32)
        for k in range(kc):
            product = (x[:, c, :, k, None] * w[None, None, c * kc + k]).astype(np.float32)
            partial = (partial + product).astype(np.float32)
        total = partial if total is None else (total + partial).astype(np.float32)
    return total


@pytest.mark.parametrize("executor", [TensorExecutor, ReferenceExecutor])
def test_only_the_declared_order_gives_the_sums(executor):
    low, streams = gemm_program(2, 4, m=8, kc=16, part=8)
    result = executor(low).launch(low.launches[0], streams)
    taps = result.taps["product"].transpose(0, 2, 1, 3).reshape(2, 8, 32)
    right = chain(streams["x"], streams["w"], range(4))
    assert (bits(taps) == bits(right)).all()
    shown, stored = [], []
    for order in ([1, 0, 2, 3], [3, 2, 1, 0], [0, 1, 3, 2], [2, 3, 0, 1]):
        wrong = chain(streams["x"], streams["w"], order)
        shown.append(np.mean(bits(wrong) != bits(taps)))
        stored.append(np.mean(bits(round_to(wrong, "bf16")) != bits(round_to(taps, "bf16"))))
    # Swapping the first two partials of a sum changes nothing (a + b = b + a); any other change does.
    assert shown[0] == 0
    assert min(shown[1:]) > 0.05
    assert max(stored) < 0.01


def test_the_order_inside_a_core_shows_too():
    low, streams = gemm_program(2, 4, m=8, kc=16, part=8)
    taps = TensorExecutor(low).launch(low.launches[0], streams).taps["product"]
    turned = {"x": streams["x"][..., ::-1], "w": streams["w"].reshape(4, 16, -1)[:, ::-1].reshape(64, -1)}
    wrong = TensorExecutor(low).launch(low.launches[0], turned).taps["product"]
    assert np.allclose(taps, wrong, rtol=1e-4, atol=1e-4)
    assert np.mean(bits(taps) != bits(wrong)) > 0.05
