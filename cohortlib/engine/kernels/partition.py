"""Partition rows by key."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.words import LOW, U0, U1, U2, U3, U4, U32, U63, U64, U

# A full record is three words, or four where the key of a user takes two: the key, the units, the tag, the second key.
# The tag has the lower 24 bits of the local day, then this flag, and the number of the row in its upper half. A packed
# record has key, day and units in one word, from below; where a key takes two words, they stand before it.
JOINED = U(1 << 24)
DAY_MASK = U((1 << 24) - 1)
PAGE = 32  # records
PAGE_WORD = U(PAGE)


@njit(nogil=True, cache=True)
def order(first, keys, bits, starts, from_row):
    """Order the rows of one block by the top `bits` of their key, stable.

    Row ``from_row[j]`` of the block comes to position ``first + j``, and partition p of the block to positions
    ``starts[p]`` to ``starts[p + 1]``. `from_row` has room for every row.
    """
    shift = U63 - U(bits)
    cursor = np.zeros(starts.size, np.int64)
    for i in range(keys.size):
        cursor[(keys[i] >> U1) >> shift] += 1
    place = np.int64(0)
    for p in range(starts.size):
        starts[p] = first + place
        cursor[p], place = place, place + cursor[p]
    for i in range(keys.size):
        p = (keys[i] >> U1) >> shift
        from_row[U(cursor[p])] = i
        cursor[p] += 1


@njit(nogil=True, cache=True)
def deal(
    row, at, keys, keys2, units, days, flag, bits, packed, key_bits, day_bits, first_day,
    desk, filled, page, end, owners, records,
):  # fmt: skip
    """Make records of rows, and deal them to pages of `PAGE` records, each of one partition.

    The partition is told by the top `bits` of the key. `desk` has an open page for each partition, with ``filled[p]``
    records; a full one is copied to the next page of `records`, from `page` to before `end`, and ``owners[page]`` tells
    its partition. So memory is written front to back, which is the fastest way.

    If `packed`, `key_bits` bits of a key follow those of the partition (0 where it takes two words), and days count
    from `first_day` and have `day_bits` bits; units that do not fit the others become several records. Else each record
    has the `flag`, and a number: that of row 0 of the block is `row`.

    Row `at` of the block is the first that is dealt. Returns where it ended, as there were no rows or no pages left:
    the next row, the next page; and the sums of the high and the low 32 bits of |units|. `units` are used up.
    """
    wide = keys2.size > 0
    width = (U3 if wide else U1) if packed else (U4 if wide else U3)
    shift = U63 - U(bits)
    below = U(key_bits) + U(day_bits)
    most = np.int64(~U0 >> (below + U1)) if packed else np.int64(~U0 >> U1)
    high = U0
    low = U0
    at = U(at)
    page = U(page)
    while at < U(keys.size) and page < U(end):
        key = keys[at]
        p = (key >> U1) >> shift
        count = U(filled[p])
        place = (p * PAGE_WORD + count) * width
        left = units[at]
        x = min(max(left, -most), most)
        if packed:
            word = U(days[at] - first_day)
            if wide:
                desk[place] = key
                desk[place + U1] = keys2[at]
                place += U2
            else:
                word = (word << U(key_bits)) | ((key << U(bits)) >> (U64 - U(key_bits)))
            desk[place] = word | (U(x) << below)
        else:
            desk[place] = key
            desk[place + U1] = U(x)
            desk[place + U2] = (U(days[at]) & DAY_MASK) | flag | ((U(row) + at) << U32)
            if wide:
                desk[place + U3] = keys2[at]
        magnitude = U(x) if x >= 0 else U0 - U(x)
        high += magnitude >> U32
        low += magnitude & LOW
        count += U1
        if count == PAGE_WORD:
            count = U0
            to = page * PAGE_WORD * width
            place = p * PAGE_WORD * width
            for i in range(PAGE_WORD * width):
                records[to + i] = desk[place + i]
            owners[page] = np.int16(p)
            page += U1
        filled[p] = np.uint8(count)
        if x == left:
            at += U1
        else:
            units[at] = left - x
    return np.int64(at), np.int64(page), high, low
