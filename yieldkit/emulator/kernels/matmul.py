"""Matrix products in the order of the wafer: K in tiles, one partial sum per tile, partials chained.

For each output element: the partial of a tile starts at +0.0 and adds the products with k ascending, each product
rounded to fp32 first; the total is the first tile's partial, to which the others are added in ascending order. This
order depends on the tile size only, never on threads, vectors or memory layout.

A fused multiply-add gives the same bits where every product is exact in fp32. That is decided by a scan of the
operands: the significant bits of both together are at most 24, the smallest product is a normal number and the
largest one finite. Otherwise products and sums are separate operations.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import carray, njit

from yieldkit.emulator.kernels.register_block import (
    COLUMNS,
    FUSED_ROWS,
    HOST_HAS_FMA,
    PLAIN_ROWS,
    copy_floats,
    floats_at,
    fused_block,
    load_at,
    plain_block,
    store_at,
    store_lanes,
)
from yieldkit.emulator.kernels.scalar import bits_f32, canon, f32_bits
from yieldkit.errors import BadInput

# Elements of K per pass: a panel of B (16 columns) then fits half a 32 KB first-level cache.
_K_BLOCK = 256
# Elements of A per pass: a quarter of a 1 MB second-level cache.
_A_BLOCK = 65536


@njit(error_model="numpy", inline="always")
def _scan(x):
    """Smallest non-zero magnitude - 1, largest magnitude, union of the significand bits of a flat array."""
    low = np.uint32(0xFFFFFFFF)
    high = np.uint32(0)
    union = np.uint32(0)
    for i in range(x.size):
        u = np.uint32(f32_bits(x[i]) & np.uint32(0x7FFFFFFF))
        low = min(low, np.uint32(u - np.uint32(1)))
        high = max(high, u)
        union = np.uint32(union | u)
    return low, high, union


@njit(error_model="numpy", inline="always")
def _significant(union):
    """Significant bits of the widest of the values whose significand fields are in `union`."""
    bits = 24
    while bits > 1 and (union >> np.uint32(24 - bits)) & np.uint32(1) == 0:
        bits -= 1
    return bits


@njit(error_model="numpy", inline="always")
def _exact(a, b):
    """Whether every product of elements of two flat arrays is exact in fp32."""
    infinite = np.uint32(0x7F800000)
    a_low, a_high, a_union = _scan(a)
    b_low, b_high, b_union = _scan(b)
    if a_high >= infinite or b_high >= infinite:
        return False
    if a_high == 0 or b_high == 0:
        return True
    a_bits, b_bits = _significant(a_union), _significant(b_union)
    if a_bits + b_bits > 24 and min(a_bits, b_bits) > 1:
        return False
    low = np.float64(bits_f32(np.uint32(a_low + np.uint32(1)))) * np.float64(bits_f32(np.uint32(b_low + np.uint32(1))))
    return low >= 2.0**-126 and np.float64(bits_f32(a_high)) * np.float64(bits_f32(b_high)) < 2.0**128


@njit(cache=True, error_model="numpy", nogil=True)
def scan_is_exact(a, a_size, b, b_size):
    """Whether all products of two runs of float32, given by address and length, are exact."""
    return _exact(carray(floats_at(a), a_size), carray(floats_at(b), b_size))


def _flat(x: np.ndarray) -> np.ndarray:
    x = x[tuple(slice(0, 1) if s == 0 else slice(None) for s in x.strides)]
    return np.require(np.ravel(x, order="K"), requirements="W")


def products_are_exact(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether every product of an element of `a` and one of `b` (float32 arrays) is exact in fp32, by a quick scan."""
    flat = [_flat(x) for x in (a, b)]
    (a_at, a_size), (b_at, b_size) = ((x.__array_interface__["data"][0], x.size) for x in flat)
    return bool(scan_is_exact(a_at, a_size, b_at, b_size))


@njit(cache=True, error_model="numpy", nogil=True)
def _offsets(outer, inner, outer_stride, inner_stride):
    table = np.empty(outer * inner, np.int64)
    for i in range(outer):
        for j in range(inner):
            table[i * inner + j] = (i * outer_stride + j * inner_stride) // 4
    return table


@njit(cache=True, error_model="numpy", nogil=True)
def _adjacent(table, first, count):
    """Whether `count` entries from `first` on exist and step by one."""
    if first + count > table.size:
        return False
    adjacent = True
    for i in range(1, count):
        adjacent = adjacent and table[first + i] == table[first] + i
    return adjacent


