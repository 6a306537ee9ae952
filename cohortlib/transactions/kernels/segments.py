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
    EXACT,
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
        Whether the number of a user is the key. Else `slots` is a hash table, as in `UserTable`, of `keys` and `keys2`,
        and `users` has the user of each record.
    firsts, codes
        The instant of each user's first row (the day, above the time of detailed records), and the code of its segment.
    sums, words
        The sums of each user by period, and a bitmap of the periods with rows; zero between partitions.
    zeros
        The first period of each user who is added later, or −1.
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
        count = U1 << U(form.key_bits) if users.direct else _number_users(p, records, form, users)
        _find_first_rows(p, count, records, form, clock, users)
        if clock.own:
            _sum_by_age(p, records, form, clock, users)
        if _add_users(count, False, form, clock, users, sums) > 0:
            _find_later_rows(p, count, records, form, clock, users)
            _add_users(count, True, form, clock, users, sums)


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
def _number_users(p, records, form, users):
    """Assign numbers to the users of a partition, in order of appearance; return their number."""
    (edges, words), slots, keys, keys2, numbers = records, users.slots, users.keys, users.keys2, users.users
    wide, width = form.wide, width_of(form)
    key_mask, second = ~U0 if wide else (U1 << U(form.key_bits)) - U1, U1 if wide else U0
    mask = clear_slots(slots, partition_rows(edges, p))
    count, j = U0, U0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, p, b + 2, width)
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            key, key2 = words[i * width] & key_mask, words[i * width + second]
            slot, user = find_slot(slots, keys, keys2, mask, key, key2, wide)
            if user < 0:
                user = np.int32(count)
                slots[slot], keys[count], keys2[count] = user, key, key2
                count += U1
            numbers[j] = user
            j += U1
    return count


@njit(nogil=True, cache=True)
def _find_first_rows(p, count, records, form, clock, users):
    """Find the first row of positive units of each user of a partition.

    Unless the clock is their own, also sum their rows by period.
    """
    edges, words = records
    direct, numbers, firsts, codes, sums, bitmaps = (
        users.direct, users.users, users.firsts, users.codes, users.sums, users.words,
    )  # fmt: skip
    ranks, periods, origin, cut, own = clock.ranks, clock.periods, U(np.int64(clock.origin)), U(clock.cut), clock.own
    span, each, above, width = clock.span, U((clock.span + 63) >> 6), clock.above, width_of(form)
    detailed, code_bits, time_bits = form.code_bits > 0, U(form.code_bits), _time_bits(form)
    key_mask, code_mask = (U1 << U(form.key_bits)) - U1, (U1 << code_bits) - U1
    place, last = U2 if form.wide else U0, width - U1
    for u in range(count):
        firsts[u], codes[u] = _NONE, 0
    j = U0
    for b in range(edges.shape[1]):
        prefetch_block(edges, words, p, b + 2, width)
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            word = words[i * width + place]
            u = word & key_mask
            if not direct:
                u = U(numbers[j])
                j += U1
            day, x = _decode(form, word)
            day -= origin
            if day > cut or x <= above:
                continue
            if not own:
                t = periods[day]
                if t >= span:
                    continue
                sums[u * U(span) + U(t)] += x
                bitmaps[u * each + (U(t) >> U6)] |= U1 << (U(t) & U63)
            if x <= 0:
                continue
            if not detailed:
                firsts[u] = min(firsts[u], day)
                continue
            detail, before = words[i * width + last], firsts[u]
            first = (day << time_bits) | (detail >> code_bits)
            if first <= before:
                code = detail & code_mask
                if first < before or ranks[code] < ranks[codes[u]]:
                    firsts[u], codes[u] = first, np.uint32(code)


@njit(nogil=True, cache=True)
def _sum_by_age(p, records, form, clock, users):
    """Sum the rows of each user by age, from the user's first day on."""
    edges, words = records
    direct, numbers, firsts, sums, bitmaps = users.direct, users.users, users.firsts, users.sums, users.words
    key_mask = (U1 << U(form.key_bits)) - U1
    periods, origin, cut, above = clock.periods, U(np.int64(clock.origin)), U(clock.cut), clock.above
    span, each, width, time_bits = clock.span, U((clock.span + 63) >> 6), width_of(form), _time_bits(form)
    place = U2 if form.wide else U0
    j = U0
    for b in range(edges.shape[1]):
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            word = words[i * width + place]
            u = word & key_mask
            if not direct:
                u = U(numbers[j])
                j += U1
            day, x = _decode(form, word)
            day -= origin
            first = firsts[u] >> time_bits
            if x <= above or day > cut or day < first:
                continue
            t = periods[day - first]
            sums[u * U(span) + U(t)] += x
            bitmaps[u * each + (U(t) >> U6)] |= U1 << (U(t) & U63)


