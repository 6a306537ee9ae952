"""Net the users of packed records and add them up, one partition after the other, while it is in the cache."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.partition import clear_slots, find_slot, partition_rows, prefetch_block, width_of
from cohortlib.engine.kernels.words import U0, U1, U2, U6, U63, U64, U, next_period, prefetch_line

_AHEAD = U(32)  # cells being prefetched at a time
_FEW = U(32)  # rows of a user that are sorted; more rows are summed by period


class PartitionUsers(NamedTuple):
    """Buffers for the users of a partition.

    Attributes
    ----------
    direct
        Whether `slots` has the number of each key, from 0 to ``2 ** key_bits - 1``; else it is a hash table, as in
        `UserTable`, of `keys` and `keys2`.
    indexed
        If `direct` and `short`: whether `sums` and `words` have one row for each key instead of each user, and `slots`
        has the keys of users. Takes a fifth less time, as long as the sums fit into the cache.
    short
        Whether `sums` and `words` have one row for each user, and one bit for each period. Else they are for one user
        at a time. They are zero between partitions.
    ends, codes, rows
        Unless `short`: the end of each user's rows, the user of each record, and the rows by user.
    periods, units
        Unless `short`: the periods of one user, in order, and their sums.
    """

    direct: bool
    indexed: bool
    short: bool
    slots: NDArray[np.int32]
    keys: NDArray[np.uint64]
    keys2: NDArray[np.uint64]
    sums: NDArray[np.int64]
    words: NDArray[np.uint64]
    ends: NDArray[np.int64]
    codes: NDArray[np.int32]
    rows: NDArray[np.uint64]
    periods: NDArray[np.int64]
    units: NDArray[np.int64]


@njit(nogil=True, cache=True)
def add_users(part, end, records, form, timeline, signed, users, sums):
    """Net the users of a range of partitions, and add them to the sums; otherwise as `group_by_user` and `net`.

    Parameters
    ----------
    part, end
        The partitions from `part` to before `end`.
    records, form
        `RecordArrays` of packed records, and their `Form`.
    timeline, signed
        The `Timeline`, and the rule of `NetRules`.
    users
        `PartitionUsers`, with room for the largest partition.
    sums
        `SumArrays`.
    """
    for p in range(part, end):
        if users.short:
            if users.indexed:
                count = _sum_by_index(p, records, form, timeline, users)
            elif users.direct:
                count = _sum_by_key(p, records, form, timeline, users)
            else:
                count = _sum_by_hash(p, records, form, timeline, users)
            _add_sums(count, timeline.span, signed, users, sums)
        else:
            count = (
                _number_by_key(p, records, form, users) if users.direct else _number_by_hash(p, records, form, users)
            )
            _sort_rows(p, count, records, form, timeline, users)
            _add_rows(count, form, signed, users, sums)


@njit(nogil=True, cache=True, forceinline=True)
def _decode(form, word):
    """Return the day and the units of a packed record."""
    day = (word >> U(form.key_bits)) & ((U1 << U(form.day_bits)) - U1)
    return day, np.int64(word) >> np.int64(form.key_bits + form.day_bits)


@njit(nogil=True, cache=True)
def _sum_by_index(p, records, form, timeline, users):
    """Sum the rows of each key by period, and write the keys that have rows to `slots`; return their number."""
    (edges, words), slots, sums, bitmaps = records, users.slots, users.sums, users.words
    (periods, _, span, above), origin = timeline, U(np.int64(timeline.origin))
    key_mask = (U1 << U(form.key_bits)) - U1
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, p, b + 2, U1)
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            word = words[i]
            day, x = _decode(form, word)
            t = periods[day - origin]
            if t >= span or x <= above:
                continue
            sums[(word & key_mask) * U(span) + U(t)] += x
            bitmaps[word & key_mask] |= U1 << U(t)
    count = U0
    for key in range(key_mask + U1):
        # Without a branch: whether a key has rows cannot be predicted.
        slots[count] = np.int32(key)
        count += U(bitmaps[key] != U0)
    return count


@njit(nogil=True, cache=True)
def _sum_by_key(p, records, form, timeline, users):
    """Sum the rows of each user by period, where a key is the index of its user; return the number of users."""
    (edges, words), slots, sums, bitmaps = records, users.slots, users.sums, users.words
    (periods, _, span, above), origin = timeline, U(np.int64(timeline.origin))
    key_mask = (U1 << U(form.key_bits)) - U1
    for key in range(key_mask + U1):
        slots[key] = -1
    count = U0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, p, b + 2, U1)
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            word = words[i]
            day, x = _decode(form, word)
            t = periods[day - origin]
            if t >= span or x <= above:
                continue
            code = slots[word & key_mask]
            if code < 0:
                code = np.int32(count)
                slots[word & key_mask] = code
                count += U1
            sums[U(code) * U(span) + U(t)] += x
            bitmaps[U(code)] |= U1 << U(t)
    return count


@njit(nogil=True, cache=True)
def _sum_by_hash(p, records, form, timeline, users):
    """Sum the rows of each user by period; return the number of users."""
    (edges, words), sums, bitmaps = records, users.sums, users.words
    slots, keys, keys2, wide = users.slots, users.keys, users.keys2, form.wide
    (periods, _, span, above), origin = timeline, U(np.int64(timeline.origin))
    key_mask, width = ~U0 if wide else (U1 << U(form.key_bits)) - U1, width_of(form)
    second, last = min(U1, width - U1), width - U1
    mask = clear_slots(slots, partition_rows(edges, p))
    count = U0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, p, b + 2, width)
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            at = i * width
            day, x = _decode(form, words[at + last])
            t = periods[day - origin]
            if t >= span or x <= above:
                continue
            key, key2 = words[at] & key_mask, words[at + second]
            slot, code = find_slot(slots, keys, keys2, mask, key, key2, wide)
            if code < 0:
                code = np.int32(count)
                slots[slot], keys[count], keys2[count] = code, key, key2
                count += U1
            sums[U(code) * U(span) + U(t)] += x
            bitmaps[U(code)] |= U1 << U(t)
    return count


@njit(nogil=True, cache=True)
def _add_sums(count, span, signed, users, sums):
    """Add users to the sums over (cohort, age), from their sums by period."""
    totals, bitmaps = users.sums, users.words
    offsets, size, cells, firsts = sums
    slots, indexed = users.slots, users.indexed
    for k in range(count):
        u = U(slots[k]) if indexed else U(k)
        bits = bitmaps[u]
        bitmaps[u] = U0
        starts, counts, base = True, False, np.int64(0)
        while bits != U0:
            t, bits = next_period(bits)
            value = totals[u * U(span) + U(t)]
            totals[u * U(span) + U(t)] = 0
            if starts:
                if value <= 0:
                    continue
                starts = False
                size[U(t)] += 1
                base = offsets[U(t)] - t
                counts = offsets[U(t)] >= 0
                firsts[U(t)] += value if counts else np.int64(0)
            if counts and (value > 0 or (signed and value < 0)):
                at = U2 * U(base + t)
                cells[at] += np.int64(value > 0)
                cells[at + U1] += value


@njit(nogil=True, cache=True)
def _number_by_key(p, records, form, users):
    """Count the rows of each key; return the number of keys."""
    (edges, words), ends = records, users.ends
    key_mask = (U1 << U(form.key_bits)) - U1
    for key in range(key_mask + U1):
        ends[key] = 0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, p, b + 2, U1)
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            ends[words[i] & key_mask] += 1
    return key_mask + U1


@njit(nogil=True, cache=True)
def _number_by_hash(p, records, form, users):
    """Assign numbers to users in order of appearance, and count their rows; return the number of users."""
    (edges, words), ends, codes = records, users.ends, users.codes
    slots, keys, keys2, wide = users.slots, users.keys, users.keys2, form.wide
    key_mask, width = ~U0 if wide else (U1 << U(form.key_bits)) - U1, width_of(form)
    second = min(U1, width - U1)
    mask = clear_slots(slots, partition_rows(edges, p))
    count = U0
    j = U0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, p, b + 2, width)
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            key, key2 = words[i * width] & key_mask, words[i * width + second]
            slot, code = find_slot(slots, keys, keys2, mask, key, key2, wide)
            if code < 0:
                code = np.int32(count)
                slots[slot], keys[count], keys2[count], ends[count] = code, key, key2, 0
                count += U1
            ends[U(code)] += 1
            codes[j] = code
            j += U1
    return count


@njit(nogil=True, cache=True)
def _sort_rows(p, count, records, form, timeline, users):
    """Write the rows of a partition by user: the period above the units. Rows that do not count have no units."""
    (edges, words), ends, codes, rows, direct = records, users.ends, users.codes, users.rows, users.direct
    (periods, _, span, above), origin = timeline, U(np.int64(timeline.origin))
    key_mask, width = (U1 << U(form.key_bits)) - U1, width_of(form)
    last, shift = width - U1, U(form.key_bits + form.day_bits)
    filled = np.int64(0)
    for u in range(count):
        ends[u], filled = filled, filled + ends[u]
    j = U0
    for b in range(edges.shape[1]):
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            word = words[i * width + last]
            user = word & key_mask
            if not direct:
                user = U(codes[j])
                j += U1
            day, x = _decode(form, word)
            t = periods[day - origin]
            row = (U(t) << (U64 - shift)) | (word >> shift)
            if t >= span or x <= above:
                row = U0
            rows[U(ends[user])] = row
            ends[user] += 1


@njit(nogil=True, cache=True)
def _add_rows(count, form, signed, users, sums):
    """Add users to the sums over (cohort, age), from their rows."""
    ends, rows, periods, units, totals, bitmaps = (
        users.ends, users.rows, users.periods, users.units, users.sums, users.words,
    )  # fmt: skip
    offsets, size, cells, firsts = sums
    # Cells of many periods do not fit the cache: prefetch each one, and add to it _AHEAD cells later.
    places, values = np.zeros(_AHEAD, np.uint64), np.zeros(_AHEAD, np.int64)
    shift = U(form.key_bits + form.day_bits)
    met = U0
    begin = U0
    for u in range(count):
        end = U(ends[u])
        if end - begin <= _FEW:
            netted = _net_few(rows, begin, end, shift, periods, units)
        else:
            netted = _net_many(rows, begin, end, shift, totals, bitmaps, periods, units)
        begin = end
        starts, base = True, np.int64(0)
        for k in range(netted):
            t, value = periods[k], units[k]
            if starts:
                if value <= 0:
                    continue
                starts = False
                size[U(t)] += 1
                if offsets[U(t)] < 0:
                    break
                base = offsets[U(t)] - t
                firsts[U(t)] += value
            if value > 0 or (signed and value < 0):
                at = U2 * U(base + t)
                prefetch_line(cells, at)
                turn = met % _AHEAD
                met += U1
                at, places[turn] = places[turn], at
                value, values[turn] = values[turn], value
                if met > _AHEAD:
                    cells[at] += np.int64(value > 0)
                    cells[at + U1] += value
    for turn in range(min(met, _AHEAD)):
        cells[places[turn]] += np.int64(values[turn] > 0)
        cells[places[turn] + U1] += values[turn]


@njit(nogil=True, cache=True)
def _net_few(rows, begin, end, shift, periods, units):
    """Net the rows of a user by sorting them, most often they are in order; return the number of periods."""
    for i in range(begin + U1, end):
        row = rows[i]
        j = i
        while j > begin and rows[j - U1] > row:
            rows[j] = rows[j - U1]
            j -= U1
        rows[j] = row
    netted = U0
    for i in range(begin, end):
        t, x = np.int64(rows[i] >> (U64 - shift)), np.int64(rows[i] << shift) >> np.int64(shift)
        if netted > U0 and periods[netted - U1] == t:
            units[netted - U1] += x
        else:
            periods[netted], units[netted] = t, x
            netted += U1
    return netted


@njit(nogil=True, cache=True)
def _net_many(rows, begin, end, shift, totals, bitmaps, periods, units):
    """Net the rows of a user by summing them by period; return the number of periods."""
    first, last = U(bitmaps.size), U0
    for i in range(begin, end):
        t = rows[i] >> (U64 - shift)
        totals[t] += np.int64(rows[i] << shift) >> np.int64(shift)
        bitmaps[t >> U6] |= U1 << (t & U63)
        first, last = min(first, t >> U6), max(last, t >> U6)
    netted = U0
    for w in range(first, last + U1):
        bits = bitmaps[w]
        bitmaps[w] = U0
        while bits != U0:
            place, bits = next_period(bits)
            t = (w << U6) + U(place)
            periods[netted], units[netted] = np.int64(t), totals[t]
            totals[t] = 0
            netted += U1
    return netted
