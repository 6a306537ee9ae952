"""Partition rows by key."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import U0, U1, U2, U3, U4, U8, U32, U63, U64, U, prefetch_line

# A full record has three words, or four if a user's key has two: the key, the units, the tag, the second key. The lower
# 24 bits of the tag are the local day, the next bit is the flag JOINED, and the upper half is the number of the row.
# A packed record is one word, from its lowest bits: key, day, units. If keys have two words, these come before it. A
# detailed one has one more word, from its lowest bits: the code of a segment, and the time since the day before.
JOINED = U(1 << 24)
DAY_MASK = U((1 << 24) - 1)


NO_DETAILS = np.empty(0, np.uint64)


class Form(NamedTuple):
    """The form of records: packed or full, the words of a key, and the bits and origins of packed fields.

    A packed record stores the `key_bits` bits of the key that follow those of the partition (0 if keys have two words),
    and the day from `first_day` on in `day_bits` bits. It is detailed if there are `code_bits`.
    """

    partition_bits: int
    packed: bool
    wide: bool
    key_bits: int = 0
    day_bits: int = 0
    first_day: int = 0
    code_bits: int = 0

    @property
    def width(self) -> int:
        """The words of a record."""
        if self.packed:
            return (3 if self.wide else 1) + (self.code_bits > 0)
        return 4 if self.wide else 3


class Block(NamedTuple):
    """The rows of a block: keys (the second word is empty unless keys are wide), units, local days, and details."""

    keys: NDArray[np.uint64]
    keys2: NDArray[np.uint64]
    units: NDArray[np.int64]
    days: NDArray[np.int32]
    details: NDArray[np.uint64] = NO_DETAILS


@njit(nogil=True, cache=True, inline="always")
def partition_of(key, bits):
    """Return the partition of a key: its top bits."""
    return (key >> U1) >> (U63 - U(bits))


@njit(nogil=True, cache=True)
def count_keys(keys, bits, counts):
    """Count the keys of a block by partition."""
    counts[:] = 0
    for i in range(U(keys.size)):
        counts[partition_of(keys[i], bits)] += 1


@njit(nogil=True, cache=True)
def write_numbers(keys, bits, begins, numbers):
    """Write the number of each row to its partition; the next row of partition p is written at ``begins[p]``."""
    for i in range(U(keys.size)):
        p = partition_of(keys[i], bits)
        numbers[begins[p]] = np.uint32(i)
        begins[p] += 1


@njit(nogil=True, cache=True)
def copy_partitions(starts, first, last, width, source, target):
    """Copy the rows of partitions `first` to `last` (exclusive), block after block of each partition."""
    at = U0
    for p in range(first, last):
        for b in range(starts.shape[1]):
            for i in range(U(starts[p, b] * width), U(starts[p + 1, b] * width)):
                target[at] = source[i]
                at += U1


@njit(nogil=True, cache=True, inline="always")
def width_of(form):
    """Return the words of a record."""
    if form.packed:
        return (U3 if form.wide else U1) + (U1 if form.code_bits > 0 else U0)
    return U4 if form.wide else U3


@njit(nogil=True, cache=True, inline="always")
def most_units(form):
    """Return the most units that fit into one record."""
    if form.packed:
        return np.int64(~U0 >> (U(form.key_bits) + U(form.day_bits) + U1))
    return np.int64(~U0 >> U1)


@njit(nogil=True, cache=True)
def count_records(block, form, counts):
    """Count the records of a block by partition, and return their number; rows of many units need several."""
    shift = U63 - U(form.partition_bits)
    most = most_units(form)
    counts[:] = 0
    extra = np.int64(0)
    for i in range(block.keys.size):
        p = (block.keys[i] >> U1) >> shift
        counts[p] += 1
        x = block.units[i]
        if x > most or x < -most:
            more = np.int64(((U(x) if x > 0 else U0 - U(x)) - U1) // U(most))
            counts[p] += more
            extra += more
    return block.keys.size + extra


@njit(nogil=True, cache=True)
def write_narrow(block, form, begins, words):
    """Write the rows of a block as packed records of one word, none of which is split; otherwise as `write_records`.

    Most tables of integer ids take this loop, and it is twice as fast.
    """
    shift = U63 - U(form.partition_bits)
    key_bits, bits = U(form.key_bits), U(form.partition_bits)
    unused = U64 - key_bits
    units_shift = key_bits + U(form.day_bits)
    first = U(np.int64(form.first_day))  # as plain Python, U refuses negative integers
    for i in range(block.keys.size):
        key = block.keys[i]
        p = (key >> U1) >> shift
        at = begins[p]
        begins[p] = at + 1
        day = U(block.days[i]) - first
        words[U(at)] = (U(block.units[i]) << units_shift) | (day << key_bits) | ((key << bits) >> unused)


@njit(nogil=True, cache=True)
def write_records(block, form, row, flag, begins, words):
    """Write the rows of a block as records, each to its partition.

    The next record of partition p is written at ``begins[p]``, which advances. There must be room for as many as
    `count_records` has counted: a row whose units do not fit into one packed record becomes several. A full record has
    the `flag` and the number of its row, counted from `row` for the first row of the block.
    """
    width = width_of(form)
    shift = U63 - U(form.partition_bits)
    key_bits, bits = U(form.key_bits), U(form.partition_bits)
    most = most_units(form)
    for i in range(U(block.keys.size)):
        key = block.keys[i]
        p = (key >> U1) >> shift
        rest = block.units[i]
        while True:
            x = min(max(rest, -most), most)
            at = U(begins[p]) * width
            begins[p] += 1
            if form.packed:
                word = U(block.days[i] - form.first_day)
                if form.wide:
                    words[at] = key
                    words[at + U1] = block.keys2[i]
                    at += U2
                else:
                    word = (word << key_bits) | ((key << bits) >> (U64 - key_bits))
                words[at] = word | (U(x) << (key_bits + U(form.day_bits)))
                if form.code_bits > 0:
                    words[at + U1] = block.details[i]
            else:
                words[at] = key
                words[at + U1] = U(x)
                words[at + U2] = (U(block.days[i]) & DAY_MASK) | flag | ((U(row) + i) << U32)
                if form.wide:
                    words[at + U3] = block.keys2[i]
            if x == rest:
                break
            rest -= x


class RecordArrays(NamedTuple):
    """Records by partition: block b has those of partition p at ``edges[p, b]`` to ``edges[p + 1, b]`` of `words`."""

    edges: NDArray[np.int64]
    words: NDArray[np.uint64]


class UserTable(NamedTuple):
    """A hash table of the users of a partition.

    User c has the key ``keys[c]``, with the second word ``keys2[c]`` if keys are wide. `slots` has the number of the
    user in each slot, or −1: 2 ** n entries, at least twice as many as a partition has rows.
    """

    slots: NDArray[np.int32]
    keys: NDArray[np.uint64]
    keys2: NDArray[np.uint64]


# In the loops over records, fields of a NamedTuple and arguments of `inline="always"` cost a reference count for each
# record. So kernels take arrays out of their tuples first, and what they share is compiled apart and inlined by LLVM.


@njit(nogil=True, cache=True, forceinline=True)
def clear_slots(slots, rows):
    """Empty the slots that a partition of some rows needs; return the mask of hashes."""
    mask = U1
    while mask < U(2 * rows):
        mask <<= U1
    for at in range(mask):
        slots[at] = -1
    return mask - U1


@njit(nogil=True, cache=True, forceinline=True)
def find_slot(slots, keys, keys2, mask, key, key2, wide):
    """Find the slot of a user in a `UserTable`, and the user's number; the number is negative for a new user."""
    slot = key & mask
    code = slots[slot]
    while code >= 0 and not (keys[U(code)] == key and (not wide or keys2[U(code)] == key2)):
        slot = (slot + U1) & mask
        code = slots[slot]
    return slot, code


