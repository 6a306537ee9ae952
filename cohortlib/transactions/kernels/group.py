"""Group the records of a partition by user."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.partition import DAY_MASK, JOINED, partition_rows, prefetch_block, width_of
from cohortlib.engine.kernels.words import U0, U1, U2, U3, U32, U
from cohortlib.transactions.kernels.counters import CONFLICT_ROW, CONFLICTS


@njit(nogil=True, cache=True)
def group_by_user(
    part, end, records, form, table, origin, span, last, above, short,
    slots, codes, row_periods, row_units, users, users2, row, joined, ends, periods, units, sums, words, tally,
):  # fmt: skip
    """Group the rows of each user, for a range of partitions, and return the number of users.

    Parameters
    ----------
    part, end
        The partitions from `part` to before `end`.
    records, form
        `RecordArrays` and their `Form`. Blocks of joined users come first.
    table, origin, span
        ``table[day - origin]`` is the period of a day, counted from 0; the grid has `span` periods, and days may lie
        after it. The days of packed records and their origin count from the first day of the layout.
    last, above
        Skip rows later than the period `last`, and rows whose units are not greater than `above`.
    short
        Add each row to the sums of its user at once, for spans up to 64. Else write the rows grouped by user.
    slots
        Buffer for a hash table: 2 ** n entries, at least twice as many as a partition has rows.
    codes, row_periods, row_units
        Buffers for the rows of one partition; unused if `short`.
    users, users2, row, joined, ends
        Output for each user: the key, the least row number, the joined cohort (or −1), and the end of the user's rows.
    periods, units
        Output for each row, grouped by user, unless `short`; with room for the rows of all partitions.
    sums, words
        If `short`, zeros on entry. Added for each user: the units of each period, and a bitmap of periods with rows.
    tally
        int64[COUNTERS]; CONFLICTS and CONFLICT_ROW are updated.
    """
    packed, wide = form.packed, form.wide
    words_of, width = records.words, width_of(form)
    day_mask = (U1 << U(form.day_bits)) - U1 if packed else DAY_MASK
    key_bits = U(form.key_bits)
    key_mask = (U1 << key_bits) - U1
    below = key_bits + U(form.day_bits)
    count = U0
    filled = np.int64(0)
    key2 = U0
    for p in range(part, end):
        rows = partition_rows(records, p)
        mask = U1
        while mask < U(2 * rows):
            mask <<= U1
        for at in range(mask):
            slots[at] = -1
        mask -= U1

        # Number users 0, 1, 2 … in order of appearance; joined users come first.
        begin = count
        kept = U0
        for b in range(records.edges.shape[1]):
            prefetch_block(records, p, b + 2, width)
            for i in range(U(records.edges[p, b]), U(records.edges[p + 1, b])):
                at = i * width
                key = words_of[at]
                own = True
                number = np.uint32(0)
                if packed:
                    word = key
                    if wide:
                        key2 = words_of[at + U1]
                        word = words_of[at + U2]
                    else:
                        key &= key_mask
                    day = word >> key_bits
                    money = np.int64(word) >> np.int64(below)
                else:
                    money = np.int64(words_of[at + U1])
                    day = words_of[at + U2]
                    own = day & JOINED == U0
                    number = np.uint32(day >> U32)
                    if wide:
                        key2 = words_of[at + U3]
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
                    joined[count] = np.int32(-1) if own else t
                    ends[count] = 0
                    count += U1
                elif not own and joined[U(code)] != t:
                    tally[CONFLICTS] += 1
                    if tally[CONFLICT_ROW] == 0 or row[U(code)] < tally[CONFLICT_ROW]:
                        tally[CONFLICT_ROW] = np.int64(row[U(code)]) + 1
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
            # A counting sort by user; a partition fits in the cache.
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
def gather_grouped(
    user, until, range_ends, starts, sizes, joined_cohorts, mask, days, money, table, origin, span, last, above, short,
    row, joined, ends, periods, units, sums, words,
):  # fmt: skip
    """Gather rows that are already grouped by user, with the output of `group_by_user`; return the number of users.

    Parameters
    ----------
    user, until
        The users from `user` to before `until`.
    range_ends, starts, sizes
        The rows of user u are the ranges ``range_ends[u - 1]`` to ``range_ends[u]``; range s has ``sizes[s]`` rows from
        ``starts[s]`` on.
    joined_cohorts
        The joined cohort of each user, or −1; empty without a joined table.
    mask
        Mask of the rows to use; empty for all.
    days, money
        Day and units of each row.
    table, origin, span, last, above, short, row, joined, ends, periods, units, sums, words
        As for `group_by_user`; ``table[day - origin]`` exists for the days of all rows in the mask. `row` is the number
        of the user.
    """
    count = U0
    filled = U0
    for u in range(U(user), U(until)):
        row[count] = np.uint32(u)
        joined[count] = joined_cohorts[u] if joined_cohorts.size > 0 else np.int32(-1)
        for s in range(U(range_ends[u - U1]) if u > U0 else U0, U(range_ends[u])):
            first = U(starts[s])
            for i in range(first, first + U(sizes[s])):
                if mask.size > 0 and not mask[i]:  # its day may lie outside of the table
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
