"""Load and mix 8-byte words; constants that all kernels share."""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.intrinsics import (
    byte_mask,
    high_word,
    load_word,
    lowest_bit,
    multiply_add,
    prefetch_line,
)

__all__ = ["byte_mask", "high_word", "load_word", "lowest_bit", "multiply_add", "prefetch_line"]

U = np.uint64
# The multipliers of SplitMix64.
M1, M2 = U(0xBF58476D1CE4E5B9), U(0x94D049BB133111EB)
U0, U1, U2, U3, U4, _U5, U6, _U7, U8 = (U(i) for i in range(9))
U9, U12, U16, _U24, _U27, U30, _U31, U32, U40 = (U(i) for i in (9, 12, 16, 24, 27, 30, 31, 32, 40))
U255, IN_BUFFER = U(255), U((1 << 30) - 1)
_U48, U54, _U56, U63, U64, LOW = U(48), U(54), U(56), U(63), U(64), U(0xFFFFFFFF)


@njit(nogil=True, cache=True)
def mix_word(x):
    """Hash a number to 64 bits, one to one (the finaliser of SplitMix64)."""
    x = (x ^ (x >> U30)) * M1
    x = (x ^ (x >> _U27)) * M2
    return x ^ (x >> _U31)


@njit(nogil=True, cache=True, inline="always")
def next_period(bits):
    """Return the place of the lowest bit of a bitmap, and the bitmap without it."""
    return lowest_bit(bits), bits & (bits - U1)
