"""Update the standing of users, and a state's sums, by new rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import U0, U1, U2, U6, U63, U, next_period


class UserSums(NamedTuple):
    """One sum per period, and a bitmap of the periods with rows; all zero between users."""

    sums: NDArray[np.int64]
    words: NDArray[np.uint64]


@njit(nogil=True, cache=True)
def advance(ranges, rows, timeline, signed, user, standing, late, sums):
    """Update the standing of users by new rows, and the sums over (cohort, age) by the change.

    Parameters
    ----------
    ranges, rows, timeline
        As for `gather_grouped`.
    signed
        As for `NetRules`.
    user
        `UserSums`, all zero on entry and on return.
    standing
        The `Standing` of each user, updated: the period of the cohort and of the last row, both −1 if there is none,
        and the net of that last period.
    late
        Output: whether any row of the user came before the last period. The standing of these users is not changed.
        With −1 as last period, as when a user is recomputed from all rows, no row is late.
    sums
        `SumArrays`; every cohort has cells.
    """
    cohort, last, amount = standing
    for u in range(U(ranges.ends.size)):
        first, final = _sum_rows(u, ranges, rows, timeline, user)
        late[u] = False
        for w in range(first, final + U1):
            bits = user.words[w]
            while bits != U0:
                place, bits = next_period(bits)
                if np.int32((w << U6) + U(place)) < last[u]:
                    late[u] = True
        for w in range(first, final + U1):
            bits = user.words[w]
            user.words[w] = U0
            while bits != U0:
                place, bits = next_period(bits)
                t = np.int32((w << U6) + U(place))
                x = user.sums[U(t)]
                user.sums[U(t)] = 0
                if late[u]:
                    continue
                before = amount[u] if t == last[u] else np.int64(0)
                after = before + x
                if cohort[u] < 0 and after > 0:
                    cohort[u] = t
                    sums.size[U(t)] += 1
                    before = np.int64(0)
                if cohort[u] == t and after <= 0:
                    # Refunds cancel the first payments and no later row exists: the user leaves the cohort.
                    at = U2 * U(sums.offsets[U(t)])
                    sums.cells[at] -= 1
                    sums.cells[at + U1] -= before
                    sums.firsts[U(t)] -= before
                    sums.size[U(t)] -= 1
                    cohort[u] = np.int32(-1)
                elif cohort[u] >= 0:
                    at = U2 * U(sums.offsets[U(cohort[u])] + np.int64(t - cohort[u]))
                    counted = (after if after > 0 or signed else np.int64(0)) - (
                        before if before > 0 or signed else np.int64(0)
                    )
                    sums.cells[at] += np.int64(after > 0) - np.int64(before > 0)
                    sums.cells[at + U1] += counted
                    if t == cohort[u]:
                        sums.firsts[U(t)] += counted
                last[u] = t
                amount[u] = after


@njit(nogil=True, cache=True, inline="always")
def _sum_rows(u, ranges, rows, timeline, user):
    """Sum the rows of a user by period; return the first and the last word with a period."""
    first, final = U(user.words.size), U0
    for r in range(U(ranges.ends[u - U1]) if u > U0 else U0, U(ranges.ends[u])):
        begin = U(ranges.starts[r])
        for i in range(begin, begin + U(ranges.sizes[r])):
            x = rows.units[i]
            if x > timeline.above:
                t = U(timeline.periods[U(np.int64(rows.days[i]) - timeline.origin)])
                user.sums[t] += x
                user.words[t >> U6] |= U1 << (t & U63)
                first, final = min(first, t >> U6), max(final, t >> U6)
    return first, final
