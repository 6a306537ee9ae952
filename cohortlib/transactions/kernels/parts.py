"""Number the users of a partition and order their rows, for parts."""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.partition import (
    clear_slots,
    decode_record,
    find_slot,
    offsets_of,
    partition_rows,
    prefetch_block,
)
from cohortlib.engine.kernels.words import U0, U1, U40, U


@njit(nogil=True, cache=True)
def number_users(part, records, form, users, codes, sizes, firsts):
    """Assign numbers 0, 1, 2 … to the users of one partition of full records, and return how many there are.

    Users are numbered in order of appearance. `users` is a `UserTable`. Output: the number of each record's user
    (`codes`), and for each user the key, the count of records, and the first row.
    """
    (edges, words), (slots, keys, keys2) = records, users
    width, second, third, last = offsets_of(form)
    mask = clear_slots(slots, partition_rows(edges, part))
    count = U0
    filled = U0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, part, b + 2, width)
        for i in range(U(edges[part, b]), U(edges[part + 1, b])):
            at = i * width
            key, key2, _, _, row, _ = decode_record(
                form, words[at], words[at + second], words[at + third], words[at + last]
            )
            slot, code = find_slot(slots, keys, keys2, mask, key, key2, form.wide)
            if code < 0:
                code = np.int32(count)
                slots[slot], keys[count] = code, key
                if form.wide:
                    keys2[count] = key2
                sizes[count] = np.uint32(0)
                firsts[count] = row
                count += U1
            sizes[U(code)] += np.uint32(1)
            codes[filled] = code
            filled += U1
    return np.int64(count)


@njit(nogil=True, cache=True)
def scatter_by_user(part, records, form, codes, places, days, units, rows):
    """Write the records of one partition grouped by user: day, units, and row number.

    ``places[u]`` is where the first record of user u goes; it is advanced. A day has 24 bits, the top one its sign.
    """
    edges, words = records
    width, second, third, last = offsets_of(form)
    j = U0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, part, b + 2, width)
        for i in range(U(edges[part, b]), U(edges[part + 1, b])):
            at = i * width
            _, _, day, money, row, _ = decode_record(
                form, words[at], words[at + second], words[at + third], words[at + last]
            )
            code = U(codes[j])
            j += U1
            place = U(places[code])
            places[code] += 1
            days[place] = np.int32(np.int64(day << U40) >> np.int64(40))
            units[place] = money
            rows[place] = row


@njit(nogil=True, cache=True)
def order_of_ranges(ends, starts, sizes, order):
    """Write the row numbers of consecutive users to `order`, and return how many there are.

    User u has the ranges ``ends[u - 1]`` to ``ends[u]``; range s has ``sizes[s]`` rows from ``starts[s]`` on.
    """
    at = U0
    for s in range(U(ends[-1]) if ends.size else U0):
        first = starts[s]
        for i in range(sizes[s]):
            order[at] = np.uint32(first + i)
            at += U1
    return np.int64(at)
