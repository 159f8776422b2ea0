"""The vector unit's fp32 scalar functions, each a fixed sequence of IEEE fp32 operations.

No contraction, no flush to zero and no library call, so a result is the same on every machine. Every function takes
and returns float32; a NaN that leaves the vector unit is `canon` (0x7fc00000). The square root and the division are
the correctly rounded ones of IEEE 754. Polynomial coefficients come from tests/emulator/fit_polynomials.py.

Each docstring gives the largest error in units in the last place, as measured against float64 in
tests/emulator/test_kernels_scalar.py.
"""

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

_F = np.float32
_U = np.uint32

SIGN = _U(0x80000000)
MAGNITUDE = _U(0x7FFFFFFF)
INFINITY_BITS = _U(0x7F800000)
NAN_BITS = _U(0x7FC00000)

ZERO = _F(0.0)
HALF = _F(0.5)
ONE = _F(1.0)
INF = _F(np.inf)
_QUIET_NAN = np.array([0x7FC00000], np.uint32).view(np.float32)[0]

# exp: 1 + r + r^2 q(r)
_EXP = [
    _F(float.fromhex(c)) for c in ("0x1.fffffcp-2", "0x1.555490p-3", "0x1.5558fcp-5", "0x1.123b8ap-7", "0x1.6a2174p-10")
]
_E0, _E1, _E2, _E3, _E4 = _EXP
# log((1 + s) / (1 - s)) = 2 s + s z l(z), z = s^2
_LOG = [_F(float.fromhex(c)) for c in ("0x1.555554p-1", "0x1.999a7cp-2", "0x1.2438a8p-2", "0x1.e2fdd6p-3")]
_L0, _L1, _L2, _L3 = _LOG
# sin r = r + r^3 s(r^2), cos r = 1 - r^2/2 + r^4 c(r^2)
_SIN = [_F(float.fromhex(c)) for c in ("-0x1.555556p-3", "0x1.111108p-7", "-0x1.a00f98p-13", "0x1.6cd732p-19")]
_S0, _S1, _S2, _S3 = _SIN
_COS = [_F(float.fromhex(c)) for c in ("0x1.555556p-5", "-0x1.6c16b8p-10", "0x1.a0111cp-16", "-0x1.2429fcp-22")]
_C0, _C1, _C2, _C3 = _COS

# Cody and Waite: ln 2 = high + low, where n * high is exact for every n that occurs (|n| < 2^8, high has 15 bits).
_LN2_HIGH = _F(float.fromhex("0x1.62e4p-1"))
_LN2_LOW = _F(np.log(2.0) - float.fromhex("0x1.62e4p-1"))
_LOG2_E = _F(1.0 / np.log(2.0))
# Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in the low bits of the sum.
_TO_INTEGER = _F(12582912.0)
_TO_INTEGER_BITS = np.int32(0x4B400000)
_EXP_LOWEST = _F(-105.0)
_EXP_HIGHEST = _F(89.0)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_SMALLEST_NORMAL = _F(2.0**-126)
_TWO_25 = _F(2.0**25)

_GELU_CUBIC = _F(0.044715)
_GELU_SCALE = _F(2.0 * np.sqrt(2.0 / np.pi))
_GELU_THREE_CUBIC = _F(3.0 * 0.044715)
_GELU_LIMIT = _F(32.0)

# 2 / pi in 32-bit words, the most significant first, for arguments of any size.
_TWO_OVER_PI = np.array(
    [0x00000000, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB], np.uint64
)
_SINE_IS_ARGUMENT = _F(2.0**-26)
_QUARTER_PI = _F(np.pi / 4)
_HALF_PI_PER_2_62 = np.pi / 2 * 2.0**-62


@intrinsic
def f32_bits(typingctx, x):
    """The bit pattern, uint32, of a float32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


@intrinsic
def bits_f32(typingctx, u):
    """The float32 of a bit pattern, uint32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


def _scalar(function):
    return njit(cache=True, error_model="numpy", fastmath=False)(function)


@_scalar
def canon(x):
    """`x`, with every NaN replaced by the quiet NaN 0x7fc00000."""
    return x if x == x else _QUIET_NAN


