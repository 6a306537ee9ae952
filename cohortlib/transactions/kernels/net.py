"""Net the rows of each user by period, and add users up."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import U0, U1, U2, U6, U63, U, next_period, prefetch_line
from cohortlib.transactions.kernels.counters import EARLY, EARLY_ROW, LATE, LISTED, UNLISTED

_AHEAD = 32  # cells being prefetched at a time
_FAR = U(512)  # periods; from here on the cells take two megabytes, more than the cache


class NetRules(NamedTuple):
    """How users are netted.

    Attributes
    ----------
    span
        Number of periods; those of all rows are less.
    signed
        Keep nets that are not positive, after the start of the cohort, as inactive cells.
    clip
        Add active amounts before a joined cohort to its first period; else skip them.
    """

    span: int
    signed: bool
    clip: bool


class SumArrays(NamedTuple):
    """Sums over (cohort, age).

    Cell ``offsets[c] + a`` is that of cohort c and age a. It has two entries in `cells`: active users and their amount.
    If ``offsets[c]`` is negative, only the size is counted. `firsts` sums the active amounts at age 0.
    """

    offsets: NDArray[np.int64]
    size: NDArray[np.int64]
    cells: NDArray[np.int64]
    firsts: NDArray[np.int64]


NO_SUMS = SumArrays(*(np.empty(0, np.int64) for _ in range(4)))
"""No sums to add users to."""


class UserCells(NamedTuple):
    """The cohort of each user, and the user's cells ``start[u]`` to ``start[u + 1]``, by period."""

    cohort: NDArray[np.int32]
    start: NDArray[np.int64]
    period: NDArray[np.int32]
    active: NDArray[np.bool_]
    amount: NDArray[np.int64]


@njit(nogil=True, cache=True)
def net(count, grouped, rules, tally, sums, out):
    """Net the rows of each user to one amount per period, in order; add the users up, or write them out.

    Parameters
    ----------
    count, grouped
        The number of users and their rows, from `group_by_user`. ``grouped.row`` is overwritten, for the users that
        have a cohort.
    rules
        `NetRules`.
    tally
        int64[COUNTERS]; EARLY, LATE, UNLISTED, LISTED and EARLY_ROW are updated.
    sums
        `SumArrays`: users are added to these sums and not written; none may have a joined cohort. If they are empty,
        users are written instead.
    out
        `UserCells` to write. Each period has at most one active cell and (only if `signed`) at most one inactive. A
        user with n rows has at most n cells, since clipping joins cells and never adds one.

    Returns
    -------
    users, cells
        How many were written.
    """
    span, signed, clip = rules
    row, joined, words = grouped.row, grouped.joined, grouped.words
    adding = sums.offsets.size > 0
    # Cells of many periods do not fit the cache: prefetch each one, and add to it _AHEAD cells later.
    far = U(span) >= _FAR
    places, values = np.zeros(_AHEAD, np.uint64), np.zeros(_AHEAD, np.int64)
    met = U0
    kept = U0
    k = U0
    for u in range(U(count)):
        base, first, last = _periods_of(u, grouped, U(span))
        word_base = first if grouped.short else U0
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
                place, bits = next_period(bits)
                t = np.int32(((w - word_base) << U6) + U(place))
                value = grouped.sums[base + U(t)]
                grouped.sums[base + U(t)] = 0
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
                    out.period[k], out.active[k], out.amount[k] = origin, True, pending
                    k += U1
                    pending = np.int64(0)
                    if t == origin and value > 0:
                        out.amount[k - U1] += value
                        continue
                if adding and sums.offsets[U(origin)] >= 0 and (value > 0 or (signed and value < 0)):
                    at = U2 * U(sums.offsets[U(origin)] + np.int64(t - origin))
                    if t == origin:
                        sums.firsts[U(origin)] += value
                    if far:
                        prefetch_line(sums.cells, at)
                        turn = met % U(_AHEAD)
                        met += U1
                        at, places[turn] = places[turn], at
                        value, values[turn] = values[turn], value
                        if met <= U(_AHEAD):
                            continue
                    sums.cells[at] += np.int64(value > 0)
                    sums.cells[at + U1] += value
                elif not adding and (value > 0 or (signed and value < 0)):
                    out.period[k], out.active[k], out.amount[k] = t, value > 0, value
                    k += U1
        if early:
            tally[EARLY] += 1
            if tally[EARLY_ROW] == 0 or row[u] < tally[EARLY_ROW]:
                tally[EARLY_ROW] = np.int64(row[u]) + 1
        if origin >= span:
            tally[LATE] += 1
            k = opened
        elif origin >= 0 and adding:
            sums.size[U(origin)] += 1
        elif origin >= 0:
            if pending > 0 and clip:
                out.period[k], out.active[k], out.amount[k] = origin, True, pending
                k += U1
            out.cohort[kept] = origin
            out.start[kept] = np.int64(opened)
            row[kept] = row[u]
            kept += U1
    for turn in range(min(met, U(_AHEAD))):
        sums.cells[places[turn]] += np.int64(values[turn] > 0)
        sums.cells[places[turn] + U1] += values[turn]
    out.start[kept] = np.int64(k)
    return np.int64(kept), np.int64(k)


@njit(nogil=True, cache=True, inline="always")
def _periods_of(u, grouped, span):
    """Sum the rows of a user by period, unless they are; return where its sums begin, and its first and last word."""
    if grouped.short:
        return u * span, u, u
    first, last = span, U0
    for at in range(U(grouped.ends[u - U1]) if u > U0 else U0, U(grouped.ends[u])):
        t = U(grouped.periods[at])
        grouped.sums[t] += grouped.units[at]
        grouped.words[t >> U6] |= U1 << (t & U63)
        first, last = min(first, t), max(last, t)
    return U0, first >> U6, last >> U6


@njit(nogil=True, cache=True)
def histogram(users, sums):
    """Add users to the sums over (cohort, age): `UserCells` to `SumArrays`."""
    for u in range(users.cohort.size):
        c = np.int64(users.cohort[u])
        sums.size[c] += 1
        if sums.offsets[c] >= 0:
            base = sums.offsets[c] - c
            for k in range(users.start[u], users.start[u + 1]):
                at = 2 * (base + users.period[k])
                sums.cells[at + 1] += users.amount[k]
                if users.active[k]:
                    sums.cells[at] += 1
                    if users.period[k] == c:
                        sums.firsts[c] += users.amount[k]
