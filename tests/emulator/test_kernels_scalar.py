"""The vector unit's scalar functions against float64, NumPy's binary16 and plain integer arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from tests.emulator.fit_polynomials import fit_all
from yieldkit.emulator.kernels import scalar

NAN = 0x7FC00000
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0**-149, -(2.0**-149), 2.0**-126, 2.0**-127, 3.4028235e38],
    np.float32,
)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def _each(function):
    @njit(error_model="numpy")
    def kernel(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    def call(x, kind=np.float32):
        y = np.empty(np.shape(x), kind)
        kernel(np.ascontiguousarray(x).ravel(), y.ravel())
        return y

    call.kernel = kernel
    return call


def _any_bits(count, seed=0):
    draw = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)
    return np.concatenate([draw.view(np.float32), SPECIAL])


def _sigmoid(x):
    return np.where(x < 0, np.exp(x), 1.0) / (1.0 + np.exp(-np.abs(x)))


def _gelu_argument(x):
    return 2.0 * np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)


def _gelu(x):
    return np.where(x < -1e3, -0.0, x * _sigmoid(_gelu_argument(x)))


def _gelu_grad(x):
    x = np.clip(x, -40.0, 40.0)
    z = _gelu_argument(x)
    return _sigmoid(z) + x * _sigmoid(z) * _sigmoid(-z) * 2.0 * np.sqrt(2.0 / np.pi) * (1.0 + 3 * 0.044715 * x * x)


def _errors(y, exact):
    """Units in the last place where the exact value is in range; elsewhere the values must agree."""
    finite = np.isfinite(exact) & (np.abs(exact) < 3.40282e38)
    np.testing.assert_array_equal(y[~finite & ~np.isfinite(y)], exact[~finite & ~np.isfinite(y)].astype(np.float32))
    assert np.all(np.isfinite(y[finite]))
    binade = np.maximum(np.floor(np.log2(np.maximum(np.abs(exact[finite]), 2.0**-149))), -126)
    return np.abs(y[finite].astype(np.float64) - exact[finite]) / 2.0 ** (binade - 23)


ACCURACY = [
    (scalar.exp32, np.exp, (-106.0, 90.0), 1.0),
    (scalar.log32, np.log, (0.4, 2.5), 1.0),
    (scalar.sigmoid32, _sigmoid, (-106.0, 20.0), 3.0),
    (scalar.gelu32, _gelu, (-1.0, 20.0), 4.0),
    (scalar.rsqrt32, lambda x: 1.0 / np.sqrt(x), (0.5, 2.5), 1.5),
    (scalar.recip32, lambda x: 1.0 / x, (-2.5, 2.5), 0.50001),
    (scalar.sqrt32, np.sqrt, (0.0, 4.0), 0.50001),
    (scalar.sin32, np.sin, (-1000.0, 1000.0), 1.5),
    (scalar.cos32, np.cos, (-1000.0, 1000.0), 1.5),
]


@pytest.mark.parametrize(("function", "exact", "span", "limit"), ACCURACY, ids=lambda p: getattr(p, "__name__", None))
def test_error_bounds(function, exact, span, limit):
    call = _each(function)
    x = np.random.default_rng(1).uniform(*span, 1_000_000).astype(np.float32)
    assert _errors(call(x), exact(x.astype(np.float64))).max() <= limit
    if exact is not _gelu:
        x = _any_bits(1_000_000)
        y = call(x)
        assert _errors(y, exact(x.astype(np.float64))).max() <= limit
        assert np.array_equal(np.isnan(y), np.isnan(exact(x.astype(np.float64))))


@pytest.mark.parametrize(
    ("function", "exact", "limit"), [(scalar.gelu32, _gelu, 2.0**-22), (scalar.gelu_grad32, _gelu_grad, 2.0**-21)]
)
def test_gelu_absolute_error(function, exact, limit):
    x = np.random.default_rng(2).uniform(-40.0, 0.0 if function is scalar.gelu32 else 40.0, 1_000_000)
    x = np.concatenate([x.astype(np.float32), -np.abs(_any_bits(10_000))])
    x = x[~np.isnan(x)]
    assert np.abs(_each(function)(x) - exact(x.astype(np.float64))).max() <= limit


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    [
        (scalar.exp32, -np.inf, 0.0),
        (scalar.exp32, np.inf, np.inf),
        (scalar.exp32, 0.0, 1.0),
        (scalar.exp32, -0.0, 1.0),
        (scalar.exp32, -103.2, 2.0**-149),
        (scalar.exp32, -104.0, 0.0),
        (scalar.log32, 0.0, -np.inf),
        (scalar.log32, -0.0, -np.inf),
        (scalar.log32, 1.0, 0.0),
        (scalar.log32, np.inf, np.inf),
        (scalar.log32, -1.0, np.nan),
        (scalar.log32, -np.inf, np.nan),
        (scalar.sqrt32, -0.0, -0.0),
        (scalar.sqrt32, -1.0, np.nan),
        (scalar.recip32, -0.0, -np.inf),
        (scalar.rsqrt32, np.inf, 0.0),
        (scalar.sigmoid32, -np.inf, 0.0),
        (scalar.sigmoid32, np.inf, 1.0),
        (scalar.gelu32, -np.inf, -0.0),
        (scalar.gelu32, np.inf, np.inf),
        (scalar.gelu32, -0.0, -0.0),
        (scalar.gelu_grad32, -np.inf, 0.0),
        (scalar.gelu_grad32, np.inf, 1.0),
        (scalar.gelu_grad32, 0.0, 0.5),
        (scalar.sin32, -0.0, -0.0),
        (scalar.sin32, np.inf, np.nan),
        (scalar.cos32, 0.0, 1.0),
    ],
)
def test_special_values(function, argument, value):
    y = np.float32(function(np.float32(argument)))
    np.testing.assert_array_equal(y, np.float32(value))
    assert np.isnan(y) or np.signbit(y) == np.signbit(np.float32(value))


@pytest.mark.parametrize(("function", "exact", "span", "limit"), ACCURACY, ids=lambda p: getattr(p, "__name__", None))
def test_nan_goes_through(function, exact, span, limit):
    assert np.isnan(function(np.array([0xFFC12345], np.uint32).view(np.float32)[0]))


def test_large_arguments_of_the_circular_functions():
    # Nearly a multiple of pi/2: a reduction with too few digits of 2/pi keeps none. The reference is float64 libm.
    x = np.float32(16367173 * 2.0**72)
    assert abs(np.cos(np.float64(x))) < 1e-7
    assert np.float32(scalar.cos32(x)) == np.float32(np.cos(np.float64(x)))
    assert np.float32(scalar.sin32(x)) == np.float32(np.sin(np.float64(x)))


def test_rounding_to_bfloat16():
    x = _any_bits(400_000)
    u = x.view(np.uint32).astype(np.uint64)
    low, kept = u & 0xFFFF, u & 0xFFFF0000
    up = (low > 0x8000) | ((low == 0x8000) & ((kept >> 16) & 1 == 1))
    expected = np.where(np.isnan(x), NAN, kept + np.where(up, 0x10000, 0)).astype(np.uint32)
    assert np.array_equal(_each(scalar.round_bf16)(x).view(np.uint32), expected)
    assert np.array_equal(_each(scalar.bf16_bits)(x, np.uint32), expected >> 16)


def test_rounding_to_binary16():
    x = np.concatenate([_any_bits(400_000), np.random.default_rng(3).uniform(-7e4, 7e4, 100_000).astype(np.float32)])
    x = np.concatenate([x, x[-1000:] * np.float32(1e-9), np.float32([65519.996, 65520.0, 2.0**-25, 1.5 * 2.0**-24])])
    half = x.astype(np.float16)
    expected = half.astype(np.float32).view(np.uint32).copy()
    expected[np.isnan(x)] = NAN
    assert np.array_equal(_each(scalar.round_fp16)(x).view(np.uint32), expected)
    bits = np.where(np.isnan(x), 0x7E00, half.view(np.uint16)).astype(np.uint32)
    assert np.array_equal(_each(scalar.fp16_bits)(x, np.uint32), bits)


def test_decoding_ignores_the_high_half():
    u = np.arange(65536, dtype=np.uint32)
    words = u | np.uint32(0xABCD0000)
    half = u.astype(np.uint16).view(np.float16).astype(np.float32)
    decoded = _each(scalar.bits_fp16)(words)
    np.testing.assert_array_equal(decoded, half)
    assert np.array_equal(np.signbit(decoded), np.signbit(half))
    assert np.array_equal(_each(scalar.bits_bf16)(words).view(np.uint32), u << 16)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_canonical_nan_and_bit_casts(word):
    x = np.array([word], np.uint32).view(np.float32)
    u = _each_cast(x)
    assert u[0] == word
    expected = NAN if np.isnan(x[0]) else word
    assert u[1] == expected


@njit
def _cast(x, u):
    u[0] = scalar.f32_bits(scalar.bits_f32(scalar.f32_bits(x[0])))
    u[1] = scalar.f32_bits(scalar.canon(x[0]))


def _each_cast(x):
    u = np.empty(2, np.uint32)
    _cast(x, u)
    return u


def test_products_and_sums_are_not_contracted():
    @njit(error_model="numpy")
    def multiply_add(a, b, c, d):
        for i in range(a.size):
            d[i] = a[i] * b[i] + c[i]

    # (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last term is lost in the product's rounding, kept by a fused operation.
    a = np.full(64, 1 + 2.0**-12, np.float32)
    c = np.full(64, -(1 + 2.0**-11), np.float32)
    d = np.empty(64, np.float32)
    multiply_add(a, a, c, d)
    assert np.all(d == 0.0)
    call = _each(scalar.gelu_grad32)
    call(a)
    for kernel in (multiply_add, call.kernel):
        for assembly in kernel.inspect_asm().values():
            assert "mulps" in assembly or "fmul" in assembly
            assert "vfmadd" not in assembly
            assert "vfmsub" not in assembly
            assert "vfnmadd" not in assembly


def test_coefficients_come_from_the_fit():
    fitted = fit_all()
    for name in ("EXP", "LOG", "SIN", "COS"):
        used = np.array(getattr(scalar, f"_{name}"), np.float64)
        # The highest coefficients are the loosest; a different LAPACK may move them a little.
        np.testing.assert_allclose(used, fitted[name], rtol=1e-3)
        np.testing.assert_allclose(used[0], fitted[name][0], rtol=1e-6)
