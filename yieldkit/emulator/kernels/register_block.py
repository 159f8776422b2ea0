"""The inner loop of the tiled products: a block of rows x 16 columns whose accumulators stay in registers.

Written as LLVM vectors, so that it does not depend on what the compiler makes of loops. Every output element has an
accumulator of its own, so vectors and blocks change nothing in the order of its sums.
"""

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
VECTORS = 2
COLUMNS = LANES * VECTORS
# Rows per block, chosen by measurement; a fused step needs no register for the product.
FUSED_ROWS = 4
PLAIN_ROWS = 6

HOST_HAS_FMA = bool(llvm.get_host_cpu_features().get("fma", False)) or llvm.get_process_triple().startswith("aarch64")

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)


def emit_loop(builder, count, body):
    """Run `body` `count` times."""
    before = builder.basic_block
    head = builder.append_basic_block("loop")
    inside = builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_INDEX)
    index.add_incoming(ir.Constant(_INDEX, 0), before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    body()
    index.add_incoming(builder.add(index, ir.Constant(_INDEX, 1)), builder.basic_block)
    builder.branch(head)
    builder.position_at_end(after)


def _block_function(module, rows, fused, along_k, whole):
    """A function (a, stride, tile, b, totals, tiles, k_tile) of its own, so that it has all registers.

    Elements of `a` are adjacent along K (`along_k`) or across rows; a unit stride known here keeps the addresses few.
    A block over `whole` of K takes the stride of the result's rows too: it has no totals before, and stores results.
    """
    pointer = _FLOAT.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, _INDEX, _INDEX, pointer, pointer, _INDEX, _INDEX, _INDEX])
    name = f"yieldkit_block_{rows}_{'fused' if fused else 'plain'}_{'k' if along_k else 'rows'}_{whole}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    a, a_stride, a_tile, b, total, tiles, k_tile, out_row = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    a_tile_at = cgutils.alloca_once_value(builder, a)
    a_at = cgutils.alloca_once(builder, pointer)
    b_at = cgutils.alloca_once_value(builder, b)
    unit = ir.Constant(_INDEX, 1)
    a_row, a_step = (a_stride, unit) if along_k else (unit, a_stride)
    row_offset = [builder.mul(a_row, ir.Constant(_INDEX, i)) for i in range(rows)]
    partial = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(VECTORS)] for _ in range(rows)]
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    kept = [[cgutils.alloca_once_value(builder, zero) for _ in range(VECTORS)] for _ in range(rows)] if whole else []
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    spread = ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES)
    fma = None
    if fused and HOST_HAS_FMA:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        fma = cgutils.get_or_insert_function(module, kind, f"llvm.fma.v{LANES}f32")

    def vector_at(base, index):
        return builder.bitcast(builder.gep(base, [ir.Constant(_INDEX, index * LANES)]), _VECTOR.as_pointer())

    def step(first=False):
        a_now, b_now = builder.load(a_at), builder.load(b_at)
        columns = [builder.load(vector_at(b_now, j), align=4) for j in range(VECTORS)]
        for i in range(rows):
            element = builder.load(builder.gep(a_now, [row_offset[i]]))
            row = builder.insert_element(undefined, element, ir.Constant(_WORD, 0))
            row = builder.shuffle_vector(row, undefined, spread)
            for j in range(VECTORS):
                if first:
                    # +0 + p is p but for the sign of a zero, which the total, never -0, takes up.
                    value = builder.fmul(row, columns[j])
                elif fma is not None:
                    value = builder.call(fma, [row, columns[j], builder.load(partial[i][j])])
                else:
                    value = builder.fadd(builder.load(partial[i][j]), builder.fmul(row, columns[j]))
                builder.store(value, partial[i][j])
        builder.store(builder.gep(a_now, [a_step]), a_at)
        builder.store(builder.gep(b_now, [ir.Constant(_INDEX, COLUMNS)]), b_at)

    def one_tile():
        start = builder.load(a_tile_at)
        builder.store(start, a_at)
        builder.store(builder.gep(start, [a_tile]), a_tile_at)
        step(first=True)
        emit_loop(builder, builder.sub(k_tile, ir.Constant(_INDEX, 1)), step)
        for i in range(rows):
            for j in range(VECTORS):
                place = kept[i][j] if whole else vector_at(total, i * VECTORS + j)
                value = builder.fadd(builder.load(place, align=4), builder.load(partial[i][j]))
                builder.store(value, place, align=4)

    emit_loop(builder, tiles, one_tile)
    if whole:
        words = ir.VectorType(_WORD, LANES)
        canonical = ir.Constant(words, [0x7FC00000] * LANES)
        for i in range(rows):
            row = builder.gep(total, [builder.mul(out_row, ir.Constant(_INDEX, i))])
            for j in range(VECTORS):
                value = builder.load(kept[i][j])
                nan = builder.fcmp_unordered("uno", value, value)
                bits = builder.select(nan, canonical, builder.bitcast(value, words))
                builder.store(builder.bitcast(bits, _VECTOR), vector_at(row, j), align=4)
    builder.ret_void()
    return function


