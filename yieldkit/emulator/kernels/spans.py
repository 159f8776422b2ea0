"""Inner loops of the vector unit in LLVM vectors: element-wise rows, and sequences side by side.

Written out, since a compiler that must allow for overlapping operands gives up on vectors where `d` is an operand too.
Every element sees the same operations as in scalar code, so lanes change no bit.
"""

from __future__ import annotations

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8  # a power of two
MOV, ADD, SUB, MUL, MAX, MAC, EQ = 1, 2, 3, 4, 5, 6, 7
SPAN_OPS = (MOV, ADD, SUB, MUL, MAX, EQ)
"""Operations that `span` knows; `chains` knows ADD, MAX and MAC."""
BOTH, B_FIXED, A_FIXED = 0, 1, 2
"""Which operand of `span` steps along a row: both by one element, or only the other one."""
APART, ADJACENT, SEQUENTIAL = 0, 1, 2
"""How the operands of `chains` lie."""

_FLOAT = ir.FloatType()
_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)
_POINTER = _FLOAT.as_pointer()


def _words(value, vector):
    return ir.Constant(_WORDS, [value] * LANES) if vector else ir.Constant(_WORD, value)


def _float(value, vector):
    return ir.Constant(_FLOATS, [value] * LANES) if vector else ir.Constant(_FLOAT, value)


def _value(builder, op, a, b, vector):
    """Op(a, b); the larger is `b` only where b > a, and NaN where either is."""
    if op == ADD:
        return builder.fadd(a, b)
    if op == SUB:
        return builder.fsub(a, b)
    if op == MUL:
        return builder.fmul(a, b)
    if op == MAX:
        larger = builder.select(builder.fcmp_ordered(">", b, a), b, a)
        return builder.select(builder.fcmp_unordered("uno", a, b), builder.fadd(a, b), larger)
    if op == EQ:
        return builder.select(builder.fcmp_ordered("==", a, b), _float(1.0, vector), _float(0.0, vector))
    return a


def _stored(builder, value, fmt, vector):
    """The value as a store leaves it in fp32 (0) or bfloat16 (1)."""
    bits = builder.bitcast(value, _WORDS if vector else _WORD)
    nan = builder.fcmp_unordered("uno", value, value)
    if fmt == 1:
        odd = builder.and_(builder.lshr(bits, _words(16, vector)), _words(1, vector))
        up = builder.add(builder.add(bits, odd), _words(0x7FFF, vector))
        bits = builder.and_(up, _words(0xFFFF0000, vector))
    bits = builder.select(nan, _words(0x7FC00000, vector), bits)
    return builder.bitcast(bits, _FLOATS if vector else _FLOAT)


def _counted(builder, function, count, body):
    """Run `body(index)` for index 0 .. count - 1."""
    before = builder.basic_block
    head = function.append_basic_block("head")
    inside = function.append_basic_block("inside")
    after = function.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_INDEX)
    index.add_incoming(ir.Constant(_INDEX, 0), before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    body(index)
    index.add_incoming(builder.add(index, ir.Constant(_INDEX, 1)), builder.basic_block)
    builder.branch(head)
    builder.position_at_end(after)


def _lanes(builder, pointer, index):
    return builder.bitcast(builder.gep(pointer, [index]), _FLOATS.as_pointer())


def _splat(builder, value):
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_WORDS, [0] * LANES))


