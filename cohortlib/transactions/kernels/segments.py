"""Net the users of packed records, and add them to sums over (segment, cohort, age), partition by partition."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.partition import clear_slots, find_slot, partition_rows, prefetch_block, width_of
from cohortlib.engine.kernels.words import U0, U1, U2, U6, U63, U64, U, next_period
from cohortlib.transactions.kernels.general import (
    ACTIVE,
    AMOUNT,
    CONSECUTIVE,
    LAST,
    LAST_FIRST,
    LAST_TOTAL,
    OVER,
    UNBOUNDED,
)

_NONE = ~U0  # as the first row of a user without one


class Clock(NamedTuple):
    """How days count, from that of the record with day `origin`; the days after day `cut` do not count.

    With an `own` clock, ``periods[d]`` is the age of a day that is d days after the user's first day; else the period
    of day d. Periods from `span` on do not count, nor do rows whose units are not greater than `above`. The users of a
    group are of one cohort and observed at the same ages: it is ``groups[d]`` for those with `first_row` on day d, else
    that of their first period; −1 if they are not shown. `ranks` are those of the codes of segments.
    """

    origin: int
    cut: int
    own: bool
    first_row: bool
    span: int
    above: int
    signed: bool
    retention: int
    periods: NDArray[np.int32]
    groups: NDArray[np.int32]
    ranks: NDArray[np.uint32]


class SegmentUsers(NamedTuple):
    """Buffers for the users of a partition.

    Attributes
    ----------
    direct
        Whether `slots` has the number of each key, from 0 to ``2 ** key_bits - 1``; else it is a hash table, as in
        `UserTable`, of `keys` and `keys2`.
    users
        The user of each record.
    firsts, codes
        The instant of each user's first row (the day, above the time of detailed records), and the code of its segment.
    sums, words
        The sums of each user by period, and a bitmap of the periods with rows; zero between partitions.
    zeros
        The first period of each user with a sum above 0, or −1.
    """

    direct: bool
    slots: NDArray[np.int32]
    keys: NDArray[np.uint64]
    keys2: NDArray[np.uint64]
    users: NDArray[np.int32]
    firsts: NDArray[np.uint64]
    codes: NDArray[np.uint32]
    sums: NDArray[np.int64]
    words: NDArray[np.uint64]
    zeros: NDArray[np.int32]


class SegmentSums(NamedTuple):
    """Sums over segments and groups, and over their ages.

    Group g has ``starts[g + 1] - starts[g]`` ages. With G groups, those of segment s are at ``s * G`` in `sizes` and
    `firsts`, and at ``2 * s * starts[G]`` in `cells`, two entries for each age: active users, and their amount.
    """

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    firsts: NDArray[np.int64]
    cells: NDArray[np.int64]


@njit(nogil=True, cache=True)
def add_segments(part, end, records, form, clock, users, sums):
    """Add the users of the partitions from `part` to before `end`.

    Parameters
    ----------
    records, form
        `RecordArrays` of packed records, and their `Form`.
    clock, users, sums
        `Clock`, `SegmentUsers` with room for the largest partition, and `SegmentSums`.
    """
    for p in range(part, end):
        count = _find_first_rows(p, records, form, clock, users)
        _sum_by_period(p, records, form, clock, users)
        if not clock.own and _find_first_periods(count, form, clock, users):
            _correct_first_rows(p, count, records, form, clock, users)
        _add(count, form, clock, users, sums)


@njit(nogil=True, cache=True, forceinline=True)
def _decode(form, word):
    """Return the day and the units of a packed record."""
    day = (word >> U(form.key_bits)) & ((U1 << U(form.day_bits)) - U1)
    return day, np.int64(word) >> np.int64(form.key_bits + form.day_bits)


@njit(nogil=True, cache=True, forceinline=True)
def _time_bits(form):
    """Return the bits of the time in a detail."""
    return U64 - U(form.code_bits) if form.code_bits > 0 else U0


@njit(nogil=True, cache=True)
def _find_first_rows(p, records, form, clock, users):
    """Assign numbers to the users of a partition, and find their first rows of positive units; return their number."""
    edges, words = records
    direct, slots, keys, keys2, numbers, firsts, codes = (
        users.direct, users.slots, users.keys, users.keys2, users.users, users.firsts, users.codes,
    )  # fmt: skip
    ranks, origin, cut, wide = clock.ranks, U(np.int64(clock.origin)), U(clock.cut), form.wide
    detailed, code_bits, time_bits = form.code_bits > 0, U(form.code_bits), _time_bits(form)
    code_mask = (U1 << code_bits) - U1
    key_mask, width = ~U0 if wide else (U1 << U(form.key_bits)) - U1, width_of(form)
    second, place = U1 if wide else U0, U2 if wide else U0
    detail_place = place + U1 if detailed else place
    mask = U0
    if direct:
        for key in range(key_mask + U1):
            slots[key] = -1
    else:
        mask = clear_slots(slots, partition_rows(edges, p))
    count = U0
    j = U0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, p, b + 2, width)
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            at = i * width
            key, key2 = words[at] & key_mask, words[at + second]
            slot = key
            if direct:
                user = slots[key]
            else:
                slot, user = find_slot(slots, keys, keys2, mask, key, key2, wide)
            if user < 0:
                user = np.int32(count)
                slots[slot] = user
                firsts[count], codes[count] = _NONE, 0
                if not direct:
                    keys[count], keys2[count] = key, key2
                count += U1
            numbers[j] = user
            j += U1
            day, x = _decode(form, words[at + place])
            day -= origin
            if x <= 0 or day > cut:
                continue
            u = U(user)
            if detailed:
                detail = words[at + detail_place]
                first = (day << time_bits) | (detail >> code_bits)
                if first <= firsts[u]:
                    code = detail & code_mask
                    if first < firsts[u] or ranks[code] < ranks[codes[u]]:
                        firsts[u], codes[u] = first, np.uint32(code)
            else:
                firsts[u] = min(firsts[u], day)
    return count


@njit(nogil=True, cache=True)
def _sum_by_period(p, records, form, clock, users):
    """Sum the rows of each user by period."""
    edges, words = records
    numbers, firsts, sums, bitmaps = users.users, users.firsts, users.sums, users.words
    periods, origin, cut, own, above = clock.periods, U(np.int64(clock.origin)), U(clock.cut), clock.own, clock.above
    span, each, width, time_bits = clock.span, U((clock.span + 63) >> 6), width_of(form), _time_bits(form)
    place = U2 if form.wide else U0
    j = U0
    for b in range(edges.shape[1]):
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            user = U(numbers[j])
            j += U1
            day, x = _decode(form, words[i * width + place])
            day -= origin
            if x <= above or day > cut:
                continue
            if own:
                first = firsts[user] >> time_bits
                if day < first:
                    continue
                day -= first
            t = periods[day]
            if t >= span:
                continue
            sums[user * U(span) + U(t)] += x
            bitmaps[user * each + (U(t) >> U6)] |= U1 << (U(t) & U63)


@njit(nogil=True, cache=True)
def _find_first_periods(count, form, clock, users):
    """Find the first period of each user; return whether the first row of some users is in an earlier one."""
    firsts, sums, bitmaps, zeros = users.firsts, users.sums, users.words, users.zeros
    periods, span, each, time_bits = clock.periods, clock.span, U((clock.span + 63) >> 6), _time_bits(form)
    earlier = False
    for u in range(count):
        zero = np.int32(-1)
        for w in range(each):
            bits = bitmaps[u * each + w]
            while bits != U0 and zero < 0:
                bit, bits = next_period(bits)
                t = (w << U6) + U(bit)
                if sums[u * U(span) + t] > 0:
                    zero = np.int32(t)
        zeros[u] = zero
        if clock.first_row and zero >= 0 and periods[firsts[u] >> time_bits] != zero:
            firsts[u] = _NONE
            earlier = True
    return earlier


@njit(nogil=True, cache=True)
def _correct_first_rows(p, count, records, form, clock, users):
    """Find the first row in the first period, for the users whose first row is in an earlier one."""
    edges, words = records
    numbers, firsts, codes, zeros = users.users, users.firsts, users.codes, users.zeros
    ranks, periods, origin, cut = clock.ranks, clock.periods, U(np.int64(clock.origin)), U(clock.cut)
    detailed, code_bits, time_bits = form.code_bits > 0, U(form.code_bits), _time_bits(form)
    code_mask, width, place = (U1 << code_bits) - U1, width_of(form), U2 if form.wide else U0
    for u in range(count):
        if firsts[u] == _NONE and zeros[u] >= 0:
            zeros[u] = -2 - zeros[u]
    j = U0
    for b in range(edges.shape[1]):
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            u = U(numbers[j])
            j += U1
            if zeros[u] >= -1:
                continue
            day, x = _decode(form, words[i * width + place])
            day -= origin
            if x <= 0 or day > cut or periods[day] != -2 - zeros[u]:
                continue
            first, code = day, np.uint32(0)
            if detailed:
                detail = words[i * width + place + U1]
                first, code = (day << time_bits) | (detail >> code_bits), np.uint32(detail & code_mask)
            if first < firsts[u] or (first == firsts[u] and ranks[code] < ranks[codes[u]]):
                firsts[u], codes[u] = first, code
    for u in range(count):
        if zeros[u] < -1:
            zeros[u] = -2 - zeros[u]


@njit(nogil=True, cache=True)
def _add(count, form, clock, users, sums):
    """Add users to the sums over (segment, group, age), and clear theirs."""
    firsts, codes, totals, bitmaps, zeros = users.firsts, users.codes, users.sums, users.words, users.zeros
    starts, sizes, amounts, cells = sums
    groups, ranks, own, signed, span = clock.groups, clock.ranks, clock.own, clock.signed, clock.span
    each, time_bits = U((span + 63) >> 6), _time_bits(form)
    exact = clock.retention not in (UNBOUNDED, CONSECUTIVE)
    group_count = starts.size - 1
    for u in range(count):
        zero, group = np.int64(-1), np.int32(-1)
        if own:
            if firsts[u] != _NONE:
                zero, group = np.int64(0), groups[firsts[u] >> time_bits]
        elif zeros[u] >= 0:
            zero = np.int64(zeros[u])
            group = groups[firsts[u] >> time_bits] if clock.first_row else groups[zero]
        shown = group >= 0
        base, until, segment = np.int64(0), np.int64(0), np.int64(0)
        if shown:
            segment = np.int64(ranks[codes[u]])
            base = segment * starts[group_count] + starts[group] - zero
            until = zero + starts[group + 1] - starts[group]
            sizes[segment * group_count + group] += 1
        latest, run = np.int64(-1), zero
        for w in range(each):
            bits = bitmaps[u * each + w]
            bitmaps[u * each + w] = U0
            while bits != U0:
                bit, bits = next_period(bits)
                t = np.int64((w << U6) + U(bit))
                value = totals[u * U(span) + U(t)]
                totals[u * U(span) + U(t)] = 0
                if not shown or t < zero:
                    continue
                if t == zero:
                    amounts[segment * group_count + group] += max(value, np.int64(0))
                if t >= until or (value <= 0 and not signed):
                    continue
                at = U2 * U(base + t)
                cells[at + U1] += value
                if value > 0:
                    cells[at] += np.int64(exact)
                    latest = t
                    run += np.int64(run == t)
        if shown and clock.retention == UNBOUNDED and latest >= 0:
            cells[U2 * U(base + latest)] += 1
        elif shown and clock.retention == CONSECUTIVE and run > zero:
            cells[U2 * U(base + run - 1)] += 1


@njit(nogil=True, cache=True)
def spread_groups(keys, offsets, lasts, overs, sums, entries):
    """Add the sums over groups to the entries of the general table's cells (see ``kernels.general``).

    Parameters
    ----------
    keys
        The numbers ``s * G + g`` of segments and groups with users.
    offsets
        Where the cells of each one's segment and cohort begin.
    lasts, overs
        The last age at which each group is observed, and the last that is over, or −1.
    """
    starts, sizes, firsts, cells = sums
    groups = starts.size - 1
    for k in range(keys.size):
        segment, group = keys[k] // groups, keys[k] % groups
        total = np.int64(0)
        for age in range(starts[group + 1] - starts[group]):
            cell = 2 * (segment * starts[groups] + starts[group] + age)
            entries[offsets[k] + age, ACTIVE] += cells[cell]
            entries[offsets[k] + age, AMOUNT] += cells[cell + 1]
            total += cells[cell + 1]
        if lasts[group] >= 0:
            entries[offsets[k] + lasts[group], LAST] += sizes[keys[k]]
            entries[offsets[k] + lasts[group], LAST_FIRST] += firsts[keys[k]]
            entries[offsets[k] + lasts[group], LAST_TOTAL] += total
        if overs[group] >= 0:
            entries[offsets[k] + overs[group], OVER] += sizes[keys[k]]