@njit(nogil=True, cache=True, forceinline=True)
def offsets_of(form):
    """Return the words of a record, and the offsets of its second, third and last word, which a short record lacks."""
    width = width_of(form)
    return width, min(U1, width - U1), min(U2, width - U1), width - U1


@njit(nogil=True, cache=True, forceinline=True)
def decode_record(form, first, second, third, last):
    """Decode a record from its words; in a short record several of them are the same.

    Returns both words of the key, the day as it is stored, the units, the row, and whether the record is JOINED.
    """
    if form.packed:
        key = first if form.wide else first & ((U1 << U(form.key_bits)) - U1)
        day = (last >> U(form.key_bits)) & ((U1 << U(form.day_bits)) - U1)
        units = np.int64(last) >> np.int64(form.key_bits + form.day_bits)
        return key, second, day, units, np.uint32(0), False
    return first, last, third & DAY_MASK, np.int64(second), np.uint32(third >> U32), third & JOINED != U0


@njit(nogil=True, cache=True, forceinline=True)
def partition_rows(edges, part):
    """Count the records of a partition."""
    rows = np.int64(0)
    for b in range(edges.shape[1]):
        rows += edges[part + 1, b] - edges[part, b]
    return rows


@njit(nogil=True, cache=True, inline="always")
def prefetch_block(edges, words, part, b, width):
    """Prefetch the first records that a block has of a partition: they are far from those of the block before."""
    at = U(edges[part, min(b, edges.shape[1] - 1)]) * width
    for ahead in range(U0, U32, U8):
        prefetch_line(words, at + ahead)