@njit(nogil=True, cache=True)
def _find_later_rows(p, count, records, form, clock, users):
    """Find the first row in their first period, of the users that `_add_users` has left for later."""
    edges, words = records
    direct, numbers, firsts, codes, zeros = users.direct, users.users, users.firsts, users.codes, users.zeros
    key_mask = (U1 << U(form.key_bits)) - U1
    ranks, periods, origin, cut = clock.ranks, clock.periods, U(np.int64(clock.origin)), U(clock.cut)
    detailed, code_bits, time_bits = form.code_bits > 0, U(form.code_bits), _time_bits(form)
    code_mask, width, place = (U1 << code_bits) - U1, width_of(form), U2 if form.wide else U0
    detail_place = place + U1 if detailed else place
    for u in range(count):
        if zeros[u] >= 0:
            firsts[u] = _NONE
    j = U0
    for b in range(edges.shape[1]):
        for i in range(U(edges[p, b]), U(edges[p + 1, b])):
            word = words[i * width + place]
            u = word & key_mask
            if not direct:
                u = U(numbers[j])
                j += U1
            day, x = _decode(form, word)
            day -= origin
            if zeros[u] < 0 or x <= 0 or day > cut or periods[day] != zeros[u]:
                continue
            first, code = day, np.uint32(0)
            if detailed:
                detail = words[i * width + detail_place]
                first, code = (day << time_bits) | (detail >> code_bits), np.uint32(detail & code_mask)
            if first < firsts[u] or (first == firsts[u] and ranks[code] < ranks[codes[u]]):
                firsts[u], codes[u] = first, code


@njit(nogil=True, cache=True)
def _add_users(count, later, form, clock, users, sums):
    """Add users to the sums over (segment, group, age), and clear theirs.

    Users whose first row is not in their first period are left for `later`, with that period in `zeros`; return their
    number.
    """
    firsts, codes, totals, bitmaps, zeros = users.firsts, users.codes, users.sums, users.words, users.zeros
    starts, sizes, amounts, cells = sums
    groups, ranks, periods, own, first_row = clock.groups, clock.ranks, clock.periods, clock.own, clock.first_row
    signed, exact, span = clock.signed, clock.retention == EXACT, clock.span
    each, time_bits, group_count = U((span + 63) >> 6), _time_bits(form), np.int64(starts.size - 1)
    left = 0
    for u in range(count):
        if later and zeros[u] < 0:
            continue
        zeros[u] = -1
        # ---- the first period
        w, bits, zero = U0, bitmaps[u * each], np.int64(-1)
        while zero < 0:
            if bits == U0:
                bitmaps[u * each + w] = U0
                w += U1
                if w == each:
                    break
                bits = bitmaps[u * each + w]
                continue
            bit, rest = next_period(bits)
            t = np.int64((w << U6) + U(bit))
            if own or totals[u * U(span) + U(t)] > 0:
                zero = t
            else:
                totals[u * U(span) + U(t)] = 0
                bits = rest
        if zero < 0:
            continue
        day = firsts[u] >> time_bits
        if first_row and not own and periods[day] != zero:
            zeros[u] = np.int32(zero)
            bitmaps[u * each + w] = bits
            left += 1
            continue
        # ---- the group
        group = groups[day] if first_row or own else groups[zero]
        until, base = np.int64(0), np.int64(0)
        if group >= 0:
            segment = np.int64(ranks[codes[u]])
            place = segment * group_count + group
            base = segment * starts[group_count] + starts[group] - zero
            until = zero + starts[group + 1] - starts[group]
            sizes[place] += 1
            amounts[place] += max(totals[u * U(span) + U(zero)], np.int64(0))
        # ---- the ages
        latest, run = np.int64(-1), zero
        while True:
            while bits != U0:
                bit, bits = next_period(bits)
                t = np.int64((w << U6) + U(bit))
                value = totals[u * U(span) + U(t)]
                totals[u * U(span) + U(t)] = 0
                if t < until and (value > 0 or (signed and value < 0)):
                    at = U2 * U(base + t)
                    cells[at] += np.int64(exact and value > 0)
                    cells[at + U1] += value
                    if not exact and value > 0:
                        latest = t
                        run += np.int64(run == t)
            bitmaps[u * each + w] = U0
            w += U1
            if w == each:
                break
            bits = bitmaps[u * each + w]
        if clock.retention == UNBOUNDED and latest >= 0:
            cells[U2 * U(base + latest)] += 1
        elif clock.retention == CONSECUTIVE and run > zero:
            cells[U2 * U(base + run - 1)] += 1
    return left


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
