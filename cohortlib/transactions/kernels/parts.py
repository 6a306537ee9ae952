"""Find users of partitions and order their rows, for parts on disk."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.partition import PAGE_WORD
from cohortlib.engine.kernels.words import U0, U1, U2, U3, U4, U32, U40, U


@njit(nogil=True, cache=True)
def name_users(part, edges, pages, counts, records, wide, slots, codes, users, users2, sizes, firsts):
    """Give the users of one partition of full records codes 0, 1, 2 … in order of appearance.

    `edges` to `wide` and `slots` are as for `bring_together`. Written are the code of each record, in order, and for
    each user the key, the number of records, and the number of the first row. Returns the number of users.
    """
    width = U4 if wide else U3
    rows = np.int64(0)
    for j in range(edges[part], edges[part + 1]):
        rows += counts[pages[j]]
    mask = U1
    while mask < U(2 * rows):
        mask <<= U1
    for at in range(mask):
        slots[at] = -1
    mask -= U1
    count = U0
    filled = U0
    key2 = U0
    for j in range(edges[part], edges[part + 1]):
        page = U(pages[j])
        for i in range(page * PAGE_WORD, page * PAGE_WORD + U(counts[page])):
            at = i * width
            key = records[at]
            if wide:
                key2 = records[at + U3]
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
                firsts[count] = np.uint32(records[at + U2] >> U32)
                count += U1
            sizes[U(code)] += np.uint32(1)
            codes[filled] = code
            filled += U1
    return np.int64(count)


@njit(nogil=True, cache=True)
def put_together(part, edges, pages, counts, records, wide, codes, places, days, units, rows):
    """Write the records of one partition user by user: day, units, and the number of the row.

    `places` has for each user, by code, where its first record goes; it is used up. `days` have 24 bits and a sign.
    """
    width = U4 if wide else U3
    j = U0
    for k in range(edges[part], edges[part + 1]):
        page = U(pages[k])
        for i in range(page * PAGE_WORD, page * PAGE_WORD + U(counts[page])):
            at = i * width
            code = U(codes[j])
            j += U1
            place = U(places[code])
            places[code] += 1
            tag = records[at + U2]
            days[place] = np.int32(np.int64(tag << U40) >> np.int64(40))
            units[place] = np.int64(records[at + U1])
            rows[place] = np.uint32(tag >> U32)


@njit(nogil=True, cache=True)
def lay_together(ends, starts, sizes, order):
    """Order rows by their users, of whom user u has the stretches ``ends[u - 1]`` to ``ends[u]``.

    Stretch s has ``sizes[s]`` rows from ``starts[s]`` on. `order` has room for the numbers of all rows. Returns how
    many there are.
    """
    at = U0
    for s in range(U(ends[-1]) if ends.size else U0):
        first = starts[s]
        for i in range(sizes[s]):
            order[at] = np.uint32(first + i)
            at += U1
    return np.int64(at)