def _function(module, name, arguments):
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    # Vectors are written out already; more of them would only cost the compiler time.
    function.attributes.add("optsize")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def _span_function(module, op, fmt, mode):
    name = f"yieldkit_span_{op}_{fmt}_{mode}"
    if name in module.globals:
        return module.globals[name]
    function, builder = _function(module, name, [_POINTER] * 3 + [_INDEX] * 5)
    d, a, b, rows, count, d_row, a_row, b_row = function.args
    full = builder.lshr(count, ir.Constant(_INDEX, LANES.bit_length() - 1))
    tail_from = builder.mul(full, ir.Constant(_INDEX, LANES))
    tail = builder.and_(count, ir.Constant(_INDEX, LANES - 1))

    def row(index):
        places = [
            builder.gep(pointer, [builder.mul(index, step)]) for pointer, step in ((d, d_row), (a, a_row), (b, b_row))
        ]
        fixed = {}
        for operand, when in ((1, A_FIXED), (2, B_FIXED)):
            if mode == when and (operand == 1 or op != MOV):
                scalar = builder.load(places[operand])
                fixed[operand] = (scalar, _splat(builder, scalar))

        def operand_at(which, at, vector):
            if which == 2 and op == MOV:
                return None
            if which in fixed:
                return fixed[which][vector]
            if vector:
                return builder.load(_lanes(builder, places[which], at), align=4)
            return builder.load(builder.gep(places[which], [at]))

        def some(at, vector):
            value = _value(builder, op, operand_at(1, at, vector), operand_at(2, at, vector), vector)
            value = _stored(builder, value, fmt, vector)
            if vector:
                builder.store(value, _lanes(builder, places[0], at), align=4)
            else:
                builder.store(value, builder.gep(places[0], [at]))

        _counted(builder, function, full, lambda i: some(builder.mul(i, ir.Constant(_INDEX, LANES)), True))
        _counted(builder, function, tail, lambda i: some(builder.add(i, tail_from), False))

    _counted(builder, function, rows, row)
    builder.ret_void()
    return function


def _cases(builder, key, functions, arguments):
    """Call the function whose number `key` is."""
    done = builder.append_basic_block("done")
    nothing = builder.append_basic_block("nothing")
    choice = builder.switch(key, nothing)
    for number, function in functions:
        block = builder.append_basic_block(f"case{number}")
        choice.add_case(ir.Constant(_INDEX, number), block)
        builder.position_at_end(block)
        builder.call(function, arguments)
        builder.branch(done)
    builder.position_at_end(nothing)
    builder.branch(done)
    builder.position_at_end(done)