@_scalar
def round_bf16(x):
    """The nearest bfloat16 value, ties to even; overflow gives infinity, denormals stay, NaN is canonical."""
    u = f32_bits(x)
    r = np.uint32(np.uint32(u + np.uint32(np.uint32(u >> _U(16)) & _U(1))) + _U(0x7FFF)) & _U(0xFFFF0000)
    return bits_f32(NAN_BITS if np.uint32(u & MAGNITUDE) > INFINITY_BITS else np.uint32(r))


@_scalar
def round_fp16(x):
    """The nearest binary16 value, ties to even; overflow gives infinity, denormals stay, NaN is canonical."""
    u = f32_bits(x)
    a = np.uint32(u & MAGNITUDE)
    # Below 2^-14 the spacing is 2^-24, that of fp32 in [1/2, 1): the addition rounds.
    small = f32_bits(np.float32(np.float32(bits_f32(a) + HALF) - HALF))
    big = np.uint32(np.uint32(np.uint32(a + np.uint32(np.uint32(a >> _U(13)) & _U(1))) + _U(0xFFF)) & _U(0xFFFFE000))
    big = INFINITY_BITS if big >= _U(0x47800000) else big
    r = small if a < _U(0x38800000) else big
    r = np.uint32(r | np.uint32(u & SIGN))
    return bits_f32(NAN_BITS if a > INFINITY_BITS else r)


@_scalar
def bf16_bits(x):
    """The 16-bit pattern, in the low half of a uint32, of `x` rounded to bfloat16."""
    return np.uint32(f32_bits(round_bf16(x)) >> _U(16))


@_scalar
def bits_bf16(u):
    """The value of the bfloat16 in the low half of a word; the high half is ignored."""
    return bits_f32(np.uint32(np.uint32(u) << _U(16)))


@_scalar
def fp16_bits(x):
    """The 16-bit pattern, in the low half of a uint32, of `x` rounded to binary16; NaN gives 0x7e00."""
    u = f32_bits(round_fp16(x))
    a = np.uint32(u & MAGNITUDE)
    sign = np.uint32(np.uint32(u & SIGN) >> _U(16))
    normal = np.uint32(np.uint32(a >> _U(13)) - _U(112 << 10))
    # Adding 1/2 puts the multiple of 2^-24 into the low bits.
    denormal = np.uint32(f32_bits(np.float32(bits_f32(a) + HALF)) - _U(0x3F000000))
    h = denormal if a < _U(0x38800000) else normal
    h = _U(0x7C00) if a == INFINITY_BITS else h
    h = _U(0x7E00) if a > INFINITY_BITS else h
    return np.uint32(h | sign)


@_scalar
def bits_fp16(u):
    """The value of the binary16 in the low half of a word; the high half is ignored."""
    h = np.uint32(np.uint32(u) & _U(0x7FFF))
    sign = np.uint32(np.uint32(np.uint32(u) & _U(0x8000)) << _U(16))
    normal = np.uint32(np.uint32(h << _U(13)) + _U(112 << 23))
    special = np.uint32(np.uint32(h << _U(13)) | INFINITY_BITS)
    denormal = f32_bits(np.float32(bits_f32(np.uint32(h | _U(0x3F000000))) - HALF))
    r = special if h >= _U(0x7C00) else normal
    r = denormal if h < _U(0x0400) else r
    return bits_f32(np.uint32(r | sign))


@_scalar
def sqrt32(x):
    """The correctly rounded square root; NaN below zero, -0 for -0."""
    return np.float32(np.sqrt(np.float32(x)))


@_scalar
def recip32(x):
    """The correctly rounded 1 / x."""
    return np.float32(ONE / np.float32(x))


@_scalar
def rsqrt32(x):
    """1 / sqrt(x), both operations correctly rounded: within 1.5 ulp; infinity at 0, -infinity at -0."""
    return np.float32(ONE / np.float32(np.sqrt(np.float32(x))))


