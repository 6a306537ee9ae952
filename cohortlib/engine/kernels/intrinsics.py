"""Functions that compile to one or a few machine instructions; their Python code says what they do."""

import sys
from functools import cache
from typing import Any

import numpy as np

U = np.uint64


def high_word(a: Any, b: Any) -> np.uint64:
    """Return the upper half of the 128-bit product of two 64-bit numbers: one machine instruction."""
    return U((int(a) * int(b)) >> 64)


def multiply_add(high: Any, low: Any, a: Any, b: Any) -> tuple[np.uint64, np.uint64]:
    """Add the 128-bit product of two 64-bit numbers to a sum of two words, which wraps."""
    total = (int(high) << 64) + int(low) + int(a) * int(b)
    return U(total >> 64 & 0xFFFFFFFFFFFFFFFF), U(total & 0xFFFFFFFFFFFFFFFF)


def prefetch_line(array: Any, at: Any) -> None:
    """Prefetch the cache line of an array's entry, which may be out of bounds."""


def byte_mask(array: Any, at: Any, byte: Any) -> np.uint64:
    """Compare 64 bytes of an array from `at` on with a byte; bit i is set where byte ``at + i`` equals it.

    Compiles to vector instructions. All 64 bytes must be in bounds, which is not checked.
    """
    return U(int.from_bytes(np.packbits(array[at : at + 64] == byte, bitorder="little").tobytes(), "little"))


def load_word(array: Any, at: Any) -> np.uint64:
    """Read eight bytes of an array as a little-endian number: one load. That they are in bounds is not checked."""
    return U(int.from_bytes(array[at : at + U(8)].tobytes(), "little"))


def lowest_bit(word: Any) -> np.int64:
    """Return the place of the lowest bit of a number that is not 0: one machine instruction."""
    word = int(word)
    return np.int64((word & -word).bit_length() - 1)


@cache
def register() -> None:
    """Register the types and the machine code with numba, before the first kernel is compiled."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import lower_builtin, type_callable
    from numba.np.arrayobj import make_array

    @type_callable(high_word)
    def high_type(context: Any) -> Any:
        return lambda a, b: types.uint64

    @lower_builtin(high_word, types.uint64, types.uint64)
    def high_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        a, b = (builder.zext(argument, wide) for argument in arguments)
        return builder.trunc(builder.lshr(builder.mul(a, b), ir.Constant(wide, 64)), ir.IntType(64))

    @type_callable(multiply_add)
    def sum_type(context: Any) -> Any:
        return lambda high, low, a, b: types.UniTuple(types.uint64, 2)

    @lower_builtin(multiply_add, types.uint64, types.uint64, types.uint64, types.uint64)
    def sum_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, word = ir.IntType(128), ir.Constant(ir.IntType(128), 64)
        high, low, a, b = (builder.zext(argument, wide) for argument in arguments)
        total = builder.add(builder.or_(builder.shl(high, word), low), builder.mul(a, b))
        words = builder.trunc(builder.lshr(total, word), ir.IntType(64)), builder.trunc(total, ir.IntType(64))
        return context.make_tuple(builder, signature.return_type, words)

    @type_callable(prefetch_line)
    def prefetch_type(context: Any) -> Any:
        return lambda array, at: types.void

    @lower_builtin(prefetch_line, types.Array, types.uint64)
    def prefetch_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        number = ir.IntType(32)
        place = builder.bitcast(builder.gep(data, [arguments[1]]), cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # To read (0), into all cache levels (3), as data (1).
        builder.call(prefetch, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    @type_callable(load_word)
    def load_type(context: Any) -> Any:
        return lambda array, at: types.uint64

    @lower_builtin(load_word, types.Array, types.uint64)
    @lower_builtin(load_word, types.Array, types.int64)
    def load_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        word = builder.load(pointer, align=1)
        return word if sys.byteorder == "little" else builder.bswap(word)

    @type_callable(byte_mask)
    def mask_type(context: Any) -> Any:
        return lambda array, at, byte: types.uint64

    @lower_builtin(byte_mask, types.Array, types.int64, types.uint8)
    def mask_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, byte = arguments
        data = make_array(signature.args[0])(context, builder, array).data
        vector = ir.VectorType(ir.IntType(8), 64)
        pointer = builder.bitcast(builder.gep(data, [at]), vector.as_pointer())
        block = builder.load(pointer, align=1)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), byte, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
        all_equal = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)
        return builder.bitcast(builder.icmp_unsigned("==", block, all_equal), ir.IntType(64))

    @type_callable(lowest_bit)
    def lowest_type(context: Any) -> Any:
        return lambda word: types.int64

    @lower_builtin(lowest_bit, types.uint64)
    def lowest_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))