@intrinsic
def span(typingctx, key, d, a, b, rows, count, d_row, a_row, b_row):
    """Set `rows` rows of `count` adjacent elements to op(a, b), rounded to the format and NaNs canonical.

    key = (op * 2 + format) * 4 + mode, op one of SPAN_OPS, format 0 fp32 or 1 bfloat16; d, a, b are addresses, row
    strides are in elements. An element of `d` may be the element of `a` or `b` at the same place, and no other.
    """

    def codegen(context, builder, signature, args):
        pointers = [builder.inttoptr(address, _POINTER) for address in args[1:4]]
        functions = [
            ((op * 2 + fmt) * 4 + mode, _span_function(builder.module, op, fmt, mode))
            for op in SPAN_OPS
            for fmt in (0, 1)
            for mode in ((BOTH, A_FIXED) if op == MOV else (BOTH, B_FIXED, A_FIXED))
        ]
        _cases(builder, args[0], functions, [*pointers, *args[4:]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), codegen


def _turned(builder, rows):
    """LANES vectors of LANES elements with rows and columns exchanged."""
    half = LANES
    while half > 1:
        half //= 2
        turned = list(rows)
        for i in range(LANES):
            if i & half:
                continue
            low, high = rows[i], rows[i + half]
            # Of each pair of blocks of `half` elements: the first ones together, and the second ones.
            for place, skip in ((i, 0), (i + half, half)):
                picks = [j if not j & half else j - half + LANES for j in range(LANES)]
                mask = ir.Constant(_WORDS, [pick + skip for pick in picks])
                turned[place] = builder.shuffle_vector(low, high, mask)
        rows = turned
    return rows


def _chain_function(module, op, along):
    """Sequences of op(a, value) or value + a b; see `chains` for `along`."""
    name = f"yieldkit_chains_{op}_{along}"
    if name in module.globals:
        return module.globals[name]
    function, builder = _function(
        module, name, [_POINTER, _INDEX.as_pointer(), _INDEX.as_pointer(), _INDEX, _INDEX, _INDEX]
    )
    values, a_at, b_at, count, a_step, b_step = function.args
    adjacent = along == ADJACENT
    lanes = 1 if adjacent else LANES
    kind = _FLOATS if adjacent else _FLOAT

    def lane(pointer, i):
        return builder.gep(pointer, [ir.Constant(_INDEX, i)])

    def as_kind(pointer):
        return builder.bitcast(pointer, kind.as_pointer())

    starts = [[builder.load(lane(table, i)) for i in range(lanes)] for table in (a_at, b_at)]
    starts = [[builder.inttoptr(address, _POINTER) for address in table] for table in starts]
    done = ir.Constant(_INDEX, 0)
    if along == SEQUENTIAL:
        # LANES steps of all lanes at once: what lies along a sequence is turned across the lanes.
        done = builder.and_(count, ir.Constant(_INDEX, -LANES))
        whole = builder.bitcast(values, _FLOATS.as_pointer())

        def block(index):
            at = builder.mul(index, ir.Constant(_INDEX, LANES))
            a, b = (
                _turned(builder, [builder.load(_lanes(builder, start, at), align=4) for start in starts[which]])
                if which == 0 or op == MAC
                else [None] * LANES
                for which in (0, 1)
            )
            value = builder.load(whole, align=4)
            if op == MAX:
                # NaN once a block: the steps then wait for one instruction each.
                nan = builder.fcmp_unordered("uno", value, a[0])
                for one, other in zip(a[1::2], [*a[2::2], a[1]], strict=True):
                    nan = builder.or_(nan, builder.fcmp_unordered("uno", one, other))
            for one, other in zip(a, b, strict=True):
                if op == MAC:
                    value = builder.fadd(value, builder.fmul(one, other))
                elif op == MAX:
                    value = builder.select(builder.fcmp_ordered(">", value, one), value, one)
                else:
                    value = _value(builder, op, one, value, True)
            if op == MAX:
                value = builder.select(nan, ir.Constant(_FLOATS, [float("nan")] * LANES), value)
            builder.store(value, whole, align=4)

        _counted(builder, function, builder.lshr(count, ir.Constant(_INDEX, LANES.bit_length() - 1)), block)
    total = [cgutils.alloca_once_value(builder, builder.load(as_kind(lane(values, i)), align=4)) for i in range(lanes)]

    def step(index):
        index = builder.add(index, done)
        a_offset, b_offset = builder.mul(index, a_step), builder.mul(index, b_step)
        for i in range(lanes):
            before = builder.load(total[i])
            a = builder.load(as_kind(builder.gep(starts[0][i], [a_offset])), align=4)
            if op == MAC:
                b = builder.load(as_kind(builder.gep(starts[1][i], [b_offset])), align=4)
                after = builder.fadd(before, builder.fmul(a, b))
            else:
                after = _value(builder, op, a, before, adjacent)
            builder.store(after, total[i])

    _counted(builder, function, builder.sub(count, done), step)
    for i in range(lanes):
        builder.store(builder.load(total[i]), as_kind(lane(values, i)), align=4)
    builder.ret_void()
    return function


@intrinsic
def chains(typingctx, key, values, a_at, b_at, count, a_step, b_step):
    """Take LANES sequences `count` steps on: value = op(a, value), or value + a b.

    key = op * 4 + APART, ADJACENT where the addresses of all lanes are adjacent, or SEQUENTIAL where every step is one
    element. `values` is the address of float32[LANES], `a_at` and `b_at` that of int64[LANES], the addresses of each
    lane's first operands; steps are in elements.
    """

    def codegen(context, builder, signature, args):
        tables = [builder.inttoptr(address, _INDEX.as_pointer()) for address in args[2:4]]
        functions = [
            (op * 4 + along, _chain_function(builder.module, op, along))
            for op in (ADD, MAX, MAC)
            for along in (APART, ADJACENT, SEQUENTIAL)
        ]
        _cases(builder, args[0], functions, [builder.inttoptr(args[1], _POINTER), *tables, *args[4:]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


__all__ = ["ADJACENT", "APART", "A_FIXED", "BOTH", "B_FIXED", "LANES", "SEQUENTIAL", "SPAN_OPS", "chains", "span"]
