"""Element-wise operations against one NumPy scalar operation per element."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.kernel_arrays import apply
from yieldkit.emulator.kernels import elementwise as ew
from yieldkit.emulator.kernels import scalar

NAN = np.uint32(0x7FC00000)
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0**-149, -(2.0**-127), 3.4028235e38, 65519.0, 2.0**-25],
    np.float32,
)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def _bits(x):
    return np.ascontiguousarray(x).view(np.uint32)


def _draw(rng, shape):
    x = (rng.normal(size=shape) * 2.0 ** rng.integers(-12, 12, shape)).astype(np.float32)
    return np.where(rng.random(shape) < 0.15, rng.choice(SPECIAL, shape), x).astype(np.float32)


def _stored(x, fmt):
    """A value after a store: NumPy's binary16, or bfloat16 by integer arithmetic."""
    x = np.float32(x)
    if np.isnan(x):
        return NAN
    if fmt == 2:
        x = np.float32(np.float16(x))
    u = int(x.view(np.uint32))
    if fmt == 1:
        low, u = u & 0xFFFF, u & 0xFFFF0000
        if low > 0x8000 or (low == 0x8000 and (u >> 16) & 1):
            u += 0x10000
    return np.uint32(u)


def _maximum(a, b):
    if np.isnan(a) or np.isnan(b):
        return np.float32(np.nan)
    return a if a > b else b


DEFINITION = {
    ew.MOV: lambda d, a, b: a,
    ew.ADD: lambda d, a, b: a + b,
    ew.SUB: lambda d, a, b: a - b,
    ew.MUL: lambda d, a, b: a * b,
    ew.MAX: lambda d, a, b: _maximum(a, b),
    ew.MAC: lambda d, a, b: d + np.float32(a * b),
    ew.EQ: lambda d, a, b: np.float32(a == b),
    ew.SELECT: lambda d, a, b: a if b != 0 else d,
    ew.EXP: lambda d, a, b: scalar.exp32(a),
    ew.LOG: lambda d, a, b: scalar.log32(a),
    ew.RECIP: lambda d, a, b: np.float32(1) / a,
    ew.RSQRT: lambda d, a, b: np.float32(1) / np.sqrt(a),
    ew.SQRT: lambda d, a, b: np.sqrt(a),
    ew.SIGMOID: lambda d, a, b: scalar.sigmoid32(a),
    ew.GELU: lambda d, a, b: scalar.gelu32(a),
    ew.GELU_GRAD: lambda d, a, b: a * np.float32(scalar.gelu_grad32(b)),
}


@pytest.mark.parametrize("op", sorted(DEFINITION))
def test_every_operation_on_special_values(op):
    a, b, d = (x.copy() for x in np.broadcast_arrays(SPECIAL[:, None, None], SPECIAL[None, :, None], SPECIAL[:5]))
    a[0, 0, 0] = np.array([0xFFC12345], np.uint32).view(np.float32)[0]
    for fmt in (0, 1, 2):
        out = d.copy()
        apply(op, out, a, b, fmt)
        expected = [_stored(DEFINITION[op](*v), fmt) for v in zip(d.ravel(), a.ravel(), b.ravel(), strict=True)]
        assert _bits(out).ravel().tolist() == [int(v) for v in expected]


SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)


def _strided(rng, shape, broadcast):
    """A view with permuted axes, gaps and, where asked for, axes of stride 0."""
    order = rng.permutation(len(shape))
    x = _draw(rng, tuple(2 * shape[i] for i in order))[tuple(slice(None, None, 2) for _ in shape)]
    x = x.transpose(np.argsort(order))
    if broadcast:
        keep = tuple(slice(None) if rng.random() < 0.6 else slice(0, 1) for _ in shape)
        x = np.broadcast_to(x[keep], shape)
    return x


@settings(deadline=None, derandomize=True, max_examples=100)
@given(SHAPES, st.sampled_from(sorted(DEFINITION)), st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_any_layout(shape, op, fmt, seed):
    rng = np.random.default_rng(seed)
    d, a, b = _strided(rng, shape, False), _strided(rng, shape, True), _strided(rng, shape, True)
    plain = [np.ascontiguousarray(x) for x in (d, a, b)]
    expected = np.array([_stored(DEFINITION[op](*v), fmt) for v in zip(*(x.ravel() for x in plain), strict=True)])
    around = d.base if d.base is not None else d
    before = _bits(around).copy()
    assert apply(op, d, a, b, fmt) is d
    assert np.array_equal(_bits(d).ravel(), expected)
    # Nothing outside the view was written.
    assert np.count_nonzero(_bits(around) != before) <= d.size


@pytest.mark.parametrize("shape", [(5000,), (3, 1023), (2, 3, 700), (130, 9), (1, 1, 1, 2049), (4, 5, 6, 33)])
def test_chunks_of_long_views(shape):
    rng = np.random.default_rng(9)
    a, b = _draw(rng, shape), _draw(rng, shape[-1:])
    d = np.empty(shape, np.float32)
    apply(ew.ADD, d, a, b, 0)
    expected = _bits(a + b).copy()
    expected[np.isnan(a + b)] = NAN
    assert np.array_equal(_bits(d), expected)
    flipped = np.empty(shape[::-1], np.float32).T
    apply(ew.ADD, flipped, a, b, 0)
    assert np.array_equal(_bits(flipped), expected)
    apply(ew.ADD, a, a, b, 0)
    assert np.array_equal(_bits(a), expected)
