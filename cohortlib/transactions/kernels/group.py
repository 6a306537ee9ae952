"""Group the records of a partition by user."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.partition import DAY_MASK, JOINED, PAGE_WORD
from cohortlib.engine.kernels.words import U0, U1, U2, U3, U4, U8, U32, U, prefetch_line


@njit(nogil=True, cache=True)
def bring_together(
    part, end, edges, pages, counts, records, wide, packed, key_bits, day_bits, table, origin, span, last, above, short,
    slots, codes, row_periods, row_units, users, users2, row, given, ends, periods, units, sums, words, tally,
):  # fmt: skip
    """Bring the rows of each user together, for some partitions.

    Parameters
    ----------
    part, end
        The partitions from `part` to before `end`.
    edges, pages, counts, records, wide, packed, key_bits, day_bits
        Of `Records`: partition p has the pages ``pages[edges[p]]`` to ``pages[edges[p + 1]]``, the first of them those
        of joined users; page k has ``counts[k]`` records, of the form that `deal` gave them.
    table, origin, span
        ``table[day - origin]`` is the period of a day, from 0 on; there are `span` periods, and later ones. The days of
        packed records count from their first day, and so does the origin.
    last, above
        Rows later than the period `last` are left out, and those whose units are not greater than `above`.
    short
        Add each row to the sums of its user at once, for spans up to 64. Else put the rows of each user side by side.
    slots
        Room for a hash table: 2 ** n entries, at least twice as many as a partition has rows.
    codes, row_periods, row_units
        Room for the rows of one partition, unless `short`.
    users, users2, row, given, ends
        Written for each user: the key, the least number of a row, the cohort given from outside (or −1), and where the
        user's rows end.
    periods, units
        Written for each row, user after user, unless `short`; there is room for the rows of all partitions.
    sums, words
        If `short`, zeros: added to, for each user, are the units of every period and the bits of the periods with rows.
    tally
        int64[7], see `net`. Added to: [2], rows that give a user another cohort; [6] is one more than the least row of
        such a user, or 0.

    Returns
    -------
    int
        The number of users.
    """
    width = (U3 if wide else U1) if packed else (U4 if wide else U3)
    day_mask = (U1 << U(day_bits)) - U1 if packed else DAY_MASK
    key_mask = (U1 << U(key_bits)) - U1
    below = U(key_bits) + U(day_bits)
    count = U0
    filled = np.int64(0)
    key2 = U0
    for p in range(part, end):
        rows = np.int64(0)
        for j in range(edges[p], edges[p + 1]):
            rows += counts[pages[j]]
        mask = U1
        while mask < U(2 * rows):
            mask <<= U1
        for at in range(mask):
            slots[at] = -1
        mask -= U1

        # Users become codes 0, 1, 2 … in order of appearance; those given a cohort come first.
        begin = count
        kept = U0
        for j in range(edges[p], edges[p + 1]):
            page = U(pages[j])
            # The page after the next is far from here: without asking ahead, its first lines would be waited for.
            ahead = U(pages[min(j + 2, pages.size - 1)]) * PAGE_WORD * width
            for at in range(U0, PAGE_WORD * width, U8):
                prefetch_line(records, ahead + at)
            for i in range(page * PAGE_WORD, page * PAGE_WORD + U(counts[page])):
                at = i * width
                key = records[at]
                own = True
                number = np.uint32(0)
                if packed:
                    word = key
                    if wide:
                        key2 = records[at + U1]
                        word = records[at + U2]
                    else:
                        key &= key_mask
                    day = word >> U(key_bits)
                    money = np.int64(word) >> np.int64(below)
                else:
                    money = np.int64(records[at + U1])
                    day = records[at + U2]
                    own = day & JOINED == U0
                    number = np.uint32(day >> U32)
                    if wide:
                        key2 = records[at + U3]
                t = table[((day & day_mask) - U(origin)) & DAY_MASK]
                if own and (t > last or money <= above):
                    continue
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
                    row[count] = number
                    given[count] = np.int32(-1) if own else t
                    ends[count] = 0
                    count += U1
                elif not own and given[U(code)] != t:
                    tally[2] += 1
                    if tally[6] == 0 or row[U(code)] < tally[6]:
                        tally[6] = np.int64(row[U(code)]) + 1
                if own and short:
                    sums[U(code) * U(span) + U(t)] += money
                    words[U(code)] |= U1 << U(t)
                elif own:
                    codes[kept] = code
                    row_periods[kept] = t
                    row_units[kept] = money
                    ends[U(code)] += 1
                    kept += U1

        if not short:
            # A counting sort, within the partition and so in the cache.
            for u in range(begin, count):
                ends[u], filled = filled, filled + ends[u]
            for j in range(kept):
                u = U(codes[j])
                at = U(ends[u])
                ends[u] += 1
                periods[at] = row_periods[j]
                units[at] = row_units[j]
    return np.int64(count)


@njit(nogil=True, cache=True)
def side_by_side(
    user, until, stretches, starts, sizes, of_users, kept, days, money, table, origin, span, last, above, short,
    row, given, ends, periods, units, sums, words,
):  # fmt: skip
    """Put the rows of users whose rows stand together already side by side, as `bring_together` does.

    Parameters
    ----------
    user, until
        The users from `user` to before `until`.
    stretches, starts, sizes
        The rows of user u are the stretches ``stretches[u - 1]`` to ``stretches[u]``; stretch s has ``sizes[s]`` rows
        from ``starts[s]`` on.
    of_users
        The period of the cohort that each user is given from outside, or −1; empty where nobody is given one.
    kept
        Which rows count; empty where all do.
    days, money
        Of each row.
    table, origin, span, last, above, short, row, given, ends, periods, units, sums, words
        As for `bring_together`; ``table[day - origin]`` is there for the days of all rows that count. `row` is the
        number of the user.

    Returns
    -------
    int
        The number of users.
    """
    count = U0
    filled = U0
    for u in range(U(user), U(until)):
        row[count] = np.uint32(u)
        given[count] = of_users[u] if of_users.size > 0 else np.int32(-1)
        for s in range(U(stretches[u - U1]) if u > U0 else U0, U(stretches[u])):
            first = U(starts[s])
            for i in range(first, first + U(sizes[s])):
                if kept.size > 0 and not kept[i]:  # nor is its day in the table
                    continue
                t = table[U(np.int64(days[i]) - origin)]
                x = money[i]
                if t > last or x <= above:
                    continue
                if short:
                    sums[count * U(span) + U(t)] += x
                    words[count] |= U1 << U(t)
                else:
                    periods[filled] = t
                    units[filled] = x
                    filled += U1
        ends[count] = np.int64(filled)
        count += U1
    return np.int64(count)
