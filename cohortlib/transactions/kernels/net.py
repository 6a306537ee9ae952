"""Net the rows of each user by period, and add users up."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.words import BIT_OF, DE_BRUIJN, U0, U1, U2, U6, U58, U63, U, prefetch_line
from cohortlib.transactions.kernels.counters import EARLY, EARLY_ROW, LATE, LISTED, UNLISTED

_AHEAD = 32  # cells being prefetched at a time
_FAR = U(512)  # periods; from here on the cells take two megabytes, more than the cache


@njit(nogil=True, cache=True)
def net(
    count, row, joined, ends, periods, units, span, short, signed, clip, tally, sums, words,
    offsets, size, cells, firsts, cohort, start, period, active, amount,
):  # fmt: skip
    """Net the rows of each user to one amount per period, in order; add the users up, or write them out.

    Parameters
    ----------
    count, row, joined, ends, periods, units, short
        The output of `group_by_user`. `row` is overwritten, for the users that have a cohort.
    span
        Number of periods; those of all rows are less.
    signed
        Keep nets that are not positive, after the start of the cohort, as inactive cells.
    clip
        Add active amounts before a joined cohort to its first period; else skip them.
    tally
        int64[COUNTERS]; EARLY, LATE, UNLISTED, LISTED and EARLY_ROW are updated.
    sums, words
        If `short`, the output of `group_by_user`. Else zeros: one sum per period, one word per 64 periods. All zero
        again on return.
    offsets, size, cells, firsts
        As for `histogram`: users are added to these sums and not written; none may have a joined cohort. If `offsets`
        is empty, users are written instead.
    cohort, start, period, active, amount
        Output: the cohort of each user that has one, and the user's cells ``start[u]`` to ``start[u + 1]``, sorted by
        period: at most one active cell per period and (only if `signed`) at most one inactive. A user with n rows has
        at most n cells, since clipping joins cells and never adds one.

    Returns
    -------
    users, cells
        How many were written.
    """
    adding = offsets.size > 0
    # Cells of many periods do not fit the cache: prefetch each one, and add to it _AHEAD cells later.
    far = U(span) >= _FAR
    places, values = np.zeros(_AHEAD, np.uint64), np.zeros(_AHEAD, np.int64)
    met = U0
    kept = U0
    k = U0
    begin = U0
    for u in range(U(count)):
        base = U0
        first = U0
        last = U0
        if short:
            base = u * U(span)
            first = u
            last = u
        else:
            first = U(span)
            for at in range(begin, U(ends[u])):
                t = U(periods[at])
                sums[t] += units[at]
                words[t >> U6] |= U1 << (t & U63)
                first = min(first, t)
                last = max(last, t)
            begin = U(ends[u])
            first >>= U6
            last >>= U6
        word_base = first if short else U0
        origin = joined[u]
        own = origin < 0
        if not own:
            tally[LISTED] += 1
        opened = k
        pending = np.int64(0)
        early = False
        for w in range(first, last + U1):
            bits = words[w]
            words[w] = U0
            while bits != U0:
                lowest = bits & (U0 - bits)
                bits ^= lowest
                t = np.int32(((w - word_base) << U6) + U(BIT_OF[(lowest * DE_BRUIJN) >> U58]))
                value = sums[base + U(t)]
                sums[base + U(t)] = 0
                if own and value > 0:
                    own = False
                    origin = t
                    tally[UNLISTED] += 1
                if origin < 0:
                    continue
                if t < origin:
                    if value > 0:
                        early = True
                        pending += value
                    continue
                if pending > 0 and clip:
                    period[k], active[k], amount[k] = origin, True, pending
                    k += U1
                    pending = np.int64(0)
                    if t == origin and value > 0:
                        amount[k - U1] += value
                        continue
                if adding and offsets[U(origin)] >= 0 and (value > 0 or (signed and value < 0)):
                    at = U2 * U(offsets[U(origin)] + np.int64(t - origin))
                    if t == origin:
                        firsts[U(origin)] += value
                    if far:
                        prefetch_line(cells, at)
                        turn = met % U(_AHEAD)
                        met += U1
                        at, places[turn] = places[turn], at
                        value, values[turn] = values[turn], value
                        if met <= U(_AHEAD):
                            continue
                    cells[at] += np.int64(value > 0)
                    cells[at + U1] += value
                elif not adding and (value > 0 or (signed and value < 0)):
                    period[k] = t
                    active[k] = value > 0
                    amount[k] = value
                    k += U1
        if early:
            tally[EARLY] += 1
            if tally[EARLY_ROW] == 0 or row[u] < tally[EARLY_ROW]:
                tally[EARLY_ROW] = np.int64(row[u]) + 1
        if origin >= span:
            tally[LATE] += 1
            k = opened
        elif origin >= 0 and adding:
            size[U(origin)] += 1
        elif origin >= 0:
            if pending > 0 and clip:
                period[k], active[k], amount[k] = origin, True, pending
                k += U1
            cohort[kept] = origin
            start[kept] = np.int64(opened)
            row[kept] = row[u]
            kept += U1
    for turn in range(min(met, U(_AHEAD))):
        cells[places[turn]] += np.int64(values[turn] > 0)
        cells[places[turn] + U1] += values[turn]
    start[kept] = np.int64(k)
    return np.int64(kept), np.int64(k)


@njit(nogil=True, cache=True)
def histogram(cohort, start, period, active, amount, offsets, size, cells, firsts):
    """Add users to the sums over (cohort, age).

    Cell ``offsets[c] + a`` is that of cohort c and age a. It has two entries in `cells`: active users and their amount.
    If ``offsets[c]`` is negative, only the size is counted. `firsts` sums the active amounts at age 0.
    """
    for u in range(cohort.size):
        c = np.int64(cohort[u])
        size[c] += 1
        if offsets[c] >= 0:
            base = offsets[c] - c
            for k in range(start[u], start[u + 1]):
                at = 2 * (base + period[k])
                cells[at + 1] += amount[k]
                if active[k]:
                    cells[at] += 1
                    if period[k] == c:
                        firsts[c] += amount[k]
