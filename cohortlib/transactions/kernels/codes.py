"""Encode values: find the code of each in a hash table."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import U1, U, mix_word


class CodeTable(NamedTuple):
    """A hash table of values; the code in a slot is 0 if there is none. It has 2 ** n slots, at least half empty."""

    values: NDArray[np.int64]
    codes: NDArray[np.uint32]


@njit(nogil=True, cache=True)
def _slot_of(values, codes, value):
    """Find the slot of a value, or the empty one where it belongs."""
    mask = U(codes.size - 1)
    slot = mix_word(U(value)) & mask
    while codes[slot] > 0 and values[slot] != value:
        slot = (slot + U1) & mask
    return slot


@njit(nogil=True, cache=True)
def add_codes(table, values, first):
    """Add values, each once, with the codes from `first` on."""
    for i in range(values.size):
        slot = _slot_of(table.values, table.codes, values[i])
        table.values[slot] = values[i]
        table.codes[slot] = np.uint32(first + i)


@njit(nogil=True, cache=True)
def find_codes(table, values, nulls, out):
    """Write the code of each value, 0 for nulls; `nulls` is empty if there are none.

    Returns the number of rows up to the first value that is not in the table.
    """
    known, codes = table
    for i in range(values.size):
        if nulls.size > 0 and nulls[i]:
            out[i] = 0
            continue
        code = codes[_slot_of(known, codes, values[i])]
        if code == 0:
            return np.int64(i)
        out[i] = code
    return np.int64(values.size)
