"""Products of a few lines with matrices that are packed beforehand, in the order of the wafer.

The sums of `matmul` in the same order, products and sums rounded apart, without the packing that a product of all lines
pays for: a matrix that never changes is packed once, in panels of PANEL columns, [panel][k][PANEL].
"""

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from yieldkit.emulator.kernels.register_block import emit_loop, load_at, store_at
from yieldkit.emulator.kernels.scalar import canon, round_bf16, round_fp16

LANES = 8
VECTORS = 4
PANEL = LANES * VECTORS
# Chosen by measurement: with 32 vector registers 5 x 4 accumulators and their totals stay in them, with 16 they do not.
LINES = 5 if llvm.get_host_cpu_features().get("avx512vl", False) else 2

_FLOAT = ir.FloatType()
_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _lines_function(module, lines):
    """A function (a, stride, tile, b, out, tiles, k_tile): `lines` lines times a panel, to out[lines][PANEL]."""
    pointer = _FLOAT.as_pointer()
    name = f"yieldkit_lines_{lines}"
    if name in module.globals:
        return module.globals[name]
    kind = ir.FunctionType(ir.VoidType(), [pointer, _INDEX, _INDEX, pointer, pointer, _INDEX, _INDEX])
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    a, a_line, a_tile, b, out, tiles, k_tile = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    tile_at = cgutils.alloca_once_value(builder, a)
    a_at = cgutils.alloca_once(builder, pointer)
    b_at = cgutils.alloca_once_value(builder, b)
    unit = ir.Constant(_INDEX, 1)
    offsets = [builder.mul(a_line, ir.Constant(_INDEX, i)) for i in range(lines)]
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    partial = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(VECTORS)] for _ in range(lines)]
    total = [[cgutils.alloca_once_value(builder, zero) for _ in range(VECTORS)] for _ in range(lines)]
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    spread = ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES)

    def vector_at(base, index):
        return builder.bitcast(builder.gep(base, [ir.Constant(_INDEX, index * LANES)]), _VECTOR.as_pointer())

    def step(first=False):
        a_now, b_now = builder.load(a_at), builder.load(b_at)
        columns = [builder.load(vector_at(b_now, j), align=4) for j in range(VECTORS)]
        for i in range(lines):
            element = builder.load(builder.gep(a_now, [offsets[i]]))
            line = builder.insert_element(undefined, element, ir.Constant(_WORD, 0))
            line = builder.shuffle_vector(line, undefined, spread)
            for j in range(VECTORS):
                # +0 + p is p but for the sign of a zero, which the total, never -0, takes up.
                value = builder.fmul(line, columns[j])
                if not first:
                    value = builder.fadd(builder.load(partial[i][j]), value)
                builder.store(value, partial[i][j])
        builder.store(builder.gep(a_now, [unit]), a_at)
        builder.store(builder.gep(b_now, [ir.Constant(_INDEX, PANEL)]), b_at)

    def one_tile():
        start = builder.load(tile_at)
        builder.store(start, a_at)
        builder.store(builder.gep(start, [a_tile]), tile_at)
        step(first=True)
        emit_loop(builder, builder.sub(k_tile, unit), step)
        for i in range(lines):
            for j in range(VECTORS):
                builder.store(builder.fadd(builder.load(total[i][j]), builder.load(partial[i][j])), total[i][j])

    emit_loop(builder, tiles, one_tile)
    for i in range(lines):
        for j in range(VECTORS):
            builder.store(builder.load(total[i][j]), vector_at(out, i * VECTORS + j), align=4)
    builder.ret_void()
    return function


@intrinsic
def _lines(typingctx, count, a, a_line, a_tile, b, out, tiles, k_tile):
    """Totals of `count` <= LINES lines and a panel to out[count][PANEL]; addresses, and strides in elements."""

    def codegen(context, builder, signature, args):
        pointer = _FLOAT.as_pointer()
        count, a, a_line, a_tile, b, out, tiles, k_tile = args
        a, b, out = (builder.inttoptr(address, pointer) for address in (a, b, out))
        done = builder.append_basic_block("done")
        choice = builder.switch(count, done)
        for lines in range(1, LINES + 1):
            block = builder.append_basic_block(f"lines{lines}")
            choice.add_case(ir.Constant(_INDEX, lines), block)
            builder.position_at_end(block)
            builder.call(_lines_function(builder.module, lines), [a, a_line, a_tile, b, out, tiles, k_tile])
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), codegen


@intrinsic
def _store_sum(typingctx, to, start, adds):
    """Store LANES float32 from one address at another, or add them to what is there; NaNs become canonical."""

    def codegen(context, builder, signature, args):
        words = ir.VectorType(_WORD, LANES)
        canonical = ir.Constant(words, [0x7FC00000] * LANES)

        def canon_of(value):
            nan = builder.fcmp_unordered("uno", value, value)
            bits = builder.select(nan, canonical, builder.bitcast(value, words))
            return builder.bitcast(bits, _VECTOR)

        target, source = (builder.inttoptr(address, _VECTOR.as_pointer()) for address in args[:2])
        value = canon_of(builder.load(source, align=4))
        total = canon_of(builder.fadd(builder.load(target, align=4), value))
        builder.store(builder.select(args[2], total, value), target, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.boolean), codegen


@njit(cache=True, error_model="numpy", nogil=True)
def _store_run(y, sums, to, room, at, run, fmt, adds):
    """Store totals room[at : at + run], or add them to what is at y + to, in any format."""
    if sums:
        for j in range(run):
            store_at(sums, to + j, canon(room[at + j]))
    for j in range(run):
        value = canon(room[at + j])
        if adds:
            value = np.float32(value + load_at(y, to + j))
        if fmt == 1:
            value = round_bf16(value)
        elif fmt == 2:
            value = round_fp16(value)
        else:
            value = canon(value)
        store_at(y, to + j, value)


@njit(cache=True, error_model="numpy", nogil=True)
def line_product(
    a, kc, a_tile, tiles, packed, panel_from, panel_to, size_n, y, nc, y_block, sums, fmt, adds, count, room
):
    """Lines of y = a W, or y + a W where `adds`; the fp32 totals also go to `sums` where that is not 0.

    `a`, `packed`, `y` and `sums` are addresses, `a`, `y` and `sums` of the first line: a[tiles][line][kc] with `a_tile`
    elements from tile to tile, y and sums [size_n / nc][line][nc] with `y_block` elements from block to block. `fmt` is
    the format of y; `room` is a buffer of LINES * PANEL.
    """
    out = np.int64(room.ctypes.data)
    depth = kc * tiles
    for panel in range(panel_from, panel_to):
        last = min((panel + 1) * PANEL, size_n)
        b = packed + 4 * panel * PANEL * depth
        for first in range(0, count, LINES):
            here = min(LINES, count - first)
            _lines(here, a + 4 * first * kc, kc, a_tile, b, out, tiles, kc)
            n = panel * PANEL
            while n < last:
                inside = n % nc
                run = min(nc - inside, last - n)
                to = (n // nc) * y_block + first * nc + inside
                at = n - panel * PANEL
                if fmt == 0 and run % LANES == 0:
                    for i in range(here):
                        for j in range(0, run, LANES):
                            if sums:
                                _store_sum(sums + 4 * (to + i * nc + j), out + 4 * (at + i * PANEL + j), False)
                            _store_sum(y + 4 * (to + i * nc + j), out + 4 * (at + i * PANEL + j), adds)
                else:
                    for i in range(here):
                        _store_run(y, sums, to + i * nc, room, at + i * PANEL, run, fmt, adds)
                n += run


__all__ = ["LINES", "PANEL", "line_product"]