@njit(cache=True, error_model="numpy", nogil=True)
def _product(
    a,
    a_shape,
    a_strides,
    b,
    b_shape,
    b_strides,
    out,
    out_shape,
    out_strides,
    k_tile,
    fused,
    batch_from,
    batch_to,
    row_from,
    row_to,
):
    """`out` = a b for the given batches and rows.

    a[batch, batch, rows, rows, K, K], b[batch, batch, K, K, columns, columns] and out[batch, batch, rows, rows,
    columns, columns] have each matrix axis split in outer and inner, as they please.
    """
    a_m = _offsets(a_shape[2], a_shape[3], a_strides[2], a_strides[3])
    a_k = _offsets(a_shape[4], a_shape[5], a_strides[4], a_strides[5])
    b_k = _offsets(b_shape[2], b_shape[3], b_strides[2], b_strides[3])
    b_n = _offsets(b_shape[4], b_shape[5], b_strides[4], b_strides[5])
    o_m = _offsets(out_shape[2], out_shape[3], out_strides[2], out_strides[3])
    o_n = _offsets(out_shape[4], out_shape[5], out_strides[4], out_strides[5])
    size_k, size_n = a_k.size, b_n.size
    tiles = size_k // k_tile
    rows = FUSED_ROWS if fused else PLAIN_ROWS

    a_step = a_k[1] - a_k[0] if k_tile > 1 else np.int64(1)
    a_tile = a_k[k_tile] - a_k[0] if tiles > 1 else np.int64(0)
    even = True
    for k in range(size_k):
        if a_k[k] != a_k[0] + (k // k_tile) * a_tile + (k % k_tile) * a_step:
            even = False
    # A block of rows is read in place where it is evenly spaced, and adjacent along rows or K; else it is copied.
    blocks = (row_to - row_from + rows - 1) // rows
    in_place = np.empty(blocks, np.bool_)
    for block in range(blocks):
        m = row_from + block * rows
        ok = even and m + rows <= row_to
        if ok:
            for i in range(rows):
                if a_m[m + i] != a_m[m] + i * (a_m[m + 1] - a_m[m]):
                    ok = False
            if a_step != 1 and a_m[m + 1] - a_m[m] != 1:
                ok = False
        in_place[block] = ok

    panels = (size_n + COLUMNS - 1) // COLUMNS
    adjacent = np.empty(panels, np.bool_)
    stores_adjacent = np.empty(2 * panels, np.bool_)
    for panel in range(panels):
        adjacent[panel] = _adjacent(b_n, panel * COLUMNS, COLUMNS)
        for half in range(2):
            stores_adjacent[2 * panel + half] = _adjacent(o_n, panel * COLUMNS + half * 8, 8)

    k_block = max(_K_BLOCK // k_tile, 1) * k_tile
    blocks_per_pass = max(_A_BLOCK // min(k_block, size_k) // rows, 1)
    copied = np.zeros(min(blocks_per_pass, blocks) * rows * min(k_block, size_k), np.float32)
    packed = np.zeros(panels * size_k * COLUMNS, np.float32)
    totals = np.empty(rows * COLUMNS, np.float32)
    copied_at, packed_at = np.int64(copied.ctypes.data), np.int64(packed.ctypes.data)
    totals_at = np.int64(totals.ctypes.data)
    inner_batches = a_shape[1]
    b_before = np.int64(-1)
    for batch in range(batch_from, batch_to):
        p, q = batch // inner_batches, batch % inner_batches
        a_base = (p * a_strides[0] + q * a_strides[1]) // 4
        b_base = (p * b_strides[0] + q * b_strides[1]) // 4
        o_base = (p * out_strides[0] + q * out_strides[1]) // 4
        if batch == batch_from or b_base != b_before:
            b_before = b_base
            for panel in range(panels):
                n = panel * COLUMNS
                for k in range(size_k):
                    to = (panel * size_k + k) * COLUMNS
                    if adjacent[panel]:
                        start = b_base + b_k[k] + b_n[n]
                        copy_floats(packed_at + 4 * to, b + 4 * start, COLUMNS)
                    else:
                        for j in range(min(COLUMNS, size_n - n)):
                            packed[to + j] = load_at(b, b_base + b_k[k] + b_n[n + j])
        for k_from in range(0, size_k, k_block):
            k_to = min(k_from + k_block, size_k)
            k_count = k_to - k_from
            last = k_to == size_k
            for first_block in range(0, blocks, blocks_per_pass):
                last_block = min(first_block + blocks_per_pass, blocks)
                for block in range(first_block, last_block):
                    if not in_place[block]:
                        m = row_from + block * rows
                        base = (block - first_block) * rows * k_count
                        for i in range(rows):
                            for k in range(k_count):
                                value = np.float32(0.0)
                                if m + i < row_to:
                                    value = load_at(a, a_base + a_m[m + i] + a_k[k_from + k])
                                copied[base + k * rows + i] = value
                for panel in range(panels):
                    n = panel * COLUMNS
                    for block in range(first_block, last_block):
                        m = row_from + block * rows
                        count = min(rows, row_to - m)
                        if k_from == 0:
                            totals[:] = np.float32(0.0)
                        else:
                            for i in range(count):
                                for j in range(min(COLUMNS, size_n - n)):
                                    totals[i * COLUMNS + j] = load_at(out, o_base + o_m[m + i] + o_n[n + j])
                        if in_place[block]:
                            at = a + 4 * (a_base + a_m[m] + a_k[k_from])
                            row, step, tile = a_m[m + 1] - a_m[m], a_step, a_tile
                        else:
                            at = copied_at + 4 * (block - first_block) * rows * k_count
                            row, step, tile = np.int64(1), np.int64(rows), np.int64(rows * k_tile)
                        b_at = packed_at + 4 * (panel * size_k + k_from) * COLUMNS
                        if fused:
                            fused_block(at, row, step, tile, b_at, totals_at, k_count // k_tile, k_tile)
                        else:
                            plain_block(at, row, step, tile, b_at, totals_at, k_count // k_tile, k_tile)
                        for i in range(count):
                            for half in range(2):
                                j = half * 8
                                if stores_adjacent[2 * panel + half]:
                                    to = o_base + o_m[m + i] + o_n[n + j]
                                    store_lanes(out + 4 * to, totals_at + 4 * (i * COLUMNS + j), last)
                                else:
                                    for lane in range(j, min(j + 8, size_n - n)):
                                        value = totals[i * COLUMNS + lane]
                                        to = o_base + o_m[m + i] + o_n[n + lane]
                                        store_at(out, to, canon(value) if last else value)


def _run(a: np.ndarray, b: np.ndarray, out: np.ndarray, k_tile: int, fused: bool, *share: int) -> None:
    operands = [(x.__array_interface__["data"][0], x.shape, x.strides) for x in (a, b, out)]
    _product(*operands[0], *operands[1], *operands[2], k_tile, fused, *share)


def _checked(name: str, x: np.ndarray, dimensions: int) -> np.ndarray:
    if x.dtype != np.float32 or x.ndim != dimensions:
        raise BadInput(f"{name}: float32 with {dimensions} axes expected, got {x.dtype} with {x.ndim}")
    if any(stride % 4 for stride in x.strides):
        raise BadInput(f"{name}: strides {x.strides} are not whole elements; pass a copy")
    return x


def _shares(total: int, parts: int, step: int) -> list[tuple[int, int]]:
    size = -(-total // (parts * step)) * step
    return [(start, min(start + size, total)) for start in range(0, total, size)] if total else []


def split_product(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, *, k_tile: int, exact_products: bool = True, threads: int = 1
) -> np.ndarray:
    """Product of split, strided operands into `out`; the general form of this module's other functions.

    a[batch, batch, rows, rows, K, K], b[batch, batch, K, K, columns, columns], out[batch, batch, rows, rows, columns,
    columns], all float32; each matrix axis is (outer, inner), split independently in each operand. `k_tile`: elements
    of K per tile, dividing K. `exact_products` False: never fuse. `threads`: each takes rows or batches of its own.

    Raises:
        BadInput: shapes, dtypes, tiles or strides do not fit, or `out` is read-only or overlaps an operand.
    """
    a, b, out = _checked("a", a, 6), _checked("b", b, 6), _checked("out", out, 6)
    batches = a.shape[0] * a.shape[1]
    size_m, size_k = a.shape[2] * a.shape[3], a.shape[4] * a.shape[5]
    size_n = b.shape[4] * b.shape[5]
    if b.shape[2] * b.shape[3] != size_k or b.shape[:2] != a.shape[:2]:
        raise BadInput(f"b: shape {b.shape} does not fit a of shape {a.shape}")
    if out.shape[:2] != a.shape[:2] or out.shape[2] * out.shape[3] != size_m or out.shape[4] * out.shape[5] != size_n:
        raise BadInput(f"out: shape {out.shape} does not fit operands of shapes {a.shape} and {b.shape}")
    if size_k == 0 or k_tile < 1 or size_k % k_tile:
        raise BadInput(f"k_tile: {k_tile} does not divide K = {size_k}")
    if not out.flags.writeable:
        raise BadInput("out: a read-only array cannot take results")
    if threads < 1:
        raise BadInput(f"threads: at least 1, got {threads}")
    if np.may_share_memory(out, a) or np.may_share_memory(out, b):
        raise BadInput("out: shares memory with an operand; pass an array of its own")
    if out.size == 0:
        return out
    fused = bool(exact_products) and HOST_HAS_FMA and products_are_exact(a, b)
    if batches >= threads:
        shares = [(lo, hi, 0, size_m) for lo, hi in _shares(batches, threads, 1)]
    else:
        shares = [(0, batches, lo, hi) for lo, hi in _shares(size_m, threads, FUSED_ROWS * PLAIN_ROWS)]
    if len(shares) == 1:
        _run(a, b, out, k_tile, fused, *shares[0])
    else:
        with ThreadPoolExecutor(len(shares)) as pool:
            list(pool.map(lambda share: _run(a, b, out, k_tile, fused, *share), shares))
    return out


def _tile(size: int, tiles: int) -> int:
    if tiles < 1 or size % tiles:
        raise BadInput(f"tiles: {tiles} does not divide K = {size}")
    return size // tiles


def tiled_matmul(
    a: np.ndarray,
    b: np.ndarray,
    tiles: int,
    *,
    out: np.ndarray | None = None,
    exact_products: bool = True,
    threads: int = 1,
) -> np.ndarray:
    """a[M, K] b[K, N] in `tiles` equal tiles of K, as float32 [M, N]; any strides."""
    a, b = _checked("a", a, 2), _checked("b", b, 2)
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), np.float32)
    split_product(
        a[None, None, None, :, None, :],
        b[None, None, None, :, None, :],
        _checked("out", out, 2)[None, None, None, :, None, :],
        k_tile=_tile(a.shape[1], tiles),
        exact_products=exact_products,
        threads=threads,
    )
    return out


def blocks_matmul(
    x: np.ndarray,
    w: np.ndarray,
    columns: int,
    *,
    out: np.ndarray | None = None,
    exact_products: bool = True,
    threads: int = 1,
) -> np.ndarray:
    """X w, with x[R, C, Tb, Kc] in blocks (one K tile per column of blocks) and w[C * Kc, N]: [R, columns, Tb, Nc].

    Token (r, t) is row r * Tb + t, feature (c, i) is c * Kc + i; N = columns * Nc. `w` may be a transposed view, which
    gives the product for the input gradients.
    """
    x, w = _checked("x", x, 4), _checked("w", w, 2)
    rows, tiles, tokens, features = x.shape
    if w.shape[0] != tiles * features or columns < 1 or w.shape[1] % columns:
        raise BadInput(f"w: shape {w.shape} does not fit blocks of shape {x.shape} and {columns} columns of output")
    if out is None:
        out = np.empty((rows, columns, tokens, w.shape[1] // columns), np.float32)
    split_product(
        x.transpose(0, 2, 1, 3)[None, None],
        w[None, None, None, :, None, :],
        _checked("out", out, 4).transpose(0, 2, 1, 3)[None, None],
        k_tile=features,
        exact_products=exact_products,
        threads=threads,
    )
    return out


def blocks_weight_gradient(
    x: np.ndarray, dy: np.ndarray, *, out: np.ndarray | None = None, exact_products: bool = True, threads: int = 1
) -> np.ndarray:
    """The transpose of x times dy, x[R, C, Tb, Kc] and dy[R, D, Tb, Nc] in blocks: float32 [C * Kc, D * Nc].

    The sum runs over tokens: one tile per row of blocks, tokens ascending in it, rows chained from the first one.
    """
    x, dy = _checked("x", x, 4), _checked("dy", dy, 4)
    if x.shape[0] != dy.shape[0] or x.shape[2] != dy.shape[2]:
        raise BadInput(f"dy: blocks of shape {dy.shape} do not fit x of shape {x.shape}")
    if out is None:
        out = np.empty((x.shape[1] * x.shape[3], dy.shape[1] * dy.shape[3]), np.float32)
    split_product(
        x.transpose(1, 3, 0, 2)[None, None],
        dy.transpose(0, 2, 1, 3)[None, None],
        _checked("out", out, 2)[None, None, None, :, None, :],
        k_tile=x.shape[2],
        exact_products=exact_products,
        threads=threads,
    )
    return out


def batched_matmul(
    a: np.ndarray,
    b: np.ndarray,
    k_tiles: int,
    *,
    out: np.ndarray | None = None,
    exact_products: bool = True,
    threads: int = 1,
) -> np.ndarray:
    """a[..., M, K] b[..., K, N] with one or two batch axes, of any strides, broadcast ones included: [..., M, N]."""
    if a.ndim not in (3, 4) or a.ndim != b.ndim:
        raise BadInput(f"a, b: one or two batch axes and two matrix axes each, got shapes {a.shape} and {b.shape}")
    a, b = _checked("a", a, a.ndim), _checked("b", b, b.ndim)
    if out is None:
        out = np.empty((*a.shape[:-1], b.shape[-1]), np.float32)
    _checked("out", out, a.ndim)

    def split(x: np.ndarray) -> np.ndarray:
        x = x if x.ndim == 4 else x[None]
        return x[:, :, None, :, None, :]

    split_product(
        split(a),
        split(b),
        split(out),
        k_tile=_tile(a.shape[-1], k_tiles),
        exact_products=exact_products,
        threads=threads,
    )
    return out
