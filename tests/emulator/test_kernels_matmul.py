"""Tiled products against a loop over K with NumPy scalars' rounding; fused against plain; parts; layouts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.kernel_arrays import (
    batched_matmul,
    blocks_matmul,
    blocks_weight_gradient,
    products_are_exact,
    run_product,
    tiled_matmul,
)
from yieldkit.emulator.kernels import matmul

NAN = np.uint32(0x7FC00000)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def _bits(x):
    return np.ascontiguousarray(x).view(np.uint32)


def _bf16(x):
    return (_bits(np.asarray(x, np.float32)) & np.uint32(0xFFFF0000)).view(np.float32)


def _by_definition(a, b, tiles):
    """One float32 NumPy operation for each product and sum, k by k."""
    size = a.shape[-1] // tiles
    total = None
    for tile in range(tiles):
        partial = np.zeros((*a.shape[:-1], b.shape[-1]), np.float32)
        for k in range(tile * size, (tile + 1) * size):
            partial = partial + a[..., :, k : k + 1] * b[..., k : k + 1, :]
        total = partial if total is None else total + partial
    u = _bits(total).copy()
    u[np.isnan(total)] = NAN
    return u


def _draw(rng, shape, kind):
    if kind == "any":
        x = rng.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
        return np.where(rng.random(shape) < 0.97, rng.normal(size=shape).astype(np.float32), x)
    x = rng.normal(size=shape) * 2.0 ** rng.integers(-8, 8, shape)
    x[rng.random(shape) < 0.1] = 0.0
    x[rng.random(shape) < 0.05] = -0.0
    if kind == "bf16":
        return _bf16(x)
    if kind == "fp16":
        return x.astype(np.float16).astype(np.float32)
    if kind == "small":
        return _bf16(x * 1e-20)
    return x.astype(np.float32)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 40),
    st.integers(1, 50),
    st.sampled_from(["bf16", "fp16", "fp32", "small", "any"]),
    st.integers(0, 2**32 - 1),
)
def test_equals_the_definition(m, k_tile, tiles, n, kind, seed):
    rng = np.random.default_rng(seed)
    a, b = _draw(rng, (m, k_tile * tiles), kind), _draw(rng, (k_tile * tiles, n), kind)
    expected = _by_definition(a, b, tiles)
    for fuse in (True, False):
        for parts in (1, 3):
            result = tiled_matmul(a, b, tiles, fuse=fuse, parts=parts)
            assert np.array_equal(_bits(result), expected)


def test_equals_a_scalar_loop():
    rng = np.random.default_rng(4)
    a, b = _draw(rng, (3, 12), "fp32"), _draw(rng, (12, 5), "fp32")
    result = tiled_matmul(a, b, 3)
    for i in range(3):
        for j in range(5):
            total = np.float32(0)
            for tile in range(3):
                partial = np.float32(0)
                for k in range(4 * tile, 4 * tile + 4):
                    partial = np.float32(partial + np.float32(a[i, k] * b[k, j]))
                total = partial if tile == 0 else np.float32(total + partial)
            assert result[i, j] == total


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_long_sums_and_passes_over_k(kind):
    rng = np.random.default_rng(5)
    a, b = _draw(rng, (50, 1536), kind), _draw(rng, (1536, 24), kind)
    for tiles in (1, 2, 192, 1536):
        assert np.array_equal(_bits(tiled_matmul(a, b, tiles)), _by_definition(a, b, tiles))


def test_order_matters_in_fp32():
    # The negative control: the same product in other tiles, or by the BLAS, differs in many elements.
    rng = np.random.default_rng(6)
    a, b = _draw(rng, (64, 256), "bf16"), _draw(rng, (256, 64), "bf16")
    assert np.mean(tiled_matmul(a, b, 32) != tiled_matmul(a, b, 16)) > 0.1
    assert np.mean(tiled_matmul(a, b, 32) != a @ b) > 0.1


def test_fused_and_plain_agree_where_products_are_exact():
    rng = np.random.default_rng(7)
    for kind in ("bf16", "fp16"):
        a, b = _draw(rng, (100, 240), kind), _draw(rng, (240, 70), kind)
        assert products_are_exact(a, b)
        fused, plain = np.empty((2, 100, 70), np.float32)
        six = [x[None, None, None, :, None, :] for x in (a, b, fused, plain)]
        run_product(six[0], six[1], six[2], 8, True, 0, 1, 0, 100)
        run_product(six[0], six[1], six[3], 8, False, 0, 1, 0, 100)
        assert np.array_equal(_bits(fused), _bits(plain))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        # A product with 24 + 12 bits: rounded before the sum, or not.
        ([-1.0, 1 + 2.0**-12], [1 + 2.0**-11, 1 + 2.0**-12]),
        # bf16 operands whose product, 2^-150, is half a denormal: rounded to 0 first, or up with the sum.
        ([2.0**-149, 2.0**-75], [1.0, 2.0**-75]),
        # bf16 operands whose product overflows, while the sum would not.
        ([-(2.0**100), 2.0**64], [2.0**27, 2.0**64]),
    ],
)
def test_scan_catches_what_fusing_would_change(a, b):
    a, b = np.array([a], np.float32), np.array([b], np.float32).T
    assert not products_are_exact(a, b)
    expected = _by_definition(a, b, 1)
    assert np.array_equal(_bits(tiled_matmul(a, b, 1)), expected)
    if matmul.HOST_HAS_FMA:
        out = np.empty((1, 1), np.float32)
        six = [x[None, None, None, :, None, :] for x in (a, b, out)]
        run_product(*six, 2, True, 0, 1, 0, 1)
        assert not np.array_equal(_bits(out), expected)


def test_scan_of_zeros_infinities_and_nan():
    one, zero = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    assert products_are_exact(one, zero)
    assert products_are_exact(np.broadcast_to(np.float32(1.5), (4, 4)), one)
    assert not products_are_exact(np.float32([[np.inf]]), one)
    assert not products_are_exact(zero, np.float32([[np.nan]]))
    assert not products_are_exact(np.float32([[1 + 2.0**-23]]), np.float32([[1.5]]))
    assert products_are_exact(np.float32([[1 + 2.0**-23]]), one)


def _to_blocks(x, rows, columns):
    m, n = x.shape
    return np.ascontiguousarray(x.reshape(rows, m // rows, columns, n // columns).transpose(0, 2, 1, 3))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 17),
    st.sampled_from(["bf16", "fp32"]),
    st.integers(0, 2**32 - 1),
)
def test_blocks(rows, columns, tokens, features, out_columns, out_features, kind, seed):
    rng = np.random.default_rng(seed)
    x = _draw(rng, (rows * tokens, columns * features), kind)
    w = _draw(rng, (columns * features, out_columns * out_features), kind)
    blocks = _to_blocks(x, rows, columns)
    y = blocks_matmul(blocks, w, out_columns, parts=2)
    expected = _by_definition(x, w, columns).view(np.float32)
    assert np.array_equal(_bits(y), _bits(_to_blocks(expected, rows, out_columns)))
    transposed = np.ascontiguousarray(w.T).T
    assert np.array_equal(_bits(blocks_matmul(blocks, transposed, out_columns)), _bits(y))
    dy = _draw(rng, (rows * tokens, out_columns * out_features), kind)
    gradient = blocks_weight_gradient(blocks, _to_blocks(dy, rows, out_columns), parts=2)
    assert np.array_equal(_bits(gradient), _by_definition(np.ascontiguousarray(x.T), dy, rows))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 4)),
    st.integers(1, 20),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(1, 20),
    st.sampled_from(["bf16", "fp32", "any"]),
    st.integers(0, 2**32 - 1),
)
def test_batches(batch, m, k_tile, tiles, n, kind, seed):
    rng = np.random.default_rng(seed)
    a = _draw(rng, (batch[1], m, batch[0], k_tile * tiles), kind).transpose(2, 0, 1, 3)
    b = _draw(rng, (*batch, n, k_tile * tiles), kind).swapaxes(2, 3)
    expected = _by_definition(a, b, tiles)
    for parts in (1, 2):
        assert np.array_equal(_bits(batched_matmul(a, b, tiles, parts=parts)), expected)
    shared = np.broadcast_to(b[:, :1], b.shape)
    assert np.array_equal(_bits(batched_matmul(a, shared, tiles)), _by_definition(a, shared, tiles))


def test_result_goes_where_it_is_wanted():
    rng = np.random.default_rng(8)
    a, b = _draw(rng, (20, 16), "bf16"), _draw(rng, (16, 24), "bf16")
    room = np.full((24, 40), 7.0, np.float32)
    out = room[:, ::2].T
    assert tiled_matmul(a, b, 2, out=out) is out
    assert np.array_equal(_bits(out), _by_definition(a, b, 2))
    assert np.all(room[:, 1::2] == 7.0)


def test_results_are_canonical():
    a = np.array([[0xFFC12345, 0x3F800000], [0x7F800000, 0xFF800000]], np.uint32).view(np.float32)
    assert np.all(_bits(tiled_matmul(a, np.ones((2, 3), np.float32), 1)) == NAN)