@_scalar
def exp32(x):
    """e^x within 1 ulp (denormal results too); exp(-inf) = 0, underflow is gradual."""
    a = np.float32(x)
    a = _EXP_LOWEST if a < _EXP_LOWEST else a
    a = _EXP_HIGHEST if a > _EXP_HIGHEST else a
    t = np.float32(np.float32(a * _LOG2_E) + _TO_INTEGER)
    n = np.float32(t - _TO_INTEGER)
    r = np.float32(np.float32(a - np.float32(n * _LN2_HIGH)) - np.float32(n * _LN2_LOW))
    q = np.float32(np.float32(r * _E4) + _E3)
    q = np.float32(np.float32(r * q) + _E2)
    q = np.float32(np.float32(r * q) + _E1)
    q = np.float32(np.float32(r * q) + _E0)
    p = np.float32(ONE + np.float32(r + np.float32(np.float32(r * r) * q)))
    # Two steps: the first product is exact, so a denormal result is rounded once.
    whole = np.int32(np.int32(f32_bits(t)) - _TO_INTEGER_BITS)
    first = np.int32(whole >> np.int32(1))
    second = np.int32(whole - first)
    p = np.float32(p * bits_f32(np.uint32(np.int32(first + np.int32(127)) << np.int32(23))))
    p = np.float32(p * bits_f32(np.uint32(np.int32(second + np.int32(127)) << np.int32(23))))
    return p if x == x else np.float32(x)


@_scalar
def log32(x):
    """The natural logarithm within 1 ulp; -infinity at 0 and -0, NaN below."""
    a = np.float32(x)
    tiny = a < _SMALLEST_NORMAL
    scaled = np.float32(a * _TWO_25) if tiny else a
    u = np.int32(np.int32(f32_bits(scaled)) - _SQRT_HALF_BITS)
    whole = np.int32(u >> np.int32(23))
    # m in [sqrt(1/2), sqrt(2)), so that m - 1 is exact and x = m 2^whole.
    m = bits_f32(np.uint32(np.int32(np.int32(u & np.int32(0x007FFFFF)) + _SQRT_HALF_BITS)))
    n = np.float32(np.int32(whole - np.int32(25)) if tiny else whole)
    f = np.float32(m - ONE)
    s = np.float32(f / np.float32(m + ONE))
    z = np.float32(s * s)
    q = np.float32(np.float32(z * _L3) + _L2)
    q = np.float32(np.float32(z * q) + _L1)
    q = np.float32(np.float32(z * q) + _L0)
    q = np.float32(z * q)
    # ln(1 + f) = f - (h - s (h + q)), h = f^2 / 2: the large term f enters last and unrounded.
    h = np.float32(HALF * np.float32(f * f))
    low = np.float32(np.float32(s * np.float32(h + q)) + np.float32(n * _LN2_LOW))
    y = np.float32(np.float32(n * _LN2_HIGH) - np.float32(np.float32(h - low) - f))
    y = a if a == INF else y
    y = bits_f32(NAN_BITS) if a < ZERO else y
    y = -INF if a == ZERO else y
    return y if a == a else a


@_scalar
def sigmoid32(x):
    """1 / (1 + e^-x) within 3 ulp, denormal results included."""
    a = np.float32(x)
    e = exp32(-abs(a))
    top = e if a < ZERO else ONE
    return np.float32(top / np.float32(ONE + e))


@_scalar
def gelu32(x):
    """The tanh form of GELU, as x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)); -0 at -infinity.

    Within 4 ulp for x > -1; below, the relative error grows with the exponent (about 2^-16 at -9), while the absolute
    error stays under 2^-22.
    """
    a = np.float32(x)
    # Beyond +-32 the sigmoid is exactly 0 or 1; the limit keeps the cube finite and -inf * 0 away.
    b = -_GELU_LIMIT if a < -_GELU_LIMIT else a
    c = _GELU_LIMIT if b > _GELU_LIMIT else b
    cube = np.float32(np.float32(np.float32(c * c) * c) * _GELU_CUBIC)
    return np.float32(b * sigmoid32(np.float32(_GELU_SCALE * np.float32(c + cube))))


