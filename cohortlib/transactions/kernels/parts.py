"""Number the users of a partition and order their rows, for parts."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.partition import partition_rows, prefetch_block, width_of
from cohortlib.engine.kernels.words import U0, U1, U2, U3, U32, U40, U


@njit(nogil=True, cache=True)
def number_users(part, records, form, slots, codes, users, users2, sizes, firsts):
    """Assign numbers 0, 1, 2 … to the users of one partition of full records, and return how many there are.

    Users are numbered in order of appearance. `records`, `form` and `slots` are as for `group_by_user`. Output: the
    number of each record's user (`codes`), and for each user the key, the count of records, and the first row.
    """
    wide, width, words = form.wide, width_of(form), records.words
    rows = partition_rows(records, part)
    mask = U1
    while mask < U(2 * rows):
        mask <<= U1
    for at in range(mask):
        slots[at] = -1
    mask -= U1
    count = U0
    filled = U0
    key2 = U0
    for b in range(records.edges.shape[1]):
        prefetch_block(records, part, b + 2, width)
        for i in range(U(records.edges[part, b]), U(records.edges[part + 1, b])):
            at = i * width
            key = words[at]
            if wide:
                key2 = words[at + U3]
            slot = key & mask
            code = slots[slot]
            while code >= 0 and not (users[U(code)] == key and (not wide or users2[U(code)] == key2)):
                slot = (slot + U1) & mask
                code = slots[slot]
            if code < 0:
                code = np.int32(count)
                slots[slot] = code
                users[count] = key
                if wide:
                    users2[count] = key2
                sizes[count] = np.uint32(0)
                firsts[count] = np.uint32(words[at + U2] >> U32)
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
    width, words = width_of(form), records.words
    j = U0
    for b in range(records.edges.shape[1]):
        prefetch_block(records, part, b + 2, width)
        for i in range(U(records.edges[part, b]), U(records.edges[part + 1, b])):
            at = i * width
            code = U(codes[j])
            j += U1
            place = U(places[code])
            places[code] += 1
            tag = words[at + U2]
            days[place] = np.int32(np.int64(tag << U40) >> np.int64(40))
            units[place] = np.int64(words[at + U1])
            rows[place] = np.uint32(tag >> U32)


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
