"""Partition rows by key."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.words import LOW, U0, U1, U2, U3, U4, U32, U63, U64, U

# A full record has three words, or four if a user's key has two: the key, the units, the tag, the second key. The lower
# 24 bits of the tag are the local day, the next bit is the flag JOINED, and the upper half is the number of the row.
# A packed record is one word, from its lowest bits: key, day, units. If keys have two words, these come before it.
JOINED = U(1 << 24)
DAY_MASK = U((1 << 24) - 1)
PAGE = 32  # records
PAGE_WORD = U(PAGE)


@njit(nogil=True, cache=True)
def partition_order(first, keys, bits, starts, from_row):
    """Order the rows of one block by the top `bits` of their keys; the order is stable.

    Row ``from_row[j]`` of the block goes to position ``first + j``, and partition p of the block takes positions
    ``starts[p]`` to ``starts[p + 1]``. `from_row` has room for every row.
    """
    shift = U63 - U(bits)
    cursor = np.zeros(starts.size, np.int64)
    for i in range(keys.size):
        cursor[(keys[i] >> U1) >> shift] += 1
    position = np.int64(0)
    for p in range(starts.size):
        starts[p] = first + position
        cursor[p], position = position, position + cursor[p]
    for i in range(keys.size):
        p = (keys[i] >> U1) >> shift
        from_row[U(cursor[p])] = i
        cursor[p] += 1


@njit(nogil=True, cache=True)
def write_records(
    row, at, keys, keys2, units, days, flag, bits, packed, key_bits, day_bits, first_day,
    buffers, filled, page, end, page_partitions, records,
):  # fmt: skip
    """Write rows as records to pages of `PAGE` records, each page of one partition.

    The partition is the top `bits` of the key. `buffers` has an open page for each partition, with ``filled[p]``
    records. A full page is copied to the next free page of `records`, from `page` to before `end`, and its partition
    to `page_partitions`. So `records` is written front to back, the fastest way to write memory.

    If `packed`, the `key_bits` bits of the key after those of the partition are stored (0 if keys have two words), and
    the day counts from `first_day` in `day_bits` bits. The other bits hold the units; if these do not fit, the row
    becomes several records. Otherwise each record has the `flag` and the number of its row, counted from `row` for the
    first row of the block.

    Starts with row `at` of the block, and stops when rows or pages run out. Returns the next row, the next page, and
    the sums of the high and the low 32 bits of |units|. Overwrites `units`.
    """
    wide = keys2.size > 0
    width = (U3 if wide else U1) if packed else (U4 if wide else U3)
    shift = U63 - U(bits)
    units_shift = U(key_bits) + U(day_bits)
    most = np.int64(~U0 >> (units_shift + U1)) if packed else np.int64(~U0 >> U1)
    high = U0
    low = U0
    at = U(at)
    page = U(page)
    while at < U(keys.size) and page < U(end):
        key = keys[at]
        p = (key >> U1) >> shift
        count = U(filled[p])
        place = (p * PAGE_WORD + count) * width
        rest = units[at]
        x = min(max(rest, -most), most)
        if packed:
            word = U(days[at] - first_day)
            if wide:
                buffers[place] = key
                buffers[place + U1] = keys2[at]
                place += U2
            else:
                word = (word << U(key_bits)) | ((key << U(bits)) >> (U64 - U(key_bits)))
            buffers[place] = word | (U(x) << units_shift)
        else:
            buffers[place] = key
            buffers[place + U1] = U(x)
            buffers[place + U2] = (U(days[at]) & DAY_MASK) | flag | ((U(row) + at) << U32)
            if wide:
                buffers[place + U3] = keys2[at]
        magnitude = U(x) if x >= 0 else U0 - U(x)
        high += magnitude >> U32
        low += magnitude & LOW
        count += U1
        if count == PAGE_WORD:
            count = U0
            to = page * PAGE_WORD * width
            place = p * PAGE_WORD * width
            for i in range(PAGE_WORD * width):
                records[to + i] = buffers[place + i]
            page_partitions[page] = np.int16(p)
            page += U1
        filled[p] = np.uint8(count)
        if x == rest:
            at += U1
        else:
            units[at] = rest - x
    return np.int64(at), np.int64(page), high, low