@_scalar
def gelu_grad32(x):
    """The derivative of `gelu32`; absolute error under 2^-21, exactly 0 and 1 far out."""
    a = np.float32(x)
    a = -_GELU_LIMIT if a < -_GELU_LIMIT else a
    a = _GELU_LIMIT if a > _GELU_LIMIT else a
    square = np.float32(a * a)
    cube = np.float32(np.float32(square * a) * _GELU_CUBIC)
    z = np.float32(_GELU_SCALE * np.float32(a + cube))
    e = exp32(-abs(z))
    large = np.float32(ONE / np.float32(ONE + e))
    small = np.float32(e * large)
    slope = np.float32(_GELU_SCALE * np.float32(ONE + np.float32(_GELU_THREE_CUBIC * square)))
    cross = np.float32(np.float32(np.float32(a * slope) * large) * small)
    return np.float32((small if z < ZERO else large) + cross)


@_scalar
def _turn(x):
    """`x` modulo a quarter turn: (r, quadrant), |r| <= pi/4, exact to 2^-62 of a quarter turn before r is rounded."""
    a = np.float32(x)
    if abs(a) <= _QUARTER_PI:
        return a, np.int64(0)
    u = np.int64(f32_bits(abs(a)))
    exponent = (u >> np.int64(23)) - np.int64(150)
    mantissa = np.uint64((u & np.int64(0x7FFFFF)) | np.int64(0x800000))
    # |x| 2/pi = mantissa 2^exponent 2/pi: from bit 2 on of the product, as a 64-bit fraction of four quarter turns.
    # Words of 2/pi start at weight 2^32; the window of 96 bits starts where the product's weight is 2^(24 + 2).
    start = np.int64(32) - np.int64(2) + exponent
    word = start >> np.int64(5)
    shift = np.uint64(start & np.int64(31))
    w0 = _TWO_OVER_PI[word]
    w1 = _TWO_OVER_PI[word + 1]
    w2 = _TWO_OVER_PI[word + 2]
    w3 = _TWO_OVER_PI[word + 3]
    high = (w0 << np.uint64(32)) | w1
    low = (w2 << np.uint64(32)) | w3
    if shift > np.uint64(0):
        high = (high << shift) | (low >> (np.uint64(64) - shift))
        low = low << shift
    fraction = mantissa * high + ((mantissa * (low >> np.uint64(32))) >> np.uint64(32))
    quadrant = np.int64((fraction + (np.uint64(1) << np.uint64(61))) >> np.uint64(62))
    rest = np.int64(fraction - (np.uint64(quadrant) << np.uint64(62)))
    r = np.float32(np.float64(rest) * _HALF_PI_PER_2_62)
    if a < ZERO:
        return -r, -quadrant
    return r, quadrant


@_scalar
def _sine(r):
    z = np.float32(r * r)
    p = np.float32(np.float32(z * _S3) + _S2)
    p = np.float32(np.float32(z * p) + _S1)
    p = np.float32(np.float32(z * p) + _S0)
    y = np.float32(r + np.float32(np.float32(r * z) * p))
    return r if z < _SINE_IS_ARGUMENT else y  # keeps -0


@_scalar
def _cosine(r):
    z = np.float32(r * r)
    p = np.float32(np.float32(z * _C3) + _C2)
    p = np.float32(np.float32(z * p) + _C1)
    p = np.float32(np.float32(z * p) + _C0)
    return np.float32(ONE - np.float32(np.float32(HALF * z) - np.float32(np.float32(z * z) * p)))


@_scalar
def _circular(x, ahead):
    a = np.float32(x)
    if not abs(a) < INF:
        return bits_f32(NAN_BITS)
    r, quadrant = _turn(a)
    quadrant = (quadrant + ahead) & np.int64(3)
    y = _cosine(r) if quadrant & np.int64(1) else _sine(r)
    return -y if quadrant & np.int64(2) else y


@_scalar
def sin32(x):
    """The sine within 1.5 ulp for every finite x (x in radians); NaN at infinity."""
    return _circular(x, np.int64(0))


@_scalar
def cos32(x):
    """The cosine within 1.5 ulp for every finite x (x in radians); NaN at infinity."""
    return _circular(x, np.int64(1))
