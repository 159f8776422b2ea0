"""The compiled kernels on NumPy arrays of any strides, for comparing them with definitions."""

import numpy as np

from yieldkit.emulator.kernels import elementwise, matmul


def address(x):
    return x.__array_interface__["data"][0]


def apply(op, d, a, b, fmt):
    """Set d to op(a, b) element by element, rounded to format `fmt`; `a` and `b` broadcast to `d` (up to 4 axes)."""
    views = [np.broadcast_to(x, d.shape) if x is not d else d for x in (d, a, a if b is None else b)]
    missing = elementwise.AXES - d.ndim
    shape = np.array((1,) * missing + d.shape, np.int64)
    strides = np.zeros((3, elementwise.AXES), np.int64)
    for row, x in zip(strides, views, strict=True):
        row[missing:] = x.strides
    reads_d = op in (elementwise.MAC, elementwise.SELECT)
    reads_b = b is not None
    elementwise._apply(op, *(address(x) for x in views), shape, strides // 4, reads_d, reads_b, fmt)
    return d


def products_are_exact(a, b):
    """What the scan says of two arrays, read as the machine's are: all words between the first and the last."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return bool(matmul.scan_is_exact(address(a), a.size, address(b), b.size))


def run_product(a, b, out, k_tile, fused, *share):
    """The product of split operands (six axes each) for some batches and rows."""
    operands = [(address(x), x.shape, x.strides) for x in (a, b, out)]
    matmul._product(*operands[0], *operands[1], *operands[2], k_tile, fused, *share)


def split_product(a, b, out, k_tile, parts=1, fuse=True):
    """The whole product, in as many parts of the rows as are wanted, fused where the scan allows it."""
    fused = fuse and matmul.HOST_HAS_FMA and products_are_exact(a, b)
    rows = a.shape[2] * a.shape[3]
    size = -(-rows // (24 * parts)) * 24
    for first in range(0, rows, size):
        run_product(a, b, out, k_tile, fused, 0, a.shape[0] * a.shape[1], first, min(first + size, rows))


def tiled_matmul(a, b, tiles, out=None, parts=1, fuse=True):
    """a[M, K] b[K, N] in `tiles` equal tiles of K, as float32 [M, N]."""
    out = np.empty((a.shape[0], b.shape[1]), np.float32) if out is None else out
    six = [x[None, None, None, :, None, :] for x in (a, b, out)]
    split_product(*six, a.shape[1] // tiles, parts, fuse)
    return out


def blocks_matmul(x, w, columns, parts=1):
    """X w, with x[R, C, Tb, Kc] in blocks, one K tile per column of blocks, and w[C * Kc, N]: [R, columns, Tb, Nc]."""
    rows, _, tokens, features = x.shape
    out = np.empty((rows, columns, tokens, w.shape[1] // columns), np.float32)
    six = [x.transpose(0, 2, 1, 3)[None, None], w[None, None, None, :, None, :], out.transpose(0, 2, 1, 3)[None, None]]
    split_product(*six, features, parts)
    return out


def blocks_weight_gradient(x, dy, parts=1):
    """The transpose of x times dy, both in blocks: float32 [C * Kc, D * Nc], one tile per row of blocks."""
    out = np.empty((x.shape[1] * x.shape[3], dy.shape[1] * dy.shape[3]), np.float32)
    six = [x.transpose(1, 3, 0, 2)[None, None], dy.transpose(0, 2, 1, 3)[None, None], out[None, None, None, :, None, :]]
    split_product(*six, x.shape[2], parts)
    return out


def batched_matmul(a, b, tiles, parts=1):
    """a[p, q, M, K] b[p, q, K, N], of any strides, broadcast ones included."""
    out = np.empty((*a.shape[:-1], b.shape[-1]), np.float32)
    split_product(*(x[:, :, None, :, None, :] for x in (a, b, out)), a.shape[-1] // tiles, parts)
    return out
