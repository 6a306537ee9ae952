"""Load and mix 8-byte words; constants that all kernels share."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import make_array

U = np.uint64
# The multipliers of SplitMix64.
M1, M2 = U(0xBF58476D1CE4E5B9), U(0x94D049BB133111EB)
U0, U1, U2, U3, U4, _U5, U6, _U7, U8 = (U(i) for i in range(9))
U9, U12, U16, _U24, _U27, U30, _U31, U32, U40 = (U(i) for i in (9, 12, 16, 24, 27, 30, 31, 32, 40))
U255, IN_BUFFER = U(255), U((1 << 30) - 1)
_U48, U54, _U56, U58, U63, U64, LOW = U(48), U(54), U(56), U(58), U(63), U(64), U(0xFFFFFFFF)

# The place of the only bit of x is BIT_OF[(x * DE_BRUIJN) >> 58].
DE_BRUIJN = U(0x03F79D71B4CB0A89)
BIT_OF = np.zeros(64, np.int64)
for _i in range(64):
    BIT_OF[((int(DE_BRUIJN) << _i) & 0xFFFFFFFFFFFFFFFF) >> 58] = _i


@njit(nogil=True, cache=True)
def mix_word(x):
    """Hash a number to 64 bits, one to one (the finaliser of SplitMix64)."""
    x = (x ^ (x >> U30)) * M1
    x = (x ^ (x >> _U27)) * M2
    return x ^ (x >> _U31)


def high_word(a: Any, b: Any) -> np.uint64:
    """Return the upper half of the 128-bit product of two 64-bit numbers: one machine instruction."""
    return U((int(a) * int(b)) >> 64)


@type_callable(high_word)
def _high_type(context: Any) -> Any:
    return lambda a, b: types.uint64


@lower_builtin(high_word, types.uint64, types.uint64)
def _high_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    wide = ir.IntType(128)
    a, b = (builder.zext(argument, wide) for argument in arguments)
    return builder.trunc(builder.lshr(builder.mul(a, b), ir.Constant(wide, 64)), ir.IntType(64))


def prefetch_line(array: Any, at: Any) -> None:
    """Prefetch the cache line of an array's entry, which may be out of bounds."""


@type_callable(prefetch_line)
def _prefetch_type(context: Any) -> Any:
    return lambda array, at: types.void


@lower_builtin(prefetch_line, types.Array, types.uint64)
def _prefetch_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = make_array(signature.args[0])(context, builder, arguments[0]).data
    number = ir.IntType(32)
    place = builder.bitcast(builder.gep(data, [arguments[1]]), cgutils.voidptr_t)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    # To read (0), into all cache levels (3), as data (1).
    builder.call(prefetch, [place, number(0), number(3), number(1)])
    return context.get_dummy_value()


def byte_mask(array: Any, at: Any, byte: Any) -> np.uint64:
    """Compare 64 bytes of an array from `at` on with a byte; bit i is set where byte ``at + i`` equals it.

    Compiles to vector instructions. All 64 bytes must be in bounds, which is not checked.
    """
    return U(int.from_bytes(np.packbits(array[at : at + 64] == byte, bitorder="little").tobytes(), "little"))


@type_callable(byte_mask)
def _mask_type(context: Any) -> Any:
    return lambda array, at, byte: types.uint64


@lower_builtin(byte_mask, types.Array, types.int64, types.uint8)
def _mask_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array, at, byte = arguments
    data = make_array(signature.args[0])(context, builder, array).data
    vector = ir.VectorType(ir.IntType(8), 64)
    pointer = builder.bitcast(builder.gep(data, [at]), vector.as_pointer())
    block = builder.load(pointer, align=1)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), byte, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
    all_equal = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)
    return builder.bitcast(builder.icmp_unsigned("==", block, all_equal), ir.IntType(64))


def lowest_bit(word: Any) -> np.int64:
    """Return the place of the lowest bit of a number that is not 0: one machine instruction."""
    word = int(word)
    return np.int64((word & -word).bit_length() - 1)


@type_callable(lowest_bit)
def _lowest_type(context: Any) -> Any:
    return lambda word: types.int64


@lower_builtin(lowest_bit, types.uint64)
def _lowest_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))


@njit(nogil=True, cache=True, inline="always")
def load_word(memory, at):
    """Read eight bytes as a little-endian number; compiles to one load."""
    return (
        U(memory[at])
        | (U(memory[at + U1]) << U8)
        | (U(memory[at + U2]) << U16)
        | (U(memory[at + U3]) << _U24)
        | (U(memory[at + U4]) << U32)
        | (U(memory[at + _U5]) << U40)
        | (U(memory[at + U6]) << _U48)
        | (U(memory[at + _U7]) << _U56)
    )


@njit(nogil=True, cache=True, inline="always")
def next_period(bits):
    """Return the place of the lowest bit of a bitmap, and the bitmap without it."""
    return lowest_bit(bits), bits & (bits - U1)