def _block(rows, fused, whole=False):
    def codegen(context, builder, signature, args):
        a, a_row, a_step, a_tile, b, totals, tiles, k_tile = args[:8]
        out_row = args[8] if whole else ir.Constant(_INDEX, 0)
        pointers = [builder.inttoptr(address, _FLOAT.as_pointer()) for address in (a, b, totals)]
        along_k = builder.icmp_signed("==", a_step, ir.Constant(_INDEX, 1))
        with builder.if_else(along_k) as (then, otherwise):
            for branch, stride, kind in ((then, a_row, True), (otherwise, a_step, False)):
                with branch:
                    function = _block_function(builder.module, rows, fused, kind, whole)
                    rest = [a_tile, pointers[1], pointers[2], tiles, k_tile, out_row]
                    builder.call(function, [pointers[0], stride, *rest])
        return context.get_dummy_value()

    return codegen


_BLOCK_SIGNATURE = types.void(*[types.int64] * 8)
_WHOLE_SIGNATURE = types.void(*[types.int64] * 9)


@intrinsic
def fused_block(typingctx, a, a_row, a_step, a_tile, b, totals, tiles, k_tile):
    """Add the partials of `tiles` tiles to totals[FUSED_ROWS * COLUMNS], with one rounding per product and sum.

    `a`, `b` and `totals` are addresses; elements of `a` are read at row * a_row + tile * a_tile + k * a_step (in
    elements; a_row or a_step must be 1), those of `b` in turn as [k][COLUMNS].
    """
    return _BLOCK_SIGNATURE, _block(FUSED_ROWS, True)


@intrinsic
def plain_block(typingctx, a, a_row, a_step, a_tile, b, totals, tiles, k_tile):
    """Like `fused_block` for PLAIN_ROWS rows, with each product rounded before it is added."""
    return _BLOCK_SIGNATURE, _block(PLAIN_ROWS, False)


@intrinsic
def fused_whole(typingctx, a, a_row, a_step, a_tile, b, out, tiles, k_tile, out_row):
    """Like `fused_block` over all of K, to the result itself: rows `out_row` elements apart, NaNs canonical."""
    return _WHOLE_SIGNATURE, _block(FUSED_ROWS, True, True)


@intrinsic
def plain_whole(typingctx, a, a_row, a_step, a_tile, b, out, tiles, k_tile, out_row):
    """Like `plain_block` over all of K, to the result itself: rows `out_row` elements apart, NaNs canonical."""
    return _WHOLE_SIGNATURE, _block(PLAIN_ROWS, False, True)


@intrinsic
def load_at(typingctx, address, offset):
    """The float32 `offset` elements after an address."""

    def codegen(context, builder, signature, args):
        return builder.load(builder.gep(builder.inttoptr(args[0], _FLOAT.as_pointer()), [args[1]]))

    return types.float32(types.int64, types.int64), codegen


@intrinsic
def store_at(typingctx, address, offset, value):
    """Write a float32 `offset` elements after an address."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], builder.gep(builder.inttoptr(args[0], _FLOAT.as_pointer()), [args[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen


@intrinsic
def floats_at(typingctx, address):
    """An address as a pointer to float32."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], _FLOAT.as_pointer())

    return types.CPointer(types.float32)(types.int64), codegen


@intrinsic
def copy_floats(typingctx, to, start, count):
    """Copy `count` float32 from one address to another."""

    def codegen(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        target, source = (builder.inttoptr(address, byte) for address in args[:2])
        cgutils.raw_memcpy(builder, target, source, args[2], ir.Constant(_INDEX, 4))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def store_lanes(typingctx, to, start, last):
    """Copy LANES float32 from one address to another; where `last`, NaNs become canonical."""

    def codegen(context, builder, signature, args):
        words = ir.VectorType(_WORD, LANES)

        def constant(value):
            return ir.Constant(words, [value] * LANES)

        target, source = (builder.inttoptr(address, words.as_pointer()) for address in args[:2])
        value = builder.load(source, align=4)
        nan = builder.icmp_signed(">", builder.and_(value, constant(0x7FFFFFFF)), constant(0x7F800000))
        canonical = builder.select(nan, constant(0x7FC00000), value)
        builder.store(builder.select(args[2], canonical, value), target, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.boolean), codegen


__all__ = [
    "COLUMNS",
    "FUSED_ROWS",
    "HOST_HAS_FMA",
    "PLAIN_ROWS",
    "copy_floats",
    "floats_at",
    "fused_block",
    "fused_whole",
    "load_at",
    "plain_block",
    "plain_whole",
    "store_at",
    "store_lanes",
]
