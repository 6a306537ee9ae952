"""Encode values: find the code of each in a hash table."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import LOW, M2, U0, U1, U2, U12, U, mix_word


class CodeTable(NamedTuple):
    """The codes of values, 0 if there is none.

    Of values from `low` on that are not far apart, ``codes[value - low]``, and `values` is empty. Else it is a hash
    table, of 2 ** n slots, at least half empty.
    """

    low: int
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
    """Add values to a hash table, each once, with the codes from `first` on."""
    for i in range(values.size):
        slot = _slot_of(table.values, table.codes, values[i])
        table.values[slot] = values[i]
        table.codes[slot] = np.uint32(first + i)


@njit(nogil=True, cache=True)
def find_codes(table, values, out):
    """Write the code of each value; return whether all are in the table."""
    low, known, codes = table
    low, count, complete = U(np.int64(low)), U(codes.size), True
    if known.size > 0:
        for i in range(values.size):
            out[i] = codes[_slot_of(known, codes, values[i])]
            complete &= out[i] > 0
        return complete
    for i in range(values.size):
        at = U(values[i]) - low
        inside = at < count
        out[i] = codes[at if inside else U0]
        complete &= inside and out[i] > 0
    return complete


class TextTable(NamedTuple):
    """A hash table of the Arrow views of short texts, two words each; otherwise as a hash table in `CodeTable`."""

    heads: NDArray[np.uint64]
    tails: NDArray[np.uint64]
    codes: NDArray[np.uint32]


@njit(nogil=True, cache=True, forceinline=True)
def _text_slot(head, tail, mask):
    return mix_word(head ^ (tail * M2)) & mask


@njit(nogil=True, cache=True)
def add_text_codes(table, views, added):
    """Add texts of up to 12 bytes, each once, with the codes `added`."""
    mask = U(table.codes.size - 1)
    for i in range(added.size):
        slot = _text_slot(views[2 * i], views[2 * i + 1], mask)
        while table.codes[slot] > 0:
            slot = (slot + U1) & mask
        table.heads[slot], table.tails[slot], table.codes[slot] = views[2 * i], views[2 * i + 1], added[i]


@njit(nogil=True, cache=True)
def find_text_codes(table, views, out):
    """Write the code of each text; 0 for those that are longer or not in the table. Returns whether there are none."""
    heads, tails, codes = table
    mask, complete = U(codes.size - 1), True
    for i in range(U(out.size)):
        head, tail = views[U2 * i], views[U2 * i + U1]
        slot = _text_slot(head, tail, mask)
        while codes[slot] > 0 and not (heads[slot] == head and tails[slot] == tail):
            slot = (slot + U1) & mask
        code = codes[slot] if head & LOW <= U12 else np.uint32(0)
        out[i] = code
        complete &= code > 0
    return complete
